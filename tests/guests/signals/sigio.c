// Signal-driven I/O: O_ASYNC, its owner, its signal and what it says, for every kind of file that has it.
#include "../check.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <termios.h>

#define RT (SIGRTMIN + 3)

// Blocks the signals of this file, so that take() can look at them one by one.
static void hold(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO), sigaddset(&set, SIGURG), sigaddset(&set, RT);
    sigaddset(&set, SIGCHLD), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGTRAP);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
}

static int wait_for(int signo, siginfo_t *info, int milliseconds) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    memset(info, 0, sizeof *info);
    return sigtimedwait(&set, info, &time);
}

// Takes a waiting signal; 0 if there is none.
static int take(int signo, siginfo_t *info) {
    int got = wait_for(signo, info, 0);
    return got < 0 ? 0 : got;
}

static int none(int signo) {
    siginfo_t info;
    return take(signo, &info) == 0;
}

static void drain(int signo) {
    siginfo_t info;
    while (take(signo, &info))
        ;
}

// Sets O_ASYNC with the real-time signal, for this process.
static void arm(int fd) {
    MUST(fcntl(fd, F_SETOWN, getpid()));
    MUST(fcntl(fd, F_SETSIG, RT));
    MUST(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
}

#define EXPECT(fd, code, band)                                                                                        \
    do {                                                                                                              \
        siginfo_t expect;                                                                                             \
        if (CHECK_EQ(wait_for(RT, &expect, 10000), RT)) {                                                             \
            CHECK_EQ(expect.si_signo, RT);                                                                            \
            CHECK_EQ(expect.si_code, code);                                                                           \
            CHECK_EQ(expect.si_band, band);                                                                           \
            CHECK_EQ(expect.si_fd, fd);                                                                               \
            CHECK_EQ(expect.si_errno, 0);                                                                             \
        }                                                                                                             \
    } while (0)

#define BAND_IN (POLLIN | POLLRDNORM)
#define BAND_OUT (POLLOUT | POLLWRNORM | POLLWRBAND)
#define BAND_HUP (POLLHUP | POLLERR)

TEST(owner_of_a_fresh_file) {
    int fds[2];
    MUST(pipe(fds));
    struct f_owner_ex owner = {7, 7};
    CHECK_EQ(fcntl(fds[0], F_GETOWN), 0);
    CHECK_OK(fcntl(fds[0], F_GETOWN_EX, &owner));
    CHECK_EQ(owner.type, F_OWNER_TID);
    CHECK_EQ(owner.pid, 0);
    CHECK_EQ(fcntl(fds[0], F_GETSIG), 0);
}

TEST(owner_is_kept) {
    int fds[2];
    MUST(pipe(fds));
    struct f_owner_ex owner;
    CHECK_OK(fcntl(fds[0], F_SETOWN, getpid()));
    CHECK_EQ(fcntl(fds[0], F_GETOWN), getpid());
    CHECK_OK(fcntl(fds[0], F_GETOWN_EX, &owner));
    CHECK_EQ(owner.type, F_OWNER_PID);
    CHECK_EQ(owner.pid, getpid());
    CHECK_OK(fcntl(fds[0], F_SETOWN, -getpgrp()));
    CHECK_OK(fcntl(fds[0], F_GETOWN_EX, &owner));
    CHECK_EQ(owner.type, F_OWNER_PGRP);
    CHECK_EQ(owner.pid, getpgrp());
    CHECK_EQ(fcntl(fds[0], F_GETOWN), -getpgrp());
    owner = (struct f_owner_ex){F_OWNER_TID, getpid()};
    CHECK_OK(fcntl(fds[0], F_SETOWN_EX, &owner));
    CHECK_EQ(fcntl(fds[0], F_GETOWN), getpid());
    owner = (struct f_owner_ex){F_OWNER_PID, 0};
    CHECK_OK(fcntl(fds[0], F_SETOWN_EX, &owner));
    CHECK_EQ(fcntl(fds[0], F_GETOWN), 0);
    CHECK_OK(fcntl(fds[0], F_GETOWN_EX, &owner));
    CHECK_EQ(owner.type, F_OWNER_PID);
    // The other end is another file.
    CHECK_EQ(fcntl(fds[1], F_GETOWN), 0);
    // A copy of the descriptor is the same file.
    CHECK_OK(fcntl(fds[0], F_SETOWN, getpid()));
    CHECK_EQ(fcntl(dup(fds[0]), F_GETOWN), getpid());
}

TEST(owner_that_is_wrong) {
    int fds[2];
    MUST(pipe(fds));
    struct f_owner_ex owner = {3, getpid()};
    CHECK_ERR(fcntl(fds[0], F_SETOWN_EX, &owner), EINVAL);
    owner.type = -1;
    CHECK_ERR(fcntl(fds[0], F_SETOWN_EX, &owner), EINVAL);
    owner = (struct f_owner_ex){F_OWNER_PID, -5};
    CHECK_ERR(fcntl(fds[0], F_SETOWN_EX, &owner), ESRCH);
    owner = (struct f_owner_ex){F_OWNER_PID, 0x3fffffff};
    CHECK_ERR(fcntl(fds[0], F_SETOWN_EX, &owner), ESRCH);
    CHECK_ERR(fcntl(fds[0], F_SETOWN_EX, BAD), EFAULT);
    CHECK_ERR(fcntl(fds[0], F_GETOWN_EX, BAD), EFAULT);
    CHECK_ERR(fcntl(fds[0], F_SETOWN, 0x3fffffff), ESRCH);
    CHECK_ERR(fcntl(fds[0], F_SETOWN, -0x3fffffff), ESRCH);
    CHECK_ERR(fcntl(fds[0], F_SETOWN, INT_MIN), EINVAL);
    CHECK_ERR(fcntl(fds[0], F_SETSIG, 65), EINVAL);
    CHECK_ERR(fcntl(fds[0], F_SETSIG, -1), EINVAL);
    CHECK_OK(fcntl(fds[0], F_SETSIG, 64));
    CHECK_EQ(fcntl(fds[0], F_GETSIG), 64);
    CHECK_EQ(fcntl(fds[0], F_GETOWN), 0);
}

TEST(owner_that_is_gone) {
    int fds[2];
    MUST(pipe(fds));
    pid_t child = MUST(fork());
    if (!child)
        pause();
    CHECK_OK(fcntl(fds[0], F_SETOWN, child));
    CHECK_OK(fcntl(fds[0], F_SETFL, O_ASYNC));
    CHECK_EQ(fcntl(fds[0], F_GETOWN), child);
    CHECK_OK(kill(child, SIGKILL));
    siginfo_t info;
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CHECK_EQ(fcntl(fds[0], F_GETOWN), child);
    CHECK_OK(waitpid(child, NULL, 0));
    CHECK_EQ(fcntl(fds[0], F_GETOWN), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
}

TEST(plain_sigio) {
    hold();
    int fds[2];
    MUST(pipe(fds));
    siginfo_t info;
    CHECK_OK(fcntl(fds[0], F_SETFL, O_ASYNC));
    CHECK_EQ(fcntl(fds[0], F_GETFL), O_ASYNC);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(none(SIGIO));
    CHECK_OK(fcntl(fds[0], F_SETOWN, getpid()));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(take(SIGIO, &info), SIGIO);
    CHECK_EQ(info.si_code, SI_KERNEL);
    CHECK_EQ(info.si_band, 0);
    CHECK_OK(fcntl(fds[0], F_SETFL, 0));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(none(SIGIO));
    // SIGIO asked for by number says more.
    arm(fds[0]);
    CHECK_OK(fcntl(fds[0], F_SETSIG, SIGIO));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(take(SIGIO, &info), SIGIO);
    CHECK_EQ(info.si_code, POLL_IN);
    CHECK_EQ(info.si_fd, fds[0]);
    CHECK_EQ(info.si_band, BAND_IN);
    // Signals with codes of their own say SI_SIGIO.
    CHECK_OK(fcntl(fds[0], F_SETSIG, SIGTRAP));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(take(SIGTRAP, &info), SIGTRAP);
    CHECK_EQ(info.si_code, SI_SIGIO);
    CHECK_EQ(info.si_fd, fds[0]);
    CHECK_OK(fcntl(fds[0], F_SETSIG, SIGUSR1));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(take(SIGUSR1, &info), SIGUSR1);
    CHECK_EQ(info.si_code, POLL_IN);
    CHECK(none(SIGIO));
}

TEST(pipes) {
    hold();
    int fds[2];
    MUST(pipe2(fds, O_NONBLOCK));
    arm(fds[0]);
    arm(fds[1]);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    EXPECT(fds[0], POLL_IN, BAND_IN);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    EXPECT(fds[0], POLL_IN, BAND_IN);
    CHECK(none(RT));
    char buffer[8];
    CHECK_EQ(read(fds[0], buffer, 2), 2);
    EXPECT(fds[1], POLL_OUT, BAND_OUT);
    CHECK(none(RT));
    CHECK_EQ(read(fds[0], buffer, 8), 4);
    EXPECT(fds[1], POLL_OUT, BAND_OUT);
    CHECK(none(RT));
    int copy = dup(fds[1]);
    close(fds[1]);
    CHECK(none(RT));
    close(copy);
    EXPECT(fds[0], POLL_IN, BAND_IN);
    CHECK(none(RT));
    MUST(pipe(fds));
    arm(fds[1]);
    close(fds[0]);
    EXPECT(fds[1], POLL_OUT, BAND_OUT);
}

TEST(fifo) {
    hold();
    MUST(mkfifo("fifo", 0600));
    int in = MUST(open("fifo", O_RDONLY | O_NONBLOCK)), out = MUST(open("fifo", O_WRONLY));
    arm(in);
    CHECK_EQ(write(out, "x", 1), 1);
    EXPECT(in, POLL_IN, BAND_IN);
    int both = MUST(open("fifo", O_RDWR));
    arm(both);
    CHECK_EQ(write(out, "x", 1), 1);
    siginfo_t info;
    // Both files with O_ASYNC are told.
    int seen = 0;
    while (take(RT, &info))
        seen |= info.si_fd == in ? 1 : info.si_fd == both ? 2 : 4;
    CHECK_EQ(seen, 3);
}

TEST(descriptor_number) {
    hold();
    int fds[2];
    MUST(pipe(fds));
    arm(fds[0]);
    int copy = MUST(dup(fds[0]));
    // The number is the one O_ASYNC was set by, used or not.
    close(fds[0]);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    EXPECT(fds[0], POLL_IN, BAND_IN);
    CHECK_OK(fcntl(copy, F_SETFL, 0));
    CHECK_OK(fcntl(copy, F_SETFL, O_ASYNC));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    EXPECT(copy, POLL_IN, BAND_IN);
    close(copy);
    CHECK(none(RT));
}

TEST(fioasync) {
    hold();
    int fds[2], on = 1, off = 0;
    MUST(pipe(fds));
    MUST(fcntl(fds[0], F_SETOWN, getpid()));
    CHECK_OK(ioctl(fds[0], FIOASYNC, &on));
    CHECK_EQ(fcntl(fds[0], F_GETFL), O_ASYNC);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    siginfo_t info;
    CHECK_EQ(take(SIGIO, &info), SIGIO);
    CHECK_OK(ioctl(fds[0], FIOASYNC, &off));
    CHECK_EQ(fcntl(fds[0], F_GETFL), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(none(SIGIO));
    CHECK_ERR(ioctl(fds[0], FIOASYNC, BAD), EFAULT);
    // Only sockets take an owner by ioctl.
    int pid = getpid();
    CHECK_ERR(ioctl(fds[0], FIOSETOWN, &pid), ENOTTY);
    CHECK_ERR(ioctl(fds[0], FIOGETOWN, &pid), ENOTTY);
}

TEST(kinds_without_it) {
    hold();
    int on = 1, off = 0;
    int fds[] = {MUST(eventfd(0, 0)), MUST(timerfd_create(CLOCK_MONOTONIC, 0)), MUST(epoll_create1(0)),
                 MUST(open("file", O_RDWR | O_CREAT, 0600)), MUST(open("/dev/null", O_RDWR)), MUST(open(".", O_RDONLY))};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        CHECK_ERR(ioctl(fds[i], FIOASYNC, &on), ENOTTY);
        // No change, no question.
        CHECK_OK(ioctl(fds[i], FIOASYNC, &off));
        CHECK_OK(fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_ASYNC));
        CHECK(!(fcntl(fds[i], F_GETFL) & O_ASYNC));
        CHECK_OK(fcntl(fds[i], F_SETOWN, getpid()));
    }
    CHECK_OK(eventfd_write(fds[0], 1));
    CHECK(none(SIGIO));
    int random = MUST(open("/dev/urandom", O_RDONLY));
    CHECK_OK(ioctl(random, FIOASYNC, &on));
}

TEST(flag_of_open_has_no_effect) {
    hold();
    MUST(mkfifo("fifo", 0600));
    int in = MUST(open("fifo", O_RDWR | O_ASYNC));
    CHECK_OK(fcntl(in, F_SETOWN, getpid()));
    CHECK_EQ(write(in, "x", 1), 1);
    CHECK(none(SIGIO));
    CHECK(fcntl(in, F_GETFL) & O_ASYNC);
    // It is already set, so setting it does nothing.
    CHECK_OK(fcntl(in, F_SETFL, O_ASYNC));
    CHECK_EQ(write(in, "x", 1), 1);
    CHECK(none(SIGIO));
}

TEST(queue_overflow) {
    hold();
    int fds[2];
    MUST(pipe(fds));
    arm(fds[0]);
    struct rlimit limit = {0, 0};
    CHECK_OK(setrlimit(RLIMIT_SIGPENDING, &limit));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(none(RT));
    siginfo_t info;
    CHECK_EQ(take(SIGIO, &info), SIGIO);
    CHECK_EQ(info.si_code, SI_KERNEL);
}

static void stream(int a, int b) {
    char buffer[64];
    arm(a);
    CHECK_EQ(write(b, "abc", 3), 3);
    EXPECT(a, POLL_IN, BAND_IN);
    CHECK_EQ(write(b, "abc", 3), 3);
    EXPECT(a, POLL_IN, BAND_IN);
    CHECK_EQ(read(a, buffer, 64), 6);
    // What it sends itself is no news.
    CHECK_EQ(write(a, "abc", 3), 3);
    CHECK_EQ(read(b, buffer, 64), 3);
    CHECK(none(RT));
    CHECK_OK(shutdown(b, SHUT_WR));
    EXPECT(a, POLL_IN, BAND_IN);
    // TCP says so twice.
    drain(RT);
}

TEST(unix_stream) {
    hold();
    int fds[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    stream(fds[0], fds[1]);
    close(fds[1]);
    EXPECT(fds[0], POLL_HUP, BAND_HUP);
    CHECK(none(RT));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds));
    arm(fds[0]);
    CHECK_OK(shutdown(fds[1], SHUT_RDWR));
    EXPECT(fds[0], POLL_HUP, BAND_HUP);
    CHECK(none(RT));
}

