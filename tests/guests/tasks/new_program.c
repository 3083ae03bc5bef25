// What a process arranged before it executes a program does not reach the program: signals of its choice from children, message
// queues and timers.
#define OWN_MAIN
#include "../check.h"
#include <mqueue.h>
#include <sched.h>

static char self[PATH_MAX];

// Executes this program with what it shall do, in a child that made its arrangements; it must end by itself.
#define ARRANGE(word, ...)                                                                                            \
    CHECK_EQ(IN_CHILD({                                                                                               \
                 int pipes[2];                                                                                        \
                 CHECK_OK(pipe(pipes));                                                                               \
                 CHECK_OK(dup2(pipes[0], 100));                                                                       \
                 CHECK_OK(dup2(pipes[1], 101));                                                                       \
                 __VA_ARGS__;                                                                                         \
                 execl(self, "program", word, NULL);                                                                  \
             }),                                                                                                      \
             0)

// Waits until the program that was executed says that it is ready.
static void await_program(void) {
    char byte;
    close(101);
    read(100, &byte, 1);
}

static void make_child(int exit_signal) {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = {.exit_signal = exit_signal};
    if (MUST(syscall(SYS_clone3, &args, sizeof args)) == 0) {
        await_program();
        _exit(0);
    }
}

// Ready; a child ends: by what signal is it told of?
static int await_child(void) {
    sigset_t all;
    siginfo_t info;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    write(101, "", 1);
    return sigwaitinfo(&all, &info) != SIGCHLD || waitpid(-1, NULL, __WALL) != info.si_pid;
}

TEST(exit_signals_of_children) {
    int signals[] = {SIGKILL, SIGUSR1, SIGRTMIN, 0, SIGCHLD};
    for (int i = 0; i < 5; i++)
        ARRANGE("--child", make_child(signals[i]));
}

TEST(exit_signals_of_siblings) {
    // A child made with CLONE_PARENT has its maker's signal, and the program that the maker was made by.
    ARRANGE("--siblings", {
        struct {
            uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
        } args = {.exit_signal = SIGKILL};
        if (MUST(syscall(SYS_clone3, &args, sizeof args)) == 0) {
            await_program();
            args.flags = CLONE_PARENT;
            args.exit_signal = 0;
            syscall(SYS_clone3, &args, sizeof args);
            _exit(0);
        }
    });
}

static int await_children(void) {
    write(101, "", 1);
    return waitpid(-1, NULL, __WALL) < 0 || waitpid(-1, NULL, __WALL) < 0;
}

// The kernel's own interface: a queue's descriptor is closed by an exec unless that is changed.
static int queue_with_notice(const char *name, int keep) {
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 8};
    mq_unlink(name);
    mqd_t queue = MUST(mq_open(name, O_CREAT | O_RDWR, 0600, &attr));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    CHECK_OK(mq_notify(queue, &event));
    if (keep)
        CHECK_OK(fcntl(queue, F_SETFD, 0));
    return MUST(dup2(queue, 102));
}

static int send_to_queue(void) {
    return mq_send(102, "a", 1, 0);
}

TEST(notices_of_queues) {
    ARRANGE("--send", queue_with_notice("/new_program", 1));
    ARRANGE("--send", queue_with_notice("/new_program", 0));
    mq_unlink("/new_program");
}

static int registered(int queue) {
    char text[128] = "";
    CHECK_CMP(pread(queue, text, sizeof text - 1, 0), >, 0);
    return atoi(strstr(text, "NOTIFY_PID:") + 11);
}

TEST(notices_end_with_any_close) {
    int queue = queue_with_notice("/closes", 1);
    CHECK_EQ(registered(queue), getpid());
    // One of another process, and of another queue, changes nothing.
    CHECK_CHILD(close(queue));
    CHECK_EQ(registered(queue), getpid());
    close(dup(queue));
    CHECK_EQ(registered(queue), 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK_OK(mq_notify(queue, &event));
    // Another description of the same queue does it too.
    close(MUST(mq_open("/closes", O_RDONLY)));
    CHECK_EQ(registered(queue), 0);
    mq_unlink("/closes");
}

static void expired_timer(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
    struct itimerspec now = {.it_value.tv_nsec = 1};
    int signals[] = {SIGUSR1, SIGRTMIN};
    for (int i = 0; i < 2; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signals[i]};
        timer_t timer;
        CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
        CHECK_OK(timer_settime(timer, 0, &now, NULL));
    }
    sigset_t pending;
    do
        sigpending(&pending);
    while (!sigismember(&pending, SIGUSR1) || !sigismember(&pending, SIGRTMIN));
    raise(SIGUSR2);
}

static int what_waits(void) {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGUSR1) || sigismember(&pending, SIGRTMIN) || !sigismember(&pending, SIGUSR2);
}

TEST(signals_of_timers) { ARRANGE("--waits", expired_timer()); }

TEST(death_of_a_parent_without_rights) {
    // The parent's end is a signal of the parent's: without the right to send one there is none.
    int said[2], go[2];
    CHECK_OK(pipe(said));
    CHECK_OK(pipe(go));
    for (int dropped = 0; dropped < 2; dropped++) {
        int result = -1;
        CHECK_CHILD({
            pid_t parent = getpid();
            if (MUST(fork()) == 0) {
                sigset_t set;
                sigemptyset(&set);
                sigaddset(&set, SIGUSR1);
                sigprocmask(SIG_BLOCK, &set, NULL);
                CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
                write(go[1], "", 1);
                while (getppid() == parent)
                    usleep(1000);
                sigset_t pending;
                sigpending(&pending);
                result = sigismember(&pending, SIGUSR1);
                write(said[1], &result, sizeof result);
                _exit(0);
            }
            char byte;
            read(go[0], &byte, 1);
            if (dropped)
                CHECK_OK(setresuid(1000, 1000, 1000));
        });
        CHECK_EQ(read(said[0], &result, sizeof result), sizeof result);
        CHECK_EQ(result, !dropped);
    }
}

int main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "--child"))
        return await_child();
    if (!strcmp(word, "--siblings"))
        return await_children();
    if (!strcmp(word, "--send"))
        return send_to_queue();
    if (!strcmp(word, "--waits"))
        return what_waits();
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    return check_main(argc, argv);
}
