// execve and execveat: what is kept, what is lost, and what is refused.
#define OWN_MAIN
#include "../check.h"
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/uio.h>

extern char **environ;
static char self[PATH_MAX];

static void put(const char *path, const char *text, int mode) {
    int fd = MUST(open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    CHECK_OK(fchmod(fd, mode));
    CHECK_OK(close(fd));
}

static void copy_self(const char *path, int mode) {
    int from = MUST(open(self, O_RDONLY)), to = MUST(open(path, O_CREAT | O_TRUNC | O_WRONLY, 0700));
    char buffer[65536];
    for (long bytes; (bytes = read(from, buffer, sizeof buffer)) > 0;)
        CHECK_EQ(write(to, buffer, bytes), bytes);
    CHECK_OK(fchmod(to, mode));
    close(from);
    close(to);
}

// Runs argv and gives its output and its wait status.
static int capture(char *output, size_t size, const char *path, char **argv, char **envp) {
    int pipes[2], status;
    MUST(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        dup2(pipes[1], 1);
        execve(path, argv, envp);
        _exit(100 + errno);
    }
    close(pipes[1]);
    size_t length = 0;
    for (long bytes; length + 1 < size && (bytes = read(pipes[0], output + length, size - 1 - length)) > 0;)
        length += bytes;
    output[length] = 0;
    close(pipes[0]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return status;
}

TEST(arguments_and_environment) {
    char output[256];
    char *argv[] = {"zero", "--show", "", "a b", NULL}, *envp[] = {"A=1", "B=", "odd", NULL};
    CHECK_EQ(capture(output, sizeof output, self, argv, envp), 0);
    CHECK_STR(output, "[zero][--show][][a b]|[A=1][B=][odd]");
    // Linux gives a program without arguments an empty one (since 5.18); before, none.
    char *nothing[] = {NULL};
    CHECK_EQ(capture(output, sizeof output, self, nothing, nothing), 77 << 8);
}

TEST(scripts) {
    char output[PATH_MAX + 256], text[PATH_MAX + 64], expected[PATH_MAX + 256];
    char *argv[] = {"ignored", "one", "two", NULL}, *envp[] = {NULL};
    snprintf(text, sizeof text, "#!%s --show\nrest\n", self);
    put("script", text, 0755);
    CHECK_EQ(capture(output, sizeof output, "./script", argv, envp), 0);
    snprintf(expected, sizeof expected, "[%s][--show][./script][one][two]|", self);
    CHECK_STR(output, expected);
    // All after the first blank is one argument, without the blanks around it.
    snprintf(text, sizeof text, "#! \t%s \t--show a  b \t\n", self);
    put("script", text, 0755);
    CHECK_EQ(capture(output, sizeof output, "script", argv, envp), 77 << 8);
    put("noarg", "#!/bin/echo\n", 0755);
    CHECK_EQ(capture(output, sizeof output, "./noarg", argv, envp), 0);
    CHECK_STR(output, "./noarg one two\n");
    put("blank", "#!/bin/echo   first  second  \n", 0755);
    CHECK_EQ(capture(output, sizeof output, "./blank", argv, envp), 0);
    CHECK_STR(output, "first  second ./blank one two\n");
    put("nonewline", "#!/bin/echo x", 0755);
    CHECK_EQ(capture(output, sizeof output, "./nonewline", argv, envp), 0);
    CHECK_STR(output, "x ./nonewline one two\n");
}

TEST(nested_scripts) {
    char output[512];
    char *argv[] = {"x", "arg", NULL}, *envp[] = {NULL};
    put("s0", "#!/bin/echo e\n", 0755);
    put("s1", "#!./s0\n", 0755);
    put("s2", "#!./s1 o\n", 0755);
    CHECK_EQ(capture(output, sizeof output, "./s2", argv, envp), 0);
    CHECK_STR(output, "e ./s0 ./s1 o ./s2 arg\n");
    put("s3", "#!./s2\n", 0755);
    put("s4", "#!./s3\n", 0755);
    put("s5", "#!./s4\n", 0755);
    put("s6", "#!./s5\n", 0755);
    CHECK_EQ(capture(output, sizeof output, "./s4", argv, envp), 0);
    CHECK_ERR(execve("./s6", argv, envp), ELOOP);
    put("loop", "#!./loop\n", 0755);
    CHECK_ERR(execve("./loop", argv, envp), ELOOP);
}

TEST(refusals) {
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    CHECK_ERR(execve("none", argv, envp), ENOENT);
    CHECK_ERR(execve("", argv, envp), ENOENT);
    CHECK_ERR(execve(BAD, argv, envp), EFAULT);
    CHECK_ERR(execve(self, (char **)BAD, envp), EFAULT);
    CHECK_ERR(execve(self, argv, (char **)BAD), EFAULT);
    char *wild[] = {"x", BAD, NULL};
    CHECK_ERR(execve(self, wild, envp), EFAULT);
    CHECK_ERR(execve(".", argv, envp), EACCES);
    put("plain", "echo no\n", 0755);
    CHECK_ERR(execve("./plain", argv, envp), ENOEXEC);
    put("empty", "", 0755);
    CHECK_ERR(execve("./empty", argv, envp), ENOEXEC);
    put("unmarked", "#!/bin/echo\n", 0644);
    CHECK_ERR(execve("./unmarked", argv, envp), EACCES);
    put("lost", "#!/no/such/interpreter\n", 0755);
    CHECK_ERR(execve("./lost", argv, envp), ENOENT);
    put("nothing", "#!\n", 0755);
    CHECK_ERR(execve("./nothing", argv, envp), ENOEXEC);
    put("blanks", "#!   \n", 0755);
    CHECK_ERR(execve("./blanks", argv, envp), ENOEXEC);
    put("elf", "\177ELF\2\1\1", 0755);
    CHECK_ERR(execve("./elf", argv, envp), ENOEXEC);
    CHECK_ERR(execve("./plain/x", argv, envp), ENOTDIR);
    CHECK_OK(symlink("l", "l"));
    CHECK_ERR(execve("./l", argv, envp), ELOOP);
    copy_self("busy", 0755);
    int fd = MUST(open("busy", O_WRONLY));
    CHECK_ERR(execve("./busy", argv, envp), ETXTBSY);
    close(fd);
}

TEST(busy_program) {
    char *argv[] = {"x", "--wait", NULL}, *envp[] = {NULL};
    copy_self("running", 0755);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        dup2(pipes[1], 1);
        execve("./running", argv, envp);
        _exit(1);
    }
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    CHECK_ERR(open("running", O_WRONLY), ETXTBSY);
    CHECK_ERR(open("running", O_RDWR | O_TRUNC), ETXTBSY);
    CHECK_ERR(truncate("running", 0), ETXTBSY);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_OK(open("running", O_WRONLY));
}

TEST(limits) {
    char *envp[] = {NULL};
    size_t longest = 32 * 4096;
    char *text = malloc(longest + 1);
    memset(text, 'x', longest);
    text[longest] = 0;
    char *one[] = {"x", text, NULL};
    CHECK_ERR(execve(self, one, envp), E2BIG);
    text[longest - 1] = 0;
    int status = IN_CHILD({ execve(self, one, envp); _exit(100); });
    CHECK_EQ(WEXITSTATUS(status), 77);
    // All together: a quarter of the stack limit.
    char **many = calloc(65, sizeof *many);
    for (int i = 0; i < 64; i++)
        many[i] = text;
    CHECK_ERR(execve(self, many, envp), E2BIG);
    for (int i = 15; i < 64; i++)
        many[i] = NULL;
    status = IN_CHILD({ execve(self, many, envp); _exit(100); });
    CHECK_EQ(WEXITSTATUS(status), 77);
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_STACK, &limit));
    CHECK_ERR(execve(self, many, envp), E2BIG);
}

