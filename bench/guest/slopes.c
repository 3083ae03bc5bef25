/* Measures how what the kernel below costs grows with the number of things a program keeps. Prints one line: the name, a
 * tab, nanoseconds for each of the things.
 *
 *   slopes NAME N   makes N things, uses each and takes it away again
 *   slopes names    the names, one a line, each with the most things it can have
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static char name[256];
static char buffer[1 << 16];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void check(int good, const char *what) {
    if (!good)
        err(1, "%s", what);
}

static const char *numbered(long i) {
    snprintf(name, sizeof name, "%ld", i);
    return name;
}

static void make_file(const char *path) {
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    check(fd >= 0, "open");
    close(fd);
}

/* Sends descriptors over a socket. */
static void send_fds(int over, const int *fds, int count) {
    char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec iov = {"x", 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    check(sendmsg(over, &message, 0) == 1, "sendmsg");
}

/* Each socket pair lies in the queue of the next. */
static void socket_chain(long n) {
    int last[2], next[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, last) == 0, "socketpair");
    for (long i = 0; i < n; i++) {
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, next) == 0, "socketpair");
        send_fds(next[0], last, 2);
        close(last[0]);
        close(last[1]);
        memcpy(last, next, sizeof last);
    }
    close(last[0]);
    close(last[1]);
}

/* Each socket lies in its own queue: nobody but the kernel can let go of it. */
static void socket_cycles(long n) {
    for (long i = 0; i < n; i++) {
        int pair[2];
        check(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0, "socketpair");
        send_fds(pair[0], &pair[1], 1);
        close(pair[0]);
        close(pair[1]);
    }
}

static void socket_names(long n) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    for (long i = 0; i < n; i++) {
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        check(fd >= 0 && bind(fd, (void *)&address, sizeof(sa_family_t)) == 0, "bind");
    }
    closefrom(3);
}

static void ports(long n, int type) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (long i = 0; i < n; i++) {
        int fd = socket(AF_INET, type, 0);
        check(fd >= 0 && bind(fd, (void *)&address, sizeof address) == 0, "bind");
    }
    closefrom(3);
}

static void udp_ports(long n) {
    ports(n, SOCK_DGRAM);
}

static void tcp_ports(long n) {
    ports(n, SOCK_STREAM);
}

static int listener(struct sockaddr_in *address) {
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0 && bind(fd, (void *)address, len) == 0 && listen(fd, 128) == 0, "listen");
    check(getsockname(fd, (void *)address, &len) == 0, "getsockname");
    return fd;
}

static int connection(int listening, const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0 && connect(fd, (const void *)to, sizeof *to) == 0, "connect");
    check(accept(listening, NULL, NULL) >= 0, "accept");
    return fd;
}

/* Connections to one port, open all at a time. */
static void connections(long n) {
    struct sockaddr_in address;
    int fd = listener(&address);
    for (long i = 0; i < n; i++)
        connection(fd, &address);
    closefrom(3);
}

/* Connections to one port, one after the other. What remains of each keeps its ports for a while. */
static void ended_connections(long n) {
    struct sockaddr_in address;
    int fd = listener(&address);
    for (long i = 0; i < n; i++) {
        /* The server's end is closed first: that keeps its port then. */
        int client = connection(fd, &address);
        close(client + 1);
        close(client);
    }
}

/* Sockets that share a port, and a datagram for each. */
static void shared_port(long n) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int on = 1, fd = -1;
    for (long i = 0; i < n; i++) {
        fd = socket(AF_INET, SOCK_DGRAM, 0);
        check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0, "setsockopt");
        check(bind(fd, (void *)&address, len) == 0, "bind");
        check(getsockname(fd, (void *)&address, &len) == 0, "getsockname");
    }
    for (long i = 0; i < n; i++)
        check(sendto(fd, "x", 1, 0, (void *)&address, len) == 1, "sendto");
    closefrom(3);
}

