// Lengths, storage and copies: fallocate(2), SEEK_DATA and SEEK_HOLE, truncate at the limits, RLIMIT_FSIZE,
// copy_file_range(2), sendfile(2), preadv2(2) and pwritev2(2), readahead(2), posix_fadvise(2), sync_file_range(2).
#include "../check.h"
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif

static int file(const char *name, const char *text) {
    int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
    CHECK_EQ(pwrite(fd, text, strlen(text), 0), strlen(text));
    return fd;
}

static off_t size(int fd) {
    struct stat st;
    return fstat(fd, &st) ? -1 : st.st_size;
}

static const char *content(int fd) {
    static char text[256];
    memset(text, 0, sizeof text);
    CHECK_CMP(pread(fd, text, sizeof text - 1, 0), >=, 0);
    return text;
}

TEST(allocate) {
    int fd = file("f", "0123456789");
    CHECK_OK(fallocate(fd, 0, 5, 20));
    CHECK_EQ(size(fd), 25);
    CHECK_STR(content(fd), "0123456789");
    CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
    CHECK_EQ(size(fd), 25);
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_CMP(st.st_blocks, >=, 100000 / 512);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3));
    char back[10];
    CHECK_EQ(pread(fd, back, 10, 0), 10);
    CHECK(!memcmp(back, "01\0\0\0" "56789", 10));
    CHECK_EQ(size(fd), 25);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 1000000));
    CHECK_EQ(size(fd), 25);
    CHECK_ERR(fallocate(fd, 0, -1, 5), EINVAL);
    CHECK_ERR(fallocate(fd, 0, 5, 0), EINVAL);
    CHECK_ERR(fallocate(fd, 0, 5, -5), EINVAL);
    CHECK_ERR(fallocate(fd, 0, LLONG_MAX, 5), EFBIG);
    CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 5), EOPNOTSUPP);
    CHECK_ERR(fallocate(fd, 0x400, 0, 5), EOPNOTSUPP);
    CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 5), EOPNOTSUPP);
    CHECK_ERR(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096), EOPNOTSUPP);
    CHECK_ERR(fallocate(-1, 0, 0, 5), EBADF);
    CHECK_ERR(fallocate(MUST(open("f", O_RDONLY)), 0, 0, 5), EBADF);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_ERR(fallocate(pipes[1], 0, 0, 5), ESPIPE);
    CHECK_ERR(fallocate(MUST(open("/dev/null", O_RDWR)), 0, 0, 5), ENODEV);
    CHECK_RET(posix_fallocate(fd, 0, 50), 0);
    CHECK_EQ(size(fd), 50);
}

TEST(shared_holes) {
    // What is punched is zero in mappings too.
    int fd = file("f", "");
    char *map = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK_OK(ftruncate(fd, 3 * 4096));
    memset(map, 'x', 3 * 4096);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    CHECK_EQ(map[4095], 'x');
    CHECK_EQ(map[4096], 0);
    CHECK_EQ(map[8191], 0);
    CHECK_EQ(map[8192], 'x');
    map[5000] = 'y';
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 5000), 1);
    CHECK_EQ(byte, 'y');
    CHECK_OK(ftruncate(fd, 100));
    CHECK_OK(ftruncate(fd, 4096));
    CHECK_EQ(map[99], 'x');
    CHECK_EQ(map[100], 0);
}

