// The devices every program counts on: null, zero, full, random, tty, ptmx and the slaves under /dev/pts.
#include "../check.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

TEST(null) {
    int fd = open("/dev/null", O_RDWR);
    char b[8];
    CHECK(fd >= 0);
    CHECK_EQ(read(fd, b, sizeof b), 0);
    CHECK_EQ(write(fd, "hello", 5), 5);
    CHECK_ERR((intptr_t)mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK(S_ISCHR(st.st_mode));
    CHECK_EQ(st.st_rdev, makedev(1, 3));
}

TEST(zero) {
    int fd = open("/dev/zero", O_RDWR);
    char b[8] = "xxxxxxx";
    CHECK_EQ(read(fd, b, sizeof b), 8);
    CHECK_EQ(memcmp(b, "\0\0\0\0\0\0\0\0", 8), 0);
    char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK_EQ(p[5000], 0);
    p[5000] = 7;
    char *q = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(q != MAP_FAILED);
    CHECK_EQ(q[5000], 0);
    pid_t pid = fork();
    if (pid == 0) {
        q[0] = 9;
        _exit(0);
    }
    waitpid(pid, 0, 0);
    CHECK_EQ(q[0], 9);
}

TEST(full) {
    int fd = open("/dev/full", O_RDWR);
    CHECK_ERR(write(fd, "x", 1), ENOSPC);
    char c = 1;
    CHECK_EQ(read(fd, &c, 1), 1);
    CHECK_EQ(c, 0);
}

TEST(random) {
    char a[64] = {0}, b[64] = {0};
    int fd = open("/dev/urandom", O_RDONLY);
    CHECK_EQ(read(fd, a, sizeof a), 64);
    CHECK_EQ(read(open("/dev/random", O_RDONLY), b, sizeof b), 64);
    CHECK(memcmp(a, b, sizeof a) != 0);
}

TEST(no_controlling_terminal) {
    setsid();
    CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
}

TEST(pair) {
    // The leader of a process group cannot start a session: its child can.
    pid_t child = fork();
    if (child > 0) {
        waitpid(child, 0, 0);
        return;
    }
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0)
        SKIP("no devpts");
    CHECK_EQ(grantpt(master), 0);
    int number = -1;
    CHECK_EQ(ioctl(master, TIOCGPTN, &number), 0);
    char name[64];
    CHECK_EQ(ptsname_r(master, name, sizeof name), 0);
    CHECK_ERR(open(name, O_RDWR | O_NOCTTY), EIO);
    CHECK_EQ(unlockpt(master), 0);
    setsid();
    int slave = open(name, O_RDWR);
    CHECK(slave >= 0);
    struct stat st;
    CHECK_EQ(fstat(slave, &st), 0);
    CHECK_EQ(st.st_rdev, makedev(136, number));
    CHECK_EQ(st.st_uid, geteuid());
    // The first terminal a session's leader opens controls it.
    int tty = open("/dev/tty", O_RDWR);
    CHECK(tty >= 0);
    CHECK_EQ(tcgetsid(slave), getpid());
    CHECK_EQ(tcgetpgrp(tty), getpid());
    CHECK_EQ(write(slave, "hi\n", 3), 3);
    char b[16];
    CHECK_EQ(read(master, b, sizeof b), 4);
    CHECK_EQ(memcmp(b, "hi\r\n", 4), 0);
    signal(SIGHUP, SIG_IGN);
    close(master);
    CHECK_ERR(access(name, F_OK), ENOENT);
}
