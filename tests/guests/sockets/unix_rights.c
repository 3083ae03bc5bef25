// What goes along with messages of AF_UNIX: descriptors, credentials, pidfds, and what becomes of them.
#include "sockets.h"
#include <dirent.h>
#include <sys/resource.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#define SO_PEERPIDFD 77
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

static int pair[2];
static char buf[4096];

static int send_fds_flags(int over, const int *fds, int count, const char *text, int len, int flags) {
    char control[CMSG_SPACE(300 * sizeof(int))] = {0};
    struct iovec iov = {(void *)text, len};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    return sendmsg(over, &message, flags);
}

static int send_fds(int over, const int *fds, int count, const char *text) {
    return send_fds_flags(over, fds, count, text, strlen(text), MSG_NOSIGNAL);
}

static int received_flags;

// Receives up to `room` descriptors; gives their number, -1 on failure.
static int recv_fds(int over, int *fds, int room, int flags) {
    char control[CMSG_SPACE(300 * sizeof(int))] = {0};
    struct iovec iov = {buf, sizeof buf};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = room ? CMSG_LEN(room * sizeof(int)) : 0;
    int n = recvmsg(over, &message, flags);
    if (n < 0)
        return -1;
    buf[n] = 0;
    received_flags = message.msg_flags;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        return 0;
    CHECK_EQ(header->cmsg_level, SOL_SOCKET);
    CHECK_EQ(header->cmsg_type, SCM_RIGHTS);
    int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    return count;
}

static int open_files(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

TEST(files) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int file = MUST(open("file", O_CREAT | O_RDWR, 0600)), got[4];
    write(file, "hello", 5);
    lseek(file, 1, SEEK_SET);
    fcntl(file, F_SETFD, FD_CLOEXEC);
    CHECK_EQ(send_fds(pair[0], &file, 1, "x"), 1);
    CHECK_EQ(recv_fds(pair[1], got, 4, 0), 1);
    CHECK_STR(buf, "x");
    CHECK_EQ(received_flags, 0);
    // The same description, under a new number, without the other's flag.
    CHECK_EQ(fcntl(got[0], F_GETFD), 0);
    CHECK_EQ(read(got[0], buf, 9), 4);
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 5);
    CHECK_EQ(send_fds(pair[0], &file, 1, "x"), 1);
    CHECK_EQ(recv_fds(pair[1], got, 4, MSG_CMSG_CLOEXEC), 1);
    CHECK_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(received_flags, MSG_CMSG_CLOEXEC);
    // They live on while they are under way.
    CHECK_EQ(send_fds(pair[0], &file, 1, "x"), 1);
    close(file);
    CHECK_EQ(recv_fds(pair[1], got, 4, 0), 1);
    CHECK_EQ(pread(got[0], buf, 9, 0), 5);
}

TEST(refused) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int bad[2] = {0, 77};
    CHECK_ERR(send_fds(pair[0], bad, 2, "x"), EBADF);
    int many[254] = {0};
    CHECK_ERR(send_fds(pair[0], many, 254, "x"), EINVAL);
    CHECK_EQ(send_fds(pair[0], many, 253, "x"), 1);
    int got[256];
    CHECK_EQ(recv_fds(pair[1], got, 256, 0), 253);
    CHECK_ERR(recv(pair[1], buf, 1, MSG_DONTWAIT), EAGAIN);
    // Malformed control data.
    char control[64] = {0};
    struct iovec iov = {buf, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 24};
    struct cmsghdr *header = (void *)control;
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = 15;
    CHECK_ERR(sendmsg(pair[0], &message, 0), EINVAL);
    header->cmsg_len = 25;
    CHECK_ERR(sendmsg(pair[0], &message, 0), EINVAL);
    header->cmsg_len = (size_t)-1;
    CHECK_ERR(sendmsg(pair[0], &message, 0), EINVAL);
    header->cmsg_len = 20;
    header->cmsg_type = 99;
    CHECK_ERR(sendmsg(pair[0], &message, 0), EINVAL);
    // Of other levels it takes no notice.
    header->cmsg_level = SOL_IP;
    CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
    // Less than a header is nothing.
    header->cmsg_level = SOL_SOCKET;
    message.msg_controllen = 15;
    CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
    message.msg_controllen = 1 << 24;
    CHECK_ERR(sendmsg(pair[0], &message, 0), ENOBUFS);
    message.msg_controllen = 24;
    message.msg_control = BAD;
    CHECK_ERR(sendmsg(pair[0], &message, 0), EFAULT);
    // A message that is not sent leaves nothing behind.
    int before = open_files();
    close(pair[1]);
    CHECK_ERR(send_fds(pair[0], many, 1, "x"), EPIPE);
    CHECK_EQ(open_files(), before - 1);
}

