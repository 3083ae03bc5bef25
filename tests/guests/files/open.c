// open, openat, creat: every flag, and the order of the errors.
#include "../check.h"

static int exists(const char *path) { return access(path, F_OK) == 0; }

static void put(const char *path, const char *text) {
    int fd = MUST(open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    CHECK_OK(close(fd));
}

TEST(create) {
    umask(022);
    int fd = MUST(open("a", O_CREAT | O_EXCL | O_RDWR, 0777));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode, S_IFREG | 0755);
    CHECK_EQ(st.st_size, 0);
    CHECK_EQ(st.st_nlink, 1);
    CHECK_EQ(st.st_uid, geteuid());
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    CHECK_ERR(open("a", O_CREAT | O_EXCL | O_RDWR, 0777), EEXIST);
    CHECK_OK(unlink("a"));
    fd = MUST(open("a", O_CREAT | O_RDWR, 07777));
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode, S_IFREG | 07755);
    CHECK_OK(unlink("a"));
    // The mode of a new file does not limit the descriptor that made it.
    fd = MUST(open("a", O_CREAT | O_RDWR, 0));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(unlink("a"));
    CHECK_OK(fd = creat("a", 0600));
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
    CHECK_OK(unlink("a"));
}

TEST(lowest_descriptor) {
    int a = MUST(open(".", O_RDONLY)), b = MUST(open(".", O_RDONLY));
    CHECK_EQ(b, a + 1);
    CHECK_OK(close(a));
    CHECK_EQ(open(".", O_RDONLY), a);
    CHECK_OK(close(b));
    CHECK_ERR(close(b), EBADF);
    CHECK_ERR(close(-1), EBADF);
    CHECK_ERR(close(1 << 30), EBADF);
}

