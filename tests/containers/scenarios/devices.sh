# Devices.
. "$HELPERS/check.sh"

in_it -- sh -c '
    for device in null zero full random urandom tty; do test -c /dev/$device || exit 1; done
    test -e /dev/ptmx && test -d /dev/pts && test -d /dev/shm && test -L /dev/stdin && ! test -e /dev/kmsg
    echo gone >/dev/null && ! echo x 2>/dev/null >/dev/full
    test "$(head -c 8 /dev/zero | od -An -tx8 | tr -d " ")" = 0000000000000000'
is '1:3' in_it --device /dev/null:/dev/nothing -- sh -c 'stat -c %t:%T /dev/nothing && echo x >/dev/nothing'
is '1:5' in_it --device /dev/zero:/dev/nought:r -- sh -c 'stat -c %t:%T /dev/nought'
