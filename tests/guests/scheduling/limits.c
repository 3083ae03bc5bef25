// Resource limits: who may set whose, and what each of them holds back.
#include "../check.h"
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

static int prlimit_raw(pid_t pid, int resource, const struct rlimit *new, struct rlimit *old) {
    return syscall(SYS_prlimit64, pid, resource, new, old);
}

static void limit(int resource, rlim_t soft) {
    struct rlimit both;
    CHECK_OK(getrlimit(resource, &both));
    both.rlim_cur = soft;
    CHECK_OK(setrlimit(resource, &both));
}

static pid_t sleeper(int uid) {
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        setresgid(uid, uid, uid);
        setresuid(uid, uid, uid);
        write(pipes[1], "x", 1);
        for (;;)
            pause();
    }
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    close(pipes[0]);
    close(pipes[1]);
    return pid;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(arguments) {
    struct rlimit both, old;
    CHECK_ERR(getrlimit(16, &both), EINVAL);
    CHECK_ERR(getrlimit(-1, &both), EINVAL);
    CHECK_ERR(syscall(SYS_getrlimit, RLIMIT_NOFILE, BAD), EFAULT);
    CHECK_ERR(syscall(SYS_setrlimit, RLIMIT_NOFILE, BAD), EFAULT);
    both = (struct rlimit){10, 5};
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &both), EINVAL);
    CHECK_ERR(syscall(SYS_setrlimit, 16, &both), EINVAL);
    both = (struct rlimit){1 << 30, 1 << 30};
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &both), EPERM);
    CHECK_ERR(prlimit_raw(0, 16, NULL, &old), EINVAL);
    CHECK_ERR(prlimit_raw(1 << 22, 0, NULL, &old), ESRCH);
    CHECK_ERR(prlimit_raw(-1, 0, NULL, &old), ESRCH);
    CHECK_ERR(prlimit_raw(0, 0, BAD, NULL), EFAULT);
    CHECK_ERR(prlimit_raw(0, 0, NULL, BAD), EFAULT);
    CHECK_OK(prlimit_raw(0, RLIMIT_CORE, NULL, NULL));
    both = (struct rlimit){5, 50};
    CHECK_OK(prlimit_raw(0, RLIMIT_CORE, &both, &old));
    both = (struct rlimit){6, 40};
    CHECK_OK(prlimit_raw(getpid(), RLIMIT_CORE, &both, &old));
    CHECK(old.rlim_cur == 5 && old.rlim_max == 50);
    CHECK_CHILD({
        CHECK_OK(getrlimit(RLIMIT_CORE, &both));
        CHECK(both.rlim_cur == 6 && both.rlim_max == 40);
        CHECK_OK(setresuid(1000, 1000, 1000));
        both = (struct rlimit){6, 41};
        CHECK_ERR(setrlimit(RLIMIT_CORE, &both), EPERM);
        both = (struct rlimit){40, 40};
        CHECK_OK(setrlimit(RLIMIT_CORE, &both));
    });
}

static void *lower(void *unused) {
    (void)unused;
    struct rlimit both = {77, 88};
    CHECK_OK(setrlimit(RLIMIT_CORE, &both));
    return NULL;
}

TEST(of_the_whole_process) {
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, lower, NULL), 0);
    pthread_join(thread, NULL);
    struct rlimit both;
    CHECK_OK(getrlimit(RLIMIT_CORE, &both));
    CHECK(both.rlim_cur == 77 && both.rlim_max == 88);
}

TEST(of_others) {
    pid_t same = sleeper(1000), other = sleeper(1001);
    CHECK_CHILD({
        CHECK_OK(setresgid(1000, 1000, 1000));
        CHECK_OK(setresuid(1000, 1000, 1000));
        struct rlimit old;
        struct rlimit new = {1, 1};
        CHECK_OK(prlimit_raw(same, RLIMIT_CORE, NULL, &old));
        CHECK_OK(prlimit_raw(same, RLIMIT_CORE, &new, NULL));
        CHECK_OK(prlimit_raw(same, RLIMIT_CORE, NULL, &old));
        CHECK_EQ(old.rlim_max, 1);
        CHECK_ERR(prlimit_raw(other, RLIMIT_CORE, NULL, &old), EPERM);
        CHECK_ERR(prlimit_raw(other, RLIMIT_CORE, &new, NULL), EPERM);
        CHECK_ERR(prlimit_raw(getppid(), RLIMIT_CORE, NULL, &old), EPERM);
        // The resource is looked at first.
        CHECK_ERR(prlimit_raw(other, 16, NULL, &old), EPERM);
    });
    end(same);
    end(other);
}

