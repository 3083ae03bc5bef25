// Who may do what: owner, group and others, the capabilities that pass over them, sticky and setgid directories, set-ID
// bits that changes take away, umask, access(2) in its forms, and the protected links of a usual Linux.
#include "../users.h"
#include <sys/fsuid.h>

static void put(const char *path, mode_t mode) {
    int fd = MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    MUST(write(fd, "text", 4));
    MUST(fchmod(fd, mode));
    MUST(close(fd));
}

static int mode(const char *path) {
    struct stat st;
    return lstat(path, &st) ? -1 : (int)(st.st_mode & 07777);
}

static struct stat look(const char *path) {
    struct stat st = {0};
    CHECK_OK(lstat(path, &st));
    return st;
}

static int open_error(const char *path, int flags) {
    int fd = open(path, flags, 0644);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

TEST(classes) {
    put("f", 0);
    CHECK_OK(chown("f", 1000, 2000));
    // The first class that fits counts, whatever the later ones allow.
    static const struct { mode_t mode; uid_t uid; gid_t gid; int read, write; } rows[] = {
        {0400, 1000, 2000, 0, EACCES}, {0200, 1000, 2000, EACCES, 0}, {0077, 1000, 2000, EACCES, EACCES},
        {0040, 1001, 2000, 0, EACCES}, {0020, 1001, 2000, EACCES, 0}, {0706, 1001, 2000, EACCES, EACCES},
        {0004, 1001, 2001, 0, EACCES}, {0002, 1001, 2001, EACCES, 0}, {0770, 1001, 2001, EACCES, EACCES},
        {0660, 1001, 2000, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_OK(chmod("f", rows[i].mode));
        CHECK_CHILD({
            become(rows[i].uid, rows[i].gid);
            CHECK_EQ(open_error("f", O_RDONLY), rows[i].read);
            CHECK_EQ(open_error("f", O_WRONLY), rows[i].write);
            CHECK_EQ(open_error("f", O_RDWR), rows[i].read ? rows[i].read : rows[i].write);
            CHECK_EQ(open_error("f", O_RDONLY | O_TRUNC), rows[i].read ? rows[i].read : rows[i].write);
            CHECK_EQ(access("f", R_OK) ? errno : 0, rows[i].read);
            CHECK_EQ(access("f", W_OK) ? errno : 0, rows[i].write);
            CHECK_OK(access("f", F_OK));
            CHECK_EQ(truncate("f", 4) ? errno : 0, rows[i].write);
        });
    }
}

TEST(supplementary_groups) {
    put("f", 0640);
    CHECK_OK(chown("f", 1, 3333));
    CHECK_CHILD({
        gid_t groups[] = {5, 3333, 7};
        MUST(setgroups(3, groups));
        MUST(setresgid(100, 100, 100));
        MUST(setresuid(1000, 1000, 1000));
        CHECK_EQ(open_error("f", O_RDONLY), 0);
        CHECK_EQ(open_error("f", O_WRONLY), EACCES);
    });
    CHECK_CHILD({
        gid_t groups[] = {5, 7};
        MUST(setgroups(2, groups));
        MUST(setresgid(100, 100, 100));
        MUST(setresuid(1000, 1000, 1000));
        CHECK_EQ(open_error("f", O_RDONLY), EACCES);
    });
}

TEST(search) {
    CHECK_OK(mkdir("d", 0755));
    put("d/f", 0666);
    CHECK_OK(chmod("d", 0744));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_EQ(open_error("d/f", O_RDONLY), EACCES);
        CHECK_EQ(open_error("d/none", O_RDONLY), EACCES);
        CHECK_EQ(open_error("d", O_RDONLY), 0);
        CHECK_ERR(chdir("d"), EACCES);
        CHECK_ERR(access("d", X_OK), EACCES);
        CHECK_OK(access("d", R_OK));
        int fd = MUST(open("d", O_RDONLY | O_DIRECTORY));
        CHECK_ERR(openat(fd, "f", O_RDONLY), EACCES);
        CHECK_ERR(fchdir(fd), EACCES);
        struct stat st;
        CHECK_ERR(fstatat(fd, "f", &st, 0), EACCES);
        CHECK_ERR(fstatat(fd, ".", &st, 0), EACCES);
        CHECK_OK(fstatat(fd, "", &st, AT_EMPTY_PATH));
    });
    CHECK_OK(chmod("d", 0711));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_EQ(open_error("d/f", O_RDWR), 0);
        CHECK_EQ(open_error("d", O_RDONLY), EACCES);
        CHECK_OK(chdir("d"));
        CHECK_EQ(open_error(".", O_RDONLY), EACCES);
        CHECK_EQ(open_error("new", O_RDWR | O_CREAT), EACCES);
        CHECK_EQ(open_error("f", O_RDWR | O_CREAT), 0);
        CHECK_EQ(open_error("f", O_RDWR | O_CREAT | O_EXCL), EEXIST);
        CHECK_ERR(mkdir("f", 0700), EEXIST);
        CHECK_ERR(mkdir("x", 0700), EACCES);
        CHECK_ERR(unlink("f"), EACCES);
        CHECK_ERR(unlink("none"), ENOENT);
        CHECK_ERR(rename("f", "g"), EACCES);
        CHECK_ERR(link("f", "g"), EACCES);
        CHECK_ERR(symlink("f", "g"), EACCES);
    });
}

