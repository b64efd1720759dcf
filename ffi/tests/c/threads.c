/* Sixteen threads call while another opens and closes; threads that come and go; calls from a signal handler. */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 16 };

static _Atomic ratelimit_limiter current;
static atomic_bool stop;
static atomic_long decided, closed_calls;

static void *caller(void *unused) {
    (void)unused;
    long mine = 0, refused = 0;
    const uint8_t *keys[3] = {(const uint8_t *)"a", (const uint8_t *)"b", (const uint8_t *)"c"};
    const size_t lens[3] = {1, 1, 1};
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        ratelimit_limiter limiter = atomic_load_explicit(&current, memory_order_acquire);
        ratelimit_decision decision, many[3];
        ratelimit_statistics stats = {.struct_size = sizeof stats};
        bool acquired;
        ratelimit_result results[5] = {
            ratelimit_check(limiter, keys[mine % 3], 1, 1, &decision),
            ratelimit_check_many(limiter, keys, lens, NULL, 3, many),
            ratelimit_acquire(limiter, KEY("d"), 1, 1000, &acquired),
            mine % 64 == 0 ? ratelimit_stats(limiter, &stats) : RATELIMIT_OK,
            ratelimit_refund(limiter, KEY("a"), 1),
        };
        (void)ratelimit_is_allowed(limiter, KEY("e"));
        for (int i = 0; i < 5; i++) {
            HOLDS(results[i] == RATELIMIT_OK || results[i] == RATELIMIT_ERR_CLOSED);
            refused += results[i] == RATELIMIT_ERR_CLOSED;
        }
        if (results[0] == RATELIMIT_OK) {
            HOLDS(decision.limit == 1000);
        }
        mine++;
    }
    atomic_fetch_add(&decided, mine);
    atomic_fetch_add(&closed_calls, refused);
    return NULL;
}

static void closing(void) {
    pthread_t threads[THREADS];
    atomic_store(&current, opened("1000/s"));
    for (int i = 0; i < THREADS; i++) {
        HOLDS(pthread_create(&threads[i], NULL, caller, NULL) == 0);
    }
    const long rounds = scaled(20000, 300);
    for (long i = 0; i < rounds; i++) {
        /* Callers use the old one until the new one is told, so that they meet it closed. */
        ratelimit_limiter old = atomic_load(&current);
        ratelimit_limiter next = opened("1000/s");
        if (i % 4 == 0) {
            struct timespec turn = {0, 1000000};
            nanosleep(&turn, NULL);
        }
        OK(ratelimit_close(old));
        IS(ratelimit_close(old), RATELIMIT_ERR_CLOSED);
        atomic_store_explicit(&current, next, memory_order_release);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        HOLDS(pthread_join(threads[i], NULL) == 0);
    }
    OK(ratelimit_close(atomic_load(&current)));
    HOLDS(atomic_load(&decided) > rounds / 10);
    printf("threads: %ld rounds, %ld turns of callers, %ld calls met it closed\n", rounds, atomic_load(&decided),
           atomic_load(&closed_calls));
}

/* Of several that close one handle, one does. */
static void *closer(void *limiter) {
    return ratelimit_close(*(ratelimit_limiter *)limiter) == RATELIMIT_OK ? limiter : NULL;
}

static void closing_at_once(void) {
    for (long i = 0; i < scaled(2000, 50); i++) {
        ratelimit_limiter limiter = opened("1/s");
        pthread_t threads[4];
        int winners = 0;
        for (int j = 0; j < 4; j++) {
            HOLDS(pthread_create(&threads[j], NULL, closer, &limiter) == 0);
        }
        for (int j = 0; j < 4; j++) {
            void *won;
            HOLDS(pthread_join(threads[j], &won) == 0);
            winners += won != NULL;
        }
        HOLDS(winners == 1);
    }
}

/* A limiter that is closed while a thread waits: the thread is told soon. */
static void *waiter(void *limiter) {
    bool acquired = true;
    IS(ratelimit_acquire(*(ratelimit_limiter *)limiter, KEY("a"), 1, RATELIMIT_NEVER, &acquired), RATELIMIT_ERR_CLOSED);
    HOLDS(acquired);
    return NULL;
}

