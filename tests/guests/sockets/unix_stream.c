// Stream sockets of AF_UNIX.
#include "sockets.h"

static int pair[2];
static char buf[4096];

static int listener_at(const char *path, int backlog) {
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(unix_bind(fd, path));
    MUST(listen(fd, backlog));
    return fd;
}

TEST(creation) {
    CHECK_ERR(socket(AF_UNIX, SOCK_STREAM, 2), EPROTONOSUPPORT);
    CHECK_OK(socket(AF_UNIX, SOCK_STREAM, AF_UNIX));
    CHECK_ERR(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
    CHECK_ERR(socket(AF_UNIX, SOCK_STREAM | 0x100, 0), EINVAL);
    CHECK_ERR(socket(AF_UNIX, 0, 0), ESOCKTNOSUPPORT);
    CHECK_ERR(socket(AF_UNIX, 11, 0), EINVAL);
    CHECK_ERR(socket(200, SOCK_STREAM, 0), EAFNOSUPPORT);
    CHECK_ERR(socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode, S_IFSOCK | 0777);
    char path[64], link[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int len = CHECK_OK(readlink(path, link, sizeof link - 1));
    link[len] = 0;
    snprintf(path, sizeof path, "socket:[%lu]", (unsigned long)st.st_ino);
    CHECK_STR(link, path);
    CHECK_ERR(open(path, O_RDONLY), ENOENT);
    CHECK_ERR(lseek(fd, 0, SEEK_CUR), ESPIPE);
    CHECK_ERR(pread(fd, buf, 1, 0), ESPIPE);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_DOMAIN), AF_UNIX);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_PROTOCOL), 0);
}

TEST(not_a_socket) {
    int fd = MUST(open("/dev/null", O_RDWR));
    struct sockaddr_un address = unix_address("a");
    socklen_t len = sizeof address;
    CHECK_ERR(bind(fd, (void *)&address, len), ENOTSOCK);
    CHECK_ERR(listen(fd, 1), ENOTSOCK);
    CHECK_ERR(accept(fd, NULL, NULL), ENOTSOCK);
    CHECK_ERR(connect(fd, (void *)&address, len), ENOTSOCK);
    CHECK_ERR(send(fd, buf, 1, 0), ENOTSOCK);
    CHECK_ERR(recv(fd, buf, 1, 0), ENOTSOCK);
    CHECK_ERR(shutdown(fd, SHUT_RD), ENOTSOCK);
    CHECK_ERR(getsockname(fd, (void *)&address, &len), ENOTSOCK);
    CHECK_ERR(setsockopt(fd, SOL_SOCKET, SO_DEBUG, buf, 4), ENOTSOCK);
    CHECK_ERR(listen(-1, 1), EBADF);
    CHECK_ERR(send(999, buf, 1, 0), EBADF);
    int path = MUST(open(".", O_PATH));
    CHECK_ERR(listen(path, 1), EBADF);
}

