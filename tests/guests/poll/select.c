// poll, ppoll, select, pselect and the signal masks they wait under.
#include "../check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>

static volatile sig_atomic_t count;
static volatile int masked;
static void on_signal(int sig) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    masked = sigismember(&now, SIGUSR2);
    (void)sig, count++;
}

static int fds[2];

static void handle(int sig, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    CHECK_OK(sigaction(sig, &action, NULL));
}

// A signal after so many milliseconds, again and again: the first may come before the wait it is to end.
static void soon(int milliseconds) {
    struct itimerval timer = {{0, milliseconds * 1000}, {0, milliseconds * 1000}};
    CHECK_OK(setitimer(ITIMER_REAL, &timer, NULL));
}

TEST(poll_events) {
    CHECK_OK(pipe(fds));
    struct pollfd p[4] = {{fds[0], POLLIN, 7}, {fds[1], POLLOUT, 7}, {-5, POLLIN, 7}, {999, POLLIN, 7}};
    CHECK_EQ(poll(p, 4, 0), 2);
    CHECK_EQ(p[0].revents, 0);
    CHECK_EQ(p[1].revents, POLLOUT);
    CHECK_EQ(p[2].revents, 0);
    CHECK_EQ(p[3].revents, POLLNVAL);
    CHECK_EQ(poll(p, 1, 30), 0);
    close(fds[1]);
    CHECK_EQ(poll(p, 1, -1), 1);
    CHECK_EQ(p[0].revents, POLLHUP);
    CHECK_ERR(poll((void *)8, 1, 0), EFAULT);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    CHECK_ERR(poll(p, limit.rlim_cur + 1, 0), EINVAL);
    int file = MUST(open(".", O_RDONLY));
    p[0] = (struct pollfd){file, POLLIN | POLLOUT, 0};
    CHECK_EQ(poll(p, 1, 0), 1);
}

TEST(poll_is_interrupted) {
    CHECK_OK(pipe(fds));
    handle(SIGALRM, SA_RESTART);
    struct pollfd p = {fds[0], POLLIN, 0};
    soon(30);
    CHECK_ERR(poll(&p, 1, 5000), EINTR);
    soon(30);
    CHECK_ERR(select(fds[0] + 1, &(fd_set){{1ul << fds[0]}}, NULL, NULL, NULL), EINTR);
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event;
    soon(30);
    CHECK_ERR(epoll_wait(epoll, &event, 1, 5000), EINTR);
    soon(0);
    CHECK_CMP(count, >=, 3);
}

TEST(masks) {
    CHECK_OK(pipe(fds));
    handle(SIGUSR2, 0);
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    CHECK_OK(sigprocmask(SIG_BLOCK, &blocked, NULL));
    struct pollfd p = {fds[0], POLLIN, 0};
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event;
    struct timespec time = {5, 0};
    fd_set set;
    for (int way = 0; way < 3; way++) {
        count = 0;
        CHECK_OK(raise(SIGUSR2));
        CHECK_EQ(count, 0);
        FD_ZERO(&set);
        FD_SET(fds[0], &set);
        if (way == 0)
            CHECK_ERR(ppoll(&p, 1, &time, &none), EINTR);
        else if (way == 1)
            CHECK_ERR(pselect(fds[0] + 1, &set, NULL, NULL, &time, &none), EINTR);
        else
            CHECK_ERR(epoll_pwait(epoll, &event, 1, 5000, &none), EINTR);
        CHECK_EQ(count, 1);
        sigset_t now;
        sigprocmask(SIG_BLOCK, NULL, &now);
        CHECK(sigismember(&now, SIGUSR2));
    }
    // What is ready wins, and the signal waits on.
    CHECK_EQ(write(fds[1], "x", 1), 1);
    count = 0;
    CHECK_OK(raise(SIGUSR2));
    CHECK_EQ(ppoll(&p, 1, &time, &none), 1);
    CHECK_EQ(count, 0);
    CHECK_ERR(syscall(SYS_ppoll, &p, 1, NULL, &none, 4), EINVAL);
    time.tv_nsec = 1000000000;
    CHECK_ERR(ppoll(&p, 1, &time, NULL), EINVAL);
}

TEST(select_sets) {
    CHECK_OK(pipe(fds));
    fd_set in, out, except;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    FD_SET(fds[0], &in);
    FD_SET(fds[1], &out);
    FD_SET(fds[0], &except);
    struct timeval time = {10, 500000};
    CHECK_EQ(select(fds[1] + 1, &in, &out, &except, &time), 1);
    CHECK(!FD_ISSET(fds[0], &in) && FD_ISSET(fds[1], &out) && !FD_ISSET(fds[0], &except));
    CHECK(time.tv_sec >= 5 && time.tv_sec <= 10);
    FD_SET(fds[0], &in);
    time = (struct timeval){0, 30000};
    CHECK_EQ(select(fds[0] + 1, &in, NULL, NULL, &time), 0);
    CHECK(!FD_ISSET(fds[0], &in));
    CHECK(time.tv_sec == 0 && time.tv_usec == 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    FD_SET(fds[0], &in);
    CHECK_EQ(select(fds[1] + 1, &in, &out, NULL, NULL), 2);
    FD_SET(30, &in);
    CHECK_ERR(select(31, &in, NULL, NULL, NULL), EBADF);
    CHECK_ERR(select(-1, &in, NULL, NULL, NULL), EINVAL);
    time = (struct timeval){-1, 0};
    CHECK_ERR(select(0, NULL, NULL, NULL, &time), EINVAL);
    time = (struct timeval){0, 2000};
    CHECK_EQ(select(0, NULL, NULL, NULL, &time), 0);
    CHECK_ERR(select(1, (fd_set *)8, NULL, NULL, NULL), EFAULT);
}

TEST(poll_over_stop) {
    CHECK_OK(pipe(fds));
    pid_t child = MUST(fork());
    if (!child) {
        struct pollfd p = {fds[0], POLLIN, 0};
        _exit(poll(&p, 1, 300));
    }
    usleep(50000);
    kill(child, SIGSTOP);
    int status;
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    kill(child, SIGCONT);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}
