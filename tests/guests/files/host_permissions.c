// The same on a directory of the host, written through.
// amber: -v .:/mnt -w /mnt -e NO_DEVICES=1
#include "permissions.c"