TEST(not_enough_room) {
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    int three[3] = {0, 1, 2}, got[8];
    int before = open_files();
    CHECK_EQ(send_fds(pair[0], three, 3, "x"), 1);
    CHECK_EQ(recv_fds(pair[1], got, 2, 0), 2);
    CHECK_EQ(received_flags, MSG_CTRUNC);
    CHECK_EQ(open_files(), before + 2);
    CHECK_EQ(send_fds(pair[0], three, 3, "x"), 1);
    CHECK_EQ(recv_fds(pair[1], got, 0, 0), 0);
    CHECK_EQ(received_flags, MSG_CTRUNC);
    CHECK_EQ(open_files(), before + 2);
    // read(2) drops them.
    CHECK_EQ(send_fds(pair[0], three, 3, "x"), 1);
    CHECK_EQ(read(pair[1], buf, 9), 1);
    CHECK_EQ(open_files(), before + 2);
    // No free descriptor: as many as there are.
    struct rlimit limit, old;
    getrlimit(RLIMIT_NOFILE, &old);
    limit = old;
    CHECK_EQ(send_fds(pair[0], three, 3, "x"), 1);
    int free_fd = dup(0);
    close(free_fd);
    limit.rlim_cur = free_fd + 1;
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK_EQ(recv_fds(pair[1], got, 8, 0), 1);
    CHECK_EQ(received_flags, MSG_CTRUNC);
    setrlimit(RLIMIT_NOFILE, &old);
}

TEST(unwritable_control) {
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    int zero = 0, before = open_files();
    struct iovec iov = {buf, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = BAD, .msg_controllen = 64};
    CHECK_EQ(send_fds(pair[0], &zero, 1, "x"), 1);
    // The message is received all the same, without them.
    CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
    CHECK_EQ(message.msg_controllen, 0);
    CHECK_EQ(open_files(), before);
}

TEST(peeking) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int file = MUST(open("file", O_CREAT | O_RDWR, 0600)), one[2], two[2];
    CHECK_EQ(send_fds(pair[0], &file, 1, "x"), 1);
    CHECK_EQ(recv_fds(pair[1], one, 2, MSG_PEEK), 1);
    CHECK_EQ(recv_fds(pair[1], two, 2, 0), 1);
    CHECK(one[0] != two[0]);
    write(one[0], "abc", 3);
    CHECK_EQ(lseek(two[0], 0, SEEK_CUR), 3);
    CHECK_ERR(recv(pair[1], buf, 1, MSG_DONTWAIT), EAGAIN);
}