TEST(fsuid_alone) {
    put("f", 0600);
    CHECK_OK(chown("f", 1000, 1000));
    put("r", 0600);
    CHECK_EQ(setfsgid(1000), 0);
    CHECK_EQ(setfsuid(1000), 0);
    CHECK_EQ(setfsuid(-1), 1000);
    // Leaving 0 takes the file capabilities from the effective set; the others stay.
    CHECK_EQ(open_error("f", O_RDWR), 0);
    CHECK_EQ(open_error("r", O_RDONLY), EACCES);
    CHECK_ERR(chown("f", 0, 0), EPERM);
    CHECK_ERR(chmod("r", 0666), EPERM);
    put("new", 0644);
    CHECK_EQ(look("new").st_uid, 1000);
    CHECK_EQ(look("new").st_gid, 1000);
    // access(2) asks for the real user: root.
    CHECK_OK(access("r", R_OK));
    CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "r", R_OK, AT_EACCESS), EACCES);
    CHECK_EQ(setfsuid(0), 1000);
    CHECK_EQ(open_error("r", O_RDONLY), 0);
}

TEST(effective_user) {
    put("f", 0600);
    put("g", 0666);
    CHECK_CHILD({
        MUST(seteuid(1000));
        CHECK_EQ(open_error("f", O_RDONLY), EACCES);
        CHECK_OK(access("f", R_OK | W_OK));
        CHECK_ERR(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS), EACCES);
        CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "f", W_OK, AT_EACCESS), EACCES);
        CHECK_OK(syscall(SYS_faccessat2, AT_FDCWD, "g", W_OK, AT_EACCESS));
        CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "g", 8, 0), EINVAL);
        CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "g", 4, 0x8000), EINVAL);
        CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "", 4, 0), ENOENT);
        CHECK_OK(syscall(SYS_faccessat2, AT_FDCWD, "", 1, AT_EMPTY_PATH));
        int fd = MUST(open("g", O_PATH));
        CHECK_OK(syscall(SYS_faccessat2, fd, "", 6, AT_EMPTY_PATH));
        CHECK_ERR(syscall(SYS_faccessat2, fd, "", 1, AT_EMPTY_PATH), EACCES);
        CHECK_ERR(syscall(SYS_faccessat, fd, "", 4), ENOENT);
        MUST(seteuid(0));
        CHECK_EQ(open_error("f", O_RDONLY), 0);
    });
    CHECK_CHILD({
        MUST(setresuid(1000, 0, 0));
        CHECK_EQ(open_error("f", O_RDONLY), 0);
        CHECK_ERR(access("f", R_OK), EACCES);
        CHECK_OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    });
    CHECK_OK(symlink("none", "l"));
    CHECK_ERR(access("l", F_OK), ENOENT);
    CHECK_OK(syscall(SYS_faccessat2, AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW));
    CHECK_OK(syscall(SYS_faccessat2, AT_FDCWD, "l", 7, AT_SYMLINK_NOFOLLOW));
}

