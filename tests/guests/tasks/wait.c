// fork, vfork, exit and the waits in every form.
#include "../check.h"
#include <sys/resource.h>

static pid_t child_that_exits(int code) {
    pid_t pid = MUST(fork());
    if (pid == 0)
        _exit(code);
    return pid;
}

static pid_t child_that_pauses(void) {
    pid_t pid = MUST(fork());
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

TEST(fork_identity) {
    pid_t parent = getpid(), pid = MUST(fork());
    if (pid == 0) {
        CHECK_EQ(getppid(), parent);
        CHECK(getpid() != parent);
        CHECK_EQ(syscall(SYS_gettid), getpid());
        CHECK_EQ(getpgrp(), getpgid(parent));
        CHECK_EQ(getsid(0), getsid(parent));
        _exit(3);
    }
    int status;
    CHECK_EQ(wait(&status), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 3);
    CHECK_ERR(wait(&status), ECHILD);
}

TEST(exit_codes) {
    int status;
    int codes[][2] = {{0, 0}, {1, 1}, {255, 255}, {256, 0}, {-1, 255}, {0x1234, 0x34}};
    for (size_t i = 0; i < 6; i++) {
        pid_t pid = child_that_exits(codes[i][0]);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, codes[i][1] << 8);
    }
    pid_t pid = child_that_pauses();
    CHECK_OK(kill(pid, SIGTERM));
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, SIGTERM);
    CHECK(WIFSIGNALED(status) && !WCOREDUMP(status));
}

TEST(selection) {
    pid_t a = child_that_exits(1), b = child_that_exits(2);
    int status;
    CHECK_EQ(waitpid(b, &status, 0), b);
    CHECK_EQ(WEXITSTATUS(status), 2);
    CHECK_ERR(waitpid(b, &status, 0), ECHILD);
    CHECK_EQ(waitpid(-1, NULL, 0), a);
    // By process group: 0 is ours, -n is n.
    pid_t other = MUST(fork());
    if (other == 0) {
        setpgid(0, 0);
        pause();
    }
    setpgid(other, other);
    CHECK_ERR(waitpid(0, &status, WNOHANG), ECHILD);
    CHECK_EQ(waitpid(-other, &status, WNOHANG), 0);
    CHECK_OK(kill(other, SIGKILL));
    CHECK_EQ(waitpid(-other, &status, 0), other);
    CHECK_ERR(waitpid(-other, &status, 0), ECHILD);
    CHECK_ERR(waitpid(1, &status, 0), ECHILD);
    CHECK_ERR(waitpid(getpid(), &status, 0), ECHILD);
    CHECK_ERR(waitpid(INT_MIN, &status, 0), ESRCH);
}

TEST(options) {
    int status;
    CHECK_ERR(waitpid(-1, &status, WNOHANG), ECHILD);
    pid_t pid = child_that_pauses();
    CHECK_EQ(waitpid(pid, &status, WNOHANG), 0);
    CHECK_ERR(waitpid(pid, &status, 0x100), EINVAL);
    CHECK_ERR(waitpid(pid, &status, WEXITED), EINVAL);
    CHECK_ERR(waitpid(pid, &status, WNOWAIT), EINVAL);
    CHECK_OK(kill(pid, SIGSTOP));
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    CHECK_EQ(status, SIGSTOP << 8 | 0x7f);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
    CHECK_OK(kill(pid, SIGCONT));
    CHECK_EQ(waitpid(pid, &status, WCONTINUED), pid);
    CHECK_EQ(status, 0xffff);
    CHECK(WIFCONTINUED(status));
    CHECK_EQ(waitpid(pid, &status, WCONTINUED | WUNTRACED | WNOHANG), 0);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_EQ(waitpid(pid, &status, __WALL), pid);
}

TEST(bad_pointer) {
    pid_t pid = child_that_exits(0);
    CHECK_ERR(waitpid(pid, BAD, 0), EFAULT);
    // It is gone nevertheless.
    CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
    struct rusage usage;
    pid = child_that_exits(0);
    CHECK_EQ(wait4(pid, NULL, 0, &usage), pid);
    CHECK_CMP(usage.ru_maxrss, >=, 0);
    CHECK_CMP(usage.ru_utime.tv_sec, >=, 0);
}

