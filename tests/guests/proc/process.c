// What /proc tells of a process, and what can be changed there.
#include "../check.h"
#include <dirent.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

static char *slurp(const char *path) {
    static char text[1 << 18];
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return NULL;
    size_t len = 0;
    ssize_t n;
    // Small reads: the parts must fit together.
    while ((n = read(fd, text + len, 100)) > 0)
        len += (size_t)n;
    text[len] = 0;
    close(fd);
    return n < 0 ? NULL : text;
}

static long field(const char *path, const char *name) {
    char *text = slurp(path), *at = text ? strstr(text, name) : NULL;
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

TEST(self) {
    char b[64] = {0}, wanted[64];
    CHECK(readlink("/proc/self", b, sizeof b) > 0);
    snprintf(wanted, sizeof wanted, "%d", getpid());
    CHECK_STR(b, wanted);
    memset(b, 0, sizeof b);
    CHECK(readlink("/proc/thread-self", b, sizeof b) > 0);
    snprintf(wanted, sizeof wanted, "%d/task/%d", getpid(), getpid());
    CHECK_STR(b, wanted);
    CHECK_ERR(open("/proc/999999", O_RDONLY), ENOENT);
    CHECK_ERR(mkdir("/proc/nothing", 0755), ENOENT);
}

TEST(status) {
    CHECK_EQ(field("/proc/self/status", "\nPid:"), getpid());
    CHECK_EQ(field("/proc/self/status", "\nPPid:"), getppid());
    CHECK_EQ(field("/proc/self/status", "\nThreads:"), 1);
    CHECK(field("/proc/self/status", "\nVmRSS:") > 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    raise(SIGUSR1);
    char *text = slurp("/proc/self/status");
    CHECK(strstr(text, "SigBlk:\t0000000000000200\n") != NULL);
    CHECK(strstr(text, "SigPnd:\t0000000000000200\n") || strstr(text, "ShdPnd:\t0000000000000200\n"));
}

TEST(stat) {
    char *text = slurp("/proc/self/stat");
    int pid, ppid, pgrp, session;
    char state, *rest = strrchr(text, ')');
    CHECK_EQ(sscanf(text, "%d", &pid), 1);
    CHECK_EQ(sscanf(rest + 2, "%c %d %d %d", &state, &ppid, &pgrp, &session), 4);
    CHECK_EQ(pid, getpid());
    CHECK_EQ(ppid, getppid());
    CHECK_EQ(pgrp, getpgrp());
    CHECK_EQ(session, getsid(0));
    CHECK_EQ(state, 'R');
    int fields = 2;
    for (char *p = rest; *p; p++)
        fields += *p == ' ';
    CHECK_EQ(fields, 52);
}

TEST(zombie) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    char *text = slurp(path);
    CHECK(text && strstr(text, ") Z ") != NULL);
    waitpid(pid, 0, 0);
    CHECK_ERR(open(path, O_RDONLY), ENOENT);
}

TEST(names) {
    int fd = open("/proc/self/comm", O_RDWR);
    CHECK_EQ(write(fd, "renamed", 7), 7);
    char b[16] = {0};
    prctl(PR_GET_NAME, b);
    CHECK_STR(b, "renamed");
    CHECK_STR(slurp("/proc/self/comm"), "renamed\n");
}

TEST(descriptors) {
    int p[2];
    char b[64] = {0}, path[64];
    CHECK_EQ(pipe(p), 0);
    CHECK_EQ(write(p[1], "x", 1), 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
    CHECK(readlink(path, b, sizeof b) > 0);
    CHECK(strncmp(b, "pipe:[", 6) == 0);
    // Opening it again gives a description of its own.
    int again = open(path, O_RDONLY | O_NONBLOCK);
    CHECK(again >= 0);
    CHECK_EQ(read(again, b, 1), 1);
    int fd = open("file", O_CREAT | O_RDWR, 0600);
    CHECK_EQ(write(fd, "hello", 5), 5);
    unlink("file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    memset(b, 0, sizeof b);
    char longer[PATH_MAX] = {0};
    CHECK(readlink(path, longer, sizeof longer - 1) > 0);
    CHECK(strstr(longer, "/file (deleted)") != NULL);
    int reopened = open(path, O_RDONLY);
    CHECK(reopened >= 0);
    CHECK_EQ(read(reopened, b, sizeof b), 5);
    struct stat st;
    CHECK_EQ(lstat(path, &st), 0);
    CHECK_EQ(st.st_mode, S_IFLNK | 0700);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    CHECK_EQ(field(path, "pos:\t"), 5);
    close(fd);
    CHECK_ERR(open(path, O_RDONLY), ENOENT);
}

TEST(listing) {
    DIR *d = opendir("/proc");
    int found = 0;
    struct dirent *e;
    while ((e = readdir(d)))
        found += atoi(e->d_name) == getpid();
    CHECK_EQ(found, 1);
    closedir(d);
    d = opendir("/proc/self/fd");
    int fds = 0;
    while ((e = readdir(d)))
        fds += e->d_name[0] != '.';
    CHECK(fds >= 4);
    closedir(d);
}

TEST(memory) {
    volatile char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = 'a';
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%lx-", (unsigned long)p & ~0xffful);
    CHECK(strstr(slurp("/proc/self/maps"), "[stack]") != NULL);
    CHECK(strstr(slurp("/proc/self/smaps"), "VmFlags:") != NULL);
    int fd = open("/proc/self/mem", O_RDWR);
    char c = 0;
    CHECK_EQ(pread(fd, &c, 1, (off_t)p), 1);
    CHECK_EQ(c, 'a');
    CHECK_EQ(pwrite(fd, "b", 1, (off_t)p), 1);
    CHECK_EQ(p[0], 'b');
    mprotect((void *)p, 4096, PROT_READ);
    CHECK_EQ(pwrite(fd, "c", 1, (off_t)p), 1);
    CHECK_EQ(p[0], 'c');
    CHECK_ERR(pread(fd, &c, 1, 4096), EIO);
}

TEST(arguments) {
    char *text = slurp("/proc/self/cmdline");
    CHECK(strlen(text) > 0);
    CHECK(slurp("/proc/self/environ") != NULL);
    char exe[PATH_MAX] = {0};
    CHECK(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    CHECK_EQ(exe[0], '/');
    char cwd[PATH_MAX] = {0}, got[PATH_MAX];
    CHECK(readlink("/proc/self/cwd", cwd, sizeof cwd - 1) > 0);
    CHECK_STR(cwd, getcwd(got, sizeof got));
}

TEST(limits) {
    struct rlimit limit = {100, 200};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(strstr(slurp("/proc/self/limits"), "Max open files            100                  200                  files"));
}

TEST(oom) {
    int fd = open("/proc/self/oom_score_adj", O_RDWR);
    CHECK_EQ(write(fd, "500", 3), 3);
    CHECK_STR(slurp("/proc/self/oom_score_adj"), "500\n");
    CHECK_ERR(write(fd, "1001", 4), EINVAL);
    CHECK_ERR(write(fd, "zzz", 3), EINVAL);
}

TEST(namespaces) {
    char text[64] = {0}, wanted[64];
    CHECK(readlink("/proc/self/ns/pid", text, sizeof text) > 0);
    struct stat st;
    CHECK_EQ(stat("/proc/self/ns/pid", &st), 0);
    snprintf(wanted, sizeof wanted, "pid:[%lu]", (unsigned long)st.st_ino);
    CHECK_STR(text, wanted);
}

TEST(system) {
    CHECK(field("/proc/meminfo", "MemTotal:") > 0);
    CHECK_CMP(field("/proc/stat", "procs_blocked "), >=, 0);
    CHECK(strstr(slurp("/proc/filesystems"), "nodev\tproc\n") != NULL);
    CHECK(strstr(slurp("/proc/cpuinfo"), "processor\t: 0\n") != NULL);
    double up, idle;
    CHECK_EQ(sscanf(slurp("/proc/uptime"), "%lf %lf", &up, &idle), 2);
    CHECK(strstr(slurp("/proc/mounts"), " /proc proc ") != NULL);
    CHECK(strstr(slurp("/proc/self/mountinfo"), " - proc ") != NULL);
    CHECK_STR(slurp("/proc/sys/kernel/ostype"), "Linux\n");
    CHECK(field("/proc/sys/kernel/pid_max", "") > 0);
    char one[64], *two;
    strcpy(one, slurp("/proc/sys/kernel/random/uuid"));
    two = slurp("/proc/sys/kernel/random/uuid");
    CHECK_EQ(strlen(two), 37);
    CHECK(strcmp(one, two) != 0);
    CHECK_ERR(open("/proc/sys/kernel/ostype", O_WRONLY), EACCES);
    CHECK(slurp("/sys/devices/system/cpu/online") != NULL);
    CHECK_EQ(sysconf(_SC_NPROCESSORS_ONLN) > 0, 1);
}
