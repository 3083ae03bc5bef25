// link, unlink, rmdir, mkdir, symlink, rename, and what a trailing slash means to each.
#include "../check.h"

static void put(const char *path) {
    int fd = MUST(open(path, O_CREAT | O_WRONLY, 0644));
    CHECK_EQ(write(fd, path, strlen(path)), strlen(path));
    CHECK_OK(close(fd));
}

static int mode(const char *path) {
    struct stat st;
    return lstat(path, &st) ? -1 : (int)st.st_mode;
}

static ino_t inode(const char *path) {
    struct stat st;
    return lstat(path, &st) ? 0 : st.st_ino;
}

static int links(const char *path) {
    struct stat st;
    return lstat(path, &st) ? -1 : (int)st.st_nlink;
}

TEST(mkdir_rules) {
    umask(027);
    CHECK_OK(mkdir("d", 0777));
    CHECK_EQ(mode("d"), S_IFDIR | 0750);
    CHECK_ERR(mkdir("d", 0777), EEXIST);
    CHECK_ERR(mkdir("d/", 0777), EEXIST);
    CHECK_OK(mkdir("e/", 0700));
    CHECK_ERR(mkdir("none/x", 0700), ENOENT);
    CHECK_ERR(mkdir("", 0700), ENOENT);
    CHECK_ERR(mkdir(BAD, 0700), EFAULT);
    CHECK_ERR(mkdir("/", 0700), EEXIST);
    CHECK_ERR(mkdir("d/.", 0700), EEXIST);
    CHECK_ERR(mkdir("x/.", 0700), ENOENT);
    put("f");
    CHECK_ERR(mkdir("f", 0700), EEXIST);
    CHECK_ERR(mkdir("f/", 0700), EEXIST);
    CHECK_ERR(mkdir("f/x", 0700), ENOTDIR);
    CHECK_OK(symlink("none", "l"));
    CHECK_ERR(mkdir("l", 0700), EEXIST);
    CHECK_OK(mkdir("t", 01777));
    CHECK_EQ(mode("t"), S_IFDIR | 01750);
    CHECK_ERR(mkdirat(-1, "q", 0700), EBADF);
}

TEST(rmdir_rules) {
    CHECK_OK(mkdir("d", 0700));
    CHECK_OK(mkdir("d/e", 0700));
    CHECK_ERR(rmdir("d"), ENOTEMPTY);
    CHECK_ERR(rmdir("d/."), EINVAL);
    CHECK_ERR(rmdir("d/e/.."), ENOTEMPTY);
    CHECK_ERR(rmdir("none"), ENOENT);
    put("f");
    CHECK_ERR(rmdir("f"), ENOTDIR);
    CHECK_ERR(rmdir("f/"), ENOTDIR);
    CHECK_OK(symlink("d/e", "l"));
    CHECK_ERR(rmdir("l"), ENOTDIR);
    CHECK_ERR(rmdir("l/"), ENOTDIR);
    CHECK_OK(rmdir("d/e/"));
    CHECK_OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    CHECK_ERR(rmdir("/"), EBUSY);
    CHECK_ERR(rmdir(""), ENOENT);
    CHECK_ERR(rmdir(BAD), EFAULT);
}

TEST(unlink_rules) {
    put("f");
    CHECK_OK(mkdir("d", 0700));
    CHECK_ERR(unlink("d"), EISDIR);
    CHECK_ERR(unlink("d/"), EISDIR);
    CHECK_ERR(unlink("f/"), ENOTDIR);
    CHECK_ERR(unlink("none"), ENOENT);
    CHECK_ERR(unlink("none/"), ENOENT);
    CHECK_ERR(unlink(""), ENOENT);
    CHECK_ERR(unlink("/"), EISDIR);
    CHECK_ERR(unlink("."), EISDIR);
    CHECK_OK(symlink("d", "l"));
    CHECK_ERR(unlink("l/"), ENOTDIR);
    CHECK_OK(unlink("l"));
    CHECK_OK(unlink("f"));
    CHECK_ERR(unlinkat(AT_FDCWD, "d", 1), EINVAL);
    CHECK_ERR(unlinkat(AT_FDCWD, "d", 0), EISDIR);
    put("g");
    CHECK_ERR(unlinkat(AT_FDCWD, "g", AT_REMOVEDIR), ENOTDIR);
}

TEST(directory_links) {
    CHECK_OK(mkdir("d", 0700));
    CHECK_EQ(links("d"), 2);
    CHECK_OK(mkdir("d/a", 0700));
    CHECK_OK(mkdir("d/b", 0700));
    CHECK_EQ(links("d"), 4);
    put("d/f");
    CHECK_EQ(links("d"), 4);
    CHECK_OK(rmdir("d/a"));
    CHECK_EQ(links("d"), 3);
    CHECK_OK(rename("d/b", "b"));
    CHECK_EQ(links("d"), 2);
}

