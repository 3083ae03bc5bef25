// amber: --env FUZZ=everything
// Every system call with arguments nobody would pass. A kernel may answer anything of its own; it may not break down,
// write where it was not told to, or leak an errno that is none.
//
// Natively only calls that cannot change the host are made. FUZZ_SEED and FUZZ_ROUNDS choose other, and more, cases;
// FUZZ_CALL makes one call only; FUZZ_LOG=1 prints each call before it is made.
#include "../check.h"
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#define LAST_CALL 480
#define CALLS_A_CHILD 120
#define PAGE 4096ul
// Errno values end here; beyond are those a kernel keeps to itself.
#define LAST_ERRNO 133

typedef unsigned long word;

static word state;

static word next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dul;
}

static word below(word n) { return (next() >> 11) % n; }

static word setting(const char *name, word otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

// What the child did last, for the report of what killed or hung it.
static struct diary {
    word nr, arguments[6], count;
} *diary;

// ── What is passed ───────────────────────────────────────────────────────────────────────────────

static char *arena; // four pages: writable, read-only, writable, then nothing
static int fds[40], fd_count;

static void keep(int fd) {
    if (fd >= 0 && fd_count < 40)
        fds[fd_count++] = fd;
}

static void open_everything(void) {
    int pair[2];
    if (!pipe2(pair, O_NONBLOCK))
        keep(pair[0]), keep(pair[1]);
    if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
        keep(pair[0]), keep(pair[1]);
    if (!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
        keep(pair[0]), keep(pair[1]);
    keep(open("file", O_RDWR | O_CREAT, 0600));
    keep(open("file", O_RDONLY));
    keep(open(".", O_RDONLY | O_DIRECTORY));
    keep(open("file", O_PATH));
    keep(open("/dev/null", O_RDWR));
    keep(open("/dev/zero", O_RDWR));
    keep(open("/proc/self/stat", O_RDONLY));
    keep(open("/proc/self/maps", O_RDONLY));
    keep(open("/proc", O_RDONLY));
    keep(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    keep(socket(AF_INET, SOCK_DGRAM, 0));
    keep(socket(AF_INET6, SOCK_STREAM, 0));
    keep(socket(AF_NETLINK, SOCK_RAW, 0));
    keep(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    keep(eventfd(3, EFD_NONBLOCK));
    keep(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    keep(epoll_create1(0));
    keep(inotify_init1(IN_NONBLOCK));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    keep(signalfd(-1, &set, SFD_NONBLOCK));
    keep(memfd_create("memory", MFD_ALLOW_SEALING));
    keep(syscall(SYS_pidfd_open, getpid(), 0));
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    keep(master);
    if (master >= 0 && !grantpt(master) && !unlockpt(master))
        keep(open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK));
    keep(syscall(SYS_mq_open, "fuzz", O_RDWR | O_CREAT | O_NONBLOCK, 0600, NULL));
}

static word number(void) {
    static const word some[] = {0, 1, 2, 3, 4, 7, 8, 16, 24, 32, 63, 64, 65, 100, 128, 255, 256, 512, 1024, 4095, 4096,
                                4097, 8192, 65535, 65536, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
                                0x7fffffffffffffff, 0x8000000000000000, -1ul, -2ul, -4095ul, -4096ul, -100ul, 1000000000};
    switch (below(4)) {
    case 0:
        return 1ul << below(64);
    case 1:
        return (1ul << below(32)) | (1ul << below(32));
    default:
        return some[below(sizeof some / sizeof *some)];
    }
}

static word pointer(void) {
    switch (below(16)) {
    case 0:
        return 0;
    case 1:
        return 1 + below(64);
    case 2: // the last bytes before nothing
        return (word)arena + 3 * PAGE - below(64);
    case 3: // read only
        return (word)arena + PAGE + below(PAGE);
    case 4:
        return (word)arena + 2 * PAGE - below(16);
    case 5:
        return 0xffff800000000000 + below(1 << 20);
    case 6:
        return 0x8000000000000000 >> below(18);
    case 7:
        return 0x7ffffffff000 - below(2 * PAGE);
    case 8:
        return -1ul - below(4096);
    case 9: // not aligned
        return ((word)arena + below(PAGE)) | 1;
    case 10: // not mapped
        return (word)arena + 3 * PAGE + below(PAGE);
    default:
        return ((word)arena + below(3) / 2 * 2 * PAGE + below(PAGE - 256)) & ~7ul;
    }
}

static word descriptor(void) {
    static const word bad[] = {-1ul, -100ul, 999, 0x7fffffff, 0x80000000, 0xffffffff, 1ul << 32, 1023, 1024};
    return below(6) && fd_count ? (word)fds[below(fd_count)] : bad[below(sizeof bad / sizeof *bad)];
}

// Fills the writable pages with what structures are made of.
static void scribble(void) {
    static const char *const names[] = {"file", ".", "..", "/", "", "directory/", "none/file", "/proc/self/fd", "/dev/null",
                                        "link", "user.name", "/proc/self/status", "file/", "//", "./././file", "tmpfs"};
    for (word page = 0; page < 3; page += 2) {
        word *words = (word *)(arena + page * PAGE);
        word density = below(4);
        for (word i = 0; i < PAGE / sizeof *words; i++) {
            word kind = below(8);
            words[i] = kind < density ? 0 : kind == 4 ? pointer() : kind == 5 ? descriptor() : kind == 6 ? next() : number();
        }
        for (int i = 0; i < 12; i++)
            strcpy(arena + page * PAGE + (below(PAGE - 256) & ~7ul), names[below(sizeof names / sizeof *names)]);
    }
}

static word argument(int index) {
    word kind = below(16);
    if (index == 0 && kind < 8)
        return descriptor();
    return kind < 9 ? pointer() : kind < 11 ? descriptor() : kind == 15 ? next() : number();
}

// ── The calls ────────────────────────────────────────────────────────────────────────────────────

static inline __attribute__((always_inline)) long raw(word nr, const word *a) {
    long result;
    register word r10 __asm__("r10") = a[3];
    register word r8 __asm__("r8") = a[4];
    register word r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result), "+r"(r10), "+r"(r8), "+r"(r9)
                     : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2])
                     : "rcx", "r11", "memory");
    return result;
}

