// Clocks and timers at their edges: every clock, every way to be told, refusals and their order, exec and fork.
#include "../check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/times.h>

#define MS 1000000ll
#define SECOND 1000000000ll

static long long nanos(struct timespec t) { return t.tv_sec * SECOND + t.tv_nsec; }
static struct timespec spec(long long n) { return (struct timespec){n / SECOND, n % SECOND}; }

static long long now(clockid_t clock) {
    struct timespec t = {-1, -1};
    CHECK_OK(clock_gettime(clock, &t));
    CHECK(t.tv_nsec >= 0 && t.tv_nsec < SECOND);
    return nanos(t);
}

// The same without the vDSO.
static long long now_by_call(clockid_t clock) {
    struct timespec t = {-1, -1};
    CHECK_OK(syscall(SYS_clock_gettime, clock, &t));
    return nanos(t);
}

static void burn(long long n) {
    long long end = now(CLOCK_PROCESS_CPUTIME_ID) + n;
    while (now(CLOCK_PROCESS_CPUTIME_ID) < end)
        ;
}

static volatile sig_atomic_t count;
static siginfo_t last;
static void handler(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)context;
    last = *info;
    count++;
}
static void handle(int signo, int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    MUST(sigaction(signo, &action, NULL));
}
static void hold(int signo) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
}
static int wait_for(int signo, siginfo_t *info, long long n) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    struct timespec time = spec(n);
    memset(info, 0, sizeof *info);
    return sigtimedwait(&set, info, &time);
}

static const clockid_t all[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                                CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};

TEST(vdso_and_call_agree) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        // Each way of asking in turn: time never goes back.
        long long before = now(all[i]);
        for (int j = 0; j < 300; j++) {
            long long next = j % 2 ? now(all[i]) : now_by_call(all[i]);
            if (next < before)
                CHECK_AT(0, "clock %d goes back from %lld to %lld in step %d", all[i], before, next, j);
            before = next;
        }
        struct timespec resolution = {-1, -1}, by_call = {-1, -1};
        CHECK_OK(clock_getres(all[i], &resolution));
        CHECK_OK(syscall(SYS_clock_getres, all[i], &by_call));
        CHECK_EQ(nanos(resolution), nanos(by_call));
        CHECK_OK(clock_getres(all[i], NULL));
        CHECK_ERR(syscall(SYS_clock_gettime, all[i], BAD), EFAULT);
        CHECK_ERR(syscall(SYS_clock_getres, all[i], BAD), EFAULT);
    }
    long long coarse = now(CLOCK_MONOTONIC_COARSE), fine = now(CLOCK_MONOTONIC);
    CHECK_CMP(coarse, <=, fine);
    CHECK_CMP(now(CLOCK_BOOTTIME), >=, fine);
    struct timeval day;
    long long before = now(CLOCK_REALTIME);
    CHECK_OK(gettimeofday(&day, NULL));
    long long during = day.tv_sec * SECOND + day.tv_usec * 1000;
    CHECK_CMP(during / 1000, >=, before / 1000);
    CHECK_CMP(during, <=, now(CLOCK_REALTIME));
    CHECK_OK(syscall(SYS_gettimeofday, &day, NULL));
    CHECK_CMP(day.tv_sec * SECOND + day.tv_usec * 1000, >=, during);
    time_t whole = time(NULL);
    CHECK_CMP(whole, <=, now(CLOCK_REALTIME) / SECOND);
    CHECK_CMP(whole, >=, before / SECOND - 1);
    time_t stored;
    CHECK_EQ(syscall(SYS_time, &stored), stored);
}

// However long it lasts: what clocks are reckoned by is measured anew from time to time.
TEST(vdso_and_call_agree_for_longer) {
    static const clockid_t some[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_REALTIME_COARSE,
                                     CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW};
    long long last[7] = {0};
    for (long long end = now(CLOCK_MONOTONIC) + 5 * SECOND / 4; now(CLOCK_MONOTONIC) < end;) {
        for (int j = 0; j < 6; j++) {
            for (size_t i = 0; i < 7; i++) {
                long long next = j % 2 ? now(some[i]) : now_by_call(some[i]);
                if (next < last[i])
                    CHECK_AT(0, "clock %d goes back from %lld to %lld in step %d", some[i], last[i], next, j);
                last[i] = next;
            }
        }
        usleep(300);
    }
}

