// Pseudo-terminal pairs: numbers and locks, packet mode, hang-ups, window sizes, and what ties a terminal to a session.
#include "terminal.h"
#include <sys/sysmacros.h>

TEST(making) {
    int master = CHECK_OK(open("/dev/ptmx", O_RDWR | O_NOCTTY)), number = -1, locked = -1, zero = 0, one = 1;
    CHECK_OK(ioctl(master, TIOCGPTN, &number));
    CHECK(number >= 0);
    CHECK_OK(ioctl(master, TIOCGPTLCK, &locked));
    CHECK_EQ(locked, 1);
    char name[64];
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    CHECK_ERR(open(name, O_RDWR | O_NOCTTY), EIO);
    CHECK_ERR(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY), EIO);
    CHECK_OK(ioctl(master, TIOCSPTLCK, &zero));
    int slave = CHECK_OK(open(name, O_RDWR | O_NOCTTY));
    struct stat st;
    CHECK_OK(fstat(slave, &st));
    CHECK(S_ISCHR(st.st_mode) && major(st.st_rdev) == 136 && minor(st.st_rdev) == (unsigned)number);
    CHECK_EQ(st.st_uid, 0);
    CHECK_OK(fstat(master, &st));
    CHECK(major(st.st_rdev) == 5 && minor(st.st_rdev) == 2);
    unsigned device = 0;
    CHECK_OK(ioctl(slave, TIOCGDEV, &device));
    CHECK_EQ(device, (136U << 8) + (number & 0xff) + ((number & 0xfff00) << 12));
    CHECK_OK(ioctl(master, TIOCSPTLCK, &one));
    CHECK_ERR(open(name, O_RDWR | O_NOCTTY), EIO);
    CHECK_OK(ioctl(master, TIOCSPTLCK, &zero));
    int peer = CHECK_OK(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    CHECK_EQ(fcntl(peer, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(peer, F_GETFL) & O_NONBLOCK);
    char link[64] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", peer);
    CHECK(readlink(path, link, sizeof link - 1) > 0);
    CHECK_STR(link, name);
    // Only the master knows these.
    CHECK_ERR(ioctl(slave, TIOCGPTN, &number), ENOTTY);
    CHECK_ERR(ioctl(slave, TIOCSPTLCK, &zero), ENOTTY);
    CHECK_ERR(ioctl(slave, TIOCGPTPEER, O_RDWR), EIO);
    CHECK_ERR(ioctl(slave, TIOCPKT, &zero), ENOTTY);
    CHECK_ERR(ioctl(master, TIOCGPTN, BAD), EFAULT);
    CHECK_ERR(ioctl(master, 0x5499, 0), ENOTTY);
    CHECK_ERR(ioctl(slave, 0x5499, 0), ENOTTY);
    CHECK_ERR(lseek(slave, 0, SEEK_CUR), ESPIPE);
    CHECK(isatty(slave) && isatty(master));
    // The name goes with the master, the number is given out again.
    close(slave);
    close(peer);
    close(master);
    CHECK_ERR(open(name, O_RDWR | O_NOCTTY), ENOENT);
}

TEST(exclusive) {
    struct pair p = new_pair();
    int value = -1;
    CHECK_OK(ioctl(p.slave, TIOCGEXCL, &value));
    CHECK_EQ(value, 0);
    CHECK_OK(ioctl(p.slave, TIOCEXCL));
    CHECK_OK(ioctl(p.slave, TIOCGEXCL, &value));
    CHECK_EQ(value, 1);
    CHECK_OK(close(CHECK_OK(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY))));
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_ERR(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY), EBUSY);
    });
    CHECK_OK(ioctl(p.slave, TIOCNXCL));
}

// The packet there is; -1 for none, which is waited for no longer than things take to settle.
static int packet(struct pair p, int wanted) {
    unsigned char byte[64];
    settle(p);
    if (!(events(p.master, POLLIN, wanted < 0 ? 0 : 5000) & POLLIN))
        return -1;
    ssize_t n = read(p.master, byte, sizeof byte);
    return n == 1 ? byte[0] : n > 1 ? 1000 + byte[0] : -2;
}
#define CHECK_PACKET(wanted) CHECK_EQ(packet(p, wanted), wanted)

