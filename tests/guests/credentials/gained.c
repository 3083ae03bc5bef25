// What another process of the same user still sees and changes of one that has executed a set-user-ID program.
#define OWN_MAIN
#include "../check.h"
#include <linux/ioprio.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define USER 1000
#define AS_USER CHECK_OK(setresgid(1001, 1001, 1001)); CHECK_OK(setresuid(USER, USER, USER)); prctl(PR_SET_DUMPABLE, 1)

static char self[PATH_MAX];
static char secret[16] = "before";
static char buffer[1 << 16];

static void make_program(const char *name) {
    int from = MUST(open(self, O_RDONLY)), to = MUST(open(name, O_CREAT | O_TRUNC | O_WRONLY, 0700));
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        CHECK_EQ(write(to, buffer, n), n);
    CHECK_OK(fchmod(to, 04755));
    close(from);
    close(to);
}

static int file_of(pid_t pid, const char *name, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, flags | O_CLOEXEC);
}

// A child that executes a set-user-ID program of root's when it is asked to, and says so.
struct child {
    pid_t pid;
    int channel;
};

static struct child begin(void) {
    int ends[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    pid_t pid = CHECK_OK(fork());
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char number[16], byte;
        snprintf(number, sizeof number, "%d", ends[1]);
        close(ends[0]);
        if (write(ends[1], "a", 1) == 1 && read(ends[1], &byte, 1) == 1)
            execl("./privileged", "privileged", "wait", number, NULL);
        _exit(1);
    }
    close(ends[1]);
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    return (struct child){pid, ends[0]};
}

static void gain(struct child child) {
    char byte = 0;
    CHECK_EQ(write(child.channel, "g", 1), 1);
    CHECK_EQ(read(child.channel, &byte, 1), 1);
    CHECK_EQ(byte, 'p');
}

static void end(struct child child) {
    close(child.channel);
    CHECK_OK(waitpid(child.pid, NULL, 0));
}

static int wait_for_end(int channel) {
    prctl(PR_SET_PDEATHSIG, 0);
    char byte = geteuid() == 0 ? 'p' : 'n';
    if (write(channel, &byte, 1) == 1)
        while (read(channel, &byte, 1) > 0)
            ;
    return 0;
}

// Files of memory stay with the address space they were opened on.
TEST(files_of_memory) {
    make_program("privileged");
    CHECK_CHILD({
        AS_USER;
        for (int thread = 0; thread < 2; thread++) {
            static const char *const names[] = {"maps", "smaps", "environ", "pagemap", "smaps_rollup", "auxv"};
            struct child child = begin();
            int files[6], mem;
            char path[64];
            static char before[4096];
            for (int i = 0; i < 6; i++) {
                snprintf(path, sizeof path, "task/%d/%s", child.pid, names[i]);
                files[i] = MUST(file_of(child.pid, thread ? path : names[i], O_RDONLY));
            }
            mem = MUST(file_of(child.pid, "mem", O_RDWR));
            CHECK_EQ(pread(mem, buffer, sizeof secret, (off_t)secret), sizeof secret);
            ssize_t words = pread(files[5], before, sizeof before, 0);
            CHECK(words > 0);
            int half_read = MUST(file_of(child.pid, "maps", O_RDONLY));
            CHECK_EQ(read(half_read, buffer, 16), 16);
            gain(child);
            for (int i = 0; i < 4; i++) {
                CHECK_EQ(read(files[i], buffer, sizeof buffer), 0);
                CHECK_EQ(pread(files[i], buffer, 64, 0), 0);
            }
            CHECK_EQ(pread(half_read, buffer, 64, 0), 0);
            CHECK_ERR(read(files[4], buffer, sizeof buffer), ESRCH);
            CHECK_EQ(pread(files[5], buffer, sizeof before, 0), words);
            CHECK(!memcmp(buffer, before, words));
            CHECK_EQ(pread(mem, buffer, sizeof secret, (off_t)secret), 0);
            CHECK_EQ(pwrite(mem, "x", 1, (off_t)secret), 0);
            end(child);
            for (int i = 0; i < 6; i++)
                close(files[i]);
            close(mem);
            close(half_read);
        }
    });
}

