/*
 * ratelimit: one rate limit over every thread, process and node of a service, decided inside the process.
 *
 * Made by `cargo xtask header` from the sources in ffi/src: do not edit. docs/c.md has the conventions and an example.
 *
 *     ratelimit_limiter limiter;
 *     ratelimit_config *config = ratelimit_config_new(100, UINT64_C(60000000000));
 *     if (ratelimit_open(config, &limiter) != RATELIMIT_OK) ...
 *     ratelimit_config_free(config);
 *     if (ratelimit_is_allowed(limiter, (const uint8_t *)"client-7", 8)) { ... }
 *     ratelimit_close(limiter);
 */

#ifndef RATELIMIT_H
#define RATELIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header. */
#define RATELIMIT_VERSION "0.1.0"
#define RATELIMIT_VERSION_MAJOR 0
#define RATELIMIT_VERSION_MINOR 1
#define RATELIMIT_VERSION_PATCH 0

/**
 * A `retry_after_ns` that says never, and a `timeout_ns` without end.
 */
#define RATELIMIT_NEVER UINT64_MAX

/**
 * Bytes of a node's name with the zero byte at its end.
 */
#define RATELIMIT_PEER_NAME 65

/**
 * Bytes of a node's address with the zero byte at its end; a longer one is cut.
 */
#define RATELIMIT_PEER_ADDRESS 64

/**
 * What a call answers: `RATELIMIT_OK`, or what is wrong.
 *
 * A denial is not wrong: it is `RATELIMIT_OK` with `allowed = false`. Whatever is wrong is found before anything is changed,
 * and out-parameters are written on success alone (but for lengths, where it is said). Numbers are never given to
 * another error; codes below 1000 are the same in every language.
 */
enum ratelimit_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    RATELIMIT_OK = 0,
    /**
     * A limit makes no sense, or its text is not a limit.
     */
    RATELIMIT_ERR_INVALID_LIMIT = 1,
    /**
     * No limit, too many, or another number than are in force.
     */
    RATELIMIT_ERR_LIMIT_COUNT = 2,
    /**
     * `max_keys` is more than a table can address.
     */
    RATELIMIT_ERR_MAX_KEYS = 3,
    /**
     * The system gave no memory, or no randomness.
     */
    RATELIMIT_ERR_SYSTEM = 4,
    /**
     * No room for another override or block.
     */
    RATELIMIT_ERR_FULL = 5,
    /**
     * Lists that belong together differ in length.
     */
    RATELIMIT_ERR_LENGTHS = 6,
    /**
     * Policies for header fields do not fit.
     */
    RATELIMIT_ERR_POLICY = 7,
    /**
     * An option has a wrong value, or contradicts another.
     */
    RATELIMIT_ERR_OPTION = 8,
    /**
     * Something that this version or build cannot do.
     */
    RATELIMIT_ERR_UNSUPPORTED = 9,
    /**
     * An argument of the wrong kind, or out of its range.
     */
    RATELIMIT_ERR_ARGUMENT = 10,
    /**
     * A handle that is not open: it never was, or is closed or freed.
     */
    RATELIMIT_ERR_CLOSED = 11,
    /**
     * A bug of this library, contained: the call did nothing more.
     */
    RATELIMIT_ERR_INTERNAL = 12,
    /**
     * No snapshot can be kept there, or that often.
     */
    RATELIMIT_ERR_PERSIST = 20,
    /**
     * Another limiter keeps its snapshot there.
     */
    RATELIMIT_ERR_SNAPSHOT_BUSY = 21,
    /**
     * A snapshot could not be written; the one before is as it was.
     */
    RATELIMIT_ERR_SNAPSHOT_WRITE = 22,
    /**
     * A whole snapshot was required, and there was none.
     */
    RATELIMIT_ERR_RESTORE_REQUIRED = 23,
    /**
     * A snapshot was asked of a limiter that keeps none.
     */
    RATELIMIT_ERR_NOT_PERSISTENT = 24,
    /**
     * A forked child was asked for what only its parent may do.
     */
    RATELIMIT_ERR_FORKED_CHILD = 25,
    /**
     * A name that a shared table cannot have.
     */
    RATELIMIT_ERR_SHARE_NAME = 30,
    /**
     * The shared table has other limits, size, hash key or clock.
     */
    RATELIMIT_ERR_SHARE_MISMATCH = 31,
    /**
     * Too many limiters are attached to the shared table.
     */
    RATELIMIT_ERR_SHARE_FULL = 32,
    /**
     * The shared table cannot be made, opened or removed.
     */
    RATELIMIT_ERR_SHARE_UNAVAILABLE = 33,
    /**
     * A cluster's name, address, owner, certificate or secret cannot be.
     */
    RATELIMIT_ERR_CLUSTER_CONFIG = 40,
    /**
     * A cluster's node cannot be started.
     */
    RATELIMIT_ERR_CLUSTER_START = 41,
    /**
     * C only: a pointer is NULL that must not be, or is not aligned.
     */
    RATELIMIT_ERR_NULL = 1001,
    /**
     * C only: a length above PTRDIFF_MAX, or a struct_size that this version does not know.
     */
    RATELIMIT_ERR_LENGTH = 1002,
    /**
     * C only: a text that is not UTF-8.
     */
    RATELIMIT_ERR_TEXT = 1003,
    /**
     * C only: the buffer is too small; the length that is needed was written.
     */
    RATELIMIT_ERR_BUFFER_TOO_SMALL = 1004,
    /**
     * C only: a million limiters, or a million configs, are open.
     */
    RATELIMIT_ERR_HANDLES = 1005,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ratelimit_result ratelimit_result;
