/* A poll(2) of many entries that the host waits for. */

#define POLLED 50000
/* What the host keeps for each, and the lists of the sentry. */
#define POLLED_BYTES 160

static void *poll_many(void *fd) {
    struct pollfd *entries = calloc(POLLED, sizeof *entries);
    for (int i = 0; i < POLLED; i++)
        entries[i] = (struct pollfd){*(int *)fd, POLLIN, 0};
    EXPECT(poll(entries, POLLED, -1) > 0);
    return NULL;
}

static void wait_in_long_poll(void) {
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    EXPECT(fd >= 0 && bind(fd, (void *)&address, size) == 0 && getsockname(fd, (void *)&address, &size) == 0);
    long before = memory_of("slab_unreclaimable"), most = 0;
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, poll_many, &fd) == 0);
    for (int i = 0; i < 1000 && most < POLLED * POLLED_BYTES; i++) {
        long now = memory_of("slab_unreclaimable") - before;
        most = now > most ? now : most;
        usleep(1000);
    }
    EXPECT(sendto(fd, "x", 1, 0, (void *)&address, size) == 1 && pthread_join(thread, NULL) == 0);
    printf("ready: %s\n", most < POLLED * POLLED_BYTES ? "not counted" : "counted");
    if (most < POLLED * POLLED_BYTES)
        printf("%ld bytes for each\n", most / POLLED);
}
