// Netlink routing messages, and what is made of them: interfaces, addresses, routes, names.
#include "sockets.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>

static char buf[32768];

static int netlink(void) {
    int fd = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    struct timeval time = {10, 0};
    MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    return fd;
}

static void request(int fd, int type, int flags, int family) {
    struct {
        struct nlmsghdr header;
        struct rtmsg body;
    } message = {{sizeof message, type, NLM_F_REQUEST | flags, 7, 0}, {.rtm_family = family}};
    if (type == RTM_GETLINK)
        message.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
    struct {
        struct nlmsghdr header;
        char body[64];
    } whole = {0};
    memcpy(&whole, &message, sizeof message);
    CHECK_EQ(send(fd, &whole, whole.header.nlmsg_len, 0), whole.header.nlmsg_len);
}

// Reads a dump; gives how many messages of a type it has.
static int dump(int fd, int type) {
    int count = 0;
    for (;;) {
        int len = CHECK_OK(recv(fd, buf, sizeof buf, 0));
        if (len <= 0)
            return -1;
        for (struct nlmsghdr *header = (void *)buf; NLMSG_OK(header, len); header = NLMSG_NEXT(header, len)) {
            CHECK_EQ(header->nlmsg_seq, 7);
            CHECK_CMP(header->nlmsg_pid, !=, 0);
            if (header->nlmsg_type == NLMSG_DONE)
                return count;
            if (header->nlmsg_type == NLMSG_ERROR)
                return -((struct nlmsgerr *)NLMSG_DATA(header))->error;
            CHECK_EQ(header->nlmsg_type, type);
            CHECK(header->nlmsg_flags & NLM_F_MULTI);
            count++;
        }
    }
}

static int acknowledged(int fd) {
    int len = CHECK_OK(recv(fd, buf, sizeof buf, 0));
    struct nlmsghdr *header = (void *)buf;
    CHECK_CMP(len, >=, (int)NLMSG_LENGTH(sizeof(struct nlmsgerr)));
    CHECK_EQ(header->nlmsg_type, NLMSG_ERROR);
    return -((struct nlmsgerr *)NLMSG_DATA(header))->error;
}

