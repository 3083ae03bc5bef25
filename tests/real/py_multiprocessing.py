"""multiprocessing by fork and by spawn: pools, queues, locks, shared memory."""
import multiprocessing, os
from multiprocessing import shared_memory

def square(n):
    return n * n

def count(value, lock):
    for _ in range(500):
        with lock:
            value.value += 1

def put(q, n):
    q.put((n, os.getppid() == int(os.environ["PARENT"])))

def fill(name):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[:4] = b"done"
    memory.close()

def main(method):
    context = multiprocessing.get_context(method)
    with context.Pool(3) as pool:
        print(method, sum(pool.map(square, range(200), chunksize=7)))
        print(pool.apply_async(square, (12,)).get(30))
    value, lock = context.Value("i", 0), context.Lock()
    processes = [context.Process(target=count, args=(value, lock)) for _ in range(4)]
    for process in processes: process.start()
    for process in processes: process.join()
    print("count", value.value, [process.exitcode for process in processes])
    q = context.Queue()
    processes = [context.Process(target=put, args=(q, n)) for n in range(3)]
    for process in processes: process.start()
    print(sorted(q.get(timeout=30) for _ in processes))
    for process in processes: process.join()
    memory = shared_memory.SharedMemory(create=True, size=64)
    process = context.Process(target=fill, args=(memory.name,))
    process.start(); process.join()
    print(bytes(memory.buf[:4]))
    memory.close(); memory.unlink()
    left, right = context.Pipe()
    left.send({"a": [1, 2, 3]})
    print(right.recv())

if __name__ == "__main__":
    os.environ["PARENT"] = str(os.getpid())
    main("fork")
    main("spawn")
