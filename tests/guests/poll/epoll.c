// poll, select and epoll.
#include "../check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/resource.h>

static int fds[2], ep;

static void make(void) {
    MUST(pipe2(fds, O_NONBLOCK));
    ep = MUST(epoll_create1(EPOLL_CLOEXEC));
}

static int add(int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = 0xabcd000000000000 | fd};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
}

// The events of the one descriptor that is ready, or 0.
static uint32_t ready(void) {
    struct epoll_event events[4];
    int count = epoll_wait(ep, events, 4, 0);
    CHECK_CMP(count, >=, 0);
    CHECK_CMP(count, <=, 1);
    return count == 1 ? events[0].events : 0;
}

TEST(epoll_level) {
    make();
    CHECK_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
    CHECK_OK(add(fds[0], EPOLLIN));
    CHECK_EQ(ready(), 0);
    write(fds[1], "xy", 2);
    CHECK_EQ(ready(), EPOLLIN);
    CHECK_EQ(ready(), EPOLLIN);
    struct epoll_event event;
    CHECK_EQ(epoll_wait(ep, &event, 1, -1), 1);
    CHECK_EQ(event.data.u64, 0xabcd000000000000 | fds[0]);
    char bytes[2];
    read(fds[0], bytes, 2);
    CHECK_EQ(ready(), 0);
    close(fds[1]);
    CHECK_EQ(ready(), EPOLLHUP);
    close(fds[0]);
    CHECK_EQ(ready(), 0);
}

TEST(epoll_edge) {
    make();
    CHECK_OK(add(fds[0], EPOLLIN | EPOLLET));
    write(fds[1], "x", 1);
    CHECK_EQ(ready(), EPOLLIN);
    CHECK_EQ(ready(), 0);
    write(fds[1], "y", 1);
    CHECK_EQ(ready(), EPOLLIN);
    char byte;
    read(fds[0], &byte, 1);
    CHECK_EQ(ready(), 0);
    // A change of the interest looks anew.
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    CHECK_OK(epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &event));
    CHECK_EQ(ready(), EPOLLIN);
}

TEST(epoll_once) {
    make();
    CHECK_OK(add(fds[0], EPOLLIN | EPOLLONESHOT));
    write(fds[1], "x", 1);
    CHECK_EQ(ready(), EPOLLIN);
    CHECK_EQ(ready(), 0);
    write(fds[1], "x", 1);
    CHECK_EQ(ready(), 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT};
    CHECK_OK(epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &event));
    CHECK_EQ(ready(), EPOLLIN);
    CHECK_EQ(ready(), 0);
}

TEST(epoll_errors) {
    make();
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_ERR(epoll_create(0), EINVAL);
    CHECK_ERR(epoll_create1(1), EINVAL);
    CHECK_OK(epoll_create(1));
    CHECK_OK(add(fds[0], EPOLLIN));
    CHECK_ERR(add(fds[0], EPOLLIN), EEXIST);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, fds[1], &event), ENOENT);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_DEL, fds[1], &event), ENOENT);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &event), EINVAL);
    CHECK_ERR(epoll_ctl(fds[0], EPOLL_CTL_ADD, fds[1], &event), EINVAL);
    CHECK_ERR(epoll_ctl(ep, 9, fds[0], &event), EINVAL);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, 1000, &event), EBADF);
    CHECK_ERR(epoll_ctl(1000, EPOLL_CTL_ADD, fds[0], &event), EBADF);
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, fds[1], BAD), EFAULT);
    CHECK_OK(epoll_ctl(ep, EPOLL_CTL_DEL, fds[0], NULL));
    int file = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_ERR(add(file, EPOLLIN), EPERM);
    CHECK_ERR(add(MUST(open(".", O_RDONLY)), EPOLLIN), EPERM);
    CHECK_ERR(epoll_wait(ep, &event, 0, 0), EINVAL);
    CHECK_ERR(epoll_wait(ep, &event, -1, 0), EINVAL);
    CHECK_ERR(epoll_wait(fds[0], &event, 1, 0), EINVAL);
    CHECK_ERR(epoll_wait(1000, &event, 1, 0), EBADF);
    CHECK_OK(add(fds[1], EPOLLOUT));
    CHECK_ERR(epoll_wait(ep, BAD, 1, 0), EFAULT);
    char byte;
    CHECK_ERR(read(ep, &byte, 1), EINVAL);
}

