/* Sockets: those in flight, their names and ports. */

/* Each socket pair lies in the queue of the next. */
static void socket_chain(long n) {
    int last[2], next[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, last) == 0, "socketpair");
    for (long i = 0; i < n; i++) {
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, next) == 0, "socketpair");
        send_fds(next[0], last, 2);
        close(last[0]);
        close(last[1]);
        memcpy(last, next, sizeof last);
    }
    close(last[0]);
    close(last[1]);
}

/* Each socket lies in its own queue: nobody but the kernel can let go of it. */
static void socket_cycles(long n) {
    for (long i = 0; i < n; i++) {
        int pair[2];
        check(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0, "socketpair");
        send_fds(pair[0], &pair[1], 1);
        close(pair[0]);
        close(pair[1]);
    }
}

static void socket_names(long n) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    for (long i = 0; i < n; i++) {
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        check(fd >= 0 && bind(fd, (void *)&address, sizeof(sa_family_t)) == 0, "bind");
    }
    closefrom(3);
}

static void ports(long n, int type) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (long i = 0; i < n; i++) {
        int fd = socket(AF_INET, type, 0);
        check(fd >= 0 && bind(fd, (void *)&address, sizeof address) == 0, "bind");
    }
    closefrom(3);
}

static void udp_ports(long n) {
    ports(n, SOCK_DGRAM);
}

static void tcp_ports(long n) {
    ports(n, SOCK_STREAM);
}

static int listener(struct sockaddr_in *address) {
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0 && bind(fd, (void *)address, len) == 0 && listen(fd, 128) == 0, "listen");
    check(getsockname(fd, (void *)address, &len) == 0, "getsockname");
    return fd;
}

static int connection(int listening, const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0 && connect(fd, (const void *)to, sizeof *to) == 0, "connect");
    check(accept(listening, NULL, NULL) >= 0, "accept");
    return fd;
}

/* Connections to one port, open all at a time. */
static void connections(long n) {
    struct sockaddr_in address;
    int fd = listener(&address);
    for (long i = 0; i < n; i++)
        connection(fd, &address);
    closefrom(3);
}

/* Connections to one port, one after the other. What remains of each keeps its ports for a while. */
static void ended_connections(long n) {
    struct sockaddr_in address;
    int fd = listener(&address);
    for (long i = 0; i < n; i++) {
        /* The server's end is closed first: that keeps its port then. */
        int client = connection(fd, &address);
        close(client + 1);
        close(client);
    }
}

/* Sockets that share a port, and a datagram for each. */
static void shared_port(long n) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int on = 1, fd = -1;
    for (long i = 0; i < n; i++) {
        fd = socket(AF_INET, SOCK_DGRAM, 0);
        check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0, "setsockopt");
        check(bind(fd, (void *)&address, len) == 0, "bind");
        check(getsockname(fd, (void *)&address, &len) == 0, "getsockname");
    }
    for (long i = 0; i < n; i++)
        check(sendto(fd, "x", 1, 0, (void *)&address, len) == 1, "sendto");
    closefrom(3);
}
