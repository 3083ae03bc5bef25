// prctl(2), personality(2) and arch_prctl(2), option by option.
#define OWN_MAIN
#include "../check.h"
#include <asm/prctl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/uio.h>

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#define MDWE_NO_INHERIT 2
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static char self[PATH_MAX];

// Runs this program again, as `word`, which answers with its exit status.
static int again(const char *word) {
    return IN_CHILD({
        execl(self, self, word, NULL);
        _exit(127);
    });
}

TEST(unknown) {
    CHECK_ERR(prctl(0), EINVAL);
    CHECK_ERR(prctl(-1, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(17, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(1000, 0, 0, 0, 0), EINVAL);
    // Those of other processors.
    int options[] = {PR_GET_UNALIGN, PR_SET_UNALIGN, PR_GET_FPEMU, PR_SET_FPEMU, PR_GET_FPEXC, PR_SET_FPEXC, PR_GET_ENDIAN,
                     PR_SET_ENDIAN, PR_MPX_ENABLE_MANAGEMENT, PR_SET_FP_MODE, PR_GET_FP_MODE, 50, 51, 54, 60, 61};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        CHECK_ERR(prctl(options[i], 0, 0, 0, 0), EINVAL);
}

TEST(names) {
    char name[17] = "";
    CHECK_OK(prctl(PR_SET_NAME, "a name that is far too long"));
    CHECK_OK(prctl(PR_GET_NAME, name));
    CHECK_STR(name, "a name that is ");
    int fd = CHECK_OK(open("/proc/self/comm", O_RDONLY));
    char line[32] = "";
    CHECK_OK(read(fd, line, sizeof line - 1));
    CHECK_STR(line, "a name that is \n");
    CHECK_ERR(prctl(PR_SET_NAME, BAD), EFAULT);
    CHECK_ERR(prctl(PR_GET_NAME, BAD), EFAULT);
    // A name just before the end of memory is read whole.
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    memcpy(page + 4091, "edge", 5);
    CHECK_OK(prctl(PR_SET_NAME, page + 4091));
    CHECK_OK(prctl(PR_GET_NAME, name));
    CHECK_STR(name, "edge");
    memset(page + 4096 - 15, 'x', 15);
    CHECK_OK(prctl(PR_SET_NAME, page + 4096 - 15));
    memset(page + 4096 - 14, 'y', 14);
    CHECK_ERR(prctl(PR_SET_NAME, page + 4096 - 14), EFAULT);
    CHECK_OK(prctl(PR_SET_NAME, ""));
    CHECK_OK(prctl(PR_GET_NAME, name));
    CHECK_STR(name, "");
    CHECK_CHILD({
        CHECK_OK(prctl(PR_GET_NAME, name));
        CHECK_STR(name, "");
    });
}

TEST(dumpable) {
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
    CHECK_ERR(prctl(PR_SET_DUMPABLE, 2), EINVAL);
    CHECK_ERR(prctl(PR_SET_DUMPABLE, 1UL << 32), EINVAL);
    CHECK_OK(prctl(PR_SET_DUMPABLE, 0));
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK_CHILD(CHECK_EQ(prctl(PR_GET_DUMPABLE), 0));
    CHECK_EQ(WEXITSTATUS(again("dumpable")), 1);
    CHECK_CHILD({
        // Nor may its memory be read then, by processes of the same user.
        CHECK_OK(setresgid(1001, 1001, 1001));
        CHECK_OK(setresuid(1000, 1000, 1000));
        static char word[] = "word";
        char copy[sizeof word] = "";
        struct iovec to = {copy, sizeof copy}, from = {word, sizeof word};
        int dumpable;
        for (dumpable = 0; dumpable < 2; dumpable++) {
            int pipes[2];
            CHECK_OK(pipe(pipes));
            pid_t pid = MUST(fork());
            if (pid == 0) {
                prctl(PR_SET_DUMPABLE, dumpable);
                write(pipes[1], "x", 1);
                for (;;)
                    pause();
            }
            CHECK_EQ(read(pipes[0], copy, 1), 1);
            if (dumpable) {
                // An own child, in case only descendants may be looked into.
                CHECK_EQ(process_vm_readv(pid, &to, 1, &from, 1, 0), sizeof word);
                CHECK_STR(copy, "word");
            } else {
                CHECK_ERR(process_vm_readv(pid, &to, 1, &from, 1, 0), EPERM);
            }
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
    });
    struct stat st;
    CHECK_CHILD({
        // What is said of a process belongs to root while its user may not look into it.
        CHECK_OK(prctl(PR_SET_DUMPABLE, 1));
        CHECK_OK(setresgid(1001, 1001, 1001));
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
        CHECK_OK(stat("/proc/self/status", &st));
        CHECK_EQ(st.st_uid, 0);
        CHECK_OK(stat("/proc/self", &st));
        CHECK_EQ(st.st_uid, 1000);
        CHECK_OK(prctl(PR_SET_DUMPABLE, 1));
        CHECK_OK(stat("/proc/self/status", &st));
        CHECK_EQ(st.st_uid, 1000);
        CHECK_EQ(st.st_gid, 1001);
    });
}

TEST(death_signal) {
    int signal = -1;
    CHECK_OK(prctl(PR_GET_PDEATHSIG, &signal));
    CHECK_EQ(signal, 0);
    CHECK_ERR(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
    CHECK_ERR(prctl(PR_SET_PDEATHSIG, -1), EINVAL);
    CHECK_ERR(prctl(PR_SET_PDEATHSIG, 1UL << 32 | SIGTERM), EINVAL);
    CHECK_ERR(prctl(PR_GET_PDEATHSIG, BAD), EFAULT);
    CHECK_OK(prctl(PR_SET_PDEATHSIG, 64));
    CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    CHECK_OK(prctl(PR_GET_PDEATHSIG, &signal));
    CHECK_EQ(signal, SIGUSR1);
    CHECK_CHILD({
        CHECK_OK(prctl(PR_GET_PDEATHSIG, &signal));
        CHECK_EQ(signal, 0);
    });
}

TEST(death_signal_after_exec) {
    int status = IN_CHILD({
        prctl(PR_SET_PDEATHSIG, SIGUSR2);
        execl(self, self, "death-signal", NULL);
    });
    CHECK_EQ(WEXITSTATUS(status), SIGUSR2);
    // A change of user takes it away.
    CHECK_CHILD({
        int signal;
        CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
        CHECK_OK(setresuid(-1, -1, 7));
        CHECK_OK(prctl(PR_GET_PDEATHSIG, &signal));
        CHECK_EQ(signal, SIGUSR1);
        CHECK_OK(setresuid(-1, 1000, -1));
        CHECK_OK(prctl(PR_GET_PDEATHSIG, &signal));
        CHECK_EQ(signal, 0);
    });
}

static void *make_child(void *result) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        raise(SIGSTOP);
        for (;;)
            pause();
    }
    waitpid(pid, NULL, WUNTRACED);
    kill(pid, SIGCONT);
    *(pid_t *)result = pid;
    return NULL;
}

TEST(death_of_the_parent_thread) {
    // The parent is the thread that made the child: its end is what counts.
    pthread_t thread;
    pid_t pid;
    CHECK_RET(pthread_create(&thread, NULL, make_child, &pid), 0);
    pthread_join(thread, NULL);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

TEST(timing_and_counter) {
    CHECK_EQ(prctl(PR_GET_TIMING), PR_TIMING_STATISTICAL);
    CHECK_OK(prctl(PR_SET_TIMING, PR_TIMING_STATISTICAL));
    CHECK_ERR(prctl(PR_SET_TIMING, PR_TIMING_TIMESTAMP), EINVAL);
    int counter = -1;
    CHECK_OK(prctl(PR_GET_TSC, &counter));
    CHECK_EQ(counter, PR_TSC_ENABLE);
    CHECK_OK(prctl(PR_SET_TSC, PR_TSC_ENABLE));
    CHECK_ERR(prctl(PR_SET_TSC, 3), EINVAL);
    CHECK_ERR(prctl(PR_GET_TSC, BAD), EFAULT);
}

TEST(timer_slack) {
    long first = prctl(PR_GET_TIMERSLACK);
    CHECK_EQ(first, 50000);
    CHECK_OK(prctl(PR_SET_TIMERSLACK, 12345));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 12345);
    CHECK_CHILD({
        // A child's default is what its parent had.
        CHECK_EQ(prctl(PR_GET_TIMERSLACK), 12345);
        CHECK_OK(prctl(PR_SET_TIMERSLACK, 1));
        CHECK_OK(prctl(PR_SET_TIMERSLACK, 0));
        CHECK_EQ(prctl(PR_GET_TIMERSLACK), 12345);
    });
    CHECK_OK(prctl(PR_SET_TIMERSLACK, 0));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), first);
    struct sched_param one = {1}, none = {0};
    CHECK_OK(sched_setscheduler(0, SCHED_FIFO, &one));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 0);
    CHECK_OK(prctl(PR_SET_TIMERSLACK, 777));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 0);
    CHECK_OK(sched_setscheduler(0, SCHED_OTHER, &none));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), first);
}

