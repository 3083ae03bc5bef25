// args: first second
// What a program is given at its start: arguments, environment, auxiliary vector, stack, descriptors.
#define OWN_MAIN
#define INLINE_TESTS
#include "../check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/resource.h>

static int argument_count;
static char **arguments;
extern char **environ;

TEST(arguments) {
    CHECK_EQ(argument_count, 3);
    CHECK_STR(arguments[1], "first");
    CHECK_STR(arguments[2], "second");
    CHECK(arguments[3] == NULL);
    CHECK(environ == arguments + argument_count + 1);
}

TEST(environment) {
    CHECK_STR(getenv("HOME"), "/root");
    CHECK_STR(getenv("TZ"), "UTC");
    CHECK(getenv("NO_SUCH_VARIABLE") == NULL);
}

TEST(auxv) {
    CHECK_EQ(getauxval(AT_PAGESZ), 4096);
    CHECK_EQ(getauxval(AT_CLKTCK), 100);
    CHECK_EQ(getauxval(AT_UID), getuid());
    CHECK_EQ(getauxval(AT_EUID), geteuid());
    CHECK_EQ(getauxval(AT_GID), getgid());
    CHECK_EQ(getauxval(AT_EGID), getegid());
    CHECK_EQ(getauxval(AT_SECURE), 0);
    CHECK_STR((char *)getauxval(AT_PLATFORM), "x86_64");
    CHECK(getauxval(AT_RANDOM) != 0);
    CHECK(getauxval(AT_ENTRY) != 0);
    CHECK_EQ(getauxval(AT_PHENT), sizeof(ElfW(Phdr)));
    CHECK_CMP(getauxval(AT_PHNUM), >, 3);
    CHECK_STR((char *)getauxval(AT_EXECFN), arguments[0]);
    CHECK_EQ(getauxval(AT_BASE), 0);
}

TEST(vdso) {
    const ElfW(Ehdr) *header = (void *)getauxval(AT_SYSINFO_EHDR);
    if (!CHECK(header != NULL))
        return;
    CHECK(!memcmp(header->e_ident, ELFMAG, SELFMAG));
    CHECK_EQ(header->e_type, ET_DYN);
    CHECK_EQ(header->e_machine, EM_X86_64);
    struct timespec a, b;
    CHECK_OK(clock_gettime(CLOCK_MONOTONIC, &a));
    CHECK_OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b));
    long long difference = (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec;
    CHECK_CMP(difference, >=, 0);
    CHECK_CMP(difference, <, 2000000000LL);
    CHECK_OK(clock_gettime(CLOCK_REALTIME, &a));
    CHECK_CMP(a.tv_sec, >, 1600000000);
}

TEST(stack) {
    char here;
    // A stack the program did not touch yet grows under it, up to the limit.
    volatile char *deep = (char *)__builtin_alloca(4 << 20);
    deep[0] = 1;
    CHECK(deep[0] == 1 && (char *)deep < &here);
    CHECK_EQ((uintptr_t)getauxval(AT_RANDOM) > (uintptr_t)&here, 1);
}

TEST(descriptors) {
    for (int fd = 0; fd < 3; fd++)
        CHECK_OK(fcntl(fd, F_GETFD));
    CHECK_ERR(fcntl(3, F_GETFD), EBADF);
    char byte;
    CHECK_EQ(read(0, &byte, 1), 0);
}

TEST(identity) {
    CHECK_CMP(getpid(), >, 0);
    CHECK_EQ(getpid(), syscall(SYS_gettid));
    CHECK_EQ(syscall(SYS_set_tid_address, NULL), getpid());
}

int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    return check_main(1, argv);
}
