// Locks: flock(2), record locks of processes and of open file descriptions, what gives them up, deadlocks, signals,
// and /proc/locks.
#include "../check.h"
#include <sched.h>
#include <sys/file.h>

static int lock(int fd, int command, short type, off_t start, off_t len) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, command, &lock);
}

static struct flock look(int fd, int command, short type, off_t start, off_t len) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    CHECK_OK(fcntl(fd, command, &lock));
    return lock;
}

// The first lock another process sees in its way.
#define CHECK_BLOCKER(fd, at, len, type, start, length)                                                               \
    CHECK_CHILD({                                                                                                     \
        struct flock seen = look(fd, F_GETLK, F_WRLCK, at, len);                                                      \
        CHECK_EQ(seen.l_type, type);                                                                                  \
        if (seen.l_type != F_UNLCK) {                                                                                 \
            CHECK_EQ(seen.l_start, start);                                                                            \
            CHECK_EQ(seen.l_len, length);                                                                             \
            CHECK_EQ(seen.l_whence, SEEK_SET);                                                                        \
            CHECK_EQ(seen.l_pid, getppid());                                                                          \
        }                                                                                                             \
    })

static int file(void) {
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    MUST(ftruncate(fd, 100));
    return fd;
}

static void nothing(int signal) {}

static void catch(int signal, int flags) {
    struct sigaction action = {.sa_handler = nothing, .sa_flags = flags};
    MUST(sigaction(signal, &action, NULL));
}

static void pause_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