#else
typedef uint32_t ratelimit_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The options of a limiter before it is opened.
 *
 * A number that is checked at each use, and not an address: a config that was freed is an error code. Use it from one thread
 * at a time, or from several: each call is whole.
 */
typedef struct ratelimit_config ratelimit_config;

/**
 * A limiter: a number that is checked at each use. 0 is never one.
 *
 * Any number of threads may use it at the same time, also while one closes it: their calls then answer
 * `RATELIMIT_ERR_CLOSED`, or are done before.
 */
typedef uint64_t ratelimit_limiter;

/**
 * What a limiter has done and how full it is. Counts are of this process, since the limiter was opened.
 *
 * Set `struct_size` to `sizeof(ratelimit_statistics)` before the call: later versions add fields at the end and write only
 * what the caller has room for.
 */
typedef struct {
    /**
     * Given by the caller: `sizeof(ratelimit_statistics)`.
     */
    size_t struct_size;
    /**
     * Requests allowed.
     */
    uint64_t allowed;
    /**
     * Requests denied.
     */
    uint64_t denied;
    /**
     * Decisions on clients that found the table full; they are counted above as well.
     */
    uint64_t overflowed;
    /**
     * Clients that got a cell.
     */
    uint64_t inserted;
    /**
     * Of those, how many took over the expired cell of another.
     */
    uint64_t recycled;
    /**
     * Cells brought along after a change of limit, of override or of the kind of time.
     */
    uint64_t translated;
    /**
     * Clients brought back because a clock was set back by more than their window.
     */
    uint64_t stepped;
    /**
     * Clients with debt, estimated from a sample.
     */
    uint64_t live_keys;
    /**
     * Cells in open tiers of the table.
     */
    uint64_t cells;
    /**
     * Cells in all tiers, open or not: the bound on the table.
     */
    uint64_t cells_max;
    /**
     * Open tiers.
     */
    uint64_t tiers;
    /**
     * Bytes of the open tiers. Those never touched take no memory.
     */
    uint64_t table_bytes;
    /**
     * What the clock reads: "tsc", "os", "coarse" or "manual". A static text.
     */
    const char *clock;
    /**
     * Whether the processor's counter was found wrong and the system's clock is used since.
     */
    bool clock_fell_back;
    /**
     * Snapshots written and durable. This and what follows is 0 if none are kept.
     */
    uint64_t snapshots_written;
    /**
     * Attempts to write one that failed.
     */
    uint64_t snapshot_errors;
    /**
     * The number of the last one written; 0 before the first.
     */
    uint64_t snapshot_generation;
    /**
     * Its bytes.
     */
    uint64_t snapshot_last_bytes;
    /**
     * Its debts and blocks.
     */
    uint64_t snapshot_last_cells;
    /**
     * How long it took.
     */
    uint64_t snapshot_last_duration_ns;
    /**
     * How long ago everything that had been decided was in the file. `RATELIMIT_NEVER` before the first time, or if none are
     * kept.
     */
    uint64_t snapshot_age_ns;
    /**
     * With whom the table is shared: "no", "children" or "name". A static text.
     */
    const char *shared_with;
    /**
     * How many limiters are attached to the table, this one among them; 1 if it is not shared.
     */
    uint64_t attached;
} ratelimit_statistics;

/**
 * A node of the cluster as this one sees it.
 */
typedef struct {
    /**
     * Its name, as its certificate says.
     */
    char name[RATELIMIT_PEER_NAME];
    /**
     * Where its link goes, or went last; empty if it was only heard of.
     */
    char address[RATELIMIT_PEER_ADDRESS];
    /**
     * "linked", "unheard", "alive", "suspect", "dead" or "left". A static text.
     */
    const char *state;
    /**
     * The round-trip time of its link; `RATELIMIT_NEVER` without one.
     */
    uint64_t rtt_ns;
    /**
     * How long the oldest report to it has waited for its acknowledgement; 0 if none waits.
     */
    uint64_t lag_ns;
    /**
     * Units in reports that it has not acknowledged.
     */
    uint64_t unacked_units;
    /**
     * Bytes sent to it, over all links.
     */
    uint64_t sent_bytes;
    /**
     * Bytes received from it, over all links.
     */
    uint64_t received_bytes;
} ratelimit_peer;

/**
 * The answer to one request. With several limits it speaks of the one that binds.
 */
typedef struct {
    /**
     * Whether the request may go on. If so it has been charged (unless it was only a peek).
     */
    bool allowed;
    /**
     * The burst: the most requests that can be allowed at one instant. What clients are shown as their limit.
     */
    uint64_t limit;
    /**
     * How many requests of cost 1 would be allowed now, after this one.
     */
    uint64_t remaining;
    /**
     * 0 if allowed; otherwise the nanoseconds until this cost fits. `RATELIMIT_NEVER` if it never will.
     */
    uint64_t retry_after_ns;
    /**
     * The nanoseconds until the full burst is available again, if nothing more is asked for.
     */
    uint64_t reset_after_ns;
} ratelimit_decision;

