// Descriptors: dup, dup3, close_range and its flags, limits, fcntl; listing directories while they change.
#include "../check.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#define CLOSE_RANGE_CLOEXEC 4
#endif

static int range(unsigned first, unsigned last, unsigned flags) { return syscall(SYS_close_range, first, last, flags); }

static int is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(duplicates) {
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    int copy = CHECK_OK(dup(fd));
    CHECK_EQ(fcntl(copy, F_GETFD), 0);
    CHECK_EQ(write(fd, "abc", 3), 3);
    CHECK_EQ(lseek(copy, 0, SEEK_CUR), 3);
    CHECK_OK(fcntl(fd, F_SETFL, O_APPEND));
    CHECK(fcntl(copy, F_GETFL) & O_APPEND);
    CHECK_EQ(dup2(fd, fd), fd);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(dup2(fd, 100), 100);
    CHECK_EQ(fcntl(100, F_GETFD), 0);
    CHECK_EQ(dup3(fd, 101, O_CLOEXEC), 101);
    CHECK_EQ(fcntl(101, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(dup3(fd, fd, 0), EINVAL);
    CHECK_ERR(dup3(fd, 102, O_APPEND), EINVAL);
    CHECK_ERR(dup2(-1, 102), EBADF);
    CHECK_ERR(dup2(-1, -1), EBADF);
    CHECK_ERR(dup2(fd, -1), EBADF);
    CHECK_ERR(dup3(-1, -1, 0), EINVAL);
    CHECK_ERR(dup(500), EBADF);
    CHECK_EQ(fcntl(fd, F_DUPFD, 100), 102);
    CHECK_EQ(fcntl(fd, F_DUPFD_CLOEXEC, 103), 103);
    CHECK_EQ(fcntl(103, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(fcntl(fd, F_DUPFD, -1), EINVAL);
    CHECK_ERR(fcntl(fd, F_DUPFD, 1 << 30), EINVAL);
    CHECK_ERR(fcntl(fd, 9999), EINVAL);
    CHECK_OK(close(100));
    CHECK_EQ(fcntl(fd, F_DUPFD, 100), 100);
    CHECK_ERR(close(500), EBADF);
    CHECK_ERR(close(-1), EBADF);
}

TEST(limits) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 20;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    int fd, last = -1;
    while ((fd = open(".", O_RDONLY)) >= 0)
        last = fd;
    CHECK_EQ(errno, EMFILE);
    CHECK_EQ(last, 19);
    CHECK_ERR(dup(0), EMFILE);
    CHECK_ERR(dup2(0, 20), EBADF);
    CHECK_ERR(dup3(0, 20, 0), EBADF);
    CHECK_ERR(fcntl(0, F_DUPFD, 20), EINVAL);
    CHECK_ERR(fcntl(0, F_DUPFD, 5), EMFILE);
    int pipes[2];
    CHECK_ERR(pipe(pipes), EMFILE);
    CHECK_OK(close(19));
    CHECK_ERR(pipe(pipes), EMFILE);
    CHECK(!is_open(19));
    CHECK_ERR(open("none", O_RDONLY), ENOENT);
    CHECK_EQ(dup2(0, 19), 19);
    // What was open stays when the limit falls.
    limit.rlim_cur = 5;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_OK(fcntl(19, F_GETFD));
    CHECK_ERR(dup2(0, 10), EBADF);
    limit.rlim_cur = 0;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_ERR(open(".", O_RDONLY), EMFILE);
}

TEST(ranges) {
    for (int fd = 50; fd < 60; fd++)
        CHECK_EQ(dup2(0, fd), fd);
    CHECK_ERR(range(55, 50, 0), EINVAL);
    CHECK_ERR(range(50, 55, 1), EINVAL);
    CHECK_ERR(range(50, 55, 8), EINVAL);
    CHECK_OK(range(52, 53, 0));
    CHECK(is_open(51) && !is_open(52) && !is_open(53) && is_open(54));
    CHECK_OK(range(52, 53, 0));
    CHECK_OK(range(54, 55, CLOSE_RANGE_CLOEXEC));
    CHECK_EQ(fcntl(54, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(55, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(56, F_GETFD), 0);
    CHECK_OK(range(58, -1, CLOSE_RANGE_CLOEXEC));
    CHECK_EQ(fcntl(59, F_GETFD), FD_CLOEXEC);
    CHECK_OK(range(57, -1, 0));
    CHECK(is_open(56) && !is_open(57) && !is_open(58) && !is_open(59));
    CHECK_OK(range(-1, -1, 0));
}

static int unshared(void *) {
    CHECK_OK(range(60, 62, CLOSE_RANGE_UNSHARE));
    CHECK(!is_open(60) && is_open(63));
    return 0;
}

static int unshared_cloexec(void *) {
    CHECK_OK(range(60, 62, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC));
    CHECK_EQ(fcntl(60, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(63, F_GETFD), 0);
    return 0;
}

static int shared(void *) {
    CHECK_OK(range(60, 60, 0));
    return 0;
}

static void child(int (*run)(void *)) {
    static char stack[65536];
    int status;
    pid_t pid = MUST(clone(run, stack + sizeof stack, CLONE_FILES | CLONE_VM | SIGCHLD, NULL));
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

TEST(unsharing) {
    for (int fd = 60; fd < 64; fd++)
        CHECK_EQ(dup2(0, fd), fd);
    child(unshared);
    CHECK(is_open(60));
    child(unshared_cloexec);
    CHECK_EQ(fcntl(60, F_GETFD), 0);
    child(shared);
    CHECK(!is_open(60));
}

TEST(flags) {
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC | O_EXCL | O_NOFOLLOW | O_NONBLOCK, 0644));
    CHECK_EQ(fcntl(fd, F_GETFL) & ~0100000, O_RDWR | O_NONBLOCK | O_NOFOLLOW);
    CHECK_OK(fcntl(fd, F_SETFL, O_WRONLY | O_CREAT | O_APPEND));
    CHECK_EQ(fcntl(fd, F_GETFL) & ~0100000, O_RDWR | O_APPEND | O_NOFOLLOW);
    CHECK_OK(fcntl(fd, F_SETFD, -1));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_OK(fcntl(fd, F_SETFD, 2));
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    CHECK_ERR(open("f", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    // Access mode 3 is for ioctl alone.
    int none = CHECK_OK(open("f", 3));
    char byte;
    CHECK_ERR(read(none, &byte, 1), EBADF);
    CHECK_ERR(write(none, &byte, 1), EBADF);
    CHECK_EQ(fcntl(none, F_GETFL) & 3, 3);
    int d = MUST(open(".", O_RDONLY));
    CHECK_ERR(read(d, &byte, 1), EISDIR);
    CHECK_ERR(write(d, &byte, 1), EBADF);
    CHECK_ERR(open(".", O_RDWR), EISDIR);
    CHECK_ERR(open(".", O_RDONLY | O_CREAT, 0600), EISDIR);
    CHECK_ERR(open("new", O_CREAT | O_DIRECTORY | O_RDWR, 0600), EINVAL);
    CHECK_ERR(open("f", O_DIRECTORY | O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f/", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("new/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_ERR(open("", O_RDONLY), ENOENT);
}

static int list(DIR *dir, char seen[256]) {
    int count = 0;
    memset(seen, 0, 256);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] == 'e')
            seen[atoi(entry->d_name + 1)]++, count++;
    return count;
}

TEST(listing_while_changing) {
    MUST(mkdir("d", 0755));
    char name[32], seen[256];
    for (int i = 0; i < 200; i++) {
        sprintf(name, "d/e%d", i);
        CHECK_OK(close(MUST(open(name, O_CREAT | O_WRONLY, 0644))));
    }
    DIR *dir = opendir("d");
    CHECK(dir);
    CHECK_EQ(list(dir, seen), 200);
    rewinddir(dir);
    // Entries that stay are listed exactly once, whatever comes and goes meanwhile.
    int half = 0;
    char first[256] = {0};
    for (struct dirent *entry; half < 100 && (entry = readdir(dir));)
        if (entry->d_name[0] == 'e')
            first[atoi(entry->d_name + 1)]++, half++;
    for (int i = 0; i < 200; i += 2) {
        sprintf(name, "d/e%d", i);
        CHECK_OK(unlink(name));
        sprintf(name, "d/x%d", i);
        CHECK_OK(close(MUST(open(name, O_CREAT | O_WRONLY, 0644))));
    }
    list(dir, seen);
    for (int i = 1; i < 200; i += 2)
        if (!CHECK_EQ(first[i] + seen[i], 1))
            break;
    // Removing everything while listing leaves an empty directory.
    rewinddir(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            CHECK_OK(unlinkat(dirfd(dir), entry->d_name, 0));
    closedir(dir);
    CHECK_OK(rmdir("d"));
}

TEST(seeking_in_directories) {
    MUST(mkdir("d", 0755));
    char name[32];
    for (int i = 0; i < 20; i++) {
        sprintf(name, "d/e%d", i);
        CHECK_OK(close(MUST(open(name, O_CREAT | O_WRONLY, 0644))));
    }
    DIR *dir = opendir("d");
    for (int i = 0; i < 5; i++)
        CHECK(readdir(dir));
    long place = telldir(dir);
    struct dirent *entry = readdir(dir);
    CHECK(entry);
    char expected[256];
    snprintf(expected, sizeof expected, "%s", entry->d_name);
    while (readdir(dir))
        ;
    seekdir(dir, place);
    entry = readdir(dir);
    CHECK(entry);
    CHECK_STR(entry->d_name, expected);
    rewinddir(dir);
    int count = 0;
    while (readdir(dir))
        count++;
    CHECK_EQ(count, 22);
    closedir(dir);
    // A buffer too small for one entry; a bad one.
    int fd = MUST(open("d", O_RDONLY));
    char buffer[1024];
    CHECK_ERR(syscall(SYS_getdents64, fd, buffer, 10), EINVAL);
    CHECK_ERR(syscall(SYS_getdents64, fd, BAD, 1024), EFAULT);
    CHECK_CMP(syscall(SYS_getdents64, fd, buffer, 64), >, 0);
    CHECK_ERR(syscall(SYS_getdents64, MUST(open("d/e1", O_RDONLY)), buffer, 1024), ENOTDIR);
    CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_OK(lseek(fd, 0, SEEK_SET));
    int removed = MUST(open("d", O_RDONLY));
    for (int i = 0; i < 20; i++) {
        sprintf(name, "d/e%d", i);
        CHECK_OK(unlink(name));
    }
    CHECK_OK(rmdir("d"));
    CHECK_ERR(syscall(SYS_getdents64, removed, buffer, 1024), ENOENT);
}

// Many threads open and close: no descriptor is handed out twice.
static void *worker(void *unused) {
    for (int i = 0; i < 200; i++) {
        int fd = open(".", O_RDONLY | O_CLOEXEC);
        CHECK_CMP(fd, >=, 0);
        struct stat st;
        CHECK_OK(fstat(fd, &st));
        CHECK_OK(close(fd));
    }
    return unused;
}

TEST(threads) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_RET(pthread_create(&threads[i], NULL, worker, NULL), 0);
    for (int i = 0; i < 4; i++)
        CHECK_RET(pthread_join(threads[i], NULL), 0);
}
