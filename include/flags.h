/*
 * flags.h - feature flags read from shared memory, for C11 and C++.
 *
 * Made from the sources in ffi/ by `cargo xtask gen header`. Do not edit.
 *
 * A daemon, flagsd, publishes the flags of a host in a memory-mapped file. A client reads that memory: a check takes
 * nanoseconds, makes no system call and starts no thread, and a changed flag shows at the next check.
 *
 * Example
 *
 *     #include <stdio.h>
 *     #include <flags.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         flags_client *client;
 *         flags_status status = argc > 1 ? flags_open_file(argv[1], &client) : flags_open(NULL, NULL, &client);
 *         if (status != FLAGS_OK) {
 *             fprintf(stderr, "%s: %s\n", flags_status_text(status), flags_last_error());
 *             return 1;
 *         }
 *
 *         const flags_attribute attributes[] = {
 *             flags_attribute_string("tier", "premium"),
 *             flags_attribute_int("age", 42),
 *         };
 *         const flags_context context = FLAGS_CONTEXT_INIT("user-1", attributes, 2);
 *
 *         if (flags_bool(client, "new-checkout", &context, false))
 *             puts("the new checkout");
 *
 *         char colour[32];
 *         flags_string(client, "button-colour", &context, "blue", colour, sizeof colour);
 *         printf("a %s button\n", colour);
 *
 *         static flags_ref dark_mode = FLAGS_REF_INIT("dark-mode");
 *         if (flags_bool_ref(client, &dark_mode, &context, false))
 *             puts("in the dark");
 *
 *         flags_close(client);
 *         return 0;
 *     }
 *
 * Compile it with `cc example.c $(pkg-config --cflags --libs flags)`.
 *
 * What holds for all functions
 *
 *   Threads   Any number of threads may use one client, one snapshot and one flags_ref at once. Only releasing one is the
 *             business of a single thread, when no other uses it any more.
 *   Fork      A child goes on with the client it inherited, and sees new versions. A client opened before fork() is
 *             released in each process on its own.
 *   Errors    A function returning flags_status writes its outputs only on FLAGS_OK. Evaluations do not fail: they give
 *             the fallback.
 *   NULL      NULL where it makes no sense gives the fallback, or FLAGS_INVALID_ARGUMENT; it never crashes.
 *   Text      Is UTF-8. What goes in is NUL-terminated or has a length; what comes out as flags_text has a length and no
 *             NUL. Attributes that are not UTF-8 compare as the bytes they are.
 *   Structs   Those that begin with struct_size say which version of them the caller was compiled with, so that they
 *             can grow. Set it with their FLAGS_..._INIT.
 *   Signals   Nothing here may be called from a signal handler. No content of a store or a definition makes a signal.
 */

#ifndef FLAGS_H
#define FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct flags_value flags_value;
typedef struct flags_attribute flags_attribute;

/**
 * The version of the interface that this header describes. It grows by one with each release that adds to it.
 *
 * A program compiled with this header runs with every `libflags.so.0` whose `flags_abi_version()` is at least this number.
 */
#define FLAGS_ABI_VERSION 2

/**
 * What a function that can fail returns. Numbers are never reused; a later library may return ones that this header does
 * not name, so treat everything but `FLAGS_OK` as a failure. `flags_last_error()` tells the particulars.
 */
typedef enum flags_status {
    /** It worked. */
    FLAGS_OK = 0,
    /** An argument cannot be: NULL where it must not be, an unknown number, an impossible `struct_size`. */
    FLAGS_INVALID_ARGUMENT = 1,
    /** There is no store in any of the places where one is looked for, which `flags_last_error()` names. */
    FLAGS_NO_STORE = 2,
    /** There is a store, but nothing has been published in it yet. */
    FLAGS_NOTHING_PUBLISHED = 3,
    /** A file of the store belongs to somebody, or may be written by somebody, who is not to be trusted. */
    FLAGS_UNTRUSTED = 4,
    /** A file of the store is torn, cut short or altered. */
    FLAGS_CORRUPT = 5,
    /** There is a store, in a format that this library does not know. */
    FLAGS_UNKNOWN_FORMAT = 6,
    /** The system refused something: a file that cannot be read, too many open files, no memory to map. */
    FLAGS_IO = 7,
    /** A flag definition that cannot be used at all; `flags_last_error()` says where and why. */
    FLAGS_DEFINITION = 8,
    /** There is nothing at this place: `flags_snapshot_metadata` beyond the last entry. */
    FLAGS_NOT_FOUND = 9,
    /** A defect of this library, contained. Please report it. */
    FLAGS_INTERNAL = 10,
} flags_status;