/**
 * Rules: a number that is checked at each use, like a limiter. 0 is never one.
 */
typedef uint64_t ratelimit_rules;

/**
 * One attribute of a request: what it is called, and its value as bytes.
 */
typedef struct {
    /**
     * The name, UTF-8, ended by a zero byte.
     */
    const char *name;
    /**
     * The value; NULL with a length of 0 is the empty value.
     */
    const uint8_t *value;
    /**
     * The length of the value in bytes.
     */
    size_t value_len;
} ratelimit_attribute;

/**
 * What rules say of a request.
 */
typedef struct {
    /**
     * The decision of the limit that binds. If no rule applies the request is allowed, and `limit` and `remaining` are
     * `UINT64_MAX`.
     */
    ratelimit_decision decision;
    /**
     * The name of the rule that binds, ended by a zero byte; empty if no rule applies.
     */
    char rule[65];
    /**
     * The first rule that only watches and would have denied the request; empty if there is none.
     */
    char shadow[65];
} ratelimit_rule_decision;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What a result means, in general; `ratelimit_last_error_message` says it in particular.
 *
 * Any number may be given. The text is static and ends with a zero byte.
 */
const char *ratelimit_result_str(uint32_t result);

/**
 * The name of a result: the same word in every language, as "invalid_limit".
 *
 * Any number may be given. The text is static and ends with a zero byte.
 */
const char *ratelimit_result_name(uint32_t result);

/**
 * The version of the library that is linked, as "1.2.3"; `RATELIMIT_VERSION` is that of the header.
 *
 * The text is static and ends with a zero byte.
 */
const char *ratelimit_version(void);

/**
 * The sentence about this thread's last error, which says what to do. Empty if there was none. Success leaves it as it is.
 *
 * Writes the text and a zero byte into `buffer`, and into `*needed` the bytes that both take. With `capacity` 0 only that is
 * written. Texts are at most 1,023 bytes long; longer ones are cut.
 * Errors: `RATELIMIT_ERR_NULL` (`needed`, or `buffer` with a capacity), `RATELIMIT_ERR_BUFFER_TOO_SMALL` (`*needed` is
 * written, `buffer` is not). They leave the sentence as it is.
 *
 * The caller sees to it that:
 * `buffer` has room for `capacity` bytes; `needed` points to a `size_t`.
 */
ratelimit_result ratelimit_last_error_message(char *buffer,
                                              size_t capacity,
                                              size_t *needed);

/**
 * A config without a limit, for `ratelimit_rules_open`; free it with `ratelimit_config_free`. NULL if a million are open.
 */
ratelimit_config *ratelimit_config_new_for_rules(void);

/**
 * Starts a config with one limit: `rate_limit` requests (from 1) per `time_window_ns` nanoseconds (from 1), on average.
 *
 * A client that was idle may spend its burst at once and the refill after it: up to twice `rate_limit` in one window. See
 * `ratelimit_config_set_strict` and `ratelimit_config_set_burst`.
 * Numbers that make no limit are reported by `ratelimit_open`, so that the answer here needs no check but for NULL, which
 * means that a million configs were not freed.
 * Ownership: the caller frees it with `ratelimit_config_free`; limiters that were opened from it do not need it.
 */
ratelimit_config *ratelimit_config_new(uint64_t rate_limit,
                                       uint64_t time_window_ns);

/**
 * Starts a config with a limit as text, as "100/minute", "5/10s", "100/minute burst 20" or "100/minute strict", into `*out`.
 *
 * Units: s, sec, second, m, min, minute, h, hour, d, day. Further limits: `ratelimit_config_add_limit`.
 * Errors: `RATELIMIT_ERR_INVALID_LIMIT` (the text is not a limit), `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`,
 * `RATELIMIT_ERR_HANDLES`.
 * Ownership: the caller frees it with `ratelimit_config_free`.
 *
 * The caller sees to it that:
 * `text` ends with a zero byte; a pointer can be written to `out`.
 */
ratelimit_result ratelimit_config_parse(const char *text,
                                        ratelimit_config **out);

/**
 * Adds a limit as text. A request is allowed only if all limits allow it, and then all are charged; if one denies, none is.
 *
 * For configs that were made from text; at most 8 limits.
 * Errors: `RATELIMIT_ERR_INVALID_LIMIT`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`, `RATELIMIT_ERR_CLOSED`; the config stays
 * as it was, and `ratelimit_open` refuses it.
 *
 * The caller sees to it that:
 * `text` ends with a zero byte.
 */
ratelimit_result ratelimit_config_add_limit(ratelimit_config *config,
                                            const char *text);

/**
 * The most requests at one instant, from 1. Default: the rate, or a tenth of it (at least 1) if strict. For a limit in numbers.
 *
 * Errors, of this and all other setters: `RATELIMIT_ERR_OPTION` (a value that the option does not take),
 * `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`, `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_UNSUPPORTED`. The config stays as it
 * was; unless the option is set well later, `ratelimit_open` gives the same error, so results of setters may be left unread.
 */
