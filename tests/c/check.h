/* What the C and C++ tests share: checks that stop the program, a watchdog, and the harness's paths. */

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Stops the program where `condition` does not hold. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: does not hold: %s\n", __FILE__, __LINE__, __func__, #condition); \
            abort(); \
        } \
    } while (0)

/* Like CHECK for two numbers, and shows them. */
#define CHECK_EQ(left, right) \
    do { \
        long long left_ = (long long)(left), right_ = (long long)(right); \
        if (left_ != right_) { \
            fprintf(stderr, "%s:%d: %s: %s is %lld, %s is %lld\n", __FILE__, __LINE__, __func__, #left, left_, #right, \
                    right_); \
            abort(); \
        } \
    } while (0)

/* A program that hangs is ended by a signal after so long, on however slow a machine. */
static inline void watchdog(void)
{
    alarm(300);
}

/* A path that the harness passes. */
static inline const char *given(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "run me through `cargo test -p libflags-tests --test c_programs`: %s is not set\n", name);
        exit(2);
    }
    return value;
}

#endif
