// Policies, priorities, processors and I/O priorities.
#include "../check.h"
#include <linux/sched.h>
// The kernel's header has the C library's structure too.
#define sched_param kernel_sched_param
#include <linux/sched/types.h>
#undef sched_param
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#define SCHED_RESET 0x40000000
static int set(pid_t pid, int policy, int priority) {
    struct sched_param param = {priority};
    return syscall(SYS_sched_setscheduler, pid, policy, &param);
}

static void become_user(void) {
    CHECK_OK(setresgid(1000, 1000, 1000));
    CHECK_OK(setresuid(1000, 1000, 1000));
}

// False if the limit would have to be raised, and may not be.
static int limit(int resource, rlim_t soft) {
    struct rlimit both = {soft, soft}, old;
    CHECK_OK(getrlimit(resource, &old));
    if (soft > old.rlim_max && prctl(PR_CAPBSET_READ, 24) != 1)
        return 0;
    CHECK_OK(setrlimit(resource, &both));
    return 1;
}

TEST(ranges) {
    CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
    CHECK_EQ(sched_get_priority_min(SCHED_RR), 1);
    int zero[] = {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, 6};
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(sched_get_priority_max(zero[i]), 0);
        CHECK_EQ(sched_get_priority_min(zero[i]), 0);
    }
    CHECK_ERR(sched_get_priority_max(4), EINVAL);
    CHECK_ERR(sched_get_priority_min(99), EINVAL);
    CHECK_ERR(sched_get_priority_max(-1), EINVAL);
    CHECK_ERR(sched_get_priority_max(SCHED_FIFO | SCHED_RESET), EINVAL);
}

TEST(policies) {
    CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
    CHECK_OK(set(0, SCHED_FIFO, 10));
    CHECK_EQ(sched_getscheduler(getpid()), SCHED_FIFO);
    struct sched_param param;
    CHECK_OK(sched_getparam(0, &param));
    CHECK_EQ(param.sched_priority, 10);
    CHECK_CHILD({
        CHECK_EQ(sched_getscheduler(0), SCHED_FIFO);
        CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
    });
    param.sched_priority = 20;
    CHECK_OK(sched_setparam(0, &param));
    param.sched_priority = 0;
    CHECK_ERR(sched_setparam(0, &param), EINVAL);
    CHECK_OK(set(0, SCHED_OTHER, 0));
    CHECK_OK(set(0, SCHED_BATCH, 0));
    CHECK_OK(set(0, SCHED_IDLE, 0));
    CHECK_OK(set(0, SCHED_OTHER, 0));
    CHECK_ERR(set(0, SCHED_OTHER, 1), EINVAL);
    CHECK_ERR(set(0, SCHED_FIFO, 0), EINVAL);
    CHECK_ERR(set(0, SCHED_FIFO, 100), EINVAL);
    CHECK_ERR(set(0, SCHED_FIFO, -1), EINVAL);
    CHECK_ERR(set(0, 4, 0), EINVAL);
    CHECK_ERR(set(0, 99, 0), EINVAL);
    CHECK_ERR(set(0, -1, 0), EINVAL);
    CHECK_ERR(set(-1, SCHED_OTHER, 0), EINVAL);
    CHECK_ERR(set(1 << 22, SCHED_OTHER, 0), ESRCH);
    CHECK_ERR(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, BAD), EFAULT);
    CHECK_ERR(sched_getscheduler(-1), EINVAL);
    CHECK_ERR(sched_getscheduler(1 << 22), ESRCH);
    CHECK_ERR(syscall(SYS_sched_getparam, 0, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_sched_getparam, 0, BAD), EFAULT);
    CHECK_ERR(syscall(SYS_sched_getparam, -1, &param), EINVAL);
    CHECK_ERR(syscall(SYS_sched_getparam, 1 << 22, &param), ESRCH);
    CHECK_ERR(syscall(SYS_sched_setparam, 0, NULL), EINVAL);
}

