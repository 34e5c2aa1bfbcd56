/* A publisher in a process of its own, driven through two pipes: tests/src/bin/flags-publish.rs. */

#ifndef PUBLISHER_H
#define PUBLISHER_H

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "check.h"

typedef struct publisher {
    pid_t pid;
    FILE *to;
    FILE *from;
} publisher;

/* Starts a publisher for the store in the directory `store`, which it makes. */
static inline publisher publisher_start(const char *store)
{
    int in[2], out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    publisher publisher;
    publisher.pid = fork();
    CHECK(publisher.pid >= 0);
    if (publisher.pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[0]);
        close(in[1]);
        close(out[0]);
        close(out[1]);
        execl(given("FLAGS_PUBLISH"), "flags-publish", store, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    publisher.to = fdopen(in[1], "w");
    publisher.from = fdopen(out[0], "r");
    CHECK(publisher.to != NULL && publisher.from != NULL);
    return publisher;
}

/* Sends a command and waits for its answer, which must begin with "ok". */
static inline void publisher_say(publisher *publisher, const char *command)
{
    char answer[512];
    fprintf(publisher->to, "%s\n", command);
    fflush(publisher->to);
    if (fgets(answer, sizeof answer, publisher->from) == NULL || strncmp(answer, "ok", 2) != 0) {
        fprintf(stderr, "the publisher answers \"%s\" with: %s\n", command, answer);
        abort();
    }
}

/* Publishes the definition file `path`. */
static inline void publisher_publish(publisher *publisher, const char *path)
{
    char command[4096];
    snprintf(command, sizeof command, "publish %s", path);
    publisher_say(publisher, command);
}

/* Ends the publisher in order. */
static inline void publisher_end(publisher *publisher)
{
    int status;
    publisher_say(publisher, "exit");
    fclose(publisher->to);
    fclose(publisher->from);
    CHECK(waitpid(publisher->pid, &status, 0) == publisher->pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Ends the publisher with SIGKILL. */
static inline void publisher_kill(publisher *publisher)
{
    kill(publisher->pid, SIGKILL);
    CHECK(waitpid(publisher->pid, NULL, 0) == publisher->pid);
    fclose(publisher->to);
    fclose(publisher->from);
}

/* Writes a definition with one boolean flag "switch", and one number flag "number". */
static inline void write_definition(const char *path, int on, int number)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fprintf(file,
            "{\"flags\": {\"switch\": {\"state\": \"ENABLED\", \"variants\": {\"on\": true, \"off\": false}, "
            "\"defaultVariant\": \"%s\"}, \"number\": {\"state\": \"ENABLED\", \"variants\": {\"n\": %d}, "
            "\"defaultVariant\": \"n\"}}}\n",
            on ? "on" : "off", number);
    CHECK(fclose(file) == 0);
}

#endif