TEST(streams_stop_at_descriptors) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int zero = 0, got[4];
    write(pair[0], "before", 6);
    CHECK_EQ(send_fds(pair[0], &zero, 1, "with"), 4);
    write(pair[0], "after", 5);
    CHECK_EQ(recv_fds(pair[1], got, 4, 0), 1);
    CHECK_STR(buf, "beforewith");
    CHECK_EQ(recv_fds(pair[1], got, 4, 0), 0);
    CHECK_STR(buf, "after");
    // Without bytes nothing is sent over a stream.
    CHECK_EQ(send_fds(pair[0], &zero, 1, ""), 0);
    CHECK_ERR(recv(pair[1], buf, 1, MSG_DONTWAIT), EAGAIN);
    // Descriptors come with the first byte of what they went with.
    CHECK_EQ(send_fds(pair[0], &zero, 1, "ab"), 2);
    CHECK_EQ(send_fds(pair[0], &zero, 1, "cd"), 2);
    CHECK_EQ(recv(pair[1], buf, 1, 0), 1);
    CHECK_EQ(recv_fds(pair[1], got, 4, 0), 1);
    CHECK_STR(buf, "bcd");
    // A datagram may be nothing but them.
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    CHECK_EQ(send_fds(pair[0], &zero, 1, ""), 0);
    CHECK_EQ(recv_fds(pair[1], got, 4, 0), 1);
}

TEST(closed_with_the_socket) {
    int pipe_fds[2];
    MUST(pipe(pipe_fds));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(send_fds(pair[0], &pipe_fds[1], 1, "x"), 1);
    close(pipe_fds[1]);
    nonblocking(pipe_fds[0]);
    CHECK_ERR(read(pipe_fds[0], buf, 1), EAGAIN);
    close(pair[1]);
    // Nobody can receive it any more, so the pipe has no writer.
    CHECK_EQ(read(pipe_fds[0], buf, 1), 0);
}

static int send_credentials(int over, int pid, int uid, int gid) {
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec iov = {"c", 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_CREDENTIALS;
    header->cmsg_len = CMSG_LEN(sizeof(struct ucred));
    struct ucred credentials = {pid, uid, gid};
    memcpy(CMSG_DATA(header), &credentials, sizeof credentials);
    return sendmsg(over, &message, 0);
}

static struct ucred recv_credentials(int over) {
    struct ucred credentials = {-1, -1, -1};
    char control[256];
    struct iovec iov = {buf, 100};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK_OK(recvmsg(over, &message, 0));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header) {
        CHECK_EQ(header->cmsg_type, SCM_CREDENTIALS);
        CHECK_EQ(header->cmsg_len, CMSG_LEN(sizeof credentials));
        memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
    }
    return credentials;
}

TEST(credentials) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    write(pair[0], "x", 1);
    CHECK_EQ(recv_credentials(pair[1]).pid, -1);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PASSCRED, 1));
    write(pair[0], "x", 1);
    struct ucred got = recv_credentials(pair[1]);
    CHECK_EQ(got.pid, getpid());
    CHECK_EQ(got.uid, getuid());
    CHECK_EQ(got.gid, getgid());
    // It is the sender who counts, not the maker of the socket, and senders are kept apart.
    write(pair[0], "parent", 6);
    pid_t child = MUST(fork());
    if (child == 0) {
        write(pair[0], "child", 5);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK_EQ(recv_credentials(pair[1]).pid, getpid());
    CHECK_EQ(recv_credentials(pair[1]).pid, child);
    // Without the option they are one stream.
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PASSCRED, 0));
    write(pair[0], "parent", 6);
    child = MUST(fork());
    if (child == 0) {
        write(pair[0], "child", 5);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK_EQ(recv(pair[1], buf, 100, 0), 11);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PASSCRED, 1));
    CHECK_EQ(send_credentials(pair[0], getpid(), getuid(), getgid()), 1);
    CHECK_EQ(recv_credentials(pair[1]).uid, getuid());
    if (getuid() == 0) {
        CHECK_EQ(send_credentials(pair[0], 1, 5, 6), 1);
        got = recv_credentials(pair[1]);
        CHECK_EQ(got.pid, 1);
        CHECK_EQ(got.uid, 5);
        CHECK_EQ(got.gid, 6);
        CHECK_ERR(send_credentials(pair[0], 999999, 0, 0), ESRCH);
        CHECK_CHILD({
            MUST(setgid(1000));
            MUST(setuid(1000));
            CHECK_ERR(send_credentials(pair[0], getpid(), 0, 1000), EPERM);
            CHECK_ERR(send_credentials(pair[0], getpid(), 1000, 0), EPERM);
            CHECK_ERR(send_credentials(pair[0], getppid(), 1000, 1000), EPERM);
            CHECK_EQ(send_credentials(pair[0], getpid(), 1000, 1000), 1);
        });
        CHECK_EQ(recv_credentials(pair[1]).uid, 1000);
    }
    // No room for them is told.
    write(pair[0], "x", 1);
    struct iovec iov = {buf, 100};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
    CHECK_EQ(message.msg_flags, MSG_CTRUNC);
    // Both come together, the credentials first.
    int zero = 0;
    CHECK_EQ(send_fds(pair[0], &zero, 1, "x"), 1);
    char control[256];
    message = (struct msghdr){
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK_EQ(header->cmsg_type, SCM_CREDENTIALS);
    header = CMSG_NXTHDR(&message, header);
    CHECK_EQ(header->cmsg_type, SCM_RIGHTS);
    CHECK_EQ(message.msg_controllen, CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)));
}

