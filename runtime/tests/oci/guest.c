/* What runs in the containers of these tests: the first argument says what it does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void on_term(int signal) {
    _exit(40 + signal);
}

static void on_resize(int signal) {
    struct winsize size;
    char line[64];
    (void)signal;
    ioctl(0, TIOCGWINSZ, &size);
    int length = snprintf(line, sizeof line, "size %dx%d\n", size.ws_row, size.ws_col);
    write(1, line, length);
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "exit"))
        return atoi(arguments[2]);
    if (!strcmp(what, "serve")) {
        signal(SIGTERM, on_term);
        signal(SIGUSR1, on_term);
        puts("ready");
        for (;;)
            pause();
    }
    if (!strcmp(what, "stubborn")) {
        signal(SIGTERM, SIG_IGN);
        puts("ready");
        for (;;)
            pause();
    }
    if (!strcmp(what, "copy")) {
        char buffer[512];
        ssize_t length;
        while ((length = read(0, buffer, sizeof buffer)) > 0)
            write(1, buffer, length);
        return 3;
    }
    if (!strcmp(what, "terminal")) {
        char line[128];
        signal(SIGWINCH, on_resize);
        printf("terminal %d %d %d\n", isatty(0), isatty(1), isatty(2));
        on_resize(0);
        while (fgets(line, sizeof line, stdin) == NULL)
            clearerr(stdin);
        printf("got %s", line);
        return 5;
    }
    if (!strcmp(what, "show")) {
        char directory[256];
        printf("uid %d gid %d cwd %s X=%s\n", getuid(), getgid(), getcwd(directory, sizeof directory), getenv("X"));
        return 0;
    }
    return 99;
}
