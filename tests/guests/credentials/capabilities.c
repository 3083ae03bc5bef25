// Capabilities: the sets, how changes of user and execve transform them, and what keeps them from being gained.
#define OWN_MAIN
#include "../check.h"
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#define BIT(cap) (1ULL << (cap))
#define REPORT_FD 200

static char self[PATH_MAX];

struct sets {
    uint64_t effective, permitted, inheritable;
};

static struct sets sets_of(pid_t pid) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, pid};
    struct __user_cap_data_struct data[2] = {{0}};
    CHECK_OK(syscall(SYS_capget, &header, data));
    return (struct sets){data[0].effective | (uint64_t)data[1].effective << 32,
                         data[0].permitted | (uint64_t)data[1].permitted << 32,
                         data[0].inheritable | (uint64_t)data[1].inheritable << 32};
}

static int set_sets(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{effective, permitted, inheritable},
                                             {effective >> 32, permitted >> 32, inheritable >> 32}};
    return syscall(SYS_capset, &header, data);
}

static uint64_t bounding(void) {
    uint64_t set = 0;
    for (int i = 0; i < 64; i++)
        if (prctl(PR_CAPBSET_READ, i) == 1)
            set |= BIT(i);
    return set;
}

static uint64_t ambient(void) {
    uint64_t set = 0;
    for (int i = 0; i < 64; i++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1)
            set |= BIT(i);
    return set;
}

#define SETS(e, p, i)                                                                                                 \
    do {                                                                                                              \
        struct sets now = sets_of(0);                                                                                 \
        CHECK_EQ(now.effective, e);                                                                                   \
        CHECK_EQ(now.permitted, p);                                                                                   \
        CHECK_EQ(now.inheritable, i);                                                                                 \
    } while (0)

TEST(versions) {
    struct __user_cap_header_struct header = {0x12345678, 0};
    struct __user_cap_data_struct data[2], one;
    CHECK_ERR(syscall(SYS_capget, &header, data), EINVAL);
    CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
    header.version = 0;
    CHECK_OK(syscall(SYS_capget, &header, NULL));
    CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
    header = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, -1};
    CHECK_OK(syscall(SYS_capget, &header, NULL));
    CHECK_ERR(syscall(SYS_capget, &header, data), EINVAL);
    header.pid = 1 << 22;
    CHECK_ERR(syscall(SYS_capget, &header, data), ESRCH);
    header.pid = 0;
    CHECK_ERR(syscall(SYS_capget, &header, BAD), EFAULT);
    CHECK_ERR(syscall(SYS_capget, BAD, data), EFAULT);
    CHECK_ERR(syscall(SYS_capset, BAD, data), EFAULT);
    CHECK_ERR(syscall(SYS_capset, &header, BAD), EFAULT);
    header.pid = getppid();
    CHECK_OK(syscall(SYS_capget, &header, data));
    CHECK_ERR(syscall(SYS_capset, &header, data), EPERM);
    header = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_1, 0};
    CHECK_OK(syscall(SYS_capget, &header, &one));
    CHECK_EQ(one.permitted, (uint32_t)sets_of(0).permitted);
    header = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_2, getpid()};
    CHECK_OK(syscall(SYS_capget, &header, data));
    CHECK_EQ(data[1].permitted, sets_of(0).permitted >> 32);
    CHECK_OK(syscall(SYS_capset, &header, data));
    header.version = 77;
    CHECK_ERR(syscall(SYS_capset, &header, data), EINVAL);
    CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
    // The first version knows of 32 only: the others go.
    header = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_1, 0};
    CHECK_OK(syscall(SYS_capset, &header, &one));
    SETS(one.effective, one.permitted, one.inheritable);
}

