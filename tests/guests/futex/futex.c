// futex in its operations, and the robust list.
#include "../check.h"
#include <linux/futex.h>
#include <pthread.h>

static uint32_t word, other;

static long futex(uint32_t *at, int op, uint32_t value, const void *timeout, uint32_t *at2, uint32_t value3) {
    return syscall(SYS_futex, at, op, value, timeout, at2, value3);
}

// Threads that wait for `word` to be other than 0; each ends with 0 or the error.
static void *wait_as(int op, uint32_t bits) {
    long result = futex(&word, op, 0, NULL, NULL, bits);
    return (void *)(result == 0 ? 0L : (long)errno);
}
static void *wait_private(void *unused) { return wait_as(FUTEX_WAIT_PRIVATE, 0); }
static void *wait_shared(void *unused) { return wait_as(FUTEX_WAIT, 0); }
static void *wait_bits(void *bits) { return wait_as(FUTEX_WAIT_BITSET_PRIVATE, (long)bits); }

// Wakes until that many were woken in all, giving the waiters time to come.
static int wake(uint32_t *at, int op, int wanted, uint32_t bits) {
    int woken = 0;
    for (int i = 0; i < 400 && woken < wanted; i++) {
        long result = futex(at, op, wanted - woken, NULL, NULL, bits);
        CHECK_CMP(result, >=, 0);
        woken += result;
        usleep(10000);
    }
    return woken;
}

TEST(errors) {
    struct timespec little = {0, 20000000}, wrong = {0, 2000000000}, negative = {-1, 0};
    word = 5;
    CHECK_ERR(futex(&word, FUTEX_WAIT, 6, NULL, NULL, 0), EAGAIN);
    CHECK_ERR(futex(&word, FUTEX_WAIT, 5, &little, NULL, 0), ETIMEDOUT);
    CHECK_ERR(futex(&word, FUTEX_WAIT, 5, &wrong, NULL, 0), EINVAL);
    CHECK_ERR(futex(&word, FUTEX_WAIT, 5, &negative, NULL, 0), EINVAL);
    CHECK_ERR(futex(&word, FUTEX_WAIT, 5, BAD, NULL, 0), EFAULT);
    CHECK_ERR(futex((uint32_t *)((char *)&word + 1), FUTEX_WAIT, 5, NULL, NULL, 0), EINVAL);
    CHECK_ERR(futex(BAD, FUTEX_WAIT, 5, NULL, NULL, 0), EFAULT);
    CHECK_ERR(futex(BAD, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    CHECK_EQ(futex(BAD, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
    CHECK_ERR(futex((uint32_t *)-4096L, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EFAULT);
    CHECK_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 5, &little, NULL, 0), EINVAL);
    CHECK_ERR(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
    CHECK_ERR(futex(&word, 99, 1, NULL, NULL, 0), ENOSYS);
    CHECK_ERR(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0), ENOSYS);
}

TEST(absolute_timeouts) {
    struct timespec now;
    word = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_nsec += 20000000;
    if (now.tv_nsec >= 1000000000)
        now.tv_sec++, now.tv_nsec -= 1000000000;
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 0, &now, NULL, ~0U), ETIMEDOUT);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 0, &now, NULL, ~0U), ETIMEDOUT);
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &now, NULL, ~0U), ETIMEDOUT);
}

TEST(wake_counts) {
    pthread_t threads[5];
    for (int i = 0; i < 5; i++)
        CHECK_RET(pthread_create(&threads[i], NULL, wait_private, NULL), 0);
    CHECK_EQ(wake(&word, FUTEX_WAKE_PRIVATE, 2, 0), 2);
    CHECK_EQ(wake(&word, FUTEX_WAKE_PRIVATE, 3, 0), 3);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
    for (int i = 0; i < 5; i++) {
        void *result;
        CHECK_RET(pthread_join(threads[i], &result), 0);
        CHECK_EQ(result, 0);
    }
}

TEST(bits) {
    pthread_t a, b;
    CHECK_RET(pthread_create(&a, NULL, wait_bits, (void *)1), 0);
    CHECK_RET(pthread_create(&b, NULL, wait_bits, (void *)2), 0);
    CHECK_EQ(wake(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, 2), 1);
    CHECK_RET(pthread_join(b, NULL), 0);
    CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 4), 0);
    CHECK_EQ(wake(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, ~0U), 1);
    CHECK_RET(pthread_join(a, NULL), 0);
}

