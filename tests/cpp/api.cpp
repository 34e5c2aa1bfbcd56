// Everything in flags.hpp, on a definition file.

#include <flags.hpp>

#include <array>
#include <thread>
#include <type_traits>

#include "../c/check.h"

static_assert(!std::is_copy_constructible_v<flags::client> && std::is_nothrow_move_constructible_v<flags::client>);
static_assert(!std::is_copy_constructible_v<flags::snapshot> && std::is_nothrow_move_constructible_v<flags::snapshot>);
static_assert(!std::is_copy_constructible_v<flags::flag> && !std::is_move_constructible_v<flags::flag>);
static_assert(std::is_nothrow_move_assignable_v<flags::client> && std::is_nothrow_move_assignable_v<flags::snapshot>);
// A list or an object is asked for by name, so that a temporary never goes unnoticed.
static_assert(!std::is_convertible_v<std::vector<flags::value>, flags::value>);
static_assert(std::is_convertible_v<std::vector<flags::value>, flags::list_view>);
static_assert(!std::is_convertible_v<std::vector<int>, flags::list_view>);

static flags::flag on("on"); // a constant expression: no order of initialisation to think of

static void opening()
{
    flags_status status = FLAGS_OK;
    CHECK(!flags::client::try_open(flags::from_file, "no/such/file.json", &status));
    CHECK_EQ(status, FLAGS_IO);
    flags::options options;
    options.store = "no/such/store";
    CHECK(!flags::client::try_open(options));
    try {
        flags::client client(options);
        CHECK(false);
    } catch (const flags::error &error) {
        CHECK_EQ(error.status(), FLAGS_NO_STORE);
        CHECK(std::string_view(error.what()).find("no/such/store") != std::string_view::npos);
    }
    try {
        flags::client client(flags::from_file, "no/such/file.json");
        CHECK(false);
    } catch (const std::runtime_error &error) {
        CHECK(std::string_view(error.what()).find("no/such/file.json") != std::string_view::npos);
    }

    options.wait = false;
    std::optional<flags::client> detached = flags::client::try_open(options, &status);
    CHECK(detached && status == FLAGS_OK);
    CHECK(detached->get_bool("on", {}, true) && !detached->get_bool("on", {}, false));
    CHECK_EQ(detached->status().state, FLAGS_STATE_DETACHED);
    CHECK_EQ(detached->snapshot().bool_details("on", {}).error, FLAGS_ERROR_PROVIDER_NOT_READY);
    options.selector = "\xff";
    CHECK(!flags::client::try_open(options, &status) && status == FLAGS_INVALID_ARGUMENT);
}

static void reading(const flags::client &client)
{
    const flags::context nobody;
    CHECK(client.get_bool("on", nobody, false));
    CHECK(client.get_bool(std::string("on"), {}, false));
    CHECK(client.get_bool(std::string_view("once").substr(0, 2), {}, false));
    CHECK(!client.get_bool(std::string(1000, 'k') + "ey", {}, false));
    const std::string long_key(1000, 'k');
    CHECK(client.get_bool(std::string_view(long_key), {}, true));
    CHECK(client.get_bool(static_cast<const char *>(nullptr), {}, true));
    CHECK_EQ(client.get_int("answer", nobody, -1), 42);
    CHECK_EQ(client.get_int("ratio", nobody, -1), -1);
    CHECK(client.get_double("ratio", nobody, -1) == 0.5);
    CHECK(client.get_string("colour", nobody, "none") == "#00f");
    CHECK(client.get_string("empty", nobody, "none").empty());
    CHECK(client.get_string("absent", nobody, "none") == "none");
    CHECK(client.get_string("absent", nobody, std::string(3000, 'x')) == std::string(3000, 'x'));
    CHECK(client.get_string("absent", nobody, std::string(255, 'x')).size() == 255);
    CHECK(client.get_string("absent", nobody, std::string(256, 'x')).size() == 256);
    CHECK(client.get_json("layout", nobody, "null") == "{\"rows\":[1,2],\"name\":\"\u00e9\"}");
    CHECK(client.get_json("colour", nobody, "null") == "null");
    CHECK(on.get_bool(client, nobody, false) && on.get_bool(client, "user-1", false));
    CHECK(client.status().state == FLAGS_STATE_FRESH && client.status().generation > 0);
}

