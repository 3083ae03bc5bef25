/* Names in directories, and attributes. */

static void list_slowly(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    check(fd >= 0, "open");
    while (syscall(SYS_getdents64, fd, buffer, 100) > 0)
        ;
    close(fd);
}

static void names(long n) {
    for (long i = 0; i < n; i++)
        make_file(numbered(i));
    list_slowly(".");
    for (long i = 0; i < n; i++)
        check(unlink(numbered(i)) == 0, "unlink");
}

static void host_names(long n) {
    char place[] = "/var/tmp/slopes.XXXXXX";
    check(mkdtemp(place) && chdir(place) == 0, "mkdtemp");
    names(n);
    check(rmdir(place) == 0, "rmdir");
}

static void absent_names(long n) {
    for (long i = 0; i < n; i++)
        check(access(numbered(i), F_OK) < 0, "access");
}

static void deep_directories(long n) {
    for (long i = 0; i < n; i++)
        check(mkdir("d", 0700) == 0 && chdir("d") == 0, "mkdir");
    for (long i = 0; i < n; i++)
        check(chdir("..") == 0 && rmdir("d") == 0, "rmdir");
}

static void hard_links(long n) {
    make_file("file");
    for (long i = 0; i < n; i++)
        check(link("file", numbered(i)) == 0, "link");
    for (long i = 0; i < n; i++)
        check(unlink(numbered(i)) == 0, "unlink");
}

static void attributes(long n) {
    make_file("file");
    for (long i = 0; i < n; i++) {
        snprintf(name, sizeof name, "user.%ld", i);
        check(setxattr("file", name, "x", 1, 0) == 0, "setxattr");
    }
}