/** What a `flags_value` holds, and what `flags_evaluate` is asked for. */
typedef enum flags_type {
    /**
     * In a context: null, as if the attribute were absent. Asked for: whatever type the flag has. In an answer: no value,
     * the caller's own default stands.
     */
    FLAGS_TYPE_NONE = 0,
    /** `as.boolean`. */
    FLAGS_TYPE_BOOL = 1,
    /** `as.integer`. Asked for: a number flag whose value is whole. */
    FLAGS_TYPE_INT = 2,
    /** `as.number`. */
    FLAGS_TYPE_DOUBLE = 3,
    /** `as.string`. */
    FLAGS_TYPE_STRING = 4,
    /** Only in answers and asked for: `as.string` holds the compact JSON text of an object or array. */
    FLAGS_TYPE_JSON = 5,
    /** Only in a context: `as.list`. */
    FLAGS_TYPE_LIST = 6,
    /** Only in a context: `as.object`. */
    FLAGS_TYPE_OBJECT = 7,
} flags_type;

/** What a store says of itself. A later library may answer ones that this header does not name. */
typedef enum flags_state {
    /** There is no store yet: every answer is the fallback. */
    FLAGS_STATE_DETACHED = 0,
    /** The flags are as their source has them, as far as is known. */
    FLAGS_STATE_FRESH = 1,
    /**
     * The source has not confirmed the flags for longer than it promised to, or a newer version was refused; the last good
     * one answers.
     */
    FLAGS_STATE_STALE = 2,
    /** The operator has stopped changes. */
    FLAGS_STATE_FROZEN = 3,
} flags_state;

/**
 * Why a flag has the value it has, in OpenFeature's terms. A later library may answer ones that this header does not name.
 */
typedef enum flags_reason {
    /** The flag has no targeting: everybody gets its default variant. */
    FLAGS_REASON_STATIC = 1,
    /** Targeting chose no variant, or there is no default variant and the caller's value stands. */
    FLAGS_REASON_DEFAULT = 2,
    /** Targeting chose the variant. */
    FLAGS_REASON_TARGETING_MATCH = 3,
    /** The flag is disabled; the caller's value stands. */
    FLAGS_REASON_DISABLED = 4,
    /** Something is wrong; the error says what, and the caller's value stands. */
    FLAGS_REASON_ERROR = 5,
} flags_reason;

/**
 * What is wrong with an evaluation, in OpenFeature's terms. A later library may answer ones that this header does not name.
 */
typedef enum flags_error {
    /** Nothing. */
    FLAGS_ERROR_NONE = 0,
    /** No flag has this key. */
    FLAGS_ERROR_FLAG_NOT_FOUND = 1,
    /** The flag's value is not of the type that was asked for. */
    FLAGS_ERROR_TYPE_MISMATCH = 2,
    /** The flag's definition is broken, or its rule gave NaN or infinity. */
    FLAGS_ERROR_PARSE_ERROR = 3,
    /** The rule's result names no variant, or the rule needs more memory or steps than an evaluation may take. */
    FLAGS_ERROR_GENERAL = 4,
    /** There is no store yet. */
    FLAGS_ERROR_PROVIDER_NOT_READY = 5,
    /** The context cannot be read. */
    FLAGS_ERROR_INVALID_CONTEXT = 6,
} flags_error;

/**
 * A reader of one store, or of one definition file. One serves a whole process: any number of threads at once, and
 * children after `fork()`.
 *
 * It begins with what `flags_bool_ref()` reads without a call.
 */
typedef struct flags_client flags_client;

/** One version of the flags: every read from it is of that version, whatever is published meanwhile. */
typedef struct flags_snapshot flags_snapshot;

/**
 * How `flags_open` opens a store. Start from `FLAGS_OPTIONS_INIT`, so that fields of later versions have their defaults.
 *
 * Copied by `flags_open`: nothing of it needs to outlive the call.
 */