TEST(reset_on_fork) {
    CHECK_OK(nice(-5));
    CHECK_OK(set(0, SCHED_FIFO | SCHED_RESET, 5));
    CHECK_EQ(sched_getscheduler(0), SCHED_FIFO | SCHED_RESET);
    CHECK_CHILD({
        CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
        CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
    });
    CHECK_OK(set(0, SCHED_OTHER | SCHED_RESET, 0));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), -5);
    CHECK_CHILD({
        CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
        CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
    });
    CHECK_OK(setpriority(PRIO_PROCESS, 0, 7));
    CHECK_CHILD(CHECK_EQ(getpriority(PRIO_PROCESS, 0), 7));
    CHECK_CHILD({
        CHECK_OK(set(0, SCHED_OTHER | SCHED_RESET, 0));
        become_user();
        // The flag cannot be taken back without the right to.
        CHECK_ERR(set(0, SCHED_OTHER, 0), EPERM);
        CHECK_OK(set(0, SCHED_OTHER | SCHED_RESET, 0));
    });
}

TEST(rights) {
    CHECK_CHILD({
        limit(RLIMIT_RTPRIO, 0);
        become_user();
        CHECK_ERR(set(0, SCHED_FIFO, 1), EPERM);
        CHECK_ERR(set(0, SCHED_RR, 99), EPERM);
        CHECK_OK(set(0, SCHED_BATCH, 0));
        CHECK_OK(set(0, SCHED_IDLE, 0));
        // Out of idleness only with the right to the nice value.
        CHECK_ERR(set(getppid(), SCHED_BATCH, 0), EPERM);
    });
    CHECK_CHILD({
        if (!limit(RLIMIT_RTPRIO, 10))
            _exit(0);
        become_user();
        CHECK_ERR(set(0, SCHED_FIFO, 11), EPERM);
        CHECK_OK(set(0, SCHED_FIFO, 10));
        CHECK_OK(set(0, SCHED_RR, 5));
        CHECK_ERR(set(0, SCHED_RR, 11), EPERM);
        CHECK_OK(set(0, SCHED_OTHER, 0));
    });
    CHECK_CHILD({
        // What is had already can be kept and lowered.
        CHECK_OK(set(0, SCHED_FIFO, 30));
        limit(RLIMIT_RTPRIO, 0);
        become_user();
        CHECK_OK(set(0, SCHED_FIFO, 30));
        CHECK_OK(set(0, SCHED_FIFO, 3));
        CHECK_ERR(set(0, SCHED_FIFO, 4), EPERM);
        CHECK_ERR(set(0, SCHED_RR, 3), EPERM);
        CHECK_OK(set(0, SCHED_OTHER, 0));
    });
    CHECK_CHILD({
        CHECK_OK(set(0, SCHED_IDLE, 0));
        limit(RLIMIT_NICE, 0);
        become_user();
        CHECK_ERR(set(0, SCHED_OTHER, 0), EPERM);
        CHECK_OK(set(0, SCHED_IDLE, 0));
    });
    CHECK_CHILD({
        CHECK_OK(set(0, SCHED_IDLE, 0));
        if (!limit(RLIMIT_NICE, 20))
            _exit(0);
        become_user();
        CHECK_OK(set(0, SCHED_OTHER, 0));
    });
}

static long setattr(pid_t pid, void *attr, unsigned flags) { return syscall(SYS_sched_setattr, pid, attr, flags); }
static long getattr(pid_t pid, void *attr, unsigned size, unsigned flags) {
    return syscall(SYS_sched_getattr, pid, attr, size, flags);
}

