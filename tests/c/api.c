/* Every function of flags.h, on a definition file: what it answers, and how it fails. */

#include <flags.h>

#include "check.h"

static flags_client *open_definition(void)
{
    flags_client *client = NULL;
    flags_status status = flags_open_file(given("FLAGS_DEFINITION"), &client);
    if (status != FLAGS_OK)
        fprintf(stderr, "%s\n", flags_last_error());
    CHECK_EQ(status, FLAGS_OK);
    CHECK(client != NULL);
    return client;
}

static bool same(flags_text text, const char *expected)
{
    return text.length == strlen(expected) && memcmp(text.data, expected, text.length) == 0;
}

static void opening_fails_with_words(void)
{
    flags_client *const untouched = (flags_client *)0x1;
    flags_client *client = untouched;

    CHECK_EQ(flags_open_file(NULL, &client), FLAGS_INVALID_ARGUMENT);
    CHECK(strstr(flags_last_error(), "definition_path") != NULL);
    CHECK_EQ(flags_open_file(given("FLAGS_DEFINITION"), NULL), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_open_file("no/such/file.json", &client), FLAGS_IO);
    CHECK(strstr(flags_last_error(), "no/such/file.json") != NULL);

    FILE *file = fopen("not.json", "w");
    CHECK(file != NULL && fputs("{\"flags\": ", file) >= 0 && fclose(file) == 0);
    CHECK_EQ(flags_open_file("not.json", &client), FLAGS_DEFINITION);
    CHECK(strstr(flags_last_error(), "not.json") != NULL);

    CHECK_EQ(flags_open(NULL, NULL, NULL), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_open("no/such/store", NULL, &client), FLAGS_NO_STORE);
    CHECK(strstr(flags_last_error(), "no/such/store") != NULL);
    CHECK(setenv("FLAGS_STORE", "no/such/store/either", 1) == 0);
    CHECK_EQ(flags_open(NULL, NULL, &client), FLAGS_NO_STORE);
    CHECK(strstr(flags_last_error(), "no/such/store/either") != NULL);
    CHECK(unsetenv("FLAGS_STORE") == 0);

    flags_options options = FLAGS_OPTIONS_INIT;
    options.struct_size = 3;
    CHECK_EQ(flags_open("no/such/store", &options, &client), FLAGS_INVALID_ARGUMENT);
    options.struct_size = (size_t)-1;
    CHECK_EQ(flags_open("no/such/store", &options, &client), FLAGS_INVALID_ARGUMENT);
    options.struct_size = sizeof options;
    options.selector = "\xff\xfe";
    CHECK_EQ(flags_open("no/such/store", &options, &client), FLAGS_INVALID_ARGUMENT);
    CHECK(strstr(flags_last_error(), "selector") != NULL);

    /* A caller compiled with a later header: fine, unless it uses what this library does not know. */
    struct {
        flags_options known;
        unsigned long long later;
    } newer = { FLAGS_OPTIONS_INIT, 0 };
    newer.known.struct_size = sizeof newer;
    CHECK_EQ(flags_open("no/such/store", &newer.known, &client), FLAGS_NO_STORE);
    newer.later = 1;
    CHECK_EQ(flags_open("no/such/store", &newer.known, &client), FLAGS_INVALID_ARGUMENT);

    CHECK(client == untouched);
    flags_close(NULL);
}

static void statuses_have_words(void)
{
    for (int status = FLAGS_OK; status <= FLAGS_INTERNAL; status++)
        CHECK(strcmp(flags_status_text((flags_status)status), "unknown status") != 0);
    CHECK(strcmp(flags_status_text((flags_status)1000), "unknown status") == 0);
    CHECK(strcmp(flags_status_text((flags_status)-1), "unknown status") == 0);
}

