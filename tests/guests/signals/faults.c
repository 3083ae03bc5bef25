// Faults: signal, si_code and si_addr; alternate stacks; the state a handler sees and may change.
#include "../check.h"
#include <cpuid.h>
#include <immintrin.h>
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static siginfo_t last;
static ucontext_t seen;
static volatile sig_atomic_t count;

static void escape(int signo, siginfo_t *info, void *context) {
    last = *info;
    memcpy(&seen, context, sizeof seen);
    count++;
    siglongjmp(back, 1);
}

static void catch (int signo, void (*function)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = function, .sa_flags = SA_SIGINFO | flags};
    CHECK_OK(sigaction(signo, &action, NULL));
}

static void faulted(int signo, int code, const void *address) {
    CHECK_EQ(last.si_signo, signo);
    CHECK_EQ(last.si_code, code);
    CHECK_EQ(last.si_addr, address);
}

#define FAULTS(...)                                                                                             \
    do {                                                                                                              \
        count = 0;                                                                                                    \
        if (!sigsetjmp(back, 1)) {                                                                                    \
            __VA_ARGS__;                                                                                              \
        }                                                                                                             \
        CHECK_EQ(count, 1);                                                                                           \
    } while (0)

static char *page(int prot) { return (char *)MUST(mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }

TEST(segmentation) {
    catch (SIGSEGV, escape, 0);
    FAULTS(*(volatile char *)0x123 = 1);
    faulted(SIGSEGV, SEGV_MAPERR, (void *)0x123);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_TRAPNO], 14);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_ERR] & 7, 6);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_CR2], 0x123);
    char *p = page(PROT_READ);
    FAULTS(*(volatile char *)(p + 5) = 1);
    faulted(SIGSEGV, SEGV_ACCERR, p + 5);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_ERR] & 6, 6);
    p = page(PROT_NONE);
    FAULTS((void)*(volatile char *)(p + 7));
    faulted(SIGSEGV, SEGV_ACCERR, p + 7);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_ERR] & 6, 4);
    CHECK_OK(munmap(p, 4096));
    FAULTS((void)*(volatile char *)p);
    faulted(SIGSEGV, SEGV_MAPERR, p);
    FAULTS((void)*(volatile char *)0xffffffff80000000);
    faulted(SIGSEGV, SEGV_MAPERR, (void *)0xffffffff80000000);
    // An address no processor forms: a general protection fault, without an address.
    FAULTS((void)*(volatile char *)0x0123456789abcdef);
    faulted(SIGSEGV, SI_KERNEL, NULL);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_TRAPNO], 13);
}

TEST(jump_astray) {
    catch (SIGSEGV, escape, 0);
    char *p = page(PROT_READ | PROT_WRITE);
    FAULTS(((void (*)(void))p)());
    faulted(SIGSEGV, SEGV_ACCERR, p);
    CHECK_EQ(seen.uc_mcontext.gregs[REG_RIP], p);
    FAULTS(((void (*)(void))0x10)());
    faulted(SIGSEGV, SEGV_MAPERR, (void *)0x10);
}

TEST(bus) {
    catch (SIGBUS, escape, 0);
    int fd = MUST(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, 10));
    char *p = (char *)MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    p[9] = 1;
    FAULTS((void)*(volatile char *)(p + 4096));
    faulted(SIGBUS, BUS_ADRERR, p + 4096);
    FAULTS(*(volatile char *)(p + 4100) = 1);
    faulted(SIGBUS, BUS_ADRERR, p + 4100);
}

TEST(arithmetic) {
    catch (SIGFPE, escape, 0);
    volatile int one = 1, zero = 0;
    FAULTS(one = one / zero);
    CHECK_EQ(last.si_code, FPE_INTDIV);
    CHECK_EQ(last.si_addr, seen.uc_mcontext.gregs[REG_RIP]);
    volatile int least = INT_MIN, minus = -1;
    FAULTS(one = least / minus);
    CHECK_EQ(last.si_code, FPE_INTDIV);
    unsigned masked = _mm_getcsr();
    FAULTS({
        _mm_setcsr(masked & ~(1 << 9));
        volatile double a = 1, b = 0;
        a = a / b;
    });
    _mm_setcsr(masked);
    CHECK_EQ(last.si_code, FPE_FLTDIV);
}

TEST(illegal) {
    catch (SIGILL, escape, 0);
    FAULTS(__asm__ volatile("ud2"));
    CHECK_EQ(last.si_code, ILL_ILLOPN);
    CHECK_EQ(last.si_addr, seen.uc_mcontext.gregs[REG_RIP]);
    catch (SIGSEGV, escape, 0);
    FAULTS(__asm__ volatile("hlt"));
    faulted(SIGSEGV, SI_KERNEL, NULL);
    FAULTS(__asm__ volatile("cli"));
    faulted(SIGSEGV, SI_KERNEL, NULL);
    FAULTS(__asm__ volatile("int $0x40"));
    faulted(SIGSEGV, SI_KERNEL, NULL);
}