TEST(clocks_that_are_none) {
    static const clockid_t none[] = {12, 15, 16, 100, INT_MAX, -1};
    struct timespec t = {0, 1};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        CHECK_ERR(syscall(SYS_clock_gettime, none[i], &t), EINVAL);
        CHECK_ERR(syscall(SYS_clock_getres, none[i], &t), EINVAL);
        CHECK_ERR(syscall(SYS_clock_nanosleep, none[i], 0, &t, NULL), EINVAL);
        CHECK_ERR(syscall(SYS_clock_settime, none[i], &t), EINVAL);
        timer_t timer;
        CHECK_ERR(syscall(SYS_timer_create, none[i], NULL, &timer), EINVAL);
        CHECK_ERR(timerfd_create(none[i], 0), EINVAL);
    }
    // Clocks of descriptors: fd 999 is none.
    CHECK_ERR(syscall(SYS_clock_gettime, (~999 << 3) | 3, &t), EINVAL);
}

TEST(processor_time) {
    clockid_t own, of_child, thread;
    CHECK_RET(clock_getcpuclockid(0, &own), 0);
    long long before = now(own);
    burn(20 * MS);
    CHECK_CMP(now(own) - before, >=, 20 * MS);
    CHECK_CMP(now(CLOCK_THREAD_CPUTIME_ID), <=, now(CLOCK_PROCESS_CPUTIME_ID));
    CHECK_RET(pthread_getcpuclockid(pthread_self(), &thread), 0);
    CHECK_CMP(now(thread), >=, 20 * MS);
    int go[2];
    MUST(pipe(go));
    pid_t child = MUST(fork());
    if (!child) {
        char byte;
        burn(30 * MS);
        read(go[0], &byte, 1);
        _exit(0);
    }
    CHECK_RET(clock_getcpuclockid(child, &of_child), 0);
    while (now(of_child) < 30 * MS)
        usleep(2000);
    // A thread of another process is none of ours.
    struct timespec t;
    CHECK_ERR(syscall(SYS_clock_gettime, (~child << 3) | 6, &t), EINVAL);
    write(go[1], "x", 1);
    CHECK_OK(waitpid(child, NULL, 0));
    CHECK_ERR(clock_gettime(of_child, &t), EINVAL);
    CHECK_RET(clock_getcpuclockid(child, &of_child), ESRCH);
    // Time asleep is no processor time.
    before = now(CLOCK_PROCESS_CPUTIME_ID);
    usleep(500000);
    CHECK_CMP(now(CLOCK_PROCESS_CPUTIME_ID) - before, <, 400 * MS);
}

TEST(sleep_forms) {
    static const clockid_t able[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
    for (size_t i = 0; i < sizeof able / sizeof *able; i++) {
        long long start = now(able[i]);
        struct timespec t = spec(10 * MS), rest = {7, 7};
        CHECK_RET(clock_nanosleep(able[i], 0, &t, &rest), 0);
        CHECK_CMP(now(able[i]) - start, >=, 10 * MS);
        CHECK(rest.tv_sec == 7 && rest.tv_nsec == 7);
        t = spec(now(able[i]) + 10 * MS);
        CHECK_RET(clock_nanosleep(able[i], TIMER_ABSTIME, &t, NULL), 0);
        CHECK_CMP(now(able[i]), >=, nanos(t));
        t = spec(1);
        CHECK_RET(clock_nanosleep(able[i], TIMER_ABSTIME, &t, NULL), 0);
    }
    static const clockid_t unable[] = {CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};
    struct timespec t = spec(1), bad = {0, SECOND}, negative = {-1, 0};
    for (size_t i = 0; i < sizeof unable / sizeof *unable; i++) {
        CHECK_ERR(syscall(SYS_clock_nanosleep, unable[i], 0, &t, NULL), EOPNOTSUPP);
        timer_t timer;
        CHECK_ERR(syscall(SYS_timer_create, unable[i], NULL, &timer), EOPNOTSUPP);
        CHECK_ERR(timerfd_create(unable[i], 0), EINVAL);
    }
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), EOPNOTSUPP);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &bad, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &negative, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &negative, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, BAD, NULL), EFAULT);
    CHECK_ERR(nanosleep(&bad, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_nanosleep, BAD, NULL), EFAULT);
    // Flags that are unknown are not looked at.
    CHECK_OK(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0x10, &t, NULL));
    // Asleep until the process has used so much: nobody else uses it, so a signal must end it, again and again as the first
    // may come before the sleep.
    handle(SIGALRM, 0);
    struct itimerval soon = {{0, 30000}, {0, 30000}};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    t = spec(SECOND);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &t, NULL), EINTR);
}

