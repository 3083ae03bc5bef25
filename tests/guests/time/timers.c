// Clocks, sleeping, interval timers and POSIX timers.
#include "../check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>

int time_t_now(void);
static volatile sig_atomic_t count;
static volatile int value;
static void on_signal(int sig) { (void)sig, count++; }
static void on_info(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    count++;
    value = info->si_value.sival_int;
    if (info->si_code != SI_TIMER)
        count = 1000;
}

static void handle(int sig, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK_OK(sigaction(sig, &action, NULL));
}

static long long now(clockid_t clock) {
    struct timespec time = {0};
    CHECK_OK(clock_gettime(clock, &time));
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void burn(long long nanos) {
    long long start = now(CLOCK_MONOTONIC);
    while (now(CLOCK_MONOTONIC) - start < nanos)
        for (volatile int i = 0; i < 1000; i++)
            ;
}

TEST(clocks) {
    clockid_t all[] = {CLOCK_REALTIME, CLOCK_MONOTONIC,  CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
                       CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct timespec time = {-1, -1};
        CHECK_OK(syscall(SYS_clock_gettime, all[i], &time));
        CHECK(time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < 1000000000);
        CHECK_OK(clock_getres(all[i], &time));
        CHECK_EQ(time.tv_sec, 0);
        CHECK_OK(clock_getres(all[i], NULL));
        long long first = now(all[i]);
        CHECK_CMP(now(all[i]), >=, first);
    }
    struct timespec time;
    CHECK_ERR(syscall(SYS_clock_gettime, 10, &time), EINVAL);
    CHECK_ERR(syscall(SYS_clock_gettime, 1000, &time), EINVAL);
    CHECK_ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 1), EFAULT);
    CHECK_ERR(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &time), EINVAL);
    clockid_t own;
    CHECK_RET(clock_getcpuclockid(0, &own), 0);
    CHECK_RET(clock_getcpuclockid(getpid(), &own), 0);
    CHECK_CMP(now(own), >=, 0);
    CHECK_RET(clock_getcpuclockid(1 << 22, &own), ESRCH);
    CHECK_RET(pthread_getcpuclockid(pthread_self(), &own), 0);
    CHECK_CMP(now(own), >=, 0);
    long long before = now(CLOCK_PROCESS_CPUTIME_ID);
    // Others may have the processor meanwhile.
    for (int i = 0; i < 100 && now(CLOCK_PROCESS_CPUTIME_ID) - before <= 500000; i++)
        burn(30000000);
    CHECK_CMP(now(CLOCK_PROCESS_CPUTIME_ID) - before, >, 500000);
    struct timeval day;
    CHECK_OK(syscall(SYS_gettimeofday, &day, NULL));
    CHECK_CMP(llabs(day.tv_sec - time_t_now()), <=, 1);
}

TEST(sleeping) {
    struct timespec time = {0, 30000000}, left = {-1, -1};
    long long start = now(CLOCK_MONOTONIC);
    CHECK_OK(nanosleep(&time, NULL));
    CHECK_CMP(now(CLOCK_MONOTONIC) - start, >=, 30000000);
    CHECK_ERR(nanosleep(&(struct timespec){0, 1000000000}, NULL), EINVAL);
    CHECK_ERR(nanosleep(&(struct timespec){-1, 0}, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_nanosleep, 1, NULL), EFAULT);
    CHECK_OK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &(struct timespec){1, 0}, NULL));
    CHECK_RET(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &time, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &time, NULL), EOPNOTSUPP);
    CHECK_ERR(syscall(SYS_clock_nanosleep, 99, 0, &time, NULL), EINVAL);
    handle(SIGALRM, on_signal, SA_RESTART);
    // Again and again: on a busy machine the first may come before the sleep has begun.
    struct itimerval soon = {{0, 50000}, {0, 50000}}, never = {0};
    CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_ERR(nanosleep(&(struct timespec){9, 0}, &left), EINTR);
    CHECK(left.tv_sec >= 4 && left.tv_sec < 9);
    CHECK_CMP(count, >=, 1);
    start = now(CLOCK_MONOTONIC) + 1000000000;
    struct timespec until = {start / 1000000000, start % 1000000000};
    CHECK_RET(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL), EINTR);
    CHECK_OK(setitimer(ITIMER_REAL, &never, NULL));
    CHECK_OK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    CHECK_CMP(now(CLOCK_MONOTONIC), >=, start);
}

