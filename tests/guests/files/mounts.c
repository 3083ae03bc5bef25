// mount(2) and umount2(2): binds, remounts and their flags, moves, propagation, busy and lazy unmounts, pivot_root,
// and what /proc/self/mountinfo says. The program has a mount namespace of its own.
#include "../check.h"
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

static void put(const char *path) { CHECK_OK(close(MUST(open(path, O_CREAT | O_WRONLY, 0644)))); }

static int there(const char *path) { return access(path, F_OK) == 0; }

static int open_error(const char *path, int flags) {
    int fd = open(path, flags, 0644);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static void tmpfs(const char *path) {
    mkdir(path, 0755);
    MUST(mount("none", path, "tmpfs", 0, NULL));
}

// A namespace of its own in which nothing spreads from or to outside.
static void own(void) {
    if (unshare(CLONE_NEWNS))
        SKIP("no mount namespaces: %s", strerror(errno));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

// The line of mountinfo whose mount point ends with this path below the working directory; the last if several.
static int line_of(const char *path, char *line, size_t size) {
    char wanted[5000], cwd[4096];
    MUST(getcwd(cwd, sizeof cwd) ? 0 : -1);
    snprintf(wanted, sizeof wanted, "%s%s%s", cwd, *path ? "/" : "", path);
    FILE *list = fopen("/proc/self/mountinfo", "r");
    int count = 0;
    char one[8192], place[4096];
    while (list && fgets(one, sizeof one, list))
        if (sscanf(one, "%*d %*d %*s %*s %4095s", place) == 1 && !strcmp(place, wanted)) {
            snprintf(line, size, "%s", one);
            count++;
        }
    if (list)
        fclose(list);
    return count;
}

static int info_has(const char *path, const char *text) {
    char line[8192] = "";
    if (!line_of(path, line, sizeof line))
        return -1;
    return strstr(line, text) != NULL;
}

static int shown(const char *path) {
    char line[8192];
    return line_of(path, line, sizeof line);
}

TEST(errors) {
    own();
    MUST(mkdir("d", 0755));
    put("f");
    CHECK_ERR(mount("none", "none", "tmpfs", 0, NULL), ENOENT);
    CHECK_ERR(mount("none", "f", "tmpfs", 0, NULL), ENOTDIR);
    CHECK_ERR(mount("none", "d", "strangefs", 0, NULL), ENODEV);
    CHECK_ERR(mount("none", "d", NULL, 0, NULL), EINVAL);
    CHECK_ERR(mount("none", BAD, "tmpfs", 0, NULL), EFAULT);
    CHECK_ERR(mount("none", "d", BAD, 0, NULL), EFAULT);
    CHECK_ERR(mount("none", "d", "tmpfs", 0, BAD), EFAULT);
    CHECK_ERR(mount("none", "d", "tmpfs", 0, "strange=1"), EINVAL);
    CHECK_ERR(mount("none", "d", "tmpfs", 0, "size=x"), EINVAL);
    CHECK_ERR(mount("none", "d", NULL, MS_BIND, NULL), ENOENT);
    CHECK_ERR(mount(NULL, "d", NULL, MS_BIND, NULL), EINVAL);
    CHECK_ERR(mount("", "d", NULL, MS_BIND, NULL), EINVAL);
    CHECK_ERR(mount("f", "d", NULL, MS_BIND, NULL), ENOTDIR);
    CHECK_ERR(mount("d", "f", NULL, MS_BIND, NULL), ENOTDIR);
    CHECK_ERR(mount(NULL, "d", NULL, MS_REMOUNT, NULL), EINVAL);
    CHECK_ERR(mount(NULL, "d", NULL, MS_REMOUNT | MS_BIND, NULL), EINVAL);
    CHECK_ERR(mount(NULL, "d", NULL, MS_SHARED, NULL), EINVAL);
    CHECK_ERR(mount("d", "d", NULL, MS_MOVE, NULL), EINVAL);
    CHECK_ERR(umount("d"), EINVAL);
    CHECK_ERR(umount("f"), EINVAL);
    CHECK_ERR(umount("none"), ENOENT);
    CHECK_ERR(umount2("d", 0x100), EINVAL);
    CHECK_ERR(umount2("d", MNT_EXPIRE | MNT_DETACH), EINVAL);
    CHECK_ERR(umount2("d", MNT_EXPIRE | MNT_FORCE), EINVAL);
    tmpfs("d");
    CHECK_ERR(mount(NULL, "d", NULL, MS_SHARED | MS_PRIVATE, NULL), EINVAL);
    CHECK_ERR(mount(NULL, "d", NULL, MS_SHARED | MS_NOEXEC, NULL), EINVAL);
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(mount("none", "d", "tmpfs", 0, NULL), EPERM);
        CHECK_ERR(mount("d", "d", NULL, MS_BIND, NULL), EPERM);
        CHECK_ERR(umount("d"), EPERM);
        CHECK_ERR(umount2("d", MNT_DETACH), EPERM);
        CHECK_ERR(unshare(CLONE_NEWNS), EPERM);
        CHECK_ERR(syscall(SYS_pivot_root, ".", "."), EPERM);
    });
}

