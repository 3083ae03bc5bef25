// Mounting by descriptors: fsopen, fsconfig, fsmount, fspick, open_tree, move_mount and mount_setattr.
#include "../check.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int fs_open(const char *name, unsigned flags) { return syscall(SYS_fsopen, name, flags); }
static int fs_config(int fd, unsigned command, const char *key, const void *value, int aux) {
    return syscall(SYS_fsconfig, fd, command, key, value, aux);
}
static int fs_mount(int fd, unsigned flags, unsigned attributes) { return syscall(SYS_fsmount, fd, flags, attributes); }
static int fs_pick(int dirfd, const char *path, unsigned flags) { return syscall(SYS_fspick, dirfd, path, flags); }
static int tree(int dirfd, const char *path, unsigned flags) { return syscall(SYS_open_tree, dirfd, path, flags); }
static int move(int from, const char *path, const char *to, unsigned flags) {
    return syscall(SYS_move_mount, from, path, AT_FDCWD, to, flags);
}
static int set_attributes(const char *path, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation) {
    uint64_t attr[4] = {set, clear, propagation, 0};
    return syscall(SYS_mount_setattr, AT_FDCWD, path, flags, attr, sizeof attr);
}
enum { FLAG, STRING, CREATE = 6, RECONFIGURE = 7, F_EMPTY = 4, CLONE_TREE = 1 };

static void put(const char *path) { CHECK_OK(close(MUST(open(path, O_CREAT | O_WRONLY, 0644)))); }
static int there(const char *path) { return access(path, F_OK) == 0; }

static void own(void) {
    if (unshare(CLONE_NEWNS))
        SKIP("no mount namespaces: %s", strerror(errno));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    MUST(mkdir("a", 0755));
    MUST(mkdir("b", 0755));
}

static unsigned long flags_of(const char *path) {
    struct statvfs vfs;
    CHECK_OK(statvfs(path, &vfs));
    return vfs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME);
}