static int info_pid(int pidfd) {
    char path[64], line[128];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "Pid: %d", &pid);
    if (file)
        fclose(file);
    return pid;
}

TEST(process_descriptors) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int pidfd = -1;
    socklen_t len = sizeof pidfd;
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len));
    CHECK_EQ(info_pid(pidfd), getpid());
    CHECK_EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(getsockopt(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len), ENODATA);
    CHECK_EQ(number_option(pair[0], SOL_SOCKET, SO_PASSPIDFD), 0);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PASSPIDFD, 1));
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_PASSPIDFD), 1);
    write(pair[0], "x", 1);
    char control[256];
    struct iovec iov = {buf, 100};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK_EQ(header->cmsg_type, SCM_PIDFD);
    memcpy(&pidfd, CMSG_DATA(header), sizeof pidfd);
    CHECK_EQ(info_pid(pidfd), getpid());
}

// A chain of sockets, each in the queue of the next, is let go without trouble.
TEST(long_chain) {
    int first[2], next[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, first));
    for (int i = 0; i < 5000; i++) {
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, next));
        CHECK_EQ(send_fds(next[0], first, 2, "x"), 1);
        close(first[0]);
        close(first[1]);
        first[0] = next[0];
        first[1] = next[1];
    }
    close(first[0]);
    close(first[1]);
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

// A pipe's end in the queue of a socket that nothing but its own queue holds: once that is collected the pipe ends.
static void check_collected(int pipe_end) {
    for (int i = 0; i < 100; i++) {
        struct pollfd poll_fd = {pipe_end, POLLIN, 0};
        // Closing some socket makes the kernel look for garbage.
        close(MUST(socket(AF_UNIX, SOCK_DGRAM, 0)));
        if (poll(&poll_fd, 1, 20) == 1 && poll_fd.revents & POLLHUP)
            return;
    }
    CHECK(!"collected");
}

TEST(cycles) {
    int ends[2];
    MUST(pipe(ends));
    // One that lies in its own queue.
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    int both[2] = {pair[1], ends[1]};
    CHECK_EQ(send_fds(pair[0], both, 2, "x"), 1);
    close(ends[1]);
    close(pair[1]);
    // The other end can still reach nothing, but sends to it.
    close(pair[0]);
    check_collected(ends[0]);
    // Two that lie in each other's.
    MUST(pipe(ends));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int more[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, more));
    int a[] = {pair[0], pair[1], ends[1]};
    CHECK_EQ(send_fds(more[0], a, 3, "x"), 1);
    CHECK_EQ(send_fds(pair[0], more, 2, "x"), 1);
    close(ends[1]);
    close(pair[0]);
    close(pair[1]);
    close(more[0]);
    close(more[1]);
    check_collected(ends[0]);
    // A listener with one that waits to be accepted and carries it.
    MUST(pipe(ends));
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(unix_bind(listener, "s"));
    MUST(listen(listener, 1));
    MUST(unix_connect(client, "s"));
    int b[] = {listener, client, ends[1]};
    CHECK_EQ(send_fds(client, b, 3, "x"), 1);
    close(ends[1]);
    close(listener);
    close(client);
    check_collected(ends[0]);
}

