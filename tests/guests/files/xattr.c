// Extended attributes: the namespaces and who may use them, sizes, flags, links, and the forms of the calls.
#include "../users.h"
#include <sys/mount.h>
#include <sys/xattr.h>

static void put(const char *path, mode_t mode) {
    int fd = MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    MUST(fchmod(fd, mode));
    MUST(close(fd));
}

// The names in a list, sorted out of their order: whether `name` is in it.
static int listed(const char *path, const char *name) {
    char list[4096];
    ssize_t len = llistxattr(path, list, sizeof list);
    for (ssize_t at = 0; at < len; at += strlen(list + at) + 1)
        if (!strcmp(list + at, name))
            return 1;
    return 0;
}

TEST(set_and_get) {
    put("f", 0644);
    char value[64] = "";
    CHECK_ERR(getxattr("f", "user.a", value, sizeof value), ENODATA);
    CHECK_OK(setxattr("f", "user.a", "hello", 5, 0));
    CHECK_EQ(getxattr("f", "user.a", value, sizeof value), 5);
    CHECK(!memcmp(value, "hello", 5));
    CHECK_EQ(getxattr("f", "user.a", NULL, 0), 5);
    CHECK_EQ(getxattr("f", "user.a", BAD, 0), 5);
    CHECK_ERR(getxattr("f", "user.a", value, 4), ERANGE);
    CHECK_EQ(getxattr("f", "user.a", value, 5), 5);
    CHECK_ERR(getxattr("f", "user.a", BAD, 64), EFAULT);
    CHECK_ERR(getxattr("f", BAD, value, 64), EFAULT);
    CHECK_ERR(getxattr(BAD, "user.a", value, 64), EFAULT);
    CHECK_ERR(getxattr("none", "user.a", value, 64), ENOENT);
    CHECK_ERR(setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_OK(setxattr("f", "user.a", "bye", 3, XATTR_REPLACE));
    CHECK_ERR(setxattr("f", "user.b", "bye", 3, XATTR_REPLACE), ENODATA);
    CHECK_OK(setxattr("f", "user.b", "", 0, XATTR_CREATE));
    CHECK_EQ(getxattr("f", "user.b", value, sizeof value), 0);
    CHECK_OK(setxattr("f", "user.c", NULL, 0, 0));
    CHECK_ERR(setxattr("f", "user.d", BAD, 4, 0), EFAULT);
    CHECK_ERR(setxattr("f", "user.d", "x", 1, 4), EINVAL);
    CHECK_ERR(setxattr("f", "user.e", "x", 1, XATTR_CREATE | XATTR_REPLACE), ENODATA);
    CHECK_ERR(setxattr("f", "user.a", "x", 1, XATTR_CREATE | XATTR_REPLACE), EEXIST);
    CHECK_OK(removexattr("f", "user.a"));
    CHECK_ERR(removexattr("f", "user.a"), ENODATA);
    CHECK_ERR(getxattr("f", "user.a", value, sizeof value), ENODATA);
}

TEST(names) {
    put("f", 0644);
    char value[8], name[300] = "user.";
    CHECK_ERR(setxattr("f", "", "x", 1, 0), ERANGE);
    CHECK_ERR(getxattr("f", "", value, 8), ERANGE);
    CHECK_ERR(removexattr("f", ""), ERANGE);
    CHECK_ERR(setxattr("f", "user", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERR(setxattr("f", "user.", "x", 1, 0), EINVAL);
    CHECK_ERR(getxattr("f", "user.", value, 8), EINVAL);
    CHECK_ERR(setxattr("f", "strange.a", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERR(getxattr("f", "strange.a", value, 8), EOPNOTSUPP);
    CHECK_ERR(removexattr("f", "strange.a"), EOPNOTSUPP);
    CHECK_ERR(setxattr("f", "USER.a", "x", 1, 0), EOPNOTSUPP);
    memset(name + 5, 'n', 250);
    name[255] = 0;
    CHECK_OK(setxattr("f", name, "x", 1, 0));
    CHECK_EQ(getxattr("f", name, value, 8), 1);
    strcat(name, "n");
    CHECK_ERR(setxattr("f", name, "x", 1, 0), ERANGE);
    CHECK_ERR(getxattr("f", name, value, 8), ERANGE);
    CHECK_ERR(removexattr("f", name), ERANGE);
}

TEST(sizes) {
    put("f", 0644);
    static char big[70000], back[70000];
    memset(big, 'v', sizeof big);
    CHECK_OK(setxattr("f", "user.k", big, 2000, 0));
    CHECK_EQ(getxattr("f", "user.k", back, sizeof back), 2000);
    CHECK(!memcmp(big, back, 2000));
    CHECK_ERR(setxattr("f", "user.l", big, 65537, 0), E2BIG);
    CHECK_ERR(setxattr("f", "user.l", BAD, 65537, 0), E2BIG);
    CHECK_ERR(setxattr("f", "user.l", BAD, (size_t)-1, 0), E2BIG);
    CHECK_EQ(getxattr("f", "user.k", back, 1 << 20 > sizeof back ? sizeof back : 0), 2000);
}

TEST(listing) {
    put("f", 0644);
    char list[256];
    CHECK_EQ(listxattr("f", list, sizeof list), 0);
    CHECK_EQ(listxattr("f", NULL, 0), 0);
    CHECK_OK(setxattr("f", "user.one", "1", 1, 0));
    CHECK_OK(setxattr("f", "user.three", "3", 1, 0));
    CHECK_OK(setxattr("f", "trusted.two", "2", 1, 0));
    CHECK_EQ(listxattr("f", NULL, 0), 9 + 11 + 12);
    CHECK_EQ(listxattr("f", list, sizeof list), 9 + 11 + 12);
    CHECK_ERR(listxattr("f", list, 31), ERANGE);
    CHECK_ERR(listxattr("f", BAD, 256), EFAULT);
    CHECK(listed("f", "user.one") && listed("f", "user.three") && listed("f", "trusted.two"));
    CHECK_OK(removexattr("f", "user.one"));
    CHECK(!listed("f", "user.one"));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK(!listed("f", "trusted.two"));
        CHECK(listed("f", "user.three"));
    });
}

TEST(links) {
    put("f", 0644);
    CHECK_OK(symlink("f", "l"));
    char value[8];
    CHECK_OK(setxattr("l", "user.a", "x", 1, 0));
    CHECK_EQ(getxattr("f", "user.a", value, 8), 1);
    CHECK_EQ(getxattr("l", "user.a", value, 8), 1);
    // Links have no user attributes.
    CHECK_ERR(lsetxattr("l", "user.a", "x", 1, 0), EPERM);
    CHECK_ERR(lgetxattr("l", "user.a", value, 8), ENODATA);
    CHECK_ERR(lremovexattr("l", "user.a"), EPERM);
    CHECK_OK(lsetxattr("l", "trusted.a", "xy", 2, 0));
    CHECK_EQ(lgetxattr("l", "trusted.a", value, 8), 2);
    CHECK_ERR(getxattr("l", "trusted.a", value, 8), ENODATA);
    CHECK(listed("l", "trusted.a"));
    CHECK(!listed("f", "trusted.a"));
    CHECK_OK(lremovexattr("l", "trusted.a"));
    CHECK_OK(symlink("none", "m"));
    CHECK_ERR(setxattr("m", "trusted.a", "x", 1, 0), ENOENT);
    CHECK_OK(lsetxattr("m", "trusted.a", "x", 1, 0));
    // Neither have devices and fifos.
    CHECK_OK(mkfifo("p", 0666));
    CHECK_ERR(setxattr("p", "user.a", "x", 1, 0), EPERM);
    CHECK_ERR(getxattr("p", "user.a", value, 8), ENODATA);
    CHECK_OK(setxattr("p", "trusted.a", "x", 1, 0));
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(setxattr("d", "user.a", "x", 1, 0));
}

TEST(descriptors) {
    put("f", 0644);
    int fd = MUST(open("f", O_RDONLY));
    char value[8];
    CHECK_OK(fsetxattr(fd, "user.a", "abc", 3, 0));
    CHECK_EQ(fgetxattr(fd, "user.a", value, 8), 3);
    CHECK_EQ(flistxattr(fd, value, 8), 7);
    CHECK_OK(fremovexattr(fd, "user.a"));
    CHECK_ERR(fgetxattr(fd, "user.a", value, 8), ENODATA);
    int path = MUST(open("f", O_PATH));
    CHECK_ERR(fsetxattr(path, "user.a", "abc", 3, 0), EBADF);
    CHECK_ERR(fgetxattr(path, "user.a", value, 8), EBADF);
    CHECK_ERR(flistxattr(path, value, 8), EBADF);
    CHECK_ERR(fremovexattr(path, "user.a"), EBADF);
    CHECK_ERR(fsetxattr(-1, "user.a", "abc", 3, 0), EBADF);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_ERR(fsetxattr(pipes[0], "user.a", "abc", 3, 0), EPERM);
    int null = MUST(open("/dev/null", O_RDWR));
    CHECK_ERR(fsetxattr(null, "user.a", "abc", 3, 0), EPERM);
}

TEST(permissions) {
    put("f", 0644);
    put("w", 0666);
    CHECK_OK(setxattr("f", "user.a", "x", 1, 0));
    CHECK_OK(setxattr("f", "trusted.a", "x", 1, 0));
    put("secret", 0600);
    CHECK_OK(setxattr("secret", "user.a", "x", 1, 0));
    CHECK_OK(setxattr("secret", "security.test", "x", 1, 0));
    CHECK_CHILD({
        become(1000, 1000);
        char value[64];
        CHECK_EQ(getxattr("f", "user.a", value, 8), 1);
        CHECK_ERR(setxattr("f", "user.a", "y", 1, 0), EACCES);
        CHECK_ERR(removexattr("f", "user.a"), EACCES);
        CHECK_OK(setxattr("w", "user.a", "y", 1, 0));
        CHECK_OK(removexattr("w", "user.a"));
        CHECK_ERR(getxattr("secret", "user.a", value, 8), EACCES);
        CHECK_EQ(getxattr("secret", "security.test", value, 8), 1);
        CHECK_CMP(listxattr("secret", value, 64), >, 0);
        CHECK_ERR(getxattr("f", "trusted.a", value, 8), ENODATA);
        CHECK_ERR(setxattr("w", "trusted.a", "x", 1, 0), EPERM);
        CHECK_ERR(removexattr("f", "trusted.a"), EPERM);
        CHECK_ERR(setxattr("w", "security.test", "x", 1, 0), EPERM);
        struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2};
        CHECK_ERR(setxattr("w", "security.capability", "x", 1, 0), EINVAL);
        CHECK_ERR(setxattr("w", "security.capability", &data, sizeof data, 0), EPERM);
        CHECK_ERR(setxattr("w", "strange.a", "x", 1, 0), EOPNOTSUPP);
    });
    // With a descriptor opened before it is the same: each call looks at the mode.
    int fd = MUST(open("f", O_RDWR));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_ERR(fsetxattr(fd, "user.a", "y", 1, 0), EACCES);
    });
    // In a sticky directory only its owner sets user attributes of it.
    CHECK_OK(mkdir("d", 0777));
    CHECK_OK(chmod("d", 01777));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_ERR(setxattr("d", "user.a", "y", 1, 0), EPERM);
    });
    CHECK_OK(chmod("d", 0777));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_OK(setxattr("d", "user.a", "y", 1, 0));
    });
}

