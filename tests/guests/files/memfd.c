// memfd_create(2): names, seals and what each forbids, execution seals, opening again through /proc.
#include "../check.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 16
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 32
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#define MFD_EXEC 16
#endif

static int sealable(const char *content) {
    int fd = MUST(memfd_create("m", MFD_ALLOW_SEALING));
    CHECK_EQ(write(fd, content, strlen(content)), strlen(content));
    return fd;
}

static void *map(int fd, int protection, int flags) { return mmap(NULL, 4096, protection, flags, fd, 0); }

#define CHECK_MAP(fd, protection, flags)                                                                              \
    ({                                                                                                                \
        void *check_map = map(fd, protection, flags);                                                                 \
        CHECK_AT(check_map != MAP_FAILED, "mmap fails: %s", strerror(errno));                                         \
        check_map;                                                                                                    \
    })
#define CHECK_NO_MAP(fd, protection, flags, error)                                                                    \
    do {                                                                                                              \
        CHECK(map(fd, protection, flags) == MAP_FAILED);                                                              \
        CHECK_EQ(errno, error);                                                                                       \
    } while (0)

TEST(made) {
    char name[300], path[64], text[300];
    int fd = CHECK_OK(memfd_create("a name/with slash", 0));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode, S_IFREG | 0777);
    CHECK_EQ(st.st_nlink, 0);
    CHECK_EQ(st.st_size, 0);
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR);
    sprintf(path, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(path, text, sizeof text);
    CHECK_EQ(len, 34);
    text[len > 0 ? len : 0] = 0;
    CHECK_STR(text, "/memfd:a name/with slash (deleted)");
    fd = CHECK_OK(memfd_create("", MFD_CLOEXEC));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(memfd_create("x", 0x80), EINVAL);
    CHECK_ERR(memfd_create("x", MFD_EXEC | MFD_NOEXEC_SEAL), EINVAL);
    CHECK_ERR(memfd_create(BAD, 0), EFAULT);
    memset(name, 'n', sizeof name);
    name[249] = 0;
    CHECK_OK(memfd_create(name, 0));
    name[249] = 'n', name[250] = 0;
    CHECK_ERR(memfd_create(name, 0), EINVAL);
    // Nothing of it can get a name.
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "linked", AT_EMPTY_PATH), EXDEV);
}

TEST(seals_are_added) {
    int fd = MUST(memfd_create("m", 0));
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, 0), EPERM);
    fd = sealable("text");
    CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, 0x100), EINVAL);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    // Only through a descriptor that may write.
    fd = sealable("text");
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    int reader = MUST(open(path, O_RDONLY));
    CHECK_ERR(fcntl(reader, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    CHECK_EQ(fcntl(reader, F_GET_SEALS), 0);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    CHECK_EQ(fcntl(reader, F_GET_SEALS), F_SEAL_WRITE);
    int pipes[2];
    MUST(pipe(pipes));
    CHECK_ERR(fcntl(pipes[1], F_GET_SEALS), EINVAL);
    CHECK_ERR(fcntl(pipes[1], F_ADD_SEALS, F_SEAL_WRITE), EINVAL);
}

TEST(shrink) {
    int fd = sealable("0123456789");
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    CHECK_ERR(ftruncate(fd, 9), EPERM);
    CHECK_OK(ftruncate(fd, 10));
    CHECK_OK(ftruncate(fd, 20));
    CHECK_EQ(pwrite(fd, "x", 1, 30), 1);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10));
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    CHECK_ERR(open(path, O_RDWR | O_TRUNC), EPERM);
    CHECK_ERR(truncate(path, 0), EPERM);
}

TEST(grow) {
    int fd = sealable("0123456789");
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    CHECK_ERR(ftruncate(fd, 11), EPERM);
    CHECK_OK(ftruncate(fd, 10));
    CHECK_EQ(pwrite(fd, "x", 1, 9), 1);
    CHECK_ERR(pwrite(fd, "x", 1, 10), EPERM);
    CHECK_ERR(fallocate(fd, 0, 0, 11), EPERM);
    CHECK_OK(fallocate(fd, 0, 0, 10));
    CHECK_ERR(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 5000), EPERM);
    CHECK_OK(ftruncate(fd, 5));
    CHECK_ERR(pwrite(fd, "xxxxxxxx", 8, 5), EPERM);
}