TEST(pair_transfers) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[0], "hello", 5), 5);
    CHECK_EQ(write(pair[0], " world", 6), 6);
    int count;
    CHECK_OK(ioctl(pair[1], FIONREAD, &count));
    CHECK_EQ(count, 11);
    CHECK_EQ(recv(pair[1], buf, 100, MSG_PEEK), 11);
    CHECK_EQ(read(pair[1], buf, 100), 11);
    CHECK(!memcmp(buf, "hello world", 11));
    CHECK_ERR(recv(pair[1], buf, 1, MSG_DONTWAIT), EAGAIN);
    // Nothing sent is nothing received.
    CHECK_EQ(send(pair[0], "", 0, 0), 0);
    CHECK_ERR(recv(pair[1], buf, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_ERR(recv(pair[1], buf, 0, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    CHECK_EQ(recv(pair[0], buf, 0, 0), 0);
    CHECK_EQ(recv(pair[0], buf, 5, MSG_TRUNC), 1);
    CHECK_ERR(send(pair[0], BAD, 1, 0), EFAULT);
    CHECK_EQ(send(pair[0], "ab", 2, 0), 2);
    CHECK_ERR(recv(pair[1], BAD, 1, 0), EFAULT);
    // What could not be delivered stays.
    CHECK_EQ(recv(pair[1], buf, 5, 0), 2);
}

TEST(pair_arguments) {
    CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM, 0, BAD), EFAULT);
    CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
    CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM, 5, pair), EPROTONOSUPPORT);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
    // Calls that failed left no descriptor behind.
    CHECK_EQ(pair[0], 3);
    CHECK_EQ(pair[1], 4);
    CHECK_EQ(fcntl(pair[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(pair[1], F_GETFL), O_RDWR | O_NONBLOCK);
    struct sockaddr_un address;
    socklen_t len = sizeof address;
    CHECK_OK(getsockname(pair[0], (void *)&address, &len));
    CHECK_EQ(len, 2);
    len = sizeof address;
    CHECK_OK(getpeername(pair[0], (void *)&address, &len));
    CHECK_EQ(len, 2);
    CHECK_EQ(address.sun_family, AF_UNIX);
    len = 1;
    CHECK_OK(getpeername(pair[0], (void *)&address, &len));
    CHECK_EQ(len, 2);
    len = -1;
    CHECK_ERR(getpeername(pair[0], (void *)&address, &len), EINVAL);
    CHECK_ERR(getpeername(pair[0], (void *)&address, BAD), EFAULT);
    CHECK_ERR(unix_connect(pair[0], "x"), ENOENT);
    CHECK_ERR(listen(pair[0], 1), EINVAL);
}

TEST(end) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[0], "last", 4), 4);
    close(pair[0]);
    CHECK_EQ(events(pair[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    CHECK_EQ(read(pair[1], buf, 2), 2);
    CHECK_EQ(read(pair[1], buf, 9), 2);
    CHECK_EQ(read(pair[1], buf, 9), 0);
    CHECK_EQ(IN_CHILD({ write(pair[1], "x", 1); }), SIGPIPE);
    CHECK_EQ(IN_CHILD({ send(pair[1], "x", 1, 0); }), SIGPIPE);
    CHECK_ERR(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_ERR(shutdown(pair[1], 3), EINVAL);
    CHECK_OK(shutdown(pair[1], SHUT_RDWR));
}

TEST(reset_by_unread_data) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[0], "unread", 6), 6);
    CHECK_EQ(write(pair[1], "mine", 4), 4);
    close(pair[1]);
    CHECK_EQ(events(pair[0], POLLIN), POLLIN | POLLHUP | POLLERR);
    // Linux tells of the error where it is asked for, data or not.
    CHECK_EQ(read(pair[0], buf, 9), 4);
    CHECK_ERR(read(pair[0], buf, 9), ECONNRESET);
    CHECK_EQ(read(pair[0], buf, 9), 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[0], "unread", 6), 6);
    close(pair[1]);
    CHECK_EQ(pending_error(pair[0]), ECONNRESET);
    CHECK_EQ(pending_error(pair[0]), 0);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(read(pair[0], buf, 9), 0);
}