TEST(hard_links) {
    put("f");
    CHECK_OK(link("f", "g"));
    CHECK_EQ(links("f"), 2);
    CHECK_EQ(inode("f"), inode("g"));
    CHECK_ERR(link("f", "g"), EEXIST);
    CHECK_ERR(link("none", "x"), ENOENT);
    CHECK_ERR(link("f", "none/x"), ENOENT);
    CHECK_ERR(link("f", "x/"), ENOENT);
    CHECK_ERR(link("f/", "x"), ENOTDIR);
    CHECK_OK(mkdir("d", 0700));
    CHECK_ERR(link("d", "e"), EPERM);
    CHECK_OK(symlink("f", "l"));
    CHECK_OK(link("l", "m"));
    CHECK(S_ISLNK(mode("m")));
    CHECK_EQ(links("l"), 2);
    CHECK_OK(linkat(AT_FDCWD, "l", AT_FDCWD, "n", AT_SYMLINK_FOLLOW));
    CHECK(S_ISREG(mode("n")));
    CHECK_EQ(links("f"), 3);
    CHECK_ERR(linkat(AT_FDCWD, "f", AT_FDCWD, "o", 1), EINVAL);
    int fd = MUST(open("f", O_RDONLY));
    CHECK_OK(linkat(fd, "", AT_FDCWD, "o", AT_EMPTY_PATH));
    CHECK_EQ(links("f"), 4);
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "p", 0), ENOENT);
    CHECK_OK(unlink("g"));
    CHECK_EQ(links("f"), 3);
}

TEST(symbolic_links) {
    CHECK_OK(symlink("some/where", "l"));
    char target[64];
    memset(target, '?', sizeof target);
    CHECK_EQ(readlink("l", target, sizeof target), 10);
    CHECK(!memcmp(target, "some/where?", 11));
    CHECK_EQ(readlink("l", target, 4), 4);
    CHECK_ERR(readlink("l", target, 0), EINVAL);
    CHECK_ERR(syscall(SYS_readlink, "l", target, -1), EINVAL);
    CHECK_ERR(readlink("l", BAD, 10), EFAULT);
    CHECK_ERR(readlink("none", target, 10), ENOENT);
    put("f");
    CHECK_ERR(readlink("f", target, 10), EINVAL);
    CHECK_ERR(readlink(".", target, 10), EINVAL);
    CHECK_ERR(symlink("x", "l"), EEXIST);
    CHECK_ERR(symlink("", "e"), ENOENT);
    CHECK_ERR(symlink("x", ""), ENOENT);
    CHECK_ERR(symlink("x", "new/"), ENOENT);
    CHECK_ERR(symlink("x", "none/l"), ENOENT);
    struct stat st;
    CHECK_OK(lstat("l", &st));
    CHECK_EQ(st.st_mode, S_IFLNK | 0777);
    CHECK_EQ(st.st_size, 10);
    CHECK_ERR(stat("l", &st), ENOENT);
    char *longest = malloc(PATH_MAX + 1);
    memset(longest, 'x', PATH_MAX + 1);
    longest[PATH_MAX] = 0;
    CHECK_ERR(symlink(longest, "k"), ENAMETOOLONG);
    longest[PATH_MAX - 1] = 0;
    CHECK_OK(symlink(longest, "k"));
    CHECK_ERR(open("k", O_RDONLY), ENAMETOOLONG);
}

TEST(links_on_the_way) {
    CHECK_OK(mkdir("d", 0700));
    CHECK_OK(mkdir("d/e", 0700));
    put("d/f");
    CHECK_OK(symlink("d/e", "l"));
    // .. is that of the directory the link leads to.
    CHECK_OK(access("l/../f", F_OK));
    CHECK_OK(symlink("../f", "d/e/up"));
    CHECK_OK(access("l/up", F_OK));
    char here[PATH_MAX], absolute[PATH_MAX + 10];
    CHECK(getcwd(here, sizeof here) != NULL);
    snprintf(absolute, sizeof absolute, "%s/d", here);
    CHECK_OK(symlink(absolute, "abs"));
    CHECK_OK(access("abs/f", F_OK));
    CHECK_OK(access("/../../..", F_OK));
    CHECK_EQ(inode("/.."), inode("/"));
}

TEST(rename_files) {
    put("a");
    put("b");
    ino_t ino = inode("a");
    CHECK_OK(rename("a", "b"));
    CHECK_EQ(inode("b"), ino);
    CHECK_EQ(mode("a"), -1);
    CHECK_OK(link("b", "c"));
    // Two names of one file: rename does nothing.
    CHECK_OK(rename("b", "c"));
    CHECK_EQ(links("b"), 2);
    CHECK_OK(rename("b", "b"));
    CHECK_ERR(rename("none", "x"), ENOENT);
    CHECK_ERR(rename("b", "none/x"), ENOENT);
    CHECK_ERR(rename("b", "x/"), ENOTDIR);
    CHECK_ERR(rename("b/", "x"), ENOTDIR);
    CHECK_ERR(rename("", "x"), ENOENT);
    CHECK_ERR(rename("b", ""), ENOENT);
    CHECK_ERR(rename(BAD, "x"), EFAULT);
    CHECK_ERR(rename("b", BAD), EFAULT);
    CHECK_ERR(rename(".", "x"), EBUSY);
    CHECK_ERR(rename("b", ".."), EBUSY);
    CHECK_ERR(rename("/", "/x"), EBUSY);
}

