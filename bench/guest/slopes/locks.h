/* Locks of files, and their waiters. */

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

/* Shared locks of different places, each of another description, which become exclusive. */
static void shared_locks(long n) {
    make_file("file");
    int *all = calloc(n, sizeof *all);
    check(all != NULL, "calloc");
    for (long i = 0; i < n; i++) {
        struct flock lock = {.l_type = F_RDLCK, .l_start = i * 2, .l_len = 1};
        check((all[i] = open("file", O_RDWR)) >= 0 && fcntl(all[i], F_OFD_SETLK, &lock) == 0, "F_RDLCK");
    }
    for (long i = 0; i < n; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_start = i * 2, .l_len = 1};
        check(fcntl(all[i], F_OFD_SETLK, &lock) == 0, "F_WRLCK");
    }
    closefrom(3);
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
