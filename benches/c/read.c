/* What a flag check costs from C. Started by libflags-benches, which makes the store:
 *
 *     read ROW STORE MILLISECONDS
 *
 * prints `best median p99 samples`, in nanoseconds a call where the row is no count or ratio. Every answer is compared with its expectation before anything is
 * timed, and the number of true answers while timing. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flags.h"

enum { KEY_SIZE = 16, USER_SIZE = 16, MAX_SAMPLES = 1 << 20, USERS = 4096 };

struct person {
    const char *country, *tier;
    int64_t age;
    bool beta;
};

struct input {
    const char *text; /* a flag key or a targeting key */
    bool expected;
    const struct person *person;
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
        inputs[i] = (struct input){key, static_answer(i), NULL};
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

/* As in benches/src/evaluate.rs. */
static const struct person people[] = {
    {"DE", "premium", 42, false}, {"FR", "premium", 17, true}, {"DE", "free", 30, true},  {"US", "free", 12, true},
    {"DE", "premium", 16, false}, {"DE", "free", 65, false},   {"GB", "free", 18, true}, {"FR", "premium", 40, false},
};

enum { PEOPLE = sizeof people / sizeof *people };

/* All five attributes are made for each call. */
static bool read_two_levels(const flags_client *client, const struct input *input) {
    const struct person *person = input->person;
    flags_attribute attributes[] = {
        flags_attribute_string("tier", person->tier),       flags_attribute_int("age", person->age),
        flags_attribute_string("country", person->country), flags_attribute_bool("beta", person->beta),
        flags_attribute_string("version", "2.3.1"),
    };
    flags_context context = FLAGS_CONTEXT_INIT("user-1", attributes, 5);
    return flags_bool(client, "two-levels", &context, false);
}

static bool read_written(const flags_client *client, const struct input *input) {
    flags_context context = FLAGS_CONTEXT_INIT(input->text, NULL, 0);
    return flags_bool(client, "written", &context, false);
}

