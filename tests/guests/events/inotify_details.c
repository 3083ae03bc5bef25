// inotify(7) in detail: masks added and refused, one-shot watches, unlinked files, moves and their cookies, overflow,
// several watches of one inode, and the events of each kind of change.
#include "../check.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/xattr.h>

static int in;
static char buffer[65536];
static ssize_t have, at;

static void start(void) { in = MUST(inotify_init1(IN_NONBLOCK)); }

static struct inotify_event *next(void) {
    if (at >= have) {
        at = 0;
        have = read(in, buffer, sizeof buffer);
        if (have <= 0) {
            have = 0;
            return NULL;
        }
    }
    struct inotify_event *event = (void *)(buffer + at);
    at += sizeof *event + event->len;
    return event;
}

#define CHECK_EVENT(watch, events, text)                                                                              \
    ({                                                                                                                \
        struct inotify_event *check_event = next();                                                                   \
        if (CHECK_AT(check_event != NULL, "no event, not %#x %s", (unsigned)(events), #text)) {                       \
            CHECK_EQ(check_event->wd, watch);                                                                         \
            CHECK_EQ(check_event->mask, events);                                                                      \
            const char *check_text = text;                                                                            \
            if (check_text)                                                                                           \
                CHECK_STR(check_event->len ? check_event->name : "", check_text);                                     \
            else                                                                                                      \
                CHECK_EQ(check_event->len, 0);                                                                        \
        }                                                                                                             \
        check_event;                                                                                                  \
    })
#define CHECK_NO_EVENT()                                                                                              \
    do {                                                                                                              \
        struct inotify_event *check_event = next();                                                                   \
        CHECK_AT(check_event == NULL, "an event %#x %s", check_event ? check_event->mask : 0,                         \
                 check_event && check_event->len ? check_event->name : "");                                           \
    } while (0)

static void put(const char *path) { CHECK_OK(close(MUST(open(path, O_CREAT | O_WRONLY, 0644)))); }

TEST(masks) {
    start();
    put("f");
    int wd = CHECK_OK(inotify_add_watch(in, "f", IN_OPEN));
    // Again for the same inode: the same number, the new mask.
    CHECK_EQ(inotify_add_watch(in, "f", IN_ATTRIB), wd);
    CHECK_OK(close(open("f", O_RDONLY)));
    CHECK_NO_EVENT();
    CHECK_OK(chmod("f", 0600));
    CHECK_EVENT(wd, IN_ATTRIB, NULL);
    CHECK_EQ(inotify_add_watch(in, "f", IN_OPEN | IN_MASK_ADD), wd);
    CHECK_OK(close(open("f", O_RDONLY)));
    CHECK_OK(chmod("f", 0644));
    CHECK_EVENT(wd, IN_OPEN, NULL);
    CHECK_EVENT(wd, IN_ATTRIB, NULL);
    CHECK_ERR(inotify_add_watch(in, "f", IN_OPEN | IN_MASK_CREATE), EEXIST);
    CHECK_ERR(inotify_add_watch(in, "f", IN_OPEN | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
    CHECK_OK(link("f", "g"));
    CHECK_ERR(inotify_add_watch(in, "g", IN_OPEN | IN_MASK_CREATE), EEXIST);
    CHECK_EQ(inotify_add_watch(in, "g", IN_MODIFY), wd);
    CHECK_ERR(inotify_add_watch(in, "f", 0), EINVAL);
    CHECK_ERR(inotify_add_watch(in, "f", IN_ONLYDIR | IN_OPEN), ENOTDIR);
    CHECK_ERR(inotify_add_watch(in, "none", IN_OPEN), ENOENT);
    CHECK_ERR(inotify_add_watch(0, "f", IN_OPEN), EINVAL);
    CHECK_ERR(inotify_add_watch(-1, "f", IN_OPEN), EBADF);
    CHECK_ERR(inotify_rm_watch(in, wd + 100), EINVAL);
    CHECK_OK(symlink("f", "l"));
    int link = CHECK_OK(inotify_add_watch(in, "l", IN_ALL_EVENTS | IN_DONT_FOLLOW));
    CHECK(link != wd);
    CHECK_CHILD({
        CHECK_OK(chmod("f", 0));
        MUST(setresuid(1000, 1000, 1000));
        CHECK_ERR(inotify_add_watch(in, "f", IN_OPEN), EACCES);
    });
}

TEST(one_shot) {
    start();
    put("f");
    int wd = CHECK_OK(inotify_add_watch(in, "f", IN_OPEN | IN_ONESHOT));
    CHECK_OK(close(open("f", O_RDONLY)));
    CHECK_OK(close(open("f", O_RDONLY)));
    CHECK_EVENT(wd, IN_OPEN, NULL);
    CHECK_EVENT(wd, IN_IGNORED, NULL);
    CHECK_NO_EVENT();
    CHECK_ERR(inotify_rm_watch(in, wd), EINVAL);
    CHECK_CMP(CHECK_OK(inotify_add_watch(in, "f", IN_OPEN)), >, wd);
}

TEST(moves) {
    start();
    MUST(mkdir("a", 0755));
    MUST(mkdir("b", 0755));
    put("a/f");
    int a = CHECK_OK(inotify_add_watch(in, "a", IN_ALL_EVENTS & ~(IN_OPEN | IN_CLOSE)));
    int b = CHECK_OK(inotify_add_watch(in, "b", IN_ALL_EVENTS & ~(IN_OPEN | IN_CLOSE)));
    int f = CHECK_OK(inotify_add_watch(in, "a/f", IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB));
    CHECK_OK(rename("a/f", "b/g"));
    struct inotify_event *from = CHECK_EVENT(a, IN_MOVED_FROM, "f");
    unsigned cookie = from ? from->cookie : 0;
    CHECK(cookie != 0);
    struct inotify_event *to = CHECK_EVENT(b, IN_MOVED_TO, "g");
    CHECK_EQ(to ? to->cookie : 0, cookie);
    struct inotify_event *self = CHECK_EVENT(f, IN_MOVE_SELF, NULL);
    CHECK_EQ(self ? self->cookie : 1, 0);
    // A second move has another cookie; a directory says that it is one.
    MUST(mkdir("a/d", 0755));
    CHECK_EVENT(a, IN_CREATE | IN_ISDIR, "d");
    CHECK_OK(rename("a/d", "a/e"));
    from = CHECK_EVENT(a, IN_MOVED_FROM | IN_ISDIR, "d");
    CHECK(from && from->cookie != cookie);
    CHECK_EVENT(a, IN_MOVED_TO | IN_ISDIR, "e");
    // What is replaced is told to its own watch.
    put("a/h");
    int h = CHECK_OK(inotify_add_watch(in, "a/h", IN_DELETE_SELF | IN_ATTRIB));
    CHECK_EVENT(a, IN_CREATE, "h");
    CHECK_OK(rename("b/g", "a/h"));
    CHECK_EVENT(b, IN_MOVED_FROM, "g");
    CHECK_EVENT(a, IN_MOVED_TO, "h");
    CHECK_EVENT(h, IN_ATTRIB, NULL);
    CHECK_EVENT(f, IN_MOVE_SELF, NULL);
    CHECK_EVENT(h, IN_DELETE_SELF, NULL);
    CHECK_EVENT(h, IN_IGNORED, NULL);
    CHECK_NO_EVENT();
}

TEST(removal) {
    start();
    MUST(mkdir("d", 0755));
    put("d/f");
    int d = CHECK_OK(inotify_add_watch(in, "d", IN_ALL_EVENTS));
    int f = CHECK_OK(inotify_add_watch(in, "d/f", IN_ALL_EVENTS));
    int fd = MUST(open("d/f", O_RDWR));
    CHECK_EVENT(d, IN_OPEN, "f");
    CHECK_EVENT(f, IN_OPEN, NULL);
    CHECK_OK(unlink("d/f"));
    // The links changed; the file itself lives on while it is open.
    CHECK_EVENT(f, IN_ATTRIB, NULL);
    CHECK_EVENT(d, IN_DELETE, "f");
    CHECK_NO_EVENT();
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EVENT(d, IN_MODIFY, "f");
    CHECK_EVENT(f, IN_MODIFY, NULL);
    CHECK_OK(close(fd));
    CHECK_EVENT(d, IN_CLOSE_WRITE, "f");
    CHECK_EVENT(f, IN_CLOSE_WRITE, NULL);
    CHECK_EVENT(f, IN_DELETE_SELF, NULL);
    CHECK_EVENT(f, IN_IGNORED, NULL);
    CHECK_OK(rmdir("d"));
    CHECK_EVENT(d, IN_DELETE_SELF, NULL);
    CHECK_EVENT(d, IN_IGNORED, NULL);
    CHECK_NO_EVENT();
}

TEST(unlinked_children_excluded) {
    start();
    put("f");
    int d = CHECK_OK(inotify_add_watch(in, ".", IN_MODIFY | IN_CLOSE | IN_DELETE | IN_EXCL_UNLINK));
    int fd = MUST(open("f", O_RDWR));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EVENT(d, IN_MODIFY, "f");
    CHECK_OK(unlink("f"));
    CHECK_EVENT(d, IN_DELETE, "f");
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(close(fd));
    CHECK_NO_EVENT();
}

TEST(every_change) {
    start();
    put("f");
    int d = CHECK_OK(inotify_add_watch(in, ".", IN_ALL_EVENTS));
    int fd = MUST(open("f", O_RDWR));
    CHECK_EVENT(d, IN_OPEN, "f");
    CHECK_EQ(write(fd, "text", 4), 4);
    CHECK_EVENT(d, IN_MODIFY, "f");
    char bytes[4];
    CHECK_EQ(pread(fd, bytes, 4, 0), 4);
    CHECK_EVENT(d, IN_ACCESS, "f");
    CHECK_EQ(pread(fd, bytes, 4, 100), 0);
    CHECK_EQ(write(fd, "", 0), 0);
    CHECK_OK(ftruncate(fd, 2));
    CHECK_EVENT(d, IN_MODIFY, "f");
    CHECK_OK(truncate("f", 1));
    CHECK_EVENT(d, IN_MODIFY, "f");
    CHECK_OK(fallocate(fd, 0, 0, 10));
    CHECK_EVENT(d, IN_MODIFY, "f");
    CHECK_OK(fchmod(fd, 0600));
    CHECK_EVENT(d, IN_ATTRIB, "f");
    CHECK_OK(fchown(fd, 0, 0));
    CHECK_EVENT(d, IN_ATTRIB, "f");
    CHECK_OK(futimens(fd, NULL));
    CHECK_EVENT(d, IN_ATTRIB, "f");
    struct timespec times[2] = {{5, 0}, {0, UTIME_OMIT}};
    CHECK_OK(futimens(fd, times));
    struct inotify_event *event = next();
    CHECK(event && event->mask == IN_ACCESS);
    CHECK_OK(fsetxattr(fd, "user.a", "x", 1, 0));
    CHECK_EVENT(d, IN_ATTRIB, "f");
    CHECK_OK(fremovexattr(fd, "user.a"));
    CHECK_EVENT(d, IN_ATTRIB, "f");
    CHECK_OK(close(fd));
    CHECK_EVENT(d, IN_CLOSE_WRITE, "f");
    fd = MUST(open("f", O_RDONLY));
    CHECK_OK(close(fd));
    CHECK_EVENT(d, IN_OPEN, "f");
    CHECK_EVENT(d, IN_CLOSE_NOWRITE, "f");
    fd = MUST(open("f", O_WRONLY | O_TRUNC));
    CHECK_EVENT(d, IN_OPEN, "f");
    CHECK_EVENT(d, IN_MODIFY, "f");
    CHECK_OK(close(fd));
    CHECK_EVENT(d, IN_CLOSE_WRITE, "f");
    CHECK_OK(link("f", "g"));
    CHECK_EVENT(d, IN_CREATE, "g");
    CHECK_OK(symlink("f", "l"));
    CHECK_EVENT(d, IN_CREATE, "l");
    CHECK_OK(mkfifo("p", 0600));
    CHECK_EVENT(d, IN_CREATE, "p");
    CHECK_OK(unlink("p"));
    CHECK_EVENT(d, IN_DELETE, "p");
    MUST(mkdir("e", 0755));
    CHECK_EVENT(d, IN_CREATE | IN_ISDIR, "e");
    CHECK_OK(chmod("e", 0700));
    CHECK_EVENT(d, IN_ATTRIB | IN_ISDIR, "e");
    fd = MUST(open("e", O_RDONLY));
    CHECK_EVENT(d, IN_OPEN | IN_ISDIR, "e");
    CHECK_CMP(syscall(SYS_getdents64, fd, buffer + 32768, 1024), >, 0);
    CHECK_EVENT(d, IN_ACCESS | IN_ISDIR, "e");
    CHECK_OK(close(fd));
    CHECK_EVENT(d, IN_CLOSE_NOWRITE | IN_ISDIR, "e");
    CHECK_OK(rmdir("e"));
    CHECK_EVENT(d, IN_DELETE | IN_ISDIR, "e");
    CHECK_OK(chmod(".", 0755));
    CHECK_EVENT(d, IN_ATTRIB | IN_ISDIR, NULL);
    // A path descriptor opens nothing.
    CHECK_OK(close(MUST(open("f", O_PATH))));
    CHECK_NO_EVENT();
}

TEST(queue) {
    start();
    put("f");
    int wd = CHECK_OK(inotify_add_watch(in, "f", IN_ATTRIB | IN_OPEN));
    // Equal events that follow each other are one.
    for (int i = 0; i < 5; i++)
        CHECK_OK(chmod("f", 0600));
    int bytes;
    CHECK_OK(ioctl(in, FIONREAD, &bytes));
    CHECK_EQ(bytes, sizeof(struct inotify_event));
    struct pollfd one = {.fd = in, .events = POLLIN};
    CHECK_EQ(poll(&one, 1, 0), 1);
    CHECK_ERR(read(in, buffer, 8), EINVAL);
    CHECK_EVENT(wd, IN_ATTRIB, NULL);
    CHECK_NO_EVENT();
    CHECK_EQ(poll(&one, 1, 0), 0);
    CHECK_ERR(write(in, "x", 1), EBADF);
    // More than fs.inotify.max_queued_events: the rest is lost, and one event says so.
    char text[32] = "";
    int fd = open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY);
    CHECK_OK(fd);
    read(fd, text, sizeof text - 1);
    int most = atoi(text), seen = 0;
    CHECK_CMP(most, >=, 128);
    if (most > 100000)
        SKIP("a queue of %d events", most);
    for (int i = 0; i <= most / 2 + 10; i++) {
        chmod("f", 0600);
        close(open("f", O_RDONLY));
    }
    struct inotify_event *event, last = {0};
    while ((event = next()))
        last = *event, seen++;
    CHECK_EQ(last.mask, IN_Q_OVERFLOW);
    CHECK_EQ(last.wd, -1);
    CHECK_EQ(seen, most + 1);
}

TEST(unmounting) {
    MUST(mkdir("m", 0755));
    if (mount("none", "m", "tmpfs", 0, NULL))
        SKIP("no mounting here");
    put("m/f");
    start();
    int wd = CHECK_OK(inotify_add_watch(in, "m/f", IN_OPEN));
    CHECK_OK(umount("m"));
    CHECK_EVENT(wd, IN_UNMOUNT, NULL);
    CHECK_EVENT(wd, IN_IGNORED, NULL);
    CHECK_NO_EVENT();
}

TEST(copies_and_closing) {
    start();
    put("f");
    int wd = CHECK_OK(inotify_add_watch(in, "f", IN_OPEN));
    int copy = dup(in);
    CHECK_OK(close(in));
    in = copy;
    CHECK_OK(close(open("f", O_RDONLY)));
    CHECK_EVENT(wd, IN_OPEN, NULL);
    // A child shares the queue.
    CHECK_CHILD({ CHECK_OK(close(open("f", O_RDONLY))); });
    CHECK_EVENT(wd, IN_OPEN, NULL);
    CHECK_OK(inotify_rm_watch(in, wd));
    CHECK_EVENT(wd, IN_IGNORED, NULL);
    CHECK_OK(close(open("f", O_RDONLY)));
    CHECK_NO_EVENT();
}
