"""Threads, locks, queues, executors, subprocesses."""
import concurrent.futures, os, queue, subprocess, sys, threading, time

lock, total = threading.Lock(), 0

def add(count):
    global total
    for _ in range(count):
        with lock:
            total += 1

threads = [threading.Thread(target=add, args=(2000,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("total", total)

tasks, results = queue.Queue(), queue.Queue()
def worker():
    while (item := tasks.get()) is not None:
        results.put(item * item)
        tasks.task_done()
pool = [threading.Thread(target=worker) for _ in range(4)]
for thread in pool: thread.start()
for item in range(100): tasks.put(item)
tasks.join()
for _ in pool: tasks.put(None)
for thread in pool: thread.join()
print("squares", sum(results.get() for _ in range(100)))

with concurrent.futures.ThreadPoolExecutor(4) as executor:
    print("executor", list(executor.map(lambda n: n ** 3, range(10))))

event, barrier = threading.Event(), threading.Barrier(3)
def meet():
    barrier.wait(); event.wait(10)
meeting = [threading.Thread(target=meet) for _ in range(2)]
for thread in meeting: thread.start()
barrier.wait(); event.set()
for thread in meeting: thread.join()
print("met", event.wait(0), threading.Semaphore(1).acquire(timeout=0.1))

print(subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout.strip())
print(subprocess.run("cat; exit 9", shell=True, input=b"in" * 40000, capture_output=True).returncode)
process = subprocess.Popen([sys.executable, "-c", "import sys; print(sys.stdin.read().upper())"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(process.communicate("shout")[0].strip(), process.returncode)
process = subprocess.Popen(["sleep", "100"], start_new_session=True)
process.terminate()
print("terminated", process.wait())
try:
    subprocess.run(["sleep", "100"], timeout=0.2)
except subprocess.TimeoutExpired:
    print("timeout")
try:
    subprocess.run(["/no/such/program"])
except FileNotFoundError as error:
    print(error.errno)
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(w, b"from the child"); os._exit(11)
print(os.read(r, 100).decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
