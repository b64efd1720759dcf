/* One limiter, asked by every request. Copy this folder to start from. */
#include <inttypes.h>
#include <ratelimit.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what, ratelimit_result result) {
    char sentence[1024] = "";
    size_t needed = 0;
    (void)ratelimit_last_error_message(sentence, sizeof sentence, &needed);
    fprintf(stderr, "%s: %s (%s)\n", what, sentence, ratelimit_result_name(result));
    return 1;
}

int main(void) {
    /* 100 requests a minute, 20 of them at once. */
    ratelimit_config *config = NULL;
    ratelimit_limiter limiter = 0;
    ratelimit_result result = ratelimit_config_parse("100/minute burst 20", &config);
    if (result == RATELIMIT_OK) {
        result = ratelimit_open(config, &limiter);
    }
    (void)ratelimit_config_free(config);
    if (result != RATELIMIT_OK) {
        return failed("the limiter could not be opened", result);
    }

    const char *client = "client-7";
    const uint8_t *key = (const uint8_t *)client;
    const size_t key_len = strlen(client);

    int allowed = 0;
    for (int i = 0; i < 30; i++) {
        allowed += ratelimit_is_allowed(limiter, key, key_len);
    }

    ratelimit_decision decision;
    result = ratelimit_check(limiter, key, key_len, 1, &decision);
    if (result != RATELIMIT_OK) {
        return failed("no decision", result);
    }
    if (!decision.allowed) {
        printf("%d of 30 allowed; the limit is %" PRIu64 ", ask again in %.3f s\n", allowed, decision.limit,
               (double)decision.retry_after_ns / 1e9);
    }
    return ratelimit_close(limiter) == RATELIMIT_OK ? 0 : 1;
}