ratelimit_result ratelimit_config_set_burst(ratelimit_config *config,
                                            uint64_t burst);

/**
 * Whether at most `rate_limit` requests are allowed in any window, not only on average. Default: false. For a limit in numbers.
 */
ratelimit_result ratelimit_config_set_strict(ratelimit_config *config,
                                             bool strict);

/**
 * How many clients with debt to have room for, from 1; bounds the memory, about 33 bytes per client and limit.
 *
 * Default: the table starts small and grows on its own to 40 million cells. One whose size is known is up to twice as fast.
 */
ratelimit_result ratelimit_config_set_max_keys(ratelimit_config *config,
                                               uint64_t max_keys);

/**
 * The snapshot file that lets counts survive a restart. Default: none, counts live in memory alone.
 *
 * The caller sees to it that:
 * `path` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_path(ratelimit_config *config, const char *path);

/**
 * How often the snapshot is written, in nanoseconds, from 1. Default: every second.
 */
ratelimit_result ratelimit_config_set_snapshot_every(ratelimit_config *config, uint64_t snapshot_every_ns);

/**
 * What to do with a damaged snapshot: "auto" (start with the previous one or empty), "salvage" (save what is intact) or
 * "required" (refuse to open). Default: "auto".
 *
 * The caller sees to it that:
 * `restore` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_restore(ratelimit_config *config, const char *restore);

/**
 * One table for all processes of this user on this host that give the same name. NULL: for this process and those that it
 * forks. Default: each process has its own.
 *
 * The caller sees to it that:
 * `name` is NULL or ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_share(ratelimit_config *config,
                                            const char *name);

/**
 * Whether the limits of this config replace those that a shared table has, in place of an error. Default: false.
 */
ratelimit_result ratelimit_config_set_replace_limits(ratelimit_config *config, bool replace_limits);

/**
 * The clock that decides: "precise" (the fastest that can be trusted), "os" (the system's), or "coarse" (faster, and up to 4 ms
 * late). Default: "precise".
 *
 * The caller sees to it that:
 * `clock` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_clock(ratelimit_config *config,
                                            const char *clock);

/**
 * What clients get that find the table full: "share" (a cell that several share), "deny", or "allow" (no limit). Default: "share".
 *
 * The caller sees to it that:
 * `overflow` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_overflow(ratelimit_config *config,
                                               const char *overflow);

/**
 * The secret that keys the hash of keys: 32 hexadecimal digits. Default: a random one.
 *
 * The caller sees to it that:
 * `hash_key` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_hash_key(ratelimit_config *config, const char *hash_key);

/**
 * Frees a config. NULL is nothing to free, and no error.
 *
 * Errors: `RATELIMIT_ERR_CLOSED` if it was freed before; nothing happens then.
 */
ratelimit_result ratelimit_config_free(ratelimit_config *config);

/**
 * Opens a limiter from a config, into `*out`.
 *
 * Starts no thread, unless the config has a snapshot file.
 * Errors: those that setters had (see `ratelimit_config_set_burst`), `RATELIMIT_ERR_INVALID_LIMIT`,
 * `RATELIMIT_ERR_LIMIT_COUNT`, `RATELIMIT_ERR_MAX_KEYS`, `RATELIMIT_ERR_SYSTEM`, `RATELIMIT_ERR_OPTION`,
 * `RATELIMIT_ERR_UNSUPPORTED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_CLOSED` (the config), `RATELIMIT_ERR_HANDLES`; with a path also
 * `RATELIMIT_ERR_PERSIST`, `RATELIMIT_ERR_SNAPSHOT_BUSY`, `RATELIMIT_ERR_RESTORE_REQUIRED`.
 * Ownership: the config stays the caller's, and may be used again or freed. The limiter ends with `ratelimit_close`.
 *
 * The caller sees to it that:
 * A handle can be written to `out`.
 */
ratelimit_result ratelimit_open(const ratelimit_config *config,
                                ratelimit_limiter *out);

/**
 * Closes a limiter. Calls that are running in other threads are done before its memory goes; later ones answer
 * `RATELIMIT_ERR_CLOSED`, and `ratelimit_acquire` that waits answers so within a tenth of a second.
 *
 * With a snapshot file a last snapshot is written, if anything changed, and the file is free for others.
 * Does not wait for other threads: what one of them still uses is freed by the next `ratelimit_open` or `ratelimit_close`.
 * Errors: `RATELIMIT_ERR_CLOSED` if it is not open; nothing happens then. `RATELIMIT_ERR_SNAPSHOT_WRITE` if the disk failed: the
 * limiter is closed, and the snapshot before is as it was.
 */
ratelimit_result ratelimit_close(ratelimit_limiter limiter);