TEST(made_and_mounted) {
    own();
    int fs = CHECK_OK(fs_open("tmpfs", 1));
    CHECK_EQ(fcntl(fs, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(fs_mount(fs, 0, 0), EINVAL);
    CHECK_OK(fs_config(fs, STRING, "size", "64k", 0));
    CHECK_OK(fs_config(fs, STRING, "mode", "700", 0));
    CHECK_OK(fs_config(fs, STRING, "source", "here", 0));
    CHECK_OK(fs_config(fs, CREATE, NULL, NULL, 0));
    CHECK_ERR(fs_config(fs, CREATE, NULL, NULL, 0), EBUSY);
    int mnt = CHECK_OK(fs_mount(fs, 1, 2 | 8));
    CHECK_EQ(fcntl(mnt, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(fs_mount(fs, 0, 0), EBUSY);
    // It is nowhere yet, and can be used already.
    int fd = CHECK_OK(openat(mnt, "f", O_CREAT | O_RDWR, 0600));
    CHECK_OK(close(fd));
    CHECK(!there("a/f"));
    CHECK_OK(move(mnt, "", "a", F_EMPTY));
    CHECK(there("a/f"));
    struct stat st;
    struct statvfs vfs;
    CHECK_OK(stat("a", &st));
    CHECK_EQ(st.st_mode & 07777, 0700);
    CHECK_OK(statvfs("a", &vfs));
    CHECK_EQ(vfs.f_blocks * vfs.f_frsize, 65536);
    CHECK_EQ(flags_of("a"), ST_NOSUID | ST_NOEXEC);
    // Once there it moves like any other.
    CHECK_OK(move(AT_FDCWD, "a", "b", 0));
    CHECK(there("b/f") && !there("a/f"));
    CHECK_OK(close(mnt));
    CHECK(there("b/f"));
    CHECK_OK(fs_config(fs, STRING, "size", "128k", 0));
    CHECK_OK(fs_config(fs, RECONFIGURE, NULL, NULL, 0));
    CHECK_OK(statvfs("b", &vfs));
    CHECK_EQ(vfs.f_blocks * vfs.f_frsize, 131072);
    CHECK_OK(umount("b"));
}

TEST(errors) {
    own();
    CHECK_ERR(fs_open("strangefs", 0), ENODEV);
    CHECK_ERR(fs_open("tmpfs", 2), EINVAL);
    CHECK_ERR(fs_open(BAD, 0), EFAULT);
    int fs = MUST(fs_open("tmpfs", 0));
    CHECK_ERR(fs_config(fs, FLAG, NULL, NULL, 0), EINVAL);
    CHECK_ERR(fs_config(fs, FLAG, "ro", "x", 0), EINVAL);
    CHECK_ERR(fs_config(fs, STRING, "size", NULL, 0), EINVAL);
    CHECK_ERR(fs_config(fs, CREATE, "x", NULL, 0), EINVAL);
    CHECK_ERR(fs_config(fs, 99, NULL, NULL, 0), EOPNOTSUPP);
    CHECK_ERR(fs_config(-1, CREATE, NULL, NULL, 0), EINVAL);
    CHECK_ERR(fs_config(500, CREATE, NULL, NULL, 0), EBADF);
    int null = MUST(open("/dev/null", O_RDONLY));
    CHECK_ERR(fs_config(null, CREATE, NULL, NULL, 0), EINVAL);
    CHECK_ERR(fs_mount(null, 0, 0), EINVAL);
    CHECK_ERR(fs_mount(fs, 2, 0), EINVAL);
    CHECK_ERR(fs_mount(fs, 0, 0x30), EINVAL);
    CHECK_ERR(fs_pick(AT_FDCWD, "a", 0), EINVAL);
    CHECK_ERR(fs_pick(AT_FDCWD, "none", 0), ENOENT);
    CHECK_ERR(tree(AT_FDCWD, "a", 4), EINVAL);
    CHECK_ERR(tree(AT_FDCWD, "a", AT_RECURSIVE), EINVAL);
    CHECK_ERR(tree(AT_FDCWD, "none", 0), ENOENT);
    CHECK_ERR(move(AT_FDCWD, "a", "b", 0), EINVAL);
    CHECK_ERR(move(AT_FDCWD, "none", "b", 0), ENOENT);
    CHECK_ERR(move(AT_FDCWD, "", "b", 0), ENOENT);
    CHECK_ERR(move(AT_FDCWD, "a", "b", 0x1000), EINVAL);
    CHECK_ERR(set_attributes("a", 0, 1, 0, 0), EINVAL);
    CHECK_OK(set_attributes("a", 0, 0, 0, 0));
    CHECK_ERR(set_attributes("a", 0x10, 1, 0, 0), EINVAL);
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(fs_open("tmpfs", 0), EPERM);
        CHECK_ERR(fs_pick(AT_FDCWD, "a", 0), EPERM);
        CHECK_ERR(tree(AT_FDCWD, "a", CLONE_TREE), EPERM);
        CHECK_OK(tree(AT_FDCWD, "a", 0));
        CHECK_ERR(move(AT_FDCWD, "a", "b", 0), EPERM);
        CHECK_ERR(set_attributes("a", 0, 1, 0, 0), EPERM);
    });
}

TEST(trees) {
    own();
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    MUST(mkdir("a/d", 0755));
    MUST(mount("none", "a/d", "tmpfs", 0, NULL));
    put("a/d/deep");
    put("a/f");
    // Without a clone it is a plain path.
    int plain = CHECK_OK(tree(AT_FDCWD, "a", 0));
    CHECK_EQ(fcntl(plain, F_GETFL) & O_PATH, O_PATH);
    CHECK_OK(faccessat(plain, "d/deep", F_OK, 0));
    int one = CHECK_OK(tree(AT_FDCWD, "a", CLONE_TREE)), all = CHECK_OK(tree(AT_FDCWD, "a", CLONE_TREE | AT_RECURSIVE));
    CHECK_OK(faccessat(one, "f", F_OK, 0));
    CHECK_ERR(faccessat(one, "d/deep", F_OK, 0), ENOENT);
    CHECK_OK(faccessat(all, "d/deep", F_OK, 0));
    CHECK_OK(move(all, "", "b", F_EMPTY));
    CHECK(there("b/f") && there("b/d/deep"));
    CHECK_OK(umount2("b", MNT_DETACH));
    // Once taken off it cannot come back.
    CHECK_ERR(move(all, "", "b", F_EMPTY), EINVAL);
    CHECK_OK(move(one, "", "b", F_EMPTY));
    CHECK(there("b/f") && !there("b/d/deep"));
    put("file");
    int file = CHECK_OK(tree(AT_FDCWD, "a/f", CLONE_TREE));
    CHECK_ERR(move(file, "", "b", F_EMPTY), EINVAL);
    CHECK_OK(move(file, "", "file", F_EMPTY));
    CHECK_ERR(unlink("file"), EBUSY);
}

TEST(attributes) {
    own();
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    MUST(mkdir("a/d", 0755));
    MUST(mount("none", "a/d", "tmpfs", 0, NULL));
    CHECK_OK(set_attributes("a", 0, 1 | 4, 0, 0));
    CHECK_EQ(flags_of("a"), ST_RDONLY | ST_NODEV);
    CHECK_EQ(flags_of("a/d"), 0);
    CHECK_OK(set_attributes("a", AT_RECURSIVE, 2, 1, 0));
    CHECK_EQ(flags_of("a"), ST_NODEV | ST_NOSUID);
    CHECK_EQ(flags_of("a/d"), ST_NOSUID);
    CHECK_ERR(set_attributes("a", 0, 0x10, 0, 0), EINVAL);
    CHECK_ERR(set_attributes("a", 0, 0, 0x10, 0), EINVAL);
    CHECK_OK(set_attributes("a", 0, 0x10, 0x70, 0));
    CHECK(flags_of("a") & ST_NOATIME);
    CHECK_OK(set_attributes("a", 0, 0, 0x70, 0));
    CHECK(!(flags_of("a") & ST_NOATIME));
    // All or nothing.
    int fd = MUST(open("a/d/f", O_CREAT | O_RDWR, 0600));
    CHECK_ERR(set_attributes("a", AT_RECURSIVE, 1, 0, 0), EBUSY);
    CHECK(!(flags_of("a") & ST_RDONLY));
    CHECK_OK(close(fd));
    CHECK_OK(set_attributes("a", AT_RECURSIVE, 1, 0, 0));
    CHECK(flags_of("a/d") & ST_RDONLY);
    CHECK_OK(set_attributes("a", AT_RECURSIVE, 0, 1, MS_SHARED));
    int copy = CHECK_OK(tree(AT_FDCWD, "a", CLONE_TREE));
    CHECK_OK(move(copy, "", "b", F_EMPTY));
    MUST(mkdir("a/new", 0755));
    MUST(mount("none", "a/new", "tmpfs", 0, NULL));
    put("a/new/x");
    CHECK(there("b/new/x"));
    CHECK_ERR(set_attributes("a", 0, 0, 0, MS_SHARED | MS_SLAVE), EINVAL);
    CHECK_ERR(set_attributes("a", 0, 0, 0, MS_RDONLY), EINVAL);
    CHECK_ERR(set_attributes("a", 0, 1ull << 40, 0, 0), EINVAL);
    uint64_t attr[5] = {1, 0, 0, 0, 0};
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, 31), EINVAL);
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, 5000), E2BIG);
    attr[4] = 1;
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, 40), E2BIG);
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, BAD, 32), EFAULT);
}

TEST(picked) {
    own();
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    int fs = CHECK_OK(fs_pick(AT_FDCWD, "a", 0));
    CHECK_ERR(fs_config(fs, CREATE, NULL, NULL, 0), EBUSY);
    CHECK_OK(fs_config(fs, FLAG, "ro", NULL, 0));
    CHECK_OK(fs_config(fs, RECONFIGURE, NULL, NULL, 0));
    CHECK_ERR(open("a/f", O_CREAT | O_RDWR, 0600), EROFS);
    fs = CHECK_OK(fs_pick(AT_FDCWD, "a", 1));
    CHECK_OK(fs_config(fs, FLAG, "rw", NULL, 0));
    CHECK_OK(fs_config(fs, RECONFIGURE, NULL, NULL, 0));
    CHECK_OK(open("a/f", O_CREAT | O_RDWR, 0600));
    char text[10];
    CHECK_ERR(read(fs, text, 10), ENODATA);
    CHECK_ERR(write(fs, text, 10), EINVAL);
}
