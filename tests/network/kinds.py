# Sockets of all kinds and ways to use them, at 10.77.0.1 with a neighbour at 10.77.0.2 (see harness/host_network.rs).
import ctypes, os, select, socket, struct, threading, time
# Numbers that not every release of Python names.
IP_RECVERR, IP_RECVTTL, SO_ATTACH_FILTER, ICMPV6_FILTER = 11, 12, 26, 1

def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
def echo(kind):
    head = struct.pack('!BBHHH', 8, 0, 0, 7, 1) + b'hello, all'
    packet = head[:2] + struct.pack('!H', checksum(head)) + head[4:]
    s = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP); s.settimeout(10)
    s.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    s.sendto(packet, ('10.77.0.2', 0))
    data, control, flags, peer = s.recvmsg(1500, 200)
    print(peer, len(data), data[-10:], [(level, name, list(value)) for level, name, value in control])
echo(socket.SOCK_RAW)
try: echo(socket.SOCK_DGRAM)
except PermissionError as error: print(error.errno)
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6); s.settimeout(10)
s.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, bytes([255] * 16 + [253] + [255] * 15))
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
s.sendto(struct.pack('!BBHHH', 128, 0, 0, 7, 1) + b'hello', ('fd77::2', 0))
data, control, flags, peer = s.recvmsg(1500, 200)
print(peer[0], data[0], data[-5:], control)
# errors that come with their packets
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
s.sendto(b'lost', ('10.77.0.2', 9))
p = select.poll(); p.register(s, 0); print(p.poll(5000)[0][1])
data, control, flags, peer = s.recvmsg(100, 500, socket.MSG_ERRQUEUE)
print(data, flags == socket.MSG_ERRQUEUE, peer, [(l, n, v[:8].hex()) for l, n, v in control])
# filter: drop everything
BPF = struct.pack('HBBI', 6, 0, 0, 0)
b = ctypes.create_string_buffer(BPF)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))
s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack('HxxxxxxQ', 1, ctypes.addressof(b)))
s.sendto(b'x', s.getsockname()); s.settimeout(0.2)
try: s.recv(1); print('came')
except TimeoutError: print('dropped')
# groups
r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); r.bind(('', 5353)); r.settimeout(5)
r.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('224.1.2.3') + socket.inet_aton('10.77.0.1'))
t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
t.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('10.77.0.1'))
t.sendto(b'group', ('224.1.2.3', 5353)); print(r.recv(10))
# sendfile and splice
l = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(l.getsockname()); a, _ = l.accept()
f = os.memfd_create('x'); os.write(f, bytes(300000)); 
got = []
def take():
    while d := a.recv(65536): got.append(len(d))
th = threading.Thread(target=take); th.start()
off = 0
while off < 300000: off += os.sendfile(c.fileno(), f, off, 300000 - off)
rp, wp = os.pipe(); os.write(wp, b'y' * 1000); os.splice(rp, c.fileno(), 1000)
c.sendmsg([b'a' * 10, b'b' * 100000, b'c']); os.writev(c.fileno(), [b'q' * 70000, b'r'])
c.shutdown(1); th.join(); print(sum(got))
# a timeout, and a lingering close
l.settimeout(None); l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 200000)); l.setblocking(True)
t0 = time.time()
try: l.accept()
except BlockingIOError: print('late', 0.15 < time.time() - t0 < 2)
c = socket.create_connection(l.getsockname()); a, _ = l.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()
try: print(a.recv(1))
except ConnectionResetError: print('reset')
c = socket.create_connection(l.getsockname()); a, _ = l.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 5)); c.sendall(b'z' * 10); t0 = time.time(); c.close(); print(time.time() - t0 < 2, a.recv(20))
