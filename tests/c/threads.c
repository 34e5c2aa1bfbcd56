/* Many threads read while versions change under them: each answer is of one version, and none goes back. */

#include <flags.h>
#include <pthread.h>
#include <sched.h>

#include "publisher.h"

enum { THREADS = 4, UPDATES = 60 };

static flags_client *client;
static int done;

static void *reads(void *argument)
{
    static flags_ref on = FLAGS_REF_INIT("switch");
    long *count = argument;
    int64_t last = 0;
    flags_attribute attribute = flags_attribute_string("name", "value");
    flags_context context = FLAGS_CONTEXT_INIT("user-1", &attribute, 1);
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        int64_t number = flags_int(client, "number", &context, -1);
        CHECK(number >= last);
        last = number;
        flags_bool_ref(client, &on, &context, false);

        /* In one version the switch is on where the number is even. */
        flags_snapshot *snapshot = flags_snapshot_acquire(client);
        flags_result result = FLAGS_RESULT_INIT;
        CHECK_EQ(flags_evaluate(snapshot, "number", FLAGS_TYPE_INT, &context, &result), FLAGS_OK);
        CHECK(result.value.as.integer >= last);
        int64_t pinned = result.value.as.integer;
        CHECK_EQ(flags_evaluate(snapshot, "switch", FLAGS_TYPE_BOOL, &context, &result), FLAGS_OK);
        CHECK_EQ(result.value.as.boolean, pinned % 2 == 0);
        CHECK(result.variant.length == (pinned % 2 == 0 ? 2u : 3u));
        flags_snapshot_release(snapshot);

        char buf[8];
        CHECK_EQ(flags_string(client, "absent", NULL, "none", buf, sizeof buf), 4);
        ++*count;
    }
    return NULL;
}

int main(void)
{
    watchdog();
    publisher publisher = publisher_start("store");
    write_definition("flags.json", 1, 0);
    publisher_publish(&publisher, "flags.json");
    CHECK_EQ(flags_open("store", NULL, &client), FLAGS_OK);

    pthread_t threads[THREADS];
    long counts[THREADS] = { 0 };
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, reads, &counts[i]) == 0);
    for (int number = 1; number <= UPDATES; number++) {
        write_definition("flags.json", number % 2 == 0, number);
        publisher_publish(&publisher, "flags.json");
        /* While one thread takes the new version in, the others go on with the one before. */
        while (flags_int(client, "number", NULL, -1) < number)
            sched_yield();
        CHECK_EQ(flags_int(client, "number", NULL, -1), number);
        CHECK_EQ(flags_bool(client, "switch", NULL, number % 2 != 0), number % 2 == 0);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(counts[i] > 0);
    }

    flags_client_status status = FLAGS_CLIENT_STATUS_INIT;
    CHECK_EQ(flags_get_status(client, &status), FLAGS_OK);
    CHECK(status.generation > UPDATES && status.generations_mapped <= 2 && status.state == FLAGS_STATE_FRESH);
    CHECK(strcmp(status.problem, "") == 0 && status.published_at_ns > 1600000000000000000ull);

    /* Without its publisher the client goes on. */
    publisher_kill(&publisher);
    CHECK_EQ(flags_int(client, "number", NULL, -1), UPDATES);
    publisher = publisher_start("store");
    write_definition("flags.json", 0, UPDATES + 1);
    publisher_publish(&publisher, "flags.json");
    CHECK_EQ(flags_int(client, "number", NULL, -1), UPDATES + 1);
    flags_close(client);
    publisher_end(&publisher);
    return 0;
}