TEST(write_seal) {
    int fd = sealable("0123456789");
    char *shared = CHECK_MAP(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK_OK(munmap(shared, 4096));
    // A shared mapping that is not writable now but could become so counts as well.
    shared = CHECK_MAP(fd, PROT_READ, MAP_SHARED);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK_OK(munmap(shared, 4096));
    char *private = CHECK_MAP(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    private[0] = 'p';
    CHECK_ERR(write(fd, "x", 1), EPERM);
    CHECK_ERR(pwrite(fd, "x", 1, 100), EPERM);
    CHECK_EQ(write(fd, "x", 0), 0);
    struct iovec piece = {"x", 1};
    CHECK_ERR(writev(fd, &piece, 1), EPERM);
    CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4), EPERM);
    CHECK_NO_MAP(fd, PROT_READ | PROT_WRITE, MAP_SHARED, EPERM);
    char *seen = CHECK_MAP(fd, PROT_READ, MAP_SHARED);
    CHECK_EQ(seen[0], '0');
    CHECK_ERR(mprotect(seen, 4096, PROT_READ | PROT_WRITE), EACCES);
    char *more = CHECK_MAP(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    more[1] = 'q';
    CHECK_EQ(seen[1], '1');
    // Its length is another matter.
    CHECK_OK(ftruncate(fd, 20));
    CHECK_OK(ftruncate(fd, 3));
    CHECK_OK(fallocate(fd, 0, 0, 40));
    int other = sealable("abc");
    lseek(other, 0, SEEK_SET);
    CHECK_ERR(sendfile(fd, other, NULL, 3) , EPERM);
    CHECK_ERR(copy_file_range(other, NULL, fd, NULL, 3, 0), EPERM);
}

TEST(future_write) {
    int fd = sealable("0123456789");
    char *before = CHECK_MAP(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    // Who had it mapped goes on.
    before[0] = 'b';
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'b');
    CHECK_ERR(write(fd, "x", 1), EPERM);
    CHECK_NO_MAP(fd, PROT_READ | PROT_WRITE, MAP_SHARED, EPERM);
    char *reading = CHECK_MAP(fd, PROT_READ, MAP_SHARED);
    CHECK_EQ(reading[0], 'b');
    CHECK_ERR(mprotect(reading, 4096, PROT_READ | PROT_WRITE), EACCES);
    before[1] = 'c';
    CHECK_EQ(reading[1], 'c');
    CHECK_MAP(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4), EPERM);
    CHECK_OK(fcntl(fd, F_GET_SEALS) == F_SEAL_FUTURE_WRITE ? 0 : -1);
    // A child's copy of the mapping counts for the write seal.
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK_OK(munmap(before, 4096));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

TEST(mappings_of_children_count) {
    int fd = sealable("0123456789");
    char *shared = CHECK_MAP(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    int pipes[2];
    MUST(pipe(pipes));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(pipes[1]);
        read(pipes[0], &byte, 1);
        _exit(0);
    }
    close(pipes[0]);
    CHECK_OK(munmap(shared, 4096));
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    close(pipes[1]);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

TEST(execution) {
    int fd = CHECK_OK(memfd_create("m", MFD_NOEXEC_SEAL));
    struct stat st;
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode & 07777, 0666);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_EXEC);
    CHECK_ERR(fchmod(fd, 0777), EPERM);
    CHECK_ERR(fchmod(fd, 0676), EPERM);
    CHECK_OK(fchmod(fd, 0600));
    CHECK_OK(fchmod(fd, 0644));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    fd = CHECK_OK(memfd_create("m", MFD_EXEC));
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode & 07777, 0777);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    fd = CHECK_OK(memfd_create("m", MFD_EXEC | MFD_ALLOW_SEALING));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC));
    // What may be executed may not be changed then.
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_EXEC | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
    CHECK_ERR(fchmod(fd, 0666), EPERM);
    CHECK_OK(fchmod(fd, 0711 | 0066));
}

TEST(program) {
    // A program in a memfd.
    int self = MUST(open("/proc/self/exe", O_RDONLY)), fd = MUST(memfd_create("program", MFD_CLOEXEC));
    struct stat st;
    MUST(fstat(self, &st));
    off_t at = 0;
    while (at < st.st_size)
        if (sendfile(fd, self, &at, st.st_size - at) <= 0)
            break;
    CHECK_EQ(at, st.st_size);
    CHECK_EQ(IN_CHILD({
                 char *words[] = {"memfd", "made", NULL};
                 int null = open("/dev/null", O_RDWR);
                 dup2(null, 1);
                 if (mkdir("x", 0777) || chdir("x"))
                     _exit(2);
                 fexecve(fd, words, environ);
                 _exit(1);
             }), 0);
    CHECK_EQ(IN_CHILD({
                 char path[64], *words[] = {"memfd", "made", NULL};
                 sprintf(path, "/proc/self/fd/%d", fd);
                 execve(path, words, environ);
                 _exit(errno == ETXTBSY ? 3 : 1);
             }), 0);
}

TEST(again_through_proc) {
    int fd = sealable("0123456789");
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    int again = CHECK_OK(open(path, O_RDWR));
    char byte;
    CHECK_EQ(read(again, &byte, 1), 1);
    CHECK_EQ(byte, '0');
    CHECK_OK(fchmod(fd, 0400));
    CHECK_CHILD({
        MUST(setresuid(1000, 1000, 1000));
        prctl(PR_SET_DUMPABLE, 1);
        CHECK_ERR(open(path, O_RDWR), EACCES);
    });
    CHECK_OK(close(fd));
    CHECK_EQ(pread(again, &byte, 1, 3), 1);
    CHECK_EQ(byte, '3');
    CHECK_EQ(lseek(again, 0, SEEK_END), 10);
}
