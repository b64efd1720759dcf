/* Forks while other threads are inside calls, open and close: every child can decide, open and close, and soon. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static ratelimit_limiter limiter;
static atomic_bool stop;

static void *decider(void *unused) {
    (void)unused;
    ratelimit_decision decision;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        OK(ratelimit_check(limiter, KEY("parent"), 1, &decision));
    }
    return NULL;
}

static void *opener(void *unused) {
    (void)unused;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        OK(ratelimit_close(opened("10/s")));
    }
    return NULL;
}

static void child(void) {
    ratelimit_decision decision;
    /* Not a second for all of this, or the signal ends the child and the parent sees it. */
    alarm(20);
    OK(ratelimit_check(limiter, KEY("child"), 1, &decision));
    HOLDS(decision.limit == 10);
    ratelimit_limiter mine = opened("2/minute");
    HOLDS(ratelimit_is_allowed(mine, KEY("a")) && ratelimit_is_allowed(mine, KEY("a")));
    HOLDS(!ratelimit_is_allowed(mine, KEY("a")));
    OK(ratelimit_close(mine));
    IS(ratelimit_close(mine), RATELIMIT_ERR_CLOSED);
    /* The parent's, of which this process has a copy. */
    OK(ratelimit_close(limiter));
    IS(ratelimit_check(limiter, KEY("child"), 1, &decision), RATELIMIT_ERR_CLOSED);
    _exit(0);
}

int main(void) {
    limiter = opened("10/s");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        HOLDS(pthread_create(&threads[i], NULL, i < 2 ? decider : opener, NULL) == 0);
    }
    const long forks = scaled(10000, 500);
    for (long i = 0; i < forks; i++) {
        pid_t pid = fork();
        HOLDS(pid >= 0);
        if (pid == 0) {
            child();
        }
        int status = 0;
        HOLDS(waitpid(pid, &status, 0) == pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fprintf(stderr, "child %ld ended with status %d\n", i, status);
            abort();
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++) {
        HOLDS(pthread_join(threads[i], NULL) == 0);
    }
    ratelimit_decision decision;
    OK(ratelimit_peek(limiter, KEY("child"), 1, &decision));
    HOLDS(decision.remaining == 10);
    OK(ratelimit_close(limiter));
    printf("forks: ok, %ld\n", forks);
    return 0;
}
