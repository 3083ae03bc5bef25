// Options of level SOL_SOCKET and of the levels below, on every kind of socket.
#include "sockets.h"

static char buf[256];

TEST(of_all) {
    int kinds[][2] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_INET, SOCK_STREAM}, {AF_INET6, SOCK_DGRAM}};
    for (int i = 0; i < 4; i++) {
        int fd = MUST(socket(kinds[i][0], kinds[i][1], 0));
        int flags[] = {SO_REUSEADDR, SO_BROADCAST, SO_OOBINLINE, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_DONTROUTE, SO_RXQ_OVFL};
        for (unsigned j = 0; j < sizeof flags / sizeof *flags; j++) {
            CHECK_EQ(number_option(fd, SOL_SOCKET, flags[j]), 0);
            CHECK_OK(set_number(fd, SOL_SOCKET, flags[j], 77));
            CHECK_EQ(number_option(fd, SOL_SOCKET, flags[j]), 1);
            CHECK_OK(set_number(fd, SOL_SOCKET, flags[j], 0));
            CHECK_EQ(number_option(fd, SOL_SOCKET, flags[j]), 0);
            CHECK_ERR(setsockopt(fd, SOL_SOCKET, flags[j], buf, 3), EINVAL);
            CHECK_ERR(setsockopt(fd, SOL_SOCKET, flags[j], BAD, 4), EFAULT);
            CHECK_ERR(setsockopt(fd, SOL_SOCKET, flags[j], buf, -1), EINVAL);
        }
        int told[] = {SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_PROTOCOL, SO_DOMAIN};
        for (unsigned j = 0; j < sizeof told / sizeof *told; j++)
            CHECK_ERR(set_number(fd, SOL_SOCKET, told[j], 1), ENOPROTOOPT);
        CHECK_ERR(set_number(fd, SOL_SOCKET, 9999, 1), ENOPROTOOPT);
        socklen_t len = sizeof buf;
        CHECK_ERR(getsockopt(fd, SOL_SOCKET, 9999, buf, &len), ENOPROTOOPT);
        // More room than the value needs is no matter.
        CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, buf, &len));
        CHECK_EQ(len, 4);
        CHECK_OK(set_number(fd, SOL_SOCKET, SO_PRIORITY, 3));
        CHECK_EQ(number_option(fd, SOL_SOCKET, SO_PRIORITY), 3);
        CHECK_EQ(number_option(fd, SOL_SOCKET, SO_SNDLOWAT), 1);
        CHECK_ERR(set_number(fd, SOL_SOCKET, SO_SNDLOWAT, 1), ENOPROTOOPT);
        CHECK_OK(set_number(fd, SOL_SOCKET, SO_RCVLOWAT, 0));
        CHECK_EQ(number_option(fd, SOL_SOCKET, SO_RCVLOWAT), 1);
    }
}

TEST(buffers) {
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_SNDBUF), 212992);
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_RCVBUF), 212992);
    CHECK_OK(set_number(fd, SOL_SOCKET, SO_SNDBUF, 10000));
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_SNDBUF), 20000);
    CHECK_OK(set_number(fd, SOL_SOCKET, SO_SNDBUF, 0));
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_SNDBUF), 4608);
    CHECK_OK(set_number(fd, SOL_SOCKET, SO_RCVBUF, 1));
    CHECK_EQ(number_option(fd, SOL_SOCKET, SO_RCVBUF), 2304);
    int most = 0;
    FILE *file = fopen("/proc/sys/net/core/rmem_max", "r");
    if (file && fscanf(file, "%d", &most) == 1) {
        CHECK_OK(set_number(fd, SOL_SOCKET, SO_RCVBUF, 1 << 30));
        CHECK_EQ(number_option(fd, SOL_SOCKET, SO_RCVBUF), 2 * most);
        CHECK_OK(set_number(fd, SOL_SOCKET, SO_RCVBUF, -1));
        CHECK_EQ(number_option(fd, SOL_SOCKET, SO_RCVBUF), 2 * most);
    }
    int tcp = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_EQ(number_option(tcp, SOL_SOCKET, SO_SNDBUF), 16384);
    CHECK_EQ(number_option(tcp, SOL_SOCKET, SO_RCVBUF), 131072);
}