TEST(kept_and_lost) {
    char output[512], expected[512];
    char *argv[] = {"x", "--state", NULL}, *envp[] = {NULL};
    int kept = MUST(open(".", O_RDONLY)), lost = MUST(open(".", O_RDONLY | O_CLOEXEC));
    CHECK_EQ(kept, 3);
    CHECK_EQ(lost, 4);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, (void (*)(int))check_end);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    CHECK_OK(sigprocmask(SIG_SETMASK, &set, NULL));
    raise(SIGHUP);
    umask(0123);
    CHECK_OK(prctl(PR_SET_NAME, "before"));
    CHECK_OK(nice(3) == -1 ? -1 : 0);
    alarm(100);
    int pid = getpid();
    int pipes[2];
    CHECK_OK(pipe2(pipes, O_CLOEXEC));
    pid_t child = MUST(fork());
    if (child == 0) {
        raise(SIGHUP);
        alarm(100);
        dup2(pipes[1], 1);
        execve(self, argv, envp);
        _exit(1);
    }
    close(pipes[1]);
    long bytes = read(pipes[0], output, sizeof output - 1);
    output[bytes > 0 ? bytes : 0] = 0;
    const char *name = strrchr(self, '/') + 1;
    snprintf(expected, sizeof expected,
             "fd3 open fd4 closed usr1 ignored usr2 default blocked %d pending %d umask 123 name %.15s nice 3 alarm 1 "
             "parent %d\n",
             1, 1, name, pid);
    CHECK_STR(output, expected);
    CHECK_EQ(waitpid(child, NULL, 0), child);
}

