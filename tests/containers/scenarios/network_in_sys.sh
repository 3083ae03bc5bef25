# The interfaces as /sys shows them.
. "$HELPERS/check.sh"

is lo in_it --network none -- ls /sys/class/net
docker run --detach --name "$NAME" "$IMAGE" sleep 1000
mac=$(docker inspect --format '{{.NetworkSettings.MacAddress}}' "$NAME")
is "$mac" docker exec "$NAME" cat /sys/class/net/eth0/address
