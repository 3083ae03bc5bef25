// Many wait for the same, and each event serves one of them: nobody is left asleep while there is something for it.
#include "../check.h"
#include <mqueue.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WAITERS 24

struct work {
    long (*wait)(int fd, int number);
    int fd;
    int number;
};

static pthread_t threads[WAITERS];
static struct work works[WAITERS];

static void *serve(void *of) {
    struct work *work = of;
    return (void *)work->wait(work->fd, work->number);
}

static void begin(long (*wait)(int, int), int fd) {
    for (int i = 0; i < WAITERS; i++) {
        works[i] = (struct work){wait, fd, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, serve, &works[i]), 0);
    }
}

// Joins all, and checks what each gives back.
static void end(long expected) {
    for (int i = 0; i < WAITERS; i++) {
        void *value;
        CHECK_EQ(pthread_join(threads[i], &value), 0);
        CHECK_EQ((long)value, expected);
    }
}

static long read_byte(int fd, int number) {
    char byte;
    return read(fd, &byte, 1);
}

TEST(a_write_of_many_bytes_serves_many_readers) {
    int ends[2];
    char bytes[WAITERS] = "";
    CHECK_OK(pipe(ends));
    for (int round = 0; round < 8; round++) {
        begin(read_byte, ends[0]);
        CHECK_EQ(write(ends[1], bytes, WAITERS / 2), WAITERS / 2);
        CHECK_EQ(write(ends[1], bytes, WAITERS - WAITERS / 2), WAITERS - WAITERS / 2);
        end(1);
    }
}

TEST(the_end_of_a_pipe_reaches_all_readers) {
    for (int round = 0; round < 8; round++) {
        int ends[2];
        CHECK_OK(pipe(ends));
        begin(read_byte, ends[0]);
        CHECK_OK(close(ends[1]));
        end(0);
        CHECK_OK(close(ends[0]));
    }
}

static void nothing(int signal) {}

static long read_or_be_interrupted(int fd, int number) {
    char byte;
    long got = read(fd, &byte, 1);
    return number % 2 ? got : 1;
}

// A reader that a signal takes away may have been the one that was woken.
TEST(a_reader_that_goes_leaves_the_bytes_to_others) {
    int ends[2];
    char bytes[WAITERS] = "";
    struct sigaction action = {.sa_handler = nothing};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    for (int round = 0; round < 8; round++) {
        CHECK_OK(pipe(ends));
        begin(read_or_be_interrupted, ends[0]);
        for (int i = 0; i < WAITERS; i += 2) {
            pthread_kill(threads[i], SIGUSR1);
            CHECK_EQ(write(ends[1], bytes, 1), 1);
        }
        // Enough for all, whoever took the first ones.
        CHECK_EQ(write(ends[1], bytes, WAITERS), WAITERS);
        end(1);
        close(ends[0]);
        close(ends[1]);
    }
}

static long read_event(int fd, int number) {
    uint64_t value;
    return read(fd, &value, sizeof value) == sizeof value ? value : -1;
}

TEST(a_semaphore_of_events_serves_many) {
    int fd = MUST(eventfd(0, EFD_SEMAPHORE));
    for (int round = 0; round < 8; round++) {
        begin(read_event, fd);
        uint64_t count = WAITERS;
        CHECK_EQ(write(fd, &count, sizeof count), sizeof count);
        end(1);
    }
}

static long receive(int fd, int number) {
    char bytes[8];
    return recv(fd, bytes, sizeof bytes, 0);
}

TEST(each_datagram_is_received) {
    int pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    for (int round = 0; round < 8; round++) {
        begin(receive, pair[0]);
        for (int i = 0; i < WAITERS; i++)
            CHECK_EQ(send(pair[1], "data", 4, 0), 4);
        end(4);
    }
    // What is looked at only is there for the others.
    begin(receive, pair[0]);
    char bytes[8];
    for (int i = 0; i < WAITERS; i++)
        CHECK_EQ(send(pair[1], "data", 4, 0), 4);
    recv(pair[0], bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    end(4);
    begin(receive, pair[0]);
    CHECK_OK(shutdown(pair[0], SHUT_RD));
    end(0);
}

TEST(the_end_of_a_stream_reaches_all_readers) {
    for (int round = 0; round < 5; round++) {
        int pair[2];
        char bytes[WAITERS] = "";
        CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        begin(read_byte, pair[0]);
        CHECK_EQ(write(pair[1], bytes, WAITERS), WAITERS);
        end(1);
        begin(read_byte, pair[0]);
        CHECK_OK(close(pair[1]));
        end(0);
        CHECK_OK(close(pair[0]));
    }
}

static long wait_for_event(int epoll, int number) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, -1);
}

