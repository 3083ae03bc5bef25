// TCP over the loopback.
#include "sockets.h"

static int pair[2];
static char buf[4096];
static char block[1 << 20];

TEST(creation) {
    CHECK_OK(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
    CHECK_OK(socket(AF_INET6, SOCK_STREAM, 0));
    CHECK_ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    CHECK_ERR(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    CHECK_ERR(socket(AF_INET, SOCK_STREAM, 1000), EINVAL);
    CHECK_ERR(socket(AF_INET, SOCK_STREAM, -1), EINVAL);
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK_EQ(events(fd, POLLIN | POLLOUT), POLLOUT | POLLHUP);
    CHECK_ERR(recv(fd, buf, 1, 0), ENOTCONN);
    CHECK_ERR(send(fd, buf, 1, MSG_NOSIGNAL), EPIPE);
    CHECK_ERR(shutdown(fd, SHUT_RDWR), ENOTCONN);
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    CHECK_ERR(getpeername(fd, (void *)&address, &len), ENOTCONN);
    CHECK_OK(getsockname(fd, (void *)&address, &len));
    CHECK_EQ(address.sin_port, 0);
    CHECK_EQ(address.sin_addr.s_addr, 0);
}

TEST(binding) {
    int a = MUST(socket(AF_INET, SOCK_STREAM, 0)), b = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in address = v4("127.0.0.1", 0);
    CHECK_ERR(bind(a, (void *)&address, 8), EINVAL);
    CHECK_ERR(bind(a, (void *)&address, 200), EINVAL);
    CHECK_ERR(bind4(a, "192.0.2.99", 0), EADDRNOTAVAIL);
    address.sin_family = AF_INET6;
    CHECK_ERR(bind(a, (void *)&address, sizeof address), EAFNOSUPPORT);
    CHECK_OK(bind4(a, "127.0.0.1", 0));
    int port = local_port(a);
    CHECK_CMP(port, >=, 1024);
    CHECK_ERR(bind4(a, "127.0.0.1", 0), EINVAL);
    CHECK_ERR(bind4(b, "127.0.0.1", port), EADDRINUSE);
    CHECK_ERR(bind4(b, "0.0.0.0", port), EADDRINUSE);
    CHECK_OK(bind4(b, "127.0.0.2", port));
    // Both must agree to share, and none may listen.
    int c = MUST(socket(AF_INET, SOCK_STREAM, 0)), d = MUST(socket(AF_INET, SOCK_STREAM, 0));
    set_number(c, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK_ERR(bind4(c, "127.0.0.1", port), EADDRINUSE);
    CHECK_OK(bind4(c, "127.0.0.1", 0));
    port = local_port(c);
    set_number(d, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK_OK(bind4(d, "127.0.0.1", port));
    CHECK_OK(listen(c, 1));
    CHECK_ERR(listen(d, 1), EADDRINUSE);
    int e = MUST(socket(AF_INET, SOCK_STREAM, 0));
    set_number(e, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK_ERR(bind4(e, "127.0.0.1", port), EADDRINUSE);
    if (getuid() == 0)
        CHECK_CHILD({
            MUST(setuid(1000));
            CHECK_ERR(bind4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", 80), EACCES);
        });
}

TEST(reuse_port) {
    int a = MUST(socket(AF_INET, SOCK_STREAM, 0)), b = MUST(socket(AF_INET, SOCK_STREAM, 0));
    set_number(a, SOL_SOCKET, SO_REUSEPORT, 1);
    MUST(bind4(a, "127.0.0.1", 0));
    MUST(listen(a, 16));
    CHECK_ERR(bind4(b, "127.0.0.1", local_port(a)), EADDRINUSE);
    set_number(b, SOL_SOCKET, SO_REUSEPORT, 1);
    CHECK_OK(bind4(b, "127.0.0.1", local_port(a)));
    CHECK_OK(listen(b, 16));
    for (int i = 0; i < 16; i++) {
        int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
        CHECK_OK(connect4(fd, "127.0.0.1", local_port(a)));
    }
    nonblocking(a);
    nonblocking(b);
    int first = 0, second = 0;
    // The last part of a handshake may come a little late.
    for (int tries = 0; tries < 500 && first + second < 16; tries++) {
        while (accept(a, NULL, NULL) >= 0)
            first++;
        while (accept(b, NULL, NULL) >= 0)
            second++;
        sleep_ms(5);
    }
    CHECK_EQ(first + second, 16);
}

TEST(connecting) {
    int port, listener = tcp_listener(&port, 4), fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_EQ(events(listener, POLLIN | POLLOUT), 0);
    CHECK_OK(connect4(fd, "127.0.0.1", port));
    CHECK_ERR(connect4(fd, "127.0.0.1", port), EISCONN);
    CHECK_EQ(wait_for(listener, POLLIN), POLLIN);
    struct sockaddr_in peer, own;
    socklen_t len = sizeof peer;
    int accepted = CHECK_OK(accept4(listener, (void *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC));
    CHECK_EQ(len, sizeof peer);
    CHECK_EQ(fcntl(accepted, F_GETFL), O_RDWR | O_NONBLOCK);
    CHECK_EQ(fcntl(accepted, F_GETFD), FD_CLOEXEC);
    CHECK_OK(getsockname(fd, (void *)&own, &len));
    CHECK(!memcmp(&own, &peer, sizeof own));
    CHECK_ERR(accept4(listener, NULL, NULL, 1), EINVAL);
    CHECK_ERR(accept(fd, NULL, NULL), EINVAL);
    CHECK_ERR(listen(fd, 1), EINVAL);
    CHECK_ERR(connect4(listener, "127.0.0.1", port), EISCONN);
    CHECK_ERR(recv(listener, buf, 1, 0), ENOTCONN);
    nonblocking(listener);
    CHECK_ERR(accept(listener, NULL, NULL), EAGAIN);
    CHECK_EQ(number_option(listener, SOL_SOCKET, SO_ACCEPTCONN), 1);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    len = 3;
    memset(&peer, 0xff, sizeof peer);
    CHECK_OK(getpeername(fd, (void *)&peer, &len));
    CHECK_EQ(len, 16);
    CHECK_EQ(((unsigned char *)&peer)[3], 0xff);
    // AF_UNSPEC ends a connection with a reset.
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    CHECK_OK(connect(fd, &none, sizeof none));
    CHECK_EQ(wait_for(accepted, POLLIN), POLLIN | POLLERR | POLLHUP);
    CHECK_ERR(recv(accepted, buf, 1, 0), ECONNRESET);
    CHECK_EQ(recv(accepted, buf, 1, 0), 0);
    CHECK_ERR(getpeername(fd, (void *)&peer, &len), ENOTCONN);
    CHECK_OK(connect4(fd, "127.0.0.1", port));
}

TEST(refused) {
    int port, listener = tcp_listener(&port, 4), fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    close(listener);
    CHECK_ERR(connect4(fd, "127.0.0.1", port), ECONNREFUSED);
    CHECK_EQ(pending_error(fd), 0);
    CHECK_ERR(connect4(fd, "127.0.0.1", port), ECONNREFUSED);
    nonblocking(fd);
    CHECK_ERR(connect4(fd, "127.0.0.1", port), EINPROGRESS);
    CHECK_EQ(wait_for(fd, POLLOUT), POLLOUT | POLLERR | POLLHUP);
    CHECK_EQ(pending_error(fd), ECONNREFUSED);
    CHECK_EQ(pending_error(fd), 0);
    fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CHECK_ERR(connect4(fd, "127.0.0.1", port), EINPROGRESS);
    wait_for(fd, POLLOUT);
    // The second connect tells the first one's end.
    CHECK_ERR(connect4(fd, "127.0.0.1", port), ECONNREFUSED);
    CHECK_ERR(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(connect4(fd, "127.255.255.255", port), ENETUNREACH);
    CHECK_ERR(connect4(fd, "224.0.0.1", port), ENETUNREACH);
    struct sockaddr_in address = v4("127.0.0.1", port);
    CHECK_ERR(connect(fd, (void *)&address, 8), EINVAL);
    address.sin_family = AF_UNIX;
    CHECK_ERR(connect(fd, (void *)&address, sizeof address), EAFNOSUPPORT);
}

TEST(in_progress) {
    int port, listener = tcp_listener(&port, 4), fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CHECK_ERR(connect4(fd, "127.0.0.1", port), EINPROGRESS);
    CHECK_EQ(wait_for(fd, POLLOUT), POLLOUT);
    CHECK_EQ(pending_error(fd), 0);
    CHECK_OK(connect4(fd, "127.0.0.1", port));
    CHECK_ERR(connect4(fd, "127.0.0.1", port), EISCONN);
    // A full listener keeps others waiting.
    close(listener);
    listener = tcp_listener(&port, 0);
    int clients[4], waiting = -1;
    for (int i = 0; i < 4; i++) {
        clients[i] = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        CHECK_ERR(connect4(clients[i], "127.0.0.1", port), EINPROGRESS);
        sleep_ms(10);
        if (!(events(clients[i], POLLOUT) & POLLOUT))
            waiting = clients[i];
    }
    CHECK_CMP(waiting, >=, 0);
    CHECK_ERR(connect4(waiting, "127.0.0.1", port), EALREADY);
    CHECK_ERR(send(waiting, "x", 1, MSG_NOSIGNAL), EAGAIN);
    CHECK_ERR(recv(waiting, buf, 1, 0), EAGAIN);
    // Giving up is possible.
    CHECK_OK(shutdown(waiting, SHUT_RDWR));
    CHECK_EQ(events(waiting, POLLOUT) & POLLHUP, POLLHUP);
}

TEST(half_close) {
    tcp_pair(pair);
    CHECK_EQ(write(pair[0], "abc", 3), 3);
    CHECK_OK(shutdown(pair[0], SHUT_WR));
    CHECK_EQ(wait_for(pair[1], POLLRDHUP), POLLRDHUP);
    CHECK_EQ(events(pair[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    CHECK_EQ(events(pair[0], POLLIN | POLLOUT | POLLRDHUP), POLLOUT);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(IN_CHILD({ write(pair[0], "x", 1); }), SIGPIPE);
    CHECK_EQ(recv(pair[1], buf, 9, MSG_WAITALL), 3);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 0);
    CHECK_EQ(write(pair[1], "back", 4), 4);
    CHECK_EQ(read(pair[0], buf, 9), 4);
    close(pair[1]);
    CHECK_EQ(wait_for(pair[0], POLLHUP), POLLHUP);
    CHECK_EQ(events(pair[0], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    CHECK_EQ(read(pair[0], buf, 9), 0);
    CHECK_EQ(pending_error(pair[0]), 0);
    CHECK_ERR(shutdown(pair[0], SHUT_WR), ENOTCONN);
    // Reading may end at one side alone, which the other does not see.
    tcp_pair(pair);
    CHECK_OK(shutdown(pair[0], SHUT_RD));
    CHECK_EQ(events(pair[0], POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
    CHECK_EQ(read(pair[0], buf, 9), 0);
    CHECK_EQ(write(pair[1], "late", 4), 4);
    for (int tries = 0; tries < 500 && recv(pair[0], buf, 9, MSG_PEEK) == 0; tries++)
        sleep_ms(5);
    CHECK_EQ(read(pair[0], buf, 9), 4);
    CHECK_EQ(read(pair[0], buf, 9), 0);
    CHECK_ERR(shutdown(pair[0], 7), EINVAL);
}

TEST(resets) {
    // A peer that closes with unread data resets.
    tcp_pair(pair);
    CHECK_EQ(write(pair[0], "unread", 6), 6);
    CHECK_EQ(wait_for(pair[1], POLLIN), POLLIN);
    close(pair[1]);
    CHECK_EQ(wait_for(pair[0], POLLIN), POLLIN | POLLERR | POLLHUP);
    CHECK_ERR(read(pair[0], buf, 1), ECONNRESET);
    CHECK_EQ(read(pair[0], buf, 1), 0);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    // Writing to one that is gone: first a reset, then a broken pipe.
    tcp_pair(pair);
    close(pair[1]);
    wait_for(pair[0], POLLRDHUP);
    CHECK_EQ(send(pair[0], "x", 1, MSG_NOSIGNAL), 1);
    CHECK_EQ(wait_for(pair[0], POLLHUP) & (POLLHUP | POLLERR), POLLHUP | POLLERR);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(read(pair[0], buf, 1), 0);
    // A linger of nothing resets.
    tcp_pair(pair);
    struct linger linger = {1, 0};
    socklen_t len = sizeof linger;
    CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    linger.l_onoff = 0;
    CHECK_OK(getsockopt(pair[1], SOL_SOCKET, SO_LINGER, &linger, &len));
    CHECK_EQ(linger.l_onoff, 1);
    CHECK_EQ(write(pair[1], "sent", 4), 4);
    wait_for(pair[0], POLLIN);
    close(pair[1]);
    CHECK_EQ(wait_for(pair[0], POLLHUP) & POLLHUP, POLLHUP);
    CHECK_EQ(pending_error(pair[0]), ECONNRESET);
    // A write that waits is ended by it.
    tcp_pair(pair);
    pid_t child = MUST(fork());
    if (child == 0) {
        close(pair[1]);
        signal(SIGPIPE, SIG_IGN);
        CHECK_CMP(write(pair[0], block, sizeof block), >, 0);
        long n;
        while ((n = write(pair[0], block, sizeof block)) > 0)
            ;
        CHECK_EQ(n, -1);
        CHECK(errno == ECONNRESET || errno == EPIPE);
        _exit(0);
    }
    until_asleep(child);
    close(pair[0]);
    close(pair[1]);
    int status;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    // Connections that were never accepted are reset with their listener.
    int port, listener = tcp_listener(&port, 4), fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect4(fd, "127.0.0.1", port));
    close(listener);
    CHECK_EQ(wait_for(fd, POLLIN), POLLIN | POLLERR | POLLHUP);
    CHECK_ERR(read(fd, buf, 1), ECONNRESET);
}

static int option_linger(int fd, int seconds) {
    struct linger linger = {1, seconds};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

TEST(lingering) {
    // With data that nobody reads a close takes as long as it may.
    tcp_pair(pair);
    set_number(pair[1], SOL_SOCKET, SO_RCVBUF, 4096);
    CHECK_OK(option_linger(pair[0], 1));
    nonblocking(pair[0]);
    while (write(pair[0], block, sizeof block) > 0)
        sleep_ms(5);
    long start = milliseconds();
    CHECK_OK(close(pair[0]));
    CHECK_CMP(milliseconds() - start, >=, 900);
    CHECK_CMP(milliseconds() - start, <, 10000);
    // Without any it does not wait for the time to pass.
    tcp_pair(pair);
    CHECK_OK(option_linger(pair[0], 15));
    CHECK_EQ(write(pair[0], "x", 1), 1);
    pid_t child = MUST(fork());
    if (child == 0) {
        close(pair[0]);
        while (read(pair[1], buf, 9) > 0)
            ;
        _exit(0);
    }
    close(pair[1]);
    start = milliseconds();
    CHECK_OK(close(pair[0]));
    CHECK_CMP(milliseconds() - start, <, 10000);
    waitpid(child, NULL, 0);
}

// The state of the socket with this local port and inode or owner, as /proc/net/tcp tells it; -1 if it is not listed.
static int listed_state(int port, int remote) {
    FILE *file = fopen("/proc/net/tcp", "r");
    char line[512];
    int found = -1;
    fgets(line, sizeof line, file);
    while (fgets(line, sizeof line, file)) {
        unsigned address, local, other, foreign, state;
        if (sscanf(line, " %*d: %x:%x %x:%x %x", &address, &local, &other, &foreign, &state) == 5 && (int)local == port &&
            (remote < 0 || (int)foreign == remote))
            found = state;
    }
    fclose(file);
    return found;
}

// Waits for a state, as what is sent over the loopback may arrive a little late; gives the one it was in at last.
static int state_becomes(int port, int remote, int state) {
    for (int tries = 0; tries < 500 && listed_state(port, remote) != state; tries++)
        sleep_ms(5);
    return listed_state(port, remote);
}
#define CHECK_STATE(port, remote, state) CHECK_EQ(state_becomes(port, remote, state), state)

TEST(time_wait) {
    int port, listener = tcp_listener(&port, 4), fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_EQ(listed_state(port, 0), TCP_LISTEN);
    MUST(connect4(fd, "127.0.0.1", port));
    int accepted = MUST(accept(listener, NULL, NULL)), client = local_port(fd);
    CHECK_STATE(client, port, TCP_ESTABLISHED);
    CHECK_STATE(port, client, TCP_ESTABLISHED);
    CHECK_OK(shutdown(accepted, SHUT_WR));
    wait_for(fd, POLLRDHUP);
    CHECK_STATE(port, client, TCP_FIN_WAIT2);
    CHECK_STATE(client, port, TCP_CLOSE_WAIT);
    close(accepted);
    sleep_ms(20);
    CHECK_STATE(port, client, TCP_FIN_WAIT2);
    close(fd);
    // Who ended first keeps the port for a while.
    CHECK_STATE(port, client, TCP_TIME_WAIT);
    CHECK_STATE(client, port, -1);
    close(listener);
    fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(bind4(fd, "127.0.0.1", port), EADDRINUSE);
    // Those who share are not kept from it, if the one before shared as well.
    listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    set_number(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    MUST(bind4(listener, "127.0.0.1", 0));
    MUST(listen(listener, 1));
    port = local_port(listener);
    MUST(connect4(fd, "127.0.0.1", port));
    accepted = MUST(accept(listener, NULL, NULL));
    client = local_port(fd);
    close(accepted);
    wait_for(fd, POLLRDHUP);
    close(fd);
    close(listener);
    CHECK_STATE(port, client, TCP_TIME_WAIT);
    fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(bind4(fd, "127.0.0.1", port), EADDRINUSE);
    set_number(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK_OK(bind4(fd, "127.0.0.1", port));
    CHECK_OK(listen(fd, 1));
    // A reset leaves nothing behind.
    tcp_pair(pair);
    client = local_port(pair[0]);
    option_linger(pair[0], 0);
    close(pair[0]);
    CHECK_STATE(client, -1, -1);
    fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(bind4(fd, "127.0.0.1", client));
}

TEST(deferred_accept) {
    int port, listener = tcp_listener(&port, 4);
    CHECK_OK(set_number(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5));
    CHECK_EQ(number_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT), 7);
    nonblocking(listener);
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(connect4(fd, "127.0.0.1", port));
    sleep_ms(50);
    CHECK_EQ(events(listener, POLLIN), 0);
    CHECK_ERR(accept(listener, NULL, NULL), EAGAIN);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(wait_for(listener, POLLIN), POLLIN);
    int accepted = CHECK_OK(accept(listener, NULL, NULL));
    CHECK_EQ(read(accepted, buf, 9), 1);
    CHECK_OK(set_number(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0));
    CHECK_EQ(number_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT), 0);
}

TEST(flags) {
    tcp_pair(pair);
    CHECK_ERR(recv(pair[1], buf, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(write(pair[0], "hello", 5), 5);
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK_EQ(recv(pair[1], buf, 5, MSG_PEEK | MSG_WAITALL), 5);
    // Truncation throws bytes away without copying.
    CHECK_EQ(recv(pair[1], NULL, 2, MSG_TRUNC), 2);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 3);
    CHECK(!memcmp(buf, "llo", 3));
    CHECK_ERR(recv(pair[1], buf, 1, MSG_ERRQUEUE), EAGAIN);
    CHECK_EQ(send(pair[0], "a", 1, MSG_MORE), 1);
    CHECK_EQ(send(pair[0], "b", 1, 0), 1);
    CHECK_EQ(recv(pair[1], buf, 2, MSG_WAITALL), 2);
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    CHECK_EQ(write(pair[0], "x", 1), 1);
    CHECK_EQ(recvfrom(pair[1], buf, 9, 0, (void *)&address, &len), 1);
    CHECK_EQ(len, 0);
    // An address means nothing to a connected stream.
    address = v4("127.0.0.1", 1);
    CHECK_EQ(sendto(pair[0], "y", 1, 0, (void *)&address, sizeof address), 1);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 1);
    CHECK_ERR(send(pair[0], BAD, 1, 0), EFAULT);
    CHECK_EQ(write(pair[0], "z", 1), 1);
    CHECK_ERR(recv(pair[1], BAD, 1, 0), EFAULT);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 1);
    int queued;
    CHECK_OK(ioctl(pair[1], FIONREAD, &queued));
    CHECK_EQ(queued, 0);
    // What was read is acknowledged, perhaps a little late.
    for (int tries = 0; tries < 500; tries++, sleep_ms(5)) {
        CHECK_OK(ioctl(pair[0], TIOCOUTQ, &queued));
        if (queued == 0)
            break;
    }
    CHECK_EQ(queued, 0);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_PEEK_OFF, 1));
    CHECK_EQ(write(pair[0], "abcd", 4), 4);
    wait_for(pair[1], POLLIN);
    CHECK_EQ(recv(pair[1], buf, 2, MSG_PEEK), 2);
    CHECK(!memcmp(buf, "bc", 2));
}

TEST(large) {
    tcp_pair(pair);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i * 13 + i / 1000;
    pid_t child = MUST(fork());
    if (child == 0) {
        close(pair[1]);
        for (int i = 0; i < 8; i++)
            CHECK_EQ(write(pair[0], block, sizeof block), sizeof block);
        _exit(0);
    }
    close(pair[0]);
    static char back[sizeof block];
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(recv(pair[1], back, sizeof back, MSG_WAITALL), sizeof back);
        CHECK(!memcmp(back, block, sizeof block));
    }
    CHECK_EQ(read(pair[1], back, 1), 0);
    waitpid(child, NULL, 0);
}

TEST(full_and_timeouts) {
    tcp_pair(pair);
    struct timeval time = {0, 60000};
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    long start = milliseconds();
    CHECK_ERR(read(pair[0], buf, 1), EAGAIN);
    CHECK_CMP(milliseconds() - start, >=, 59);
    long n, total = 0;
    while ((n = write(pair[0], block, sizeof block)) > 0)
        total += n;
    CHECK_EQ(errno, EAGAIN);
    CHECK_CMP(total, >, 100000);
    CHECK_EQ(events(pair[0], POLLOUT), 0);
    int queued;
    CHECK_OK(ioctl(pair[0], TIOCOUTQ, &queued));
    CHECK_CMP(queued, >, 0);
    while (total > 0 && (n = read(pair[1], block, sizeof block)) > 0)
        total -= n;
    CHECK_EQ(total, 0);
    CHECK_EQ(wait_for(pair[0], POLLOUT), POLLOUT);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_RCVLOWAT, 3));
    write(pair[0], "a", 1);
    sleep_ms(20);
    CHECK_EQ(events(pair[1], POLLIN), 0);
    pid_t child = MUST(fork());
    if (child == 0) {
        sleep_ms(50);
        write(pair[0], "bcd", 3);
        _exit(0);
    }
    CHECK_CMP(read(pair[1], buf, 100), >=, 3);
    waitpid(child, NULL, 0);
}

TEST(options) {
    tcp_pair(pair);
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_OK(set_number(pair[0], IPPROTO_TCP, TCP_NODELAY, 5));
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_NODELAY), 1);
    CHECK_ERR(setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, buf, 3), EINVAL);
    CHECK_ERR(set_number(pair[0], IPPROTO_TCP, 200, 1), ENOPROTOOPT);
    CHECK_ERR(set_number(pair[0], 200, 1, 1), ENOPROTOOPT);
    CHECK_OK(set_number(pair[0], SOL_SOCKET, SO_KEEPALIVE, 1));
    CHECK_EQ(number_option(pair[0], SOL_SOCKET, SO_KEEPALIVE), 1);
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_KEEPIDLE), 7200);
    CHECK_OK(set_number(pair[0], IPPROTO_TCP, TCP_KEEPIDLE, 10));
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_KEEPIDLE), 10);
    CHECK_ERR(set_number(pair[0], IPPROTO_TCP, TCP_KEEPIDLE, 0), EINVAL);
    CHECK_ERR(set_number(pair[0], IPPROTO_TCP, TCP_KEEPCNT, 128), EINVAL);
    CHECK_OK(set_number(pair[0], IPPROTO_TCP, TCP_USER_TIMEOUT, 5000));
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_USER_TIMEOUT), 5000);
    CHECK_ERR(set_number(pair[0], IPPROTO_TCP, TCP_USER_TIMEOUT, -1), EINVAL);
    CHECK_OK(set_number(pair[0], IPPROTO_IP, IP_TOS, 0x10));
    CHECK_EQ(number_option(pair[0], IPPROTO_IP, IP_TOS), 0x10);
    CHECK_OK(set_number(pair[0], IPPROTO_IP, IP_TTL, 33));
    CHECK_EQ(number_option(pair[0], IPPROTO_IP, IP_TTL), 33);
    CHECK_ERR(set_number(pair[0], IPPROTO_IP, IP_TTL, 300), EINVAL);
    CHECK_ERR(setsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, BAD, 4), EFAULT);
    int value;
    socklen_t len = sizeof value;
    CHECK_ERR(getsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, BAD, &len), EFAULT);
    len = 2;
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, &value, &len));
    CHECK_EQ(len, 2);
    len = -1;
    CHECK_ERR(getsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, &value, &len), EINVAL);
    CHECK_OK(set_number(pair[0], IPPROTO_TCP, TCP_LINGER2, 500));
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_LINGER2), 120);
    CHECK_OK(set_number(pair[0], IPPROTO_TCP, TCP_LINGER2, -5));
    CHECK_EQ(number_option(pair[0], IPPROTO_TCP, TCP_LINGER2), -1);
    struct tcp_info info;
    len = sizeof info;
    CHECK_OK(getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, &info, &len));
    CHECK_EQ(info.tcpi_state, TCP_ESTABLISHED);
    CHECK_CMP(info.tcpi_snd_mss, >, 500);
    close(pair[1]);
    wait_for(pair[0], POLLRDHUP);
    len = sizeof info;
    CHECK_OK(getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, &info, &len));
    CHECK_EQ(info.tcpi_state, TCP_CLOSE_WAIT);
    // What a listener was told its connections have from the start.
    int port, listener = tcp_listener(&port, 1);
    set_number(listener, IPPROTO_TCP, TCP_NODELAY, 1);
    set_number(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect4(fd, "127.0.0.1", port));
    fd = MUST(accept(listener, NULL, NULL));
    CHECK_EQ(number_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    char name[16] = "";
    len = sizeof name;
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
    CHECK_EQ(len, 3);
    CHECK_STR(name, "lo");
    CHECK_ERR(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "nothere", 8), ENODEV);
}