TEST(sleep_interrupted) {
    handle(SIGALRM, SA_RESTART);
    // Again and again: on a busy machine the first may come before the sleep has begun.
    struct itimerval soon = {{0, 100000}, {0, 30000}}, never = {0};
    struct timespec t = spec(15 * SECOND), rest = {0, 0};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    long long start = now(CLOCK_MONOTONIC);
    CHECK_ERR(nanosleep(&t, &rest), EINTR);
    // What is left and what has gone by make up the whole, but for what went by outside of the call.
    CHECK_CMP(nanos(rest), >=, 15 * SECOND - (now(CLOCK_MONOTONIC) - start));
    CHECK_CMP(nanos(rest), <, 15 * SECOND);
    // The rest may be written over the request.
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_ERR(nanosleep(&t, &t), EINTR);
    CHECK_CMP(nanos(t), <, 15 * SECOND);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_ERR(syscall(SYS_nanosleep, &t, BAD), EFAULT);
    // With an absolute time there is no rest to tell.
    rest = (struct timespec){7, 7};
    t = spec(now(CLOCK_MONOTONIC) + 15 * SECOND);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &t, &rest), EINTR);
    CHECK(rest.tv_sec == 7 && rest.tv_nsec == 7);
    MUST(setitimer(ITIMER_REAL, &never, NULL));
    CHECK_CMP(count, >=, 4);
}

TEST(timer_notifications) {
    hold(SIGRTMIN), hold(SIGALRM), hold(SIGUSR1);
    siginfo_t info;
    timer_t timer;
    struct itimerspec once = {{0, 0}, {0, 5 * MS}}, left;
    // Without words: SIGALRM, with the timer's number as the value.
    MUST(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer));
    int id = *(int *)&timer;
    CHECK_OK(syscall(SYS_timer_settime, id, 0, &once, NULL));
    CHECK_EQ(wait_for(SIGALRM, &info, 10 * SECOND), SIGALRM);
    CHECK_EQ(info.si_code, SI_TIMER);
    CHECK_EQ(info.si_value.sival_int, id);
    CHECK_EQ(info.si_overrun, 0);
    CHECK_EQ(syscall(SYS_timer_getoverrun, id), 0);
    CHECK_OK(syscall(SYS_timer_gettime, id, &left));
    CHECK_EQ(nanos(left.it_value), 0);
    CHECK_OK(syscall(SYS_timer_delete, id));
    CHECK_ERR(syscall(SYS_timer_delete, id), EINVAL);
    CHECK_ERR(syscall(SYS_timer_gettime, id, &left), EINVAL);
    CHECK_ERR(syscall(SYS_timer_settime, id, 0, &once, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_timer_getoverrun, id), EINVAL);
    // A signal with a value.
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_ptr = (void *)0x123456789abc};
    MUST(timer_create(CLOCK_REALTIME, &event, &timer));
    MUST(timer_settime(timer, 0, &once, NULL));
    CHECK_EQ(wait_for(SIGRTMIN, &info, 10 * SECOND), SIGRTMIN);
    CHECK(info.si_value.sival_ptr == (void *)0x123456789abc);
    MUST(timer_delete(timer));
    // To one thread.
    event.sigev_notify = SIGEV_THREAD_ID | SIGEV_SIGNAL;
    event._sigev_un._tid = syscall(SYS_gettid);
    MUST(timer_create(CLOCK_BOOTTIME, &event, &timer));
    MUST(timer_settime(timer, 0, &once, NULL));
    CHECK_EQ(wait_for(SIGRTMIN, &info, 10 * SECOND), SIGRTMIN);
    MUST(timer_delete(timer));
    event._sigev_un._tid = getppid();
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    event._sigev_un._tid = 0;
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    // Not at all.
    event = (struct sigevent){.sigev_notify = SIGEV_NONE};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec again = {{0, 20 * MS}, {0, 20 * MS}};
    MUST(timer_settime(timer, 0, &again, NULL));
    usleep(30000);
    MUST(timer_gettime(timer, &left));
    CHECK(nanos(left.it_value) > 0 && nanos(left.it_value) <= 20 * MS);
    CHECK_EQ(nanos(left.it_interval), 20 * MS);
    MUST(timer_delete(timer));
    event = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    event.sigev_signo = 0;
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    event = (struct sigevent){.sigev_notify = 9, .sigev_signo = SIGUSR1};
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, BAD, &id), EFAULT);
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, BAD), EFAULT);
}

