// openat2(2): its structure, the checks of mode and flags, and each RESOLVE_ restriction; O_PATH descriptors.
#include "../check.h"
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

static int open2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    int fd, tries = 1000;
    // Linux asks to try again if a rename or a mount, of whomever, came in between on the way up by "..".
    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    while (fd < 0 && errno == EAGAIN && --tries);
    // Only whether it works is of interest; the lowest descriptor is taken each time.
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

static void put(const char *path) { CHECK_OK(close(MUST(open(path, O_CREAT | O_WRONLY, 0644)))); }

TEST(structure) {
    put("f");
    struct {
        struct open_how how;
        uint64_t more[2];
    } big = {.how = {.flags = O_RDONLY}};
    CHECK_OK(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big.how));
    CHECK_OK(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big));
    CHECK_OK(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big.how + 1));
    big.more[1] = 1;
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big), E2BIG);
    CHECK_OK(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big.how + 8));
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big.how - 1), EINVAL);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, 0), EINVAL);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, 4097), E2BIG);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, -1ul), E2BIG);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", BAD, sizeof big.how), EFAULT);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", NULL, sizeof big.how), EFAULT);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, BAD, &big, sizeof big.how), EFAULT);
    // A page of zeros behind it is fine.
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_OK(syscall(SYS_openat2, AT_FDCWD, "f", page, 4096));
    page[4095] = 1;
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", page, 4096), E2BIG);
    munmap(page + 4096, 4096);
    CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", page + 4096 - 24, 32), EFAULT);
}

