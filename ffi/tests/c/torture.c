/* Arguments that no caller should give: each is an error with a sentence, writes nothing and changes nothing. */
#include "test.h"

#include <limits.h>

static bool is_untouched(const ratelimit_decision *decision) {
    return !decision->allowed && decision->limit == 7 && decision->remaining == 7 && decision->retry_after_ns == 7 &&
           decision->reset_after_ns == 7;
}

static void keys(void) {
    ratelimit_limiter limiter = opened("3/minute");
    ratelimit_decision decision = {false, 7, 7, 7, 7};
    bool acquired = false;

    /* NULL stands for the empty key only. */
    IS(ratelimit_check(limiter, NULL, 1, 1, &decision), RATELIMIT_ERR_NULL);
    HOLDS(strstr(last_error(), "key is NULL") != NULL);
    IS(ratelimit_check(limiter, NULL, SIZE_MAX, 1, &decision), RATELIMIT_ERR_NULL);
    const size_t too_long[] = {SIZE_MAX, SIZE_MAX - 1, (size_t)PTRDIFF_MAX + 1};
    for (size_t i = 0; i < sizeof too_long / sizeof too_long[0]; i++) {
        const uint8_t *key = (const uint8_t *)"key";
        const size_t len = too_long[i];
        IS(ratelimit_check(limiter, key, len, 1, &decision), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_check_at(limiter, key, len, 1, 0, &decision), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_peek(limiter, key, len, 1, &decision), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_peek_at(limiter, key, len, 1, 0, &decision), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_refund(limiter, key, len, 1), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_refund_at(limiter, key, len, 1, 0), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_reset(limiter, key, len), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_reset_at(limiter, key, len, 0), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_block(limiter, key, len, 1), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_set_override(limiter, key, len, "1/s"), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_clear_override(limiter, key, len), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_acquire(limiter, key, len, 1, 0, &acquired), RATELIMIT_ERR_LENGTH);
        /* Fails open, and says why. */
        HOLDS(ratelimit_is_allowed(limiter, key, len));
        HOLDS(strstr(last_error(), "length of key") != NULL);
        IS(ratelimit_check_many(limiter, &key, &len, NULL, 1, &decision), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_allowed_many(limiter, &key, &len, 1, &acquired), RATELIMIT_ERR_LENGTH);
        size_t one = 1;
        IS(ratelimit_check_many(limiter, &key, &one, NULL, len, &decision), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_allowed_many(limiter, &key, &one, len, &acquired), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_set_limits(limiter, (const char *const *)&key, len), RATELIMIT_ERR_LENGTH);
        size_t needed = 0;
        char buffer[1];
        IS(ratelimit_prometheus(limiter, buffer, len, &needed), RATELIMIT_ERR_LENGTH);
        IS(ratelimit_last_error_message(buffer, len, &needed), RATELIMIT_ERR_LENGTH);
    }
    HOLDS(is_untouched(&decision) && !acquired);

    /* Nothing was charged by any of these. */
    OK(ratelimit_check(limiter, NULL, 0, 1, &decision));
    HOLDS(decision.remaining == 2);
    OK(ratelimit_check(limiter, (const uint8_t *)"", 0, 1, &decision));
    HOLDS(decision.remaining == 1);
    ratelimit_statistics stats = {.struct_size = sizeof stats};
    OK(ratelimit_stats(limiter, &stats));
    HOLDS(stats.allowed == 2 && stats.denied == 0);

    /* NUL bytes, bytes that are no text, and ten million bytes are keys like others. */
    OK(ratelimit_check(limiter, (const uint8_t *)"a\0b", 3, 3, &decision));
    HOLDS(decision.allowed);
    OK(ratelimit_check(limiter, (const uint8_t *)"a\0c", 3, 3, &decision));
    HOLDS(decision.allowed);
    OK(ratelimit_check(limiter, (const uint8_t *)"\xff\xfe\xed\xa0\x80", 5, 3, &decision));
    HOLDS(decision.allowed);
    const size_t large = 10 * 1000 * 1000;
    uint8_t *key = malloc(large);
    HOLDS(key != NULL);
    memset(key, 'k', large);
    OK(ratelimit_check(limiter, key, large, 3, &decision));
    HOLDS(decision.allowed);
    HOLDS(!ratelimit_is_allowed(limiter, key, large));
    key[large - 1] = 'l';
    HOLDS(ratelimit_is_allowed(limiter, key, large));
    free(key);

    OK(ratelimit_check(limiter, KEY("z"), UINT64_MAX, &decision));
    HOLDS(!decision.allowed && decision.retry_after_ns == RATELIMIT_NEVER);
    OK(ratelimit_refund(limiter, KEY("z"), UINT64_MAX));
    OK(ratelimit_block(limiter, KEY("z"), UINT64_MAX));
    HOLDS(!ratelimit_is_allowed(limiter, KEY("z")));
    OK(ratelimit_close(limiter));
}