TEST(each_event_of_an_epoll_reaches_somebody) {
    int epoll = MUST(epoll_create1(0)), fds[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET};
        fds[i] = MUST(eventfd(0, EFD_NONBLOCK));
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event));
    }
    for (int round = 0; round < 8; round++) {
        begin(wait_for_event, epoll);
        for (int i = 0; i < WAITERS; i++) {
            uint64_t count = 1;
            CHECK_EQ(write(fds[i], &count, sizeof count), sizeof count);
        }
        end(1);
    }
    // One that stays ready is seen by all.
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_MOD, fds[0], &event));
    begin(wait_for_event, epoll);
    end(1);
}

static long accept_one(int fd, int number) {
    int got = accept(fd, NULL, NULL);
    return got < 0 ? -errno : close(got);
}

TEST(each_connection_is_accepted) {
    struct sockaddr_un address = {AF_UNIX, "listener"};
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(bind(listener, (struct sockaddr *)&address, sizeof address));
    CHECK_OK(listen(listener, WAITERS));
    for (int round = 0; round < 5; round++) {
        begin(accept_one, listener);
        for (int i = 0; i < WAITERS; i++) {
            int client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
            CHECK_OK(connect(client, (struct sockaddr *)&address, sizeof address));
            close(client);
        }
        end(0);
    }
    begin(accept_one, listener);
    CHECK_OK(shutdown(listener, SHUT_RDWR));
    end(-EINVAL);
}

struct message {
    long type;
    char text[8];
};

static long receive_type(int id, int number) {
    struct message message;
    // Each a type of its own; every third all that are above those.
    long wanted = number % 3 ? number + 1 : 0;
    long got = msgrcv(id, &message, sizeof message.text, wanted, 0);
    return got < 0 ? -errno : got;
}

TEST(each_message_is_received) {
    int id = MUST(msgget(IPC_PRIVATE, 0600));
    struct message message = {1, "data"};
    for (int round = 0; round < 8; round++) {
        begin(receive_type, id);
        for (int i = WAITERS - 1; i >= 0; i--) {
            if (i % 3 == 0)
                continue;
            message.type = i + 1;
            CHECK_OK(msgsnd(id, &message, 4, 0));
        }
        // Those who take any may have taken what another waits for.
        for (int more = 1; more;) {
            more = 0;
            for (int i = 0; i < WAITERS; i++) {
                void *value;
                if (!threads[i])
                    continue;
                if (pthread_tryjoin_np(threads[i], &value) == 0) {
                    CHECK_EQ((long)value, 4);
                    threads[i] = 0;
                    continue;
                }
                more = 1;
                message.type = i + 1;
                msgsnd(id, &message, 4, IPC_NOWAIT);
            }
            sched_yield();
        }
        while (msgrcv(id, &message, sizeof message.text, 0, IPC_NOWAIT) >= 0)
            ;
    }
    begin(receive_type, id);
    CHECK_OK(msgctl(id, IPC_RMID, NULL));
    // EINVAL for those who come after the removal.
    for (int i = 0; i < WAITERS; i++) {
        void *value;
        CHECK_EQ(pthread_join(threads[i], &value), 0);
        CHECK((long)value == -EIDRM || (long)value == -EINVAL);
    }
}

static long receive_from_queue(int queue, int number) {
    char bytes[8];
    return mq_receive(queue, bytes, sizeof bytes, NULL);
}

TEST(each_queued_message_is_received) {
    struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = 8};
    mqd_t queue = mq_open("/amber-turns", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    CHECK(queue >= 0);
    CHECK_OK(mq_unlink("/amber-turns"));
    for (int round = 0; round < 8; round++) {
        begin(receive_from_queue, queue);
        for (int i = 0; i < WAITERS; i++)
            CHECK_OK(mq_send(queue, "data", 4, 0));
        end(4);
    }
}
