// User and group numbers: every call that sets them, with and without the right to, and what goes along with a change.
#include "../check.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>

// The raw calls: those of the C library change all threads, and check by themselves.
#define SETUID(u) syscall(SYS_setuid, (u))
#define SETGID(g) syscall(SYS_setgid, (g))
#define SETREUID(r, e) syscall(SYS_setreuid, (r), (e))
#define SETREGID(r, e) syscall(SYS_setregid, (r), (e))
#define SETRESUID(r, e, s) syscall(SYS_setresuid, (r), (e), (s))
#define SETRESGID(r, e, s) syscall(SYS_setresgid, (r), (e), (s))
#define KEEP (-1)

static void shown(const char *key, unsigned *four) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t length = strlen(key);
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == ':')
            sscanf(line + length + 1, "%u %u %u %u", four, four + 1, four + 2, four + 3);
    if (file)
        fclose(file);
}

static void expect(const char *key, unsigned real, unsigned effective, unsigned saved, unsigned fs, int line) {
    unsigned four[4] = {0};
    shown(key, four);
    CHECK_AT(four[0] == real && four[1] == effective && four[2] == saved && four[3] == fs,
             "line %d: %s %u %u %u %u, not %u %u %u %u", line, key, four[0], four[1], four[2], four[3], real, effective,
             saved, fs);
}
#define UIDS(r, e, s, f) expect("Uid", r, e, s, f, __LINE__)
#define GIDS(r, e, s, f) expect("Gid", r, e, s, f, __LINE__)

TEST(privileged_users) {
    CHECK_CHILD({
        CHECK_OK(SETRESUID(10, 0, 30));
        UIDS(10, 0, 30, 0);
        CHECK_OK(SETREUID(11, KEEP));
        // A real user set makes the saved one follow the effective one.
        UIDS(11, 0, 0, 0);
        CHECK_OK(SETRESUID(KEEP, KEEP, 44));
        CHECK_OK(SETREUID(KEEP, KEEP));
        UIDS(11, 0, 44, 0);
        CHECK_OK(SETREUID(KEEP, 0));
        // Neither real nor old real: another effective user than the real one.
        UIDS(11, 0, 0, 0);
        CHECK_OK(SETUID(77));
        UIDS(77, 77, 77, 77);
        CHECK_ERR(SETUID(0), EPERM);
    });
    CHECK_CHILD({
        CHECK_ERR(SETUID(KEEP), EINVAL);
        CHECK_OK(SETRESUID(KEEP, KEEP, KEEP));
        UIDS(0, 0, 0, 0);
        CHECK_OK(SETRESUID(0xfffffffe, KEEP, KEEP));
        UIDS(0xfffffffe, 0, 0, 0);
    });
}

TEST(unprivileged_users) {
    CHECK_CHILD({
        CHECK_OK(SETRESUID(10, 20, 30));
        UIDS(10, 20, 30, 20);
        CHECK_ERR(SETRESUID(40, KEEP, KEEP), EPERM);
        CHECK_ERR(SETRESUID(KEEP, 40, KEEP), EPERM);
        CHECK_ERR(SETRESUID(KEEP, KEEP, 40), EPERM);
        CHECK_ERR(SETRESUID(20, 40, KEEP), EPERM);
        UIDS(10, 20, 30, 20);
        CHECK_OK(SETRESUID(30, 10, 20));
        UIDS(30, 10, 20, 10);
        // setuid goes to the real or the saved user, and changes the effective one alone.
        CHECK_ERR(SETUID(10), EPERM);
        CHECK_OK(SETUID(20));
        UIDS(30, 20, 20, 20);
        CHECK_OK(SETUID(30));
        UIDS(30, 30, 20, 30);
        CHECK_ERR(SETUID(0), EPERM);
        // setreuid takes the real user from real and effective, the effective one from the saved as well.
        CHECK_ERR(SETREUID(20, KEEP), EPERM);
        CHECK_OK(SETREUID(KEEP, 20));
        // Not the real user: the saved one follows.
        UIDS(30, 20, 20, 20);
        CHECK_OK(SETREUID(20, 30));
        UIDS(20, 30, 30, 30);
        CHECK_OK(SETREUID(30, 20));
        UIDS(30, 20, 20, 20);
        CHECK_OK(SETREUID(KEEP, 30));
        UIDS(30, 30, 20, 30);
    });
}

