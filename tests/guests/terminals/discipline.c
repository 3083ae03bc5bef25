// The line discipline: what becomes of bytes between a terminal and the programs on it.
#include "terminal.h"
#include <sys/select.h>

TEST(defaults) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    CHECK_EQ(t.c_iflag, ICRNL | IXON);
    CHECK_EQ(t.c_oflag, OPOST | ONLCR);
    CHECK_EQ(t.c_lflag, ICANON | ECHO | ECHOE | ECHOK | ISIG | ECHOCTL | ECHOKE | IEXTEN);
    CHECK_EQ(t.c_cflag & (CSIZE | CREAD | HUPCL | PARENB), CS8 | CREAD);
    CHECK_EQ(cfgetospeed(&t), B38400);
    unsigned char keys[] = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0};
    CHECK(!memcmp(t.c_cc, keys, sizeof keys));
    // Both sides show the modes of the slave; bits that mean nothing here stay as they are.
    t.c_cflag = CS5 | PARENB;
    t.c_cc[VMIN] = 9;
    CHECK_OK(tcsetattr(p.master, TCSANOW, &t));
    struct termios now = modes(p.slave);
    CHECK_EQ(now.c_cflag & (CSIZE | PARENB | CREAD), CS8 | CREAD);
    CHECK_EQ(now.c_cc[VMIN], 9);
}

TEST(speeds) {
    struct pair p = new_pair();
    struct termios2 t;
    CHECK_OK(ioctl(p.slave, TCGETS2, &t));
    CHECK_EQ(t.c_ispeed, 38400);
    CHECK_EQ(t.c_ospeed, 38400);
    t.c_cflag = (t.c_cflag & ~CBAUD) | BOTHER;
    t.c_ispeed = t.c_ospeed = 12345;
    CHECK_OK(ioctl(p.slave, TCSETS2, &t));
    memset(&t, 0, sizeof t);
    CHECK_OK(ioctl(p.slave, TCGETS2, &t));
    CHECK_EQ(t.c_cflag & CBAUD, BOTHER);
    CHECK_EQ(t.c_ospeed, 12345);
    t.c_cflag = (t.c_cflag & ~CBAUD) | B9600;
    CHECK_OK(ioctl(p.slave, TCSETS2, &t));
    CHECK_OK(ioctl(p.slave, TCGETS2, &t));
    CHECK_EQ(t.c_ospeed, 9600);
    CHECK_ERR(ioctl(p.slave, TCGETS2, BAD), EFAULT);
    CHECK_ERR(ioctl(p.slave, TCSETS2, BAD), EFAULT);
}

TEST(lines) {
    struct pair p = new_pair();
    type(p, "ab");
    shows(p, "ab");
    nothing_to_read(p);
    type(p, "c\rsecond\nrest");
    shows(p, "c\r\nsecond\r\nrest");
    CHECK_WAITING(p, 11);
    reads(p, 2, "ab");
    reads(p, 100, "c\n");
    reads(p, 100, "second\n");
    nothing_to_read(p);
    type(p, "\x04");
    shows(p, "");
    reads(p, 100, "rest");
    type(p, "\x04");
    reads(p, 100, "");
    nothing_to_read(p);
    // An end of file behind a line that fills the buffer is taken along.
    type(p, "abc\x04");
    reads(p, 3, "abc");
    nothing_to_read(p);
    type(p, "abc\x04");
    reads(p, 2, "ab");
    reads(p, 2, "c");
    nothing_to_read(p);
    type(p, "x\x04\x04y\n");
    CHECK_WAITING(p, 3);
    reads(p, 100, "x");
    reads(p, 100, "");
    reads(p, 100, "y\n");
}

TEST(other_ends_of_lines) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    t.c_cc[VEOL] = ';';
    t.c_cc[VEOL2] = '|';
    set_modes(p, &t);
    type(p, "one;two|three\n");
    shows(p, "one;two|three\r\n");
    reads(p, 100, "one;");
    reads(p, 100, "two|");
    reads(p, 100, "three\n");
    t.c_lflag &= ~IEXTEN;
    set_modes(p, &t);
    type(p, "a|b;");
    reads(p, 100, "a|b;");
}

