// statx(2) and utimensat(2): masks, flags, what they fill in, who may set times; fifos and their times; special opens.
#include "../check.h"
#include <grp.h>
#include <poll.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <utime.h>

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000
#endif
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000
#endif

static void put(const char *path) {
    int fd = MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
    CHECK_EQ(write(fd, "text", 4), 4);
    CHECK_OK(close(fd));
}

static void pause_ms(int ms) {
    struct timespec time = {0, ms * 1000000};
    nanosleep(&time, NULL);
}

static int64_t nanos(struct timespec time) { return time.tv_sec * 1000000000ll + time.tv_nsec; }

TEST(statx_fields) {
    put("f");
    CHECK_OK(chmod("f", 0640));
    struct stat st;
    struct statx stx = {0};
    CHECK_OK(stat("f", &st));
    CHECK_OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &stx));
    CHECK_EQ(stx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    CHECK_EQ(stx.stx_mode, st.st_mode);
    CHECK_EQ(stx.stx_size, 4);
    CHECK_EQ(stx.stx_nlink, 1);
    CHECK_EQ(stx.stx_ino, st.st_ino);
    CHECK_EQ(stx.stx_uid, 0);
    CHECK_EQ(stx.stx_blksize, st.st_blksize);
    CHECK_EQ(stx.stx_blocks, st.st_blocks);
    CHECK_EQ(makedev(stx.stx_dev_major, stx.stx_dev_minor), st.st_dev);
    CHECK_EQ(stx.stx_mtime.tv_sec, st.st_mtime);
    CHECK_EQ(stx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
    CHECK_EQ(stx.stx_ctime.tv_nsec, st.st_ctim.tv_nsec);
    if (stx.stx_mask & STATX_BTIME) {
        CHECK_CMP(stx.stx_btime.tv_sec, <=, st.st_mtime);
        CHECK_CMP(stx.stx_btime.tv_sec, >, 1600000000);
    }
    // More may be given than was asked for; nothing need be asked for.
    CHECK_OK(statx(AT_FDCWD, "f", 0, 0, &stx));
    CHECK_OK(statx(AT_FDCWD, "f", 0, STATX_SIZE, &stx));
    CHECK(stx.stx_mask & STATX_SIZE);
    CHECK_OK(statx(AT_FDCWD, "f", 0, 0x7fffffff, &stx));
    CHECK_ERR(statx(AT_FDCWD, "f", 0, 0x80000000, &stx), EINVAL);
    int null = MUST(open("/dev/null", O_PATH));
    CHECK_OK(statx(null, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
    CHECK_EQ(stx.stx_rdev_major, 1);
    CHECK_EQ(stx.stx_rdev_minor, 3);
    CHECK_EQ(stx.stx_mode, S_IFCHR | 0666);
}

TEST(statx_flags) {
    put("f");
    CHECK_OK(symlink("f", "l"));
    struct statx stx;
    CHECK_OK(statx(AT_FDCWD, "l", 0, STATX_BASIC_STATS, &stx));
    CHECK(S_ISREG(stx.stx_mode));
    CHECK_OK(statx(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx));
    CHECK(S_ISLNK(stx.stx_mode));
    CHECK_EQ(stx.stx_size, 1);
    CHECK_OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx));
    CHECK_OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx));
    CHECK_ERR(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx), EINVAL);
    CHECK_ERR(statx(AT_FDCWD, "f", 0x10, STATX_BASIC_STATS, &stx), EINVAL);
    CHECK_ERR(statx(AT_FDCWD, "", 0, STATX_BASIC_STATS, &stx), ENOENT);
    CHECK_OK(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
    CHECK(S_ISDIR(stx.stx_mode));
    int fd = MUST(open("f", O_RDONLY));
    CHECK_OK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
    CHECK_EQ(stx.stx_size, 4);
    CHECK_ERR(statx(fd, "x", 0, STATX_BASIC_STATS, &stx), ENOTDIR);
    CHECK_ERR(statx(-1, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx), EBADF);
    CHECK_ERR(statx(-1, "f", 0, STATX_BASIC_STATS, &stx), EBADF);
    CHECK_ERR(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, BAD), EFAULT);
    CHECK_ERR(statx(AT_FDCWD, BAD, 0, STATX_BASIC_STATS, &stx), EFAULT);
    CHECK_ERR(statx(AT_FDCWD, "none", 0, STATX_BASIC_STATS, &stx), ENOENT);
    struct stat st;
    CHECK_ERR(fstatat(AT_FDCWD, "f", &st, AT_SYMLINK_FOLLOW), EINVAL);
    CHECK_ERR(fstatat(AT_FDCWD, "f", &st, 0x8000), EINVAL);
    CHECK_OK(fstatat(AT_FDCWD, "f", &st, AT_NO_AUTOMOUNT));
    CHECK_ERR(fstatat(AT_FDCWD, "f", BAD, 0), EFAULT);
    CHECK_ERR(lstat("f/", &st), ENOTDIR);
}

