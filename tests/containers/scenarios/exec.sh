# docker exec.
. "$HELPERS/check.sh"

docker run --detach --name "$NAME" --env OUTER=yes --workdir /var --hostname box "$IMAGE" sh -c 'echo main >/tmp/mark; exec sleep 1000'
soon docker exec "$NAME" test -f /tmp/mark
is main docker exec "$NAME" cat /tmp/mark
is 'yes /var box' docker exec "$NAME" sh -c 'echo $OUTER $PWD $(hostname)'
is /tmp docker exec --workdir /tmp "$NAME" pwd
is added docker exec --env MORE=added "$NAME" sh -c 'echo $MORE'
is '33:33' docker exec --user www-data "$NAME" sh -c 'echo $(id -u):$(id -g)'
status 6 docker exec "$NAME" sh -c 'exit 6'
status 137 docker exec "$NAME" sh -c 'kill -KILL $$'
status 126 docker exec "$NAME" /etc/passwd
status 126 docker exec "$NAME" /no/such/program || status 127 docker exec "$NAME" /no/such/program
is 'through' sh -c 'echo through | docker exec -i "$NAME" cat'
is 'err' sh -c 'docker exec "$NAME" sh -c "echo out; echo err >&2" 2>&1 >/dev/null'
docker exec --detach "$NAME" sh -c 'sleep 0.3; echo later >/tmp/later; exec sleep 777'
soon docker exec "$NAME" test -f /tmp/later
like 'sleep 777' docker top "$NAME"
is 1 docker exec "$NAME" sh -c 'pgrep -cfx "sleep 1000"'
# runc must give all capabilities there are, which not every host has.
# The container's rules for system calls, which know nothing of it, go on forbidding mounts.
admin='sed -n "s/CapEff:.//p" /proc/self/status | { read -r all; echo $((0x$all >> 21 & 1)); }'
is 0 docker exec "$NAME" sh -c "$admin"
[ "$RUNTIME_NAME" = runc ] || is 1 docker exec --privileged "$NAME" sh -c "$admin"
for n in $(seq 5); do docker exec "$NAME" sh -c "echo $n; sleep 0.2" & done | sort | tr -d '\n' >all
wait
is 12345 cat all
# Those exec'ed end with the first process.
docker exec --detach "$NAME" sleep 888
docker exec "$NAME" sh -c 'kill -KILL 1; sleep 0.1' || true
docker kill "$NAME" >/dev/null
is 137 docker wait "$NAME"
status 1 docker exec "$NAME" true
