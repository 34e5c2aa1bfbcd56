/*
 * reader STORE THREADS: reads the flags of tests/src/numbered.rs without a pause until its standard input ends, and checks
 * each answer. What it says is in tests/src/processes.rs.
 */

#include <flags.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"

enum { CYCLE = 256, NUMBERS = 64, TEXTS = 8 };

static flags_client *client;

#define WRONG(...) (fprintf(stderr, "reader.c: " __VA_ARGS__), fputc('\n', stderr), _exit(1))

static flags_value value_of(const flags_snapshot *flags, const char *key, flags_type want, const flags_context *context)
{
    flags_result result = FLAGS_RESULT_INIT;
    if (flags_evaluate(flags, key, want, context, &result) != FLAGS_OK)
        WRONG("%s: %s", key, flags_last_error());
    if (result.value.type != want)
        WRONG("%s has no value: reason %d, error %d", key, (int)result.reason, (int)result.error);
    return result.value;
}

/* Reads every flag of one version and checks that it is that version's; gives the number of evaluations. */
static uint64_t check(const flags_snapshot *flags, uint64_t generation)
{
    int64_t number = (int64_t)(generation % CYCLE);
    char key[16];
    for (int i = 0; i < NUMBERS; i++) {
        snprintf(key, sizeof key, "n-%d", i);
        int64_t found = value_of(flags, key, FLAGS_TYPE_INT, NULL).as.integer;
        if (found != number)
            WRONG("%s is %" PRId64 " in generation %" PRIu64, key, found, generation);
    }
    for (int i = 0; i < TEXTS; i++) {
        snprintf(key, sizeof key, "t-%d", i);
        const char *tier = i % 2 == 0 ? "gold" : "plain";
        const flags_attribute attributes[] = {flags_attribute_string("tier", tier)};
        const flags_context context = FLAGS_CONTEXT_INIT("user", attributes, 1);
        char expected[32];
        int length = snprintf(expected, sizeof expected, "%s-%" PRId64, tier, number);
        flags_text found = value_of(flags, key, FLAGS_TYPE_STRING, &context).as.string;
        if (found.length != (size_t)length || memcmp(found.data, expected, found.length) != 0)
            WRONG("%s is %.*s in generation %" PRIu64, key, (int)found.length, found.data, generation);
    }
    if (value_of(flags, "even", FLAGS_TYPE_BOOL, NULL).as.boolean != (number % 2 == 0))
        WRONG("even is wrong in generation %" PRIu64, generation);
    return NUMBERS + TEXTS + 1;
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
    uint64_t last = 0, evaluations = 0;
    for (;;) {
        flags_snapshot *flags = flags_snapshot_acquire(client);
        uint64_t generation = flags_snapshot_generation(flags);
        if (generation < last)
            WRONG("generation %" PRIu64 " after %" PRIu64, generation, last);
        evaluations += check(flags, generation);
        flags_snapshot_release(flags);
        int64_t number = flags_int(client, "n-0", NULL, -1);
        uint64_t after = generation_now();
        uint64_t ahead = ((uint64_t)number + CYCLE - generation % CYCLE) % CYCLE;
        if (number < 0 || after < generation || ahead > after - generation)
            WRONG("%" PRId64 " between the generations %" PRIu64 " and %" PRIu64, number, generation, after);
        evaluations++;
        last = generation;
        place_set(place, evaluations, generation);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    if (argc < 2 || threads < 1 || threads > MAX_THREADS)
        WRONG("usage: reader STORE THREADS");
    if (flags_open(argv[1], NULL, &client) != FLAGS_OK)
        WRONG("%s", flags_last_error());
    const char *failed = progress_run(threads, read_on);
    if (failed != NULL)
        WRONG("%s", failed);
    _exit(0); /* the threads still read */
}