TEST(subreaper) {
    int value = -1;
    CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
    CHECK_EQ(value, 0);
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 42));
    CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
    CHECK_EQ(value, 1);
    CHECK_ERR(prctl(PR_GET_CHILD_SUBREAPER, BAD), EFAULT);
    CHECK_CHILD({
        CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
        CHECK_EQ(value, 0);
    });
    pid_t me = getpid();
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_CHILD({
        if (fork() == 0) {
            if (fork() == 0) {
                while (getppid() != me)
                    usleep(1000);
                pid_t own = getpid();
                write(pipes[1], &own, sizeof own);
                _exit(9);
            }
            _exit(0);
        }
        wait(NULL);
    });
    pid_t orphan;
    CHECK_EQ(read(pipes[0], &orphan, sizeof orphan), sizeof orphan);
    int status;
    CHECK_EQ(waitpid(orphan, &status, 0), orphan);
    CHECK_EQ(WEXITSTATUS(status), 9);
}

TEST(no_new_privileges) {
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 1), EINVAL);
    CHECK_ERR(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0), EINVAL);
    CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    CHECK_CHILD(CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1));
    CHECK_EQ(WEXITSTATUS(again("no-new-privileges")), 1);
}

TEST(huge_pages) {
    CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
    CHECK_ERR(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 1), EINVAL);
    CHECK_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
    CHECK_CHILD(CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1));
    CHECK_EQ(WEXITSTATUS(again("huge-pages")), 1);
    CHECK_OK(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
}

