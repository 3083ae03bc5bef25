# cp, diff, commit, export.
. "$HELPERS/check.sh"

docker run --detach --name "$NAME" "$IMAGE" sh -c 'mkdir /made; echo in >/made/file; ln -s file /made/link; rm /etc/motd; exec sleep 1000'
soon docker exec "$NAME" test ! -e /etc/motd
docker cp "$NAME:/made" out
is in cat out/file
is file readlink out/link
echo from-host >given && chmod 640 given
docker cp given "$NAME:/made/given"
is 'from-host 640' docker exec "$NAME" sh -c 'echo $(cat /made/given) $(stat -c %a /made/given)'
like '^A /made/file' docker diff "$NAME"
like '^D /etc/motd' docker diff "$NAME"
cleanup=('docker rmi --force "$NAME:kept"')
docker commit --change 'CMD ["cat", "/made/file"]' "$NAME" "$NAME:kept" >&2
is in docker run --rm "$NAME:kept"
docker export "$NAME" | tar --list >list
grep -qx made/given list || fail "not exported"