TEST(rename_directories) {
    CHECK_OK(mkdir("d", 0700));
    CHECK_OK(mkdir("e", 0700));
    put("f");
    put("d/inner");
    CHECK_ERR(rename("d", "f"), ENOTDIR);
    CHECK_ERR(rename("f", "d"), EISDIR);
    CHECK_ERR(rename("e", "d"), ENOTEMPTY);
    CHECK_ERR(rename("d", "d/sub"), EINVAL);
    CHECK_ERR(rename("d/inner", "d"), ENOTEMPTY);
    CHECK_OK(rename("d", "e"));
    CHECK_OK(access("e/inner", F_OK));
    CHECK_EQ(mode("d"), -1);
    CHECK_OK(rename("e/", "g/"));
    CHECK_OK(access("g/inner", F_OK));
    CHECK_OK(mkdir("g/deep", 0700));
    CHECK_OK(rename("g/deep", "top"));
    CHECK_OK(chdir("top"));
    CHECK_OK(access("../g", F_OK));
}

TEST(rename_flags) {
    put("a");
    put("b");
    ino_t a = inode("a"), b = inode("b");
    CHECK_ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
    CHECK_OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    CHECK_OK(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_EXCHANGE));
    CHECK_EQ(inode("b"), a);
    CHECK_EQ(inode("c"), b);
    CHECK_ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT);
    CHECK_ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    CHECK_ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", 8), EINVAL);
    CHECK_OK(mkdir("d", 0700));
    CHECK_OK(renameat2(AT_FDCWD, "d", AT_FDCWD, "b", RENAME_EXCHANGE));
    CHECK(S_ISDIR(mode("b")) && S_ISREG(mode("d")));
    put("b/x");
    CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "b/x", RENAME_EXCHANGE), EINVAL);
}

TEST(working_directory) {
    char here[PATH_MAX], there[PATH_MAX], text[PATH_MAX];
    CHECK(getcwd(here, sizeof here) != NULL);
    CHECK_OK(mkdir("d", 0700));
    CHECK_OK(chdir("d"));
    CHECK(getcwd(there, sizeof there) != NULL);
    snprintf(text, sizeof text, "%.4000s/d", here);
    CHECK_STR(there, text);
    CHECK_OK(rename("../d", "../e"));
    CHECK(getcwd(there, sizeof there) != NULL);
    snprintf(text, sizeof text, "%.4000s/e", here);
    CHECK_STR(there, text);
    CHECK_EQ(syscall(SYS_getcwd, there, sizeof there), strlen(there) + 1);
    CHECK_ERR(syscall(SYS_getcwd, there, 2), ERANGE);
    CHECK_ERR(syscall(SYS_getcwd, BAD, 4096), EFAULT);
    CHECK_OK(rmdir("../e"));
    CHECK_ERR(syscall(SYS_getcwd, there, sizeof there), ENOENT);
    CHECK_ERR(open("x", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERR(mkdir("x", 0700), ENOENT);
    CHECK_OK(chdir(".."));
    CHECK_ERR(chdir("none"), ENOENT);
    put("f");
    CHECK_ERR(chdir("f"), ENOTDIR);
    CHECK_ERR(chdir(""), ENOENT);
    CHECK_ERR(fchdir(-1), EBADF);
    int fd = MUST(open("f", O_RDONLY));
    CHECK_ERR(fchdir(fd), ENOTDIR);
}

TEST(new_root) {
    CHECK_OK(mkdir("jail", 0755));
    CHECK_OK(mkdir("jail/sub", 0755));
    put("outside");
    put("jail/inside");
    CHECK_OK(symlink("/inside", "jail/sub/l"));
    int out = MUST(open(".", O_RDONLY));
    CHECK_ERR(chroot("none"), ENOENT);
    CHECK_ERR(chroot("outside"), ENOTDIR);
    CHECK_OK(chroot("jail"));
    CHECK_OK(access("/inside", F_OK));
    CHECK_OK(access("/sub/l", F_OK));
    CHECK_ERR(access("/outside", F_OK), ENOENT);
    CHECK_ERR(access("/../outside", F_OK), ENOENT);
    // The working directory stays outside until it is changed.
    CHECK_OK(access("outside", F_OK));
    char text[PATH_MAX];
    CHECK_CMP(syscall(SYS_getcwd, text, sizeof text), >, 0);
    CHECK(!strncmp(text, "(unreachable)", 13));
    CHECK_OK(chdir("/sub"));
    CHECK_OK(access("../inside", F_OK));
    CHECK_ERR(access("../../outside", F_OK), ENOENT);
    CHECK(getcwd(text, sizeof text) != NULL);
    CHECK_STR(text, "/sub");
    CHECK_OK(openat(out, "outside", O_RDONLY));
    if (setuid(1000) == 0)
        CHECK_ERR(chroot("/"), EPERM);
}
