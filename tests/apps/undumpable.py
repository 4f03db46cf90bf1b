"""An inherited socket, and no other process may look into this one."""

import ctypes
import runpy
import sys

ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
sys.argv = ["hello_asyncio.py", "fds"]
runpy.run_path(__file__.replace("undumpable", "hello_asyncio"), run_name="__main__")
