// Urgent bytes (MSG_OOB) over stream sockets: AF_UNIX and TCP alike.
#include "sockets.h"

static int pair[2];
static char buf[64];

static void connected(int tcp) {
    if (tcp)
        tcp_pair(pair);
    else
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static int at_mark(void) {
    int mark = -1;
    CHECK_OK(ioctl(pair[1], SIOCATMARK, &mark));
    return mark;
}

static int readable(void) {
    int count = -1;
    CHECK_OK(ioctl(pair[1], FIONREAD, &count));
    return count;
}

static const char *text(int n) {
    buf[n < 0 ? 0 : n] = 0;
    return buf;
}

static void apart(int tcp) {
    connected(tcp);
    CHECK_EQ(at_mark(), 0);
    CHECK_ERR(recv(pair[1], buf, 1, MSG_OOB), EINVAL);
    CHECK_EQ(send(pair[0], "ab!", 3, MSG_OOB), 3);
    CHECK_EQ(send(pair[0], "cd", 2, 0), 2);
    CHECK_EQ(wait_for(pair[1], POLLPRI), POLLPRI);
    CHECK_EQ(events(pair[1], POLLIN | POLLPRI), POLLIN | POLLPRI);
    CHECK_EQ(at_mark(), 0);
    CHECK_EQ(recv(pair[1], buf, 9, MSG_PEEK), 2);
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "ab");
    CHECK_EQ(at_mark(), 1);
    CHECK_STR(text(recv(pair[1], buf, 9, MSG_OOB | MSG_PEEK)), "!");
    struct iovec iov = {buf, 9};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(pair[1], &message, MSG_OOB), 1);
    CHECK_EQ(message.msg_flags, MSG_OOB);
    CHECK_EQ(buf[0], '!');
    CHECK_ERR(recv(pair[1], buf, 9, MSG_OOB), EINVAL);
    CHECK_EQ(events(pair[1], POLLPRI), 0);
    CHECK_EQ(at_mark(), 1);
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "cd");
    CHECK_EQ(at_mark(), 0);
    CHECK_ERR(recv(pair[1], buf, 9, MSG_DONTWAIT), EAGAIN);
}

TEST(apart_unix) { apart(0); }
TEST(apart_tcp) { apart(1); }

static void lost(int tcp) {
    connected(tcp);
    // One that is passed over is gone.
    CHECK_EQ(send(pair[0], "a!", 2, MSG_OOB), 2);
    CHECK_EQ(send(pair[0], "b", 1, 0), 1);
    wait_for(pair[1], POLLPRI);
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "a");
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "b");
    CHECK_ERR(recv(pair[1], buf, 9, MSG_OOB), EINVAL);
    // A second one makes the first an ordinary byte.
    CHECK_EQ(send(pair[0], "x1", 2, MSG_OOB), 2);
    CHECK_EQ(send(pair[0], "2", 1, MSG_OOB), 1);
    sleep_ms(100);
    CHECK_STR(text(recv(pair[1], buf, 9, MSG_OOB)), "2");
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "x1");
    // But TCP loses one that would be read next.
    connected(tcp);
    CHECK_EQ(send(pair[0], "1", 1, MSG_OOB), 1);
    sleep_ms(100);
    CHECK_EQ(send(pair[0], "2", 1, MSG_OOB), 1);
    sleep_ms(100);
    CHECK_STR(text(recv(pair[1], buf, 9, MSG_OOB)), "2");
    if (tcp)
        CHECK_ERR(recv(pair[1], buf, 9, MSG_DONTWAIT), EAGAIN);
    else
        CHECK_STR(text(recv(pair[1], buf, 9, 0)), "1");
}

TEST(lost_unix) { lost(0); }
TEST(lost_tcp) { lost(1); }

static void in_line(int tcp) {
    connected(tcp);
    CHECK_OK(set_number(pair[1], SOL_SOCKET, SO_OOBINLINE, 1));
    CHECK_EQ(number_option(pair[1], SOL_SOCKET, SO_OOBINLINE), 1);
    CHECK_EQ(send(pair[0], "ab!", 3, MSG_OOB), 3);
    CHECK_EQ(send(pair[0], "cd", 2, 0), 2);
    wait_for(pair[1], POLLPRI);
    CHECK_EQ(readable(), 5);
    CHECK_ERR(recv(pair[1], buf, 9, MSG_OOB), EINVAL);
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "ab");
    CHECK_EQ(at_mark(), 1);
    CHECK_STR(text(recv(pair[1], buf, 9, 0)), "!cd");
    CHECK_EQ(at_mark(), 0);
}

TEST(in_line_unix) { in_line(0); }
TEST(in_line_tcp) { in_line(1); }

TEST(counted) {
    connected(1);
    CHECK_EQ(send(pair[0], "ab!", 3, MSG_OOB), 3);
    CHECK_EQ(send(pair[0], "cd", 2, 0), 2);
    wait_for(pair[1], POLLPRI);
    sleep_ms(100);
    CHECK_EQ(readable(), 2);
    CHECK_EQ(recv(pair[1], buf, 2, 0), 2);
    CHECK_EQ(readable(), 0);
    CHECK_EQ(events(pair[1], POLLIN), POLLIN);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 2);
    connected(0);
    CHECK_EQ(send(pair[0], "ab!", 3, MSG_OOB), 3);
    CHECK_EQ(send(pair[0], "cd", 2, 0), 2);
    CHECK_EQ(readable(), 5);
    CHECK_EQ(recv(pair[1], buf, 1, MSG_OOB), 1);
    CHECK_EQ(readable(), 4);
    CHECK_ERR(send(pair[0], "", 0, MSG_OOB), EOPNOTSUPP);
}

static void signalled(int tcp) {
    connected(tcp);
    catch_signal(SIGURG);
    signals_seen = 0;
    CHECK_EQ(send(pair[0], "!", 1, MSG_OOB), 1);
    sleep_ms(100);
    CHECK_EQ(signals_seen, 0);
    CHECK_OK(fcntl(pair[1], F_SETOWN, getpid()));
    CHECK_EQ(send(pair[0], "!", 1, MSG_OOB), 1);
    for (int i = 0; i < 1000 && !signals_seen; i++)
        sleep_ms(10);
    CHECK_EQ(signals_seen, 1);
    CHECK_EQ(send(pair[0], "x", 1, 0), 1);
    sleep_ms(100);
    CHECK_EQ(signals_seen, 1);
}

TEST(signalled_unix) { signalled(0); }
TEST(signalled_tcp) { signalled(1); }

static void with_select(int tcp) {
    connected(tcp);
    CHECK_EQ(send(pair[0], "!", 1, MSG_OOB), 1);
    wait_for(pair[1], POLLPRI);
    fd_set except;
    FD_ZERO(&except);
    FD_SET(pair[1], &except);
    struct timeval now = {0, 0};
    CHECK_EQ(select(pair[1] + 1, NULL, NULL, &except, &now), 1);
    CHECK_EQ(recv(pair[1], buf, 1, MSG_OOB), 1);
    FD_SET(pair[1], &except);
    CHECK_EQ(select(pair[1] + 1, NULL, NULL, &except, &now), 0);
    close(pair[0]);
    wait_for(pair[1], POLLRDHUP);
    CHECK_EQ(recv(pair[1], buf, 9, 0), 0);
}

TEST(with_select_unix) { with_select(0); }
TEST(with_select_tcp) { with_select(1); }