TEST(timer_overrun) {
    hold(SIGRTMIN);
    timer_t timer;
    siginfo_t info;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec often = {{0, MS}, {0, MS}}, old, none = {};
    MUST(timer_settime(timer, 0, &often, NULL));
    usleep(50000);
    CHECK_EQ(wait_for(SIGRTMIN, &info, 0), SIGRTMIN);
    CHECK_CMP(info.si_overrun, >=, 40);
    CHECK_EQ(timer_getoverrun(timer), info.si_overrun);
    // Only one instance waits.
    MUST(timer_settime(timer, 0, &none, &old));
    CHECK_EQ(nanos(old.it_interval), MS);
    // An absolute time that has passed: at once; by an interval of it, overrun counts from then.
    struct itimerspec past = {{0, 0}, spec(now(CLOCK_MONOTONIC) - SECOND)};
    while (wait_for(SIGRTMIN, &info, 0) > 0)
        ;
    MUST(timer_settime(timer, TIMER_ABSTIME, &past, NULL));
    CHECK_EQ(wait_for(SIGRTMIN, &info, 10 * SECOND), SIGRTMIN);
    CHECK_EQ(info.si_overrun, 0);
    past.it_interval = spec(100 * MS);
    past.it_value = spec(now(CLOCK_MONOTONIC) - SECOND);
    MUST(timer_settime(timer, TIMER_ABSTIME, &past, NULL));
    CHECK_EQ(wait_for(SIGRTMIN, &info, 10 * SECOND), SIGRTMIN);
    CHECK_CMP(info.si_overrun, >=, 9);
    MUST(timer_settime(timer, 0, &none, NULL));
    struct itimerspec bad = {{0, SECOND}, {0, 1}};
    CHECK_ERR(timer_settime(timer, 0, &bad, NULL), EINVAL);
    bad = (struct itimerspec){{0, 0}, {-1, 0}};
    CHECK_ERR(timer_settime(timer, 0, &bad, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_timer_settime, *(int *)&timer, 0, NULL, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_timer_settime, *(int *)&timer, 0, BAD, NULL), EFAULT);
    CHECK_ERR(syscall(SYS_timer_gettime, *(int *)&timer, BAD), EFAULT);
}

TEST(timers_of_processor_time) {
    hold(SIGRTMIN);
    timer_t timer;
    siginfo_t info;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (int i = 0; i < 2; i++) {
        MUST(timer_create(clocks[i], &event, &timer));
        struct itimerspec once = {{0, 0}, {0, 200 * MS}};
        long long start = now(clocks[i]);
        MUST(timer_settime(timer, 0, &once, NULL));
        usleep(300000);
        CHECK(wait_for(SIGRTMIN, &info, 0) < 0);
        while (wait_for(SIGRTMIN, &info, 0) < 0 && now(clocks[i]) < start + SECOND)
            ;
        CHECK_EQ(info.si_code, SI_TIMER);
        CHECK_CMP(now(clocks[i]) - start, >=, 200 * MS);
        MUST(timer_delete(timer));
    }
}

