"""Clients of the API over TCP that mean ill, or are broken: `abuse.py NAME SECONDS`, as root.

Says `begun` once it is at its height, goes on for so many seconds, and says what it saw as JSON. Every wait is bounded.
"""
import collections, json, re, resource, socket, struct, subprocess, sys, time

ADDRESS = ("127.0.0.1", 8887)
TOKEN = open("/var/lib/project-cluster/operators/token").read().strip()
HOST = b"Host: localhost\r\n"
AUTHORIZED = HOST + b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
LIMIT = 30


def connect():
    client = socket.socket()
    client.settimeout(LIMIT)
    # A queue that overflows drops what it gets; the kernel tries again, later and later.
    client.connect(ADDRESS)
    return client


def everything(client, patience):
    """All that comes until the other side closes, or for so many seconds nothing."""
    client.settimeout(patience)
    got = b""
    try:
        while more := client.recv(1 << 16):
            got += more
    except (TimeoutError, ConnectionError):
        pass
    return got


def statuses(got):
    """The status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


def exchange(sent, patience):
    """What comes of these bytes: the statuses, and whether the connection was closed behind them."""
    with connect() as client:
        try:
            client.sendall(sent)
        except ConnectionError:
            pass
        found = statuses(everything(client, patience))
        client.settimeout(0.1)
        try:
            closed = client.recv(1) == b""
        except TimeoutError:
            closed = False
        except ConnectionError:
            closed = True
    return found, closed


def outcome(client):
    """What has come of a connection: a status, "closed", or nothing yet."""
    client.setblocking(False)
    try:
        found = statuses(client.recv(1 << 16, socket.MSG_PEEK))
        return str(found[0]) if found else "closed"
    except BlockingIOError:
        return "nothing"
    except ConnectionError:
        return "closed"


class Held:
    """So many connections, each of which sends this and then a byte at a time."""

    def __init__(self, count, sent=b"", drop=b""):
        self.drop, self.clients = drop, []
        for _ in range(count):
            client = connect()
            self.clients.append(client)
            try:
                client.sendall(sent)
            except ConnectionError:
                pass

    def go_on(self):
        for client in self.clients if self.drop else []:
            try:
                client.send(self.drop)
            except OSError:
                pass
        time.sleep(0.1)

    def result(self):
        # On a machine under load some answers are still on their way.
        found, end = None, time.monotonic() + LIMIT
        while time.monotonic() < end:
            before, found = found, collections.Counter(outcome(client) for client in self.clients)
            if found == before:
                break
            time.sleep(0.5)
        return dict(found)


class Rolled(Held):
    """Those connections, and a roll after the other meanwhile."""

    def __init__(self, *held):
        super().__init__(*held)
        self.rolls = collections.Counter()

    def go_on(self):
        code = subprocess.run(["project-cluster", "reload", "api"], capture_output=True, timeout=4 * LIMIT).returncode
        self.rolls["rolled" if code == 0 else "failed"] += 1

    def result(self):
        return {**super().result(), **self.rolls}


class Readers(Held):
    """So many readers of events on the unix socket; each takes what comes."""

    def __init__(self, count):
        self.clients = []
        for _ in range(count):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(LIMIT)
            client.connect("/run/project-cluster/api.sock")
            client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            got = b""
            while b"\r\n\r\n" not in got:
                got += client.recv(4096)
            assert statuses(got) == [200], got
            self.clients.append(client)

    def go_on(self):
        time.sleep(0.1)

    def result(self):
        return {"readers": len(self.clients)}


class Again:
    """The same over and over; `once` gives what came of it."""

    def __init__(self, once):
        self.once, self.seen = once, collections.Counter()
        self.go_on()

    def go_on(self):
        self.seen.update(self.once())

    def result(self):
        return dict(self.seen)


def pipelined(path, count):
    """So many requests at once on one connection, and each answered."""
    def once():
        request = b"GET %s HTTP/1.1\r\n%s\r\n" % (path, AUTHORIZED)
        sent, found, end = request * count, collections.Counter(), time.monotonic() + LIMIT
        with connect() as client:
            client.setblocking(False)
            rest = b""
            while found.total() < count and time.monotonic() < end:
                try:
                    sent = sent[client.send(sent[:1 << 16]):] if sent else sent
                except BlockingIOError:
                    pass
                try:
                    got = client.recv(1 << 16)
                except BlockingIOError:
                    time.sleep(0.001)
                    continue
                if not got:
                    break
                got = rest + got
                found.update(str(status) for status in statuses(got))
                # Less than a status line, so that none is counted twice.
                rest = got[-12:]
        return found
    return once


def early():
    """Asks and is gone: half of them with a reset."""
    for at in range(100):
        client = connect()
        client.sendall(b"GET /v1/workers HTTP/1.1\r\n%s\r\n" % AUTHORIZED)
        if at % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    return {"closed": 100}


# What would be carried out, were it let through: a roll, which the journal has.
BODY = b"POST /v1/apps/api/rolls HTTP/1.1\r\n" + AUTHORIZED
STRANGE = {
    # Each with the statuses that may come of it, or none at all; one answer at most.
    "bytes in the path": (b"GET /v1/\xff\xfe HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [400, 404]),
    "bytes in the path, escaped": (b"GET /v1/apps/%%ff%%c0%%af HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [400]),
    "bytes in a header": (b"GET /v1/health HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", [421]),
    "bytes in the token": (b"GET /v1/health HTTP/1.1\r\n%sAuthorization: Bearer \xff\r\n\r\n" % HOST, [401]),
    "a NUL in a header": (b"GET /v1/health HTTP/1.1\r\n%sX: a\0b\r\n\r\n" % AUTHORIZED, [400]),
    "a huge header": (b"GET /v1/health HTTP/1.1\r\n%sX: %s\r\n\r\n" % (AUTHORIZED, b"x" * (1 << 20)), [431]),
    "a thousand headers": (b"GET /v1/health HTTP/1.1\r\n%s%s\r\n" % (AUTHORIZED, b"X: y\r\n" * 1000), [431]),
    "a long URL": (b"GET /%s HTTP/1.1\r\n%s\r\n" % (b"x" * 9000, AUTHORIZED), [414]),
    "a huge URL": (b"GET /%s HTTP/1.1\r\n%s\r\n" % (b"x" * (1 << 20), AUTHORIZED), [414, 431]),
    "a huge body": (BODY + b"Content-Length: 999999999\r\n\r\n" + b"x" * (1 << 20), [413]),
    "a body longer than any": (BODY + b"Content-Length: 99999999999999999999999\r\n\r\n", [400]),
    "a negative body": (BODY + b"Content-Length: -1\r\n\r\n", [400]),
    "two lengths": (BODY + b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nabcGET /v1/health HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [400]),
    "a length and chunks": (BODY + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/health HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [411]),
    "chunks and a length": (BODY + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /v1/health HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [411]),
    "chunks in disguise": (BODY + b"Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /v1/health HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [400, 411]),
    "a blank before the colon": (BODY + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", [400]),
    "a folded header": (BODY + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", [400]),
    "a line break in the target": (b"GET /v1/health\nHost: evil HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [400]),
    "HTTP/0.9": (b"GET /v1/health\r\n", [400]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400, 505]),
    "garbage": (bytes(range(256)) * 100, [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), [400]),
    "CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [400, 404, 405, 421]),
    "without a host": (b"GET /v1/health HTTP/1.1\r\n\r\n", [400]),
    "behind a refusal": (b"GET /v1/health HTTP/1.1\r\n%s\r\n" % HOST + b"POST /v1/apps/api/stop HTTP/1.1\r\n%s\r\n" % AUTHORIZED, [401]),
}


# Well-formed, and refused by a route: the connection goes on.
OF_ROUTES = ["bytes in the path", "bytes in the path, escaped"]


def strange():
    found = {}
    for name, (sent, fine) in STRANGE.items():
        # The answer to a wrong token is late, up to 3 s.
        came, closed = exchange(sent, 5 if name == "bytes in the token" else 1)
        good = len(came) <= 1 and all(status in fine for status in came) and (closed or name in OF_ROUTES)
        found["as expected" if good else f"{name}: {came}, closed: {closed}"] = found.get("as expected", 0) + 1 if good else 1
    return found


def streams():
    return Held(100, b"GET /v1/events HTTP/1.1\r\n%s\r\n" % AUTHORIZED)


ABUSES = {
    "nothing": lambda: Held(0),
    "half-open": lambda: Held(250),
    "slow-head": lambda: Held(250, b"GET /v1/workers HTTP/1.1\r\n" + HOST + b"X: ", b"x"),
    "slow-body": lambda: Held(32, BODY + b"Content-Length: 1000\r\n\r\n", b"x"),
    "slow-reader": lambda: Held(100, b"GET /v1/apps HTTP/1.1\r\n%s\r\n" % AUTHORIZED * 200),
    "wrong-tokens": lambda: Held(100, b"GET /v1/apps HTTP/1.1\r\n%sAuthorization: Bearer wrong\r\n\r\n" % HOST),
    "streams": streams,
    "rolls": lambda: Rolled(0),
    "streams-in-rolls": lambda: Rolled(48, b"GET /v1/events HTTP/1.1\r\n%s\r\n" % AUTHORIZED),
    "readers": lambda: Readers(200),
    "pipelined": lambda: Again(pipelined(b"/v1/health", 10_000)),
    "pipelined-workers": lambda: Again(pipelined(b"/v1/workers", 10_000)),
    "strange": lambda: Again(strange),
    "early": lambda: Again(early),
    "flood": lambda: Held(2_000),
}

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
abuse = ABUSES[sys.argv[1]]()
print("begun", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    abuse.go_on()
print(json.dumps(abuse.result()), flush=True)
