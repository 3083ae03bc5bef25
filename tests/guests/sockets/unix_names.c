// Abstract names, names chosen by themselves, seqpacket sockets and /proc/net/unix.
#include "sockets.h"

static char buf[70000];

static int abstract_bind(int fd, const char *name, int len) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path + 1, name, len);
    return bind(fd, (void *)&address, 3 + len);
}

static int abstract_connect(int fd, const char *name, int len) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path + 1, name, len);
    return connect(fd, (void *)&address, 3 + len);
}

TEST(abstract) {
    int a = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(abstract_bind(a, "na\0me", 5));
    CHECK_ERR(abstract_bind(b, "na\0me", 5), EADDRINUSE);
    CHECK_ERR(abstract_connect(b, "na\0me", 5), ECONNREFUSED);
    CHECK_OK(listen(a, 1));
    CHECK_ERR(abstract_connect(b, "na", 2), ECONNREFUSED);
    CHECK_ERR(abstract_connect(b, "na\0me\0", 6), ECONNREFUSED);
    CHECK_OK(abstract_connect(b, "na\0me", 5));
    struct sockaddr_un address;
    socklen_t len = sizeof address;
    CHECK_OK(getpeername(b, (void *)&address, &len));
    CHECK_EQ(len, 8);
    CHECK(!memcmp(address.sun_path, "\0na\0me", 6));
    // Kinds have names of their own.
    CHECK_OK(abstract_bind(MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), "na\0me", 5));
    close(a);
    // The one that waits to be accepted goes with its listener, and so the name is free.
    CHECK_OK(abstract_bind(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "na\0me", 5));
}

TEST(held_by_accepted) {
    int a = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(abstract_bind(a, "held", 4));
    MUST(listen(a, 1));
    MUST(abstract_connect(b, "held", 4));
    int c = MUST(accept(a, NULL, NULL));
    close(a);
    int again = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(abstract_bind(again, "held", 4));
    close(c);
    CHECK_OK(listen(again, 1));
    CHECK_OK(abstract_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "held", 4));
}

TEST(automatic) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int a = MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), b = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    CHECK_OK(bind(a, (void *)&address, 2));
    CHECK_OK(bind(b, (void *)&address, 2));
    socklen_t len = sizeof address;
    CHECK_OK(getsockname(a, (void *)&address, &len));
    CHECK_EQ(len, 8);
    CHECK_EQ(address.sun_path[0], 0);
    CHECK_EQ(strspn(address.sun_path + 1, "0123456789abcdef"), 5);
    CHECK_OK(connect(b, (void *)&address, len));
    CHECK_EQ(send(b, "x", 1, 0), 1);
    CHECK_EQ(recv(a, buf, 9, 0), 1);
    // A sender that wants its credentials known gets a name as well.
    int c = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    CHECK_OK(set_number(c, SOL_SOCKET, SO_PASSCRED, 1));
    CHECK_EQ(sendto(c, "x", 1, 0, (void *)&address, len), 1);
    len = sizeof address;
    CHECK_OK(getsockname(c, (void *)&address, &len));
    CHECK_EQ(len, 8);
    // An automatic name again is no error.
    CHECK_OK(bind(c, (void *)&address, 2));
}

TEST(seqpacket) {
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    CHECK_EQ(number_option(pair[0], SOL_SOCKET, SO_TYPE), SOCK_SEQPACKET);
    CHECK_EQ(send(pair[0], "one", 3, 0), 3);
    CHECK_EQ(send(pair[0], "two!", 4, 0), 4);
    CHECK_EQ(send(pair[0], "", 0, 0), 0);
    struct iovec iov = {buf, 2};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(pair[1], &message, 0), 2);
    CHECK_EQ(message.msg_flags, MSG_TRUNC);
    CHECK_EQ(recv(pair[1], buf, 100, 0), 4);
    CHECK_EQ(recv(pair[1], buf, 100, 0), 0);
    CHECK_ERR(recv(pair[1], buf, 100, MSG_DONTWAIT), EAGAIN);
    CHECK_ERR(send(pair[0], buf, 1, MSG_OOB), EOPNOTSUPP);
    close(pair[0]);
    CHECK_EQ(recv(pair[1], buf, 100, 0), 0);
    CHECK_ERR(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(events(pair[1], POLLIN | POLLRDHUP), POLLIN | POLLRDHUP | POLLHUP);
    int status = IN_CHILD({ send(pair[1], "x", 1, 0); });
    // SIGPIPE is for streams.
    CHECK_EQ(status, 0);
    int a = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0)), b = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    CHECK_ERR(recv(b, buf, 1, 0), ENOTCONN);
    CHECK_ERR(send(b, buf, 1, 0), ENOTCONN);
    MUST(unix_bind(a, "s"));
    CHECK_ERR(unix_connect(b, "s"), ECONNREFUSED);
    MUST(listen(a, 1));
    CHECK_OK(unix_connect(b, "s"));
    CHECK_EQ(send(b, "early", 5, 0), 5);
    int c = MUST(accept(a, NULL, NULL));
    CHECK_EQ(recv(c, buf, 9, 0), 5);
    CHECK_ERR(unix_connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), "s"), EPROTOTYPE);
}

// Finds the line about a name; gives what stands before it.
static int proc_line(const char *name, char *line, int size) {
    FILE *file = fopen("/proc/net/unix", "r");
    MUST(file ? 0 : -1);
    int found = 0;
    while (!found && fgets(line, size, file)) {
        line[strcspn(line, "\n")] = 0;
        char *space = strrchr(line, ' ');
        found = space && !strcmp(space + 1, name);
    }
    fclose(file);
    return found;
}

TEST(proc) {
    char line[256];
    FILE *file = fopen("/proc/net/unix", "r");
    fgets(line, sizeof line, file);
    CHECK_STR(line, "Num       RefCount Protocol Flags    Type St Inode Path\n");
    fclose(file);
    int a = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(abstract_bind(a, "listed-name", 11));
    unsigned long references, protocol, flags, type, state, inode;
    CHECK(proc_line("@listed-name", line, sizeof line));
    CHECK_EQ(sscanf(line, "%*x: %lx %lx %lx %lx %lx %lu", &references, &protocol, &flags, &type, &state, &inode), 6);
    struct stat st;
    fstat(a, &st);
    CHECK_EQ(references, 2);
    CHECK_EQ(flags, 0);
    CHECK_EQ(type, SOCK_STREAM);
    CHECK_EQ(state, 1);
    CHECK_EQ(inode, st.st_ino);
    MUST(listen(a, 1));
    CHECK(proc_line("@listed-name", line, sizeof line));
    CHECK_EQ(sscanf(line, "%*x: %lx %lx %lx %lx %lx %lu", &references, &protocol, &flags, &type, &state, &inode), 6);
    CHECK_EQ(flags, 0x10000);
    // Sockets without a name are listed as well.
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    fstat(pair[0], &st);
    char number[32];
    snprintf(number, sizeof number, "%lu", (unsigned long)st.st_ino);
    CHECK(proc_line(number, line, sizeof line));
    CHECK_EQ(sscanf(line, "%*x: %lx %lx %lx %lx %lx %lu", &references, &protocol, &flags, &type, &state, &inode), 6);
    CHECK_EQ(type, SOCK_DGRAM);
    CHECK_EQ(state, 3);
    CHECK_EQ(references, 3);
    close(pair[0]);
    close(pair[1]);
    CHECK(!proc_line(number, line, sizeof line));
}
