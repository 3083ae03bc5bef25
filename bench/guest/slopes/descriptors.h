/* Descriptors, and what waits for many of them. */

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
