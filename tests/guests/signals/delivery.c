// Sending, blocking, queueing and taking signals.
#include "../check.h"
#include <pthread.h>
#include <sys/signalfd.h>
#include <ucontext.h>

static volatile sig_atomic_t count, order[64];
static siginfo_t last;

static void handler(int signo, siginfo_t *info, void *context) {
    last = *info;
    if (count < 64)
        order[count] = signo;
    count++;
}

static void handle(int signo, int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    CHECK_OK(sigaction(signo, &action, NULL));
}

static sigset_t set_of(int first, ...) {
    sigset_t set;
    sigemptyset(&set);
    va_list list;
    va_start(list, first);
    for (int signo = first; signo; signo = va_arg(list, int))
        sigaddset(&set, signo);
    va_end(list);
    return set;
}

static void block(int how, int signo) {
    sigset_t set = set_of(signo, 0);
    CHECK_OK(sigprocmask(how, &set, NULL));
}

static int pending(int signo) {
    sigset_t set;
    CHECK_OK(sigpending(&set));
    return sigismember(&set, signo);
}

TEST(information) {
    handle(SIGUSR1, 0);
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_EQ(count, 1);
    CHECK_EQ(last.si_signo, SIGUSR1);
    CHECK_EQ(last.si_code, SI_USER);
    CHECK_EQ(last.si_pid, getpid());
    CHECK_EQ(last.si_uid, getuid());
    CHECK_OK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
    CHECK_EQ(last.si_code, SI_TKILL);
    CHECK_OK(syscall(SYS_tkill, getpid(), SIGUSR1));
    CHECK_EQ(last.si_code, SI_TKILL);
    CHECK_OK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 77}));
    CHECK_EQ(last.si_code, SI_QUEUE);
    CHECK_EQ(last.si_value.sival_int, 77);
    CHECK_EQ(last.si_pid, getpid());
    CHECK_EQ(count, 4);
}

TEST(queueing) {
    handle(SIGUSR1, 0);
    handle(SIGRTMIN, 0);
    block(SIG_BLOCK, SIGUSR1);
    block(SIG_BLOCK, SIGRTMIN);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = i}));
        CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}));
    }
    CHECK(pending(SIGUSR1) && pending(SIGRTMIN));
    CHECK_EQ(count, 0);
    block(SIG_UNBLOCK, SIGUSR1);
    CHECK_EQ(count, 1);
    CHECK_EQ(last.si_value.sival_int, 0);
    CHECK(!pending(SIGUSR1));
    block(SIG_UNBLOCK, SIGRTMIN);
    CHECK_EQ(count, 4);
    CHECK_EQ(last.si_value.sival_int, 2);
}

TEST(lowest_first) {
    int signals[] = {SIGRTMIN + 5, SIGUSR2, SIGRTMIN, SIGHUP, SIGRTMAX, SIGUSR1, SIGRTMIN + 5};
    sigset_t all, old;
    sigfillset(&all);
    CHECK_OK(sigprocmask(SIG_SETMASK, &all, &old));
    for (int i = 0; i < 7; i++) {
        // Blocking all during a handler keeps them from nesting, so that the order of arrival shows.
        struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO, .sa_mask = all};
        CHECK_OK(sigaction(signals[i], &action, NULL));
        CHECK_OK(sigqueue(getpid(), signals[i], (union sigval){0}));
    }
    CHECK_OK(sigprocmask(SIG_SETMASK, &old, NULL));
    int expected[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN, SIGRTMIN + 5, SIGRTMIN + 5, SIGRTMAX};
    CHECK_EQ(count, 7);
    for (int i = 0; i < 7; i++)
        CHECK_EQ(order[i], expected[i]);
}

TEST(dispositions) {
    struct sigaction action = {.sa_handler = SIG_IGN}, old;
    CHECK_OK(sigaction(SIGTERM, &action, NULL));
    CHECK_OK(raise(SIGTERM));
    CHECK_OK(sigaction(SIGTERM, NULL, &old));
    CHECK(old.sa_handler == SIG_IGN);
    CHECK_ERR(sigaction(SIGKILL, &action, NULL), EINVAL);
    CHECK_ERR(sigaction(SIGSTOP, &action, NULL), EINVAL);
    CHECK_OK(sigaction(SIGKILL, NULL, &old));
    CHECK_ERR(syscall(SYS_rt_sigaction, 65, NULL, &old, 8), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, 0, NULL, &old, 8), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, 5, NULL, &old, 16), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, 5, BAD, NULL, 8), EFAULT);
    CHECK_ERR(syscall(SYS_rt_sigaction, 5, NULL, BAD, 8), EFAULT);
    // Ignoring a pending signal discards it.
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    CHECK(pending(SIGUSR1));
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    CHECK(!pending(SIGUSR1));
    handle(SIGUSR1, 0);
    block(SIG_UNBLOCK, SIGUSR1);
    CHECK_EQ(count, 0);
}