TEST(memory_errors) {
    CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
    CHECK_ERR(prctl(PR_MCE_KILL_GET, 0, 0, 0, 1), EINVAL);
    CHECK_ERR(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 3, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 1, 1, 0), EINVAL);
    CHECK_ERR(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_MCE_KILL, 2, 0, 0, 0), EINVAL);
    CHECK_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
    CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY);
    CHECK_CHILD(CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY));
    CHECK_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0));
    CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_LATE);
    CHECK_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
    CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
}

TEST(auxiliary_vector) {
    unsigned long words[256] = {0};
    long size = CHECK_OK(prctl(PR_GET_AUXV, words, sizeof words, 0, 0));
    CHECK(size >= 320 && size % 16 == 0 && size <= (long)sizeof words);
    int found = 0;
    for (int i = 0; words[i]; i += 2)
        if (words[i] == AT_PAGESZ || words[i] == AT_ENTRY || words[i] == AT_RANDOM)
            found++, CHECK_EQ(words[i + 1], getauxval(words[i]));
    CHECK_EQ(found, 3);
    unsigned long part[4] = {0, 0, -1, -1};
    CHECK_EQ(prctl(PR_GET_AUXV, part, 16, 0, 0), size);
    CHECK(part[0] == words[0] && part[1] == words[1] && part[2] == -1UL);
    CHECK_EQ(prctl(PR_GET_AUXV, NULL, 0, 0, 0), size);
    CHECK_ERR(prctl(PR_GET_AUXV, BAD, 16, 0, 0), EFAULT);
    CHECK_ERR(prctl(PR_GET_AUXV, words, sizeof words, 1, 0), EINVAL);
    CHECK_ERR(prctl(PR_GET_AUXV, words, sizeof words, 0, 1), EINVAL);
}

static int has_capability(int number) { return prctl(PR_CAPBSET_READ, number) == 1; }

TEST(disk_helpers) {
    if (!has_capability(24)) {
        CHECK_ERR(prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0), EPERM);
        CHECK_ERR(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), EPERM);
    } else {
        CHECK_EQ(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 0);
        CHECK_ERR(prctl(PR_SET_IO_FLUSHER, 2, 0, 0, 0), EINVAL);
        CHECK_ERR(prctl(PR_SET_IO_FLUSHER, 1, 1, 0, 0), EINVAL);
        CHECK_ERR(prctl(PR_GET_IO_FLUSHER, 1, 0, 0, 0), EINVAL);
        CHECK_OK(prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
        CHECK_EQ(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 1);
        CHECK_OK(prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0));
    }
}

