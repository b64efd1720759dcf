/* The shared vectors, through the public interface. ratelimit-ffi-tools makes vectors.h of the files in vectors. */
#include "test.h"

enum op { CHECK, PEEK, REFUND, RESET };

struct call {
    enum op op;
    const char *key;
    size_t key_len;
    uint64_t cost, now_ns;
    int has_expected;
    ratelimit_decision expected;
};

struct a_case {
    const char *name;
    const char *limits[8];
    size_t limit_count, first_call, call_count;
};

struct poll {
    const char *name;
    const char *limits[8];
    size_t limit_count;
    uint64_t start_ns, every_ns, calls, cost, allowed_min, allowed_max;
};

struct a_text {
    const char *text;
    int is_accepted;
    uint64_t rate_limit, window_ns, burst;
    int is_strict;
    const char *canonical;
};

struct an_ip {
    const char *trusted, *header;
    unsigned ipv6_prefix;
    const char *peer, *value, *expected;
};

#include "vectors.h"

#define LENGTH(array) (sizeof array / sizeof array[0])

static ratelimit_limiter opened_with(const char *const *limits, size_t count) {
    ratelimit_config *config = NULL;
    ratelimit_limiter limiter = 0;
    OK(ratelimit_config_parse(limits[0], &config));
    for (size_t i = 1; i < count; i++) {
        OK(ratelimit_config_add_limit(config, limits[i]));
    }
    OK(ratelimit_open(config, &limiter));
    OK(ratelimit_config_free(config));
    return limiter;
}

static void run_case(const struct a_case *one) {
    ratelimit_limiter limiter = opened_with(one->limits, one->limit_count);
    for (size_t i = 0; i < one->call_count; i++) {
        const struct call *call = &calls[one->first_call + i];
        const uint8_t *key = (const uint8_t *)call->key;
        ratelimit_decision got = {false, 0, 0, 0, 0};
        switch (call->op) {
        case CHECK:
            OK(ratelimit_check_at(limiter, key, call->key_len, call->cost, call->now_ns, &got));
            break;
        case PEEK:
            OK(ratelimit_peek_at(limiter, key, call->key_len, call->cost, call->now_ns, &got));
            break;
        case REFUND:
            OK(ratelimit_refund_at(limiter, key, call->key_len, call->cost, call->now_ns));
            continue;
        case RESET:
            OK(ratelimit_reset_at(limiter, key, call->key_len, call->now_ns));
            continue;
        }
        if (!call->has_expected) {
            continue;
        }
        const ratelimit_decision *expected = &call->expected;
        if (got.allowed != expected->allowed || got.limit != expected->limit || got.remaining != expected->remaining ||
            got.retry_after_ns != expected->retry_after_ns || got.reset_after_ns != expected->reset_after_ns) {
            fprintf(stderr, "\"%s\", call %zu: got %d %llu %llu %llu %llu\n", one->name, i, got.allowed,
                    (unsigned long long)got.limit, (unsigned long long)got.remaining,
                    (unsigned long long)got.retry_after_ns, (unsigned long long)got.reset_after_ns);
            abort();
        }
    }
    OK(ratelimit_close(limiter));
}

static void run_poll(const struct poll *poll) {
    ratelimit_limiter limiter = opened_with(poll->limits, poll->limit_count);
    uint64_t allowed = 0;
    for (uint64_t i = 0; i < poll->calls; i++) {
        ratelimit_decision got;
        OK(ratelimit_check_at(limiter, KEY("a"), poll->cost, poll->start_ns + i * poll->every_ns, &got));
        allowed += got.allowed;
    }
    if (allowed < poll->allowed_min || allowed > poll->allowed_max) {
        fprintf(stderr, "\"%s\": %llu allowed\n", poll->name, (unsigned long long)allowed);
        abort();
    }
    OK(ratelimit_close(limiter));
}

/* A limit cannot be asked what it is; what it says in force can. */
static void run_text(const struct a_text *text) {
    ratelimit_config *config = NULL;
    if (!text->is_accepted) {
        IS(ratelimit_config_parse(text->text, &config), RATELIMIT_ERR_INVALID_LIMIT);
        HOLDS(config == NULL && last_error()[0] != '\0');
        return;
    }
    const char *spellings[2] = {text->text, text->canonical};
    ratelimit_decision decisions[3];
    for (int i = 0; i < 2; i++) {
        ratelimit_limiter limiter = opened_with(&spellings[i], 1);
        OK(ratelimit_check_at(limiter, KEY("a"), 1, 0, &decisions[i]));
        OK(ratelimit_close(limiter));
    }
    ratelimit_limiter limiter = 0;
    config = ratelimit_config_new(text->rate_limit, text->window_ns);
    OK(ratelimit_config_set_burst(config, text->burst));
    OK(ratelimit_config_set_strict(config, text->is_strict != 0));
    OK(ratelimit_open(config, &limiter));
    OK(ratelimit_config_free(config));
    OK(ratelimit_check_at(limiter, KEY("a"), 1, 0, &decisions[2]));
    OK(ratelimit_close(limiter));
    for (int i = 0; i < 3; i++) {
        HOLDS(decisions[i].limit == text->burst);
        HOLDS(decisions[i].reset_after_ns == decisions[0].reset_after_ns);
    }
}

static void run_client_ip(const struct an_ip *one) {
    char ip[64];
    size_t needed = 0;
    OK(ratelimit_client_ip(one->trusted, one->header, (uint8_t)one->ipv6_prefix, one->peer, (const uint8_t *)one->value,
                           strlen(one->value), ip, sizeof ip, &needed));
    if (strcmp(ip, one->expected == NULL ? "" : one->expected) != 0 || needed != strlen(ip) + 1) {
        fprintf(stderr, "\"%s\" from %s behind %s: %s\n", one->value, one->peer, one->trusted, ip);
        abort();
    }
}

int main(void) {
    for (size_t i = 0; i < LENGTH(cases); i++) {
        run_case(&cases[i]);
    }
    for (size_t i = 0; i < LENGTH(polls); i++) {
        run_poll(&polls[i]);
    }
    for (size_t i = 0; i < LENGTH(texts); i++) {
        run_text(&texts[i]);
    }
    for (size_t i = 0; i < LENGTH(client_ips); i++) {
        run_client_ip(&client_ips[i]);
    }
    printf("vectors: ok, %zu calls in %zu cases, %zu polls, %zu texts, %zu client addresses\n", LENGTH(calls),
           LENGTH(cases), LENGTH(polls), LENGTH(texts), LENGTH(client_ips));
    return 0;
}