TEST(flock_rules) {
    int one = file(), two = MUST(open("f", O_RDONLY)), three = dup(one);
    CHECK_OK(flock(one, LOCK_SH));
    CHECK_OK(flock(two, LOCK_SH));
    CHECK_ERR(flock(one, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    // The failed change lost the old lock.
    CHECK_OK(flock(two, LOCK_EX | LOCK_NB));
    CHECK_ERR(flock(one, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK_OK(flock(two, LOCK_UN));
    CHECK_OK(flock(two, LOCK_UN));
    // A duplicate is the same lock, and unlocks it.
    CHECK_OK(flock(one, LOCK_EX));
    CHECK_OK(flock(three, LOCK_EX | LOCK_NB));
    CHECK_OK(flock(three, LOCK_SH | LOCK_NB));
    CHECK_OK(flock(two, LOCK_SH | LOCK_NB));
    CHECK_OK(flock(three, LOCK_UN));
    CHECK_OK(flock(two, LOCK_EX | LOCK_NB));
    CHECK_OK(flock(two, LOCK_UN));
    // It lasts until the last descriptor is closed.
    CHECK_OK(flock(one, LOCK_EX));
    CHECK_OK(close(one));
    CHECK_ERR(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK_OK(close(three));
    CHECK_OK(flock(two, LOCK_SH | LOCK_NB));
    CHECK_ERR(flock(-1, LOCK_SH), EBADF);
    CHECK_ERR(flock(two, 0), EINVAL);
    CHECK_ERR(flock(two, LOCK_SH | LOCK_EX), EINVAL);
    CHECK_ERR(flock(two, LOCK_NB), EINVAL);
    CHECK_ERR(flock(two, 64), EINVAL);
    int path = MUST(open("f", O_PATH));
    CHECK_ERR(flock(path, LOCK_SH), EBADF);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_OK(flock(pipes[0], LOCK_EX));
    CHECK_OK(mkdir("d", 0755));
    int d = MUST(open("d", O_RDONLY)), e = MUST(open("d", O_RDONLY));
    CHECK_OK(flock(d, LOCK_EX));
    CHECK_ERR(flock(e, LOCK_SH | LOCK_NB), EWOULDBLOCK);
}

TEST(flock_and_fork) {
    int fd = file(), other = MUST(open("f", O_RDONLY));
    CHECK_OK(flock(fd, LOCK_EX));
    // The child has the same lock; closing its descriptor leaves it, unlocking does not.
    CHECK_CHILD({ close(fd); });
    CHECK_ERR(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK_CHILD({ CHECK_OK(flock(fd, LOCK_UN)); });
    CHECK_OK(flock(other, LOCK_SH | LOCK_NB));
}

TEST(flock_waits) {
    int fd = file();
    CHECK_OK(flock(fd, LOCK_EX));
    int pipes[2];
    MUST(pipe(pipes));
    pid_t child = fork();
    if (child == 0) {
        int own = MUST(open("f", O_RDONLY));
        CHECK_OK(flock(own, LOCK_SH));
        write(pipes[1], "x", 1);
        _exit(0);
    }
    pause_ms(30);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    char byte;
    CHECK_ERR(read(pipes[0], &byte, 1), EAGAIN);
    CHECK_OK(flock(fd, LOCK_UN));
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
}

TEST(waits_end_with_signals) {
    int fd = file();
    CHECK_OK(flock(fd, LOCK_EX));
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    int done[2];
    CHECK_OK(pipe(done));
    pid_t child = fork();
    if (child == 0) {
        int own = MUST(open("f", O_RDWR));
        catch(SIGALRM, 0);
        // Again and again: the first may come before the wait.
        ualarm(20000, 20000);
        CHECK_ERR(flock(own, LOCK_EX), EINTR);
        CHECK_ERR(lock(own, F_SETLKW, F_RDLCK, 1, 1), EINTR);
        CHECK_ERR(lock(own, F_OFD_SETLKW, F_RDLCK, 1, 1), EINTR);
        // With SA_RESTART the wait goes on, until the lock is free.
        catch(SIGALRM, SA_RESTART);
        MUST(write(done[1], "", 1));
        CHECK_OK(flock(own, LOCK_EX));
        _exit(0);
    }
    char byte;
    CHECK_EQ(read(done[0], &byte, 1), 1);
    pause_ms(50);
    CHECK_OK(flock(fd, LOCK_UN));
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(record_rules) {
    int fd = file(), reader = MUST(open("f", O_RDONLY)), writer = MUST(open("f", O_WRONLY));
    CHECK_ERR(lock(reader, F_SETLK, F_WRLCK, 0, 1), EBADF);
    CHECK_ERR(lock(writer, F_SETLK, F_RDLCK, 0, 1), EBADF);
    CHECK_OK(lock(reader, F_SETLK, F_RDLCK, 0, 1));
    CHECK_OK(lock(writer, F_SETLK, F_WRLCK, 0, 1));
    CHECK_OK(lock(reader, F_SETLK, F_UNLCK, 0, 1));
    CHECK_ERR(lock(fd, F_SETLK, 7, 0, 1), EINVAL);
    CHECK_ERR(lock(fd, F_GETLK, 7, 0, 1), EINVAL);
    CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, -1, 1), EINVAL);
    CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, 5, -6), EINVAL);
    CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, LLONG_MAX, 2), EOVERFLOW);
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, LLONG_MAX, 1));
    struct flock bad = {.l_type = F_WRLCK, .l_whence = 9};
    CHECK_ERR(fcntl(fd, F_SETLK, &bad), EINVAL);
    CHECK_ERR(fcntl(fd, F_SETLK, BAD), EFAULT);
    CHECK_ERR(fcntl(fd, F_GETLK, BAD), EFAULT);
    CHECK_ERR(fcntl(-1, F_SETLK, BAD), EBADF);
    // A negative length is what lies before; the end and the position are starts too.
    struct flock back = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -10, .l_len = -5};
    CHECK_OK(fcntl(fd, F_SETLK, &back));
    CHECK_BLOCKER(fd, 0, 200, F_WRLCK, 85, 5);
    lseek(fd, 50, SEEK_SET);
    struct flock here = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 0, .l_len = 0};
    CHECK_OK(fcntl(fd, F_SETLK, &here));
    CHECK_BLOCKER(fd, 0, 0, F_WRLCK, 50, 0);
    // The own locks are in nobody's way, and nothing else of the structure is touched then.
    struct flock own = look(fd, F_GETLK, F_WRLCK, 3, 4);
    CHECK_EQ(own.l_type, F_UNLCK);
    CHECK_EQ(own.l_start, 3);
    CHECK_EQ(own.l_len, 4);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_OK(lock(pipes[0], F_SETLK, F_RDLCK, 0, 0));
}

