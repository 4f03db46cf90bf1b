"""Runs commands for the test process at the other end of a virtio serial port; tests/support/channel.rs is that end.

Frames, both ways: number of the command (4 bytes), kind (1 byte), length (4 bytes), payload. To here: S start (JSON: argv, env,
input), I input, E end of input, K a signal's number. From here: H hello, P its PID, O and R what it writes, X its exit code,
F why it could not start.
"""

import json
import os
import pathlib
import select
import selectors
import signal
import struct
import subprocess
import time

HEAD = struct.Struct(">IcI")
# Of input that a command has not read yet: more is left in the port, and the test process waits.
PENDING = 1 << 20
CHUNK = 1 << 16


def open_port():
    for name in pathlib.Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == "agent":
            return os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_NONBLOCK)
    raise SystemExit("there is no port named `agent`")


PORT = open_port()
WATCHED = selectors.DefaultSelector()
COMMANDS = {}
RECEIVED = bytearray()


def say(number, kind, payload=b""):
    left = memoryview(HEAD.pack(number, kind, len(payload)) + payload)
    while left:
        try:
            left = left[os.write(PORT, left):]
        except BlockingIOError:
            select.select([], [PORT], [])


def as_anybody():
    # What the agent has to itself: the kernel's out-of-memory killer spares it.
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("0")


class Command:
    def __init__(self, number, wanted):
        self.number = number
        self.input = bytearray()
        self.input_ends = False
        stdin = subprocess.PIPE if wanted["input"] else subprocess.DEVNULL
        self.process = subprocess.Popen(
            wanted["argv"], env=wanted["env"], cwd="/", stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            bufsize=0, start_new_session=True, preexec_fn=as_anybody)
        self.ended_at = None
        self.open = {b"O": self.process.stdout, b"R": self.process.stderr}
        for kind, stream in self.open.items():
            os.set_blocking(stream.fileno(), False)
            WATCHED.register(stream, selectors.EVENT_READ, lambda kind=kind: self.read(kind))
        if self.process.stdin:
            os.set_blocking(self.process.stdin.fileno(), False)
        self.pidfd = os.pidfd_open(self.process.pid)
        WATCHED.register(self.pidfd, selectors.EVENT_READ, self.ended)
        say(number, b"P", str(self.process.pid).encode())

    def read(self, kind):
        if kind not in self.open:
            # Closed by an event of the same round.
            return
        try:
            data = os.read(self.open[kind].fileno(), CHUNK)
        except BlockingIOError:
            return
        if data:
            say(self.number, kind, data)
        else:
            self.close(kind)

    def close(self, kind):
        stream = self.open.pop(kind)
        WATCHED.unregister(stream)
        stream.close()
        self.maybe_done()

    def feed(self):
        stdin = self.process.stdin
        if stdin is None:
            self.input.clear()
            return
        try:
            while self.input:
                del self.input[:os.write(stdin.fileno(), self.input[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            # It does not read: what it says then is what counts.
            self.input.clear()
            self.input_ends = True
        waits = stdin in WATCHED.get_map()
        if self.input and not waits:
            WATCHED.register(stdin, selectors.EVENT_WRITE, self.feed)
        if not self.input and waits:
            WATCHED.unregister(stdin)
        if not self.input and self.input_ends:
            self.process.stdin = None
            stdin.close()
        listen()

    def ended(self):
        self.process.wait()
        self.ended_at = time.monotonic()
        WATCHED.unregister(self.pidfd)
        os.close(self.pidfd)
        self.maybe_done()

    def maybe_done(self):
        # A grandchild may hold the streams open for ever: then what there is.
        if self.ended_at is None or (self.open and time.monotonic() < self.ended_at + 1):
            return
        del COMMANDS[self.number]
        for stream in self.open.values():
            WATCHED.unregister(stream)
            stream.close()
        self.open = {}
        self.input.clear()
        if self.process.stdin:
            if self.process.stdin in WATCHED.get_map():
                WATCHED.unregister(self.process.stdin)
            self.process.stdin.close()
            self.process.stdin = None
        code = self.process.returncode
        say(self.number, b"X", str(code if code >= 0 else 128 - code).encode())
        listen()


def listen():
    """Reads from the port unless some command is behind with its input."""
    full = any(len(command.input) > PENDING for command in COMMANDS.values())
    listens = PORT in WATCHED.get_map()
    if full and listens:
        WATCHED.unregister(PORT)
    if not full and not listens:
        WATCHED.register(PORT, selectors.EVENT_READ, receive)


def receive():
    try:
        RECEIVED.extend(os.read(PORT, CHUNK))
    except BlockingIOError:
        return
    while len(RECEIVED) >= HEAD.size:
        number, kind, length = HEAD.unpack_from(RECEIVED)
        if len(RECEIVED) < HEAD.size + length:
            return
        payload = bytes(RECEIVED[HEAD.size:HEAD.size + length])
        del RECEIVED[:HEAD.size + length]
        obey(number, kind, payload)


def obey(number, kind, payload):
    if kind == b"S":
        try:
            COMMANDS[number] = Command(number, json.loads(payload))
        except OSError as error:
            say(number, b"F", str(error).encode())
        return
    command = COMMANDS.get(number)
    if command is None:
        # It has ended meanwhile.
        return
    if kind == b"I":
        command.input += payload
        command.feed()
    elif kind == b"E":
        command.input_ends = True
        command.feed()
    elif kind == b"K":
        try:
            command.process.send_signal(int(payload))
        except ProcessLookupError:
            pass


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    say(0, b"H")
    listen()
    while True:
        late = [command for command in COMMANDS.values() if command.ended_at is not None]
        for key, _ in WATCHED.select(0.1 if late else None):
            key.data()
        for command in late:
            if command.number in COMMANDS:
                command.maybe_done()


main()
