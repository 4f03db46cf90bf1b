"""Tries what it should not be able to do: each line of a JSON list of Python expressions, and prints a JSON list of what came of them.

An error of the kernel is its name (EPERM), a value its text. With `stay` as second argument it then waits to be stopped.
"""
import ctypes, errno, json, os, resource, signal, socket, struct, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)


def read(path, size=4096):
    with open(path, "rb") as file:
        return file.read(size).decode(errors="replace")


def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)


def writable(*roots):
    """The first file below these that takes what is in it already."""
    for root in roots:
        for place, directories, files in os.walk(root):
            for name in files:
                path = os.path.join(place, name)
                try:
                    if os.access(path, os.W_OK) and not os.path.islink(path):
                        write(path, read(path))
                        return path
                except OSError:
                    pass
    return None


def unix(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.connect(path)


def tcp(port, text=""):
    """The first line of the answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(text.encode())
        return client.recv(4096).decode(errors="replace").split("\r\n")[0]


def listens(port, reuse=False):
    with socket.socket() as server:
        if reuse:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen()


def abstract(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)


def tell(path, text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(text.encode(), path)


def call(number, *arguments):
    """A system call by its number on this machine; 0 or more is its result."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def peek(pid, address=0x400000):
    """Reads another process's memory."""
    here = ctypes.create_string_buffer(16)
    there, place = Piece(address, 16), Piece(ctypes.addressof(here), 16)
    return call(310, pid, ctypes.byref(place), 1, ctypes.byref(there), 1, 0)


def run(*command):
    """What it wrote, or how it ended."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else f"{done.returncode}: {done.stderr.strip()}"


def manager(method, signature="", *arguments):
    """A method of systemd's manager: `denied`, or what it answered."""
    place = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    said = run("busctl", "--timeout=20", "call", *place, method, *([signature] if signature else []), *arguments)
    refused = ("Access denied", "authentication required", "Permission denied")
    if "Transport endpoint is not connected" in said or "Failed to connect to system scope bus" in said:
        return "hung up"
    return "denied" if any(word in said for word in refused) else said


def outcome(line):
    try:
        return str(eval(line))
    except OSError as why:
        return errno.errorcode.get(why.errno, str(why))
    except Exception as why:
        return repr(why)


def each(*lines):
    """What came of all of them: each outcome once."""
    return "+".join(sorted({outcome(line) for line in lines}))


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        lines = json.load(file)
    print("TRIED " + json.dumps([outcome(line)[:200] for line in lines]), flush=True)
    if "stay" in sys.argv[2:]:
        signal.pause()
