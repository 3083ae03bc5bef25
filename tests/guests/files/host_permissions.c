// The same on a directory of the host, written through.
// amber: -v .:/mnt -w /mnt
#include "permissions.c"