static char *page(int protection) {
    char *at = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void *fresh(int protection) { return mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

TEST(executable_memory) {
    char *data = page(PROT_READ | PROT_WRITE), *code = page(PROT_READ | PROT_EXEC), *both = page(7);
    CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 0);
    CHECK_ERR(prctl(PR_SET_MDWE, 4, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_MDWE, MDWE_NO_INHERIT, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_MDWE, 1, 1, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_GET_MDWE, 1, 0, 0, 0), EINVAL);
    CHECK_OK(prctl(PR_SET_MDWE, 0, 0, 0, 0));
    CHECK_OK(prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), PR_MDWE_REFUSE_EXEC_GAIN);
    CHECK_OK(prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0));
    CHECK_ERR(prctl(PR_SET_MDWE, 0, 0, 0, 0), EPERM);
    CHECK_ERR(prctl(PR_SET_MDWE, 3, 0, 0, 0), EPERM);
    CHECK(fresh(PROT_READ | PROT_WRITE | PROT_EXEC) == MAP_FAILED && errno == EACCES);
    CHECK(fresh(PROT_WRITE | PROT_EXEC) == MAP_FAILED && errno == EACCES);
    CHECK(fresh(PROT_READ | PROT_EXEC) != MAP_FAILED);
    CHECK(fresh(PROT_READ | PROT_WRITE) != MAP_FAILED);
    CHECK_ERR(mprotect(data, 4096, PROT_READ | PROT_EXEC), EACCES);
    CHECK_ERR(mprotect(data, 4096, PROT_EXEC), EACCES);
    CHECK_OK(mprotect(data, 4096, PROT_READ));
    CHECK_OK(mprotect(code, 4096, PROT_EXEC));
    CHECK_OK(mprotect(code, 4096, PROT_READ | PROT_EXEC));
    CHECK_ERR(mprotect(code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), EACCES);
    CHECK_ERR(mprotect(both, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), EACCES);
    CHECK_OK(mprotect(both, 4096, PROT_READ | PROT_EXEC));
    CHECK_OK(mprotect(code, 4096, PROT_READ));
    CHECK_ERR(mprotect(code, 4096, PROT_READ | PROT_EXEC), EACCES);
    CHECK_CHILD({
        CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 1);
        CHECK(fresh(7) == MAP_FAILED && errno == EACCES);
    });
    CHECK_EQ(WEXITSTATUS(again("executable-memory")), 1);
}

TEST(executable_memory_of_children) {
    CHECK_OK(prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN | MDWE_NO_INHERIT, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 3);
    CHECK(fresh(7) == MAP_FAILED && errno == EACCES);
    CHECK_CHILD({
        CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 0);
        CHECK(fresh(7) != MAP_FAILED);
    });
}

// The word behind the addresses of the area that holds `at` in /proc/self/maps.
static char *area_name(void *at, char *name) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    *name = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        sscanf(line, "%lx-%lx", &start, &end);
        if ((unsigned long)at >= start && (unsigned long)at < end)
            sscanf(line, "%*s %*s %*s %*s %*s %200[^\n]", name);
    }
    if (maps)
        fclose(maps);
    return name;
}

TEST(memory_names) {
    char name[256], *memory = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERR(prctl(PR_SET_VMA, 1, memory, 4096, "x"), EINVAL);
    if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 4096, "first") == -1 && errno == EINVAL)
        SKIP("this kernel gives memory no names");
    CHECK_STR(area_name(memory, name), "[anon:first]");
    CHECK_STR(area_name(memory + 4096, name), "");
    CHECK_OK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory + 4096, 4096, "first"));
    CHECK_STR(area_name(memory + 4096, name), "[anon:first]");
    CHECK_OK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 1, NULL));
    CHECK_STR(area_name(memory, name), "");
    CHECK_STR(area_name(memory + 4096, name), "[anon:first]");
    CHECK_CHILD(CHECK_STR(area_name(memory + 4096, name), "[anon:first]"));
    CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory + 1, 4096, "x"), EINVAL);
    CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 4096, BAD), EFAULT);
    CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, -1UL, "x"), EINVAL);
    CHECK_OK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 0, "x"));
    const char *bad[] = {"a\\b", "a[b", "a]b", "a$b", "a`b", "a\nb", "a\tb", "\x7f", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 4096, bad[i]), EINVAL);
    char longest[82];
    memset(longest, 'n', sizeof longest);
    longest[80] = 0;
    CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 4096, longest), EINVAL);
    longest[79] = 0;
    CHECK_OK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 4096, longest));
    munmap(memory + 4 * 4096, 4096);
    CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory + 3 * 4096, 3 * 4096, "around"), ENOMEM);
    CHECK_STR(area_name(memory + 3 * 4096, name), "[anon:around]");
    CHECK_STR(area_name(memory + 5 * 4096, name), "[anon:around]");
    int fd = CHECK_OK(open(self, O_RDONLY));
    char *file = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK_ERR(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, file, 4096, "x"), EBADF);
    char *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_OK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, shared, 4096, "ours"));
    CHECK_STR(area_name(shared, name), "[anon_shmem:ours]");
}

