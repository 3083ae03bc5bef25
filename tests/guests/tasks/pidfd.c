// Descriptors of processes and threads: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), and what waits on them.
#include "../check.h"
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#define PIDFD_NONBLOCK O_NONBLOCK
#define SIGNAL_THREAD 1
#define SIGNAL_THREAD_GROUP 2
#define SIGNAL_PROCESS_GROUP 4

static int pidfd_open(pid_t pid, unsigned flags) { return syscall(SYS_pidfd_open, pid, flags); }
static int pidfd_kill(int fd, int signal, siginfo_t *info, unsigned flags) {
    return syscall(SYS_pidfd_send_signal, fd, signal, info, flags);
}
static int pidfd_getfd(int fd, int target, unsigned flags) { return syscall(SYS_pidfd_getfd, fd, target, flags); }

static pid_t sleeper(void) {
    pid_t pid = MUST(fork());
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static int events(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    CHECK_OK(poll(&poll_fd, 1, 0));
    return poll_fd.revents;
}

static void *report_tid(void *pipe) {
    pid_t tid = gettid();
    write(((int *)pipe)[1], &tid, sizeof tid);
    char end;
    read(((int *)pipe)[2], &end, 1);
    return NULL;
}

TEST(opening) {
    CHECK_ERR(pidfd_open(0, 0), EINVAL);
    CHECK_ERR(pidfd_open(-1, 0), EINVAL);
    CHECK_ERR(pidfd_open(getpid(), 1), EINVAL);
    CHECK_ERR(pidfd_open(getpid(), O_CLOEXEC), EINVAL);
    CHECK_ERR(pidfd_open(1 << 22, 0), ESRCH);
    CHECK_ERR(pidfd_open(1 << 22, 1), EINVAL);
    int fd = CHECK_OK(pidfd_open(getpid(), 0));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    char byte;
    CHECK_ERR(read(fd, &byte, 1), EINVAL);
    CHECK_ERR(write(fd, "x", 1), EINVAL);
    CHECK_ERR(lseek(fd, 0, SEEK_SET), ESPIPE);
    CHECK_EQ(events(fd), 0);
    fd = CHECK_OK(pidfd_open(getpid(), PIDFD_NONBLOCK));
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    struct rlimit_t {
        unsigned long soft, hard;
    } limit = {fd + 1, 1024};
    CHECK_OK(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
    CHECK_ERR(pidfd_open(getpid(), 0), EMFILE);
}

static void fdinfo(int fd, char *pid, char *nspid) {
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "r");
    CHECK(file);
    *pid = *nspid = 0;
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "Pid:\t%31s", pid);
        sscanf(line, "NSpid:\t%31s", nspid);
    }
    if (file)
        fclose(file);
}

TEST(life_and_end) {
    pid_t pid = sleeper();
    int fd = CHECK_OK(pidfd_open(pid, 0));
    char text[32], shown[32], nspid[32];
    snprintf(text, sizeof text, "%d", pid);
    fdinfo(fd, shown, nspid);
    CHECK_STR(shown, text);
    CHECK_STR(nspid, text);
    CHECK_EQ(events(fd), 0);
    kill(pid, SIGKILL);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    CHECK_EQ(poll_fd.revents, POLLIN);
    // A zombie is still there, for signals too.
    CHECK_OK(pidfd_kill(fd, SIGTERM, NULL, 0));
    close(CHECK_OK(pidfd_open(pid, 0)));
    CHECK_ERR(pidfd_getfd(fd, 0, 0), ESRCH);
    siginfo_t info;
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT));
    CHECK_EQ(info.si_pid, pid);
    CHECK_EQ(events(fd), POLLIN);
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
    CHECK_EQ(info.si_code, CLD_KILLED);
    CHECK_EQ(info.si_status, SIGKILL);
    CHECK_EQ(events(fd), POLLIN | POLLHUP);
    CHECK_ERR(pidfd_kill(fd, 0, NULL, 0), ESRCH);
    CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
    CHECK_ERR(pidfd_open(pid, 0), ESRCH);
    fdinfo(fd, shown, nspid);
    CHECK_STR(shown, "-1");
}

