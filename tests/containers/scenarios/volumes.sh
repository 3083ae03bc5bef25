# Volumes, binds, memory file systems, a root that cannot be written, and shared memory.
. "$HELPERS/check.sh"

mkdir shared && echo from-host >shared/file && chmod 777 shared
in_it --volume "$PWD/shared:/mnt/shared" -- sh -c 'cat /mnt/shared/file && echo from-guest >/mnt/shared/answer && mv /mnt/shared/file /mnt/shared/moved'
is from-guest cat shared/answer
is from-host cat shared/moved
status 1 in_it --volume "$PWD/shared:/mnt:ro" -- sh -c 'touch /mnt/new 2>&1 | grep -q "Read-only" && exit 1; exit 0'
in_it --volume "$PWD/shared/moved:/etc/one-file:ro" -- grep from-host /etc/one-file
cleanup=('docker volume rm "$NAME"')
in_it --volume "$NAME:/var/lib/thing" -- sh -c 'echo kept >/var/lib/thing/file'
is kept in_it --volume "$NAME:/var/lib/thing" -- cat /var/lib/thing/file
# A new volume takes what the image has there.
in_it --mount type=volume,dst=/etc/nginx -- test -f /etc/nginx/nginx.conf
in_it --tmpfs /scratch:size=1m,mode=1770 -- sh -c '
    test "$(stat -f -c %T /scratch)" = tmpfs && test "$(stat -c %a /scratch)" = 1770
    head -c 900000 /dev/zero >/scratch/fits && ! head -c 900000 /dev/zero >/scratch/too-much'
in_it --read-only --tmpfs /tmp -- sh -c '
    touch /tmp/fine && ! touch /etc/not 2>/tmp/why && grep -q "Read-only file system" /tmp/why && ! mkdir /new'
in_it --shm-size 3m -- sh -c 'test "$(df --output=size /dev/shm | tail -n 1)" -eq 3072'
in_it -- sh -c 'test "$(df --output=size /dev/shm | tail -n 1)" -eq 65536'
# A file that both sides see change.
docker run --detach --name "$NAME" --volume "$PWD/shared:/mnt" "$IMAGE" sh -c 'while ! grep -q go /mnt/signal; do sleep 0.1; done; echo went >/mnt/reply'
echo go >shared/signal
is 0 timeout 20 docker wait "$NAME"
is went cat shared/reply
is 'tmpfs' in_it --mount type=tmpfs,dst=/app,tmpfs-size=1000000 -- stat -f -c %T /app
in_it --volumes-from "$NAME" -- test -f /mnt/reply