TEST(descriptors) {
    limit(RLIMIT_NOFILE, 20);
    CHECK_ERR(dup2(0, 20), EBADF);
    CHECK_OK(dup2(0, 19));
    CHECK_ERR(fcntl(0, F_DUPFD, 20), EINVAL);
    CHECK_ERR(fcntl(0, F_DUPFD, 19), EMFILE);
    int fd, highest = 0;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        highest = fd;
    CHECK_EQ(errno, EMFILE);
    CHECK_EQ(highest, 18);
    int pipes[2];
    CHECK_ERR(pipe(pipes), EMFILE);
    close(18);
    CHECK_ERR(pipe(pipes), EMFILE);
    CHECK_EQ(open("/dev/null", O_RDONLY), 18);
    // What is open above a lower limit stays so.
    limit(RLIMIT_NOFILE, 5);
    CHECK_OK(fcntl(19, F_GETFD));
    CHECK_ERR(dup(0), EMFILE);
}

static volatile int caught;
static void catch(int signal) { caught = signal; }

TEST(file_size) {
    signal(SIGXFSZ, catch);
    limit(RLIMIT_FSIZE, 1000);
    int fd = CHECK_OK(open("file", O_CREAT | O_RDWR, 0600));
    char text[600] = {0};
    CHECK_EQ(write(fd, text, 600), 600);
    CHECK_EQ(write(fd, text, 600), 400);
    CHECK_EQ(caught, 0);
    CHECK_ERR(write(fd, text, 1), EFBIG);
    CHECK_EQ(caught, SIGXFSZ);
    caught = 0;
    CHECK_ERR(ftruncate(fd, 1001), EFBIG);
    CHECK_EQ(caught, SIGXFSZ);
    CHECK_OK(ftruncate(fd, 1000));
    CHECK_ERR(posix_fallocate(fd, 0, 2000) ? (errno = EFBIG, -1) : 0, EFBIG);
    CHECK_EQ(pwrite(fd, text, 10, 990), 10);
    CHECK_EQ(pwrite(fd, text, 0, 2000), 0);
    CHECK_EQ(pwrite(fd, text, 100, 950), 50);
    // No limit for pipes.
    int pipes[2];
    CHECK_OK(pipe(pipes));
    limit(RLIMIT_FSIZE, 0);
    CHECK_EQ(write(pipes[1], text, 10), 10);
    int status = IN_CHILD({
        signal(SIGXFSZ, SIG_DFL);
        limit(RLIMIT_CORE, 0);
        write(fd, text, 10);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
}

TEST(address_space) {
    limit(RLIMIT_AS, 256 << 20);
    CHECK(mmap(NULL, 300 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    char *some = mmap(NULL, 100 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(some != MAP_FAILED);
    CHECK(mremap(some, 100 << 20, 300 << 20, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
    CHECK_ERR((long)sbrk(300 << 20), ENOMEM);
    // Replacing what is there takes no more.
    CHECK(mmap(some, 100 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == some);
    CHECK_CHILD(CHECK(mmap(NULL, 300 << 20, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED));
}

TEST(data) {
    limit(RLIMIT_DATA, 64 << 20);
    int rw = PROT_READ | PROT_WRITE;
    CHECK(mmap(NULL, 100 << 20, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    CHECK(mmap(NULL, 100 << 20, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    char *some = mmap(NULL, 100 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(some != MAP_FAILED);
    CHECK_ERR(mprotect(some, 100 << 20, rw), ENOMEM);
    CHECK_OK(mprotect(some, 10 << 20, rw));
    CHECK_ERR((long)sbrk(100 << 20), ENOMEM);
}

TEST(locked_memory) {
    char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    limit(RLIMIT_MEMLOCK, 8192);
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_OK(mlock(memory, 8192));
        CHECK_ERR(mlock(memory, 12288), ENOMEM);
        CHECK_ERR(mlock(memory + 65536, 4096), ENOMEM);
        CHECK_OK(munlock(memory, 4096));
        CHECK_OK(mlock(memory + 65536, 4096));
        CHECK(mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED && errno == EAGAIN);
        CHECK_ERR(mlockall(MCL_CURRENT), ENOMEM);
        limit(RLIMIT_MEMLOCK, 0);
        CHECK_ERR(mlock(memory, 4096), EPERM);
        CHECK_ERR(mlockall(MCL_FUTURE), EPERM);
    });
    CHECK_OK(mlock(memory, 1 << 20));
}

static int depth(int levels) {
    volatile char room[4096];
    room[0] = levels;
    return levels == 0 ? room[0] : depth(levels - 1) + room[0];
}

TEST(stack) {
    int status = IN_CHILD({
        limit(RLIMIT_CORE, 0);
        limit(RLIMIT_STACK, 256 << 10);
        depth(128);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = IN_CHILD({
        limit(RLIMIT_STACK, 4 << 20);
        depth(512);
    });
    CHECK_EQ(status, 0);
}

TEST(core) {
    // Whether the status tells of a dump depends on the limit, among other things.
    int status = IN_CHILD({
        limit(RLIMIT_CORE, 0);
        abort();
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (WCOREDUMP(status)) {
        // A program takes dumps here, whatever the limit.
        char pattern[2] = "";
        int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
        CHECK(read(fd, pattern, 1) == 1 && pattern[0] == '|');
    }
}

TEST(queued_signals) {
    CHECK_CHILD({
        CHECK_OK(setresuid(4600, 4600, 4600));
        limit(RLIMIT_SIGPENDING, 3);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        union sigval value = {0};
        for (int i = 0; i < 3; i++)
            CHECK_OK(sigqueue(getpid(), SIGRTMIN, value));
        CHECK_ERR(sigqueue(getpid(), SIGRTMIN, value), EAGAIN);
        // kill(2) is never refused: the signal comes, its words may not.
        CHECK_OK(kill(getpid(), SIGRTMIN));
        CHECK_OK(kill(getpid(), SIGUSR1));
        siginfo_t info;
        CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
        CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
        CHECK_OK(sigqueue(getpid(), SIGRTMIN, value));
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        CHECK_ERR(timer_create(CLOCK_MONOTONIC, &event, &timer), EAGAIN);
    });
}

TEST(message_queues) {
    CHECK_CHILD({
        CHECK_OK(setresuid(4601, 4601, 4601));
        limit(RLIMIT_MSGQUEUE, 20000);
        struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 4096};
        mqd_t queue = mq_open("/first-of-limits", O_CREAT | O_RDWR, 0600, &attr);
        CHECK(queue >= 0);
        CHECK_ERR(mq_open("/second-of-limits", O_CREAT | O_RDWR, 0600, &attr), EMFILE);
        CHECK_OK(mq_unlink("/first-of-limits"));
        CHECK_OK(mq_close(queue));
        queue = mq_open("/second-of-limits", O_CREAT | O_RDWR, 0600, &attr);
        CHECK(queue >= 0);
        CHECK_OK(mq_unlink("/second-of-limits"));
    });
}

TEST(processes) {
    CHECK_CHILD({
        CHECK_OK(setresuid(4602, 4602, 4602));
        limit(RLIMIT_NPROC, 3);
        pid_t pids[2];
        for (int i = 0; i < 2; i++)
            if ((pids[i] = MUST(fork())) == 0)
                for (;;)
                    pause();
        CHECK_ERR(fork(), EAGAIN);
        pthread_t thread;
        CHECK_RET(pthread_create(&thread, NULL, lower, NULL), EAGAIN);
        // A zombie counts until it is waited for.
        kill(pids[0], SIGKILL);
        siginfo_t info;
        CHECK_OK(waitid(P_PID, pids[0], &info, WEXITED | WNOWAIT));
        CHECK_ERR(fork(), EAGAIN);
        CHECK_EQ(waitpid(pids[0], NULL, 0), pids[0]);
        CHECK_CHILD((void)0);
        for (int i = 0; i < 50; i++)
            CHECK_CHILD((void)0);
        for (int i = 0; i < 50; i++) {
            CHECK_RET(pthread_create(&thread, NULL, lower, NULL), 0);
            CHECK_RET(pthread_join(thread, NULL), 0);
            // The thread's number is free a little after it can be joined.
            for (int tries = 0; tries < 1000 && access("/proc/self/task", F_OK) == 0; tries++) {
                struct stat st;
                if (stat("/proc/self/task", &st) == 0 && st.st_nlink == 3)
                    break;
                usleep(1000);
            }
        }
        end(pids[1]);
    });
}

static volatile int warnings;
static void warn(int signal) { warnings += signal == SIGXCPU; }

TEST(processor_time) {
    // SIGXCPU at the soft limit and each second of work after it, SIGKILL at the hard one. Others may have the processor meanwhile.
    alarm(50);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    int status = IN_CHILD({
        // Far enough apart for the handler to run in between, where processor time counts by the clock.
        struct rlimit both = {1, 4};
        CHECK_OK(setrlimit(RLIMIT_CPU, &both));
        signal(SIGXCPU, warn);
        while (!warnings)
            ;
        struct timespec used;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        write(pipes[1], &used, sizeof used);
        for (;;)
            ;
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(pipes[1]);
    struct timespec used = {0};
    CHECK_EQ(read(pipes[0], &used, sizeof used), sizeof used);
    long milliseconds = used.tv_sec * 1000 + used.tv_nsec / 1000000;
    // Linux counts whole ticks towards the limit, of which a busy machine may have given but a part, so the clock need not agree.
    CHECK_CMP(milliseconds, >=, 500);
    CHECK_CMP(milliseconds, <, 3000);
    status = IN_CHILD({
        limit(RLIMIT_CORE, 0);
        limit(RLIMIT_CPU, 1);
        for (;;)
            ;
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU);
    // Waiting costs nothing.
    CHECK_CHILD({
        limit(RLIMIT_CPU, 1);
        usleep(1500000);
    });
}