static void pointers(void) {
    ratelimit_limiter limiter = opened("3/minute");
    ratelimit_config *config = ratelimit_config_new(1, 1000000000);
    size_t needed = 0;
    const uint8_t *key = (const uint8_t *)"k";
    size_t len = 1;
    ratelimit_decision decision;
    bool allowed;
    _Alignas(ratelimit_decision) char odd[2 * sizeof(ratelimit_decision)];

    IS(ratelimit_check(limiter, KEY("k"), 1, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_check(limiter, KEY("k"), 1, (ratelimit_decision *)(void *)(odd + 1)), RATELIMIT_ERR_NULL);
    IS(ratelimit_check_at(limiter, KEY("k"), 1, 0, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_peek(limiter, KEY("k"), 1, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_peek_at(limiter, KEY("k"), 1, 0, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_acquire(limiter, KEY("k"), 1, 0, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_check_many(limiter, NULL, &len, NULL, 1, &decision), RATELIMIT_ERR_NULL);
    IS(ratelimit_check_many(limiter, &key, NULL, NULL, 1, &decision), RATELIMIT_ERR_NULL);
    IS(ratelimit_check_many(limiter, &key, &len, NULL, 1, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_allowed_many(limiter, NULL, &len, 1, &allowed), RATELIMIT_ERR_NULL);
    IS(ratelimit_allowed_many(limiter, &key, NULL, 1, &allowed), RATELIMIT_ERR_NULL);
    IS(ratelimit_allowed_many(limiter, &key, &len, 1, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_set_limit(limiter, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_set_limits(limiter, NULL, 1), RATELIMIT_ERR_NULL);
    const char *no_text = NULL;
    IS(ratelimit_set_limits(limiter, &no_text, 1), RATELIMIT_ERR_NULL);
    IS(ratelimit_stats(limiter, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_prometheus(limiter, NULL, 10, &needed), RATELIMIT_ERR_NULL);
    IS(ratelimit_prometheus(limiter, NULL, 0, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_last_error_message(NULL, 10, &needed), RATELIMIT_ERR_NULL);
    IS(ratelimit_last_error_message(NULL, 0, NULL), RATELIMIT_ERR_NULL);
    OK(ratelimit_peek(limiter, KEY("k"), 1, &decision));
    HOLDS(decision.remaining == 3);

    ratelimit_statistics stats;
    memset(&stats, 'x', sizeof stats);
    const size_t bad_sizes[] = {0, 8, 191};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        stats.struct_size = bad_sizes[i];
        IS(ratelimit_stats(limiter, &stats), RATELIMIT_ERR_LENGTH);
        HOLDS(*(char *)&stats.allowed == 'x');
    }
    /* A caller that was compiled with a later header: only what this version has is written, and how much that was. */
    struct {
        ratelimit_statistics known;
        char more[64];
    } later;
    memset(&later, 'x', sizeof later);
    later.known.struct_size = sizeof later;
    OK(ratelimit_stats(limiter, &later.known));
    HOLDS(later.known.struct_size == sizeof stats && later.more[0] == 'x');

    IS(ratelimit_open(config, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_open(NULL, &limiter), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_parse(NULL, &config), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_parse("1/s", NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_parse("\xc3\x28/s", &config), RATELIMIT_ERR_TEXT);
    IS(ratelimit_config_add_limit(config, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_set_path(config, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_set_path(config, "\xff"), RATELIMIT_ERR_TEXT);
    IS(ratelimit_config_set_clock(config, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_set_overflow(config, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_set_hash_key(config, NULL), RATELIMIT_ERR_NULL);
    IS(ratelimit_config_set_restore(config, NULL), RATELIMIT_ERR_NULL);
    OK(ratelimit_config_free(NULL));
    OK(ratelimit_config_free(config));
    OK(ratelimit_close(limiter));
}

static void stale_handles(void) {
    ratelimit_limiter open = opened("3/minute");
    ratelimit_limiter closed = opened("3/minute");
    OK(ratelimit_close(closed));
    /* The same place, one generation on. */
    ratelimit_limiter next = opened("3/minute");
    HOLDS(next != closed && (next & 0xfffff) == (closed & 0xfffff));
    const ratelimit_limiter bad[] = {0,
                                     closed,
                                     UINT64_MAX,
                                     1,
                                     UINT64_C(1) << 63,
                                     open + (UINT64_C(1) << 20),
                                     next + (UINT64_C(1) << 20),
                                     open + 2,
                                     (UINT64_C(1) << 20) + 12345,
                                     (UINT64_C(1) << 20) | 0xfffff};
    ratelimit_decision decision = {false, 7, 7, 7, 7};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const uint8_t *key = (const uint8_t *)"k";
        size_t len = 1, needed = 0;
        bool flag = false;
        ratelimit_statistics stats = {.struct_size = sizeof stats};
        HOLDS(ratelimit_is_allowed(bad[i], KEY("k")));
        IS(ratelimit_check(bad[i], KEY("k"), 1, &decision), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_check_at(bad[i], KEY("k"), 1, 0, &decision), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_check_many(bad[i], &key, &len, NULL, 1, &decision), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_allowed_many(bad[i], &key, &len, 1, &flag), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_peek(bad[i], KEY("k"), 1, &decision), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_peek_at(bad[i], KEY("k"), 1, 0, &decision), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_refund(bad[i], KEY("k"), 1), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_refund_at(bad[i], KEY("k"), 1, 0), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_reset(bad[i], KEY("k")), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_reset_at(bad[i], KEY("k"), 0), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_block(bad[i], KEY("k"), 1), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_set_limit(bad[i], "1/s"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_set_limits(bad[i], NULL, 0), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_set_override(bad[i], KEY("k"), "1/s"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_clear_override(bad[i], KEY("k")), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_clear_overrides(bad[i]), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_acquire(bad[i], KEY("k"), 1, RATELIMIT_NEVER, &flag), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_stats(bad[i], &stats), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_prometheus(bad[i], NULL, 0, &needed), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_snapshot(bad[i]), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_close(bad[i]), RATELIMIT_ERR_CLOSED);
        HOLDS(is_untouched(&decision) && !flag && stats.allowed == 0 && needed == 0);
    }
    /* Those that are open felt nothing. */
    OK(ratelimit_check(open, KEY("k"), 1, &decision));
    HOLDS(decision.remaining == 2);
    OK(ratelimit_check(next, KEY("k"), 1, &decision));
    HOLDS(decision.remaining == 2);
    OK(ratelimit_close(open));
    OK(ratelimit_close(next));
}

static void stale_configs(void) {
    ratelimit_config *freed = ratelimit_config_new(1, 1000000000);
    OK(ratelimit_config_free(freed));
    ratelimit_config *config = ratelimit_config_new(1, 1000000000);
    HOLDS(config != freed);
    ratelimit_config *const bad[] = {freed, (ratelimit_config *)&config, (ratelimit_config *)UINTPTR_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ratelimit_limiter limiter = 7;
        IS(ratelimit_config_set_burst(bad[i], 1), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_strict(bad[i], true), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_max_keys(bad[i], 1), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_path(bad[i], "p"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_snapshot_every(bad[i], 1), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_restore(bad[i], "auto"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_share(bad[i], "s"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_share(bad[i], NULL), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_replace_limits(bad[i], true), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_clock(bad[i], "os"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_overflow(bad[i], "deny"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_set_hash_key(bad[i], "00000000000000000000000000000000"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_add_limit(bad[i], "1/s"), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_open(bad[i], &limiter), RATELIMIT_ERR_CLOSED);
        IS(ratelimit_config_free(bad[i]), RATELIMIT_ERR_CLOSED);
        HOLDS(limiter == 7);
    }
    IS(ratelimit_config_set_burst(NULL, 1), RATELIMIT_ERR_NULL);
    OK(ratelimit_config_free(config));
}

int main(void) {
    keys();
    pointers();
    stale_handles();
    stale_configs();
    puts("torture: ok");
    return 0;
}