TEST(rights_by_name) {
    put("f", 0666);
    struct vfs_cap_data all = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE};
    all.data[0].permitted = -1;
    CHECK_OK(setxattr("f", "security.capability", &all, sizeof all, 0));
    CHECK_OK(setxattr("f", "security.other", "x", 1, 0));
    CHECK_OK(setxattr("f", "trusted.a", "x", 1, 0));
    int fd = MUST(open("f", O_RDONLY));
    // Administration does not include what a program gains by being executed, even of one's own files.
    CHECK_CHILD({
        become_with(1000, 1000, CAP(SYS_ADMIN));
        put("own", 0755);
        CHECK_ERR(setxattr("own", "security.capability", &all, sizeof all, 0), EPERM);
        CHECK_ERR(lsetxattr("own", "security.capability", &all, sizeof all, XATTR_CREATE), EPERM);
        CHECK_ERR(setxattr("f", "security.capability", &all, sizeof all, XATTR_REPLACE), EPERM);
        CHECK_ERR(fsetxattr(fd, "security.capability", &all, sizeof all, 0), EPERM);
        CHECK_ERR(removexattr("f", "security.capability"), EPERM);
        CHECK_ERR(lremovexattr("f", "security.capability"), EPERM);
        CHECK_ERR(fremovexattr(fd, "security.capability"), EPERM);
        CHECK_OK(setxattr("f", "security.other", "y", 1, 0));
        CHECK_OK(removexattr("f", "security.other"));
        CHECK_OK(setxattr("f", "trusted.a", "y", 1, 0));
        CHECK(listed("f", "trusted.a"));
    });
    CHECK_OK(setxattr("f", "security.other", "x", 1, 0));
    CHECK(listed("f", "security.capability"));
    CHECK_CHILD({
        become_with(1001, 1001, CAP(SETFCAP));
        CHECK_ERR(setxattr("f", "security.other", "y", 1, 0), EPERM);
        CHECK_ERR(removexattr("f", "security.other"), EPERM);
        CHECK_ERR(setxattr("f", "trusted.a", "y", 1, 0), EPERM);
        CHECK_ERR(removexattr("f", "trusted.a"), EPERM);
        CHECK(!listed("f", "trusted.a"));
        CHECK_OK(removexattr("f", "security.capability"));
        CHECK_OK(setxattr("f", "security.capability", &all, sizeof all, XATTR_CREATE));
    });
}

