/* Measures what the kernel below costs. Prints one line an operation: name, a tab, nanoseconds for one operation.
 *
 *   micro all MILLISECONDS   every operation, each for about that long
 *   micro count NAME N       one operation, N times and no more
 *   micro time CMD ARGS...   one command, from fork to wait
 *   micro idle MILLISECONDS  does nothing
 *   micro nothing            ends at once
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define CHUNK 65536

static char self[4096];
static int file;
static char buffer[CHUNK];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void check(int good, const char *what) {
    if (!good)
        err(1, "%s", what);
}

/* Each operation does its work n times and returns the nanoseconds that took. */

static double op_getpid(long n) {
    double start = now();
    while (n--)
        syscall(SYS_getpid);
    return now() - start;
}

static double op_ids(long n) {
    double start = now();
    while (n--)
        syscall(SYS_gettid), syscall(SYS_getuid);
    return now() - start;
}

static double op_clock_gettime(long n) {
    struct timespec t;
    double start = now();
    while (n--)
        clock_gettime(CLOCK_MONOTONIC, &t);
    return now() - start;
}

static double op_getcpu(long n) {
    unsigned cpu;
    double start = now();
    while (n--)
        check(getcpu(&cpu, NULL) == 0, "getcpu");
    return now() - start;
}

static double op_sched_yield(long n) {
    double start = now();
    while (n--)
        sched_yield();
    return now() - start;
}

static double reads(long n, size_t size) {
    double start = now();
    while (n--)
        check(pread(file, buffer, size, 0) == (ssize_t)size, "pread");
    return now() - start;
}

static double writes(long n, size_t size) {
    double start = now();
    while (n--)
        check(pwrite(file, buffer, size, 0) == (ssize_t)size, "pwrite");
    return now() - start;
}

static double op_read_1(long n) { return reads(n, 1); }
static double op_read_64k(long n) { return reads(n, CHUNK); }
static double op_write_1(long n) { return writes(n, 1); }
static double op_write_64k(long n) { return writes(n, CHUNK); }

static double op_open_close(long n) {
    double start = now();
    while (n--) {
        int fd = open(self, O_RDONLY);
        check(fd >= 0, "open");
        close(fd);
    }
    return now() - start;
}

static double op_stat(long n) {
    struct stat st;
    double start = now();
    while (n--)
        check(stat(self, &st) == 0, "stat");
    return now() - start;
}

static char *map(size_t size) {
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED, "mmap");
    return p;
}

static double op_mmap_touch(long n) {
    double start = now();
    while (n--) {
        char *p = map(CHUNK);
        for (size_t i = 0; i < CHUNK; i += PAGE)
            p[i] = 1;
        munmap(p, CHUNK);
    }
    return now() - start;
}

/* Touches every 32nd page, so that no kernel brings the next one along, and no huge pages. */
static double op_page_fault(long n) {
    const long batch = 256, stride = 32 * PAGE;
    double total = 0;
    while (n > 0) {
        long count = n < batch ? n : batch;
        char *p = map(batch * stride);
        madvise(p, batch * stride, MADV_NOHUGEPAGE);
        double start = now();
        for (long i = 0; i < count; i++)
            p[i * stride] = 1;
        total += now() - start;
        munmap(p, batch * stride);
        n -= count;
    }
    return total;
}

static _Atomic int turn;
static long rounds;

static void pass(int mine, int theirs) {
    while (atomic_load(&turn) != mine)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, theirs, NULL, NULL, 0);
    atomic_store(&turn, theirs);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *partner(void *unused) {
    (void)unused;
    for (long i = 0; i < rounds; i++)
        pass(1, 0);
    return NULL;
}

static double op_futex_ping_pong(long n) {
    pthread_t thread;
    turn = 0;
    rounds = n;
    check(pthread_create(&thread, NULL, partner, NULL) == 0, "pthread_create");
    double start = now();
    for (long i = 0; i < n; i++)
        pass(0, 1);
    pthread_join(thread, NULL);
    return now() - start;
}

