"""`hello_asyncio.py fds`, whose worker in slot 1 first does its argument to whoever would drain it from outside.

Each kind is a function here; it returns, and the server begins behind it, in whatever state that has left the process.
"""

import array
import ctypes
import os
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
LISTENER = 3
kept = []


def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def in_thread(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()


def serve():
    """The plain server, in this process, whatever it is by now."""
    os.environ["LISTEN_PID"] = str(os.getpid())
    sys.argv = ["hello_asyncio.py", "fds"]
    runpy.run_path(os.path.dirname(os.path.abspath(__file__)) + "/hello_asyncio.py", run_name="__main__")


def epolls():
    """The numbers of this process's epoll sets."""
    for number in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" in os.readlink("/proc/self/fd/" + number):
                yield int(number)
        except OSError:
            pass


def watches(number=LISTENER, mask=select.EPOLLIN):
    """An epoll set with the listener in it, on which nobody waits."""
    poll = select.epoll()
    kept.append(poll)
    poll.register(number, mask)
    return poll


# Descriptors


def plain():
    pass


def other_kinds():
    """Sockets and files of other kinds, each at a number by which an epoll set knows the listener."""
    own = socket.create_server(("127.0.0.1", 3100))
    client = socket.create_connection(("127.0.0.1", 3100))
    named = socket.socket(socket.AF_UNIX)
    named.bind("\0hostile-listens")
    named.listen()
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 3000))
    things = [own, client, own.accept()[0], named, bound, *socket.socketpair(), *socket.socketpair(type=socket.SOCK_DGRAM), select.epoll()]
    kept.extend(things)
    numbers = [thing.fileno() for thing in things]
    numbers += [*os.pipe(), os.eventfd(0), os.memfd_create("x"), os.pidfd_open(os.getpid()), os.open("/", os.O_PATH)]
    poll = select.epoll()
    kept.append(poll)
    for at, number in enumerate(numbers):
        os.dup2(LISTENER, 200 + at)
        poll.register(200 + at, select.EPOLLIN)
        os.dup2(number, 200 + at)


def flips():
    """The number is the listener and is not, as fast as it goes."""
    reader, _ = os.pipe()
    own = socket.create_server(("127.0.0.1", 3100))
    kept.append(own)
    for at in range(4):
        os.dup2(LISTENER, 300 + at)
        watches(300 + at)

    def flip():
        while True:
            for at in range(4):
                os.dup2(reader, 300 + at)
                os.dup2(own.fileno(), 300 + at)
                os.dup2(LISTENER, 300 + at)

    in_thread(flip)


def room():
    """How many more descriptors this process may have."""
    return min(100_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)


