// O_TMPFILE and the ways to give such a file a name; renameat2(2) with its flags; what becomes of unlinked things.
#include "../check.h"
#include <sys/mount.h>
#include <sys/sysmacros.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define RENAME_WHITEOUT 4
#endif

static void put(const char *path, const char *text) {
    int fd = MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    CHECK_OK(close(fd));
}

static const char *get(const char *path) {
    static char text[64];
    memset(text, 0, sizeof text);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return strerrorname_np(errno);
    read(fd, text, sizeof text - 1);
    close(fd);
    return text;
}

static int links(const char *path) {
    struct stat st;
    return lstat(path, &st) ? -1 : (int)st.st_nlink;
}

static int rename2(const char *from, const char *to, unsigned flags) {
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

TEST(tmpfile) {
    umask(027);
    int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 0666));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_nlink, 0);
    CHECK_EQ(st.st_mode, S_IFREG | 0640);
    CHECK_EQ(write(fd, "hello", 5), 5);
    CHECK_EQ(lseek(fd, 0, SEEK_END), 5);
    char path[64], text[4200];
    sprintf(path, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(path, text, sizeof text - 1);
    CHECK_CMP(len, >, 10);
    text[len] = 0;
    CHECK(strstr(text, "/#"));
    CHECK_STR(text + len - 10, " (deleted)");
    // It gets a name through the descriptor, or through /proc.
    CHECK_OK(linkat(fd, "", AT_FDCWD, "one", AT_EMPTY_PATH));
    CHECK_STR(get("one"), "hello");
    CHECK_EQ(links("one"), 1);
    CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "two", AT_SYMLINK_FOLLOW));
    CHECK_EQ(links("two"), 2);
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "one", AT_EMPTY_PATH), EEXIST);
    CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "three", 0), EXDEV);
    fd = CHECK_OK(open(".", O_TMPFILE | O_WRONLY, 0600));
    sprintf(path, "/proc/self/fd/%d", fd);
    CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "four", AT_SYMLINK_FOLLOW));
    CHECK_OK(unlink("four"));
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "five", AT_EMPTY_PATH), ENOENT);
}

TEST(tmpfile_exclusive) {
    int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "x", AT_EMPTY_PATH), ENOENT);
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "x", AT_SYMLINK_FOLLOW), ENOENT);
    int again = CHECK_OK(open(path, O_RDWR));
    CHECK_EQ(write(again, "x", 1), 1);
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
}

TEST(tmpfile_errors) {
    put("f", "");
    CHECK_ERR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    CHECK_ERR(open(".", O_TMPFILE | O_RDWR | O_CREAT, 0600), EINVAL);
    CHECK_ERR(open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
    CHECK_ERR(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT);
    CHECK_ERR(open("/proc", O_TMPFILE | O_RDWR, 0600), EOPNOTSUPP);
    MUST(mkdir("d", 0755));
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(open("d", O_TMPFILE | O_RDWR, 0600), EACCES);
        int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 0600));
        // Without CAP_DAC_READ_SEARCH a descriptor alone may be linked by its opener from 6.10 on; /proc always works.
        char path[64];
        sprintf(path, "/proc/self/fd/%d", fd);
        CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "mine", AT_SYMLINK_FOLLOW));
    });
    // A mode without rights is no hindrance to the one who makes it.
    int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 0));
    CHECK_EQ(write(fd, "x", 1), 1);
}

TEST(linking_descriptors) {
    put("f", "text");
    int fd = MUST(open("f", O_RDONLY));
    CHECK_OK(linkat(fd, "", AT_FDCWD, "g", AT_EMPTY_PATH));
    CHECK_STR(get("g"), "text");
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "h", 0), ENOENT);
    CHECK_OK(unlink("f"));
    CHECK_OK(linkat(fd, "", AT_FDCWD, "h", AT_EMPTY_PATH));
    CHECK_OK(unlink("g"));
    CHECK_OK(unlink("h"));
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "i", AT_EMPTY_PATH), ENOENT);
    MUST(mkdir("d", 0755));
    int d = MUST(open("d", O_RDONLY));
    CHECK_ERR(linkat(d, "", AT_FDCWD, "e", AT_EMPTY_PATH), EPERM);
    MUST(symlink("x", "l"));
    int l = MUST(open("l", O_PATH | O_NOFOLLOW));
    CHECK_OK(linkat(l, "", AT_FDCWD, "m", AT_EMPTY_PATH));
    CHECK_EQ(links("m"), 2);
    CHECK_OK(linkat(AT_FDCWD, "l", AT_FDCWD, "n", 0));
    CHECK_EQ(links("n"), 3);
    CHECK_ERR(linkat(AT_FDCWD, "l", AT_FDCWD, "o", AT_SYMLINK_FOLLOW), ENOENT);
    CHECK_ERR(linkat(AT_FDCWD, "l", AT_FDCWD, "o", AT_REMOVEDIR), EINVAL);
}

