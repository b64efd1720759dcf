/* Opening and closing for ever leaves nothing behind: memory, mappings and handles stay as many as they were. */
#include "test.h"

#include <unistd.h>

static long resident_pages(void) {
    long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    HOLDS(file != NULL && fscanf(file, "%ld %ld", &size, &resident) == 2);
    fclose(file);
    return resident;
}

static long mappings(void) {
    long lines = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    HOLDS(file != NULL);
    for (int c; (c = getc(file)) != EOF;) {
        lines += c == '\n';
    }
    fclose(file);
    return lines;
}

static void round_of(long count) {
    for (long i = 0; i < count; i++) {
        ratelimit_config *config = ratelimit_config_new(1, 1000000000);
        ratelimit_limiter limiter = 0;
        OK(ratelimit_config_set_max_keys(config, 16));
        OK(ratelimit_open(config, &limiter));
        HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
        OK(ratelimit_close(limiter));
        OK(ratelimit_config_free(config));
    }
}

int main(void) {
    const long rounds = scaled(1000000, 20000);
    round_of(rounds / 10);
    const long pages = resident_pages(), maps = mappings();
    round_of(rounds - rounds / 10);
    const long more = resident_pages() - pages;
    /* A mebibyte for what the allocator of C keeps; a leak of a byte for each would be of that size in a full run. */
    HOLDS(more * sysconf(_SC_PAGESIZE) < 1024 * 1024);
    HOLDS(mappings() <= maps + 4);
    /* Many at once. */
    static ratelimit_limiter many[2000];
    for (int i = 0; i < 2000; i++) {
        many[i] = opened("1/s");
    }
    for (int i = 0; i < 2000; i++) {
        HOLDS(ratelimit_is_allowed(many[i], KEY("a")) && !ratelimit_is_allowed(many[i], KEY("a")));
        OK(ratelimit_close(many[i]));
    }
    HOLDS(mappings() <= maps + 4);
    printf("churn: ok, %ld opened and closed, %ld pages more\n", rounds, more);
    return 0;
}