static void closing_on_a_waiter(void) {
    ratelimit_limiter limiter = opened("1/day");
    HOLDS(ratelimit_is_allowed(limiter, KEY("a")));
    pthread_t thread;
    HOLDS(pthread_create(&thread, NULL, waiter, &limiter) == 0);
    struct timespec turn = {0, 20000000};
    nanosleep(&turn, NULL);
    OK(ratelimit_close(limiter));
    /* Within the time that the whole test has: a waiter that is not told hangs it. */
    HOLDS(pthread_join(thread, NULL) == 0);
}

/* More threads at once than have a place of their own, each counted exactly; and many more one after the other. */
static ratelimit_limiter crowded;
static pthread_barrier_t all_here;

static void *one_of_many(void *unused) {
    (void)unused;
    HOLDS(ratelimit_is_allowed(crowded, KEY("crowd")));
    pthread_barrier_wait(&all_here);
    HOLDS(ratelimit_is_allowed(crowded, KEY("crowd")));
    return NULL;
}

static void crowd(void) {
    enum { CROWD = 300 };
    static pthread_t threads[CROWD];
    for (int round = 0; round < 3; round++) {
        crowded = opened("1000/day");
        HOLDS(pthread_barrier_init(&all_here, NULL, CROWD) == 0);
        pthread_attr_t small;
        HOLDS(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 256 * 1024) == 0);
        for (int i = 0; i < CROWD; i++) {
            HOLDS(pthread_create(&threads[i], &small, one_of_many, NULL) == 0);
        }
        for (int i = 0; i < CROWD; i++) {
            HOLDS(pthread_join(threads[i], NULL) == 0);
        }
        ratelimit_decision decision;
        OK(ratelimit_peek(crowded, KEY("crowd"), 1, &decision));
        HOLDS(decision.remaining == 1000 - 2 * CROWD);
        ratelimit_statistics stats = {.struct_size = sizeof stats};
        OK(ratelimit_stats(crowded, &stats));
        HOLDS(stats.allowed == 2 * CROWD);
        OK(ratelimit_close(crowded));
        HOLDS(pthread_attr_destroy(&small) == 0 && pthread_barrier_destroy(&all_here) == 0);
    }
}

/* A handler interrupts calls and calls itself. */
static ratelimit_limiter signalled, inner;
static volatile sig_atomic_t handled;

static void on_signal(int number) {
    (void)number;
    ratelimit_decision decision;
    if (ratelimit_check(inner, KEY("s"), 1, &decision) == RATELIMIT_OK &&
        ratelimit_check(signalled, KEY("s"), 1, &decision) == RATELIMIT_OK) {
        handled++;
    }
}

static atomic_bool is_done;

static void *interrupted(void *unused) {
    (void)unused;
    while (!atomic_load_explicit(&is_done, memory_order_relaxed)) {
        (void)ratelimit_is_allowed(signalled, KEY("t"));
    }
    return NULL;
}

static void signals(void) {
    signalled = opened("1000/s");
    inner = opened("1000/s");
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    HOLDS(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t thread;
    HOLDS(pthread_create(&thread, NULL, interrupted, NULL) == 0);
    const long rounds = scaled(20000, 500);
    for (long i = 0; i < rounds; i++) {
        HOLDS(pthread_kill(thread, SIGUSR1) == 0);
        if (i % 4 == 0) {
            /* Handles of their own are closed while the thread is inside calls on others. */
            OK(ratelimit_close(opened("1/s")));
        }
    }
    atomic_store(&is_done, true);
    HOLDS(pthread_join(thread, NULL) == 0);
    HOLDS(handled > 0);
    OK(ratelimit_close(signalled));
    OK(ratelimit_close(inner));
}

int main(void) {
    closing();
    closing_at_once();
    closing_on_a_waiter();
    crowd();
    signals();
    puts("threads: ok");
    return 0;
}
