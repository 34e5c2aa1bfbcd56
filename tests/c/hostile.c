/* Contexts that nobody means well with: an answer or a clear error, never a fault. */

#include <flags.h>

#include "check.h"

enum { MANY = 10000, DEEP = 1000, MEBIBYTE = 1 << 20 };

static flags_client *client;

static flags_error error_of(const flags_context *context, const char *key)
{
    flags_snapshot *snapshot = flags_snapshot_acquire(client);
    flags_result result = FLAGS_RESULT_INIT;
    CHECK_EQ(flags_evaluate(snapshot, key, FLAGS_TYPE_BOOL, context, &result), FLAGS_OK);
    flags_snapshot_release(snapshot);
    return result.error;
}

static void ten_thousand_attributes(void)
{
    static char names[MANY][24];
    static flags_attribute attributes[MANY];
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "name-%d", i);
        attributes[i] = flags_attribute_int(names[i], i);
    }
    flags_context context = FLAGS_CONTEXT_INIT("user-1", attributes, MANY);
    CHECK(!flags_bool(client, "tiered", &context, true));
    attributes[MANY - 1] = flags_attribute_string("tier", "premium");
    CHECK(flags_bool(client, "tiered", &context, false));
    CHECK(flags_bool(client, "on", &context, false));
}

static void a_mebibyte_of_text(void)
{
    char *text = malloc(MEBIBYTE + 1);
    CHECK(text != NULL);
    memset(text, 'x', MEBIBYTE);
    text[MEBIBYTE] = '\0';
    flags_attribute attribute = flags_attribute_string("text", text);
    flags_context context = FLAGS_CONTEXT_INIT(text, &attribute, 1);
    CHECK(!flags_bool(client, "long", &context, true));
    memcpy(text + MEBIBYTE - 3, "END", 3);
    CHECK(flags_bool(client, "long", &context, false));
    CHECK(flags_bool(client, "bucketed", &context, false));
    CHECK(!flags_bool(client, "by-key", &context, true));
    CHECK(!flags_bool(client, "tiered", &context, true));

    /* As a key, as a name, and as a text that a rule copies: more than an evaluation has room for. */
    CHECK(flags_bool(client, text, NULL, true) && !flags_bool(client, text, NULL, false));
    attribute.name = text;
    CHECK(!flags_bool(client, "tiered", &context, true));
    attribute = flags_attribute_string("deep", text);
    flags_error error = error_of(&context, "joined");
    CHECK(error == FLAGS_ERROR_GENERAL || error == FLAGS_ERROR_NONE);
    free(text);
}

static void a_thousand_levels(void)
{
    static flags_value lists[DEEP];
    static flags_attribute objects[DEEP];
    lists[0] = flags_value_string("x");
    objects[0] = flags_attribute_string("deep", "x");
    for (int i = 1; i < DEEP; i++) {
        lists[i] = flags_value_list(&lists[i - 1], 1);
        objects[i] = flags_attribute_value("deep", flags_value_object(&objects[i - 1], 1));
    }
    flags_attribute attribute = flags_attribute_value("deep", lists[DEEP - 1]);
    flags_context context = FLAGS_CONTEXT_INIT(NULL, &attribute, 1);
    /* To join them takes as many steps: right, or refused. */
    flags_error error = error_of(&context, "joined");
    CHECK(error == FLAGS_ERROR_GENERAL || error == FLAGS_ERROR_NONE);
    context.attributes = &objects[DEEP - 1];
    CHECK_EQ(error_of(&context, "joined"), FLAGS_ERROR_NONE);

    /* A list that holds itself. */
    static flags_value self;
    self = flags_value_list(&self, 1);
    attribute.value = self;
    context.attributes = &attribute;
    CHECK_EQ(error_of(&context, "joined"), FLAGS_ERROR_GENERAL);
}

