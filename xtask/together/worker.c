/* One of the processes that hold one limit together: asks CALLS times for one client and prints how often it was allowed. */
#include <ratelimit.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: worker NAME CALLS\n");
        return 2;
    }
    ratelimit_config *config = NULL;
    ratelimit_limiter limiter = 0;
    ratelimit_result result = ratelimit_config_parse("100/day", &config);
    if (result == RATELIMIT_OK) result = ratelimit_config_set_max_keys(config, 1000);
    if (result == RATELIMIT_OK) result = ratelimit_config_set_share(config, arguments[1]);
    if (result == RATELIMIT_OK) result = ratelimit_open(config, &limiter);
    ratelimit_config_free(config);
    if (result != RATELIMIT_OK) {
        fprintf(stderr, "worker: %s\n", ratelimit_result_str(result));
        return 1;
    }
    long calls = strtol(arguments[2], NULL, 10), allowed = 0;
    for (long call = 0; call < calls; call++) {
        allowed += ratelimit_is_allowed(limiter, (const uint8_t *)"client-7", 8);
    }
    ratelimit_close(limiter);
    printf("%ld\n", allowed);
    return 0;
}
