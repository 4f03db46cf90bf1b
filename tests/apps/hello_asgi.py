"""What uvicorn serves: it closes its sockets and waits for its requests when it gets SIGTERM."""

import asyncio
import os


def version():
    try:
        return os.environ.get("VERSION") or open("VERSION").read().strip()
    except OSError:
        return "v1"


BODY = f"{version()} {os.getpid()}\n".encode()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"].startswith("/sleep/"):
        await asyncio.sleep(int(scope["path"][7:]) / 1000)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BODY))]})
    await send({"type": "http.response.body", "body": BODY})
