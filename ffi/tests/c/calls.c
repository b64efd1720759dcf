/* Every call does what the header says. */
#include "test.h"

#include <glob.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void deciding(void) {
    ratelimit_limiter limiter = opened("2/minute");
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    HOLDS(!ratelimit_is_allowed(limiter, KEY("a")));

    ratelimit_decision decision;
    OK(ratelimit_check(limiter, KEY("b"), 1, &decision));
    HOLDS(decision.allowed && decision.limit == 2 && decision.remaining == 1 && decision.retry_after_ns == 0);
    HOLDS(decision.reset_after_ns > 0 && decision.reset_after_ns <= UINT64_C(30000000000));
    OK(ratelimit_check(limiter, KEY("b"), 3, &decision));
    HOLDS(!decision.allowed && decision.retry_after_ns == RATELIMIT_NEVER);
    OK(ratelimit_check(limiter, KEY("a"), 0, &decision));
    HOLDS(decision.allowed);

    OK(ratelimit_peek(limiter, KEY("b"), 1, &decision));
    HOLDS(decision.allowed && decision.remaining == 1);
    OK(ratelimit_refund(limiter, KEY("b"), 1));
    OK(ratelimit_peek(limiter, KEY("b"), 2, &decision));
    HOLDS(decision.allowed && decision.remaining == 2);

    /* Time 0 is a legal time, and any origin will do. */
    OK(ratelimit_check_at(limiter, KEY("c"), 2, 0, &decision));
    HOLDS(decision.allowed);
    OK(ratelimit_peek_at(limiter, KEY("c"), 1, UINT64_C(10000000000), &decision));
    HOLDS(!decision.allowed && decision.retry_after_ns == UINT64_C(20000000000));
    OK(ratelimit_refund_at(limiter, KEY("c"), 1, UINT64_C(10000000000)));
    OK(ratelimit_check_at(limiter, KEY("c"), 1, UINT64_C(10000000000), &decision));
    HOLDS(decision.allowed);
    OK(ratelimit_reset_at(limiter, KEY("c"), UINT64_C(10000000000)));
    OK(ratelimit_peek_at(limiter, KEY("c"), 1, UINT64_C(10000000000), &decision));
    HOLDS(decision.remaining == 2);

    OK(ratelimit_reset(limiter, KEY("a")));
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    OK(ratelimit_block(limiter, KEY("a"), UINT64_C(60000000000)));
    OK(ratelimit_check(limiter, KEY("a"), 1, &decision));
    HOLDS(!decision.allowed && decision.retry_after_ns > UINT64_C(30000000000));
    OK(ratelimit_block(limiter, KEY("a"), 0));
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    OK(ratelimit_close(limiter));
}

