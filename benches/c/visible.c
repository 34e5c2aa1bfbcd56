/* When a change is seen by a program in C. Started by libflags-benches:
 *
 *     visible STORE
 *
 * says `ready`; for each line `KEY 0` or `KEY 1` of its input, or `KEY 1 TARGETING-KEY`, it asks for the flag every 50 microseconds until that
 * is the answer, and prints when that was, in nanoseconds since 1970. Where it does not come it gives up. */
#define FLAGS_BENCH_PAUSE_NS 50000
#define FLAGS_BENCH_PATIENCE_S 120
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flags.h"

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "visible: %s: %s\n", what, detail);
    exit(1);
}

int main(int argc, char **argv) {
    flags_client *client = NULL;
    char line[256];
    if (argc != 2) fail("usage", "visible STORE");
    if (flags_open(argv[1], NULL, &client) != FLAGS_OK) fail("cannot open", flags_last_error());
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *space = strchr(line, ' ');
        if (space == NULL) fail("not a question", line);
        *space = '\0';
        bool wanted = space[1] == '1';
        char *user = space[2] == ' ' ? space + 3 : NULL;
        if (user != NULL) user[strcspn(user, "\n")] = '\0';
        const flags_context context = FLAGS_CONTEXT_INIT(user, NULL, 0);
        struct timespec pause = {0, FLAGS_BENCH_PAUSE_NS}, now;
        time_t end = time(NULL) + FLAGS_BENCH_PATIENCE_S;
        while (flags_bool(client, line, &context, !wanted) != wanted) {
            if (time(NULL) > end) fail("no such answer of", line);
            nanosleep(&pause, NULL);
        }
        clock_gettime(CLOCK_REALTIME, &now);
        printf("%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
        fflush(stdout);
    }
    flags_close(client);
    return 0;
}
