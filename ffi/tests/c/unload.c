/* dlclose while threads are inside calls, and threads that end after it: the library stays, and nothing breaks. */
#define TEST_WITHOUT_LIBRARY
#include "test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

typedef bool is_allowed_call(ratelimit_limiter, const uint8_t *, size_t);

static is_allowed_call *is_allowed;
static ratelimit_limiter limiter;
static atomic_bool stop;

static void *caller(void *unused) {
    (void)unused;
    long calls = 0;
    /* Some calls come after the library was closed, however late this thread starts. */
    while (calls < 1000 || !atomic_load_explicit(&stop, memory_order_relaxed)) {
        (void)is_allowed(limiter, KEY("a"));
        calls++;
    }
    return NULL;
}

/* What POSIX lets one do with dlsym's answer, and C does not. */
static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    HOLDS(found != NULL);
    return found;
}

#define RESOLVE(pointer, name)                                                                                        \
    do {                                                                                                              \
        void *found = symbol(library, name);                                                                          \
        memcpy(&pointer, &found, sizeof pointer);                                                                     \
    } while (0)

int main(int argc, char **argv) {
    HOLDS(argc == 2);
    for (long round = 0; round < scaled(1000, 20); round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        HOLDS(library != NULL);
        ratelimit_result (*parse)(const char *, ratelimit_config **);
        ratelimit_result (*open)(const ratelimit_config *, ratelimit_limiter *);
        ratelimit_result (*release)(ratelimit_config *);
        ratelimit_result (*close)(ratelimit_limiter);
        RESOLVE(parse, "ratelimit_config_parse");
        RESOLVE(open, "ratelimit_open");
        RESOLVE(release, "ratelimit_config_free");
        RESOLVE(close, "ratelimit_close");
        RESOLVE(is_allowed, "ratelimit_is_allowed");
        ratelimit_config *config = NULL;
        HOLDS(parse("10/s", &config) == 0 && open(config, &limiter) == 0 && release(config) == 0);
        atomic_store(&stop, false);
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            HOLDS(pthread_create(&threads[i], NULL, caller, NULL) == 0);
        }
        HOLDS(dlclose(library) == 0);
        /* It cannot be unloaded: still there, without being asked for again. */
        void *still = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
        HOLDS(still != NULL && dlclose(still) == 0);
        atomic_store(&stop, true);
        for (int i = 0; i < 4; i++) {
            HOLDS(pthread_join(threads[i], NULL) == 0);
        }
        HOLDS(close(limiter) == 0);
    }
    puts("unload: ok");
    return 0;
}
