// Filters of system calls.
#include "../check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <ucontext.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static long seccomp(unsigned operation, unsigned flags, void *args) { return syscall(SYS_seccomp, operation, flags, args); }

static long install_with(struct sock_filter *filter, int len, unsigned flags) {
    struct sock_fprog program = {len, filter};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
}

// Answers `answer` to one call, allows the others.
static long on_call(int nr, unsigned answer, unsigned flags) {
    struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        ANSWER(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        ANSWER(answer),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    return install_with(filter, COUNT(filter), flags);
}

static void allow_filters(void) { MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }

static int field(const char *name) {
    char line[200];
    int value = -1;
    FILE *file = fopen("/proc/thread-self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)))
            value = atoi(line + strlen(name));
    if (file)
        fclose(file);
    return value;
}

TEST(rights) {
    CHECK_CHILD({
        if (!geteuid())
            MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(on_call(SYS_getppid, SECCOMP_RET_ALLOW, 0), EACCES);
        allow_filters();
        CHECK_OK(on_call(SYS_getppid, SECCOMP_RET_ALLOW, 0));
    });
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, BAD), EFAULT);
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_FILTER, 1 << 20, BAD), EINVAL);
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
    CHECK_ERR(seccomp(SECCOMP_SET_MODE_STRICT, 0, BAD), EINVAL);
    CHECK_ERR(seccomp(99, 0, NULL), EINVAL);
    CHECK_ERR(prctl(PR_SET_SECCOMP, 3, NULL), EINVAL);
    CHECK_ERR(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, BAD), EFAULT);
    CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
    unsigned action = SECCOMP_RET_ERRNO;
    CHECK_OK(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action));
    action = 0x12340000;
    CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action), EOPNOTSUPP);
    CHECK_ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, BAD), EFAULT);
}

TEST(programs_that_are_wrong) {
    allow_filters();
    struct sock_filter no_end[] = {LOAD(nr)}, unaligned[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), ANSWER(SECCOMP_RET_ALLOW)},
                       beyond[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ANSWER(SECCOMP_RET_ALLOW)},
                       bytes[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ANSWER(SECCOMP_RET_ALLOW)},
                       by_zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ANSWER(SECCOMP_RET_ALLOW)},
                       rest[] = {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 2), ANSWER(SECCOMP_RET_ALLOW)},
                       away[] = {BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0), ANSWER(SECCOMP_RET_ALLOW)},
                       unset[] = {BPF_STMT(BPF_LD | BPF_MEM, 3), ANSWER(SECCOMP_RET_ALLOW)},
                       unknown[] = {BPF_STMT(0xffff, 0), ANSWER(SECCOMP_RET_ALLOW)};
    CHECK_ERR(install_with(no_end, 1, 0), EINVAL);
    CHECK_ERR(install_with(no_end, 0, 0), EINVAL);
    CHECK_ERR(install_with(unaligned, 2, 0), EINVAL);
    CHECK_ERR(install_with(beyond, 2, 0), EINVAL);
    CHECK_ERR(install_with(bytes, 2, 0), EINVAL);
    CHECK_ERR(install_with(by_zero, 2, 0), EINVAL);
    CHECK_ERR(install_with(rest, 2, 0), EINVAL);
    CHECK_ERR(install_with(away, 2, 0), EINVAL);
    CHECK_ERR(install_with(unset, 2, 0), EINVAL);
    CHECK_ERR(install_with(unknown, 2, 0), EINVAL);
    CHECK_ERR(install_with(BAD, 2, 0), EFAULT);
    static struct sock_filter many[4097];
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    CHECK_ERR(install_with(many, 4097, 0), EINVAL);
    // So many filters, and no more.
    int count = 0;
    while (install_with(many, 4096, 0) == 0)
        count++;
    CHECK_EQ(errno, ENOMEM);
    // How many depends on what Linux makes of the instructions.
    CHECK(count >= 3 && count <= 7);
}

TEST(errno_answers) {
    allow_filters();
    CHECK_OK(on_call(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0));
    CHECK_ERR(syscall(SYS_getppid), EXDEV);
    CHECK_CMP(getpid(), >, 0);
    CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
    CHECK_EQ(field("Seccomp:"), 2);
    CHECK_EQ(field("Seccomp_filters:"), 1);
    // The strictest counts; of the same, the newest.
    CHECK_OK(on_call(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, 0));
    CHECK_ERR(syscall(SYS_getppid), EDOM);
    CHECK_OK(on_call(SYS_getppid, SECCOMP_RET_ALLOW, 0));
    CHECK_ERR(syscall(SYS_getppid), EDOM);
    CHECK_OK(on_call(SYS_getuid, SECCOMP_RET_ERRNO, 0));
    CHECK_EQ(syscall(SYS_getuid), 0);
    CHECK_EQ(field("Seccomp_filters:"), 4);
    // Children and new programs have them too.
    CHECK_CHILD({ CHECK_ERR(syscall(SYS_getppid), EDOM); });
    CHECK_OK(on_call(SYS_uname, SECCOMP_RET_ERRNO | EPERM, 0));
    CHECK_EQ(IN_CHILD({
                 int null = open("/dev/null", O_WRONLY);
                 dup2(null, 2);
                 execl("/bin/uname", "uname", NULL);
             }) >> 8,
             1);
    CHECK_ERR(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
    // Without a tracer.
    CHECK_OK(on_call(SYS_getgid, SECCOMP_RET_TRACE | 7, 0));
    CHECK_ERR(syscall(SYS_getgid), ENOSYS);
    CHECK_OK(on_call(SYS_getegid, SECCOMP_RET_LOG, 0));
    CHECK_OK(syscall(SYS_getegid));
    // Calls that are none are asked about as well.
    CHECK_OK(on_call(0x7fff, SECCOMP_RET_ERRNO | EOWNERDEAD, 0));
    CHECK_ERR(syscall(0x7fff), EOWNERDEAD);
}

TEST(arguments) {
    allow_filters();
    struct sock_filter filter[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 7),
        LOAD(args[1]),
        BPF_STMT(BPF_ST, 2),
        BPF_STMT(BPF_LDX | BPF_MEM, 2),
        LOAD(args[0]),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 1000, 0, 1),
        ANSWER(SECCOMP_RET_ERRNO | ERANGE),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    CHECK_OK(install_with(filter, COUNT(filter), 0));
    CHECK_ERR(lseek(900, 101, SEEK_SET), ERANGE);
    CHECK_ERR(lseek(900, 100, SEEK_SET), EBADF);
    CHECK_ERR(lseek(-1, 0, SEEK_SET), ERANGE);
}

