// Datagram sockets of AF_UNIX.
#include "sockets.h"

static char buf[70000];

static int bound(const char *path) {
    int fd = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    MUST(unix_bind(fd, path));
    return fd;
}

static int send_path(int fd, const char *text, const char *path, int flags) {
    struct sockaddr_un address = unix_address(path);
    return sendto(fd, text, strlen(text), flags, (void *)&address, sizeof address);
}

TEST(messages) {
    int a = bound("a"), b = bound("b");
    CHECK_EQ(send_path(a, "one", "b", 0), 3);
    CHECK_EQ(send_path(a, "", "b", 0), 0);
    CHECK_EQ(send_path(a, "three", "b", 0), 5);
    struct sockaddr_un from;
    socklen_t len = sizeof from;
    int count;
    CHECK_OK(ioctl(b, FIONREAD, &count));
    CHECK_EQ(count, 3);
    CHECK_EQ(recvfrom(b, buf, sizeof buf, 0, (void *)&from, &len), 3);
    CHECK_EQ(len, 4);
    CHECK_STR(from.sun_path, "a");
    CHECK_EQ(events(b, POLLIN), POLLIN);
    CHECK_EQ(recv(b, buf, sizeof buf, 0), 0);
    // What does not fit is lost.
    CHECK_EQ(recv(b, buf, 2, MSG_PEEK | MSG_TRUNC), 5);
    CHECK_EQ(recv(b, buf, 2, 0), 2);
    CHECK_ERR(recv(b, buf, 2, MSG_DONTWAIT), EAGAIN);
    int nameless = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    CHECK_EQ(send_path(nameless, "x", "b", 0), 1);
    len = sizeof from;
    CHECK_EQ(recvfrom(b, buf, sizeof buf, 0, (void *)&from, &len), 1);
    CHECK_EQ(len, 0);
}

TEST(flags_of_messages) {
    int b = bound("b"), a = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    MUST(unix_connect(a, "b"));
    send(a, "long one", 8, 0);
    struct iovec iov = {buf, 4};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(b, &message, MSG_PEEK), 4);
    CHECK_EQ(message.msg_flags, MSG_TRUNC);
    CHECK_EQ(recvmsg(b, &message, MSG_TRUNC), 8);
    CHECK_EQ(message.msg_flags, MSG_TRUNC);
    CHECK_ERR(recv(b, buf, 1, MSG_OOB), EOPNOTSUPP);
    CHECK_ERR(send(a, buf, 1, MSG_OOB), EOPNOTSUPP);
}

TEST(errors) {
    int a = bound("a"), b = bound("b");
    CHECK_ERR(send(a, "x", 1, 0), ENOTCONN);
    CHECK_ERR(send_path(a, "x", "none", 0), ENOENT);
    int stream = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(unix_bind(stream, "s"));
    CHECK_ERR(send_path(a, "x", "s", 0), EPROTOTYPE);
    CHECK_ERR(unix_connect(a, "s"), EPROTOTYPE);
    CHECK_ERR(unix_connect(stream, "a"), EPROTOTYPE);
    CHECK_ERR(listen(a, 1), EOPNOTSUPP);
    CHECK_ERR(accept(a, NULL, NULL), EOPNOTSUPP);
    close(b);
    CHECK_ERR(send_path(a, "x", "b", 0), ECONNREFUSED);
    CHECK_ERR(unix_connect(a, "b"), ECONNREFUSED);
    // SIGPIPE is for streams.
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    shutdown(pair[0], SHUT_WR);
    CHECK_ERR(send(pair[0], "x", 1, 0), EPIPE);
    CHECK_OK(shutdown(pair[1], SHUT_RD));
    CHECK_EQ(recv(pair[1], buf, 1, 0), 0);
}

TEST(connecting) {
    int a = bound("a"), b = bound("b"), c = bound("c");
    CHECK_OK(unix_connect(a, "b"));
    CHECK_EQ(send(a, "1", 1, 0), 1);
    CHECK_EQ(recv(b, buf, 9, 0), 1);
    // One that is connected takes from its partner alone.
    CHECK_ERR(send_path(c, "x", "a", 0), EPERM);
    CHECK_ERR(unix_connect(c, "a"), EPERM);
    CHECK_EQ(send_path(b, "2", "a", 0), 1);
    CHECK_EQ(recv(a, buf, 9, 0), 1);
    // Another address goes around the partner.
    CHECK_EQ(send_path(a, "3", "c", 0), 1);
    CHECK_EQ(recv(c, buf, 9, 0), 1);
    CHECK_OK(unix_connect(a, "c"));
    CHECK_EQ(send(a, "4", 1, 0), 1);
    CHECK_EQ(recv(c, buf, 9, 0), 1);
    struct sockaddr_un address = {.sun_family = AF_UNSPEC};
    CHECK_OK(connect(a, (void *)&address, sizeof address));
    CHECK_ERR(send(a, "x", 1, 0), ENOTCONN);
    socklen_t len = sizeof address;
    CHECK_ERR(getpeername(a, (void *)&address, &len), ENOTCONN);
    CHECK_EQ(send_path(b, "5", "a", 0), 1);
    CHECK_OK(unix_connect(a, "b"));
    close(b);
    CHECK_ERR(send(a, "x", 1, 0), ECONNREFUSED);
    CHECK_ERR(send(a, "x", 1, 0), ENOTCONN);
    // A socket may talk to itself.
    CHECK_OK(unix_connect(c, "c"));
    CHECK_EQ(send(c, "me", 2, 0), 2);
    CHECK_EQ(recv(c, buf, 9, 0), 2);
}

