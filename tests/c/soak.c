/*
 * soak STORE ANSWERS THREADS: reads the flags of a soak without a pause until its standard input ends, and compares each
 * answer with the table of the round that the pinned version names. tests/src/soak/table.rs draws a table,
 * tests/src/processes.rs says what is printed; the generation there is the round.
 */

#include <errno.h>
#include <flags.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"

enum { MAX_SUBJECTS = 16, MAX_ATTRIBUTES = 16, MAX_ANSWER = 4096 };

typedef struct subject {
    flags_context context;
    flags_attribute attributes[MAX_ATTRIBUTES];
} subject;

typedef struct row {
    const char *key;
    flags_type kind;
    const flags_context *context;
    const char *answer; /* REASON, ERROR, VARIANT, VALUE */
} row;

/* Of one round; texts lie in the file's text. */
typedef struct table {
    char *text;
    row *rows;
    size_t count;
    subject subjects[MAX_SUBJECTS];
} table;

static flags_client *client;
static const char *answers;

#define WRONG(...) (fprintf(stderr, "soak.c: " __VA_ARGS__), fputc('\n', stderr), _exit(1))

/* Cuts the next field off a line, at a tab. */
static char *field(char **line)
{
    char *start = *line;
    if (start == NULL)
        return NULL;
    char *tab = strchr(start, '\t');
    if (tab != NULL)
        *tab++ = '\0';
    *line = tab;
    return start;
}

static unsigned digit(char digit)
{
    return (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

/* Hexadecimal to bytes, in place. */
static flags_text bytes_of(char *text)
{
    size_t length = strlen(text) / 2;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    return (flags_text){text, length};
}

static flags_value value_of(const char *type, char *text)
{
    if (strcmp(type, "bool") == 0)
        return flags_value_bool(strcmp(text, "true") == 0);
    if (strcmp(type, "int") == 0)
        return flags_value_int(strtoll(text, NULL, 10));
    if (strcmp(type, "float") == 0) {
        uint64_t bits = strtoull(text, NULL, 16);
        double number;
        memcpy(&number, &bits, sizeof number);
        return flags_value_double(number);
    }
    flags_text bytes = bytes_of(text);
    return flags_value_text(bytes.data, bytes.length);
}

static void read_subject(subject *subject, char *line)
{
    char *key = field(&line), *name;
    size_t count = 0;
    while ((name = field(&line)) != NULL) {
        const char *type = field(&line);
        char *value = field(&line);
        if (value == NULL || count == MAX_ATTRIBUTES)
            WRONG("a subject is not as it must be");
        flags_text bytes = bytes_of(name);
        subject->attributes[count++] = (flags_attribute){bytes.data, bytes.length, value_of(type, value)};
    }
    subject->context = (flags_context)FLAGS_CONTEXT_INIT(NULL, subject->attributes, count);
    if (*key == '=') {
        flags_text bytes = bytes_of(key + 1);
        /* A length of 0 is for keys that end with a NUL, as this empty one does. */
        subject->context.targeting_key = bytes.length == 0 ? "" : bytes.data;
        subject->context.targeting_key_length = bytes.length;
    }
}

static const char *const kinds[] = {"bool", "int", "float", "text", "json"};

static void read_row(table *table, row *row, char *line)
{
    row->key = field(&line);
    const char *kind = field(&line), *subject = field(&line);
    row->answer = line;
    if (row->answer == NULL)
        WRONG("a row is not as it must be");
    row->kind = FLAGS_TYPE_NONE;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i]) == 0)
            row->kind = (flags_type)(FLAGS_TYPE_BOOL + i);
    row->context = &table->subjects[atoi(subject) % MAX_SUBJECTS].context;
}