static volatile int calls;
static siginfo_t last;
static volatile long at, rax;
static void trapped(int signo, siginfo_t *info, void *context) {
    ucontext_t *user = context;
    calls++;
    last = *info;
    at = user->uc_mcontext.gregs[REG_RIP];
    rax = user->uc_mcontext.gregs[REG_RAX];
    user->uc_mcontext.gregs[REG_RAX] = 4711;
}

TEST(traps) {
    allow_filters();
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSYS, &action, NULL));
    CHECK_OK(on_call(SYS_getppid, SECCOMP_RET_TRAP | 77, 0));
    CHECK_EQ(syscall(SYS_getppid), 4711);
    CHECK_EQ(calls, 1);
    CHECK_EQ(last.si_signo, SIGSYS);
    CHECK_EQ(last.si_code, 1);
    CHECK_EQ(last.si_errno, 77);
    CHECK_EQ(last.si_syscall, SYS_getppid);
    CHECK_EQ(last.si_arch, AUDIT_ARCH_X86_64);
    CHECK_EQ((long)last.si_call_addr, at);
    CHECK_EQ(rax, SYS_getppid);
    int status = IN_CHILD({
        signal(SIGSYS, SIG_IGN);
        syscall(SYS_getppid);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void trapped_ignored(int signo) { (void)signo; }
static void *one_call(void *nr) { return (void *)syscall((long)nr); }

TEST(kills) {
    allow_filters();
    int status = IN_CHILD({
        on_call(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
        signal(SIGSYS, trapped_ignored);
        syscall(SYS_getppid);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    status = IN_CHILD({
        on_call(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
        syscall(SYS_getppid);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    // One thread of several.
    CHECK_CHILD({
        MUST(on_call(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0));
        pthread_t thread;
        pthread_create(&thread, NULL, one_call, (void *)SYS_getppid);
        CHECK_RET(pthread_join(thread, NULL), 0);
        CHECK_CMP(getpid(), >, 0);
    });
    status = IN_CHILD({
        MUST(on_call(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0));
        pthread_t thread;
        pthread_create(&thread, NULL, one_call, (void *)SYS_getppid);
        pthread_join(thread, NULL);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    // What is no answer kills as well.
    status = IN_CHILD({
        on_call(SYS_getppid, 0x00010000, 0);
        syscall(SYS_getppid);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

TEST(strict) {
    int status = IN_CHILD({
        CHECK_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        char byte = 'x';
        int bad = write(-1, &byte, 1) != -1;
        syscall(SYS_exit, bad ? 1 : 42);
    });
    CHECK_EQ(status >> 8, 42);
    status = IN_CHILD({
        CHECK_OK(seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL));
        getppid();
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static volatile int ready, go;
static void *wait_and_call(void *own) {
    if (own)
        on_call(SYS_getuid, SECCOMP_RET_ALLOW, 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!go)
        usleep(1000);
    errno = 0;
    long result = syscall(SYS_getppid);
    return (void *)(long)(result == -1 ? errno : 0);
}

TEST(all_threads) {
    allow_filters();
    pthread_t threads[2];
    void *result;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, wait_and_call, NULL);
    while (ready < 2)
        usleep(1000);
    CHECK_OK(on_call(SYS_getppid, SECCOMP_RET_ERRNO | ENOTBLK, SECCOMP_FILTER_FLAG_TSYNC));
    go = 1;
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &result);
        CHECK_EQ((long)result, ENOTBLK);
    }
    // A thread with a filter of its own cannot be made to follow.
    ready = go = 0;
    pthread_create(&threads[0], NULL, wait_and_call, (void *)1);
    while (!ready)
        usleep(1000);
    CHECK_CMP(on_call(SYS_getgid, SECCOMP_RET_ALLOW, SECCOMP_FILTER_FLAG_TSYNC), >, getpid());
    CHECK_ERR(on_call(SYS_getgid, SECCOMP_RET_ALLOW, SECCOMP_FILTER_FLAG_TSYNC | 16), ESRCH);
    CHECK_EQ(field("Seccomp_filters:"), 1);
    go = 1;
    pthread_join(threads[0], &result);
}