TEST(partner_leaves) {
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    CHECK_EQ(send(pair[0], "unread", 6, 0), 6);
    close(pair[1]);
    CHECK_EQ(events(pair[0], POLLIN | POLLOUT), POLLIN | POLLOUT);
    CHECK_EQ(recv(pair[0], buf, 9, 0), 1);
    CHECK_ERR(recv(pair[0], buf, 9, 0), EAGAIN);
    CHECK_ERR(send(pair[0], "x", 1, 0), ECONNREFUSED);
    int a = bound("a"), b = bound("b");
    MUST(unix_connect(a, "b"));
    MUST(unix_connect(b, "a"));
    CHECK_EQ(send(a, "unread", 6, 0), 6);
    // One that turns to another throws away what its partner sent, who hears of it.
    int c = bound("c");
    CHECK_OK(unix_connect(b, "c"));
    CHECK_EQ(pending_error(a), ECONNRESET);
    CHECK_ERR(recv(b, buf, 9, MSG_DONTWAIT), EAGAIN);
    CHECK_ERR(send(a, "x", 1, 0), EPERM);
    close(b);
    CHECK_EQ(pending_error(a), 0);
    CHECK_ERR(send(a, "x", 1, 0), ECONNREFUSED);
    close(c);
}

TEST(full_queue) {
    int b = bound("b"), a = MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    MUST(unix_connect(a, "b"));
    int sent = 0;
    while (send(a, "x", 1, 0) == 1)
        sent++;
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(sent, 11);
    CHECK_EQ(events(a, POLLOUT), 0);
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event = {EPOLLOUT | EPOLLET, {0}};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, a, &event));
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    while (recv(b, buf, 9, MSG_DONTWAIT) == 1)
        ;
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
    CHECK_EQ(event.events, EPOLLOUT);
    CHECK_EQ(events(a, POLLOUT), POLLOUT);
    // Partners of each other are not kept from sending by the length of the queue.
    int pair[2], count = 0;
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
    while (send(pair[0], "x", 1, 0) == 1)
        count++;
    CHECK_EQ(errno, EAGAIN);
    CHECK_CMP(count, >, 100);
    // One who waits with an address waits as well.
    for (int i = 0; i < 11; i++)
        send(a, "x", 1, 0);
    pid_t child = MUST(fork());
    if (child == 0) {
        int c = socket(AF_UNIX, SOCK_DGRAM, 0);
        CHECK_EQ(send_path(c, "late", "b", 0), 4);
        _exit(0);
    }
    sleep_ms(50);
    for (int i = 0; i < 11; i++)
        CHECK_EQ(recv(b, buf, 9, 0), 1);
    CHECK_EQ(recv(b, buf, 9, 0), 4);
    waitpid(child, NULL, 0);
}

TEST(sizes) {
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
    CHECK_OK(set_number(pair[0], SOL_SOCKET, SO_SNDBUF, 20000));
    CHECK_EQ(number_option(pair[0], SOL_SOCKET, SO_SNDBUF), 40000);
    CHECK_ERR(send(pair[0], buf, 40000, 0), EMSGSIZE);
    CHECK_EQ(send(pair[0], buf, 30000, 0), 30000);
    CHECK_EQ(recv(pair[1], buf, sizeof buf, 0), 30000);
    // Small messages fill the sender's buffer too.
    int sent = 0;
    while (send(pair[0], buf, 15000, 0) > 0)
        sent++;
    CHECK_CMP(sent, <=, 3);
}

TEST(waiting_receiver_and_shutdown) {
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    pid_t child = MUST(fork());
    if (child == 0) {
        CHECK_EQ(recv(pair[0], buf, 9, 0), 0);
        _exit(0);
    }
    sleep_ms(50);
    CHECK_OK(shutdown(pair[0], SHUT_RD));
    int status;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(events(pair[0], POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
    CHECK_ERR(send(pair[1], "x", 1, 0), EPIPE);
}

TEST(peek_offset) {
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_PEEK_OFF), -1);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PEEK_OFF, 2));
    send(pair[0], "abcdef", 6, 0);
    send(pair[0], "second", 6, 0);
    memset(buf, 0, 9);
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK_STR(buf, "cd");
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_PEEK_OFF), 4);
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK_STR(buf, "ef");
    // Past the first message comes the next.
    CHECK_EQ(recv(pair[1], buf, 4, MSG_PEEK), 4);
    CHECK_STR(buf, "seco");
    CHECK_EQ(recv(pair[1], buf, 9, 0), 6);
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_PEEK_OFF), 4);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PEEK_OFF, 1));
    send(pair[0], "abcdef", 6, 0);
    memset(buf, 0, 9);
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK_STR(buf, "bc");
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK_STR(buf, "de");
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_PEEK_OFF), 5);
    // Reading moves it back.
    CHECK_EQ(recv(pair[1], buf, 2, 0), 2);
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_PEEK_OFF), 3);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PEEK_OFF, -1));
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 4);
}