TEST(creation) {
    CHECK_OK(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE));
    CHECK_ERR(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
    CHECK_ERR(socket(AF_NETLINK, SOCK_RAW, 99), EPROTONOSUPPORT);
    CHECK_ERR(socket(AF_NETLINK, SOCK_RAW, -1), EPROTONOSUPPORT);
    int a = netlink(), b = netlink();
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    socklen_t len = sizeof address;
    CHECK_OK(getsockname(a, (void *)&address, &len));
    CHECK_EQ(len, sizeof address);
    CHECK_EQ(address.nl_pid, 0);
    CHECK_OK(bind(a, (void *)&address, sizeof address));
    CHECK_OK(getsockname(a, (void *)&address, &len));
    CHECK_EQ(address.nl_pid, getpid());
    CHECK_ERR(bind(b, (void *)&address, sizeof address), EADDRINUSE);
    CHECK_ERR(bind(b, (void *)&address, 4), EINVAL);
    address.nl_pid = 0;
    CHECK_OK(bind(b, (void *)&address, sizeof address));
    CHECK_OK(getsockname(b, (void *)&address, &len));
    CHECK_CMP((int)address.nl_pid, <, 0);
    CHECK_ERR(listen(a, 1), EOPNOTSUPP);
    CHECK_ERR(recv(a, buf, 1, MSG_OOB), EOPNOTSUPP);
    CHECK_ERR(recv(a, buf, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(number_option(a, SOL_SOCKET, SO_DOMAIN), AF_NETLINK);
    CHECK_EQ(number_option(a, SOL_SOCKET, SO_PROTOCOL), NETLINK_ROUTE);
}

TEST(dumps) {
    int fd = netlink();
    request(fd, RTM_GETLINK, NLM_F_DUMP, AF_UNSPEC);
    CHECK_CMP(dump(fd, RTM_NEWLINK), >=, 1);
    request(fd, RTM_GETADDR, NLM_F_DUMP, AF_UNSPEC);
    CHECK_CMP(dump(fd, RTM_NEWADDR), >=, 2);
    request(fd, RTM_GETADDR, NLM_F_DUMP, AF_INET6);
    CHECK_CMP(dump(fd, RTM_NEWADDR), >=, 1);
    request(fd, RTM_GETROUTE, NLM_F_DUMP, AF_INET);
    CHECK_CMP(dump(fd, RTM_NEWROUTE), >=, 3);
    request(fd, RTM_GETRULE, NLM_F_DUMP, AF_INET);
    CHECK_EQ(dump(fd, RTM_NEWRULE), 3);
}

TEST(errors) {
    int fd = netlink();
    request(fd, RTM_GETLINK, NLM_F_ACK, AF_UNSPEC);
    CHECK_EQ(acknowledged(fd), EINVAL);
    struct {
        struct nlmsghdr header;
        struct ifinfomsg body;
    } link = {{sizeof link, RTM_GETLINK, NLM_F_REQUEST, 7, 0}, {.ifi_index = 4321}};
    CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
    CHECK_EQ(acknowledged(fd), ENODEV);
    // The message an error is about comes with it.
    CHECK(!memcmp(&((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)buf))->msg, &link, sizeof link.header));
    link.header.nlmsg_type = 200;
    CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
    CHECK_EQ(acknowledged(fd), EOPNOTSUPP);
    link.header.nlmsg_type = NLMSG_NOOP;
    link.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
    CHECK_EQ(acknowledged(fd), 0);
    // Both the answer and the word that it was given.
    link.header.nlmsg_type = RTM_GETLINK;
    link.body.ifi_index = 1;
    CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
    CHECK_OK(recv(fd, buf, sizeof buf, 0));
    CHECK_EQ(((struct nlmsghdr *)buf)->nlmsg_type, RTM_NEWLINK);
    CHECK_EQ(acknowledged(fd), 0);
    struct sockaddr_nl from;
    socklen_t len = sizeof from;
    CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
    CHECK_OK(recvfrom(fd, buf, sizeof buf, 0, (void *)&from, &len));
    CHECK_EQ(from.nl_family, AF_NETLINK);
    CHECK_EQ(from.nl_pid, 0);
    CHECK_EQ(acknowledged(fd), 0);
    // Too short a buffer is told, and how long the message was.
    CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
    CHECK_CMP(recv(fd, buf, 10, MSG_PEEK | MSG_TRUNC), >, 100);
    struct iovec iov = {buf, 10};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(fd, &message, 0), 10);
    CHECK_EQ(message.msg_flags, MSG_TRUNC);
    if (getuid() == 0)
        CHECK_CHILD({
            MUST(setuid(1000));
            fd = netlink();
            link.header.nlmsg_type = RTM_DELLINK;
            CHECK_EQ(send(fd, &link, sizeof link, 0), sizeof link);
            CHECK_EQ(acknowledged(fd), EPERM);
        });
    // Somebody who is not there.
    struct sockaddr_nl nobody = {.nl_family = AF_NETLINK, .nl_pid = 999999};
    CHECK_ERR(sendto(fd, &link, sizeof link, 0, (void *)&nobody, sizeof nobody), ECONNREFUSED);
}

static int group(int fd, int option, unsigned group) {
    return setsockopt(fd, SOL_NETLINK, option, &group, sizeof group);
}

static unsigned memberships(int fd, unsigned words[4]) {
    socklen_t len = 16;
    memset(words, 0, 16);
    CHECK_OK(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len));
    return len;
}