TEST(erasing) {
    struct pair p = new_pair();
    type(p, "abc\x7f");
    shows(p, "abc\b \b");
    type(p, "\x7f\x7f\x7f\x7f");
    shows(p, "\b \b\b \b");
    type(p, "a\x02\x7f");
    shows(p, "a^B\b \b\b \b");
    type(p, "\x7f");
    shows(p, "\b \b");
    type(p, "two words_1 \x17");
    shows(p, "two words_1 \b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \b");
    type(p, "\x17");
    shows(p, "\b \b\b \b\b \b\b \b");
    type(p, "gone\x15");
    shows(p, "gone\b \b\b \b\b \b\b \b");
    type(p, "kept\n");
    shows(p, "kept\r\n");
    reads(p, 100, "kept\n");
    // A finished line is out of reach.
    type(p, "one\n\x7f\x15two\n");
    reads(p, 100, "one\n");
    reads(p, 100, "two\n");
    drain(p);
    // Tabs are as wide as they came out.
    type(p, "ab\t\x7f");
    shows(p, "ab\t\b\b\b\b\b\b");
    type(p, "\x15");
    drain(p);
    type(p, "\t\t\x7f\x7f");
    shows(p, "\t\t\b\b\b\b\b\b\b\b\b\b\b\b\b\b\b\b");
    CHECK_EQ(write(p.slave, "12345> ", 7), 7);
    shows(p, "12345> ");
    type(p, "x\t\x7f");
    shows(p, "x\t\b\b\b\b\b\b\b\b");
}

TEST(erasing_in_other_ways) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave), first = t;
    t.c_lflag &= ~ECHOE;
    set_modes(p, &t);
    type(p, "ab\x7f");
    shows(p, "ab^?");
    type(p, "\x15");
    shows(p, "^U\r\n");
    t.c_lflag = first.c_lflag & ~ECHOKE;
    set_modes(p, &t);
    type(p, "ab\x15");
    shows(p, "ab^U\r\n");
    t.c_lflag = first.c_lflag & ~(ECHOKE | ECHOK);
    set_modes(p, &t);
    type(p, "ab\x15");
    shows(p, "ab^U");
    t.c_lflag = first.c_lflag | ECHOPRT;
    set_modes(p, &t);
    type(p, "abc\x7f\x7f");
    shows(p, "abc\\cb");
    type(p, "x");
    shows(p, "/x");
    type(p, "\x7f\x7f");
    shows(p, "\\xa/");
    type(p, "q\x7f\n");
    shows(p, "q\\q/\r\n");
    type(p, "qr\x7f\ns");
    shows(p, "qr\\r\r\n/s");
    reads(p, 100, "\n");
    reads(p, 100, "q\n");
    t.c_lflag = first.c_lflag & ~ECHO;
    set_modes(p, &t);
    type(p, "abc\x7f\x17xy\x15z\n");
    shows(p, "");
    reads(p, 100, "z\n");
    t.c_lflag |= ECHONL;
    set_modes(p, &t);
    type(p, "silent\n");
    shows(p, "\r\n");
    reads(p, 100, "silent\n");
    t = first;
    t.c_lflag &= ~ECHOCTL;
    set_modes(p, &t);
    type(p, "\x02\x7f");
    shows(p, "\x02");
    // Without these extensions the keys are plain characters.
    t = first;
    t.c_lflag &= ~IEXTEN;
    set_modes(p, &t);
    type(p, "a b\x17\x12\x16\n");
    shows(p, "a b^W^R^V\r\n");
    reads(p, 100, "a b\x17\x12\x16\n");
}