TEST(default_actions) {
    int deadly[] = {SIGHUP, SIGINT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGPOLL, SIGPROF, SIGVTALRM, SIGRTMIN, SIGRTMAX, SIGSTKFLT, SIGPWR};
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        int status = IN_CHILD({ raise(deadly[i]); });
        CHECK_EQ(status, deadly[i]);
    }
    int harmless[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        CHECK_EQ(IN_CHILD({ raise(harmless[i]); }), 0);
    int cored[] = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS};
    for (size_t i = 0; i < sizeof cored / sizeof *cored; i++) {
        int status = IN_CHILD({
            struct rlimit64 {
                uint64_t now, most;
            } none = {0, 0};
            syscall(SYS_prlimit64, 0, 4 /* RLIMIT_CORE */, &none, NULL);
            raise(cored[i]);
        });
        CHECK_EQ(status & 0x7f, cored[i]);
    }
}

TEST(masks) {
    sigset_t set = set_of(SIGKILL, SIGSTOP, SIGUSR1, 0), now;
    CHECK_OK(sigprocmask(SIG_SETMASK, &set, NULL));
    CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(!sigismember(&now, SIGKILL) && !sigismember(&now, SIGSTOP) && sigismember(&now, SIGUSR1));
    CHECK_ERR(syscall(SYS_rt_sigprocmask, 3, &set, NULL, 8), EINVAL);
    CHECK_OK(syscall(SYS_rt_sigprocmask, 3, NULL, &now, 8));
    CHECK_ERR(syscall(SYS_rt_sigprocmask, 0, &set, NULL, 4), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigprocmask, 0, BAD, NULL, 8), EFAULT);
    CHECK_ERR(syscall(SYS_rt_sigprocmask, 0, NULL, BAD, 8), EFAULT);
    CHECK_ERR(syscall(SYS_rt_sigpending, BAD, 8), EFAULT);
    CHECK_ERR(syscall(SYS_rt_sigpending, &now, 9), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigsuspend, BAD, 8), EFAULT);
}

static void nested(int signo) {
    count++;
    if (count < 3)
        raise(signo);
    // Counted at once when not deferred, and later when it is.
    order[0] = count;
}

TEST(handler_flags) {
    struct sigaction action = {.sa_handler = nested, .sa_flags = SA_NODEFER};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    CHECK_EQ(count, 3);
    handle(SIGUSR2, SA_RESETHAND);
    raise(SIGUSR2);
    struct sigaction old;
    CHECK_OK(sigaction(SIGUSR2, NULL, &old));
    CHECK(old.sa_handler == SIG_DFL);
    CHECK(IN_CHILD({ raise(SIGUSR2); }) == SIGUSR2);
}

static sigset_t inside;

static void look(int signo) { sigprocmask(SIG_BLOCK, NULL, &inside); }

TEST(mask_in_a_handler) {
    struct sigaction action = {.sa_handler = look, .sa_mask = set_of(SIGUSR2, 0)};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    block(SIG_BLOCK, SIGHUP);
    raise(SIGUSR1);
    CHECK(sigismember(&inside, SIGUSR1) && sigismember(&inside, SIGUSR2) && sigismember(&inside, SIGHUP));
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2) && sigismember(&now, SIGHUP));
}

TEST(suspend) {
    handle(SIGUSR1, 0);
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    sigset_t none, now;
    sigemptyset(&none);
    CHECK_ERR(sigsuspend(&none), EINTR);
    CHECK_EQ(count, 1);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
}