TEST(statx_mounts) {
    struct statx root, proc;
    CHECK_OK(statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &root));
    CHECK_OK(statx(AT_FDCWD, "/proc", 0, STATX_MNT_ID, &proc));
    CHECK(root.stx_mask & STATX_MNT_ID);
    CHECK(root.stx_mnt_id != proc.stx_mnt_id);
    CHECK(proc.stx_attributes_mask & 0x2000);
    CHECK(proc.stx_attributes & 0x2000);
    CHECK_OK(statx(AT_FDCWD, "/proc/self", AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &root));
    CHECK(!(root.stx_attributes & 0x2000));
    CHECK_EQ(root.stx_mnt_id, proc.stx_mnt_id);
    CHECK_OK(statx(AT_FDCWD, "/proc", 0, STATX_MNT_ID_UNIQUE, &root));
    if (root.stx_mask & STATX_MNT_ID_UNIQUE)
        CHECK_CMP(root.stx_mnt_id, >, 1ll << 31);
}

TEST(times_change) {
    put("f");
    struct stat one, two;
    MUST(stat("f", &one));
    pause_ms(20);
    int fd = MUST(open("f", O_RDWR));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(fstat(fd, &two));
    CHECK_CMP(nanos(two.st_mtim), >, nanos(one.st_mtim));
    CHECK_EQ(nanos(two.st_mtim), nanos(two.st_ctim));
    one = two;
    pause_ms(20);
    CHECK_OK(fchmod(fd, 0600));
    CHECK_OK(fstat(fd, &two));
    CHECK_EQ(nanos(two.st_mtim), nanos(one.st_mtim));
    CHECK_CMP(nanos(two.st_ctim), >, nanos(one.st_ctim));
    one = two;
    pause_ms(20);
    CHECK_OK(link("f", "g"));
    CHECK_OK(fstat(fd, &two));
    CHECK_CMP(nanos(two.st_ctim), >, nanos(one.st_ctim));
    one = two;
    pause_ms(20);
    CHECK_OK(unlink("g"));
    CHECK_OK(fstat(fd, &two));
    CHECK_CMP(nanos(two.st_ctim), >, nanos(one.st_ctim));
    one = two;
    pause_ms(20);
    CHECK_OK(rename("f", "h"));
    CHECK_OK(fstat(fd, &two));
    CHECK_CMP(nanos(two.st_ctim), >, nanos(one.st_ctim));
    CHECK_EQ(nanos(two.st_mtim), nanos(one.st_mtim));
    one = two;
    pause_ms(20);
    CHECK_EQ(write(fd, "x", 0), 0);
    CHECK_OK(fstat(fd, &two));
    CHECK_EQ(nanos(two.st_mtim), nanos(one.st_mtim));
    // A directory's time tells of its entries.
    struct stat before, after;
    MUST(mkdir("d", 0755));
    MUST(stat("d", &before));
    pause_ms(20);
    put("d/x");
    MUST(stat("d", &after));
    CHECK_CMP(nanos(after.st_mtim), >, nanos(before.st_mtim));
    before = after;
    pause_ms(20);
    put("d/x");
    MUST(stat("d", &after));
    CHECK_EQ(nanos(after.st_mtim), nanos(before.st_mtim));
    CHECK_OK(unlink("d/x"));
    MUST(stat("d", &after));
    CHECK_CMP(nanos(after.st_mtim), >, nanos(before.st_mtim));
    // A shared mapping's change shows at the latest after msync.
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(fstat(fd, &before));
    pause_ms(20);
    map[0] = 'm';
    CHECK_OK(msync(map, 4096, MS_SYNC));
    MUST(fstat(fd, &after));
    CHECK_CMP(nanos(after.st_mtim), >, nanos(before.st_mtim));
}