static void batches(void) {
    ratelimit_limiter limiter = opened("2/minute");
    enum { COUNT = 1000 };
    static char texts[COUNT][8];
    static const uint8_t *keys[COUNT];
    static size_t lens[COUNT];
    static uint64_t costs[COUNT];
    static ratelimit_decision decisions[COUNT];
    static bool allowed[COUNT];
    for (int i = 0; i < COUNT; i++) {
        /* Three of each key, of which two fit. */
        lens[i] = (size_t)snprintf(texts[i], sizeof texts[i], "%d", i / 3);
        keys[i] = (const uint8_t *)texts[i];
        costs[i] = 2;
    }
    OK(ratelimit_check_many(limiter, keys, lens, NULL, COUNT, decisions));
    for (int i = 0; i < COUNT; i++) {
        HOLDS(decisions[i].allowed == (i % 3 != 2) && decisions[i].limit == 2);
    }
    OK(ratelimit_allowed_many(limiter, keys, lens, COUNT, allowed));
    for (int i = 0; i < COUNT - 1; i++) {
        HOLDS(!allowed[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        OK(ratelimit_reset(limiter, keys[i], lens[i]));
    }
    OK(ratelimit_check_many(limiter, keys, lens, costs, COUNT, decisions));
    for (int i = 0; i < COUNT; i++) {
        HOLDS(decisions[i].allowed == (i % 3 == 0));
    }
    OK(ratelimit_check_many(limiter, NULL, NULL, NULL, 0, NULL));
    OK(ratelimit_allowed_many(limiter, NULL, NULL, 0, NULL));

    /* One bad key: nothing is decided. */
    const uint8_t *some[3] = {(const uint8_t *)"x", NULL, (const uint8_t *)"x"};
    size_t their[3] = {1, 5, 1};
    IS(ratelimit_check_many(limiter, some, their, NULL, 3, decisions), RATELIMIT_ERR_NULL);
    IS(ratelimit_allowed_many(limiter, some, their, 3, allowed), RATELIMIT_ERR_NULL);
    ratelimit_decision decision;
    OK(ratelimit_peek(limiter, KEY("x"), 1, &decision));
    HOLDS(decision.remaining == 2);
    OK(ratelimit_close(limiter));
}

static void limits(void) {
    ratelimit_limiter limiter = opened("2/minute");
    ratelimit_decision decision;
    OK(ratelimit_set_limit(limiter, "5/minute"));
    OK(ratelimit_peek(limiter, KEY("a"), 1, &decision));
    HOLDS(decision.limit == 5);
    IS(ratelimit_set_limit(limiter, "5/fortnight"), RATELIMIT_ERR_INVALID_LIMIT);
    HOLDS(strstr(last_error(), "fortnight") != NULL);
    IS(ratelimit_set_limit(limiter, "\xff/s"), RATELIMIT_ERR_TEXT);
    OK(ratelimit_set_override(limiter, KEY("a"), "9/minute"));
    OK(ratelimit_peek(limiter, KEY("a"), 1, &decision));
    HOLDS(decision.limit == 9);
    OK(ratelimit_set_override(limiter, KEY("a"), NULL));
    OK(ratelimit_set_override(limiter, KEY("a"), "9/minute"));
    OK(ratelimit_clear_override(limiter, KEY("a")));
    OK(ratelimit_clear_override(limiter, KEY("never seen")));
    OK(ratelimit_peek(limiter, KEY("a"), 1, &decision));
    HOLDS(decision.limit == 5);
    OK(ratelimit_set_override(limiter, KEY("a"), "9/minute"));
    OK(ratelimit_clear_overrides(limiter));
    OK(ratelimit_peek(limiter, KEY("a"), 1, &decision));
    HOLDS(decision.limit == 5);
    IS(ratelimit_set_override(limiter, KEY("a"), "0/minute"), RATELIMIT_ERR_INVALID_LIMIT);
    const char *two[] = {"1/s", "2/s"};
    IS(ratelimit_set_limits(limiter, two, 2), RATELIMIT_ERR_LIMIT_COUNT);
    OK(ratelimit_close(limiter));

    ratelimit_config *config = NULL;
    OK(ratelimit_config_parse("10/s", &config));
    OK(ratelimit_config_add_limit(config, "1000/day"));
    OK(ratelimit_open(config, &limiter));
    OK(ratelimit_check(limiter, KEY("a"), 10, &decision));
    HOLDS(decision.allowed && decision.limit == 10 && decision.remaining == 0);
    OK(ratelimit_set_limits(limiter, two, 2));
    IS(ratelimit_set_limits(limiter, NULL, 0), RATELIMIT_ERR_LIMIT_COUNT);
    IS(ratelimit_set_limit(limiter, "1/s"), RATELIMIT_ERR_LIMIT_COUNT);
    OK(ratelimit_close(limiter));
    OK(ratelimit_config_free(config));
}

static void options(void) {
    ratelimit_limiter limiter = 0;
    ratelimit_decision decision;
    ratelimit_config *config = ratelimit_config_new(100, UINT64_C(60000000000));
    OK(ratelimit_config_set_burst(config, 20));
    OK(ratelimit_config_set_strict(config, true));
    OK(ratelimit_config_set_max_keys(config, 1000));
    OK(ratelimit_config_set_clock(config, "coarse"));
    OK(ratelimit_config_set_overflow(config, "deny"));
    OK(ratelimit_config_set_hash_key(config, "000102030405060708090a0b0c0d0e0f"));
    OK(ratelimit_open(config, &limiter));
    OK(ratelimit_check(limiter, KEY("a"), 20, &decision));
    HOLDS(decision.allowed && decision.limit == 20);
    /* 20 at once, and the other 80 spread over the minute. */
    HOLDS(decision.reset_after_ns == UINT64_C(15000000000));
    ratelimit_statistics stats = {.struct_size = sizeof stats};
    OK(ratelimit_stats(limiter, &stats));
    HOLDS(stats.struct_size == sizeof stats && stats.allowed == 1 && stats.denied == 0 && stats.live_keys == 1);
    HOLDS(strcmp(stats.clock, "coarse") == 0 && stats.cells_max >= 1000 && !stats.clock_fell_back);
    OK(ratelimit_close(limiter));

    /* What a setter refuses is refused by open too, with the same sentence, until it is set well. */
    IS(ratelimit_config_set_burst(config, 0), RATELIMIT_ERR_OPTION);
    HOLDS(strstr(last_error(), "burst is 0") != NULL);
    OK(ratelimit_config_set_max_keys(config, 1000));
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_OPTION);
    HOLDS(strstr(last_error(), "burst is 0") != NULL);
    OK(ratelimit_config_set_burst(config, 5));
    IS(ratelimit_config_set_max_keys(config, 0), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_set_max_keys(config, 1000));
    IS(ratelimit_config_set_clock(config, "sundial"), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_set_clock(config, "precise"));
    IS(ratelimit_config_set_overflow(config, "evict"), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_set_overflow(config, "allow"));
    IS(ratelimit_config_set_hash_key(config, "secret"), RATELIMIT_ERR_OPTION);
    HOLDS(strstr(last_error(), "secret") == NULL);
    OK(ratelimit_config_set_hash_key(config, "000102030405060708090a0b0c0d0e0f"));
    IS(ratelimit_config_set_snapshot_every(config, 0), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_set_snapshot_every(config, 1000000000));
    /* Restore what? There is no path. */
    OK(ratelimit_config_set_restore(config, "required"));
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_OPTION);
    HOLDS(strstr(last_error(), "give path too") != NULL);
    OK(ratelimit_config_free(config));

    /* Bad numbers of a new config are reported by open. */
    config = ratelimit_config_new(0, 1);
    HOLDS(config != NULL);
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_OPTION);
    HOLDS(strstr(last_error(), "rate_limit is 0") != NULL);
    OK(ratelimit_config_free(config));
    config = ratelimit_config_new(UINT64_MAX, 1);
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_INVALID_LIMIT);
    OK(ratelimit_config_free(config));
    config = ratelimit_config_new(1, 0);
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_free(config));
    config = ratelimit_config_new(1, 1000);
    OK(ratelimit_config_set_max_keys(config, UINT64_MAX));
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_MAX_KEYS);
    OK(ratelimit_config_free(config));
    /* A limit is said in numbers or as text. */
    config = ratelimit_config_new(1, 1000000000);
    OK(ratelimit_config_add_limit(config, "10/minute"));
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_free(config));
    OK(ratelimit_config_parse("1/s", &config));
    for (int i = 0; i < 8; i++) {
        OK(ratelimit_config_add_limit(config, "1/s"));
    }
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_LIMIT_COUNT);
    OK(ratelimit_config_free(config));
}