TEST(data_and_holes) {
    int fd = file("f", "");
    const off_t block = 1 << 20;
    CHECK_EQ(pwrite(fd, "x", 1, 3 * block), 1);
    CHECK_OK(ftruncate(fd, 6 * block));
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 3 * block);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3 * block);
    CHECK_EQ(lseek(fd, 10, SEEK_HOLE), 10);
    off_t hole = lseek(fd, 3 * block, SEEK_HOLE);
    CHECK_CMP(hole, >, 3 * block);
    CHECK_CMP(hole, <, 4 * block);
    CHECK_ERR(lseek(fd, 5 * block, SEEK_DATA), ENXIO);
    CHECK_EQ(lseek(fd, 5 * block, SEEK_HOLE), 5 * block);
    CHECK_ERR(lseek(fd, 6 * block, SEEK_HOLE), ENXIO);
    CHECK_ERR(lseek(fd, 6 * block, SEEK_DATA), ENXIO);
    CHECK_ERR(lseek(fd, -1, SEEK_DATA), ENXIO);
    CHECK_ERR(lseek(fd, -1, SEEK_HOLE), ENXIO);
    int full = file("g", "abc");
    CHECK_EQ(lseek(full, 0, SEEK_DATA), 0);
    CHECK_EQ(lseek(full, 0, SEEK_HOLE), 3);
    CHECK_EQ(lseek(full, 2, SEEK_HOLE), 3);
    CHECK_ERR(lseek(full, 3, SEEK_HOLE), ENXIO);
}

TEST(seeking) {
    int fd = file("f", "0123456789");
    CHECK_EQ(lseek(fd, 3, SEEK_SET), 3);
    CHECK_EQ(lseek(fd, -1, SEEK_CUR), 2);
    CHECK_ERR(lseek(fd, -3, SEEK_CUR), EINVAL);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 2);
    CHECK_EQ(lseek(fd, 5, SEEK_END), 15);
    CHECK_ERR(lseek(fd, -11, SEEK_END), EINVAL);
    CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERR(lseek(fd, 0, 9), EINVAL);
    CHECK_EQ(lseek(fd, LLONG_MAX, SEEK_END), -1);
    CHECK(errno == EINVAL || errno == EOVERFLOW);
    CHECK_EQ(lseek(fd, 1 << 30, SEEK_SET), 1 << 30);
    char byte;
    CHECK_EQ(read(fd, &byte, 1), 0);
    CHECK_EQ(pread(fd, &byte, 1, LLONG_MAX - 1), 0);
    CHECK_ERR(pread(fd, &byte, 1, LLONG_MAX), EINVAL);
    CHECK_ERR(pread(fd, &byte, 1, -1), EINVAL);
    CHECK_ERR(pwrite(fd, &byte, 1, -1), EINVAL);
    CHECK_ERR(pwrite(fd, &byte, 1, LLONG_MAX), EINVAL);
    CHECK_EQ(lseek(fd, 1ll << 42, SEEK_SET), 1ll << 42);
    CHECK_EQ(pread(fd, &byte, 0, LLONG_MAX), 0);
}

TEST(file_size_limit) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {1000, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
    int fd = file("f", "");
    char bytes[600] = "";
    CHECK_EQ(write(fd, bytes, 600), 600);
    CHECK_EQ(write(fd, bytes, 600), 400);
    CHECK_ERR(write(fd, bytes, 600), EFBIG);
    CHECK_EQ(size(fd), 1000);
    CHECK_EQ(pwrite(fd, bytes, 600, 900), 100);
    CHECK_ERR(pwrite(fd, bytes, 1, 1000), EFBIG);
    CHECK_EQ(pwrite(fd, bytes, 0, 2000), 0);
    CHECK_ERR(ftruncate(fd, 1001), EFBIG);
    CHECK_ERR(truncate("f", 2000), EFBIG);
    CHECK_OK(ftruncate(fd, 1000));
    CHECK_ERR(fallocate(fd, 0, 500, 501), EFBIG);
    struct iovec pieces[2] = {{bytes, 300}, {bytes, 300}};
    CHECK_EQ(pwritev(fd, pieces, 2, 500), 500);
    int source = file("g", "0123456789");
    CHECK_EQ(lseek(fd, 995, SEEK_SET), 995);
    off_t at = 0;
    CHECK_EQ(sendfile(fd, source, &at, 10), 5);
    CHECK_ERR(sendfile(fd, source, &at, 10), EFBIG);
    CHECK_EQ(at, 5);
    off_t from = 0, to = 998;
    CHECK_EQ(copy_file_range(source, &from, fd, &to, 10, 0), 2);
    CHECK_ERR(copy_file_range(source, &from, fd, &to, 8, 0), EFBIG);
    int status = IN_CHILD({
        signal(SIGXFSZ, SIG_DFL);
        limit.rlim_cur = 10;
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        setrlimit(RLIMIT_FSIZE, &limit);
        pwrite(fd, bytes, 1, 10);
    });
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGXFSZ);
    // Other kinds of files have no such limit.
    limit.rlim_cur = 0;
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_EQ(write(pipes[1], bytes, 10), 10);
}

