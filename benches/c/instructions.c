/* What `cargo xtask instructions` counts under callgrind, in C: see benches/src/bin/instructions.rs, which makes the store.
 *
 *     instructions STORE
 *
 * The key that is read is the same in all calls: what is counted is the way through libflags.so. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flags.h"

enum { CALLS = 1000 };

static flags_client *client;
static flags_ref ref = FLAGS_REF_INIT("feature-000001");
static flags_attribute five[5];

static bool read_key(void) {
    return flags_bool(client, "feature-000001", NULL, false);
}

static bool read_missing_key(void) {
    return flags_bool(client, "no-such-flag", NULL, false);
}

static bool read_handle(void) {
    return flags_bool_ref(client, &ref, NULL, false);
}

static bool read_equality(void) {
    flags_context context = FLAGS_CONTEXT_INIT("user-1", five, 5);
    return flags_bool(client, "equality", &context, false);
}

static bool read_two_levels(void) {
    flags_context context = FLAGS_CONTEXT_INIT("user-1", five, 5);
    return flags_bool(client, "two-levels", &context, false);
}

static bool read_fractional(void) {
    flags_context context = FLAGS_CONTEXT_INIT("user-00000001", NULL, 0);
    return flags_bool(client, "half", &context, false);
}

static bool read_in(void) {
    flags_context context = FLAGS_CONTEXT_INIT("user-00000002", NULL, 0);
    return flags_bool(client, "written", &context, false);
}

/* Where callgrind counts, by its name. */
__attribute__((noinline)) static int counted(bool (*read)(void), int calls) {
    int trues = 0;
    for (int i = 0; i < calls; i++) trues += read();
    return trues;
}

struct path {
    const char *name;
    bool (*read)(void);
    bool expected;
};

static void *turns(void *argument) {
    const struct path *path = argument;
    for (int turn = 0; turn < 3; turn++) {
        int calls = turn == 2 ? 2 * CALLS : CALLS;
        if (counted(path->read, calls) != (path->expected ? calls : 0)) {
            fprintf(stderr, "%s is not answered %s\n", path->name, path->expected ? "true" : "false");
            exit(1);
        }
    }
    printf("path c-%s %d\n", path->name, CALLS);
    return NULL;
}

/* In a thread of its own, as in Rust. */
static void count(const char *name, bool (*read)(void), bool expected) {
    struct path path = {name, read, expected};
    pthread_t thread;
    if (pthread_create(&thread, NULL, turns, &path) != 0 || pthread_join(thread, NULL) != 0) exit(1);
}

int main(int argc, char **argv) {
    if (argc != 2 || flags_open(argv[1], NULL, &client) != FLAGS_OK) {
        fprintf(stderr, "usage: instructions STORE\n");
        return 1;
    }
    five[0] = flags_attribute_string("tier", "premium");
    five[1] = flags_attribute_int("age", 42);
    five[2] = flags_attribute_string("country", "DE");
    five[3] = flags_attribute_bool("beta", false);
    five[4] = flags_attribute_string("version", "2.3.1");
    count("key", read_key, flags_bool(client, "feature-000001", NULL, false));
    count("missing-key", read_missing_key, false);
    count("handle", read_handle, flags_bool(client, "feature-000001", NULL, false));
    count("equality", read_equality, true);
    count("two-levels", read_two_levels, true);
    count("fractional", read_fractional, read_fractional());
    count("in-10k", read_in, true);
    flags_close(client);
    return 0;
}