TEST(peak_of_a_child) {
    const long size = 16 << 20;
    pid_t pid = MUST(fork());
    if (pid == 0) {
        volatile char *memory = malloc(size);
        for (long i = 0; i < size; i += 4096)
            memory[i] = 1;
        _exit(0);
    }
    struct rusage one, all;
    CHECK_EQ(wait4(pid, NULL, 0, &one), pid);
    CHECK_CMP(one.ru_maxrss, >=, size / 1024);
    CHECK_CMP(one.ru_maxrss, <, 8 * size / 1024);
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &all));
    CHECK_CMP(all.ru_maxrss, >=, one.ru_maxrss);
}

TEST(waitid_forms) {
    siginfo_t info;
    pid_t pid = child_that_exits(9);
    memset(&info, 0xee, sizeof info);
    CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    CHECK_EQ(info.si_signo, SIGCHLD);
    CHECK_EQ(info.si_code, CLD_EXITED);
    CHECK_EQ(info.si_status, 9);
    CHECK_EQ(info.si_pid, pid);
    CHECK_EQ(info.si_uid, getuid());
    CHECK_EQ(info.si_errno, 0);
    CHECK_OK(waitid(P_ALL, 0, &info, WEXITED));
    CHECK_EQ(info.si_pid, pid);
    CHECK_ERR(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
    pid = child_that_pauses();
    CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
    CHECK_EQ(info.si_pid, 0);
    CHECK_EQ(info.si_signo, 0);
    CHECK_ERR(waitid(P_PID, pid, &info, 0), EINVAL);
    CHECK_ERR(waitid(P_PID, pid, &info, WNOHANG), EINVAL);
    CHECK_ERR(waitid(P_PID, pid, &info, WEXITED | 0x100), EINVAL);
    CHECK_ERR(waitid(99, pid, &info, WEXITED), EINVAL);
    CHECK_ERR(waitid(P_PID, 0, &info, WEXITED), EINVAL);
    CHECK_ERR(waitid(P_PGID, -5, &info, WEXITED), EINVAL);
    CHECK_OK(kill(pid, SIGSTOP));
    CHECK_OK(waitid(P_PGID, getpgrp(), &info, WSTOPPED));
    CHECK_EQ(info.si_code, CLD_STOPPED);
    CHECK_EQ(info.si_status, SIGSTOP);
    CHECK_OK(kill(pid, SIGCONT));
    CHECK_OK(waitid(P_PID, pid, &info, WCONTINUED));
    CHECK_EQ(info.si_code, CLD_CONTINUED);
    CHECK_EQ(info.si_status, SIGCONT);
    CHECK_OK(kill(pid, SIGKILL));
    struct rusage usage;
    CHECK_OK(syscall(SYS_waitid, P_PGID, 0, &info, WEXITED, &usage));
    CHECK_EQ(info.si_code, CLD_KILLED);
    CHECK_EQ(info.si_status, SIGKILL);
    pid = child_that_exits(1);
    CHECK_OK(waitid(P_PID, pid, NULL, WEXITED));
}

TEST(ignored_children) {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = child_that_exits(0);
    CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    CHECK_OK(sigaction(SIGCHLD, &action, NULL));
    pid = child_that_exits(0);
    CHECK_ERR(wait(NULL), ECHILD);
}

TEST(orphans) {
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    int value = 0;
    CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
    CHECK_EQ(value, 1);
    pid_t middle = MUST(fork());
    if (middle == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            char byte;
            read(pipes[0], &byte, 1);
            _exit(7);
        }
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(middle, &status, 0), middle);
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    pid_t orphan = wait(&status);
    CHECK(orphan > 0 && orphan != middle);
    CHECK_EQ(WEXITSTATUS(status), 7);
}

