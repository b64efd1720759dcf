/* One node of the cluster in C: asks for one client at a steady rate and says ten times a second what it got.

   Arguments: NODE LISTEN SEEDS CERTS SNAPSHOT LIMIT RATE. Input: a line "limit TEXT" changes the limit on all nodes; the end of the input
   says goodbye. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <ratelimit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int failed(const char *what) {
    char text[512];
    size_t needed = 0;
    if (ratelimit_last_error_message(text, sizeof text, &needed) != RATELIMIT_OK) text[0] = 0;
    fprintf(stderr, "worker: %s: %s\n", what, text);
    return 1;
}

/* Obeys what has come. 0 at the end of the input. */
static int obey(ratelimit_limiter limiter) {
    static char line[256];
    static size_t length = 0;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (poll(&input, 1, 0) > 0) {
        ssize_t got = read(0, line + length, sizeof line - 1 - length);
        if (got <= 0) return 0;
        length += (size_t)got;
        line[length] = 0;
        char *end = strchr(line, '\n');
        if (end == NULL) continue;
        *end = 0;
        if (strncmp(line, "limit ", 6) == 0 && ratelimit_set_limit(limiter, line + 6) != RATELIMIT_OK) {
            failed(line);
        }
        length = 0;
    }
    return 1;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: worker NODE LISTEN SEEDS CERTS SNAPSHOT LIMIT RATE\n");
        return 2;
    }
    ratelimit_config *config = NULL;
    ratelimit_limiter limiter = 0;
    if (ratelimit_config_parse(arguments[6], &config) != RATELIMIT_OK) return failed("the limit");
    /* What a setter refuses is said by ratelimit_open. */
    (void)ratelimit_config_set_path(config, arguments[5]);
    (void)ratelimit_config_set_snapshot_every(config, 100000000);
    (void)ratelimit_config_set_cluster_node(config, arguments[1]);
    (void)ratelimit_config_set_cluster_listen(config, arguments[2]);
    (void)ratelimit_config_set_cluster_seeds(config, arguments[3]);
    (void)ratelimit_config_set_cluster_certs(config, arguments[4]);
    ratelimit_result opened = ratelimit_open(config, &limiter);
    ratelimit_config_free(config);
    if (opened != RATELIMIT_OK) return failed("open");
    bool ready = false;
    (void)ratelimit_ready(limiter, 0, &ready);

    double rate = strtod(arguments[7], NULL), start = now(), told = start;
    long long offered = 0, admitted = 0;
    while (obey(limiter)) {
        double time = now();
        long long due = (long long)((time - start) * rate);
        for (; offered < due; offered++) {
            admitted += ratelimit_is_allowed(limiter, (const uint8_t *)"client-7", 8);
        }
        if (time - told >= 0.1) {
            told = time;
            printf("%lld %lld\n", admitted, offered);
            fflush(stdout);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    ratelimit_close(limiter);
    printf("%lld %lld\n", admitted, offered);
    return 0;
}
