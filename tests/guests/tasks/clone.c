// clone(2), clone3(2) and unshare(2): which flags go together, what they share, and where they write.
#include "../check.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define PTR(p) ((uint64_t)(uintptr_t)(p))

static long clone3(struct clone_args *args, size_t size) { return syscall(SYS_clone3, args, size); }

// The flags of a request for a child that ends at once.
static long refused(uint64_t flags) {
    struct clone_args args = {.flags = flags, .exit_signal = flags & (CLONE_THREAD | CLONE_PARENT) ? 0 : SIGCHLD};
    long pid = clone3(&args, sizeof args);
    if (pid == 0)
        _exit(0);
    int error = errno;
    if (pid > 0)
        waitpid(pid, NULL, __WALL);
    errno = error;
    return pid;
}

static long older(unsigned long flags, void *parent, void *child, unsigned long tls) {
    long pid = syscall(SYS_clone, flags, 0, parent, child, tls);
    if (pid == 0)
        _exit(0);
    int error = errno;
    if (pid > 0)
        waitpid(pid, NULL, __WALL);
    errno = error;
    return pid;
}

TEST(sizes) {
    union {
        struct clone_args args;
        char bytes[8192];
    } u;
    size_t good[] = {64, 65, 72, 80, 87, 88, 96, 128, 4096};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        memset(&u, 0, sizeof u);
        u.args.exit_signal = SIGCHLD;
        pid_t pid = CHECK_OK(clone3(&u.args, good[i]));
        if (pid == 0)
            _exit(5);
        int status;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(WEXITSTATUS(status), 5);
    }
    memset(&u, 0, sizeof u);
    u.args.exit_signal = SIGCHLD;
    CHECK_ERR(clone3(&u.args, 63), EINVAL);
    CHECK_ERR(clone3(&u.args, 0), EINVAL);
    CHECK_ERR(clone3(&u.args, 4097), E2BIG);
    CHECK_ERR(clone3(&u.args, SIZE_MAX), E2BIG);
    u.bytes[100] = 1;
    CHECK_ERR(clone3(&u.args, 101), E2BIG);
    CHECK_ERR(clone3(&u.args, 4096), E2BIG);
    CHECK_ERR(clone3(BAD, sizeof u.args), EFAULT);
    CHECK_ERR(clone3(NULL, 64), EFAULT);
    CHECK_ERR(clone3(BAD, 63), EINVAL);
    CHECK_ERR(clone3(BAD, 8192), E2BIG);
}

TEST(contradictions) {
    CHECK_ERR(refused(CLONE_THREAD), EINVAL);
    CHECK_ERR(refused(CLONE_THREAD | CLONE_VM), EINVAL);
    CHECK_ERR(refused(CLONE_SIGHAND), EINVAL);
    CHECK_ERR(refused(CLONE_THREAD | CLONE_SIGHAND), EINVAL);
    CHECK_ERR(refused(CLONE_VM | CLONE_SIGHAND | CLONE_CLEAR_SIGHAND), EINVAL);
    CHECK_ERR(refused(CLONE_FS | CLONE_NEWNS), EINVAL);
    CHECK_ERR(refused(CLONE_FS | CLONE_NEWUSER), EINVAL);
    CHECK_ERR(refused(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWPID), EINVAL);
    CHECK_ERR(refused(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWUSER), EINVAL);
    CHECK_ERR(refused(CLONE_DETACHED), EINVAL);
    CHECK_ERR(refused(1), EINVAL);
    CHECK_ERR(refused(0x40), EINVAL);
    CHECK_ERR(refused(1ULL << 40), EINVAL);
    CHECK_ERR(refused(1ULL << 63), EINVAL);
    // The older call ignores what it does not know, and takes the signal from the same word.
    CHECK_OK(older(CLONE_DETACHED | SIGCHLD, NULL, NULL, 0));
    CHECK_ERR(older(CLONE_DETACHED | CLONE_PIDFD | SIGCHLD, NULL, NULL, 0), EINVAL);
    CHECK_OK(older(CLONE_IO | CLONE_SYSVSEM | CLONE_UNTRACED | CLONE_PTRACE | SIGCHLD, NULL, NULL, 0));
    CHECK_ERR(older(CLONE_THREAD | SIGCHLD, NULL, NULL, 0), EINVAL);
    int both;
    CHECK_ERR(older(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, &both, NULL, 0), EINVAL);
    CHECK_ERR(older(CLONE_SETTLS | SIGCHLD, NULL, NULL, 1UL << 63), EPERM);
    CHECK_OK(refused(CLONE_IO | CLONE_SYSVSEM | CLONE_UNTRACED));
}

