// read, write and their relatives; offsets, limits and bad pointers.
#include "../check.h"
#include <sys/resource.h>
#include <sys/uio.h>

static int file(const char *text) {
    int fd = MUST(open("f", O_CREAT | O_TRUNC | O_RDWR, 0600));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static long size(int fd) {
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    return st.st_size;
}

TEST(basics) {
    int fd = file("0123456789");
    char text[20] = "";
    CHECK_EQ(read(fd, text, 4), 4);
    CHECK_STR(text, "0123");
    CHECK_EQ(read(fd, text, 20), 6);
    CHECK_EQ(read(fd, text, 20), 0);
    CHECK_EQ(read(fd, text, 0), 0);
    CHECK_EQ(write(fd, "", 0), 0);
    CHECK_EQ(size(fd), 10);
}

TEST(bad_pointers) {
    int fd = file("0123456789");
    CHECK_ERR(read(fd, BAD, 4), EFAULT);
    CHECK_ERR(write(fd, BAD, 4), EFAULT);
    CHECK_ERR(read(fd, (void *)-4096L, 4), EFAULT);
    CHECK_ERR(read(fd, (void *)0x7fffffffe000, 1 << 20), EFAULT);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(read(fd, NULL, 0), 0);
    // At the end of the file nothing is copied, so no pointer is looked at.
    lseek(fd, 0, SEEK_END);
    CHECK_EQ(read(fd, BAD, 4), 0);
    CHECK_ERR(read(-1, BAD, 4), EBADF);
    // Half of the buffer is there: the part that can be is written.
    char *pages = (char *)MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK_OK(munmap(pages + 4096, 4096));
    memset(pages, 'p', 4096);
    int other = MUST(open("g", O_CREAT | O_RDWR, 0600));
    CHECK_EQ(write(other, pages + 4086, 4096), 10);
    CHECK_EQ(size(other), 10);
    lseek(other, 0, SEEK_SET);
    CHECK_EQ(write(other, pages, 4096), 4096);
    lseek(other, 0, SEEK_SET);
    CHECK_EQ(read(other, pages + 4086, 100), 10);
}

TEST(huge_lengths) {
    int fd = file("abc");
    char text[8];
    CHECK_ERR(read(fd, text, -1), EFAULT);
    CHECK_ERR(syscall(SYS_read, fd, text, 1UL << 63), EFAULT);
    CHECK_ERR(pread(fd, text, 1, -1), EINVAL);
    CHECK_ERR(pwrite(fd, text, 1, -1), EINVAL);
    CHECK_EQ(pread(fd, text, 1, LONG_MAX - 1), 0);
}

TEST(offsets) {
    int fd = file("0123456789");
    char text[8] = "";
    CHECK_EQ(pread(fd, text, 3, 5), 3);
    CHECK_STR(text, "567");
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(pwrite(fd, "x", 1, 20), 1);
    CHECK_EQ(size(fd), 21);
    CHECK_EQ(pread(fd, text, 3, 14), 3);
    CHECK(!memcmp(text, "\0\0\0", 3));
    int other = MUST(dup(fd));
    CHECK_EQ(lseek(other, 7, SEEK_SET), 7);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 7);
    int separate = MUST(open("f", O_RDONLY));
    CHECK_EQ(lseek(separate, 0, SEEK_CUR), 0);
}

TEST(seek) {
    int fd = file("0123456789");
    CHECK_EQ(lseek(fd, -3, SEEK_END), 7);
    CHECK_EQ(lseek(fd, 2, SEEK_CUR), 9);
    CHECK_ERR(lseek(fd, -10, SEEK_CUR), EINVAL);
    CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERR(lseek(fd, -11, SEEK_END), EINVAL);
    CHECK_ERR(lseek(fd, 0, 99), EINVAL);
    CHECK_ERR(lseek(fd, 0, -1), EINVAL);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 9);
    CHECK_EQ(lseek(fd, 1 << 20, SEEK_SET), 1 << 20);
    CHECK_EQ(size(fd), 10);
    CHECK_ERR(lseek(-1, 0, SEEK_SET), EBADF);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_ERR(lseek(pipes[0], 0, SEEK_CUR), ESPIPE);
    CHECK_ERR(pread(pipes[0], &pipes, 1, 0), ESPIPE);
    CHECK_ERR(pwrite(pipes[1], "x", 1, 0), ESPIPE);
}

TEST(seek_holes) {
    int fd = MUST(open("h", O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, 1 << 20));
    CHECK_EQ(pwrite(fd, "x", 1, 512 << 10), 1);
    long data = lseek(fd, 0, SEEK_DATA);
    CHECK_CMP(data, <=, 512 << 10);
    long hole = lseek(fd, 512 << 10, SEEK_HOLE);
    CHECK_CMP(hole, >, 512 << 10);
    CHECK_CMP(hole, <=, 1 << 20);
    CHECK_ERR(lseek(fd, 1 << 20, SEEK_DATA), ENXIO);
    CHECK_ERR(lseek(fd, 1 << 20, SEEK_HOLE), ENXIO);
    CHECK_ERR(lseek(fd, -1, SEEK_DATA), ENXIO);
    CHECK_OK(ftruncate(fd, 0));
    CHECK_ERR(lseek(fd, 0, SEEK_HOLE), ENXIO);
}