static void text_that_is_not_utf8(void)
{
    const flags_attribute attributes[] = {
        flags_attribute_string("\xff\xfe", "\x80\x81"),
        flags_attribute_string("text", "\xff\xfe" "END"),
        flags_attribute_string("tier", "premium\xff"),
        flags_attribute_value("groups", flags_value_text("\xed\xa0\x80\0admin", 9)),
        flags_attribute_string("deep", "\xc3"),
    };
    flags_context context = FLAGS_CONTEXT_INIT("\xff", attributes, 5);
    CHECK(flags_bool(client, "long", &context, false));
    CHECK(!flags_bool(client, "tiered", &context, true));
    CHECK(flags_bool(client, "listed", &context, false));
    CHECK(flags_bool(client, "bucketed", &context, false));
    CHECK(!flags_bool(client, "joined", &context, true));
}

/* A value that cannot be reads as null. */
static void values_that_cannot_be(void)
{
    flags_attribute tier = flags_attribute_string("tier", "premium");
    flags_context context = FLAGS_CONTEXT_INIT(NULL, &tier, 1);
    CHECK(flags_bool(client, "tiered", &context, false));

    static const unsigned types[] = { FLAGS_TYPE_NONE, FLAGS_TYPE_JSON, 8, 255, 256, 0x80000000u, 0xffffffffu };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        memcpy(&tier.value.type, &types[i], sizeof types[i]);
        CHECK(!flags_bool(client, "tiered", &context, true));
        CHECK_EQ(error_of(&context, "tiered"), FLAGS_ERROR_NONE);
    }
    tier.value = flags_value_text(NULL, 7);
    CHECK(!flags_bool(client, "tiered", &context, true));
    tier.value = flags_value_text("premium", (size_t)-1);
    CHECK(!flags_bool(client, "tiered", &context, true));
    tier.value = flags_value_text(NULL, 0);
    CHECK(!flags_bool(client, "tiered", &context, true));
    tier.value = flags_value_string(NULL);
    CHECK(!flags_bool(client, "tiered", &context, true));

    const flags_value holes[] = { flags_value_text(NULL, 7), flags_value_string("dev") };
    flags_attribute groups = flags_attribute_value("groups", flags_value_list(holes, 2));
    context.attributes = &groups;
    CHECK(flags_bool(client, "second", &context, false));
    groups.value = flags_value_list(NULL, 2);
    CHECK(!flags_bool(client, "second", &context, true));
    groups.value = flags_value_list(holes, (size_t)-1);
    CHECK(!flags_bool(client, "second", &context, true));
    groups.value = flags_value_list((const flags_value *)((const char *)holes + 1), 1);
    CHECK(!flags_bool(client, "second", &context, true));
    groups.value = flags_value_list(NULL, 0);
    CHECK(!flags_bool(client, "second", &context, true));

    flags_attribute account = flags_attribute_value("account", flags_value_object(NULL, 1));
    context.attributes = &account;
    CHECK(!flags_bool(client, "nested", &context, true));
    const flags_attribute nameless = { NULL, 0, { FLAGS_TYPE_NONE, { false } } };
    account.value = flags_value_object(&nameless, 1);
    CHECK(!flags_bool(client, "nested", &context, true));
    account.value = flags_value_object(&nameless, (size_t)-1);
    CHECK(!flags_bool(client, "nested", &context, true));

    /* Names: none, and a length that cannot be. */
    flags_attribute attributes[] = { nameless, flags_attribute_string("tier", "premium") };
    context.attributes = attributes;
    context.count = 2;
    CHECK(flags_bool(client, "tiered", &context, false));
    attributes[1].name_length = (size_t)-1;
    CHECK(!flags_bool(client, "tiered", &context, true));

    /* A boolean that is neither. */
    flags_attribute beta = flags_attribute_bool("beta", true);
    memset(&beta.value.as, 0x55, sizeof beta.value.as);
    context.attributes = &beta;
    context.count = 1;
    CHECK(flags_bool(client, "beta", &context, false));

    /* Numbers that are not. */
    flags_attribute age = flags_attribute_double("age", 0.0);
    context.attributes = &age;
    const double zero = 0.0;
    static const unsigned long long nan_bits = 0x7ff8000000000001ull, infinity_bits = 0x7ff0000000000000ull;
    memcpy(&age.value.as.number, &nan_bits, sizeof nan_bits);
    CHECK(!flags_bool(client, "adult", &context, true));
    memcpy(&age.value.as.number, &infinity_bits, sizeof infinity_bits);
    CHECK(flags_bool(client, "adult", &context, false));
    age.value.as.number = -zero;
    CHECK(!flags_bool(client, "adult", &context, true));
    age.value = flags_value_int(INT64_MIN);
    CHECK(!flags_bool(client, "adult", &context, true));
    age.value = flags_value_int(INT64_MAX);
    CHECK(flags_bool(client, "adult", &context, false));
}