static void static_flags(const flags_client *client)
{
    CHECK(flags_bool(client, "on", NULL, false));
    CHECK(!flags_bool(client, "off", NULL, true));
    CHECK_EQ(flags_int(client, "answer", NULL, -1), 42);
    CHECK(flags_double(client, "answer", NULL, -1) == 42);
    CHECK(flags_double(client, "ratio", NULL, -1) == 0.5);

    /* Another type, or none: the fallback. */
    CHECK_EQ(flags_int(client, "ratio", NULL, -1), -1);
    CHECK_EQ(flags_int(client, "on", NULL, -1), -1);
    CHECK(flags_double(client, "colour", NULL, -1) == -1);
    CHECK(flags_bool(client, "answer", NULL, true) && !flags_bool(client, "answer", NULL, false));
    CHECK(flags_bool(client, "absent", NULL, true) && !flags_bool(client, "absent", NULL, false));
    CHECK(flags_bool(client, "disabled", NULL, true) && !flags_bool(client, "disabled", NULL, false));
    CHECK(flags_bool(client, "no-default", NULL, true) && !flags_bool(client, "no-default", NULL, false));
    CHECK(flags_bool(client, "broken", NULL, true) && !flags_bool(client, "broken", NULL, false));
    CHECK(flags_bool(client, "", NULL, true) && !flags_bool(client, "", NULL, false));

    /* What cannot be asked: the fallback. */
    CHECK(flags_bool(NULL, "on", NULL, true) && !flags_bool(NULL, "on", NULL, false));
    CHECK(flags_bool(client, NULL, NULL, true) && !flags_bool(client, NULL, NULL, false));
    CHECK(flags_bool(client, "\xff\xfe", NULL, true) && !flags_bool(client, "\xff\xfe", NULL, false));
    CHECK_EQ(flags_int(NULL, "answer", NULL, -1), -1);
    CHECK_EQ(flags_int(client, NULL, NULL, -1), -1);
    CHECK(flags_double(NULL, "ratio", NULL, -1) == -1);
    CHECK(flags_double(client, NULL, NULL, -1) == -1);
}

static void texts(const flags_client *client)
{
    char buf[64];

    CHECK_EQ(flags_string(client, "colour", NULL, "none", buf, sizeof buf), 4);
    CHECK(strcmp(buf, "#00f") == 0);
    CHECK_EQ(flags_string(client, "empty", NULL, "none", buf, sizeof buf), 0);
    CHECK(strcmp(buf, "") == 0);
    CHECK_EQ(flags_string(client, "absent", NULL, "none", buf, sizeof buf), 4);
    CHECK(strcmp(buf, "none") == 0);
    CHECK_EQ(flags_string(client, "absent", NULL, NULL, buf, sizeof buf), 0);
    CHECK(strcmp(buf, "") == 0);
    CHECK_EQ(flags_string(NULL, "colour", NULL, "none", buf, sizeof buf), 4);
    CHECK(strcmp(buf, "none") == 0);
    CHECK_EQ(flags_string(client, NULL, NULL, "none", buf, sizeof buf), 4);
    CHECK_EQ(flags_string(client, "answer", NULL, "none", buf, sizeof buf), 4);
    CHECK_EQ(flags_string(client, "layout", NULL, "none", buf, sizeof buf), 4);

    /* The length, and as much as there is room for, never half a character. */
    CHECK_EQ(flags_string(client, "colour", NULL, "none", NULL, 0), 4);
    CHECK_EQ(flags_string(client, "colour", NULL, "none", NULL, 10), 4);
    memset(buf, 'x', sizeof buf);
    CHECK_EQ(flags_string(client, "colour", NULL, "none", buf, 0), 4);
    CHECK(buf[0] == 'x');
    CHECK_EQ(flags_string(client, "colour", NULL, "none", buf, 1), 4);
    CHECK(strcmp(buf, "") == 0 && buf[1] == 'x');
    CHECK_EQ(flags_string(client, "colour", NULL, "none", buf, 4), 4);
    CHECK(strcmp(buf, "#00") == 0 && buf[4] == 'x');
    CHECK_EQ(flags_string(client, "colour", NULL, "none", buf, 5), 4);
    CHECK(strcmp(buf, "#00f") == 0 && buf[5] == 'x');

    static const char accented[] = "a\xC3\xA9\xF0\x9F\xA6\x80";
    static const size_t fits[] = { 0, 0, 1, 1, 3, 3, 3, 3, 7 };
    for (size_t cap = 1; cap < sizeof fits / sizeof *fits; cap++) {
        memset(buf, 'x', sizeof buf);
        CHECK_EQ(flags_string(client, "accented", NULL, "", buf, cap), 7);
        CHECK_EQ(strlen(buf), fits[cap]);
        CHECK(memcmp(buf, accented, fits[cap]) == 0);
        CHECK(buf[cap] == 'x');
    }

    /* A fallback inside the buffer. */
    strcpy(buf, "..inside");
    CHECK_EQ(flags_string(client, "absent", NULL, buf + 2, buf, sizeof buf), 6);
    CHECK(strcmp(buf, "inside") == 0);

    CHECK_EQ(flags_json(client, "layout", NULL, "null", NULL, 0), strlen("{\"rows\":[1,2],\"name\":\"\xC3\xA9\"}"));
    flags_json(client, "layout", NULL, "null", buf, sizeof buf);
    CHECK(strcmp(buf, "{\"rows\":[1,2],\"name\":\"\xC3\xA9\"}") == 0);
    CHECK_EQ(flags_json(client, "colour", NULL, "null", buf, sizeof buf), 4);
    CHECK(strcmp(buf, "null") == 0);
    CHECK_EQ(flags_json(NULL, "layout", NULL, "{}", buf, sizeof buf), 2);
    CHECK_EQ(flags_json(client, NULL, NULL, NULL, buf, sizeof buf), 0);
}