TEST(setting) {
    uint64_t all = sets_of(0).permitted;
    CHECK_EQ(all, bounding());
    // Those there are not are taken for granted.
    CHECK_OK(set_sets(-1ULL & (all | ~0ULL << 41), all | ~0ULL << 41, 0));
    SETS(all, all, 0);
    CHECK_OK(set_sets(BIT(CAP_KILL), all, BIT(CAP_CHOWN)));
    SETS(BIT(CAP_KILL), all, BIT(CAP_CHOWN));
    CHECK_ERR(set_sets(BIT(CAP_KILL), 0, 0), EPERM);
    CHECK_OK(set_sets(all, all, 0));
    CHECK_OK(set_sets(all & ~BIT(CAP_CHOWN), all & ~BIT(CAP_CHOWN), 0));
    CHECK_ERR(set_sets(all, all, 0), EPERM);
    // With CAP_SETPCAP anything of the bounding set can be inherited, without it only what is permitted.
    CHECK_OK(set_sets(all & ~BIT(CAP_CHOWN), all & ~BIT(CAP_CHOWN), BIT(CAP_CHOWN)));
    CHECK_OK(set_sets(0, BIT(CAP_KILL), 0));
    CHECK_ERR(set_sets(0, BIT(CAP_KILL), BIT(CAP_CHOWN)), EPERM);
    CHECK_OK(set_sets(BIT(CAP_KILL), BIT(CAP_KILL), BIT(CAP_KILL)));
    CHECK_OK(set_sets(0, 0, BIT(CAP_KILL)));
    SETS(0, 0, BIT(CAP_KILL));
    CHECK_CHILD(SETS(0, 0, BIT(CAP_KILL)));
}

TEST(bounding_set) {
    CHECK_ERR(prctl(PR_CAPBSET_READ, 41), EINVAL);
    CHECK_ERR(prctl(PR_CAPBSET_READ, -1), EINVAL);
    CHECK_ERR(prctl(PR_CAPBSET_READ, 1UL << 32), EINVAL);
    CHECK_ERR(prctl(PR_CAPBSET_DROP, 41), EINVAL);
    uint64_t all = bounding();
    CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
    CHECK_EQ(bounding(), all & ~BIT(CAP_CHOWN));
    // It bounds what can be had, not what is had.
    CHECK(sets_of(0).permitted & BIT(CAP_CHOWN));
    CHECK_ERR(set_sets(all, all, BIT(CAP_CHOWN)), EPERM);
    CHECK_OK(set_sets(0, all, 0));
    CHECK_ERR(prctl(PR_CAPBSET_DROP, CAP_KILL), EPERM);
    CHECK_ERR(prctl(PR_CAPBSET_DROP, 41), EPERM);
}

TEST(ambient_set) {
    uint64_t all = sets_of(0).permitted;
    CHECK_EQ(ambient(), 0);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0), EPERM);
    CHECK_OK(set_sets(all, all, BIT(CAP_KILL) | BIT(CAP_CHOWN)));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    CHECK_EQ(ambient(), BIT(CAP_KILL) | BIT(CAP_CHOWN));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_CHOWN, 0, 0));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_CHOWN, 0, 0));
    CHECK_EQ(ambient(), BIT(CAP_KILL));
    CHECK_ERR(prctl(PR_CAP_AMBIENT, 0, CAP_KILL, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, 5, CAP_KILL, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 41, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 1, 0), EINVAL);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, CAP_KILL, 0, 0), EINVAL);
    // What is no longer inheritable, or no longer permitted, is no longer ambient.
    CHECK_OK(set_sets(all, all, 0));
    CHECK_EQ(ambient(), 0);
    CHECK_OK(set_sets(all, all, BIT(CAP_KILL)));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    CHECK_OK(set_sets(all & ~BIT(CAP_KILL), all & ~BIT(CAP_KILL), BIT(CAP_KILL)));
    CHECK_EQ(ambient(), 0);
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    CHECK_OK(prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE));
    CHECK_OK(set_sets(all & ~BIT(CAP_KILL), all & ~BIT(CAP_KILL), BIT(CAP_CHOWN)));
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), EPERM);
}

TEST(secure_bits) {
    CHECK_EQ(prctl(PR_GET_SECUREBITS), 0);
    CHECK_EQ(prctl(PR_GET_KEEPCAPS), 0);
    CHECK_ERR(prctl(PR_SET_KEEPCAPS, 2), EINVAL);
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
    CHECK_EQ(prctl(PR_GET_SECUREBITS), SECBIT_KEEP_CAPS);
    CHECK_ERR(prctl(PR_SET_SECUREBITS, 1 << 30), EPERM);
    CHECK_ERR(prctl(PR_SET_SECUREBITS, 1UL << 32), EPERM);
    CHECK_OK(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED));
    CHECK_ERR(prctl(PR_SET_KEEPCAPS, 1), EPERM);
    CHECK_ERR(prctl(PR_SET_SECUREBITS, 0), EPERM);
    CHECK_ERR(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED | SECBIT_KEEP_CAPS), EPERM);
    CHECK_OK(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED | SECBIT_NOROOT));
    CHECK_OK(set_sets(0, sets_of(0).permitted, 0));
    CHECK_ERR(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED | SECBIT_NOROOT), EPERM);
    CHECK_CHILD(CHECK_EQ(prctl(PR_GET_SECUREBITS), SECBIT_KEEP_CAPS_LOCKED | SECBIT_NOROOT));
}