/**
 * Gives `cost` requests back, for instance because what they asked for failed. A client never has more than its full burst.
 *
 * Errors, of this and the other calls with a key: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL` (a NULL key with a length),
 * `RATELIMIT_ERR_LENGTH`.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
ratelimit_result ratelimit_refund(ratelimit_limiter limiter,
                                  const uint8_t *key,
                                  size_t key_len,
                                  uint64_t cost);

/**
 * As `ratelimit_refund`, for a client that is decided at given times.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
ratelimit_result ratelimit_refund_at(ratelimit_limiter limiter,
                                     const uint8_t *key,
                                     size_t key_len,
                                     uint64_t cost,
                                     uint64_t now_ns);

/**
 * Forgets what a client has spent and lifts its block. A limit of its own stays.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
ratelimit_result ratelimit_reset(ratelimit_limiter limiter, const uint8_t *key, size_t key_len);

/**
 * As `ratelimit_reset`, for a client that is decided at given times.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
ratelimit_result ratelimit_reset_at(ratelimit_limiter limiter, const uint8_t *key, size_t key_len, uint64_t now_ns);

/**
 * Denies every request of a client for so many nanoseconds, by the limiter's own clock; at most 208 days. 0 lifts the block.
 *
 * Errors: `RATELIMIT_ERR_FULL` (no room for another block), and those of every call with a key.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
ratelimit_result ratelimit_block(ratelimit_limiter limiter,
                                 const uint8_t *key,
                                 size_t key_len,
                                 uint64_t duration_ns);

/**
 * Puts another limit in force, as text, while decisions run. Each client keeps the share of its burst that it has spent.
 *
 * Errors: `RATELIMIT_ERR_INVALID_LIMIT`, `RATELIMIT_ERR_LIMIT_COUNT` (the limiter has several limits: see
 * `ratelimit_set_limits`), `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`.
 *
 * The caller sees to it that:
 * `limit` ends with a zero byte.
 */
ratelimit_result ratelimit_set_limit(ratelimit_limiter limiter,
                                     const char *limit);

/**
 * Puts other limits in force, as texts: one for each that the limiter has, in the same order.
 *
 * Errors: as `ratelimit_set_limit`; nothing is changed then.
 *
 * The caller sees to it that:
 * `limits` points to `count` texts that each end with a zero byte.
 */
ratelimit_result ratelimit_set_limits(ratelimit_limiter limiter, const char *const *limits, size_t count);

/**
 * Gives a client a limit of its own, as text, in place of all the limiter's limits; NULL takes it away again. The client
 * keeps the share of its burst that it has spent.
 *
 * Errors: `RATELIMIT_ERR_INVALID_LIMIT`, `RATELIMIT_ERR_FULL` (no room for another), `RATELIMIT_ERR_TEXT`, and those of every
 * call with a key; the client stays under the limit it had.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`; `limit` is NULL or ends with a zero byte.
 */
ratelimit_result ratelimit_set_override(ratelimit_limiter limiter,
                                        const uint8_t *key,
                                        size_t key_len,
                                        const char *limit);

/**
 * Takes a client's own limit away. To have none is no error.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
ratelimit_result ratelimit_clear_override(ratelimit_limiter limiter, const uint8_t *key, size_t key_len);

/**
 * Takes all clients' own limits away. Cost: work in proportion to their number.
 */
ratelimit_result ratelimit_clear_overrides(ratelimit_limiter limiter);

/**
 * What was done and how full the table is, into `*out`, whose `struct_size` the caller has set.
 *
 * Cost: bounded, whatever the size of the table.
 * Errors: `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH` (struct_size), `RATELIMIT_ERR_CLOSED`.
 *
 * The caller sees to it that:
 * `out->struct_size` can be read, and so many bytes can be written at `out`.
 */
ratelimit_result ratelimit_stats(ratelimit_limiter limiter, ratelimit_statistics *out);

/**
 * The same as text for Prometheus, in its exposition format 0.0.4.
 *
 * Writes the text and a zero byte into `buffer`, and into `*needed` the bytes that both take. With `capacity` 0 only that is
 * written. The text grows by some digits as numbers do, so ask again if it did not fit; 8,192 bytes are enough today.
 * Errors: `RATELIMIT_ERR_BUFFER_TOO_SMALL` (`*needed` is written, `buffer` is not), `RATELIMIT_ERR_NULL`,
 * `RATELIMIT_ERR_LENGTH`, `RATELIMIT_ERR_CLOSED`.
 *
 * The caller sees to it that:
 * `buffer` has room for `capacity` bytes; `needed` points to a `size_t`.
 */
ratelimit_result ratelimit_prometheus(ratelimit_limiter limiter,
                                      char *buffer,
                                      size_t capacity,
                                      size_t *needed);

/**
 * Writes a snapshot now, and returns when it is durable. Decisions go on meanwhile.
 *
 * Errors: `RATELIMIT_ERR_NOT_PERSISTENT` (the config had no path), `RATELIMIT_ERR_SNAPSHOT_WRITE` (the disk failed; the snapshot
 * before is as it was), `RATELIMIT_ERR_FORKED_CHILD` (only the process that opened the limiter writes),
 * `RATELIMIT_ERR_CLOSED`.
 */
ratelimit_result ratelimit_snapshot(ratelimit_limiter limiter);

