/* Timers, signals and watches. */

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
