// /proc/sys: what is written there is kept, checked, and has its effect. Natively only read: the host's are the host's.
// amber: --env PARAMETERS=mine
#include "../check.h"
#include <mqueue.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/resource.h>

static char text[256];

// The first line of a parameter.
static const char *get(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    int fd = MUST(open(path, O_RDONLY));
    ssize_t len = MUST(read(fd, text, sizeof text - 1));
    close(fd);
    text[len] = 0;
    char *end = strchr(text, '\n');
    CHECK(end && !end[1]);
    if (end)
        *end = 0;
    return text;
}

static long number(const char *name) { return strtol(get(name), NULL, 10); }

static int set(const char *name, const char *value) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return -1;
    int result = write(fd, value, strlen(value)) < 0 ? -1 : 0, error = errno;
    close(fd);
    errno = error;
    return result;
}

#define ONLY_OURS                                                                                                     \
    if (!getenv("PARAMETERS"))                                                                                        \
    SKIP("would change the host")

TEST(readable) {
    static const char *const names[] = {
        "fs/file-max", "fs/file-nr", "fs/nr_open", "fs/pipe-max-size", "fs/suid_dumpable", "fs/protected_symlinks",
        "fs/inotify/max_user_watches", "fs/epoll/max_user_watches", "fs/mqueue/msg_max", "kernel/pid_max",
        "kernel/threads-max", "kernel/ostype", "kernel/osrelease", "kernel/hostname", "kernel/random/uuid",
        "kernel/random/boot_id", "kernel/randomize_va_space", "kernel/ngroups_max", "kernel/cap_last_cap",
        "kernel/printk", "kernel/dmesg_restrict", "vm/overcommit_memory", "vm/overcommit_ratio", "vm/max_map_count",
        "vm/mmap_min_addr", "vm/swappiness",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(*get(names[i]));
    long a, b, c;
    CHECK_EQ(sscanf(get("fs/file-nr"), "%ld %ld %ld", &a, &b, &c), 3);
    CHECK_CMP(a, >, 0);
    CHECK_EQ(c, number("fs/file-max"));
    int levels[4];
    CHECK_EQ(sscanf(get("kernel/printk"), "%d %d %d %d", levels, levels + 1, levels + 2, levels + 3), 4);
    char first[64];
    strcpy(first, get("kernel/random/uuid"));
    CHECK_EQ(strlen(first), 36);
    CHECK(strcmp(first, get("kernel/random/uuid")) != 0);
    strcpy(first, get("kernel/random/boot_id"));
    CHECK_STR(first, get("kernel/random/boot_id"));
}

TEST(not_for_everybody) {
    CHECK_CHILD({
        if (geteuid() == 0)
            MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(set("vm/swappiness", "1"), EACCES);
        CHECK_ERR(set("kernel/pid_max", "1"), EACCES);
        CHECK_ERR(set("kernel/ostype", "x"), EACCES);
        CHECK_ERR(open("/proc/sys/vm/none", O_RDONLY), ENOENT);
        CHECK_ERR(open("/proc/sys/vm", O_RDWR), EISDIR);
    });
}

TEST(ranges) {
    ONLY_OURS;
    CHECK_OK(set("vm/swappiness", "30"));
    CHECK_EQ(number("vm/swappiness"), 30);
    CHECK_OK(set("vm/swappiness", " 31\n"));
    CHECK_EQ(number("vm/swappiness"), 31);
    CHECK_ERR(set("vm/swappiness", "201"), EINVAL);
    CHECK_ERR(set("vm/swappiness", "-1"), EINVAL);
    CHECK_ERR(set("vm/swappiness", "many"), EINVAL);
    CHECK_ERR(set("kernel/pid_max", "300"), EINVAL);
    CHECK_ERR(set("kernel/pid_max", "4194305"), EINVAL);
    CHECK_ERR(set("fs/nr_open", "63"), EINVAL);
    CHECK_ERR(set("kernel/randomize_va_space", "99999999999"), EINVAL);
    CHECK_EQ(number("vm/swappiness"), 31);
    CHECK_OK(set("kernel/printk", "7 4 1 7"));
    CHECK_STR(get("kernel/printk"), "7\t4\t1\t7");
    CHECK_OK(set("kernel/printk", "3"));
    CHECK_STR(get("kernel/printk"), "3\t4\t1\t7");
}

TEST(numbers_of_processes) {
    ONLY_OURS;
    CHECK_OK(set("kernel/pid_max", "400"));
    for (int i = 0; i < 150; i++) {
        pid_t child = MUST(fork());
        if (!child)
            _exit(0);
        CHECK_CMP(child, <, 400);
        waitpid(child, NULL, 0);
    }
    CHECK_OK(set("kernel/pid_max", "32768"));
    CHECK_OK(set("kernel/ns_last_pid", "5000"));
    pid_t child = MUST(fork());
    if (!child)
        _exit(0);
    CHECK_EQ(child, 5001);
    CHECK_OK(waitpid(child, NULL, 0));
    CHECK_EQ(number("kernel/ns_last_pid"), 5001);
    CHECK_OK(set("kernel/threads-max", "1"));
    CHECK_ERR(fork(), EAGAIN);
    CHECK_OK(set("kernel/threads-max", "1000"));
    CHECK_CHILD({});
}

TEST(memory) {
    ONLY_OURS;
    CHECK_OK(set("vm/max_map_count", "60"));
    int error = 0;
    for (int i = 0; i < 100 && !error; i++)
        if (mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            error = errno;
    CHECK_EQ(error, ENOMEM);
    CHECK_OK(set("vm/max_map_count", "65530"));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    // More than there can ever be.
    size_t huge = 1ul << 45;
    CHECK(mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK_OK(set("vm/overcommit_memory", "1"));
    void *all = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(all != MAP_FAILED);
    CHECK_OK(munmap(all, huge));
    CHECK_OK(set("vm/overcommit_memory", "0"));
    CHECK_OK(set("kernel/randomize_va_space", "0"));
    void *breaks[2];
    int pipes[2];
    MUST(pipe(pipes));
    for (int i = 0; i < 2; i++) {
        CHECK_CHILD({
            dup2(pipes[1], 1);
            execl("/bin/grep", "grep", "stack", "/proc/self/maps", NULL);
        });
        char line[200] = "";
        CHECK_CMP(read(pipes[0], line, sizeof line - 1), >, 0);
        breaks[i] = (void *)strtoul(line, NULL, 16);
    }
    CHECK_EQ(breaks[0], breaks[1]);
    CHECK_OK(set("kernel/randomize_va_space", "2"));
}

TEST(files) {
    ONLY_OURS;
    struct rlimit limit = {100, 5000};
    CHECK_OK(set("fs/nr_open", "4096"));
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
    CHECK_OK(set("fs/nr_open", "1048576"));
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_OK(set("fs/file-max", "1"));
    CHECK_OK(open("/dev/null", O_RDONLY));
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(open("/dev/null", O_RDONLY), ENFILE);
        int fds[2];
        CHECK_ERR(pipe(fds), ENFILE);
        CHECK_ERR(epoll_create1(0), ENFILE);
        CHECK_OK(dup(0));
    });
    CHECK_OK(set("fs/file-max", "9223372036854775807"));
    CHECK_OK(set("fs/inotify/max_user_instances", "1"));
    CHECK_OK(set("fs/inotify/max_user_watches", "1"));
    CHECK_OK(set("fs/epoll/max_user_watches", "1"));
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        int fd = MUST(inotify_init1(0));
        CHECK_ERR(inotify_init1(0), EMFILE);
        CHECK_OK(inotify_add_watch(fd, "/", IN_CREATE));
        CHECK_ERR(inotify_add_watch(fd, "/proc", IN_CREATE), ENOSPC);
        int epoll = MUST(epoll_create1(0)), fds[2];
        MUST(pipe(fds));
        struct epoll_event event = {.events = EPOLLIN};
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &event));
        CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[1], &event), ENOSPC);
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, fds[0], &event));
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[1], &event));
    });
    CHECK_OK(set("fs/inotify/max_user_instances", "128"));
    CHECK_OK(set("fs/inotify/max_user_watches", "65536"));
    CHECK_OK(set("fs/epoll/max_user_watches", "100000"));
}