TEST(root_and_execute) {
    put("f", 0666);
    CHECK_ERR(access("f", X_OK), EACCES);
    CHECK_OK(access("f", R_OK | W_OK));
    CHECK_ERR(execl("./f", "f", NULL), EACCES);
    CHECK_OK(chmod("f", 0001));
    CHECK_OK(access("f", R_OK | W_OK | X_OK));
    CHECK_OK(chmod("f", 0));
    CHECK_OK(access("f", R_OK | W_OK));
    CHECK_OK(mkdir("d", 0));
    CHECK_OK(access("d", R_OK | W_OK | X_OK));
    CHECK_EQ(open_error("d/x", O_CREAT | O_RDWR), 0);
}

TEST(capabilities) {
    put("f", 0);
    put("g", 0644);
    CHECK_OK(mkdir("d", 0));
    put("d/f", 0644);
    CHECK_CHILD({
        become_with(1000, 1000, CAP(DAC_READ_SEARCH));
        CHECK_EQ(open_error("f", O_RDONLY), 0);
        CHECK_EQ(open_error("f", O_WRONLY), EACCES);
        CHECK_EQ(open_error("f", O_RDWR), EACCES);
        CHECK_EQ(open_error("d", O_RDONLY), 0);
        CHECK_EQ(open_error("d/f", O_RDONLY), 0);
        CHECK_EQ(open_error("d/g", O_RDWR | O_CREAT), EACCES);
        CHECK_ERR(access("f", R_OK), EACCES);
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(DAC_OVERRIDE));
        CHECK_EQ(open_error("f", O_RDWR), 0);
        CHECK_EQ(open_error("d/g", O_RDWR | O_CREAT), 0);
        CHECK_ERR(chmod("f", 0700), EPERM);
        CHECK_ERR(chown("f", 1000, 1000), EPERM);
        CHECK_ERR(open("f", O_RDONLY | O_NOATIME), EPERM);
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(FOWNER));
        CHECK_EQ(open_error("f", O_RDONLY), EACCES);
        CHECK_OK(chmod("f", 04755));
        CHECK_EQ(mode("f"), 04755);
        // The group is not theirs.
        CHECK_OK(chmod("f", 02755));
        CHECK_EQ(mode("f"), 0755);
        CHECK_ERR(chown("f", 1000, -1), EPERM);
        CHECK_EQ(open_error("f", O_RDONLY | O_NOATIME), 0);
        struct timespec times[2] = {{5, 0}, {6, 0}};
        CHECK_OK(utimensat(AT_FDCWD, "f", times, 0));
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(FOWNER) | CAP(FSETID));
        CHECK_OK(chmod("f", 06755));
        CHECK_EQ(mode("f"), 06755);
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(CHOWN));
        // Taking the set-ID bits is a change of the mode, which is not theirs to make.
        CHECK_ERR(chown("f", 4, 5), EPERM);
        CHECK_OK(chown("g", 4, 5));
        CHECK_EQ(look("g").st_uid, 4);
        CHECK_EQ(look("g").st_gid, 5);
        CHECK_ERR(chmod("f", 0700), EPERM);
    });
}