def descriptors():
    """A hundred thousand of them, in as few processes as the limit allows."""
    room_for = room()
    for _ in range(room_for):
        os.dup(0)
    watches()
    for _ in range(100_000 // room_for):
        fork(signal.pause)


def megabytes():
    """An epoll set of 100,000, the listener among them: the kernel tells of it in megabytes."""
    poll = select.epoll()
    kept.append(poll)
    # An entry is a number and a file: it stays when the number becomes another file's and the file lives on.
    room_for = room()
    for _ in range(-(-100_000 // room_for)):
        number = os.eventfd(0)
        for at in range(1000, 1000 + room_for - 2000):
            os.dup2(number, at)
            poll.register(at, select.EPOLLIN)
    poll.register(LISTENER, select.EPOLLIN)


def nested():
    """Thousands of epoll sets in epoll sets."""
    roots = [select.epoll() for _ in range(4)]
    kept.extend(roots)
    for upper, lower in zip(roots, roots[1:]):
        upper.register(lower, select.EPOLLIN)
    for at in range(4000):
        poll = select.epoll()
        kept.append(poll)
        # The kernel bounds how many ways may lead to one socket, not how many sets there are.
        for holder, held in ((poll, LISTENER), (roots[at % 3], poll)):
            try:
                holder.register(held, select.EPOLLIN)
            except OSError:
                pass


def readds():
    """Whatever is taken out of the server's own set is put back at once."""

    def put_back():
        while not any("tfd:        3 " in open(f"/proc/self/fdinfo/{number}").read() for number in epolls()):
            time.sleep(0.01)
        while True:
            for number in list(epolls()):
                # One is refused where it is still there, masked, the other where it is not.
                for put in (select.epoll.register, select.epoll.modify):
                    try:
                        put(select.epoll.fromfd(os.dup(number)), LISTENER, select.EPOLLIN)
                    except OSError:
                        pass

    in_thread(put_back)


def marks():
    """Every bit of an epoll entry that means nothing, or something odd."""
    for bit in (*range(11, 28), 29, 30, 31):
        try:
            watches(mask=select.EPOLLIN | 1 << bit)
        except OSError:
            pass
    watches(mask=select.EPOLLIN | select.EPOLLEXCLUSIVE)
    poll = select.epoll()
    kept.append(poll)
    for _ in range(400):
        ends = socket.socketpair()
        kept.extend(ends)
        poll.register(ends[0], select.EPOLLIN | 0x0FFF_F800)


def others_socket():
    """Another app's listener, which somebody hands over, in the server's own set."""
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0hostile")
    server.listen()

    def take():
        client = server.accept()[0]
        _, control, _, _ = client.recvmsg(1, socket.CMSG_SPACE(4))
        numbers = array.array("i", control[0][2][:4])
        for number in list(epolls()):
            select.epoll.fromfd(os.dup(number)).register(numbers[0], 0)
        watches(numbers[0])
        kept.append(numbers)
        client.sendall(b"x")

    in_thread(take)


def narrow():
    """No room for another descriptor, be it of whom it may."""


# Processes and threads


def fork(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    return pid


def bomb():
    """Forks without end, up to its limit; each of them holds the listener, and most end soon."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    watches()

    def child():
        end = time.monotonic() + 0.05
        while True:
            try:
                if os.fork() == 0:
                    end = time.monotonic() + 0.05
            except OSError:
                time.sleep(0.01)
            if time.monotonic() > end and os.getppid() != 1:
                os._exit(0)

    fork(child)


def churn():
    """Children that live for some milliseconds."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def forks():
        while True:
            for _ in range(8):
                fork(lambda: (watches(), time.sleep(0.005)))
            time.sleep(0.005)

    fork(forks)


def children():
    """Sixty processes, each with the listener in a set of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(60):
        fork(lambda: (watches(), signal.pause()))


def undumpable():
    libc.prctl(4, 0, 0, 0, 0)


def threads():
    """A thousand threads that never rest for long, two of them not at all."""
    buffer = ctypes.create_string_buffer(1 << 20)

    def spins():
        while True:
            libc.getrandom(buffer, len(buffer), 0)

    def dozes():
        while True:
            time.sleep(0.5)

    threading.stack_size(1 << 16)
    for _ in range(998):
        in_thread(dozes)
    for _ in range(2):
        in_thread(spins)


def comm():
    """Names that break tables and lines."""
    names = [b"a) R 1 1 (", b"x\nTgid:\t1", b"0::/\n\n", b"project-cluster", b"\x1b[2J\xff\xfe"]
    for name in names[1:]:
        in_thread(lambda name=name: (libc.prctl(15, ctypes.c_char_p(name), 0, 0, 0), time.sleep(3600)))
        fork(lambda name=name: (libc.prctl(15, ctypes.c_char_p(name), 0, 0, 0), watches(), signal.pause()))
    libc.prctl(15, ctypes.c_char_p(names[0]), 0, 0, 0)


def blocks():
    """A thread that the kernel does not let be stopped, and a process that becomes another one all the time."""
    if not os.path.exists("/tmp/never"):
        os.mkfifo("/tmp/never")
    # posix_spawn(3) waits as vfork(2) does, and its child opens a FIFO that nobody writes to.
    actions = ctypes.create_string_buffer(256)
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_addopen(actions, 0, b"/tmp/never", os.O_RDONLY, 0)
    words = (ctypes.c_char_p * 2)(b"true", None)
    in_thread(libc.posix_spawn, ctypes.create_string_buffer(8), b"/bin/true", actions, None, words, None)
    with open("/tmp/again", "w") as file:
        file.write('#!/bin/sh\nexec "$0"\n')
    os.chmod("/tmp/again", 0o755)
    poll = watches()
    os.set_inheritable(poll.fileno(), True)
    fork(lambda: os.execv("/tmp/again", ["again"]))


def userns():
    """In a user namespace of its own, with a child in a PID namespace besides; both serve."""
    call(272, 0x10000000 | 0x20000000)
    fork(serve)


def leaderless():
    """The process's first thread is gone, another one serves."""
    in_thread(lambda: serve_in_thread())
    call(60, 0)


def serve_in_thread():
    # asyncio asks for no main thread as long as nobody wants signals.
    serve()


def unshared_files():
    """A thread whose descriptors are not those of its process."""

    def alone():
        call(272, 0x400)
        listener = socket.socket(fileno=os.dup(LISTENER))
        poll = select.epoll()
        poll.register(listener, select.EPOLLIN)
        while True:
            poll.poll()
            try:
                client = listener.accept()[0]
            except BlockingIOError:
                continue
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nv1\n")
            client.close()

    os.set_blocking(LISTENER, False)
    in_thread(alone)
    while True:
        time.sleep(3600)


if os.environ.get("PROJECT_CLUSTER_SLOT") == "1":
    # The others want some of the processor, too.
    os.nice(19)
    globals()[sys.argv[1]]()
serve()