TEST(setting_times) {
    put("f");
    CHECK_OK(symlink("f", "l"));
    struct stat st, old;
    struct timespec times[2] = {{100, 5}, {200, 6}};
    CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
    CHECK_OK(stat("f", &st));
    CHECK_EQ(nanos(st.st_atim), 100000000005ll);
    CHECK_EQ(nanos(st.st_mtim), 200000000006ll);
    CHECK_CMP(st.st_ctime, >, 1600000000);
    times[0].tv_nsec = UTIME_OMIT;
    times[1] = (struct timespec){300, 0};
    CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
    CHECK_OK(stat("f", &st));
    CHECK_EQ(st.st_atime, 100);
    CHECK_EQ(st.st_mtime, 300);
    times[0].tv_nsec = UTIME_NOW;
    times[1].tv_nsec = UTIME_OMIT;
    CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
    CHECK_OK(stat("f", &st));
    CHECK_CMP(st.st_atime, >, 1600000000);
    CHECK_EQ(st.st_mtime, 300);
    times[0].tv_nsec = times[1].tv_nsec = UTIME_OMIT;
    old = st;
    CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
    CHECK_OK(utimensat(AT_FDCWD, "none", times, 0));
    CHECK_OK(stat("f", &st));
    CHECK_EQ(nanos(st.st_ctim), nanos(old.st_ctim));
    times[0].tv_nsec = 1000000000;
    CHECK_ERR(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
    times[0].tv_nsec = -1;
    CHECK_ERR(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
    times[0] = times[1] = (struct timespec){-5, 0};
    CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
    CHECK_OK(stat("f", &st));
    CHECK_EQ(st.st_mtime, -5);
    times[0] = times[1] = (struct timespec){400, 0};
    CHECK_OK(utimensat(AT_FDCWD, "l", times, AT_SYMLINK_NOFOLLOW));
    CHECK_OK(lstat("l", &st));
    CHECK_EQ(st.st_mtime, 400);
    CHECK_OK(stat("l", &st));
    CHECK_EQ(st.st_mtime, -5);
    CHECK_ERR(utimensat(AT_FDCWD, "f", times, 0x8000), EINVAL);
    CHECK_ERR(utimensat(AT_FDCWD, "f", BAD, 0), EFAULT);
    CHECK_ERR(syscall(SYS_utimensat, AT_FDCWD, NULL, times, 0), EFAULT);
    int fd = MUST(open("f", O_RDONLY));
    CHECK_OK(syscall(SYS_utimensat, fd, NULL, times, 0));
    CHECK_ERR(syscall(SYS_utimensat, fd, NULL, times, AT_SYMLINK_NOFOLLOW), EINVAL);
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mtime, 400);
    int path = MUST(open("f", O_PATH));
    CHECK_ERR(futimens(path, times), EBADF);
    CHECK_OK(utimensat(path, "", times, AT_EMPTY_PATH));
    struct timeval usec[2] = {{1, 999999}, {2, 1000000}};
    CHECK_ERR(utimes("f", usec), EINVAL);
    usec[1].tv_usec = 5;
    CHECK_OK(utimes("f", usec));
    CHECK_OK(stat("f", &st));
    CHECK_EQ(nanos(st.st_atim), 1999999000ll);
    CHECK_EQ(nanos(st.st_mtim), 2000005000ll);
    struct utimbuf seconds = {7, 8};
    CHECK_OK(utime("f", &seconds));
    CHECK_OK(stat("f", &st));
    CHECK_EQ(st.st_mtime, 8);
}

TEST(who_may_set_times) {
    put("f");
    put("w");
    CHECK_OK(chmod("w", 0666));
    CHECK_CHILD({
        MUST(setgroups(0, NULL));
        MUST(setresgid(1000, 1000, 1000));
        MUST(setresuid(1000, 1000, 1000));
        struct timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
        CHECK_ERR(utimensat(AT_FDCWD, "f", NULL, 0), EACCES);
        CHECK_ERR(utimensat(AT_FDCWD, "f", times, 0), EACCES);
        CHECK_OK(utimensat(AT_FDCWD, "w", NULL, 0));
        CHECK_OK(utimensat(AT_FDCWD, "w", times, 0));
        times[1].tv_nsec = UTIME_OMIT;
        CHECK_ERR(utimensat(AT_FDCWD, "w", times, 0), EPERM);
        times[0].tv_nsec = UTIME_OMIT, times[1].tv_nsec = UTIME_NOW;
        CHECK_ERR(utimensat(AT_FDCWD, "w", times, 0), EPERM);
        times[0].tv_nsec = 5;
        CHECK_ERR(utimensat(AT_FDCWD, "w", times, 0), EPERM);
        times[0].tv_nsec = times[1].tv_nsec = UTIME_OMIT;
        CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
        put("own");
        CHECK_OK(chmod("own", 0));
        times[0].tv_nsec = 5;
        CHECK_OK(utimensat(AT_FDCWD, "own", times, 0));
        CHECK_OK(utimensat(AT_FDCWD, "own", NULL, 0));
    });
}

TEST(fifo_opens) {
    CHECK_OK(mkfifo("p", 0644));
    CHECK_ERR(mkfifo("p", 0644), EEXIST);
    CHECK_ERR(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
    int reader = CHECK_OK(open("p", O_RDONLY | O_NONBLOCK));
    char byte;
    CHECK_EQ(read(reader, &byte, 1), 0);
    struct pollfd one = {.fd = reader, .events = POLLIN};
    CHECK_EQ(poll(&one, 1, 0), 0);
    int writer = CHECK_OK(open("p", O_WRONLY | O_NONBLOCK));
    CHECK_ERR(read(reader, &byte, 1), EAGAIN);
    CHECK_EQ(write(writer, "abc", 3), 3);
    CHECK_EQ(read(reader, &byte, 1), 1);
    // What was not read stays only while somebody has it open.
    CHECK_OK(close(writer));
    CHECK_EQ(read(reader, &byte, 1), 1);
    CHECK_EQ(byte, 'b');
    one.revents = 0;
    CHECK_EQ(poll(&one, 1, 0), 1);
    CHECK(one.revents & POLLHUP);
    CHECK_OK(close(reader));
    reader = CHECK_OK(open("p", O_RDONLY | O_NONBLOCK));
    CHECK_EQ(read(reader, &byte, 1), 0);
    CHECK_OK(close(reader));
    // Both ends at once never wait.
    int both = CHECK_OK(open("p", O_RDWR));
    CHECK_EQ(write(both, "x", 1), 1);
    CHECK_EQ(read(both, &byte, 1), 1);
    CHECK_OK(close(both));
    // Readers and writers wait for each other.
    pid_t child = fork();
    if (child == 0) {
        pause_ms(30);
        int fd = MUST(open("p", O_WRONLY));
        CHECK_EQ(write(fd, "y", 1), 1);
        _exit(0);
    }
    reader = CHECK_OK(open("p", O_RDONLY));
    CHECK_EQ(read(reader, &byte, 1), 1);
    CHECK_EQ(read(reader, &byte, 1), 0);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_OK(close(reader));
    struct sigaction action = {.sa_handler = SIG_DFL};
    action.sa_handler = (void (*)(int))pause_ms;
    sigaction(SIGALRM, &action, NULL);
    // Again and again: the first may come before the wait.
    ualarm(30000, 30000);
    CHECK_ERR(open("p", O_RDONLY), EINTR);
    ualarm(0, 0);
    CHECK_ERR(lseek(MUST(open("p", O_RDWR)), 0, SEEK_SET), ESPIPE);
    CHECK_ERR(ftruncate(MUST(open("p", O_RDWR)), 0), EINVAL);
    CHECK_OK(close(MUST(open("p", O_RDONLY | O_NONBLOCK | O_TRUNC))));
}

TEST(fifo_times) {
    CHECK_OK(mkfifo("p", 0644));
    struct stat one, two;
    int fd = MUST(open("p", O_RDWR));
    MUST(fstat(fd, &one));
    CHECK_EQ(one.st_size, 0);
    pause_ms(20);
    CHECK_EQ(write(fd, "x", 1), 1);
    MUST(fstat(fd, &two));
    CHECK_CMP(nanos(two.st_mtim), >, nanos(one.st_mtim));
    CHECK_CMP(nanos(two.st_ctim), >, nanos(one.st_ctim));
    MUST(stat("p", &one));
    CHECK_EQ(nanos(one.st_mtim), nanos(two.st_mtim));
    pause_ms(20);
    char byte;
    CHECK_EQ(read(fd, &byte, 1), 1);
    MUST(fstat(fd, &two));
    CHECK_CMP(nanos(two.st_atim), >=, nanos(one.st_atim));
    CHECK_EQ(nanos(two.st_mtim), nanos(one.st_mtim));
}
