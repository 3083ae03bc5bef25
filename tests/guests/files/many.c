// Many of a kind on one file or at one place: what each costs must not grow with their number, or these never end.
#include "../check.h"
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>

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
    for (int i = 0; i < N; i++)
        failed += lock(fd, F_SETLK, F_UNLCK, i * 2L) != 0;
    CHECK_EQ(failed, 0);
    CHECK_CHILD({ CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0)); });
}

TEST(locks_of_descriptions) {
    int count = room(5000), failed = 0;
    close(MUST(open("f", O_RDWR | O_CREAT, 0644)));
    for (int i = 0; i < count; i++) {
        int fd = open("f", O_RDWR);
        failed += fd < 0 || lock(fd, F_OFD_SETLK, F_WRLCK, i * 2L) != 0 || flock(fd, LOCK_SH) != 0;
    }
    CHECK_EQ(failed, 0);
    int fd = MUST(open("f", O_RDWR));
    CHECK_ERR(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_ERR(lock(fd, F_OFD_SETLK, F_RDLCK, (count - 1) * 2L), EAGAIN);
    closefrom(3);
    fd = MUST(open("f", O_RDWR));
    CHECK_OK(flock(fd, LOCK_EX | LOCK_NB));
    CHECK_OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0));
}

// A namespace of its own in which nothing spreads from or to outside.
static void own(void) {
    if (unshare(CLONE_NEWNS))
        SKIP("no mount namespaces: %s", strerror(errno));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

TEST(mounts_on_each_other) {
    own();
    MUST(mkdir("from", 0755));
    MUST(mkdir("to", 0755));
    int failed = 0;
    for (int i = 0; i < 3000; i++)
        failed += mount("from", "to", NULL, MS_BIND, NULL) != 0;
    CHECK_EQ(failed, 0);
    // All are copied for a namespace, and let go with that.
    CHECK_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(umount2("to", 0));
    });
    CHECK_OK(umount2("to", 0));
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
    enum { N = 3000 };
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%d", i);
        failed += mkdir(name, 0755) != 0 || mount("one", name, NULL, MS_BIND, NULL) != 0;
    }
    CHECK_EQ(failed, 0);
    // What is mounted beneath one appears beneath all, and goes from all.
    MUST(mkdir("from/here", 0755));
    CHECK_OK(mount("from", "one/below", NULL, MS_BIND, NULL));
    strcat(name, "/below/here");
    CHECK_OK(access(name, F_OK));
    CHECK_OK(umount2("one/below", 0));
    CHECK_ERR(access(name, F_OK), ENOENT);
    CHECK_OK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
}

TEST(entries_listed_with_small_buffers) {
    int count = room(15000), found = 0;
    for (int i = 0; i < count; i++)
        MUST(dup(0));
    int directory = MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY)), size;
    char buffer[100];
    while ((size = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0)
        for (int at = 0; at < size; at += *(unsigned short *)(buffer + at + 16))
            found++;
    CHECK_EQ(size, 0);
    // Beside those: the standard ones, the directory itself, `.` and `..`.
    CHECK_CMP(found, >=, count + 3);
}
