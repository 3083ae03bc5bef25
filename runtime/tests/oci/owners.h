/* What processes of a user namespace may do with files of owners that it maps and of owners that it does not. */
#include <sys/mount.h>

static void said(const char *what, int failed) {
    printf(" %s:%s", what, failed ? strerrorname_np(errno) : "ok");
}

/* Opens a file and closes it again. */
static int opens(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0644);
    return fd < 0 ? -1 : close(fd);
}

static void try_file(const char *path) {
    struct stat info = {0};
    struct timespec times[2] = {{1, 0}, {1, 0}};
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2};
    stat(path, &info);
    printf("%s %d:%d", path, info.st_uid, info.st_gid);
    said("read", opens(path, O_RDONLY));
    said("write", opens(path, O_WRONLY));
    said("noatime", opens(path, O_RDONLY | O_NOATIME));
    said("access", access(path, W_OK));
    said("chmod", chmod(path, info.st_mode & 07777));
    said("chown", chown(path, info.st_uid == 65534 ? 0 : info.st_uid, -1));
    said("chgrp", chown(path, -1, info.st_gid == 65534 ? 0 : info.st_gid));
    said("utimes", utimensat(AT_FDCWD, path, times, 0));
    said("now", utimensat(AT_FDCWD, path, NULL, 0));
    said("caps", setxattr(path, "security.capability", &caps, sizeof caps, 0));
    puts("");
}

/* Makes and removes entries of a directory. */
static void try_directory(const char *path) {
    char name[64];
    struct stat info = {0};
    stat(path, &info);
    printf("%s %d:%d", path, info.st_uid, info.st_gid);
    said("list", opens(path, O_RDONLY | O_DIRECTORY));
    snprintf(name, sizeof name, "%s/theirs", path);
    said("remove", unlink(name));
    snprintf(name, sizeof name, "%s/made-%d", path, geteuid());
    said("make", opens(name, O_CREAT | O_EXCL | O_WRONLY));
    memset(&info, 0, sizeof info);
    if (stat(name, &info) == 0)
        printf(" %d:%d %o", info.st_uid, info.st_gid, info.st_mode & 07777);
    snprintf(name, sizeof name, "%s/dir-%d", path, geteuid());
    said("mkdir", mkdir(name, 0755));
    if (stat(name, &info) == 0)
        printf(" %d:%d %o", info.st_uid, info.st_gid, info.st_mode & 07777);
    puts("");
}

static void try_files(const char *who) {
    static const char *const files[] = {"/data/open", "/data/closed", "/data/mixed", "/data/half", "/data/mine", "/data/nobody"};
    static const char *const directories[] = {"/data/public", "/data/private", "/data/sticky", "/data/group"};
    printf("as %s\n", who);
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
        try_file(files[i]);
    for (unsigned i = 0; i < sizeof directories / sizeof *directories; i++)
        try_directory(directories[i]);
}

/* Runs the program with set-ID bits in a child, which says as whom it runs. */
static void try_program(const char *path) {
    if (fork() == 0) {
        execl(path, path, "ids", NULL);
        printf("%s: %s\n", path, strerrorname_np(errno));
        exit(1);
    }
    wait(NULL);
}

static void show_map(const char *path) {
    unsigned inside, outside, count;
    FILE *map = fopen(path, "r");
    printf("%s", path);
    while (fscanf(map, "%u %u %u", &inside, &outside, &count) == 3)
        printf(" %u-%u-%u", inside, outside, count);
    fclose(map);
    puts("");
}

/* Changes to an ID that may not be in the namespace, each in a child of its own. */
static void try_ids(unsigned id) {
    static const char *const names[] = {"setuid", "seteuid", "setreuid", "setresuid", "setgid", "setregid", "setresgid",
                                        "setgroups", "chown", "chgrp", "shm", "msg", "sem", "send", "tmpfs", "setfsuid"};
    printf("id %u", id);
    fflush(stdout);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (fork() == 0) {
            gid_t group = id;
            int pair[2], failed = -1;
            struct shmid_ds memory = {.shm_perm = {.uid = id}};
            struct msqid_ds queue = {.msg_perm = {.uid = id}, .msg_qbytes = 100};
            struct semid_ds set = {.sem_perm = {.gid = id}};
            union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(struct ucred))]; } control = {0};
            struct iovec byte = {"x", 1};
            struct msghdr message = {NULL, 0, &byte, 1, &control, sizeof control, 0};
            struct ucred claimed = {getpid(), id, 0};
            char options[32];
            int made = 0;
            switch (i) {
            case 0: failed = syscall(SYS_setuid, id); break;
            case 1: failed = syscall(SYS_setreuid, -1, id); break;
            case 2: failed = syscall(SYS_setreuid, id, -1); break;
            case 3: failed = syscall(SYS_setresuid, -1, -1, id); break;
            case 4: failed = syscall(SYS_setgid, id); break;
            case 5: failed = syscall(SYS_setregid, id, -1); break;
            case 6: failed = syscall(SYS_setresgid, -1, id, -1); break;
            case 7: failed = syscall(SYS_setgroups, 1, &group); break;
            case 8: failed = chown("/data/mine", id, -1) || chown("/data/mine", 0, -1); break;
            case 9: failed = chown("/data/mine", -1, id) || chown("/data/mine", -1, 0); break;
            case 10:
                made = shmget(IPC_PRIVATE, 4096, 0600);
                failed = shmctl(made, IPC_SET, &memory);
                break;
            case 11:
                made = msgget(IPC_PRIVATE, 0600);
                failed = msgctl(made, IPC_SET, &queue);
                break;
            case 12:
                made = semget(IPC_PRIVATE, 1, 0600);
                failed = semctl(made, 0, IPC_SET, &set);
                break;
            case 13:
                socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
                control.header = (struct cmsghdr){CMSG_LEN(sizeof claimed), SOL_SOCKET, SCM_CREDENTIALS};
                memcpy(CMSG_DATA(&control.header), &claimed, sizeof claimed);
                failed = sendmsg(pair[0], &message, 0) < 0;
                break;
            case 14:
                snprintf(options, sizeof options, "uid=%u", id);
                failed = mount("none", "/data/mount", "tmpfs", 0, options);
                if (!failed)
                    umount("/data/mount");
                break;
            case 15:
                syscall(SYS_setfsuid, id);
                errno = EINVAL;
                failed = syscall(SYS_setfsuid, -1) != (int)id;
                break;
            }
            said(names[i], failed);
            exit(0);
        }
        wait(NULL);
    }
    puts("");
}

static void show_owners(unsigned user) {
    show_map("/proc/self/uid_map");
    show_map("/proc/self/gid_map");
    try_ids(1);
    try_ids(5000);
    try_ids(65534);
    try_program("/data/foreign-program");
    try_program("/data/half-program");
    try_program("/data/program");
    /* As programs do that write their log to /dev/stdout. */
    int stream = open("/proc/self/fd/1", O_WRONLY);
    printf("stream %s\n", stream < 0 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
    /* First the user, who may do less. */
    if (fork() == 0) {
        gid_t group = user;
        if (setgroups(1, &group) || setresgid(user, user, user) || setresuid(user, user, user))
            printf("user %u: %s\n", user, strerrorname_np(errno));
        else
            try_files("user");
        exit(0);
    }
    wait(NULL);
    try_files("root");
}