TEST(changes_of_user) {
    uint64_t all = sets_of(0).permitted;
    CHECK_CHILD({
        // Back to root gives effective what was permitted; away for good takes all.
        CHECK_OK(setresuid(-1, 1000, -1));
        SETS(0, all, 0);
        CHECK_OK(setresuid(-1, 0, -1));
        SETS(all, all, 0);
        CHECK_OK(setresuid(1000, 1000, 0));
        SETS(0, all, 0);
        CHECK_OK(setresuid(-1, 0, -1));
        SETS(all, all, 0);
        CHECK_OK(setresuid(1000, 1000, 1000));
        SETS(0, 0, 0);
    });
    CHECK_CHILD({
        CHECK_OK(set_sets(all, all, BIT(CAP_KILL)));
        CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
        CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
        CHECK_OK(setresuid(1000, 1000, 1000));
        SETS(0, all, BIT(CAP_KILL));
        CHECK_EQ(ambient(), 0);
        CHECK_OK(set_sets(all, all, BIT(CAP_KILL)));
    });
    CHECK_CHILD({
        CHECK_OK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP));
        CHECK_OK(setresuid(1000, 1000, 1000));
        SETS(all, all, 0);
        CHECK_OK(setresuid(0, 0, 0));
        SETS(all, all, 0);
    });
    CHECK_CHILD({
        // Of the file system user's change only some are concerned.
        uint64_t files = BIT(CAP_CHOWN) | BIT(CAP_MKNOD) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) |
                         BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_LINUX_IMMUTABLE) | BIT(CAP_MAC_OVERRIDE);
        syscall(SYS_setfsuid, 1000);
        SETS(all & ~files, all, 0);
        syscall(SYS_setfsuid, 0);
        SETS(all, all, 0);
        CHECK_OK(set_sets(BIT(CAP_SETUID), all, 0));
        syscall(SYS_setfsuid, 1000);
        SETS(BIT(CAP_SETUID), all, 0);
        syscall(SYS_setfsuid, 0);
        SETS(BIT(CAP_SETUID) | (all & files), all, 0);
    });
}

// What a program finds itself to be.
struct report {
    unsigned uid, euid, suid, gid, egid, sgid;
    struct sets sets;
    uint64_t ambient, bounding;
    int secure, dumpable, bits, death_signal, keeps, persona;
};

static int report(void) {
    struct report r = {.sets = sets_of(0),
                       .ambient = ambient(),
                       .bounding = bounding(),
                       .secure = getauxval(AT_SECURE),
                       .dumpable = prctl(PR_GET_DUMPABLE),
                       .bits = prctl(PR_GET_SECUREBITS)};
    getresuid(&r.uid, &r.euid, &r.suid);
    getresgid(&r.gid, &r.egid, &r.sgid);
    prctl(PR_GET_PDEATHSIG, &r.death_signal);
    r.persona = syscall(SYS_personality, 0xffffffff);
    return write(REPORT_FD, &r, sizeof r) != sizeof r;
}

// Copies this program to `name` with an owner, a mode and, unless NULL, capabilities of its own.
static void make_program(const char *name, int uid, int gid, int mode, struct vfs_cap_data *caps) {
    int from = MUST(open(self, O_RDONLY)), to = MUST(open(name, O_CREAT | O_TRUNC | O_WRONLY, 0700));
    static char buffer[1 << 16];
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        CHECK_EQ(write(to, buffer, n), n);
    CHECK_OK(fchown(to, uid, gid));
    CHECK_OK(fchmod(to, mode));
    if (caps)
        CHECK_OK(fsetxattr(to, "security.capability", caps, sizeof *caps, 0));
    close(from);
    close(to);
}

