/* Sockets that hold each other by what lies in their queues (SCM_RIGHTS). */
#include <sys/un.h>

/* Sends descriptors of one file, and bytes along with them. */
static int send_copies(int over, int file, int copies, const char *bytes, size_t length) {
    char buffer[CMSG_SPACE(250 * sizeof(int))] = {0};
    struct iovec part = {(void *)bytes, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = buffer};
    message.msg_controllen = CMSG_SPACE(copies * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(copies * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    for (int i = 0; i < copies; i++)
        ((int *)CMSG_DATA(header))[i] = file;
    return sendmsg(over, &message, MSG_DONTWAIT) < 0;
}

/* Sockets that lie in each other's queues and keep bytes there: in four shapes by turns. */
static int make_circle(long number, const char *bytes) {
    int kind = number % 4 == 0 ? SOCK_DGRAM : number % 4 == 1 ? SOCK_SEQPACKET : SOCK_STREAM;
    int one[2], other[2];
    if (socketpair(AF_UNIX, kind, 0, one) || socketpair(AF_UNIX, kind, 0, other))
        return 1;
    if (number % 4 == 3) {
        /* A connection that waits to be accepted, and in its queue the listener. */
        struct sockaddr_un name = {AF_UNIX, ""};
        socklen_t size = sizeof(sa_family_t);
        int listener = socket(AF_UNIX, kind, 0), end = socket(AF_UNIX, kind, 0);
        if (bind(listener, (void *)&name, size) || listen(listener, 1))
            return 1;
        size = sizeof name;
        return getsockname(listener, (void *)&name, &size) || connect(end, (void *)&name, size) ||
               send_copies(end, listener, 1, bytes, 30000);
    }
    if (number % 4 == 2) {
        /* Sockets of which each has the other, and the set that watches both. */
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(0);
        return epoll_ctl(epoll, EPOLL_CTL_ADD, one[1], &event) || epoll_ctl(epoll, EPOLL_CTL_ADD, other[1], &event) ||
               send_copies(one[0], other[1], 4, bytes, 30000) || send_copies(one[0], epoll, 1, bytes, 1) ||
               send_copies(other[0], one[1], 4, bytes, 30000) || send_copies(other[0], epoll, 1, bytes, 1);
    }
    return send_copies(one[0], one[1], 4, bytes, 30000) || send_copies(other[0], other[1], 1, bytes, 30000);
}

/* A socket in whose own queue it lies as often as there is room. */
static int send_itself(const char *bytes) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
        return 1;
    while (!send_copies(pair[0], pair[1], 250, bytes, 1))
        ;
    return errno != EAGAIN;
}