typedef struct flags_options {
    /** `sizeof(flags_options)`. */
    size_t struct_size;
    /**
     * Whether a store must be there: with `true` (so `FLAGS_OPTIONS_INIT`, and NULL for the options) `flags_open` returns
     * `FLAGS_NO_STORE` where there is none, at once or after `timeout_ms`. With `false` it returns a client at once, which
     * answers fallbacks until a store appears and attaches to it by itself.
     */
    bool wait;
    /** With `wait`: for how many milliseconds to look for a store before giving up. 0 is to look once. */
    uint32_t timeout_ms;
    /**
     * Which flags of the store are seen: "flagSetId=checkout" for those of a flag set, "flagSetId=" for those in none; NULL
     * for all. NUL-terminated UTF-8.
     */
    const char *selector;
} flags_options;

/**
 * Text: `length` bytes at `data`, usually UTF-8. Not NUL-terminated unless said otherwise. `data` may be NULL where
 * `length` is 0.
 *
 * Print one with `printf("%.*s", (int)text.length, text.data)`.
 */
typedef struct flags_text {
    /** The first byte. */
    const char *data;
    /** How many bytes. */
    size_t length;
} flags_text;

/** An ordered list of `count` values. */
typedef struct flags_list {
    /** The first value. */
    const flags_value *items;
    /** How many. */
    size_t count;
} flags_list;

/** `count` named values. Of two with one name the first counts. */
typedef struct flags_object {
    /** The first member. */
    const flags_attribute *members;
    /** How many. */
    size_t count;
} flags_object;

/** What a `flags_value` holds; its `type` says which member. */
typedef union flags_payload {
    /** `FLAGS_TYPE_BOOL`. */
    bool boolean;
    /** `FLAGS_TYPE_INT`. Rules compute in doubles: beyond 2^53 a comparison may round. */
    int64_t integer;
    /** `FLAGS_TYPE_DOUBLE`. */
    double number;
    /** `FLAGS_TYPE_STRING` and `FLAGS_TYPE_JSON`. */
    flags_text string;
    /** `FLAGS_TYPE_LIST`. */
    flags_list list;
    /** `FLAGS_TYPE_OBJECT`. */
    flags_object object;
} flags_payload;

/**
 * A typed value.
 *
 * In a context it borrows: what it points to must stay unchanged while a function of this library reads it, and is never
 * kept beyond that call. A value that cannot be (an unknown type, NULL with a length, a length beyond the address space)
 * reads as null. Nesting is as deep as you like.
 */
typedef struct flags_value {
    /** Which member of `as` counts. */
    flags_type type;
    /** The value. */
    flags_payload as;
} flags_value;

/** A named value of a context or of an object. */
typedef struct flags_attribute {
    /** The name, usually UTF-8. An attribute whose name is NULL is skipped. */
    const char *name;
    /** How many bytes the name has, or 0 where it ends with a NUL. */
    size_t name_length;
    /** The value. */
    flags_value value;
} flags_attribute;

/**
 * Who is asking: on the caller's stack, usually, and only what a rule needs of it is read.
 *
 * Set `struct_size` to `sizeof(flags_context)` (`FLAGS_CONTEXT_INIT` does) and leave what you don't use zero. The context
 * and all it points to must stay unchanged during a call, and is never kept beyond it. NULL stands for an empty context.
 *
 * A context that cannot be (an impossible `struct_size`, `attributes` NULL with a `count`) makes the `flags_bool` family
 * answer the fallback, and `flags_evaluate` answer `FLAGS_ERROR_INVALID_CONTEXT`.
 */
typedef struct flags_context {
    /** `sizeof(flags_context)`. */
    size_t struct_size;
    /** Who or what the flag is decided for, usually a user's or session's id; NULL where there is none. */
    const char *targeting_key;
    /** Everything else that is known, `count` of them. No attribute stands in for `targetingKey` or `$flagd`. */
    const flags_attribute *attributes;
    /** How many attributes. */
    size_t count;
    /** How many bytes the targeting key has, or 0 where it ends with a NUL. */
    size_t targeting_key_length;
} flags_context;

/**
 * How fresh a client's flags are. Set `struct_size` to `sizeof(flags_client_status)` (`FLAGS_CLIENT_STATUS_INIT` does).
 */