TEST(stacked) {
    own();
    tmpfs("d");
    put("d/one");
    tmpfs("d");
    CHECK(!there("d/one"));
    put("d/two");
    CHECK_EQ(shown("d"), 2);
    CHECK_OK(umount("d"));
    CHECK(there("d/one"));
    CHECK(!there("d/two"));
    CHECK_ERR(rmdir("d"), EBUSY);
    CHECK_ERR(rename("d", "e"), EBUSY);
    MUST(mkdir("x", 0755));
    CHECK_ERR(rename("x", "d"), EBUSY);
    CHECK_ERR(rename("d/one", "one"), EXDEV);
    CHECK_ERR(link("d/one", "one"), EXDEV);
    struct stat in, out;
    CHECK_OK(stat("d", &in));
    CHECK_OK(stat(".", &out));
    CHECK(in.st_dev != out.st_dev);
    CHECK_OK(stat("d/..", &in));
    CHECK_EQ(in.st_ino, out.st_ino);
    CHECK_OK(umount("d"));
    CHECK_OK(rmdir("d"));
}

TEST(binds) {
    own();
    MUST(mkdir("a", 0755));
    MUST(mkdir("b", 0755));
    MUST(mkdir("a/sub", 0755));
    put("a/f");
    CHECK_OK(mount("a", "b", NULL, MS_BIND, NULL));
    CHECK(there("b/f"));
    struct stat one, two;
    CHECK_OK(stat("a/f", &one));
    CHECK_OK(stat("b/f", &two));
    CHECK(one.st_dev == two.st_dev && one.st_ino == two.st_ino);
    // The same file system on another mount: neither links nor renames go across.
    CHECK_ERR(rename("a/f", "b/g"), EXDEV);
    CHECK_ERR(link("a/f", "b/g"), EXDEV);
    put("b/new");
    CHECK(there("a/new"));
    // What is mounted beneath comes along only with MS_REC.
    tmpfs("a/sub");
    put("a/sub/deep");
    CHECK(!there("b/sub/deep"));
    MUST(mkdir("c", 0755));
    CHECK_OK(mount("a", "c", NULL, MS_BIND, NULL));
    CHECK(!there("c/sub/deep"));
    CHECK_ERR(umount("a"), EINVAL);
    CHECK_OK(umount("c"));
    CHECK_OK(mount("a", "c", NULL, MS_BIND | MS_REC, NULL));
    CHECK(there("c/sub/deep"));
    CHECK_ERR(umount("c"), EBUSY);
    CHECK_OK(umount("c/sub"));
    CHECK_OK(umount("c"));
    // Files bind onto files.
    put("g");
    CHECK_OK(mount("a/f", "g", NULL, MS_BIND, NULL));
    CHECK_OK(stat("g", &two));
    CHECK_EQ(one.st_ino, two.st_ino);
    CHECK_ERR(unlink("g"), EBUSY);
    CHECK_OK(umount("g"));
    CHECK_OK(unlink("g"));
    CHECK_OK(umount("b"));
    // A directory on itself.
    CHECK_OK(mount("a", "a", NULL, MS_BIND, NULL));
    CHECK(there("a/f"));
    CHECK(!there("a/sub/deep"));
    CHECK_OK(umount("a"));
    CHECK(there("a/sub/deep"));
}

TEST(read_only_binds) {
    own();
    MUST(mkdir("a", 0755));
    MUST(mkdir("b", 0755));
    put("a/f");
    CHECK_OK(mount("a", "b", NULL, MS_BIND | MS_RDONLY, NULL));
    // The flag counts only in a remount.
    CHECK_EQ(open_error("b/f", O_RDWR), 0);
    int writer = MUST(open("b/f", O_RDWR));
    CHECK_ERR(mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EBUSY);
    CHECK_OK(close(writer));
    CHECK_OK(mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    CHECK_EQ(open_error("b/f", O_RDWR), EROFS);
    CHECK_EQ(open_error("b/f", O_RDONLY), 0);
    CHECK_EQ(open_error("b/f", O_RDONLY | O_TRUNC), EROFS);
    CHECK_EQ(open_error("b/f", O_RDWR | O_CREAT), EROFS);
    CHECK_EQ(open_error("b/new", O_RDWR | O_CREAT), EROFS);
    CHECK_EQ(open_error("b/new", O_RDONLY), ENOENT);
    CHECK_EQ(open_error("b", O_RDWR | O_TMPFILE), EROFS);
    CHECK_ERR(mkdir("b/x", 0755), EROFS);
    CHECK_ERR(mkdir("b/f", 0755), EEXIST);
    CHECK_ERR(unlink("b/f"), EROFS);
    CHECK_ERR(unlink("b/none"), EROFS);
    CHECK_ERR(rename("b/f", "b/g"), EROFS);
    CHECK_ERR(symlink("x", "b/l"), EROFS);
    CHECK_ERR(link("b/f", "b/g"), EROFS);
    CHECK_ERR(chmod("b/f", 0600), EROFS);
    CHECK_ERR(chown("b/f", 0, 0), EROFS);
    CHECK_ERR(truncate("b/f", 0), EROFS);
    CHECK_ERR(utimensat(AT_FDCWD, "b/f", NULL, 0), EROFS);
    CHECK_ERR(syscall(SYS_setxattr, "b/f", "user.a", "x", 1, 0), EROFS);
    CHECK_ERR(access("b/f", W_OK), EROFS);
    CHECK_OK(access("b/f", R_OK));
    CHECK_EQ(open_error("a/f", O_RDWR), 0);
    struct statvfs vfs;
    CHECK_OK(statvfs("b", &vfs));
    CHECK(vfs.f_flag & ST_RDONLY);
    CHECK_OK(statvfs("a", &vfs));
    CHECK(!(vfs.f_flag & ST_RDONLY));
    CHECK_EQ(info_has("b", " ro"), 1);
    CHECK_OK(mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND, NULL));
    CHECK_EQ(open_error("b/f", O_RDWR), 0);
}

