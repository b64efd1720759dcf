/* A panic in every entry: the caller gets RATELIMIT_ERR_INTERNAL or what the header promises, and the next call works.
   Needs the library with the feature test-hooks. */
#include "test.h"

#include <fcntl.h>
#include <unistd.h>

#include "entries.h"

void ratelimit_test_panic(const char *entry);

static ratelimit_limiter limiter;
static ratelimit_config *config;
static ratelimit_rules rules;

#define RULES "[[rule]]\nname = \"all\"\nby = [\"k\"]\nlimits = \"100/day\"\n"

/* Calls the entry of this name with good arguments. True if the answer is that of a call that went well. */
static bool went_well(const char *name) {
    const uint8_t *key = (const uint8_t *)"k";
    size_t len = 1, needed = 0;
    ratelimit_decision decision;
    ratelimit_statistics stats = {.struct_size = sizeof stats};
    bool flag = false;
    char buffer[8192];
    ratelimit_limiter other = 0;
    ratelimit_config *made = NULL;
    const char *limits[] = {"100/day"};
    ratelimit_attribute attribute = {"k", key, len};
    ratelimit_rule_decision by_rules;
    ratelimit_result result = RATELIMIT_OK;

#define CALL(entry, ...)                                                                                              \
    if (strcmp(name, #entry) == 0) {                                                                                  \
        result = entry(__VA_ARGS__);                                                                                  \
    } else
    if (strcmp(name, "ratelimit_result_str") == 0) {
        return strcmp(ratelimit_result_str(RATELIMIT_OK), "done") == 0;
    }
    if (strcmp(name, "ratelimit_result_name") == 0) {
        return strcmp(ratelimit_result_name(RATELIMIT_OK), "ok") == 0;
    }
    if (strcmp(name, "ratelimit_version") == 0) {
        /* It has nothing else to say, and says it even then. */
        return strcmp(ratelimit_version(), RATELIMIT_VERSION) == 0;
    }
    if (strcmp(name, "ratelimit_config_new") == 0) {
        made = ratelimit_config_new(1, 1000);
        return made != NULL && ratelimit_config_free(made) == RATELIMIT_OK;
    }
    if (strcmp(name, "ratelimit_config_free") == 0) {
        made = ratelimit_config_new(1, 1000);
        bool freed = ratelimit_config_free(made) == RATELIMIT_OK;
        HOLDS(freed || ratelimit_config_free(made) == RATELIMIT_OK);
        return freed;
    }
    if (strcmp(name, "ratelimit_config_new_for_rules") == 0) {
        made = ratelimit_config_new_for_rules();
        return made != NULL && ratelimit_config_free(made) == RATELIMIT_OK;
    }
    if (strcmp(name, "ratelimit_rules_open") == 0) {
        ratelimit_rules others = 0;
        result = ratelimit_rules_open(RULES, NULL, &others);
        return result == RATELIMIT_OK && ratelimit_rules_close(others) == RATELIMIT_OK;
    }
    if (strcmp(name, "ratelimit_rules_close") == 0) {
        ratelimit_rules others = 0;
        OK(ratelimit_rules_open(RULES, NULL, &others));
        bool closed = ratelimit_rules_close(others) == RATELIMIT_OK;
        HOLDS(closed || ratelimit_rules_close(others) == RATELIMIT_OK);
        return closed;
    }
    if (strcmp(name, "ratelimit_close") == 0) {
        other = opened("1/s");
        bool closed = ratelimit_close(other) == RATELIMIT_OK;
        HOLDS(closed || ratelimit_close(other) == RATELIMIT_OK);
        return closed;
    }
    if (strcmp(name, "ratelimit_is_allowed") == 0) {
        /* The only request of a new client's limit, or else failing open: told apart by what is left. */
        HOLDS(ratelimit_is_allowed(limiter, KEY("allowed")));
        OK(ratelimit_peek(limiter, KEY("allowed"), 1, &decision));
        OK(ratelimit_reset(limiter, KEY("allowed")));
        return decision.remaining == 99;
    }
    if (strcmp(name, "ratelimit_open") == 0) {
        result = ratelimit_open(config, &other);
        return result == RATELIMIT_OK && ratelimit_close(other) == RATELIMIT_OK;
    }
    if (strcmp(name, "ratelimit_config_parse") == 0) {
        result = ratelimit_config_parse("1/s", &made);
        return result == RATELIMIT_OK && ratelimit_config_free(made) == RATELIMIT_OK;
    }
    if (strcmp(name, "ratelimit_snapshot") == 0) {
        /* There is no file: whatever it says then, it is not a defect. */
        return ratelimit_snapshot(limiter) != RATELIMIT_ERR_INTERNAL;
    }
    if (strncmp(name, "ratelimit_config_set_", 21) == 0 || strcmp(name, "ratelimit_config_add_limit") == 0) {
        made = ratelimit_config_new(1, 1000);
        CALL(ratelimit_config_set_burst, made, 1)
        CALL(ratelimit_config_set_strict, made, true)
        CALL(ratelimit_config_set_max_keys, made, 10)
        CALL(ratelimit_config_set_path, made, "p")
        CALL(ratelimit_config_set_snapshot_every, made, 1000)
        CALL(ratelimit_config_set_restore, made, "auto")
        CALL(ratelimit_config_set_cluster_node, made, "a")
        CALL(ratelimit_config_set_cluster_listen, made, "127.0.0.1:0")
        CALL(ratelimit_config_set_cluster_advertise, made, "h:1")
        CALL(ratelimit_config_set_cluster_seeds, made, "h:1")
        CALL(ratelimit_config_set_cluster_certs, made, "d")
        CALL(ratelimit_config_set_cluster_ca, made, "f")
        CALL(ratelimit_config_set_cluster_cert, made, "f")
        CALL(ratelimit_config_set_cluster_key, made, "f")
        CALL(ratelimit_config_set_cluster_secret, made, "f")
        CALL(ratelimit_config_set_cluster_mode, made, "strict")
        CALL(ratelimit_config_set_cluster_owners, made, "a,b")
        CALL(ratelimit_config_set_cluster_on_partition, made, "open")
        CALL(ratelimit_config_set_cluster_interval, made, 50000000)
        CALL(ratelimit_config_set_cluster_max_nodes, made, 9)
        CALL(ratelimit_config_set_share, made, "s")
        CALL(ratelimit_config_set_replace_limits, made, true)
        CALL(ratelimit_config_set_clock, made, "os")
        CALL(ratelimit_config_set_overflow, made, "deny")
        CALL(ratelimit_config_set_hash_key, made, "00000000000000000000000000000000")
        CALL(ratelimit_config_add_limit, made, "1/s") {
            fprintf(stderr, "panics.c does not know %s: add it\n", name);
            abort();
        }
        OK(ratelimit_config_free(made));
        return result == RATELIMIT_OK || result == RATELIMIT_ERR_UNSUPPORTED;
    }
    CALL(ratelimit_last_error_message, buffer, sizeof buffer, &needed)
    CALL(ratelimit_refund, limiter, key, len, 1)
    CALL(ratelimit_refund_at, limiter, key, len, 1, 0)
    CALL(ratelimit_reset, limiter, key, len)
    CALL(ratelimit_reset_at, limiter, key, len, 0)
    CALL(ratelimit_block, limiter, key, len, 0)
    CALL(ratelimit_set_limit, limiter, "100/day")
    CALL(ratelimit_set_limits, limiter, limits, 1)
    CALL(ratelimit_set_override, limiter, key, len, "100/day")
    CALL(ratelimit_clear_override, limiter, key, len)
    CALL(ratelimit_clear_overrides, limiter)
    CALL(ratelimit_stats, limiter, &stats)
    CALL(ratelimit_peers, limiter, NULL, 0, &needed)
    CALL(ratelimit_ready, limiter, 0, &flag)
    CALL(ratelimit_prometheus, limiter, buffer, sizeof buffer, &needed)
    CALL(ratelimit_check, limiter, key, len, 1, &decision)
    CALL(ratelimit_check_at, limiter, key, len, 1, 0, &decision)
    CALL(ratelimit_peek, limiter, key, len, 1, &decision)
    CALL(ratelimit_peek_at, limiter, key, len, 1, 0, &decision)
    CALL(ratelimit_check_many, limiter, &key, &len, NULL, 1, &decision)
    CALL(ratelimit_allowed_many, limiter, &key, &len, 1, &flag)
    CALL(ratelimit_rules_check, rules, &attribute, 1, 1, &by_rules)
    CALL(ratelimit_rules_check_at, rules, &attribute, 1, 1, 0, &by_rules)
    CALL(ratelimit_rules_peek, rules, &attribute, 1, 1, &by_rules)
    CALL(ratelimit_rules_refund, rules, &attribute, 1, 1)
    CALL(ratelimit_rules_reset, rules, &attribute, 1)
    CALL(ratelimit_rules_replace, rules, RULES)
    CALL(ratelimit_rules_set_override, rules, "all", "v", limits, 1)
    CALL(ratelimit_rules_prometheus, rules, buffer, sizeof buffer, &needed)
    CALL(ratelimit_client_ip, "10.0.0.0/8", NULL, 0, "10.0.0.1", key, len, buffer, sizeof buffer, &needed)
    CALL(ratelimit_acquire, limiter, key, len, 1, 0, &flag) {
        fprintf(stderr, "panics.c does not know %s: add it\n", name);
        abort();
    }
    HOLDS(result == RATELIMIT_OK || result == RATELIMIT_ERR_INTERNAL);
    return result == RATELIMIT_OK;
}

int main(void) {
    limiter = opened("100/day");
    OK(ratelimit_rules_open(RULES, NULL, &rules));
    config = ratelimit_config_new(1, 1000);
    /* Each panic says so to stderr, which is as it should be and no help here. */
    int kept = dup(2), nothing = open("/dev/null", O_WRONLY);
    HOLDS(kept >= 0 && nothing >= 0);
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        HOLDS(went_well(entries[i]));
        ratelimit_test_panic(entries[i]);
        HOLDS(dup2(nothing, 2) == 2);
        bool well = went_well(entries[i]);
        HOLDS(dup2(kept, 2) == 2);
        if (well && strcmp(entries[i], "ratelimit_version") != 0 && strcmp(entries[i], "ratelimit_result_str") != 0) {
            fprintf(stderr, "%s felt no panic\n", entries[i]);
            abort();
        }
        if (strstr(entries[i], "last_error") == NULL) {
            HOLDS(strstr(last_error(), entries[i]) != NULL);
        }
        HOLDS(went_well(entries[i]));
    }
    OK(ratelimit_close(limiter));
    OK(ratelimit_config_free(config));
    printf("panics: ok, %zu entries\n", sizeof entries / sizeof entries[0]);
    return 0;
}
