// Asynchronous I/O by the calls themselves, and by the ring that programs may read.
#include "../check.h"
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

struct ring {
    unsigned id, nr, head, tail, magic, compat, incompat, header_length;
    struct io_event events[];
};

static aio_context_t setup(unsigned count) {
    aio_context_t number = 0;
    MUST(syscall(SYS_io_setup, count, &number));
    return number;
}
static long submit(aio_context_t number, long count, struct iocb **list) { return syscall(SYS_io_submit, number, count, list); }
static long get(aio_context_t number, long least, long most, struct io_event *events, struct timespec *timeout) {
    return syscall(SYS_io_getevents, number, least, most, events, timeout);
}
static struct iocb request(int command, int fd, void *buffer, size_t len, long offset) {
    return (struct iocb){.aio_lio_opcode = command, .aio_fildes = fd, .aio_buf = (unsigned long)buffer, .aio_nbytes = len,
                         .aio_offset = offset, .aio_data = 0xabc};
}
static int file_of(const char *text) {
    int fd = MUST(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
    MUST(write(fd, text, strlen(text)));
    return fd;
}
// Submits one request; gives its result.
static long one(aio_context_t number, struct iocb call) {
    struct iocb *list[] = {&call};
    struct io_event event = {};
    if (!CHECK_EQ(submit(number, 1, list), 1) || !CHECK_EQ(get(number, 1, 1, &event, NULL), 1))
        return -99999;
    CHECK_EQ(event.data, 0xabc);
    CHECK_EQ(event.obj, (unsigned long)&call);
    CHECK_EQ(event.res2, 0);
    return event.res;
}
static long refused(aio_context_t number, struct iocb call) {
    struct iocb *list[] = {&call};
    return submit(number, 1, list);
}

TEST(contexts) {
    aio_context_t number = 0, other = 0, used = 5;
    CHECK_OK(syscall(SYS_io_setup, 4, &number));
    CHECK(number != 0);
    CHECK_OK(syscall(SYS_io_setup, 1, &other));
    CHECK(other != number);
    CHECK_ERR(syscall(SYS_io_setup, 4, &used), EINVAL);
    used = 0;
    CHECK_ERR(syscall(SYS_io_setup, 0, &used), EINVAL);
    CHECK_ERR(syscall(SYS_io_setup, 4, BAD), EFAULT);
    CHECK_ERR(syscall(SYS_io_setup, 0x7fffffff, &used), EINVAL);
    CHECK_OK(syscall(SYS_io_destroy, number));
    CHECK_ERR(syscall(SYS_io_destroy, number), EINVAL);
    CHECK_ERR(submit(number, 0, NULL), EINVAL);
    CHECK_ERR(get(number, 0, 0, NULL, NULL), EINVAL);
    CHECK_EQ(submit(other, 0, NULL), 0);
    CHECK_ERR(submit(other, -1, NULL), EINVAL);
    CHECK_ERR(submit(other, 1, BAD), EFAULT);
    CHECK_EQ(get(other, 0, 1, NULL, NULL), 0);
    CHECK_ERR(get(other, 2, 1, NULL, NULL), EINVAL);
    CHECK_ERR(get(other, -1, 1, NULL, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_io_destroy, 0), EINVAL);
    // A child has none of them.
    CHECK_CHILD({ CHECK_ERR(submit(other, 0, NULL), EINVAL); });
}

TEST(reading_and_writing) {
    aio_context_t number = setup(8);
    int fd = file_of("0123456789");
    char buffer[32] = {};
    CHECK_EQ(one(number, request(IOCB_CMD_PREAD, fd, buffer, 4, 3)), 4);
    CHECK_STR(buffer, "3456");
    CHECK_EQ(one(number, request(IOCB_CMD_PWRITE, fd, "abc", 3, 8)), 3);
    CHECK_EQ(one(number, request(IOCB_CMD_PREAD, fd, buffer, 32, 6)), 5);
    CHECK(!memcmp(buffer, "67abc", 5));
    CHECK_EQ(one(number, request(IOCB_CMD_PREAD, fd, buffer, 32, 100)), 0);
    // The position of the file is nobody's business.
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10);
    struct iovec pieces[2] = {{buffer, 2}, {buffer + 10, 3}};
    CHECK_EQ(one(number, request(IOCB_CMD_PREADV, fd, pieces, 2, 0)), 5);
    CHECK(!memcmp(buffer, "01", 2) && !memcmp(buffer + 10, "234", 3));
    CHECK_EQ(one(number, request(IOCB_CMD_PWRITEV, fd, pieces, 2, 20)), 5);
    CHECK_EQ(one(number, request(IOCB_CMD_FSYNC, fd, NULL, 0, 0)), 0);
    CHECK_EQ(one(number, request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0)), 0);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_EQ(one(number, request(IOCB_CMD_PWRITE, pipes[1], "pipe", 4, 0)), 4);
    CHECK_EQ(one(number, request(IOCB_CMD_PREAD, pipes[0], buffer, 32, 0)), 4);
    CHECK(!memcmp(buffer, "pipe", 4));
}

