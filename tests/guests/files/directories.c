// getdents64 and the positions in a directory.
#include "../check.h"
#include <dirent.h>

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short reclen;
    unsigned char type;
    char name[];
};

static void make(int count) {
    char name[32];
    for (int i = 0; i < count; i++) {
        sprintf(name, "d/file%04d", i);
        CHECK_OK(close(open(name, O_CREAT | O_WRONLY, 0600)));
    }
}

TEST(types) {
    CHECK_OK(mkdir("d", 0700));
    make(1);
    CHECK_OK(mkdir("d/dir", 0700));
    CHECK_OK(symlink("x", "d/link"));
    CHECK_OK(mkfifo("d/fifo", 0600));
    CHECK_OK(mknod("d/sock", S_IFSOCK | 0600, 0));
    DIR *dir = opendir("d");
    int seen = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[300];
        struct stat st;
        snprintf(path, sizeof path, "d/%s", entry->d_name);
        CHECK_OK(lstat(path, &st));
        CHECK_EQ(entry->d_type, IFTODT(st.st_mode));
        if (strcmp(entry->d_name, ".."))
            CHECK_EQ(entry->d_ino, st.st_ino);
        seen++;
    }
    CHECK_EQ(seen, 7);
    closedir(dir);
}

TEST(records) {
    CHECK_OK(mkdir("d", 0700));
    make(100);
    int fd = MUST(open("d", O_RDONLY));
    char buffer[512];
    int seen = 0, calls = 0;
    long bytes;
    while ((bytes = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        calls++;
        for (long at = 0; at < bytes;) {
            struct entry *entry = (void *)(buffer + at);
            CHECK_EQ(entry->reclen % 8, 0);
            CHECK_CMP(entry->reclen, >=, 19 + strlen(entry->name) + 1);
            seen++;
            at += entry->reclen;
        }
    }
    CHECK_EQ(bytes, 0);
    CHECK_EQ(seen, 102);
    CHECK_CMP(calls, >, 5);
    CHECK_EQ(syscall(SYS_getdents64, fd, buffer, sizeof buffer), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_CMP(syscall(SYS_getdents64, fd, buffer, sizeof buffer), >, 0);
    CHECK_OK(lseek(fd, 0, SEEK_SET));
    CHECK_ERR(syscall(SYS_getdents64, fd, buffer, 10), EINVAL);
    CHECK_ERR(syscall(SYS_getdents64, fd, BAD, 512), EFAULT);
    CHECK_ERR(syscall(SYS_getdents64, -1, buffer, 512), EBADF);
    int file = MUST(open("d/file0000", O_RDONLY));
    CHECK_ERR(syscall(SYS_getdents64, file, buffer, 512), ENOTDIR);
}

TEST(positions) {
    CHECK_OK(mkdir("d", 0700));
    make(50);
    DIR *dir = opendir("d");
    char names[60][32];
    long at[60];
    int count = 0;
    for (struct dirent *entry;;) {
        at[count] = telldir(dir);
        if (!(entry = readdir(dir)) || count == 59)
            break;
        strncpy(names[count++], entry->d_name, 31);
    }
    CHECK_EQ(count, 52);
    for (int i = 51; i >= 0; i -= 7) {
        seekdir(dir, at[i]);
        struct dirent *entry = readdir(dir);
        CHECK(entry != NULL);
        if (entry)
            CHECK_STR(entry->d_name, names[i]);
    }
    rewinddir(dir);
    int again = 0;
    while (readdir(dir))
        again++;
    CHECK_EQ(again, 52);
}

TEST(changes_while_reading) {
    CHECK_OK(mkdir("d", 0700));
    make(200);
    DIR *dir = opendir("d");
    // Removing what was read skips and repeats nothing of the rest.
    int removed = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char path[300];
        snprintf(path, sizeof path, "d/%s", entry->d_name);
        CHECK_OK(unlink(path));
        removed++;
    }
    CHECK_EQ(removed, 200);
    CHECK_OK(rmdir("d"));
    rewinddir(dir);
    CHECK(readdir(dir) == NULL);
    char buffer[512];
    CHECK_ERR(syscall(SYS_getdents64, dirfd(dir), buffer, 512), ENOENT);
}

TEST(many) {
    CHECK_OK(mkdir("d", 0700));
    make(2000);
    DIR *dir = opendir("d");
    char seen[2000] = {0};
    for (struct dirent *entry; (entry = readdir(dir));)
        if (!strncmp(entry->d_name, "file", 4))
            seen[atoi(entry->d_name + 4)]++;
    int once = 0;
    for (int i = 0; i < 2000; i++)
        once += seen[i] == 1;
    CHECK_EQ(once, 2000);
}
