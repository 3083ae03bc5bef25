# logs, stop with TERM and then KILL, and signals.
. "$HELPERS/check.sh"

docker run --detach --name "$NAME" "$IMAGE" sh -c 'trap "echo bye; exit 5" TERM; trap "echo again" USR1 HUP; echo out; echo err >&2; while :; do sleep 0.1; done'
soon bash -c 'docker logs "$NAME" 2>/dev/null | grep -q out'
is out docker logs "$NAME" 2>/dev/null
docker kill --signal USR1 "$NAME"
soon bash -c 'docker logs "$NAME" 2>/dev/null | grep -q again'
docker kill --signal HUP "$NAME"
soon bash -c 'test "$(docker logs "$NAME" 2>/dev/null | grep -c again)" = 2'
docker stop --time 20 "$NAME"
is 5 docker inspect --format '{{.State.ExitCode}}' "$NAME"
like 'bye' docker logs --tail 1 "$NAME"
is err sh -c 'docker logs "$NAME" 2>&1 >/dev/null'
docker run --detach --name "$NAME-stubborn" "$IMAGE" sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
soon bash -c 'docker logs "$NAME-stubborn" | grep -q up'
SECONDS=0
docker stop --time 2 "$NAME-stubborn"
[ $SECONDS -ge 2 ] && [ $SECONDS -lt 15 ] || fail "stopping took $SECONDS s"
is 137 docker inspect --format '{{.State.ExitCode}}' "$NAME-stubborn"
docker run --detach --name "$NAME-int" --stop-signal INT "$IMAGE" python3 -c '
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(8))
print("up", flush=True)
while True: time.sleep(1)'
soon bash -c 'docker logs "$NAME-int" | grep -q up'
docker stop --time 20 "$NAME-int"
is 8 docker inspect --format '{{.State.ExitCode}}' "$NAME-int"
# Much output comes whole.
docker run --name "$NAME-much" "$IMAGE" seq 1 50000 >/dev/null
is "$(seq 1 50000 | cksum)" sh -c 'docker logs "$NAME-much" | cksum'
