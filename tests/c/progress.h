/* Threads that read without a pause, and what is told of them until standard input ends: tests/src/processes.rs. */

#ifndef PROGRESS_H
#define PROGRESS_H

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 16 };

/* Where a thread is. */
typedef struct place {
    pthread_t thread;
    atomic_uint_least64_t evaluations;
    atomic_uint_least64_t generation;
} place;

static place places[MAX_THREADS];

static inline void place_set(place *place, uint64_t evaluations, uint64_t generation)
{
    atomic_store(&place->evaluations, evaluations);
    atomic_store(&place->generation, generation);
}

/* `progress SLOWEST OLDEST TOTAL`: evaluations of the slowest thread, generation of the oldest, evaluations of all. */
static inline void progress_tell(int threads)
{
    uint64_t slowest = UINT64_MAX, oldest = UINT64_MAX, total = 0;
    for (int i = 0; i < threads; i++) {
        uint64_t evaluations = atomic_load(&places[i].evaluations), generation = atomic_load(&places[i].generation);
        slowest = evaluations < slowest ? evaluations : slowest;
        oldest = generation < oldest ? generation : oldest;
        total += evaluations;
    }
    printf("progress %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", slowest, oldest, total);
    fflush(stdout);
}

/* Starts the threads, each with its place, and tells of them. Comes back with NULL when standard input has ended, or with what failed. */
static inline const char *progress_run(int threads, void *(*read_on)(void *place))
{
    for (int i = 0; i < threads; i++)
        if (pthread_create(&places[i].thread, NULL, read_on, &places[i]) != 0)
            return "no thread";
    for (;;) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        int ready = poll(&input, 1, 5);
        if (ready > 0)
            return NULL; /* nothing is ever written there: it has ended */
        if (ready < 0 && errno != EINTR)
            return strerror(errno);
        progress_tell(threads);
    }
}

#endif