TEST(memory_map) {
    unsigned size = 0;
    CHECK_OK(prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0));
    CHECK_EQ(size, sizeof(struct prctl_mm_map));
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, BAD, 0, 0), EFAULT);
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_START_STACK, &size, 1, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_START_STACK, &size, 0, 1), EINVAL);
    struct prctl_mm_map map = {.exe_fd = -1};
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map - 1, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_MAP, BAD, sizeof map, 0), EFAULT);
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0), EINVAL);
    // What the system tells of the program itself, with another command line.
    const char line_of[17] = "new\0command\0line";
    char *words = memcpy(page(PROT_READ | PROT_WRITE) + 100, line_of, sizeof line_of);
    FILE *stat = fopen("/proc/self/stat", "r");
    char line[2048] = "";
    fgets(line, sizeof line, stat);
    fclose(stat);
    unsigned long field[53] = {0};
    int number = 3;
    for (char *word = strtok(strrchr(line, ')') + 1, " "); word && number < 53; word = strtok(NULL, " "))
        field[number++] = strtoul(word, NULL, 10);
    map.start_code = field[26];
    map.end_code = field[27];
    map.start_stack = field[28];
    map.start_data = field[45];
    map.end_data = field[46];
    map.start_brk = field[47];
    map.brk = (unsigned long)sbrk(0);
    map.env_start = field[50];
    map.env_end = field[51];
    map.arg_start = (unsigned long)words;
    map.arg_end = (unsigned long)words + sizeof line_of;
    CHECK_OK(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
    char text[64] = "";
    int fd = CHECK_OK(open("/proc/self/cmdline", O_RDONLY));
    CHECK_EQ(read(fd, text, sizeof text), sizeof line_of);
    CHECK(!memcmp(text, words, sizeof line_of));
    map.arg_end = map.arg_start - 1;
    CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0), EINVAL);
    if (!has_capability(24)) {
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_ARG_END, words + 4, 0, 0), EPERM);
    } else {
        CHECK_OK(prctl(PR_SET_MM, PR_SET_MM_ARG_END, words + 4, 0, 0));
        CHECK_OK(lseek(fd, 0, SEEK_SET));
        CHECK_EQ(read(fd, text, sizeof text), 4);
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_ARG_END, words - 1, 0, 0), EINVAL);
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_ARG_START, 1, 0, 0), EINVAL);
        CHECK_ERR(prctl(PR_SET_MM, 99, words, 0, 0), EINVAL);
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, -1, 0, 0), EBADF);
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, CHECK_OK(open("/", O_RDONLY)), 0, 0), EACCES);
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, CHECK_OK(open("/bin/sh", O_RDONLY)), 0, 0), EBUSY);
        unsigned long vector[] = {AT_PAGESZ, 4096, AT_NULL, 0}, found[4];
        CHECK_OK(prctl(PR_SET_MM, PR_SET_MM_AUXV, vector, sizeof vector, 0));
        CHECK_OK(prctl(PR_GET_AUXV, found, sizeof found, 0, 0));
        CHECK(!memcmp(vector, found, sizeof found));
        CHECK_ERR(prctl(PR_SET_MM, PR_SET_MM_AUXV, vector, 8192, 0), EINVAL);
    }
}