TEST(unix_room) {
    hold();
    int fds[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
    arm(fds[0]);
    static char big[1 << 16];
    while (write(fds[0], big, sizeof big) > 0)
        ;
    CHECK_EQ(errno, EAGAIN);
    CHECK(none(RT));
    while (read(fds[1], big, sizeof big) > 0)
        ;
    EXPECT(fds[0], POLL_OUT, BAND_OUT);
    CHECK(none(RT));
}

TEST(unix_datagrams) {
    hold();
    int fds[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
    arm(fds[0]);
    CHECK_EQ(send(fds[1], "", 0, 0), 0);
    EXPECT(fds[0], POLL_IN, BAND_IN);
    CHECK_EQ(send(fds[1], "x", 1, 0), 1);
    EXPECT(fds[0], POLL_IN, BAND_IN);
    CHECK(none(RT));
}

TEST(unix_listener) {
    hold();
    struct sockaddr_un name = {AF_UNIX, "socket"};
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&name, sizeof name));
    arm(listener);
    MUST(listen(listener, 4));
    CHECK(none(RT));
    CHECK_OK(connect(client, (void *)&name, sizeof name));
    EXPECT(listener, POLL_IN, BAND_IN);
    CHECK(none(RT));
}

static int loopback(int type, struct sockaddr_in *name) {
    int fd = MUST(socket(AF_INET, type, 0));
    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    MUST(bind(fd, (void *)name, sizeof *name));
    socklen_t len = sizeof *name;
    MUST(getsockname(fd, (void *)name, &len));
    return fd;
}

