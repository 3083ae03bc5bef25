#!/bin/bash
# The loopback as programs look at it.
ip -o addr show lo | awk '{print $2, $3, $4}'
ip -o link show lo | grep -o 'LOOPBACK,UP'
ip route show table local 2>/dev/null | awk '{print $1, $2, $3, $4}' | grep '^local 127'
getent hosts localhost | awk '{print $2}'
python3 - <<'END'
import socket
print(sorted({info[4][0] for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}))
print(socket.getaddrinfo("127.0.0.1", 80, proto=socket.IPPROTO_TCP)[0][4])
print(socket.if_nameindex())
END
cat /proc/net/dev | awk 'NR > 2 { print $1 }'
