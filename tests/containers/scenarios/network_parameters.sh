# Parameters of the network are set in the container's own; inside they are read-only but for the privileged.
. "$HELPERS/check.sh"

is '1 2' in_it --sysctl net.ipv4.ip_forward=1 --sysctl net.ipv4.conf.default.rp_filter=2 -- sh -c \
    'echo $(cat /proc/sys/net/ipv4/conf/eth0/forwarding /proc/sys/net/ipv4/conf/default/rp_filter)'
is '1234 1235' in_it --sysctl 'net.ipv4.ip_local_port_range=1234 1235' --sysctl net.ipv4.ip_unprivileged_port_start=0 -- \
    python3 -c 'import socket
s, t = socket.socket(), socket.socket(); s.bind(("", 0)); t.bind(("", 0)); print(*sorted((s.getsockname()[1], t.getsockname()[1])))'
like 'Read-only file system' in_it -- sh -c '(echo 99 >/proc/sys/net/ipv4/ip_default_ttl) 2>&1; true'
is 99 in_it --privileged -- sh -c 'echo 99 >/proc/sys/net/ipv4/ip_default_ttl; cat /proc/sys/net/ipv4/ip_default_ttl'