TEST(copies) {
    int in = file("in", "0123456789"), out = file("out", "");
    CHECK_EQ(copy_file_range(in, NULL, out, NULL, 4, 0), 4);
    CHECK_EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 6);
    CHECK_EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
    CHECK_STR(content(out), "0123456789");
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 10);
    CHECK_EQ(lseek(out, 0, SEEK_CUR), 10);
    off_t from = 2, to = 20;
    CHECK_EQ(copy_file_range(in, &from, out, &to, 3, 0), 3);
    CHECK_EQ(from, 5);
    CHECK_EQ(to, 23);
    CHECK_EQ(size(out), 23);
    CHECK_EQ(lseek(out, 0, SEEK_CUR), 10);
    from = 0, to = 5;
    CHECK_EQ(copy_file_range(in, &from, in, &to, 5, 0), 5);
    CHECK_STR(content(in), "0123401234");
    from = 0, to = 3;
    CHECK_ERR(copy_file_range(in, &from, in, &to, 5, 0), EINVAL);
    CHECK_ERR(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
    from = -5;
    CHECK_ERR(copy_file_range(in, &from, out, NULL, 1, 0), EINVAL);
    from = 100;
    CHECK_EQ(copy_file_range(in, &from, out, NULL, 10, 0), 0);
    CHECK_ERR(copy_file_range(in, BAD, out, NULL, 1, 0), EFAULT);
    CHECK_ERR(copy_file_range(-1, NULL, out, NULL, 1, 0), EBADF);
    CHECK_ERR(copy_file_range(in, NULL, MUST(open("out", O_RDONLY)), NULL, 1, 0), EBADF);
    CHECK_ERR(copy_file_range(MUST(open("in", O_WRONLY)), NULL, out, NULL, 1, 0), EBADF);
    CHECK_ERR(copy_file_range(in, NULL, MUST(open("out", O_WRONLY | O_APPEND)), NULL, 1, 0), EBADF);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_ERR(copy_file_range(pipes[0], NULL, out, NULL, 1, 0), EINVAL);
    CHECK_ERR(copy_file_range(in, NULL, pipes[1], NULL, 1, 0), EINVAL);
    MUST(mkdir("d", 0755));
    CHECK_ERR(copy_file_range(MUST(open("d", O_RDONLY)), NULL, out, NULL, 1, 0), EISDIR);
    from = LLONG_MAX - 5, to = 0;
    CHECK_EQ(copy_file_range(in, &from, out, &to, 10, 0), 0);
}