static void connected(int *a, int *b) {
    struct sockaddr_in name;
    int listener = loopback(SOCK_STREAM, &name);
    MUST(listen(listener, 1));
    *a = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(*a, (void *)&name, sizeof name));
    *b = MUST(accept(listener, NULL, NULL));
    close(listener);
}

TEST(tcp) {
    hold();
    int a, b;
    connected(&a, &b);
    stream(a, b);
}

TEST(tcp_connect) {
    hold();
    struct sockaddr_in name;
    int listener = loopback(SOCK_STREAM, &name);
    MUST(listen(listener, 1));
    arm(listener);
    int client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    arm(client);
    int result = connect(client, (void *)&name, sizeof name);
    CHECK(result == 0 || errno == EINPROGRESS);
    siginfo_t info;
    int seen = 0;
    for (int i = 0; i < 2 && wait_for(RT, &info, 10000) == RT; i++) {
        if (info.si_fd == client && info.si_code == POLL_OUT)
            seen |= 1;
        if (info.si_fd == listener && info.si_code == POLL_IN)
            seen |= 2;
    }
    CHECK_EQ(seen, 3);
    close(client);
    // Nobody listens.
    close(listener);
    drain(RT);
    client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    arm(client);
    result = connect(client, (void *)&name, sizeof name);
    CHECK(result < 0 && (errno == EINPROGRESS || errno == ECONNREFUSED));
    EXPECT(client, POLL_ERR, POLLERR);
}