TEST(attributes) {
    union {
        struct sched_attr attr;
        char bytes[8192];
    } u = {.attr = {.size = 48, .sched_policy = SCHED_OTHER, .sched_nice = 5}};
    CHECK_OK(setattr(0, &u.attr, 0));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
    u.attr.sched_nice = 100;
    CHECK_OK(setattr(0, &u.attr, 0));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 19);
    memset(&u, 0xff, sizeof u);
    CHECK_OK(getattr(0, &u.attr, 48, 0));
    CHECK_EQ(u.attr.size, 48);
    CHECK_EQ(u.attr.sched_policy, SCHED_OTHER);
    CHECK_EQ(u.attr.sched_nice, 19);
    CHECK_EQ(u.attr.sched_priority, 0);
    CHECK_EQ(u.attr.sched_flags, 0);
    CHECK_EQ((unsigned char)u.bytes[48], 0xff);
    CHECK_OK(getattr(0, &u.attr, 4096, 0));
    CHECK_EQ(u.attr.size, 56);
    CHECK_ERR(getattr(0, &u.attr, 47, 0), EINVAL);
    CHECK_ERR(getattr(0, &u.attr, 4097, 0), EINVAL);
    CHECK_ERR(getattr(0, &u.attr, 48, 1), EINVAL);
    CHECK_ERR(getattr(-1, &u.attr, 48, 0), EINVAL);
    CHECK_ERR(getattr(1 << 22, &u.attr, 48, 0), ESRCH);
    CHECK_ERR(getattr(0, NULL, 48, 0), EINVAL);
    CHECK_ERR(getattr(0, BAD, 48, 0), EFAULT);

    memset(&u, 0, sizeof u);
    CHECK_OK(setattr(0, &u.attr, 0));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
    u.attr.size = 47;
    CHECK_ERR(setattr(0, &u.attr, 0), E2BIG);
    CHECK_EQ(u.attr.size, 56);
    u.attr.size = 4097;
    CHECK_ERR(setattr(0, &u.attr, 0), E2BIG);
    u.attr.size = 4096;
    CHECK_OK(setattr(0, &u.attr, 0));
    u.bytes[4000] = 1;
    CHECK_ERR(setattr(0, &u.attr, 0), E2BIG);
    CHECK_EQ(u.attr.size, 56);
    u.attr.size = 48;
    CHECK_ERR(setattr(0, &u.attr, 1), EINVAL);
    CHECK_ERR(setattr(-1, &u.attr, 0), EINVAL);
    CHECK_ERR(setattr(1 << 22, &u.attr, 0), ESRCH);
    CHECK_ERR(setattr(0, NULL, 0), EINVAL);
    CHECK_ERR(setattr(0, BAD, 0), EFAULT);
    u.attr.sched_policy = -1;
    CHECK_ERR(setattr(0, &u.attr, 0), EINVAL);
    u.attr.sched_policy = 4;
    CHECK_ERR(setattr(0, &u.attr, 0), EINVAL);
    u.attr.sched_policy = SCHED_FIFO;
    CHECK_ERR(setattr(0, &u.attr, 0), EINVAL);
    u.attr.sched_priority = 50;
    u.attr.sched_flags = SCHED_FLAG_RESET_ON_FORK;
    CHECK_OK(setattr(0, &u.attr, 0));
    CHECK_EQ(sched_getscheduler(0), SCHED_FIFO | SCHED_RESET);
    CHECK_OK(getattr(0, &u.attr, 48, 0));
    CHECK_EQ(u.attr.sched_flags, SCHED_FLAG_RESET_ON_FORK);
    CHECK_EQ(u.attr.sched_priority, 50);
    u.attr.sched_flags = SCHED_FLAG_KEEP_POLICY;
    u.attr.sched_policy = SCHED_OTHER;
    u.attr.sched_priority = 40;
    CHECK_OK(setattr(0, &u.attr, 0));
    CHECK_EQ(sched_getscheduler(0) & ~SCHED_RESET, SCHED_FIFO);
    u.attr.sched_flags = 1ULL << 40;
    CHECK_ERR(setattr(0, &u.attr, 0), EINVAL);
    u.attr.sched_flags = 0;
    u.attr.sched_policy = SCHED_OTHER;
    u.attr.sched_priority = 1;
    CHECK_ERR(setattr(0, &u.attr, 0), EINVAL);
}

TEST(turns) {
    struct timespec turn;
    CHECK_OK(set(0, SCHED_RR, 1));
    CHECK_OK(sched_rr_get_interval(0, &turn));
    CHECK(turn.tv_sec == 0 && turn.tv_nsec > 0 && turn.tv_nsec <= 200000000);
    CHECK_OK(set(0, SCHED_FIFO, 1));
    CHECK_OK(sched_rr_get_interval(0, &turn));
    CHECK(turn.tv_sec == 0 && turn.tv_nsec == 0);
    CHECK_OK(set(0, SCHED_OTHER, 0));
    CHECK_ERR(sched_rr_get_interval(-1, &turn), EINVAL);
    CHECK_ERR(sched_rr_get_interval(1 << 22, &turn), ESRCH);
    CHECK_ERR(syscall(SYS_sched_rr_get_interval, 0, BAD), EFAULT);
    CHECK_OK(sched_yield());
}

