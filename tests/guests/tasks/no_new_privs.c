// What one thread sets for all with SECCOMP_FILTER_FLAG_TSYNC, while the others change themselves: no thread is ever under the
// filter without no_new_privs, and none loses a change of its own.
#define OWN_MAIN
#include "../check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>

#define THREADS 3
#define MADE 12

static char self[PATH_MAX];
static volatile int ready, go, installed;

// Answers setuid(2) with success without doing it, for all threads.
static void install_for_all(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setuid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, filter};
    CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), 0);
    installed = 1;
}

static void check_both(void) {
    CHECK_EQ(prctl(PR_GET_SECCOMP), SECCOMP_MODE_FILTER);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
}

static void start(pthread_t *threads, void *(*run)(void *)) {
    ready = go = installed = 0;
    for (int i = 0; i < THREADS; i++)
        CHECK_RET(pthread_create(&threads[i], NULL, run, NULL), 0);
    while (ready < THREADS)
        sched_yield();
    go = 1;
}

static void join(pthread_t *threads) {
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void arrive(void) {
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!go)
        sched_yield();
}

static void *set_the_same_user(void *unused) {
    arrive();
    do
        CHECK_EQ(syscall(SYS_setresuid, -1, -1, -1), 0);
    while (prctl(PR_GET_SECCOMP) == SECCOMP_MODE_DISABLED);
    check_both();
    return NULL;
}

TEST(with_changes_of_user) {
    for (int round = 0; round < 25; round++)
        CHECK_CHILD({
            pthread_t threads[THREADS];
            start(threads, set_the_same_user);
            for (volatile int i = 0; i < round * 50; i++)
                ;
            install_for_all();
            join(threads);
        });
}

static void *drop_root(void *unused) {
    arrive();
    CHECK_EQ(syscall(SYS_setresuid, 1000, 1000, 1000), 0);
    while (!installed)
        sched_yield();
    CHECK_EQ(syscall(SYS_geteuid), 1000);
    check_both();
    return NULL;
}

TEST(with_dropped_rights) {
    for (int round = 0; round < 25; round++)
        CHECK_CHILD({
            pthread_t threads[THREADS];
            start(threads, drop_root);
            install_for_all();
            join(threads);
        });
}

static void *await_filter(void *unused) {
    while (!installed)
        usleep(1000);
    check_both();
    return NULL;
}

static void *make_threads(void *unused) {
    pthread_t made[MADE];
    arrive();
    for (int i = 0; i < MADE; i++)
        CHECK_RET(pthread_create(&made[i], NULL, await_filter, NULL), 0);
    for (int i = 0; i < MADE; i++)
        pthread_join(made[i], NULL);
    return NULL;
}

TEST(with_new_threads) {
    for (int round = 0; round < 8; round++)
        CHECK_CHILD({
            pthread_t threads[THREADS];
            start(threads, make_threads);
            for (volatile int i = 0; i < round * 30000; i++)
                ;
            install_for_all();
            join(threads);
        });
}

static void *make_processes(void *unused) {
    arrive();
    for (int i = 0; i < 3; i++)
        CHECK_CHILD(CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_DISABLED || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)));
    return NULL;
}

TEST(with_new_processes) {
    for (int round = 0; round < 5; round++)
        CHECK_CHILD({
            pthread_t threads[THREADS];
            start(threads, make_processes);
            for (volatile int i = 0; i < round * 30000; i++)
                ;
            install_for_all();
            join(threads);
        });
}

enum { PLAIN = 10, PRIVILEGED, UNDER_A_FILTER };

static void *execute(void *unused) {
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!go)
        sched_yield();
    execl("./root", "root", "--report", NULL);
    return NULL;
}

// A program that is being executed meanwhile is privileged, or under the filter, but not both.
TEST(with_a_privileged_program) {
    int from = MUST(open(self, O_RDONLY)), to = MUST(open("root", O_CREAT | O_WRONLY, 0700));
    static char buffer[1 << 16];
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        CHECK_EQ(write(to, buffer, n), n);
    CHECK_OK(fchmod(to, 04755));
    close(from);
    close(to);
    for (int round = 0; round < 40; round++) {
        int status = IN_CHILD({
            CHECK_OK(setresuid(1000, 1000, 1000));
            ready = go = installed = 0;
            pthread_t thread;
            pthread_create(&thread, NULL, execute, NULL);
            while (!ready)
                sched_yield();
            go = 1;
            for (volatile int i = 0; i < round * 16000; i++)
                ;
            install_for_all();
            pthread_join(thread, NULL);
        });
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == PLAIN || WEXITSTATUS(status) == PRIVILEGED);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "--report"))
        return geteuid() ? PLAIN : prctl(PR_GET_SECCOMP) || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) ? UNDER_A_FILTER : PRIVILEGED;
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    return check_main(argc, argv);
}
