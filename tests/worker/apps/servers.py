# servers.py KIND [ARGUMENTS]: small servers, each with a habit of its own.
import ctypes, errno, os, platform, select, socket, struct, sys, time

kind, arguments = sys.argv[1], sys.argv[2:]

def say(text):
    print(text, file=sys.stderr, flush=True)

def answer(listener):
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s %d" % (kind.encode(), os.getpid()))
    connection.close()

def opened(port, host="127.0.0.1", backlog=16):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen(backlog)
    return listener

def serve(listener):
    while True:
        answer(listener)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)

inherited = lambda number=3: socket.socket(fileno=number)

if kind == "accept":
    serve(inherited())
elif kind == "select":
    listener = inherited()
    while True:
        select.select([listener], [], [])
        answer(listener)
elif kind == "poll":
    listener = inherited()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        poll.poll()
        answer(listener)
elif kind == "epoll":
    listener = inherited()
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while True:
        poll.poll()
        answer(listener)
elif kind == "epoll-first":  # in the epoll set before it is bound
    listener = socket.socket()
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, 0)
    listener.bind(("127.0.0.1", int(arguments[0])))
    listener.listen(16)
    poll.modify(listener, select.EPOLLIN)
    while True:
        poll.poll()
        listener.setblocking(True)
        answer(listener)
elif kind == "undumpable":
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    listener = inherited()
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    say("undumpable")
    while True:
        poll.poll()
        answer(listener)
elif kind == "late":  # accepts once a file is there
    wait_for(arguments[0])
    serve(inherited())
elif kind == "bind":
    serve(opened(arguments[0]))
elif kind == "bind-late":
    wait_for(arguments[1])
    try:
        serve(opened(arguments[0]))
    except OSError as error:
        say(f"bind: {errno.errorcode[error.errno]}")
elif kind == "bind-fails":
    try:
        opened(arguments[0])
        say("bound")
    except OSError as error:
        say(f"bind: {errno.errorcode[error.errno]}")
elif kind == "short-queue":  # never accepts
    listener = opened(arguments[0], backlog=0)
    say("listens")
    time.sleep(1000)
elif kind == "children":  # children of its own bind, each the same port
    for _ in range(2):
        if os.fork() == 0:
            serve(opened(arguments[0]))
    say("forked")
    time.sleep(1000)
elif kind == "waits-for-all":  # returns from waiting only when there is no child left
    if os.fork() == 0:
        os._exit(0)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        say("no child left")
    serve(opened(arguments[0]))
elif kind == "undeclared":  # a port of its own choice, a datagram socket at the declared one
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", int(arguments[0])))
    say(f"udp {datagrams.getsockname()[1]}")
    listener = opened(0)
    say(f"port {listener.getsockname()[1]}")
    serve(listener)
elif kind == "flags":  # close-on-exec as Python sets it, and not
    for inheritable in (False, True):
        listener = socket.socket()
        listener.set_inheritable(inheritable)
        listener.bind(("127.0.0.1", int(arguments[0])))
        say(f"inheritable {inheritable} is {os.get_inheritable(listener.fileno())} inode {os.fstat(listener.fileno()).st_ino}")
elif kind == "unix":
    path = arguments[0]
    try:
        os.unlink(path)
    except FileNotFoundError:
        say("no path to remove")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    serve(listener)
elif kind == "own-listener":
    libc = ctypes.CDLL(None, use_errno=True)
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    program = Program(1, ctypes.addressof(allow))
    libc.prctl(38, 1, 0, 0, 0)
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    for _ in range(3):
        result = libc.syscall(number, 1, 8, ctypes.byref(program))
    say(f"own listener: {result} {errno.errorcode.get(ctypes.get_errno())}")
    serve(opened(arguments[0]))
elif kind == "descriptors":  # where each inherited descriptor is bound
    for number in range(3, 3 + int(os.environ["LISTEN_FDS"])):
        say(f"{number} {inherited(number).getsockname()}")
    say("end of descriptors")
elif kind == "one-of-two":
    listener = inherited(3)
    serve(listener)
elif kind == "sleep":
    time.sleep(1000)
elif kind == "exit":
    wait_for(arguments[0])
    sys.exit(7)
elif kind == "health":  # 503 until a file is there
    listener = opened(os.environ["PORT"])
    while True:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 %s\r\n\r\n" % (b"204 No Content" if os.path.exists(arguments[0]) else b"503 Not Yet"))
        connection.close()
else:
    sys.exit(f"unknown kind {kind}")
