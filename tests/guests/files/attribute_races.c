// Changes of a file's attributes are one step with the check whether they may be made, also where others change the
// same file at the same moment.
#include "../users.h"
#include <sched.h>
#include <sys/xattr.h>

#define ROUNDS 3000

static void put(const char *path, mode_t mode) {
    int fd = MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    MUST(fchmod(fd, mode));
    MUST(close(fd));
}

// Starts a child of the user 1000 that does this over and over.
#define CONTENDER(...)                                                                                                \
    ({                                                                                                                \
        pid_t contender = MUST(fork());                                                                               \
        if (contender == 0) {                                                                                         \
            become(1000, 1000);                                                                                       \
            __atomic_store_n(started, 1, __ATOMIC_RELEASE);                                                           \
            for (;;) {                                                                                                \
                __VA_ARGS__;                                                                                          \
            }                                                                                                         \
        }                                                                                                             \
        while (!__atomic_load_n(started, __ATOMIC_ACQUIRE))                                                           \
            sched_yield();                                                                                            \
        contender;                                                                                                    \
    })

static int *shared_word(void) {
    int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(word != MAP_FAILED);
    return word;
}

static void end(pid_t child) {
    CHECK_OK(kill(child, SIGKILL));
    CHECK_OK(waitpid(child, NULL, 0));
}

// The owner sets the set-user-ID bit while root takes the file over: it never is root's with the bit.
TEST(chmod_against_chown) {
    int *started = shared_word(), bad = 0;
    put("f", 0755);
    MUST(chown("f", 1000, 1000));
    pid_t child = CONTENDER(chmod("f", 04755));
    for (int i = 0; i < ROUNDS; i++) {
        struct stat st;
        MUST(chown("f", 0, 0));
        for (volatile int spin = 0; spin < i % 64 * 100; spin++)
            ;
        MUST(stat("f", &st));
        bad += st.st_uid == 0 && st.st_mode & S_ISUID;
        MUST(chown("f", 1000, 1000));
        for (volatile int spin = 0; spin < i % 128 * 100; spin++)
            ;
    }
    end(child);
    CHECK_EQ(bad, 0);
}

// A descriptor of the owner's is no other way, nor is a second name.
TEST(fchmod_against_chown) {
    int *started = shared_word(), bad = 0;
    put("f", 0755);
    MUST(link("f", "g"));
    MUST(chown("f", 1000, 1000));
    int fd = MUST(open("g", O_RDONLY));
    pid_t child = CONTENDER(fchmod(fd, 06755));
    for (int i = 0; i < ROUNDS; i++) {
        struct stat st;
        MUST(chown("f", 0, 0));
        MUST(stat("f", &st));
        bad += st.st_uid == 0 && st.st_mode & (S_ISUID | S_ISGID);
        MUST(chown("f", 1000, 1000));
        for (volatile int spin = 0; spin < i % 128 * 100; spin++)
            ;
    }
    end(child);
    CHECK_EQ(bad, 0);
}

// A write that takes the set-ID bit away does not bring an older mode back.
TEST(write_against_chmod) {
    int *started = shared_word(), bad = 0;
    put("f", 0666);
    pid_t child = CONTENDER({
        int fd = open("f", O_WRONLY);
        for (int n = 0; fd >= 0 && n < 4; n++)
            pwrite(fd, "x", 1, 0);
        close(fd);
    });
    for (int i = 0; i < ROUNDS; i++) {
        struct stat st;
        MUST(chmod("f", 04777));
        for (volatile int spin = 0; spin < i % 128 * 100; spin++)
            ;
        MUST(chmod("f", 0600));
        MUST(stat("f", &st));
        bad += (st.st_mode & 07777) != 0600;
        MUST(chmod("f", 0666));
    }
    end(child);
    CHECK_EQ(bad, 0);
}

// Of files without group execution only those in the group keep the set-group-ID bit when the owner changes.
TEST(set_group_id_of_strangers) {
    put("f", 0666);
    MUST(chown("f", 1000, 50));
    MUST(chmod("f", 02666));
    CHECK_CHILD({
        become(1001, 1001);
        CHECK_ERR(chown("f", -1, -1), EPERM);
        int fd = MUST(open("f", O_WRONLY));
        CHECK_EQ(write(fd, "x", 1), 1);
    });
    struct stat st;
    CHECK_OK(stat("f", &st));
    CHECK_EQ(st.st_mode & 07777, 0666);
}
