/* A client that is opened before there is a store answers fallbacks, and attaches by itself when one appears. */

#include <flags.h>
#include <time.h>

#include "publisher.h"

static void nap(void)
{
    const struct timespec millisecond = { 0, 1000000 };
    nanosleep(&millisecond, NULL);
}

int main(void)
{
    watchdog();
    flags_options options = FLAGS_OPTIONS_INIT;
    options.wait = false;
    flags_client *client = NULL;
    CHECK_EQ(flags_open("store", &options, &client), FLAGS_OK);
    static flags_ref on = FLAGS_REF_INIT("switch");
    CHECK(flags_bool(client, "switch", NULL, true) && !flags_bool(client, "switch", NULL, false));
    CHECK(flags_bool_ref(client, &on, NULL, true) && !flags_bool_ref(client, &on, NULL, false));
    flags_client_status status = FLAGS_CLIENT_STATUS_INIT;
    CHECK_EQ(flags_get_status(client, &status), FLAGS_OK);
    CHECK(status.state == FLAGS_STATE_DETACHED && status.generation == 0);
    CHECK(strstr(status.problem, "store") != NULL);

    /* One that must be there, and is not, within a time. */
    flags_client *other = NULL;
    options.wait = true;
    options.timeout_ms = 30;
    CHECK_EQ(flags_open("store", &options, &other), FLAGS_NO_STORE);

    /* A store with nothing in it is none yet. */
    publisher publisher = publisher_start("store");
    publisher_say(&publisher, "heartbeat");
    CHECK_EQ(flags_open("store", NULL, &other), FLAGS_NOTHING_PUBLISHED);
    CHECK(other == NULL);

    write_definition("flags.json", 1, 7);
    publisher_publish(&publisher, "flags.json");
    while (!flags_bool_ref(client, &on, NULL, false))
        nap();
    CHECK(flags_bool(client, "switch", NULL, false));
    CHECK_EQ(flags_int(client, "number", NULL, -1), 7);
    CHECK_EQ(flags_get_status(client, &status), FLAGS_OK);
    CHECK(status.state == FLAGS_STATE_FRESH && status.generation > 0 && status.daemon_alive);
    publisher_say(&publisher, "confirm");
    CHECK_EQ(flags_get_status(client, &status), FLAGS_OK);
    CHECK(status.confirmed_at_ns > 0);

    options.timeout_ms = 60000;
    CHECK_EQ(flags_open("store", &options, &other), FLAGS_OK);
    flags_close(other);
    CHECK(setenv("FLAGS_STORE", "store", 1) == 0);
    CHECK_EQ(flags_open(NULL, NULL, &other), FLAGS_OK);
    CHECK(flags_bool(other, "switch", NULL, false));
    flags_close(other);
    flags_close(client);
    publisher_end(&publisher);
    return 0;
}