TEST(epoll_duplicates) {
    make();
    int copy = MUST(dup(fds[0]));
    CHECK_OK(add(fds[0], EPOLLIN));
    CHECK_OK(add(copy, EPOLLIN));
    write(fds[1], "x", 1);
    struct epoll_event events[4];
    CHECK_EQ(epoll_wait(ep, events, 4, 0), 2);
    // The registration lives as long as the open file description.
    close(fds[0]);
    CHECK_EQ(epoll_wait(ep, events, 4, 0), 2);
    close(copy);
    CHECK_EQ(epoll_wait(ep, events, 4, 0), 0);
}

TEST(epoll_nested) {
    make();
    int outer = MUST(epoll_create1(0)), inner = ep;
    CHECK_OK(add(fds[0], EPOLLIN));
    ep = outer;
    CHECK_OK(add(inner, EPOLLIN));
    CHECK_EQ(ready(), 0);
    write(fds[1], "x", 1);
    CHECK_EQ(ready(), EPOLLIN);
    struct pollfd poll_fd = {outer, POLLIN, 0};
    CHECK_EQ(poll(&poll_fd, 1, 0), 1);
    ep = inner;
    CHECK_ERR(add(outer, EPOLLIN), ELOOP);
    ep = MUST(epoll_create1(0));
    CHECK_OK(add(outer, EPOLLIN));
    for (int i = 0; i < 2; i++) {
        int below = ep;
        ep = MUST(epoll_create1(0));
        CHECK_OK(add(below, EPOLLIN));
    }
    int deep = ep;
    ep = MUST(epoll_create1(0));
    CHECK_ERR(add(deep, EPOLLIN), ELOOP);
}

TEST(epoll_exclusive) {
    make();
    CHECK_OK(add(fds[0], EPOLLIN | EPOLLEXCLUSIVE));
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &event), EINVAL);
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &event), EINVAL);
    CHECK_ERR(add(fds[1], EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT), EINVAL);
    write(fds[1], "x", 1);
    CHECK_EQ(ready(), EPOLLIN);
}

static void *write_later(void *unused) {
    usleep(50000);
    write(fds[1], "x", 1);
    return NULL;
}

TEST(epoll_blocks) {
    make();
    pthread_t thread;
    struct epoll_event event;
    CHECK_OK(add(fds[0], EPOLLIN));
    CHECK_EQ(epoll_wait(ep, &event, 1, 30), 0);
    CHECK_RET(pthread_create(&thread, NULL, write_later, NULL), 0);
    CHECK_EQ(epoll_wait(ep, &event, 1, -1), 1);
    pthread_join(thread, NULL);
    struct timespec little = {0, 20000000}, wrong = {0, -1};
    CHECK_EQ(read(fds[0], &event, 1), 1);
    long result = syscall(441 /* epoll_pwait2 */, ep, &event, 1, &little, NULL, 8);
    if (result < 0 && errno == ENOSYS)
        SKIP("no epoll_pwait2 before Linux 5.11");
    CHECK_EQ(result, 0);
    CHECK_ERR(syscall(441, ep, &event, 1, &wrong, NULL, 8), EINVAL);
}

TEST(epoll_many) {
    make();
    int many[200][2];
    for (int i = 0; i < 200; i++) {
        CHECK_OK(pipe(many[i]));
        CHECK_OK(add(many[i][0], EPOLLIN));
    }
    for (int i = 0; i < 200; i += 2)
        write(many[i][1], "x", 1);
    struct epoll_event events[64];
    int seen = 0;
    for (int round = 0; round < 3; round++) {
        // Three waits of at most 64 see all 100: those not reported come first the next time.
        int count = epoll_wait(ep, events, 64, 0);
        for (int i = 0; i < count; i++) {
            char byte;
            seen += read((int)events[i].data.u64, &byte, 1) == 1;
        }
    }
    CHECK_EQ(seen, 100);
}

static volatile sig_atomic_t signals;
static void on_signal(int signo) { signals++; }

