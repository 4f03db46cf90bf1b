"""A plain asyncio server: keep-alive, no signal handling."""

import asyncio
import os
import socket
import sys


def version():
    try:
        return os.environ.get("VERSION") or open("VERSION").read().strip()
    except OSError:
        return "v1"


VERSION = version()


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/sleep/"):
                await asyncio.sleep(int(path[7:]) / 1000)
            body = f"{VERSION} {os.getpid()}\n".encode()
            closes = b"connection: close" in head.lower()
            extra = b"Connection: close\r\n" if closes else b""
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), extra, body))
            await writer.drain()
            if closes:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    port = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", "3000")
    if port == "fds":
        if int(os.environ.get("LISTEN_PID", "0")) != os.getpid():
            raise SystemExit("no sockets for me")
        server = await asyncio.start_server(serve, sock=socket.socket(fileno=3))
    elif port.startswith("/"):
        server = await asyncio.start_unix_server(serve, port)
    else:
        server = await asyncio.start_server(serve, os.environ.get("HOST", "0.0.0.0"), int(port))
    await server.serve_forever()


asyncio.run(main())
