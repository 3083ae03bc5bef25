// UDP over the loopback.
#include "sockets.h"
#include <linux/errqueue.h>
#include <netinet/udp.h>

static char buf[70000];

static int bound(int *port) {
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind4(fd, "127.0.0.1", 0));
    *port = local_port(fd);
    return fd;
}

static int send4(int fd, const char *text, const char *ip, int port) {
    struct sockaddr_in address = v4(ip, port);
    return sendto(fd, text, strlen(text), 0, (void *)&address, sizeof address);
}

TEST(messages) {
    int pa, pb, a = bound(&pa), b = bound(&pb);
    CHECK_EQ(send4(a, "one", "127.0.0.1", pb), 3);
    CHECK_EQ(send4(a, "", "127.0.0.1", pb), 0);
    CHECK_EQ(send4(a, "three", "127.0.0.1", pb), 5);
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int count;
    wait_for(b, POLLIN);
    CHECK_OK(ioctl(b, FIONREAD, &count));
    CHECK_EQ(count, 3);
    CHECK_EQ(recvfrom(b, buf, sizeof buf, 0, (void *)&from, &len), 3);
    CHECK_EQ(len, sizeof from);
    CHECK_EQ(ntohs(from.sin_port), pa);
    CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK_EQ(recv(b, buf, sizeof buf, 0), 0);
    CHECK_EQ(recv(b, buf, 2, MSG_PEEK | MSG_TRUNC), 5);
    struct iovec iov = {buf, 2};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(b, &message, 0), 2);
    CHECK_EQ(message.msg_flags, MSG_TRUNC);
    CHECK_ERR(recv(b, buf, 2, MSG_DONTWAIT), EAGAIN);
    // Nothing is urgent here, which Linux does not look for.
    CHECK_ERR(recv(b, buf, 2, MSG_OOB | MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(events(b, POLLIN | POLLOUT), POLLOUT);
    struct timeval time = {0, 50000};
    CHECK_OK(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    CHECK_ERR(recv(b, buf, 1, 0), EAGAIN);
    CHECK_OK(set_number(b, SOL_SOCKET, SO_PEEK_OFF, 1));
    CHECK_EQ(send4(a, "peeked", "127.0.0.1", pb), 6);
    memset(buf, 0, 9);
    CHECK_EQ(recv(b, buf, 3, MSG_PEEK), 3);
    CHECK_STR(buf, "eek");
    CHECK_EQ(number_option(b, SOL_SOCKET, SO_PEEK_OFF), 4);
}

TEST(errors) {
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_ERR(send(fd, "x", 1, 0), EDESTADDRREQ);
    CHECK_ERR(send4(fd, "x", "127.0.0.1", 0), EINVAL);
    CHECK_ERR(send4(fd, "x", "127.255.255.255", 9), EACCES);
    struct sockaddr_in address = v4("127.0.0.1", 9);
    CHECK_ERR(sendto(fd, "x", 1, 0, (void *)&address, 8), EINVAL);
    address.sin_family = AF_UNIX;
    CHECK_ERR(sendto(fd, "x", 1, 0, (void *)&address, sizeof address), EAFNOSUPPORT);
    address.sin_family = AF_INET;
    CHECK_ERR(sendto(fd, buf, 65508, 0, (void *)&address, sizeof address), EMSGSIZE);
    CHECK_ERR(sendto(fd, buf, 70000, 0, (void *)&address, sizeof address), EMSGSIZE);
    CHECK_ERR(listen(fd, 1), EOPNOTSUPP);
    CHECK_ERR(accept(fd, NULL, NULL), EOPNOTSUPP);
    CHECK_ERR(send(fd, "x", 1, MSG_OOB), EOPNOTSUPP);
    int port, big = bound(&port);
    address.sin_port = htons(port);
    CHECK_EQ(sendto(fd, buf, 65507, 0, (void *)&address, sizeof address), 65507);
    CHECK_EQ(recv(big, buf, sizeof buf, 0), 65507);
    CHECK_CMP(local_port(fd), >, 0);
    CHECK_ERR(bind4(fd, "127.0.0.1", 0), EINVAL);
    // Without a peer it fails, but has its effect.
    CHECK_ERR(shutdown(fd, SHUT_RDWR), ENOTCONN);
    CHECK_ERR(sendto(fd, "x", 1, 0, (void *)&address, sizeof address), EPIPE);
}

TEST(connecting) {
    int pa, pb, pc, a = bound(&pa), b = bound(&pb), c = bound(&pc);
    CHECK_OK(connect4(a, "127.0.0.1", pb));
    CHECK_EQ(send(a, "x", 1, 0), 1);
    CHECK_EQ(recv(b, buf, 9, 0), 1);
    // A connected socket hears its peer alone.
    CHECK_EQ(send4(c, "no", "127.0.0.1", pa), 2);
    CHECK_EQ(send4(b, "yes", "127.0.0.1", pa), 3);
    CHECK_EQ(recv(a, buf, 9, 0), 3);
    CHECK_ERR(recv(a, buf, 9, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(send4(a, "other", "127.0.0.1", pc), 5);
    CHECK_EQ(recv(c, buf, 9, 0), 5);
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    CHECK_OK(getpeername(a, (void *)&peer, &len));
    CHECK_EQ(ntohs(peer.sin_port), pb);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    CHECK_OK(connect(a, &none, sizeof none));
    CHECK_ERR(getpeername(a, (void *)&peer, &len), ENOTCONN);
    // The port was not asked for by number, and so goes with the connection.
    CHECK_EQ(local_port(a), 0);
    int fixed = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind4(fixed, "127.0.0.1", 20001));
    CHECK_OK(connect4(fixed, "127.0.0.1", pb));
    CHECK_OK(connect(fixed, &none, sizeof none));
    CHECK_EQ(local_port(fixed), 20001);
    CHECK_EQ(send4(c, "now", "127.0.0.1", 20001), 3);
    CHECK_EQ(recv(fixed, buf, 9, 0), 3);
    int d = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_OK(connect4(d, "127.0.0.1", pb));
    CHECK_OK(getsockname(d, (void *)&peer, &len));
    CHECK_EQ(peer.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK_OK(connect(d, &none, sizeof none));
    CHECK_OK(getsockname(d, (void *)&peer, &len));
    CHECK_EQ(peer.sin_addr.s_addr, 0);
    CHECK_EQ(peer.sin_port, 0);
    CHECK_OK(connect4(d, "127.0.0.1", pb));
    CHECK_OK(shutdown(d, SHUT_WR));
    int status = IN_CHILD({ CHECK_ERR(write(d, "x", 1), EPIPE); });
    CHECK_EQ(status, 0);
    CHECK_OK(shutdown(d, SHUT_RD));
    CHECK_EQ(recv(d, buf, 1, 0), 0);
    CHECK_EQ(events(d, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP | POLLHUP);
}

TEST(refused) {
    int port, fd = bound(&port);
    close(fd);
    fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    // Without a connection nobody tells.
    CHECK_EQ(send4(fd, "x", "127.0.0.1", port), 1);
    sleep_ms(10);
    CHECK_EQ(pending_error(fd), 0);
    CHECK_OK(connect4(fd, "127.0.0.1", port));
    CHECK_EQ(send(fd, "x", 1, 0), 1);
    CHECK_EQ(wait_for(fd, POLLIN), POLLERR);
    CHECK_ERR(recv(fd, buf, 1, 0), ECONNREFUSED);
    CHECK_ERR(recv(fd, buf, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(send(fd, "x", 1, 0), 1);
    wait_for(fd, POLLIN);
    CHECK_ERR(send(fd, "x", 1, 0), ECONNREFUSED);
    CHECK_EQ(send(fd, "x", 1, 0), 1);
    wait_for(fd, POLLIN);
    CHECK_EQ(pending_error(fd), ECONNREFUSED);
}

TEST(error_queue) {
    int port, fd = bound(&port);
    close(fd);
    fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_OK(set_number(fd, SOL_IP, IP_RECVERR, 1));
    struct sockaddr_in to = {0};
    char control[256];
    struct iovec iov = {buf, 100};
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    CHECK_ERR(recvmsg(fd, &message, MSG_ERRQUEUE), EAGAIN);
    CHECK_EQ(send4(fd, "lost", "127.0.0.1", port), 4);
    CHECK_EQ(wait_for(fd, POLLIN), POLLERR);
    CHECK_EQ(recvmsg(fd, &message, MSG_ERRQUEUE), 4);
    CHECK(!memcmp(buf, "lost", 4));
    CHECK_EQ(message.msg_flags, MSG_ERRQUEUE);
    CHECK_EQ(ntohs(to.sin_port), port);
    CHECK_EQ(to.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK_EQ(header->cmsg_level, SOL_IP);
    CHECK_EQ(header->cmsg_type, IP_RECVERR);
    struct sock_extended_err *error = (void *)CMSG_DATA(header);
    CHECK_EQ(error->ee_errno, ECONNREFUSED);
    CHECK_EQ(error->ee_origin, SO_EE_ORIGIN_ICMP);
    CHECK_EQ(error->ee_type, 3);
    CHECK_EQ(error->ee_code, 3);
    struct sockaddr_in *offender = (void *)SO_EE_OFFENDER(error);
    CHECK_EQ(offender->sin_family, AF_INET);
    CHECK_EQ(offender->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK_EQ(pending_error(fd), 0);
    CHECK_EQ(events(fd, POLLIN), 0);
    message.msg_controllen = sizeof control;
    CHECK_ERR(recvmsg(fd, &message, MSG_ERRQUEUE), EAGAIN);
    // The queue stays when the pending error is told.
    CHECK_EQ(send4(fd, "lost", "127.0.0.1", port), 4);
    wait_for(fd, POLLIN);
    CHECK_ERR(recv(fd, buf, 1, MSG_DONTWAIT), ECONNREFUSED);
    CHECK_EQ(events(fd, POLLIN), POLLERR);
    CHECK_EQ(recvmsg(fd, &message, MSG_ERRQUEUE), 4);
    CHECK_EQ(events(fd, POLLIN), 0);
    // Switching it off empties the queue.
    CHECK_EQ(send4(fd, "lost", "127.0.0.1", port), 4);
    wait_for(fd, POLLIN);
    CHECK_OK(set_number(fd, SOL_IP, IP_RECVERR, 0));
    CHECK_ERR(recvmsg(fd, &message, MSG_ERRQUEUE), EAGAIN);
    int six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    CHECK_OK(set_number(six, SOL_IPV6, IPV6_RECVERR, 1));
    struct sockaddr_in6 to6 = v6("::1", port);
    CHECK_EQ(sendto(six, "six", 3, 0, (void *)&to6, sizeof to6), 3);
    wait_for(six, POLLIN);
    message.msg_name = NULL;
    message.msg_controllen = sizeof control;
    CHECK_EQ(recvmsg(six, &message, MSG_ERRQUEUE), 3);
    header = CMSG_FIRSTHDR(&message);
    CHECK_EQ(header->cmsg_level, SOL_IPV6);
    CHECK_EQ(header->cmsg_type, IPV6_RECVERR);
    error = (void *)CMSG_DATA(header);
    CHECK_EQ(error->ee_origin, SO_EE_ORIGIN_ICMP6);
    CHECK_EQ(error->ee_type, 1);
    CHECK_EQ(error->ee_code, 4);
}

// Receives with control messages; gives the data of the one asked for.
static void *control_of(int fd, int level, int type) {
    static char control[512];
    struct iovec iov = {buf, 100};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK_OK(recvmsg(fd, &message, 0));
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == level && header->cmsg_type == type)
            return CMSG_DATA(header);
    CHECK_AT(0, "no control message %d/%d", level, type);
    return control;
}

static int send_control(int fd, int port, int level, int type, void *data, int len) {
    char control[128] = {0};
    struct sockaddr_in to = v4("127.0.0.1", port);
    struct iovec iov = {"c", 1};
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = CMSG_SPACE(len)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(header), data, len);
    return sendmsg(fd, &message, 0);
}

TEST(control) {
    int pa, pb, a = bound(&pa), b = bound(&pb), value = 0x20;
    CHECK_OK(set_number(b, SOL_IP, IP_PKTINFO, 1));
    CHECK_EQ(send4(a, "x", "127.0.0.1", pb), 1);
    struct in_pktinfo *info = control_of(b, SOL_IP, IP_PKTINFO);
    CHECK_EQ(info->ipi_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK_EQ(info->ipi_ifindex, 1);
    CHECK_OK(set_number(b, SOL_IP, IP_PKTINFO, 0));
    CHECK_OK(set_number(b, SOL_IP, IP_RECVTTL, 1));
    CHECK_EQ(send4(a, "x", "127.0.0.1", pb), 1);
    CHECK_EQ(*(int *)control_of(b, SOL_IP, IP_TTL), 64);
    CHECK_OK(set_number(a, SOL_IP, IP_TTL, 7));
    CHECK_EQ(send4(a, "x", "127.0.0.1", pb), 1);
    CHECK_EQ(*(int *)control_of(b, SOL_IP, IP_TTL), 7);
    CHECK_EQ(send_control(a, pb, SOL_IP, IP_TTL, &value, sizeof value), 1);
    CHECK_EQ(*(int *)control_of(b, SOL_IP, IP_TTL), 0x20);
    value = 0;
    CHECK_ERR(send_control(a, pb, SOL_IP, IP_TTL, &value, sizeof value), EINVAL);
    CHECK_OK(set_number(b, SOL_IP, IP_RECVTOS, 1));
    value = 0x10;
    CHECK_EQ(send_control(a, pb, SOL_IP, IP_TOS, &value, sizeof value), 1);
    CHECK_EQ(*(unsigned char *)control_of(b, SOL_IP, IP_TOS), 0x10);
    CHECK_ERR(send_control(a, pb, SOL_IP, 99, &value, sizeof value), EINVAL);
    CHECK_EQ(send_control(a, pb, SOL_TCP, 99, &value, sizeof value), 1);
    CHECK_EQ(recv(b, buf, 9, 0), 1);
    // Another source address of this machine.
    int any = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct in_pktinfo from = {.ipi_spec_dst = v4("127.0.0.9", 0).sin_addr};
    CHECK_EQ(send_control(any, pb, SOL_IP, IP_PKTINFO, &from, sizeof from), 1);
    struct sockaddr_in sender;
    socklen_t len = sizeof sender;
    CHECK_EQ(recvfrom(b, buf, 9, 0, (void *)&sender, &len), 1);
    CHECK_EQ(sender.sin_addr.s_addr, from.ipi_spec_dst.s_addr);
    // Times.
    CHECK_OK(set_number(b, SOL_SOCKET, SO_TIMESTAMP, 1));
    CHECK_EQ(number_option(b, SOL_SOCKET, SO_TIMESTAMP), 1);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK_EQ(send4(a, "x", "127.0.0.1", pb), 1);
    struct timeval *time = control_of(b, SOL_SOCKET, SCM_TIMESTAMP);
    CHECK_CMP(labs(time->tv_sec - now.tv_sec), <=, 2);
    CHECK_OK(set_number(b, SOL_SOCKET, SO_TIMESTAMPNS, 1));
    CHECK_EQ(number_option(b, SOL_SOCKET, SO_TIMESTAMP), 0);
    CHECK_EQ(send4(a, "x", "127.0.0.1", pb), 1);
    struct timespec *nano = control_of(b, SOL_SOCKET, SCM_TIMESTAMPNS);
    CHECK_CMP(labs(nano->tv_sec - now.tv_sec), <=, 2);
}

TEST(collected) {
    int pa, pb, a = bound(&pa), b = bound(&pb);
    CHECK_OK(connect4(a, "127.0.0.1", pb));
    CHECK_EQ(send(a, "ab", 2, MSG_MORE), 2);
    CHECK_ERR(recv(b, buf, 9, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(send(a, "cd", 2, 0), 2);
    CHECK_EQ(recv(b, buf, 9, 0), 4);
    CHECK_OK(set_number(a, SOL_UDP, UDP_CORK, 1));
    CHECK_EQ(send(a, "ab", 2, 0), 2);
    CHECK_EQ(send(a, "c", 1, 0), 1);
    CHECK_ERR(recv(b, buf, 9, MSG_DONTWAIT), EAGAIN);
    CHECK_OK(set_number(a, SOL_UDP, UDP_CORK, 0));
    CHECK_EQ(recv(b, buf, 9, 0), 3);
    CHECK_OK(set_number(a, SOL_UDP, UDP_SEGMENT, 3));
    CHECK_EQ(send(a, "abcdefgh", 8, 0), 8);
    CHECK_EQ(recv(b, buf, 9, 0), 3);
    CHECK_EQ(recv(b, buf, 9, 0), 3);
    CHECK_EQ(recv(b, buf, 9, 0), 2);
}

TEST(both_families) {
    int six = MUST(socket(AF_INET6, SOCK_DGRAM, 0)), four = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in6 address = v6("::", 0), from;
    socklen_t len = sizeof from;
    MUST(bind(six, (void *)&address, sizeof address));
    int port = local_port(six);
    CHECK_ERR(bind4(four, "127.0.0.1", port), EADDRINUSE);
    CHECK_EQ(send4(four, "x", "127.0.0.1", port), 1);
    CHECK_EQ(recvfrom(six, buf, 9, 0, (void *)&from, &len), 1);
    CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    CHECK_EQ(sendto(six, "back", 4, 0, (void *)&from, sizeof from), 4);
    CHECK_EQ(recv(four, buf, 9, 0), 4);
    CHECK_OK(set_number(six, SOL_IPV6, IPV6_RECVPKTINFO, 1));
    address = v6("::1", port);
    int other = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    CHECK_EQ(sendto(other, "x", 1, 0, (void *)&address, sizeof address), 1);
    struct in6_pktinfo *info = control_of(six, SOL_IPV6, IPV6_PKTINFO);
    CHECK(IN6_IS_ADDR_LOOPBACK(&info->ipi6_addr));
    CHECK_EQ(info->ipi6_ifindex, 1);
    int only = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    CHECK_OK(set_number(only, SOL_IPV6, IPV6_V6ONLY, 1));
    address = v6("::ffff:127.0.0.1", port);
    CHECK_ERR(connect(only, (void *)&address, sizeof address), ENETUNREACH);
}

TEST(sharing) {
    int port, a = MUST(socket(AF_INET, SOCK_DGRAM, 0)), b = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    set_number(a, SOL_SOCKET, SO_REUSEADDR, 1);
    MUST(bind4(a, "127.0.0.1", 0));
    port = local_port(a);
    CHECK_ERR(bind4(b, "127.0.0.1", port), EADDRINUSE);
    set_number(b, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK_OK(bind4(b, "127.0.0.1", port));
    // The last to come gets it.
    int c = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_EQ(send4(c, "x", "127.0.0.1", port), 1);
    CHECK_EQ(wait_for(b, POLLIN), POLLIN);
    CHECK_EQ(events(a, POLLIN), 0);
}

TEST(everybody_and_groups) {
    int port, fd = MUST(socket(AF_INET, SOCK_DGRAM, 0)), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind4(fd, "0.0.0.0", 0));
    port = local_port(fd);
    CHECK_OK(set_number(sender, SOL_SOCKET, SO_BROADCAST, 1));
    CHECK_EQ(send4(sender, "all", "127.255.255.255", port), 3);
    CHECK_EQ(wait_for(fd, POLLIN), POLLIN);
    CHECK_EQ(recv(fd, buf, 9, 0), 3);
    struct ip_mreqn request = {.imr_multiaddr = v4("239.1.2.3", 0).sin_addr, .imr_ifindex = 1};
    CHECK_OK(setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
    CHECK_ERR(setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &request, sizeof request), EADDRINUSE);
    CHECK_OK(setsockopt(sender, SOL_IP, IP_MULTICAST_IF, &request, sizeof request));
    CHECK_EQ(send4(sender, "group", "239.1.2.3", port), 5);
    CHECK_EQ(wait_for(fd, POLLIN), POLLIN);
    CHECK_EQ(recv(fd, buf, 9, 0), 5);
    CHECK_OK(setsockopt(fd, SOL_IP, IP_DROP_MEMBERSHIP, &request, sizeof request));
    CHECK_ERR(setsockopt(fd, SOL_IP, IP_DROP_MEMBERSHIP, &request, sizeof request), EADDRNOTAVAIL);
    request.imr_multiaddr = v4("10.0.0.1", 0).sin_addr;
    CHECK_ERR(setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &request, sizeof request), EINVAL);
}

TEST(overflow) {
    int pa, pb, a = bound(&pa), b = bound(&pb), sent = 0, got = 0;
    CHECK_OK(set_number(b, SOL_SOCKET, SO_RCVBUF, 4096));
    CHECK_OK(connect4(a, "127.0.0.1", pb));
    for (; sent < 1000; sent++)
        CHECK_EQ(send(a, buf, 500, 0), 500);
    while (recv(b, buf, 500, MSG_DONTWAIT) == 500)
        got++;
    CHECK_CMP(got, >, 0);
    CHECK_CMP(got, <, 100);
}

TEST(many_at_once) {
    int pa, pb, a = bound(&pa), b = bound(&pb);
    CHECK_OK(connect4(a, "127.0.0.1", pb));
    struct iovec iov[3] = {{"a", 1}, {"bb", 2}, {"ccc", 3}}, in[4];
    struct mmsghdr out[3] = {0}, back[4] = {0};
    static char rooms[4][8];
    for (int i = 0; i < 3; i++)
        out[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    for (int i = 0; i < 4; i++) {
        in[i] = (struct iovec){rooms[i], 8};
        back[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
    }
    CHECK_EQ(sendmmsg(a, out, 3, 0), 3);
    CHECK_EQ(out[2].msg_len, 3);
    CHECK_EQ(recvmmsg(b, back, 4, MSG_DONTWAIT, NULL), 3);
    CHECK_EQ(back[1].msg_len, 2);
    CHECK_STR(rooms[2], "ccc");
    CHECK_ERR(recvmmsg(b, back, 4, MSG_DONTWAIT, NULL), EAGAIN);
    CHECK_EQ(sendmmsg(a, out, 2, 0), 2);
    CHECK_EQ(recvmmsg(b, back, 4, MSG_WAITFORONE, NULL), 2);
    // The time is looked at between messages.
    struct timespec time = {0, 0};
    CHECK_EQ(sendmmsg(a, out, 2, 0), 2);
    CHECK_EQ(recvmmsg(b, back, 4, 0, &time), 1);
    CHECK_EQ(recvmmsg(b, back, 1, 0, NULL), 1);
    time.tv_nsec = 1000000000;
    CHECK_ERR(recvmmsg(b, back, 4, 0, &time), EINVAL);
    CHECK_EQ(sendmmsg(a, out, 0, 0), 0);
    CHECK_ERR(sendmmsg(a, BAD, 1, 0), EFAULT);
    // What comes after a bad one is not sent.
    out[1].msg_hdr.msg_iov = BAD;
    CHECK_EQ(sendmmsg(a, out, 3, 0), 1);
    CHECK_EQ(recvmmsg(b, back, 4, MSG_DONTWAIT, NULL), 1);
}
