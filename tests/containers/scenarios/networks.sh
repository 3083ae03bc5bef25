# Networks: none, host, another container's, the resolver of a user-defined one.
. "$HELPERS/check.sh"

is 'lo:' in_it --network none -- sh -c "ip -o link | cut -d' ' -f2"
status 0 in_it --network none -- sh -c 'ip -o addr show lo | grep -q "inet 127.0.0.1/8"'
python3 -m http.server 8099 --bind 127.0.0.1 --directory . >/dev/null 2>&1 &
cleanup=("kill $!" 'docker rm --force "$NAME" "$NAME-other"' 'docker network rm "$NAME"')
echo page >page
soon curl --silent --fail http://127.0.0.1:8099/page
is page in_it --network host -- curl --silent http://127.0.0.1:8099/page
status 7 in_it -- curl --silent http://127.0.0.1:8099/page
is "$(hostname)" in_it --network host -- hostname
docker network create --subnet 10.77.0.0/24 "$NAME" >&2
docker run --detach --name "$NAME" --network "$NAME" --ip 10.77.0.9 "$IMAGE" python3 -m http.server 80
like 'nameserver 127.0.0.11' docker exec "$NAME" cat /etc/resolv.conf
is 10.77.0.9 docker exec "$NAME" sh -c "getent hosts $NAME | cut -d' ' -f1"
like 'inet 10.77.0.9/24' docker exec "$NAME" ip -o -4 addr show eth0
like 'default via 10.77.0.1 dev eth0' docker exec "$NAME" ip route
like "ether $(docker inspect --format "{{(index .NetworkSettings.Networks \"$NAME\").MacAddress}}" "$NAME")" docker exec "$NAME" ip link show eth0
like 'eth0:' docker exec "$NAME" cat /proc/net/dev
status 0 in_it --network "$NAME" -- curl --silent --fail --output /dev/null "http://$NAME/etc/passwd"
# Another container's network is the same one.
is 200 in_it --network "container:$NAME" -- curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1/
is 10.77.0.9 in_it --network "container:$NAME" -- sh -c 'ip -o -4 addr show eth0 | sed "s,.*inet \([0-9.]*\)/.*,\1,"'
# UDP with a published port.
docker run --detach --name "$NAME-other" --publish 127.0.0.1:8098:7/udp "$IMAGE" python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7))
while True:
    data, peer = s.recvfrom(2000); s.sendto(data[::-1], peer)'
echoed() { python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.connect(("127.0.0.1", 8098)); s.send(b"olleh")
print(s.recv(100).decode())'; }
soon echoed
is hello echoed
# A container joins a network while it runs.
docker network connect "$NAME" "$NAME-other"
like 'eth1' docker exec "$NAME-other" ip -o link
is 200 docker exec "$NAME-other" curl --silent --output /dev/null --write-out '%{http_code}' "http://$NAME/"