/**
 * The cluster: this node's name, as in its certificate: 1 to 64 bytes. Setting any option of the cluster makes the limiter one node of several that keep one limit.
 *
 * `node`, `listen` and `certs` are needed; all nodes but the first need `seeds`. Errors, beside those of other setters: `ratelimit_open` gives `RATELIMIT_ERR_CLUSTER_CONFIG` for
 * what does not fit together and `RATELIMIT_ERR_CLUSTER_START` for a port that is taken.
 *
 * The caller sees to it that:
 * `node` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_node(ratelimit_config *config,
                                                   const char *node);

/**
 * The cluster: the address and port that this node listens on, UDP, as "127.0.0.1:7001".
 *
 * The caller sees to it that:
 * `listen` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_listen(ratelimit_config *config, const char *listen);

/**
 * The cluster: the address or DNS name with port that other nodes are told to dial. Default: `listen`, unless that is a wildcard.
 *
 * The caller sees to it that:
 * `advertise` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_advertise(ratelimit_config *config,
                                                        const char *advertise);

/**
 * The cluster: the nodes to dial first: addresses or DNS names with port, with commas between. Default: none.
 *
 * The caller sees to it that:
 * `seeds` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_seeds(ratelimit_config *config, const char *seeds);

/**
 * The cluster: the directory that `ratelimit certs` made; the authority, certificate, key and secret are found there unless they are given.
 *
 * The caller sees to it that:
 * `certs` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_certs(ratelimit_config *config,
                                                    const char *certs);

/**
 * The cluster: the certificate of the authority that all nodes trust: PEM text, or the name of a file.
 *
 * The caller sees to it that:
 * `ca` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_ca(ratelimit_config *config, const char *ca);

/**
 * The cluster: this node's certificate: PEM text, or the name of a file. A file is read again when it changes.
 *
 * The caller sees to it that:
 * `cert` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_cert(ratelimit_config *config, const char *cert);

/**
 * The cluster: the private key of this node's certificate: PEM text, or the name of a file.
 *
 * The caller sees to it that:
 * `key` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_key(ratelimit_config *config, const char *key);

/**
 * The cluster: what keys the hash of keys, equal on all nodes: 32 hexadecimal digits, or the name of a file with them.
 *
 * The caller sees to it that:
 * `secret` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_secret(ratelimit_config *config, const char *secret);

/**
 * The cluster: what a node may spend on a key that it has no lease for: "eventual", "bounded:20", "strict" or "strict:10%"; for several limits
 * one for all, or as many with commas between. Default: "eventual".
 *
 * The caller sees to it that:
 * `mode` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_mode(ratelimit_config *config,
                                                   const char *mode);

/**
 * The cluster: the names of the nodes that own keys, with commas between, the same on all nodes. Needed for bounded and strict. Default: all nodes.
 *
 * The caller sees to it that:
 * `owners` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_owners(ratelimit_config *config,
                                                     const char *owners);

/**
 * The cluster: what nodes do about keys whose owner they do not hear: "open" (each side takes over), "share" (each side takes its part of
 * the rate), or "closed" (nobody takes over). Default: "open".
 *
 * The caller sees to it that:
 * `on_partition` ends with a zero byte.
 */
ratelimit_result ratelimit_config_set_cluster_on_partition(ratelimit_config *config,
                                                           const char *on_partition);

/**
 * The cluster: time between two reports of a key in steady use, in nanoseconds, from 1 ms to 10 s. Default: 50 ms.
 */
ratelimit_result ratelimit_config_set_cluster_interval(ratelimit_config *config, uint64_t interval_ns);

/**
 * The cluster: the most nodes there will be, from 1 to 65,535. Default: 256.
 */
ratelimit_result ratelimit_config_set_cluster_max_nodes(ratelimit_config *config, uint64_t max_nodes);

/**
 * The other nodes of the cluster, into `peers`, which has room for `capacity`; how many there are goes to `*count`, and may be more.
 *
 * None without a cluster. With a capacity of 0 `peers` may be NULL.
 * Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH`.
 *
 * The caller sees to it that:
 * `capacity` peers can be written to `peers`, and a number to `count`.
 */
ratelimit_result ratelimit_peers(ratelimit_limiter limiter,
                                 ratelimit_peer *peers,
                                 size_t capacity,
                                 size_t *count);

/**
 * Waits until every seed of the cluster is linked, at most `timeout_ns` (0: does not wait; `RATELIMIT_NEVER`: however long it takes),
 * and writes to `*ready` whether they are. True at once without a cluster; false at once in a
 * forked child of a node, or if the node could not start.
 *
 * Errors: `RATELIMIT_ERR_CLOSED` (also if it is closed meanwhile, within a tenth of a second), `RATELIMIT_ERR_NULL`.
 *
 * The caller sees to it that:
 * A truth can be written to `ready`.
 */
ratelimit_result ratelimit_ready(ratelimit_limiter limiter,
                                 uint64_t timeout_ns,
                                 bool *ready);

/**
 * Whether one request of this client is allowed now. If so it is charged.
 *
 * Keys are any bytes of any length; NULL with a length of 0 is the empty key.
 * Fails open: if anything is wrong (a closed limiter, a NULL key with a length, a defect) the answer is true, since a broken
 * limiter should not stop a service; `ratelimit_check` tells the difference, and `ratelimit_last_error_message` the reason.
 * Cost: a hash, a reading of the clock, one or two lines of memory, and for an admission one compare-and-swap. No lock, no
 * allocation, no system call.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`.
 */
bool ratelimit_is_allowed(ratelimit_limiter limiter,
                          const uint8_t *key,
                          size_t key_len);