TEST(urgent_data) {
    hold();
    int a, b;
    connected(&a, &b);
    siginfo_t info;
    CHECK_EQ(send(b, "x", 1, MSG_OOB), 1);
    CHECK(wait_for(SIGURG, &info, 100) < 0);
    // SIGURG needs an owner, not O_ASYNC.
    CHECK_OK(fcntl(a, F_SETOWN, getpid()));
    CHECK_EQ(send(b, "y", 1, MSG_OOB), 1);
    CHECK_EQ(wait_for(SIGURG, &info, 10000), SIGURG);
    CHECK_EQ(info.si_code, SI_KERNEL);
    CHECK(none(SIGIO));
    arm(a);
    CHECK_EQ(send(b, "z", 1, MSG_OOB), 1);
    CHECK_EQ(wait_for(SIGURG, &info, 10000), SIGURG);
    int seen = 0;
    while (wait_for(RT, &info, seen == 3 ? 200 : 10000) == RT)
        seen |= info.si_code == POLL_PRI && info.si_band == (POLLPRI | POLLRDBAND) ? 1 : info.si_code == POLL_IN ? 2 : 4;
    CHECK_EQ(seen, 3);
}

TEST(udp) {
    hold();
    struct sockaddr_in name;
    int receiver = loopback(SOCK_DGRAM, &name), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    arm(receiver);
    CHECK_EQ(sendto(sender, "x", 1, 0, (void *)&name, sizeof name), 1);
    EXPECT(receiver, POLL_IN, BAND_IN);
    CHECK(none(RT));
    CHECK_OK(connect(sender, (void *)&name, sizeof name));
    close(receiver);
    arm(sender);
    CHECK_EQ(send(sender, "x", 1, 0), 1);
    EXPECT(sender, POLL_ERR, POLLERR);
}

