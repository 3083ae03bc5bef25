// What a guest program needs to say what Linux does.
//
//   TEST(name) { CHECK_OK(fd = open(…)); CHECK_ERR(read(-1, b, 1), EBADF); }
//
// Each TEST runs in a child process of its own, in an empty directory, so that what it does to itself does not matter to the next; with
// INLINE_TESTS defined before the include they run in this process, for programs that must not depend on fork. A failed
// check prints where it is and the values, and the rest of the test goes on. `PROGRAM NAME…` runs the named tests alone.
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK_SKIPPED 77
// Seconds one TEST may take; far more than any needs. On slow machines the variable of this name has more.
#define CHECK_ALARM 25

// Shared with the children, so that checks that fail in a grandchild count too.
static struct check_counts {
    int checks, failures, skips;
} check_local, *check_counts = &check_local;
static const char *check_name = "";

__attribute__((unused)) static int check_record(int good, const char *file, int line, const char *format, ...) {
    __atomic_add_fetch(&check_counts->checks, 1, __ATOMIC_RELAXED);
    if (good)
        return 1;
    __atomic_add_fetch(&check_counts->failures, 1, __ATOMIC_RELAXED);
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    dprintf(2, "%s:%d: %s: %s\n", file, line, check_name, text);
    return 0;
}

#define CHECK_AT(good, ...) check_record(good, __FILE__, __LINE__, __VA_ARGS__)

