# redis-server, and redis-benchmark from another container, by name on a network of their own.
. "$HELPERS/check.sh"

docker network create "$NAME"
cleanup=('docker rm --force "$NAME-server"' 'docker network rm "$NAME"')
docker run --detach --name "$NAME-server" --network "$NAME" --network-alias cache "$IMAGE" \
    redis-server --protected-mode no --save '' --appendonly no
client=(docker run --rm --network "$NAME" "$IMAGE")
soon "${client[@]}" redis-cli -h "$NAME-server" ping
is PONG "${client[@]}" redis-cli -h cache ping
is OK "${client[@]}" redis-cli -h cache set greeting hello
is hello "${client[@]}" redis-cli -h cache get greeting
"${client[@]}" redis-benchmark -h "$NAME-server" -n 2000 -c 20 -t ping,set,get,lpush --csv | tee bench.csv >&2
[ "$(grep -c '^"' bench.csv)" -ge 5 ] || fail "the benchmark has too few rows"
"${client[@]}" redis-benchmark -h "$NAME-server" -n 2000 -P 16 -t set -d 4000 --csv >&2
# Where the world outside does not answer, the network's resolver lets its askers wait.
status 1 docker run --rm --network "$NAME" --dns-opt timeout:1 --dns-opt attempts:1 "$IMAGE" redis-cli -h nobody-of-this-name ping