TEST(by_descriptor) {
    char *argv[] = {"x", "--exit", "5", NULL}, *envp[] = {NULL};
    int fd = MUST(open(self, O_RDONLY));
    int status = IN_CHILD({ syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH); _exit(99); });
    CHECK_EQ(WEXITSTATUS(status), 5);
    status = IN_CHILD({ fexecve(fd, argv, envp); _exit(99); });
    CHECK_EQ(WEXITSTATUS(status), 5);
    CHECK_ERR(syscall(SYS_execveat, fd, "", argv, envp, 0), ENOENT);
    CHECK_ERR(syscall(SYS_execveat, fd, "x", argv, envp, 0), ENOTDIR);
    CHECK_ERR(syscall(SYS_execveat, -1, "x", argv, envp, 0), EBADF);
    CHECK_ERR(syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH | 1), EINVAL);
    copy_self("copy", 0755);
    CHECK_OK(symlink("copy", "link"));
    int here = MUST(open(".", O_RDONLY));
    status = IN_CHILD({ syscall(SYS_execveat, here, "link", argv, envp, 0); _exit(99); });
    CHECK_EQ(WEXITSTATUS(status), 5);
    CHECK_ERR(syscall(SYS_execveat, here, "link", argv, envp, AT_SYMLINK_NOFOLLOW), ELOOP);
    // A script needs a name its interpreter can open: /dev/fd/N, so not with close-on-exec.
    put("script", "#!/bin/cat\nhello\n", 0755);
    int script = MUST(open("script", O_RDONLY | O_CLOEXEC));
    CHECK_ERR(syscall(SYS_execveat, script, "", argv, envp, AT_EMPTY_PATH), ENOENT);
}

TEST(memory_program) {
    int fd = MUST(syscall(SYS_memfd_create, "prog", 1 /* MFD_CLOEXEC */));
    int from = MUST(open(self, O_RDONLY));
    char buffer[65536];
    for (long bytes; (bytes = read(from, buffer, sizeof buffer)) > 0;)
        CHECK_EQ(write(fd, buffer, bytes), bytes);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = MUST(open(path, O_RDONLY | O_CLOEXEC));
    close(fd);
    char *argv[] = {"x", "--exit", "6", NULL}, *envp[] = {NULL};
    int status = IN_CHILD({ syscall(SYS_execveat, again, "", argv, envp, AT_EMPTY_PATH); _exit(99); });
    CHECK_EQ(WEXITSTATUS(status), 6);
}

TEST(set_user) {
    // Natively the directory is everybody's.
    char suid[] = "/tmp/amber-suid-XXXXXX";
    CHECK_OK(close(MUST(mkstemp(suid))));
    copy_self(suid, 04755);
    char output[256];
    char *argv[] = {"x", "--ids", NULL}, *envp[] = {NULL};
    CHECK_CHILD({
        CHECK_OK(setgid(1000));
        CHECK_OK(setuid(1000));
        CHECK_EQ(capture(output, sizeof output, suid, argv, envp), 0);
        CHECK_STR(output, "uid 1000 0 0 gid 1000 1000 1000 secure 1\n");
        CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        CHECK_EQ(capture(output, sizeof output, suid, argv, envp), 0);
        CHECK_STR(output, "uid 1000 1000 1000 gid 1000 1000 1000 secure 0\n");
    });
    CHECK_OK(chmod(suid, 02755));
    CHECK_CHILD({
        CHECK_OK(setgid(1000));
        CHECK_OK(setuid(1000));
        CHECK_EQ(capture(output, sizeof output, suid, argv, envp), 0);
        CHECK_STR(output, "uid 1000 1000 1000 gid 1000 0 0 secure 1\n");
    });
    CHECK_OK(unlink(suid));
}