static double op_pipe_ping_pong(long n) {
    int there[2], back[2];
    char c = 0;
    check(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        while (n-- && read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
            ;
        _exit(0);
    }
    double start = now();
    while (n--)
        check(write(there[1], &c, 1) == 1 && read(back[0], &c, 1) == 1, "pipe");
    double took = now() - start;
    waitpid(child, NULL, 0);
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    return took;
}

static void *at_once(void *unused) { return unused; }

static double op_thread_create(long n) {
    double start = now();
    while (n--) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, at_once, NULL) == 0, "pthread_create");
        pthread_join(thread, NULL);
    }
    return now() - start;
}

static int spawn_and_wait(char *const args[]) {
    int status;
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        if (args)
            execvp(args[0], args), warn("%s", args[0]);
        _exit(args ? 127 : 0);
    }
    check(waitpid(child, &status, 0) == child, "waitpid");
    return status;
}

static double op_fork_wait(long n) {
    double start = now();
    while (n--)
        spawn_and_wait(NULL);
    return now() - start;
}

static double op_fork_exec(long n) {
    char *args[] = {self, "nothing", NULL};
    double start = now();
    while (n--)
        check(spawn_and_wait(args) == 0, "exec");
    return now() - start;
}

static const struct {
    const char *name;
    double (*run)(long n);
} operations[] = {
    {"getpid", op_getpid},
    {"gettid+getuid", op_ids},
    {"clock_gettime", op_clock_gettime},
    {"getcpu", op_getcpu},
    {"sched_yield", op_sched_yield},
    {"read 1 B", op_read_1},
    {"read 64 KiB", op_read_64k},
    {"write 1 B", op_write_1},
    {"write 64 KiB", op_write_64k},
    {"open+close", op_open_close},
    {"stat", op_stat},
    {"mmap+touch 64 KiB", op_mmap_touch},
    {"page fault", op_page_fault},
    {"futex ping-pong", op_futex_ping_pong},
    {"pipe ping-pong", op_pipe_ping_pong},
    {"thread create", op_thread_create},
    {"fork+wait", op_fork_wait},
    {"fork+exec", op_fork_exec},
};

#define OPERATIONS (sizeof operations / sizeof *operations)

static void make_file(void) {
    char name[] = "/tmp/amber-bench-XXXXXX";
    file = mkstemp(name);
    check(file >= 0, "/tmp");
    unlink(name);
    check(write(file, buffer, CHUNK) == CHUNK, "write");
}

static void do_one(const char *name, long n) {
    make_file();
    /* A kernel that has just started may have to learn the speed of the clock before it lets programs read it. */
    usleep(50000);
    now();
    for (size_t i = 0; i < OPERATIONS; i++) {
        if (strcmp(operations[i].name, name) == 0) {
            operations[i].run(n);
            return;
        }
    }
    errx(2, "what is the operation `%s`?", name);
}

static void measure_all(double budget) {
    make_file();
    for (size_t i = 0; i < OPERATIONS; i++) {
        /* Warm up and find how often it fits into the time: double until a quarter of it is used. */
        long n = 1;
        double took;
        while ((took = operations[i].run(n)) < budget / 4)
            n *= 2;
        n = n * (budget / took) + 1;
        printf("%s\t%.1f\n", operations[i].name, operations[i].run(n) / n);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    if (argc < 2)
        errx(2, "what shall be measured?");
    if (strcmp(argv[1], "nothing") == 0)
        return 0;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    check(length > 0, "/proc/self/exe");
    if (strcmp(argv[1], "all") == 0 && argc == 3) {
        measure_all(atof(argv[2]) * 1e6);
    } else if (strcmp(argv[1], "count") == 0 && argc == 4) {
        do_one(argv[2], atol(argv[3]));
    } else if (strcmp(argv[1], "idle") == 0 && argc == 3) {
        usleep(atol(argv[2]) * 1000);
    } else if (strcmp(argv[1], "time") == 0 && argc > 2) {
        double start = now();
        int status = spawn_and_wait(argv + 2);
        double took = now() - start;
        if (status != 0)
            errx(1, "%s: wait status %#x", argv[2], status);
        printf("time\t%.1f\n", took);
    } else {
        errx(2, "what is `%s`?", argv[1]);
    }
    return 0;
}