TEST(split_and_merge) {
    int fd = file();
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 10, 20));
    CHECK_BLOCKER(fd, 0, 0, F_WRLCK, 10, 20);
    CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 15, 5));
    CHECK_BLOCKER(fd, 0, 0, F_WRLCK, 10, 5);
    CHECK_BLOCKER(fd, 15, 5, F_UNLCK, 0, 0);
    CHECK_BLOCKER(fd, 15, 6, F_WRLCK, 20, 10);
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 15, 5));
    CHECK_BLOCKER(fd, 12, 1, F_WRLCK, 10, 20);
    CHECK_OK(lock(fd, F_SETLK, F_RDLCK, 12, 3));
    CHECK_BLOCKER(fd, 0, 12, F_WRLCK, 10, 2);
    CHECK_BLOCKER(fd, 12, 1, F_RDLCK, 12, 3);
    CHECK_BLOCKER(fd, 15, 1, F_WRLCK, 15, 15);
    CHECK_CHILD({
        CHECK_EQ(look(fd, F_GETLK, F_RDLCK, 12, 3).l_type, F_UNLCK);
        CHECK_OK(lock(fd, F_SETLK, F_RDLCK, 12, 3));
        CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, 11, 3), EAGAIN);
        CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, 12, 1), EAGAIN);
        CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    });
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 30, 0));
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 12, 3));
    CHECK_BLOCKER(fd, 0, 0, F_WRLCK, 10, 0);
    CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    CHECK_BLOCKER(fd, 0, 0, F_UNLCK, 0, 0);
}

TEST(given_up_by_close) {
    int fd = file(), other = MUST(open("f", O_RDONLY)), copy = dup(fd);
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    CHECK_OK(close(copy));
    CHECK_BLOCKER(fd, 0, 0, F_UNLCK, 0, 0);
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    CHECK_OK(close(other));
    CHECK_BLOCKER(fd, 0, 0, F_UNLCK, 0, 0);
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    // The child's closing is the child's.
    CHECK_CHILD({ close(fd); });
    CHECK_BLOCKER(fd, 0, 0, F_WRLCK, 0, 10);
    // A path descriptor's closing counts for nothing.
    other = MUST(open("f", O_PATH));
    CHECK_OK(close(other));
    CHECK_BLOCKER(fd, 0, 0, F_WRLCK, 0, 10);
    // dup2 closes too.
    other = MUST(open("f", O_RDONLY));
    CHECK_EQ(dup2(0, other), other);
    CHECK_BLOCKER(fd, 0, 0, F_UNLCK, 0, 0);
    // A child's locks go when it ends.
    CHECK_CHILD({ CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10)); });
    CHECK_BLOCKER(fd, 0, 0, F_UNLCK, 0, 0);
}

TEST(exec_keeps_them) {
    int fd = file();
    int pipes[2];
    MUST(pipe(pipes));
    pid_t child = fork();
    if (child == 0) {
        CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
        dup2(pipes[0], 0);
        close(pipes[1]);
        execl("/proc/self/exe", "locks", "wait_for_input", NULL);
        _exit(1);
    }
    close(pipes[0]);
    for (int i = 0; i < 1000 && look(fd, F_GETLK, F_WRLCK, 0, 0).l_type == F_UNLCK; i++)
        pause_ms(5);
    pause_ms(50);
    CHECK_EQ(look(fd, F_GETLK, F_WRLCK, 0, 0).l_pid, child);
    close(pipes[1]);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(look(fd, F_GETLK, F_WRLCK, 0, 0).l_type, F_UNLCK);
}