TEST(wait_for) {
    sigset_t set = set_of(SIGUSR1, SIGRTMIN, 0);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
    siginfo_t info;
    struct timespec none = {0, 0}, little = {0, 20000000}, wrong = {0, 1000000000}, negative = {-1, 0};
    CHECK_ERR(sigtimedwait(&set, &info, &none), EAGAIN);
    CHECK_ERR(sigtimedwait(&set, &info, &little), EAGAIN);
    CHECK_ERR(sigtimedwait(&set, &info, &wrong), EINVAL);
    CHECK_ERR(sigtimedwait(&set, &info, &negative), EINVAL);
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 9}));
    CHECK_OK(raise(SIGUSR1));
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
    CHECK_EQ(info.si_value.sival_int, 9);
    handle(SIGALRM, 0);
    alarm(1);
    CHECK_ERR(sigwaitinfo(&set, NULL), EINTR);
    CHECK_ERR(syscall(SYS_rt_sigtimedwait, BAD, NULL, NULL, 8), EFAULT);
    CHECK_ERR(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 4), EINVAL);
}

TEST(descriptor) {
    sigset_t set = set_of(SIGUSR1, SIGRTMIN, SIGCHLD, 0);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
    int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    struct signalfd_siginfo infos[4];
    CHECK_ERR(read(fd, infos, sizeof infos), EAGAIN);
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 3}));
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 4}));
    CHECK_OK(raise(SIGUSR1));
    CHECK_ERR(read(fd, infos, 100), EINVAL);
    CHECK_EQ(read(fd, infos, sizeof infos), 3 * sizeof *infos);
    CHECK_EQ(infos[0].ssi_signo, SIGUSR1);
    CHECK_EQ(infos[0].ssi_pid, getpid());
    CHECK_EQ(infos[1].ssi_int, 3);
    CHECK_EQ(infos[2].ssi_int, 4);
    CHECK_EQ(infos[2].ssi_code, SI_QUEUE);
    pid_t pid = fork();
    if (pid == 0)
        _exit(5);
    waitid(P_PID, pid, &last, WEXITED | WNOWAIT);
    for (int i = 0; i < 1000 && read(fd, infos, sizeof infos) < 0; i++)
        usleep(10000);
    CHECK_EQ(infos[0].ssi_signo, SIGCHLD);
    CHECK_EQ(infos[0].ssi_pid, pid);
    CHECK_EQ(infos[0].ssi_status, 5);
    CHECK_EQ(infos[0].ssi_code, CLD_EXITED);
    sigset_t other = set_of(SIGUSR2, 0);
    CHECK_EQ(signalfd(fd, &other, 0), fd);
    raise(SIGUSR1);
    CHECK_ERR(read(fd, infos, sizeof infos), EAGAIN);
    CHECK_ERR(signalfd(0, &set, 0), EINVAL);
    CHECK_ERR(signalfd(1000, &set, 0), EBADF);
    CHECK_ERR(signalfd(-1, &set, 1), EINVAL);
    CHECK_ERR(syscall(SYS_signalfd4, -1, &set, 4, 0), EINVAL);
    CHECK_ERR(syscall(SYS_signalfd4, -1, BAD, 8, 0), EFAULT);
}

static pthread_t main_thread;
static int pipe_fds[2];

static void *poke(void *signo) {
    until_asleep(getpid());
    pthread_kill(main_thread, (long)signo);
    usleep(50000);
    write(pipe_fds[1], "x", 1);
    return NULL;
}

TEST(restart) {
    pthread_t thread;
    char byte;
    main_thread = pthread_self();
    CHECK_OK(pipe(pipe_fds));
    handle(SIGUSR1, SA_RESTART);
    CHECK_RET(pthread_create(&thread, NULL, poke, (void *)SIGUSR1), 0);
    CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);
    CHECK_EQ(count, 1);
    pthread_join(thread, NULL);
    handle(SIGUSR1, 0);
    CHECK_RET(pthread_create(&thread, NULL, poke, (void *)SIGUSR1), 0);
    CHECK_ERR(read(pipe_fds[0], &byte, 1), EINTR);
    CHECK_EQ(count, 2);
    pthread_join(thread, NULL);
    CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);
    // An ignored signal interrupts nothing.
    signal(SIGUSR1, SIG_IGN);
    CHECK_RET(pthread_create(&thread, NULL, poke, (void *)SIGUSR1), 0);
    CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);
    pthread_join(thread, NULL);
    // Sleeps are never restarted after a handler, whatever the flag.
    handle(SIGUSR1, SA_RESTART);
    struct timespec long_time = {20, 0}, rest = {0, 0};
    CHECK_RET(pthread_create(&thread, NULL, poke, (void *)SIGUSR1), 0);
    CHECK_ERR(nanosleep(&long_time, &rest), EINTR);
    CHECK_CMP(rest.tv_sec, >=, 15);
    pthread_join(thread, NULL);
}