/* What depends on snapshots and shared tables: supported, or refused with that code and by a sentence. */
static void persistence(const char *folder) {
    ratelimit_config *config = NULL;
    ratelimit_limiter limiter = 0;
    char path[512];
    snprintf(path, sizeof path, "%s/calls-%ld.snapshot", folder, (long)getpid());
    OK(ratelimit_config_parse("2/hour", &config));
    OK(ratelimit_config_set_path(config, path));
    OK(ratelimit_config_set_restore(config, "salvage"));
    IS(ratelimit_config_set_restore(config, "hope"), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_set_restore(config, "auto"));
    OK(ratelimit_open(config, &limiter));
    ratelimit_limiter second = 0;
    IS(ratelimit_open(config, &second), RATELIMIT_ERR_SNAPSHOT_BUSY);
    HOLDS(second == 0 && strstr(last_error(), path) != NULL);
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    OK(ratelimit_snapshot(limiter));
    ratelimit_statistics stats = {.struct_size = sizeof stats};
    OK(ratelimit_stats(limiter, &stats));
    HOLDS(stats.snapshots_written >= 1 && stats.snapshot_last_cells == 1 && stats.snapshot_errors == 0);
    HOLDS(stats.snapshot_last_bytes > 0 && stats.snapshot_age_ns != RATELIMIT_NEVER);
    /* What comes after it is in the last one, which close writes. */
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    OK(ratelimit_close(limiter));
    OK(ratelimit_open(config, &limiter));
    HOLDS(!ratelimit_is_allowed(limiter, KEY("a")) && ratelimit_is_allowed(limiter, KEY("b")));
    OK(ratelimit_close(limiter));
    OK(ratelimit_config_set_path(config, "/dev/null/calls.snapshot"));
    HOLDS(ratelimit_open(config, &limiter) != RATELIMIT_OK);
    HOLDS(strstr(last_error(), "/dev/null") != NULL);
    OK(ratelimit_config_free(config));

    limiter = opened("2/hour");
    /* Without a file there is nothing to write. */
    IS(ratelimit_snapshot(limiter), RATELIMIT_ERR_NOT_PERSISTENT);
    OK(ratelimit_stats(limiter, &stats));
    HOLDS(stats.snapshots_written == 0 && stats.snapshot_age_ns == RATELIMIT_NEVER);
    OK(ratelimit_close(limiter));

    /* A table for this process and those it forks: what a child spends is spent here. */
    OK(ratelimit_config_parse("2/hour", &config));
    OK(ratelimit_config_set_share(config, NULL));
    OK(ratelimit_open(config, &limiter));
    fflush(stdout);
    pid_t pid = fork();
    HOLDS(pid >= 0);
    if (pid == 0) {
        _exit(ratelimit_is_allowed(limiter, KEY("a")) && ratelimit_is_allowed(limiter, KEY("a")) ? 0 : 1);
    }
    int status = 0;
    HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
    HOLDS(!ratelimit_is_allowed(limiter, KEY("a")) && ratelimit_is_allowed(limiter, KEY("b")));
    OK(ratelimit_stats(limiter, &stats));
    HOLDS(strcmp(stats.shared_with, "children") == 0 && stats.attached >= 1);
    OK(ratelimit_close(limiter));

    /* A table by name: two limiters on it hold one limit, whoever opens it. */
    char name[64];
    snprintf(name, sizeof name, "ratelimit-c-test-%ld", (long)getpid());
    OK(ratelimit_config_set_share(config, name));
    OK(ratelimit_open(config, &limiter));
    OK(ratelimit_open(config, &second));
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")) && ratelimit_is_allowed(second, KEY("a")));
    HOLDS(!ratelimit_is_allowed(limiter, KEY("a")) && !ratelimit_is_allowed(second, KEY("a")));
    OK(ratelimit_stats(second, &stats));
    HOLDS(strcmp(stats.shared_with, "name") == 0 && stats.attached == 2);
    ratelimit_config *other = NULL;
    ratelimit_limiter third = 0;
    OK(ratelimit_config_parse("3/hour", &other));
    OK(ratelimit_config_set_share(other, name));
    IS(ratelimit_open(other, &third), RATELIMIT_ERR_SHARE_MISMATCH);
    OK(ratelimit_config_set_replace_limits(other, true));
    OK(ratelimit_open(other, &third));
    ratelimit_decision decision;
    OK(ratelimit_peek(limiter, KEY("new"), 1, &decision));
    HOLDS(decision.limit == 3);
    OK(ratelimit_close(limiter));
    OK(ratelimit_close(second));
    OK(ratelimit_close(third));
    OK(ratelimit_config_free(config));
    OK(ratelimit_config_free(other));

    /* Without a cluster there are no peers, and nobody to wait for. */
    ratelimit_peer peer;
    size_t peers = 7;
    bool ready = false;
    limiter = opened("2/hour");
    OK(ratelimit_peers(limiter, &peer, 1, &peers));
    HOLDS(peers == 0);
    OK(ratelimit_peers(limiter, NULL, 0, &peers));
    IS(ratelimit_peers(limiter, NULL, 1, &peers), RATELIMIT_ERR_NULL);
    IS(ratelimit_peers(limiter, &peer, 1, NULL), RATELIMIT_ERR_NULL);
    OK(ratelimit_ready(limiter, 0, &ready));
    HOLDS(ready);
    IS(ratelimit_ready(limiter, 0, NULL), RATELIMIT_ERR_NULL);
    OK(ratelimit_close(limiter));
    IS(ratelimit_ready(limiter, 0, &ready), RATELIMIT_ERR_CLOSED);
    IS(ratelimit_peers(limiter, &peer, 1, &peers), RATELIMIT_ERR_CLOSED);

    /* What is said of a cluster is looked at when it is said, and as a whole when the limiter is opened. */
    OK(ratelimit_config_parse("2/hour", &config));
    OK(ratelimit_config_set_cluster_node(config, "a"));
    OK(ratelimit_config_set_cluster_listen(config, "127.0.0.1:0"));
    IS(ratelimit_config_set_cluster_mode(config, "lax"), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_set_cluster_mode(config, "bounded:20"));
    IS(ratelimit_open(config, &limiter), RATELIMIT_ERR_CLUSTER_CONFIG);
    OK(ratelimit_config_free(config));
    /* A shared table outlives those who use it; this one is nobody's any more. */
    char pattern[128];
    snprintf(pattern, sizeof pattern, "/dev/shm/ratelimit-*-%s-*", name);
    glob_t found;
    HOLDS(glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc == 1);
    HOLDS(unlink(found.gl_pathv[0]) == 0);
    globfree(&found);
}