TEST(processors) {
    unsigned long all[128] = {0}, mask[128] = {0};
    long size = CHECK_OK(syscall(SYS_sched_getaffinity, 0, sizeof all, all));
    CHECK(size >= 8 && size % 8 == 0);
    CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 0, mask), EINVAL);
    CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 12, mask), EINVAL);
    CHECK_ERR(syscall(SYS_sched_getaffinity, 0, size, BAD), EFAULT);
    CHECK_ERR(syscall(SYS_sched_getaffinity, -1, size, mask), ESRCH);
    CHECK_ERR(syscall(SYS_sched_getaffinity, 1 << 22, size, mask), ESRCH);
    CHECK_ERR(syscall(SYS_sched_setaffinity, 0, size, mask), EINVAL);
    CHECK_ERR(syscall(SYS_sched_setaffinity, 0, 0, all), EINVAL);
    CHECK_ERR(syscall(SYS_sched_setaffinity, 0, size, BAD), EFAULT);
    CHECK_ERR(syscall(SYS_sched_setaffinity, 1 << 22, size, all), ESRCH);
    CHECK_ERR(syscall(SYS_sched_setaffinity, -1, size, all), ESRCH);
    int first = 0, last = 0;
    for (int i = 0; i < 1024; i++)
        if (all[i / 64] >> (i % 64) & 1) {
            last = i;
            if (!(all[first / 64] >> (first % 64) & 1))
                first = i;
        }
    mask[last / 64] = 1UL << (last % 64);
    // One byte of the mask is enough for the first processors; what is not there is left out.
    CHECK_OK(syscall(SYS_sched_setaffinity, 0, last / 8 + 1, mask));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(sched_getcpu(), last);
    unsigned cpu, node;
    CHECK_OK(syscall(SYS_getcpu, &cpu, &node, NULL));
    CHECK_EQ(cpu, last);
    CHECK_OK(syscall(SYS_getcpu, NULL, NULL, NULL));
    CHECK_ERR(syscall(SYS_getcpu, BAD, NULL, NULL), EFAULT);
    CHECK_CHILD({
        unsigned long own[128] = {0};
        CHECK_OK(syscall(SYS_sched_getaffinity, 0, sizeof own, own));
        CHECK(!memcmp(own, mask, size));
    });
    memset(mask, 0xff, sizeof mask);
    CHECK_OK(syscall(SYS_sched_setaffinity, 0, sizeof mask, mask));
    CHECK_OK(syscall(SYS_sched_getaffinity, 0, sizeof mask, mask));
    CHECK(!memcmp(all, mask, size));
    CHECK_CHILD({
        become_user();
        CHECK_ERR(syscall(SYS_sched_setaffinity, getppid(), size, all), EPERM);
        CHECK_OK(syscall(SYS_sched_getaffinity, getppid(), size, mask));
    });
}

static void *own_processor(void *result) {
    unsigned long mask = 1;
    *(long *)result = syscall(SYS_sched_setaffinity, 0, 8, &mask) == 0 ? sched_getcpu() : -1;
    return NULL;
}

TEST(processors_of_threads) {
    unsigned long before = 0, after = 0;
    CHECK_OK(syscall(SYS_sched_getaffinity, 0, 8, &before));
    if (!(before & 1))
        SKIP("the first processor is not ours");
    pthread_t thread;
    long cpu = -1;
    CHECK_RET(pthread_create(&thread, NULL, own_processor, &cpu), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(cpu, 0);
    CHECK_OK(syscall(SYS_sched_getaffinity, 0, 8, &after));
    CHECK_EQ(before, after);
}

TEST(nice_values) {
    CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 20);
    CHECK_OK(setpriority(PRIO_PROCESS, 0, -100));
    CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 40);
    CHECK_OK(setpriority(PRIO_PROCESS, 0, 100));
    CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 1);
    CHECK_OK(setpriority(PRIO_PROCESS, 0, 0));
    CHECK_ERR(getpriority(-1, 0), EINVAL);
    CHECK_ERR(getpriority(3, 0), EINVAL);
    CHECK_ERR(setpriority(3, 0, 0), EINVAL);
    CHECK_ERR(getpriority(PRIO_PROCESS, 1 << 22), ESRCH);
    CHECK_ERR(getpriority(PRIO_PROCESS, -1), ESRCH);
    CHECK_ERR(getpriority(PRIO_PGRP, 1 << 22), ESRCH);
    CHECK_ERR(getpriority(PRIO_USER, 4711), ESRCH);
    CHECK_CHILD({
        limit(RLIMIT_NICE, 0);
        become_user();
        CHECK_OK(setpriority(PRIO_PROCESS, 0, 3));
        CHECK_OK(setpriority(PRIO_PROCESS, 0, 3));
        CHECK_ERR(setpriority(PRIO_PROCESS, 0, 2), EACCES);
        CHECK_ERR(setpriority(PRIO_PROCESS, getppid(), 4), EPERM);
        // nice(2) itself has but one error.
        CHECK_ERR(nice(-1), EPERM);
        CHECK_EQ(nice(1), 4);
        CHECK_EQ(nice(100), 19);
    });
    CHECK_CHILD({
        if (!limit(RLIMIT_NICE, 25))
            _exit(0);
        become_user();
        CHECK_OK(setpriority(PRIO_PROCESS, 0, -5));
        CHECK_ERR(setpriority(PRIO_PROCESS, 0, -6), EACCES);
    });
}

