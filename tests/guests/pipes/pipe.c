// Pipes and fifos.
#include "../check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static int fds[2];

static void make(int flags) { MUST(pipe2(fds, flags)); }

static int events(int fd, int wanted) {
    struct pollfd poll_fd = {fd, wanted, 0};
    CHECK_OK(poll(&poll_fd, 1, 0));
    return poll_fd.revents;
}

TEST(basics) {
    make(0);
    char text[16] = "";
    CHECK_EQ(write(fds[1], "hello", 5), 5);
    CHECK_EQ(write(fds[1], "", 0), 0);
    CHECK_EQ(read(fds[0], text, 2), 2);
    CHECK_EQ(read(fds[0], text + 2, 10), 3);
    CHECK_STR(text, "hello");
    CHECK_ERR(read(fds[1], text, 1), EBADF);
    CHECK_ERR(write(fds[0], text, 1), EBADF);
    CHECK_OK(close(fds[1]));
    CHECK_EQ(read(fds[0], text, 1), 0);
    struct stat st;
    CHECK_OK(fstat(fds[0], &st));
    CHECK(S_ISFIFO(st.st_mode));
    CHECK_EQ(st.st_mode & 0777, 0600);
}

TEST(creation) {
    CHECK_ERR(pipe(BAD), EFAULT);
    CHECK_ERR(pipe2(fds, 1), EINVAL);
    // A call that failed left no descriptor behind.
    CHECK_EQ(open(".", O_RDONLY), 3);
    make(O_CLOEXEC | O_NONBLOCK);
    CHECK_EQ(fds[0], 4);
    CHECK_EQ(fds[1], 5);
    CHECK_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fds[0], F_GETFL), O_NONBLOCK | O_RDONLY);
    CHECK_EQ(fcntl(fds[1], F_GETFL), O_NONBLOCK | O_WRONLY);
}

TEST(broken) {
    make(0);
    close(fds[0]);
    int status = IN_CHILD({ write(fds[1], "x", 1); });
    CHECK_EQ(status, SIGPIPE);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERR(write(fds[1], "x", 1), EPIPE);
    CHECK_ERR(write(fds[1], BAD, 1), EPIPE);
    CHECK_EQ(events(fds[1], POLLOUT), POLLOUT | POLLERR);
}

TEST(capacity) {
    make(O_NONBLOCK);
    CHECK_EQ(fcntl(fds[1], F_GETPIPE_SZ), 65536);
    char page[4096] = {0};
    int pages = 0;
    while (write(fds[1], page, 4096) == 4096)
        pages++;
    CHECK_EQ(pages, 16);
    CHECK_ERR(write(fds[1], page, 1), EAGAIN);
    int waiting = 0;
    CHECK_OK(ioctl(fds[0], FIONREAD, &waiting));
    CHECK_EQ(waiting, 65536);
    CHECK_ERR(fcntl(fds[1], F_SETPIPE_SZ, 4096), EBUSY);
    CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, 100000), 131072);
    CHECK_EQ(fcntl(fds[0], F_GETPIPE_SZ), 131072);
    CHECK_EQ(write(fds[1], page, 4096), 4096);
    for (int i = 0; i < 17; i++)
        CHECK_EQ(read(fds[0], page, 4096), 4096);
    CHECK_ERR(read(fds[0], page, 1), EAGAIN);
    CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, 1), 4096);
    int file = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_ERR(fcntl(file, F_GETPIPE_SZ), EBADF);
    CHECK_OK(setuid(1000));
    CHECK_ERR(fcntl(fds[1], F_SETPIPE_SZ, 64 << 20), EPERM);
}

TEST(atomic_writes) {
    make(O_NONBLOCK);
    static char big[70000];
    CHECK_EQ(write(fds[1], big, sizeof big), 65536);
    CHECK_EQ(read(fds[0], big, 4000), 4000);
    // Less than a page is free: PIPE_BUF bytes go whole or not at all.
    CHECK_ERR(write(fds[1], big, 4096), EAGAIN);
    CHECK_EQ(read(fds[0], big, 96), 96);
    CHECK_EQ(write(fds[1], big, 4096), 4096);
    CHECK_EQ(read(fds[0], big, 8192), 8192);
    CHECK_EQ(write(fds[1], big, 10000), 8192);
}