/* One file, watched by many epolls. */
static void epolls(long n) {
    int file = eventfd(0, 0);
    struct epoll_event event = {EPOLLIN | EPOLLET, {0}};
    for (long i = 0; i < n; i++) {
        int epoll = epoll_create1(0);
        check(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event) == 0, "epoll_ctl");
    }
    uint64_t one = 1;
    check(write(file, &one, 8) == 8, "write");
    closefrom(file + 1);
}

/* One epoll that watches many files. */
static void epoll_files(long n) {
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {0}};
    uint64_t one = 1;
    for (long i = 0; i < n; i++) {
        int file = eventfd(0, 0);
        check(file >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event) == 0, "epoll_ctl");
        check(write(file, &one, 8) == 8, "write");
    }
    for (long i = 0; i < n; i++)
        check(epoll_wait(epoll, &event, 1, 0) == 1, "epoll_wait");
    closefrom(epoll + 1);
}

static void poll_files(long n) {
    struct pollfd *set = calloc(n, sizeof *set);
    for (long i = 0; i < n; i++) {
        set[i] = (struct pollfd){eventfd(0, 0), POLLIN, 0};
        check(set[i].fd >= 0, "eventfd");
    }
    uint64_t one = 1;
    check(write(set[n - 1].fd, &one, 8) == 8 && poll(set, n, -1) == 1, "poll");
    closefrom(3);
}

static void descriptors(long n) {
    for (long i = 0; i < n; i++)
        check(dup(0) >= 0, "dup");
    for (long i = 0; i < n; i++)
        close(i + 3);
}

/* A table that is long for one number. */
static void descriptor_ranges(long n) {
    check(dup2(0, 1000000) == 1000000, "dup2");
    for (long i = 0; i < n; i++)
        check(syscall(SYS_close_range, 3, 999999, 0) == 0, "close_range");
    close(1000000);
}

static void record_locks_of(long n, int command, int spread) {
    int fd = open("file", O_CREAT | O_RDWR, 0600);
    for (long i = 0; i < n; i++) {
        if (spread)
            fd = open("file", O_RDWR);
        struct flock lock = {.l_type = F_WRLCK, .l_start = i * 2, .l_len = 1};
        check(fcntl(fd, command, &lock) == 0, "fcntl");
    }
    for (long i = 0; !spread && i < n; i++) {
        struct flock lock = {.l_type = F_UNLCK, .l_start = i * 2, .l_len = 1};
        check(fcntl(fd, command, &lock) == 0, "fcntl");
    }
    closefrom(3);
}

static void record_locks(long n) {
    record_locks_of(n, F_SETLK, 0);
}

static void description_locks(long n) {
    record_locks_of(n, F_OFD_SETLK, 1);
}

static void whole_locks(long n) {
    make_file("file");
    for (long i = 0; i < n; i++) {
        int fd = open("file", O_RDWR);
        check(fd >= 0 && flock(fd, LOCK_SH) == 0, "flock");
    }
    closefrom(3);
}

static void *lock_whole(void *unused) {
    int fd = open("file", O_RDWR);
    check(fd >= 0 && flock(fd, LOCK_EX) == 0, "flock");
    close(fd);
    return unused;
}

static void *lock_record(void *unused) {
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    int fd = open("file", O_RDWR);
    check(fd >= 0 && fcntl(fd, F_OFD_SETLKW, &lock) == 0, "fcntl");
    close(fd);
    return unused;
}