// True.
#define CHECK(condition) CHECK_AT(!!(condition), "not so: %s (errno %d)", #condition, errno)
// Two integers are the same; pointers may be compared as well.
#define CHECK_EQ(left, right)                                                                                         \
    ({                                                                                                                \
        long long check_left = (long long)(left), check_right = (long long)(right);                                   \
        CHECK_AT(check_left == check_right, "%s is %lld (%#llx), not %s = %lld (errno %d)", #left, check_left,        \
                 check_left, #right, check_right, errno);                                                             \
    })
// An order between two integers: CHECK_CMP(n, >=, 3).
#define CHECK_CMP(left, op, right)                                                                                    \
    ({                                                                                                                \
        long long check_left = (long long)(left), check_right = (long long)(right);                                   \
        CHECK_AT(check_left op check_right, "not so: %s %s %s (%lld, %lld)", #left, #op, #right, check_left, check_right); \
    })
// Two strings are the same.
#define CHECK_STR(left, right)                                                                                        \
    ({                                                                                                                \
        const char *check_left = (left), *check_right = (right);                                                      \
        CHECK_AT(check_left && check_right && !strcmp(check_left, check_right), "%s is \"%s\", not \"%s\"", #left,    \
                 check_left ? check_left : "(null)", check_right ? check_right : "(null)");                           \
    })
// A call succeeds; gives its value.
#define CHECK_OK(call)                                                                                                \
    ({                                                                                                                \
        errno = 0;                                                                                                    \
        long check_value = (long)(call);                                                                              \
        CHECK_AT(check_value != -1, "%s fails: %s", #call, strerrorname_np(errno));                                   \
        check_value;                                                                                                  \
    })
// A call fails with this errno.
#define CHECK_ERR(call, error)                                                                                        \
    ({                                                                                                                \
        errno = 0;                                                                                                    \
        long check_value = (long)(call);                                                                              \
        int check_errno = errno;                                                                                      \
        CHECK_AT(check_value == -1 && check_errno == (error), "%s gives %ld, %s; not %s", #call, check_value,         \
                 check_value == -1 ? strerrorname_np(check_errno) : "no error", #error);                              \
    })
// A function that returns the error itself (pthread_*, posix_*).
#define CHECK_RET(call, error)                                                                                        \
    ({                                                                                                                \
        int check_value = (call);                                                                                     \
        CHECK_AT(check_value == (error), "%s returns %s, not %s", #call, strerrorname_np(check_value), #error);       \
    })
// A call that must work for the rest of the test to make sense: gives its value or ends the test.
#define MUST(call)                                                                                                    \
    ({                                                                                                                \
        errno = 0;                                                                                                    \
        long must_value = (long)(call);                                                                               \
        if (!CHECK_AT(must_value != -1, "%s fails: %s", #call, strerrorname_np(errno)))                               \
            check_end();                                                                                              \
        must_value;                                                                                                   \
    })
// Ends the test because it cannot be done here, and says why.
#define SKIP(...)                                                                                                     \
    do {                                                                                                              \
        char skip_reason[256];                                                                                        \
        snprintf(skip_reason, sizeof skip_reason, __VA_ARGS__);                                                       \
        dprintf(2, "SKIP %s: %s\n", check_name, skip_reason);                                                         \
        __atomic_add_fetch(&check_counts->skips, 1, __ATOMIC_RELAXED);                                                \
        check_end();                                                                                                  \
    } while (0)

#define CHECK_MAX_TESTS 128
static struct check_test {
    const char *name;
    void (*run)(void);
} check_tests[CHECK_MAX_TESTS];
static int check_test_count;

#define TEST(name)                                                                                                    \
    static void test_##name(void);                                                                                    \
    __attribute__((constructor)) static void register_##name(void) {                                                  \
        if (check_test_count == CHECK_MAX_TESTS)                                                                      \
            abort();                                                                                                  \
        check_tests[check_test_count++] = (struct check_test){#name, test_##name};                                    \
    }                                                                                                                 \
    static void test_##name(void)

#ifdef INLINE_TESTS
#include <setjmp.h>
static jmp_buf check_jump;
__attribute__((noreturn, unused)) static void check_end(void) { longjmp(check_jump, 1); }
#else
__attribute__((noreturn, unused)) static void check_end(void) { _exit(0); }
#endif

// Waits until a child sleeps: in the call it is to block in, being past everything else.
__attribute__((unused)) static void until_asleep(pid_t child) {
    char path[64], line[256], state = 0;
    sprintf(path, "/proc/%d/stat", child);
    while (state != 'S') {
        usleep(5000);
        FILE *stat = fopen(path, "r");
        if (!stat)
            return;
        state = fgets(line, sizeof line, stat) ? strrchr(line, ')')[2] : 'S';
        fclose(stat);
    }
}

// Runs the statement block in a child and gives its wait status: int status = IN_CHILD({ … _exit(3); });
#define IN_CHILD(...)                                                                                                 \
    ({                                                                                                                \
        pid_t in_child = fork();                                                                                      \
        if (in_child == 0) {                                                                                          \
            __VA_ARGS__;                                                                                              \
            _exit(0);                                                                                                 \
        }                                                                                                             \
        int in_child_status = -1;                                                                                     \
        CHECK_OK(in_child);                                                                                           \
        while (waitpid(in_child, &in_child_status, 0) < 0 && errno == EINTR)                                          \
            ;                                                                                                         \
        in_child_status;                                                                                              \
    })
// The same for a child that has nothing to report but its own checks.
#define CHECK_CHILD(...)                                                                                              \
    ({                                                                                                                \
        int check_status = IN_CHILD(__VA_ARGS__);                                                                     \
        CHECK_AT(check_status == 0, "the child ends with wait status %#x", check_status);                             \
    })

// An address no program has.
#define BAD ((void *)0x10)

static int check_run(struct check_test *test) {
    int before = check_counts->failures, checks = check_counts->checks, skips = check_counts->skips;
    check_name = test->name;
#ifdef INLINE_TESTS
    if (!setjmp(check_jump))
        test->run();
#else
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        // An empty directory of its own to work in, open to every user.
        if (mkdir(test->name, 0777) || chmod(test->name, 0777) || chdir(test->name)) {
            dprintf(2, "%s: no directory to work in: %s\n", test->name, strerror(errno));
            _exit(1);
        }
        const char *more = getenv("CHECK_ALARM");
        alarm(more ? atoi(more) : CHECK_ALARM);
        test->run();
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        check_counts->failures++;
        if (WIFSIGNALED(status))
            dprintf(2, "%s: dies of signal %d%s\n", test->name, WTERMSIG(status),
                    WTERMSIG(status) == SIGALRM ? " (took too long)" : "");
        else
            dprintf(2, "%s: ends with wait status %#x, errno %d\n", test->name, status, errno);
    }
    if (child > 0)
        kill(-child, SIGKILL);
#endif
    int failed = check_counts->failures != before;
    if (failed)
        dprintf(2, "FAIL %s\n", test->name);
    else if (check_counts->checks == checks && check_counts->skips == skips)
        dprintf(2, "FAIL %s (checked nothing)\n", test->name), failed = check_counts->failures = before + 1;
    return failed;
}

static int check_main(int argc, char **argv) {
#ifndef INLINE_TESTS
    check_counts = mmap(NULL, sizeof *check_counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (check_counts == MAP_FAILED) {
        dprintf(2, "no shared memory to count in: %s\n", strerror(errno));
        return 1;
    }
#endif
    int failed = 0, ran = 0;
    for (int i = 0; i < check_test_count; i++) {
        int wanted = argc < 2;
        for (int j = 1; j < argc; j++)
            wanted |= !strcmp(argv[j], check_tests[i].name);
        if (wanted)
            failed += check_run(&check_tests[i]), ran++;
    }
    if (!ran) {
        dprintf(2, "no such test\n");
        return 1;
    }
    if (failed) {
        dprintf(2, "%d of %d tests failed\n", failed, ran);
        return 1;
    }
    if (check_counts->skips >= ran)
        return CHECK_SKIPPED;
    printf("ok %d checks\n", check_counts->checks);
    fflush(stdout);
    return 0;
}

#ifndef OWN_MAIN
int main(int argc, char **argv) {
#ifndef INLINE_TESTS
    // As the first process of a process namespace this one would be spared signals; so be its child.
    if (getpid() == 1) {
        int status;
        pid_t child = fork(), pid;
        if (child == 0)
            exit(check_main(argc, argv));
        while ((pid = wait(&status)) != child)
            if (pid < 0 && errno != EINTR)
                return 1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
#endif
    return check_main(argc, argv);
}
#endif
#endif
