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
#include <sys/shm.h>
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

/* The kinds of things, by what keeps them. */
#include "slopes/sockets.h"
#include "slopes/descriptors.h"
#include "slopes/locks.h"
#include "slopes/mounts.h"
#include "slopes/names.h"
#include "slopes/events.h"
#include "slopes/memory.h"
#include "slopes/tasks.h"
#include "slopes/ipc.h"

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
    {"shared locks", shared_locks, 100000},
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
    {"areas of a file", file_areas, 30000},
    {"attachments of a segment", attachments, 30000},
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