static void *drain(void *unused) {
    char page[4096];
    long total = 0, bytes;
    while ((bytes = read(fds[0], page, 4096)) > 0)
        total += bytes;
    return (void *)total;
}

TEST(blocking_writer) {
    make(0);
    static char big[1 << 20];
    pthread_t thread;
    void *total;
    CHECK_RET(pthread_create(&thread, NULL, drain, NULL), 0);
    CHECK_EQ(write(fds[1], big, sizeof big), sizeof big);
    close(fds[1]);
    CHECK_RET(pthread_join(thread, &total), 0);
    CHECK_EQ(total, sizeof big);
}

static void on_signal(int signo) {}

TEST(interrupted_partial_write) {
    make(0);
    static char big[100000];
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_EQ(write(fds[1], big, sizeof big), 65536);
    alarm(1);
    CHECK_ERR(write(fds[1], big, 1), EINTR);
}

TEST(readiness) {
    make(0);
    CHECK_EQ(events(fds[0], POLLIN), 0);
    CHECK_EQ(events(fds[1], POLLOUT), POLLOUT);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(events(fds[0], POLLIN | POLLRDNORM), POLLIN | POLLRDNORM);
    close(fds[1]);
    CHECK_EQ(events(fds[0], POLLIN), POLLIN | POLLHUP);
    char byte;
    CHECK_EQ(read(fds[0], &byte, 1), 1);
    CHECK_EQ(events(fds[0], POLLIN), POLLHUP);
}

TEST(packets) {
    make(O_DIRECT);
    char text[16] = "";
    CHECK_EQ(write(fds[1], "one", 3), 3);
    CHECK_EQ(write(fds[1], "three", 5), 5);
    CHECK_EQ(read(fds[0], text, 2), 2);
    CHECK_EQ(read(fds[0], text, 16), 5);
    CHECK(!memcmp(text, "three", 5));
}

TEST(fifos) {
    CHECK_OK(mkfifo("fifo", 0640));
    CHECK_ERR(mkfifo("fifo", 0640), EEXIST);
    CHECK_ERR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    int r = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
    char byte;
    // Nobody wrote yet: end of file, but no hang-up.
    CHECK_EQ(read(r, &byte, 1), 0);
    CHECK_EQ(events(r, POLLIN), 0);
    int w = MUST(open("fifo", O_WRONLY | O_NONBLOCK));
    CHECK_ERR(read(r, &byte, 1), EAGAIN);
    CHECK_EQ(write(w, "f", 1), 1);
    CHECK_EQ(read(r, &byte, 1), 1);
    CHECK_EQ(byte, 'f');
    close(w);
    CHECK_EQ(events(r, POLLIN), POLLHUP);
    CHECK_EQ(read(r, &byte, 1), 0);
    // Open for both never blocks.
    int both = MUST(open("fifo", O_RDWR));
    CHECK_EQ(write(both, "b", 1), 1);
    CHECK_EQ(read(both, &byte, 1), 1);
    close(r);
    close(both);
    // An open of one end waits for the other.
    pid_t pid = MUST(fork());
    if (pid == 0) {
        usleep(50000);
        int fd = open("fifo", O_WRONLY);
        _exit(write(fd, "late", 4) != 4);
    }
    r = MUST(open("fifo", O_RDONLY));
    char text[8] = "";
    CHECK_EQ(read(r, text, 8), 4);
    CHECK_STR(text, "late");
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

TEST(fifo_open_interrupted) {
    CHECK_OK(mkfifo("fifo", 0600));
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_ERR(open("fifo", O_RDONLY), EINTR);
}

TEST(through_proc) {
    make(0);
    char path[32], name[64] = "", expected[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
    struct stat st;
    CHECK_OK(fstat(fds[0], &st));
    CHECK_CMP(readlink(path, name, 63), >, 0);
    snprintf(expected, sizeof expected, "pipe:[%lu]", st.st_ino);
    CHECK_STR(name, expected);
    // Opened again, by either side's name, for either side.
    int w = MUST(open(path, O_WRONLY));
    CHECK_EQ(write(w, "x", 1), 1);
    char byte;
    CHECK_EQ(read(fds[0], &byte, 1), 1);
}
