"""mmap, signals, select, files, locks, sockets with descriptors, terminals."""
import array, ctypes, fcntl, mmap, os, pty, resource, select, signal, socket, stat, struct, tempfile, time

with tempfile.TemporaryFile() as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 8192) as memory:
        memory[4090:4100] = b"0123456789"
        memory.flush()
        print(os.pread(file.fileno(), 10, 4090), memory.find(b"789"))
        memory.resize(16384)
        print(len(memory), os.fstat(file.fileno()).st_size)
shared = mmap.mmap(-1, 4096)
if (pid := os.fork()) == 0:
    shared[:5] = b"child"; os._exit(0)
os.waitpid(pid, 0)
print(shared[:5])

seen = []
for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 3):
    signal.signal(number, lambda number, frame: seen.append(int(number)))
os.kill(os.getpid(), signal.SIGUSR1)
# Again and again: the first may come before the pause.
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05); signal.pause(); signal.setitimer(signal.ITIMER_REAL, 0)
signal.raise_signal(signal.SIGRTMIN + 3)
print(list(dict.fromkeys(seen)), signal.getitimer(signal.ITIMER_REAL))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.kill(os.getpid(), signal.SIGUSR2)
print(signal.sigpending(), signal.sigwait([signal.SIGUSR2]).name)

r, w = os.pipe()
poller = select.poll(); poller.register(r, select.POLLIN)
print(poller.poll(10)); os.write(w, b"x"); print(len(poller.poll(1000)))
with select.epoll() as ep:
    ep.register(r, select.EPOLLIN | select.EPOLLET)
    print(len(ep.poll(1)), len(ep.poll(0)))
print([len(part) for part in select.select([r], [w], [], 1)])

with open("locked", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    with open("locked") as other:
        try: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error: print("flock", error.errno)
    fcntl.lockf(file, fcntl.LOCK_EX)

a, b = socket.socketpair()
socket.send_fds(a, [b"fd"], [r])
data, fds, _, _ = socket.recv_fds(b, 10, 1)
print(data, os.fstat(fds[0]).st_ino == os.fstat(r).st_ino)
print(struct.unpack("3i", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == os.getpid())

master, slave = pty.openpty()
os.write(master, b"typed\n")
print(os.read(slave, 100), os.read(master, 100), os.isatty(slave), os.ttyname(slave).startswith("/dev/pts/"))
out = []
def reader(fd):
    data = os.read(fd, 1000); out.append(data); return data
if (status := pty.spawn(["sh", "-c", "tty | cut -c1-9; exit 4"], reader, lambda fd: b"")) >= 0:
    print(os.waitstatus_to_exitcode(status), b"".join(out))

os.makedirs("d/e"); os.symlink("e", "d/l")
print(sorted(entry.name for entry in os.scandir("d")), stat.filemode(os.lstat("d/l").st_mode))
print([len(names) for _, names, _ in os.walk("d")])
os.utime("d", ns=(1, 2_000_000_003)); print(os.stat("d").st_mtime_ns)
fd = os.open("d", os.O_DIRECTORY); print(sorted(os.listdir(fd)), os.stat("e", dir_fd=fd).st_mode)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 64, os.cpu_count() >= 1, os.sysconf("SC_PAGESIZE"))
print(len(os.urandom(32)), time.monotonic() < time.monotonic() + 1, os.sched_getaffinity(0) != set())
fd = os.memfd_create("m"); os.write(fd, b"mem"); print(os.pread(fd, 3, 0))
libc = ctypes.CDLL(None, use_errno=True); print(libc.getppid() == os.getppid())
print(os.get_terminal_size(slave).columns, os.uname().sysname)