TEST(read_only_file_systems) {
    own();
    tmpfs("a");
    put("a/f");
    MUST(mkdir("b", 0755));
    CHECK_OK(mount("a", "b", NULL, MS_BIND, NULL));
    int writer = MUST(open("a/f", O_RDWR));
    CHECK_ERR(mount(NULL, "a", NULL, MS_REMOUNT | MS_RDONLY, NULL), EBUSY);
    CHECK_OK(close(writer));
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    // All mounts of it are.
    CHECK_EQ(open_error("a/f", O_RDWR), EROFS);
    CHECK_EQ(open_error("b/f", O_RDWR), EROFS);
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT, NULL));
    CHECK_EQ(open_error("a/f", O_RDWR), 0);
    MUST(mkdir("c", 0755));
    CHECK_OK(mount("none", "c", "tmpfs", MS_RDONLY, NULL));
    CHECK_EQ(open_error("c/f", O_RDWR | O_CREAT), EROFS);
    CHECK_OK(mount(NULL, "c", NULL, MS_REMOUNT, "size=64k,mode=700"));
    CHECK_EQ(open_error("c/f", O_RDWR | O_CREAT), 0);
    struct statfs fs;
    CHECK_OK(statfs("c", &fs));
    CHECK_EQ(fs.f_type, 0x01021994);
    CHECK_EQ(fs.f_blocks * fs.f_bsize, 65536);
    CHECK_EQ(fs.f_namelen, 255);
}

TEST(flags) {
    own();
    tmpfs("a");
    MUST(mknod("a/null", S_IFCHR | 0666, 0x103));
    MUST(symlink("null", "a/l"));
    int fd = MUST(open("a/run", O_CREAT | O_WRONLY, 0755));
    write(fd, "#!/bin/true\n", 12);
    close(fd);
    CHECK_EQ(open_error("a/null", O_RDWR), 0);
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME, NULL));
    CHECK_EQ(open_error("a/null", O_RDWR), EACCES);
    CHECK_EQ(open_error("a/null", O_PATH), 0);
    CHECK_ERR(execl("a/run", "run", NULL), EACCES);
    CHECK_ERR(access("a/run", X_OK), EACCES);
    CHECK_OK(access("a", X_OK));
    int run = MUST(open("a/run", O_RDONLY));
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, run, 0) == MAP_FAILED);
    CHECK_EQ(errno, EPERM);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, run, 0);
    CHECK(map != MAP_FAILED);
    CHECK_ERR(mprotect(map, 4096, PROT_READ | PROT_EXEC), EACCES);
    struct statvfs vfs;
    CHECK_OK(statvfs("a", &vfs));
    CHECK_EQ(vfs.f_flag & (ST_NODEV | ST_NOSUID | ST_NOEXEC | ST_NOATIME | ST_RELATIME),
             ST_NODEV | ST_NOSUID | ST_NOEXEC | ST_NOATIME);
    CHECK_EQ(info_has("a", "rw,nosuid,nodev,noexec,noatime"), 1);
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND, NULL));
    CHECK_EQ(open_error("a/null", O_RDWR), 0);
    // Without a word about access times they stay as they were.
    CHECK_OK(statvfs("a", &vfs));
    CHECK_EQ(vfs.f_flag & (ST_NODEV | ST_NOSUID | ST_NOEXEC | ST_NOATIME), ST_NOATIME);
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_NOSYMFOLLOW, NULL));
    CHECK_EQ(open_error("a/l", O_RDWR), ELOOP);
    char text[10];
    CHECK_EQ(readlink("a/l", text, 10), 4);
    CHECK_EQ(info_has("a", "nosymfollow"), 1);
}