TEST(traps) {
    catch (SIGTRAP, escape, 0);
    FAULTS(__asm__ volatile("int3"));
    CHECK_EQ(last.si_code, SI_KERNEL);
    CHECK_EQ(((unsigned char *)seen.uc_mcontext.gregs[REG_RIP])[-1], 0xcc);
    FAULTS({
        // Single step through the trap flag.
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc");
    });
    CHECK_EQ(last.si_code, TRAP_TRACE);
}

TEST(blocked_fault_kills) {
    int status = IN_CHILD({
        sigset_t set;
        catch (SIGSEGV, escape, 0);
        sigfillset(&set);
        sigprocmask(SIG_BLOCK, &set, NULL);
        *(volatile char *)1 = 1;
    });
    CHECK_EQ(status & 0x7f, SIGSEGV);
    status = IN_CHILD({
        signal(SIGSEGV, SIG_IGN);
        *(volatile char *)1 = 1;
    });
    CHECK_EQ(status & 0x7f, SIGSEGV);
}

static stack_t in_handler;
static char *handler_frame;

static void on_stack(int signo, siginfo_t *info, void *context) {
    char here;
    handler_frame = &here;
    sigaltstack(NULL, &in_handler);
    count++;
    if (signo == SIGSEGV)
        siglongjmp(back, 1);
}

TEST(alternate_stack) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536}, old;
    CHECK_OK(sigaltstack(NULL, &old));
    CHECK_EQ(old.ss_flags, SS_DISABLE);
    CHECK_OK(sigaltstack(&stack, NULL));
    catch (SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK(handler_frame > (char *)stack.ss_sp && handler_frame < (char *)stack.ss_sp + 65536);
    CHECK_EQ(in_handler.ss_flags, SS_ONSTACK);
    CHECK_OK(sigaltstack(NULL, &old));
    CHECK_EQ(old.ss_flags, 0);
    catch (SIGUSR1, on_stack, 0);
    raise(SIGUSR1);
    CHECK(!(handler_frame > (char *)stack.ss_sp && handler_frame < (char *)stack.ss_sp + 65536));
    stack_t small = {.ss_sp = stack.ss_sp, .ss_size = 1024}, wrong = {.ss_sp = stack.ss_sp, .ss_size = 65536, .ss_flags = 64};
    CHECK_ERR(sigaltstack(&small, NULL), ENOMEM);
    CHECK_ERR(sigaltstack(&wrong, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_sigaltstack, BAD, NULL), EFAULT);
    // The stack that ran out is where this is needed.
    catch (SIGSEGV, on_stack, SA_ONSTACK);
    count = 0;
    if (!sigsetjmp(back, 1)) {
        volatile char *deep = __builtin_frame_address(0);
        for (;;)
            deep -= 4096, *deep = 1;
    }
    CHECK_EQ(count, 1);
    // Without room for the frame the process dies.
    int status = IN_CHILD({
        stack_t hole = {.ss_sp = page(PROT_NONE), .ss_size = 4096};
        if (sigaltstack(&hole, NULL) == 0)
            *(volatile char *)1 = 1;
        raise(SIGSEGV);
    });
    CHECK_EQ(status & 0x7f, SIGSEGV);
    stack.ss_flags = SS_DISABLE;
    CHECK_OK(sigaltstack(&stack, NULL));
    stack.ss_flags = 1U << 31; // SS_AUTODISARM
    CHECK_OK(sigaltstack(&stack, NULL));
    catch (SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK_EQ(in_handler.ss_flags & SS_DISABLE, SS_DISABLE);
}

static void skip_instruction(int signo, siginfo_t *info, void *context) {
    ucontext_t *user = context;
    user->uc_mcontext.gregs[REG_RIP] += 2;
    user->uc_mcontext.gregs[REG_RAX] = 1234;
    sigaddset(&user->uc_sigmask, SIGUSR2);
}

TEST(changed_context) {
    catch (SIGILL, skip_instruction, 0);
    long result = 0;
    __asm__ volatile("ud2" : "+a"(result));
    CHECK_EQ(result, 1234);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR2));
}

static void spoil(int signo, siginfo_t *info, void *context) {
    count++;
    // Every vector and x87 register the handler can reach, and both control words.
    __asm__ volatile("fninit; fld1; fld1; fldpi" ::: "st", "st(1)", "st(2)");
    for (int i = 0; i < 1; i++)
        __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm1, %%xmm1; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm15, %%xmm15" ::
                             : "xmm0", "xmm1", "xmm7", "xmm15");
    _mm_setcsr(0x1f80 | 0x6000);
}

