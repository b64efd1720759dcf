/* What the tests share: checks that stop the program, and texts as keys. */
#ifndef TEST_H
#define TEST_H

#include <ratelimit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For a program that loads the library at run time. */
#ifdef TEST_WITHOUT_LIBRARY
#define LAST_ERROR(sentence) (void)(sentence)
#else
#define LAST_ERROR(sentence)                                                                                          \
    do {                                                                                                              \
        size_t needed = 0;                                                                                            \
        (void)ratelimit_last_error_message(sentence, sizeof sentence, &needed);                                       \
    } while (0)
#endif

#define HOLDS(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            char sentence[1024] = "";                                                                                 \
            LAST_ERROR(sentence);                                                                                     \
            fprintf(stderr, "%s:%d: %s does not hold; the last error: %s\n", __FILE__, __LINE__, #condition, sentence); \
            abort();                                                                                                  \
        }                                                                                                             \
    } while (0)

#define OK(call) HOLDS((call) == RATELIMIT_OK)
#define IS(call, error) HOLDS((call) == (error))

/* A text as a key. */
#define KEY(text) (const uint8_t *)(text), strlen(text)

/* How often to do what is to be done often: all of it in RATELIMIT_FULL, else a part. */
static inline long scaled(long full, long part) {
    const char *scale = getenv("RATELIMIT_FULL");
    const char *few = getenv("RATELIMIT_FEW");
    if (few != NULL && *few != '\0') {
        return part / 10 + 1;
    }
    return scale != NULL && *scale != '\0' ? full : part;
}

#ifndef TEST_WITHOUT_LIBRARY
static inline ratelimit_limiter opened(const char *limit) {
    ratelimit_config *config = NULL;
    ratelimit_limiter limiter = 0;
    OK(ratelimit_config_parse(limit, &config));
    OK(ratelimit_open(config, &limiter));
    OK(ratelimit_config_free(config));
    return limiter;
}

static inline const char *last_error(void) {
    static _Thread_local char sentence[1024];
    size_t needed = 0;
    if (ratelimit_last_error_message(sentence, sizeof sentence, &needed) != RATELIMIT_OK) {
        abort();
    }
    return sentence;
}

#endif

#endif
