/* What runs in the containers of these tests: the first argument says what it does. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "circles.h"
#include "owners.h"
#include "texts.h"

static void on_term(int signal) {
    _exit(40 + signal);
}

static void on_resize(int signal) {
    struct winsize size;
    char line[64];
    (void)signal;
    ioctl(0, TIOCGWINSZ, &size);
    int length = snprintf(line, sizeof line, "size %dx%d\n", size.ws_row, size.ws_col);
    write(1, line, length);
}

/* Says what the descriptors from 3 on are: each is used as its kind is used. */
static void show_descriptors(void) {
    for (int fd = 3; fd < 32; fd++) {
        char text[256] = "";
        struct stat info, above;
        int on = 0;
        socklen_t size = sizeof on;
        if (fstat(fd, &info) < 0)
            continue;
        if (fcntl(fd, F_GETFD) != 0)
            printf("%d closes on execution\n", fd);
        if (S_ISREG(info.st_mode)) {
            read(fd, text, 4);
            printf("%d file %s at %ld\n", fd, text, (long)lseek(fd, 0, SEEK_CUR));
        } else if (S_ISFIFO(info.st_mode)) {
            printf("%d pipe %zd\n", fd, write(fd, "pipe", 4));
        } else if (S_ISDIR(info.st_mode)) {
            int inner = openat(fd, "inner", O_RDONLY);
            int made = openat(fd, "made", O_WRONLY | O_CREAT, 0600);
            int reason = made < 0 ? errno : 0;
            read(inner, text, sizeof text - 1);
            fstatat(fd, "..", &above, 0);
            printf("%d directory %s, above %s, %s, outside %s\n", fd, text,
                   above.st_ino == info.st_ino ? "nothing" : "something", made < 0 ? strerror(reason) : "made",
                   openat(fd, "../outside", O_RDONLY) < 0 ? "hidden" : "seen");
            close(inner);
            close(made);
        } else if (S_ISSOCK(info.st_mode) && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on) {
            int peer = accept(fd, NULL, NULL);
            ssize_t length = read(peer, text, sizeof text - 1);
            printf("%d listener %s\n", fd, text);
            write(peer, text, length);
            close(peer);
        } else if (S_ISSOCK(info.st_mode)) {
            ssize_t length = recv(fd, text, sizeof text - 1, 0);
            printf("%d socket %s\n", fd, text);
            send(fd, text, length, 0);
        } else if (isatty(fd)) {
            struct winsize window;
            ioctl(fd, TIOCGWINSZ, &window);
            printf("%d terminal %d rows\n", fd, window.ws_row);
        } else {
            unsigned long long number = 0;
            ssize_t length = read(fd, &number, sizeof number);
            printf("%d other %zd %llu\n", fd, length, number);
        }
    }
    printf("LISTEN_FDS=%s LISTEN_PID=%s\n", getenv("LISTEN_FDS"), getenv("LISTEN_PID"));
}

/* Prints the capability sets of the calling process, in the order of its status, and what else depends on rights. */
static void show_rights(FILE *out) {
    unsigned long long set;
    char line[256], directory[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "Cap%*3s: %llx", &set) == 1)
            fprintf(out, "%llx ", set);
    fclose(status);
    fprintf(out, "euid %d egid %d secure %lu dumpable %d %s %s\n", geteuid(), getegid(), getauxval(AT_SECURE),
            prctl(PR_GET_DUMPABLE), getcwd(directory, sizeof directory),
            open("/secret", O_RDONLY) < 0 ? strerror(errno) : "read");
}

/* Waits for its end. */
static void *sleep_on(void *nothing) {
    for (;;)
        pause();
    return nothing;
}

