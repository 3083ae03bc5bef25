/* Processes and threads. */

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
