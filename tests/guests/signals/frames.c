// What handlers return to: frames that a program changed, or made up, and alternate stacks at their edges.
#include "../check.h"
#include <pthread.h>
#include <sys/ucontext.h>
#include <ucontext.h>

#define SS_AUTODISARM (1u << 31)
static volatile int count, seen_flags;
static void (*change)(ucontext_t *);

static void handler(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)info;
    count++;
    if (change)
        change(context);
}
static void handle(int signo, int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    MUST(sigaction(signo, &action, NULL));
}

// Runs a change of the frame in a child; gives the signal that ends it, or 0.
static int fate(void (*with)(ucontext_t *)) {
    int status = IN_CHILD({
        handle(SIGUSR1, 0);
        change = with;
        raise(SIGUSR1);
        _exit(count == 1 ? 0 : 1);
    });
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void keep(ucontext_t *u) { (void)u; }
static void kernel_code(ucontext_t *u) { u->uc_mcontext.gregs[REG_CSGSFS] = (u->uc_mcontext.gregs[REG_CSGSFS] & ~0xffffll) | 0x10; }
static void no_code(ucontext_t *u) { u->uc_mcontext.gregs[REG_CSGSFS] &= ~0xffffll; }
static void odd_code(ucontext_t *u) { u->uc_mcontext.gregs[REG_CSGSFS] |= 0xfff8; }
static void wild_flags(ucontext_t *u) { u->uc_mcontext.gregs[REG_EFL] = 0x3f7fffff & ~0x40100; }
static void trap_flag(ucontext_t *u) { u->uc_mcontext.gregs[REG_EFL] |= 0x100; }
static void no_address(ucontext_t *u) { u->uc_mcontext.gregs[REG_RIP] = 0x8000000000000000ull; }
static void kernel_address(ucontext_t *u) { u->uc_mcontext.gregs[REG_RIP] = 0xffffffff81000000ull; }
static void null_address(ucontext_t *u) { u->uc_mcontext.gregs[REG_RIP] = 0; }
static void no_stack(ucontext_t *u) { u->uc_mcontext.gregs[REG_RSP] = 0x8000000000000008ull; }
static void fpu_nowhere(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)0x10; }
static void fpu_in_kernel(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)0xffff880000000000ull; }
static void fpu_gone(ucontext_t *u) { u->uc_mcontext.fpregs = NULL; }
static void fpu_odd(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)((char *)u->uc_mcontext.fpregs + 1); }
static void fpu_mxcsr(ucontext_t *u) { ((unsigned *)u->uc_mcontext.fpregs)[6] = 0xffffffff; }
static void fpu_sizes(ucontext_t *u) { memset((char *)u->uc_mcontext.fpregs + 464, 0xff, 48); }
static void fpu_components(ucontext_t *u) { memset((char *)u->uc_mcontext.fpregs + 512, 0xff, 64); }
static void fpu_unknown(ucontext_t *u) { ((unsigned long *)u->uc_mcontext.fpregs)[64] |= 1ul << 61; }
static void fpu_header(ucontext_t *u) { ((unsigned long *)u->uc_mcontext.fpregs)[66] = 1; }
static void fpu_header_end(ucontext_t *u) { memset((char *)u->uc_mcontext.fpregs + 512 + 24, 0xff, 40); }
static void fpu_random(ucontext_t *u) {
    for (int i = 0; i < 464; i++)
        ((unsigned char *)u->uc_mcontext.fpregs)[i] = i * 37 + 5;
}
static void stack_wild(ucontext_t *u) { u->uc_stack = (stack_t){(void *)1, 77, 5}; }
static void mask_all(ucontext_t *u) { memset(&u->uc_sigmask, 0xff, 8); }