TEST(noreplace) {
    put("a", "a");
    put("b", "b");
    CHECK_ERR(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
    CHECK_ERR(rename2("a", "a", RENAME_NOREPLACE), EEXIST);
    CHECK_OK(rename2("a", "c", RENAME_NOREPLACE));
    CHECK_STR(get("c"), "a");
    CHECK_ERR(rename2("none", "b", RENAME_NOREPLACE), ENOENT);
    MUST(symlink("none", "l"));
    CHECK_ERR(rename2("c", "l", RENAME_NOREPLACE), EEXIST);
    CHECK_ERR(rename2("c", "x", 8), EINVAL);
    CHECK_ERR(rename2("c", "x", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
    CHECK_ERR(rename2("c", "x", RENAME_WHITEOUT | RENAME_EXCHANGE), EINVAL);
    CHECK_ERR(rename2("c", ".", RENAME_NOREPLACE), EEXIST);
    CHECK_ERR(rename2("c", "..", 0), EBUSY);
    CHECK_ERR(rename2(".", "x", 0), EBUSY);
}

TEST(exchange) {
    put("a", "a");
    MUST(mkdir("d", 0755));
    put("d/in", "in");
    CHECK_OK(rename2("a", "d", RENAME_EXCHANGE));
    CHECK_STR(get("d"), "a");
    CHECK_STR(get("a/in"), "in");
    CHECK_OK(rename2("a/in", "d", RENAME_EXCHANGE));
    CHECK_STR(get("a/in"), "a");
    CHECK_STR(get("d"), "in");
    CHECK_ERR(rename2("a", "none", RENAME_EXCHANGE), ENOENT);
    CHECK_ERR(rename2("none", "a", RENAME_EXCHANGE), ENOENT);
    CHECK_ERR(rename2("a", "a/in", RENAME_EXCHANGE), EINVAL);
    CHECK_ERR(rename2("a/in", "a", RENAME_EXCHANGE), EINVAL);
    CHECK_OK(rename2("a", "a", RENAME_EXCHANGE));
    MUST(mkdir("e", 0755));
    MUST(mkdir("e/sub", 0755));
    MUST(mkdir("a/sub", 0755));
    put("a/sub/x", "x");
    CHECK_OK(rename2("e/sub", "a/sub", RENAME_EXCHANGE));
    CHECK_STR(get("e/sub/x"), "x");
    CHECK_EQ(links("a"), 3);
    CHECK_EQ(links("e"), 3);
    CHECK_OK(rename2("e/sub", "a/in", RENAME_EXCHANGE));
    CHECK_EQ(links("e"), 2);
    CHECK_EQ(links("a"), 4);
    struct stat up, a;
    CHECK_OK(stat("a/in/..", &up));
    CHECK_OK(stat("a", &a));
    CHECK_EQ(up.st_ino, a.st_ino);
}

TEST(whiteout) {
    put("a", "a");
    if (rename2("a", "b", RENAME_WHITEOUT) && errno == EINVAL)
        SKIP("no whiteouts on this file system");
    struct stat st;
    CHECK_STR(get("b"), "a");
    // In an overlay itself a whiteout hides: the name is gone, or is the device 0:0.
    if (lstat("a", &st) == 0) {
        CHECK(S_ISCHR(st.st_mode));
        CHECK_EQ(st.st_rdev, 0);
    } else
        CHECK_EQ(errno, ENOENT);
}

TEST(directories) {
    MUST(mkdir("a", 0755));
    MUST(mkdir("a/b", 0755));
    MUST(mkdir("a/b/c", 0755));
    MUST(mkdir("e", 0755));
    put("f", "f");
    CHECK_ERR(rename("a", "a/b"), EINVAL);
    CHECK_ERR(rename("a", "a/x"), EINVAL);
    CHECK_ERR(rename("a", "a/b/c"), EINVAL);
    CHECK_ERR(rename("a/b/c", "a"), ENOTEMPTY);
    CHECK_ERR(rename("e", "a"), ENOTEMPTY);
    CHECK_ERR(rename("f", "a"), EISDIR);
    CHECK_ERR(rename("a", "f"), ENOTDIR);
    CHECK_ERR(rename("f", "new/"), ENOTDIR);
    CHECK_ERR(rename("f/", "g"), ENOTDIR);
    CHECK_OK(rename("a/b/c", "e"));
    CHECK_OK(rename("e/", "h/"));
    CHECK_EQ(links("a/b"), 2);
    CHECK_OK(rename("a", "a"));
    CHECK_OK(link("f", "g"));
    // Two names of one file: nothing happens.
    CHECK_OK(rename("f", "g"));
    CHECK_EQ(links("f"), 2);
    CHECK_OK(rename("a/b", "b"));
    CHECK_EQ(links("a"), 2);
    struct stat up, here;
    CHECK_OK(stat("b/..", &up));
    CHECK_OK(stat(".", &here));
    CHECK_EQ(up.st_ino, here.st_ino);
    CHECK_ERR(rename("none/x", "y"), ENOENT);
    CHECK_ERR(rename("f/x", "y"), ENOTDIR);
    CHECK_ERR(rename("", "y"), ENOENT);
    CHECK_ERR(rename("f", ""), ENOENT);
}

TEST(open_while_renamed) {
    put("a", "a");
    put("b", "b");
    int fd = MUST(open("b", O_RDONLY));
    CHECK_OK(rename("a", "b"));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_nlink, 0);
    char byte, path[64], text[4200];
    CHECK_EQ(read(fd, &byte, 1), 1);
    CHECK_EQ(byte, 'b');
    sprintf(path, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(path, text, sizeof text);
    CHECK(len > 12 && !memcmp(text + len - 12, "/b (deleted)", 12));
    CHECK_STR(get(path), "b");
    MUST(mkdir("d", 0755));
    CHECK_OK(chdir("d"));
    CHECK_OK(rename("../d", "../e"));
    CHECK(getcwd(text, sizeof text));
    CHECK_STR(strrchr(text, '/'), "/e");
    CHECK_OK(rmdir("../e"));
    CHECK(!getcwd(text, sizeof text));
    CHECK_EQ(errno, ENOENT);
    CHECK_ERR(open("x", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERR(mkdir("x", 0700), ENOENT);
    CHECK_OK(access(".", F_OK));
    CHECK_OK(chdir(".."));
}