TEST(nice_values_of_many) {
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0) {
            setresuid(5000, 5000, 5000);
            for (;;)
                pause();
        }
        CHECK_OK(setpgid(pids[i], pids[0]));
    }
    for (int i = 0; i < 2; i++)
        until_asleep(pids[i]);
    CHECK_OK(setpriority(PRIO_PGRP, pids[0], 7));
    CHECK_EQ(getpriority(PRIO_PROCESS, pids[0]), 7);
    CHECK_EQ(getpriority(PRIO_PROCESS, pids[1]), 7);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
    CHECK_OK(setpriority(PRIO_PROCESS, pids[1], 3));
    CHECK_EQ(getpriority(PRIO_PGRP, pids[0]), 3);
    CHECK_OK(setpriority(PRIO_USER, 5000, 9));
    CHECK_EQ(getpriority(PRIO_PROCESS, pids[0]), 9);
    CHECK_EQ(getpriority(PRIO_PROCESS, pids[1]), 9);
    CHECK_EQ(getpriority(PRIO_USER, 5000), 9);
    for (int i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

#define IOPRIO(class, level) ((class) << 13 | (level))
static long ioprio_set(int which, int who, int value) { return syscall(SYS_ioprio_set, which, who, value); }
static long ioprio_get(int which, int who) { return syscall(SYS_ioprio_get, which, who); }

TEST(input_and_output) {
    CHECK_OK(ioprio_set(1, 0, IOPRIO(2, 6)));
    CHECK_EQ(ioprio_get(1, 0), IOPRIO(2, 6));
    CHECK_EQ(ioprio_get(1, getpid()), IOPRIO(2, 6));
    CHECK_CHILD(CHECK_EQ(ioprio_get(1, 0), IOPRIO(2, 6)));
    CHECK_OK(ioprio_set(1, 0, IOPRIO(3, 0)));
    CHECK_EQ(ioprio_get(1, 0), IOPRIO(3, 0));
    CHECK_OK(ioprio_set(1, 0, IOPRIO(1, 2)));
    CHECK_EQ(ioprio_get(1, 0), IOPRIO(1, 2));
    CHECK_OK(ioprio_set(1, 0, 0));
    CHECK_ERR(ioprio_set(1, 0, IOPRIO(0, 1)), EINVAL);
    CHECK_ERR(ioprio_set(1, 0, IOPRIO(4, 0)), EINVAL);
    CHECK_ERR(ioprio_set(0, 0, IOPRIO(2, 0)), EINVAL);
    CHECK_ERR(ioprio_set(4, 0, IOPRIO(2, 0)), EINVAL);
    CHECK_ERR(ioprio_get(0, 0), EINVAL);
    CHECK_ERR(ioprio_get(1, 1 << 22), ESRCH);
    CHECK_ERR(ioprio_set(1, 1 << 22, IOPRIO(2, 0)), ESRCH);
    CHECK_ERR(ioprio_set(2, 1 << 22, IOPRIO(2, 0)), ESRCH);
    CHECK_CHILD({
        become_user();
        CHECK_ERR(ioprio_set(1, 0, IOPRIO(1, 2)), EPERM);
        CHECK_OK(ioprio_set(1, 0, IOPRIO(3, 0)));
        CHECK_OK(ioprio_set(1, 0, IOPRIO(2, 0)));
        CHECK_ERR(ioprio_set(1, getppid(), IOPRIO(2, 0)), EPERM);
    });
}