TEST(wide_characters) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    type(p, "\xc3\xa4\x7f");
    shows(p, "\xc3\xa4\b \b");
    type(p, "\x15");
    drain(p);
    t.c_iflag |= IUTF8;
    set_modes(p, &t);
    type(p, "a\xc3\xa4\xe2\x82\xac\x7f\x7f");
    shows(p, "a\xc3\xa4\xe2\x82\xac\b \b\b \b");
    type(p, "b\n");
    shows(p, "b\r\n");
    reads(p, 100, "ab\n");
    type(p, "x \xc3\xa4\xc3\xb6\x17y\n");
    reads(p, 100, "x y\n");
    drain(p);
    type(p, "\xc3\xa4\t\x7f");
    shows(p, "\xc3\xa4\t\b\b\b\b\b\b\b");
}

TEST(reprinting_and_quoting) {
    struct pair p = new_pair();
    type(p, "done\nab\x02");
    drain(p);
    type(p, "\x12");
    shows(p, "^R\r\nab^B");
    type(p, "\n");
    drain(p);
    reads(p, 100, "done\n");
    reads(p, 100, "ab\x02\n");
    type(p, "\x16");
    shows(p, "^\b");
    type(p, "\x03");
    shows(p, "^C");
    type(p, "\x16\n\x16\x7f\x16\x04\n");
    shows(p, "^\b^J^\b^?^\b^D\r\n");
    reads(p, 100, "\x03\n\x7f\x04\n");
    nothing_to_read(p);
    // A quoted carriage return stays one.
    type(p, "\x16\r\n");
    reads(p, 100, "\r\n");
}

TEST(translations_of_input) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave), first = t;
    t.c_iflag = INLCR;
    set_modes(p, &t);
    type(p, "a\nb\r\x04");
    reads(p, 100, "a\rb\r");
    t.c_iflag = IGNCR | ICRNL;
    set_modes(p, &t);
    type(p, "a\rb\n");
    reads(p, 100, "ab\n");
    t.c_iflag = ISTRIP;
    set_modes(p, &t);
    type(p, "\xe1\xe2\x8a");
    reads(p, 100, "ab\n");
    t.c_iflag = IUCLC | ICRNL;
    set_modes(p, &t);
    type(p, "MiXeD1\r");
    reads(p, 100, "mixed1\n");
    t.c_lflag &= ~IEXTEN;
    set_modes(p, &t);
    type(p, "MiXeD1\r");
    reads(p, 100, "MiXeD1\n");
    t = first;
    t.c_iflag |= PARMRK;
    set_modes(p, &t);
    type(p, "a\xff\n");
    reads(p, 100, "a\xff\xff\n");
}

TEST(output) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave), first = t;
    prints(p, "a\nb\r\tc", "a\r\nb\r\tc");
    t.c_oflag = OPOST;
    set_modes(p, &t);
    prints(p, "a\nb", "a\nb");
    t.c_oflag = OPOST | OCRNL;
    set_modes(p, &t);
    prints(p, "a\rb", "a\nb");
    t.c_oflag = OPOST | ONOCR | ONLCR;
    set_modes(p, &t);
    prints(p, "\n\rx\ry", "\r\nx\ry");
    t.c_oflag = OPOST | ONLRET | ONOCR;
    set_modes(p, &t);
    prints(p, "ab\n\rc", "ab\nc");
    t.c_oflag = OPOST | OLCUC;
    set_modes(p, &t);
    prints(p, "Mixed1\x02", "MIXED1\x02");
    t.c_oflag = OPOST | ONLCR | XTABS;
    set_modes(p, &t);
    prints(p, "\n\ta\tbc\b\b\td", "\r\n        a       bc\b\b        d");
    t.c_oflag = ONLCR | OLCUC | XTABS;
    set_modes(p, &t);
    prints(p, "a\n\tb", "a\n\tb");
    // Echo is output.
    set_modes(p, &first);
    type(p, "\n");
    shows(p, "\r\n");
    t = first;
    t.c_oflag = 0;
    set_modes(p, &t);
    type(p, "x\n");
    shows(p, "x\n");
}

