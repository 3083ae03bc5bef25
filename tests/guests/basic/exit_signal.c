// status: 137
// stdout: before
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

// SIGKILL, so that a program that is the first of its process namespace dies as well: its child does it for it.
int main(void) {
    puts("before");
    fflush(stdout);
    kill(getpid(), SIGKILL);
    return 128 + SIGKILL;
}
