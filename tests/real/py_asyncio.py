"""asyncio over unix and TCP sockets, subprocesses and signals."""
import asyncio, os, signal, socket

async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()

async def talk(reader, writer, name, lines):
    got = []
    for n in range(lines):
        writer.write(f"{name} {n}\n".encode())
        await writer.drain()
        got.append((await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()
    return got

async def main():
    server = await asyncio.start_unix_server(echo, "socket")
    answers = await asyncio.gather(*[talk(*await asyncio.open_unix_connection("socket"), f"u{n}", 20) for n in range(10)])
    print("unix", len(answers), answers[3][19])
    server.close()
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = await asyncio.start_server(echo, host, 0, family=family)
        port = server.sockets[0].getsockname()[1]
        answers = await asyncio.gather(*[talk(*await asyncio.open_connection(host, port), f"t{n}", 20) for n in range(10)])
        print("tcp", family.name, len(answers), answers[9][0])
        server.close()
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except ConnectionRefusedError:
        print("refused")
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(b"x" * 200000)
    print("cat", len(out), process.returncode)
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, event.set)
    loop.call_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(event.wait(), 10)
    print("signal")
    try:
        await asyncio.wait_for(asyncio.sleep(100), 0.1)
    except asyncio.TimeoutError:
        print("timeout")
    print("thread", await asyncio.to_thread(sum, range(1000)))

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport): self.transport = transport
        def datagram_received(self, data, address): self.transport.sendto(data[::-1], address)
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        await loop.sock_sendto(client, b"abc", transport.get_extra_info("sockname"))
        print((await loop.sock_recvfrom(client, 100))[0])
    transport.close()

asyncio.run(main())
