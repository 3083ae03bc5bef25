// mmap in its forms, munmap, and who wins where two overlap.
#include "../check.h"

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *map(size_t pages, int prot, int flags, int fd, long offset) {
    return (char *)MUST(mmap(NULL, pages * PAGE, prot, flags, fd, offset));
}

static int file(size_t pages) {
    int fd = MUST(open("f", O_CREAT | O_TRUNC | O_RDWR, 0600));
    for (size_t i = 0; i < pages; i++) {
        char page[PAGE];
        memset(page, 'a' + i, PAGE);
        CHECK_EQ(write(fd, page, PAGE), PAGE);
    }
    return fd;
}

// How the child ends that touches this byte: 0 or the signal.
static int touch(volatile char *at, int write) {
    int status = IN_CHILD({
        if (write)
            *at = 1;
        else
            (void)*at;
    });
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(anonymous) {
    char *p = map(4, RW, ANON, -1, 0);
    CHECK_EQ((uintptr_t)p % PAGE, 0);
    for (size_t i = 0; i < 4 * PAGE; i += 512)
        CHECK_EQ(p[i], 0);
    memset(p, 1, 4 * PAGE);
    CHECK_OK(munmap(p + PAGE, 2 * PAGE));
    CHECK_EQ(p[0] + p[3 * PAGE], 2);
    CHECK_EQ(touch(p + PAGE, 0), SIGSEGV);
    CHECK_OK(munmap(p + PAGE, PAGE));
    CHECK_OK(munmap(p, 4 * PAGE));
    CHECK_EQ(touch(p, 0), SIGSEGV);
}

TEST(arguments) {
    CHECK_ERR(mmap(NULL, 0, RW, ANON, -1, 0), EINVAL);
    CHECK_ERR(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
    CHECK_ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_SHARED | 0xc | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERR(syscall(SYS_mmap, NULL, PAGE, RW, ANON, -1, 1), EINVAL);
    CHECK_ERR(mmap((void *)1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    CHECK_ERR(mmap(NULL, -1, RW, ANON, -1, 0), ENOMEM);
    CHECK_ERR(mmap(NULL, 1UL << 47, RW, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
    CHECK_ERR(mmap((void *)(1UL << 47), PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    CHECK_ERR(mmap((void *)-PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    CHECK_OK(mmap((void *)-PAGE, PAGE, RW, ANON, -1, 0));
    int fd = file(1);
    CHECK_ERR(syscall(SYS_mmap, NULL, PAGE, RW, MAP_PRIVATE, fd, 0x7ffffffffffff000 + 1), EINVAL);
    CHECK_ERR(syscall(SYS_mmap, NULL, 2 * PAGE, RW, MAP_PRIVATE, fd, -PAGE), EOVERFLOW);
    CHECK_ERR(mmap(NULL, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
    CHECK_OK(mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_SYNC, fd, 0));
    int directory = MUST(open(".", O_RDONLY));
    CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, directory, 0), ENODEV);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, pipes[0], 0), ENODEV);
    CHECK_ERR(munmap(NULL, 0), EINVAL);
    CHECK_ERR(munmap((void *)1, PAGE), EINVAL);
    CHECK_ERR(munmap((void *)PAGE, 1UL << 47), EINVAL);
    CHECK_ERR(munmap((void *)-PAGE, PAGE), EINVAL);
}

TEST(access_of_the_file) {
    file(1);
    int r = MUST(open("f", O_RDONLY)), w = MUST(open("f", O_WRONLY));
    CHECK_ERR(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, r, 0), EACCES);
    CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, w, 0), EACCES);
    CHECK_ERR(mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE, w, 0), EACCES);
    CHECK_OK(mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE, r, 0));
    char *p = map(1, PROT_READ, MAP_SHARED, r, 0);
    CHECK_ERR(mprotect(p, PAGE, RW), EACCES);
}

TEST(private_file) {
    int fd = file(3);
    char *p = map(2, RW, MAP_PRIVATE, fd, PAGE);
    CHECK(p[0] == 'b' && p[PAGE] == 'c');
    p[0] = 'X';
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, PAGE), 1);
    CHECK_EQ(byte, 'b');
    // A page not yet written still shows what is written to the file.
    CHECK_EQ(pwrite(fd, "Y", 1, 2 * PAGE), 1);
    CHECK_EQ(p[PAGE], 'Y');
    CHECK_EQ(pwrite(fd, "Z", 1, PAGE), 1);
    CHECK_EQ(p[0], 'X');
    CHECK_OK(close(fd));
    CHECK_EQ(p[PAGE + 1], 'c');
}