TEST(half_close) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[0], "abc", 3), 3);
    CHECK_OK(shutdown(pair[0], SHUT_WR));
    CHECK_EQ(events(pair[0], POLLIN | POLLOUT | POLLRDHUP), POLLOUT);
    CHECK_EQ(events(pair[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(read(pair[1], buf, 9), 3);
    CHECK_EQ(read(pair[1], buf, 9), 0);
    CHECK_EQ(write(pair[1], "back", 4), 4);
    CHECK_EQ(read(pair[0], buf, 9), 4);
    CHECK_OK(shutdown(pair[1], SHUT_WR));
    CHECK_EQ(events(pair[0], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    CHECK_EQ(read(pair[0], buf, 9), 0);
    // The peer of one that reads no more cannot write.
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[1], "x", 1), 1);
    CHECK_OK(shutdown(pair[0], SHUT_RD));
    CHECK_EQ(events(pair[0], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    CHECK_ERR(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(read(pair[0], buf, 9), 1);
    CHECK_EQ(read(pair[0], buf, 9), 0);
    CHECK_EQ(write(pair[0], "y", 1), 1);
    CHECK_EQ(read(pair[1], buf, 9), 1);
}

static void *read_one(void *arg) {
    long n = read(pair[0], buf, 1);
    return (void *)n;
}

TEST(shutdown_wakes) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pthread_t thread;
    void *result = (void *)-1;
    pthread_create(&thread, NULL, read_one, NULL);
    sleep_ms(50);
    CHECK_OK(shutdown(pair[1], SHUT_WR));
    pthread_join(thread, &result);
    CHECK_EQ(result, 0);
}

TEST(fill) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    static char block[65536];
    long total = 0, n;
    while ((n = write(pair[0], block, sizeof block)) > 0)
        total += n;
    CHECK_EQ(n, -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_CMP(total, >=, 100000);
    CHECK_CMP(total, <=, 500000);
    CHECK_EQ(events(pair[0], POLLOUT), 0);
    int queued;
    CHECK_OK(ioctl(pair[0], TIOCOUTQ, &queued));
    CHECK_CMP(queued, >=, total);
    long got = 0;
    while ((n = read(pair[1], block, sizeof block)) > 0)
        got += n;
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(got, total);
    CHECK_EQ(events(pair[0], POLLOUT), POLLOUT);
    CHECK_OK(ioctl(pair[0], TIOCOUTQ, &queued));
    CHECK_EQ(queued, 0);
}

TEST(large_blocking_write) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    enum { SIZE = 3 << 20 };
    char *big = MUST((long)mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) + (char *)0;
    for (int i = 0; i < SIZE; i++)
        big[i] = i * 7 + i / 4096;
    pid_t child = MUST(fork());
    if (child == 0) {
        close(pair[0]);
        static char back[SIZE];
        CHECK_EQ(recv(pair[1], back, SIZE, MSG_WAITALL), SIZE);
        CHECK(!memcmp(back, big, SIZE));
        CHECK_EQ(read(pair[1], back, 1), 0);
        _exit(0);
    }
    close(pair[1]);
    CHECK_EQ(write(pair[0], big, SIZE), SIZE);
    close(pair[0]);
    int status;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
}

TEST(waitall) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t child = MUST(fork());
    if (child == 0) {
        for (int i = 0; i < 3; i++) {
            sleep_ms(20);
            write(pair[0], "abc", 3);
        }
        shutdown(pair[0], SHUT_WR);
        _exit(0);
    }
    CHECK_EQ(recv(pair[1], buf, 6, MSG_WAITALL), 6);
    CHECK_EQ(recv(pair[1], buf, 6, MSG_WAITALL), 3);
    waitpid(child, NULL, 0);
    // Without waiting at all it takes what there is.
    write(pair[1], "ab", 2);
    CHECK_EQ(recv(pair[0], buf, 6, MSG_WAITALL | MSG_DONTWAIT), 2);
    // A signal ends the waiting with what there is.
    catch_signal(SIGALRM);
    write(pair[1], "abcd", 4);
    // Again and again: the first may come before the wait.
    ualarm(50000, 50000);
    CHECK_EQ(recv(pair[0], buf, 6, MSG_WAITALL), 4);
    ualarm(0, 0);
    // So does the time limit.
    struct timeval time = {0, 50000};
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    write(pair[1], "abcde", 5);
    CHECK_EQ(recv(pair[0], buf, 6, MSG_WAITALL), 5);
}

TEST(low_water) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_OK(set_number(pair[0], SOL_SOCKET, SO_RCVLOWAT, 4));
    CHECK_EQ(number_option(pair[0], SOL_SOCKET, SO_RCVLOWAT), 4);
    pid_t child = MUST(fork());
    if (child == 0) {
        write(pair[1], "ab", 2);
        sleep_ms(80);
        write(pair[1], "cdef", 4);
        _exit(0);
    }
    // A receive waits for as many bytes as that.
    CHECK_CMP(recv(pair[0], buf, 100, 0), >=, 4);
    waitpid(child, NULL, 0);
    CHECK_ERR(recv(pair[0], buf, 100, MSG_DONTWAIT), EAGAIN);
    write(pair[1], "ab", 2);
    CHECK_EQ(recv(pair[0], buf, 100, MSG_DONTWAIT), 2);
}

TEST(timeouts) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    struct timeval time = {0, 60000}, read_back;
    socklen_t len = sizeof read_back;
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &read_back, &len));
    CHECK_EQ(read_back.tv_usec, 60000);
    long start = milliseconds();
    CHECK_ERR(read(pair[0], buf, 1), EAGAIN);
    CHECK_ERR(recv(pair[0], buf, 1, 0), EAGAIN);
    CHECK_CMP(milliseconds() - start, >=, 118);
    static char block[1 << 20];
    start = milliseconds();
    long sent = write(pair[0], block, sizeof block);
    CHECK_CMP(sent, >, 0);
    CHECK_CMP(sent, <, (long)sizeof block);
    CHECK_CMP(milliseconds() - start, >=, 59);
    CHECK_ERR(write(pair[0], block, sizeof block), EAGAIN);
    time.tv_usec = 1000000;
    CHECK_ERR(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), EDOM);
    time.tv_usec = -1;
    CHECK_ERR(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), EDOM);
    CHECK_ERR(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, 4), EINVAL);
    // A handler's signal interrupts a wait with a limit, even with SA_RESTART.
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    time = (struct timeval){5, 0};
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    ualarm(50000, 50000);
    CHECK_ERR(recv(pair[0], buf, 1, 0), EINTR);
}