TEST(floating_state_kept) {
    catch (SIGUSR1, spoil, 0);
    double out[4], in[4] = {1.5, -2.25, 3.125, 1e300};
    unsigned csr = 0x1f80 | 0x2000, after;
    _mm_setcsr(csr);
    pid_t pid = getpid();
    long result;
    double top = 7.5;
    __asm__ volatile("fldl %[top]\n movsd 0(%[in]), %%xmm0\n movsd 8(%[in]), %%xmm1\n movsd 16(%[in]), %%xmm7\n movsd 24(%[in]), %%xmm15\n"
                     "syscall\n"
                     "movsd %%xmm0, 0(%[out])\n movsd %%xmm1, 8(%[out])\n movsd %%xmm7, 16(%[out])\n movsd %%xmm15, 24(%[out])\n fstpl %[top]\n"
                     : "=a"(result), [top] "+m"(top)
                     : "a"(SYS_kill), "D"((long)pid), "S"((long)SIGUSR1), [in] "b"(in), [out] "d"(out)
                     : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm7", "xmm15", "st");
    after = _mm_getcsr();
    CHECK_EQ(result, 0);
    CHECK_EQ(count, 1);
    CHECK(!memcmp(in, out, sizeof in));
    CHECK(top == 7.5);
    CHECK_EQ(after & 0x6000, csr & 0x6000);
}

__attribute__((target("avx"))) static void spoil_avx(int signo, siginfo_t *info, void *context) {
    count++;
    __asm__ volatile("vxorps %%ymm3, %%ymm3, %%ymm3; vxorps %%ymm12, %%ymm12, %%ymm12" ::: "xmm3", "xmm12");
}

__attribute__((target("avx"))) TEST(avx_state_kept) {
    if (!__builtin_cpu_supports("avx"))
        SKIP("this processor has no AVX");
    catch (SIGUSR1, spoil_avx, 0);
    unsigned char in[32], out[64];
    for (int i = 0; i < 32; i++)
        in[i] = i * 7 + 1;
    long result;
    __asm__ volatile("vmovdqu (%[in]), %%ymm3\n vmovdqu (%[in]), %%ymm12\n syscall\n vmovdqu %%ymm3, (%[out])\n vmovdqu %%ymm12, 32(%[out])\n"
                     : "=a"(result)
                     : "a"(SYS_kill), "D"((long)getpid()), "S"((long)SIGUSR1), [in] "b"(in), [out] "d"(out)
                     : "rcx", "r11", "memory", "xmm3", "xmm12");
    CHECK_EQ(count, 1);
    CHECK(!memcmp(in, out, 32));
    CHECK(!memcmp(in, out + 32, 32));
}

static unsigned long flags_in_handler;

static void flags(int signo, siginfo_t *info, void *context) {
    __asm__ volatile("pushfq; popq %0" : "=r"(flags_in_handler));
    count++;
}

TEST(registers_kept) {
    catch (SIGUSR1, flags, 0);
    unsigned long r12 = 0x1212, r13 = 0x1313, r14 = 0x1414, r15 = 0x1515, after;
    __asm__ volatile("movq %[a], %%r12\n movq %[b], %%r13\n movq %[c], %%r14\n movq %[d], %%r15\n std\n syscall\n cld\n"
                     "movq %%r12, %[a]\n movq %%r13, %[b]\n movq %%r14, %[c]\n movq %%r15, %[d]\n movq %%rdx, %[after]\n"
                     : [a] "+m"(r12), [b] "+m"(r13), [c] "+m"(r14), [d] "+m"(r15), [after] "=m"(after)
                     : "a"(SYS_kill), "D"((long)getpid()), "S"((long)SIGUSR1), "d"(0x4444L)
                     : "rcx", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    CHECK(r12 == 0x1212 && r13 == 0x1313 && r14 == 0x1414 && r15 == 0x1515 && after == 0x4444);
    CHECK_EQ(count, 1);
    // A handler starts with the direction flag clear.
    CHECK_EQ(flags_in_handler & 0x400, 0);
}

TEST(bad_return_frame) {
    int status = IN_CHILD({
        // Nothing like a frame is on this stack.
        __asm__ volatile("xorl %%esp, %%esp; movl $15, %%eax; syscall" ::: "rax", "rcx", "r11", "memory");
    });
    CHECK_EQ(status & 0x7f, SIGSEGV);
}

TEST(time_stamp_and_processor) {
    // Instructions a program may use for itself are not taken from it.
    CHECK(__builtin_ia32_rdtsc() != 0);
    unsigned a, b, c, d = 0;
    CHECK(__get_cpuid(1, &a, &b, &c, &d) == 1);
    CHECK((d & (1 << 26)) != 0);
}