TEST(chown_rules) {
    put("f", 0644);
    put("g", 0644);
    CHECK_OK(chown("f", 1000, 1000));
    gid_t groups[] = {2000};
    CHECK_CHILD({
        MUST(setgroups(1, groups));
        MUST(setresgid(1000, 1000, 1000));
        MUST(setresuid(1000, 1000, 1000));
        CHECK_OK(chown("f", 1000, -1));
        CHECK_OK(chown("f", -1, 2000));
        CHECK_EQ(look("f").st_gid, 2000);
        CHECK_OK(chown("f", 1000, 1000));
        CHECK_ERR(chown("f", 1001, -1), EPERM);
        CHECK_ERR(chown("f", -1, 3000), EPERM);
        CHECK_ERR(chown("f", 0, 2000), EPERM);
        CHECK_EQ(look("f").st_gid, 1000);
        CHECK_ERR(chown("g", -1, 1000), EPERM);
        CHECK_ERR(chown("g", 0, -1), EPERM);
        CHECK_ERR(chown("none", 0, -1), ENOENT);
        int fd = MUST(open("f", O_RDONLY));
        CHECK_OK(fchown(fd, -1, 2000));
        CHECK_ERR(fchown(fd, 5, -1), EPERM);
        CHECK_OK(fchmod(fd, 0400));
        int path = MUST(open("f", O_PATH));
        CHECK_ERR(fchmod(path, 0400), EBADF);
        CHECK_ERR(fchown(path, -1, 2000), EBADF);
        CHECK_OK(fchownat(path, "", -1, 1000, AT_EMPTY_PATH));
    });
    CHECK_OK(symlink("f", "l"));
    CHECK_OK(lchown("l", 7, 8));
    CHECK_EQ(look("l").st_uid, 7);
    CHECK_EQ(look("f").st_uid, 1000);
    CHECK_ERR(fchownat(AT_FDCWD, "f", 1, 1, 0x8000), EINVAL);
    CHECK_ERR(fchownat(AT_FDCWD, "", 1, 1, 0), ENOENT);
}

TEST(fchmodat2) {
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
    put("f", 0644);
    CHECK_OK(symlink("f", "l"));
    CHECK_OK(syscall(SYS_fchmodat2, AT_FDCWD, "l", 0600, 0));
    CHECK_EQ(mode("f"), 0600);
    CHECK_ERR(syscall(SYS_fchmodat2, AT_FDCWD, "l", 0644, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    CHECK_OK(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0640, AT_SYMLINK_NOFOLLOW));
    CHECK_EQ(mode("f"), 0640);
    int fd = MUST(open("f", O_PATH));
    CHECK_OK(syscall(SYS_fchmodat2, fd, "", 0604, AT_EMPTY_PATH));
    CHECK_EQ(mode("f"), 0604);
    CHECK_ERR(syscall(SYS_fchmodat2, fd, "", 0604, 0), ENOENT);
    CHECK_ERR(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0604, 0x200), EINVAL);
    CHECK_OK(chmod("f", 0177777));
    CHECK_EQ(mode("f"), 07777);
}

TEST(set_id_bits_are_lost) {
    static const struct { mode_t before, after; } rows[] = {
        {06755, 0755}, {04755, 0755}, {02755, 0755}, {02745, 02745}, {06744, 02744}, {01644, 01644},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        // A chown takes them even from root, and even where the numbers stay.
        put("f", rows[i].before);
        CHECK_OK(chown("f", 0, 0));
        CHECK_EQ(mode("f"), rows[i].after);
        put("f", rows[i].before);
        CHECK_OK(chown("f", -1, -1));
        CHECK_EQ(mode("f"), rows[i].after);
        // A write of root leaves them.
        put("f", rows[i].before);
        int fd = MUST(open("f", O_WRONLY));
        CHECK_EQ(write(fd, "x", 1), 1);
        CHECK_OK(ftruncate(fd, 1));
        CHECK_OK(close(fd));
        CHECK_EQ(mode("f"), rows[i].before);
    }
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(chmod("d", 06755));
    CHECK_OK(chown("d", 0, 0));
    CHECK_EQ(mode("d"), 06755);
}