/**
 * Decides a request that costs as much as `cost` ordinary ones, into `*out`: all of it is allowed and charged, or nothing.
 *
 * A cost of 0 is always allowed and charges nothing. A cost above the burst is never allowed, and `retry_after_ns` is then
 * `RATELIMIT_NEVER`.
 * Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL` (`out`, or a NULL key with a length), `RATELIMIT_ERR_LENGTH`.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`; a decision can be written to `out`.
 */
ratelimit_result ratelimit_check(ratelimit_limiter limiter,
                                 const uint8_t *key,
                                 size_t key_len,
                                 uint64_t cost,
                                 ratelimit_decision *out);

/**
 * As `ratelimit_check`, at a given time: nanoseconds since an origin of the caller's choice. 0 is a legal time, and so is the
 * time since 1970.
 *
 * Use one kind of time for one key: to mix given times and the limiter's own clock is safe but of little use. A time further
 * back than the client's window (and a second) is taken as a clock that was set back, and the client then starts with
 * a spent burst at that time.
 *
 * The caller sees to it that:
 * As for `ratelimit_check`.
 */
ratelimit_result ratelimit_check_at(ratelimit_limiter limiter,
                                    const uint8_t *key,
                                    size_t key_len,
                                    uint64_t cost,
                                    uint64_t now_ns,
                                    ratelimit_decision *out);

/**
 * What `ratelimit_check` would say now. Charges nothing and writes nothing.
 *
 * The caller sees to it that:
 * As for `ratelimit_check`.
 */
ratelimit_result ratelimit_peek(ratelimit_limiter limiter,
                                const uint8_t *key,
                                size_t key_len,
                                uint64_t cost,
                                ratelimit_decision *out);

/**
 * What `ratelimit_check_at` would say.
 *
 * The caller sees to it that:
 * As for `ratelimit_check`.
 */
ratelimit_result ratelimit_peek_at(ratelimit_limiter limiter,
                                   const uint8_t *key,
                                   size_t key_len,
                                   uint64_t cost,
                                   uint64_t now_ns,
                                   ratelimit_decision *out);

/**
 * Decides one request of each of `count` keys, in order, into `out[0..count]`.
 *
 * `costs` is NULL for a cost of 1 each, or has `count` costs. Keys are hashed and their memory brought near 16 at a time, so
 * that with many clients a decision costs a third of a single call.
 * Errors: as `ratelimit_check`, for any key; nothing is decided then.
 *
 * The caller sees to it that:
 * `keys`, `key_lens`, `out` and, unless it is NULL, `costs` have `count` elements; `key_lens[i]` bytes can be read at `keys[i]`.
 */
ratelimit_result ratelimit_check_many(ratelimit_limiter limiter,
                                      const uint8_t *const *keys,
                                      const size_t *key_lens,
                                      const uint64_t *costs,
                                      size_t count,
                                      ratelimit_decision *out);

/**
 * As `ratelimit_check_many` for costs of 1, for those who only want to know whether: faster, since nothing else is worked out.
 *
 * The caller sees to it that:
 * `keys`, `key_lens` and `out` have `count` elements; `key_lens[i]` bytes can be read at `keys[i]`.
 */
ratelimit_result ratelimit_allowed_many(ratelimit_limiter limiter,
                                        const uint8_t *const *keys,
                                        const size_t *key_lens,
                                        size_t count,
                                        bool *out);

/**
 * Waits until a request of `cost` is allowed, and charges it: `*acquired` is then true. False if it cannot be within
 * `timeout_ns` (`RATELIMIT_NEVER`: however long it takes), or ever: that is said at once, without waiting.
 *
 * This thread sleeps meanwhile. Who waits holds no place in a queue: of several that wait for one client whoever asks first
 * after the time is up is allowed, and the others sleep again.
 * Errors: `RATELIMIT_ERR_CLOSED` (also when it is closed meanwhile), `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH`.
 *
 * The caller sees to it that:
 * `key_len` bytes can be read at `key`, until the call returns; a bool can be written to `acquired`.
 */
ratelimit_result ratelimit_acquire(ratelimit_limiter limiter,
                                   const uint8_t *key,
                                   size_t key_len,
                                   uint64_t cost,
                                   uint64_t timeout_ns,
                                   bool *acquired);

/**
 * Opens rules from TOML, into `*out`. docs/rules.md says what they can say.
 *
 * `config` has the other options, like a snapshot file, and no limit: make it with `ratelimit_config_new_for_rules`. NULL keeps
 * counts in memory alone.
 * Errors: `RATELIMIT_ERR_OPTION` (the text, with its line; or a config with a limit), and those of `ratelimit_open`.
 * Ownership: the config stays the caller's. The rules end with `ratelimit_rules_close`.
 *
 * The caller sees to it that:
 * `text` ends with a zero byte; a handle can be written to `out`.
 */
ratelimit_result ratelimit_rules_open(const char *text,
                                      const ratelimit_config *config,
                                      ratelimit_rules *out);

/**
 * Closes rules, with a last snapshot if they have a file. As `ratelimit_close`.
 *
 * Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_SNAPSHOT_WRITE`.
 */
ratelimit_result ratelimit_rules_close(ratelimit_rules rules);