static struct vfs_cap_data file_caps(uint64_t permitted, uint64_t inheritable, int effective) {
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2 | (effective ? VFS_CAP_FLAGS_EFFECTIVE : 0)};
    for (int i = 0; i < 2; i++) {
        caps.data[i].permitted = permitted >> (32 * i);
        caps.data[i].inheritable = inheritable >> (32 * i);
    }
    return caps;
}

// Runs `program` in a child after the statements; gives what it reports.
#define RUN(program, ...)                                                                                             \
    ({                                                                                                                \
        struct report run_report;                                                                                     \
        memset(&run_report, 0xff, sizeof run_report);                                                                 \
        int run_pipes[2];                                                                                             \
        CHECK_OK(pipe(run_pipes));                                                                                    \
        int run_status = IN_CHILD({                                                                                   \
            dup2(run_pipes[1], REPORT_FD);                                                                            \
            __VA_ARGS__;                                                                                              \
            execl(program, program, "report", NULL);                                                                  \
            CHECK_AT(0, "%s: %s", program, strerror(errno));                                                          \
        });                                                                                                           \
        CHECK_EQ(run_status, 0);                                                                                      \
        close(run_pipes[1]);                                                                                          \
        CHECK_EQ(read(run_pipes[0], &run_report, sizeof run_report), sizeof run_report);                              \
        close(run_pipes[0]);                                                                                          \
        run_report;                                                                                                   \
    })
#define AS_USER CHECK_OK(setresgid(1001, 1001, 1001)); CHECK_OK(setresuid(1000, 1000, 1000))

TEST(execution_by_root) {
    uint64_t all = bounding();
    make_program("plain", 0, 0, 0755, NULL);
    struct report r = RUN("./plain", CHECK_OK(set_sets(BIT(CAP_KILL), BIT(CAP_KILL), 0)));
    CHECK_EQ(r.sets.permitted, all);
    CHECK_EQ(r.sets.effective, all);
    CHECK_EQ(r.secure, 0);
    // Gaining capabilities this way too hides the process.
    CHECK_EQ(r.dumpable, 0);
    r = RUN("./plain", CHECK_OK(prctl(PR_SET_KEEPCAPS, 1)));
    CHECK_EQ(r.bits, 0);
    CHECK_EQ(r.dumpable, 1);
    r = RUN("./plain", CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_KILL)));
    CHECK_EQ(r.sets.permitted, all & ~BIT(CAP_KILL));
    CHECK_EQ(r.bounding, all & ~BIT(CAP_KILL));
    r = RUN("./plain", CHECK_OK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)));
    CHECK_EQ(r.sets.permitted, 0);
    CHECK_EQ(r.bits, SECBIT_NOROOT);
    r = RUN("./plain", CHECK_OK(setresuid(0, 1000, 0)));
    // Really root, effectively not: permitted but not effective; saved follows effective.
    CHECK_EQ(r.sets.permitted, all);
    CHECK_EQ(r.sets.effective, 0);
    CHECK_EQ(r.suid, 1000);
    CHECK_EQ(r.secure, 1);
    CHECK_EQ(r.dumpable, 0);
    make_program("other", 2000, 2001, 06755, NULL);
    r = RUN("./other", (void)0);
    CHECK(r.uid == 0 && r.euid == 2000 && r.suid == 2000 && r.gid == 0 && r.egid == 2001 && r.sgid == 2001);
    CHECK_EQ(r.sets.effective, 0);
    CHECK_EQ(r.sets.permitted, all);
    CHECK_EQ(r.secure, 1);
}