TEST(sleep_over_stop) {
    pid_t child = MUST(fork());
    if (!child) {
        struct timespec time = {0, 400000000};
        long long start = now(CLOCK_MONOTONIC);
        int result = nanosleep(&time, NULL);
        long long took = now(CLOCK_MONOTONIC) - start;
        _exit(result ? 1 : took < 400000000 ? 2 : took > 10000000000 ? 3 : 0);
    }
    usleep(100000);
    kill(child, SIGSTOP);
    int status;
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    kill(child, SIGCONT);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(intervals) {
    handle(SIGALRM, on_signal, 0);
    struct itimerval old, set = {{0, 20000}, {0, 20000}};
    alarm(0);
    CHECK_OK(setitimer(ITIMER_REAL, &set, &old));
    CHECK_EQ(old.it_value.tv_sec + old.it_value.tv_usec, 0);
    while (count < 3)
        pause();
    CHECK_OK(getitimer(ITIMER_REAL, &old));
    CHECK_EQ(old.it_interval.tv_usec, 20000);
    CHECK(old.it_value.tv_sec == 0 && old.it_value.tv_usec <= 20000);
    CHECK_OK(setitimer(ITIMER_REAL, &(struct itimerval){0}, &old));
    CHECK_EQ(alarm(100), 0);
    CHECK_CMP(alarm(0), >=, 90);
    CHECK_ERR(setitimer(3, &set, NULL), EINVAL);
    CHECK_ERR(getitimer(-1, &set), EINVAL);
    set.it_value.tv_usec = 1000000;
    CHECK_ERR(setitimer(ITIMER_REAL, &set, NULL), EINVAL);
    handle(SIGVTALRM, on_signal, 0);
    count = 0;
    set = (struct itimerval){{0, 0}, {0, 20000}};
    CHECK_OK(setitimer(ITIMER_VIRTUAL, &set, NULL));
    for (int i = 0; i < 1000 && !count; i++)
        burn(10000000);
    CHECK_EQ(count, 1);
    handle(SIGPROF, on_signal, 0);
    count = 0;
    set.it_value.tv_usec = 200000;
    CHECK_OK(setitimer(ITIMER_PROF, &set, NULL));
    usleep(300000);
    CHECK_EQ(count, 0);
    for (int i = 0; i < 1000 && !count; i++)
        burn(10000000);
    CHECK_EQ(count, 1);
}

TEST(not_inherited) {
    handle(SIGALRM, on_signal, 0);
    alarm(50);
    pid_t child = MUST(fork());
    if (!child)
        _exit(alarm(0));
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_CMP(alarm(0), >=, 40);
}

TEST(posix_timers) {
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
    CHECK_OK(sigaction(SIGRTMIN, &action, NULL));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77};
    timer_t timer;
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec set = {{0, 0}, {0, 500000000}}, old;
    CHECK_OK(timer_settime(timer, 0, &set, &old));
    CHECK_EQ(old.it_value.tv_nsec, 0);
    CHECK_OK(timer_gettime(timer, &old));
    CHECK(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 500000000);
    while (!count)
        usleep(1000);
    CHECK_EQ(count, 1);
    CHECK_EQ(value, 77);
    CHECK_EQ(timer_getoverrun(timer), 0);
    CHECK_OK(timer_gettime(timer, &old));
    CHECK_EQ(old.it_value.tv_nsec + old.it_value.tv_sec, 0);

    // Overruns are counted while the signal is blocked.
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    set = (struct itimerspec){{0, 10000000}, {0, 10000000}};
    count = 0;
    CHECK_OK(timer_settime(timer, 0, &set, NULL));
    usleep(105000);
    siginfo_t info;
    CHECK_EQ(sigwaitinfo(&mask, &info), SIGRTMIN);
    CHECK_EQ(info.si_code, SI_TIMER);
    CHECK_CMP(info.si_overrun, >=, 8);
    CHECK_EQ(timer_getoverrun(timer), info.si_overrun);
    CHECK_EQ(sigwaitinfo(&mask, &info), SIGRTMIN);
    CHECK_OK(timer_delete(timer));
    CHECK_ERR(timer_delete(timer), EINVAL);
    CHECK_ERR(timer_settime(timer, 0, &set, NULL), EINVAL);
    // It may have expired once more in between.
    while (sigtimedwait(&mask, &info, &(struct timespec){0, 0}) > 0)
        ;

    // An absolute time in the past is due at once; bad values are refused.
    event.sigev_value.sival_int = 5;
    CHECK_OK(timer_create(CLOCK_REALTIME, &event, &timer));
    set = (struct itimerspec){{0, 0}, {1, 0}};
    CHECK_OK(timer_settime(timer, TIMER_ABSTIME, &set, NULL));
    CHECK_EQ(sigwaitinfo(&mask, &info), SIGRTMIN);
    CHECK_EQ(info.si_value.sival_int, 5);
    set.it_value.tv_nsec = 1000000000;
    CHECK_ERR(timer_settime(timer, 0, &set, NULL), EINVAL);
    set.it_value = (struct timespec){LONG_MAX, 999999999};
    CHECK_OK(timer_settime(timer, 0, &set, NULL));
    CHECK_OK(timer_settime(timer, TIMER_ABSTIME, &set, NULL));
    event.sigev_notify = 99;
    CHECK_ERR(timer_create(CLOCK_REALTIME, &event, &timer), EINVAL);
    event = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    CHECK_ERR(timer_create(CLOCK_REALTIME, &event, &timer), EINVAL);
    CHECK_ERR(timer_create(99, NULL, &timer), EINVAL);
}

TEST(none_and_processor_time) {
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    timer_t timer;
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec set = {{0, 0}, {0, 10000000}}, now_set;
    CHECK_OK(timer_settime(timer, 0, &set, NULL));
    usleep(20000);
    CHECK_OK(timer_gettime(timer, &now_set));
    CHECK_EQ(now_set.it_value.tv_nsec, 0);
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    event = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK_OK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer));
    set.it_value.tv_nsec = 200000000;
    CHECK_OK(timer_settime(timer, 0, &set, NULL));
    usleep(300000);
    CHECK_EQ(count, 0);
    for (int i = 0; i < 1000 && !count; i++)
        burn(10000000);
    CHECK_EQ(count, 1);
}

TEST(ticks) {
    struct tms used;
    CHECK_CMP(times(&used), >, 0);
    // Others may have the processor meanwhile.
    struct timespec own = {0, 0};
    while (own.tv_sec == 0 && own.tv_nsec < 50000000) {
        burn(10000000);
        CHECK_OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own));
    }
    CHECK_OK(times(&used));
    CHECK_CMP(used.tms_utime + used.tms_stime, >=, 1);
}

int time_t_now(void) { return time(NULL); }