TEST(packets) {
    struct pair p = new_pair();
    int one = 1, zero = 0, value = -1;
    type(p, "\x13\x11");
    settle(p);
    CHECK_OK(ioctl(p.master, TIOCPKT, &one));
    CHECK_OK(ioctl(p.master, TIOCGPKT, &value));
    CHECK_EQ(value, 1);
    CHECK_PACKET(-1);
    CHECK_EQ(write(p.slave, "ab", 2), 2);
    shows(p, "\0ab");
    type(p, "\x13");
    CHECK_EQ(events(p.master, POLLIN | POLLPRI, 5000), POLLIN | POLLPRI);
    CHECK_PACKET(TIOCPKT_STOP);
    type(p, "\x11");
    CHECK_PACKET(TIOCPKT_START);
    // Of what happened between two looks the last counts.
    type(p, "\x13\x11");
    CHECK_PACKET(TIOCPKT_START);
    CHECK_OK(tcflush(p.slave, TCIFLUSH));
    CHECK_PACKET(TIOCPKT_FLUSHREAD);
    CHECK_OK(tcflush(p.slave, TCOFLUSH));
    CHECK_PACKET(TIOCPKT_FLUSHWRITE);
    CHECK_OK(tcflush(p.slave, TCIOFLUSH));
    CHECK_PACKET(TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
    struct termios t = modes(p.slave), first = t;
    t.c_iflag &= ~IXON;
    set_modes(p, &t);
    CHECK_PACKET(TIOCPKT_NOSTOP);
    set_modes(p, &first);
    CHECK_PACKET(TIOCPKT_DOSTOP);
    t = first;
    t.c_cc[VSTOP] = 1;
    set_modes(p, &t);
    CHECK_PACKET(TIOCPKT_NOSTOP);
    set_modes(p, &first);
    CHECK_PACKET(TIOCPKT_DOSTOP);
    t = first;
    t.c_lflag ^= ECHO;
    set_modes(p, &t);
    CHECK_PACKET(-1);
    t.c_lflag |= EXTPROC;
    set_modes(p, &t);
    CHECK_PACKET(TIOCPKT_IOCTL);
    // With processing outside, what is typed is taken as it is.
    type(p, "\x03\x7f\x13\r\n");
    CHECK_PACKET(-1);
    CHECK_WAITING(p, 5);
    set_modes(p, &first);
    CHECK_PACKET(TIOCPKT_IOCTL);
    CHECK_OK(ioctl(p.master, TIOCPKT, &zero));
    CHECK_EQ(write(p.slave, "x", 1), 1);
    shows(p, "x");
}

TEST(last_slave_closes) {
    struct pair p = new_pair();
    CHECK_EQ(write(p.slave, "bye", 3), 3);
    close(p.slave);
    settle(p);
    CHECK(events(p.master, POLLIN, 0) & POLLHUP);
    char text[8];
    CHECK_EQ(read(p.master, text, 8), 3);
    CHECK_ERR(read(p.master, text, 8), EIO);
    CHECK_EQ(events(p.master, POLLIN, 0), POLLHUP);
    // It can be opened again, and what was set stays.
    p.slave = CHECK_OK(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    CHECK_EQ(events(p.master, POLLIN, 0), 0);
    fcntl(p.master, F_SETFL, O_NONBLOCK);
    CHECK_ERR(read(p.master, text, 8), EAGAIN);
    // Before the first opening it is just quiet.
    int master = new_master();
    fcntl(master, F_SETFL, O_NONBLOCK);
    CHECK_ERR(read(master, text, 8), EAGAIN);
    CHECK_EQ(events(master, POLLIN, 0), 0);
}

TEST(master_closes) {
    struct pair p = new_pair();
    char text[8];
    type(p, "line\n");
    settle(p);
    int number = -1;
    CHECK_OK(ioctl(p.master, TIOCGPTN, &number));
    close(p.master);
    CHECK_EQ(read(p.slave, text, 8), 0);
    CHECK_ERR(write(p.slave, "x", 1), EIO);
    CHECK_EQ(events(p.slave, POLLIN | POLLOUT, 0), POLLIN | POLLOUT | POLLERR | POLLHUP);
    struct termios t;
    CHECK_ERR(tcgetattr(p.slave, &t), EIO);
    CHECK_ERR(ioctl(p.slave, TIOCSPGRP, &number), ENOTTY);
    CHECK_ERR(ioctl(p.slave, FIONREAD, &number), EIO);
}

TEST(hang_up_wakes) {
    struct pair p = new_pair();
    char text[8];
    pid_t pid = MUST(fork());
    if (pid == 0) {
        close(p.master);
        // The end, or an error, as the reader and the hang-up meet.
        ssize_t n = read(p.slave, text, 8);
        CHECK(n == 0 || (n == -1 && errno == EIO));
        _exit(0);
    }
    usleep(100000);
    close(p.master);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

TEST(hung_up_by_command) {
    struct pair p = new_pair();
    char text[8];
    int fresh = CHECK_OK(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_ERR(ioctl(p.slave, TIOCVHANGUP), EPERM);
    });
    CHECK_OK(ioctl(p.slave, TIOCVHANGUP));
    CHECK_EQ(read(p.slave, text, 8), 0);
    CHECK_EQ(read(fresh, text, 8), 0);
    CHECK_ERR(write(fresh, "x", 1), EIO);
    close(fresh);
    // Those opened since are not concerned.
    p.slave = CHECK_OK(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    type(p, "again\n");
    reads(p, 8, "again\n");
}

TEST(hung_up_by_itself) {
    struct pair p = new_pair();
    CHECK_CHILD({
        CHECK_CHILD({
            CHECK_OK(setresuid(1000, 1000, 1000));
            CHECK_ERR(vhangup(), EPERM);
        });
        CHECK_OK(setsid());
        // Without a terminal there is nothing to do.
        CHECK_OK(vhangup());
        CHECK_OK(ioctl(p.slave, TIOCSCTTY, 0));
        signal(SIGHUP, SIG_IGN);
        CHECK_OK(vhangup());
        CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
        CHECK_ERR(write(p.slave, "x", 1), EIO);
    });
}

static volatile int caught[65];
static void note(int signal) { caught[signal]++; }

TEST(window_sizes) {
    struct pair p = new_pair();
    struct winsize size = {1, 1, 1, 1};
    CHECK_OK(ioctl(p.slave, TIOCGWINSZ, &size));
    CHECK(size.ws_row == 0 && size.ws_col == 0 && size.ws_xpixel == 0 && size.ws_ypixel == 0);
    CHECK_CHILD({
        setsid();
        CHECK_OK(ioctl(p.slave, TIOCSCTTY, 0));
        signal(SIGWINCH, note);
        struct winsize new = {24, 80, 640, 480};
        CHECK_OK(ioctl(p.master, TIOCSWINSZ, &new));
        CHECK_EQ(caught[SIGWINCH], 1);
        CHECK_OK(ioctl(p.slave, TIOCGWINSZ, &size));
        CHECK(!memcmp(&size, &new, sizeof new));
        // The same again is no news.
        CHECK_OK(ioctl(p.slave, TIOCSWINSZ, &new));
        CHECK_EQ(caught[SIGWINCH], 1);
        new.ws_ypixel++;
        CHECK_OK(ioctl(p.slave, TIOCSWINSZ, &new));
        CHECK_EQ(caught[SIGWINCH], 2);
        CHECK_ERR(ioctl(p.slave, TIOCSWINSZ, BAD), EFAULT);
    });
}

static int own_terminal(void) {
    int fd = open("/dev/tty", O_RDWR);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 0 : errno;
}

TEST(becoming_controlling) {
    struct pair p = new_pair();
    int number, pgrp = -1;
    CHECK_OK(ioctl(p.master, TIOCGPTN, &number));
    char name[64];
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    // Not for who leads no session.
    CHECK_ERR(ioctl(p.slave, TIOCSCTTY, 0), EPERM);
    CHECK_ERR(ioctl(p.slave, TIOCGPGRP, &pgrp), ENOTTY);
    CHECK_ERR(ioctl(p.slave, TIOCGSID, &pgrp), ENOTTY);
    CHECK_ERR(ioctl(p.slave, TIOCNOTTY), ENOTTY);
    CHECK_OK(ioctl(p.master, TIOCGPGRP, &pgrp));
    CHECK_EQ(pgrp, 0);
    CHECK_ERR(ioctl(p.master, TIOCGSID, &pgrp), ENOTTY);
    CHECK_CHILD({
        setsid();
        CHECK_EQ(own_terminal(), ENXIO);
        close(CHECK_OK(open(name, O_RDWR | O_NOCTTY)));
        CHECK_EQ(own_terminal(), ENXIO);
        close(CHECK_OK(open(name, O_WRONLY)));
        CHECK_EQ(own_terminal(), ENXIO);
        close(CHECK_OK(open(name, O_RDWR)));
        CHECK_EQ(own_terminal(), 0);
        CHECK_OK(ioctl(p.slave, TIOCSCTTY, 0));
        CHECK_OK(ioctl(p.slave, TIOCGPGRP, &pgrp));
        CHECK_EQ(pgrp, getpid());
        CHECK_OK(ioctl(p.master, TIOCGSID, &pgrp));
        CHECK_EQ(pgrp, getpid());
        // One is enough.
        struct pair other = new_pair();
        CHECK_ERR(ioctl(other.slave, TIOCSCTTY, 0), EPERM);
        CHECK_CHILD({
            // Another session's it cannot become, unless it is stolen.
            setsid();
            CHECK_EQ(own_terminal(), ENXIO);
            CHECK_ERR(ioctl(p.slave, TIOCSCTTY, 0), EPERM);
            CHECK_OK(setresuid(-1, 1000, -1));
            CHECK_ERR(ioctl(p.slave, TIOCSCTTY, 1), EPERM);
            CHECK_OK(setresuid(-1, 0, -1));
            CHECK_OK(ioctl(p.slave, TIOCSCTTY, 1));
            CHECK_EQ(own_terminal(), 0);
        });
        CHECK_EQ(own_terminal(), ENXIO);
    });
    CHECK_CHILD({
        setsid();
        // The master stands for its slave here.
        CHECK_OK(ioctl(p.master, TIOCSCTTY, 0));
        CHECK_EQ(own_terminal(), 0);
        CHECK_OK(ioctl(p.slave, TIOCGSID, &pgrp));
    });
}

TEST(giving_up) {
    struct pair p = new_pair();
    CHECK_CHILD({
        setsid();
        signal(SIGHUP, note);
        signal(SIGCONT, note);
        CHECK_OK(ioctl(p.slave, TIOCSCTTY, 0));
        CHECK_CHILD({
            // A member alone leaves alone.
            CHECK_EQ(own_terminal(), 0);
            CHECK_OK(ioctl(p.slave, TIOCNOTTY));
            CHECK_EQ(own_terminal(), ENXIO);
            CHECK_EQ(caught[SIGHUP], 0);
        });
        CHECK_EQ(own_terminal(), 0);
        CHECK_CHILD({
            CHECK_ERR(ioctl(p.master, TIOCNOTTY), ENOTTY);
        });
        CHECK_OK(ioctl(p.slave, TIOCNOTTY));
        CHECK_EQ(caught[SIGHUP], 1);
        CHECK_EQ(caught[SIGCONT], 1);
        CHECK_EQ(own_terminal(), ENXIO);
        CHECK_ERR(ioctl(p.slave, TIOCNOTTY), ENOTTY);
    });
}

static void leader(struct pair p) {
    setsid();
    CHECK_OK(ioctl(p.slave, TIOCSCTTY, 0));
    for (int signal_number = 1; signal_number < 32; signal_number++)
        if (signal_number == SIGHUP || signal_number == SIGCONT || signal_number == SIGINT || signal_number == SIGTSTP ||
            signal_number == SIGQUIT || signal_number == SIGTTIN || signal_number == SIGTTOU)
            signal(signal_number, note);
}

// Signals of keys come as the keys do, a little later.
static int until_caught(int signal, int wanted) {
    for (int tries = 0; tries < 500 && caught[signal] < wanted; tries++)
        usleep(10000);
    return caught[signal];
}

TEST(keys_and_signals) {
    struct pair p = new_pair();
    CHECK_CHILD({
        leader(p);
        type(p, "half\x03");
        settle(p);
        shows(p, "^C");
        CHECK_EQ(until_caught(SIGINT, 1), 1);
        nothing_to_read(p);
        type(p, "\x1c\x1a");
        CHECK_EQ(until_caught(SIGQUIT, 1), 1);
        CHECK_EQ(until_caught(SIGTSTP, 1), 1);
        drain(p);
        struct termios t = modes(p.slave);
        t.c_lflag |= NOFLSH;
        set_modes(p, &t);
        type(p, "half\x03 line\n");
        shows(p, "half^C line\r\n");
        reads(p, 100, "half line\n");
        t.c_lflag &= ~ISIG;
        set_modes(p, &t);
        type(p, "\x03\n");
        reads(p, 100, "\x03\n");
        CHECK_EQ(caught[SIGINT], 2);
        CHECK_OK(ioctl(p.master, TIOCSIG, SIGINT));
        CHECK_EQ(caught[SIGINT], 3);
        CHECK_ERR(ioctl(p.master, TIOCSIG, SIGTERM), EINVAL);
        CHECK_ERR(ioctl(p.master, TIOCSIG, 0), EINVAL);
    });
}

TEST(foreground) {
    struct pair p = new_pair();
    CHECK_CHILD({
        leader(p);
        pid_t pid = MUST(fork());
        if (pid == 0) {
            signal(SIGINT, SIG_DFL);
            for (;;)
                pause();
        }
        CHECK_OK(setpgid(pid, pid));
        int pgrp = -5;
        CHECK_ERR(ioctl(p.slave, TIOCSPGRP, &pgrp), EINVAL);
        pgrp = 1 << 22;
        CHECK_ERR(ioctl(p.slave, TIOCSPGRP, &pgrp), ESRCH);
        pgrp = getpgid(getppid());
        CHECK_ERR(ioctl(p.slave, TIOCSPGRP, &pgrp), EPERM);
        CHECK_ERR(ioctl(p.slave, TIOCSPGRP, BAD), EFAULT);
        CHECK_OK(tcsetpgrp(p.slave, pid));
        CHECK_EQ(tcgetpgrp(p.slave), pid);
        until_asleep(pid);
        type(p, "\x03");
        int status;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
        CHECK_EQ(caught[SIGINT], 0);
        // The group is gone, and its number stays till another is set; a group in the background asks to in vain.
        signal(SIGTTOU, SIG_IGN);
        CHECK_OK(tcsetpgrp(p.slave, getpgrp()));
    });
}

TEST(background) {
    struct pair p = new_pair();
    CHECK_CHILD({
        leader(p);
        pid_t pid = MUST(fork());
        if (pid == 0) {
            setpgid(0, 0);
            char text[8];
            struct termios t = modes(p.slave);
            // Asking is free. A handler is run, and the call is over or made again as the handler asks.
            struct sigaction action = {.sa_handler = note};
            sigaction(SIGTTIN, &action, NULL);
            sigaction(SIGTTOU, &action, NULL);
            CHECK_ERR(read(p.slave, text, 8), EINTR);
            CHECK_EQ(caught[SIGTTIN], 1);
            CHECK_ERR(tcsetattr(p.slave, TCSANOW, &t), EINTR);
            CHECK_EQ(caught[SIGTTOU], 1);
            CHECK_ERR(tcsetpgrp(p.slave, getpgrp()), EINTR);
            CHECK_ERR(tcflush(p.slave, TCIFLUSH), EINTR);
            CHECK_ERR(tcflow(p.slave, TCOON), EINTR);
            CHECK_ERR(tcsendbreak(p.slave, 0), EINTR);
            CHECK_EQ(caught[SIGTTOU], 5);
            struct winsize size = {0};
            CHECK_OK(ioctl(p.slave, TIOCSWINSZ, &size));
            // Writing is allowed unless the terminal says otherwise.
            CHECK_EQ(write(p.slave, "x", 1), 1);
            signal(SIGTTOU, SIG_IGN);
            t.c_lflag |= TOSTOP;
            CHECK_OK(tcsetattr(p.slave, TCSANOW, &t));
            CHECK_EQ(write(p.slave, "y", 1), 1);
            sigaction(SIGTTOU, &action, NULL);
            CHECK_ERR(write(p.slave, "z", 1), EINTR);
            signal(SIGTTIN, SIG_IGN);
            CHECK_ERR(read(p.slave, text, 8), EIO);
            signal(SIGTTIN, SIG_DFL);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGTTIN);
            sigprocmask(SIG_BLOCK, &set, NULL);
            CHECK_ERR(read(p.slave, text, 8), EIO);
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            // Stopped, continued in the foreground, the read goes on.
            CHECK_EQ(read(p.slave, text, 8), 3);
            _exit(0);
        }
        int status;
        CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
        CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
        CHECK_OK(tcsetpgrp(p.slave, pid));
        type(p, "go\n");
        kill(pid, SIGCONT);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, 0);
        signal(SIGTTOU, SIG_IGN);
        CHECK_OK(tcsetpgrp(p.slave, getpgrp()));
    });
}

TEST(orphans_in_the_background) {
    // Nobody could continue them, so they do not stop.
    struct pair p = new_pair();
    int pipes[2];
    CHECK_OK(pipe(pipes));
    CHECK_CHILD({
        leader(p);
        if (fork() == 0) {
            setpgid(0, 0);
            if (fork() == 0) {
                signal(SIGTTIN, SIG_DFL);
                signal(SIGTTOU, SIG_DFL);
                pid_t parent = getppid();
                kill(parent, SIGKILL);
                while (getppid() == parent)
                    usleep(1000);
                char text[8];
                struct termios t = modes(p.slave);
                CHECK_ERR(read(p.slave, text, 8), EIO);
                CHECK_ERR(tcsetattr(p.slave, TCSANOW, &t), EIO);
                CHECK_ERR(tcsetpgrp(p.slave, getpgrp()), ENOTTY);
                write(pipes[1], "x", 1);
                _exit(0);
            }
            for (;;)
                pause();
        }
        char byte;
        CHECK_EQ(read(pipes[0], &byte, 1), 1);
    });
}

TEST(end_of_the_leader) {
    struct pair p = new_pair();
    int pipes[2];
    CHECK_OK(pipe(pipes));
    // What is in the foreground is hung up.
    CHECK_CHILD({
        leader(p);
        pid_t pid = MUST(fork());
        if (pid == 0) {
            while (!caught[SIGHUP])
                usleep(1000);
            CHECK_EQ(own_terminal(), ENXIO);
            write(pipes[1], "h", 1);
            _exit(0);
        }
        setpgid(pid, pid);
        CHECK_OK(tcsetpgrp(p.slave, pid));
    });
    char byte = 0;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    CHECK_EQ(byte, 'h');
    int pgrp = -1;
    CHECK_OK(ioctl(p.master, TIOCGPGRP, &pgrp));
    CHECK_EQ(pgrp, 0);
}

TEST(hang_up_of_a_session) {
    struct pair p = new_pair();
    int pipes[2];
    CHECK_OK(pipe(pipes));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        leader(p);
        close(p.master);
        pid_t child = MUST(fork());
        if (child == 0) {
            // Only the leader hears of it at first; the foreground when the leader ends.
            while (!caught[SIGHUP] || !caught[SIGCONT])
                usleep(1000);
            write(pipes[1], "f", 1);
            _exit(0);
        }
        setpgid(child, child);
        signal(SIGTTOU, SIG_IGN);
        CHECK_OK(tcsetpgrp(p.slave, child));
        write(pipes[1], "r", 1);
        while (!caught[SIGHUP] || !caught[SIGCONT])
            usleep(1000);
        CHECK_EQ(own_terminal(), ENXIO);
        usleep(50000);
        CHECK_EQ(waitpid(child, NULL, WNOHANG), 0);
        write(pipes[1], "l", 1);
        _exit(0);
    }
    char byte = 0;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    close(p.master);
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    CHECK_EQ(byte, 'l');
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    CHECK_EQ(byte, 'f');
    waitpid(pid, NULL, 0);
}