TEST(privileged) {
    if (getuid() != 0)
        SKIP("needs root");
    MUST(setuid(1000));
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(set_number(fd, SOL_SOCKET, SO_SNDBUFFORCE, 100000), EPERM);
    CHECK_ERR(set_number(fd, SOL_SOCKET, SO_RCVBUFFORCE, 100000), EPERM);
    CHECK_ERR(set_number(fd, SOL_SOCKET, SO_DEBUG, 1), EACCES);
    CHECK_OK(set_number(fd, SOL_SOCKET, SO_DEBUG, 0));
    CHECK_ERR(set_number(fd, SOL_SOCKET, SO_MARK, 1), EPERM);
    CHECK_ERR(set_number(fd, SOL_SOCKET, SO_PRIORITY, 7), EPERM);
    CHECK_OK(set_number(fd, SOL_SOCKET, SO_PRIORITY, 6));
    CHECK_ERR(set_number(fd, IPPROTO_IP, IP_TRANSPARENT, 1), EPERM);
    CHECK_ERR(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
}

TEST(lingering) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct linger linger = {1, 30};
    CHECK_ERR(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, 4), EINVAL);
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    linger = (struct linger){0, 0};
    socklen_t len = sizeof linger;
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
    CHECK_EQ(linger.l_onoff, 1);
    CHECK_EQ(linger.l_linger, 30);
    linger.l_onoff = 0;
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
    CHECK_EQ(linger.l_onoff, 0);
}

TEST(wrong_levels) {
    int local = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    socklen_t len = sizeof buf;
    CHECK_ERR(set_number(local, IPPROTO_TCP, TCP_NODELAY, 1), EOPNOTSUPP);
    CHECK_ERR(getsockopt(local, IPPROTO_TCP, TCP_NODELAY, buf, &len), EOPNOTSUPP);
    CHECK_ERR(set_number(udp, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT);
    CHECK_ERR(set_number(udp, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
    CHECK_ERR(getsockopt(udp, IPPROTO_IPV6, IPV6_V6ONLY, buf, &len), EOPNOTSUPP);
    CHECK_ERR(getsockopt(udp, IPPROTO_TCP, TCP_NODELAY, buf, &len), EOPNOTSUPP);
    CHECK_ERR(set_number(udp, IPPROTO_IP, 250, 1), ENOPROTOOPT);
    CHECK_ERR(getsockopt(udp, IPPROTO_IP, 250, buf, &len), ENOPROTOOPT);
}

TEST(of_ip) {
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0)), six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    CHECK_EQ(number_option(fd, IPPROTO_IP, IP_TTL), 64);
    CHECK_ERR(set_number(fd, IPPROTO_IP, IP_TTL, 0), EINVAL);
    CHECK_OK(set_number(fd, IPPROTO_IP, IP_TTL, 5));
    CHECK_OK(set_number(fd, IPPROTO_IP, IP_TTL, -1));
    CHECK_EQ(number_option(fd, IPPROTO_IP, IP_TTL), 64);
    CHECK_EQ(number_option(fd, IPPROTO_IP, IP_MULTICAST_TTL), 1);
    CHECK_OK(set_number(fd, IPPROTO_IP, IP_MULTICAST_TTL, 255));
    CHECK_ERR(set_number(fd, IPPROTO_IP, IP_MULTICAST_TTL, 256), EINVAL);
    CHECK_EQ(number_option(fd, IPPROTO_IP, IP_MULTICAST_LOOP), 1);
    // One byte does.
    unsigned char byte = 9;
    CHECK_OK(setsockopt(fd, IPPROTO_IP, IP_TTL, &byte, 1));
    CHECK_EQ(number_option(fd, IPPROTO_IP, IP_TTL), 9);
    socklen_t len = 1;
    byte = 0;
    CHECK_OK(getsockopt(fd, IPPROTO_IP, IP_TTL, &byte, &len));
    CHECK_EQ(len, 1);
    CHECK_EQ(byte, 9);
    CHECK_EQ(number_option(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
    CHECK_OK(set_number(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 3));
    CHECK_EQ(number_option(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 3);
    CHECK_ERR(set_number(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256), EINVAL);
    CHECK_OK(set_number(six, IPPROTO_IPV6, IPV6_TCLASS, 0x10));
    CHECK_EQ(number_option(six, IPPROTO_IPV6, IPV6_TCLASS), 0x10);
    len = sizeof buf;
    CHECK_ERR(getsockopt(fd, IPPROTO_IP, IP_MTU, buf, &len), ENOTCONN);
    CHECK_OK(connect4(fd, "127.0.0.1", 9));
    CHECK_EQ(number_option(fd, IPPROTO_IP, IP_MTU), 65535);
}

TEST(interfaces) {
    struct {
        char name[16];
        union {
            int number;
            char room[24];
        };
    } request = {"lo", {0}};
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_OK(ioctl(fd, 0x8933, &request)); // SIOCGIFINDEX
    CHECK_EQ(request.number, 1);
    CHECK_OK(ioctl(fd, 0x8921, &request)); // SIOCGIFMTU
    CHECK_EQ(request.number, 65536);
    strcpy(request.name, "nothere");
    CHECK_ERR(ioctl(fd, 0x8933, &request), ENODEV);
    CHECK_ERR(ioctl(fd, 0x8933, BAD), EFAULT);
    CHECK_ERR(ioctl(fd, 0x5401, &request), ENOTTY);
}