// Many sockets that lie in their own queues, with a pipe's end in the first: all are found, though one search may not find
// all at once.
TEST(many_cycles) {
    int ends[2];
    MUST(pipe(ends));
    for (int i = 0; i < 2000; i++) {
        MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
        int both[2] = {pair[1], ends[1]};
        CHECK_EQ(send_fds(pair[0], both, i == 0 ? 2 : 1, "x"), 1);
        if (i == 0)
            close(ends[1]);
        close(pair[1]);
        close(pair[0]);
    }
    check_collected(ends[0]);
}

// What waits to be accepted holds others, and is held through the listener until it is accepted.
TEST(cycle_through_an_accepted_socket) {
    int ends[2], got[8];
    MUST(pipe(ends));
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(unix_bind(listener, "s"));
    MUST(listen(listener, 1));
    MUST(unix_connect(client, "s"));
    int sent[] = {client, ends[1]};
    CHECK_EQ(send_fds(client, sent, 2, "x"), 1);
    close(client);
    close(ends[1]);
    int accepted = MUST(accept(listener, NULL, NULL));
    close(listener);
    for (int i = 0; i < 20; i++)
        close(MUST(socket(AF_UNIX, SOCK_DGRAM, 0)));
    nonblocking(ends[0]);
    CHECK_ERR(read(ends[0], buf, 1), EAGAIN);
    CHECK_EQ(recv_fds(accepted, got, 8, MSG_PEEK), 2);
    close(accepted);
    CHECK_EQ(write(got[1], "z", 1), 1);
    CHECK_EQ(read(ends[0], buf, 1), 1);
    close(got[1]);
    close(got[0]);
    check_collected(ends[0]);
}

TEST(no_cycle_is_broken_too_early) {
    int ends[2], got[8];
    MUST(pipe(ends));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int more[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, more));
    int a[] = {pair[0], pair[1], ends[1]};
    CHECK_EQ(send_fds(more[0], a, 3, "x"), 1);
    CHECK_EQ(send_fds(pair[0], &more[0], 1, "y"), 1);
    close(ends[1]);
    close(pair[0]);
    close(pair[1]);
    close(more[0]);
    for (int i = 0; i < 20; i++)
        close(MUST(socket(AF_UNIX, SOCK_DGRAM, 0)));
    nonblocking(ends[0]);
    CHECK_ERR(read(ends[0], buf, 1), EAGAIN);
    // Held by one end, everything can be reached.
    CHECK_EQ(recv_fds(more[1], got, 8, 0), 3);
    CHECK_EQ(recv_fds(got[1], got + 4, 4, 0), 1);
    CHECK_EQ(write(got[2], "z", 1), 1);
    CHECK_EQ(read(ends[0], buf, 1), 1);
}

TEST(too_many_in_flight) {
    if (getuid() != 0)
        SKIP("needs root");
    struct rlimit limit = {60, 60};
    MUST(setgid(1234));
    MUST(setuid(1234));
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
    int zeros[40] = {0}, sent = 0;
    while (sent < 10 && send_fds(pair[0], zeros, 40, "x") == 1)
        sent++;
    CHECK_EQ(sent, 2);
    CHECK_ERR(send_fds(pair[0], zeros, 1, "x"), ETOOMANYREFS);
    CHECK_EQ(recv(pair[1], buf, 1, 0), 1);
    CHECK_EQ(send_fds(pair[0], zeros, 1, "x"), 1);
}