TEST(requeue) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_RET(pthread_create(&threads[i], NULL, wait_private, NULL), 0);
    CHECK_ERR(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &other, 7), EAGAIN);
    int moved = 0;
    for (int i = 0; i < 400 && moved < 4; i++) {
        long result = futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)10, &other, 0);
        CHECK_CMP(result, >=, 0);
        moved += result;
        usleep(10000);
    }
    CHECK_EQ(moved, 4);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 0);
    CHECK_EQ(futex(&other, FUTEX_REQUEUE_PRIVATE, 1, (void *)1, &word, 0), 2);
    CHECK_EQ(futex(&other, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
    for (int i = 0; i < 4; i++)
        CHECK_RET(pthread_join(threads[i], NULL), 0);
    CHECK_ERR(futex(&word, FUTEX_REQUEUE_PRIVATE, 1, (void *)-1L, &other, 0), EINVAL);
}

TEST(wake_op) {
    other = 5;
    // Add 3 to the second word, and wake its waiters if it was more than 4.
    CHECK_EQ(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_GT, 4)), 0);
    CHECK_EQ(other, 8);
    futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_SET, 6, FUTEX_OP_CMP_EQ, 0));
    CHECK_EQ(other, 6);
    futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_OR, 9, FUTEX_OP_CMP_EQ, 0));
    CHECK_EQ(other, 15);
    futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_ANDN, 3, FUTEX_OP_CMP_EQ, 0));
    CHECK_EQ(other, 12);
    futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP((FUTEX_OP_XOR | FUTEX_OP_OPARG_SHIFT), 2, FUTEX_OP_CMP_EQ, 0));
    CHECK_EQ(other, 8);
    CHECK_ERR(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(7, 0, 0, 0)), ENOSYS);
    CHECK_ERR(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, BAD, FUTEX_OP(FUTEX_OP_ADD, 3, 0, 0)), EFAULT);
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, wait_private, NULL), 0);
    int woken = 0;
    for (int i = 0; i < 400 && !woken; i++, usleep(10000))
        woken = futex(&other, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &word, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0));
    CHECK_EQ(woken, 1);
    CHECK_RET(pthread_join(thread, NULL), 0);
}

TEST(between_processes) {
    uint32_t *shared = (uint32_t *)MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_t pid = MUST(fork());
    if (pid == 0)
        _exit(futex(shared, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 3 : 4);
    CHECK_EQ(wake(shared, FUTEX_WAKE, 1, 0), 1);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WEXITSTATUS(status), 3);
    // The same file mapped at another address is the same futex.
    int fd = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, 8192));
    uint32_t *a = (uint32_t *)MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096));
    pid = MUST(fork());
    if (pid == 0) {
        uint32_t *b = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        _exit(futex(b + 1024 + 5, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 3 : 4);
    }
    CHECK_EQ(wake(a + 5, FUTEX_WAKE, 1, 0), 1);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WEXITSTATUS(status), 3);
    // Private memory is not shared after a fork.
    word = 0;
    pid = MUST(fork());
    if (pid == 0) {
        struct timespec little = {0, 300000000};
        _exit(futex(&word, FUTEX_WAIT, 0, &little, NULL, 0) == -1 && errno == ETIMEDOUT ? 5 : 6);
    }
    usleep(100000);
    CHECK_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WEXITSTATUS(status), 5);
}

TEST(shared_form_of_private_memory) {
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, wait_shared, NULL), 0);
    CHECK_EQ(wake(&word, FUTEX_WAKE, 1, 0), 1);
    CHECK_RET(pthread_join(thread, NULL), 0);
}

static void on_signal(int signo) {}

TEST(interrupted) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_ERR(futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0), EINTR);
}

static void *lock_and_hold(void *seconds) {
    CHECK_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    usleep(100000);
    CHECK_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    return NULL;
}

TEST(priority_inheritance) {
    pid_t tid = syscall(SYS_gettid);
    CHECK_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK_EQ(word & FUTEX_TID_MASK, tid);
    CHECK_ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    CHECK_ERR(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, lock_and_hold, NULL), 0);
    for (int i = 0; i < 400 && !(*(volatile uint32_t *)&word & FUTEX_WAITERS); i++)
        usleep(10000);
    CHECK((word & FUTEX_WAITERS) != 0);
    CHECK_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK((*(volatile uint32_t *)&word & FUTEX_TID_MASK) != (uint32_t)tid);
    CHECK_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK_RET(pthread_join(thread, NULL), 0);
    CHECK_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK_EQ(word, 0);
    CHECK_ERR(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    word = 1 << 28;
    CHECK_ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), ESRCH);
}