TEST(listening) {
    struct sockaddr_un address;
    int server = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(listen(server, 1), EINVAL);
    CHECK_ERR(unix_connect(client, "s"), ENOENT);
    CHECK_OK(unix_bind(server, "s"));
    struct stat st;
    CHECK_OK(stat("s", &st));
    CHECK(S_ISSOCK(st.st_mode));
    CHECK_ERR(open("s", O_RDWR), ENXIO);
    CHECK_ERR(unix_bind(server, "t"), EINVAL);
    CHECK_ERR(unix_bind(client, "s"), EADDRINUSE);
    CHECK_ERR(unix_connect(client, "s"), ECONNREFUSED);
    CHECK_ERR(accept(server, NULL, NULL), EINVAL);
    CHECK_EQ(number_option(server, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CHECK_OK(listen(server, 5));
    CHECK_EQ(number_option(server, SOL_SOCKET, SO_ACCEPTCONN), 1);
    CHECK_EQ(events(server, POLLIN | POLLOUT), 0);
    CHECK_EQ(events(client, POLLIN | POLLOUT), POLLOUT | POLLHUP);
    CHECK_OK(unix_connect(client, "s"));
    CHECK_EQ(events(server, POLLIN | POLLOUT), POLLIN);
    CHECK_ERR(unix_connect(client, "s"), EISCONN);
    CHECK_ERR(unix_connect(server, "s"), EINVAL);
    CHECK_ERR(recv(server, buf, 1, 0), EINVAL);
    CHECK_ERR(send(server, buf, 1, MSG_NOSIGNAL), ENOTCONN);
    int count;
    CHECK_ERR(ioctl(server, FIONREAD, &count), EINVAL);
    // Data may be sent before anybody accepts.
    CHECK_EQ(write(client, "early", 5), 5);
    socklen_t len = sizeof address;
    int accepted = CHECK_OK(accept4(server, (void *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK));
    CHECK_EQ(len, 2);
    CHECK_EQ(fcntl(accepted, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(accepted, F_GETFL), O_RDWR | O_NONBLOCK);
    CHECK_EQ(read(accepted, buf, 9), 5);
    len = sizeof address;
    CHECK_OK(getsockname(accepted, (void *)&address, &len));
    CHECK_EQ(len, 4);
    CHECK_STR(address.sun_path, "s");
    len = sizeof address;
    CHECK_OK(getpeername(client, (void *)&address, &len));
    CHECK_EQ(len, 4);
    CHECK_STR(address.sun_path, "s");
    CHECK_ERR(accept4(server, NULL, NULL, 0x10), EINVAL);
    nonblocking(server);
    CHECK_ERR(accept(server, NULL, NULL), EAGAIN);
    CHECK_ERR(sendto(client, "x", 1, 0, (void *)&address, len), EISCONN);
    CHECK_ERR(sendto(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "x", 1, 0, (void *)&address, len), EOPNOTSUPP);
    // Removing the name cuts nothing, but nobody finds it any more.
    CHECK_OK(unlink("s"));
    CHECK_EQ(write(client, "still", 5), 5);
    CHECK_EQ(read(accepted, buf, 9), 5);
    CHECK_ERR(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "s"), ENOENT);
}

TEST(named_sender) {
    int server = listener_at("s", 1), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(unix_bind(client, "c"));
    MUST(unix_connect(client, "s"));
    int accepted = MUST(accept(server, NULL, NULL));
    CHECK_EQ(write(client, "x", 1), 1);
    struct sockaddr_un address;
    socklen_t len = sizeof address;
    CHECK_EQ(recvfrom(accepted, buf, 9, 0, (void *)&address, &len), 1);
    CHECK_EQ(len, 4);
    CHECK_STR(address.sun_path, "c");
}

TEST(unconnected) {
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un address;
    socklen_t len = sizeof address;
    CHECK_ERR(getpeername(fd, (void *)&address, &len), ENOTCONN);
    CHECK_ERR(read(fd, buf, 1), EINVAL);
    CHECK_ERR(send(fd, buf, 1, MSG_NOSIGNAL), ENOTCONN);
    CHECK_EQ(events(fd, POLLIN | POLLOUT), POLLOUT | POLLHUP);
    CHECK_OK(shutdown(fd, SHUT_RD));
    CHECK_EQ(events(fd, POLLIN | POLLOUT), POLLIN | POLLOUT | POLLHUP);
}

TEST(renamed_and_linked) {
    int server = listener_at("old", 5), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(rename("old", "new"));
    CHECK_ERR(unix_connect(client, "old"), ENOENT);
    CHECK_OK(unix_connect(client, "new"));
    CHECK_OK(link("new", "other"));
    CHECK_OK(symlink("other", "soft"));
    client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(unix_connect(client, "soft"));
    close(server);
    CHECK_ERR(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "new"), ECONNREFUSED);
    // The file stays when the socket is gone.
    CHECK_OK(access("new", F_OK));
    CHECK_ERR(unix_bind(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "new"), EADDRINUSE);
    int fd = MUST(open("plain", O_CREAT | O_WRONLY, 0666));
    close(fd);
    CHECK_ERR(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "plain"), ECONNREFUSED);
    CHECK_ERR(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "plain/x"), ENOTDIR);
    CHECK_ERR(unix_bind(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "no/x"), ENOENT);
    CHECK_ERR(unix_bind(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "soft"), EADDRINUSE);
}