/* Makes things of one kind without end, until that is refused or the process is killed. */
static void fill(const char *kind) {
    static char much[60000];
    char name[64];
    memset(much, 'x', sizeof much - 1);
    for (long i = 0;; i++) {
        int failed = 0;
        snprintf(name, sizeof name, "/tmp/%ld", i);
        if (!strcmp(kind, "links")) {
            much[4000] = 0;
            failed = symlink(much, name);
        } else if (!strcmp(kind, "attributes")) {
            int fd = open(name, O_WRONLY | O_CREAT, 0600);
            failed = fd < 0 || fsetxattr(fd, "user.a", much, sizeof much, 0) < 0;
            close(fd);
        } else if (!strcmp(kind, "messages")) {
            struct {
                long type;
                char text[8000];
            } message = {1, ""};
            int queue = msgget(IPC_PRIVATE, 0600);
            failed = queue < 0;
            while (!failed && msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0)
                ;
            failed |= errno == ENOMEM;
        } else if (!strcmp(kind, "semaphores")) {
            failed = semget(IPC_PRIVATE, 32000, 0600) < 0;
        } else if (!strcmp(kind, "sockets")) {
            int pair[2];
            failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
            while (!failed && write(pair[0], much, sizeof much) > 0)
                ;
        } else if (!strcmp(kind, "circles")) {
            failed = make_circle(i, much);
        } else if (!strcmp(kind, "copies")) {
            failed = send_itself(much);
        } else if (!strcmp(kind, "filters")) {
            struct sock_filter program[BPF_MAXINSNS] = {{0}};
            struct sock_fprog whole = {BPF_MAXINSNS, program};
            program[BPF_MAXINSNS - 1] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, 0xffff};
            int fd = socket(AF_INET, SOCK_DGRAM, 0);
            failed = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &whole, sizeof whole) < 0;
        } else if (!strcmp(kind, "memberships")) {
            int fd = socket(AF_PACKET, SOCK_DGRAM, 0);
            struct packet_mreq group = {if_nametoindex("lo"), PACKET_MR_MULTICAST, 6, {1}};
            failed = fd < 0;
            for (int number = 0; !failed && number < 500; number++) {
                unsigned address = i * 500 + number;
                memcpy(group.mr_address + 2, &address, sizeof address);
                failed = setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &group, sizeof group) < 0;
                /* What is not there can be taken away, too. */
                group.mr_address[0] = 3;
                failed |= setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &group, sizeof group) < 0;
                group.mr_address[0] = 1;
            }
        } else if (!strcmp(kind, "connections")) {
            struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
            socklen_t size = sizeof address;
            int ends[2], listener = socket(AF_INET, SOCK_STREAM, 0);
            failed = bind(listener, (void *)&address, size) < 0 || listen(listener, 1) < 0 ||
                     getsockname(listener, (void *)&address, &size) < 0 ||
                     (ends[0] = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
                     connect(ends[0], (void *)&address, size) < 0 || (ends[1] = accept(listener, NULL, NULL)) < 0;
            for (int end = 0; !failed && end < 2; end++)
                while (send(ends[end], much, sizeof much, MSG_DONTWAIT) > 0)
                    ;
            int error = errno;
            close(listener);
            errno = error;
        } else if (!strcmp(kind, "unsent")) {
            /* Of a connection that is closed, hardly anything has arrived. */
            struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
            socklen_t size = sizeof address;
            int small = 4096, large = 4 << 20;
            int end = -1, listener = socket(AF_INET, SOCK_STREAM, 0);
            setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
            failed = bind(listener, (void *)&address, size) < 0 || listen(listener, 1) < 0 ||
                     getsockname(listener, (void *)&address, &size) < 0 ||
                     (end = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
                     setsockopt(end, SOL_SOCKET, SO_SNDBUF, &large, sizeof large) < 0 ||
                     connect(end, (void *)&address, size) < 0 || accept(listener, NULL, NULL) < 0;
            while (!failed && send(end, much, sizeof much, MSG_DONTWAIT) > 0)
                ;
            close(listener);
            close(end);
            if (i == 60) {
                puts("ready: full");
                pause();
            }
        } else if (!strcmp(kind, "ends")) {
            /* Both ends of a connection are closed, and neither takes what the other sends. */
            static struct sockaddr_in address = {AF_INET, 0, {0}};
            static int listener = -1;
            socklen_t size = sizeof address;
            int nearest = 255, ends[2] = {-1, -1};
            if (listener < 0) {
                listener = socket(AF_INET, SOCK_STREAM, 0);
                failed = bind(listener, (void *)&address, size) < 0 || listen(listener, 1) < 0 ||
                         getsockname(listener, (void *)&address, &size) < 0;
            }
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / 1000);
            failed = failed || (ends[0] = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
                     connect(ends[0], (void *)&address, size) < 0 || (ends[1] = accept(listener, NULL, NULL)) < 0;
            for (int end = 0; !failed && end < 2; end++)
                failed = setsockopt(ends[end], IPPROTO_IP, IP_MINTTL, &nearest, sizeof nearest) < 0;
            for (int end = 0; !failed && end < 2; end++)
                failed = close(ends[end]) < 0;
            if (i == 8000) {
                puts("ready: full");
                pause();
            }
        } else if (!strcmp(kind, "unaccepted")) {
            /* Of connections that wait to be accepted the other end is gone. */
            static struct sockaddr_in address = {AF_INET, 0, {0}};
            static int listener = -1;
            socklen_t size = sizeof address;
            struct linger linger = {1, 0};
            int large = 2 << 20;
            if (listener < 0) {
                address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                listener = socket(AF_INET, SOCK_STREAM, 0);
                setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
                failed = bind(listener, (void *)&address, size) < 0 || listen(listener, 1000) < 0 ||
                         getsockname(listener, (void *)&address, &size) < 0;
            }
            int end = socket(AF_INET, SOCK_STREAM, 0);
            failed = failed || connect(end, (void *)&address, size) < 0;
            for (int sent = 0; !failed && sent < 20; sent++)
                send(end, much, sizeof much, 0);
            setsockopt(end, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
            close(end);
            if (i == 200) {
                errno = 0;
                return;
            }
        } else if (!strcmp(kind, "programs")) {
            /* Of two sockets of a port, the one that gave it its program is closed. */
            struct sock_filter program[BPF_MAXINSNS] = {{0}};
            struct sock_fprog whole = {BPF_MAXINSNS, program};
            program[BPF_MAXINSNS - 1] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, 0};
            struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
            socklen_t size = sizeof address;
            struct sockaddr_in discard = {AF_INET, htons(9), {htonl(INADDR_LOOPBACK)}};
            struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
            /* Every second has its port from the kernel, and gives it up before it is closed. */
            int on = 1, leaves = i % 2, ends[2];
            for (int end = 0; !failed && end < 2; end++)
                failed = (ends[end] = socket(AF_INET, SOCK_DGRAM, 0)) < 0 ||
                         setsockopt(ends[end], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
                         (leaves && end == 0 ? sendto(ends[0], "", 0, 0, (void *)&discard, sizeof discard)
                                             : bind(ends[end], (void *)&address, size)) < 0 ||
                         getsockname(ends[end], (void *)&address, &size) < 0;
            failed = failed || setsockopt(ends[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &whole, sizeof whole) < 0 ||
                     (leaves && connect(ends[0], &nowhere, sizeof nowhere) < 0) || close(ends[0]) < 0;
            if (i == 500) {
                errno = 0;
                return;
            }
        } else if (!strcmp(kind, "moves")) {
            /* A listener gives up the port for which it has a program, and has another when it is closed. */
            struct sock_filter program[BPF_MAXINSNS] = {{0}};
            struct sock_fprog whole = {BPF_MAXINSNS, program};
            program[BPF_MAXINSNS - 1] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, 0};
            struct sockaddr_in first = {AF_INET, 0, {0}}, second = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
            socklen_t size = sizeof first;
            int on = 1, ends[2];
            for (int end = 0; !failed && end < 2; end++)
                failed = (ends[end] = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
                         setsockopt(ends[end], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
                         (end == 1 && bind(ends[1], (void *)&first, size) < 0) || listen(ends[end], 1) < 0 ||
                         getsockname(ends[end], (void *)&first, &size) < 0;
            failed = failed || setsockopt(ends[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &whole, sizeof whole) < 0 ||
                     shutdown(ends[0], SHUT_RD) < 0 || bind(ends[0], (void *)&second, size) < 0 || close(ends[0]) < 0;
            if (i == 500) {
                errno = 0;
                return;
            }
        } else if (!strcmp(kind, "watches")) {
            struct sockaddr_nl address = {AF_NETLINK, 0, 0, 1 << (RTNLGRP_IPV4_IFADDR - 1)};
            int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
            failed = netlink < 0 || bind(netlink, (void *)&address, sizeof address) < 0;
            if (i == 2000) {
                puts("filled");
                pause();
            }
        } else if (!strcmp(kind, "datagrams")) {
            struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
            socklen_t size = sizeof address;
            int fd = socket(AF_INET, SOCK_DGRAM, 0);
            failed = bind(fd, (void *)&address, size) < 0 || getsockname(fd, (void *)&address, &size) < 0;
            for (int k = 0; !failed && k < 100; k++)
                sendto(fd, much, k % 2 ? 1 : sizeof much, MSG_DONTWAIT, (void *)&address, size);
        } else if (!strcmp(kind, "pages")) {
            char *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            failed = page == MAP_FAILED;
            if (!failed)
                memset(page, 1, 1 << 20);
        } else if (!strcmp(kind, "sparse")) {
            /* A page in each stretch that has a page table of its own. */
            static char *area;
            if (i % 512 == 0) {
                int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
                area = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, flags, -1, 0);
                failed = area == MAP_FAILED;
            }
            if (!failed)
                area[(i % 512) << 21] = 1;
        } else if (!strcmp(kind, "threads")) {
            static pthread_attr_t attributes;
            pthread_t thread;
            pthread_attr_init(&attributes);
            pthread_attr_setstacksize(&attributes, 16384);
            failed = errno = pthread_create(&thread, &attributes, sleep_on, NULL);
        } else if (!strcmp(kind, "pipes")) {
            int ends[2];
            failed = pipe2(ends, O_NONBLOCK);
            if (!failed)
                fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
            while (!failed && write(ends[1], much, sizeof much) > 0)
                ;
        } else if (!strcmp(kind, "packets")) {
            int pair[2];
            failed = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair);
            while (!failed && write(pair[0], much, 1000) > 0)
                ;
        } else if (!strcmp(kind, "timers")) {
            timer_t timer;
            struct sigevent event = {.sigev_notify = SIGEV_NONE};
            struct itimerspec when = {.it_value.tv_sec = 1000 + i};
            failed = timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &when, NULL);
        } else if (!strcmp(kind, "signals")) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, NULL);
            failed = sigqueue(getpid(), SIGRTMIN, (union sigval){0});
        } else if (!strcmp(kind, "segments")) {
            int segment = shmget(IPC_PRIVATE, 1 << 20, 0600);
            char *place = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
            failed = place == (void *)-1;
            if (!failed)
                memset(place, 1, 1 << 20);
        } else if (!strcmp(kind, "memfds")) {
            int fd = memfd_create("file", 0);
            failed = fd < 0 || write(fd, much, sizeof much) < (long)sizeof much;
        } else if (!strcmp(kind, "promises")) {
            /* Space that is set aside and never written. */
            static int fd = -1;
            fd = fd < 0 ? memfd_create("file", 0) : fd;
            failed = fd < 0 || fallocate(fd, 0, i << 20, 1 << 20) < 0;
        } else if (!strcmp(kind, "terminals")) {
            int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
            failed = master < 0 || unlockpt(master);
            int slave = failed ? -1 : open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
            failed = slave < 0;
            while (!failed && write(slave, much, 4096) > 0)
                ;
        } else if (!strcmp(kind, "netlink")) {
            /* Each answer has the request that it refuses. */
            struct {
                struct nlmsghdr head;
                char text[8000];
            } request = {{sizeof request, 9999, NLM_F_REQUEST | NLM_F_ACK}};
            int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE);
            failed = netlink < 0;
            for (int sent = 0; !failed && sent < 100; sent++)
                send(netlink, &request, sizeof request, 0);
        } else if (!strcmp(kind, "contexts")) {
            aio_context_t context = 0;
            failed = syscall(SYS_io_setup, 1000, &context) < 0;
        } else if (!strcmp(kind, "watched")) {
            read_about_watched();
            failed = 1;
        } else if (!strcmp(kind, "locks")) {
            read_about_locks();
            failed = 1;
        } else if (!strcmp(kind, "closed")) {
            read_about_connections();
            failed = 1;
        } else {
            errno = EINVAL;
            failed = 1;
        }
        if (failed)
            return;
    }
}