TEST(shared_file) {
    int fd = file(2);
    char *p = map(2, RW, MAP_SHARED, fd, 0), *q = map(1, PROT_READ, MAP_SHARED, fd, PAGE);
    p[0] = 'X';
    p[PAGE] = 'Y';
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'X');
    CHECK_EQ(q[0], 'Y');
    CHECK_EQ(pwrite(fd, "W", 1, 1), 1);
    CHECK_EQ(p[1], 'W');
    CHECK_OK(msync(p, 2 * PAGE, MS_SYNC));
    CHECK_CHILD({ p[2] = 'C'; });
    CHECK_EQ(p[2], 'C');
    CHECK_OK(unlink("f"));
    CHECK_OK(close(fd));
    p[3] = 'D';
    CHECK_EQ(p[3], 'D');
    CHECK_OK(munmap(p, 2 * PAGE));
    CHECK_EQ(q[0], 'Y');
}

TEST(past_the_end) {
    int fd = file(1);
    CHECK_OK(ftruncate(fd, PAGE + 10));
    char *p = map(4, RW, MAP_SHARED, fd, 0);
    p[PAGE + 9] = 1;
    // The rest of the last page is zero, can be written and is not kept.
    CHECK_EQ(p[PAGE + 10], 0);
    p[PAGE + 100] = 5;
    CHECK_EQ(touch(p + 2 * PAGE, 0), SIGBUS);
    CHECK_EQ(touch(p + 2 * PAGE, 1), SIGBUS);
    CHECK_OK(ftruncate(fd, 3 * PAGE));
    CHECK_EQ(p[2 * PAGE], 0);
    CHECK_EQ(touch(p + 2 * PAGE, 1), 0);
    CHECK_OK(ftruncate(fd, 0));
    CHECK_EQ(touch(p, 0), SIGBUS);
    CHECK_EQ(touch(p + PAGE, 0), SIGBUS);
    char *private = map(1, RW, MAP_PRIVATE, fd, 0);
    CHECK_EQ(touch(private, 1), SIGBUS);
    // The kernel finds no page there either.
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_ERR(write(pipes[1], p, 1), EFAULT);
}

TEST(truncate_drops_private_copies) {
    int fd = file(2);
    char *p = map(2, RW, MAP_PRIVATE, fd, 0);
    p[0] = 'X';
    p[PAGE] = 'Y';
    CHECK_OK(ftruncate(fd, PAGE));
    CHECK_EQ(p[0], 'X');
    CHECK_EQ(touch(p + PAGE, 0), SIGBUS);
    CHECK_OK(ftruncate(fd, 2 * PAGE));
    CHECK_EQ(p[PAGE], 0);
}