// A file with the set-user-ID bit of root where user 1000 can execute it; natively a directory of root's alone would be in the way.
static void make_set_user_program(char *path) {
    CHECK_OK(close(MUST(mkstemp(path))));
    copy_self(path, 04755);
}

static void become_user(void) {
    CHECK_OK(setgid(1000));
    CHECK_OK(setuid(1000));
    CHECK_OK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

#define PLAIN "not for others"
static char marked[] = PLAIN;

// The right to look into the old program is at no moment one to look into the new program, which has other rights.
TEST(a_program_with_rights_is_closed_from_its_first_moment) {
    char suid[] = "/tmp/amber-suid-XXXXXX";
    make_set_user_program(suid);
    CHECK_CHILD({
        become_user();
        for (int round = 0; round < 25; round++) {
            int pipes[2], status;
            CHECK_OK(pipe(pipes));
            pid_t pid = MUST(fork());
            if (pid == 0) {
                memset(marked, 'x', sizeof marked);
                // What an exec has to close keeps it busy for a while.
                for (int i = 0; i < 800; i++)
                    open("/dev/null", O_RDONLY | O_CLOEXEC);
                write(pipes[1], "x", 1);
                execl(suid, "x", "--exit", "0", NULL);
                _exit(100 + errno);
            }
            char byte, seen[sizeof marked];
            CHECK_EQ(read(pipes[0], &byte, 1), 1);
            struct iovec here = {seen, sizeof seen}, there = {marked, sizeof marked};
            // Refused once it is executed, and when it is gone; what can be read until then is the old program.
            for (long bytes; (bytes = process_vm_readv(pid, &here, 1, &there, 1, 0)) >= 0;)
                CHECK(strcmp(seen, PLAIN) != 0);
            CHECK_EQ(waitpid(pid, &status, 0), pid);
            CHECK_EQ(status, 0);
            close(pipes[0]);
            close(pipes[1]);
        }
    });
    CHECK_OK(unlink(suid));
}

static atomic_int ready, started;
static int delay;
static char stack[65536] __attribute__((aligned(16)));

static int leave(void *unused) {
    for (int i = 0; i < 1000000; i++)
        chdir(i % 2 ? "/" : "/proc");
    return 0;
}

static void *share_in_thread(void *unused) {
    ready = 1;
    while (!started)
        ;
    for (volatile int spin = 0; spin < delay; spin++)
        ;
    // Natively it is EAGAIN while the program is executed.
    while (clone(leave, stack + sizeof stack, CLONE_FS | SIGCHLD, NULL) < 0)
        ;
    pause();
    return NULL;
}

// A program has its new rights only if no other process can change its working directory.
TEST(a_program_with_rights_shares_no_working_directory) {
    char suid[] = "/tmp/amber-suid-XXXXXX";
    make_set_user_program(suid);
    static char long_argument[100001];
    memset(long_argument, 'x', sizeof long_argument - 1);
    char *argv[20] = {"x", "--alone"};
    for (int i = 2; i < 16; i++)
        argv[i] = long_argument;
    CHECK_CHILD({
        become_user();
        CHECK_OK(chdir("/"));
        for (int round = 0; round < 30; round++) {
            delay = round * 40000;
            pid_t pid = MUST(fork());
            if (pid == 0) {
                setpgid(0, 0);
                pthread_t thread;
                pthread_create(&thread, NULL, share_in_thread, NULL);
                while (!ready)
                    sched_yield();
                started = 1;
                execv(suid, argv);
                _exit(100 + errno);
            }
            int status;
            CHECK_EQ(waitpid(pid, &status, 0), pid);
            CHECK_EQ(status, 0);
            kill(-pid, SIGKILL);
        }
    });
    CHECK_OK(unlink(suid));
}

// Exit status 0 unless this program has more rights than its user and a working directory that another changes.
static int alone(void) {
    char first[PATH_MAX], place[PATH_MAX];
    if (geteuid() == getuid())
        return 0;
    getcwd(first, sizeof first);
    for (int i = 0; i < 300; i++) {
        getcwd(place, sizeof place);
        if (strcmp(place, first))
            return 1;
    }
    return 0;
}

// A large stack would move the mappings of a program with other rights to where its user wants them.
TEST(a_program_with_rights_has_a_usual_stack) {
    char suid[] = "/tmp/amber-suid-XXXXXX", output[64];
    make_set_user_program(suid);
    char *argv[] = {"x", "--stack", NULL}, *envp[] = {NULL};
    CHECK_CHILD({
        become_user();
        struct rlimit large = {64 << 20, 128 << 20}, small = {1 << 20, 128 << 20};
        CHECK_OK(setrlimit(RLIMIT_STACK, &large));
        CHECK_EQ(capture(output, sizeof output, self, argv, envp), 0);
        CHECK_STR(output, "67108864 134217728\n");
        CHECK_EQ(capture(output, sizeof output, suid, argv, envp), 0);
        CHECK_STR(output, "8388608 134217728\n");
        CHECK_OK(setrlimit(RLIMIT_STACK, &small));
        CHECK_EQ(capture(output, sizeof output, suid, argv, envp), 0);
        CHECK_STR(output, "1048576 134217728\n");
    });
    CHECK_OK(unlink(suid));
}

static int show_stack(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    return printf("%ju %ju\n", (uintmax_t)limit.rlim_cur, (uintmax_t)limit.rlim_max) < 0;
}

static void *exec_in_thread(void *argv) {
    execve(self, argv, environ);
    return NULL;
}

TEST(from_a_thread) {
    char *argv[] = {"x", "--identity", NULL};
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        dup2(pipes[1], 1);
        pthread_t thread;
        pthread_create(&thread, NULL, exec_in_thread, argv);
        for (;;)
            pause();
    }
    char output[64] = "", expected[64];
    CHECK_CMP(read(pipes[0], output, 63), >, 0);
    snprintf(expected, sizeof expected, "%d %d\n", pid, pid);
    CHECK_STR(output, expected);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

static int state(void) {
    struct sigaction one, two;
    sigset_t mask, pending;
    char name[16];
    sigaction(SIGUSR1, NULL, &one);
    sigaction(SIGUSR2, NULL, &two);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigpending(&pending);
    prctl(PR_GET_NAME, name);
    errno = 0;
    printf("fd3 %s fd4 %s usr1 %s usr2 %s blocked %d pending %d umask %o name %s nice %d alarm %d parent %d\n",
           fcntl(3, F_GETFD) >= 0 ? "open" : "closed", fcntl(4, F_GETFD) >= 0 ? "open" : "closed",
           one.sa_handler == SIG_IGN ? "ignored" : "default", two.sa_handler == SIG_DFL ? "default" : "other",
           sigismember(&mask, SIGHUP), sigismember(&pending, SIGHUP), umask(0), name, nice(0), alarm(0) > 90, getppid());
    return 0;
}

static int ids(void) {
    uid_t r, e, s;
    gid_t x, y, z;
    getresuid(&r, &e, &s);
    getresgid(&x, &y, &z);
    printf("uid %d %d %d gid %d %d %d secure %lu\n", r, e, s, x, y, z, getauxval(AT_SECURE));
    return 0;
}

int main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "--show")) {
        for (char **p = argv; *p; p++)
            printf("[%s]", *p);
        printf("|");
        for (char **p = environ; *p; p++)
            printf("[%s]", *p);
        return 0;
    }
    if (!strcmp(word, "--exit"))
        return atoi(argv[2]);
    if (!strcmp(word, "--state"))
        return state();
    if (!strcmp(word, "--ids"))
        return ids();
    if (!strcmp(word, "--stack"))
        return show_stack();
    if (!strcmp(word, "--alone"))
        return alone();
    if (!strcmp(word, "--identity"))
        return printf("%d %ld\n", getpid(), syscall(SYS_gettid)) < 0;
    if (!strcmp(word, "--wait")) {
        write(1, "x", 1);
        for (;;)
            pause();
    }
    if (getenv("HOME") == NULL)
        return 77;
    readlink("/proc/self/exe", self, sizeof self - 1);
    return check_main(argc, argv);
}
