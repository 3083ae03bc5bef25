// What the programs about sockets share.
#ifndef SOCKETS_H
#define SOCKETS_H
#include "../check.h"
#include <arpa/inet.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define HELPER __attribute__((unused)) static

HELPER int events(int fd, int wanted) {
    struct pollfd poll_fd = {fd, wanted, 0};
    CHECK_OK(poll(&poll_fd, 1, 0));
    return poll_fd.revents;
}

// Waits for one of the events, at most ten seconds: far longer than any takes, even on a busy machine.
HELPER int wait_for(int fd, int wanted) {
    struct pollfd poll_fd = {fd, wanted, 0};
    CHECK_OK(poll(&poll_fd, 1, 10000));
    return poll_fd.revents;
}

HELPER void nonblocking(int fd) { MUST(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)); }

HELPER int number_option(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    CHECK_OK(getsockopt(fd, level, name, &value, &len));
    CHECK_EQ(len, sizeof value);
    return value;
}

HELPER int set_number(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value);
}

HELPER int pending_error(int fd) { return number_option(fd, SOL_SOCKET, SO_ERROR); }

HELPER long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

HELPER void sleep_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

HELPER struct sockaddr_un unix_address(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    return address;
}

HELPER int unix_bind(int fd, const char *path) {
    struct sockaddr_un address = unix_address(path);
    return bind(fd, (void *)&address, sizeof address);
}

HELPER int unix_connect(int fd, const char *path) {
    struct sockaddr_un address = unix_address(path);
    return connect(fd, (void *)&address, sizeof address);
}

HELPER struct sockaddr_in v4(const char *ip, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &address.sin_addr);
    return address;
}

HELPER struct sockaddr_in6 v6(const char *ip, int port) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, ip, &address.sin6_addr);
    return address;
}

HELPER int bind4(int fd, const char *ip, int port) {
    struct sockaddr_in address = v4(ip, port);
    return bind(fd, (void *)&address, sizeof address);
}

HELPER int connect4(int fd, const char *ip, int port) {
    struct sockaddr_in address = v4(ip, port);
    return connect(fd, (void *)&address, sizeof address);
}

HELPER int local_port(int fd) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    CHECK_OK(getsockname(fd, (void *)&address, &len));
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

// A listener on the loopback and its port.
HELPER int tcp_listener(int *port, int backlog) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind4(fd, "127.0.0.1", 0));
    MUST(listen(fd, backlog));
    *port = local_port(fd);
    return fd;
}

// A connection: [0] connected, [1] was accepted.
HELPER void tcp_pair(int pair[2]) {
    int port, listener = tcp_listener(&port, 1);
    pair[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect4(pair[0], "127.0.0.1", port));
    pair[1] = MUST(accept(listener, NULL, NULL));
    close(listener);
}

HELPER volatile int signals_seen;
HELPER void count_signal(int number) { (void)number, signals_seen++; }

HELPER void catch_signal(int number) {
    struct sigaction action = {.sa_handler = count_signal};
    MUST(sigaction(number, &action, NULL));
}
#endif