TEST(interval_timers) {
    static const int kinds[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}, signals[] = {SIGALRM, SIGVTALRM, SIGPROF};
    // The alarm that ends tests that hang is one of them.
    alarm(0);
    for (int i = 0; i < 3; i++) {
        handle(signals[i], SA_RESTART);
        count = 0;
        struct itimerval value = {{0, 10000}, {0, 20000}}, old = {{9, 9}, {9, 9}}, none = {};
        CHECK_OK(setitimer(kinds[i], &value, &old));
        CHECK(!old.it_value.tv_sec && !old.it_value.tv_usec && !old.it_interval.tv_sec && !old.it_interval.tv_usec);
        CHECK_OK(getitimer(kinds[i], &old));
        CHECK_EQ(old.it_interval.tv_usec, 10000);
        CHECK(old.it_value.tv_usec > 0 && old.it_value.tv_usec <= 20000 + 4000);
        long long end = now(CLOCK_MONOTONIC) + 5 * SECOND;
        while (count < 3 && now(CLOCK_MONOTONIC) < end)
            ;
        CHECK_CMP(count, >=, 3);
        CHECK_EQ(last.si_code, SI_KERNEL);
        CHECK_OK(setitimer(kinds[i], &none, &old));
        CHECK_EQ(old.it_interval.tv_usec, 10000);
        CHECK_OK(getitimer(kinds[i], &old));
        CHECK_EQ(old.it_value.tv_usec, 0);
    }
    struct itimerval bad = {{0, 0}, {0, 1000000}}, value = {{0, 0}, {100, 0}};
    CHECK_ERR(setitimer(ITIMER_REAL, &bad, NULL), EINVAL);
    bad = (struct itimerval){{0, -1}, {0, 1}};
    CHECK_ERR(setitimer(ITIMER_REAL, &bad, NULL), EINVAL);
    CHECK_ERR(setitimer(3, &value, NULL), EINVAL);
    CHECK_ERR(getitimer(3, &value), EINVAL);
    CHECK_ERR(syscall(SYS_setitimer, ITIMER_REAL, BAD, NULL), EFAULT);
    CHECK_ERR(syscall(SYS_getitimer, ITIMER_REAL, BAD), EFAULT);
    // Nothing to set sets nothing: the timer stops.
    CHECK_OK(setitimer(ITIMER_REAL, &value, NULL));
    CHECK_OK(syscall(SYS_setitimer, ITIMER_REAL, NULL, NULL));
    CHECK_OK(getitimer(ITIMER_REAL, &value));
    CHECK_EQ(value.it_value.tv_sec, 0);
}