TEST(set_user_programs) {
    uint64_t all = bounding();
    make_program("root", 0, 0, 04755, NULL);
    struct report r = RUN("./root", AS_USER; CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGTERM)); syscall(SYS_personality, 0x40000));
    CHECK(r.uid == 1000 && r.euid == 0 && r.suid == 0 && r.gid == 1001 && r.egid == 1001);
    CHECK_EQ(r.sets.permitted, all);
    CHECK_EQ(r.sets.effective, all);
    CHECK_EQ(r.secure, 1);
    CHECK_EQ(r.dumpable, 0);
    CHECK_EQ(r.death_signal, 0);
    CHECK_EQ(r.persona, 0);
    r = RUN("./root", AS_USER; CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
    CHECK(r.uid == 1000 && r.euid == 1000 && r.suid == 1000 && r.sets.permitted == 0 && !r.secure && r.dumpable == 1);
    make_program("group", 5, 6, 02755, NULL);
    r = RUN("./group", AS_USER);
    CHECK(r.euid == 1000 && r.gid == 1001 && r.egid == 6 && r.sgid == 6 && r.secure && !r.dumpable);
    // Without the group's right to execute, the bit means something else.
    make_program("lock", 5, 6, 02705, NULL);
    r = RUN("./lock", AS_USER);
    CHECK(r.egid == 1001 && !r.secure);
    // A file of root that changes nothing is no gain.
    r = RUN("./root", (void)0);
    CHECK(r.euid == 0 && !r.secure && r.dumpable == 1);
    make_program("same", 1000, 0, 04755, NULL);
    r = RUN("./same", AS_USER; CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGTERM)));
    CHECK(r.euid == 1000 && !r.secure && r.dumpable == 1 && r.death_signal == SIGTERM);
    // A program that may be executed but not read must not be looked into either.
    make_program("hidden", 0, 0, 0711, NULL);
    r = RUN("./hidden", AS_USER);
    CHECK(r.euid == 1000 && !r.secure && !r.dumpable);
    r = RUN("./hidden", (void)0);
    CHECK_EQ(r.dumpable, 1);
    // Capabilities of the file in place of those of root.
    struct vfs_cap_data caps = file_caps(BIT(CAP_KILL), 0, 1);
    make_program("less", 0, 0, 04755, &caps);
    r = RUN("./less", AS_USER);
    CHECK(r.euid == 0 && r.sets.permitted == BIT(CAP_KILL) && r.sets.effective == BIT(CAP_KILL));
    // A script runs as its interpreter says, whatever its own bits.
    int fd = CHECK_OK(open("script", O_CREAT | O_RDWR, 0755));
    dprintf(fd, "#!./plain report\n");
    CHECK_OK(fchmod(fd, 04755));
    close(fd);
    make_program("plain", 0, 0, 0755, NULL);
    r = RUN("./script", AS_USER);
    CHECK(r.euid == 1000 && !r.secure);
}

TEST(where_set_user_counts_not) {
    CHECK_OK(mkdir("place", 0777));
    CHECK_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        CHECK_OK(mount("t", "place", "tmpfs", MS_NOSUID, NULL));
        CHECK_OK(chmod("place", 0777));
        make_program("place/root", 0, 0, 04755, NULL);
        struct report r = RUN("./place/root", AS_USER);
        CHECK(r.euid == 1000 && !r.secure && r.sets.permitted == 0);
        struct vfs_cap_data caps = file_caps(BIT(CAP_KILL), 0, 1);
        make_program("place/caps", 0, 0, 0755, &caps);
        r = RUN("./place/caps", AS_USER);
        CHECK(r.sets.permitted == 0 && !r.secure);
    });
}

// Runs what the descriptor names in a child, as an ordinary user; gives what it reports.
static struct report run_descriptor(int fd) {
    struct report r;
    memset(&r, 0xff, sizeof r);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_EQ(IN_CHILD({
                 dup2(pipes[1], REPORT_FD);
                 AS_USER;
                 syscall(SYS_execveat, fd, "", (char *[]){"program", "report", NULL}, environ, AT_EMPTY_PATH);
                 CHECK_AT(0, "execveat: %s", strerror(errno));
             }),
             0);
    close(pipes[1]);
    CHECK_EQ(read(pipes[0], &r, sizeof r), sizeof r);
    close(pipes[0]);
    return r;
}

