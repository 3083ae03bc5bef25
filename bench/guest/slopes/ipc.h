/* System V messages and semaphores. */

struct message {
    long type;
    char text[8];
};

/* A queue with room for so many messages of one byte. */
static int make_queue(long n) {
    int queue = msgget(IPC_PRIVATE, 0600);
    struct msqid_ds data;
    check(queue >= 0 && msgctl(queue, IPC_STAT, &data) == 0, "msgget");
    data.msg_qbytes = n + 1;
    check(msgctl(queue, IPC_SET, &data) == 0, "msgctl");
    return queue;
}

/* Messages of as many types, the last of them taken first. */
static void message_types(long n) {
    int queue = make_queue(n);
    struct message message = {1, ""};
    for (long i = 0; i < n; i++) {
        message.type = i + 1;
        check(msgsnd(queue, &message, 1, IPC_NOWAIT) == 0, "msgsnd");
    }
    for (long i = n; i > 0; i--)
        check(msgrcv(queue, &message, 1, i, IPC_NOWAIT) == 1, "msgrcv");
    msgctl(queue, IPC_RMID, NULL);
}

static void messages(long n) {
    int queue = make_queue(n);
    struct message message = {1, ""};
    for (long i = 0; i < n; i++)
        check(msgsnd(queue, &message, 1, IPC_NOWAIT) == 0, "msgsnd");
    for (long i = 0; i < n; i++)
        check(msgrcv(queue, &message, 1, 1, IPC_NOWAIT) == 1, "msgrcv");
    msgctl(queue, IPC_RMID, NULL);
}

/* One set of semaphores, and what is to be undone of each. */
static void semaphores(long n) {
    int set = semget(IPC_PRIVATE, n < 32000 ? n : 32000, 0600);
    check(set >= 0, "semget");
    for (long i = 0; i < n; i++) {
        struct sembuf change = {i % 32000, 1, SEM_UNDO};
        check(semop(set, &change, 1) == 0, "semop");
    }
    semctl(set, 0, IPC_RMID);
}

static void sets(long n) {
    for (long i = 0; i < n; i++)
        check((((int *)buffer)[i] = semget(IPC_PRIVATE, 1, 0600)) >= 0, "semget");
    for (long i = 0; i < n; i++)
        check(semctl(((int *)buffer)[i], 0, IPC_RMID) == 0, "semctl");
}
