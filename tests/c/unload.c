/* dlopen, use from threads, dlclose while they still live, and only then their end. */

#include <dlfcn.h>
#include <flags.h>
#include <pthread.h>

#include "check.h"

enum { THREADS = 4, ROUNDS = 5 };

static pthread_barrier_t used, closed;

static struct {
    flags_status (*open_file)(const char *, flags_client **);
    void (*close)(flags_client *);
    bool (*get_bool)(const flags_client *, const char *, const flags_context *, bool);
    bool (*get_bool_ref)(const flags_client *, flags_ref *, const flags_context *, bool);
    const char *(*last_error)(void);
} library;

static flags_client *client;
static flags_ref on = FLAGS_REF_INIT("on");

static void *uses(void *argument)
{
    (void)argument;
    flags_client *none;
    CHECK(library.get_bool(client, "on", NULL, false));
    CHECK(library.get_bool_ref(client, &on, NULL, false));
    /* The words live in this thread's own memory, which is freed at its end. */
    CHECK_EQ(library.open_file(NULL, &none), FLAGS_INVALID_ARGUMENT);
    CHECK(strlen(library.last_error()) > 0);
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    return NULL;
}

static void find(void *handle, const char *name, void *function)
{
    void *symbol = dlsym(handle, name);
    CHECK(symbol != NULL);
    memcpy(function, &symbol, sizeof symbol);
}

int main(void)
{
    watchdog();
    CHECK(pthread_barrier_init(&used, NULL, THREADS + 1) == 0);
    CHECK(pthread_barrier_init(&closed, NULL, THREADS + 1) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        void *handle = dlopen(given("FLAGS_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL)
            fprintf(stderr, "%s\n", dlerror());
        CHECK(handle != NULL);
        find(handle, "flags_open_file", &library.open_file);
        find(handle, "flags_close", &library.close);
        find(handle, "flags_bool", &library.get_bool);
        find(handle, "flags_bool_ref", &library.get_bool_ref);
        find(handle, "flags_last_error", &library.last_error);
        CHECK_EQ(library.open_file(given("FLAGS_DEFINITION"), &client), FLAGS_OK);

        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, uses, NULL) == 0);
        pthread_barrier_wait(&used);
        CHECK(library.get_bool(client, "on", NULL, false));
        library.close(client);
        CHECK(dlclose(handle) == 0);
        pthread_barrier_wait(&closed);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
    }
    return 0;
}