TEST(owner_by_ioctl) {
    hold();
    int fds[2], pid = getpid(), got;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    CHECK_OK(ioctl(fds[0], FIOSETOWN, &pid));
    CHECK_OK(ioctl(fds[0], SIOCGPGRP, &got));
    CHECK_EQ(got, pid);
    pid = -getpgrp();
    CHECK_OK(ioctl(fds[0], SIOCSPGRP, &pid));
    CHECK_OK(ioctl(fds[0], FIOGETOWN, &got));
    CHECK_EQ(got, pid);
    pid = 0x3fffffff;
    CHECK_ERR(ioctl(fds[0], FIOSETOWN, &pid), ESRCH);
    CHECK_ERR(ioctl(fds[0], FIOSETOWN, BAD), EFAULT);
}

static int open_pty(int *slave) {
    int master = MUST(posix_openpt(O_RDWR | O_NOCTTY));
    MUST(grantpt(master));
    MUST(unlockpt(master));
    *slave = MUST(open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK));
    return master;
}

TEST(terminal) {
    hold();
    int slave, master = open_pty(&slave);
    arm(slave);
    struct termios modes;
    MUST(tcgetattr(slave, &modes));
    modes.c_lflag &= ~ECHO;
    MUST(tcsetattr(slave, TCSANOW, &modes));
    drain(RT);
    // Half a line is nothing to read.
    CHECK_EQ(write(master, "abc", 3), 3);
    siginfo_t info;
    CHECK(wait_for(RT, &info, 100) < 0);
    CHECK_EQ(write(master, "\n", 1), 1);
    EXPECT(slave, POLL_IN, BAND_IN);
    CHECK(wait_for(RT, &info, 50) < 0);
    modes.c_lflag &= ~ICANON;
    MUST(tcsetattr(slave, TCSANOW, &modes));
    MUST(tcflush(slave, TCIFLUSH));
    drain(RT);
    CHECK_EQ(write(master, "a", 1), 1);
    EXPECT(slave, POLL_IN, BAND_IN);
    // The master hears what the slave says.
    arm(master);
    CHECK_EQ(write(slave, "hello", 5), 5);
    EXPECT(master, POLL_IN, BAND_IN);
}

