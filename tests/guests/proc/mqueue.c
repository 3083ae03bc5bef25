// POSIX message queues: order, limits, waiting, notification, and the file system they are files in.
#include "../check.h"
#include <mqueue.h>
#include <poll.h>

static mqd_t fresh(const char *name, int flags, long messages, long bytes) {
    mq_unlink(name);
    struct mq_attr attr = {.mq_maxmsg = messages, .mq_msgsize = bytes};
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | O_RDWR | flags, 0600, &attr);
    if (q == (mqd_t)-1 && errno == ENOSYS)
        SKIP("no message queues");
    return (mqd_t)MUST(q);
}

TEST(order) {
    mqd_t q = fresh("/order", 0, 4, 16);
    char b[16];
    unsigned priority;
    CHECK_EQ(mq_send(q, "low", 3, 1), 0);
    CHECK_EQ(mq_send(q, "high", 4, 9), 0);
    CHECK_EQ(mq_send(q, "low2", 4, 1), 0);
    CHECK_EQ(mq_receive(q, b, sizeof b, &priority), 4);
    CHECK_EQ(priority, 9);
    CHECK_EQ(mq_receive(q, b, sizeof b, &priority), 3);
    CHECK_EQ(priority, 1);
    CHECK_EQ(mq_receive(q, b, sizeof b, NULL), 4);
    CHECK_EQ(memcmp(b, "low2", 4), 0);
    CHECK_EQ(mq_unlink("/order"), 0);
    CHECK_ERR(mq_unlink("/order"), ENOENT);
}

TEST(limits) {
    mqd_t q = fresh("/limits", O_NONBLOCK, 1, 4);
    char b[4];
    CHECK_ERR(mq_receive(q, b, 3, NULL), EMSGSIZE);
    CHECK_ERR(mq_receive(q, b, 4, NULL), EAGAIN);
    CHECK_ERR(mq_send(q, "12345", 5, 0), EMSGSIZE);
    CHECK_ERR(mq_send(q, "1", 1, 32768), EINVAL);
    CHECK_EQ(mq_send(q, "1", 1, 32767), 0);
    CHECK_ERR(mq_send(q, "2", 1, 0), EAGAIN);
    struct mq_attr attr;
    CHECK_EQ(mq_getattr(q, &attr), 0);
    CHECK_EQ(attr.mq_flags, O_NONBLOCK);
    CHECK_EQ(attr.mq_maxmsg, 1);
    CHECK_EQ(attr.mq_msgsize, 4);
    CHECK_EQ(attr.mq_curmsgs, 1);
    attr.mq_flags = 0;
    CHECK_EQ(mq_setattr(q, &attr, NULL), 0);
    struct timespec past = {1, 0}, bad = {0, 1000000000};
    CHECK_ERR(mq_timedsend(q, "2", 1, 0, &past), ETIMEDOUT);
    CHECK_ERR(mq_timedsend(q, "2", 1, 0, &bad), EINVAL);
    CHECK_ERR(mq_open("/limits", O_CREAT | O_EXCL | O_RDWR, 0600, NULL), EEXIST);
    CHECK_ERR(mq_open("/none", O_RDWR), ENOENT);
    CHECK_ERR(mq_open("/a/b", O_CREAT | O_RDWR, 0600, NULL), EACCES);
    struct mq_attr none = {.mq_maxmsg = 0, .mq_msgsize = 1};
    CHECK_ERR(mq_open("/none", O_CREAT | O_RDWR, 0600, &none), EINVAL);
    mqd_t r = mq_open("/limits", O_RDONLY);
    CHECK_ERR(mq_send(r, "1", 1, 0), EBADF);
    CHECK_ERR(mq_send((mqd_t)0, "1", 1, 0), EBADF);
    mq_unlink("/limits");
}

TEST(waiting) {
    mqd_t q = fresh("/waiting", 0, 1, 8);
    char b[8];
    pid_t pid = fork();
    if (pid == 0) {
        usleep(50000);
        _exit(mq_send(q, "hello", 5, 0));
    }
    CHECK_EQ(mq_receive(q, b, sizeof b, NULL), 5);
    waitpid(pid, 0, 0);
    struct pollfd p = {.fd = q, .events = POLLIN | POLLOUT};
    CHECK_EQ(poll(&p, 1, 0), 1);
    CHECK_EQ(p.revents, POLLOUT);
    CHECK_EQ(mq_send(q, "x", 1, 0), 0);
    CHECK_EQ(poll(&p, 1, 0), 1);
    CHECK_EQ(p.revents, POLLIN);
    mq_unlink("/waiting");
}

static volatile sig_atomic_t came, code, value;
static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    came++;
    code = info->si_code;
    value = info->si_value.sival_int;
}

TEST(notification) {
    mqd_t q = fresh("/notification", O_NONBLOCK, 4, 8);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
    CHECK_EQ(mq_notify(q, &event), 0);
    CHECK_ERR(mq_notify(q, &event), EBUSY);
    CHECK_EQ(mq_send(q, "a", 1, 0), 0);
    CHECK_EQ(came, 1);
    CHECK_EQ(code, SI_MESGQ);
    CHECK_EQ(value, 42);
    // One message, one notice; and none while the queue is not empty.
    CHECK_EQ(mq_notify(q, &event), 0);
    CHECK_EQ(mq_send(q, "b", 1, 0), 0);
    CHECK_EQ(came, 1);
    CHECK_EQ(mq_notify(q, NULL), 0);
    CHECK_EQ(mq_notify(q, &event), 0);
    mq_unlink("/notification");
}

TEST(reading) {
    mqd_t q = fresh("/reading", 0, 4, 8);
    CHECK_EQ(mq_send(q, "abc", 3, 0), 0);
    char b[128] = {0};
    CHECK(read(q, b, sizeof b - 1) > 0);
    CHECK(strncmp(b, "QSIZE:3 ", 8) == 0);
    CHECK(strstr(b, "NOTIFY_PID:0") != NULL);
    struct stat st;
    CHECK_EQ(fstat(q, &st), 0);
    CHECK_EQ(st.st_mode, S_IFREG | 0600);
    mq_unlink("/reading");
}