TEST(groups) {
    int fd = netlink();
    unsigned words[4];
    CHECK_EQ(memberships(fd, words), 0);
    CHECK_ERR(group(fd, NETLINK_ADD_MEMBERSHIP, 0), EINVAL);
    CHECK_ERR(group(fd, NETLINK_ADD_MEMBERSHIP, 200), EINVAL);
    CHECK_OK(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK));
    CHECK_OK(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK));
    CHECK_OK(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NEXTHOP));
    CHECK_OK(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_BRVLAN));
    CHECK_EQ(memberships(fd, words), 8);
    CHECK_EQ(words[0], 0x80000001);
    CHECK_EQ(words[1], 1);
    // An address has the lowest 32, and leaves the others.
    struct sockaddr_nl address = {AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR};
    CHECK_OK(bind(fd, (void *)&address, sizeof address));
    socklen_t len = sizeof address;
    CHECK_OK(getsockname(fd, (void *)&address, &len));
    CHECK_EQ(address.nl_groups, RTMGRP_IPV4_IFADDR);
    memberships(fd, words);
    CHECK_EQ(words[0], RTMGRP_IPV4_IFADDR);
    CHECK_EQ(words[1], 1);
    CHECK_OK(group(fd, NETLINK_DROP_MEMBERSHIP, RTNLGRP_BRVLAN));
    CHECK_OK(group(fd, NETLINK_DROP_MEMBERSHIP, RTNLGRP_BRVLAN));
    CHECK_ERR(group(fd, NETLINK_DROP_MEMBERSHIP, 200), EINVAL);
    CHECK_EQ(memberships(fd, words), 8);
    CHECK_EQ(words[1], 0);
    // Nothing happens, so that nothing is told.
    CHECK_ERR(recv(fd, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    int uevents = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT));
    CHECK_OK(group(uevents, NETLINK_ADD_MEMBERSHIP, 32));
    CHECK_ERR(group(uevents, NETLINK_ADD_MEMBERSHIP, 33), EINVAL);
    CHECK_EQ(memberships(uevents, words), 4);
}

TEST(groups_of_the_unprivileged) {
    int fd = netlink();
    MUST(setresuid(1000, 1000, 1000));
    CHECK_OK(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV6_ROUTE));
    CHECK_ERR(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV4_MROUTE_R), EPERM);
    CHECK_ERR(group(fd, NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV6_MROUTE_R), EPERM);
    struct sockaddr_nl address = {AF_NETLINK, .nl_groups = 1u << (RTNLGRP_IPV4_MROUTE_R - 1)};
    CHECK_ERR(bind(fd, (void *)&address, sizeof address), EPERM);
}

// What is told beside a message, if it is asked for: the group it was for.
TEST(told_beside) {
    int fd = netlink(), one = 1;
    for (int round = 0; round < 2; round++) {
        request(fd, RTM_GETLINK, NLM_F_DUMP, AF_UNSPEC);
        char control[64];
        struct iovec piece = {buf, sizeof buf};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 64};
        CHECK_OK(recvmsg(fd, &message, 0));
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        CHECK_EQ(first != NULL, round);
        if (first) {
            CHECK_EQ(first->cmsg_level, SOL_NETLINK);
            CHECK_EQ(first->cmsg_type, NETLINK_PKTINFO);
            CHECK_EQ(first->cmsg_len, CMSG_LEN(4));
            CHECK_EQ(*(unsigned *)CMSG_DATA(first), 0);
        }
        while (recv(fd, buf, sizeof buf, MSG_DONTWAIT) > 0)
            ;
        CHECK_OK(setsockopt(fd, SOL_NETLINK, NETLINK_PKTINFO, &one, sizeof one));
    }
}

TEST(library) {
    struct ifaddrs *all, *each;
    int four = 0, six = 0, packets = 0;
    CHECK_OK(getifaddrs(&all));
    for (each = all; each; each = each->ifa_next) {
        if (strcmp(each->ifa_name, "lo"))
            continue;
        CHECK(each->ifa_flags & IFF_LOOPBACK);
        CHECK(each->ifa_flags & IFF_UP);
        four += each->ifa_addr->sa_family == AF_INET;
        six += each->ifa_addr->sa_family == AF_INET6;
        packets += each->ifa_addr->sa_family == AF_PACKET;
    }
    freeifaddrs(all);
    CHECK_EQ(four, 1);
    CHECK_EQ(six, 1);
    CHECK_EQ(packets, 1);
    CHECK_EQ(if_nametoindex("lo"), 1);
    CHECK_EQ(if_nametoindex("nothere"), 0);
    char name[IF_NAMESIZE];
    CHECK_STR(if_indextoname(1, name), "lo");
    struct if_nameindex *index = if_nameindex();
    CHECK_STR(index[0].if_name, "lo");
    if_freenameindex(index);
}