/**
 * Decides a request with these attributes, into `*out`: all rules that apply allow it and are charged, or none is.
 *
 * Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH`, `RATELIMIT_ERR_TEXT`.
 *
 * The caller sees to it that:
 * `count` attributes can be read, with what they point to; a decision can be written to `out`.
 */
ratelimit_result ratelimit_rules_check(ratelimit_rules rules,
                                       const ratelimit_attribute *attributes,
                                       size_t count,
                                       uint64_t cost,
                                       ratelimit_rule_decision *out);

/**
 * As `ratelimit_rules_check`, at a given time: see `ratelimit_check_at`.
 *
 * The caller sees to it that:
 * As for `ratelimit_rules_check`.
 */
ratelimit_result ratelimit_rules_check_at(ratelimit_rules rules,
                                          const ratelimit_attribute *attributes,
                                          size_t count,
                                          uint64_t cost,
                                          uint64_t now_ns,
                                          ratelimit_rule_decision *out);

/**
 * What `ratelimit_rules_check` would say. Charges and counts nothing.
 *
 * The caller sees to it that:
 * As for `ratelimit_rules_check`.
 */
ratelimit_result ratelimit_rules_peek(ratelimit_rules rules,
                                      const ratelimit_attribute *attributes,
                                      size_t count,
                                      uint64_t cost,
                                      ratelimit_rule_decision *out);

/**
 * Gives `cost` requests back to every rule that applies.
 *
 * The caller sees to it that:
 * `count` attributes can be read, with what they point to.
 */
ratelimit_result ratelimit_rules_refund(ratelimit_rules rules,
                                        const ratelimit_attribute *attributes,
                                        size_t count,
                                        uint64_t cost);

/**
 * Forgets what was spent under every rule that applies.
 *
 * The caller sees to it that:
 * `count` attributes can be read, with what they point to.
 */
ratelimit_result ratelimit_rules_reset(ratelimit_rules rules, const ratelimit_attribute *attributes, size_t count);

/**
 * Puts other rules in force, all at once, while decisions run. Rules whose name and `by` stay keep their counts.
 *
 * Errors: `RATELIMIT_ERR_OPTION` (what is wrong, with its line; nothing is changed then), `RATELIMIT_ERR_CLOSED`,
 * `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`.
 *
 * The caller sees to it that:
 * `text` ends with a zero byte.
 */
ratelimit_result ratelimit_rules_replace(ratelimit_rules rules, const char *text);

/**
 * Gives a client of a rule limits of its own, by the value that the rule counts by; `count` 0 takes them away.
 *
 * Errors: `RATELIMIT_ERR_ARGUMENT` (no such rule, or one that does not count by one attribute), `RATELIMIT_ERR_INVALID_LIMIT`,
 * `RATELIMIT_ERR_LIMIT_COUNT`, `RATELIMIT_ERR_FULL`, `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`.
 *
 * The caller sees to it that:
 * Texts end with a zero byte; `count` texts can be read at `limits`.
 */
ratelimit_result ratelimit_rules_set_override(ratelimit_rules rules,
                                              const char *rule,
                                              const char *value,
                                              const char *const *limits,
                                              size_t count);

/**
 * Table, snapshot and each rule by outcome as text for Prometheus: see `ratelimit_prometheus`. Ask with a `capacity` of 0 how
 * long it is.
 *
 * The caller sees to it that:
 * `buffer` has room for `capacity` bytes; `needed` points to a `size_t`.
 */
ratelimit_result ratelimit_rules_prometheus(ratelimit_rules rules,
                                            char *buffer,
                                            size_t capacity,
                                            size_t *needed);

/**
 * The key of the client that a request comes from, behind proxies: an IPv4 address as text, or an IPv6 network like
 * "2001:db8:1:2::/64". Written into `buffer` (63 bytes are always enough) with a zero byte, and the bytes that both take into
 * `*needed`; with a `capacity` of 0 only the latter. The empty text if not even the peer's address is known.
 *
 * `trusted` are the networks or addresses of the proxies, like "10.0.0.0/8, 2001:db8::7" ("loopback", "private" and "unix" stand
 * for what they say), or how many proxies a request passes, like "2"; "" trusts nobody. `header` is the name of the field that they
 * extend or replace, NULL for "x-forwarded-for"; "forwarded" is read by RFC 7239. `ipv6_prefix` is how many bits of an IPv6 address
 * count, 32 to 128; 0 for 64. `peer` is the address at the other end of the connection, "" for a Unix socket. `value` is the
 * field's value: several are to be joined by a comma.
 * Entries are believed from the right for as long as a trusted proxy wrote them. What is no address is never believed: the answer
 * is then the peer's own.
 * Errors: `RATELIMIT_ERR_ARGUMENT` (`trusted`, `header` or `ipv6_prefix`), `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`,
 * `RATELIMIT_ERR_BUFFER_TOO_SMALL`.
 *
 * The caller sees to it that:
 * Texts end with a zero byte; `value_len` bytes can be read at `value`; `capacity` bytes can be written to `buffer`, and a size to
 * `needed`.
 */
ratelimit_result ratelimit_client_ip(const char *trusted,
                                     const char *header,
                                     uint8_t ipv6_prefix,
                                     const char *peer,
                                     const uint8_t *value,
                                     size_t value_len,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *needed);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RATELIMIT_H */
