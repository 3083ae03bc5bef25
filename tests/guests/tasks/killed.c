// Calls whose length the caller chooses: a task that is killed in one ends at once, and signals cut short what Linux lets them.
#include "../check.h"

#include <sys/sendfile.h>
#include <sys/uio.h>

// So much that no call is done with it before the test is over, and so much that memory holds the answer for.
#define ENDLESS (1ul << 46)
#define HUGE (1ul << 40)
// What one read or write moves at most.
#define MOST 0x7ffff000ul

// A timer that sends this process a signal a while after the call began. No process stands between, which a busy machine
// could keep from running while the call takes memory.
static void signal_in_call(int number, long nanoseconds, int again) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
    struct itimerspec time = {.it_value.tv_nsec = nanoseconds};
    timer_t timer;
    if (again)
        time.it_interval = time.it_value;
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    MUST(timer_settime(timer, 0, &time, NULL));
}

// Does the statements in a child that is killed meanwhile.
#define KILLED_IN(...)                                                                                                \
    CHECK_EQ(IN_CHILD({                                                                                               \
                 signal_in_call(SIGKILL, 20000000, 0);                                                                \
                 __VA_ARGS__;                                                                                         \
                 for (;;)                                                                                             \
                     pause();                                                                                         \
             }),                                                                                                      \
             SIGKILL)

// Address space without memory behind it.
static void *area(size_t len, int flags) {
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    MUST(at == MAP_FAILED ? -1 : 0);
    return at;
}

// A file of nothing but a hole.
static int sparse(void) {
    int fd = MUST(memfd_create("sparse", 0));
    MUST(ftruncate(fd, ENDLESS));
    return fd;
}

TEST(storage_is_set_aside) {
    int fd = MUST(memfd_create("storage", 0));
    MUST(pwrite(fd, "kept", 4, 0));
    KILLED_IN(fallocate(fd, 0, 0, ENDLESS));
    // All of it was taken back.
    struct stat stat;
    CHECK_OK(fstat(fd, &stat));
    CHECK_EQ(stat.st_size, 4);
    CHECK_EQ(stat.st_blocks, 8);
    char text[4];
    CHECK_EQ(pread(fd, text, 4, 0), 4);
    CHECK(!memcmp(text, "kept", 4));
    KILLED_IN(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, ENDLESS));
    CHECK_OK(fstat(fd, &stat));
    CHECK_EQ(stat.st_blocks, 8);
}

TEST(memory_is_populated) {
    KILLED_IN(area(HUGE, MAP_POPULATE));
    KILLED_IN(mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, sparse(), 0));
    char *at = area(HUGE, 0);
    KILLED_IN(madvise(at, HUGE, MADV_POPULATE_READ));
    KILLED_IN(madvise(at, HUGE, MADV_POPULATE_WRITE));
}

TEST(memory_is_locked) {
    // Without the right to lock as much, the call fails and the child waits for its end.
    char *at = area(HUGE, 0);
    KILLED_IN(mlock(at, HUGE));
    KILLED_IN(mlockall(MCL_CURRENT));
    KILLED_IN({
        mlockall(MCL_FUTURE);
        mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    });
    KILLED_IN({
        char *locked = area(4096, MAP_LOCKED);
        mremap(locked, 4096, HUGE, MREMAP_MAYMOVE);
    });
}

TEST(the_page_map_is_read) {
    char *at = area(HUGE, 0), *into = area(MOST, 0);
    int fd = MUST(open("/proc/self/pagemap", O_RDONLY));
    KILLED_IN(pread(fd, into, MOST, (uintptr_t)at / 4096 * 8));
}

TEST(many_bytes_are_moved) {
    static char page[1 << 20];
    int hole = sparse();
    struct iovec many[1024];
    for (int i = 0; i < 1024; i++)
        many[i] = (struct iovec){page, sizeof page};
    KILLED_IN(for (;;) preadv(hole, many, 1024, 0));
    KILLED_IN({
        int fd = memfd_create("written", 0);
        for (;;)
            pwritev(fd, many, 1024, 0);
    });
    pid_t self = getpid();
    KILLED_IN(for (;;) process_vm_readv(self, many, 1024, many, 1024, 0));
    KILLED_IN({
        int ends[2];
        MUST(pipe(ends));
        if (fork() == 0) {
            int null = open("/dev/null", O_WRONLY);
            close(ends[1]);
            while (splice(ends[0], NULL, null, NULL, MOST, 0) > 0)
                ;
            _exit(0);
        }
        for (;;)
            sendfile(ends[1], hole, NULL, MOST);
    });
}

static void ignore(int number) { (void)number; }

// The call moves something and not all, or is interrupted at its beginning.
#define CUT_SHORT(call)                                                                                               \
    ({                                                                                                                \
        errno = 0;                                                                                                    \
        long moved = (long)(call);                                                                                    \
        CHECK_AT(moved >= 0 ? moved < (long)MOST : errno == EINTR, "%s gives %ld, errno %d", #call, moved, errno);     \
    })

TEST(any_signal_cuts_copies_and_devices_short) {
    static char page[2 << 20];
    struct iovec many[1024];
    for (int i = 0; i < 1024; i++)
        many[i] = (struct iovec){page, sizeof page};
    struct sigaction action = {.sa_handler = ignore};
    MUST(sigaction(SIGUSR1, &action, NULL));
    int hole = sparse(), other = MUST(memfd_create("other", 0)), null = MUST(open("/dev/null", O_WRONLY));
    int zero = MUST(open("/dev/zero", O_RDONLY)), random = MUST(open("/dev/urandom", O_RDONLY));
    signal_in_call(SIGUSR1, 1000000, 1);
    CUT_SHORT(sendfile(null, hole, NULL, MOST));
    CUT_SHORT(sendfile(other, hole, NULL, MOST));
    loff_t from = 0, to = 0;
    CUT_SHORT(copy_file_range(hole, &from, other, &to, MOST, 0));
    CHECK_EQ(from, to);
    CUT_SHORT(readv(zero, many, 1024));
    CUT_SHORT(readv(random, many, 1024));
}