// A descriptor brings no rights of a file that lies on no mount of the caller's namespace.
TEST(set_user_of_other_mounts) {
    make_program("root", 0, 0, 04755, NULL);
    struct vfs_cap_data caps = file_caps(BIT(CAP_KILL), 0, 1);
    make_program("caps", 0, 0, 0755, &caps);
    int root = MUST(open("root", O_RDONLY)), with_caps = MUST(open("caps", O_RDONLY));
    struct report r = run_descriptor(root);
    CHECK(r.euid == 0 && r.secure == 1);
    r = run_descriptor(with_caps);
    CHECK(r.sets.permitted == BIT(CAP_KILL) && r.secure == 1);
    // A file of memory lies on no mount that anybody sees.
    int memory = MUST(memfd_create("program", 0));
    static char buffer[1 << 16];
    for (ssize_t n; (n = read(root, buffer, sizeof buffer)) > 0;)
        CHECK_EQ(write(memory, buffer, n), n);
    CHECK_OK(fchmod(memory, 04755));
    r = run_descriptor(memory);
    CHECK(r.uid == 1000 && r.euid == 1000 && r.sets.permitted == 0 && r.secure == 0);
    // The mount was taken away.
    CHECK_OK(mkdir("place", 0777));
    CHECK_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        CHECK_OK(mount("t", "place", "tmpfs", 0, NULL));
        make_program("place/root", 0, 0, 04755, NULL);
        int fd = MUST(open("place/root", O_RDONLY));
        CHECK_EQ(run_descriptor(fd).euid, 0);
        CHECK_OK(umount2("place", MNT_DETACH));
        r = run_descriptor(fd);
        CHECK(r.euid == 1000 && r.sets.permitted == 0 && r.secure == 0);
    });
    // The mounts are those of another namespace.
    CHECK_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        r = run_descriptor(root);
        CHECK(r.euid == 1000 && r.sets.permitted == 0 && r.secure == 0);
        r = run_descriptor(with_caps);
        CHECK(r.euid == 1000 && r.sets.permitted == 0 && r.secure == 0);
    });
}

TEST(file_capabilities) {
    struct vfs_cap_data caps = file_caps(BIT(CAP_NET_RAW) | BIT(CAP_BPF), 0, 1);
    make_program("both", 0, 0, 0755, &caps);
    struct report r = RUN("./both", AS_USER);
    CHECK_EQ(r.sets.permitted, BIT(CAP_NET_RAW) | BIT(CAP_BPF));
    CHECK_EQ(r.sets.effective, BIT(CAP_NET_RAW) | BIT(CAP_BPF));
    CHECK(r.uid == 1000 && r.euid == 1000 && r.secure == 1 && r.dumpable == 0);
    r = RUN("./both", AS_USER; CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
    CHECK(r.sets.permitted == 0 && r.sets.effective == 0);
    // Bounded away: a program that believes in its rights is not started without them.
    CHECK_CHILD({
        CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW));
        AS_USER;
        CHECK_ERR(execl("./both", "both", "report", NULL), EPERM);
    });
    caps = file_caps(BIT(CAP_NET_RAW) | BIT(CAP_KILL), 0, 0);
    make_program("permitted", 0, 0, 0755, &caps);
    r = RUN("./permitted", CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW)); AS_USER);
    CHECK(r.sets.permitted == BIT(CAP_KILL) && r.sets.effective == 0 && r.secure == 1);
    caps = file_caps(0, BIT(CAP_NET_RAW) | BIT(CAP_KILL), 1);
    make_program("inherits", 0, 0, 0755, &caps);
    uint64_t all = sets_of(0).permitted;
    r = RUN("./inherits", AS_USER);
    CHECK(r.sets.permitted == 0 && r.secure == 1);
    r = RUN("./inherits", CHECK_OK(set_sets(all, all, BIT(CAP_KILL) | BIT(CAP_CHOWN))); AS_USER);
    CHECK_EQ(r.sets.permitted, BIT(CAP_KILL));
    CHECK_EQ(r.sets.effective, BIT(CAP_KILL));
    CHECK_EQ(r.sets.inheritable, BIT(CAP_KILL) | BIT(CAP_CHOWN));
    // Root gets its own, not the file's.
    r = RUN("./inherits", (void)0);
    CHECK_EQ(r.sets.permitted, all);
    // Only whole attributes are taken.
    CHECK_ERR(setxattr("inherits", "security.capability", &caps, 3, 0), EINVAL);
    CHECK_ERR(setxattr("inherits", "security.capability", &caps, 19, 0), EINVAL);
    CHECK_CHILD({
        AS_USER;
        CHECK_ERR(setxattr("inherits", "security.capability", &caps, sizeof caps, 0), EPERM);
        CHECK_ERR(removexattr("inherits", "security.capability"), EPERM);
    });
    CHECK_OK(removexattr("both", "security.capability"));
    r = RUN("./both", AS_USER);
    CHECK_EQ(r.sets.permitted, 0);
}