/* Threads that wait for one lock and take it one after the other. */
static void lock_waiters_of(long n, void *(*work)(void *)) {
    int fd = open("file", O_CREAT | O_RDWR, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    check(fd >= 0 && flock(fd, LOCK_EX) == 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0, "lock");
    pthread_t *all = calloc(n, sizeof *all);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    for (long i = 0; i < n; i++)
        check(pthread_create(&all[i], &small, work, NULL) == 0, "pthread_create");
    close(fd);
    for (long i = 0; i < n; i++)
        pthread_join(all[i], NULL);
}

static void whole_lock_waiters(long n) {
    lock_waiters_of(n, lock_whole);
}

static void record_lock_waiters(long n) {
    lock_waiters_of(n, lock_record);
}

static void alone_with_mounts(void) {
    check(unshare(CLONE_NEWNS) == 0, "unshare");
    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount");
    mkdir("mounts", 0700);
    check(mount("none", "mounts", "tmpfs", 0, NULL) == 0 && chdir("mounts") == 0, "mount");
}

/* Many mounts beside each other, copied for a namespace, listed and taken away. */
static void mounts(long n) {
    alone_with_mounts();
    mkdir("from", 0700);
    for (long i = 0; i < n; i++) {
        check(mkdir(numbered(i), 0700) == 0, "mkdir");
        check(mount("from", name, NULL, MS_BIND, NULL) == 0, "mount");
    }
    check(unshare(CLONE_NEWNS) == 0, "unshare");
    int fd = open("/proc/self/mountinfo", O_RDONLY);
    while (read(fd, buffer, PAGE) > 0)
        ;
    for (long i = 0; i < n; i++)
        check(umount2(numbered(i), 0) == 0, "umount");
}

/* Each mount on a directory of the one before. */
static void mounts_inside(long n) {
    alone_with_mounts();
    mkdir("from", 0700);
    mkdir("from/d", 0700);
    snprintf(buffer, sizeof buffer, "%s/from", getcwd(name, sizeof name));
    check(chdir("from") == 0, "chdir");
    for (long i = 0; i < n; i++)
        check(mount(buffer, "d", NULL, MS_BIND, NULL) == 0 && chdir("d") == 0, "mount");
    check(unshare(CLONE_NEWNS) == 0, "unshare");
}

/* Many file systems, while many names of another are known. */
static void file_systems(long n) {
    alone_with_mounts();
    mkdir("names", 0700);
    for (long i = 0; i < n; i++) {
        snprintf(name, sizeof name, "names/%ld", i);
        make_file(name);
    }
    for (long i = 0; i < n; i++)
        check(mkdir(numbered(i), 0700) == 0 && mount("none", name, "tmpfs", 0, NULL) == 0, "mount");
    for (long i = 0; i < n; i++)
        check(umount2(numbered(i), 0) == 0, "umount");
}

/* Many mounts that tell each other. */
static void mount_peers(long n) {
    alone_with_mounts();
    check(mount("none", ".", "tmpfs", 0, NULL) == 0 && chdir("../mounts") == 0, "mount");
    mkdir("to", 0700);
    check(mount("none", ".", NULL, MS_PRIVATE, NULL) == 0, "mount");
    mkdir("one", 0700);
    check(mount("none", "one", "tmpfs", 0, NULL) == 0, "mount");
    check(mount("none", "one", NULL, MS_SHARED, NULL) == 0, "mount");
    mkdir("one/below", 0700);
    for (long i = 0; i < n; i++) {
        check(mkdir(numbered(i), 0700) == 0, "mkdir");
        check(mount("one", name, NULL, MS_BIND, NULL) == 0, "mount");
    }
    check(mount("to", "one/below", NULL, MS_BIND, NULL) == 0, "mount");
    check(umount2("one/below", 0) == 0, "umount");
}

static void list_slowly(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    check(fd >= 0, "open");
    while (syscall(SYS_getdents64, fd, buffer, 100) > 0)
        ;
    close(fd);
}

static void names(long n) {
    for (long i = 0; i < n; i++)
        make_file(numbered(i));
    list_slowly(".");
    for (long i = 0; i < n; i++)
        check(unlink(numbered(i)) == 0, "unlink");
}

static void host_names(long n) {
    char place[] = "/var/tmp/slopes.XXXXXX";
    check(mkdtemp(place) && chdir(place) == 0, "mkdtemp");
    names(n);
    check(rmdir(place) == 0, "rmdir");
}

static void absent_names(long n) {
    for (long i = 0; i < n; i++)
        check(access(numbered(i), F_OK) < 0, "access");
}

static void deep_directories(long n) {
    for (long i = 0; i < n; i++)
        check(mkdir("d", 0700) == 0 && chdir("d") == 0, "mkdir");
    for (long i = 0; i < n; i++)
        check(chdir("..") == 0 && rmdir("d") == 0, "rmdir");
}

static void hard_links(long n) {
    make_file("file");
    for (long i = 0; i < n; i++)
        check(link("file", numbered(i)) == 0, "link");
    for (long i = 0; i < n; i++)
        check(unlink(numbered(i)) == 0, "unlink");
}

static void attributes(long n) {
    make_file("file");
    for (long i = 0; i < n; i++) {
        snprintf(name, sizeof name, "user.%ld", i);
        check(setxattr("file", name, "x", 1, 0) == 0, "setxattr");
    }
}

static void timers(long n) {
    timer_t *all = calloc(n, sizeof *all);
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    struct itimerspec far = {.it_value = {100000, 0}};
    for (long i = 0; i < n; i++) {
        int id;
        check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) == 0, "timer_create");
        all[i] = (timer_t)(long)id;
        far.it_value.tv_sec++;
        check(syscall(SYS_timer_settime, id, 0, &far, NULL) == 0, "timer_settime");
    }
    for (long i = 0; i < n; i++)
        check(syscall(SYS_timer_delete, (int)(long)all[i]) == 0, "timer_delete");
}

