/* fork() in the middle of updates, with threads reading: children keep answering and see what comes after. */

#include <flags.h>
#include <pthread.h>

#include "publisher.h"

enum { CHILDREN = 12 };

static flags_client *client;
static int done;
static flags_ref on = FLAGS_REF_INIT("switch");

static void *reads(void *argument)
{
    (void)argument;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        CHECK(flags_int(client, "number", NULL, -1) >= 0);
        flags_bool_ref(client, &on, NULL, false);
    }
    return NULL;
}

/* Reads until the number is `last`; then answers from a snapshot that came with the fork. */
static void child(int64_t last, flags_snapshot *inherited, int64_t pinned)
{
    watchdog();
    int64_t seen = 0;
    while (seen < last) {
        int64_t number = flags_int(client, "number", NULL, -1);
        CHECK(number >= seen);
        seen = number;
        CHECK_EQ(flags_bool(client, "absent", NULL, true), 1);
        flags_bool_ref(client, &on, NULL, false);
    }
    CHECK_EQ(flags_bool_ref(client, &on, NULL, last % 2 != 0), last % 2 == 0);

    flags_result result = FLAGS_RESULT_INIT;
    CHECK_EQ(flags_evaluate(inherited, "number", FLAGS_TYPE_INT, NULL, &result), FLAGS_OK);
    CHECK_EQ(result.value.as.integer, pinned);
    flags_snapshot_release(inherited);
    flags_close(client);
    /* Not by exit: a checker for leaks would find what the threads that this process doesn't have were holding. */
    kill(getpid(), SIGKILL);
}

int main(void)
{
    watchdog();
    publisher publisher = publisher_start("store");
    write_definition("flags.json", 1, 0);
    publisher_publish(&publisher, "flags.json");
    CHECK_EQ(flags_open("store", NULL, &client), FLAGS_OK);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, reads, NULL) == 0);

    const int last = CHILDREN * 3;
    pid_t children[CHILDREN];
    for (int number = 1; number <= last; number++) {
        char command[64];
        write_definition("flags.json", number % 2 == 0, number);
        if (number % 3 != 1) {
            publisher_publish(&publisher, "flags.json");
            continue;
        }
        /* The fork falls somewhere between the command and its answer. */
        flags_snapshot *snapshot = flags_snapshot_acquire(client);
        flags_result result = FLAGS_RESULT_INIT;
        CHECK_EQ(flags_evaluate(snapshot, "number", FLAGS_TYPE_INT, NULL, &result), FLAGS_OK);
        fprintf(publisher.to, "publish flags.json\n");
        fflush(publisher.to);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            child(last, snapshot, result.value.as.integer);
        children[number / 3] = pid;
        CHECK(fgets(command, sizeof command, publisher.from) != NULL && strncmp(command, "ok", 2) == 0);
        flags_snapshot_release(snapshot);
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQ(flags_int(client, "number", NULL, -1), last);
    flags_close(client);
    publisher_end(&publisher);
    return 0;
}