// Calls that do nothing to a host whatever they are given, as made by a process of its own without rights.
static const short harmless[] = {
    SYS_read, SYS_write, SYS_open, SYS_close, SYS_stat, SYS_fstat, SYS_lstat, SYS_poll, SYS_lseek, SYS_mprotect,
    SYS_munmap, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_access,
    SYS_pipe, SYS_select, SYS_sched_yield, SYS_mremap, SYS_msync, SYS_mincore, SYS_madvise, SYS_dup, SYS_dup2,
    SYS_nanosleep, SYS_getitimer, SYS_getpid, SYS_sendfile, SYS_getsockname, SYS_getpeername, SYS_socketpair,
    SYS_setsockopt, SYS_getsockopt, SYS_exit, SYS_wait4, SYS_uname, SYS_fsync, SYS_getdents, SYS_getcwd, SYS_readlink,
    SYS_gettimeofday, SYS_getrlimit, SYS_getrusage, SYS_sysinfo, SYS_times, SYS_getuid, SYS_getgroups, SYS_getresuid,
    SYS_capget, SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_statfs, SYS_fstatfs,
    SYS_sched_getaffinity, SYS_getxattr, SYS_listxattr, SYS_futex, SYS_epoll_create, SYS_getdents64,
    SYS_set_tid_address, SYS_timer_create, SYS_timer_gettime, SYS_clock_gettime, SYS_clock_getres,
    SYS_clock_nanosleep, SYS_epoll_wait, SYS_epoll_ctl, SYS_waitid, SYS_inotify_init, SYS_openat, SYS_newfstatat,
    SYS_readlinkat, SYS_faccessat, SYS_pselect6, SYS_ppoll, SYS_get_robust_list, SYS_splice, SYS_tee, SYS_vmsplice,
    SYS_epoll_pwait, SYS_signalfd, SYS_timerfd_create, SYS_eventfd, SYS_timerfd_settime, SYS_timerfd_gettime,
    SYS_signalfd4, SYS_eventfd2, SYS_epoll_create1, SYS_dup3, SYS_pipe2, SYS_preadv, SYS_pwritev, SYS_getcpu,
    SYS_getrandom, SYS_memfd_create, SYS_copy_file_range, SYS_preadv2, SYS_pwritev2, SYS_statx, SYS_close_range,
    SYS_openat2, SYS_faccessat2, SYS_epoll_pwait2, SYS_prlimit64,
};

// Calls whose first arguments choose a victim: only this process, or nobody.
static void spare_others(word nr, word *a) {
    word me = getpid(), nobody = 0x3fffffff;
    switch (nr) {
    case SYS_kill:
    case SYS_tkill:
    case SYS_rt_sigqueueinfo:
    case SYS_prlimit64:
    case SYS_ptrace:
    case SYS_process_vm_readv:
    case SYS_process_vm_writev:
    case SYS_setpgid:
    case SYS_sched_setaffinity:
    case SYS_sched_setscheduler:
    case SYS_sched_setparam:
    case SYS_sched_setattr:
    case SYS_migrate_pages:
    case SYS_move_pages:
        a[nr == SYS_ptrace] = below(2) ? me : nobody;
        break;
    case SYS_tgkill:
    case SYS_rt_tgsigqueueinfo:
        a[0] = a[1] = below(2) ? me : nobody;
        break;
    case SYS_pidfd_open:
        a[0] = me;
        break;
    case SYS_fcntl:
        if (a[1] == F_SETOWN || a[1] == 15)
            a[1] = F_GETFD;
        break;
    case SYS_setpriority:
    case SYS_ioprio_set:
        a[0] = 0, a[1] = me;
        break;
    }
}

