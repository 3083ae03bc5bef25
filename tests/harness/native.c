// Runs a program on the host's kernel in namespaces of its own, so that it starts from the state a sandbox starts from
// and leaves nothing behind: an empty directory to work in, its own /proc and terminals, a loopback that is up, its own
// IPC objects.
//
//   native [-d SCRATCH] [-r TREE] [-v SRC:DST] [-t] [-P] -- PROGRAM ARGS…
//
// -d is the directory to work in, if not this one; -r runs it in a copy-on-write view of TREE, -v shows the directory
// SRC there as DST, read-only; -t makes the terminal on its input its controlling one; -P forbids ptrace. Exits as the
// program does, with 128 + n for death by signal n. Where namespaces are refused the program runs without them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "native: %s: %s\n", what, strerror(errno));
        exit(125);
    }
}

static void loopback_up(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lo"};
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP | IFF_RUNNING;
        ioctl(fd, SIOCSIFFLAGS, &request);
    }
    close(fd);
}

static void device(const char *name) {
    char from[64], to[64];
    snprintf(from, sizeof from, "/dev/%s", name);
    snprintf(to, sizeof to, "root/dev/%s", name);
    int fd = open(to, O_CREAT | O_WRONLY, 0666);
    must(fd, to);
    close(fd);
    must(mount(from, to, NULL, MS_BIND, NULL), to);
}

// The working directory is scratch space by now; the tree's view is mounted inside it and becomes the root.
static void enter_tree(const char *tree, char *volume) {
    char options[4352];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", tree);
    must(mkdir("upper", 0755) | mkdir("work", 0755) | mkdir("root", 0755), "directories");
    must(mount("overlay", "root", "overlay", 0, options), "overlay of the tree");
    must(mount("proc", "root/proc", "proc", 0, NULL), "/proc");
    must(mount("sysfs", "root/sys", "sysfs", MS_RDONLY, NULL), "/sys");
    must(mount("tmpfs", "root/dev", "tmpfs", 0, "mode=755"), "/dev");
    const char *names[] = {"null", "zero", "full", "random", "urandom", "tty"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        device(names[i]);
    must(mkdir("root/dev/pts", 0755) | mkdir("root/dev/shm", 01777), "/dev");
    must(mount("devpts", "root/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620"), "/dev/pts");
    must(symlink("pts/ptmx", "root/dev/ptmx") | symlink("/proc/self/fd", "root/dev/fd"), "/dev");
    must(symlink("fd/0", "root/dev/stdin") | symlink("fd/1", "root/dev/stdout") | symlink("fd/2", "root/dev/stderr"), "/dev");
    if (volume) {
        char *colon = strchr(volume, ':'), to[4096];
        must(colon ? 0 : -1, "-v SRC:DST");
        *colon = 0;
        snprintf(to, sizeof to, "root%s", colon + 1);
        mkdir(to, 0755);
        must(mount(volume, to, NULL, MS_BIND, NULL), to);
        must(mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), to);
    }
    must(chdir("root"), "root");
    must(chroot("."), "chroot");
    must(chdir("/tmp"), "/tmp");
}

// What a container engine does that does not trust its guests with ptrace.
static void forbid_ptrace(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "filter");
}

static int status_code(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

static void prepare(const char *tree, char *volume, int terminal) {
    char here[4096];
    must(getcwd(here, sizeof here) ? 0 : -1, "working directory");
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    must(mount("tmpfs", here, "tmpfs", 0, "mode=755"), "scratch directory");
    must(chdir(here), here);
    loopback_up();
    if (tree)
        enter_tree(tree, volume);
    else
        must(mount("proc", "/proc", "proc", 0, NULL), "/proc");
    // Numbers of terminals are given to nobody else then. One that comes from outside has its name there.
    if (!tree && !terminal)
        must(mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "/dev/pts");
}

int main(int argc, char **argv) {
    const char *tree = NULL;
    char *volume = NULL;
    int terminal = 0, no_ptrace = 0, option;
    while ((option = getopt(argc, argv, "+d:r:v:tP")) != -1) {
        if (option == 'r')
            tree = optarg;
        else if (option == 'd')
            must(chdir(optarg), optarg);
        else if (option == 'v')
            volume = optarg;
        else if (option == 't')
            terminal = 1;
        else if (option == 'P')
            no_ptrace = 1;
        else
            return 125;
    }
    int confined = unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0;
    if (!confined && tree) {
        fprintf(stderr, "native: no namespaces: %s\n", strerror(errno));
        return 125;
    }
    pid_t init = fork();
    must(init, "fork");
    if (init == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (confined)
            prepare(tree, volume, terminal);
        pid_t program = fork();
        must(program, "fork");
        if (program == 0) {
            close_range(3, ~0U, 0);
            if (terminal) {
                setsid();
                must(ioctl(0, TIOCSCTTY, 1), "controlling terminal");
            }
            if (no_ptrace)
                forbid_ptrace();
            execvp(argv[optind], argv + optind);
            fprintf(stderr, "native: %s: %s\n", argv[optind], strerror(errno));
            _exit(errno == ENOENT ? 127 : 126);
        }
        for (;;) {
            int status;
            pid_t pid = wait(&status);
            if (pid == program)
                _exit(status_code(status));
            if (pid < 0 && errno != EINTR)
                _exit(125);
        }
    }
    int status;
    while (waitpid(init, &status, 0) < 0 && errno == EINTR)
        ;
    return status_code(status);
}