static void targeting(const flags_client *client)
{
    const flags_attribute plan[] = { flags_attribute_int("seats", 7) };
    const flags_attribute account[] = { flags_attribute_value("plan", flags_value_object(plan, 1)) };
    const flags_value groups[] = { flags_value_string("ops"), flags_value_text("developer", 3) };
    const flags_attribute cheap[] = { flags_attribute_double("total", 99.5) };
    const flags_attribute dear[] = { flags_attribute_int("other", 1), flags_attribute_double("total", 100.5) };
    const flags_value orders[] = { flags_value_object(cheap, 1), flags_value_object(dear, 2) };
    flags_attribute attributes[] = {
        flags_attribute_string("tier", "premium"),
        flags_attribute_int("age", 17),
        flags_attribute_bool("beta", true),
        flags_attribute_value("account", flags_value_object(account, 1)),
        flags_attribute_value("groups", flags_value_list(groups, 2)),
        flags_attribute_value("orders", flags_value_list(orders, 2)),
        /* The first of a name counts, and nothing stands in for the targeting key. */
        flags_attribute_int("age", 70),
        flags_attribute_string("targetingKey", "user-1"),
    };
    const size_t count = sizeof attributes / sizeof *attributes;
    flags_context context = FLAGS_CONTEXT_INIT("user-2", attributes, count);

    CHECK(flags_bool(client, "tiered", &context, false));
    CHECK(!flags_bool(client, "adult", &context, true));
    CHECK(flags_bool(client, "beta", &context, false));
    CHECK(flags_bool(client, "nested", &context, false));
    CHECK(!flags_bool(client, "listed", &context, true));
    CHECK(flags_bool(client, "second", &context, false));
    CHECK(flags_bool(client, "spender", &context, false));
    CHECK(flags_bool(client, "bucketed", &context, false));
    CHECK(!flags_bool(client, "by-key", &context, true));
    CHECK(!flags_bool(client, "tiered", NULL, true));

    /* Names and keys with a length instead of a NUL. */
    context.targeting_key = "user-1 and more";
    CHECK(!flags_bool(client, "by-key", &context, true));
    context.targeting_key_length = 6;
    CHECK(flags_bool(client, "by-key", &context, false));
    attributes[0].name = "tiers";
    CHECK(!flags_bool(client, "tiered", &context, true));
    attributes[0].name_length = 4;
    CHECK(flags_bool(client, "tiered", &context, false));
    context.count = 0;
    CHECK(!flags_bool(client, "tiered", &context, true));
}