static int everything; // in Amber
static long only;

static word choose(void) {
    if (only >= 0)
        return only;
    if (!everything)
        return harmless[below(sizeof harmless / sizeof *harmless)];
    return below(40) ? below(LAST_CALL) : number();
}

static void woken(int signo) { (void)signo; }

static void limit(int resource, word value) {
    struct rlimit limit = {value, value};
    setrlimit(resource, &limit);
}

// Makes one child's calls.
static void make_calls(int privileged, int log) {
    arena = mmap((void *)0x10000000, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (arena == MAP_FAILED)
        _exit(3);
    munmap(arena + 3 * PAGE, PAGE);
    mprotect(arena + PAGE, PAGE, PROT_READ);
    open_everything();
    symlink("file", "link");
    mkdir("directory", 0700);
    limit(RLIMIT_FSIZE, 16 << 20);
    limit(RLIMIT_AS, 1 << 30);
    limit(RLIMIT_MEMLOCK, 1 << 20);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, 5);
    if (!privileged && setresuid(12345, 12345, 12345))
        _exit(3);
    struct sigaction action = {.sa_handler = woken};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval interval = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &interval, NULL);
    // Wild writes to standard output and error go nowhere.
    int null = open("/dev/null", O_RDWR), report = fcntl(2, F_DUPFD_CLOEXEC, 500);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    pid_t pid = getpid();
    for (int i = 0; i < CALLS_A_CHILD; i++) {
        scribble();
        word a[6], nr = choose();
        for (int j = 0; j < 6; j++)
            a[j] = argument(j);
        spare_others(nr, a);
        diary->nr = nr, diary->count = i;
        memcpy(diary->arguments, a, sizeof a);
        if (log)
            dprintf(report, "%d: call %ld(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", pid, (long)nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        long result = raw(nr, a);
        // A child or thread that a call made goes at once.
        static const word zero[6];
        if (raw(SYS_getpid, zero) != pid || raw(SYS_gettid, zero) != pid)
            raw(SYS_exit, zero);
        // The slack of timers is told as it is, however much it looks like an errno.
        int slack = nr == SYS_prctl && (int)a[0] == PR_GET_TIMERSLACK;
        int told = result >= 0 || result < -4095 || result >= -LAST_ERRNO || slack;
        if (!told)
            dprintf(report, "call %ld(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx) gives errno %ld\n", (long)nr, a[0], a[1], a[2],
                    a[3], a[4], a[5], -result);
        CHECK_AT(told, "an errno that is none");
    }
}

// Waits for the child for so long; false if it has not ended then.
static int ended(pid_t child, int milliseconds) {
    for (int i = 0; i < milliseconds; i++) {
        if (waitpid(child, NULL, WNOHANG) == child)
            return 1;
        usleep(1000);
    }
    return 0;
}

TEST(wild_arguments) {
    everything = getenv("FUZZ") != NULL;
    word seed = setting("FUZZ_SEED", 1), rounds = setting("FUZZ_ROUNDS", 60);
    only = setting("FUZZ_CALL", -1);
    int log = setting("FUZZ_LOG", 0);
    diary = mmap(NULL, sizeof *diary, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST((long)diary);
    alarm(setting("FUZZ_SECONDS", 100));
    // What is left of the children comes to this process, and goes.
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    for (word round = 0; round < rounds; round++) {
        char name[32];
        snprintf(name, sizeof name, "round%lu", round);
        MUST(mkdir(name, 0777));
        MUST(chmod(name, 0777));
        pid_t child = MUST(fork());
        if (!child) {
            state = (seed * 1000003 + round) * 0x9e3779b97f4a7c15ul | 1;
            setsid();
            if (chdir(name))
                _exit(3);
            make_calls(everything && round % 2, log);
            _exit(0);
        }
        int gone = ended(child, 1500);
        if (!gone) {
            kill(child, SIGCONT);
            kill(child, SIGKILL);
            gone = ended(child, 20000);
        }
        CHECK_AT(gone, "seed %lu, round %lu: not even SIGKILL ends call %ld(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)", seed, round,
                 (long)diary->nr, diary->arguments[0], diary->arguments[1], diary->arguments[2], diary->arguments[3],
                 diary->arguments[4], diary->arguments[5]);
        kill(-child, SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    // The kernel is still well.
    CHECK_EQ(IN_CHILD({ _exit(7); }) >> 8, 7);
    int pair[2];
    char byte;
    CHECK_OK(pipe(pair));
    CHECK_EQ(write(pair[1], "x", 1), 1);
    CHECK_EQ(read(pair[0], &byte, 1), 1);
}