TEST(fixed) {
    char *p = map(4, RW, ANON, -1, 0);
    memset(p, 7, 4 * PAGE);
    CHECK_EQ(mmap(p + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0), p + PAGE);
    CHECK_EQ(p[PAGE], 0);
    CHECK_EQ(p[0] + p[2 * PAGE], 14);
    CHECK_ERR(mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK_ERR(mmap(p - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK_OK(munmap(p + 3 * PAGE, PAGE));
    CHECK_EQ(mmap(p + 3 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), p + 3 * PAGE);
    // A hint that is free is taken, one that is not is passed over.
    CHECK_OK(munmap(p + 2 * PAGE, PAGE));
    CHECK_EQ(mmap(p + 2 * PAGE, PAGE, RW, ANON, -1, 0), p + 2 * PAGE);
    CHECK((char *)mmap(p, PAGE, RW, ANON, -1, 0) != p);
    char *q = (char *)MUST(mmap(NULL, PAGE, RW, ANON | MAP_32BIT, -1, 0));
    CHECK_CMP((uintptr_t)q, <, 1UL << 31);
}

TEST(shared_anonymous) {
    int *p = (int *)map(2, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_CHILD({
        p[0] = 11;
        p[1024] = 12;
    });
    CHECK_EQ(p[0], 11);
    CHECK_EQ(p[1024], 12);
    int *q = (int *)MUST(mremap(p, 0, PAGE, MREMAP_MAYMOVE));
    q[0] = 13;
    CHECK_EQ(p[0], 13);
}

TEST(copy_on_write) {
    char *p = map(3, RW, ANON, -1, 0);
    memset(p, 'p', 3 * PAGE);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        p[0] = 'c';
        read(pipes[0], &byte, 1);
        CHECK_EQ(p[PAGE], 'p');
        CHECK_EQ(p[0], 'c');
        _exit(0);
    }
    p[PAGE] = 'P';
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(p[0], 'p');
    // And when the kernel writes for the program.
    CHECK_CHILD({
        int fd = open("/dev/zero", O_RDONLY);
        CHECK_EQ(read(fd, p, PAGE), PAGE);
        CHECK_EQ(p[0], 0);
    });
    CHECK_EQ(p[0], 'p');
    // Grandchildren share with all before them.
    CHECK_CHILD({
        p[2 * PAGE] = '1';
        CHECK_CHILD({
            p[2 * PAGE] = '2';
            CHECK_CHILD({ CHECK_EQ(p[2 * PAGE], '2'); });
        });
        CHECK_EQ(p[2 * PAGE], '1');
    });
    CHECK_EQ(p[2 * PAGE], 'p');
}

TEST(grows_down) {
    char *area = map(64, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
    CHECK_OK(munmap(area, 64 * PAGE));
    char *top = area + 60 * PAGE;
    CHECK_EQ(mmap(top, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0), top);
    top[0] = 1;
    for (int i = 1; i < 20; i++)
        top[-i * (long)PAGE] = i;
    CHECK_EQ(top[-19 * (long)PAGE], 19);
    CHECK_EQ(touch(top + PAGE, 1), SIGSEGV);
}

TEST(populate_and_others) {
    char *p = map(4, RW, ANON | MAP_POPULATE, -1, 0);
    unsigned char there[4];
    CHECK_OK(mincore(p, 4 * PAGE, there));
    CHECK_EQ(there[0] & there[3] & 1, 1);
    CHECK_OK(mmap(NULL, PAGE, RW, ANON | MAP_NORESERVE | MAP_STACK | MAP_NONBLOCK, -1, 0));
    CHECK_OK(mmap(NULL, PAGE, RW, ANON | MAP_LOCKED, -1, 0));
    CHECK_OK(mmap(NULL, PAGE, PROT_NONE, ANON, -1, 0));
    CHECK_EQ(touch(map(1, PROT_NONE, ANON, -1, 0), 0), SIGSEGV);
    // 16 GiB of address space cost nothing.
    char *big = (char *)MUST(mmap(NULL, 16UL << 30, RW, ANON | MAP_NORESERVE, -1, 0));
    big[0] = big[(16UL << 30) - 1] = 1;
    CHECK_OK(munmap(big, 16UL << 30));
}

TEST(executable) {
    char *p = map(1, RW, ANON, -1, 0);
    memcpy(p, "\xb8\x2a\0\0\0\xc3", 6);
    CHECK_OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    CHECK_EQ(((int (*)(void))p)(), 42);
    CHECK_OK(mprotect(p, PAGE, RW));
    int status = IN_CHILD({ ((int (*)(void))p)(); });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    // Code that is changed is run as it is now.
    CHECK_OK(mprotect(p, PAGE, RW | PROT_EXEC));
    p[1] = 43;
    CHECK_EQ(((int (*)(void))p)(), 43);
}

TEST(device_zero) {
    int fd = MUST(open("/dev/zero", O_RDWR));
    char *p = map(1, RW, MAP_PRIVATE, fd, 0), *q = map(1, RW, MAP_SHARED, fd, 0);
    CHECK_EQ(p[0] | q[0], 0);
    CHECK_CHILD({ p[0] = q[0] = 1; });
    CHECK_EQ(p[0], 0);
    CHECK_EQ(q[0], 1);
}

TEST(limit) {
    struct rlimit64 {
        uint64_t now, most;
    } limit = {256 << 20, 256 << 20};
    CHECK_OK(syscall(SYS_prlimit64, 0, 9 /* RLIMIT_AS */, &limit, NULL));
    CHECK_ERR(mmap(NULL, 512 << 20, RW, ANON, -1, 0), ENOMEM);
    CHECK_OK(mmap(NULL, 1 << 20, RW, ANON, -1, 0));
    CHECK(malloc(512 << 20) == NULL);
}

TEST(many_areas) {
    size_t count = 3000;
    char *p = map(2 * count, RW, ANON, -1, 0);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(mprotect(p + 2 * i * PAGE, PAGE, PROT_READ));
    for (size_t i = 0; i < count; i++)
        p[(2 * i + 1) * PAGE] = i;
    CHECK_CHILD({
        for (size_t i = 0; i < count; i += 100)
            CHECK_EQ(p[(2 * i + 1) * PAGE], (char)i);
    });
    CHECK_OK(mprotect(p, 2 * count * PAGE, RW));
    p[0] = 1;
    CHECK_OK(munmap(p, 2 * count * PAGE));
}