typedef struct flags_client_status {
    /** `sizeof(flags_client_status)`. */
    size_t struct_size;
    /** The version in use; it grows with each change. 0 while there is none. */
    uint64_t generation;
    /** What the source calls that version; 0 where it has no numbers. */
    uint64_t revision;
    /** When it was published, in nanoseconds since 1970-01-01T00:00:00Z. */
    uint64_t published_at_ns;
    /** When the source last confirmed it, in nanoseconds since 1970-01-01T00:00:00Z; 0 for never. */
    uint64_t confirmed_at_ns;
    /** For how long it has not been confirmed (since it was published, where it never was), in nanoseconds. */
    uint64_t age_ns;
    /** The age at which it counts as stale, in nanoseconds; 0 for never. */
    uint64_t max_age_ns;
    /**
     * How many versions this process holds in memory for this client: the current one, and those that are still in use.
     */
    uint64_t generations_mapped;
    /** How far it can be relied on to be current. */
    flags_state state;
    /**
     * Whether the daemon that publishes the store has shown a sign of life lately. Flags answer without it just as well.
     */
    bool daemon_alive;
    /**
     * Why the newest version, or the store, could not be used; "" when all is well. NUL-terminated, cut off where it has no
     * room.
     */
    char problem[256];
} flags_client_status;

/**
 * A flag that is looked up once for each version of the flags instead of once for each call. Make it static:
 *
 *     static flags_ref new_checkout = FLAGS_REF_INIT("new-checkout");
 *
 * Shared by all threads; needs no release. Used with a second client it is right as well, only slower. It must not be copied
 * or moved while in use, nor kept for a library that is unloaded and loaded again; children after `fork()` have their own.
 */
typedef struct flags_ref {
    /** The flag's key, for as long as the `flags_ref` is used. */
    const char *key;
    /** How many bytes the key has, or 0 where it ends with a NUL. */
    size_t key_length;
    /** The library's own; zero at first. */
    uint64_t cache[4];
} flags_ref;

/**
 * An entry of a flag's metadata. Set `struct_size` to `sizeof(flags_metadata)` (`FLAGS_METADATA_INIT` does).
 *
 * Texts in it are not NUL-terminated and live in the snapshot: until `flags_snapshot_release()`.
 */
typedef struct flags_metadata {
    /** `sizeof(flags_metadata)`. */
    size_t struct_size;
    /** What it is called, such as "owner". */
    flags_text name;
    /** A `FLAGS_TYPE_BOOL`, `FLAGS_TYPE_DOUBLE` or `FLAGS_TYPE_STRING`. */
    flags_value value;
} flags_metadata;

/**
 * What `flags_evaluate` answers. Set `struct_size` to `sizeof(flags_result)` (`FLAGS_RESULT_INIT` does).
 *
 * Texts in it are not NUL-terminated and live in the snapshot: until `flags_snapshot_release()`.
 */
typedef struct flags_result {
    /** `sizeof(flags_result)`. */
    size_t struct_size;
    /**
     * The value; its type is `FLAGS_TYPE_NONE` where the caller's own default stands. A number flag asked for as
     * `FLAGS_TYPE_NONE` is a `FLAGS_TYPE_DOUBLE`.
     */
    flags_value value;
    /** The name of the variant; `data` is NULL where there is none. */
    flags_text variant;
    /** Why. */
    flags_reason reason;
    /** What is wrong, where `reason` is `FLAGS_REASON_ERROR`; else `FLAGS_ERROR_NONE`. */
    flags_error error;
} flags_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Opens the store in the directory `store`, or, where that is NULL, the first there is of `$FLAGS_STORE`,
 * `/run/flags/default`, `$XDG_RUNTIME_DIR/flags/default` and `/dev/shm/flags-<uid>/default`.
 *
 * `options` may be NULL. On `FLAGS_OK` `*out` is a client that you release with `flags_close()`; otherwise `*out` is
 * untouched and `flags_last_error()` says what is wrong: `FLAGS_NO_STORE` (it names the paths tried),
 * `FLAGS_NOTHING_PUBLISHED`, `FLAGS_UNTRUSTED`, `FLAGS_CORRUPT`, `FLAGS_UNKNOWN_FORMAT`, `FLAGS_IO`, and
 * `FLAGS_INVALID_ARGUMENT` for a NULL `out` or options that cannot be. Blocks for no longer than `options->timeout_ms`,
 * starts no thread. Any thread.
 */
flags_status flags_open(const char *store, const flags_options *options, flags_client **out);

