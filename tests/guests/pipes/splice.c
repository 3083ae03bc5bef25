// splice, tee, vmsplice, sendfile, copy_file_range.
#include "../check.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static int fds[2], others[2];

static int file(const char *name, const char *text) {
    int fd = MUST(open(name, O_CREAT | O_TRUNC | O_RDWR, 0600));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void contains(int fd, const char *text) {
    char back[256] = "";
    CHECK_CMP(pread(fd, back, 255, 0), >=, 0);
    CHECK_STR(back, text);
}

TEST(splice_file_to_pipe) {
    CHECK_OK(pipe(fds));
    int in = file("in", "0123456789"), out = file("out", "");
    loff_t offset = 4;
    CHECK_EQ(splice(in, &offset, fds[1], NULL, 3, 0), 3);
    CHECK_EQ(offset, 7);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 0);
    CHECK_EQ(splice(in, NULL, fds[1], NULL, 2, 0), 2);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 2);
    CHECK_EQ(splice(fds[0], NULL, out, NULL, 100, 0), 5);
    contains(out, "45601");
    CHECK_EQ(splice(in, &(loff_t){100}, fds[1], NULL, 1, 0), 0);
    CHECK_ERR(splice(fds[0], NULL, out, NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    close(fds[1]);
    CHECK_EQ(splice(fds[0], NULL, out, NULL, 1, 0), 0);
}

TEST(splice_errors) {
    CHECK_OK(pipe(fds));
    int in = file("in", "0123456789"), out = file("out", "");
    CHECK_ERR(splice(in, NULL, out, NULL, 1, 0), EINVAL);
    loff_t offset = 0;
    CHECK_ERR(splice(fds[0], &offset, out, NULL, 1, 0), ESPIPE);
    CHECK_ERR(splice(in, NULL, fds[1], &offset, 1, 0), ESPIPE);
    CHECK_ERR(splice(in, NULL, fds[1], NULL, 1, 0x40), EINVAL);
    CHECK_EQ(splice(-1, NULL, fds[1], NULL, 0, 0), 0);
    CHECK_ERR(splice(-1, NULL, fds[1], NULL, 1, 0), EBADF);
    CHECK_ERR(splice(in, BAD, fds[1], NULL, 1, 0), EFAULT);
    CHECK_ERR(splice(fds[0], NULL, fds[1], NULL, 1, 0), EINVAL);
    int append = MUST(open("out", O_WRONLY | O_APPEND));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_ERR(splice(fds[0], NULL, append, NULL, 1, 0), EINVAL);
    int read_only = MUST(open("out", O_RDONLY));
    CHECK_ERR(splice(fds[0], NULL, read_only, NULL, 1, 0), EBADF);
}

TEST(splice_pipes) {
    CHECK_OK(pipe(fds));
    CHECK_OK(pipe(others));
    CHECK_EQ(write(fds[1], "abcdef", 6), 6);
    CHECK_EQ(splice(fds[0], NULL, others[1], NULL, 4, 0), 4);
    char text[8] = "";
    CHECK_EQ(read(others[0], text, 8), 4);
    CHECK_STR(text, "abcd");
    CHECK_EQ(read(fds[0], text, 8), 2);
}

TEST(tee_copies) {
    CHECK_OK(pipe(fds));
    CHECK_OK(pipe(others));
    CHECK_EQ(write(fds[1], "abcdef", 6), 6);
    CHECK_EQ(tee(fds[0], others[1], 4, 0), 4);
    char text[8] = "";
    CHECK_EQ(read(others[0], text, 8), 4);
    CHECK_STR(text, "abcd");
    CHECK_EQ(read(fds[0], text, 8), 6);
    CHECK_STR(text, "abcdef");
    CHECK_ERR(tee(fds[0], others[1], 1, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_ERR(tee(fds[0], fds[1], 1, 0), EINVAL);
    CHECK_ERR(tee(fds[0], file("f", "x"), 1, 0), EINVAL);
    CHECK_ERR(tee(fds[0], others[1], 1, 0x40), EINVAL);
    CHECK_EQ(tee(fds[0], others[1], 0, 0), 0);
}

TEST(vmsplice_both_ways) {
    CHECK_OK(pipe(fds));
    struct iovec out[2] = {{"ab", 2}, {"cd", 2}};
    CHECK_EQ(vmsplice(fds[1], out, 2, 0), 4);
    char text[8] = "";
    struct iovec in = {text, 8};
    CHECK_EQ(vmsplice(fds[0], &in, 1, 0), 4);
    CHECK_STR(text, "abcd");
    CHECK_ERR(vmsplice(fds[1], out, 2, 0x40), EINVAL);
    CHECK_ERR(vmsplice(fds[1], out, 1025, 0), EINVAL);
    CHECK_ERR(vmsplice(file("f", "x"), out, 1, 0), EBADF);
    CHECK_EQ(vmsplice(fds[1], out, 0, 0), 0);
}

TEST(sendfile_forms) {
    CHECK_OK(pipe(fds));
    int in = file("in", "0123456789"), out = file("out", "");
    off_t offset = 6;
    CHECK_EQ(sendfile(out, in, &offset, 100), 4);
    CHECK_EQ(offset, 10);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 0);
    CHECK_EQ(sendfile(out, in, NULL, 2), 2);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 2);
    contains(out, "678901");
    CHECK_EQ(sendfile(fds[1], in, NULL, 3), 3);
    char text[8] = "";
    CHECK_EQ(read(fds[0], text, 8), 3);
    CHECK_STR(text, "234");
    CHECK_EQ(sendfile(out, in, &offset, 10), 0);
    offset = -1;
    CHECK_ERR(sendfile(out, in, &offset, 1), EINVAL);
    CHECK_ERR(sendfile(out, in, BAD, 1), EFAULT);
    CHECK_ERR(sendfile(out, -1, NULL, 1), EBADF);
    CHECK_ERR(sendfile(MUST(open("out", O_RDONLY)), in, NULL, 1), EBADF);
    CHECK_ERR(sendfile(MUST(open("out", O_WRONLY | O_APPEND)), in, NULL, 1), EINVAL);
    offset = 0;
    CHECK_ERR(sendfile(out, fds[0], &offset, 1), ESPIPE);
}

TEST(copy_range) {
    int in = file("in", "0123456789"), out = file("out", "abcdefghij");
    loff_t from = 2, to = 5;
    long copied = copy_file_range(in, &from, out, &to, 3, 0);
    if (copied < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == ENOSYS))
        SKIP("no copy_file_range here");
    CHECK_EQ(copied, 3);
    CHECK_EQ(from, 5);
    CHECK_EQ(to, 8);
    contains(out, "abcde234ij");
    CHECK_EQ(copy_file_range(in, NULL, out, NULL, 4, 0), 4);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 4);
    contains(out, "0123e234ij");
    from = 100;
    CHECK_EQ(copy_file_range(in, &from, out, NULL, 4, 0), 0);
    CHECK_ERR(copy_file_range(in, NULL, out, NULL, 4, 1), EINVAL);
    from = 0, to = 2;
    CHECK_ERR(copy_file_range(in, &from, in, &to, 5, 0), EINVAL);
    CHECK_ERR(copy_file_range(in, NULL, MUST(open("out", O_RDONLY)), NULL, 4, 0), EBADF);
    CHECK_ERR(copy_file_range(in, NULL, MUST(open("out", O_WRONLY | O_APPEND)), NULL, 4, 0), EBADF);
    CHECK_ERR(copy_file_range(MUST(open(".", O_RDONLY)), NULL, out, NULL, 4, 0), EISDIR);
    CHECK_OK(pipe(fds));
    CHECK_ERR(copy_file_range(fds[0], NULL, out, NULL, 4, 0), EINVAL);
}

TEST(large_copy) {
    size_t size = 1 << 20;
    char *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = i * 31 >> 3;
    int in = file("in", ""), out = file("out", "");
    CHECK_EQ(write(in, data, size), size);
    off_t offset = 0;
    while (offset < (off_t)size)
        if (sendfile(out, in, &offset, size) <= 0)
            break;
    CHECK_EQ(pread(out, back, size, 0), size);
    CHECK(!memcmp(data, back, size));
}