TEST(stop_does_not_interrupt) {
    CHECK_OK(pipe(pipe_fds));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        char byte;
        CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);
        _exit(0);
    }
    int status;
    until_asleep(pid);
    kill(pid, SIGSTOP);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    kill(pid, SIGCONT);
    usleep(50000);
    CHECK_EQ(write(pipe_fds[1], "x", 1), 1);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

static void *blocked(void *unused) {
    sigset_t set = set_of(SIGUSR1, 0);
    int signo;
    sigwait(&set, &signo);
    return (void *)(long)signo;
}

TEST(threads) {
    // A signal to the process goes to the thread that does not block it.
    block(SIG_BLOCK, SIGUSR1);
    pthread_t thread;
    void *result;
    CHECK_RET(pthread_create(&thread, NULL, blocked, NULL), 0);
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_RET(pthread_join(thread, &result), 0);
    CHECK_EQ(result, SIGUSR1);
    CHECK_ERR(syscall(SYS_tgkill, getpid(), 1 << 22, 0), ESRCH);
    CHECK_ERR(syscall(SYS_tgkill, 1, getpid(), 0), ESRCH);
    CHECK_ERR(syscall(SYS_tgkill, 0, getpid(), 0), EINVAL);
    CHECK_ERR(syscall(SYS_tkill, 0, 0), EINVAL);
    CHECK_ERR(syscall(SYS_tgkill, getpid(), getpid(), 65), EINVAL);
}

TEST(forged_information) {
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_USER};
    CHECK_CHILD({
        CHECK_ERR(syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &info), EPERM);
        info.si_code = SI_TKILL;
        CHECK_ERR(syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &info), EPERM);
    });
    info.si_code = -60;
    handle(SIGUSR1, 0);
    CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    CHECK_EQ(last.si_code, -60);
    CHECK_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &info));
    CHECK_ERR(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, BAD), EFAULT);
}

TEST(queue_limit) {
    struct rlimit64 {
        uint64_t now, most;
    } limit = {5, 5};
    CHECK_OK(setuid(4321));
    CHECK_OK(syscall(SYS_prlimit64, 0, 11 /* RLIMIT_SIGPENDING */, &limit, NULL));
    block(SIG_BLOCK, SIGRTMIN);
    int queued = 0;
    while (queued < 20 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
        queued++;
    CHECK_EQ(queued, 5);
    CHECK_EQ(errno, EAGAIN);
    // What carries words of its own is refused, whichever call it comes by; the limit is one for all.
    siginfo_t info = {.si_signo = SIGRTMIN, .si_code = SI_QUEUE}, taken;
    int self = CHECK_OK(syscall(SYS_pidfd_open, getpid(), 0));
    CHECK_ERR(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &info), EAGAIN);
    CHECK_ERR(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGRTMIN, &info), EAGAIN);
    CHECK_ERR(syscall(SYS_pidfd_send_signal, self, SIGRTMIN, &info, 0), EAGAIN);
    CHECK_ERR(syscall(SYS_tgkill, getpid(), getpid(), SIGRTMIN), EAGAIN);
    // kill(2) and signals that do not queue come, without their words.
    block(SIG_BLOCK, SIGUSR1);
    info.si_signo = SIGUSR1;
    info.si_pid = 77;
    CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    CHECK_OK(syscall(SYS_pidfd_send_signal, self, SIGRTMIN, NULL, 0));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK_EQ(sigwaitinfo(&set, &taken), SIGUSR1);
    CHECK(taken.si_code == SI_USER && taken.si_pid == 0);
    close(self);
}

#define GETS_TIME 0xffffffffff600400

// Has the program call the vsyscall page from where it was interrupted.
static void call_page(int signo, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    registers[REG_RSP] -= sizeof(greg_t);
    *(greg_t *)registers[REG_RSP] = registers[REG_RIP];
    registers[REG_RIP] = GETS_TIME;
    registers[REG_RDI] = 0;
}

// A handler may return to a call of the vsyscall page, as it does when the signal came there.
TEST(back_to_the_vsyscall_page) {
    int status = IN_CHILD({ ((time_t(*)(time_t *))GETS_TIME)(NULL); });
    if (WIFSIGNALED(status))
        SKIP("no vsyscall page");
    struct sigaction action = {.sa_sigaction = call_page, .sa_flags = SA_SIGINFO};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    long before = time(NULL);
    CHECK_CMP(syscall(SYS_kill, getpid(), SIGUSR1), >=, before);
}