TEST(threads) {
    int ends[2], go[2], pipes[3];
    CHECK_OK(pipe(ends));
    CHECK_OK(pipe(go));
    pipes[1] = ends[1];
    pipes[2] = go[0];
    pthread_t thread;
    CHECK_RET(pthread_create(&thread, NULL, report_tid, pipes), 0);
    pid_t tid;
    CHECK_EQ(read(ends[0], &tid, sizeof tid), sizeof tid);
    int fd = pidfd_open(tid, 0);
    // Linux 6.15 says ENOENT.
    CHECK(fd == -1 && (errno == EINVAL || errno == ENOENT));
    fd = CHECK_OK(pidfd_open(tid, PIDFD_THREAD));
    int whole = CHECK_OK(pidfd_open(getpid(), 0));
    CHECK_EQ(events(fd), 0);
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    // To the thread, as a thread's descriptor does of itself, or to its process.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK_OK(pidfd_kill(fd, 0, NULL, 0));
    CHECK_OK(pidfd_kill(fd, 0, NULL, SIGNAL_THREAD));
    CHECK_OK(pidfd_kill(fd, 0, NULL, SIGNAL_THREAD_GROUP));
    // The number of a thread, and of most processes, is no process group's.
    CHECK_ERR(pidfd_kill(fd, 0, NULL, SIGNAL_PROCESS_GROUP), ESRCH);
    CHECK_OK(pidfd_kill(whole, 0, NULL, SIGNAL_THREAD));
    CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG), ECHILD);
    write(go[1], "x", 1);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    pthread_join(thread, NULL);
    // It is told of, and can be joined, a little before it is gone.
    for (int i = 0; i < 1000 && !(events(fd) & POLLHUP); i++)
        usleep(5000);
    CHECK_EQ(events(fd), POLLIN | POLLHUP);
    CHECK_ERR(pidfd_kill(fd, 0, NULL, 0), ESRCH);
    CHECK_EQ(events(whole), 0);
}

static void *outlive(void *unused) {
    (void)unused;
    usleep(150000);
    syscall(SYS_exit_group, 3);
    return NULL;
}

TEST(process_with_an_ended_leader) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, outlive, NULL);
        syscall(SYS_exit, 0);
    }
    int fd = CHECK_OK(pidfd_open(pid, 0)), thread = CHECK_OK(pidfd_open(pid, PIDFD_THREAD));
    struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = thread, .events = POLLIN}};
    // The process ends with its last thread; the leader's own end may be told of earlier.
    do {
        CHECK_OK(poll(both, 2, 10000));
        siginfo_t info = {0};
        CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT));
        if (both[0].revents)
            CHECK_EQ(info.si_pid, pid);
        both[1].fd = -1;
    } while (!both[0].revents);
    siginfo_t info;
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
    CHECK_EQ(info.si_status, 3);
}

TEST(waiting) {
    siginfo_t info;
    CHECK_ERR(waitid(P_PIDFD, -1, &info, WEXITED), EINVAL);
    CHECK_ERR(waitid(P_PIDFD, 1000, &info, WEXITED), EBADF);
    CHECK_ERR(waitid(P_PIDFD, CHECK_OK(open("/dev/null", O_RDONLY)), &info, WEXITED), EBADF);
    CHECK_ERR(waitid(P_PIDFD, CHECK_OK(pidfd_open(getppid(), 0)), &info, WEXITED), ECHILD);
    CHECK_ERR(waitid(P_PIDFD, CHECK_OK(pidfd_open(getpid(), 0)), &info, WEXITED), ECHILD);
    pid_t pid = sleeper();
    int fd = CHECK_OK(pidfd_open(pid, PIDFD_NONBLOCK));
    CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
    memset(&info, 0xff, sizeof info);
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    CHECK_EQ(info.si_pid, 0);
    CHECK_EQ(info.si_signo, 0);
    CHECK_OK(pidfd_kill(fd, SIGSTOP, NULL, 0));
    CHECK_OK(fcntl(fd, F_SETFL, 0));
    CHECK_OK(waitid(P_PIDFD, fd, &info, WSTOPPED));
    CHECK_EQ(info.si_code, CLD_STOPPED);
    CHECK_OK(pidfd_kill(fd, SIGCONT, NULL, 0));
    CHECK_OK(waitid(P_PIDFD, fd, &info, WCONTINUED));
    CHECK_EQ(info.si_code, CLD_CONTINUED);
    CHECK_OK(pidfd_kill(fd, SIGKILL, NULL, 0));
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
}