static int connect6(int fd, const char *ip, int port) {
    struct sockaddr_in6 address = v6(ip, port);
    return connect(fd, (void *)&address, sizeof address);
}

TEST(both_families) {
    int listener = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    struct sockaddr_in6 address = v6("::", 0), peer;
    socklen_t len = sizeof peer;
    CHECK_EQ(number_option(listener, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 4));
    int port = local_port(listener), fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(set_number(listener, IPPROTO_IPV6, IPV6_V6ONLY, 1), EINVAL);
    CHECK_ERR(bind4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "0.0.0.0", port), EADDRINUSE);
    CHECK_OK(connect4(fd, "127.0.0.1", port));
    CHECK_OK(accept(listener, (void *)&peer, &len));
    CHECK_EQ(len, sizeof peer);
    CHECK(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    fd = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    CHECK_OK(connect6(fd, "::1", port));
    CHECK_OK(accept(listener, (void *)&peer, &len));
    CHECK(IN6_IS_ADDR_LOOPBACK(&peer.sin6_addr));
    fd = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    CHECK_OK(connect6(fd, "::ffff:127.0.0.1", port));
    // One for IPv6 alone leaves the other family to others.
    int only = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    CHECK_OK(set_number(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    MUST(bind(only, (void *)&address, sizeof address));
    MUST(listen(only, 4));
    port = local_port(only);
    CHECK_ERR(connect4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", port), ECONNREFUSED);
    CHECK_OK(bind4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "0.0.0.0", port));
    CHECK_ERR(connect6(only, "::ffff:127.0.0.1", port), EISCONN);
    fd = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    set_number(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    CHECK_ERR(connect6(fd, "::ffff:127.0.0.1", port), ENETUNREACH);
}

TEST(self_connection) {
    // A socket that connects to its own address is its own peer.
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind4(fd, "127.0.0.1", 0));
    CHECK_OK(connect4(fd, "127.0.0.1", local_port(fd)));
    CHECK_EQ(write(fd, "me", 2), 2);
    CHECK_EQ(recv(fd, buf, 2, MSG_WAITALL), 2);
    CHECK_EQ(events(fd, POLLIN | POLLOUT), POLLOUT);
    CHECK_OK(shutdown(fd, SHUT_WR));
    CHECK_EQ(recv(fd, buf, 2, 0), 0);
}

static void *accept_one(void *listener) { return (void *)(long)accept((long)listener, NULL, NULL); }

TEST(listener_shutdown) {
    int port, listener = tcp_listener(&port, 4);
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, accept_one, (void *)(long)listener);
    sleep_ms(50);
    CHECK_OK(shutdown(listener, SHUT_RD));
    pthread_join(thread, &result);
    CHECK_EQ((long)result, -1);
    CHECK_ERR(accept(listener, NULL, NULL), EINVAL);
    CHECK_ERR(connect4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", port), ECONNREFUSED);
    CHECK_OK(listen(listener, 4));
    CHECK_OK(connect4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", local_port(listener)));
}

TEST(epoll_edges) {
    tcp_pair(pair);
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.fd = pair[1]}};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[1], &event));
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 1);
    CHECK_EQ(event.events, EPOLLOUT);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 20), 0);
    write(pair[0], "a", 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
    CHECK_EQ(event.events, EPOLLIN | EPOLLOUT);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 20), 0);
    // More data is news, though what came before was not read.
    write(pair[0], "b", 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
    CHECK_EQ(event.events, EPOLLIN | EPOLLOUT);
    shutdown(pair[0], SHUT_WR);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
    CHECK_EQ(event.events, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    close(pair[0]);
    shutdown(pair[1], SHUT_WR);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
    CHECK_EQ(event.events, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    int port, listener = tcp_listener(&port, 4);
    event = (struct epoll_event){EPOLLIN | EPOLLET, {.fd = listener}};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event));
    for (int i = 0; i < 2; i++) {
        MUST(connect4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", port));
        CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
        CHECK_EQ(event.data.fd, listener);
        CHECK_EQ(epoll_wait(epoll, &event, 1, 20), 0);
    }
}

TEST(parameters) {
    char line[64];
    if (getuid() != 0)
        SKIP("needs root");
    int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_RDWR);
    if (fd < 0)
        SKIP("no parameters to set");
    CHECK_EQ(write(fd, "5000 5003\n", 10), 10);
    for (int i = 0; i < 4; i++) {
        int socket_fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
        CHECK_OK(bind4(socket_fd, "127.0.0.1", 0));
        CHECK_CMP(local_port(socket_fd), >=, 5000);
        CHECK_CMP(local_port(socket_fd), <=, 5003);
    }
    CHECK_ERR(bind4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", 0), EADDRINUSE);
    CHECK_ERR(pwrite(fd, "5003 5000\n", 10, 0), EINVAL);
    int n = CHECK_OK(pread(fd, line, sizeof line - 1, 0));
    line[n] = 0;
    CHECK_STR(line, "5000\t5003\n");
    CHECK_EQ(pwrite(fd, "32768 60999\n", 12, 0), 12);
    fd = MUST(open("/proc/sys/net/ipv4/tcp_keepalive_time", O_WRONLY));
    CHECK_EQ(write(fd, "100\n", 4), 4);
    CHECK_EQ(number_option(MUST(socket(AF_INET, SOCK_STREAM, 0)), IPPROTO_TCP, TCP_KEEPIDLE), 100);
    CHECK_EQ(pwrite(fd, "7200\n", 5, 0), 5);
    fd = MUST(open("/proc/sys/net/ipv4/ip_default_ttl", O_WRONLY));
    CHECK_EQ(write(fd, "99\n", 3), 3);
    CHECK_EQ(number_option(MUST(socket(AF_INET, SOCK_DGRAM, 0)), IPPROTO_IP, IP_TTL), 99);
    CHECK_ERR(pwrite(fd, "0\n", 2, 0), EINVAL);
    CHECK_EQ(pwrite(fd, "64\n", 3, 0), 3);
    fd = MUST(open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY));
    CHECK_EQ(write(fd, "70\n", 3), 3);
    CHECK_CHILD({
        MUST(setuid(1000));
        CHECK_ERR(bind4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", 69), EACCES);
        CHECK_OK(bind4(MUST(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", 70));
        CHECK_ERR(open("/proc/sys/net/ipv4/ip_local_port_range", O_RDWR), EACCES);
    });
    CHECK_EQ(pwrite(fd, "1024\n", 5, 0), 5);
}