/* A context that cannot be is an error, and the fallback. */
static void contexts_that_cannot_be(void)
{
    const flags_attribute tier = flags_attribute_string("tier", "premium");
    const flags_context good = FLAGS_CONTEXT_INIT(NULL, &tier, 1);
    flags_context context;

    static const size_t sizes[] = { 0, 1, 8, sizeof(flags_context) - 1, 1 << 20, (size_t)-1 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        context = good;
        context.struct_size = sizes[i];
        CHECK(flags_bool(client, "tiered", &context, true) && !flags_bool(client, "tiered", &context, false));
        CHECK(flags_bool(client, "on", &context, true) && !flags_bool(client, "on", &context, false));
        CHECK_EQ(flags_int(client, "answer", &context, -1), -1);
        CHECK(flags_double(client, "answer", &context, -1) == -1);
        CHECK_EQ(flags_string(client, "colour", &context, NULL, NULL, 0), 0);
        CHECK_EQ(flags_json(client, "layout", &context, NULL, NULL, 0), 0);
        CHECK_EQ(error_of(&context, "tiered"), FLAGS_ERROR_INVALID_CONTEXT);
    }
    context = good;
    context.attributes = NULL;
    CHECK_EQ(error_of(&context, "tiered"), FLAGS_ERROR_INVALID_CONTEXT);
    context.count = 0;
    CHECK_EQ(error_of(&context, "tiered"), FLAGS_ERROR_NONE);
    context = good;
    context.count = (size_t)-1;
    CHECK_EQ(error_of(&context, "tiered"), FLAGS_ERROR_INVALID_CONTEXT);
    context = good;
    context.attributes = (const flags_attribute *)((const char *)&tier + 1);
    CHECK_EQ(error_of(&context, "tiered"), FLAGS_ERROR_INVALID_CONTEXT);

    /* A targeting key that cannot be is none. */
    context = good;
    context.targeting_key = NULL;
    context.targeting_key_length = 6;
    CHECK(!flags_bool(client, "by-key", &context, true));
    context.targeting_key = "user-1";
    context.targeting_key_length = (size_t)-1;
    CHECK(!flags_bool(client, "by-key", &context, true));

    /* A later version of the struct: what is known of it counts. */
    struct {
        flags_context known;
        unsigned long long later[8];
    } newer = { FLAGS_CONTEXT_INIT(NULL, NULL, 0), { 1, 2, 3, 4, 5, 6, 7, 8 } };
    newer.known.struct_size = sizeof newer;
    newer.known.attributes = &tier;
    newer.known.count = 1;
    CHECK(flags_bool(client, "tiered", &newer.known, false));
}

int main(void)
{
    watchdog();
    CHECK_EQ(flags_open_file(given("FLAGS_DEFINITION"), &client), FLAGS_OK);
    ten_thousand_attributes();
    a_mebibyte_of_text();
    a_thousand_levels();
    text_that_is_not_utf8();
    values_that_cannot_be();
    contexts_that_cannot_be();
    flags_close(client);
    return 0;
}
