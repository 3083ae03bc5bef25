// link: dynamic
// cflags: -lm
// args: one two
// stdout: dynamic one two 1.41421
#include <math.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 3)
        return 1;
    volatile double two = 2;
    printf("dynamic %s %s %.5f\n", argv[1], argv[2], sqrt(two));
    return 0;
}
