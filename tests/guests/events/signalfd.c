// signalfd, timerfd and eventfd.
#include "../check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static int ready(int fd, int timeout) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, timeout) == 1 ? p.revents : 0;
}

TEST(signals_are_read) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGCHLD);
    CHECK_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
    int fd = MUST(signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo info[3];
    CHECK_ERR(read(fd, info, sizeof *info), EAGAIN);
    CHECK_ERR(read(fd, info, sizeof *info - 1), EINVAL);
    CHECK_EQ(ready(fd, 0), 0);
    int epoll = MUST(epoll_create1(0));
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {0}}));
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_EQ(ready(fd, 0), POLLIN);
    struct epoll_event event;
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
    CHECK_EQ(read(fd, info, sizeof info), sizeof *info);
    CHECK_EQ(info->ssi_signo, SIGUSR1);
    CHECK_EQ(info->ssi_pid, getpid());
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    pid_t child = MUST(fork());
    if (!child) {
        usleep(50000);
        _exit(3);
    }
    CHECK_EQ(epoll_wait(epoll, &event, 1, 5000), 1);
    CHECK_EQ(read(fd, info, sizeof info), sizeof *info);
    CHECK_EQ(info->ssi_signo, SIGCHLD);
    CHECK_EQ(info->ssi_pid, child);
    CHECK_EQ(info->ssi_status, 3);
    int status;
    waitpid(child, &status, 0);
    sigdelset(&mask, SIGUSR1);
    CHECK_EQ(signalfd(fd, &mask, 0), fd);
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_EQ(ready(fd, 0), 0);
    CHECK_ERR(signalfd(epoll, &mask, 0), EINVAL);
    CHECK_ERR(signalfd(-1, &mask, 1), EINVAL);
    CHECK_ERR(syscall(SYS_signalfd4, -1, &mask, 4, 0), EINVAL);
}

TEST(timers_are_read) {
    int fd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    uint64_t ticks;
    CHECK_ERR(read(fd, &ticks, 8), EAGAIN);
    struct itimerspec set = {{0, 20000000}, {0, 20000000}}, old;
    CHECK_OK(timerfd_settime(fd, 0, &set, NULL));
    CHECK_EQ(ready(fd, 10000), POLLIN);
    usleep(100000);
    CHECK_EQ(read(fd, &ticks, 8), 8);
    CHECK_CMP(ticks, >=, 5);
    CHECK_OK(timerfd_gettime(fd, &old));
    CHECK_EQ(old.it_interval.tv_nsec, 20000000);
    CHECK(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000);
    int epoll = MUST(epoll_create1(0));
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN | EPOLLET, {0}}));
    struct epoll_event event;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
        CHECK_EQ(read(fd, &ticks, 8), 8);
    }
    CHECK_OK(timerfd_settime(fd, 0, &(struct itimerspec){0}, &old));
    CHECK_EQ(epoll_wait(epoll, &event, 1, 60), 0);
    set = (struct itimerspec){{0, 0}, {1, 0}};
    CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &set, NULL));
    CHECK_EQ(read(fd, &ticks, 8), 8);
    CHECK_EQ(ticks, 1);
    CHECK_ERR(read(fd, &ticks, 7), EINVAL);
    CHECK_ERR(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    CHECK_ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    CHECK_ERR(timerfd_settime(fd, 8, &set, NULL), EINVAL);
    CHECK_ERR(timerfd_settime(0, 0, &set, NULL), EINVAL);
    set.it_value.tv_nsec = -1;
    CHECK_ERR(timerfd_settime(fd, 0, &set, NULL), EINVAL);
    fd = MUST(timerfd_create(CLOCK_REALTIME, 0));
    set = (struct itimerspec){{0, 0}, {0, 30000000}};
    CHECK_OK(timerfd_settime(fd, 0, &set, NULL));
    CHECK_EQ(read(fd, &ticks, 8), 8);
}

TEST(counters) {
    int fd = MUST(eventfd(1, EFD_NONBLOCK));
    uint64_t n[2] = {5, 6};
    CHECK_EQ(write(fd, n, 8), 8);
    CHECK_ERR(write(fd, n, 7), EINVAL);
    CHECK_EQ(read(fd, n, 16), 8);
    CHECK_EQ(n[0], 6);
    CHECK_ERR(read(fd, n, 8), EAGAIN);
    n[0] = -1;
    CHECK_ERR(write(fd, n, 8), EINVAL);
    n[0] = -2;
    CHECK_EQ(write(fd, n, 8), 8);
    n[0] = 1;
    CHECK_ERR(write(fd, n, 8), EAGAIN);
    CHECK_EQ(lseek(fd, 5, SEEK_SET), 0);
    fd = MUST(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    CHECK_EQ(read(fd, n, 8), 8);
    CHECK_EQ(n[0], 1);
    CHECK_EQ(read(fd, n, 8), 8);
    CHECK_ERR(read(fd, n, 8), EAGAIN);
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode & 0777, 0600);
}