TEST(groups_of_numbers) {
    CHECK_CHILD({
        CHECK_OK(SETRESGID(10, 20, 30));
        GIDS(10, 20, 30, 20);
        CHECK_ERR(SETGID(KEEP), EINVAL);
        CHECK_OK(SETREGID(KEEP, 25));
        GIDS(10, 25, 25, 25);
        CHECK_OK(SETGID(5));
        GIDS(5, 5, 5, 5);
        CHECK_OK(SETRESGID(10, 20, 30));
        // A change of groups takes no capability; a change of users does.
        CHECK_OK(SETRESUID(1000, 1000, 1000));
        CHECK_ERR(SETGID(5), EPERM);
        CHECK_ERR(SETREGID(30, KEEP), EPERM);
        CHECK_ERR(SETRESGID(KEEP, 5, KEEP), EPERM);
        CHECK_OK(SETRESGID(20, 30, 10));
        GIDS(20, 30, 10, 30);
        CHECK_OK(SETGID(10));
        GIDS(20, 10, 10, 10);
        CHECK_OK(SETREGID(10, 20));
        GIDS(10, 20, 20, 20);
    });
}

TEST(file_system_numbers) {
    CHECK_CHILD({
        CHECK_EQ(setfsuid(-1), 0);
        CHECK_EQ(setfsuid(123), 0);
        UIDS(0, 0, 0, 123);
        CHECK_EQ(setfsuid(-1), 123);
        CHECK_EQ(setfsgid(77), 0);
        CHECK_EQ(setfsgid(-1), 77);
        CHECK_OK(SETRESUID(10, 20, 30));
        UIDS(10, 20, 30, 20);
        CHECK_EQ(setfsuid(40), 20);
        CHECK_EQ(setfsuid(10), 20);
        CHECK_EQ(setfsuid(30), 10);
        // The file system user itself counts too.
        CHECK_EQ(setfsuid(30), 30);
        CHECK_EQ(setfsuid(20), 30);
        CHECK_EQ(setfsuid(-1), 20);
        CHECK_EQ(setfsgid(99), 77);
        CHECK_EQ(setfsgid(0), 77);
        CHECK_EQ(setfsgid(77), 0);
        CHECK_EQ(setfsgid(-1), 0);
    });
    // Files are made and reached as the file system user.
    CHECK_CHILD({
        umask(0);
        setfsgid(501);
        setfsuid(500);
        CHECK_OK(close(open("made", O_CREAT | O_RDWR, 0600)));
        struct stat st;
        CHECK_OK(stat("made", &st));
        CHECK_EQ(st.st_uid, 500);
        CHECK_EQ(st.st_gid, 501);
        setfsuid(502);
        CHECK_ERR(open("made", O_RDONLY), EACCES);
        // And come back with the rights of root.
        setfsuid(0);
        CHECK_OK(open("made", O_RDONLY));
    });
}

TEST(answers) {
    unsigned r, e, s;
    CHECK_CHILD({
        CHECK_OK(SETRESUID(1, 2, 3));
        CHECK_OK(syscall(SYS_getresuid, &r, &e, &s));
        CHECK(r == 1 && e == 2 && s == 3);
        CHECK_EQ(getuid(), 1);
        CHECK_EQ(geteuid(), 2);
    });
    CHECK_OK(syscall(SYS_getresgid, &r, &e, &s));
    CHECK_ERR(syscall(SYS_getresuid, BAD, &e, &s), EFAULT);
    CHECK_ERR(syscall(SYS_getresuid, &r, BAD, &s), EFAULT);
    CHECK_ERR(syscall(SYS_getresgid, &r, &e, BAD), EFAULT);
}