// What the test before becomes; on its own it has nothing to wait for.
TEST(wait_for_input) {
    char byte;
    int null = open("/dev/null", O_RDONLY);
    if (isatty(0))
        dup2(null, 0);
    CHECK_OK(fcntl(0, F_GETFD));
    struct stat st;
    if (fstat(0, &st) == 0 && S_ISFIFO(st.st_mode))
        CHECK_EQ(read(0, &byte, 1), 0);
}

TEST(waiting_and_deadlock) {
    int fd = file();
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 1));
    int pipes[2];
    MUST(pipe(pipes));
    pid_t child = fork();
    if (child == 0) {
        CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 1, 1));
        write(pipes[1], "x", 1);
        CHECK_OK(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
        _exit(0);
    }
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    until_asleep(child);
    CHECK_ERR(lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    CHECK_ERR(lock(fd, F_SETLKW, F_RDLCK, 1, 1), EDEADLK);
    CHECK_ERR(lock(fd, F_SETLK, F_RDLCK, 1, 1), EAGAIN);
    CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 0, 1));
    CHECK_OK(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(deadlock_of_three) {
    int fd = file();
    int ready[2];
    MUST(pipe(ready));
    volatile int *go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 1));
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            CHECK_OK(lock(fd, F_SETLK, F_WRLCK, i + 1, 1));
            write(ready[1], "x", 1);
            // Each waits for the one before, and sleeps for nothing else.
            while (!*go)
                sched_yield();
            CHECK_OK(lock(fd, F_SETLKW, F_WRLCK, i, 1));
            _exit(0);
        }
    }
    char bytes[2];
    CHECK_EQ(read(ready[0], bytes, 1), 1);
    CHECK_EQ(read(ready[0], bytes, 1), 1);
    *go = 1;
    for (int i = 0; i < 2; i++)
        until_asleep(children[i]);
    CHECK_ERR(lock(fd, F_SETLKW, F_WRLCK, 2, 1), EDEADLK);
    CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(status, 0);
    }
}

// A child that waits for a lock, says when it has it, and keeps it until its end. It waits when this returns.
#define WAITER(say, ...)                                                                                              \
    ({                                                                                                                \
        pid_t child = fork();                                                                                         \
        if (child == 0) {                                                                                             \
            int own = open("f", O_RDWR);                                                                              \
            CHECK_OK(__VA_ARGS__);                                                                                    \
            write(ends[1], say, 1);                                                                                   \
            for (;;)                                                                                                  \
                pause();                                                                                              \
        }                                                                                                             \
        until_asleep(child);                                                                                          \
        child;                                                                                                        \
    })

static void end(pid_t child) {
    int status;
    CHECK_OK(kill(child, SIGKILL));
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, SIGKILL);
}