static bool read_listed(const flags_client *client, const struct input *input) {
    flags_context context = FLAGS_CONTEXT_INIT(input->text, NULL, 0);
    return flags_bool(client, "listed", &context, false);
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

/* `count` random users, half of them among the even `ids`. */
static struct input *members(size_t ids, size_t count) {
    struct input *inputs = allocate(count, sizeof *inputs);
    char *text = allocate(count, USER_SIZE);
    for (size_t i = 0; i < count; i++) {
        size_t number = random_below(ids * 2);
        char *user = text + i * USER_SIZE;
        snprintf(user, USER_SIZE, "user-%08u", (unsigned)(number % 100000000));
        inputs[i] = (struct input){user, number % 2 == 0, NULL};
    }
    return inputs;
}

static struct input *everybody(void) {
    struct input *inputs = allocate(PEOPLE, sizeof *inputs);
    for (size_t i = 0; i < PEOPLE; i++) {
        const struct person *p = &people[i];
        bool first = strcmp(p->tier, "premium") == 0 && strcmp(p->country, "DE") == 0;
        inputs[i] = (struct input){p->country, first || (p->age >= 18 && p->beta), p};
    }
    return inputs;
}

/* --- What a second thread adds, over what it adds to pure computing: as in benches/src/scaling.rs. */

struct thread_work {
    const flags_client *client;
    const struct input *inputs; /* NULL: compute */
    double duration_ns;
    pthread_barrier_t *together;
    double rate;
    bool right;
};

enum { SHARED_FLAGS = 1000 };

static void *work(void *argument) {
    struct thread_work *work = argument;
    size_t calls = 0;
    /* On this thread's own stack: what both threads write would share a cache line in `works`. */
    bool right = true;
    volatile uint64_t state = 1;
    pthread_barrier_wait(work->together);
    double start = now_ns(), time = 0;
    while (time < work->duration_ns) {
        for (size_t i = 0; i < SHARED_FLAGS; i++) {
            if (work->inputs != NULL)
                right &= read_key(work->client, &work->inputs[i]) == work->inputs[i].expected;
            else
                state = state * UINT64_C(0x5851F42D4C957F2D) + 1;
        }
        calls += SHARED_FLAGS;
        time = now_ns() - start;
    }
    work->rate = (double)calls / time;
    work->right = right;
    return NULL;
}

/* Calls a nanosecond of `count` threads, 1 or 2. */
static double rate(const flags_client *client, const struct input *inputs, double duration_ns, unsigned count) {
    pthread_barrier_t together;
    pthread_t threads[2];
    struct thread_work works[2];
    double sum = 0;
    pthread_barrier_init(&together, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        works[i] = (struct thread_work){client, inputs, duration_ns, &together, 0, false};
        if (pthread_create(&threads[i], NULL, work, &works[i]) != 0) fail("cannot start", "a thread");
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        if (!works[i].right) fail("wrong answer", "while two threads read");
        sum += works[i].rate;
    }
    pthread_barrier_destroy(&together);
    return sum;
}

static void measure_two_threads(const flags_client *client, double budget_ns) {
    enum { ROUNDS = 15 };
    struct input *inputs = static_inputs(SHARED_FLAGS);
    double samples[ROUNDS], duration_ns = budget_ns / 10 > 5e6 ? budget_ns / 10 : 5e6;
    size_t rounds = budget_ns < 1e8 ? 2 : ROUNDS;
    for (size_t i = 0; i < rounds; i++) {
        double alone = rate(client, inputs, duration_ns, 1) / rate(client, NULL, duration_ns, 1);
        samples[i] = rate(client, inputs, duration_ns, 2) / rate(client, NULL, duration_ns, 2) / alone;
    }
    qsort(samples, rounds, sizeof *samples, compare);
    /* Large is good. */
    printf("%.3f %.3f %.3f %zu\n", samples[rounds - 1], samples[rounds / 2], samples[(rounds - 1) / 100], rounds);
}

/* --- What evaluating allocates: this program's own malloc and the like count, and hand on to glibc's. */

static size_t allocations;

#ifdef __GLIBC__
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    allocations++;
    return __libc_realloc(memory, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    allocations++;
    *memory = __libc_memalign(alignment, size);
    return *memory == NULL ? ENOMEM : 0;
}
#endif

/* The least of some rounds: once a second a client looks whether its store is still where it was, which allocates. */
static size_t allocated(const flags_client *client, const struct input *inputs, size_t count, read_function read) {
    size_t least = SIZE_MAX;
    for (size_t round = 0; round < 20; round++) {
        size_t before = allocations;
        for (size_t i = 0; i < count; i++) {
            if (read(client, &inputs[i]) != inputs[i].expected) fail("wrong answer", inputs[i].text);
        }
        if (allocations - before < least) least = allocations - before;
    }
    return least;
}

static void measure_allocations(const flags_client *client) {
    size_t before = allocations;
    free(allocate(1, 1));
    if (allocations == before) fail("allocations are counted with glibc only", "");
    const struct input handle = {"", static_answer(1), NULL};
    size_t most = 0, each[] = {
        allocated(client, static_inputs(1000), 1000, read_key),
        allocated(client, &handle, 1, read_handle),
        allocated(client, everybody(), PEOPLE, read_two_levels),
        allocated(client, members(10000, 1000), 1000, read_written),
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        if (each[i] > most) most = each[i];
    }
    printf("%zu %zu %zu 1\n", most, most, most);
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
        for (size_t i = 0; i < 16; i++) inputs[i] = (struct input){"", static_answer(1), NULL};
        measure(client, inputs, 16, budget_ns, read_handle);
    } else if (strcmp(argv[1], "equality") == 0) {
        static const char *countries[] = {"DE", "FR", "DE", "US", "DE", "DE", "GB", "FR"};
        struct input inputs[8];
        for (size_t i = 0; i < 8; i++) inputs[i] = (struct input){countries[i], strcmp(countries[i], "DE") == 0, NULL};
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
    } else if (strcmp(argv[1], "two-levels") == 0) {
        measure(client, everybody(), PEOPLE, budget_ns, read_two_levels);
    } else if (strcmp(argv[1], "in-10k") == 0) {
        measure(client, members(10000, 1 << 14), 1 << 14, budget_ns, read_written);
    } else if (strcmp(argv[1], "in-10m") == 0) {
        measure(client, members(10000000, 1 << 20), 1 << 20, budget_ns, read_listed);
    } else if (strcmp(argv[1], "allocations") == 0) {
        measure_allocations(client);
    } else if (strcmp(argv[1], "two-threads") == 0) {
        measure_two_threads(client, budget_ns);
    } else {
        fail("no such row", argv[1]);
    }
    flags_close(client);
    return 0;
}
