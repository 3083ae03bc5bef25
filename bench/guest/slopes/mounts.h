/* Mounts beside, on and through each other. */

static void alone_with_mounts(void) {
    check(unshare(CLONE_NEWNS) == 0, "unshare");
    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount");
    mkdir("mounts", 0700);
    check(mount("none", "mounts", "tmpfs", 0, NULL) == 0 && chdir("mounts") == 0, "mount");
}

/* Many mounts beside each other, copied for a namespace, listed and taken away. */
static void mounts(long n) {
    alone_with_mounts();
    mkdir("from", 0700);
    for (long i = 0; i < n; i++) {
        check(mkdir(numbered(i), 0700) == 0, "mkdir");
        check(mount("from", name, NULL, MS_BIND, NULL) == 0, "mount");
    }
    check(unshare(CLONE_NEWNS) == 0, "unshare");
    int fd = open("/proc/self/mountinfo", O_RDONLY);
    while (read(fd, buffer, PAGE) > 0)
        ;
    for (long i = 0; i < n; i++)
        check(umount2(numbered(i), 0) == 0, "umount");
}

/* Each mount on a directory of the one before. */
static void mounts_inside(long n) {
    alone_with_mounts();
    mkdir("from", 0700);
    mkdir("from/d", 0700);
    snprintf(buffer, sizeof buffer, "%s/from", getcwd(name, sizeof name));
    check(chdir("from") == 0, "chdir");
    for (long i = 0; i < n; i++)
        check(mount(buffer, "d", NULL, MS_BIND, NULL) == 0 && chdir("d") == 0, "mount");
    check(unshare(CLONE_NEWNS) == 0, "unshare");
}

/* Many file systems, while many names of another are known. */
static void file_systems(long n) {
    alone_with_mounts();
    mkdir("names", 0700);
    for (long i = 0; i < n; i++) {
        snprintf(name, sizeof name, "names/%ld", i);
        make_file(name);
    }
    for (long i = 0; i < n; i++)
        check(mkdir(numbered(i), 0700) == 0 && mount("none", name, "tmpfs", 0, NULL) == 0, "mount");
    for (long i = 0; i < n; i++)
        check(umount2(numbered(i), 0) == 0, "umount");
}

/* Many mounts that tell each other. */
static void mount_peers(long n) {
    alone_with_mounts();
    check(mount("none", ".", "tmpfs", 0, NULL) == 0 && chdir("../mounts") == 0, "mount");
    mkdir("to", 0700);
    check(mount("none", ".", NULL, MS_PRIVATE, NULL) == 0, "mount");
    mkdir("one", 0700);
    check(mount("none", "one", "tmpfs", 0, NULL) == 0, "mount");
    check(mount("none", "one", NULL, MS_SHARED, NULL) == 0, "mount");
    mkdir("one/below", 0700);
    for (long i = 0; i < n; i++) {
        check(mkdir(numbered(i), 0700) == 0, "mkdir");
        check(mount("one", name, NULL, MS_BIND, NULL) == 0, "mount");
    }
    check(mount("to", "one/below", NULL, MS_BIND, NULL) == 0, "mount");
    check(umount2("one/below", 0) == 0, "umount");
}