TEST(vectors) {
    int fd = MUST(open("v", O_CREAT | O_RDWR, 0600));
    struct iovec out[3] = {{"ab", 2}, {NULL, 0}, {"cde", 3}};
    CHECK_EQ(writev(fd, out, 3), 5);
    char a[3] = "", b[8] = "";
    struct iovec in[2] = {{a, 2}, {b, 7}};
    lseek(fd, 0, SEEK_SET);
    CHECK_EQ(readv(fd, in, 2), 5);
    CHECK_STR(a, "ab");
    CHECK_STR(b, "cde");
    CHECK_EQ(readv(fd, in, 0), 0);
    CHECK_ERR(readv(fd, in, -1), EINVAL);
    CHECK_ERR(readv(fd, in, 1025), EINVAL);
    CHECK_ERR(readv(fd, BAD, 2), EFAULT);
    CHECK_ERR(readv(-1, BAD, 2), EBADF);
    in[0].iov_len = -1;
    CHECK_ERR(readv(fd, in, 2), EINVAL);
    struct iovec half[2] = {{"xy", 2}, {BAD, 3}};
    CHECK_EQ(pwritev(fd, half, 2, 0), 2);
    struct iovec none[2] = {{BAD, 3}, {"xy", 2}};
    CHECK_ERR(pwritev(fd, none, 2, 0), EFAULT);
    in[0].iov_len = 2;
    CHECK_EQ(preadv(fd, in, 2, 1), 4);
    CHECK(a[0] == 'y' && a[1] == 'c' && b[0] == 'd');
    CHECK_ERR(preadv(fd, in, 2, -1), EINVAL);
    struct iovec many[1024];
    for (int i = 0; i < 1024; i++)
        many[i] = (struct iovec){"m", 1};
    CHECK_EQ(pwritev(fd, many, 1024, 0), 1024);
}

TEST(flags) {
    int fd = file("0123");
    char text[5] = "";
    struct iovec in = {text, 2}, out = {"ab", 2};
    CHECK_EQ(preadv2(fd, &in, 1, 1, 0), 2);
    CHECK_STR(text, "12");
    CHECK_EQ(preadv2(fd, &in, 1, -1, 0), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 2);
    CHECK_EQ(pwritev2(fd, &out, 1, 0, RWF_APPEND), 2);
    CHECK_EQ(size(fd), 6);
    CHECK_EQ(pwritev2(fd, &out, 1, 0, RWF_DSYNC), 2);
    CHECK_EQ(pwritev2(fd, &out, 1, 0, RWF_SYNC), 2);
    CHECK_ERR(pwritev2(fd, &out, 1, 0, 0x40000000), EOPNOTSUPP);
    CHECK_ERR(preadv2(fd, &in, 1, -2, 0), EINVAL);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_ERR(preadv2(pipes[0], &in, 1, -1, RWF_NOWAIT), EAGAIN);
    CHECK_EQ(pwritev2(pipes[1], &out, 1, -1, 0), 2);
    CHECK_EQ(preadv2(pipes[0], &in, 1, -1, RWF_NOWAIT), 2);
}

TEST(size_limit) {
    struct rlimit limit = {10, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
    signal(SIGXFSZ, SIG_IGN);
    int fd = MUST(open("l", O_CREAT | O_RDWR, 0600));
    CHECK_EQ(write(fd, "0123456", 7), 7);
    CHECK_EQ(write(fd, "0123456", 7), 3);
    CHECK_ERR(write(fd, "0", 1), EFBIG);
    CHECK_ERR(ftruncate(fd, 11), EFBIG);
    CHECK_OK(ftruncate(fd, 5));
    CHECK_ERR(fallocate(fd, 0, 0, 11), EFBIG);
    CHECK_EQ(size(fd), 5);
    signal(SIGXFSZ, SIG_DFL);
    int status = IN_CHILD({ pwrite(fd, "x", 1, 10); });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
}

TEST(large_transfers) {
    int fd = MUST(open("big", O_CREAT | O_RDWR, 0600));
    size_t bytes = 3 << 20;
    unsigned *data = malloc(bytes), *back = malloc(bytes);
    for (size_t i = 0; i < bytes / 4; i++)
        data[i] = i * 2654435761u;
    CHECK_EQ(write(fd, data, bytes), bytes);
    CHECK_EQ(pread(fd, back, bytes, 0), bytes);
    CHECK(!memcmp(data, back, bytes));
    CHECK_EQ(pread(fd, back, bytes, 12345), bytes - 12345);
    CHECK(!memcmp((char *)data + 12345, back, bytes - 12345));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_CMP(st.st_blocks * 512, >=, bytes);
}

TEST(sync) {
    int fd = file("x");
    CHECK_OK(fsync(fd));
    CHECK_OK(fdatasync(fd));
    CHECK_OK(syncfs(fd));
    sync();
    CHECK_ERR(fsync(-1), EBADF);
    CHECK_ERR(syncfs(-1), EBADF);
    CHECK_OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    CHECK_ERR(sync_file_range(fd, 0, 0, 8), EINVAL);
    CHECK_ERR(sync_file_range(fd, -1, 0, 0), EINVAL);
    CHECK_OK(readahead(fd, 0, 10));
    CHECK_RET(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_RET(posix_fadvise(fd, 0, 0, 77), EINVAL);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_RET(posix_fadvise(pipes[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
    CHECK_ERR(fsync(pipes[0]), EINVAL);
}