TEST(access_times) {
    own();
    tmpfs("a");
    int fd = MUST(open("a/f", O_CREAT | O_RDWR, 0644));
    write(fd, "x", 1);
    struct stat st;
    char byte;
    struct timespec old[2] = {{1000, 0}, {2000, 0}};
    CHECK_OK(futimens(fd, old));
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_NOATIME, NULL));
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_atime, 1000);
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_RELATIME, NULL));
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_OK(fstat(fd, &st));
    CHECK_CMP(st.st_atime, >, 1000);
    CHECK_OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_STRICTATIME, NULL));
    struct timespec recent[2] = {{time(NULL) - 60, 0}, {1000, 0}};
    CHECK_OK(futimens(fd, recent));
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_OK(fstat(fd, &st));
    CHECK_CMP(st.st_atime, >, recent[0].tv_sec + 30);
}

TEST(busy) {
    own();
    tmpfs("a");
    put("a/f");
    MUST(mkdir("a/d", 0755));
    int fd = MUST(open("a/f", O_RDONLY));
    CHECK_ERR(umount("a"), EBUSY);
    CHECK_OK(close(fd));
    fd = MUST(open("a/f", O_PATH));
    CHECK_ERR(umount("a"), EBUSY);
    CHECK_OK(close(fd));
    CHECK_OK(chdir("a/d"));
    CHECK_ERR(umount("../../a"), EBUSY);
    CHECK_OK(chdir("../.."));
    fd = MUST(open("a/f", O_RDONLY));
    void *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK_OK(close(fd));
    CHECK_ERR(umount("a"), EBUSY);
    CHECK_OK(munmap(map, 4096));
    tmpfs("a/d");
    CHECK_ERR(umount("a"), EBUSY);
    CHECK_OK(umount("a/d"));
    CHECK_ERR(umount2("a", MNT_EXPIRE), EAGAIN);
    CHECK(there("a/f"));
    // Looking at it made it young again.
    CHECK_ERR(umount2("a", MNT_EXPIRE), EAGAIN);
    CHECK_OK(umount2("a", MNT_EXPIRE));
    CHECK_ERR(umount("a"), EINVAL);
    tmpfs("a");
    fd = MUST(open("a", O_RDONLY));
    CHECK_ERR(umount2("a", MNT_EXPIRE), EBUSY);
}