TEST(seccomp_and_speculation) {
    CHECK_ERR(prctl(PR_GET_SPECULATION_CTRL, 1000, 0, 0, 0), ENODEV);
    CHECK_ERR(prctl(PR_SET_SPECULATION_CTRL, 1000, 0, 0, 0), ENODEV);
    CHECK_ERR(prctl(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_SPECULATION_CTRL, 0, 0, 1, 0), EINVAL);
    CHECK(prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0) >= 0);
}

static int executable(void *at) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], rights[8] = "";
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char these[8];
        sscanf(line, "%lx-%lx %7s", &start, &end, these);
        if ((unsigned long)at >= start && (unsigned long)at < end)
            strcpy(rights, these);
    }
    if (maps)
        fclose(maps);
    return rights[2] == 'x';
}

TEST(persona) {
    int old = CHECK_OK(personality(0xffffffff));
    CHECK_EQ(old & 0xff, PER_LINUX);
    CHECK_EQ(personality(READ_IMPLIES_EXEC | old), old);
    CHECK_EQ(personality(0xffffffff), READ_IMPLIES_EXEC | old);
    char *readable = page(PROT_READ | PROT_WRITE), *other = page(PROT_WRITE), *none = page(PROT_NONE);
    CHECK(executable(readable));
    CHECK(!executable(other));
    CHECK(!executable(none));
    CHECK_OK(mprotect(none, 4096, PROT_READ));
    CHECK(executable(none));
    CHECK_OK(mprotect(none, 4096, PROT_WRITE));
    CHECK(!executable(none));
    CHECK_EQ(personality(old), READ_IMPLIES_EXEC | old);
    CHECK_OK(mprotect(readable, 4096, PROT_READ));
    CHECK(!executable(readable));
    CHECK_CHILD({
        // It is for programs that know nothing of it: a 64-bit one begins without.
        personality(READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | UNAME26);
        CHECK_EQ(WEXITSTATUS(again("personality")), 6);
    });
}

TEST(without_randomness) {
    // With ADDR_NO_RANDOMIZE a program's stack is where it was the time before.
    CHECK_OK(personality(ADDR_NO_RANDOMIZE));
    unsigned long seen[2];
    for (int i = 0; i < 2; i++) {
        int pipes[2];
        CHECK_OK(pipe(pipes));
        CHECK_CHILD({
            dup2(pipes[1], 1);
            execl(self, self, "stack", NULL);
        });
        CHECK_EQ(read(pipes[0], &seen[i], sizeof *seen), sizeof *seen);
    }
    CHECK_EQ(seen[0], seen[1]);
}

TEST(segments) {
    unsigned long old, now;
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &old));
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x12345000));
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &now));
    CHECK_EQ(now, 0x12345000);
    CHECK_ERR(syscall(SYS_arch_prctl, ARCH_SET_GS, 1UL << 63), EPERM);
    CHECK_ERR(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x7ffffffff000), EPERM);
    CHECK_ERR(syscall(SYS_arch_prctl, ARCH_SET_FS, -1UL), EPERM);
    CHECK_ERR(syscall(SYS_arch_prctl, ARCH_GET_FS, BAD), EFAULT);
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &now));
    CHECK_EQ(now, (unsigned long)pthread_self());
    CHECK_ERR(syscall(SYS_arch_prctl, 0, 0), EINVAL);
    CHECK_ERR(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
    unsigned char *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data[5] = 77;
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, data));
    unsigned char byte;
    __asm__ volatile("movb %%gs:5, %0" : "=r"(byte));
    CHECK_EQ(byte, 77);
    CHECK_CHILD({
        __asm__ volatile("movb %%gs:5, %0" : "=r"(byte));
        CHECK_EQ(byte, 77);
    });
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, old));
}

int main(int argc, char **argv) {
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    const char *word = argc == 2 ? argv[1] : "";
    int signal = 0;
    if (!strcmp(word, "dumpable"))
        return prctl(PR_GET_DUMPABLE);
    if (!strcmp(word, "death-signal"))
        return prctl(PR_GET_PDEATHSIG, &signal), signal;
    if (!strcmp(word, "no-new-privileges"))
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    if (!strcmp(word, "huge-pages"))
        return prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    if (!strcmp(word, "executable-memory"))
        return prctl(PR_GET_MDWE, 0, 0, 0, 0);
    if (!strcmp(word, "personality"))
        return personality(0xffffffff) >> 16;
    if (!strcmp(word, "stack"))
        return write(1, &argv, sizeof argv) != sizeof argv;
    return check_main(argc, argv);
}