TEST(alarms) {
    // Other work on the machine may take some seconds of each.
    CHECK_CMP(alarm(100), >=, CHECK_ALARM - 10);
    struct itimerval value;
    CHECK_OK(getitimer(ITIMER_REAL, &value));
    CHECK(value.it_value.tv_sec >= 90 && value.it_value.tv_sec <= 99);
    CHECK_CMP(alarm(0), >=, 90);
    CHECK_EQ(alarm(0), 0);
    // What is left is rounded, but never to nothing.
    struct itimerval soon = {{0, 0}, {0, 490000}};
    CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_EQ(alarm(0), 1);
    soon.it_value = (struct timeval){1, 490000};
    CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_EQ(alarm(0), 1);
    // A child has no alarm; a new program keeps it.
    alarm(50);
    CHECK_CHILD({ CHECK_EQ(alarm(0), 0); });
    int status = IN_CHILD({
        struct itimerval value = {{0, 0}, {0, 300000}};
        setitimer(ITIMER_REAL, &value, NULL);
        execl("/bin/sleep", "sleep", "10", NULL);
        _exit(1);
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
}

TEST(timer_files) {
    int fd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
    uint64_t ticks = 0;
    char small[7];
    CHECK_ERR(read(fd, &ticks, 8), EAGAIN);
    CHECK_ERR(read(fd, small, 7), EINVAL);
    CHECK_ERR(write(fd, &ticks, 8), EINVAL);
    struct itimerspec value = {{0, 5 * MS}, {0, 5 * MS}}, left = {{9, 9}, {9, 9}};
    CHECK_OK(timerfd_settime(fd, 0, &value, &left));
    CHECK_EQ(nanos(left.it_value) + nanos(left.it_interval), 0);
    struct pollfd poll_fd = {fd, POLLIN, 0};
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    CHECK_EQ(poll_fd.revents, POLLIN);
    usleep(30000);
    CHECK_EQ(read(fd, &ticks, 8), 8);
    CHECK_CMP(ticks, >=, 5);
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    CHECK_ERR(read(fd, BAD, 8), EFAULT);
    CHECK_OK(timerfd_gettime(fd, &left));
    CHECK_EQ(nanos(left.it_interval), 5 * MS);
    // Setting it forgets ticks that were not read.
    usleep(10000);
    value = (struct itimerspec){{0, 0}, {100, 0}};
    CHECK_OK(timerfd_settime(fd, 0, &value, NULL));
    CHECK_ERR(read(fd, &ticks, 8), EAGAIN);
    // An absolute time that has passed has ticked.
    value = (struct itimerspec){{0, 0}, spec(now(CLOCK_MONOTONIC) - SECOND)};
    CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &value, NULL));
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    CHECK_EQ(read(fd, &ticks, 8), 8);
    CHECK_EQ(ticks, 1);
    value.it_interval = spec(100 * MS);
    value.it_value = spec(now(CLOCK_MONOTONIC) - SECOND);
    CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &value, NULL));
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    CHECK_EQ(read(fd, &ticks, 8), 8);
    CHECK_CMP(ticks, >=, 10);
    CHECK_ERR(timerfd_settime(fd, 4, &value, NULL), EINVAL);
    value.it_value.tv_nsec = SECOND;
    CHECK_ERR(timerfd_settime(fd, 0, &value, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_timerfd_settime, fd, 0, BAD, NULL), EFAULT);
    CHECK_ERR(syscall(SYS_timerfd_gettime, fd, BAD), EFAULT);
    CHECK_ERR(timerfd_settime(0, 0, &(struct itimerspec){}, NULL), EINVAL);
    CHECK_ERR(timerfd_settime(-1, 0, &(struct itimerspec){}, NULL), EBADF);
    CHECK_ERR(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    CHECK_ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    // To be cancelled when the time is set: it is not, so it works as any other.
    int real = MUST(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
    value = (struct itimerspec){{0, 0}, spec(now(CLOCK_REALTIME) + 10 * MS)};
    CHECK_OK(timerfd_settime(real, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &value, NULL));
    poll_fd.fd = real;
    CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
    CHECK_EQ(read(real, &ticks, 8), 8);
    // A child shares the timer.
    value = (struct itimerspec){{0, 0}, {0, 10 * MS}};
    CHECK_OK(timerfd_settime(real, 0, &value, NULL));
    CHECK_CHILD({
        CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
        CHECK_EQ(read(real, &ticks, 8), 8);
    });
    CHECK_ERR(read(real, &ticks, 8), EAGAIN);
    int boot = MUST(timerfd_create(CLOCK_BOOTTIME, 0));
    value = (struct itimerspec){{0, 0}, {0, 5 * MS}};
    CHECK_OK(timerfd_settime(boot, 0, &value, NULL));
    CHECK_EQ(read(boot, &ticks, 8), 8);
}

TEST(timers_and_fork) {
    hold(SIGRTMIN);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec left;
    CHECK_CHILD({ CHECK_ERR(timer_gettime(timer, &left), EINVAL); });
    struct rlimit none = {0, 0};
    // Timers use the queue of signals.
    CHECK_OK(setrlimit(RLIMIT_SIGPENDING, &none));
    CHECK_ERR(timer_create(CLOCK_MONOTONIC, &event, &timer), EAGAIN);
}

TEST(setting_the_time) {
    // As somebody who may not; nothing here may change the time.
    CHECK_CHILD({
        if (geteuid() == 0)
            MUST(setresuid(1000, 1000, 1000));
        struct timespec t = {1, 0}, bad = {0, SECOND};
        struct timeval day = {1, 0}, bad_day = {0, 1000000};
        CHECK_ERR(clock_settime(CLOCK_REALTIME, &t), EPERM);
        CHECK_ERR(clock_settime(CLOCK_REALTIME, &bad), EINVAL);
        CHECK_ERR(syscall(SYS_clock_settime, CLOCK_REALTIME, BAD), EFAULT);
        CHECK_ERR(clock_settime(CLOCK_MONOTONIC, &t), EINVAL);
        CHECK_ERR(clock_settime(CLOCK_BOOTTIME, &t), EINVAL);
        CHECK_ERR(clock_settime(CLOCK_TAI, &t), EINVAL);
        CHECK_ERR(clock_settime(CLOCK_MONOTONIC_RAW, &t), EINVAL);
        CHECK_ERR(settimeofday(&day, NULL), EPERM);
        CHECK_ERR(settimeofday(&bad_day, NULL), EINVAL);
        CHECK_ERR(syscall(SYS_settimeofday, BAD, NULL), EFAULT);
        struct timex state = {.modes = ADJ_TICK, .tick = 10000};
        CHECK_ERR(adjtimex(&state), EPERM);
        CHECK_ERR(clock_adjtime(CLOCK_MONOTONIC, &state), EOPNOTSUPP);
        CHECK_ERR(clock_adjtime(77, &state), EINVAL);
        CHECK_ERR(syscall(SYS_adjtimex, BAD), EFAULT);
    });
    struct timex state = {};
    long answer = CHECK_OK(adjtimex(&state));
    CHECK(answer >= TIME_OK && answer <= TIME_ERROR);
    CHECK_EQ(state.tick, 10000);
    CHECK_CMP(labs(state.time.tv_sec - time(NULL)), <=, 2);
}

TEST(accounts) {
    struct tms ticks;
    clock_t start = times(&ticks);
    CHECK(start != (clock_t)-1);
    CHECK_EQ(ticks.tms_cutime, 0);
    CHECK_OK(syscall(SYS_times, NULL));
    CHECK_ERR(syscall(SYS_times, BAD), EFAULT);
    struct rusage own, children, thread;
    burn(60 * MS);
    CHECK_OK(getrusage(RUSAGE_SELF, &own));
    CHECK_OK(getrusage(RUSAGE_THREAD, &thread));
    long long used = (own.ru_utime.tv_sec + own.ru_stime.tv_sec) * SECOND + (own.ru_utime.tv_usec + own.ru_stime.tv_usec) * 1000ll;
    CHECK_CMP(used, >=, 55 * MS);
    CHECK_CMP(own.ru_maxrss, >, 100);
    CHECK_CMP(own.ru_minflt, >, 0);
    // Of children only those that were waited for count.
    pid_t child = MUST(fork());
    if (!child) {
        burn(60 * MS);
        _exit(0);
    }
    siginfo_t info;
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &children));
    CHECK_EQ(children.ru_utime.tv_usec + children.ru_stime.tv_usec, 0);
    struct rusage waited;
    CHECK_EQ(wait4(child, NULL, 0, &waited), child);
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &children));
    CHECK_CMP(children.ru_utime.tv_usec + children.ru_stime.tv_usec, >=, 50000);
    CHECK_EQ(children.ru_utime.tv_usec, waited.ru_utime.tv_usec);
    CHECK_OK(times(&ticks));
    CHECK_CMP(ticks.tms_cutime + ticks.tms_cstime, >=, 4);
    CHECK_CMP(ticks.tms_utime + ticks.tms_stime, >=, 4);
    CHECK_ERR(getrusage(2, &own), EINVAL);
    CHECK_ERR(syscall(SYS_getrusage, RUSAGE_SELF, BAD), EFAULT);
    // Ignored children are not accounted for.
    signal(SIGCHLD, SIG_IGN);
    struct rusage before = children;
    if (!fork()) {
        burn(20 * MS);
        _exit(0);
    }
    while (wait(NULL) >= 0 || errno != ECHILD)
        ;
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &children));
    CHECK_EQ(children.ru_utime.tv_usec + children.ru_stime.tv_usec, before.ru_utime.tv_usec + before.ru_stime.tv_usec);
}

static void *spin(void *end) {
    while (now(CLOCK_THREAD_CPUTIME_ID) < *(long long *)end)
        ;
    return NULL;
}

TEST(limit_of_processor_time) {
    // SIGXCPU each second from the soft limit on, SIGKILL at the hard one.
    alarm(50);
    int status = IN_CHILD({
        struct rlimit limit = {1, 2};
        handle(SIGXCPU, 0);
        MUST(setrlimit(RLIMIT_CPU, &limit));
        long long end = 60 * SECOND;
        pthread_t thread;
        pthread_create(&thread, NULL, spin, &end);
        while (!count)
            ;
        // Linux counts the ticks that find the process running, so it may be early by the clock.
        CHECK_CMP(now(CLOCK_PROCESS_CPUTIME_ID), >=, 500 * MS);
        for (;;)
            ;
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