// Others ask at each read, also where an earlier one was allowed.
TEST(files_that_ask_at_each_read) {
    make_program("privileged");
    CHECK_CHILD({
        AS_USER;
        struct child child = begin();
        int io = MUST(file_of(child.pid, "io", O_RDONLY)), call = MUST(file_of(child.pid, "syscall", O_RDONLY));
        int persona = MUST(file_of(child.pid, "personality", O_RDONLY));
        int stack = MUST(file_of(child.pid, "stack", O_RDONLY));
        int slack = MUST(file_of(child.pid, "timerslack_ns", O_RDWR));
        CHECK(pread(io, buffer, 64, 0) > 0);
        CHECK(pread(call, buffer, 64, 0) > 0);
        CHECK(pread(persona, buffer, 64, 0) > 0);
        gain(child);
        CHECK_ERR(pread(io, buffer, 64, 0), EACCES);
        CHECK_ERR(pread(call, buffer, 64, 0), EPERM);
        CHECK_ERR(pread(persona, buffer, 64, 0), EPERM);
        CHECK_ERR(pread(stack, buffer, 64, 0), EACCES);
        CHECK_ERR(pread(slack, buffer, 64, 0), EPERM);
        CHECK_ERR(write(slack, "1", 1), EPERM);
        end(child);
    });
}

// It is the reader that is asked for, not the one that opened the file.
TEST(descriptors_passed_on) {
    make_program("privileged");
    pid_t pid = getpid();
    int io = MUST(file_of(pid, "io", O_RDONLY)), call = MUST(file_of(pid, "syscall", O_RDONLY));
    int stat = MUST(file_of(pid, "stat", O_RDONLY)), adjustment = MUST(file_of(pid, "oom_score_adj", O_RDWR));
    int parameter = MUST(open("/proc/sys/kernel/panic_on_oops", O_RDWR));
    char value[16];
    ssize_t len = read(parameter, value, sizeof value);
    CHECK(len > 0);
    CHECK_CHILD({
        AS_USER;
        CHECK_ERR(pread(io, buffer, 64, 0), EACCES);
        CHECK_ERR(pread(call, buffer, 64, 0), EPERM);
        CHECK(pread(stat, buffer, 1024, 0) > 0);
        // Where the stack begins, the 28th word.
        char *word = strrchr(buffer, ')');
        for (int i = 2; word && i < 28; i++)
            word = strchr(word + 1, ' ');
        CHECK(word && !strncmp(word, " 0 ", 3));
        CHECK_ERR(write(adjustment, "-1000", 5), EACCES);
        CHECK_ERR(write(parameter, value, len), EPERM);
    });
}

// What another process is scheduled with is not for one to change that has fewer capabilities.
TEST(scheduling) {
    make_program("privileged");
    CHECK_CHILD({
        AS_USER;
        struct child child = begin();
        pid_t pid = child.pid;
        cpu_set_t processors;
        CHECK_OK(sched_getaffinity(pid, sizeof processors, &processors));
        CHECK_OK(sched_setaffinity(pid, sizeof processors, &processors));
        CHECK_OK(setpriority(PRIO_PROCESS, pid, 1));
        gain(child);
        struct sched_param param = {0};
        char attr[48] = {48};
        CHECK_ERR(sched_setaffinity(pid, sizeof processors, &processors), EPERM);
        CHECK_ERR(setpriority(PRIO_PROCESS, pid, 5), EPERM);
        CHECK_ERR(setpriority(PRIO_PROCESS, pid, -5), EACCES);
        CHECK_ERR(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)), EPERM);
        CHECK_ERR(sched_setscheduler(pid, SCHED_BATCH, &param), EPERM);
        CHECK_ERR(sched_setparam(pid, &param), EPERM);
        CHECK_ERR(syscall(SYS_sched_setattr, pid, attr, 0), EPERM);
        CHECK_OK(syscall(SYS_sched_getattr, pid, attr, sizeof attr, 0));
        CHECK_OK(sched_getaffinity(pid, sizeof processors, &processors));
        CHECK_OK(sched_getparam(pid, &param));
        CHECK_EQ(getpriority(PRIO_PROCESS, pid), 1);
        end(child);
    });
}

// The same user as the real one only is no right to another's nice value.
TEST(nice_value_of_the_real_user) {
    pid_t pid = CHECK_OK(fork());
    if (!pid) {
        CHECK_OK(setresuid(USER, 1002, 1002));
        raise(SIGSTOP);
        pause();
    }
    CHECK_OK(waitpid(pid, NULL, WUNTRACED));
    CHECK_CHILD({
        CHECK_OK(setresuid(USER, 1003, 1003));
        CHECK_ERR(setpriority(PRIO_PROCESS, pid, 5), EPERM);
    });
    CHECK_CHILD({
        CHECK_OK(setresuid(1003, USER, USER));
        CHECK_OK(setpriority(PRIO_PROCESS, pid, 5));
    });
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_OK(waitpid(pid, NULL, 0));
}

int main(int argc, char **argv) {
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    if (argc > 2 && !strcmp(argv[1], "wait"))
        return wait_for_end(atoi(argv[2]));
    return check_main(argc, argv);
}