TEST(the_next_who_can_has_a_whole_file) {
    int fd = file(), ends[2];
    char said[2];
    MUST(pipe(ends));
    CHECK_OK(flock(fd, LOCK_EX));
    pid_t gone = WAITER("0", flock(own, LOCK_EX));
    pid_t first = WAITER("1", flock(own, LOCK_EX));
    pid_t second = WAITER("2", flock(own, LOCK_EX));
    // One that gives up stands in nobody's way. Linux has the first behind it try anew, and that then the second.
    end(gone);
    until_asleep(first);
    until_asleep(second);
    CHECK_OK(flock(fd, LOCK_UN));
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(said[0], '1');
    end(first);
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(said[0], '2');
    pid_t sharing[] = {WAITER("3", flock(own, LOCK_SH)), WAITER("3", flock(own, LOCK_SH))};
    end(second);
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(said[0], '3');
    CHECK_ERR(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    end(sharing[0]);
    end(sharing[1]);
    CHECK_OK(flock(fd, LOCK_EX | LOCK_NB));
}

TEST(all_who_can_have_a_record) {
    int fd = file(), ends[2];
    char said[2];
    MUST(pipe(ends));
    CHECK_OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10));
    pid_t left = WAITER("l", lock(own, F_OFD_SETLKW, F_WRLCK, 0, 5));
    pid_t right = WAITER("r", lock(own, F_SETLKW, F_WRLCK, 5, 5));
    pid_t both = WAITER("b", lock(own, F_SETLKW, F_WRLCK, 0, 10));
    CHECK_OK(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 10));
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(read(ends[0], said + 1, 1), 1);
    CHECK(said[0] + said[1] == 'l' + 'r');
    end(left);
    end(right);
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(said[0], 'b');
    // A lock that becomes a shared one lets those in who share.
    CHECK_OK(lock(fd, F_OFD_SETLK, F_WRLCK, 20, 1));
    pid_t sharing[] = {WAITER("s", lock(own, F_OFD_SETLKW, F_RDLCK, 20, 1)),
                       WAITER("s", lock(own, F_SETLKW, F_RDLCK, 0, 0))};
    end(both);
    CHECK_OK(lock(fd, F_OFD_SETLK, F_RDLCK, 20, 1));
    CHECK_EQ(read(ends[0], said, 1), 1);
    CHECK_EQ(read(ends[0], said, 1), 1);
    end(sharing[0]);
    end(sharing[1]);
}

TEST(descriptions) {
    int one = file(), two = MUST(open("f", O_RDWR));
    CHECK_OK(lock(one, F_OFD_SETLK, F_WRLCK, 0, 10));
    // In the way of another description even of the same process, and of its process locks.
    CHECK_ERR(lock(two, F_OFD_SETLK, F_RDLCK, 5, 1), EAGAIN);
    CHECK_ERR(lock(two, F_SETLK, F_RDLCK, 5, 1), EAGAIN);
    CHECK_ERR(lock(one, F_SETLK, F_RDLCK, 5, 1), EAGAIN);
    struct flock seen = look(two, F_OFD_GETLK, F_RDLCK, 0, 0);
    CHECK_EQ(seen.l_type, F_WRLCK);
    CHECK_EQ(seen.l_pid, -1);
    CHECK_EQ(seen.l_len, 10);
    CHECK_EQ(look(two, F_GETLK, F_RDLCK, 0, 0).l_pid, -1);
    CHECK_EQ(look(one, F_OFD_GETLK, F_RDLCK, 0, 0).l_type, F_UNLCK);
    struct flock bad = {.l_type = F_RDLCK, .l_pid = 1};
    CHECK_ERR(fcntl(one, F_OFD_SETLK, &bad), EINVAL);
    CHECK_ERR(fcntl(one, F_OFD_GETLK, &bad), EINVAL);
    // Fork and dup share it; it ends with the last descriptor.
    int copy = dup(one);
    CHECK_CHILD({
        CHECK_OK(lock(one, F_OFD_SETLK, F_RDLCK, 0, 10));
        close(one);
        close(copy);
    });
    CHECK_OK(lock(two, F_OFD_SETLK, F_RDLCK, 0, 1));
    CHECK_OK(lock(two, F_OFD_SETLK, F_UNLCK, 0, 1));
    CHECK_OK(lock(one, F_OFD_SETLK, F_WRLCK, 0, 10));
    CHECK_OK(close(one));
    CHECK_ERR(lock(two, F_OFD_SETLK, F_RDLCK, 5, 1), EAGAIN);
    // Closing another descriptor of the file gives up process locks alone.
    int third = MUST(open("f", O_RDWR));
    CHECK_OK(close(third));
    CHECK_ERR(lock(two, F_OFD_SETLK, F_RDLCK, 5, 1), EAGAIN);
    CHECK_OK(close(copy));
    CHECK_OK(lock(two, F_OFD_SETLK, F_RDLCK, 5, 1));
    // flock's locks are of another world.
    CHECK_OK(flock(two, LOCK_EX | LOCK_NB));
}