TEST(sending) {
    int in = file("in", "0123456789"), out = file("out", "");
    CHECK_EQ(sendfile(out, in, NULL, 4), 4);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 4);
    off_t at = 8;
    CHECK_EQ(sendfile(out, in, &at, 100), 2);
    CHECK_EQ(at, 10);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 4);
    CHECK_STR(content(out), "012389");
    CHECK_EQ(sendfile(out, in, &at, 100), 0);
    CHECK_EQ(sendfile(out, in, NULL, 0), 0);
    at = -1;
    CHECK_ERR(sendfile(out, in, &at, 1), EINVAL);
    CHECK_ERR(sendfile(out, in, BAD, 1), EFAULT);
    CHECK_ERR(sendfile(MUST(open("out", O_RDONLY)), in, NULL, 1), EBADF);
    CHECK_ERR(sendfile(out, MUST(open("in", O_WRONLY)), NULL, 1), EBADF);
    CHECK_ERR(sendfile(MUST(open("out", O_WRONLY | O_APPEND)), in, NULL, 1), EINVAL);
    int pipes[2];
    MUST(pipe2(pipes, O_NONBLOCK));
    CHECK_EQ(sendfile(pipes[1], in, NULL, 3), 3);
    at = 0;
    CHECK_ERR(sendfile(out, pipes[0], &at, 1), ESPIPE);
    CHECK_ERR(sendfile(out, pipes[0], NULL, 1), EINVAL);
    while (sendfile(pipes[1], in, &at, 10) > 0)
        at = 0;
    CHECK_EQ(errno, EAGAIN);
    close(pipes[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERR(sendfile(pipes[1], in, &at, 10), EPIPE);
}

TEST(vector_flags) {
    int fd = file("f", "0123456789");
    char one[4] = "", two[4] = "";
    struct iovec pieces[2] = {{one, 3}, {two, 3}};
    CHECK_EQ(preadv2(fd, pieces, 2, 2, 0), 6);
    CHECK(!memcmp(one, "234", 3) && !memcmp(two, "567", 3));
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(preadv2(fd, pieces, 2, -1, 0), 6);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
    CHECK_ERR(preadv2(fd, pieces, 2, -2, 0), EINVAL);
    CHECK_EQ(preadv2(fd, pieces, 2, 0, RWF_HIPRI), 6);
    CHECK_ERR(preadv2(fd, pieces, 2, 0, 0x8000), EOPNOTSUPP);
    CHECK_EQ(pwritev2(fd, pieces, 1, 0, RWF_DSYNC), 3);
    CHECK_EQ(pwritev2(fd, pieces, 1, 0, RWF_SYNC), 3);
    CHECK_EQ(pwritev2(fd, pieces, 1, 0, RWF_APPEND), 3);
    CHECK_EQ(size(fd), 13);
    lseek(fd, 2, SEEK_SET);
    CHECK_EQ(pwritev2(fd, pieces, 1, -1, RWF_APPEND), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 16);
    CHECK_OK(fcntl(fd, F_SETFL, O_APPEND));
    // An appending descriptor appends even at an offset, unless told not to.
    CHECK_EQ(pwritev(fd, pieces, 1, 0), 3);
    CHECK_EQ(size(fd), 19);
    CHECK_EQ(pwrite(fd, "x", 1, 0), 1);
    CHECK_EQ(size(fd), 20);
    int answer = pwritev2(fd, pieces, 1, 0, RWF_NOAPPEND);
    if (answer >= 0 || errno != EOPNOTSUPP) {
        CHECK_EQ(answer, 3);
        CHECK_EQ(size(fd), 20);
    }
    CHECK_EQ(preadv(fd, pieces, 0, 0), 0);
    CHECK_ERR(preadv(fd, pieces, -1, 0), EINVAL);
    CHECK_ERR(preadv(fd, pieces, 1025, 0), EINVAL);
    CHECK_ERR(preadv(fd, BAD, 1, 0), EFAULT);
    struct iovec bad[2] = {{one, 3}, {one, -1ul}};
    CHECK_ERR(preadv(fd, bad, 2, 0), EINVAL);
    bad[1] = (struct iovec){BAD, 3};
    CHECK_EQ(preadv(fd, bad, 2, 0), 3);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_ERR(preadv2(pipes[0], pieces, 1, 0, 0), ESPIPE);
    CHECK_ERR(preadv2(pipes[0], pieces, 1, -1, RWF_NOWAIT), EAGAIN);
    CHECK_EQ(pwritev2(pipes[1], pieces, 1, -1, 0), 3);
    CHECK_EQ(preadv2(pipes[0], pieces, 1, -1, RWF_NOWAIT), 3);
}

TEST(advice) {
    int fd = file("f", "0123456789");
    CHECK_RET(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
    CHECK_RET(posix_fadvise(fd, 0, 10, POSIX_FADV_DONTNEED), 0);
    CHECK_RET(posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL), EINVAL);
    CHECK_RET(posix_fadvise(fd, 0, 0, 77), EINVAL);
    CHECK_RET(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL), EBADF);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_RET(posix_fadvise(pipes[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
    CHECK_OK(readahead(fd, 0, 100));
    CHECK_ERR(readahead(-1, 0, 100), EBADF);
    CHECK_ERR(readahead(pipes[0], 0, 100), EINVAL);
    CHECK_ERR(readahead(MUST(open("f", O_WRONLY)), 0, 100), EBADF);
    CHECK_OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    CHECK_OK(sync_file_range(fd, 0, 10, 7));
    CHECK_ERR(sync_file_range(fd, -1, 10, 7), EINVAL);
    CHECK_ERR(sync_file_range(fd, 0, -10, 7), EINVAL);
    CHECK_ERR(sync_file_range(fd, 0, 10, 8), EINVAL);
    CHECK_ERR(sync_file_range(pipes[0], 0, 10, 7), ESPIPE);
    CHECK_ERR(sync_file_range(-1, 0, 10, 7), EBADF);
    CHECK_OK(fsync(fd));
    CHECK_OK(fdatasync(fd));
    CHECK_ERR(fsync(pipes[0]), EINVAL);
    CHECK_OK(syncfs(fd));
    CHECK_ERR(syncfs(-1), EBADF);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    sync();
}

TEST(truncating) {
    int fd = file("f", "0123456789"), reader = MUST(open("f", O_RDONLY));
    CHECK_ERR(ftruncate(reader, 5), EINVAL);
    CHECK_ERR(ftruncate(fd, -1), EINVAL);
    CHECK_ERR(truncate("f", -1), EINVAL);
    CHECK_ERR(truncate("none", 0), ENOENT);
    CHECK_ERR(truncate(".", 0), EISDIR);
    CHECK_ERR(truncate("/dev/null", 0), EINVAL);
    CHECK_OK(ftruncate(fd, 5));
    CHECK_OK(truncate("f", 8));
    char back[8];
    CHECK_EQ(pread(fd, back, 8, 0), 8);
    CHECK(!memcmp(back, "01234\0\0\0", 8));
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_ERR(ftruncate(pipes[1], 0), EINVAL);
    struct stat before, after;
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    CHECK_OK(futimens(fd, old));
    CHECK_OK(fstat(fd, &before));
    CHECK_OK(ftruncate(fd, 8));
    CHECK_OK(fstat(fd, &after));
    CHECK_CMP(after.st_mtime, >, before.st_mtime);
}

TEST(holes_read_as_zeros) {
    int fd = file("f", "");
    CHECK_EQ(pwrite(fd, "end", 3, 10000), 3);
    char bytes[10003];
    memset(bytes, 'x', sizeof bytes);
    CHECK_EQ(read(fd, bytes, sizeof bytes), 10003);
    int zeros = 0;
    while (zeros < 10000 && !bytes[zeros])
        zeros++;
    CHECK_EQ(zeros, 10000);
    CHECK(!memcmp(bytes + 10000, "end", 3));
    // A huge file that is nearly all hole.
    CHECK_OK(ftruncate(fd, 1ll << 40));
    CHECK_EQ(pwrite(fd, "far", 3, (1ll << 40) - 3), 3);
    CHECK_EQ(pread(fd, bytes, 10, (1ll << 40) - 3), 3);
    CHECK_EQ(lseek(fd, 1 << 20, SEEK_DATA) / 4096, ((1ll << 40) - 3) / 4096);
    CHECK_OK(ftruncate(fd, 0));
}
