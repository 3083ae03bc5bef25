// Addresses, control messages and netlink requests that are nearly right: what decodes them must bear every one of them.
// FUZZ_SEED and FUZZ_ROUNDS choose other, and more, cases.
#include "../check.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef unsigned long word;
static word state;

static word next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dul;
}
static word below(word n) { return (next() >> 11) % n; }
static word setting(const char *name, word otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 0) : otherwise;
}
static unsigned near(unsigned right) {
    static const unsigned odd[] = {0, 1, 3, 4, 8, 15, 16, 17, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, 4096, 65535};
    return below(3) ? right : below(2) ? right + below(9) - 4 : odd[below(sizeof odd / sizeof *odd)];
}

static void begin(int number) {
    state = (setting("FUZZ_SEED", 1) * 1000003 + number) * 0x9e3779b97f4a7c15ul | 1;
    // Nobody who could change the network.
    if (geteuid() == 0)
        MUST(setresuid(12345, 12345, 12345));
    signal(SIGPIPE, SIG_IGN);
}

// An errno there is, or a success.
static int sound(long result) { return result >= 0 || (errno > 0 && errno <= 133); }

static int room(int fd) {
    char byte[4096];
    while (recv(fd, byte, sizeof byte, MSG_DONTWAIT) >= 0)
        ;
    return fd;
}

static int own[24], own_count;
TEST(control_messages) {
    begin(1);
    int kinds[][2] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_UNIX, SOCK_SEQPACKET}};
    for (int i = 0; i < 3; i++) {
        int pair[2], on = 1;
        MUST(socketpair(kinds[i][0], kinds[i][1] | SOCK_NONBLOCK, 0, pair));
        if (i != 1)
            CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
        own[own_count++] = pair[0], own[own_count++] = pair[1];
    }
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0)), six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    own[own_count++] = udp, own[own_count++] = six;
    int first_free = MUST(dup(0));
    close(first_free);
    word rounds = setting("FUZZ_ROUNDS", 1500);
    int received = 0;
    for (word i = 0; i < rounds; i++) {
        unsigned char control[512];
        size_t used = 0;
        for (int messages = below(4); messages >= 0; messages--) {
            struct cmsghdr head;
            size_t body = below(3) ? 4 * below(6) : below(80);
            head.cmsg_len = near(sizeof head + body);
            if (!below(20))
                head.cmsg_len = next();
            static const int levels[] = {SOL_SOCKET, SOL_SOCKET, SOL_SOCKET, SOL_IP, SOL_IPV6, SOL_UDP, 0, -1};
            head.cmsg_level = levels[below(8)];
            head.cmsg_type = near(below(3));
            memcpy(control + used, &head, sizeof head);
            int values[20];
            for (int j = 0; j < 20; j++)
                values[j] = below(2) ? own[below(own_count)] : below(2) ? getpid() : (int)near(1000);
            memcpy(control + used + sizeof head, values, sizeof values);
            used += CMSG_ALIGN(sizeof head + body);
            if (used > 380)
                break;
        }
        char data[64] = "data";
        struct iovec piece = {data, below(10)};
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = 9, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = 9, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        int which = below(own_count), fd = own[which];
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = below(2), .msg_control = control,
                                 .msg_controllen = below(8) ? used : near(used) & 511};
        if (fd == udp)
            message.msg_name = &to, message.msg_namelen = sizeof to;
        if (fd == six)
            message.msg_name = &to6, message.msg_namelen = sizeof to6;
        long result = sendmsg(fd, &message, MSG_DONTWAIT);
        CHECK_AT(sound(result), "sendmsg gives errno %d in round %lu", errno, i);
        // Take what came, with room for some of it.
        int other = which < 6 ? own[which ^ 1] : fd;
        message = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = below(120)};
        piece.iov_len = below(20);
        memset(control, 0xa5, sizeof control);
        size_t most = message.msg_controllen;
        result = recvmsg(other, &message, MSG_DONTWAIT | (below(2) ? MSG_CMSG_CLOEXEC : 0));
        CHECK_AT(sound(result), "recvmsg gives errno %d in round %lu", errno, i);
        received += result > 0;
        CHECK(result < 0 || message.msg_controllen <= most);
        for (size_t j = most; j < sizeof control; j++)
            if (control[j] != 0xa5) {
                CHECK_AT(0, "recvmsg writes %zu bytes behind its room of %zu in round %lu", j - most, most, i);
                break;
            }
        syscall(SYS_close_range, first_free, ~0u, 0);
    }
    CHECK_CMP(received, >, (int)rounds / 20);
}

