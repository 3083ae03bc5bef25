// /proc/PID/io counts what calls read and wrote.
#include "../check.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct counts {
    long read_bytes, written_bytes, reads, writes;
};

static struct counts look(const char *path) {
    struct counts counts = {-1, -1, -1, -1};
    char text[512];
    int fd = MUST(open(path, O_RDONLY));
    ssize_t len = MUST(read(fd, text, sizeof text - 1));
    close(fd);
    text[len] = 0;
    CHECK_EQ(sscanf(text, "rchar: %ld\nwchar: %ld\nsyscr: %ld\nsyscw: %ld\nread_bytes: ", &counts.read_bytes,
                    &counts.written_bytes, &counts.reads, &counts.writes),
             4);
    CHECK(strstr(text, "\nwrite_bytes: ") && strstr(text, "\ncancelled_write_bytes: "));
    return counts;
}

// What one statement adds; looking costs one read of its own length, which is found out first.
#define ADDED(...)                                                                                                    \
    ({                                                                                                                \
        struct counts before = look("/proc/self/io");                                                                 \
        __VA_ARGS__;                                                                                                  \
        struct counts after = look("/proc/self/io");                                                                  \
        after.read_bytes -= before.read_bytes, after.written_bytes -= before.written_bytes;                           \
        after.reads -= before.reads, after.writes -= before.writes;                                                   \
        after;                                                                                                        \
    })

static char big[20000];

TEST(calls) {
    int zero = MUST(open("/dev/zero", O_RDONLY)), null = MUST(open("/dev/null", O_WRONLY));
    int file = MUST(open("file", O_RDWR | O_CREAT, 0600));
    struct counts idle = ADDED({});
    CHECK_EQ(idle.reads, 1);
    CHECK_EQ(idle.writes, 0);
    CHECK_EQ(idle.written_bytes, 0);
    struct counts added = ADDED({
        CHECK_EQ(read(zero, big, 10000), 10000);
        CHECK_EQ(write(null, big, 7000), 7000);
        CHECK_EQ(pwrite(file, big, 5000, 0), 5000);
        CHECK_EQ(pread(file, big, 5000, 1000), 4000);
    });
    CHECK_CMP(labs(added.read_bytes - idle.read_bytes - 14000), <=, 24);
    CHECK_EQ(added.written_bytes, 12000);
    CHECK_EQ(added.reads, 3);
    CHECK_EQ(added.writes, 2);
    // Vectors and sockets; what fails before it begins does not count.
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    struct iovec vector[2] = {{big, 100}, {big + 100, 200}};
    added = ADDED({
        CHECK_EQ(writev(pair[0], vector, 2), 300);
        CHECK_EQ(readv(pair[1], vector, 2), 300);
        CHECK_EQ(send(pair[0], big, 50, 0), 50);
        CHECK_EQ(recv(pair[1], big, 50, 0), 50);
        CHECK_ERR(read(-1, big, 1), EBADF);
        CHECK_ERR(write(zero, big, 1), EBADF);
    });
    CHECK_EQ(added.written_bytes, 300);
    CHECK_EQ(added.reads, 2);
    CHECK_EQ(added.writes, 1);
    off_t at = 0;
    added = ADDED({ CHECK_EQ(sendfile(null, file, &at, 3000), 3000); });
    CHECK_EQ(added.written_bytes, 3000);
    CHECK_CMP(labs(added.read_bytes - idle.read_bytes - 3000), <=, 24);
}

TEST(children) {
    int null = MUST(open("/dev/null", O_WRONLY));
    pid_t child = MUST(fork());
    if (!child) {
        CHECK_EQ(write(null, big, 12345), 12345);
        _exit(0);
    }
    siginfo_t info;
    MUST(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    struct counts before = look("/proc/self/io");
    MUST(waitpid(child, NULL, 0));
    struct counts after = look("/proc/self/io");
    CHECK_EQ(after.written_bytes - before.written_bytes, 12345);
    CHECK_EQ(look("/proc/thread-self/io").written_bytes, before.written_bytes);
}

TEST(guarded) {
    if (geteuid())
        SKIP("needs root");
    pid_t child = MUST(fork());
    if (!child) {
        pause();
        _exit(0);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/io", child);
    look(path);
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(open(path, O_RDONLY), EACCES);
    });
    kill(child, SIGKILL);
}