TEST(arguments) {
    struct clone_args good = {.exit_signal = SIGCHLD}, args;
#define WITH(...) (args = good, __VA_ARGS__, clone3(&args, sizeof args))
    static char stack[4096];
    CHECK_ERR(WITH(args.exit_signal = 65), EINVAL);
    CHECK_ERR(WITH(args.exit_signal = 0x100), EINVAL);
    CHECK_ERR(WITH(args.exit_signal = 1ULL << 32 | SIGCHLD), EINVAL);
    CHECK_ERR(WITH(args.flags = CLONE_PARENT), EINVAL);
    CHECK_ERR(WITH(args.flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD), EINVAL);
    CHECK_ERR(WITH(args.stack = PTR(stack)), EINVAL);
    CHECK_ERR(WITH(args.stack_size = sizeof stack), EINVAL);
    CHECK_ERR(WITH(args.stack = UINT64_MAX - 4095, args.stack_size = 4096), EINVAL);
    CHECK_ERR(WITH(args.stack = PTR(stack), args.stack_size = UINT64_MAX), EINVAL);
    CHECK_ERR(WITH(args.stack = 1ULL << 62, args.stack_size = 4096), EINVAL);
    pid_t number = 1;
    CHECK_ERR(WITH(args.set_tid = PTR(&number)), EINVAL);
    CHECK_ERR(WITH(args.set_tid_size = 1), EINVAL);
    CHECK_ERR(WITH(args.set_tid = PTR(&number), args.set_tid_size = 33), EINVAL);
    CHECK_ERR(WITH(args.set_tid = PTR(BAD), args.set_tid_size = 1), EFAULT);
    CHECK_ERR(WITH(args.flags = CLONE_SETTLS, args.tls = 1ULL << 63), EPERM);
    CHECK_ERR(WITH(args.flags = CLONE_SETTLS, args.tls = 0x7ffffffff000), EPERM);
    int fd = -7;
    CHECK_ERR(WITH(args.flags = CLONE_PIDFD | CLONE_PARENT_SETTID, args.pidfd = PTR(&fd), args.parent_tid = PTR(&fd)),
              EINVAL);
    CHECK_ERR(WITH(args.flags = CLONE_PIDFD, args.pidfd = PTR(BAD)), EFAULT);
    CHECK_EQ(fd, -7);
    // No file is a control group: none at all, none that is open, none of another kind.
    CHECK_ERR(WITH(args.flags = CLONE_INTO_CGROUP, args.cgroup = 1ULL << 32), EINVAL);
    CHECK_ERR(WITH(args.flags = CLONE_INTO_CGROUP, args.cgroup = 1000), EBADF);
    int directory = CHECK_OK(open("/", O_PATH | O_DIRECTORY));
    CHECK_ERR(WITH(args.flags = CLONE_INTO_CGROUP, args.cgroup = directory), EBADF);
    args = (struct clone_args){.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
    CHECK_ERR(clone3(&args, 80), EINVAL);
    // None of these left a child behind.
    CHECK_ERR(waitpid(-1, NULL, __WALL), ECHILD);
}

static int next_fd(void) {
    int fd = dup(0);
    close(fd);
    return fd;
}

TEST(failures_leave_no_descriptor) {
    int before = next_fd();
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = PTR(BAD), .exit_signal = SIGCHLD};
    CHECK_ERR(clone3(&args, sizeof args), EFAULT);
    CHECK_EQ(next_fd(), before);
}