TEST(refusals) {
    aio_context_t number = setup(8);
    int fd = file_of("0123456789"), only_read = MUST(open("file", O_RDONLY));
    char buffer[32];
    CHECK_ERR(refused(number, request(IOCB_CMD_PREAD, -1, buffer, 4, 0)), EBADF);
    CHECK_ERR(refused(number, request(IOCB_CMD_PWRITE, only_read, buffer, 4, 0)), EBADF);
    CHECK_ERR(refused(number, request(99, fd, buffer, 4, 0)), EINVAL);
    CHECK_ERR(refused(number, request(IOCB_CMD_NOOP, fd, buffer, 4, 0)), EINVAL);
    CHECK_ERR(refused(number, request(IOCB_CMD_PREAD, fd, buffer, -1, 0)), EINVAL);
    CHECK_ERR(refused(number, request(IOCB_CMD_FSYNC, fd, buffer, 0, 0)), EINVAL);
    struct iocb call = request(IOCB_CMD_PREAD, fd, buffer, 4, 0);
    call.aio_reserved2 = 1;
    CHECK_ERR(refused(number, call), EINVAL);
    call = request(IOCB_CMD_PREAD, fd, buffer, 4, 0);
    call.aio_rw_flags = 1 << 30;
    CHECK_ERR(refused(number, call), EOPNOTSUPP);
    call = request(IOCB_CMD_PREAD, fd, buffer, 4, 0);
    call.aio_flags = IOCB_FLAG_RESFD;
    call.aio_resfd = -1;
    CHECK_ERR(refused(number, call), EBADF);
    call.aio_resfd = fd;
    CHECK_ERR(refused(number, call), EINVAL);
    // What goes wrong only in the doing is told as a result.
    CHECK_EQ(one(number, request(IOCB_CMD_PREAD, fd, BAD, 4, 0)), -EFAULT);
    // What came before what is refused is done.
    struct iocb good = request(IOCB_CMD_PREAD, fd, buffer, 4, 0), bad = request(IOCB_CMD_PREAD, -1, buffer, 4, 0);
    struct iocb *list[] = {&good, &bad, &good};
    struct io_event events[4];
    CHECK_EQ(submit(number, 3, list), 1);
    CHECK_EQ(get(number, 0, 4, events, NULL), 1);
    CHECK_ERR(syscall(SYS_io_cancel, number, &good, events), EINVAL);
    CHECK_ERR(syscall(SYS_io_cancel, number, BAD, events), EFAULT);
}

TEST(events) {
    aio_context_t number = setup(8);
    int fd = file_of("0123456789"), counter = MUST(eventfd(0, EFD_NONBLOCK));
    char buffer[4][4];
    struct iocb calls[4], *list[4];
    for (int i = 0; i < 4; i++) {
        calls[i] = request(IOCB_CMD_PREAD, fd, buffer[i], i, 0);
        calls[i].aio_data = i;
        calls[i].aio_flags = IOCB_FLAG_RESFD;
        calls[i].aio_resfd = counter;
        calls[i].aio_key = 77;
        list[i] = &calls[i];
    }
    CHECK_EQ(submit(number, 4, list), 4);
    CHECK_EQ(calls[0].aio_key, 0);
    uint64_t count = 0;
    CHECK_EQ(read(counter, &count, 8), 8);
    CHECK_EQ(count, 4);
    struct io_event events[4] = {};
    struct timespec soon = {0, 20000000}, wrong = {0, 1000000000};
    CHECK_EQ(get(number, 2, 2, events, NULL), 2);
    CHECK_EQ(events[0].data, 0);
    CHECK_EQ(events[1].res, 1);
    // Fewer than asked for when the time is over.
    CHECK_EQ(get(number, 4, 4, events, &soon), 2);
    CHECK_EQ(events[1].data, 3);
    CHECK_EQ(get(number, 1, 4, events, &soon), 0);
    CHECK_ERR(get(number, 1, 4, events, BAD), EFAULT);
    // A time that is none is not minded.
    CHECK_EQ(get(number, 1, 4, events, &wrong), 0);
}

TEST(ring) {
    aio_context_t number = setup(4);
    struct ring *ring = (struct ring *)number;
    CHECK_EQ(ring->magic, 0xa10a10a1);
    CHECK_EQ(ring->header_length, 32);
    CHECK_EQ(ring->incompat, 0);
    CHECK_CMP(ring->nr, >=, 5);
    CHECK_EQ(ring->head, ring->tail);
    int fd = file_of("0123456789");
    char buffer[8];
    struct iocb call = request(IOCB_CMD_PREAD, fd, buffer, 8, 0), *list[] = {&call};
    CHECK_EQ(submit(number, 1, list), 1);
    CHECK_EQ(ring->tail, (ring->head + 1) % ring->nr);
    CHECK_EQ(ring->events[ring->head].res, 8);
    CHECK_EQ(ring->events[ring->head].data, 0xabc);
    // Taken by the program: the kernel has nothing left to tell.
    ring->head = ring->tail;
    struct io_event event;
    CHECK_EQ(get(number, 0, 1, &event, NULL), 0);
    // Round and round.
    for (unsigned i = 0; i < 3 * ring->nr; i++)
        CHECK_EQ(one(number, call), 8);
    char line[300];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (strtoul(line, NULL, 16) == number)
            found = strstr(line, "rw-s") && strstr(line, "/[aio]");
    CHECK(found);
}

static void *submitter(void *number) {
    usleep(50000);
    static char buffer[4];
    static struct iocb call;
    call = request(IOCB_CMD_PREAD, open("file", O_RDONLY), buffer, 4, 0);
    struct iocb *list[] = {&call};
    return (void *)submit((aio_context_t)number, 1, list);
}

static void nothing(int signo) { (void)signo; }

TEST(waiting) {
    file_of("abcdefgh");
    aio_context_t number = setup(4);
    pthread_t thread;
    struct io_event events[2];
    pthread_create(&thread, NULL, submitter, (void *)number);
    CHECK_EQ(get(number, 1, 2, events, NULL), 1);
    CHECK_EQ(events[0].res, 4);
    pthread_join(thread, NULL);
    struct sigaction action = {.sa_handler = nothing};
    MUST(sigaction(SIGALRM, &action, NULL));
    // Again and again: the first may come before the wait.
    ualarm(30000, 30000);
    CHECK_ERR(get(number, 1, 1, events, NULL), EINTR);
}
