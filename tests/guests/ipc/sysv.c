// System V shared memory, semaphores and message queues.
#include "../check.h"
#include <pthread.h>
#include <grp.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PAGE 4096
union semun {
    int val;
    void *buf;
    unsigned short *array;
};

// Removes what a test made however it ends.
static int shm_ids[8], sem_ids[8], msg_ids[8], shm_count, sem_count, msg_count;
static pid_t maker;
static void clean(void) {
    if (getpid() != maker)
        return;
    for (int i = 0; i < shm_count; i++)
        shmctl(shm_ids[i], IPC_RMID, NULL);
    for (int i = 0; i < sem_count; i++)
        semctl(sem_ids[i], 0, IPC_RMID);
    for (int i = 0; i < msg_count; i++)
        msgctl(msg_ids[i], IPC_RMID, NULL);
}
static int new_shm(key_t key, size_t size, int flags) {
    maker = getpid();
    return shm_ids[shm_count++] = MUST(shmget(key, size, IPC_CREAT | flags));
}
static int new_sem(key_t key, int count, int flags) {
    maker = getpid();
    return sem_ids[sem_count++] = MUST(semget(key, count, IPC_CREAT | flags));
}
static int new_msg(key_t key, int flags) {
    maker = getpid();
    return msg_ids[msg_count++] = MUST(msgget(key, IPC_CREAT | flags));
}
static key_t own_key(void) { return 0x5a000000 | (getpid() & 0xffffff); }

static struct shmid_ds shm_state(int id) {
    struct shmid_ds state = {};
    CHECK_OK(shmctl(id, IPC_STAT, &state));
    return state;
}