static void timer_files(long n) {
    struct itimerspec far = {.it_value = {100000, 0}};
    for (long i = 0; i < n; i++) {
        int fd = timerfd_create(CLOCK_MONOTONIC, 0);
        far.it_value.tv_sec++;
        check(fd >= 0 && timerfd_settime(fd, 0, &far, NULL) == 0, "timerfd");
    }
    closefrom(3);
}

static void queued_signals(long n) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    union sigval value = {0};
    for (long i = 0; i < n; i++)
        check(sigqueue(getpid(), SIGRTMIN + i % 8, value) == 0, "sigqueue");
    for (long i = 0; i < n; i++)
        check(sigtimedwait(&all, NULL, &(struct timespec){0, 0}) > 0, "sigtimedwait");
}

static void watches(long n) {
    int fd = inotify_init1(IN_NONBLOCK);
    for (long i = 0; i < n; i++) {
        make_file(numbered(i));
        check(inotify_add_watch(fd, name, IN_OPEN) >= 0, "inotify_add_watch");
    }
    for (long i = 0; i < n; i++) {
        close(open(numbered(i), O_RDONLY));
        check(read(fd, buffer, sizeof buffer) > 0, "read");
    }
    for (long i = 0; i < n; i++)
        check(unlink(numbered(i)) == 0, "unlink");
}

/* One file, watched by many instances. */
static void watchers(long n) {
    make_file("file");
    for (long i = 0; i < n; i++) {
        int fd = inotify_init1(IN_NONBLOCK);
        check(fd >= 0 && inotify_add_watch(fd, "file", IN_ATTRIB) >= 0, "inotify");
    }
    closefrom(3);
}

