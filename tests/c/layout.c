/* The binary interface, nailed down: a change here breaks programs that are already compiled. */

#include <flags.h>

#include "check.h"

#define NAILED(condition) _Static_assert(condition, #condition)

/* Numbers. */
NAILED(FLAGS_OK == 0 && FLAGS_INVALID_ARGUMENT == 1 && FLAGS_NO_STORE == 2 && FLAGS_NOTHING_PUBLISHED == 3);
NAILED(FLAGS_UNTRUSTED == 4 && FLAGS_CORRUPT == 5 && FLAGS_UNKNOWN_FORMAT == 6 && FLAGS_IO == 7);
NAILED(FLAGS_DEFINITION == 8 && FLAGS_NOT_FOUND == 9 && FLAGS_INTERNAL == 10);
NAILED(FLAGS_TYPE_NONE == 0 && FLAGS_TYPE_BOOL == 1 && FLAGS_TYPE_INT == 2 && FLAGS_TYPE_DOUBLE == 3);
NAILED(FLAGS_TYPE_STRING == 4 && FLAGS_TYPE_JSON == 5 && FLAGS_TYPE_LIST == 6 && FLAGS_TYPE_OBJECT == 7);
NAILED(FLAGS_REASON_STATIC == 1 && FLAGS_REASON_DEFAULT == 2 && FLAGS_REASON_TARGETING_MATCH == 3);
NAILED(FLAGS_REASON_DISABLED == 4 && FLAGS_REASON_ERROR == 5);
NAILED(FLAGS_ERROR_NONE == 0 && FLAGS_ERROR_FLAG_NOT_FOUND == 1 && FLAGS_ERROR_TYPE_MISMATCH == 2);
NAILED(FLAGS_ERROR_PARSE_ERROR == 3 && FLAGS_ERROR_GENERAL == 4 && FLAGS_ERROR_PROVIDER_NOT_READY == 5);
NAILED(FLAGS_ERROR_INVALID_CONTEXT == 6);
NAILED(FLAGS_STATE_DETACHED == 0 && FLAGS_STATE_FRESH == 1 && FLAGS_STATE_STALE == 2 && FLAGS_STATE_FROZEN == 3);
NAILED(sizeof(flags_status) == 4 && sizeof(flags_type) == 4 && sizeof(flags_reason) == 4 && sizeof(flags_error) == 4);

/* Structs that never grow. */
NAILED(sizeof(flags_text) == 16 && offsetof(flags_text, length) == 8);
NAILED(sizeof(flags_list) == 16 && offsetof(flags_list, count) == 8);
NAILED(sizeof(flags_object) == 16 && offsetof(flags_object, count) == 8);
NAILED(sizeof(flags_payload) == 16);
NAILED(sizeof(flags_value) == 24 && offsetof(flags_value, as) == 8);
NAILED(sizeof(flags_attribute) == 40 && offsetof(flags_attribute, name_length) == 8);
NAILED(offsetof(flags_attribute, value) == 16);
NAILED(sizeof(flags_ref) == 48 && offsetof(flags_ref, key_length) == 8 && offsetof(flags_ref, cache) == 16);

/* Structs that may grow at their end: what is there stays where it is. */
NAILED(offsetof(flags_options, wait) == 8 && offsetof(flags_options, timeout_ms) == 12);
NAILED(offsetof(flags_options, selector) == 16 && sizeof(flags_options) >= 24);
NAILED(offsetof(flags_context, targeting_key) == 8 && offsetof(flags_context, attributes) == 16);
NAILED(offsetof(flags_context, count) == 24 && offsetof(flags_context, targeting_key_length) == 32);
NAILED(sizeof(flags_context) >= 40);
NAILED(offsetof(flags_result, value) == 8 && offsetof(flags_result, variant) == 32);
NAILED(offsetof(flags_result, reason) == 48 && offsetof(flags_result, error) == 52 && sizeof(flags_result) >= 56);
NAILED(offsetof(flags_metadata, name) == 8 && offsetof(flags_metadata, value) == 24 && sizeof(flags_metadata) >= 48);
NAILED(offsetof(flags_client_status, generation) == 8 && offsetof(flags_client_status, revision) == 16);
NAILED(offsetof(flags_client_status, published_at_ns) == 24 && offsetof(flags_client_status, confirmed_at_ns) == 32);
NAILED(offsetof(flags_client_status, age_ns) == 40 && offsetof(flags_client_status, max_age_ns) == 48);
NAILED(offsetof(flags_client_status, generations_mapped) == 56 && offsetof(flags_client_status, state) == 64);
NAILED(offsetof(flags_client_status, daemon_alive) == 68 && offsetof(flags_client_status, problem) == 69);
NAILED(sizeof(((flags_client_status *)0)->problem) == 256 && sizeof(flags_client_status) >= 328);

int main(void)
{
    watchdog();
    /* The header and the library are of one version here; a program in the field wants "at least". */
    CHECK_EQ(flags_abi_version(), FLAGS_ABI_VERSION);
    CHECK(strchr(flags_version(), '.') != NULL);
    return 0;
}