static void texts(void) {
    HOLDS(strcmp(ratelimit_version(), RATELIMIT_VERSION) == 0);
    HOLDS(strcmp(ratelimit_result_name(RATELIMIT_ERR_INVALID_LIMIT), "invalid_limit") == 0);
    HOLDS(strcmp(ratelimit_result_name(RATELIMIT_OK), "ok") == 0);
    HOLDS(strcmp(ratelimit_result_name(12345), "unknown") == 0);
    HOLDS(strlen(ratelimit_result_str(RATELIMIT_ERR_CLOSED)) > 5);
    HOLDS(strcmp(ratelimit_result_str(UINT32_MAX), "unknown result") == 0);

    ratelimit_limiter limiter = opened("2/minute");
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    size_t needed = 0;
    char buffer[8192];
    OK(ratelimit_prometheus(limiter, NULL, 0, &needed));
    HOLDS(needed > 500 && needed < sizeof buffer);
    memset(buffer, 'x', sizeof buffer);
    size_t again = 0;
    IS(ratelimit_prometheus(limiter, buffer, needed - 1, &again), RATELIMIT_ERR_BUFFER_TOO_SMALL);
    HOLDS(again == needed && buffer[0] == 'x');
    OK(ratelimit_prometheus(limiter, buffer, needed, &again));
    HOLDS(strlen(buffer) == needed - 1 && strstr(buffer, "ratelimit_allowed_total 1\n") != NULL);
    HOLDS(buffer[needed] == 'x');
    OK(ratelimit_close(limiter));

    IS(ratelimit_close(limiter), RATELIMIT_ERR_CLOSED);
    OK(ratelimit_last_error_message(NULL, 0, &needed));
    HOLDS(needed > 10);
    IS(ratelimit_last_error_message(buffer, 3, &needed), RATELIMIT_ERR_BUFFER_TOO_SMALL);
    OK(ratelimit_last_error_message(buffer, needed, &needed));
    HOLDS(strstr(buffer, "closed") != NULL);

    /* A sentence about a long text is cut, and at the border of a character. */
    char *text = malloc(100001);
    HOLDS(text != NULL);
    for (int i = 0; i < 100000; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    text[100000] = '\0';
    ratelimit_config *config = NULL;
    IS(ratelimit_config_parse(text, &config), RATELIMIT_ERR_INVALID_LIMIT);
    HOLDS(strlen(last_error()) < 1024);
    free(text);
}

static uint64_t milliseconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void waiting(void) {
    ratelimit_limiter limiter = opened("20/s burst 1");
    bool acquired = false;
    uint64_t start = milliseconds();
    for (int i = 0; i < 4; i++) {
        OK(ratelimit_acquire(limiter, KEY("a"), 1, RATELIMIT_NEVER, &acquired));
        HOLDS(acquired);
    }
    HOLDS(milliseconds() - start >= 140);
    /* Who cannot be allowed in time is told at once. */
    OK(ratelimit_acquire(limiter, KEY("a"), 1, 1000, &acquired));
    HOLDS(!acquired);
    OK(ratelimit_acquire(limiter, KEY("a"), 2, RATELIMIT_NEVER, &acquired));
    HOLDS(!acquired);
    OK(ratelimit_acquire(limiter, KEY("b"), 1, 0, &acquired));
    HOLDS(acquired);
    OK(ratelimit_close(limiter));
}

#define LOGIN "[[rule]]\nname = \"login\"\nwhen.path.prefix = \"/login\"\nby = [\"ip\"]\nlimits = \"%s\"\n"
#define ATTRIBUTES(ip, path) \
    (const ratelimit_attribute[]) { {"ip", KEY(ip)}, {"path", KEY(path)} }, 2

static void rules(const char *folder) {
    char text[256], path[512];
    ratelimit_rules rules = 0;
    ratelimit_rule_decision told;
    snprintf(text, sizeof text, LOGIN, "2/hour");
    /* Of this run alone: the same program runs again, with the same folder. */
    snprintf(path, sizeof path, "%s/rules-%ld.snapshot", folder, (long)getpid());
    ratelimit_config *config = ratelimit_config_new_for_rules();
    OK(ratelimit_config_set_path(config, path));
    OK(ratelimit_rules_open(text, config, &rules));
    OK(ratelimit_rules_check(rules, ATTRIBUTES("a", "/login"), 1, &told));
    HOLDS(told.decision.allowed && told.decision.remaining == 1 && strcmp(told.rule, "login") == 0 && !told.shadow[0]);
    OK(ratelimit_rules_check(rules, ATTRIBUTES("a", "/login"), 1, &told));
    OK(ratelimit_rules_check(rules, ATTRIBUTES("a", "/login"), 1, &told));
    HOLDS(!told.decision.allowed && told.decision.limit == 2);
    OK(ratelimit_rules_check(rules, ATTRIBUTES("a", "/"), 1, &told));
    HOLDS(told.decision.allowed && told.rule[0] == '\0' && told.decision.remaining == UINT64_MAX);
    OK(ratelimit_rules_check_at(rules, ATTRIBUTES("at", "/login"), 3, 0, &told));
    HOLDS(!told.decision.allowed && told.decision.retry_after_ns == RATELIMIT_NEVER);

    snprintf(text, sizeof text, LOGIN, "4/hour");
    OK(ratelimit_rules_replace(rules, text));
    /* The whole burst is spent, of the other limit too. */
    OK(ratelimit_rules_peek(rules, ATTRIBUTES("a", "/login"), 1, &told));
    HOLDS(!told.decision.allowed && told.decision.limit == 4);
    OK(ratelimit_rules_refund(rules, ATTRIBUTES("a", "/login"), 1));
    OK(ratelimit_rules_peek(rules, ATTRIBUTES("a", "/login"), 1, &told));
    HOLDS(told.decision.remaining == 1);
    OK(ratelimit_rules_reset(rules, ATTRIBUTES("a", "/login")));
    OK(ratelimit_rules_check(rules, ATTRIBUTES("a", "/login"), 2, &told));
    HOLDS(told.decision.remaining == 2);
    const char *limits[] = {"9/hour"};
    OK(ratelimit_rules_set_override(rules, "login", "b", limits, 1));
    OK(ratelimit_rules_peek(rules, ATTRIBUTES("b", "/login"), 1, &told));
    HOLDS(told.decision.limit == 9);
    IS(ratelimit_rules_set_override(rules, "logon", "b", NULL, 0), RATELIMIT_ERR_ARGUMENT);
    IS(ratelimit_rules_replace(rules, "\n[[rule]]\n"), RATELIMIT_ERR_OPTION);
    HOLDS(strstr(last_error(), "line 2: ") != NULL);
    IS(ratelimit_rules_check(rules, NULL, 1, 1, &told), RATELIMIT_ERR_NULL);
    IS(ratelimit_rules_check(rules, NULL, 0, 1, NULL), RATELIMIT_ERR_NULL);
    char metrics[16384];
    size_t needed = 0;
    OK(ratelimit_rules_prometheus(rules, metrics, sizeof metrics, &needed));
    HOLDS(strstr(metrics, "ratelimit_rule_decisions_total{rule=\"login\",outcome=\"denied\"} 2") != NULL);
    OK(ratelimit_rules_close(rules));
    IS(ratelimit_rules_check(rules, ATTRIBUTES("a", "/login"), 1, &told), RATELIMIT_ERR_CLOSED);
    OK(ratelimit_rules_open(text, config, &rules));
    OK(ratelimit_rules_peek(rules, ATTRIBUTES("a", "/login"), 1, &told));
    HOLDS(told.decision.remaining == 2);
    OK(ratelimit_rules_close(rules));
    OK(ratelimit_config_free(config));
    config = ratelimit_config_new(1, 1000);
    IS(ratelimit_rules_open(text, config, &rules), RATELIMIT_ERR_OPTION);
    OK(ratelimit_config_free(config));
}

int main(int argc, char **argv) {
    HOLDS(argc == 2);
    deciding();
    batches();
    limits();
    options();
    persistence(argv[1]);
    rules(argv[1]);
    texts();
    waiting();
    puts("calls: ok");
    return 0;
}