static void read_table(table *table, uint64_t round)
{
    free(table->text);
    free(table->rows);
    memset(table, 0, sizeof *table);
    char path[4096];
    snprintf(path, sizeof path, "%s/%" PRIu64, answers, round);
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        WRONG("no answers of round %" PRIu64 ": %s", round, strerror(errno));
    size_t length = (size_t)ftell(file);
    rewind(file);
    table->text = malloc(length + 1);
    if (table->text == NULL || fread(table->text, 1, length, file) != length)
        WRONG("the answers of round %" PRIu64 " cannot be read", round);
    fclose(file);
    table->text[length] = '\0';
    size_t lines = 0, subjects = 0;
    for (const char *at = table->text; *at != '\0'; at++)
        lines += *at == '\n';
    table->rows = calloc(lines + 1, sizeof *table->rows);
    char *line = table->text, *end = NULL;
    for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (strcmp(line, "end") == 0)
            return;
        const char *what = field(&line);
        if (strcmp(what, "subject") == 0 && subjects < MAX_SUBJECTS)
            read_subject(&table->subjects[subjects++], line);
        else
            read_row(table, &table->rows[table->count++], line);
    }
    WRONG("the answers of round %" PRIu64 " are cut short", round);
}

typedef struct answer {
    char text[MAX_ANSWER];
    size_t length;
} answer;

static void add(answer *answer, const char *text)
{
    size_t length = strlen(text);
    if (answer->length + length >= sizeof answer->text)
        WRONG("an answer is too long");
    memcpy(answer->text + answer->length, text, length + 1);
    answer->length += length;
}

static void add_bytes(answer *answer, const char *label, flags_text text)
{
    add(answer, label);
    for (size_t i = 0; i < text.length; i++) {
        char digits[3];
        snprintf(digits, sizeof digits, "%02x", (unsigned)(unsigned char)text.data[i]);
        add(answer, digits);
    }
}

static void add_value(answer *answer, flags_value value)
{
    char text[64];
    uint64_t bits;
    switch (value.type) {
    case FLAGS_TYPE_NONE: add(answer, "-"); break;
    case FLAGS_TYPE_BOOL: add(answer, value.as.boolean ? "bool:true" : "bool:false"); break;
    case FLAGS_TYPE_INT:
        snprintf(text, sizeof text, "int:%" PRId64, value.as.integer);
        add(answer, text);
        break;
    case FLAGS_TYPE_DOUBLE:
        memcpy(&bits, &value.as.number, sizeof bits);
        snprintf(text, sizeof text, "float:%016" PRIx64, bits);
        add(answer, text);
        break;
    case FLAGS_TYPE_STRING: add_bytes(answer, "text:", value.as.string); break;
    case FLAGS_TYPE_JSON: add_bytes(answer, "json:", value.as.string); break;
    default: WRONG("a value of type %d", (int)value.type);
    }
}

static void ask(const flags_snapshot *flags, const row *row, answer *answer)
{
    static const char *const reasons[] = {"?", "STATIC", "DEFAULT", "TARGETING_MATCH", "DISABLED", "ERROR"};
    static const char *const errors[] = {
        "-", "FLAG_NOT_FOUND", "TYPE_MISMATCH", "PARSE_ERROR", "GENERAL", "PROVIDER_NOT_READY", "INVALID_CONTEXT",
    };
    flags_result result = FLAGS_RESULT_INIT;
    if (flags_evaluate(flags, row->key, row->kind, row->context, &result) != FLAGS_OK)
        WRONG("%s: %s", row->key, flags_last_error());
    answer->length = 0;
    add(answer, reasons[result.reason]);
    add(answer, "\t");
    add(answer, errors[result.error]);
    add(answer, "\t");
    if (result.variant.data == NULL)
        add(answer, "-");
    else
        add_bytes(answer, "=", result.variant);
    add(answer, "\t");
    add_value(answer, result.value);
}