TEST(raw_input) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    t.c_lflag = ECHO | ECHOCTL;
    t.c_iflag = 0;
    set_modes(p, &t);
    type(p, "a\x03\x7f\x04\x16");
    shows(p, "a^C^?^D^V");
    reads(p, 100, "a\x03\x7f\x04\x16");
    type(p, "\n\r");
    shows(p, "^J^M");
    t.c_iflag = ICRNL;
    set_modes(p, &t);
    type(p, "\r");
    shows(p, "\r\n");
    reads(p, 100, "\n\r\n");
    cfmakeraw(&t);
    set_modes(p, &t);
    unsigned char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = i;
    CHECK_EQ(write(p.master, all, 256), 256);
    unsigned char got[300];
    for (int have = 0; have < 256;) {
        ssize_t n = read(p.slave, got + have, sizeof got - have);
        CHECK(n > 0);
        have += n;
    }
    CHECK(!memcmp(got, all, 256));
    shows(p, "");
}

TEST(between_modes) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave), lines = t;
    cfmakeraw(&t);
    // Half a line can be read once lines do not matter.
    type(p, "half");
    settle(p);
    nothing_to_read(p);
    set_modes(p, &t);
    CHECK_WAITING(p, 4);
    reads(p, 100, "half");
    // And what is there when they begin to matter is one.
    type(p, "ab");
    CHECK_WAITING(p, 2);
    set_modes(p, &lines);
    reads(p, 100, "ab");
    type(p, "cd\n");
    reads(p, 100, "cd\n");
    type(p, "x\x04");
    CHECK_COMES(p);
    set_modes(p, &t);
    reads(p, 100, "x\0");
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

// Types bytes after pauses of so many milliseconds each.
static pid_t typist(struct pair p, const char *text, int pause) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        for (; *text; text++) {
            usleep(pause * 1000);
            write(p.master, text, 1);
        }
        _exit(0);
    }
    return pid;
}

static struct pair raw_pair(int minimum, int time) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    cfmakeraw(&t);
    t.c_cc[VMIN] = minimum;
    t.c_cc[VTIME] = time;
    set_modes(p, &t);
    return p;
}

TEST(minimum_alone) {
    struct pair p = raw_pair(3, 0);
    char got[10];
    pid_t pid = typist(p, "abc", 30);
    CHECK_EQ(read(p.slave, got, 10), 3);
    waitpid(pid, NULL, 0);
    type(p, "d");
    CHECK_WAITING(p, 1);
    CHECK(!readable(p.slave));
    // Less is asked for than the minimum.
    CHECK_EQ(read(p.slave, got, 1), 1);
    type(p, "xy");
    CHECK_WAITING(p, 2);
    CHECK(!readable(p.slave));
    fcntl(p.slave, F_SETFL, O_NONBLOCK);
    CHECK_EQ(read(p.slave, got, 10), 2);
    CHECK_ERR(read(p.slave, got, 10), EAGAIN);
    type(p, "xyz");
    CHECK_COMES(p);
    CHECK_EQ(read(p.slave, got, 10), 3);
}

TEST(neither_minimum_nor_time) {
    struct pair p = raw_pair(0, 0);
    char got[10];
    CHECK_EQ(read(p.slave, got, 10), 0);
    CHECK(!readable(p.slave));
    type(p, "ab");
    CHECK_COMES(p);
    CHECK_EQ(read(p.slave, got, 10), 2);
    fcntl(p.slave, F_SETFL, O_NONBLOCK);
    CHECK_EQ(read(p.slave, got, 10), 0);
}

TEST(time_alone) {
    struct pair p = raw_pair(0, 8);
    char got[10];
    double start = seconds();
    CHECK_EQ(read(p.slave, got, 10), 0);
    CHECK(seconds() - start >= 0.75);
    for (int i = 0; i < 2; i++) {
        pid_t pid = typist(p, "a", 50);
        CHECK_EQ(read(p.slave, got, 10), 1);
        waitpid(pid, NULL, 0);
    }
    fcntl(p.slave, F_SETFL, O_NONBLOCK);
    CHECK_ERR(read(p.slave, got, 10), EAGAIN);
}

