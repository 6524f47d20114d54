"""Runs one command and writes its wall seconds and its peak memory, in units of the system.

A process counts the memory of whoever starts it until it has loaded its own program, so the
starter must be smaller than anything it measures. This is why it is a script that imports next to
nothing: `python -I -S launch.py COMMAND...`.
"""

import os
import sys
import time

start = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
print(seconds, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