TEST(chosen_number) {
    pid_t number = getpid();
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = PTR(&number), .set_tid_size = 1};
    CHECK_ERR(clone3(&args, sizeof args), EEXIST);
    pid_t bad[] = {0, -1, INT_MIN, 1 << 30};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        number = bad[i];
        CHECK_ERR(clone3(&args, sizeof args), EINVAL);
    }
    number = 7777;
    pid_t pid = CHECK_OK(clone3(&args, sizeof args));
    if (pid == 0)
        _exit(getpid() == 7777 ? 3 : 4);
    CHECK_EQ(pid, 7777);
    int status;
    CHECK_EQ(waitpid(7777, &status, 0), 7777);
    CHECK_EQ(WEXITSTATUS(status), 3);
    // The group of a process that is gone keeps its number.
    number = 7778;
    pid = CHECK_OK(clone3(&args, sizeof args));
    if (pid == 0) {
        setpgid(0, 0);
        if (fork() == 0) {
            pause();
            _exit(0);
        }
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, NULL, 0), 7778);
    CHECK_ERR(clone3(&args, sizeof args), EEXIST);
    CHECK_OK(kill(-7778, SIGKILL));
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        number = 7779;
        CHECK_ERR(clone3(&args, sizeof args), EPERM);
    });
}

TEST(numbers_written) {
    static pid_t parent, child;
    int fd = -1;
    parent = child = -1;
    struct clone_args args = {.flags = CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
                              .pidfd = PTR(&fd),
                              .parent_tid = PTR(&parent),
                              .child_tid = PTR(&child),
                              .exit_signal = SIGCHLD};
    pid_t pid = MUST(clone3(&args, sizeof args));
    if (pid == 0)
        // The parent's word is written in the parent's memory alone, the child's in its own.
        _exit(parent == -1 && child == getpid() ? 11 : 12);
    CHECK_EQ(parent, pid);
    CHECK_EQ(child, -1);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    siginfo_t info;
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
    CHECK_EQ(info.si_pid, pid);
    CHECK_EQ(info.si_status, 11);
    // Bad addresses of the words are not worth failing for.
    args.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    args.parent_tid = args.child_tid = PTR(BAD);
    pid = CHECK_OK(clone3(&args, sizeof args));
    if (pid == 0)
        _exit(13);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WEXITSTATUS(status), 13);
}

static char child_stack[1 << 16] __attribute__((aligned(16)));
static volatile int seen;

static int look_at_clear(void *word) {
    usleep(50000);
    seen = *(int *)word;
    return 9;
}

TEST(cleared_number) {
    static volatile pid_t word;
    word = -5;
    pid_t pid = CHECK_OK(clone(look_at_clear, child_stack + sizeof child_stack,
                               CLONE_VM | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, (void *)&word, NULL,
                               NULL, &word));
    while (word != 0)
        syscall(SYS_futex, &word, FUTEX_WAIT, pid, NULL, NULL, 0);
    CHECK_EQ(seen, pid);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WEXITSTATUS(status), 9);
    // set_tid_address answers the caller's number, whatever the address.
    pid_t *old = NULL;
    CHECK_OK(prctl(PR_GET_TID_ADDRESS, &old));
    CHECK_EQ(syscall(SYS_set_tid_address, BAD), gettid());
    pid_t *now;
    CHECK_OK(prctl(PR_GET_TID_ADDRESS, &now));
    CHECK(now == BAD);
    CHECK_EQ(syscall(SYS_set_tid_address, old), gettid());
    CHECK_ERR(prctl(PR_GET_TID_ADDRESS, BAD), EFAULT);
}

static void nothing(int signal) { (void)signal; }