static void areas(long n) {
    char *memory = mmap(NULL, n * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    for (long i = 0; i < n; i++)
        check(mprotect(memory + i * 2 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    for (long i = 0; i < n; i++)
        memory[i * 2 * PAGE] = 1;
    int fd = open("/proc/self/maps", O_RDONLY);
    while (read(fd, buffer, PAGE) > 0)
        ;
    fd = open("/proc/self/smaps", O_RDONLY);
    while (read(fd, buffer, PAGE) > 0)
        ;
    for (long i = 0; i < n; i++)
        check(munmap(memory + i * 2 * PAGE, PAGE) == 0, "munmap");
}

static void locked_areas(long n) {
    char *memory = mmap(NULL, n * 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    for (long i = 0; i < n; i++)
        check(mlock2(memory + i * 2 * PAGE, PAGE, MLOCK_ONFAULT) == 0, "mlock2");
    for (long i = 0; i < n; i++)
        check(munlock(memory + i * 2 * PAGE, PAGE) == 0, "munlock");
}

/* Pages of a file, every second of them a hole. */
static void page_runs(long n) {
    int fd = memfd_create("file", 0);
    for (long i = 0; i < n; i++)
        check(pwrite(fd, "x", 1, i * 2 * PAGE) == 1, "pwrite");
    char *memory = mmap(NULL, n * 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    volatile char sum = 0;
    for (long i = 0; i < n; i++)
        sum += memory[i * 2 * PAGE];
    for (long i = 0; i < n; i++)
        check(lseek(fd, i * 2 * PAGE, SEEK_DATA) >= 0, "lseek");
    for (long i = 0; i < n; i++)
        check(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * 2 * PAGE, PAGE) == 0, "fallocate");
}

static void children(long n) {
    setpgid(0, 0);
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) {
            pause();
            _exit(0);
        }
    }
    list_slowly("/proc");
    signal(SIGTERM, SIG_IGN);
    check(kill(0, SIGTERM) == 0, "kill");
    for (long i = 0; i < n; i++)
        check(waitpid(-1, NULL, 0) > 0, "waitpid");
}

static void zombies(long n) {
    pid_t *all = calloc(n, sizeof *all);
    for (long i = 0; i < n; i++) {
        all[i] = fork();
        check(all[i] >= 0, "fork");
        if (all[i] == 0)
            _exit(0);
    }
    for (long i = n; i-- > 0;)
        check(waitpid(all[i], NULL, 0) == all[i], "waitpid");
}

/* Each leads a session. */
static void sessions(long n) {
    int end[2];
    check(pipe(end) == 0, "pipe");
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) {
            close(end[1]);
            setsid();
            check(read(end[0], buffer, 1) == 0, "read");
            _exit(0);
        }
    }
    close(end[1]);
    for (long i = 0; i < n; i++)
        check(waitpid(-1, NULL, 0) > 0, "waitpid");
}

/* Children whose parent ends, in a process group of their own. */
static void orphans(long n) {
    int end[2];
    check(pipe(end) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "pipe");
    pid_t parent = fork();
    check(parent >= 0, "fork");
    if (parent == 0) {
        pid_t first = 0;
        for (long i = 0; i < n; i++) {
            pid_t child = fork();
            check(child >= 0, "fork");
            if (child == 0) {
                close(end[1]);
                check(read(end[0], buffer, 1) == 0, "read");
                _exit(0);
            }
            first = first ? first : child;
            check(setpgid(child, first) == 0, "setpgid");
        }
        _exit(0);
    }
    check(waitpid(parent, NULL, 0) == parent, "waitpid");
    close(end[1]);
    for (long i = 0; i < n; i++)
        check(waitpid(-1, NULL, 0) > 0, "waitpid");
}

static void *sleep_on(void *end) {
    check(read(*(int *)end, name, 1) == 0, "read");
    return NULL;
}

/* Threads that end all at a time. */
static void threads(long n) {
    int end[2];
    pthread_t *all = calloc(n, sizeof *all);
    pthread_attr_t small;
    check(pipe(end) == 0 && pthread_attr_init(&small) == 0, "pipe");
    check(pthread_attr_setstacksize(&small, 1 << 16) == 0, "pthread_attr_setstacksize");
    for (long i = 0; i < n; i++)
        check(pthread_create(&all[i], &small, sleep_on, end) == 0, "pthread_create");
    close(end[1]);
    for (long i = 0; i < n; i++)
        check(pthread_join(all[i], NULL) == 0, "pthread_join");
}