TEST(lazy) {
    own();
    tmpfs("a");
    put("a/f");
    tmpfs("a/d");
    put("a/d/g");
    int fd = MUST(open("a/f", O_RDWR)), dir = MUST(open("a", O_RDONLY)), deep = MUST(open("a/d", O_RDONLY));
    CHECK_OK(umount2("a", MNT_DETACH));
    CHECK(!there("a/f"));
    CHECK_EQ(shown("a"), 0);
    CHECK_EQ(shown("a/d"), 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(faccessat(dir, "f", R_OK, 0));
    CHECK_OK(faccessat(deep, "g", R_OK, 0));
    // The mounts came apart.
    CHECK_OK(faccessat(dir, "..", R_OK, 0));
    CHECK_ERR(faccessat(deep, "../f", R_OK, 0), ENOENT);
    CHECK_CHILD({
        CHECK_OK(fchdir(dir));
        char text[100];
        CHECK(getcwd(text, sizeof text) == NULL || !strncmp(text, "(unreachable)", 13));
        CHECK_ERR(umount2(".", MNT_DETACH), EINVAL);
        CHECK_EQ(mount("none", ".", "tmpfs", 0, NULL), -1);
        CHECK(errno == EINVAL || errno == ENOENT);
    });
    int again = openat(dir, "new", O_CREAT | O_RDWR, 0644);
    CHECK_OK(again);
    CHECK_OK(rmdir("a"));
}

TEST(nofollow) {
    own();
    tmpfs("a");
    MUST(symlink("a", "l"));
    CHECK_ERR(umount2("l", UMOUNT_NOFOLLOW), EINVAL);
    CHECK_OK(umount2("l", 0));
    CHECK_ERR(umount("a"), EINVAL);
}

TEST(moves) {
    own();
    tmpfs("a");
    put("a/f");
    MUST(mkdir("a/d", 0755));
    tmpfs("a/d");
    put("a/d/g");
    MUST(mkdir("b", 0755));
    CHECK_ERR(mount("a", "a/d", NULL, MS_MOVE, NULL), ELOOP);
    CHECK_OK(mount("a", "b", NULL, MS_MOVE, NULL));
    CHECK(!there("a/f"));
    CHECK(there("b/f"));
    CHECK(there("b/d/g"));
    CHECK_ERR(mount("b/f", "a", NULL, MS_MOVE, NULL), EINVAL);
    put("x");
    CHECK_ERR(mount("b", "x", NULL, MS_MOVE, NULL), EINVAL);
    // Not from beneath a shared mount.
    CHECK_OK(mount(NULL, "b", NULL, MS_SHARED, NULL));
    CHECK_ERR(mount("b/d", "a", NULL, MS_MOVE, NULL), EINVAL);
    CHECK_OK(mount(NULL, "b", NULL, MS_PRIVATE, NULL));
    CHECK_OK(mount("b/d", "a", NULL, MS_MOVE, NULL));
    CHECK(there("a/g"));
    CHECK_OK(umount("a"));
    CHECK_OK(umount("b"));
}

TEST(shared) {
    own();
    tmpfs("a");
    MUST(mkdir("b", 0755));
    MUST(mkdir("a/m", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    CHECK_OK(mount("a", "b", NULL, MS_BIND, NULL));
    CHECK_EQ(info_has("a", " shared:"), 1);
    CHECK_EQ(info_has("b", " shared:"), 1);
    tmpfs("a/m");
    put("a/m/f");
    CHECK(there("b/m/f"));
    CHECK_EQ(shown("b/m"), 1);
    CHECK_OK(umount("b/m"));
    CHECK(!there("a/m/f"));
    CHECK_EQ(shown("a/m"), 0);
    // A slave gets and does not give.
    CHECK_OK(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    CHECK_EQ(info_has("b", " master:"), 1);
    CHECK_EQ(info_has("b", " shared:"), 0);
    tmpfs("a/m");
    put("a/m/g");
    CHECK(there("b/m/g"));
    CHECK_OK(umount("b/m"));
    CHECK(there("a/m/g"));
    CHECK_OK(umount("a/m"));
    tmpfs("b/m");
    put("b/m/h");
    CHECK(!there("a/m/h"));
    CHECK_OK(umount("b/m"));
    // A shared slave.
    CHECK_OK(mount(NULL, "b", NULL, MS_SHARED, NULL));
    CHECK_EQ(info_has("b", " master:"), 1);
    CHECK_EQ(info_has("b", " shared:"), 1);
    // A private one has nothing to do with it.
    CHECK_OK(mount(NULL, "b", NULL, MS_PRIVATE, NULL));
    CHECK_EQ(info_has("b", "master:"), 0);
    tmpfs("a/m");
    put("a/m/i");
    CHECK(!there("b/m/i"));
    CHECK_OK(umount("a/m"));
    CHECK_OK(umount("b"));
    // An unbindable one cannot be bound.
    CHECK_OK(mount(NULL, "a", NULL, MS_UNBINDABLE, NULL));
    CHECK_EQ(info_has("a", " unbindable"), 1);
    CHECK_ERR(mount("a", "b", NULL, MS_BIND, NULL), EINVAL);
}

// How many mounts are at or beneath a path.
static int mounts_beneath(const char *path) {
    char line[4096], whole[PATH_MAX];
    MUST((long)realpath(path, whole));
    FILE *info = fopen("/proc/self/mountinfo", "r");
    int count = 0;
    while (info && fgets(line, sizeof line, info))
        count += strstr(line, whole) != NULL;
    if (info)
        fclose(info);
    return count;
}

// What spreads to a place that was taken meanwhile goes beneath what lies there.
TEST(spread_to_a_taken_place) {
    own();
    tmpfs("a");
    MUST(mkdir("a/m", 0755));
    MUST(mkdir("a/n", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    for (int round = 1; round <= 5; round++) {
        CHECK_OK(mount("a/n", "a/m", NULL, MS_BIND, NULL));
        CHECK_EQ(mounts_beneath("a"), 1 << round);
    }
}

// Copies that lie on each other go with what they are copies of.
TEST(unmount_what_spread_to_taken_places) {
    own();
    tmpfs("a");
    MUST(mkdir("a/x", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    for (int round = 0; round < 5; round++)
        CHECK_OK(mount("a", "a/x", NULL, MS_BIND | MS_REC, NULL));
    CHECK(mounts_beneath("a") > 32);
    // One of them had come to lie on the first.
    CHECK_OK(umount2("a", MNT_DETACH));
    CHECK_EQ(mounts_beneath("a"), 1);
    CHECK_OK(umount2("a", MNT_DETACH));
    CHECK_EQ(mounts_beneath("a"), 0);
}

// Copies that were bound into themselves are in use by nobody.
TEST(unmount_one_by_one_what_spread) {
    own();
    tmpfs("a");
    MUST(mkdir("a/x", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    for (int round = 0; round < 3; round++)
        CHECK_OK(mount("a", "a/x", NULL, MS_BIND | MS_REC, NULL));
    int unmounted = 0;
    while (unmounted < 100 && umount("a/x") == 0)
        unmounted++;
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(unmounted, 1);
    CHECK_EQ(mounts_beneath("a/x"), 5);
}

// Neither by its working directory nor by its root.
TEST(a_zombie_uses_no_mount) {
    own();
    tmpfs("a");
    pid_t child = fork();
    if (child == 0) {
        CHECK_OK(chroot("a"));
        CHECK_OK(chdir("/"));
        _exit(0);
    }
    siginfo_t info;
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CHECK_OK(umount("a"));
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

// A mount that cannot be bound stays so as a slave.
TEST(unbindable_slave) {
    own();
    tmpfs("a");
    MUST(mkdir("b", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_UNBINDABLE, NULL));
    CHECK_OK(mount(NULL, "a", NULL, MS_SLAVE, NULL));
    CHECK_ERR(mount("a", "b", NULL, MS_BIND, NULL), EINVAL);
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    CHECK_OK(mount("a", "b", NULL, MS_BIND, NULL));
}

// A copy goes from beneath what was mounted there before, which stays and is seen.
TEST(unmount_a_copy_that_is_covered) {
    own();
    tmpfs("a");
    MUST(mkdir("a/m", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    MUST(mkdir("b", 0755));
    CHECK_OK(mount("a", "b", NULL, MS_BIND, NULL));
    CHECK_OK(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    tmpfs("b/m");
    put("b/m/before");
    tmpfs("a/m");
    put("a/m/f");
    int all = mounts_beneath("b");
    CHECK(there("b/m/before"));
    CHECK_OK(umount("a/m"));
    CHECK_EQ(mounts_beneath("b"), all - 1);
    CHECK(there("b/m/before"));
    CHECK_OK(umount("b/m"));
    CHECK(!there("b/m/before"));
    CHECK(!there("b/m/f"));
    // The same while the one that covers it has mounts of its own.
    tmpfs("b/m");
    MUST(mkdir("b/m/sub", 0755));
    tmpfs("b/m/sub");
    tmpfs("a/m");
    CHECK_OK(umount2("a/m", MNT_DETACH));
    CHECK_EQ(mounts_beneath("b"), 3);
    CHECK(there("b/m/sub"));
}

TEST(unbindable_beneath) {
    own();
    tmpfs("a");
    tmpfs("a/u");
    put("a/u/f");
    CHECK_OK(mount(NULL, "a/u", NULL, MS_UNBINDABLE, NULL));
    MUST(mkdir("b", 0755));
    CHECK_OK(mount("a", "b", NULL, MS_BIND | MS_REC, NULL));
    CHECK(there("b/u"));
    CHECK(!there("b/u/f"));
}

TEST(recursive_propagation) {
    own();
    tmpfs("a");
    tmpfs("a/b");
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED | MS_REC, NULL));
    CHECK_EQ(info_has("a/b", " shared:"), 1);
    CHECK_OK(mount(NULL, "a", NULL, MS_PRIVATE, NULL));
    CHECK_EQ(info_has("a", " shared:"), 0);
    CHECK_EQ(info_has("a/b", " shared:"), 1);
    // What is mounted on a shared mount is shared, what is mounted on a private one is not.
    MUST(mkdir("a/b/c", 0755));
    tmpfs("a/b/c");
    CHECK_EQ(info_has("a/b/c", " shared:"), 1);
    tmpfs("a/d");
    CHECK_EQ(info_has("a/d", " shared:"), 0);
}

TEST(spread_to_a_child_namespace) {
    own();
    tmpfs("a");
    MUST(mkdir("a/m", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    int ready[2], go[2];
    MUST(pipe(ready));
    MUST(pipe(go));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(go[1]);
        MUST(unshare(CLONE_NEWNS));
        write(ready[1], "x", 1);
        read(go[0], &byte, 1);
        CHECK(there("a/m/f"));
        CHECK_OK(mount(NULL, "a", NULL, MS_SLAVE | MS_REC, NULL));
        CHECK_OK(umount("a/m"));
        write(ready[1], "x", 1);
        read(go[0], &byte, 1);
        _exit(0);
    }
    char byte;
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    tmpfs("a/m");
    put("a/m/f");
    write(go[1], "x", 1);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK(there("a/m/f"));
    close(go[1]);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(slaves_of_slaves) {
    own();
    tmpfs("a");
    MUST(mkdir("a/m", 0755));
    CHECK_OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    // b follows a, c is b's peer, d follows c.
    const char *more[] = {"b", "c", "d"};
    for (int i = 0; i < 3; i++) {
        MUST(mkdir(more[i], 0755));
        CHECK_OK(mount(i ? more[i - 1] : "a", more[i], NULL, MS_BIND, NULL));
        if (i != 1)
            CHECK_OK(mount(NULL, more[i], NULL, MS_SLAVE, NULL));
        if (i == 0)
            CHECK_OK(mount(NULL, more[i], NULL, MS_SHARED, NULL));
    }
    tmpfs("a/m");
    put("a/m/f");
    CHECK(there("b/m/f") && there("c/m/f") && there("d/m/f"));
    CHECK_EQ(info_has("b/m", " master:"), 1);
    CHECK_EQ(info_has("b/m", " shared:"), 1);
    CHECK_EQ(info_has("d/m", " shared:"), 0);
    CHECK_OK(umount("a/m"));
    CHECK(!there("b/m/f") && !there("c/m/f") && !there("d/m/f"));
    tmpfs("c/m");
    put("c/m/g");
    CHECK(!there("a/m/g") && there("b/m/g") && there("d/m/g"));
    CHECK_OK(umount("b/m"));
    CHECK(!there("c/m/g") && !there("d/m/g"));
}

TEST(own_namespace) {
    own();
    MUST(mkdir("a", 0755));
    CHECK_CHILD({
        MUST(unshare(CLONE_NEWNS));
        tmpfs("a");
        put("a/f");
        CHECK(there("a/f"));
    });
    CHECK(!there("a/f"));
    CHECK_EQ(shown("a"), 0);
}

TEST(info) {
    own();
    MUST(mkdir("a", 0755));
    MUST(mkdir("a b", 0755));
    MUST(mount("the source", "a", "tmpfs", MS_NODEV, "size=1m,mode=750"));
    char line[8192] = "", root[100], options[200], type[50], source[100], super[400];
    int id = 0, parent = 0, major = -1, minor = -1;
    CHECK_EQ(line_of("a", line, sizeof line), 1);
    CHECK_EQ(sscanf(line, "%d %d %d:%d %99s %*s %199s - %49s %99s %399s", &id, &parent, &major, &minor, root, options, type,
                    source, super), 9);
    CHECK_STR(root, "/");
    CHECK_STR(options, "rw,nodev,relatime");
    CHECK_STR(type, "tmpfs");
    CHECK_STR(source, "the\\040source");
    CHECK(!strncmp(super, "rw,size=1024k,mode=750", 22));
    struct stat st;
    CHECK_OK(stat("a", &st));
    CHECK_EQ(st.st_mode & 07777, 0750);
    CHECK_EQ(st.st_dev, (dev_t)(major << 8 | minor));
    MUST(mkdir("a/sub", 0755));
    CHECK_OK(mount("a/sub", "a b", NULL, MS_BIND, NULL));
    CHECK_EQ(line_of("a b", line, sizeof line), 0);
    char text[65536] = "";
    int fd = MUST(open("/proc/self/mountinfo", O_RDONLY));
    for (ssize_t len, at = 0; (len = read(fd, text + at, sizeof text - 1 - at)) > 0; at += len)
        ;
    CHECK(strstr(text, "/a\\040b rw,nodev,relatime"));
    CHECK(strstr(text, " /sub "));
    struct statx stx;
    CHECK_OK(statx(AT_FDCWD, "a", 0, 0x1000, &stx));
    CHECK_EQ(stx.stx_mnt_id, id);
    CHECK(stx.stx_attributes & 0x2000);
    CHECK_OK(statx(AT_FDCWD, "a/sub", 0, 0x1000, &stx));
    CHECK(!(stx.stx_attributes & 0x2000));
}

TEST(poll_mounts) {
    own();
    MUST(mkdir("a", 0755));
    int fd = MUST(open("/proc/self/mounts", O_RDONLY));
    struct pollfd one = {.fd = fd, .events = POLLPRI};
    char text[4096];
    while (read(fd, text, sizeof text) > 0)
        ;
    CHECK_EQ(poll(&one, 1, 0), 0);
    pid_t child = fork();
    if (child == 0) {
        struct timespec time = {0, 50000000};
        nanosleep(&time, NULL);
        MUST(mount("none", "a", "tmpfs", 0, NULL));
        _exit(0);
    }
    one.revents = 0;
    CHECK_EQ(poll(&one, 1, 5000), 1);
    CHECK(one.revents & POLLPRI);
    CHECK(one.revents & POLLERR);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(poll(&one, 1, 0), 0);
    one.events = POLLIN;
    CHECK_EQ(poll(&one, 1, 0), 1);
    CHECK_OK(umount("a"));
    one.events = POLLPRI;
    CHECK_EQ(poll(&one, 1, 0), 1);
}

// Waits for another process that runs at the same time, or where there is one processor only, for its turn.
static void spin_until(volatile int *flag) {
    for (long looks = 0; !*flag; looks++)
        if (looks > 100000)
            sched_yield();
}

// Two changes that would each put the mounts of the other beneath its own: one of them is refused.
TEST(pivot_root_and_a_move_at_once) {
    volatile int *both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 40; round++) {
        CHECK_CHILD({
            own();
            tmpfs("t");
            MUST(chdir("t"));
            MUST(mkdir("q", 0755));
            tmpfs("n");
            tmpfs("n/p");
            MUST(mkdir("n/p/x", 0755));
            both[0] = both[1] = 0;
            pid_t mover = fork();
            if (mover == 0) {
                both[0] = 1;
                spin_until(&both[1]);
                _exit(mount("n/p", "q", NULL, MS_MOVE, NULL) == 0);
            }
            spin_until(&both[0]);
            both[1] = 1;
            for (volatile int i = 0; i < round * 300; i++)
                ;
            int pivoted = syscall(SYS_pivot_root, "n", "n/p/x") == 0;
            int status;
            CHECK_EQ(waitpid(mover, &status, 0), mover);
            CHECK(!(pivoted && WEXITSTATUS(status)));
        });
    }
}

TEST(pivot) {
    own();
    tmpfs("new");
    MUST(mkdir("new/old", 0755));
    MUST(mkdir("new/proc", 0755));
    put("new/here");
    char cwd[4096];
    MUST(getcwd(cwd, sizeof cwd) ? 0 : -1);
    CHECK_ERR(syscall(SYS_pivot_root, "new", "none"), ENOENT);
    // Which of its errors comes first depends on the release.
    CHECK_EQ(syscall(SYS_pivot_root, ".", "new/old"), -1);
    CHECK(errno == EBUSY || errno == EINVAL);
    CHECK_EQ(syscall(SYS_pivot_root, "new", "."), -1);
    CHECK(errno == EBUSY || errno == EINVAL);
    CHECK_ERR(syscall(SYS_pivot_root, "new/old", "new/old"), EINVAL);
    CHECK_ERR(syscall(SYS_pivot_root, "new/here", "new/old"), ENOTDIR);
    CHECK_CHILD({
        MUST(unshare(CLONE_NEWNS));
        CHECK_OK(chdir("new"));
        CHECK_OK(syscall(SYS_pivot_root, ".", "old"));
        CHECK(there("/here"));
        CHECK(there("/old/proc"));
        CHECK_OK(chdir("/"));
        CHECK_OK(mount("none", "/proc", "proc", 0, NULL));
        char text[8192] = "";
        int fd = MUST(open("/proc/self/mountinfo", O_RDONLY));
        read(fd, text, sizeof text - 1);
        CHECK(strstr(text, " / / "));
        CHECK(strstr(text, " /old "));
        close(fd);
        CHECK_OK(umount2("/old", MNT_DETACH));
        CHECK_OK(rmdir("/old"));
        CHECK(there("/../../here"));
        // The root cannot be taken off: it becomes read-only.
        CHECK_OK(umount("/"));
        CHECK_EQ(open_error("/new", O_CREAT | O_RDWR), EROFS);
    });
    // Over itself: pivot_root(".", ".").
    CHECK_CHILD({
        MUST(unshare(CLONE_NEWNS));
        CHECK_OK(chdir("new"));
        CHECK_OK(syscall(SYS_pivot_root, ".", "."));
        CHECK_OK(umount2(".", MNT_DETACH));
        CHECK_OK(chdir("/"));
        CHECK(there("/here"));
        CHECK(!there("/old/proc"));
    });
    CHECK(there("new/here"));
}

TEST(chroots) {
    own();
    MUST(mkdir("jail", 0755));
    MUST(mkdir("jail/in", 0755));
    put("outside");
    CHECK_CHILD({
        int out = MUST(open(".", O_RDONLY));
        CHECK_OK(chroot("jail"));
        // The working directory is not in it: nothing holds at the root then.
        CHECK(there("outside"));
        CHECK(!there("/outside"));
        CHECK(there("/in"));
        CHECK(there("/../../in"));
        char text[4096];
        CHECK_CMP(syscall(SYS_getcwd, text, sizeof text), >, 0);
        CHECK(!strncmp(text, "(unreachable)/", 14));
        CHECK_OK(chdir("/"));
        CHECK(!there("../outside"));
        CHECK_OK(fchdir(out));
        CHECK(there("outside"));
        CHECK_OK(chdir("/"));
        CHECK_ERR(syscall(SYS_pivot_root, ".", "."), EBUSY);
    });
    put("file");
    CHECK_ERR(chroot("file"), ENOTDIR);
    CHECK_ERR(chroot("none"), ENOENT);
}

TEST(statfs_of_kinds) {
    struct statfs fs;
    CHECK_OK(statfs("/proc", &fs));
    CHECK_EQ(fs.f_type, 0x9fa0);
    CHECK_EQ(fs.f_bsize, 4096);
    CHECK_OK(statfs("/sys", &fs));
    CHECK_EQ(fs.f_type, 0x62656572);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_OK(fstatfs(pipes[0], &fs));
    CHECK_EQ(fs.f_type, 0x50495045);
    int fd = MUST(memfd_create("m", 0));
    CHECK_OK(fstatfs(fd, &fs));
    CHECK_EQ(fs.f_type, 0x01021994);
    fd = MUST(open(".", O_PATH));
    CHECK_OK(fstatfs(fd, &fs));
    CHECK_ERR(fstatfs(-1, &fs), EBADF);
    CHECK_ERR(statfs("none", &fs), ENOENT);
    CHECK_ERR(statfs(".", BAD), EFAULT);
}