TEST(cleared_handlers) {
    signal(SIGUSR1, nothing);
    signal(SIGUSR2, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct clone_args args = {.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    pid_t pid = MUST(clone3(&args, sizeof args));
    if (pid == 0) {
        struct sigaction action;
        sigaction(SIGUSR1, NULL, &action);
        CHECK(action.sa_handler == SIG_DFL);
        sigaction(SIGUSR2, NULL, &action);
        CHECK(action.sa_handler == SIG_IGN);
        sigprocmask(SIG_BLOCK, NULL, &set);
        CHECK(sigismember(&set, SIGTERM));
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    CHECK(action.sa_handler == nothing);
}

TEST(exit_signals) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 3);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals[] = {SIGUSR1, SIGRTMIN + 3};
    for (int i = 0; i < 2; i++) {
        struct clone_args args = {.exit_signal = signals[i]};
        pid_t pid = MUST(clone3(&args, sizeof args));
        if (pid == 0)
            _exit(4);
        siginfo_t info;
        CHECK_EQ(sigwaitinfo(&set, &info), signals[i]);
        CHECK_EQ(info.si_pid, pid);
        CHECK_EQ(info.si_code, CLD_EXITED);
        CHECK_EQ(info.si_status, 4);
        CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
        CHECK_EQ(waitpid(pid, NULL, __WCLONE), pid);
    }
    // No signal at all: a clone child too.
    struct clone_args args = {0};
    pid_t pid = MUST(clone3(&args, sizeof args));
    if (pid == 0)
        _exit(0);
    CHECK_EQ(waitpid(pid, NULL, __WALL), pid);
    struct timespec none = {0};
    CHECK_ERR(sigtimedwait(&set, NULL, &none), EAGAIN);
    // A program that is executed makes an ordinary child of it.
    pid = MUST(clone3(&args, sizeof args));
    if (pid == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    siginfo_t info;
    CHECK_EQ(sigwaitinfo(&set, &info), SIGCHLD);
    CHECK_EQ(info.si_pid, pid);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(siblings) {
    // A child made with CLONE_PARENT is its maker's sibling, and ends with the signal its maker ends with.
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t me = getpid();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct clone_args first = {.exit_signal = SIGUSR2};
    pid_t maker = MUST(clone3(&first, sizeof first));
    if (maker == 0) {
        struct clone_args args = {.flags = CLONE_PARENT};
        pid_t pid = clone3(&args, sizeof args);
        if (pid == 0) {
            CHECK_EQ(getppid(), me);
            _exit(6);
        }
        write(pipes[1], &pid, sizeof pid);
        CHECK_ERR(waitpid(pid, NULL, __WALL), ECHILD);
        pause();
    }
    pid_t sibling = -1;
    CHECK_EQ(read(pipes[0], &sibling, sizeof sibling), sizeof sibling);
    siginfo_t info;
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR2);
    CHECK_EQ(info.si_pid, sibling);
    int status;
    CHECK_EQ(waitpid(sibling, &status, __WCLONE), sibling);
    CHECK_EQ(WEXITSTATUS(status), 6);
    kill(maker, SIGKILL);
    CHECK_EQ(waitpid(maker, NULL, __WCLONE), maker);
}

TEST(sharing) {
    char here[4096];
    CHECK(getcwd(here, sizeof here));
    umask(022);
    for (int shared = 0; shared < 2; shared++) {
        struct clone_args args = {.flags = shared ? CLONE_FS | CLONE_FILES : 0, .exit_signal = SIGCHLD};
        int fd = CHECK_OK(open("/dev/null", O_RDONLY));
        pid_t pid = MUST(clone3(&args, sizeof args));
        if (pid == 0) {
            chdir("/");
            umask(0);
            close(fd);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        char now[4096];
        CHECK(getcwd(now, sizeof now));
        CHECK_STR(now, shared ? "/" : here);
        CHECK_EQ(umask(022), shared ? 0 : 022);
        CHECK_EQ(fcntl(fd, F_GETFD) == -1, shared);
        CHECK_OK(chdir(here));
        if (!shared)
            close(fd);
    }
}

static int unshare_all(void *unused) {
    (void)unused;
    // Shares everything with its parent, until it parts from it.
    CHECK_OK(unshare(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM));
    chdir("/");
    close(0);
    return 0;
}

static void *wait_there(void *barrier) {
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return NULL;
}

TEST(parting) {
    char here[4096], now[4096];
    CHECK(getcwd(here, sizeof here));
    pid_t pid = CHECK_OK(clone(unshare_all, child_stack + sizeof child_stack,
                               CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, NULL));
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK(getcwd(now, sizeof now));
    CHECK_STR(now, here);
    CHECK_OK(fcntl(0, F_GETFD));
    // One thread alone shares nothing of these with anybody.
    CHECK_OK(unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM));
    CHECK_OK(unshare(0));
    CHECK_ERR(unshare(CLONE_PARENT), EINVAL);
    CHECK_ERR(unshare(CLONE_SETTLS), EINVAL);
    CHECK_ERR(unshare(CLONE_PIDFD), EINVAL);
    CHECK_ERR(unshare(0x40), EINVAL);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, wait_there, &barrier), 0);
    pthread_barrier_wait(&barrier);
    CHECK_ERR(unshare(CLONE_THREAD), EINVAL);
    CHECK_ERR(unshare(CLONE_SIGHAND), EINVAL);
    CHECK_ERR(unshare(CLONE_VM), EINVAL);
    CHECK_ERR(unshare(CLONE_NEWUSER), EINVAL);
    CHECK_OK(unshare(CLONE_FS | CLONE_FILES));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

TEST(namespaces_need_rights) {
    CHECK_CHILD({
        CHECK_OK(setresgid(1000, 1000, 1000));
        CHECK_OK(setresuid(1000, 1000, 1000));
        int kinds[] = {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP};
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            CHECK_ERR(refused(kinds[i]), EPERM);
            CHECK_ERR(unshare(kinds[i]), EPERM);
        }
    });
    CHECK_ERR(setns(-1, 0), EBADF);
    int file = CHECK_OK(open("/dev/null", O_RDONLY));
    CHECK_ERR(setns(file, 0), EINVAL);
    CHECK_ERR(setns(file, CLONE_NEWUTS), EINVAL);
    int pidfd = CHECK_OK(syscall(SYS_pidfd_open, getpid(), 0));
    CHECK_ERR(setns(pidfd, 0), EINVAL);
    CHECK_ERR(setns(pidfd, CLONE_VM), EINVAL);
}