#define EXPECT(so)                                                                                                     \
    do                                                                                                                 \
        if (!(so)) {                                                                                                   \
            printf("line %d: %s, %s\n", __LINE__, #so, strerror(errno));                                              \
            exit(1);                                                                                                   \
        }                                                                                                              \
    while (0)

#include "mapped.h"

/* Has the kernel look at all memory: what is told has to be true. */
static void look_at_memory(void) {
    char text[64];
    int fd = open("/sys/fs/cgroup/memory.current", O_RDONLY);
    EXPECT(fd >= 0 && read(fd, text, sizeof text) > 0);
    close(fd);
}

static int connect_to(const struct sockaddr_in *address) {
    int end = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(end >= 0 && connect(end, (const void *)address, sizeof *address) == 0);
    return end;
}

/* A number of memory.stat. */
static long memory_of(const char *name) {
    char line[128], found[64];
    long number = -1, value;
    FILE *file = fopen("/sys/fs/cgroup/memory.stat", "r");
    EXPECT(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %ld", found, &value) == 2 && !strcmp(found, name))
            number = value;
    fclose(file);
    return number;
}

#include "polls.h"

/* What was sent before a close arrives, and counts as memory until then. */
static void close_connections(void) {
    static char much[60000];
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int small = 4096, large = 4 << 20, listener = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    EXPECT(bind(listener, (void *)&address, size) == 0 && listen(listener, 8) == 0);
    EXPECT(getsockname(listener, (void *)&address, &size) == 0);
    for (int shut = 0; shut < 2; shut++) {
        long sent = 0, read_so_far = 0, length, before = memory_of("sock");
        int end = socket(AF_INET, SOCK_STREAM, 0);
        EXPECT(setsockopt(end, SOL_SOCKET, SO_SNDBUF, &large, sizeof large) == 0);
        EXPECT(connect(end, (void *)&address, size) == 0);
        int peer = accept(listener, NULL, NULL);
        while ((length = send(end, much, sizeof much, MSG_DONTWAIT)) > 0)
            sent += length;
        EXPECT(sent > 1 << 20 && (!shut || shutdown(end, SHUT_WR) == 0) && close(end) == 0);
        EXPECT(memory_of("sock") > before + (1 << 20));
        while ((length = read(peer, much, sizeof much)) > 0)
            read_so_far += length;
        EXPECT(length == 0 && read_so_far == sent && close(peer) == 0);
        while (memory_of("sock") > before + (1 << 20))
            sched_yield();
    }
    /* Until the other end has seen that the data end, the connection is there as a whole. */
    int far = 255, near = 0;
    long before = memory_of("sock");
    int end = connect_to(&address), peer = accept(listener, NULL, NULL);
    EXPECT(setsockopt(peer, IPPROTO_IP, IP_MINTTL, &far, sizeof far) == 0);
    long with_both = memory_of("sock");
    EXPECT(with_both > before && close(end) == 0 && memory_of("sock") >= with_both);
    EXPECT(setsockopt(peer, IPPROTO_IP, IP_MINTTL, &near, sizeof near) == 0);
    EXPECT(read(peer, much, sizeof much) == 0);
    while (memory_of("sock") >= with_both)
        sched_yield();
    puts("ready: closed");
}

/* The connections in a handshake. */
static long handshakes(void) {
    char line[256];
    long count = 0;
    unsigned state;
    FILE *file = fopen("/proc/net/tcp", "r");
    EXPECT(file);
    while (fgets(line, sizeof line, file))
        count += sscanf(line, "%*s %*s %*s %x", &state) == 1 && state == TCP_SYN_RECV;
    fclose(file);
    return count;
}

/* Begins a connection to a port of the loopback; the answers go to the other port. */
static void begin_connection(int raw, unsigned from, int other, int port) {
    unsigned char packet[40] = {0x45, 0, 0, 40, [8] = 64, [9] = IPPROTO_TCP, [27] = 1, [32] = 0x50, [33] = 2, [34] = 32};
    unsigned sum = IPPROTO_TCP + 20, words[2] = {htonl(from), htonl(INADDR_LOOPBACK)};
    unsigned short ports[2] = {htons(other), htons(port)};
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    memcpy(packet + 12, words, 8);
    memcpy(packet + 20, ports, 4);
    for (int i = 12; i < 40; i += 2)
        sum += packet[i] << 8 | packet[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    packet[36] = sum >> 8;
    packet[37] = sum;
    EXPECT(sendto(raw, packet, sizeof packet, 0, (void *)&address, sizeof address) == sizeof packet);
}

/* What listeners have of connections in a handshake counts as memory, and not for longer than it is there. */
static void begin_connections(void) {
    enum { LISTENERS = 12, BACKLOG = 4096, OTHER = 6000, PORT = 10000, LEAST = 320 };
    int listeners[LISTENERS], far = 255, raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {AF_INET, htons(OTHER), {0}};
    /* Answers end here, since they come from too near. */
    EXPECT(raw >= 0 && setsockopt(silent, IPPROTO_IP, IP_MINTTL, &far, sizeof far) == 0);
    EXPECT(bind(silent, (void *)&address, sizeof address) == 0 && listen(silent, 1) == 0);
    long before = memory_of("sock");
    for (int i = 0; i < LISTENERS; i++) {
        listeners[i] = socket(AF_INET, SOCK_STREAM, 0);
        address.sin_port = htons(PORT + i);
        EXPECT(bind(listeners[i], (void *)&address, sizeof address) == 0 && listen(listeners[i], BACKLOG) == 0);
        for (int from = 0; from < BACKLOG; from++)
            begin_connection(raw, 0x7f010000 + from, OTHER, PORT + i);
    }
    long count = handshakes();
    EXPECT(count > BACKLOG && count * LEAST < 12 << 20);
    /* A look that had begun before may not have seen all. */
    while (memory_of("sock") - before <= count * LEAST)
        sched_yield();
    for (int i = 0; i < LISTENERS; i++)
        close(listeners[i]);
    /* They outlive the listeners. */
    for (;;) {
        long now = memory_of("sock") - before, left = handshakes();
        if (left == 0)
            break;
        EXPECT(now > left * LEAST);
        usleep(100000);
    }
    while (memory_of("sock") - before > 1 << 20)
        sched_yield();
    puts("ready: counted");
}

/* How many of several connections can wait at an address. */
static int waiting_connections(const struct sockaddr_in *address) {
    int waiting = 0;
    for (int i = 0; i < 20; i++) {
        int end = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        EXPECT(connect(end, (const void *)address, sizeof *address) == 0 || errno == EINPROGRESS);
        struct pollfd entry = {end, POLLOUT, 0};
        waiting += poll(&entry, 1, 0);
        look_at_memory();
    }
    return waiting;
}

/* Connections that wait to be accepted, while memory is looked at and while it is not. */
static void accept_connections(void) {
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int edge = epoll_create1(0), level = epoll_create1(0), on = 1;
    struct epoll_event event = {EPOLLIN | EPOLLET};
    /* They are watched from before the socket listens. */
    EXPECT(epoll_ctl(edge, EPOLL_CTL_ADD, listener, &event) == 0);
    event.events = EPOLLIN;
    EXPECT(epoll_ctl(level, EPOLL_CTL_ADD, listener, &event) == 0);
    EXPECT(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    EXPECT(bind(listener, (void *)&address, size) == 0 && listen(listener, 8) == 0);
    EXPECT(getsockname(listener, (void *)&address, &size) == 0);
    while (epoll_wait(edge, &event, 1, 0) > 0)
        ;
    for (int round = 0; round < 3; round++) {
        int ends[5];
        look_at_memory();
        for (int i = 0; i < 5; i++) {
            char text = 'a' + i;
            ends[i] = connect_to(&address);
            EXPECT(write(ends[i], &text, 1) == 1);
            if (round == 2 && i % 2)
                look_at_memory();
        }
        /* Its peer is gone when it is accepted. */
        close(ends[2]);
        if (round == 1)
            look_at_memory();
        struct tcp_info info;
        size = sizeof info;
        EXPECT(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
        EXPECT(info.tcpi_state == TCP_LISTEN && info.tcpi_unacked == 5 && info.tcpi_sacked == 8);
        struct pollfd entry = {listener, POLLIN, 0};
        EXPECT(poll(&entry, 1, -1) == 1 && entry.revents == POLLIN);
        EXPECT(epoll_wait(edge, &event, 1, -1) == 1 && event.events == EPOLLIN);
        EXPECT(epoll_wait(level, &event, 1, -1) == 1 && event.events == EPOLLIN);
        EXPECT(epoll_wait(level, &event, 1, -1) == 1 && event.events == EPOLLIN);
        for (int i = 0; i < 5; i++) {
            struct sockaddr_in peer, other;
            char text = 0;
            size = sizeof peer;
            int fd = accept(listener, (void *)&peer, &size);
            EXPECT(fd >= 0 && read(fd, &text, 1) == 1 && text == 'a' + i);
            on = 0;
            size = sizeof on;
            EXPECT(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
            if (i != 2) {
                size = sizeof other;
                EXPECT(getsockname(ends[i], (void *)&other, &size) == 0 && other.sin_port == peer.sin_port);
                EXPECT(write(fd, "x", 1) == 1 && read(ends[i], &text, 1) == 1);
                close(ends[i]);
            }
            close(fd);
        }
        EXPECT(accept(listener, NULL, NULL) < 0 && errno == EAGAIN);
        EXPECT(poll(&entry, 1, 0) == 0 && epoll_wait(level, &event, 1, 0) == 0);
    }
    /* No more wait than may, wherever they do. */
    EXPECT(waiting_connections(&address) == 9);
    /* Nobody will accept them: the other ends see it. */
    EXPECT(shutdown(listener, SHUT_RD) == 0);
    EXPECT(accept(listener, NULL, NULL) < 0 && errno == EINVAL);
    size = sizeof address;
    EXPECT(listen(listener, 0) == 0 && getsockname(listener, (void *)&address, &size) == 0);
    EXPECT(waiting_connections(&address) == 1 && accept(listener, NULL, NULL) >= 0);
    EXPECT(accept(listener, NULL, NULL) < 0 && errno == EAGAIN && shutdown(listener, SHUT_RD) == 0);
    size = sizeof address;
    EXPECT(listen(listener, 8) == 0 && getsockname(listener, (void *)&address, &size) == 0);
    int end = connect_to(&address);
    look_at_memory();
    close(listener);
    struct pollfd entry = {end, POLLIN, 0};
    char text;
    EXPECT(poll(&entry, 1, -1) == 1 && read(end, &text, 1) < 0 && errno == ECONNRESET);
    puts("ready: accepted");
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "exit"))
        return atoi(arguments[2]);
    if (!strcmp(what, "serve")) {
        signal(SIGTERM, on_term);
        signal(SIGUSR1, on_term);
        puts("ready");
        for (;;)
            pause();
    }
    if (!strcmp(what, "stubborn")) {
        signal(SIGTERM, SIG_IGN);
        puts("ready");
        for (;;)
            pause();
    }
    if (!strcmp(what, "repeat")) {
        for (int i = atoi(arguments[2]); i > 0; i--)
            getppid();
        return 0;
    }
    if (!strcmp(what, "copy")) {
        char buffer[512];
        ssize_t length;
        while ((length = read(0, buffer, sizeof buffer)) > 0)
            write(1, buffer, length);
        return 3;
    }
    if (!strcmp(what, "terminal")) {
        char line[128];
        signal(SIGWINCH, on_resize);
        printf("terminal %d %d %d\n", isatty(0), isatty(1), isatty(2));
        on_resize(0);
        while (fgets(line, sizeof line, stdin) == NULL)
            clearerr(stdin);
        printf("got %s", line);
        return 5;
    }
    if (!strcmp(what, "show")) {
        char directory[256];
        printf("uid %d gid %d cwd %s X=%s\n", getuid(), getgid(), getcwd(directory, sizeof directory), getenv("X"));
        return 0;
    }
    if (!strcmp(what, "rights")) {
        FILE *log = count > 2 ? fopen(arguments[2], "a") : NULL;
        show_rights(log ? log : stdout);
        return 0;
    }
    /* Run outside: gives a file effective capabilities. */
    if (!strcmp(what, "empower")) {
        struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE};
        caps.data[0].permitted = strtoul(arguments[3], NULL, 0);
        return setxattr(arguments[2], "security.capability", &caps, sizeof caps, 0) < 0;
    }
    if (!strcmp(what, "hook")) {
        char text[1024], directory[256];
        ssize_t length = read(0, text, sizeof text - 1);
        text[length < 0 ? 0 : length] = 0;
        FILE *log = fopen("/log/hooks", "a");
        fprintf(log, "%s %d %d %s %s %s\n", arguments[0], getpid() != 1, getuid(), getcwd(directory, sizeof directory),
                getenv("H"), text);
        fclose(log);
        puts("out");
        fputs("err", stderr);
        if (count > 2 && !strcmp(arguments[2], "wait"))
            pause();
        /* The streams stay open in a process that is left behind. */
        if (count > 2 && !strcmp(arguments[2], "leave") && fork() == 0)
            pause();
        return count > 2 ? atoi(arguments[2]) : 0;
    }
    if (!strcmp(what, "busy")) {
        /* A child is in a call that has very much to look at. */
        static char part[2 << 20];
        static struct iovec parts[1023];
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        char *area = mmap(NULL, 1ul << 40, PROT_READ | PROT_WRITE, flags, -1, 0);
        int map = open("/proc/self/pagemap", O_RDONLY);
        for (int i = 0; i < 1023; i++)
            parts[i] = (struct iovec){part, sizeof part};
        signal(SIGTERM, on_term);
        if (fork() == 0) {
            signal(SIGTERM, SIG_IGN);
            puts("ready");
            for (;;)
                preadv(map, parts, 1023, (unsigned long)area / 4096 * 8);
        }
        for (;;)
            pause();
    }
    if (!strcmp(what, "fill")) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            fill(arguments[2]);
            _exit(errno);
        }
        /* Another process of some size, which is not the one to be killed. */
        static char own[8 << 20];
        memset(own, 1, sizeof own);
        waitpid(child, &status, 0);
        printf("ready: %s\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : strerror(WEXITSTATUS(status)));
        for (;;)
            pause();
    }
    if (!strcmp(what, "loopback")) {
        struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
        socklen_t size = sizeof address;
        char byte = 0;
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        int sent = bind(fd, (void *)&address, size) || getsockname(fd, (void *)&address, &size) ||
                   sendto(fd, "x", 1, 0, (void *)&address, size) != 1 || recv(fd, &byte, 1, 0) != 1;
        int believes = open("/proc/sys/net/ipv6/conf/lo/accept_ra", O_RDONLY);
        char value = '0';
        if (believes >= 0 && read(believes, &value, 1) != 1)
            value = '?';
        printf("loopback: %s, routers %c\n", sent ? strerror(errno) : "works", value);
        return 0;
    }
    if (!strcmp(what, "neighbours")) {
        char value[32] = "";
        int bytes = open("/proc/sys/net/ipv4/neigh/lo/unres_qlen_bytes", O_RDONLY);
        printf("neighbours: %s", bytes < 0 || read(bytes, value, sizeof value - 1) < 0 ? strerror(errno) : value);
        return 0;
    }
    if (!strcmp(what, "begins")) {
        begin_connections();
        return 0;
    }
    if (!strcmp(what, "accepts")) {
        accept_connections();
        return 0;
    }
    if (!strcmp(what, "closes")) {
        close_connections();
        return 0;
    }
    if (!strcmp(what, "polls")) {
        wait_in_long_poll();
        return 0;
    }
    if (!strcmp(what, "stores")) {
        store_to_large_file();
        return 0;
    }
    if (!strcmp(what, "owners")) {
        show_owners(atoi(arguments[2]));
        return 0;
    }
    if (!strcmp(what, "ids")) {
        printf("%s: %d:%d\n", arguments[0], geteuid(), getegid());
        return 0;
    }
    if (!strcmp(what, "descriptors")) {
        show_descriptors();
        return 0;
    }
    return 99;
}
