"""Plain asyncio: what echo.js does."""

import asyncio
import hashlib
import os
import sys

ME = os.urandom(8).hex()
HAD = 0


async def serve(reader, writer):
    global HAD
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get(b"content-length", 0)))
            _, _, ms, number = head[0].split(b" ")[1].decode().split("/")
            HAD += 1
            answer = f"{number} {hashlib.sha256(body).hexdigest()} {ME} {HAD}\n".encode()
            if ms != "0":
                await asyncio.sleep(int(ms) / 1000)
            closes = headers.get(b"connection") == b"close"
            extra = b"Connection: close\r\n" if closes else b""
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(answer), extra, answer))
            await writer.drain()
            if closes:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    # As wide as the socket that it stands on: asyncio's own default is 100.
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


asyncio.run(main())