TEST(minimum_and_time) {
    struct pair p = raw_pair(4, 8);
    char got[10];
    // The clock runs from the first byte on, anew with each.
    double start = seconds();
    pid_t pid = typist(p, "ab", 100);
    CHECK_EQ(read(p.slave, got, 10), 2);
    double took = seconds() - start;
    CHECK(took >= 0.95 && took < 10);
    waitpid(pid, NULL, 0);
    pid = typist(p, "abcd", 50);
    CHECK_EQ(read(p.slave, got, 10), 4);
    waitpid(pid, NULL, 0);
    type(p, "e");
    CHECK_EQ(read(p.slave, got, 1), 1);
    type(p, "z");
    CHECK_COMES(p);
    start = seconds();
    CHECK_EQ(read(p.slave, got, 10), 1);
    CHECK(seconds() - start >= 0.75);
}

static void nothing(int signal) { (void)signal; }

TEST(interrupted_reads) {
    struct pair p = raw_pair(5, 0);
    char got[10];
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGUSR1, &action, NULL);
    for (int typed = 0; typed < 2; typed++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            // Once it waits, and what was typed has come.
            until_asleep(getppid());
            settle(p);
            kill(getppid(), SIGUSR1);
            _exit(0);
        }
        if (typed) {
            // What had come is not lost to the reader.
            type(p, "ab");
            CHECK_EQ(read(p.slave, got, 10), 2);
        } else {
            CHECK_ERR(read(p.slave, got, 10), EINTR);
        }
        waitpid(pid, NULL, 0);
    }
}

static void until_held(struct pair p) {
    for (int tries = 0; tries < 500 && writable(p.slave); tries++)
        usleep(10000);
}

TEST(flow_control) {
    struct pair p = new_pair();
    fcntl(p.slave, F_SETFL, O_NONBLOCK);
    type(p, "\x13");
    until_held(p);
    shows(p, "");
    CHECK_ERR(write(p.slave, "x", 1), EAGAIN);
    CHECK(!writable(p.slave));
    // Echo waits as well.
    type(p, "ab");
    shows(p, "");
    type(p, "\x11");
    shows(p, "ab");
    CHECK(writable(p.slave));
    CHECK_EQ(write(p.slave, "x", 1), 1);
    shows(p, "x");
    struct termios t = modes(p.slave), first = t;
    t.c_iflag |= IXANY;
    set_modes(p, &t);
    type(p, "\x13");
    until_held(p);
    CHECK_ERR(write(p.slave, "x", 1), EAGAIN);
    type(p, "c");
    shows(p, "c");
    CHECK_EQ(write(p.slave, "y", 1), 1);
    shows(p, "y");
    // Switching it off lets go.
    set_modes(p, &first);
    type(p, "\x13");
    until_held(p);
    CHECK_ERR(write(p.slave, "x", 1), EAGAIN);
    t = first;
    t.c_iflag &= ~IXON;
    set_modes(p, &t);
    CHECK_EQ(write(p.slave, "z", 1), 1);
    shows(p, "z");
    type(p, "\x13\x11");
    shows(p, "^S^Q");
}

TEST(flow_of_the_program) {
    struct pair p = new_pair();
    fcntl(p.slave, F_SETFL, O_NONBLOCK);
    CHECK_OK(tcflow(p.slave, TCOOFF));
    CHECK_ERR(write(p.slave, "x", 1), EAGAIN);
    // The keys do not undo what the program did.
    type(p, "\x11");
    settle(p);
    CHECK_ERR(write(p.slave, "x", 1), EAGAIN);
    CHECK_OK(tcflow(p.slave, TCOON));
    CHECK_EQ(write(p.slave, "x", 1), 1);
    shows(p, "x");
    CHECK_OK(tcflow(p.slave, TCIOFF));
    shows(p, "\x13");
    CHECK_OK(tcflow(p.slave, TCION));
    shows(p, "\x11");
    CHECK_ERR(tcflow(p.slave, 4), EINVAL);
    CHECK_ERR(ioctl(p.slave, TCXONC, -1), EINVAL);
}

