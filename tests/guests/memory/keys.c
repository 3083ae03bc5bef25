// Memory protection keys: what a thread sets in its processor's register is its own, and hinders nobody else.
#include "../check.h"
#include <sys/rseq.h>

// No key gives access; every key but the first gives none.
#define NOTHING 0xffffffffu
#define USUAL 0x55555554u
#define MARKED 0xfffffff0u

static unsigned keys(void) {
    unsigned value;
    __asm__ volatile("rdpkru" : "=a"(value) : "c"(0) : "edx");
    return value;
}

static void set_keys(unsigned value) { __asm__ volatile("wrpkru" ::"a"(value), "c"(0), "d"(0) : "memory"); }

// Takes back the area that the C library registered with rseq(2). The kernel writes there whenever it has moved the thread,
// which is a fault where the thread's keys forbid it.
static void leave_rseq(void) {
    if (__rseq_size)
        MUST(syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, 1 /* unregister */, RSEQ_SIG));
}

// Whether the processor has keys, and lets programs set them.
static int has_keys(void) {
    int status = IN_CHILD({ keys(); });
    CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGILL));
    return status == 0;
}

TEST(a_program_begins_with_the_usual_keys) {
    if (has_keys())
        CHECK_EQ(keys(), USUAL);
}

// Calls are made with registers alone by a process that can touch no memory: mappings, a fork, its end.
TEST(a_process_without_memory_lives_and_ends) {
    if (!has_keys())
        return;
    int status = IN_CHILD({
        leave_rseq();
        __asm__ volatile("wrpkru\n"
                         "mov $9, %%eax; xor %%edi, %%edi; mov $0x100000, %%esi; mov $3, %%edx; mov $0x8022, %%r10d\n"
                         "mov $-1, %%r8; xor %%r9d, %%r9d; syscall\n"
                         "mov %%rax, %%rdi; mov $0x100000, %%esi; mov $11, %%eax; syscall\n"
                         "mov $60, %%eax; mov $7, %%edi; syscall\n" ::"a"(NOTHING),
                         "c"(0), "d"(0)
                         : "memory");
    });
    CHECK_EQ(status, 7 << 8);
    status = IN_CHILD({
        leave_rseq();
        __asm__ volatile("wrpkru\n"
                         "mov $57, %%eax; syscall\n"
                         "mov $60, %%eax; mov $7, %%edi; syscall\n" ::"a"(NOTHING),
                         "c"(0), "d"(0)
                         : "memory");
    });
    CHECK_EQ(status, 7 << 8);
}

TEST(a_process_without_memory_can_be_killed) {
    if (!has_keys())
        return;
    pid_t child = fork();
    if (child == 0) {
        leave_rseq();
        __asm__ volatile("wrpkru\n1: mov $24, %%eax; syscall; jmp 1b\n" ::"a"(NOTHING), "c"(0), "d"(0) : "memory");
    }
    CHECK_OK(kill(child, SIGKILL));
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, SIGKILL);
}

TEST(keys_of_the_dead_are_not_inherited) {
    if (!has_keys())
        return;
    for (int i = 0; i < 5; i++) {
        CHECK_CHILD({
            set_keys(MARKED);
            syscall(SYS_exit, 0);
        });
        CHECK_CHILD({ CHECK_EQ(keys(), USUAL); });
        CHECK_EQ(keys(), USUAL);
    }
}

TEST(a_child_has_its_parents_keys) {
    if (!has_keys())
        return;
    set_keys(MARKED);
    CHECK_CHILD({ CHECK_EQ(keys(), MARKED); });
    CHECK_EQ(keys(), MARKED);
}

TEST(a_program_executed_has_the_usual_keys) {
    if (!has_keys())
        return;
    CHECK_CHILD({
        set_keys(MARKED);
        execl("/proc/self/exe", "keys", "a_program_begins_with_the_usual_keys", NULL);
        _exit(1);
    });
}

static unsigned in_handler;

static void note(int signal) {
    (void)signal;
    in_handler = keys();
}

TEST(handlers_have_the_usual_keys) {
    if (!has_keys())
        return;
    signal(SIGUSR1, note);
    set_keys(MARKED);
    raise(SIGUSR1);
    CHECK_EQ(in_handler, USUAL);
    CHECK_EQ(keys(), MARKED);
}

static void tell(int signal, siginfo_t *info, void *context) {
    (void)context;
    _exit(signal == SIGSEGV && info->si_code == SEGV_PKUERR && info->si_pkey == 0 ? 42 : 1);
}

TEST(denied_access_is_a_fault_of_its_own) {
    if (!has_keys())
        return;
    int status = IN_CHILD({
        struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &action, NULL);
        volatile int word = 0;
        leave_rseq();
        set_keys(NOTHING);
        (void)word;
        _exit(2);
    });
    // Before Linux 6.12 there was no place for the frame of the handler then.
    CHECK(status == 42 << 8 || status == SIGSEGV);
}

TEST(keys_are_given_out_or_not) {
    char *page = (char *)MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    int key = syscall(SYS_pkey_alloc, 0, 0);
    if (key < 0) {
        // The man page has ENOSPC; Linux on an x86 processor without keys fails later, with EINVAL.
        CHECK(errno == ENOSPC || errno == EINVAL);
        CHECK_ERR(syscall(SYS_pkey_mprotect, page, 4096, PROT_READ, 1), EINVAL);
        CHECK_ERR(syscall(SYS_pkey_free, 1), EINVAL);
    } else {
        CHECK_OK(syscall(SYS_pkey_mprotect, page, 4096, PROT_READ, key));
        CHECK_OK(syscall(SYS_pkey_free, key));
    }
    CHECK_OK(syscall(SYS_pkey_mprotect, page, 4096, PROT_READ, -1));
    CHECK_ERR(syscall(SYS_pkey_alloc, 1, 0), EINVAL);
    CHECK_ERR(syscall(SYS_pkey_alloc, 0, 4), EINVAL);
}