TEST(epoll_of_many) {
    int epoll = CHECK_OK(epoll_create1(0)), fds[5];
    pid_t pids[5];
    for (int i = 0; i < 5; i++) {
        pids[i] = sleeper();
        fds[i] = CHECK_OK(pidfd_open(pids[i], 0));
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event));
    }
    struct epoll_event found[5];
    CHECK_EQ(epoll_wait(epoll, found, 5, 0), 0);
    for (int i = 4; i >= 0; i--) {
        kill(pids[i], SIGKILL);
        CHECK_EQ(epoll_wait(epoll, found, 5, 10000), 1);
        CHECK_EQ(found[0].data.u32, i);
        CHECK_EQ(found[0].events, EPOLLIN);
        CHECK_EQ(waitpid(pids[i], NULL, 0), pids[i]);
        CHECK_EQ(epoll_wait(epoll, found, 5, 0), 1);
        CHECK_EQ(found[0].events, EPOLLIN | EPOLLHUP);
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, fds[i], NULL));
    }
}

TEST(signals) {
    int me = CHECK_OK(pidfd_open(getpid(), 0));
    CHECK_ERR(pidfd_kill(me, 0, NULL, 8), EINVAL);
    CHECK_ERR(pidfd_kill(me, 0, NULL, SIGNAL_THREAD | SIGNAL_THREAD_GROUP), EINVAL);
    CHECK_ERR(pidfd_kill(me, 65, NULL, 0), EINVAL);
    CHECK_ERR(pidfd_kill(me, -1, NULL, 0), EINVAL);
    CHECK_ERR(pidfd_kill(-1, 0, NULL, 0), EBADF);
    CHECK_ERR(pidfd_kill(-1, 0, NULL, 8), EINVAL);
    CHECK_ERR(pidfd_kill(CHECK_OK(open("/dev/null", O_RDONLY)), 0, NULL, 0), EBADF);
    CHECK_ERR(pidfd_kill(me, SIGUSR1, BAD, 0), EFAULT);
    siginfo_t info = {.si_signo = SIGUSR2, .si_code = SI_QUEUE};
    CHECK_ERR(pidfd_kill(me, SIGUSR1, &info, 0), EINVAL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK_OK(pidfd_kill(me, SIGUSR1, NULL, 0));
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_EQ(info.si_code, SI_USER);
    CHECK_EQ(info.si_pid, getpid());
    // To itself a process may say anything; to others only what does not look like the kernel's own words.
    memset(&info, 0, sizeof info);
    info.si_signo = SIGUSR1;
    info.si_code = SI_USER;
    info.si_pid = 4711;
    CHECK_OK(pidfd_kill(me, SIGUSR1, &info, 0));
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_EQ(info.si_pid, 4711);
    int parent = CHECK_OK(pidfd_open(getppid(), 0));
    info.si_signo = SIGURG;
    info.si_code = SI_USER;
    CHECK_ERR(pidfd_kill(parent, SIGURG, &info, 0), EPERM);
    info.si_code = SI_TKILL;
    CHECK_ERR(pidfd_kill(parent, SIGURG, &info, 0), EPERM);
    info.si_code = SI_QUEUE;
    CHECK_OK(pidfd_kill(parent, SIGURG, &info, 0));
    info.si_signo = SIGUSR1;
    info.si_code = SI_USER;
    CHECK_ERR(pidfd_kill(me, SIGUSR1, &info, SIGNAL_PROCESS_GROUP), EPERM);
    CHECK_OK(pidfd_kill(me, SIGUSR1, &info, SIGNAL_THREAD));
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_OK(pidfd_kill(me, SIGUSR1, NULL, SIGNAL_THREAD));
    // The C library's own calls hide this code.
    CHECK_EQ(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8), SIGUSR1);
    CHECK_EQ(info.si_code, SI_TKILL);
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_ERR(pidfd_kill(parent, 0, NULL, 0), EPERM);
        CHECK_ERR(pidfd_kill(parent, SIGTERM, NULL, 0), EPERM);
    });
}