TEST(keys) {
    key_t key = own_key();
    CHECK_ERR(shmget(key, 100, 0600), ENOENT);
    int id = new_shm(key, 5000, 0640);
    CHECK_EQ(shmget(key, 5000, 0), id);
    CHECK_EQ(shmget(key, 100, 0600), id);
    CHECK_EQ(shmget(key, 0, 0), id);
    CHECK_ERR(shmget(key, 5001, 0), EINVAL);
    CHECK_ERR(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK_ERR(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERR(shmget(key + 1, 0, IPC_CREAT | 0600), EINVAL);
    CHECK_ERR(shmget(IPC_PRIVATE, -1, 0600), EINVAL);
    int other = new_shm(IPC_PRIVATE, 100, 0600), third = new_shm(IPC_PRIVATE, 100, 0600);
    CHECK(other != third && other != id);
    CHECK_ERR(semget(key, 1, 0), ENOENT);
    int sem = new_sem(key, 3, 0600);
    CHECK_EQ(semget(key, 3, 0), sem);
    CHECK_EQ(semget(key, 0, 0), sem);
    CHECK_ERR(semget(key, 4, 0), EINVAL);
    CHECK_ERR(semget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERR(semget(IPC_PRIVATE, -1, 0600), EINVAL);
    CHECK_ERR(semget(IPC_PRIVATE, 32001, 0600), EINVAL);
    int msg = new_msg(key, 0600);
    CHECK_EQ(msgget(key, 0), msg);
    CHECK_ERR(msgget(key, IPC_CREAT | IPC_EXCL), EEXIST);
    CHECK_ERR(msgget(key + 1, 0), ENOENT);
    clean();
    CHECK_ERR(shmctl(id, IPC_STAT, &(struct shmid_ds){}), EINVAL);
    CHECK_ERR(shmget(key, 100, 0), ENOENT);
}

TEST(attach) {
    int id = new_shm(IPC_PRIVATE, 3 * PAGE - 5, 0600);
    struct shmid_ds state = shm_state(id);
    CHECK_EQ(state.shm_segsz, 3 * PAGE - 5);
    CHECK_EQ(state.shm_nattch, 0);
    CHECK_EQ(state.shm_cpid, getpid());
    CHECK_EQ(state.shm_lpid, 0);
    CHECK_EQ(state.shm_perm.mode, 0600);
    CHECK_EQ(state.shm_perm.uid, geteuid());
    CHECK_EQ(state.shm_atime, 0);
    CHECK_CMP(labs(state.shm_ctime - time(NULL)), <=, 2);
    char *a = (char *)MUST((long)shmat(id, NULL, 0)), *b = (char *)MUST((long)shmat(id, NULL, SHM_RDONLY));
    CHECK(a != b && ((unsigned long)a & (PAGE - 1)) == 0);
    strcpy(a + 2 * PAGE, "hello");
    CHECK_STR(b + 2 * PAGE, "hello");
    state = shm_state(id);
    CHECK_EQ(state.shm_nattch, 2);
    CHECK_EQ(state.shm_lpid, getpid());
    CHECK_CMP(labs(state.shm_atime - time(NULL)), <=, 2);
    CHECK_ERR(mprotect(b, PAGE, PROT_READ | PROT_WRITE), EACCES);
    int status = IN_CHILD({ *(volatile char *)b = 1; });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    // A child has what its parent had.
    int go[2];
    MUST(pipe(go));
    pid_t child = MUST(fork());
    if (!child) {
        char byte;
        a[0] = 'c';
        read(go[0], &byte, 1);
        _exit(0);
    }
    while (((volatile char *)a)[0] != 'c')
        usleep(1000);
    CHECK_EQ(shm_state(id).shm_nattch, 4);
    CHECK_EQ(write(go[1], "x", 1), 1);
    CHECK_OK(waitpid(child, NULL, 0));
    CHECK_EQ(shm_state(id).shm_nattch, 2);
    CHECK_OK(shmdt(b));
    CHECK_ERR(shmdt(b), EINVAL);
    CHECK_ERR(shmdt(a + 1), EINVAL);
    CHECK_ERR(shmdt(a + PAGE), EINVAL);
    CHECK_EQ(shm_state(id).shm_nattch, 1);
    // A new program has none.
    CHECK_CHILD({ execl("/bin/true", "true", NULL); });
    CHECK_EQ(shm_state(id).shm_nattch, 1);
    CHECK_OK(shmdt(a));
    CHECK_EQ(shm_state(id).shm_nattch, 0);
    // What was written stays.
    a = (char *)MUST((long)shmat(id, NULL, 0));
    CHECK_STR(a + 2 * PAGE, "hello");
    clean();
}

TEST(where_to_attach) {
    int id = new_shm(IPC_PRIVATE, 2 * PAGE, 0600);
    char *room = (char *)MUST((long)mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    MUST(munmap(room, 8 * PAGE));
    CHECK(shmat(id, room + PAGE, 0) == room + PAGE);
    CHECK_ERR((long)shmat(id, room + PAGE, 0), EINVAL);
    CHECK_ERR((long)shmat(id, room, 0), EINVAL);
    CHECK_ERR((long)shmat(id, room + 4 * PAGE + 1, 0), EINVAL);
    CHECK(shmat(id, room + 4 * PAGE + 1, SHM_RND) == room + 4 * PAGE);
    CHECK(shmat(id, room + 2 * PAGE, SHM_REMAP) == room + 2 * PAGE);
    CHECK_ERR((long)shmat(id, NULL, SHM_REMAP), EINVAL);
    CHECK_ERR((long)shmat(id, (void *)(-PAGE), 0), EINVAL);
    CHECK_ERR((long)shmat(-1, NULL, 0), EINVAL);
    CHECK_ERR((long)shmat(id + 1000000, NULL, 0), EINVAL);
    // A hole in the middle does not keep the rest from being detached.
    int large = new_shm(IPC_PRIVATE, 4 * PAGE, 0600);
    char *p = (char *)MUST((long)shmat(large, NULL, 0));
    MUST(munmap(p + PAGE, PAGE));
    CHECK_OK(shmdt(p));
    CHECK_ERR(msync(p + 3 * PAGE, PAGE, MS_ASYNC), ENOMEM);
    CHECK_EQ(shm_state(large).shm_nattch, 0);
    clean();
}

TEST(removed_while_attached) {
    key_t key = own_key();
    int id = new_shm(key, PAGE, 0600);
    char *p = (char *)MUST((long)shmat(id, NULL, 0));
    CHECK_OK(shmctl(id, IPC_RMID, NULL));
    struct shmid_ds state = shm_state(id);
    CHECK_EQ(state.shm_perm.mode, SHM_DEST | 0600);
    CHECK_EQ(state.shm_perm.__key, IPC_PRIVATE);
    CHECK_ERR(shmget(key, PAGE, 0), ENOENT);
    p[0] = 7;
    char *q = (char *)MUST((long)shmat(id, NULL, 0));
    CHECK_EQ(q[0], 7);
    CHECK_OK(shmdt(p));
    CHECK_OK(shmctl(id, IPC_STAT, &state));
    CHECK_OK(shmdt(q));
    CHECK_ERR(shmctl(id, IPC_STAT, &state), EINVAL);
    clean();
}

TEST(shared_memory_control) {
    int id = new_shm(IPC_PRIVATE, PAGE, 0600);
    struct shmid_ds state = shm_state(id);
    state.shm_perm.mode = 01644;
    state.shm_perm.uid = 1000;
    CHECK_OK(shmctl(id, IPC_SET, &state));
    state = shm_state(id);
    CHECK_EQ(state.shm_perm.mode, 0644);
    CHECK_EQ(state.shm_perm.uid, 1000);
    CHECK_EQ(state.shm_perm.cuid, geteuid());
    CHECK_OK(shmctl(id, SHM_LOCK, NULL));
    CHECK_EQ(shm_state(id).shm_perm.mode, SHM_LOCKED | 0644);
    CHECK_OK(shmctl(id, SHM_UNLOCK, NULL));
    CHECK_EQ(shm_state(id).shm_perm.mode, 0644);
    struct shminfo limits;
    int highest = CHECK_OK(shmctl(0, IPC_INFO, (void *)&limits));
    CHECK_EQ(limits.shmmin, 1);
    CHECK_EQ(limits.shmmni, 4096);
    struct shm_info use;
    CHECK_EQ(shmctl(0, SHM_INFO, (void *)&use), highest);
    CHECK_CMP(use.used_ids, >=, 1);
    CHECK_CMP(use.shm_tot, >=, 1);
    int found = 0;
    for (int i = 0; i <= highest; i++)
        found += shmctl(i, SHM_STAT, &state) == id;
    CHECK_EQ(found, 1);
    CHECK_ERR(shmctl(id, IPC_STAT, BAD), EFAULT);
    CHECK_ERR(shmctl(id, 77, &state), EINVAL);
    CHECK_ERR(shmctl(-1, IPC_STAT, &state), EINVAL);
    clean();
}

TEST(permissions) {
    if (geteuid())
        SKIP("needs root");
    key_t key = own_key();
    int shm = new_shm(key, PAGE, 0640), sem = new_sem(key, 1, 0604), msg = new_msg(key, 0620);
    union semun one = {.val = 1};
    struct {
        long type;
        char text[4];
    } message = {1, "abc"};
#define AS(uid, gid, ...)                                                                                             \
    CHECK_CHILD({                                                                                                     \
        MUST(setresgid(gid, gid, gid));                                                                               \
        MUST(setgroups(0, NULL));                                                                                           \
        MUST(setresuid(uid, uid, uid));                                                                               \
        __VA_ARGS__;                                                                                                  \
    })
    AS(1000, 1000, {
        struct shmid_ds state;
        CHECK_ERR(shmget(key, 0, 0400), EACCES);
        CHECK_EQ(shmget(key, 0, 0), shm);
        CHECK_ERR((long)shmat(shm, NULL, SHM_RDONLY), EACCES);
        CHECK_ERR(shmctl(shm, IPC_STAT, &state), EACCES);
        CHECK_ERR(shmctl(shm, IPC_RMID, NULL), EPERM);
        CHECK_ERR(shmctl(shm, SHM_LOCK, NULL), EPERM);
        CHECK_EQ(semctl(sem, 0, GETVAL), 0);
        CHECK_ERR(semctl(sem, 0, SETVAL, one), EACCES);
        struct sembuf up = {0, 1, 0};
        struct sembuf zero = {0, 0, 0};
        CHECK_ERR(semop(sem, &up, 1), EACCES);
        CHECK_OK(semop(sem, &zero, 1));
        CHECK_ERR(semctl(sem, 0, IPC_RMID), EPERM);
        CHECK_ERR(msgsnd(msg, &message, 3, 0), EACCES);
        CHECK_ERR(msgrcv(msg, &message, 3, 0, IPC_NOWAIT), EACCES);
    });
    // The creator's group.
    AS(1000, 0, {
        CHECK((long)shmat(shm, NULL, SHM_RDONLY) != -1);
        CHECK_ERR((long)shmat(shm, NULL, 0), EACCES);
        CHECK_ERR(semctl(sem, 0, GETVAL), EACCES);
        CHECK_OK(msgsnd(msg, &message, 3, 0));
        CHECK_ERR(msgrcv(msg, &message, 3, 0, IPC_NOWAIT), EACCES);
    });
    struct shmid_ds state = shm_state(shm);
    state.shm_perm.uid = 1000;
    CHECK_OK(shmctl(shm, IPC_SET, &state));
    AS(1000, 1000, {
        CHECK((long)shmat(shm, NULL, 0) != -1);
        CHECK_OK(shmctl(shm, IPC_RMID, NULL));
    });
    clean();
}

static int value(int id, int number) { return CHECK_OK(semctl(id, number, GETVAL)); }

TEST(semaphore_operations) {
    int id = new_sem(IPC_PRIVATE, 3, 0600);
    struct sembuf ops[] = {{0, 2, 0}, {1, 3, 0}, {0, -1, 0}};
    CHECK_OK(semop(id, ops, 3));
    CHECK_EQ(value(id, 0), 1);
    CHECK_EQ(value(id, 1), 3);
    CHECK_EQ(semctl(id, 0, GETPID), getpid());
    CHECK_EQ(semctl(id, 2, GETPID), 0);
    // All or none.
    struct sembuf half[] = {{1, -1, 0}, {2, -1, IPC_NOWAIT}};
    CHECK_ERR(semop(id, half, 2), EAGAIN);
    CHECK_EQ(value(id, 1), 3);
    struct sembuf zero = {0, 0, IPC_NOWAIT};
    CHECK_ERR(semop(id, &zero, 1), EAGAIN);
    zero.sem_num = 2;
    CHECK_OK(semop(id, &zero, 1));
    struct sembuf large = {0, 32767, 0};
    CHECK_ERR(semop(id, &large, 1), ERANGE);
    struct sembuf outside = {3, 1, 0};
    CHECK_ERR(semop(id, &outside, 1), EFBIG);
    CHECK_ERR(semop(id, ops, 0), EINVAL);
    CHECK_ERR(semop(-1, ops, 1), EINVAL);
    CHECK_ERR(semop(id, BAD, 1), EFAULT);
    static struct sembuf many[501];
    CHECK_ERR(semop(id, many, 501), E2BIG);
    struct timespec soon = {0, 30000000}, wrong = {0, 1000000000};
    struct sembuf down = {2, -1, 0};
    CHECK_ERR(semtimedop(id, &down, 1, &soon), EAGAIN);
    CHECK_ERR(semtimedop(id, &down, 1, &wrong), EINVAL);
    CHECK_ERR(semtimedop(id, &down, 1, BAD), EFAULT);
    struct semid_ds state;
    CHECK_OK(semctl(id, 0, IPC_STAT, (union semun){.buf = &state}));
    CHECK_EQ(state.sem_nsems, 3);
    CHECK_CMP(labs(state.sem_otime - time(NULL)), <=, 2);
    clean();
}

static void nothing(int signo) { (void)signo; }

TEST(semaphores_wait) {
    int id = new_sem(IPC_PRIVATE, 2, 0600);
    struct sembuf down = {0, -1, 0}, up = {0, 1, 0}, zero = {0, 0, 0};
    pid_t a = MUST(fork());
    if (!a) {
        CHECK_OK(semop(id, &down, 1));
        _exit(0);
    }
    while (semctl(id, 0, GETNCNT) != 1)
        usleep(1000);
    CHECK_EQ(semctl(id, 1, GETNCNT), 0);
    CHECK_OK(semop(id, &up, 1));
    int status;
    CHECK_OK(waitpid(a, &status, 0));
    CHECK_EQ(status, 0);
    CHECK_EQ(value(id, 0), 0);
    CHECK_EQ(semctl(id, 0, GETNCNT), 0);
    CHECK_EQ(semctl(id, 0, GETPID), a);
    CHECK_OK(semop(id, &up, 1));
    a = MUST(fork());
    if (!a) {
        CHECK_OK(semop(id, &zero, 1));
        _exit(0);
    }
    while (semctl(id, 0, GETZCNT) != 1)
        usleep(1000);
    CHECK_OK(semctl(id, 0, SETVAL, (union semun){.val = 0}));
    CHECK_OK(waitpid(a, &status, 0));
    CHECK_EQ(status, 0);
    // A signal ends the wait, whatever its handler asked for.
    a = MUST(fork());
    if (!a) {
        struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
        sigaction(SIGUSR1, &action, NULL);
        CHECK_ERR(semop(id, &down, 1), EINTR);
        _exit(0);
    }
    while (semctl(id, 0, GETNCNT) != 1)
        usleep(1000);
    CHECK_OK(kill(a, SIGUSR1));
    CHECK_OK(waitpid(a, &status, 0));
    CHECK_EQ(semctl(id, 0, GETNCNT), 0);
    // So does the end of the set.
    a = MUST(fork());
    if (!a) {
        CHECK_ERR(semop(id, &down, 1), EIDRM);
        _exit(0);
    }
    while (semctl(id, 0, GETNCNT) != 1)
        usleep(1000);
    CHECK_OK(semctl(id, 0, IPC_RMID));
    CHECK_OK(waitpid(a, &status, 0));
    CHECK_ERR(semop(id, &up, 1), EINVAL);
    clean();
}

TEST(undo) {
    int id = new_sem(IPC_PRIVATE, 2, 0600);
    struct sembuf ops[] = {{0, 3, SEM_UNDO}, {0, -1, SEM_UNDO}, {1, 1, 0}};
    CHECK_CHILD({
        CHECK_OK(semop(id, ops, 3));
        CHECK_EQ(value(id, 0), 2);
        // A child of its own does not undo it.
        CHECK_CHILD({});
        CHECK_EQ(value(id, 0), 2);
    });
    CHECK_EQ(value(id, 0), 0);
    CHECK_EQ(value(id, 1), 1);
    // Killed or not, and over an exec.
    int status = IN_CHILD({
        CHECK_OK(semop(id, ops, 1));
        kill(getpid(), SIGKILL);
    });
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(value(id, 0), 0);
    CHECK_CHILD({
        CHECK_OK(semop(id, ops, 1));
        execl("/bin/true", "true", NULL);
    });
    CHECK_EQ(value(id, 0), 0);
    // Setting a value forgets what was to be undone.
    CHECK_CHILD({
        CHECK_OK(semop(id, ops, 1));
        CHECK_OK(semctl(id, 0, SETVAL, (union semun){.val = 5}));
    });
    CHECK_EQ(value(id, 0), 5);
    // What was taken comes back, and wakes who waits for it.
    struct sembuf down = {0, -5, SEM_UNDO};
    int go[2];
    MUST(pipe(go));
    pid_t holder = MUST(fork());
    if (!holder) {
        char byte;
        CHECK_OK(semop(id, &down, 1));
        write(go[1], "x", 1);
        read(go[0], &byte, 0);
        usleep(50000);
        _exit(0);
    }
    char byte;
    read(go[0], &byte, 1);
    CHECK_OK(semop(id, &down, 1));
    CHECK_EQ(value(id, 0), 0);
    CHECK_OK(waitpid(holder, NULL, 0));
    clean();
}

static void *wait_for_the_end(void *unused) {
    for (;;)
        pause();
    return unused;
}

// Whichever thread is the last, and however many end at once.
TEST(undone_when_threads_end_at_once) {
    int set = MUST(semget(IPC_PRIVATE, 1, 0600));
    for (int round = 0; round < 100; round++) {
        int status = IN_CHILD({
            struct sembuf up = {0, 1, SEM_UNDO};
            pthread_t thread;
            CHECK_OK(semop(set, &up, 1));
            for (int i = 0; i < 4; i++)
                MUST(-pthread_create(&thread, NULL, wait_for_the_end, NULL));
            _exit(0);
        });
        CHECK_EQ(status, 0);
        if (!CHECK_EQ(semctl(set, 0, GETVAL), 0))
            break;
    }
    CHECK_OK(semctl(set, 0, IPC_RMID));
}

TEST(semaphore_control) {
    int id = new_sem(IPC_PRIVATE, 3, 0600);
    unsigned short values[3] = {1, 2, 32767}, got[3] = {};
    CHECK_OK(semctl(id, 0, SETALL, (union semun){.array = values}));
    CHECK_OK(semctl(id, 0, GETALL, (union semun){.array = got}));
    CHECK(!memcmp(values, got, sizeof got));
    values[1] = 32768;
    CHECK_ERR(semctl(id, 0, SETALL, (union semun){.array = values}), ERANGE);
    CHECK_EQ(value(id, 1), 2);
    CHECK_ERR(semctl(id, 0, SETVAL, (union semun){.val = -1}), ERANGE);
    CHECK_ERR(semctl(id, 0, SETVAL, (union semun){.val = 32768}), ERANGE);
    CHECK_ERR(semctl(id, 3, GETVAL), EINVAL);
    CHECK_ERR(semctl(id, -1, GETVAL), EINVAL);
    CHECK_ERR(semctl(id, 3, SETVAL, (union semun){.val = 1}), EINVAL);
    CHECK_ERR(semctl(id, 0, GETALL, (union semun){.array = BAD}), EFAULT);
    CHECK_ERR(semctl(id, 0, SETALL, (union semun){.array = BAD}), EFAULT);
    CHECK_ERR(semctl(id, 0, 99), EINVAL);
    CHECK_ERR(semctl(-1, 0, GETVAL), EINVAL);
    struct seminfo info;
    int highest = CHECK_OK(semctl(0, 0, SEM_INFO, (union semun){.buf = &info}));
    CHECK_CMP(info.semusz, >=, 1);
    CHECK_CMP(info.semaem, >=, 3);
    CHECK_EQ(info.semmsl, 32000);
    CHECK_EQ(info.semvmx, 32767);
    int found = 0;
    struct semid_ds state;
    for (int i = 0; i <= highest; i++)
        found += semctl(i, 0, SEM_STAT, (union semun){.buf = &state}) == id;
    CHECK_EQ(found, 1);
    clean();
}

struct message {
    long type;
    char text[64];
};

static int put(int id, long type, const char *text) {
    struct message message = {.type = type};
    strcpy(message.text, text);
    return msgsnd(id, &message, strlen(text), IPC_NOWAIT);
}

// The text of what is received, or NULL.
static const char *take(int id, long type, int flags) {
    static struct message message;
    memset(&message, 0, sizeof message);
    return msgrcv(id, &message, sizeof message.text, type, flags | IPC_NOWAIT) < 0 ? NULL : message.text;
}

TEST(messages) {
    int id = new_msg(IPC_PRIVATE, 0600);
    CHECK_OK(put(id, 5, "five"));
    CHECK_OK(put(id, 3, "three"));
    CHECK_OK(put(id, 7, "seven"));
    CHECK_OK(put(id, 3, "another"));
    CHECK_OK(put(id, 1, ""));
    struct msqid_ds state;
    CHECK_OK(msgctl(id, IPC_STAT, &state));
    CHECK_EQ(state.msg_qnum, 5);
    CHECK_EQ(state.__msg_cbytes, 21);
    CHECK_EQ(state.msg_qbytes, 16384);
    CHECK_EQ(state.msg_lspid, getpid());
    CHECK_EQ(state.msg_lrpid, 0);
    CHECK_STR(take(id, -4, 0), "");
    CHECK_STR(take(id, -4, 0), "three");
    CHECK_STR(take(id, 5, MSG_EXCEPT), "seven");
    CHECK(take(id, 9, 0) == NULL && errno == ENOMSG);
    CHECK_STR(take(id, 0, 0), "five");
    struct message message;
    CHECK_ERR(msgrcv(id, &message, 3, 0, 0), E2BIG);
    CHECK_EQ(msgrcv(id, &message, 3, 0, MSG_NOERROR), 3);
    CHECK_EQ(message.type, 3);
    CHECK(!memcmp(message.text, "ano", 3));
    CHECK(take(id, LONG_MIN, 0) == NULL && errno == ENOMSG);
    CHECK_OK(msgctl(id, IPC_STAT, &state));
    CHECK_EQ(state.msg_qnum + state.__msg_cbytes, 0);
    CHECK_EQ(state.msg_lrpid, getpid());
    message.type = 0;
    CHECK_ERR(msgsnd(id, &message, 1, 0), EINVAL);
    message.type = -1;
    CHECK_ERR(msgsnd(id, &message, 1, 0), EINVAL);
    message.type = 1;
    CHECK_ERR(msgsnd(id, &message, 8193, 0), EINVAL);
    CHECK_ERR(msgsnd(id, &message, -1, 0), EINVAL);
    CHECK_ERR(msgsnd(id, BAD, 1, 0), EFAULT);
    CHECK_ERR(msgrcv(id, &message, -1, 0, 0), EINVAL);
    CHECK_ERR(msgrcv(id, &message, 1, 0, 040000), EINVAL);
    CHECK_ERR(msgsnd(-1, &message, 1, 0), EINVAL);
    CHECK_ERR(msgrcv(id + 1000000, &message, 1, 0, 0), EINVAL);
    CHECK_OK(put(id, 2, "two"));
    // A copy is never cut, whether that is asked for or not; kernels without checkpointing make none.
    if (msgrcv(id, &message, 3, 0, 040000 | IPC_NOWAIT) == 3 || errno != ENOSYS) {
        CHECK_ERR(msgrcv(id, &message, 2, 0, 040000 | IPC_NOWAIT), E2BIG);
        CHECK_ERR(msgrcv(id, &message, 2, 0, 040000 | IPC_NOWAIT | MSG_NOERROR), EINVAL);
    }
    CHECK_ERR(msgrcv(id, BAD, 10, 0, 0), EFAULT);
    CHECK(take(id, 0, 0) == NULL && errno == ENOMSG);
    clean();
}

TEST(messages_wait) {
    int id = new_msg(IPC_PRIVATE, 0600), status;
    static struct {
        long type;
        char text[8192];
    } large = {1};
    CHECK_OK(msgsnd(id, &large, 8192, 0));
    CHECK_OK(msgsnd(id, &large, 8192, 0));
    CHECK_ERR(msgsnd(id, &large, 1, IPC_NOWAIT), EAGAIN);
    // No room even for what has no length, as each counts.
    CHECK_OK(msgsnd(id, &large, 0, IPC_NOWAIT));
    pid_t child = MUST(fork());
    if (!child) {
        CHECK_OK(msgsnd(id, &large, 100, 0));
        CHECK_EQ(msgrcv(id, &large, 8192, 9, 0), 5);
        CHECK_ERR(msgrcv(id, &large, 8192, 99, 0), EIDRM);
        _exit(0);
    }
    until_asleep(child);
    CHECK_EQ(msgrcv(id, &large, 8192, 0, 0), 8192);
    CHECK_OK(put(id, 8, "other"));
    CHECK_OK(put(id, 9, "right"));
    struct msqid_ds state;
    do {
        usleep(1000);
        CHECK_OK(msgctl(id, IPC_STAT, &state));
    } while (state.msg_lrpid != child);
    until_asleep(child);
    CHECK_OK(msgctl(id, IPC_RMID, NULL));
    CHECK_OK(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    id = new_msg(IPC_PRIVATE, 0600);
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    child = MUST(fork());
    if (!child) {
        CHECK_ERR(msgrcv(id, &large, 8192, 0, 0), EINTR);
        _exit(0);
    }
    until_asleep(child);
    CHECK_OK(kill(child, SIGUSR1));
    CHECK_OK(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    clean();
}

TEST(message_control) {
    int id = new_msg(IPC_PRIVATE, 0600);
    struct msqid_ds state;
    CHECK_OK(msgctl(id, IPC_STAT, &state));
    state.msg_qbytes = 100;
    state.msg_perm.mode = 0666;
    CHECK_OK(msgctl(id, IPC_SET, &state));
    CHECK_OK(msgctl(id, IPC_STAT, &state));
    CHECK_EQ(state.msg_qbytes, 100);
    CHECK_EQ(state.msg_perm.mode, 0666);
    static struct message message = {.type = 1};
    CHECK_OK(msgsnd(id, &message, 64, IPC_NOWAIT));
    CHECK_ERR(msgsnd(id, &message, 64, IPC_NOWAIT), EAGAIN);
    struct msginfo info;
    int highest = CHECK_OK(msgctl(0, MSG_INFO, (void *)&info));
    CHECK_CMP(info.msgpool, >=, 1);
    CHECK_EQ(info.msgmax, 8192);
    int found = 0;
    for (int i = 0; i <= highest; i++)
        found += msgctl(i, MSG_STAT, &state) == id;
    CHECK_EQ(found, 1);
    CHECK_ERR(msgctl(id, IPC_STAT, BAD), EFAULT);
    CHECK_ERR(msgctl(id, 99, &state), EINVAL);
    clean();
}

// The line of an object in a file of /proc/sysvipc.
static int has_line(const char *path, int id, const char *format, ...) {
    char line[400], wanted[200];
    va_list list;
    va_start(list, format);
    vsnprintf(wanted, sizeof wanted, format, list);
    va_end(list);
    FILE *file = fopen(path, "r");
    int found = 0, key, got;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%d %d", &key, &got) == 2 && got == id)
            found = strstr(line, wanted) != NULL;
    if (file)
        fclose(file);
    return found;
}

TEST(lists) {
    int shm = new_shm(IPC_PRIVATE, 12345, 0640), sem = new_sem(IPC_PRIVATE, 4, 0604), msg = new_msg(IPC_PRIVATE, 0600);
    CHECK_OK(put(msg, 1, "hello"));
    CHECK(has_line("/proc/sysvipc/shm", shm, "%10d   640 %21d %5d     0      0 %5d", shm, 12345, getpid(), geteuid()));
    CHECK(has_line("/proc/sysvipc/sem", sem, "%10d   604          4 %5d", sem, geteuid()));
    CHECK(has_line("/proc/sysvipc/msg", msg, "%10d   600           5          1 %5d     0", msg, getpid()));
    char *p = (char *)MUST((long)shmat(shm, NULL, 0));
    p[0] = 1;
    char line[400], wanted[40];
    snprintf(wanted, sizeof wanted, "/SYSV%08x (deleted)", 0);
    FILE *maps = fopen("/proc/self/maps", "r");
    int found = 0;
    while (maps && fgets(line, sizeof line, maps))
        if (strtoul(line, NULL, 16) == (unsigned long)p)
            found = strstr(line, wanted) && strstr(line, " rw-s 00000000 ");
    CHECK(found);
    clean();
}