TEST(parent_of_an_orphan) {
    int pipes[2], go[2];
    CHECK_OK(pipe(pipes));
    CHECK_OK(pipe(go));
    pid_t reaper = getpid(), found = 0;
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t middle = MUST(fork());
    if (middle == 0) {
        // Not inherited.
        int value = 1;
        CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
        CHECK_EQ(value, 0);
        if (fork() == 0) {
            char byte;
            read(go[0], &byte, 1);
            found = getppid();
            write(pipes[1], &found, sizeof found);
            _exit(0);
        }
        _exit(0);
    }
    CHECK_EQ(waitpid(middle, NULL, 0), middle);
    CHECK_EQ(write(go[1], "x", 1), 1);
    CHECK_EQ(read(pipes[0], &found, sizeof found), sizeof found);
    CHECK_EQ(found, reaper);
    CHECK_CMP(wait(NULL), >, 0);
}

TEST(death_signal) {
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t middle = MUST(fork());
    if (middle == 0) {
        int ready[2];
        pipe(ready);
        if (fork() == 0) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGUSR1);
            sigprocmask(SIG_BLOCK, &set, NULL);
            CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
            int which = 0;
            CHECK_OK(prctl(PR_GET_PDEATHSIG, &which));
            CHECK_EQ(which, SIGUSR1);
            write(ready[1], "x", 1);
            int signo = sigwaitinfo(&set, NULL);
            write(pipes[1], &signo, sizeof signo);
            _exit(0);
        }
        char byte;
        read(ready[0], &byte, 1);
        _exit(0);
    }
    int signo = 0;
    CHECK_EQ(waitpid(middle, NULL, 0), middle);
    CHECK_EQ(read(pipes[0], &signo, sizeof signo), sizeof signo);
    CHECK_EQ(signo, SIGUSR1);
    CHECK_ERR(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
}

TEST(vfork_shares_and_waits) {
    volatile int shared = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        shared = 5;
        _exit(6);
    }
    CHECK_CMP(pid, >, 0);
    CHECK_EQ(shared, 5);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WEXITSTATUS(status), 6);
    pid = vfork();
    if (pid == 0) {
        execl("/bin/true", "true", NULL);
        _exit(99);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

TEST(many_children) {
    pid_t pids[64];
    for (int i = 0; i < 64; i++)
        pids[i] = child_that_exits(i);
    int status, seen = 0;
    for (int i = 63; i >= 0; i--) {
        CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
        seen += WEXITSTATUS(status) == i;
    }
    CHECK_EQ(seen, 64);
}

static volatile sig_atomic_t arrived;
static siginfo_t last;

static void on_child(int signo, siginfo_t *info, void *context) {
    last = *info;
    arrived++;
}

// The signal may come a little after the wait that it announces.
static int code_becomes(int code) {
    for (int i = 0; i < 1000 && last.si_code != code; i++)
        usleep(5000);
    return last.si_code;
}

TEST(child_signal) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK_OK(sigaction(SIGCHLD, &action, NULL));
    pid_t pid = child_that_exits(4);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(arrived, 1);
    CHECK_EQ(last.si_code, CLD_EXITED);
    CHECK_EQ(last.si_pid, pid);
    CHECK_EQ(last.si_status, 4);
    pid = child_that_pauses();
    kill(pid, SIGSTOP);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQ(code_becomes(CLD_STOPPED), CLD_STOPPED);
    kill(pid, SIGCONT);
    CHECK_EQ(waitpid(pid, &status, WCONTINUED), pid);
    CHECK_EQ(code_becomes(CLD_CONTINUED), CLD_CONTINUED);
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(code_becomes(CLD_KILLED), CLD_KILLED);
    CHECK_EQ(last.si_status, SIGKILL);
    action.sa_flags |= SA_NOCLDSTOP;
    CHECK_OK(sigaction(SIGCHLD, &action, NULL));
    arrived = 0;
    pid = child_that_pauses();
    kill(pid, SIGSTOP);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQ(arrived, 0);
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
}

TEST(interrupted_wait) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    pid_t parent = getpid(), pid = MUST(fork());
    if (pid == 0) {
        until_asleep(parent);
        kill(parent, SIGUSR1);
        pause();
    }
    CHECK_ERR(waitpid(pid, NULL, 0), EINTR);
    CHECK_EQ(last.si_pid, pid);
    CHECK_EQ(last.si_code, SI_USER);
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(descriptors_shared) {
    int fd = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_CHILD({
        CHECK_EQ(write(fd, "child", 5), 5);
        close(fd);
    });
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 5);
}
