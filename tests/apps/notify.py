"""Says READY=1 once the file of its argument is there; listens nowhere."""

import os
import socket
import sys
import time

while not os.path.exists(sys.argv[1]):
    time.sleep(0.005)
name = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", "\0" + name[1:] if name[0] == "@" else name)
time.sleep(1000000)