TEST(masks_of_waits) {
    make();
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    struct epoll_event event;
    struct pollfd poll_fd = {fds[0], POLLIN, 0};
    struct timespec second = {1, 0};
    fd_set set;
    raise(SIGUSR1);
    CHECK_ERR(epoll_pwait(ep, &event, 1, 1000, &none), EINTR);
    CHECK_EQ(signals, 1);
    raise(SIGUSR1);
    CHECK_ERR(ppoll(&poll_fd, 1, &second, &none), EINTR);
    CHECK_EQ(signals, 2);
    raise(SIGUSR1);
    FD_ZERO(&set);
    FD_SET(fds[0], &set);
    CHECK_ERR(pselect(fds[0] + 1, &set, NULL, NULL, &second, &none), EINTR);
    CHECK_EQ(signals, 3);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
}

TEST(poll_forms) {
    make();
    struct pollfd list[4] = {{fds[0], POLLIN, 9}, {fds[1], POLLOUT, 9}, {-1, POLLIN, 9}, {1000, POLLIN, 9}};
    CHECK_EQ(poll(list, 4, -1), 2);
    CHECK_EQ(list[0].revents, 0);
    CHECK_EQ(list[1].revents, POLLOUT);
    CHECK_EQ(list[2].revents, 0);
    CHECK_EQ(list[3].revents, POLLNVAL);
    CHECK_EQ(poll(list, 1, 20), 0);
    CHECK_EQ(poll(NULL, 0, 20), 0);
    CHECK_ERR(poll(BAD, 1, 0), EFAULT);
    struct rlimit limit = {100, 100};
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_ERR(syscall(SYS_poll, list, 101, 0), EINVAL);
    struct timespec wrong = {0, 1000000000};
    CHECK_ERR(ppoll(list, 1, &wrong, NULL), EINVAL);
    int file = MUST(open("f", O_CREAT | O_RDWR, 0600));
    struct pollfd plain = {file, POLLIN | POLLOUT | POLLPRI, 0};
    CHECK_EQ(poll(&plain, 1, 0), 1);
    CHECK_EQ(plain.revents, POLLIN | POLLOUT);
    // The raw call writes the time that is left.
    struct timespec time = {0, 30000000};
    CHECK_EQ(syscall(SYS_ppoll, list, 1, &time, NULL, 8), 0);
    CHECK_EQ(time.tv_sec + time.tv_nsec, 0);
}

TEST(select_forms) {
    make();
    fd_set in, out, except;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    FD_SET(fds[0], &in);
    FD_SET(fds[1], &out);
    FD_SET(fds[0], &except);
    CHECK_EQ(select(fds[1] + 1, &in, &out, &except, NULL), 1);
    CHECK(!FD_ISSET(fds[0], &in) && FD_ISSET(fds[1], &out) && !FD_ISSET(fds[0], &except));
    write(fds[1], "x", 1);
    FD_SET(fds[0], &in);
    struct timeval time = {10, 0};
    CHECK_EQ(select(fds[1] + 1, &in, &out, NULL, &time), 2);
    CHECK_CMP(time.tv_sec, >=, 8);
    CHECK_CMP(time.tv_sec * 1000000 + time.tv_usec, <=, 10000000);
    // Those at and after the count are not looked at.
    CHECK_EQ(select(fds[0], &in, NULL, NULL, &(struct timeval){0, 0}), 0);
    CHECK_ERR(select(-1, &in, NULL, NULL, NULL), EINVAL);
    CHECK_ERR(select(1, &in, NULL, NULL, &(struct timeval){-1, 0}), EINVAL);
    CHECK_ERR(select(8, BAD, NULL, NULL, NULL), EFAULT);
    FD_ZERO(&in);
    FD_SET(60, &in);
    CHECK_ERR(select(61, &in, NULL, NULL, NULL), EBADF);
    CHECK_EQ(select(0, NULL, NULL, NULL, &(struct timeval){0, 20000}), 0);
    CHECK_EQ(select(1 << 30, NULL, NULL, NULL, &(struct timeval){0, 0}), 0);
}

