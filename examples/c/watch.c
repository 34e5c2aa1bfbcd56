/* Checks two flags a thousand times a second and says when an answer changes.
 *
 * The store is the one in $FLAGS_STORE, or the host's own. */
#include <flags.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

int main(void) {
    flags_client *client;
    if (flags_open(NULL, NULL, &client) != FLAGS_OK) {
        fprintf(stderr, "watch: %s\n", flags_last_error());
        return 1;
    }
    flags_attribute country = flags_attribute_string("country", "DE");
    flags_context context = FLAGS_CONTEXT_INIT("user-1", &country, 1);

    const struct timespec pause = {0, 1000000};
    char seen[128] = "";
    for (unsigned long checks = 1;; checks++) {
        char greeting[64], answers[128];
        bool checkout = flags_bool(client, "new-checkout", &context, false);
        flags_string(client, "greeting", &context, "?", greeting, sizeof greeting);
        snprintf(answers, sizeof answers, "new-checkout=%s greeting=%s", checkout ? "true" : "false", greeting);
        if (strcmp(answers, seen) != 0) {
            puts(answers);
            strcpy(seen, answers);
        }
        if (checks % 100 == 0) printf("checks %lu\n", checks);
        fflush(stdout);
        nanosleep(&pause, NULL);
    }
}
