/*
 * answer STORE: evaluates flags as it is told on standard input, one line of JSON for each, and answers each with a line.
 *
 *     null                                        takes the newest version; answers "generation N"
 *     [KEY, KIND, TARGETING KEY, {ATTRIBUTES}]    evaluates; answers REASON ERROR VARIANT VALUE, tabs between them
 *
 * KIND is bool, int, float, text or json; the targeting key is null where there is none. VARIANT is the hexadecimal of its
 * bytes after "=", or "-". VALUE is "-" where the default stands, or bool:, int:, float: (the bits), text: or json: (both in
 * hexadecimal). tests/python/answer.py and tests/tests/languages_agree.rs say the same.
 */

#include <errno.h>
#include <flags.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRONG(...) (fprintf(stderr, "answer.c: " __VA_ARGS__), fputc('\n', stderr), exit(1))

/* Memory for one line, taken from the front. */
static union {
    char bytes[1 << 22];
    long double aligned;
} memory;
static size_t memory_used;

static void *take(size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof memory.bytes - memory_used)
        WRONG("a line needs too much memory");
    memory_used += size;
    return memory.bytes + memory_used - size;
}

/* A list that grows, by copying itself. */
static void *grown(void *items, size_t count, size_t size)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return items;
    void *more = take((count == 0 ? 1 : 2 * count) * size);
    if (count != 0)
        memcpy(more, items, count * size);
    return more;
}

static const char *at;

static void skip_blanks(void)
{
    at += strspn(at, " \t\r\n");
}

static int next_is(char wanted)
{
    skip_blanks();
    if (*at != wanted)
        return 0;
    at++;
    return 1;
}

static void expect(char wanted)
{
    if (!next_is(wanted))
        WRONG("no %c at %.20s", wanted, at);
}

static uint32_t hexadecimal(void)
{
    char digits[5] = "";
    strncpy(digits, at, 4);
    if (strspn(digits, "0123456789abcdefABCDEF") != 4)
        WRONG("no four hexadecimal digits at %.20s", at);
    at += 4;
    return (uint32_t)strtoul(digits, NULL, 16);
}

/* The text after an opening quote; NUL-terminated for convenience, though it may hold a NUL. */
static flags_text parse_text(void)
{
    char *start = take(strlen(at) + 1), *end = start;
    while (*at != '"') {
        if (*at == '\0')
            WRONG("a text does not end");
        if (*at != '\\') {
            *end++ = *at++;
            continue;
        }
        at++;
        static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        char escape = *at++;
        const char *name = escape == '\0' ? NULL : strchr(names, escape);
        if (name != NULL) {
            *end++ = meanings[name - names];
            continue;
        }
        if (escape != 'u')
            WRONG("an unknown escape");
        uint32_t code = hexadecimal();
        if (code >= 0xd800 && code < 0xdc00 && at[0] == '\\' && at[1] == 'u') {
            at += 2;
            code = 0x10000 + ((code - 0xd800) << 10) + (hexadecimal() - 0xdc00);
        }
        if (code < 0x80) {
            *end++ = (char)code;
            continue;
        }
        static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
        int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        *end++ = (char)(leads[more] | code >> 6 * more);
        while (more-- > 0)
            *end++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    }
    at++;
    *end = '\0';
    flags_text text = {start, (size_t)(end - start)};
    return text;
}

static flags_value parse_number(void)
{
    size_t length = strspn(at, "-+.0123456789eE");
    char *end;
    if (strcspn(at, ".eE") >= length) {
        errno = 0;
        int64_t whole = strtoll(at, &end, 10);
        if (errno == 0 && end == at + length && length > 0) {
            at = end;
            return flags_value_int(whole);
        }
    }
    double number = strtod(at, &end);
    if (length == 0 || end != at + length)
        WRONG("no value at %.20s", at);
    at = end;
    return flags_value_double(number);
}