TEST(set_id_bits_are_lost_by_users) {
    CHECK_CHILD({
        become(1000, 1000);
        static const struct { mode_t before, after; } rows[] = {{06777, 0777}, {06767, 02767}, {04666, 0666}};
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            for (int way = 0; way < 8; way++) {
                put("f", rows[i].before);
                CHECK_EQ(mode("f"), rows[i].before);
                int fd = MUST(open("f", way == 1 ? O_WRONLY | O_TRUNC : O_RDWR));
                int expected = rows[i].after;
                switch (way) {
                case 0: CHECK_EQ(write(fd, "x", 1), 1); break;
                case 1: break;
                case 2: CHECK_OK(ftruncate(fd, 2)); break;
                case 3: CHECK_OK(truncate("f", 2)); break;
                case 4: CHECK_OK(fallocate(fd, 0, 0, 10)); break;
                case 5: CHECK_EQ(write(fd, "x", 0), 0), expected = rows[i].before; break;
                case 6: CHECK_OK(fchown(fd, -1, 1000)); break;
                case 7: {
                    char *map = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                    map[0] = 1, expected = rows[i].before;
                    break;
                }
                }
                CHECK_OK(close(fd));
                if (!CHECK_AT(mode("f") == expected, "way %d: %#o becomes %#o, not %#o", way, rows[i].before, mode("f"), expected))
                    break;
            }
        }
    });
}

TEST(setgid_needs_the_group) {
    put("f", 0644);
    CHECK_OK(chown("f", 1000, 2000));
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(chown("d", 1000, 2000));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_OK(chmod("f", 02755));
        CHECK_EQ(mode("f"), 0755);
        CHECK_OK(chmod("f", 02745));
        CHECK_EQ(mode("f"), 0745);
        CHECK_OK(chmod("d", 02755));
        CHECK_EQ(mode("d"), 0755);
        CHECK_OK(chmod("f", 04755));
        CHECK_EQ(mode("f"), 04755);
        CHECK_OK(chmod("f", 01755));
        CHECK_EQ(mode("f"), 01755);
    });
}

TEST(setgid_directories) {
    CHECK_OK(mkdir("d", 0777));
    CHECK_OK(chown("d", 0, 2000));
    CHECK_OK(chmod("d", 02777));
    CHECK_CHILD({
        become(1000, 1000);
        put("d/f", 0644);
        CHECK_EQ(look("d/f").st_gid, 2000);
        CHECK_OK(mkdir("d/d", 0755));
        CHECK_EQ(look("d/d").st_gid, 2000);
        CHECK_EQ(mode("d/d"), 02755);
        CHECK_OK(mkdir("d/d/d", 0700));
        CHECK_EQ(mode("d/d/d"), 02700);
        CHECK_OK(symlink("x", "d/l"));
        CHECK_EQ(look("d/l").st_gid, 2000);
        CHECK_OK(mkfifo("d/p", 0600));
        CHECK_EQ(look("d/p").st_gid, 2000);
        // A setgid program of a group that is not theirs cannot be made.
        int fd = MUST(open("d/g", O_CREAT | O_EXCL | O_WRONLY, 02755));
        CHECK_OK(close(fd));
        CHECK_EQ(mode("d/g"), 0755);
        fd = MUST(open("d/h", O_CREAT | O_EXCL | O_WRONLY, 02745));
        CHECK_OK(close(fd));
        CHECK_EQ(mode("d/h"), 02745);
        fd = MUST(open("d", O_TMPFILE | O_WRONLY, 02755));
        struct stat st;
        CHECK_OK(fstat(fd, &st));
        CHECK_EQ(st.st_gid, 2000);
        CHECK_EQ(st.st_mode & 07777, 0755);
    });
    CHECK_CHILD({
        become(1000, 2000);
        int fd = MUST(open("d/i", O_CREAT | O_EXCL | O_WRONLY, 02755));
        CHECK_OK(close(fd));
        CHECK_EQ(mode("d/i"), 02755);
    });
    umask(0);
    int fd = MUST(open("d/j", O_CREAT | O_EXCL | O_WRONLY, 06755));
    CHECK_OK(close(fd));
    CHECK_EQ(mode("d/j"), 06755);
}