TEST(terminal_owner) {
    hold();
    int slave, master = open_pty(&slave);
    // Nobody was named: it is the process that sets O_ASYNC.
    CHECK_OK(fcntl(master, F_SETFL, fcntl(master, F_GETFL) | O_ASYNC));
    CHECK_EQ(fcntl(master, F_GETOWN), getpid());
    CHECK_OK(fcntl(slave, F_SETFL, O_ASYNC));
    CHECK_EQ(fcntl(slave, F_GETOWN), getpid());
    CHECK_CHILD({
        // A controlling terminal has a foreground group.
        hold();
        MUST(setsid());
        MUST(ioctl(slave, TIOCSCTTY, 0));
        int tty = MUST(open("/dev/tty", O_RDWR));
        CHECK_OK(fcntl(tty, F_SETFL, O_ASYNC));
        CHECK_EQ(fcntl(tty, F_GETOWN), -getpgrp());
        CHECK_EQ(write(master, "x\n", 2), 2);
        siginfo_t info;
        CHECK_EQ(wait_for(SIGIO, &info, 10000), SIGIO);
    });
}

TEST(notifications) {
    hold();
    int fd = MUST(inotify_init1(IN_NONBLOCK));
    MUST(inotify_add_watch(fd, ".", IN_CREATE));
    arm(fd);
    MUST(mkdir("directory", 0700));
    EXPECT(fd, POLL_IN, BAND_IN);
    CHECK(none(RT));
}

TEST(groups_and_threads) {
    hold();
    int fds[2], report[2];
    MUST(pipe(fds));
    MUST(pipe(report));
    CHECK_OK(fcntl(fds[0], F_SETOWN, -getpgrp()));
    CHECK_OK(fcntl(fds[0], F_SETFL, O_ASYNC));
    for (int i = 0; i < 2; i++) {
        if (MUST(fork()) == 0) {
            siginfo_t info;
            if (wait_for(SIGIO, &info, 5000) == SIGIO)
                CHECK_EQ(write(report[1], "y", 1), 1);
            _exit(0);
        }
    }
    CHECK_EQ(write(fds[1], "x", 1), 1);
    siginfo_t info;
    CHECK_EQ(wait_for(SIGIO, &info, 10000), SIGIO);
    char answer[2];
    CHECK_EQ(read(report[0], answer, 1), 1);
    CHECK_EQ(read(report[0], answer, 1), 1);
    while (wait(NULL) > 0)
        ;
    // A signal for a thread waits at that thread.
    struct f_owner_ex owner = {F_OWNER_TID, getpid()};
    CHECK_OK(fcntl(fds[0], F_SETOWN_EX, &owner));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(take(SIGIO, &info), SIGIO);
}

TEST(rights_of_the_owner) {
    if (getuid())
        SKIP("needs root");
    hold();
    int fds[2], go[2];
    MUST(pipe(fds));
    MUST(pipe(go));
    pid_t child = MUST(fork());
    if (!child) {
        // Another user names us; the file has the rights of that moment, even when root writes later.
        char byte;
        MUST(setresuid(1000, 1000, 1000));
        CHECK_OK(fcntl(fds[0], F_SETOWN, getppid()));
        CHECK_OK(fcntl(fds[0], F_SETFL, O_ASYNC));
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK_EQ(write(go[1], "x", 1), 1);
        CHECK_EQ(read(go[0], &byte, 0), 0);
        _exit(0);
    }
    char byte;
    CHECK_EQ(read(go[0], &byte, 1), 1);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(none(SIGIO));
    uid_t users[2];
    if (fcntl(fds[0], 17, users) == 0) {
        CHECK_EQ(users[0], 1000);
        CHECK_EQ(users[1], 1000);
    }
    CHECK_OK(fcntl(fds[0], F_SETOWN, getpid()));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    siginfo_t info;
    CHECK_EQ(take(SIGIO, &info), SIGIO);
    CHECK_OK(waitpid(child, NULL, 0));
}

TEST(inherited) {
    hold();
    int fds[2];
    MUST(pipe(fds));
    arm(fds[0]);
    // The child's write is as good as any; the owner stays the parent.
    CHECK_CHILD({
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK(none(RT));
        CHECK_EQ(fcntl(fds[0], F_GETOWN), getppid());
    });
    EXPECT(fds[0], POLL_IN, BAND_IN);
}