TEST(permissions) {
    if (getuid() != 0)
        SKIP("needs root");
    listener_at("private", 5);
    struct stat st;
    umask(027);
    listener_at("masked", 5);
    CHECK_OK(stat("masked", &st));
    CHECK_EQ(st.st_mode & 0777, 0750);
    chmod("private", 0555);
    CHECK_CHILD({
        MUST(setgid(1000));
        MUST(setuid(1000));
        CHECK_ERR(unix_connect(socket(AF_UNIX, SOCK_STREAM, 0), "private"), EACCES);
        CHECK_ERR(unix_connect(socket(AF_UNIX, SOCK_STREAM, 0), "masked"), EACCES);
    });
    chmod("private", 0222);
    chmod(".", 0755);
    CHECK_CHILD({
        MUST(setgid(1000));
        MUST(setuid(1000));
        CHECK_OK(unix_connect(socket(AF_UNIX, SOCK_STREAM, 0), "private"));
        CHECK_ERR(unix_bind(socket(AF_UNIX, SOCK_STREAM, 0), "x"), EACCES);
    });
}

TEST(backlog) {
    int server = listener_at("s", 1), clients[4];
    for (int i = 0; i < 4; i++)
        clients[i] = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CHECK_OK(unix_connect(clients[0], "s"));
    CHECK_OK(unix_connect(clients[1], "s"));
    CHECK_ERR(unix_connect(clients[2], "s"), EAGAIN);
    MUST(accept(server, NULL, NULL));
    CHECK_OK(unix_connect(clients[2], "s"));
    CHECK_ERR(unix_connect(clients[3], "s"), EAGAIN);
    fcntl(clients[3], F_SETFL, 0);
    struct timeval time = {0, 50000};
    CHECK_OK(setsockopt(clients[3], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
    CHECK_ERR(unix_connect(clients[3], "s"), EAGAIN);
    pid_t child = MUST(fork());
    if (child == 0) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK_OK(unix_connect(fd, "s"));
        _exit(0);
    }
    sleep_ms(50);
    MUST(accept(server, NULL, NULL));
    int status;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    // A backlog of nothing still lets one in; those not accepted are reset when the listener goes.
    server = listener_at("zero", 0);
    int client = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CHECK_OK(unix_connect(client, "zero"));
    CHECK_ERR(unix_connect(clients[3], "zero"), EAGAIN);
    CHECK_OK(listen(server, 4));
    close(server);
    CHECK_EQ(events(client, POLLIN), POLLIN | POLLHUP | POLLERR);
    CHECK_ERR(read(client, buf, 1), ECONNRESET);
    CHECK_EQ(read(client, buf, 1), 0);
}

TEST(close_while_connecting) {
    int server = listener_at("s", 0);
    MUST(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "s"));
    pid_t child = MUST(fork());
    if (child == 0) {
        close(server);
        CHECK_ERR(unix_connect(socket(AF_UNIX, SOCK_STREAM, 0), "s"), ECONNREFUSED);
        _exit(0);
    }
    sleep_ms(80);
    close(server);
    int status;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
}

