// Sessions, process groups, and orphaned groups.
#include "../check.h"

static void sleep_forever(void) {
    for (;;)
        pause();
}

TEST(set_group) {
    pid_t pid = MUST(fork());
    if (pid == 0)
        sleep_forever();
    CHECK_OK(setpgid(pid, pid));
    CHECK_EQ(getpgid(pid), pid);
    CHECK_OK(setpgid(pid, getpgrp()));
    CHECK_EQ(getpgid(pid), getpgrp());
    CHECK_OK(setpgid(pid, 0));
    CHECK_EQ(getpgid(pid), pid);
    CHECK_ERR(setpgid(pid, -1), EINVAL);
    CHECK_ERR(setpgid(pid, 1 << 22), EPERM);
    CHECK_ERR(setpgid(1 << 22, 0), ESRCH);
    CHECK_ERR(setpgid(-1, 0), EINVAL);
    CHECK_ERR(getpgid(1 << 22), ESRCH);
    CHECK_ERR(setpgid(getppid(), 0), ESRCH);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(group_of_a_child_that_execs) {
    int pipes[2];
    CHECK_OK(pipe2(pipes, O_CLOEXEC));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        execl("/bin/sleep", "sleep", "1000", NULL);
        _exit(1);
    }
    close(pipes[1]);
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 0);
    CHECK_ERR(setpgid(pid, pid), EACCES);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(sessions) {
    // A group leader cannot lead a session.
    CHECK_EQ(getpgrp(), getpid());
    CHECK_ERR(setsid(), EPERM);
    CHECK_CHILD({
        pid_t me = getpid();
        CHECK_EQ(setsid(), me);
        CHECK_EQ(getsid(0), me);
        CHECK_EQ(getpgrp(), me);
        CHECK_ERR(setsid(), EPERM);
        CHECK_ERR(setpgid(0, 0), EPERM);
        CHECK_ERR(setpgid(0, getppid()), EPERM);
        CHECK_ERR(getsid(1 << 22), ESRCH);
        int fd = open("/dev/tty", O_RDWR);
        CHECK(fd == -1 && errno == ENXIO);
        pid_t child = fork();
        if (child == 0) {
            CHECK_EQ(getsid(0), me);
            setsid();
            sleep_forever();
        }
        until_asleep(child);
        CHECK_ERR(setpgid(child, me), EPERM);
        CHECK_EQ(getsid(child), child);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    });
}

TEST(signals_to_groups) {
    pid_t a = MUST(fork());
    if (a == 0)
        sleep_forever();
    setpgid(a, a);
    pid_t b = MUST(fork());
    if (b == 0)
        sleep_forever();
    setpgid(b, a);
    CHECK_OK(killpg(a, 0));
    CHECK_OK(kill(-a, SIGTERM));
    int status;
    CHECK_EQ(waitpid(a, &status, 0), a);
    CHECK_EQ(status, SIGTERM);
    CHECK_EQ(waitpid(b, &status, 0), b);
    CHECK_EQ(status, SIGTERM);
    CHECK_ERR(kill(-a, 0), ESRCH);
    CHECK_ERR(kill(-(1 << 22), SIGTERM), ESRCH);
}

TEST(orphaned_stopped_group) {
    // When a group with a stopped member is orphaned its members get SIGHUP, then SIGCONT.
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t shell = MUST(fork());
    if (shell == 0) {
        setsid();
        pid_t job = fork();
        if (job == 0) {
            setpgid(0, 0);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGHUP);
            sigaddset(&set, SIGCONT);
            sigprocmask(SIG_BLOCK, &set, NULL);
            raise(SIGSTOP);
            int got[2] = {sigwaitinfo(&set, NULL), sigwaitinfo(&set, NULL)};
            write(pipes[1], got, sizeof got);
            _exit(0);
        }
        int status;
        waitpid(job, &status, WUNTRACED);
        _exit(WIFSTOPPED(status) ? 0 : 1);
    }
    int status, got[2] = {0, 0};
    CHECK_EQ(waitpid(shell, &status, 0), shell);
    CHECK_EQ(status, 0);
    CHECK_EQ(read(pipes[0], got, sizeof got), sizeof got);
    CHECK_EQ(got[0] + got[1], SIGHUP + SIGCONT);
    CHECK_EQ(got[0], SIGHUP);
}

TEST(orphaned_group_does_not_stop) {
    // The terminal's stop signals do nothing to an orphaned group, SIGSTOP does.
    CHECK_CHILD({
        setsid();
        CHECK_OK(kill(getpid(), SIGTSTP));
        CHECK_OK(kill(getpid(), SIGTTIN));
        CHECK_OK(kill(getpid(), SIGTTOU));
    });
}

TEST(to_all) {
    CHECK_ERR(kill(1 << 22, 0), ESRCH);
    CHECK_ERR(kill(getpid(), 65), EINVAL);
    CHECK_ERR(kill(getpid(), -1), EINVAL);
    CHECK_OK(kill(0, 0));
    CHECK_ERR(kill(INT_MIN, SIGTERM), ESRCH);
    pid_t pid = MUST(fork());
    if (pid == 0)
        sleep_forever();
    CHECK_CHILD({
        CHECK_OK(setuid(1000));
        CHECK_ERR(kill(pid, SIGTERM), EPERM);
        CHECK_ERR(kill(pid, 0), EPERM);
        // Within a session anybody may continue anybody.
        CHECK_OK(kill(pid, SIGCONT));
    });
    kill(pid, SIGKILL);
    // A zombie can still be signalled.
    siginfo_t info;
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    CHECK_OK(kill(pid, SIGTERM));
    waitpid(pid, NULL, 0);
    CHECK_ERR(kill(pid, SIGTERM), ESRCH);
}