// Words that processes share.
struct shared {
    uint32_t lock, went;
};
static struct shared *share(void) {
    struct shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    return shared;
}
static int status_of(pid_t child) {
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return status;
}
// Begins a child that runs the statements.
#define CHILD(...)                                                                                                    \
    ({                                                                                                                \
        pid_t begun = CHECK_OK(fork());                                                                               \
        if (begun == 0) {                                                                                             \
            __VA_ARGS__;                                                                                              \
            check_end();                                                                                              \
        }                                                                                                             \
        begun;                                                                                                        \
    })
static uint32_t value_of(const uint32_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

// Plain waiters at a word are not overtaken by one that wants it as a lock.
TEST(lock_where_plain_waiters_are) {
    struct shared *shared = share();
    shared->lock = syscall(SYS_gettid);
    pid_t plain = CHILD({ CHECK_OK(futex(&shared->lock, FUTEX_WAIT, shared->lock, NULL, NULL, 0)); });
    until_asleep(plain);
    CHECK_CHILD({ CHECK_ERR(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL); });
    CHECK_EQ(futex(&shared->lock, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
    CHECK_EQ(status_of(plain), 0);
}

// While one waits for a lock, a word that names another owner, or none, is refused.
TEST(lock_of_a_spoilt_word) {
    struct shared *shared = share();
    uint32_t own = shared->lock = syscall(SYS_gettid);
    pid_t waiter = CHILD({ CHECK_OK(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0)); });
    while (!(value_of(&shared->lock) & FUTEX_WAITERS))
        sched_yield();
    until_asleep(waiter);
    uint32_t spoilt[] = {0, FUTEX_WAITERS, 1, 1 | FUTEX_WAITERS};
    for (int i = 0; i < 4; i++) {
        __atomic_store_n(&shared->lock, spoilt[i], __ATOMIC_SEQ_CST);
        CHECK_CHILD({ CHECK_ERR(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL); });
    }
    __atomic_store_n(&shared->lock, own | FUTEX_WAITERS, __ATOMIC_SEQ_CST);
    CHECK_OK(futex(&shared->lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    CHECK_EQ(status_of(waiter), 0);
}

static void *execute_with_lock(void *at) {
    struct shared *shared = at;
    CHECK_OK(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    __atomic_store_n(&shared->went, 1, __ATOMIC_SEQ_CST);
    while (value_of(&shared->went) != 2)
        sched_yield();
    execl("/bin/sh", "sh", "-c", "exit 3", NULL);
    execl("/proc/self/exe", "futex", "no such test", NULL);
    return NULL;
}

// A thread that is not the first and executes a program loses its locks to those who wait for them.
TEST(lock_of_a_thread_that_executes) {
    struct shared *shared = share();
    pid_t owner = CHILD({
        pthread_t thread;
        CHECK_RET(pthread_create(&thread, NULL, execute_with_lock, shared), 0);
        pause();
    });
    while (value_of(&shared->went) != 1)
        sched_yield();
    pid_t waiter = CHILD({
        CHECK_OK(futex(&shared->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
        CHECK_EQ(shared->lock & (FUTEX_TID_MASK | FUTEX_OWNER_DIED), FUTEX_OWNER_DIED | (uint32_t)syscall(SYS_gettid));
    });
    while (!(value_of(&shared->lock) & FUTEX_WAITERS))
        sched_yield();
    until_asleep(waiter);
    __atomic_store_n(&shared->went, 2, __ATOMIC_SEQ_CST);
    CHECK_EQ(status_of(waiter), 0);
    CHECK_CMP(status_of(owner), >=, 0);
}

enum { CIRCLE = 20 };
static struct {
    uint32_t locks[CIRCLE];
    pthread_barrier_t all_have_one;
    int refused, taken;
} circle;

static void *lock_own_and_next(void *number) {
    long own = (long)number;
    CHECK_OK(futex(&circle.locks[own], FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    pthread_barrier_wait(&circle.all_have_one);
    uint32_t *next = &circle.locks[(own + 1) % CIRCLE];
    if (futex(next, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0) {
        __atomic_add_fetch(&circle.taken, 1, __ATOMIC_SEQ_CST);
        CHECK_OK(futex(next, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    } else {
        CHECK_EQ(errno, EDEADLK);
        __atomic_add_fetch(&circle.refused, 1, __ATOMIC_SEQ_CST);
    }
    CHECK_OK(futex(&circle.locks[own], FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    return NULL;
}

// Each thread has a lock and wants the next one's: one is refused, and so all go on.
TEST(deadlock_of_several) {
    pthread_t threads[CIRCLE];
    pthread_barrier_init(&circle.all_have_one, NULL, CIRCLE);
    for (long i = 0; i < CIRCLE; i++)
        CHECK_RET(pthread_create(&threads[i], NULL, lock_own_and_next, (void *)i), 0);
    for (int i = 0; i < CIRCLE; i++)
        CHECK_RET(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(circle.refused, 1);
    CHECK_EQ(circle.taken, CIRCLE - 1);
    for (int i = 0; i < CIRCLE; i++)
        CHECK_EQ(circle.locks[i] & FUTEX_TID_MASK, 0);
}

TEST(library_mutexes) {
    pthread_mutexattr_t attribute;
    pthread_mutex_t *mutex =
        (pthread_mutex_t *)MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pthread_mutexattr_init(&attribute);
    CHECK_RET(pthread_mutexattr_setpshared(&attribute, PTHREAD_PROCESS_SHARED), 0);
    CHECK_RET(pthread_mutexattr_setrobust(&attribute, PTHREAD_MUTEX_ROBUST), 0);
    CHECK_RET(pthread_mutex_init(mutex, &attribute), 0);
    // A process that dies with the lock leaves it to the next one, marked.
    CHECK_EQ(IN_CHILD({ pthread_mutex_lock(mutex); }), 0);
    CHECK_RET(pthread_mutex_lock(mutex), EOWNERDEAD);
    CHECK_RET(pthread_mutex_consistent(mutex), 0);
    CHECK_RET(pthread_mutex_unlock(mutex), 0);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        pthread_mutex_lock(mutex);
        write(pipes[1], "x", 1);
        pause();
    }
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    CHECK_RET(pthread_mutex_trylock(mutex), EBUSY);
    kill(pid, SIGKILL);
    CHECK_RET(pthread_mutex_lock(mutex), EOWNERDEAD);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(robust_list_calls) {
    struct robust_list_head head = {.list = {&head.list}}, *found = NULL;
    size_t length = 0;
    CHECK_OK(syscall(SYS_set_robust_list, &head, sizeof head));
    CHECK_OK(syscall(SYS_get_robust_list, 0, &found, &length));
    CHECK_EQ(found, &head);
    CHECK_EQ(length, sizeof head);
    CHECK_ERR(syscall(SYS_set_robust_list, &head, 8), EINVAL);
    CHECK_ERR(syscall(SYS_get_robust_list, 1 << 22, &found, &length), ESRCH);
    CHECK_ERR(syscall(SYS_get_robust_list, 0, BAD, &length), EFAULT);
    // A list that runs astray harms nobody but its owner.
    CHECK_CHILD({
        head.list.next = BAD;
        syscall(SYS_set_robust_list, &head, sizeof head);
    });
}

TEST(clear_child_tid) {
    uint32_t *shared = (uint32_t *)MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    // Cleared only when others still use the memory map of the one that ends, which whoever looks into it in /proc does.
    for (int i = 0; i < 20 && *shared != 77; i++) {
        *shared = 77;
        CHECK_CHILD({ syscall(SYS_set_tid_address, shared); });
    }
    CHECK_EQ(*shared, 77);
}

struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static void *wake_other(void *unused) {
    wake(&other, FUTEX_WAKE_PRIVATE, 1, 0);
    return NULL;
}

TEST(wait_for_several) {
    word = other = 0;
    struct waiter waiters[2] = {{0, (uintptr_t)&word, 2 | 128, 0}, {0, (uintptr_t)&other, 2 | 128, 0}};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long result = syscall(449, waiters, 2, 0, &now, CLOCK_MONOTONIC);
    if (result < 0 && errno == ENOSYS)
        SKIP("no futex_waitv before Linux 5.16");
    CHECK(result == -1 && errno == ETIMEDOUT);
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, wake_other, NULL), 0);
    CHECK_EQ(syscall(449, waiters, 2, 0, NULL, 0), 1);
    CHECK_RET(pthread_join(thread, NULL), 0);
    word = 1;
    CHECK_ERR(syscall(449, waiters, 2, 0, NULL, 0), EAGAIN);
    CHECK_ERR(syscall(449, waiters, 0, 0, NULL, 0), EINVAL);
    CHECK_ERR(syscall(449, waiters, 129, 0, NULL, 0), EINVAL);
    CHECK_ERR(syscall(449, waiters, 2, 1, NULL, 0), EINVAL);
    CHECK_ERR(syscall(449, BAD, 2, 0, NULL, 0), EFAULT);
    waiters[0].reserved = 1;
    CHECK_ERR(syscall(449, waiters, 2, 0, NULL, 0), EINVAL);
}