TEST(sticky_directories) {
    CHECK_OK(mkdir("d", 0777));
    CHECK_OK(chmod("d", 01777));
    CHECK_OK(chown("d", 500, 500));
    put("d/root", 0666);
    put("d/other", 0666);
    CHECK_OK(chown("d/other", 1001, 1001));
    put("d/mine", 0666);
    CHECK_OK(chown("d/mine", 1000, 1000));
    CHECK_OK(mkdir("d/dir", 0777));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_ERR(unlink("d/other"), EPERM);
        CHECK_ERR(rename("d/other", "d/x"), EPERM);
        CHECK_ERR(rename("d/mine", "d/other"), EPERM);
        CHECK_ERR(syscall(SYS_renameat2, AT_FDCWD, "d/mine", AT_FDCWD, "d/other", 2), EPERM);
        CHECK_ERR(rmdir("d/dir"), EPERM);
        CHECK_ERR(unlink("d/none"), ENOENT);
        CHECK_OK(rename("d/mine", "d/mine2"));
        CHECK_OK(unlink("d/mine2"));
    });
    CHECK_CHILD({
        become(500, 500);
        CHECK_OK(rename("d/other", "d/other2"));
        CHECK_OK(unlink("d/other2"));
        CHECK_OK(rmdir("d/dir"));
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(FOWNER));
        CHECK_OK(unlink("d/root"));
    });
}

// Natively these are parameters; where they are off there is nothing to see.
static int parameter(const char *path) {
    char text[16] = "0";
    int fd = open(path, O_RDONLY);
    if (fd >= 0)
        read(fd, text, sizeof text - 1), close(fd);
    return atoi(text);
}

TEST(protected_symlinks) {
    if (!parameter("/proc/sys/fs/protected_symlinks"))
        SKIP("fs.protected_symlinks is off");
    put("secret", 0666);
    CHECK_OK(mkdir("d", 0777));
    CHECK_OK(chmod("d", 01777));
    CHECK_OK(mkdir("d/sub", 0777));
    CHECK_CHILD({
        become(1001, 1001);
        CHECK_OK(symlink("../secret", "d/l"));
        CHECK_OK(symlink("sub", "d/s"));
        CHECK_EQ(open_error("d/l", O_RDONLY), 0);
    });
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_EQ(open_error("d/l", O_RDONLY), EACCES);
        struct stat st;
        CHECK_ERR(stat("d/l", &st), EACCES);
        CHECK_OK(lstat("d/l", &st));
        char text[20];
        CHECK_EQ(readlink("d/l", text, sizeof text), 9);
        // Links on the way count as well only if they are the last component.
        CHECK_OK(access("d/s/.", F_OK));
        CHECK_ERR(access("d/s", F_OK), EACCES);
        CHECK_ERR(access("d/s/", F_OK), EACCES);
    });
    CHECK_EQ(open_error("d/l", O_RDONLY), EACCES);
    CHECK_OK(chown("d", 1001, 1001));
    CHECK_EQ(open_error("d/l", O_RDONLY), 0);
    CHECK_OK(chown("d", 0, 0));
    CHECK_OK(chmod("d", 01775));
    CHECK_EQ(open_error("d/l", O_RDONLY), 0);
}

TEST(protected_hardlinks) {
    if (!parameter("/proc/sys/fs/protected_hardlinks"))
        SKIP("fs.protected_hardlinks is off");
    put("open", 0666);
    put("read", 0644);
    put("suid", 04777);
    put("sgid", 02777);
    put("sgid_lock", 02767);
    CHECK_OK(mkfifo("fifo", 0666));
    CHECK_OK(chmod("fifo", 0666));
    CHECK_OK(symlink("open", "sym"));
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_OK(link("open", "open2"));
        CHECK_ERR(link("read", "x"), EPERM);
        CHECK_ERR(link("suid", "x"), EPERM);
        CHECK_ERR(link("sgid", "x"), EPERM);
        CHECK_OK(link("sgid_lock", "sgid_lock2"));
        CHECK_ERR(link("fifo", "x"), EPERM);
        CHECK_ERR(link("sym", "x"), EPERM);
        CHECK_ERR(link("read", "open"), EEXIST);
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(FOWNER));
        CHECK_OK(link("read", "read2"));
    });
}

