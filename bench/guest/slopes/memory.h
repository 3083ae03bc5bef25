/* Areas and pages of memory. */

static void areas(long n) {
    char *memory = mmap(NULL, n * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    for (long i = 0; i < n; i++)
        check(mprotect(memory + i * 2 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    for (long i = 0; i < n; i++)
        memory[i * 2 * PAGE] = 1;
    int fd = open("/proc/self/maps", O_RDONLY);
    while (read(fd, buffer, PAGE) > 0)
        ;
    fd = open("/proc/self/smaps", O_RDONLY);
    while (read(fd, buffer, PAGE) > 0)
        ;
    for (long i = 0; i < n; i++)
        check(munmap(memory + i * 2 * PAGE, PAGE) == 0, "munmap");
}

static void locked_areas(long n) {
    char *memory = mmap(NULL, n * 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    for (long i = 0; i < n; i++)
        check(mlock2(memory + i * 2 * PAGE, PAGE, MLOCK_ONFAULT) == 0, "mlock2");
    for (long i = 0; i < n; i++)
        check(munlock(memory + i * 2 * PAGE, PAGE) == 0, "munlock");
}

/* Areas of one file, which lose their pages one by one and all at once. */
static void file_areas(long n) {
    int fd = memfd_create("file", 0);
    check(ftruncate(fd, n * 2 * PAGE) == 0, "ftruncate");
    char *memory = mmap(NULL, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    for (long i = 0; i < n; i++) {
        char *at = memory + i * PAGE;
        check(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, i * 2 * PAGE) == at, "mmap");
        *at = 1;
    }
    check(madvise(memory, n * PAGE, MADV_REMOVE) == 0, "MADV_REMOVE");
    for (long i = 0; i < n; i++)
        check(ftruncate(fd, (n * 2 - i % 2) * PAGE) == 0, "ftruncate");
    check(munmap(memory, n * PAGE) == 0, "munmap");
}

static void attachments(long n) {
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    void **all = calloc(n, sizeof *all);
    check(id >= 0 && all, "shmget");
    for (long i = 0; i < n; i++)
        check((all[i] = shmat(id, NULL, 0)) != (void *)-1, "shmat");
    for (long i = 0; i < n; i++)
        check(shmdt(all[i]) == 0, "shmdt");
    shmctl(id, IPC_RMID, NULL);
}

/* Pages of a file, every second of them a hole. */
static void page_runs(long n) {
    int fd = memfd_create("file", 0);
    for (long i = 0; i < n; i++)
        check(pwrite(fd, "x", 1, i * 2 * PAGE) == 1, "pwrite");
    char *memory = mmap(NULL, n * 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    volatile char sum = 0;
    for (long i = 0; i < n; i++)
        sum += memory[i * 2 * PAGE];
    for (long i = 0; i < n; i++)
        check(lseek(fd, i * 2 * PAGE, SEEK_DATA) >= 0, "lseek");
    for (long i = 0; i < n; i++)
        check(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * 2 * PAGE, PAGE) == 0, "fallocate");
}
