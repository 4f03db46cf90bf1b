# asyncio_server.py HOST PORT; HOST "" opens both families, each a socket of its own.
import asyncio, os, sys

async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nasyncio %d" % os.getpid())
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(answer, sys.argv[1] or None, int(sys.argv[2]))
    await server.serve_forever()

asyncio.run(main())