TEST(queues) {
    ONLY_OURS;
    CHECK_OK(set("fs/mqueue/msg_max", "5"));
    CHECK_OK(set("fs/mqueue/msgsize_max", "200"));
    CHECK_ERR(set("fs/mqueue/msgsize_max", "100"), EINVAL);
    mqd_t queue = MUST(mq_open("/one", O_RDWR | O_CREAT, 0600, NULL));
    struct mq_attr attributes;
    CHECK_OK(mq_getattr(queue, &attributes));
    CHECK_EQ(attributes.mq_maxmsg, 5);
    CHECK_EQ(attributes.mq_msgsize, 200);
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        struct mq_attr large = {.mq_maxmsg = 6, .mq_msgsize = 10};
        CHECK_ERR(mq_open("/two", O_RDWR | O_CREAT, 0600, &large), EINVAL);
    });
    CHECK_OK(set("fs/mqueue/msg_max", "10"));
    CHECK_OK(set("fs/mqueue/msgsize_max", "8192"));
    CHECK_OK(mq_unlink("/one"));
}

TEST(protection) {
    ONLY_OURS;
    MUST(mkdir("shared", 0777));
    MUST(chmod("shared", 01777));
    MUST(chmod(".", 0755));
    MUST(close(MUST(open("shared/mine", O_RDWR | O_CREAT, 0666))));
    MUST(chmod("shared/mine", 0666));
    MUST(mkdir("open", 0777));
    MUST(chmod("open", 0777));
    MUST(close(MUST(open("open/secret", O_RDWR | O_CREAT, 0600))));
    MUST(chown("shared/mine", 1001, 1001));
    MUST(symlink("/etc/hostname", "shared/link"));
    MUST(lchown("shared/link", 1001, 1001));
#define AS_OTHER(...)                                                                                                 \
    CHECK_CHILD({                                                                                                     \
        MUST(setresgid(1000, 1000, 1000));                                                                            \
        MUST(setresuid(1000, 1000, 1000));                                                                            \
        __VA_ARGS__;                                                                                                  \
    })
    AS_OTHER({
        CHECK_ERR(open("shared/mine", O_WRONLY | O_CREAT, 0600), EACCES);
        CHECK_OK(open("shared/mine", O_WRONLY));
        CHECK_ERR(open("shared/link", O_RDONLY), EACCES);
        CHECK_ERR(link("open/secret", "open/more"), EPERM);
    });
    CHECK_OK(set("fs/protected_regular", "0"));
    CHECK_OK(set("fs/protected_symlinks", "0"));
    CHECK_OK(set("fs/protected_hardlinks", "0"));
    AS_OTHER({
        CHECK_OK(open("shared/mine", O_WRONLY | O_CREAT, 0600));
        CHECK(open("shared/link", O_RDONLY) >= 0 || errno == ENOENT);
        CHECK_OK(link("open/secret", "open/more"));
    });
    CHECK_OK(set("fs/protected_regular", "1"));
    CHECK_OK(set("fs/protected_symlinks", "1"));
    CHECK_OK(set("fs/protected_hardlinks", "1"));
    CHECK_OK(set("fs/suid_dumpable", "2"));
    AS_OTHER({ CHECK_EQ(prctl(PR_GET_DUMPABLE), 2); });
    CHECK_OK(set("fs/suid_dumpable", "0"));
    AS_OTHER({ CHECK_EQ(prctl(PR_GET_DUMPABLE), 0); });
}