TEST(read_back_of_a_capability) {
    put("f", 0755);
    struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE};
    data.data[0].permitted = 1 << CAP_NET_RAW;
    CHECK_OK(setxattr("f", "security.capability", &data, sizeof data, 0));
    struct vfs_cap_data back = {0};
    CHECK_EQ(getxattr("f", "security.capability", &back, sizeof back), sizeof back);
    CHECK(!memcmp(&data, &back, sizeof back));
    CHECK(listed("f", "security.capability"));
    CHECK_ERR(setxattr("f", "security.capability", &data, 7, 0), EINVAL);
    // A write takes them away, even root's.
    int fd = MUST(open("f", O_WRONLY));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(close(fd));
    CHECK_ERR(getxattr("f", "security.capability", &back, sizeof back), ENODATA);
    CHECK_OK(setxattr("f", "security.capability", &data, sizeof data, 0));
    CHECK_OK(chown("f", 0, 0));
    CHECK_ERR(getxattr("f", "security.capability", &back, sizeof back), ENODATA);
    CHECK_OK(setxattr("f", "security.capability", &data, sizeof data, 0));
    CHECK_OK(truncate("f", 0));
    CHECK_ERR(getxattr("f", "security.capability", &back, sizeof back), ENODATA);
    CHECK_OK(setxattr("f", "security.capability", &data, sizeof data, 0));
    CHECK_OK(chmod("f", 0700));
    CHECK_EQ(getxattr("f", "security.capability", &back, sizeof back), sizeof back);
}