/**
 * Compiles the flag definition in the file `definition_path` (JSON, or YAML by its ending) in this process: no daemon and
 * no store are needed, for tests and tools. The file is read once.
 *
 * On `FLAGS_OK` `*out` is a client that you release with `flags_close()`; otherwise `*out` is untouched and
 * `flags_last_error()` says what is wrong: `FLAGS_IO` where the file cannot be read, `FLAGS_DEFINITION` where nothing in it
 * can be used, `FLAGS_INVALID_ARGUMENT` for a NULL argument. A flag that is broken by itself does not fail the file: it
 * answers `FLAGS_ERROR_PARSE_ERROR`. Any thread.
 */
flags_status flags_open_file(const char *definition_path, flags_client **out);

/**
 * Releases a client. NULL is fine.
 *
 * No other call with this client may be running or come later. Snapshots acquired from it stay good.
 */
void flags_close(flags_client *client);

/**
 * The value of a boolean flag for a context.
 *
 * Never fails: `fallback` is the answer where the client is NULL or has no store yet, `key` is NULL or names no flag (a key
 * that is not UTF-8 never does), the flag is disabled, of another type or broken, or the context cannot be.
 * `flags_evaluate()` tells which. `context` may be NULL. Any number of threads at once; takes no lock, allocates nothing,
 * and makes no system call but when a new version of the flags has arrived.
 */
bool flags_bool(const flags_client *client, const char *key, const flags_context *context, bool fallback);

/** The value of a number flag for a context, where it is whole; all else as `flags_bool()`. */
int64_t flags_int(const flags_client *client, const char *key, const flags_context *context, int64_t fallback);

/** The value of a number flag for a context; all else as `flags_bool()`. */
double flags_double(const flags_client *client, const char *key, const flags_context *context, double fallback);

/**
 * The value of a string flag for a context, copied into `buf`.
 *
 * Returns how many bytes the whole value has, its NUL not counted, whatever there was room for; as with `snprintf`, a
 * return value of `cap` or more means that it was cut off. With a `cap` above 0 what is written always ends with a NUL, and
 * is never cut inside a UTF-8 character. `buf` may be NULL where `cap` is 0, to ask for the length; the flag may change
 * before the second call. A NULL `fallback` counts as "". `fallback` may lie in `buf`.
 *
 * Never fails; when the answer is the fallback, and all else, as `flags_bool()`. To read without a copy, see
 * `flags_evaluate()`.
 */
size_t flags_string(
    const flags_client *client,
    const char *key,
    const flags_context *context,
    const char *fallback,
    char *buf,
    size_t cap);

/**
 * The value of an object flag for a context, as compact JSON text such as `{"a":[1,2]}`, copied into `buf`; all else as
 * `flags_string()`. `fallback` is copied as it is, JSON or not.
 */
size_t flags_json(
    const flags_client *client,
    const char *key,
    const flags_context *context,
    const char *fallback,
    char *buf,
    size_t cap);

/**
 * How fresh a client's flags are, at this moment.
 *
 * `FLAGS_INVALID_ARGUMENT` for a NULL `client` or `out`, or an impossible `out->struct_size`; only then is `*out` untouched.
 * Any number of threads at once. Not for a hot path: it may look at files.
 */
flags_status flags_get_status(const flags_client *client, flags_client_status *out);

/**
 * The value of the boolean flag that `ref` stands for. `fallback` where `ref` is NULL; all else as `flags_bool()`.
 *
 * With GCC and Clang this is an inline function (see the end of this header) that answers without a call where the flag is known to be the same for
 * everybody; define `FLAGS_NO_INLINE` before including the header to do without.
 */
bool flags_bool_ref(const flags_client *client, flags_ref *ref, const flags_context *context, bool fallback);

/** What the inline `flags_bool_ref()` calls where it cannot answer by itself. Not for programs. */
bool flags_bool_ref_slow(const flags_client *client, flags_ref *ref, const flags_context *context, bool fallback);

/**
 * The metadata of a flag, entry by entry: the flag set's, overlaid by the flag's own, in no particular order. A key that
 * names no flag has the flag set's.
 *
 *     flags_metadata entry = FLAGS_METADATA_INIT;
 *     for (size_t i = 0; flags_snapshot_metadata(snapshot, "new-checkout", i, &entry) == FLAGS_OK; i++) { ... }
 *
 * `FLAGS_NOT_FOUND` at and beyond the last; `FLAGS_INVALID_ARGUMENT` for a NULL argument or an impossible `struct_size`.
 * `*out` is written only on `FLAGS_OK`. Any number of threads at once.
 */