TEST(protected_regular) {
    if (!parameter("/proc/sys/fs/protected_regular"))
        SKIP("fs.protected_regular is off");
    CHECK_OK(mkdir("d", 0777));
    CHECK_OK(chmod("d", 01777));
    CHECK_CHILD({
        become(1001, 1001);
        put("d/f", 0666);
    });
    CHECK_EQ(open_error("d/f", O_RDWR | O_CREAT), EACCES);
    CHECK_EQ(open_error("d/f", O_RDWR), 0);
    CHECK_EQ(open_error("d/f", O_RDWR | O_CREAT | O_EXCL), EEXIST);
}

TEST(umask_rules) {
    CHECK_EQ(umask(01777027), 022);
    CHECK_EQ(umask(0), 027);
    umask(037);
    int fd = MUST(open("f", O_CREAT | O_WRONLY, 07777));
    CHECK_OK(close(fd));
    CHECK_EQ(mode("f"), 07740);
    CHECK_OK(mkdir("d", 07777));
    CHECK_EQ(mode("d"), 01740);
    CHECK_OK(mknod("n", S_IFREG | 0666, 0));
    CHECK_EQ(mode("n"), 0640);
    CHECK_OK(symlink("x", "l"));
    CHECK_EQ(mode("l"), 0777);
    CHECK_OK(chmod("n", 0666));
    CHECK_EQ(mode("n"), 0666);
    // A thread's child has its own; a thread shares it.
    CHECK_CHILD({ umask(0); });
    CHECK_EQ(umask(022), 037);
}

TEST(opened_before) {
    // What was opened stays open whatever becomes of the mode.
    put("f", 0644);
    int fd = MUST(open("f", O_RDWR));
    CHECK_OK(chmod("f", 0));
    CHECK_CHILD({
        become(1000, 1000);
        char byte;
        CHECK_EQ(pread(fd, &byte, 1, 0), 1);
        CHECK_EQ(pwrite(fd, "x", 1, 0), 1);
        CHECK_OK(ftruncate(fd, 0));
        CHECK_ERR(fchmod(fd, 0666), EPERM);
        char path[40];
        sprintf(path, "/proc/self/fd/%d", fd);
        CHECK_EQ(open_error(path, O_RDONLY), EACCES);
    });
}

TEST(mknod_and_chroot) {
    CHECK_CHILD({
        become(1000, 1000);
        CHECK_ERR(mknod("dev", S_IFCHR | 0666, 0x103), EPERM);
        CHECK_ERR(mknod("dev", S_IFBLK | 0666, 0x103), EPERM);
        CHECK_OK(mknod("whiteout", S_IFCHR | 0666, 0));
        CHECK_OK(mknod("fifo", S_IFIFO | 0666, 0));
        CHECK_OK(mknod("sock", S_IFSOCK | 0666, 0));
        CHECK_OK(mknod("plain", 0666, 0));
        CHECK_ERR(chroot("."), EPERM);
    });
    CHECK_CHILD({
        become_with(1000, 1000, CAP(MKNOD));
        // Set where Amber serves a directory of the host, in which it makes no devices.
        if (getenv("NO_DEVICES")) {
            CHECK_ERR(mknod("dev", S_IFCHR | 0666, 0x103), EPERM);
            CHECK_ERR(mknod("dev", S_IFBLK | 0666, 0x103), EPERM);
        } else {
            CHECK_OK(mknod("dev", S_IFCHR | 0666, 0x103));
            CHECK_EQ(look("dev").st_rdev, 0x103);
            CHECK_EQ(open_error("dev", O_RDWR), 0);
        }
    });
    CHECK_ERR(mknod("x", S_IFDIR | 0777, 0), EPERM);
    CHECK_ERR(mknod("x", S_IFLNK | 0777, 0), EINVAL);
    CHECK_ERR(mknod("x", 0170000, 0), EINVAL);
}