TEST(supplementary_groups) {
    gid_t many[] = {50, 10, 40, 10, 0, 70000}, found[8];
    CHECK_OK(syscall(SYS_setgroups, 6, many));
    CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 6);
    CHECK_ERR(syscall(SYS_getgroups, 5, found), EINVAL);
    CHECK_ERR(syscall(SYS_getgroups, -1, found), EINVAL);
    CHECK_ERR(syscall(SYS_getgroups, 6, BAD), EFAULT);
    CHECK_EQ(syscall(SYS_getgroups, 8, found), 6);
    gid_t sorted[] = {0, 10, 10, 40, 50, 70000};
    CHECK(!memcmp(found, sorted, sizeof sorted));
    CHECK_ERR(syscall(SYS_setgroups, 65537, many), EINVAL);
    CHECK_ERR(syscall(SYS_setgroups, -1, many), EINVAL);
    CHECK_ERR(syscall(SYS_setgroups, 2, BAD), EFAULT);
    gid_t bad[] = {1, -1};
    CHECK_ERR(syscall(SYS_setgroups, 2, bad), EINVAL);
    CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 6);
    CHECK_CHILD({
        CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 6);
        CHECK_OK(SETRESGID(9, 9, 9));
        CHECK_OK(SETRESUID(1000, 1000, 1000));
        CHECK_ERR(syscall(SYS_setgroups, 0, NULL), EPERM);
        CHECK_ERR(syscall(SYS_setgroups, -1, NULL), EPERM);
        CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 6);
    });
    // Membership opens files.
    CHECK_OK(close(open("theirs", O_CREAT | O_RDWR, 0640)));
    CHECK_OK(chmod("theirs", 0640));
    CHECK_OK(chown("theirs", 1, 40));
    CHECK_CHILD({
        CHECK_OK(SETRESGID(9, 9, 9));
        CHECK_OK(SETRESUID(1000, 1000, 1000));
        CHECK_OK(open("theirs", O_RDONLY));
        CHECK_ERR(open("theirs", O_RDWR), EACCES);
    });
    CHECK_OK(syscall(SYS_setgroups, 0, NULL));
    CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 0);
    CHECK_CHILD({
        CHECK_OK(SETRESGID(9, 9, 9));
        CHECK_OK(SETRESUID(1000, 1000, 1000));
        CHECK_ERR(open("theirs", O_RDONLY), EACCES);
    });
}

TEST(no_such_owners) {
    // The ID that means "unchanged" elsewhere is none of an owner or a sender.
    struct shmid_ds memory = {.shm_perm = {.uid = KEEP}};
    struct msqid_ds queue = {.msg_perm = {.gid = KEEP}, .msg_qbytes = 100};
    struct semid_ds set = {.sem_perm = {.uid = KEEP}};
    int shm = MUST(shmget(IPC_PRIVATE, 4096, 0600));
    int msg = MUST(msgget(IPC_PRIVATE, 0600));
    int sem = MUST(semget(IPC_PRIVATE, 1, 0600));
    CHECK_ERR(shmctl(shm, IPC_SET, &memory), EINVAL);
    CHECK_ERR(msgctl(msg, IPC_SET, &queue), EINVAL);
    CHECK_ERR(semctl(sem, 0, IPC_SET, &set), EINVAL);
    CHECK_OK(shmctl(shm, IPC_STAT, &memory));
    CHECK_EQ(memory.shm_perm.uid, 0);
    CHECK_OK(shmctl(shm, IPC_RMID, NULL));
    CHECK_OK(msgctl(msg, IPC_RMID, NULL));
    CHECK_OK(semctl(sem, 0, IPC_RMID));
    int pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    struct ucred senders[] = {{getpid(), KEEP, 0}, {getpid(), 0, KEEP}, {getpid(), 7, 8}};
    for (int i = 0; i < 3; i++) {
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(struct ucred))];
        } control = {.header = {CMSG_LEN(sizeof *senders), SOL_SOCKET, SCM_CREDENTIALS}};
        struct iovec byte = {"x", 1};
        struct msghdr message = {NULL, 0, &byte, 1, &control, sizeof control, 0};
        memcpy(CMSG_DATA(&control.header), &senders[i], sizeof *senders);
        if (i < 2)
            CHECK_ERR(sendmsg(pair[0], &message, 0), EINVAL);
        else
            CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
    }
}

TEST(signals_between_users) {
    // The sender's real or effective user must be the receiver's real or saved one.
    struct {
        int sender[3], receiver[3], allowed;
    } cases[] = {
        {{1, 1, 1}, {1, 1, 1}, 1}, {{1, 1, 1}, {2, 1, 2}, 0}, {{1, 1, 1}, {2, 2, 1}, 1}, {{1, 1, 1}, {1, 2, 2}, 1},
        {{1, 2, 1}, {2, 3, 3}, 1}, {{3, 2, 1}, {1, 1, 1}, 0}, {{3, 2, 1}, {3, 9, 9}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int pipes[2];
        CHECK_OK(pipe(pipes));
        pid_t pid = MUST(fork());
        if (pid == 0) {
            int *r = cases[i].receiver;
            SETRESUID(r[0], r[1], r[2]);
            write(pipes[1], "x", 1);
            for (;;)
                pause();
        }
        char byte;
        CHECK_EQ(read(pipes[0], &byte, 1), 1);
        CHECK_CHILD({
            int *s = cases[i].sender;
            CHECK_OK(SETRESUID(s[0], s[1], s[2]));
            int result = kill(pid, 0);
            CHECK_AT(result == (cases[i].allowed ? 0 : -1), "case %zu", i);
            // Within a session, anybody may continue anybody.
            CHECK_OK(kill(pid, SIGCONT));
        });
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}