TEST(process_groups) {
    pid_t first = sleeper();
    CHECK_OK(setpgid(first, first));
    pid_t second = sleeper();
    CHECK_OK(setpgid(second, first));
    int fd = CHECK_OK(pidfd_open(first, 0));
    CHECK_OK(pidfd_kill(fd, SIGTERM, NULL, SIGNAL_PROCESS_GROUP));
    int status;
    CHECK_EQ(waitpid(first, &status, 0), first);
    CHECK_EQ(WTERMSIG(status), SIGTERM);
    CHECK_EQ(waitpid(second, &status, 0), second);
    CHECK_EQ(WTERMSIG(status), SIGTERM);
}

TEST(directories_of_proc) {
    // A directory of /proc stands for its process here.
    char path[64];
    pid_t pid = sleeper();
    snprintf(path, sizeof path, "/proc/%d", pid);
    int fd = CHECK_OK(open(path, O_RDONLY | O_DIRECTORY));
    CHECK_OK(pidfd_kill(fd, 0, NULL, 0));
    CHECK_OK(pidfd_kill(fd, SIGKILL, NULL, 0));
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(WTERMSIG(status), SIGKILL);
    CHECK_ERR(pidfd_kill(fd, 0, NULL, 0), ESRCH);
    siginfo_t info;
    CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), EBADF);
    CHECK_ERR(pidfd_getfd(fd, 0, 0), EBADF);
    CHECK_ERR(pidfd_kill(CHECK_OK(open("/proc", O_RDONLY | O_DIRECTORY)), 0, NULL, 0), EBADF);
    CHECK_ERR(pidfd_kill(CHECK_OK(open("/proc/self/fd", O_RDONLY | O_DIRECTORY)), 0, NULL, 0), EBADF);
}

TEST(taking_descriptors) {
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        int file = open("shared", O_CREAT | O_RDWR, 0600);
        dup2(file, 100);
        write(100, "0123456789", 10);
        write(pipes[1], "x", 1);
        for (;;)
            pause();
    }
    char byte, text[5] = "";
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    int fd = CHECK_OK(pidfd_open(pid, 0));
    CHECK_ERR(pidfd_getfd(fd, 100, 1), EINVAL);
    CHECK_ERR(pidfd_getfd(-1, 100, 0), EBADF);
    CHECK_ERR(pidfd_getfd(0, 100, 0), EBADF);
    CHECK_ERR(pidfd_getfd(fd, 101, 0), EBADF);
    CHECK_ERR(pidfd_getfd(fd, -1, 0), EBADF);
    int file = CHECK_OK(pidfd_getfd(fd, 100, 0));
    CHECK_EQ(fcntl(file, F_GETFD), FD_CLOEXEC);
    // It is the same open file, with one position.
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 10);
    CHECK_EQ(pread(file, text, 4, 3), 4);
    CHECK_STR(text, "3456");
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_ERR(pidfd_getfd(fd, 100, 0), EPERM);
        // Not even of a process of the same user, where that one may not be looked into.
        pid_t other = fork();
        if (other == 0) {
            prctl(PR_SET_DUMPABLE, 0);
            write(pipes[1], "y", 1);
            for (;;)
                pause();
        }
        CHECK_EQ(read(pipes[0], &byte, 1), 1);
        int closed = CHECK_OK(pidfd_open(other, 0));
        CHECK_ERR(pidfd_getfd(closed, 0, 0), EPERM);
        kill(other, SIGKILL);
    });
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(of_an_exec) {
    // The descriptor stays with the process whatever program it runs, and whichever thread started it.
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        read(pipes[0], &(char){0}, 1);
        execl("/bin/sh", "sh", "-c", "exit 42", NULL);
        _exit(1);
    }
    int fd = CHECK_OK(pidfd_open(pid, 0));
    write(pipes[1], "x", 1);
    siginfo_t info;
    CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
    CHECK_EQ(info.si_status, 42);
}
