/* Files of a volume that are larger than the container's memory, changed through shared mappings. */

#define MAPPED_BYTES (256L << 20)
#define SLEEPERS 3
#define SLEEPERS_BYTES (24L << 20)

static volatile long *map_file(const char *path, long bytes) {
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    EXPECT(fd >= 0 && ftruncate(fd, bytes) == 0);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT(at != MAP_FAILED);
    close(fd);
    return at;
}

static void store(volatile long *at, long bytes) {
    for (long i = 0; i < bytes; i += 4096)
        at[i / 8] = i + 1;
}

static void expect_stored(volatile long *at, long bytes) {
    for (long i = 0; i < bytes; i += 4096)
        EXPECT(at[i / 8] == i + 1);
}

/* Stores to all of a large file while other processes sleep that have changed a common smaller one. */
static void store_to_large_file(void) {
    pid_t sleepers[SLEEPERS];
    int ready[2], go[2], status;
    char byte = 0;
    EXPECT(pipe(ready) == 0 && pipe(go) == 0);
    for (int i = 0; i < SLEEPERS; i++)
        if ((sleepers[i] = fork()) == 0) {
            volatile long *small = map_file("/volume/small", SLEEPERS_BYTES);
            store(small, SLEEPERS_BYTES);
            close(go[1]);
            EXPECT(write(ready[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 0);
            expect_stored(small, SLEEPERS_BYTES);
            _exit(0);
        }
    for (int i = 0; i < SLEEPERS; i++)
        EXPECT(read(ready[0], &byte, 1) == 1);
    volatile long *large = map_file("/volume/large", MAPPED_BYTES);
    store(large, MAPPED_BYTES);
    expect_stored(large, MAPPED_BYTES);
    close(go[1]);
    for (int i = 0; i < SLEEPERS; i++)
        EXPECT(waitpid(sleepers[i], &status, 0) == sleepers[i] && status == 0);
    puts("ready: stored");
}