TEST(listener_shutdown) {
    int server = listener_at("s", 5);
    CHECK_OK(shutdown(server, SHUT_RD));
    CHECK_ERR(accept(server, NULL, NULL), EINVAL);
    CHECK_ERR(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "s"), ECONNREFUSED);
}

TEST(peer_credentials) {
    struct ucred peer;
    socklen_t len = sizeof peer;
    int server = listener_at("s", 5);
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len));
    CHECK_EQ(peer.pid, 0);
    CHECK_EQ(peer.uid, (uid_t)-1);
    pid_t child = MUST(fork());
    if (child == 0) {
        CHECK_OK(unix_connect(fd, "s"));
        CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len));
        CHECK_EQ(peer.pid, getppid());
        read(fd, buf, 1);
        _exit(0);
    }
    int accepted = MUST(accept(server, NULL, NULL));
    CHECK_OK(getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &peer, &len));
    CHECK_EQ(peer.pid, child);
    CHECK_EQ(peer.uid, getuid());
    close(accepted);
    waitpid(child, NULL, 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &len));
    CHECK_EQ(peer.pid, getpid());
    CHECK_OK(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &peer, &len));
    CHECK_EQ(peer.pid, getpid());
}

TEST(peer_groups) {
    gid_t groups[64], peer[64];
    int count = getgroups(64, groups);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    socklen_t len = sizeof peer;
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, peer, &len));
    CHECK_EQ(len, count * sizeof(gid_t));
    CHECK(!memcmp(groups, peer, len));
    if (getuid() == 0) {
        gid_t two[] = {7, 9};
        CHECK_CHILD({
            MUST(setgroups(2, two));
            MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
            len = 4;
            CHECK_ERR(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, peer, &len), ERANGE);
            CHECK_EQ(len, 8);
            CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, peer, &len));
            CHECK_EQ(len, 8);
            CHECK_EQ(peer[1], 9);
        });
    }
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    len = sizeof peer;
    CHECK_ERR(getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer, &len), ENODATA);
}

TEST(addresses) {
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un address = unix_address("x");
    CHECK_ERR(bind(fd, (void *)&address, 1), EINVAL);
    CHECK_ERR(bind(fd, (void *)&address, sizeof address + 1), EINVAL);
    CHECK_ERR(bind(fd, BAD, sizeof address), EFAULT);
    CHECK_ERR(connect(fd, (void *)&address, 2), EINVAL);
    address.sun_family = AF_INET;
    CHECK_ERR(bind(fd, (void *)&address, sizeof address), EINVAL);
    CHECK_ERR(connect(fd, (void *)&address, sizeof address), EINVAL);
    address.sun_family = AF_UNIX;
    // A path that fills the whole of sun_path has its zero outside.
    memset(address.sun_path, 'p', sizeof address.sun_path);
    CHECK_OK(bind(fd, (void *)&address, sizeof address));
    struct sockaddr_un name[2];
    socklen_t len = sizeof name;
    CHECK_OK(getsockname(fd, (void *)name, &len));
    CHECK_EQ(len, sizeof address + 1);
    CHECK_EQ(strlen(name[0].sun_path), sizeof address.sun_path);
}