static flags_value parse_value(void)
{
    static const flags_value null = {FLAGS_TYPE_NONE, {false}};
    skip_blanks();
    if (strncmp(at, "null", 4) == 0)
        return at += 4, null;
    if (strncmp(at, "true", 4) == 0)
        return at += 4, flags_value_bool(true);
    if (strncmp(at, "false", 5) == 0)
        return at += 5, flags_value_bool(false);
    if (next_is('"')) {
        flags_text text = parse_text();
        return flags_value_text(text.data, text.length);
    }
    size_t count = 0;
    if (next_is('[')) {
        flags_value *items = NULL;
        for (int first = 1; !next_is(']'); first = 0) {
            if (!first)
                expect(',');
            items = grown(items, count, sizeof *items);
            items[count++] = parse_value();
        }
        return flags_value_list(items, count);
    }
    if (next_is('{')) {
        flags_attribute *members = NULL;
        for (int first = 1; !next_is('}'); first = 0) {
            if (!first)
                expect(',');
            expect('"');
            flags_text name = parse_text();
            expect(':');
            members = grown(members, count, sizeof *members);
            flags_attribute member = {name.data, name.length, parse_value()};
            members[count++] = member;
        }
        return flags_value_object(members, count);
    }
    return parse_number();
}

static void print_hexadecimal(const char *label, flags_text text)
{
    fputs(label, stdout);
    for (size_t i = 0; i < text.length; i++)
        printf("%02x", (unsigned char)text.data[i]);
}

static void print_value(flags_value value)
{
    uint64_t bits;
    switch (value.type) {
    case FLAGS_TYPE_NONE: fputs("-", stdout); break;
    case FLAGS_TYPE_BOOL: fputs(value.as.boolean ? "bool:true" : "bool:false", stdout); break;
    case FLAGS_TYPE_INT: printf("int:%" PRId64, value.as.integer); break;
    case FLAGS_TYPE_DOUBLE:
        memcpy(&bits, &value.as.number, sizeof bits);
        printf("float:%016" PRIx64, bits);
        break;
    case FLAGS_TYPE_STRING: print_hexadecimal("text:", value.as.string); break;
    case FLAGS_TYPE_JSON: print_hexadecimal("json:", value.as.string); break;
    default: WRONG("a value of type %d", (int)value.type);
    }
}

static flags_type type_of(flags_text kind)
{
    static const char *const names[] = {"bool", "int", "float", "text", "json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(kind.data, names[i]) == 0)
            return (flags_type)(FLAGS_TYPE_BOOL + i);
    WRONG("an unknown kind: %s", kind.data);
}

static void answer(const flags_snapshot *flags, flags_value line)
{
    static const char *const reasons[] = {"?", "STATIC", "DEFAULT", "TARGETING_MATCH", "DISABLED", "ERROR"};
    static const char *const errors[] = {
        "-", "FLAG_NOT_FOUND", "TYPE_MISMATCH", "PARSE_ERROR", "GENERAL", "PROVIDER_NOT_READY", "INVALID_CONTEXT",
    };
    if (line.type != FLAGS_TYPE_LIST || line.as.list.count != 4)
        WRONG("a line is not as it must be");
    const flags_value *items = line.as.list.items;
    flags_context context = FLAGS_CONTEXT_INIT(NULL, items[3].as.object.members, items[3].as.object.count);
    if (items[2].type == FLAGS_TYPE_STRING) {
        context.targeting_key = items[2].as.string.data;
        context.targeting_key_length = items[2].as.string.length;
    }
    flags_result result = FLAGS_RESULT_INIT;
    if (flags_evaluate(flags, items[0].as.string.data, type_of(items[1].as.string), &context, &result) != FLAGS_OK)
        WRONG("%s", flags_last_error());
    if ((size_t)result.reason >= sizeof reasons / sizeof *reasons || (size_t)result.error >= sizeof errors / sizeof *errors)
        WRONG("reason %d, error %d", (int)result.reason, (int)result.error);
    printf("%s\t%s\t", reasons[result.reason], errors[result.error]);
    if (result.variant.data == NULL)
        fputs("-", stdout);
    else
        print_hexadecimal("=", result.variant);
    fputs("\t", stdout);
    print_value(result.value);
    fputs("\n", stdout);
}

int main(int argc, char **argv)
{
    flags_client *client;
    if (argc != 2)
        WRONG("usage: answer STORE");
    if (flags_open(argv[1], NULL, &client) != FLAGS_OK)
        WRONG("%s", flags_last_error());
    flags_snapshot *flags = flags_snapshot_acquire(client);
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin) != NULL) {
        at = line;
        memory_used = 0;
        flags_value value = parse_value();
        if (value.type == FLAGS_TYPE_NONE) {
            flags_snapshot_release(flags);
            flags = flags_snapshot_acquire(client);
            printf("generation %" PRIu64 "\n", flags_snapshot_generation(flags));
        } else {
            answer(flags, value);
        }
        fflush(stdout);
    }
    flags_snapshot_release(flags);
    flags_close(client);
    return 0;
}