static void details(const flags_client *client)
{
    flags_snapshot *snapshot = flags_snapshot_acquire(client);
    CHECK(snapshot != NULL);
    CHECK(flags_snapshot_acquire(NULL) == NULL);
    CHECK(flags_snapshot_generation(snapshot) > 0);
    CHECK_EQ(flags_snapshot_generation(NULL), 0);
    flags_result result = FLAGS_RESULT_INIT;

    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_BOOL && result.value.as.boolean && same(result.variant, "on"));
    CHECK(result.reason == FLAGS_REASON_STATIC && result.error == FLAGS_ERROR_NONE);
    CHECK_EQ(result.struct_size, sizeof result);
    CHECK_EQ(flags_evaluate(snapshot, "answer", FLAGS_TYPE_INT, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_INT && result.value.as.integer == 42);
    CHECK_EQ(flags_evaluate(snapshot, "answer", FLAGS_TYPE_NONE, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_DOUBLE && result.value.as.number == 42);
    CHECK_EQ(flags_evaluate(snapshot, "colour", FLAGS_TYPE_STRING, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_STRING && same(result.value.as.string, "#00f"));
    CHECK_EQ(flags_evaluate(snapshot, "layout", FLAGS_TYPE_JSON, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_JSON);
    CHECK(same(result.value.as.string, "{\"rows\":[1,2],\"name\":\"\xC3\xA9\"}"));

    const flags_attribute tier = flags_attribute_string("tier", "premium");
    const flags_context context = FLAGS_CONTEXT_INIT(NULL, &tier, 1);
    CHECK_EQ(flags_evaluate(snapshot, "tiered", FLAGS_TYPE_BOOL, &context, &result), FLAGS_OK);
    CHECK(result.value.as.boolean && result.reason == FLAGS_REASON_TARGETING_MATCH && same(result.variant, "on"));
    CHECK_EQ(flags_evaluate(snapshot, "tiered", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_BOOL && !result.value.as.boolean && result.reason == FLAGS_REASON_DEFAULT);

    static const struct {
        const char *key;
        flags_type want;
        flags_reason reason;
        flags_error error;
    } without_value[] = {
        { "absent", FLAGS_TYPE_BOOL, FLAGS_REASON_ERROR, FLAGS_ERROR_FLAG_NOT_FOUND },
        { "\xff\xfe", FLAGS_TYPE_BOOL, FLAGS_REASON_ERROR, FLAGS_ERROR_FLAG_NOT_FOUND },
        { "on", FLAGS_TYPE_STRING, FLAGS_REASON_ERROR, FLAGS_ERROR_TYPE_MISMATCH },
        { "ratio", FLAGS_TYPE_INT, FLAGS_REASON_ERROR, FLAGS_ERROR_TYPE_MISMATCH },
        { "broken", FLAGS_TYPE_BOOL, FLAGS_REASON_ERROR, FLAGS_ERROR_PARSE_ERROR },
        { "nowhere", FLAGS_TYPE_BOOL, FLAGS_REASON_ERROR, FLAGS_ERROR_GENERAL },
        { "disabled", FLAGS_TYPE_BOOL, FLAGS_REASON_DISABLED, FLAGS_ERROR_NONE },
        { "no-default", FLAGS_TYPE_BOOL, FLAGS_REASON_DEFAULT, FLAGS_ERROR_NONE },
    };
    for (size_t i = 0; i < sizeof without_value / sizeof *without_value; i++) {
        memset(&result.value, 0x55, sizeof result.value);
        CHECK_EQ(flags_evaluate(snapshot, without_value[i].key, without_value[i].want, NULL, &result), FLAGS_OK);
        CHECK_EQ(result.value.type, FLAGS_TYPE_NONE);
        CHECK(result.variant.data == NULL && result.variant.length == 0);
        CHECK_EQ(result.reason, without_value[i].reason);
        CHECK_EQ(result.error, without_value[i].error);
    }

    /* What cannot be asked leaves the answer as it is. */
    memset(&result, 0x55, sizeof result);
    result.struct_size = sizeof result;
    flags_result untouched = result;
    CHECK_EQ(flags_evaluate(NULL, "on", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK(strstr(flags_last_error(), "snapshot") != NULL);
    CHECK_EQ(flags_evaluate(snapshot, NULL, FLAGS_TYPE_BOOL, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK(strstr(flags_last_error(), "key") != NULL);
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_LIST, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_OBJECT, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_evaluate(snapshot, "on", (flags_type)99, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_evaluate(snapshot, "on", (flags_type)-1, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, NULL), FLAGS_INVALID_ARGUMENT);
    CHECK(memcmp(&result, &untouched, sizeof result) == 0);
    result.struct_size = untouched.struct_size = sizeof result - 1;
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_INVALID_ARGUMENT);
    result.struct_size = untouched.struct_size = 0;
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_INVALID_ARGUMENT);
    result.struct_size = untouched.struct_size = (size_t)-1;
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_INVALID_ARGUMENT);
    CHECK(memcmp(&result, &untouched, sizeof result) == 0);

    /* A caller compiled with a later header gets what this library knows, and no more. */
    struct {
        flags_result known;
        unsigned long long later;
    } newer = { FLAGS_RESULT_INIT, 0x1234 };
    newer.known.struct_size = sizeof newer;
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, &newer.known), FLAGS_OK);
    CHECK(newer.known.value.as.boolean && newer.later == 0x1234 && newer.known.struct_size == sizeof newer);

    flags_snapshot_release(snapshot);
    flags_snapshot_release(NULL);
}

static void metadata(const flags_client *client)
{
    flags_snapshot *snapshot = flags_snapshot_acquire(client);
    flags_metadata entry = FLAGS_METADATA_INIT;

    /* The flag set's, overlaid by the flag's own. */
    unsigned seen = 0;
    size_t count = 0;
    for (; flags_snapshot_metadata(snapshot, "colour", count, &entry) == FLAGS_OK; count++) {
        if (same(entry.name, "owner")) {
            CHECK(entry.value.type == FLAGS_TYPE_STRING && same(entry.value.as.string, "ana"));
            seen |= 1;
        } else if (same(entry.name, "team")) {
            CHECK(entry.value.type == FLAGS_TYPE_STRING && same(entry.value.as.string, "web"));
            seen |= 2;
        } else if (same(entry.name, "weight")) {
            CHECK(entry.value.type == FLAGS_TYPE_DOUBLE && entry.value.as.number == 1.5);
            seen |= 4;
        } else if (same(entry.name, "beta")) {
            CHECK(entry.value.type == FLAGS_TYPE_BOOL && entry.value.as.boolean);
            seen |= 8;
        } else {
            CHECK(same(entry.name, "release") && entry.value.type == FLAGS_TYPE_DOUBLE && entry.value.as.number == 7);
            seen |= 16;
        }
    }
    CHECK_EQ(seen, 31);
    CHECK_EQ(count, 5);
    CHECK_EQ(flags_snapshot_metadata(snapshot, "colour", (size_t)-1, &entry), FLAGS_NOT_FOUND);

    CHECK_EQ(flags_snapshot_metadata(NULL, "colour", 0, &entry), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_snapshot_metadata(snapshot, NULL, 0, &entry), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_snapshot_metadata(snapshot, "colour", 0, NULL), FLAGS_INVALID_ARGUMENT);
    entry.struct_size = 8;
    CHECK_EQ(flags_snapshot_metadata(snapshot, "colour", 0, &entry), FLAGS_INVALID_ARGUMENT);
    flags_snapshot_release(snapshot);
}

static void references(const flags_client *client)
{
    static flags_ref on = FLAGS_REF_INIT("on");
    static flags_ref tiered = FLAGS_REF_INIT("tiered");
    static flags_ref absent = FLAGS_REF_INIT("absent");
    static flags_ref wrong = FLAGS_REF_INIT("answer");
    static flags_ref terminated = { "off", 0, { 0, 0, 0, 0 } };
    flags_ref keyless = { NULL, 0, { 0, 0, 0, 0 } };
    const flags_attribute tier = flags_attribute_string("tier", "premium");
    const flags_context premium = FLAGS_CONTEXT_INIT(NULL, &tier, 1);

    /* The first use looks the flag up, the second remembers. */
    for (int use = 0; use < 3; use++) {
        CHECK(flags_bool_ref(client, &on, NULL, false));
        CHECK(flags_bool_ref(client, &tiered, &premium, false));
        CHECK(!flags_bool_ref(client, &tiered, NULL, true));
        CHECK(flags_bool_ref(client, &absent, NULL, true) && !flags_bool_ref(client, &absent, NULL, false));
        CHECK(flags_bool_ref(client, &wrong, NULL, true) && !flags_bool_ref(client, &wrong, NULL, false));
        CHECK(!flags_bool_ref(client, &terminated, NULL, true));
        /* The function of that name, which the inline one stands before. */
        CHECK((flags_bool_ref)(client, &on, NULL, false) && !(flags_bool_ref)(client, &terminated, NULL, true));
        CHECK(flags_bool_ref(client, &on, &premium, false));
    }
    CHECK(flags_bool_ref(client, &keyless, NULL, true) && !flags_bool_ref(client, &keyless, NULL, false));
    CHECK(flags_bool_ref(client, NULL, NULL, true) && !flags_bool_ref(client, NULL, NULL, false));
    CHECK(flags_bool_ref(NULL, &on, NULL, true) && !flags_bool_ref(NULL, &on, NULL, false));
    flags_context wrong_size = FLAGS_CONTEXT_INIT(NULL, NULL, 0);
    wrong_size.struct_size = 1;
    CHECK(flags_bool_ref(client, &on, &wrong_size, true) && !flags_bool_ref(client, &on, &wrong_size, false));
    flags_context no_attributes = FLAGS_CONTEXT_INIT(NULL, NULL, 1);
    CHECK(flags_bool_ref(client, &on, &no_attributes, true) && !flags_bool_ref(client, &on, &no_attributes, false));

    /* With a second client, and after that is gone. */
    FILE *file = fopen("other.json", "w");
    CHECK(file != NULL);
    fputs("{\"flags\": {\"on\": {\"state\": \"ENABLED\", \"variants\": {\"x\": true, \"y\": false}, "
          "\"defaultVariant\": \"y\"}}}",
          file);
    CHECK(fclose(file) == 0);
    for (int round = 0; round < 3; round++) {
        flags_client *other = NULL;
        CHECK_EQ(flags_open_file("other.json", &other), FLAGS_OK);
        CHECK(!flags_bool_ref(other, &on, NULL, true));
        CHECK(flags_bool_ref(client, &on, NULL, false));
        CHECK(!flags_bool_ref(other, &on, NULL, true));
        flags_close(other);
    }
    CHECK(flags_bool_ref(client, &on, NULL, false));
}

static void statuses(const flags_client *client)
{
    flags_client_status status = FLAGS_CLIENT_STATUS_INIT;
    CHECK_EQ(flags_get_status(client, &status), FLAGS_OK);
    CHECK(status.generation > 0 && status.state == FLAGS_STATE_FRESH);
    CHECK_EQ(flags_get_status(NULL, &status), FLAGS_INVALID_ARGUMENT);
    CHECK_EQ(flags_get_status(client, NULL), FLAGS_INVALID_ARGUMENT);
    status.struct_size = 0;
    CHECK_EQ(flags_get_status(client, &status), FLAGS_INVALID_ARGUMENT);
}

static void snapshots_outlive_their_client(void)
{
    flags_client *client = open_definition();
    flags_snapshot *snapshot = flags_snapshot_acquire(client);
    flags_result result = FLAGS_RESULT_INIT;
    flags_close(client);
    CHECK_EQ(flags_evaluate(snapshot, "colour", FLAGS_TYPE_STRING, NULL, &result), FLAGS_OK);
    CHECK(same(result.value.as.string, "#00f"));
    flags_snapshot_release(snapshot);
}

static void a_client_without_a_store_answers_fallbacks(void)
{
    flags_options options = FLAGS_OPTIONS_INIT;
    options.wait = false;
    flags_client *client = NULL;
    CHECK_EQ(flags_open("no/such/store", &options, &client), FLAGS_OK);
    CHECK(flags_bool(client, "on", NULL, true) && !flags_bool(client, "on", NULL, false));
    static flags_ref on = FLAGS_REF_INIT("on");
    CHECK(flags_bool_ref(client, &on, NULL, true) && !flags_bool_ref(client, &on, NULL, false));
    char buf[16];
    CHECK_EQ(flags_string(client, "colour", NULL, "none", buf, sizeof buf), 4);

    flags_snapshot *snapshot = flags_snapshot_acquire(client);
    CHECK(snapshot != NULL);
    CHECK_EQ(flags_snapshot_generation(snapshot), 0);
    flags_result result = FLAGS_RESULT_INIT;
    CHECK_EQ(flags_evaluate(snapshot, "on", FLAGS_TYPE_BOOL, NULL, &result), FLAGS_OK);
    CHECK(result.value.type == FLAGS_TYPE_NONE && result.error == FLAGS_ERROR_PROVIDER_NOT_READY);
    flags_metadata entry = FLAGS_METADATA_INIT;
    CHECK_EQ(flags_snapshot_metadata(snapshot, "on", 0, &entry), FLAGS_NOT_FOUND);
    flags_snapshot_release(snapshot);

    flags_client_status status = FLAGS_CLIENT_STATUS_INIT;
    CHECK_EQ(flags_get_status(client, &status), FLAGS_OK);
    CHECK(status.generation == 0 && status.state == FLAGS_STATE_DETACHED && !status.daemon_alive);
    flags_close(client);
}

int main(void)
{
    watchdog();
    CHECK(strcmp(flags_last_error(), "") == 0);
    opening_fails_with_words();
    statuses_have_words();
    flags_client *client = open_definition();
    static_flags(client);
    texts(client);
    targeting(client);
    details(client);
    metadata(client);
    references(client);
    statuses(client);
    flags_close(client);
    snapshots_outlive_their_client();
    a_client_without_a_store_answers_fallbacks();
    return 0;
}
