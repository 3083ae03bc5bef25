// inotify.
#include "../check.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

static int fd;
static char buffer[8192];
static int filled, at;

static void fill(void) {
    filled = read(fd, buffer, sizeof buffer);
    at = 0;
}

// The next event must be this one.
static unsigned expect_at(int line, int wd, unsigned mask, const char *name) {
    if (at >= filled)
        fill();
    if (at >= filled) {
        CHECK_AT(0, "line %d: no event %#x", line, mask);
        return 0;
    }
    struct inotify_event *event = (void *)(buffer + at);
    at += sizeof *event + event->len;
    const char *got = event->len ? event->name : "";
    CHECK_AT(event->wd == wd && event->mask == mask && !strcmp(got, name), "line %d: wd %d mask %#x name '%s', not %d %#x '%s'",
             line, event->wd, event->mask, got, wd, mask, name);
    return event->cookie;
}
#define expect(...) expect_at(__LINE__, __VA_ARGS__)

static void nothing(void) {
    CHECK_EQ(at, filled);
    CHECK_ERR(read(fd, buffer, sizeof buffer), EAGAIN);
}

TEST(directory) {
    fd = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    CHECK_OK(mkdir("d", 0700));
    int wd = MUST(inotify_add_watch(fd, "d", IN_ALL_EVENTS));
    CHECK_EQ(wd, 1);
    int f = MUST(open("d/file", O_CREAT | O_RDWR, 0600));
    expect(wd, IN_CREATE, "file");
    expect(wd, IN_OPEN, "file");
    CHECK_EQ(write(f, "x", 1), 1);
    CHECK_EQ(write(f, "x", 1), 1);
    int bytes = 0;
    CHECK_OK(ioctl(fd, FIONREAD, &bytes));
    CHECK_EQ(bytes, 32);
    expect(wd, IN_MODIFY, "file");
    nothing();
    close(f);
    expect(wd, IN_CLOSE_WRITE, "file");
    CHECK_OK(chmod("d/file", 0644));
    expect(wd, IN_ATTRIB, "file");
    CHECK_OK(mkdir("d/sub", 0700));
    expect(wd, IN_CREATE | IN_ISDIR, "sub");
    CHECK_OK(rename("d/file", "d/other"));
    unsigned cookie = expect(wd, IN_MOVED_FROM, "file");
    CHECK_EQ(expect(wd, IN_MOVED_TO, "other"), cookie);
    CHECK(cookie);
    CHECK_OK(unlink("d/other"));
    expect(wd, IN_DELETE, "other");
    CHECK_OK(rmdir("d/sub"));
    expect(wd, IN_DELETE | IN_ISDIR, "sub");
    nothing();
    CHECK_OK(rmdir("d"));
    expect(wd, IN_DELETE_SELF, "");
    expect(wd, IN_IGNORED, "");
    nothing();
    CHECK_ERR(inotify_rm_watch(fd, wd), EINVAL);
}

TEST(one_file) {
    fd = MUST(inotify_init1(IN_NONBLOCK));
    close(MUST(open("f", O_CREAT | O_RDWR, 0600)));
    int wd = MUST(inotify_add_watch(fd, "f", IN_MODIFY));
    CHECK_EQ(inotify_add_watch(fd, "f", IN_ATTRIB | IN_MASK_ADD), wd);
    CHECK_ERR(inotify_add_watch(fd, "f", IN_ATTRIB | IN_MASK_CREATE), EEXIST);
    int f = MUST(open("f", O_RDWR));
    CHECK_EQ(write(f, "abc", 3), 3);
    expect(wd, IN_MODIFY, "");
    CHECK_OK(ftruncate(f, 1));
    expect(wd, IN_MODIFY, "");
    CHECK_OK(fchmod(f, 0640));
    expect(wd, IN_ATTRIB, "");
    CHECK_OK(link("f", "g"));
    expect(wd, IN_ATTRIB, "");
    CHECK_EQ(inotify_add_watch(fd, "g", IN_OPEN | IN_ONESHOT), wd);
    close(MUST(open("f", O_RDONLY)));
    expect(wd, IN_OPEN, "");
    expect(wd, IN_IGNORED, "");
    nothing();
    wd = MUST(inotify_add_watch(fd, "f", IN_ALL_EVENTS));
    CHECK_OK(inotify_rm_watch(fd, wd));
    expect(wd, IN_IGNORED, "");
    char small[8];
    close(MUST(open("f", O_RDONLY)));
    nothing();
    wd = MUST(inotify_add_watch(fd, "f", IN_OPEN));
    close(MUST(open("f", O_RDONLY)));
    CHECK_ERR(read(fd, small, 8), EINVAL);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 0), 1);
    expect(wd, IN_OPEN, "");
}

TEST(errors) {
    fd = MUST(inotify_init());
    CHECK_ERR(inotify_init1(1), EINVAL);
    CHECK_ERR(inotify_add_watch(fd, "none", IN_OPEN), ENOENT);
    CHECK_ERR(inotify_add_watch(fd, ".", 0), EINVAL);
    CHECK_ERR(inotify_add_watch(-1, ".", IN_OPEN), EBADF);
    CHECK_ERR(inotify_add_watch(0, ".", IN_OPEN), EINVAL);
    CHECK_ERR(inotify_add_watch(fd, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE), EINVAL);
    close(MUST(open("f", O_CREAT | O_RDWR, 0600)));
    CHECK_ERR(inotify_add_watch(fd, "f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
    CHECK_ERR(inotify_rm_watch(fd, 99), EINVAL);
    CHECK_ERR(inotify_rm_watch(0, 1), EINVAL);
}