TEST(flushing) {
    struct pair p = new_pair();
    type(p, "line\nhalf");
    shows(p, "line\r\nhalf");
    CHECK_OK(tcflush(p.slave, TCIFLUSH));
    nothing_to_read(p);
    type(p, "new\n");
    reads(p, 100, "new\n");
    drain(p);
    struct termios t = modes(p.slave);
    type(p, "old\n");
    CHECK_COMES(p);
    settle(p);
    CHECK_OK(tcsetattr(p.slave, TCSAFLUSH, &t));
    nothing_to_read(p);
    CHECK_ERR(tcflush(p.slave, 3), EINVAL);
    // From the other side it is the other direction.
    drain(p);
    CHECK_EQ(write(p.slave, "printed", 7), 7);
    settle(p);
    type(p, "typed\n");
    CHECK_COMES(p);
    settle(p);
    CHECK_OK(tcflush(p.master, TCIFLUSH));
    shows(p, "");
    reads(p, 100, "typed\n");
    CHECK_OK(tcdrain(p.slave));
    CHECK_OK(tcsendbreak(p.slave, 0));
    int count = -1;
    CHECK_OK(ioctl(p.slave, TIOCOUTQ, &count));
    CHECK_EQ(count, 0);
}

TEST(long_lines) {
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    t.c_lflag &= ~ECHO;
    set_modes(p, &t);
    // A line longer than there is room for keeps its beginning, and can be ended.
    char text[5001], got[6000];
    memset(text, 'a', 5000);
    for (int i = 0; i < 5000; i += 1000) {
        CHECK_EQ(write(p.master, text, 1000), 1000);
        settle(p);
    }
    nothing_to_read(p);
    type(p, "\n");
    CHECK_EQ(read(p.slave, got, sizeof got), 4096);
    CHECK_EQ(got[4095], '\n');
    CHECK_EQ(got[4094], 'a');
}

TEST(many_lines) {
    // Whole lines are never lost: they wait.
    struct pair p = new_pair();
    struct termios t = modes(p.slave);
    t.c_lflag &= ~ECHO;
    set_modes(p, &t);
    enum { LINES = 3000 };
    pid_t pid = MUST(fork());
    if (pid == 0) {
        for (int i = 0; i < LINES; i++) {
            char line[32];
            int length = snprintf(line, sizeof line, "line number %d\n", i);
            for (int done = 0; done < length;) {
                ssize_t n = write(p.master, line + done, length - done);
                if (n <= 0)
                    _exit(1);
                done += n;
            }
        }
        _exit(0);
    }
    usleep(100000);
    int good = 0;
    for (int i = 0; i < LINES; i++) {
        char line[64] = "", wanted[32];
        ssize_t n = read(p.slave, line, sizeof line - 1);
        int length = snprintf(wanted, sizeof wanted, "line number %d\n", i);
        good += n == length && !memcmp(line, wanted, length);
    }
    CHECK_EQ(good, LINES);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

TEST(injected_keys) {
    struct pair p = new_pair();
    if (ioctl(p.slave, TIOCSTI, "a") == -1) {
        CHECK(errno == EIO);
        SKIP("keys cannot be injected here");
    }
    CHECK_OK(ioctl(p.slave, TIOCSTI, "b"));
    CHECK_OK(ioctl(p.slave, TIOCSTI, "\n"));
    shows(p, "ab\r\n");
    reads(p, 100, "ab\n");
    CHECK_ERR(ioctl(p.slave, TIOCSTI, BAD), EFAULT);
    CHECK_CHILD({
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK(ioctl(p.slave, TIOCSTI, "b") == -1 && (errno == EIO || errno == EPERM));
    });
}

TEST(disciplines) {
    struct pair p = new_pair();
    int number = -1;
    CHECK_OK(ioctl(p.slave, TIOCGETD, &number));
    CHECK_EQ(number, 0);
    CHECK_OK(ioctl(p.slave, TIOCSETD, &number));
    number = 99;
    CHECK_ERR(ioctl(p.slave, TIOCSETD, &number), EINVAL);
    number = -1;
    CHECK_ERR(ioctl(p.slave, TIOCSETD, &number), EINVAL);
    CHECK_ERR(ioctl(p.slave, TIOCGETD, BAD), EFAULT);
}