static int proc_locks(const char *kind, const char *mode, const char *range, pid_t pid, ino_t inode) {
    FILE *list = fopen("/proc/locks", "r");
    char line[200], part[64];
    int found = 0;
    snprintf(part, sizeof part, ":%lu ", (unsigned long)inode);
    while (list && fgets(line, sizeof line, list)) {
        char a[16], b[16], c[16], d[64];
        int owner;
        if (sscanf(line, "%*d: %15s %15s %15s %d %63s", a, b, c, &owner, d) != 5)
            continue;
        found += !strcmp(a, kind) && !strcmp(c, mode) && owner == pid && strstr(line, part) && strstr(line, range);
    }
    if (list)
        fclose(list);
    return found;
}

TEST(listed_in_proc) {
    int fd = file(), two = MUST(open("f", O_RDWR));
    struct stat st;
    MUST(fstat(fd, &st));
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 5, 10));
    CHECK_OK(flock(fd, LOCK_SH));
    CHECK_OK(lock(two, F_OFD_SETLK, F_RDLCK, 50, 0));
    CHECK_EQ(proc_locks("POSIX", "WRITE", " 5 14\n", getpid(), st.st_ino), 1);
    CHECK_EQ(proc_locks("FLOCK", "READ", " 0 EOF\n", getpid(), st.st_ino), 1);
    CHECK_EQ(proc_locks("OFDLCK", "READ", " 50 EOF\n", -1, st.st_ino), 1);
    CHECK_OK(flock(fd, LOCK_UN));
    CHECK_EQ(proc_locks("FLOCK", "READ", " 0 EOF\n", getpid(), st.st_ino), 0);
    // And with the descriptor they belong to.
    char path[64], text[1024] = "";
    sprintf(path, "/proc/self/fdinfo/%d", two);
    int info = MUST(open(path, O_RDONLY));
    read(info, text, sizeof text - 1);
    CHECK(strstr(text, "lock:\t"));
    CHECK(strstr(text, "OFDLCK"));
}

TEST(renamed_and_unlinked) {
    // The lock is the file's, not the name's.
    int fd = file();
    CHECK_OK(link("f", "g"));
    int other = MUST(open("g", O_RDWR));
    CHECK_OK(flock(fd, LOCK_EX));
    CHECK_ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_OK(unlink("f"));
    CHECK_OK(rename("g", "h"));
    CHECK_ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    fd = file();
    CHECK_OK(flock(fd, LOCK_EX | LOCK_NB));
}

TEST(threads_share_process_locks) {
    int fd = file();
    CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    // lockf speaks of the same locks.
    lseek(fd, 0, SEEK_SET);
    CHECK_OK(lockf(fd, F_TEST, 10));
    CHECK_CHILD({
        lseek(fd, 0, SEEK_SET);
        errno = 0;
        CHECK_EQ(lockf(fd, F_TEST, 10), -1);
        CHECK(errno == EACCES || errno == EAGAIN);
        CHECK_ERR(lockf(fd, F_TLOCK, 10), EAGAIN);
    });
    CHECK_OK(lockf(fd, F_ULOCK, 10));
    CHECK_BLOCKER(fd, 0, 0, F_UNLCK, 0, 0);
}

TEST(a_copied_file_keeps_its_locks) {
    // Under an overlay a first write may move the file to another layer; that is nobody's business.
    int reader = file(), other = MUST(open("f", O_RDONLY));
    CHECK_OK(flock(reader, LOCK_SH));
    int writer = MUST(open("f", O_RDWR));
    CHECK_ERR(flock(writer, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_OK(flock(other, LOCK_SH | LOCK_NB));
}
