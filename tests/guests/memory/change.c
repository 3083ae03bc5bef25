// mprotect, mremap, madvise, mincore, mlock, msync, brk.
#include "../check.h"
#include <sys/resource.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *map(size_t pages) { return (char *)MUST(mmap(NULL, pages * PAGE, RW, ANON, -1, 0)); }

static int touch(volatile char *at, int write) {
    int status = IN_CHILD({
        if (write)
            *at = 1;
        else
            (void)*at;
    });
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(protect) {
    char *p = map(3);
    memset(p, 1, 3 * PAGE);
    CHECK_OK(mprotect(p + PAGE, PAGE, PROT_READ));
    CHECK_EQ(touch(p + PAGE, 0), 0);
    CHECK_EQ(touch(p + PAGE, 1), SIGSEGV);
    CHECK_EQ(touch(p, 1), 0);
    CHECK_EQ(touch(p + 2 * PAGE, 1), 0);
    CHECK_OK(mprotect(p, 3 * PAGE, PROT_NONE));
    CHECK_EQ(touch(p, 0), SIGSEGV);
    CHECK_OK(mprotect(p, 3 * PAGE, RW));
    CHECK_EQ(p[PAGE], 1);
    CHECK_OK(mprotect(p, 0, RW));
    CHECK_OK(mprotect(p, 1, PROT_READ));
    CHECK_EQ(touch(p + PAGE - 1, 1), SIGSEGV);
    CHECK_ERR(mprotect(p + 1, PAGE, RW), EINVAL);
    CHECK_ERR(mprotect(p, PAGE, 0x100), EINVAL);
    CHECK_OK(munmap(p + PAGE, PAGE));
    // What comes before the hole is changed all the same.
    CHECK_ERR(mprotect(p, 3 * PAGE, RW), ENOMEM);
    CHECK_EQ(touch(p, 1), 0);
    CHECK_ERR(mprotect((void *)PAGE, PAGE, RW), ENOMEM);
    CHECK_ERR(mprotect(p, -1, RW), ENOMEM);
    CHECK_ERR(mprotect(p, PAGE, RW | PROT_GROWSUP | PROT_GROWSDOWN), EINVAL);
    CHECK_ERR(mprotect(p, PAGE, RW | PROT_GROWSDOWN), EINVAL);
}

TEST(kernel_minds_protection) {
    char *p = map(1);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_EQ(write(pipes[1], "abc", 3), 3);
    CHECK_OK(mprotect(p, PAGE, PROT_READ));
    CHECK_ERR(read(pipes[0], p, 3), EFAULT);
    CHECK_OK(mprotect(p, PAGE, PROT_NONE));
    CHECK_ERR(write(pipes[1], p, 3), EFAULT);
    CHECK_ERR(open(p, O_RDONLY), EFAULT);
    CHECK_OK(mprotect(p, PAGE, RW));
    // A name that ends where the page does, and one that does not end before it.
    memset(p, 'n', PAGE);
    char *guard = map(2);
    CHECK_OK(mprotect(guard + PAGE, PAGE, PROT_NONE));
    strcpy(guard + PAGE - 5, "none");
    CHECK_ERR(open(guard + PAGE - 5, O_RDONLY), ENOENT);
    guard[PAGE - 1] = 'e';
    CHECK_ERR(open(guard + PAGE - 5, O_RDONLY), EFAULT);
}

TEST(remap) {
    char *p = map(4);
    for (int i = 0; i < 4; i++)
        p[i * PAGE] = 'a' + i;
    CHECK_EQ(mremap(p, 4 * PAGE, 2 * PAGE, 0), p);
    CHECK_EQ(touch(p + 2 * PAGE, 0), SIGSEGV);
    char *q = (char *)MUST(mremap(p, 2 * PAGE, 300 * PAGE, MREMAP_MAYMOVE));
    CHECK(q[0] == 'a' && q[PAGE] == 'b' && q[299 * PAGE] == 0);
    char *target = map(10);
    target[9 * PAGE] = 't';
    CHECK_EQ(mremap(q, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target), target);
    CHECK(target[0] == 'a' && target[2 * PAGE] == 0 && target[9 * PAGE] == 't');
    CHECK_EQ(touch(q, 0), SIGSEGV);
    CHECK_EQ(touch(q + 2 * PAGE, 0), 0);
    char *blocked = map(2);
    CHECK_OK(mprotect(blocked + PAGE, PAGE, PROT_READ));
    CHECK_ERR(mremap(blocked, PAGE, 2 * PAGE, 0), ENOMEM);
    CHECK_ERR(mremap(target + 1, PAGE, PAGE, 0), EINVAL);
    CHECK_ERR(mremap(target, PAGE, 0, 0), EINVAL);
    CHECK_ERR(mremap(target, PAGE, PAGE, 0x40), EINVAL);
    CHECK_ERR(mremap(target, PAGE, PAGE, MREMAP_FIXED, p), EINVAL);
    CHECK_ERR(mremap(target, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE), EINVAL);
    CHECK_ERR(mremap(target, 0, PAGE, MREMAP_MAYMOVE), EINVAL);
    CHECK_ERR(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
}

TEST(remap_file) {
    int fd = MUST(open("f", O_CREAT | O_RDWR, 0600));
    for (int i = 0; i < 4; i++) {
        char page[PAGE];
        memset(page, '0' + i, PAGE);
        CHECK_EQ(write(fd, page, PAGE), PAGE);
    }
    char *p = (char *)MUST(mmap(NULL, PAGE, RW, MAP_SHARED, fd, PAGE));
    CHECK_EQ(p[0], '1');
    p = (char *)MUST(mremap(p, PAGE, 3 * PAGE, MREMAP_MAYMOVE));
    CHECK(p[0] == '1' && p[PAGE] == '2' && p[2 * PAGE] == '3');
    p[PAGE] = 'x';
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 2 * PAGE), 1);
    CHECK_EQ(byte, 'x');
}

