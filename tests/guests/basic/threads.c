// A few threads that count together under a mutex.
#define INLINE_TESTS
#include "../check.h"
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long count;
static _Thread_local long mine;

static void *add(void *amount) {
    for (int i = 0; i < 10000; i++) {
        pthread_mutex_lock(&mutex);
        count += (long)amount;
        mine++;
        pthread_mutex_unlock(&mutex);
    }
    pthread_cond_signal(&changed);
    return (void *)mine;
}

TEST(mutex) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++)
        CHECK_RET(pthread_create(&threads[i], NULL, add, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++) {
        void *result;
        CHECK_RET(pthread_join(threads[i], &result), 0);
        CHECK_EQ(result, 10000);
    }
    CHECK_EQ(count, 100000);
    CHECK_EQ(mine, 0);
}

static void *set(void *flag) {
    pthread_mutex_lock(&mutex);
    *(int *)flag = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

TEST(condition) {
    int flag = 0;
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, set, &flag), 0);
    pthread_mutex_lock(&mutex);
    while (!flag)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    CHECK_EQ(flag, 1);
    CHECK_RET(pthread_join(thread, NULL), 0);
}

static void *leave(void *unused) { pthread_exit((void *)5); }

TEST(detached) {
    pthread_t thread;
    void *result;
    CHECK_RET(pthread_create(&thread, NULL, leave, NULL), 0);
    CHECK_RET(pthread_join(thread, &result), 0);
    CHECK_EQ(result, 5);
}
