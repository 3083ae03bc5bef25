// More threads at once than any platform has processors of its own for.

#include "../check.h"
#include <pthread.h>
#include <sys/mman.h>

#define THREADS 1500

static pthread_barrier_t all;
static _Atomic int sum;

static void *member(void *argument) {
    long i = (long)argument;
    // Registers of each kind must still be this thread's when all others have run.
    volatile double half = i + 0.5;
    pthread_barrier_wait(&all);
    sched_yield();
    pthread_barrier_wait(&all);
    sum += half == i + 0.5 && syscall(SYS_gettid) != getpid();
    return (void *)i;
}

TEST(a_crowd_of_threads) {
    static pthread_t threads[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 32 << 10);
    CHECK_EQ(pthread_barrier_init(&all, NULL, THREADS), 0);
    for (long i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], &attributes, member, (void *)i), 0);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK_EQ(pthread_join(threads[i], &result), 0);
        CHECK_EQ((long)result, i);
    }
    CHECK_EQ(sum, THREADS);
}