/* Threads of a process that is stopped, continued and killed. */
static void stopped_threads(long n) {
    int ready[2], end[2];
    check(pipe(ready) == 0 && pipe(end) == 0, "pipe");
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        pthread_attr_t small;
        pthread_t thread;
        check(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 1 << 16) == 0, "pthread_attr");
        for (long i = 0; i < n; i++)
            check(pthread_create(&thread, &small, sleep_on, end) == 0, "pthread_create");
        check(write(ready[1], "x", 1) == 1, "write");
        sleep_on(end);
    }
    check(read(ready[0], buffer, 1) == 1, "read");
    for (int i = 0; i < 3; i++) {
        check(kill(child, SIGSTOP) == 0 && waitpid(child, NULL, WUNTRACED) == child, "SIGSTOP");
        check(kill(child, SIGCONT) == 0 && waitpid(child, NULL, WCONTINUED) == child, "SIGCONT");
    }
    check(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "SIGKILL");
}

static int word;

static void *wait_for_word(void *of) {
    (void)of;
    while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    return NULL;
}

static void go_on(int signal) {
    (void)signal;
}

/* Threads that wait for one word: each is interrupted, the last to come first, and then all are woken. */
static void futex_waiters(long n) {
    pthread_t *all = calloc(n, sizeof *all);
    pthread_attr_t small;
    struct sigaction action = {.sa_handler = go_on};
    check(sigaction(SIGUSR1, &action, NULL) == 0 && pthread_attr_init(&small) == 0, "sigaction");
    check(pthread_attr_setstacksize(&small, 1 << 16) == 0, "pthread_attr_setstacksize");
    for (long i = 0; i < n; i++)
        check(pthread_create(&all[i], &small, wait_for_word, NULL) == 0, "pthread_create");
    for (long i = n; i-- > 0;)
        check(pthread_kill(all[i], SIGUSR1) == 0, "pthread_kill");
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1 << 30, NULL, NULL, 0);
    for (long i = 0; i < n; i++)
        check(pthread_join(all[i], NULL) == 0, "pthread_join");
}

/* Messages of as many types, the last of them taken first. */
static void message_types(long n) {
    int queue = msgget(IPC_PRIVATE, 0600);
    struct msqid_ds data;
    check(queue >= 0 && msgctl(queue, IPC_STAT, &data) == 0, "msgget");
    data.msg_qbytes = n + 1;
    check(msgctl(queue, IPC_SET, &data) == 0, "msgctl");
    struct {
        long type;
        char text[8];
    } message = {1, ""};
    for (long i = 0; i < n; i++) {
        message.type = i + 1;
        check(msgsnd(queue, &message, 1, IPC_NOWAIT) == 0, "msgsnd");
    }
    for (long i = n; i > 0; i--)
        check(msgrcv(queue, &message, 1, i, IPC_NOWAIT) == 1, "msgrcv");
    msgctl(queue, IPC_RMID, NULL);
}

static void messages(long n) {
    int queue = msgget(IPC_PRIVATE, 0600);
    struct msqid_ds data;
    check(queue >= 0 && msgctl(queue, IPC_STAT, &data) == 0, "msgget");
    data.msg_qbytes = n + 1;
    check(msgctl(queue, IPC_SET, &data) == 0, "msgctl");
    struct {
        long type;
        char text[8];
    } message = {1, ""};
    for (long i = 0; i < n; i++)
        check(msgsnd(queue, &message, 1, IPC_NOWAIT) == 0, "msgsnd");
    for (long i = 0; i < n; i++)
        check(msgrcv(queue, &message, 1, 1, IPC_NOWAIT) == 1, "msgrcv");
    msgctl(queue, IPC_RMID, NULL);
}

/* One set of semaphores, and what is to be undone of each. */
static void semaphores(long n) {
    int set = semget(IPC_PRIVATE, n < 32000 ? n : 32000, 0600);
    check(set >= 0, "semget");
    for (long i = 0; i < n; i++) {
        struct sembuf change = {i % 32000, 1, SEM_UNDO};
        check(semop(set, &change, 1) == 0, "semop");
    }
    semctl(set, 0, IPC_RMID);
}

