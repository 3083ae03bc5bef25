// status: 42
#include <stdlib.h>

int main(void) { exit(0x4242a & 0xff); }
