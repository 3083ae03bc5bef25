# The interfaces as /sys shows them.
. "$HELPERS/check.sh"

is lo in_it --network none -- ls /sys/class/net
docker run --detach --name "$NAME" "$IMAGE" sleep 1000
mac=$(docker inspect --format '{{.NetworkSettings.MacAddress}}' "$NAME")
is "$mac" docker exec "$NAME" cat /sys/class/net/eth0/address
# One more network is one more interface, while it is connected.
network=$NAME-more
cleanup+=("docker rm --force $NAME" "docker network rm $network")
docker network create "$network" >/dev/null
docker network connect "$network" "$NAME"
is 'eth0 eth1 lo' docker exec "$NAME" sh -c 'echo $(ls /sys/class/net)'
is up docker exec "$NAME" cat /sys/class/net/eth1/operstate
docker network disconnect "$network" "$NAME"
is 'eth0 lo' docker exec "$NAME" sh -c 'echo $(ls /sys/class/net)'