flags_status flags_snapshot_metadata(
    const flags_snapshot *snapshot,
    const char *key,
    size_t index,
    flags_metadata *out);

/**
 * Holds on to the current version of the flags, for several reads that must fit together (a request), or to read texts
 * without a copy.
 *
 * Release it with `flags_snapshot_release()`, soon: it keeps its version in memory. It may outlive its client, and any
 * number of threads may use it at once. NULL only for a NULL client, or on a defect of this library. While there is no store
 * it is empty: `flags_evaluate()` answers `FLAGS_ERROR_PROVIDER_NOT_READY` from it, for as long as it lives.
 */
flags_snapshot *flags_snapshot_acquire(const flags_client *client);

/**
 * Lets go of a version. NULL is fine.
 *
 * No other call with this snapshot may be running or come later, and texts that came from it are gone.
 */
void flags_snapshot_release(flags_snapshot *snapshot);

/**
 * The generation that a snapshot holds: it grows with each change, and is 0 for NULL and while there is no store.
 *
 * Never fails. Any number of threads at once.
 */
uint64_t flags_snapshot_generation(const flags_snapshot *snapshot);

/**
 * The value of a flag for a context, with its variant, its reason and what may be wrong.
 *
 * `want` is `FLAGS_TYPE_BOOL`, `_INT`, `_DOUBLE`, `_STRING` or `_JSON`, or `FLAGS_TYPE_NONE` for whatever the flag has.
 * `context` may be NULL. An evaluation that has no value (no such flag, disabled, another type, broken, no store yet, a
 * context that cannot be) is an answer as well: `FLAGS_OK` with `FLAGS_TYPE_NONE` as the value's type.
 *
 * `FLAGS_INVALID_ARGUMENT` for a NULL `snapshot`, `key` or `out`, another `want`, or an impossible `out->struct_size`; only
 * then is `*out` untouched. Any number of threads at once; takes no lock, allocates nothing and makes no system call.
 */
flags_status flags_evaluate(
    const flags_snapshot *snapshot,
    const char *key,
    flags_type want,
    const flags_context *context,
    flags_result *out);

/**
 * Words for a status, such as "no store"; for a number that is none, "unknown status".
 *
 * Never fails, never NULL. Any thread. The text is NUL-terminated and lives as long as the library is loaded.
 */
const char *flags_status_text(flags_status status);

/**
 * What went wrong in the last call of this thread that returned a status other than `FLAGS_OK`, in a sentence for a log,
 * such as "no store at /run/flags/default, /dev/shm/flags-1000/default". "" where none did.
 *
 * Never fails, never NULL. Each thread has its own. The text is NUL-terminated and lives until the next failing call of
 * this thread, or the thread's end. The words may change from release to release.
 */
const char *flags_last_error(void);

/**
 * The version of the interface that the loaded library has; compare it with `FLAGS_ABI_VERSION`.
 *
 * Never fails. Any thread.
 */
uint32_t flags_abi_version(void);

/**
 * The version of the loaded library, such as "0.1.0".
 *
 * Never fails, never NULL. Any thread. The text is NUL-terminated and lives as long as the library is loaded.
 */
const char *flags_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/* What a struct is before it is used. */
#define FLAGS_OPTIONS_INIT { sizeof(flags_options), true, 0, NULL }
#define FLAGS_CONTEXT_INIT(targeting_key, attributes, count) \
    { sizeof(flags_context), (targeting_key), (attributes), (count), 0 }
#define FLAGS_REF_INIT(key) { "" key, sizeof("" key) - 1, { 0, 0, 0, 0 } }
#define FLAGS_RESULT_INIT \
    { sizeof(flags_result), { FLAGS_TYPE_NONE, { false } }, { NULL, 0 }, FLAGS_REASON_ERROR, FLAGS_ERROR_NONE }
#define FLAGS_METADATA_INIT { sizeof(flags_metadata), { NULL, 0 }, { FLAGS_TYPE_NONE, { false } } }
#define FLAGS_CLIENT_STATUS_INIT { sizeof(flags_client_status), 0, 0, 0, 0, 0, 0, 0, FLAGS_STATE_DETACHED, false, "" }

/* Field by field, and each field once: a compiler that copies a union by way of memory waits for what it has just written there. */

