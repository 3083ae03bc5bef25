// Many of a kind on one file or at one place: what each costs must not grow with their number, or these never end.
#include "../check.h"
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>

// As many descriptors as there may be; gives how many of `wanted` that leaves room for.
static int room(int wanted) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    return limit.rlim_max < (rlim_t)wanted + 20 ? (int)limit.rlim_max - 20 : wanted;
}

static int lock(int fd, int command, short type, off_t start) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    return fcntl(fd, command, &lock);
}

TEST(record_locks) {
    enum { N = 8000 };
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644)), failed = 0;
    for (int i = 0; i < N; i++)
        failed += lock(fd, F_SETLK, i % 2 ? F_RDLCK : F_WRLCK, i * 2L) != 0;
    CHECK_EQ(failed, 0);
    CHECK_CHILD({
        CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, 0), EAGAIN);
        CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, (N - 2) * 2L), EAGAIN);
        CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, (N - 1) * 2L), EAGAIN);
        CHECK_OK(lock(fd, F_SETLK, F_RDLCK, (N - 1) * 2L));
        CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 1));
    });
    // A close of any descriptor gives all up.
    close(dup(fd));
    CHECK_CHILD({ CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0)); });
}

TEST(locks_of_descriptions) {
    int count = room(5000), failed = 0;
    close(MUST(open("f", O_RDWR | O_CREAT, 0644)));
    for (int i = 0; i < count; i++) {
        int fd = open("f", O_RDWR);
        failed += fd < 0 || lock(fd, F_OFD_SETLK, F_WRLCK, i * 2L) != 0;
    }
    CHECK_EQ(failed, 0);
    int fd = MUST(open("f", O_RDWR));
    CHECK_ERR(lock(fd, F_OFD_SETLK, F_RDLCK, (count - 1) * 2L), EAGAIN);
    closefrom(3);
    fd = MUST(open("f", O_RDWR));
    CHECK_OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0));
}

// A namespace of its own in which nothing spreads from or to outside.
static void own(void) {
    if (unshare(CLONE_NEWNS))
        SKIP("no mount namespaces: %s", strerror(errno));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

// Each lies on a directory of the one before. All are copied for a namespace, and let go with that.
TEST(mounts_in_each_other) {
    own();
    MUST(mkdir("from", 0755));
    MUST(mkdir("from/d", 0755));
    char from[4096];
    MUST(syscall(SYS_getcwd, from, sizeof from - 6));
    strcat(from, "/from");
    MUST(chdir("from"));
    int failed = 0;
    for (int i = 0; i < 3000; i++)
        failed += mount(from, "d", NULL, MS_BIND, NULL) != 0 || chdir("d") != 0;
    CHECK_EQ(failed, 0);
    CHECK_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(mount(from, "d", NULL, MS_BIND, NULL));
        CHECK_OK(umount2("d", 0));
    });
    CHECK_OK(access("d", F_OK));
}

TEST(mounts_in_a_peer_group) {
    own();
    MUST(mkdir("one", 0755));
    MUST(mkdir("from", 0755));
    MUST(mount("none", "one", "tmpfs", 0, NULL));
    MUST(mount(NULL, "one", NULL, MS_SHARED, NULL));
    MUST(mkdir("one/below", 0755));
    char name[16] = "";
    int failed = 0;
    enum { N = 2000 };
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%d", i);
        failed += mkdir(name, 0755) != 0 || mount("one", name, NULL, MS_BIND, NULL) != 0;
    }
    CHECK_EQ(failed, 0);
    // What is mounted beneath one appears beneath all, and goes from all.
    MUST(mkdir("from/here", 0755));
    strcat(name, "/below/here");
    for (int i = 0; i < 10; i++) {
        CHECK_OK(mount("from", "one/below", NULL, MS_BIND, NULL));
        CHECK_OK(access(name, F_OK));
        CHECK_OK(umount2("one/below", 0));
        CHECK_ERR(access(name, F_OK), ENOENT);
    }
    CHECK_OK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
}

static int made[20000];

// Makes `count` more descriptors of a file, 250 at a time.
static void multiply(int fd, int count) {
    int pair[2], fds[250], *next = made;
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    for (int i = 0; i < 250; i++)
        fds[i] = fd;
    for (; count > 0; count -= 250) {
        char control[CMSG_SPACE(sizeof fds)] = {0};
        struct iovec iov = {"x", 1};
        struct msghdr message = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(header), fds, sizeof fds);
        MUST(sendmsg(pair[0], &message, 0));
        char byte;
        iov.iov_base = &byte;
        MUST(recvmsg(pair[1], &message, 0));
        memcpy(next, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
        next += 250;
    }
}

TEST(entries_listed_with_small_buffers) {
    int count = room(15000) / 250 * 250, found = 0;
    multiply(0, count);
    int directory = MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY)), size;
    char buffer[200];
    while ((size = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0)
        for (int at = 0; at < size; at += *(unsigned short *)(buffer + at + 16))
            found++;
    CHECK_EQ(size, 0);
    // Beside those: the standard ones, the directory itself, `.` and `..`.
    CHECK_CMP(found, >=, count + 3);
}

// One description under many numbers in one epoll: its wait queue has as many places.
TEST(waiters_of_one_file) {
    int count = room(6000) / 250 * 250, failed = 0;
    int file = MUST(eventfd(0, 0));
    multiply(file, count);
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, events[8];
    for (int i = 0; i < count; i++)
        failed += epoll_ctl(epoll, EPOLL_CTL_ADD, made[i], &event) != 0;
    CHECK_EQ(failed, 0);
    uint64_t one = 1;
    CHECK_EQ(write(file, &one, 8), 8);
    CHECK_EQ(epoll_wait(epoll, events, 8, 0), 8);
    CHECK_OK(close(epoll));
    epoll = MUST(epoll_create1(0));
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event));
    CHECK_EQ(epoll_wait(epoll, events, 8, 0), 1);
}