TEST(remap_dontunmap) {
    char *p = map(2);
    p[0] = 'p';
    char *q = mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, NULL);
    if (q == MAP_FAILED && errno == EINVAL)
        SKIP("no MREMAP_DONTUNMAP before Linux 5.7");
    CHECK(q != p && q[0] == 'p');
    CHECK_EQ(p[0], 0);
}

TEST(advise_dontneed) {
    char *p = map(3);
    memset(p, 1, 3 * PAGE);
    CHECK_OK(madvise(p + PAGE, PAGE, MADV_DONTNEED));
    CHECK_EQ(p[PAGE], 0);
    CHECK_EQ(p[0] + p[2 * PAGE], 2);
    int fd = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, PAGE));
    CHECK_EQ(write(fd, "file", 4), 4);
    char *q = (char *)MUST(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0));
    q[0] = 'X';
    CHECK_OK(madvise(q, PAGE, MADV_DONTNEED));
    CHECK_EQ(q[0], 'f');
    char *s = (char *)MUST(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));
    s[0] = 'S';
    CHECK_OK(madvise(s, PAGE, MADV_DONTNEED));
    CHECK_EQ(s[0], 'S');
}

TEST(advise_others) {
    char *p = map(4);
    memset(p, 1, 4 * PAGE);
    CHECK_OK(madvise(p, 4 * PAGE, MADV_NORMAL));
    CHECK_OK(madvise(p, 4 * PAGE, MADV_RANDOM));
    CHECK_OK(madvise(p, 4 * PAGE, MADV_SEQUENTIAL));
    CHECK_OK(madvise(p, 4 * PAGE, MADV_WILLNEED));
    CHECK_OK(madvise(p, 0, MADV_DONTNEED));
    CHECK_OK(madvise(p, PAGE, MADV_FREE));
    CHECK(p[0] == 0 || p[0] == 1);
    p[0] = 5;
    CHECK_EQ(p[0], 5);
    CHECK_OK(madvise(p, PAGE, MADV_DONTDUMP));
    CHECK_OK(madvise(p, PAGE, MADV_DODUMP));
    CHECK_ERR(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_ERR(madvise(p, PAGE, 99), EINVAL);
    CHECK_ERR(madvise(p, -1, MADV_DONTNEED), EINVAL);
    CHECK_OK(munmap(p + PAGE, PAGE));
    // The rest is still done.
    CHECK_ERR(madvise(p, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK_EQ(p[0] | p[2 * PAGE], 0);
}

TEST(advise_fork) {
    char *p = map(3);
    memset(p, 1, 3 * PAGE);
    CHECK_OK(madvise(p, PAGE, MADV_DONTFORK));
    CHECK_OK(madvise(p + PAGE, PAGE, MADV_WIPEONFORK));
    CHECK_EQ(touch(p, 0), SIGSEGV);
    CHECK_CHILD({
        CHECK_EQ(p[PAGE], 0);
        CHECK_EQ(p[2 * PAGE], 1);
        CHECK_CHILD({ CHECK_EQ(p[PAGE], 0); });
    });
    CHECK_EQ(p[0] + p[PAGE], 2);
    CHECK_OK(madvise(p, PAGE, MADV_DOFORK));
    CHECK_OK(madvise(p + PAGE, PAGE, MADV_KEEPONFORK));
    CHECK_CHILD({ CHECK_EQ(p[0] + p[PAGE], 2); });
    char *shared = (char *)MUST(mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    CHECK_ERR(madvise(shared, PAGE, MADV_WIPEONFORK), EINVAL);
}

TEST(advise_remove) {
    int fd = MUST(syscall(SYS_memfd_create, "m", 0));
    CHECK_OK(ftruncate(fd, 3 * PAGE));
    char *p = (char *)MUST(mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0));
    memset(p, 1, 3 * PAGE);
    CHECK_OK(madvise(p + PAGE, PAGE, MADV_REMOVE));
    CHECK_EQ(p[PAGE], 0);
    char byte = 9;
    CHECK_EQ(pread(fd, &byte, 1, PAGE), 1);
    CHECK_EQ(byte, 0);
    CHECK_ERR(madvise(map(1), PAGE, MADV_REMOVE), EINVAL);
}

TEST(residency) {
    char *p = map(4);
    unsigned char there[4] = {9, 9, 9, 9};
    p[PAGE] = 1;
    CHECK_OK(mincore(p, 4 * PAGE, there));
    CHECK_EQ(there[1] & 1, 1);
    CHECK_EQ(there[3] & 1, 0);
    CHECK_ERR(mincore(p + 1, PAGE, there), EINVAL);
    CHECK_ERR(mincore(p, PAGE, BAD), EFAULT);
    CHECK_OK(munmap(p, 4 * PAGE));
    CHECK_ERR(mincore(p, PAGE, there), ENOMEM);
}

TEST(lock) {
    char *p = map(4);
    CHECK_OK(mlock(p, 2 * PAGE));
    CHECK_OK(mlock(p + 1, 1));
    CHECK_OK(munlock(p, 2 * PAGE));
    CHECK_OK(mlock2(p, PAGE, MLOCK_ONFAULT));
    CHECK_ERR(mlock2(p, PAGE, 8), EINVAL);
    CHECK_OK(mlockall(MCL_CURRENT | MCL_FUTURE));
    CHECK_OK(munlockall());
    CHECK_ERR(mlockall(0), EINVAL);
    CHECK_ERR(mlockall(MCL_ONFAULT), EINVAL);
    CHECK_ERR(mlockall(64), EINVAL);
    CHECK_OK(munmap(p + PAGE, PAGE));
    CHECK_ERR(mlock(p, 4 * PAGE), ENOMEM);
    CHECK_ERR(munlock(p, 4 * PAGE), ENOMEM);
    struct rlimit none = {0, 0}, little = {PAGE, PAGE};
    CHECK_OK(setrlimit(RLIMIT_MEMLOCK, &little));
    CHECK_OK(setuid(1000));
    CHECK_OK(munlock(p, PAGE));
    CHECK_OK(mlock(p, PAGE));
    CHECK_ERR(mlock(p + 2 * PAGE, PAGE), ENOMEM);
    CHECK_OK(munlock(p, PAGE));
    CHECK_OK(setrlimit(RLIMIT_MEMLOCK, &none));
    CHECK_ERR(mlock(p, PAGE), EPERM);
}

TEST(sync) {
    int fd = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, 2 * PAGE));
    char *p = (char *)MUST(mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0));
    p[0] = 'x';
    CHECK_OK(msync(p, PAGE, MS_SYNC));
    CHECK_OK(msync(p, PAGE, MS_ASYNC | MS_INVALIDATE));
    CHECK_OK(msync(p, 0, MS_SYNC));
    CHECK_ERR(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERR(msync(p, PAGE, 64), EINVAL);
    CHECK_ERR(msync(p + 1, PAGE, MS_SYNC), EINVAL);
    CHECK_OK(munmap(p + PAGE, PAGE));
    CHECK_ERR(msync(p, 2 * PAGE, MS_SYNC), ENOMEM);
}

TEST(break_) {
    char *start = (char *)syscall(SYS_brk, 0);
    CHECK(start != NULL);
    char *end = start + 5 * PAGE;
    CHECK_EQ(syscall(SYS_brk, end), end);
    start[0] = end[-1] = 1;
    CHECK_EQ(syscall(SYS_brk, start + PAGE), start + PAGE);
    CHECK_EQ(syscall(SYS_brk, end), end);
    CHECK_EQ(end[-1], 0);
    // What cannot be leaves the break where it is.
    CHECK_EQ(syscall(SYS_brk, 1), end);
    CHECK_EQ(syscall(SYS_brk, -1L), end);
    CHECK_EQ(syscall(SYS_brk, start + 10), start + 10);
    CHECK_CHILD({ CHECK_EQ(syscall(SYS_brk, 0), start + 10); });
    struct rlimit limit = {16 * PAGE, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_DATA, &limit));
    CHECK_EQ(syscall(SYS_brk, start + (64 << 20)), start + 10);
}

