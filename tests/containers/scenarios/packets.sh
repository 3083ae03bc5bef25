# Packet sockets see the container's own network, and nothing else.
. "$HELPERS/check.sh"

probe='import errno, socket
try: s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)); s.bind(("eth0", 0x0806)); print(s.getsockname()[0])
except OSError as error: print(errno.errorcode[error.errno])'
is eth0 in_it -- python3 -c "$probe"
is EPERM in_it --cap-drop NET_RAW -- python3 -c "$probe"
is EPERM in_it --user 1000 -- python3 -c "$probe"
is ENODEV in_it --network none -- python3 -c "$probe"
# A question and its answer: who has the gateway's address?
is answered in_it -- python3 -c 'import socket, struct
address = open("/sys/class/net/eth0/address").read()
own = bytes.fromhex(address.strip().replace(":", ""))
gateway = next(line.split()[2] for line in open("/proc/net/route") if line.split()[1] == "00000000")
target = struct.pack("<I", int(gateway, 16))
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); probe.connect((socket.inet_ntoa(target), 9))
source = socket.inet_aton(probe.getsockname()[0])
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0806)); s.bind(("eth0", 0x0806)); s.settimeout(10)
s.sendto(struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, source, bytes(6), target), ("eth0", 0x0806, 0, 0, b"\xff" * 6))
while True:
    data, sender = s.recvfrom(100)
    if data[6:8] == b"\0\2" and data[14:18] == target: print("answered"); break'
