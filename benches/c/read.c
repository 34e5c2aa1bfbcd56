/* What a flag check costs from C. Started by libflags-benches, which makes the store:
 *
 *     read ROW STORE MILLISECONDS
 *
 * prints `best median p99 samples`, in nanoseconds a call. Every answer is compared with its expectation before anything is
 * timed, and the number of true answers while timing. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flags.h"

enum { KEY_SIZE = 16, USER_SIZE = 16, MAX_SAMPLES = 1 << 20, USERS = 4096 };

struct input {
    const char *text; /* a flag key or a targeting key */
    bool expected;
};

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "read: %s: %s\n", what, detail);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("out of memory", "");
    return memory;
}

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static uint64_t random_state = 7;

static size_t random_below(size_t end) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (size_t)((random_state * UINT64_C(0x2545F4914F6CDD1D)) >> 32) % end;
}

/* As definitions::answer. */
static bool static_answer(uint64_t number) {
    return (number * UINT64_C(0x9E3779B9) & 0x400) != 0;
}

/* `count` static flags in random order. */
static struct input *static_inputs(size_t count) {
    struct input *inputs = allocate(count, sizeof *inputs);
    char *text = allocate(count, KEY_SIZE);
    for (size_t i = 0; i < count; i++) {
        char *key = text + i * KEY_SIZE;
        snprintf(key, KEY_SIZE, "feature-%06u", (unsigned)(i % 1000000));
        inputs[i] = (struct input){key, static_answer(i)};
    }
    for (size_t last = count - 1; last > 0; last--) {
        size_t other = random_below(last + 1);
        struct input moved = inputs[last];
        inputs[last] = inputs[other];
        inputs[other] = moved;
    }
    return inputs;
}

typedef bool (*read_function)(const flags_client *client, const struct input *input);

static bool read_key(const flags_client *client, const struct input *input) {
    return flags_bool(client, input->text, NULL, false);
}

static bool read_handle(const flags_client *client, const struct input *input) {
    static flags_ref ref = FLAGS_REF_INIT("feature-000001");
    (void)input;
    return flags_bool_ref(client, &ref, NULL, false);
}

static flags_attribute five[5];

static bool read_equality(const flags_client *client, const struct input *input) {
    five[2] = flags_attribute_string("country", input->text);
    flags_context context = FLAGS_CONTEXT_INIT("user-1", five, 5);
    return flags_bool(client, "equality", &context, false);
}

static bool read_fractional(const flags_client *client, const struct input *input) {
    flags_context context = FLAGS_CONTEXT_INIT(input->text, NULL, 0);
    return flags_bool(client, "half", &context, false);
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Inlined into each of its uses, so that the function read is known and can be inlined too. */
static inline void measure(const flags_client *client, const struct input *inputs, size_t count, double budget_ns, read_function read) {
    size_t trues_in_all = 0;
    for (size_t i = 0; i < count; i++) {
        if (read(client, &inputs[i]) != inputs[i].expected) fail("wrong answer", inputs[i].text);
        trues_in_all += inputs[i].expected;
    }
    size_t length = count < 20000 ? count : 20000;
    size_t passes = 20000 / length;
    double *samples = allocate(MAX_SAMPLES, sizeof *samples);
    size_t taken = 0, first = 0;
    double end = now_ns() + budget_ns;
    do {
        size_t last = first + length <= count ? first + length : count;
        size_t trues = 0, expected = 0;
        double start = now_ns();
        for (size_t pass = 0; pass < passes; pass++)
            for (size_t i = first; i < last; i++) trues += read(client, &inputs[i]);
        samples[taken++] = (now_ns() - start) / (double)((last - first) * passes);
        for (size_t i = first; i < last; i++) expected += inputs[i].expected;
        if (trues != expected * passes) fail("answers changed while timing", "");
        first = last == count ? 0 : last;
    } while (now_ns() < end && taken < MAX_SAMPLES);
    qsort(samples, taken, sizeof *samples, compare);
    printf("%.3f %.3f %.3f %zu\n", samples[0], samples[(taken - 1) / 2], samples[(taken - 1) * 99 / 100], taken);
}

int main(int argc, char **argv) {
    if (argc != 4) fail("usage", "read ROW STORE MILLISECONDS");
    double budget_ns = atof(argv[3]) * 1e6;
    flags_client *client = NULL;
    if (flags_open(argv[2], NULL, &client) != FLAGS_OK) fail("cannot open", argv[2]);
    five[0] = flags_attribute_string("tier", "premium");
    five[1] = flags_attribute_int("age", 42);
    five[3] = flags_attribute_bool("beta", false);
    five[4] = flags_attribute_string("version", "2.3.1");
    if (strcmp(argv[1], "key") == 0) {
        measure(client, static_inputs(1000), 1000, budget_ns, read_key);
    } else if (strcmp(argv[1], "key-100k") == 0) {
        measure(client, static_inputs(100000), 100000, budget_ns, read_key);
    } else if (strcmp(argv[1], "handle") == 0) {
        struct input inputs[16];
        for (size_t i = 0; i < 16; i++) inputs[i] = (struct input){"", static_answer(1)};
        measure(client, inputs, 16, budget_ns, read_handle);
    } else if (strcmp(argv[1], "equality") == 0) {
        static const char *countries[] = {"DE", "FR", "DE", "US", "DE", "DE", "GB", "FR"};
        struct input inputs[8];
        for (size_t i = 0; i < 8; i++) inputs[i] = (struct input){countries[i], strcmp(countries[i], "DE") == 0};
        measure(client, inputs, 8, budget_ns, read_equality);
    } else if (strcmp(argv[1], "fractional") == 0) {
        struct input *inputs = allocate(USERS, sizeof *inputs);
        char *text = allocate(USERS, USER_SIZE);
        size_t trues = 0;
        for (size_t i = 0; i < USERS; i++) {
            char *user = text + i * USER_SIZE;
            snprintf(user, USER_SIZE, "user-%08zu", i);
            inputs[i].text = user;
            /* The expectation is the first answer; that half of the users get it is checked below. */
            inputs[i].expected = read_fractional(client, &inputs[i]);
            trues += inputs[i].expected;
        }
        if (trues < USERS * 4 / 10 || trues > USERS * 6 / 10) fail("not half of all users", "fractional");
        measure(client, inputs, USERS, budget_ns, read_fractional);
    } else {
        fail("no such row", argv[1]);
    }
    flags_close(client);
    return 0;
}