// Bytes that RLIMIT_DATA counts, as /proc/self/status shows them.
static long data_size(void) {
    char text[4096] = {0};
    int fd = open("/proc/self/status", O_RDONLY);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    char *line = strstr(text, "VmData:");
    CHECK(line != NULL);
    return strtol(line + 7, NULL, 10) * 1024;
}

// Each area that becomes writable counts against RLIMIT_DATA; those before the first that is too much are changed.
TEST(data_limit_of_many_areas) {
    enum { AREAS = 2000 };
    char *base = mmap(NULL, 2 * AREAS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED);
    // Every second page can be loaded from, so that no two areas are alike.
    for (int i = 0; i < AREAS; i++)
        CHECK_OK(mprotect(base + 2 * i * PAGE, PAGE, PROT_READ));
    struct rlimit limit = {data_size() + 100 * PAGE, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_DATA, &limit));
    CHECK_ERR(mprotect(base, 2 * AREAS * PAGE, PROT_READ | PROT_WRITE), ENOMEM);
    base[0] = base[99 * PAGE] = 1;
    int status = IN_CHILD({ base[100 * PAGE] = 1; });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK_EQ(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
    CHECK_OK(mprotect(base, PAGE, PROT_READ));
    CHECK_OK(mprotect(base + 200 * PAGE, PAGE, PROT_READ | PROT_WRITE));
    CHECK_ERR(mprotect(base + 202 * PAGE, PAGE, PROT_READ | PROT_WRITE), ENOMEM);
}

TEST(stack_limit) {
    int status = IN_CHILD({
        struct rlimit limit = {256 << 10, RLIM_INFINITY};
        CHECK_OK(setrlimit(RLIMIT_STACK, &limit));
        volatile char *deep = __builtin_frame_address(0);
        for (size_t at = 0; at < 1 << 20; at += PAGE)
            deep[-at] = 1;
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}