/* The value alone, of the client itself. */
static void ask_unpinned(const row *row, answer *answer)
{
    static const char fallback[] = "the caller's";
    char text[MAX_ANSWER / 2];
    bool one, other;
    int64_t whole;
    double number;
    answer->length = 0;
    switch (row->kind) {
    case FLAGS_TYPE_BOOL:
        one = flags_bool(client, row->key, row->context, true);
        other = flags_bool(client, row->key, row->context, false);
        add_value(answer, one == other ? flags_value_bool(one) : (flags_value){FLAGS_TYPE_NONE, {false}});
        break;
    case FLAGS_TYPE_INT:
        whole = flags_int(client, row->key, row->context, INT64_MIN);
        add_value(answer, whole != INT64_MIN ? flags_value_int(whole) : (flags_value){FLAGS_TYPE_NONE, {false}});
        break;
    case FLAGS_TYPE_DOUBLE:
        number = flags_double(client, row->key, row->context, 1e300);
        add_value(answer, number < 1e300 ? flags_value_double(number) : (flags_value){FLAGS_TYPE_NONE, {false}});
        break;
    default: {
        bool is_text = row->kind == FLAGS_TYPE_STRING;
        size_t length = (is_text ? flags_string : flags_json)(client, row->key, row->context, fallback, text, sizeof text);
        if (length == sizeof fallback - 1 && memcmp(text, fallback, length) == 0)
            add(answer, "-");
        else
            add_bytes(answer, is_text ? "text:" : "json:", (flags_text){text, length});
    }
    }
}

static uint64_t generation_now(void)
{
    flags_snapshot *flags = flags_snapshot_acquire(client);
    uint64_t generation = flags_snapshot_generation(flags);
    flags_snapshot_release(flags);
    return generation;
}

static void *read_on(void *argument)
{
    place *place = argument;
    static const row named = {"soak-round", FLAGS_TYPE_INT, NULL, ""};
    uint64_t last = 0, round = 0, evaluations = 0;
    table table;
    answer found;
    memset(&table, 0, sizeof table);
    for (;;) {
        flags_snapshot *flags = flags_snapshot_acquire(client);
        uint64_t generation = flags_snapshot_generation(flags);
        if (generation < last)
            WRONG("generation %" PRIu64 " after %" PRIu64, generation, last);
        last = generation;
        flags_result result = FLAGS_RESULT_INIT;
        if (flags_evaluate(flags, named.key, named.kind, NULL, &result) != FLAGS_OK || result.value.type != FLAGS_TYPE_INT)
            WRONG("generation %" PRIu64 " names no round", generation);
        uint64_t newer = (uint64_t)result.value.as.integer;
        if (newer < round)
            WRONG("round %" PRIu64 " after %" PRIu64, newer, round);
        if (newer > round)
            read_table(&table, newer);
        round = newer;
        for (size_t i = 0; i < table.count; i++) {
            const row *row = &table.rows[i];
            ask(flags, row, &found);
            if (strcmp(found.text, row->answer) != 0)
                WRONG("round %" PRIu64 ", generation %" PRIu64 ": %s as %s: expected %s\nfound %s", round, generation,
                      row->key, kinds[row->kind - FLAGS_TYPE_BOOL], row->answer, found.text);
        }
        flags_snapshot_release(flags);
        evaluations += table.count;
        /* The client itself, where no update comes between. */
        const row *wrong = NULL;
        for (size_t i = 0; i < table.count && wrong == NULL; i++) {
            ask_unpinned(&table.rows[i], &found);
            if (strcmp(found.text, strrchr(table.rows[i].answer, '\t') + 1) != 0)
                wrong = &table.rows[i];
        }
        if (generation_now() == generation) {
            if (wrong != NULL)
                WRONG("round %" PRIu64 ", generation %" PRIu64 ": %s as %s: expected %s\nfound by the client %s", round,
                      generation, wrong->key, kinds[wrong->kind - FLAGS_TYPE_BOOL], wrong->answer, found.text);
            evaluations += table.count;
        }
        place_set(place, evaluations, round);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc == 4 ? atoi(argv[3]) : 0;
    if (threads < 1 || threads > MAX_THREADS)
        WRONG("usage: soak STORE ANSWERS THREADS");
    answers = argv[2];
    if (flags_open(argv[1], NULL, &client) != FLAGS_OK)
        WRONG("%s", flags_last_error());
    const char *failed = progress_run(threads, read_on);
    if (failed != NULL)
        WRONG("%s", failed);
    _exit(0); /* the threads still read */
}