static void targeting(const flags::client &client)
{
    CHECK(client.get_bool("tiered", flags::context().with("tier", "premium"), false));
    CHECK(client.get_bool("tiered", flags::context("u").with("tier", std::string_view("premiums").substr(0, 7)), false));
    const std::string tier = "premium", name = "tier";
    CHECK(client.get_bool("tiered", flags::context("u").with(name, tier), false));
    CHECK(!client.get_bool("tiered", flags::context("u").with("tier", nullptr), true));
    CHECK(client.get_bool("tiered", flags::context("u").with("tier", std::optional<std::string_view>("premium")), false));
    CHECK(!client.get_bool("tiered", flags::context("u").with("tier", std::optional<const char *>()), true));
    CHECK(client.get_bool("by-key", "user-1", false));
    CHECK(client.get_bool("by-key", std::string("user-1"), false));
    CHECK(client.get_bool("by-key", std::string_view("user-10").substr(0, 6), false));
    CHECK(!client.get_bool("by-key", std::string_view(), true));

    // Numbers of all kinds, and a boolean that is none of them.
    CHECK(client.get_bool("adult", flags::context().with("age", 18), false));
    CHECK(!client.get_bool("adult", flags::context().with("age", 17u), true));
    CHECK(client.get_bool("adult", flags::context().with("age", 18.5f), false));
    CHECK(client.get_bool("adult", flags::context().with("age", static_cast<unsigned char>(200)), false));
    CHECK(client.get_bool("adult", flags::context().with("age", UINT64_MAX), false));
    CHECK(!client.get_bool("adult", flags::context().with("age", INT64_MIN), true));
    CHECK(client.get_bool("beta", flags::context().with("beta", true), false));
    CHECK(!client.get_bool("beta", flags::context().with("beta", 1), true));

    const std::vector<flags::value> groups{"ops", "dev"};
    CHECK(client.get_bool("second", flags::context().with("groups", flags::list_view(groups)), false));
    const std::array<flags::value, 2> admins{"x", "admin"};
    CHECK(client.get_bool("listed", flags::context().with("groups", flags::list_view(admins)), false));
    const flags::attribute plan[] = {{"seats", 7}};
    const std::vector<flags::attribute> account{{"plan", flags::object_view(plan)}};
    CHECK(client.get_bool("nested", flags::context().with("account", flags::object_view(account)), false));
    const std::vector<flags::value> none;
    CHECK(!client.get_bool("second", flags::context().with("groups", flags::list_view(none)), true));

    // Beyond those held in place; the first of a name counts.
    flags::context many("user-1");
    std::vector<std::string> names;
    for (int i = 0; i < 40; i++)
        names.push_back("name-" + std::to_string(i));
    for (const std::string &each : names)
        many.with(each, each);
    CHECK(!client.get_bool("tiered", many, true));
    many.with("tier", "premium").with("tier", "basic");
    CHECK(client.get_bool("tiered", many, false));
    const flags::context copy = many;
    const flags::context moved = std::move(many);
    CHECK(client.get_bool("tiered", copy, false) && client.get_bool("tiered", moved, false));
    flags::context few("user-1");
    few.with("tier", "premium");
    const flags::context few_copy = few;
    CHECK(client.get_bool("tiered", few_copy, false) && client.get_bool("by-key", few_copy, false));
}

static void snapshots(flags::client client)
{
    flags::snapshot snapshot = client.snapshot();
    CHECK(snapshot.generation() > 0);
    {
        flags::client gone = std::move(client);
        // What was moved from answers fallbacks.
        CHECK(client.get_bool("on", {}, true) && !client.get_bool("on", {}, false));
        CHECK_EQ(client.snapshot().generation(), 0);
    }
    CHECK(snapshot.get_bool("on", {}, false));
    CHECK_EQ(snapshot.get_int("answer", {}, -1), 42);
    CHECK(snapshot.get_double("ratio", {}, -1) == 0.5);
    CHECK(snapshot.get_string("colour", {}, "none") == "#00f");
    CHECK(snapshot.get_string("absent", {}, "none") == "none");
    CHECK(snapshot.get_json("layout", {}, "null") == "{\"rows\":[1,2],\"name\":\"\u00e9\"}");

    const flags::details<bool> match = snapshot.bool_details("tiered", flags::context().with("tier", "premium"));
    CHECK(match.value == true && match.variant == "on");
    CHECK(flags::to_string(match.reason) == "TARGETING_MATCH" && flags::to_string(match.error).empty());
    const flags::details<std::int64_t> absent = snapshot.int_details("absent", {});
    CHECK(!absent.value && !absent.variant && flags::to_string(absent.reason) == "ERROR");
    CHECK(flags::to_string(absent.error) == "FLAG_NOT_FOUND");
    CHECK_EQ(snapshot.bool_details(static_cast<const char *>(nullptr), {}).error, FLAGS_ERROR_FLAG_NOT_FOUND);
    CHECK(flags::to_string(snapshot.string_details("on", {}).error) == "TYPE_MISMATCH");
    CHECK(flags::to_string(snapshot.bool_details("broken", {}).error) == "PARSE_ERROR");
    CHECK(flags::to_string(snapshot.bool_details("nowhere", {}).error) == "GENERAL");
    CHECK(flags::to_string(snapshot.bool_details("disabled", {}).reason) == "DISABLED");
    CHECK(flags::to_string(snapshot.double_details("ratio", {}).reason) == "STATIC");
    CHECK(flags::to_string(snapshot.bool_details("no-default", {}).reason) == "DEFAULT");
    CHECK(flags::to_string(static_cast<flags::reason>(0)) == "UNKNOWN");

    std::size_t entries = 0;
    while (auto entry = snapshot.metadata("colour", entries)) {
        CHECK(!entry->name.empty() && entry->value.type != FLAGS_TYPE_NONE);
        ++entries;
    }
    CHECK_EQ(entries, 5);

    flags::snapshot taken = std::move(snapshot);
    CHECK(taken.get_bool("on", {}, false));
    CHECK_EQ(snapshot.bool_details("on", {}).error, FLAGS_ERROR_PROVIDER_NOT_READY);
}

int main()
{
    watchdog();
    opening();
    flags::client client(flags::from_file, given("FLAGS_DEFINITION"));
    reading(client);
    targeting(client);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&client] { targeting(client); });
    for (std::thread &thread : threads)
        thread.join();
    snapshots(std::move(client));
}
