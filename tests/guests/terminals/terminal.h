// A pseudo-terminal and what a test does with it: types at the master, reads at the slave, looks at the screen.
//
// On Linux keys reach the line discipline a little after they are written, so every look waits for what it expects.
#ifndef TERMINAL_H
#define TERMINAL_H
#include "../check.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#ifndef BOTHER
#define BOTHER 0010000
#endif
// The kernel's own structure, which alone has numbers for speeds.
struct termios2 {
    tcflag_t c_iflag, c_oflag, c_cflag, c_lflag;
    cc_t c_line, c_cc[19];
    speed_t c_ispeed, c_ospeed;
};

struct pair {
    int master, slave;
};

static int new_master(void) {
    int zero = 0, master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
    CHECK_OK(ioctl(master, TIOCSPTLCK, &zero));
    return master;
}

__attribute__((unused)) static struct pair new_pair(void) {
    int master = new_master();
    return (struct pair){master, MUST(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY))};
}

__attribute__((unused)) static struct termios modes(int fd) {
    struct termios t = {0};
    CHECK_OK(tcgetattr(fd, &t));
    return t;
}

__attribute__((unused)) static void set_modes(struct pair p, const struct termios *t) {
    CHECK_OK(tcsetattr(p.slave, TCSANOW, t));
}

static int events(int fd, int wanted, int timeout) {
    struct pollfd one = {.fd = fd, .events = wanted};
    int n;
    // A signal of the terminal may come late, and is not what is waited for here.
    while ((n = poll(&one, 1, timeout)) < 0 && errno == EINTR)
        ;
    CHECK_OK(n);
    return one.revents;
}

__attribute__((unused)) static int readable(int fd) { return !!(events(fd, POLLIN, 0) & POLLIN); }
__attribute__((unused)) static int writable(int fd) { return !!(events(fd, POLLOUT, 0) & POLLOUT); }

// Long enough for keys to have had their effect, signals included.
__attribute__((unused)) static void settle(struct pair p) {
    (void)p;
    struct timespec rest = {0, 200000000};
    while (nanosleep(&rest, &rest) && errno == EINTR)
        ;
}

// How many bytes there are to read, once there are as many as wanted.
__attribute__((unused)) static int waiting(int fd, int wanted) {
    int count = -1;
    for (int tries = 0; tries < 500 && count != wanted; tries++) {
        usleep(10000);
        CHECK_OK(ioctl(fd, FIONREAD, &count));
    }
    return count;
}

#define CHECK_WAITING(p, wanted) CHECK_EQ(waiting((p).slave, wanted), wanted)

// What was typed can be read now.
#define CHECK_COMES(p) CHECK(events((p).slave, POLLIN, 5000) & POLLIN)

__attribute__((unused)) static void type_bytes(struct pair p, const char *keys, size_t length, int line) {
    ssize_t n = write(p.master, keys, length);
    CHECK_AT(n == (ssize_t)length, "line %d: %zd of %zu keys typed", line, n, length);
}
#define type(p, keys) type_bytes(p, keys, sizeof keys - 1, __LINE__)

static const char *quoted(const char *bytes, size_t length, char *out) {
    char *at = out;
    for (size_t i = 0; i < length && at < out + 200; i++)
        at += sprintf(at, (unsigned char)bytes[i] < 32 || (unsigned char)bytes[i] > 126 ? "\\x%02x" : "%c", (unsigned char)bytes[i]);
    *at = 0;
    return out;
}

static void same(const char *what, const char *got, size_t have, const char *wanted, size_t length, int line) {
    char left[256], right[256];
    CHECK_AT(have == length && !memcmp(got, wanted, length), "line %d: %s \"%s\", not \"%s\"", line, what,
             quoted(got, have, left), quoted(wanted, length, right));
}

// Just these bytes are on the screen.
__attribute__((unused)) static void shows_bytes(struct pair p, const char *wanted, size_t length, int line) {
    char got[4096];
    size_t have = 0;
    while (have < sizeof got && events(p.master, POLLIN, have < length ? 5000 : 100) & POLLIN) {
        ssize_t n = read(p.master, got + have, sizeof got - have);
        if (n <= 0)
            break;
        have += n;
    }
    same("the screen shows", got, have, wanted, length, line);
}
#define shows(p, wanted) shows_bytes(p, wanted, sizeof wanted - 1, __LINE__)
// What a program prints looks like this.
#define prints(p, text, wanted)                                                                                       \
    do {                                                                                                              \
        CHECK_EQ(write((p).slave, text, sizeof text - 1), sizeof text - 1);                                           \
        shows(p, wanted);                                                                                             \
    } while (0)

// Forgets what is on the screen.
__attribute__((unused)) static void drain(struct pair p) {
    char got[4096];
    for (int wait = 1000; events(p.master, POLLIN, wait) & POLLIN && read(p.master, got, sizeof got) > 0; wait = 200)
        ;
}

// One read of at most `most` bytes gives just these.
__attribute__((unused)) static void reads_bytes(struct pair p, size_t most, const char *wanted, size_t length, int line) {
    char got[4096];
    int there = events(p.slave, POLLIN, 5000) & POLLIN;
    CHECK_AT(there, "line %d: nothing to read", line);
    ssize_t n = there ? read(p.slave, got, most) : 0;
    same("read gives", got, n < 0 ? 0 : n, wanted, length, line);
}
#define reads(p, most, wanted) reads_bytes(p, most, wanted, sizeof wanted - 1, __LINE__)
#define nothing_to_read(p) CHECK(!(events((p).slave, POLLIN, 200) & POLLIN))
#endif