TEST(event_counters) {
    ep = MUST(epoll_create1(0));
    int fd = MUST(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    uint64_t value;
    CHECK_EQ(read(fd, &value, 8), 8);
    CHECK_EQ(value, 3);
    CHECK_ERR(read(fd, &value, 8), EAGAIN);
    CHECK_ERR(read(fd, &value, 7), EINVAL);
    CHECK_ERR(write(fd, &value, 7), EINVAL);
    value = 5;
    CHECK_EQ(write(fd, &value, 8), 8);
    CHECK_EQ(write(fd, &value, 8), 8);
    CHECK_EQ(read(fd, &value, 8), 8);
    CHECK_EQ(value, 10);
    value = ~0ULL;
    CHECK_ERR(write(fd, &value, 8), EINVAL);
    value = ~0ULL - 1;
    CHECK_EQ(write(fd, &value, 8), 8);
    value = 1;
    CHECK_ERR(write(fd, &value, 8), EAGAIN);
    struct pollfd poll_fd = {fd, POLLIN | POLLOUT, 0};
    CHECK_EQ(poll(&poll_fd, 1, 0), 1);
    CHECK_EQ(poll_fd.revents, POLLIN);
    value = 0;
    CHECK_EQ(write(fd, &value, 8), 8);
    CHECK_ERR(read(fd, BAD, 8), EFAULT);
    int semaphore = MUST(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    CHECK_EQ(read(semaphore, &value, 8), 8);
    CHECK_EQ(value, 1);
    CHECK_EQ(read(semaphore, &value, 8), 8);
    CHECK_ERR(read(semaphore, &value, 8), EAGAIN);
    CHECK_ERR(eventfd(0, 8), EINVAL);
    CHECK_OK(add(semaphore, EPOLLIN | EPOLLET));
    for (int i = 0; i < 2; i++) {
        value = 1;
        CHECK_EQ(write(semaphore, &value, 8), 8);
        CHECK_EQ(ready(), EPOLLIN);
    }
}

// Files that are closed while they are ready are told of no more.
TEST(closed_while_ready) {
    ep = MUST(epoll_create1(0));
    int file = -1, failed = 0;
    for (int i = 0; i < 500; i++) {
        file = eventfd(1, 0);
        failed += file < 0 || add(file, EPOLLIN) != 0;
    }
    CHECK_EQ(failed, 0);
    for (int fd = file - 1; fd > ep; fd--)
        close(fd);
    CHECK_EQ(ready(), EPOLLIN);
    close(file);
    CHECK_EQ(ready(), 0);
    struct pollfd poll_fd = {ep, POLLIN, 0};
    CHECK_EQ(poll(&poll_fd, 1, 0), 0);
}

// Each event goes all the ways from a file to the outermost epolls, so there may not be too many.
TEST(ways_through_epolls) {
    int file = MUST(eventfd(0, 0)), inner = MUST(epoll_create1(0));
    ep = inner;
    CHECK_OK(add(file, EPOLLIN));
    int outer[501], failed = 0;
    for (int i = 0; i < 500; i++) {
        outer[i] = ep = MUST(epoll_create1(0));
        failed += add(inner, EPOLLIN) != 0;
    }
    CHECK_EQ(failed, 0);
    ep = MUST(epoll_create1(0));
    CHECK_ERR(add(inner, EPOLLIN), EINVAL);
    // Another epoll on the file is straight, and another file has ways of its own.
    CHECK_OK(add(file, EPOLLIN));
    ep = inner;
    CHECK_OK(add(MUST(eventfd(0, 0)), EPOLLIN));
    // Of longer ways there may be fewer.
    ep = MUST(epoll_create1(0));
    int again = ep;
    CHECK_OK(add(outer[0], EPOLLIN));
    for (int i = 1; i < 100; i++) {
        ep = MUST(epoll_create1(0));
        failed += add(outer[0], EPOLLIN) != 0;
    }
    CHECK_EQ(failed, 0);
    ep = MUST(epoll_create1(0));
    CHECK_ERR(add(outer[0], EPOLLIN), EINVAL);
    // The file may not get there in another way either.
    ep = MUST(epoll_create1(0));
    int beside = ep;
    ep = again;
    CHECK_OK(add(beside, EPOLLIN));
    ep = beside;
    CHECK_OK(add(file, EPOLLIN));
    uint64_t one = 1;
    CHECK_EQ(write(file, &one, 8), 8);
    ep = again;
    struct epoll_event events[4];
    CHECK_EQ(epoll_wait(ep, events, 4, 0), 2);
}
