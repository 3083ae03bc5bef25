// Which processor a thread is on, asked in every way: the C library's (in the vDSO), and the system call.
#include "../check.h"
#include <pthread.h>
#include <sched.h>

// All ways agree on the one processor there is for this thread.
static void check_pinned(int processor) {
    for (int i = 0; i < 3; i++) {
        unsigned cpu = 77, node = 77, raw = 77;
        CHECK_OK(getcpu(&cpu, &node));
        CHECK_EQ(cpu, processor);
        CHECK(node != 77);
        CHECK_OK(syscall(SYS_getcpu, &raw, NULL, NULL));
        CHECK_EQ(raw, processor);
        CHECK_EQ(sched_getcpu(), processor);
    }
}

static int pin(pid_t thread, int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return sched_setaffinity(thread, sizeof set, &set);
}

static int last_of(const cpu_set_t *set) {
    int last = -1;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, set))
            last = i;
    return last;
}

TEST(parts_may_be_left_out) {
    unsigned cpu = 77, node = 77;
    CHECK_OK(getcpu(NULL, NULL));
    CHECK_OK(getcpu(&cpu, NULL));
    CHECK_OK(getcpu(NULL, &node));
    cpu_set_t all;
    CHECK_OK(sched_getaffinity(0, sizeof all, &all));
    CHECK(cpu < CPU_SETSIZE && CPU_ISSET(cpu, &all));
    CHECK(node != 77);
}

TEST(it_is_one_of_those_allowed) {
    cpu_set_t all;
    CHECK_OK(sched_getaffinity(0, sizeof all, &all));
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) {
            CHECK_OK(pin(0, i));
            check_pinned(i);
        }
    CHECK_OK(sched_setaffinity(0, sizeof all, &all));
    unsigned cpu = 77;
    CHECK_OK(getcpu(&cpu, NULL));
    CHECK(cpu < CPU_SETSIZE && CPU_ISSET(cpu, &all));
}

static int pinned_to;
static pthread_barrier_t barrier;

static void *waiting_thread(void *tid) {
    unsigned before = 77;
    CHECK_OK(getcpu(&before, NULL));
    *(pid_t *)tid = gettid();
    pthread_barrier_wait(&barrier);
    // Meanwhile the other thread moves this one.
    pthread_barrier_wait(&barrier);
    check_pinned(pinned_to);
    return NULL;
}

TEST(another_thread_may_choose) {
    cpu_set_t all;
    CHECK_OK(sched_getaffinity(0, sizeof all, &all));
    pinned_to = last_of(&all);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t thread;
    pid_t tid = 0;
    CHECK_EQ(pthread_create(&thread, NULL, waiting_thread, &tid), 0);
    pthread_barrier_wait(&barrier);
    CHECK_OK(pin(tid, pinned_to));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

TEST(children_and_programs_inherit) {
    cpu_set_t all;
    CHECK_OK(sched_getaffinity(0, sizeof all, &all));
    int last = last_of(&all);
    CHECK_OK(pin(0, last));
    pid_t child = fork();
    if (child == 0) {
        check_pinned(last);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}