TEST(ambient_over_execution) {
    uint64_t all = sets_of(0).permitted;
#define AMBIENT_USER                                                                                                  \
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));                                                                              \
    AS_USER;                                                                                                          \
    CHECK_OK(set_sets(all, all, BIT(CAP_KILL) | BIT(CAP_CHOWN)));                                                     \
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0))
    make_program("plain", 0, 0, 0755, NULL);
    struct report r = RUN("./plain", AMBIENT_USER);
    CHECK_EQ(r.ambient, BIT(CAP_KILL));
    CHECK_EQ(r.sets.permitted, BIT(CAP_KILL));
    CHECK_EQ(r.sets.effective, BIT(CAP_KILL));
    CHECK_EQ(r.secure, 0);
    CHECK_EQ(r.dumpable, 1);
    struct vfs_cap_data caps = file_caps(0, 0, 0);
    make_program("empty", 0, 0, 0755, &caps);
    r = RUN("./empty", AMBIENT_USER);
    CHECK(r.ambient == 0 && r.sets.permitted == 0);
    make_program("other", 2000, 0, 04755, NULL);
    r = RUN("./other", AMBIENT_USER);
    CHECK(r.ambient == 0 && r.sets.permitted == 0 && r.euid == 2000);
    // Nothing new comes of them: they stay where no new privileges are to be had.
    r = RUN("./plain", AMBIENT_USER; CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
    CHECK_EQ(r.sets.effective, BIT(CAP_KILL));
}

TEST(shared_working_directory) {
    // Who shares the working directory with another process gains nothing: that one could move it.
    make_program("root", 0, 0, 04755, NULL);
    int pipes[2];
    CHECK_OK(pipe(pipes));
    struct clone_args args = {.flags = CLONE_FS, .exit_signal = SIGCHLD};
    struct report r;
    CHECK_CHILD({
        AS_USER;
        pid_t pid = syscall(SYS_clone3, &args, sizeof args);
        if (pid == 0) {
            dup2(pipes[1], REPORT_FD);
            execl("./root", "root", "report", NULL);
            _exit(1);
        }
        int status;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, 0);
    });
    CHECK_EQ(read(pipes[0], &r, sizeof r), sizeof r);
    CHECK(r.euid == 1000 && r.sets.permitted == 0);
}

TEST(process_limit) {
    // A limit that does not hold back a change of user holds back the next program.
    CHECK_CHILD({
        struct rlimit limit = {1, 1};
        int pipes[2];
        CHECK_OK(pipe(pipes));
        CHECK_OK(setrlimit(RLIMIT_NPROC, &limit));
        pid_t pids[2];
        for (int i = 0; i < 2; i++) {
            pids[i] = MUST(fork());
            if (pids[i] == 0) {
                setresuid(4242, 4242, 4242);
                write(pipes[1], "x", 1);
                for (;;)
                    pause();
            }
            char byte;
            CHECK_EQ(read(pipes[0], &byte, 1), 1);
        }
        CHECK_OK(setresuid(4242, 4242, 4242));
        CHECK_ERR(fork(), EAGAIN);
        CHECK_ERR(execl("/bin/false", "false", NULL), EAGAIN);
        for (int i = 0; i < 2; i++) {
            CHECK_OK(kill(pids[i], SIGKILL));
            CHECK_EQ(waitpid(pids[i], NULL, 0), pids[i]);
        }
        // Once below it again, nothing is remembered.
        CHECK_ERR(fork(), EAGAIN);
        execl("/bin/true", "true", NULL);
        CHECK(0);
    });
    CHECK_CHILD({
        struct rlimit limit = {1, 1};
        CHECK_OK(setrlimit(RLIMIT_NPROC, &limit));
        // Root is not counted; rights are, not numbers.
        CHECK_CHILD((void)0);
        CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
        CHECK_OK(setresuid(4243, 4243, 4243));
        CHECK_OK(set_sets(BIT(CAP_SYS_ADMIN), BIT(CAP_SYS_ADMIN), 0));
        CHECK_CHILD((void)0);
        CHECK_OK(set_sets(0, 0, 0));
        CHECK_ERR(fork(), EAGAIN);
    });
}

int main(int argc, char **argv) {
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    if (argc > 1 && !strcmp(argv[1], "report"))
        return report();
    return check_main(argc, argv);
}