/** A boolean value. */
static inline flags_value flags_value_bool(bool boolean)
{
    flags_value value;
    value.type = FLAGS_TYPE_BOOL;
    value.as.boolean = boolean;
    return value;
}

/** A whole number. */
static inline flags_value flags_value_int(int64_t integer)
{
    flags_value value;
    value.type = FLAGS_TYPE_INT;
    value.as.integer = integer;
    return value;
}

/** A number. */
static inline flags_value flags_value_double(double number)
{
    flags_value value;
    value.type = FLAGS_TYPE_DOUBLE;
    value.as.number = number;
    return value;
}

/** A text of `length` bytes; borrowed. */
static inline flags_value flags_value_text(const char *data, size_t length)
{
    flags_value value;
    value.type = FLAGS_TYPE_STRING;
    value.as.string.data = data;
    value.as.string.length = length;
    return value;
}

/** A NUL-terminated text; borrowed. NULL gives a null value. */
static inline flags_value flags_value_string(const char *string)
{
    flags_value value;
    value.type = string ? FLAGS_TYPE_STRING : FLAGS_TYPE_NONE;
    value.as.string.data = string;
    value.as.string.length = string ? strlen(string) : 0;
    return value;
}

/** A list of `count` values; borrowed. */
static inline flags_value flags_value_list(const flags_value *items, size_t count)
{
    flags_value value;
    value.type = FLAGS_TYPE_LIST;
    value.as.list.items = items;
    value.as.list.count = count;
    return value;
}

/** An object of `count` members; borrowed. */
static inline flags_value flags_value_object(const flags_attribute *members, size_t count)
{
    flags_value value;
    value.type = FLAGS_TYPE_OBJECT;
    value.as.object.members = members;
    value.as.object.count = count;
    return value;
}

/** A named value; the name is NUL-terminated and borrowed. */
static inline flags_attribute flags_attribute_value(const char *name, flags_value value)
{
    flags_attribute attribute;
    attribute.name = name;
    attribute.name_length = 0;
    attribute.value = value;
    return attribute;
}

/** A named boolean. */
static inline flags_attribute flags_attribute_bool(const char *name, bool boolean)
{
    return flags_attribute_value(name, flags_value_bool(boolean));
}

/** A named whole number. */
static inline flags_attribute flags_attribute_int(const char *name, int64_t integer)
{
    return flags_attribute_value(name, flags_value_int(integer));
}

/** A named number. */
static inline flags_attribute flags_attribute_double(const char *name, double number)
{
    return flags_attribute_value(name, flags_value_double(number));
}

/** A named NUL-terminated text; borrowed. */
static inline flags_attribute flags_attribute_string(const char *name, const char *string)
{
    return flags_attribute_value(name, flags_value_string(string));
}

#if defined(__GNUC__) && !defined(FLAGS_NO_INLINE)
/* What a client begins with: where the newest version of the flags stands, and the client's number. The library's own. */
typedef struct {
    const uint64_t *version;
    uint64_t number;
} flags_client_face;

/* flags_bool_ref() without a call for a flag that was looked up at the newest version and is the same for everybody: its cache then holds
 * the client's number, and the version's lower half above 1 (false) or 2 (true). A context that could be refused is left to the library. */
static inline bool flags_bool_ref_inline(
    const flags_client *client,
    flags_ref *ref,
    const flags_context *context,
    bool fallback)
{
    const bool sound = !context
        || (context->struct_size == sizeof *context
            && (context->count == 0
                || (context->attributes && context->count < 65536
                    && (uintptr_t)context->attributes % sizeof(void *) == 0)));
    if (client && ref && sound) {
        const flags_client_face *face = (const flags_client_face *)(const void *)client;
        const uint64_t version = __atomic_load_n(face->version, __ATOMIC_ACQUIRE);
        const uint64_t owner = __atomic_load_n(&ref->cache[0], __ATOMIC_RELAXED);
        const uint64_t word = __atomic_load_n(&ref->cache[1], __ATOMIC_RELAXED);
        const unsigned what = (unsigned)word & 15;
        if (owner == face->number && word >> 32 == (version & 0xFFFFFFFFu) && (what == 1 || what == 2))
            return what == 2;
    }
    return flags_bool_ref_slow(client, ref, context, fallback);
}

#define flags_bool_ref(client, ref, context, fallback) flags_bool_ref_inline((client), (ref), (context), (fallback))
#endif

#endif /* FLAGS_H */