TEST(hostile_frames) {
    CHECK_EQ(fate(keep), 0);
    // Segments of the kernel's do not make a program the kernel: the processor refuses them.
    CHECK_EQ(fate(kernel_code), SIGSEGV);
    CHECK_EQ(fate(no_code), SIGSEGV);
    CHECK_EQ(fate(odd_code), SIGSEGV);
    CHECK_EQ(fate(no_address), SIGSEGV);
    CHECK_EQ(fate(kernel_address), SIGSEGV);
    CHECK_EQ(fate(null_address), SIGSEGV);
    CHECK(fate(no_stack) == SIGBUS || fate(no_stack) == SIGSEGV);
    CHECK_EQ(fate(trap_flag), SIGTRAP);
    // Flags that are not the program's to set stay as they were.
    CHECK_EQ(fate(wild_flags), 0);
    CHECK_EQ(fate(fpu_nowhere), SIGSEGV);
    CHECK_EQ(fate(fpu_in_kernel), SIGSEGV);
    // None at all resets it.
    CHECK_EQ(fate(fpu_gone), 0);
    CHECK(fate(fpu_mxcsr) == SIGSEGV || fate(fpu_mxcsr) == 0);
    // What is wrong in the extended part makes it count as none.
    CHECK_EQ(fate(fpu_sizes), 0);
    // Of the header the processor looks at the first three words.
    CHECK_EQ(fate(fpu_header_end), 0);
    CHECK(fate(fpu_components) == SIGSEGV || fate(fpu_components) == 0);
    CHECK_EQ(fate(fpu_unknown), SIGSEGV);
    CHECK_EQ(fate(fpu_header), SIGSEGV);
    CHECK(fate(fpu_random) == SIGSEGV || fate(fpu_random) == 0);
    CHECK(fate(fpu_odd) == SIGSEGV || fate(fpu_odd) == 0);
    // A wild stack is not taken over, and nobody is told.
    CHECK_EQ(fate(stack_wild), 0);
    CHECK_EQ(fate(mask_all), 0);
}

static void read_flags(ucontext_t *u) { seen_flags = u->uc_mcontext.gregs[REG_EFL]; }

TEST(flags_after_a_handler) {
    handle(SIGUSR1, 0);
    unsigned long flags;
    // Direction and alignment bits of the interrupted code come back; the handler starts without the direction bit.
    change = read_flags;
    __asm__ volatile("std");
    raise(SIGUSR1);
    __asm__ volatile("cld");
    change = wild_flags;
    raise(SIGUSR1);
    __asm__ volatile("pushfq; popq %0; cld" : "=r"(flags)::"memory");
    CHECK_EQ(flags & 0x3000, 0);          // no I/O privilege
    CHECK_EQ(flags & 0x200, 0x200);       // interrupts stay on
    CHECK_EQ(flags & 0x1a0000, 0);        // no virtual 8086 mode, no pending virtual interrupt
}

TEST(blocked_by_the_frame) {
    handle(SIGUSR1, 0);
    change = mask_all;
    raise(SIGUSR1);
    sigset_t set;
    CHECK_OK(sigprocmask(SIG_SETMASK, NULL, &set));
    CHECK(sigismember(&set, SIGUSR2) && sigismember(&set, 64));
    // Two cannot be blocked by any way.
    CHECK(!sigismember(&set, SIGKILL) && !sigismember(&set, SIGSTOP));
}

static void on_stack(ucontext_t *u) {
    stack_t now;
    CHECK_OK(sigaltstack(NULL, &now));
    seen_flags = now.ss_flags;
    CHECK_EQ(u->uc_stack.ss_flags & ~SS_AUTODISARM, 0);
    stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
    CHECK_ERR(sigaltstack(&other, NULL), EPERM);
    other.ss_flags = SS_DISABLE;
    CHECK_ERR(sigaltstack(&other, NULL), EPERM);
}

static void disarmed(ucontext_t *u) {
    stack_t now;
    CHECK_OK(sigaltstack(NULL, &now));
    CHECK_EQ(now.ss_flags, SS_DISABLE);
    CHECK_EQ((unsigned)u->uc_stack.ss_flags, SS_AUTODISARM);
    // It is free for another use meanwhile.
    static char other_stack[65536];
    stack_t other = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    CHECK_OK(sigaltstack(&other, NULL));
}