TEST(flags_and_modes) {
    put("f");
    CHECK_OK(mkdir("d", 0755));
    CHECK_ERR(open2(AT_FDCWD, "f", 1ull << 40, 0, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", 1ull << 30, 0, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_RDONLY, 0644, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "n", O_CREAT | O_RDWR, 010000, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "n", O_CREAT | O_RDWR, 1ull << 32, 0), EINVAL);
    CHECK_OK(open2(AT_FDCWD, "n", O_CREAT | O_RDWR, 07777, 0));
    CHECK_OK(open2(AT_FDCWD, "n", O_CREAT | O_RDWR, 0, 0));
    CHECK_ERR(open2(AT_FDCWD, "f", O_PATH | O_RDWR, 0, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_PATH | O_CREAT, 0, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_PATH | O_TRUNC, 0, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_PATH | O_APPEND, 0, 0), EINVAL);
    CHECK_OK(open2(AT_FDCWD, "f", O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, 0));
    CHECK_OK(open2(AT_FDCWD, "d", O_PATH | O_DIRECTORY, 0, 0));
    CHECK_ERR(open2(AT_FDCWD, "f", O_PATH | O_DIRECTORY, 0, 0), ENOTDIR);
    CHECK_ERR(open2(AT_FDCWD, "d", O_TMPFILE, 0600, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "d", O_TMPFILE | O_CREAT | O_RDWR, 0600, 0), EINVAL);
    CHECK_OK(open2(AT_FDCWD, "d", O_TMPFILE | O_RDWR, 0600, 0));
    CHECK_ERR(open2(AT_FDCWD, "d", O_CREAT | O_DIRECTORY | O_RDWR, 0600, 0), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_RDONLY, 0, 0x40), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_RDONLY, 0, 1ull << 33), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "f", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
    CHECK_ERR(open2(AT_FDCWD, "", O_RDONLY, 0, 0), ENOENT);
    CHECK_ERR(open2(-1, "f", O_RDONLY, 0, 0), EBADF);
    // open(2) takes any flags and modes.
    int fd = CHECK_OK(open("f", O_RDONLY | 1 << 30, 0123456));
    CHECK_EQ(fcntl(fd, F_GETFL) & ~0100000, O_RDONLY);
    close(fd);
}

// A tree with links of every kind: all relative to the directory `d`.
static int tree(void) {
    MUST(mkdir("d", 0755));
    MUST(mkdir("d/sub", 0755));
    put("d/sub/f");
    put("out");
    MUST(symlink("sub/f", "d/in"));
    MUST(symlink("sub", "d/dirlink"));
    MUST(symlink("../out", "d/up"));
    MUST(symlink("/sub/f", "d/abs"));
    MUST(symlink("sub/../sub/f", "d/through"));
    MUST(symlink("../d/sub/f", "d/outandin"));
    MUST(symlink("none", "d/dangling"));
    MUST(symlink("loop", "d/loop"));
    return MUST(open("d", O_RDONLY | O_DIRECTORY));
}

TEST(beneath) {
    int d = tree();
    uint64_t r = RESOLVE_BENEATH;
    CHECK_OK(open2(d, "sub/f", 0, 0, r));
    CHECK_OK(open2(d, ".", 0, 0, r));
    CHECK_OK(open2(d, "in", 0, 0, r));
    CHECK_OK(open2(d, "dirlink/f", 0, 0, r));
    CHECK_OK(open2(d, "through", 0, 0, r));
    CHECK_OK(open2(d, "sub/../sub/f", 0, 0, r));
    CHECK_OK(open2(d, "sub/..", 0, 0, r));
    CHECK_ERR(open2(d, "..", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "../d/sub/f", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "sub/../..", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "up", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "outandin", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "abs", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "/sub/f", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "/", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "loop", 0, 0, r), ELOOP);
    CHECK_ERR(open2(d, "dangling", 0, 0, r), ENOENT);
    CHECK_OK(open2(d, "dangling", O_CREAT | O_RDWR, 0600, r));
    CHECK_OK(access("d/none", F_OK));
    CHECK_ERR(open2(d, "../new", O_CREAT | O_RDWR, 0600, r), EXDEV);
    CHECK_ERR(access("new", F_OK), ENOENT);
    CHECK_OK(open2(d, "up", O_PATH | O_NOFOLLOW, 0, r));
    CHECK_OK(open2(AT_FDCWD, "out", 0, 0, r));
    CHECK_OK(open2(AT_FDCWD, "d/up", 0, 0, r));
    CHECK_OK(open2(AT_FDCWD, "d/../out", 0, 0, r));
    CHECK_ERR(open2(AT_FDCWD, "..", 0, 0, r), EXDEV);
    char path[40];
    sprintf(path, "/proc/self/fd/%d", d);
    int proc = MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
    CHECK_ERR(open2(proc, strrchr(path, '/') + 1, 0, 0, r), EXDEV);
}

TEST(in_root) {
    int d = tree();
    uint64_t r = RESOLVE_IN_ROOT;
    CHECK_OK(open2(d, "sub/f", 0, 0, r));
    CHECK_OK(open2(d, "/sub/f", 0, 0, r));
    CHECK_OK(open2(d, "abs", 0, 0, r));
    CHECK_OK(open2(d, "../../sub/f", 0, 0, r));
    CHECK_OK(open2(d, "/..", 0, 0, r));
    CHECK_OK(open2(d, "sub/../../../sub/f", 0, 0, r));
    CHECK_ERR(open2(d, "up", 0, 0, r), ENOENT);
    CHECK_ERR(open2(d, "/etc", 0, 0, r), ENOENT);
    CHECK_ERR(open2(d, "outandin", 0, 0, r), ENOENT);
    CHECK_OK(open2(d, "/new", O_CREAT | O_RDWR, 0600, r));
    CHECK_OK(access("d/new", F_OK));
    put("d/out");
    CHECK_OK(open2(d, "up", 0, 0, r));
}

TEST(no_symlinks) {
    int d = tree();
    uint64_t r = RESOLVE_NO_SYMLINKS;
    CHECK_OK(open2(d, "sub/f", 0, 0, r));
    CHECK_OK(open2(d, "../out", 0, 0, r));
    CHECK_OK(open2(d, "/", 0, 0, r));
    CHECK_ERR(open2(d, "in", 0, 0, r), ELOOP);
    CHECK_ERR(open2(d, "dirlink/f", 0, 0, r), ELOOP);
    CHECK_ERR(open2(d, "dangling", 0, 0, r), ELOOP);
    CHECK_ERR(open2(d, "dangling", O_CREAT | O_RDWR, 0600, r), ELOOP);
    CHECK_OK(open2(d, "in", O_PATH | O_NOFOLLOW, 0, r));
    CHECK_ERR(open2(d, "in", O_NOFOLLOW, 0, r), ELOOP);
    CHECK_ERR(open2(AT_FDCWD, "/proc/self/exe", 0, 0, r), ELOOP);
}

TEST(no_magic_links) {
    int d = tree();
    uint64_t r = RESOLVE_NO_MAGICLINKS;
    CHECK_OK(open2(d, "in", 0, 0, r));
    CHECK_OK(open2(d, "up", 0, 0, r));
    CHECK_OK(open2(AT_FDCWD, "/proc/self/status", 0, 0, r));
    CHECK_ERR(open2(AT_FDCWD, "/proc/self/exe", 0, 0, r), ELOOP);
    CHECK_ERR(open2(AT_FDCWD, "/proc/self/root/proc", 0, 0, r), ELOOP);
    CHECK_ERR(open2(AT_FDCWD, "/proc/self/cwd", 0, 0, r), ELOOP);
    CHECK_OK(open2(AT_FDCWD, "/proc/self/cwd", O_PATH | O_NOFOLLOW, 0, r));
    CHECK_OK(open2(AT_FDCWD, "/proc/self/exe", 0, 0, 0));
}

TEST(no_crossings) {
    int d = tree();
    uint64_t r = RESOLVE_NO_XDEV;
    CHECK_OK(open2(d, "sub/f", 0, 0, r));
    CHECK_OK(open2(d, "../out", 0, 0, r));
    CHECK_ERR(open2(AT_FDCWD, "/proc/self/status", 0, 0, r), EXDEV);
    int proc = MUST(open("/proc", O_RDONLY | O_DIRECTORY));
    CHECK_OK(open2(proc, "self/status", 0, 0, r));
    CHECK_ERR(open2(proc, "..", 0, 0, r), EXDEV);
    CHECK_ERR(open2(proc, "self/exe", 0, 0, r), EXDEV);
    if (mount("none", "d/sub", "tmpfs", 0, NULL))
        SKIP("no mounting here: %s", strerror(errno));
    CHECK_ERR(open2(d, "sub", 0, 0, r), EXDEV);
    CHECK_ERR(open2(d, "sub/none", 0, 0, r), EXDEV);
    int sub = MUST(open("d/sub", O_RDONLY | O_DIRECTORY));
    CHECK_OK(open2(sub, ".", 0, 0, r));
    CHECK_ERR(open2(sub, "..", 0, 0, r), EXDEV);
    CHECK_OK(open2(d, "sub", 0, 0, RESOLVE_BENEATH));
    CHECK_OK(open2(d, "sub/..", 0, 0, RESOLVE_BENEATH));
    close(sub);
    CHECK_OK(umount("d/sub"));
}

TEST(cached) {
    int d = tree();
    uint64_t r = RESOLVE_CACHED;
    struct stat st;
    CHECK_OK(fstatat(d, "sub/f", &st, 0));
    CHECK_OK(open2(d, "sub/f", 0, 0, r));
    CHECK_ERR(open2(d, "sub/f", O_TRUNC | O_RDWR, 0, r), EAGAIN);
    CHECK_ERR(open2(d, "sub/g", O_CREAT | O_RDWR, 0600, r), EAGAIN);
    CHECK_ERR(open2(d, "sub", O_TMPFILE | O_RDWR, 0600, r), EAGAIN);
    CHECK_ERR(access("d/sub/g", F_OK), ENOENT);
}

TEST(path_descriptors) {
    put("f");
    MUST(symlink("f", "l"));
    MUST(mkdir("d", 0755));
    put("d/in");
    int fd = MUST(open("f", O_PATH)), l = MUST(open("l", O_PATH | O_NOFOLLOW)), d = MUST(open("d", O_PATH));
    char byte;
    struct stat st;
    CHECK_ERR(read(fd, &byte, 1), EBADF);
    CHECK_ERR(write(fd, "x", 1), EBADF);
    CHECK_ERR(pread(fd, &byte, 1, 0), EBADF);
    CHECK_ERR(lseek(fd, 0, SEEK_SET), EBADF);
    CHECK_ERR(ftruncate(fd, 0), EBADF);
    CHECK_ERR(fsync(fd), EBADF);
    CHECK_ERR(fallocate(fd, 0, 0, 1), EBADF);
    CHECK_ERR(ioctl(fd, 0x541b, &byte), EBADF);
    CHECK_EQ((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), -1);
    CHECK_EQ(errno, EBADF);
    CHECK_ERR(syscall(SYS_getdents64, d, &st, sizeof st), EBADF);
    CHECK_ERR(fcntl(fd, F_SETFL, O_APPEND), EBADF);
    CHECK_ERR(fcntl(fd, F_GETLK, &st), EBADF);
    CHECK_ERR(fcntl(fd, F_SETOWN, 0), EBADF);
    CHECK_EQ(fcntl(fd, F_GETFL), O_PATH);
    CHECK_EQ(fcntl(d, F_GETFL), O_PATH);
    CHECK_EQ(fcntl(l, F_GETFL), O_PATH | O_NOFOLLOW);
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    CHECK_OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
    CHECK_OK(close(CHECK_OK(dup(fd))));
    CHECK_OK(close(CHECK_OK(fcntl(fd, F_DUPFD, 50))));
    // What a path allows.
    CHECK_OK(fstat(fd, &st));
    CHECK_OK(fstatat(d, "in", &st, 0));
    CHECK_OK(fchdir(d));
    CHECK_OK(chdir(".."));
    CHECK_EQ(readlinkat(l, "", &byte, 1), 1);
    CHECK_EQ(byte, 'f');
    CHECK_ERR(readlinkat(fd, "", &byte, 1), ENOENT);
    CHECK_OK(fstat(l, &st));
    CHECK(S_ISLNK(st.st_mode));
    CHECK_OK(linkat(fd, "", AT_FDCWD, "g", AT_EMPTY_PATH));
    // Opened again through /proc.
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    int again = CHECK_OK(open(path, O_RDWR));
    CHECK_EQ(write(again, "x", 1), 1);
    close(again);
    sprintf(path, "/proc/self/fd/%d", l);
    CHECK_ERR(open(path, O_RDONLY), ELOOP);
    sprintf(path, "/proc/self/fd/%d/in", d);
    CHECK_OK(access(path, R_OK));
    // Passed on, it is still one.
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int copy = dup(fd);
    CHECK_ERR(read(copy, &byte, 1), EBADF);
    CHECK_ERR(flock(copy, LOCK_SH), EBADF);
    int device = MUST(open("/dev/null", O_PATH | O_RDWR | O_TRUNC | O_APPEND));
    CHECK_EQ(fcntl(device, F_GETFL), O_PATH);
    CHECK_ERR(write(device, "x", 1), EBADF);
    CHECK_OK(chmod("d", 0));
    CHECK_OK(close(MUST(open("d", O_PATH))));
}

// A directory that is moved out of the root while a walk goes up and down in it does not take the walk along.
TEST(renames_meanwhile) {
    CHECK_OK(mkdir("root", 0755));
    CHECK_OK(mkdir("root/a", 0755));
    CHECK_OK(mkdir("root/a/b", 0755));
    CHECK_OK(mkdir("out", 0755));
    CHECK_OK(mkdir("out/x", 0755));
    put("secret");
    pid_t child = MUST(fork());
    if (child == 0)
        for (;;) {
            rename("root/a/b", "out/x/b");
            rename("out/x/b", "root/a/b");
        }
    static char path[3000] = "a/b";
    for (int i = 0; i < 300; i++)
        strcat(path, "/../b");
    strcat(path, "/../../../secret");
    int root = MUST(open("root", O_PATH | O_DIRECTORY)), outside = 0, others = 0;
    for (int i = 0; i < 4000; i++) {
        struct open_how how = {.resolve = i % 2 ? RESOLVE_IN_ROOT : RESOLVE_BENEATH};
        int fd = syscall(SYS_openat2, root, path, &how, sizeof how);
        outside += fd >= 0;
        others += fd < 0 && errno != EAGAIN && errno != EXDEV && errno != ENOENT;
        if (fd >= 0)
            close(fd);
    }
    CHECK_EQ(outside, 0);
    CHECK_EQ(others, 0);
    CHECK_OK(kill(child, SIGKILL));
    CHECK_OK(waitpid(child, NULL, 0));
}
