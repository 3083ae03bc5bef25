# What a netlink socket in groups is told, by each way of waiting, until the interface "late" is gone.
import select, socket, struct, sys

NEWLINK, DELLINK = 16, 17
SOL_NETLINK, ADD_MEMBERSHIP, DROP_MEMBERSHIP, PKTINFO = 270, 1, 2, 3
LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS = 1, 5, 7, 9

s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 1 << LINK - 1 | 1 << IPV4_ADDRESS - 1))
s.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, IPV4_ROUTE)
s.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, IPV6_ADDRESS)
s.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, IPV6_ADDRESS)
s.setsockopt(SOL_NETLINK, PKTINFO, 1)
print('ready', s.getsockname()[1], flush=True)
poll, epoll = select.poll(), select.epoll()
poll.register(s, select.POLLIN)
epoll.register(s, select.EPOLLIN | select.EPOLLET)
# Not in any group: it is told nothing.
deaf = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
deaf.bind((0, 0))

seen, number = set(), 0
while True:
    number += 1
    if number % 3 == 0:
        poll.poll()
    elif number % 3 == 1:
        while not select.select([s], [], [], 0)[0]:
            epoll.poll()
    data, control, flags, (port, groups) = s.recvmsg(65536, 100)
    length, kind, _, sequence, _ = struct.unpack('=IHHII', data[:16])
    beside = [(level, name, struct.unpack('=I', value)[0]) for level, name, value in control]
    seen.add((kind, port, groups, tuple(beside), length == len(data)))
    if kind == DELLINK and b'late\0' in data:
        break
for line in sorted(seen):
    print(*line)
print(select.select([deaf], [], [], 0)[0])
# Answers are of no group, and come from the kernel as well.
s.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, LINK)
s.send(struct.pack('=IHHIIBBHiII', 32, 18, 1, 1, 0, 0, 0, 0, 1, 0, 0))
while True:
    data, control, flags, source = s.recvmsg(65536, 100)
    if struct.unpack('=IHHII', data[:16])[1] == NEWLINK and source[1] == 0:
        break
print(source, control[0][:2], s.getsockname()[1])
