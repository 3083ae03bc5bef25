# pause, unpause, stats, top, events, and restart policies.
. "$HELPERS/check.sh"

docker run --detach --name "$NAME" "$IMAGE" sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/tmp/new; mv /tmp/new /tmp/count; sleep 0.05; done'
count() { docker cp "$NAME:/tmp/count" - | tar --extract --to-stdout; }
soon docker exec "$NAME" test -s /tmp/count
docker pause "$NAME"
is paused docker inspect --format '{{.State.Status}}' "$NAME"
one=$(count); sleep 1
is "$one" count
docker unpause "$NAME"
sleep 0.7
[ "$(count)" -gt "$one" ] || fail "it does not go on"
docker stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}} {{.CPUPerc}}' "$NAME" | tee stats >&2
grep -qE "^$NAME [0-9.]+[KM]iB / [0-9.]+GiB [1-9][0-9]* [0-9.]+%" stats || fail "stats are not right"
like 'sh -c n=0' docker top "$NAME"
like '^USER.*COMMAND' docker top "$NAME" -eo user,pid,comm,args
docker restart --time 1 "$NAME"
soon docker exec "$NAME" test -s /tmp/count
docker run --detach --name "$NAME-again" --restart on-failure:2 "$IMAGE" sh -c 'echo ran; exit 1'
soon bash -c 'test "$(docker inspect --format "{{.RestartCount}} {{.State.Status}}" "$NAME-again")" = "2 exited"'
is 3 sh -c 'docker logs "$NAME-again" | grep -c ran'