TEST(resolving) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
    CHECK_EQ(getaddrinfo("127.0.0.1", "80", &hints, &found), 0);
    CHECK_EQ(found->ai_family, AF_INET);
    freeaddrinfo(found);
    CHECK_EQ(getaddrinfo("::1", "80", &hints, &found), 0);
    CHECK_EQ(found->ai_family, AF_INET6);
    freeaddrinfo(found);
    hints.ai_flags = AI_PASSIVE;
    CHECK_EQ(getaddrinfo(NULL, "80", &hints, &found), 0);
    int count = 0;
    for (struct addrinfo *each = found; each; each = each->ai_next)
        count++;
    CHECK_EQ(count, 2);
    freeaddrinfo(found);
}

static void first_line(const char *path, const char *expected) {
    char line[1024] = "";
    FILE *file = fopen(path, "r");
    CHECK(file);
    if (!file)
        return;
    fgets(line, sizeof line, file);
    line[strcspn(line, "\n")] = 0;
    int len = strlen(line);
    while (len > 0 && line[len - 1] == ' ')
        line[--len] = 0;
    CHECK_STR(line, expected);
    fclose(file);
}

static int has_line(const char *path, const char *beginning) {
    char line[2048];
    FILE *file = fopen(path, "r");
    CHECK(file);
    int found = 0;
    while (file && fgets(line, sizeof line, file))
        found |= !strncmp(line, beginning, strlen(beginning));
    if (file)
        fclose(file);
    return found;
}

TEST(proc) {
    first_line("/proc/net/netlink",
               "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode");
    first_line("/proc/net/packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode");
    first_line("/proc/net/raw", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
                                "inode ref pointer drops");
    first_line("/proc/net/protocols", "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de "
                                      "sh ss gs se re bi br ha uh gp em");
    first_line("/proc/net/igmp", "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter");
    first_line("/proc/net/if_inet6", "00000000000000000000000000000001 01 80 10 80       lo");
    CHECK(has_line("/proc/net/sockstat", "sockets: used "));
    CHECK(has_line("/proc/net/sockstat", "TCP: inuse "));
    CHECK(has_line("/proc/net/sockstat", "UDP: inuse "));
    CHECK(has_line("/proc/net/sockstat6", "TCP6: inuse "));
    CHECK(has_line("/proc/net/snmp", "Ip: Forwarding DefaultTTL InReceives "));
    CHECK(has_line("/proc/net/snmp", "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens "));
    CHECK(has_line("/proc/net/snmp", "Udp: InDatagrams NoPorts InErrors OutDatagrams "));
    CHECK(has_line("/proc/net/snmp6", "Ip6InReceives                   \t"));
    CHECK(has_line("/proc/net/netstat", "TcpExt: SyncookiesSent "));
    CHECK(has_line("/proc/net/netstat", "IpExt: InNoRoutes "));
    CHECK(has_line("/proc/net/fib_trie", "Main:"));
    CHECK(has_line("/proc/net/fib_trie", "Local:"));
    CHECK(has_line("/proc/net/ptype", "Type Device      Function"));
    CHECK_EQ(access("/proc/net/dev_mcast", R_OK), 0);
    CHECK_EQ(access("/proc/net/igmp6", R_OK), 0);
    CHECK_EQ(access("/proc/net/icmp", R_OK), 0);
    CHECK_EQ(access("/proc/net/udplite", R_OK), 0);
    int fd = netlink();
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = 4242};
    MUST(bind(fd, (void *)&address, sizeof address));
    char line[256];
    struct stat st;
    fstat(fd, &st);
    int found = 0;
    FILE *file = fopen("/proc/net/netlink", "r");
    while (fgets(line, sizeof line, file)) {
        unsigned long protocol, pid, inode;
        if (sscanf(line, "%*x %lu %lu %*x %*d %*d %*d %*d %*d %lu", &protocol, &pid, &inode) == 3 && pid == 4242) {
            CHECK_EQ(protocol, NETLINK_ROUTE);
            CHECK_EQ(inode, st.st_ino);
            found++;
        }
    }
    fclose(file);
    CHECK_EQ(found, 1);
}