TEST(alternate_stacks) {
    char *room = (char *)MUST((long)mmap(NULL, 1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    stack_t stack = {.ss_sp = room, .ss_size = 1 << 17}, old;
    CHECK_OK(sigaltstack(NULL, &old));
    CHECK_EQ(old.ss_flags, SS_DISABLE);
    CHECK_OK(sigaltstack(&stack, NULL));
    handle(SIGUSR1, SA_ONSTACK);
    change = on_stack;
    raise(SIGUSR1);
    CHECK_EQ(seen_flags, SS_ONSTACK);
    CHECK_OK(sigaltstack(NULL, &old));
    CHECK_EQ(old.ss_flags, 0);
    CHECK(old.ss_sp == room && old.ss_size == 1 << 17);
    stack.ss_flags = SS_AUTODISARM;
    CHECK_OK(sigaltstack(&stack, NULL));
    change = disarmed;
    raise(SIGUSR1);
    CHECK_OK(sigaltstack(NULL, &old));
    CHECK_EQ((unsigned)old.ss_flags, SS_AUTODISARM);
    CHECK(old.ss_sp == room);
    stack.ss_flags = SS_ONSTACK | SS_AUTODISARM;
    CHECK_OK(sigaltstack(&stack, NULL));
    stack.ss_flags = 4;
    CHECK_ERR(sigaltstack(&stack, NULL), EINVAL);
    stack.ss_flags = SS_ONSTACK | SS_DISABLE;
    CHECK_ERR(sigaltstack(&stack, NULL), EINVAL);
    stack.ss_flags = 0;
    stack.ss_size = 2047;
    CHECK_ERR(sigaltstack(&stack, NULL), ENOMEM);
    CHECK_ERR(sigaltstack(BAD, NULL), EFAULT);
    CHECK_ERR(sigaltstack(NULL, BAD), EFAULT);
    // Disabling asks for no size.
    stack.ss_flags = SS_DISABLE;
    CHECK_OK(sigaltstack(&stack, NULL));
    // A stack without room kills.
    int status = IN_CHILD({
        stack_t bad = {.ss_sp = mmap(NULL, 1 << 17, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 1 << 17};
        sigaltstack(&bad, NULL);
        change = NULL;
        raise(SIGUSR1);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    // A child has its parent's, a new program and a thread none.
    stack = (stack_t){.ss_sp = room, .ss_size = 1 << 17};
    CHECK_OK(sigaltstack(&stack, NULL));
    CHECK_CHILD({
        CHECK_OK(sigaltstack(NULL, &old));
        CHECK(old.ss_sp == room && old.ss_flags == 0);
    });
}

static volatile int deep;
static void nested(int signo, siginfo_t *info, void *context) {
    (void)info, (void)context;
    stack_t now;
    sigaltstack(NULL, &now);
    char here;
    CHECK(&here > (char *)now.ss_sp && &here < (char *)now.ss_sp + now.ss_size);
    CHECK_EQ(now.ss_flags, SS_ONSTACK);
    deep++;
    if (signo == SIGUSR1)
        raise(SIGUSR2);
    deep++;
}

TEST(nested_on_one_stack) {
    stack_t stack = {.ss_sp = malloc(1 << 17), .ss_size = 1 << 17};
    CHECK_OK(sigaltstack(&stack, NULL));
    struct sigaction action = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    MUST(sigaction(SIGUSR1, &action, NULL));
    MUST(sigaction(SIGUSR2, &action, NULL));
    raise(SIGUSR1);
    CHECK_EQ(deep, 4);
}

static void *loop(void *stop) {
    // Values that live in vector registers all the while.
    volatile double start = 1.0;
    double a = start, b = start * 2, c = start * 3, d = start * 4;
    long bad = 0;
    while (!*(volatile int *)stop) {
        double s = a + b + c + d;
        if (s != 10.0)
            bad++;
        __asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d));
    }
    return (void *)bad;
}

static void scramble(ucontext_t *u) {
    (void)u;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm1; movdqa %%xmm0, %%xmm2; movdqa %%xmm0, %%xmm3;"
                     "movdqa %%xmm0, %%xmm8; movdqa %%xmm0, %%xmm15; fldpi; fldpi" ::: "xmm0", "xmm1", "xmm2", "xmm3",
                     "xmm8", "xmm15");
    __asm__ volatile("fninit");
}

TEST(registers_under_a_storm) {
    handle(SIGUSR1, 0);
    change = scramble;
    volatile int stop = 0;
    pthread_t thread;
    MUST(-pthread_create(&thread, NULL, loop, (void *)&stop));
    // On a busy machine several signals may have become one before the thread runs.
    for (int i = 0; i < 300 || (count <= 10 && i < 100000); i++) {
        pthread_kill(thread, SIGUSR1);
        usleep(100);
    }
    stop = 1;
    void *bad;
    pthread_join(thread, &bad);
    CHECK_EQ((long)bad, 0);
    CHECK_CMP(count, >, 10);
}

TEST(made_up_frame) {
    // sigreturn on a stack where there is no frame.
    int status = IN_CHILD({
        __asm__ volatile("movq %0, %%rsp; movl $15, %%eax; syscall" ::"r"(0x1000l));
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = IN_CHILD({
        static char zeros[8192] __attribute__((aligned(64)));
        __asm__ volatile("movq %0, %%rsp; movl $15, %%eax; syscall" ::"r"(zeros + 4096));
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

// The x87 and SSE registers after a handler that changed its frame.
struct fpu {
    unsigned mxcsr;
    unsigned short control, tags;
    float low[4];
};
static struct fpu fpu_after(void (*with)(ucontext_t *)) {
    struct fpu seen;
    float values[4] = {1, 2, 3, 4};
    struct { unsigned short control, pad1, status, pad2, tags, pad3; unsigned rest[4]; } environment;
    long result = __NR_kill;
    change = with;
    handle(SIGUSR1, 0);
    asm volatile("fninit; fld1; movups %[values], %%xmm7; syscall; movups %%xmm7, %[low]; stmxcsr %[mxcsr]; fnstenv %[environment]; "
                 "fninit"
                 : "+a"(result), [low] "=m"(seen.low), [mxcsr] "=m"(seen.mxcsr), [environment] "=m"(environment)
                 : [values] "m"(values), "D"((long)getpid()), "S"((long)SIGUSR1)
                 : "rcx", "r11", "memory", "xmm7");
    unsigned usual = 0x1f80;
    asm volatile("ldmxcsr %0" ::"m"(usual));
    seen.control = environment.control;
    seen.tags = environment.tags;
    return seen;
}

static unsigned long *xstate_header(ucontext_t *u) { return (unsigned long *)((char *)u->uc_mcontext.fpregs + 512); }
static void fill_legacy(ucontext_t *u) {
    unsigned char *legacy = (unsigned char *)u->uc_mcontext.fpregs;
    memset(legacy + 32, 0xee, 384);
    *(unsigned short *)legacy = 0x27f;
    *(unsigned *)(legacy + 24) = 0x9fc0;
}
static void lacks_all(ucontext_t *u) { fill_legacy(u), *xstate_header(u) = 0; }
static void lacks_sse(ucontext_t *u) { fill_legacy(u), *xstate_header(u) &= ~2ul; }
static void lacks_x87(ucontext_t *u) { fill_legacy(u), *xstate_header(u) &= ~1ul; }
static void names_none(ucontext_t *u) {
    fill_legacy(u);
    *(unsigned long *)((char *)u->uc_mcontext.fpregs + 464 + 8) = 0;
}

// Components that a frame lacks get their initial values, whatever its bytes are; MXCSR is the frame's, if any vector
// component is asked for.
TEST(frames_that_lack_components) {
    static const struct {
        void (*with)(ucontext_t *);
        unsigned mxcsr;
        unsigned short control, tags;
        int keeps_sse;
    } cases[] = {
        {keep, 0x1f80, 0x37f, 0x3fff, 1}, {lacks_all, 0x9fc0, 0x37f, 0xffff, 0}, {names_none, 0x1f80, 0x37f, 0xffff, 0},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fpu seen = fpu_after(cases[i].with);
        CHECK_EQ(seen.mxcsr, cases[i].mxcsr);
        CHECK_EQ(seen.control, cases[i].control);
        CHECK_EQ(seen.tags, cases[i].tags);
        CHECK_EQ(seen.low[3] == 4, cases[i].keeps_sse);
        CHECK_EQ(seen.low[3] == 0, !cases[i].keeps_sse);
    }
    struct fpu seen = fpu_after(lacks_sse);
    CHECK_EQ(seen.mxcsr, 0x9fc0);
    CHECK_EQ(seen.control, 0x27f);
    CHECK(seen.low[3] == 0);
    seen = fpu_after(lacks_x87);
    CHECK_EQ(seen.mxcsr, 0x9fc0);
    CHECK_EQ(seen.control, 0x37f);
    CHECK_EQ(seen.tags, 0xffff);
    CHECK(seen.low[3] != 0 && seen.low[3] != 4);
    unsigned *low = (unsigned *)seen.low;
    CHECK_EQ(low[3], 0xeeeeeeee);
}
