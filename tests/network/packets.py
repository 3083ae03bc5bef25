# Packet sockets: what comes by, what is sent, and what is refused. The neighbour has the address 02:00:00:77:00:02.
import ctypes, errno, os, select, socket, struct

ALL, ARP, IPV4 = 0x0003, 0x0806, 0x0800
SOL_PACKET, ADD_MEMBERSHIP, DROP_MEMBERSHIP, STATISTICS, AUXDATA = 263, 1, 2, 6, 8
ATTACH_FILTER, DETACH_FILTER = 26, 27
PROMISCUOUS, MULTICAST = 1, 0
index = socket.if_nametoindex('inside')
own, neighbour, everybody = b'\2\0\0\x77\0\1', b'\2\0\0\x77\0\2', b'\xff' * 6
question = struct.pack('!HHBBH6s4s6s4s', 1, IPV4, 6, 4, 1, own, b'\x0a\x4d\0\1', bytes(6), b'\x0a\x4d\0\2')


def refused(what, call):
    try:
        print(what, call())
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def packet_socket(kind=socket.SOCK_RAW, protocol=ARP, interface='inside'):
    s = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    if interface:
        s.bind((interface, protocol))
    s.settimeout(10)
    return s


def answer(s):
    while True:
        data, control, flags, sender = s.recvmsg(2000, 200)
        if sender[2] != 4:
            return data, control, flags, sender


# Whole frames, and frames without their headers.
raw, cooked = packet_socket(), packet_socket(socket.SOCK_DGRAM)
print(raw.getsockname(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW).getsockname())
membership = struct.pack('=iHH8s', index, PROMISCUOUS, 0, b'')
raw.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, membership)
group = struct.pack('=iHH8s', index, MULTICAST, 6, b'\1\0\x5e\1\2\3')
raw.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, group)
raw.setsockopt(SOL_PACKET, DROP_MEMBERSHIP, group)
refused('drop twice', lambda: raw.setsockopt(SOL_PACKET, DROP_MEMBERSHIP, group))
raw.setsockopt(SOL_PACKET, AUXDATA, 1)
print('auxdata', raw.getsockopt(SOL_PACKET, AUXDATA))
print(raw.send(everybody + own + struct.pack('!H', ARP) + question))
data, control, flags, sender = answer(raw)
print(data[:42].hex(), flags, sender)
level, kind, auxdata = control[0]
print(level, kind, struct.unpack('=IIIHHHH', auxdata)[1:5])
data, _, _, sender = answer(cooked)
print(data[:28].hex(), sender)
print(cooked.sendto(question, ('inside', ARP, 0, 0, everybody)))
data, _, flags, _ = answer(cooked)
print(len(data), flags)
# Cut to the buffer, and as long as it was.
raw.send(everybody + own + struct.pack('!H', ARP) + question)
data, flags = raw.recv(10), 0
raw.send(everybody + own + struct.pack('!H', ARP) + question)
print(len(data), raw.recvmsg(10, 0, socket.MSG_TRUNC)[2] & socket.MSG_TRUNC)

# All packets of all interfaces, those that go out as well; by epoll.
every = packet_socket(protocol=ALL, interface=None)
epoll = select.epoll()
epoll.register(every, select.EPOLLIN)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.sendto(b'over the loopback', ('127.0.0.1', 9))
while True:
    epoll.poll()
    data, sender = every.recvfrom(2000)
    if b'over the loopback' in data and sender[1] == IPV4 and data[23] == 17:
        print(sender[0], sender[2:], len(data))
        break

# A filter lets through what it likes; the statistics count, and begin anew.
few = packet_socket()
drop_all = ctypes.create_string_buffer(struct.pack('=HBBI', 6, 0, 0, 0))
program = struct.pack('@HP', 1, ctypes.addressof(drop_all))
few.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)
few.getsockopt(SOL_PACKET, STATISTICS, 8)
raw.send(everybody + own + struct.pack('!H', ARP) + question)
while select.select([few], [], [], 0.3)[0]:
    few.recv(2000)
print('filtered', struct.unpack('=II', few.getsockopt(SOL_PACKET, STATISTICS, 8)))
few.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
raw.send(everybody + own + struct.pack('!H', ARP) + question)
answer(few)
print('statistics', struct.unpack('=II', few.getsockopt(SOL_PACKET, STATISTICS, 8))[0] > 0)
print('again', struct.unpack('=II', few.getsockopt(SOL_PACKET, STATISTICS, 8)))

refused('nowhere', lambda: packet_socket(interface='nothing'))
refused('connect', lambda: raw.connect(('inside', ARP)))
refused('listen', lambda: raw.listen(1))
refused('accept', lambda: raw.accept())
refused('shutdown', lambda: raw.shutdown(2))
refused('peer', lambda: raw.getpeername())
refused('stream', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_STREAM))
refused('short', lambda: raw.send(b'short'))
refused('long', lambda: raw.send(bytes(2000)))
refused('unbound', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).send(bytes(60)))
refused('option', lambda: raw.setsockopt(SOL_PACKET, 99, 1))
refused('unknown', lambda: raw.getsockopt(SOL_PACKET, 99))
refused('member', lambda: raw.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, b'x'))
lines = [line.split()[2:7] + line.split()[8:] for line in open('/proc/net/packet').read().splitlines()[1:]]
print([line[:4] for line in lines if line[-1] == str(os.fstat(raw.fileno()).st_ino)])
os.setuid(1000)
refused('unprivileged', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
refused('unprivileged', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_STREAM))