TEST(own_mounts) {
    CHECK_OK(mkdir("place", 0755));
    CHECK_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(syscall(SYS_mount, "none", "/", NULL, 1 << 18 | 1 << 14, NULL));
        CHECK_OK(syscall(SYS_mount, "t", "place", "tmpfs", 0, NULL));
        CHECK_OK(close(open("place/file", O_CREAT | O_RDWR, 0644)));
    });
    CHECK_ERR(access("place/file", F_OK), ENOENT);
}

TEST(robust_lists) {
    struct {
        void *list;
        long offset;
        void *pending;
    } head = {&head, 0, NULL};
    CHECK_ERR(syscall(SYS_set_robust_list, &head, sizeof head - 1), EINVAL);
    CHECK_ERR(syscall(SYS_set_robust_list, &head, 0), EINVAL);
    CHECK_OK(syscall(SYS_set_robust_list, &head, sizeof head));
    void *found = NULL;
    size_t length = 0;
    CHECK_OK(syscall(SYS_get_robust_list, 0, &found, &length));
    CHECK(found == &head && length == sizeof head);
    CHECK_OK(syscall(SYS_get_robust_list, getpid(), &found, &length));
    CHECK(found == &head);
    CHECK_ERR(syscall(SYS_get_robust_list, 1 << 22, &found, &length), ESRCH);
    CHECK_ERR(syscall(SYS_get_robust_list, 0, BAD, &length), EFAULT);
    CHECK_ERR(syscall(SYS_get_robust_list, 0, &found, BAD), EFAULT);
    CHECK_OK(syscall(SYS_set_robust_list, BAD, sizeof head));
    CHECK_OK(syscall(SYS_get_robust_list, 0, &found, &length));
    CHECK(found == BAD);
    struct clone_args args = {.exit_signal = SIGCHLD};
    pid_t pid = MUST(clone3(&args, sizeof args));
    if (pid == 0) {
        // A new process has none.
        CHECK_OK(syscall(SYS_get_robust_list, 0, &found, &length));
        CHECK(found == NULL);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_CHILD({
        CHECK_OK(syscall(SYS_get_robust_list, getppid(), &found, &length));
        CHECK(found == BAD);
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_ERR(syscall(SYS_get_robust_list, getppid(), &found, &length), EPERM);
    });
    CHECK_OK(syscall(SYS_set_robust_list, NULL, sizeof head));
}

TEST(restartable_sequences) {
    struct {
        uint32_t fields[8];
    } __attribute__((aligned(32))) area = {{0}}, other = {{0}};
    long first = syscall(SYS_rseq, &area, sizeof area, 0, 0x1234);
    if (first == -1 && errno == ENOSYS) {
        // As by a Linux built without them: no form of the call is there.
        CHECK_ERR(syscall(SYS_rseq, NULL, 0, 0, 0), ENOSYS);
        CHECK_ERR(syscall(SYS_rseq, &area, sizeof area, 1, 0x1234), ENOSYS);
        return;
    }
    // The C library may have registered one; then this one is refused.
    if (first == -1)
        CHECK(errno == EINVAL || errno == EBUSY || errno == EPERM);
    CHECK_ERR(syscall(SYS_rseq, &other, sizeof other, 0, 0x1234), EINVAL);
    CHECK_ERR(syscall(SYS_rseq, &area, sizeof area, 2, 0x1234), EINVAL);
}
