// /proc/self/maps and smaps tell the truth.
#include "../check.h"

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)

struct area {
    unsigned long start, end, offset, ino;
    char perms[5], path[512];
};

// The line of maps that covers `at`.
static int find(const void *at, struct area *area) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    int found = 0;
    while (!found && maps && fgets(line, sizeof line, maps)) {
        area->path[0] = 0;
        int fields = sscanf(line, "%lx-%lx %4s %lx %*x:%*x %lu %511[^\n]", &area->start, &area->end, area->perms,
                            &area->offset, &area->ino, area->path);
        CHECK_CMP(fields, >=, 5);
        found = (unsigned long)at >= area->start && (unsigned long)at < area->end;
    }
    if (maps)
        fclose(maps);
    return found;
}

static long smaps(const void *at, const char *field) {
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[1024];
    int inside = 0;
    long value = -1;
    while (file && fgets(line, sizeof line, file)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = (unsigned long)at >= start && (unsigned long)at < end;
        else if (inside && !strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
            value = atol(line + strlen(field) + 1);
    }
    if (file)
        fclose(file);
    return value;
}

TEST(anonymous) {
    char *p = (char *)MUST(mmap(NULL, 5 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK_OK(mprotect(p + PAGE, 3 * PAGE, RW));
    CHECK_OK(mprotect(p + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC));
    struct area area;
    CHECK(find(p + PAGE, &area));
    CHECK_EQ(area.start, p + PAGE);
    CHECK_EQ(area.end, p + 2 * PAGE);
    CHECK_STR(area.perms, "rw-p");
    CHECK_EQ(area.offset, 0);
    CHECK_EQ(area.ino, 0);
    CHECK_STR(area.path, "");
    CHECK(find(p + 2 * PAGE, &area));
    CHECK_STR(area.perms, "r-xp");
    CHECK(find(p, &area));
    CHECK_STR(area.perms, "---p");
    // Neighbours that become alike are one again.
    CHECK_OK(mprotect(p + PAGE, 3 * PAGE, RW));
    CHECK(find(p + 2 * PAGE, &area));
    CHECK_EQ(area.start, p + PAGE);
    CHECK_EQ(area.end, p + 4 * PAGE);
    CHECK_OK(munmap(p, 5 * PAGE));
    CHECK(!find(p, &area));
}

TEST(files) {
    int fd = MUST(open("the file", O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, 4 * PAGE));
    char *p = (char *)MUST(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, PAGE));
    struct area area;
    struct stat st;
    char path[PATH_MAX + 16];
    CHECK_OK(fstat(fd, &st));
    CHECK(getcwd(path, PATH_MAX) != NULL);
    strcat(path, "/the file");
    CHECK(find(p, &area));
    CHECK_STR(area.perms, "r--s");
    CHECK_EQ(area.offset, PAGE);
    CHECK_EQ(area.ino, st.st_ino);
    CHECK_STR(area.path, path);
    CHECK_OK(unlink("the file"));
    strcat(path, " (deleted)");
    CHECK(find(p, &area));
    CHECK_STR(area.path, path);
}

TEST(special_areas) {
    struct area area;
    int local;
    CHECK(find(&local, &area));
    CHECK_STR(area.path, "[stack]");
    CHECK_STR(area.perms, "rw-p");
    char *heap = (char *)syscall(SYS_brk, 0);
    syscall(SYS_brk, heap + PAGE);
    CHECK(find(heap, &area));
    CHECK_STR(area.path, "[heap]");
    CHECK(find((void *)find, &area));
    CHECK_STR(area.perms, "r-xp");
    char exe[512] = "";
    CHECK_CMP(readlink("/proc/self/exe", exe, 511), >, 0);
    CHECK_STR(area.path, exe);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    int vdso = 0;
    unsigned long last = 0, start, end;
    while (fgets(line, sizeof line, maps)) {
        if (strstr(line, "[vsyscall]"))
            continue;
        vdso += strstr(line, "[vdso]") != NULL;
        CHECK_EQ(sscanf(line, "%lx-%lx", &start, &end), 2);
        CHECK_CMP(start, <, end);
        CHECK_CMP(last, <=, start);
        last = end;
    }
    CHECK_EQ(vdso, 1);
}

TEST(sizes) {
    char *p = (char *)MUST(mmap(NULL, 64 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK_OK(mprotect(p, 64 * PAGE, PROT_READ));
    CHECK_OK(mprotect(p, 64 * PAGE, RW | PROT_EXEC));
    madvise(p, 64 * PAGE, MADV_NOHUGEPAGE);
    CHECK_EQ(smaps(p, "Size"), 256);
    CHECK_EQ(smaps(p, "Rss"), 0);
    memset(p, 1, 8 * PAGE);
    CHECK_CMP(smaps(p, "Rss"), >=, 32);
    CHECK_CMP(smaps(p, "Rss"), <=, 256);
    CHECK_EQ(smaps(p, "KernelPageSize"), 4);
    CHECK_OK(madvise(p, 64 * PAGE, MADV_DONTNEED));
    CHECK_EQ(smaps(p, "Rss"), 0);
}

TEST(memory_file) {
    char text[] = "in memory", back[sizeof text] = "";
    int fd = MUST(open("/proc/self/mem", O_RDWR));
    CHECK_EQ(pread(fd, back, sizeof back, (uintptr_t)text), sizeof back);
    CHECK_STR(back, "in memory");
    CHECK_EQ(pwrite(fd, "IN", 2, (uintptr_t)text), 2);
    CHECK_STR(text, "IN memory");
    CHECK_ERR(pread(fd, back, 1, 0x10), EIO);
}

TEST(remote_memory) {
    volatile int value = 5;
    int back = 0;
    struct iovec {
        void *base;
        size_t length;
    } local = {&back, sizeof back}, remote = {(void *)&value, sizeof value}, bad = {BAD, 4};
    CHECK_EQ(syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0), sizeof back);
    CHECK_EQ(back, 5);
    back = 6;
    CHECK_EQ(syscall(SYS_process_vm_writev, getpid(), &local, 1, &remote, 1, 0), sizeof back);
    CHECK_EQ(value, 6);
    CHECK_ERR(syscall(SYS_process_vm_readv, getpid(), &local, 1, &bad, 1, 0), EFAULT);
    CHECK_ERR(syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 1), EINVAL);
    CHECK_ERR(syscall(SYS_process_vm_readv, 1 << 22, &local, 1, &remote, 1, 0), ESRCH);
}