TEST(addresses) {
    begin(2);
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    word rounds = setting("FUZZ_ROUNDS", 1500);
    for (word i = 0; i < rounds; i++) {
        int family = families[below(4)];
        int fd = socket(family, (family == AF_NETLINK ? SOCK_RAW : below(2) ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
        if (!CHECK(fd >= 0))
            break;
        unsigned char address[256];
        for (size_t j = 0; j < sizeof address; j++)
            address[j] = below(4) ? 0 : next();
        *(sa_family_t *)address = below(6) ? family : next();
        if (family == AF_INET && below(2))
            ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (family == AF_UNIX)
            memcpy(address + 2, below(3) ? "./name" : below(2) ? "\0abstract" : "/", 1 + below(9));
        static const unsigned lens[] = {16, 28, 110, 12};
        unsigned len = near(lens[family == AF_UNIX ? 2 : family == AF_INET ? 0 : family == AF_INET6 ? 1 : 3]);
        long result;
        switch (below(4)) {
        case 0:
            result = bind(fd, (void *)address, len);
            break;
        case 1:
            result = connect(fd, (void *)address, len);
            break;
        case 2:
            result = sendto(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (void *)address, len);
            break;
        default:
            memset(address, 0xa5, sizeof address);
            len = below(2) ? below(40) : near(16);
            unsigned most = len;
            result = below(2) ? getsockname(fd, (void *)address, &len) : getpeername(fd, (void *)address, &len);
            for (size_t j = most < 256 ? most : 256; j < 256; j++)
                if (address[j] != 0xa5) {
                    CHECK_AT(0, "an address goes beyond its room of %u", most);
                    break;
                }
        }
        CHECK_AT(sound(result), "errno %d in round %lu", errno, i);
        close(fd);
        unlink("name");
    }
}

TEST(netlink) {
    begin(3);
    int fd = MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE));
    word rounds = setting("FUZZ_ROUNDS", 1500);
    int answers = 0;
    for (word i = 0; i < rounds; i++) {
        unsigned char request[512];
        size_t used = 0;
        for (int messages = below(3); messages >= 0; messages--) {
            struct nlmsghdr head = {.nlmsg_type = below(8) ? 16 + below(90) : next(), .nlmsg_seq = i,
                                    .nlmsg_flags = NLM_F_REQUEST | (below(2) ? NLM_F_DUMP : next())};
            unsigned char body[96];
            for (size_t j = 0; j < sizeof body; j++)
                body[j] = below(3) ? 0 : next();
            body[0] = below(2) ? AF_INET : below(20);
            size_t attributes = below(2) ? 16 : below(64);
            for (size_t at = attributes; at + 8 < sizeof body; at += 8 + below(12)) {
                struct rtattr attribute = {near(8), below(40)};
                memcpy(body + at, &attribute, sizeof attribute);
            }
            size_t len = below(sizeof body);
            head.nlmsg_len = near(sizeof head + len);
            memcpy(request + used, &head, sizeof head);
            memcpy(request + used + sizeof head, body, sizeof body);
            used += NLMSG_ALIGN(sizeof head + len);
        }
        long result = send(fd, request, below(10) ? used : near(used) & 511, MSG_DONTWAIT);
        CHECK_AT(sound(result), "send gives errno %d in round %lu", errno, i);
        static char answer[65536];
        while ((result = recv(fd, answer, sizeof answer, MSG_DONTWAIT)) > 0) {
            answers++;
            unsigned left = result;
            for (struct nlmsghdr *head = (void *)answer; left; head = NLMSG_NEXT(head, left))
                if (!NLMSG_OK(head, left)) {
                    CHECK_AT(0, "a malformed answer in round %lu", i);
                    break;
                }
        }
        CHECK_AT(sound(result), "recv gives errno %d in round %lu", errno, i);
    }
    CHECK_CMP(answers, >, (int)rounds / 10);
    room(fd);
}
