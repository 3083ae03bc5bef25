/* Long texts of /proc, which many threads read at a time. */
#include <sys/eventfd.h>

#define READERS 60

static const char *text_path;

static void *read_text(void *nothing) {
    char part[32768];
    int fd = open(text_path, O_RDONLY);
    if (fd < 0)
        _exit(errno);
    for (ssize_t got = 1; got;) {
        got = read(fd, part, sizeof part);
        if (got < 0)
            _exit(errno);
    }
    close(fd);
    return nothing;
}

/* Has threads read the whole of it, each for itself; ends with the errno of a failure. */
static void read_by_many(const char *path) {
    pthread_t threads[READERS];
    text_path = path;
    for (int i = 0; i < READERS; i++)
        if ((errno = pthread_create(&threads[i], NULL, read_text, NULL)))
            return;
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    errno = 0;
}

/* An epoll that watches one object through many descriptors. */
static void read_about_watched(void) {
    static char path[64];
    int epoll = epoll_create1(0), watched = eventfd(0, 0);
    struct epoll_event event = {.events = EPOLLIN};
    for (int i = 0; i < 40000; i++)
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, dup(watched), &event) < 0)
            return;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll);
    read_by_many(path);
}

/* A file with many record locks. */
static void read_about_locks(void) {
    int fd = open("/tmp/locked", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 80000; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_start = 2 * i, .l_len = 1};
        if (fcntl(fd, F_SETLK, &lock) < 0)
            return;
    }
    read_by_many("/proc/locks");
}

/* Connections that were closed on both sides. */
static void read_about_connections(void) {
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_ANY)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, size) < 0 || listen(listener, 100) < 0 ||
        getsockname(listener, (void *)&address, &size) < 0)
        return;
    for (int i = 0; i < 40000; i++) {
        int end = socket(AF_INET, SOCK_STREAM, 0);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / 20000);
        if (connect(end, (void *)&address, size) < 0)
            return;
        int other = accept(listener, NULL, NULL);
        close(end);
        close(other);
    }
    read_by_many("/proc/net/tcp");
}
