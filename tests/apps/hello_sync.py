"""Plain servers that wait for connections by other means than epoll: MODE is poll, select, accept or threading."""

import http.server
import os
import select
import socket
import sys


def version():
    try:
        return os.environ.get("VERSION") or open("VERSION").read().strip()
    except OSError:
        return "v1"


BODY = f"{version()} {os.getpid()}\n".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


def answer(connection):
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(4096)
            if not more:
                return
            head += more
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))


def main():
    mode = sys.argv[1]
    port = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PORT", "3000"))
    address = (os.environ.get("HOST", "0.0.0.0"), port)
    if mode == "threading":
        http.server.ThreadingHTTPServer(address, Handler).serve_forever()
    listener = socket.create_server(address)
    if mode != "accept":
        listener.setblocking(False)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        if mode == "poll":
            poll.poll()
        elif mode == "select":
            select.select([listener], [], [])
        try:
            connection, _ = listener.accept()
            connection.setblocking(True)
            answer(connection)
        except (BlockingIOError, ConnectionError):
            pass


main()
