// Two processes open a file of the host for writing at the same moment: what one stores through a shared mapping reaches the
// file, though the other has closed it.
// amber: -v .:/mnt -w /mnt
#include "../check.h"
#include <sched.h>

#define ROUNDS 250

static volatile int *met;

static void meet(int round) {
    __atomic_add_fetch(&met[round], 1, __ATOMIC_SEQ_CST);
    // Without a call, so that both go on at once.
    while (met[round] < 2)
        ;
}

TEST(stores_of_one_of_two_writers) {
    met = mmap(NULL, 4 * ROUNDS * sizeof *met, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char name[16], zeros[4096] = {0}, page[4096];
    for (int i = 0; i < ROUNDS; i++) {
        sprintf(name, "f%d", i);
        int fd = MUST(open(name, O_CREAT | O_RDWR, 0666));
        CHECK_EQ(write(fd, zeros, sizeof zeros), sizeof zeros);
        CHECK_OK(close(fd));
    }
    pid_t other = MUST(fork());
    for (int i = 0; i < ROUNDS; i++) {
        sprintf(name, "f%d", i);
        meet(i);
        int fd = MUST(open(name, O_RDWR));
        if (other == 0) {
            CHECK_OK(close(fd));
            met[2 * ROUNDS + i] = 1;
            continue;
        }
        // Once before the other closes the file, once after.
        if (i % 2)
            while (!met[2 * ROUNDS + i])
                sched_yield();
        char *at = mmap(NULL, sizeof page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(at != MAP_FAILED);
        while (!met[2 * ROUNDS + i])
            sched_yield();
        at[7] = 1;
        CHECK_OK(msync(at, sizeof page, MS_SYNC));
        // What the file holds is not read by way of the pages.
        CHECK_EQ(pread(fd, page, sizeof page, 0), sizeof page);
        CHECK_EQ(page[7], 1);
        CHECK_OK(munmap(at, sizeof page));
        CHECK_OK(close(fd));
    }
    if (other == 0)
        _exit(0);
    CHECK_EQ(waitpid(other, NULL, 0), other);
}