TEST(missing) {
    CHECK_ERR(open("none", O_RDONLY), ENOENT);
    CHECK_ERR(open("none/x", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERR(open("", O_RDONLY), ENOENT);
    CHECK_ERR(open("", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERR(open(BAD, O_RDONLY), EFAULT);
    CHECK_ERR(open(NULL, O_RDONLY), EFAULT);
    put("f", "x");
    CHECK_ERR(open("f/x", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f/", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f/.", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f/..", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERR(open("none/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK(!exists("none"));
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    CHECK_OK(open(name, O_CREAT | O_RDWR, 0600));
    name[255] = 'n', name[256] = 0;
    CHECK_ERR(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    char path[PATH_MAX + 10];
    for (size_t i = 0; i < sizeof path; i++)
        path[i] = i % 2 ? '/' : '.';
    path[PATH_MAX - 1] = 0;
    CHECK_OK(open(path, O_RDONLY));
    path[PATH_MAX - 1] = '/', path[PATH_MAX] = 0;
    CHECK_ERR(open(path, O_RDONLY), ENAMETOOLONG);
}

TEST(directories) {
    CHECK_OK(mkdir("d", 0700));
    CHECK_ERR(open("d", O_WRONLY), EISDIR);
    CHECK_ERR(open("d", O_RDWR), EISDIR);
    CHECK_ERR(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
    CHECK_ERR(open("d", O_RDONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK_ERR(open("d", O_RDONLY | O_TRUNC), EISDIR);
    CHECK_ERR(open("d", O_RDONLY | O_CREAT | O_DIRECTORY, 0600), EINVAL);
    int fd = MUST(open("d/", O_RDONLY | O_DIRECTORY));
    char byte;
    CHECK_ERR(read(fd, &byte, 1), EISDIR);
    CHECK_ERR(write(fd, &byte, 1), EBADF);
    CHECK_ERR(pread(fd, &byte, 1, 0), EISDIR);
    CHECK_ERR(ftruncate(fd, 0), EINVAL);
    CHECK_OK(fsync(fd));
}

TEST(truncate_flag) {
    put("f", "hello");
    int fd = MUST(open("f", O_WRONLY | O_TRUNC));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_size, 0);
    CHECK_OK(fchmod(fd, 0));
}

TEST(append) {
    put("f", "one");
    int fd = MUST(open("f", O_RDWR | O_APPEND));
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(write(fd, "two", 3), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
    // Linux appends even for pwrite, whatever the offset.
    CHECK_EQ(pwrite(fd, "!", 1, 0), 1);
    char text[10] = "";
    CHECK_EQ(pread(fd, text, 9, 0), 7);
    CHECK_STR(text, "onetwo!");
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
    CHECK_OK(fcntl(fd, F_SETFL, 0));
    CHECK_EQ(pwrite(fd, "O", 1, 0), 1);
    CHECK_EQ(pread(fd, text, 9, 0), 7);
    CHECK_STR(text, "Onetwo!");
}

TEST(access_modes) {
    put("f", "text");
    char byte;
    int fd = MUST(open("f", O_RDONLY));
    CHECK_ERR(write(fd, "x", 1), EBADF);
    CHECK_ERR(ftruncate(fd, 0), EINVAL);
    fd = MUST(open("f", O_WRONLY));
    CHECK_ERR(read(fd, &byte, 1), EBADF);
    CHECK_ERR(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
    // The fourth access mode opens for ioctl only.
    fd = MUST(open("f", 3));
    CHECK_ERR(read(fd, &byte, 1), EBADF);
    CHECK_ERR(write(fd, &byte, 1), EBADF);
}

TEST(path_descriptors) {
    put("f", "text");
    int fd = MUST(open("f", O_PATH));
    char byte;
    struct stat st;
    CHECK_ERR(read(fd, &byte, 1), EBADF);
    CHECK_ERR(write(fd, &byte, 1), EBADF);
    CHECK_ERR(lseek(fd, 0, SEEK_SET), EBADF);
    CHECK_ERR(fchmod(fd, 0600), EBADF);
    CHECK_ERR(fchown(fd, 0, 0), EBADF);
    CHECK_ERR(ftruncate(fd, 0), EBADF);
    CHECK_ERR(fsync(fd), EBADF);
    CHECK_ERR(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
    CHECK_ERR(fcntl(fd, F_SETFL, O_APPEND), EBADF);
    CHECK_EQ(fcntl(fd, F_GETFL), O_PATH);
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_size, 4);
    CHECK_OK(dup(fd));
    CHECK_OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
    // Flags other than O_CLOEXEC, O_DIRECTORY and O_NOFOLLOW are ignored beside O_PATH.
    CHECK_OK(open("f", O_PATH | O_CREAT | O_EXCL | O_TRUNC | O_WRONLY, 0600));
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_size, 4);
    CHECK_OK(symlink("f", "link"));
    int link = MUST(open("link", O_PATH | O_NOFOLLOW));
    CHECK_OK(fstat(link, &st));
    CHECK(S_ISLNK(st.st_mode));
    char target[10] = "";
    CHECK_EQ(readlinkat(link, "", target, 9), 1);
    CHECK_STR(target, "f");
    CHECK_ERR(open("link", O_PATH | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
    int directory = MUST(open(".", O_PATH));
    CHECK_OK(openat(directory, "f", O_RDONLY));
    CHECK_OK(fchdir(directory));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = MUST(open(path, O_RDONLY));
    CHECK_EQ(read(again, &byte, 1), 1);
}

TEST(nofollow) {
    put("f", "x");
    CHECK_OK(symlink("f", "l"));
    CHECK_OK(symlink("none", "dangling"));
    CHECK_ERR(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_OK(open("l", O_RDONLY));
    CHECK_ERR(open("dangling", O_RDONLY), ENOENT);
    CHECK_ERR(open("dangling", O_RDONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK_OK(open("dangling", O_RDONLY | O_CREAT, 0600));
    CHECK(exists("none"));
    CHECK_OK(symlink("self", "self"));
    CHECK_ERR(open("self", O_RDONLY), ELOOP);
    CHECK_ERR(open("self/x", O_RDONLY), ELOOP);
    CHECK_OK(mkdir("d", 0700));
    CHECK_OK(symlink("d", "ld"));
    CHECK_OK(open("ld", O_RDONLY | O_DIRECTORY));
    CHECK_ERR(open("ld", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
    CHECK_OK(open("ld/", O_RDONLY | O_NOFOLLOW));
}

// Linux counts links twice if it begins a walk again, as it must when anybody mounts something meanwhile.
static int open_by_links(const char *path) {
    int fd, tries = 100;
    do
        fd = open(path, O_RDONLY);
    while (fd < 0 && errno == ELOOP && --tries);
    return fd;
}

TEST(link_chain) {
    put("0", "x");
    char from[8], to[8];
    for (int i = 1; i <= 41; i++) {
        sprintf(from, "%d", i - 1), sprintf(to, "%d", i);
        CHECK_OK(symlink(from, to));
    }
    CHECK_OK(open_by_links("40"));
    CHECK_ERR(open("41", O_RDONLY), ELOOP);
}

TEST(cloexec) {
    int fd = MUST(open(".", O_RDONLY | O_CLOEXEC));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_CLOEXEC, 0);
    CHECK_OK(fcntl(fd, F_SETFD, 0));
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
}

TEST(status_flags) {
    int fd = MUST(open("f", O_CREAT | O_RDWR | O_NONBLOCK | O_SYNC, 0600));
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_SYNC | O_CREAT | O_ACCMODE), O_NONBLOCK | O_SYNC | O_RDWR);
    CHECK_OK(fcntl(fd, F_SETFL, O_APPEND | O_RDONLY));
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND | O_ACCMODE), O_APPEND | O_RDWR);
    int other = MUST(dup(fd));
    CHECK_OK(fcntl(other, F_SETFL, O_NONBLOCK));
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), O_NONBLOCK);
}

TEST(tmpfile_flag) {
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0 && errno == EOPNOTSUPP)
        SKIP("no O_TMPFILE here");
    CHECK_OK(fd);
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_nlink, 0);
    CHECK_EQ(st.st_mode, S_IFREG | 0600);
    CHECK_EQ(write(fd, "text", 4), 4);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    CHECK_OK(stat("named", &st));
    CHECK_EQ(st.st_nlink, 1);
    CHECK_EQ(st.st_size, 4);
    CHECK_ERR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    CHECK_ERR(open("named", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
    CHECK_ERR(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT);
    fd = MUST(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(at_descriptors) {
    CHECK_OK(mkdir("d", 0700));
    put("d/f", "x");
    int d = MUST(open("d", O_RDONLY)), f = MUST(open("d/f", O_RDONLY));
    CHECK_OK(openat(d, "f", O_RDONLY));
    CHECK_ERR(openat(f, "f", O_RDONLY), ENOTDIR);
    CHECK_ERR(openat(-1, "f", O_RDONLY), EBADF);
    CHECK_ERR(openat(-1, "", O_RDONLY), ENOENT);
    CHECK_OK(openat(-1, "/", O_RDONLY));
    CHECK_OK(openat(d, "../d/./f", O_RDONLY));
    CHECK_OK(openat(AT_FDCWD, "d//f", O_RDONLY));
    // A directory that is gone: nothing can be made in it.
    CHECK_OK(unlink("d/f"));
    CHECK_OK(rmdir("d"));
    CHECK_ERR(openat(d, "g", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_OK(openat(d, ".", O_RDONLY));
}

TEST(devices) {
    int fd = MUST(open("/dev/null", O_RDWR));
    char bytes[16];
    CHECK_EQ(read(fd, bytes, 16), 0);
    CHECK_EQ(write(fd, bytes, 16), 16);
    CHECK_EQ(write(fd, BAD, 16), 16);
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK(S_ISCHR(st.st_mode));
    CHECK_EQ(st.st_rdev, 0x103);
    fd = MUST(open("/dev/zero", O_RDWR));
    memset(bytes, 1, 16);
    CHECK_EQ(read(fd, bytes, 16), 16);
    CHECK_EQ(bytes[0] | bytes[15], 0);
    CHECK_ERR(read(fd, BAD, 16), EFAULT);
    CHECK_EQ(lseek(fd, 100, SEEK_SET), 0);
    fd = MUST(open("/dev/full", O_RDWR));
    CHECK_ERR(write(fd, bytes, 1), ENOSPC);
    CHECK_EQ(read(fd, bytes, 16), 16);
    fd = MUST(open("/dev/urandom", O_RDONLY));
    CHECK_EQ(read(fd, bytes, 16), 16);
    CHECK(memcmp(bytes, (char[16]){0}, 16) != 0);
    fd = MUST(open("/dev/random", O_RDONLY));
    CHECK_EQ(read(fd, bytes, 16), 16);
}

TEST(special_files) {
    CHECK_OK(mknod("fifo", S_IFIFO | 0600, 0));
    CHECK_ERR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    CHECK_OK(open("fifo", O_RDONLY | O_NONBLOCK));
    CHECK_OK(mknod("sock", S_IFSOCK | 0600, 0));
    CHECK_ERR(open("sock", O_RDONLY), ENXIO);
    CHECK_OK(open("sock", O_PATH));
}

TEST(unknown_flags) {
    // open ignores bits it does not know; O_TMPFILE's own bit alone is not one of them.
    CHECK_OK(open(".", O_RDONLY | 0x40000000));
    CHECK_ERR(open(".", O_RDONLY | 0x400000), EINVAL);
}

TEST(deleted_file_lives_on) {
    put("f", "alive");
    int fd = MUST(open("f", O_RDWR));
    CHECK_OK(unlink("f"));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_nlink, 0);
    char text[10] = "";
    CHECK_EQ(read(fd, text, 9), 5);
    CHECK_STR(text, "alive");
    CHECK_EQ(write(fd, "!", 1), 1);
}