TEST(survive) {
    put("f", 0644);
    CHECK_OK(setxattr("f", "user.a", "1", 1, 0));
    CHECK_OK(link("f", "g"));
    char value[8];
    CHECK_EQ(getxattr("g", "user.a", value, 8), 1);
    CHECK_OK(rename("g", "h"));
    CHECK_OK(unlink("f"));
    CHECK_EQ(getxattr("h", "user.a", value, 8), 1);
    struct stat before, after;
    CHECK_OK(stat("h", &before));
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    CHECK_OK(setxattr("h", "user.b", "1", 1, 0));
    CHECK_OK(stat("h", &after));
    CHECK(after.st_ctim.tv_sec > before.st_ctim.tv_sec || after.st_ctim.tv_nsec > before.st_ctim.tv_nsec);
    CHECK_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

TEST(bounded) {
    // Attributes count against the limit of a tmpfs.
    MUST(mkdir("t", 0755));
    if (mount("none", "t", "tmpfs", 0, "nr_inodes=50"))
        SKIP("no mounting here: %s", strerror(errno));
    put("t/f", 0644);
    char name[32];
    static char value[8000];
    int count = 0;
    for (; count < 1000; count++) {
        sprintf(name, "user.%d", count);
        if (setxattr("t/f", name, value, sizeof value, 0))
            break;
    }
    if (count == 0 && errno == EOPNOTSUPP)
        SKIP("no user attributes in this tmpfs");
    CHECK_EQ(errno, ENOSPC);
    CHECK_CMP(count, >, 1);
    CHECK_CMP(count, <, 50);
    CHECK_OK(removexattr("t/f", "user.0"));
    CHECK_OK(setxattr("t/f", "user.new", value, sizeof value, 0));
    CHECK_OK(umount("t"));
}