static void sets(long n) {
    for (long i = 0; i < n; i++)
        check((((int *)buffer)[i] = semget(IPC_PRIVATE, 1, 0600)) >= 0, "semget");
    for (long i = 0; i < n; i++)
        check(semctl(((int *)buffer)[i], 0, IPC_RMID) == 0, "semctl");
}

static const struct kind {
    const char *name;
    void (*work)(long);
    long most;
} kinds[] = {
    {"sockets in a chain of queues", socket_chain, 100000},
    {"sockets in their own queues", socket_cycles, 100000},
    {"automatic names of sockets", socket_names, 100000},
    {"UDP ports", udp_ports, 10000},
    {"TCP ports", tcp_ports, 10000},
    {"connections to one port", connections, 10000},
    {"connections one after the other", ended_connections, 10000},
    {"sockets that share a port", shared_port, 10000},
    {"epolls on one file", epolls, 100000},
    {"files in one epoll", epoll_files, 100000},
    {"files in one poll", poll_files, 100000},
    {"descriptors", descriptors, 100000},
    {"ranges of descriptors", descriptor_ranges, 1000},
    {"record locks", record_locks, 100000},
    {"locks of descriptions", description_locks, 100000},
    {"locks of a whole file", whole_locks, 100000},
    {"waiters for a whole file", whole_lock_waiters, 1000},
    {"waiters for a record", record_lock_waiters, 1000},
    {"mounts", mounts, 10000},
    {"file systems", file_systems, 10000},
    {"mounts in each other", mounts_inside, 10000},
    {"mounts in a peer group", mount_peers, 10000},
    {"files in a directory", names, 100000},
    {"files in a host directory", host_names, 100000},
    {"names that do not exist", absent_names, 100000},
    {"directories in each other", deep_directories, 100000},
    {"links of one file", hard_links, 100000},
    {"attributes of one file", attributes, 1000},
    {"timers", timers, 100000},
    {"timer descriptors", timer_files, 100000},
    {"queued signals", queued_signals, 10000},
    {"inotify watches", watches, 100000},
    {"watchers of one file", watchers, 100},
    {"memory areas", areas, 30000},
    {"locked areas", locked_areas, 30000},
    {"pages between holes", page_runs, 100000},
    {"child processes", children, 1000},
    {"zombies", zombies, 1000},
    {"sessions", sessions, 1000},
    {"orphans", orphans, 1000},
    {"threads", threads, 10000},
    {"stopped threads", stopped_threads, 10000},
    {"threads on one futex", futex_waiters, 10000},
    {"types of messages", message_types, 10000},
    {"messages in a queue", messages, 10000},
    {"semaphores to undo", semaphores, 32000},
    {"sets of semaphores", sets, 10000},
};

int main(int count, char **words) {
    if (count == 2 && !strcmp(words[1], "names")) {
        for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++)
            printf("%s\t%ld\n", kinds[at].name, kinds[at].most);
        return 0;
    }
    if (count != 3)
        errx(2, "usage: slopes NAME N | slopes names");
    struct rlimit most = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_NOFILE, &most);
    char place[] = "/dev/shm/slopes.XXXXXX";
    check(mkdtemp(place) && chdir(place) == 0, "mkdtemp");
    long n = atol(words[2]);
    for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++) {
        if (strcmp(kinds[at].name, words[1]))
            continue;
        /* What it leaves behind, such as mounts, goes with the process. */
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) {
            double start = now();
            kinds[at].work(n);
            printf("%s\t%.0f\n", words[1], (now() - start) / n);
            fflush(stdout);
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) != child)
            ;
        check(chdir("/") == 0, "chdir");
        snprintf(buffer, sizeof buffer, "rm -rf %s", place);
        return system(buffer) != 0 || status != 0;
    }
    errx(2, "%s: no such kind", words[1]);
}
