#!/usr/bin/env python3
"""A delay line between two TUN devices, for kernels without sch_netem.

usage: netdelay.py DEV_A DEV_B DELAY_MS JITTER_MS
What the kernel routes into DEV_A comes out of DEV_B DELAY_MS (+- JITTER_MS) later, and the other way
round. Order is kept (a jittered packet holds back those behind it), as on a real path.
"""

import collections
import contextlib
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "up", "txqueuelen", "1000"], check=True)
    return fd


a, b, delay, jitter = sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000, float(sys.argv[4]) / 1000
fa, fb = tun(a), tun(b)
other = {fa: fb, fb: fa}
queue = {fa: collections.deque(), fb: collections.deque()}  # by the device that they will leave from
last = {fa: 0.0, fb: 0.0}
poll = select.poll()
poll.register(fa, select.POLLIN)
poll.register(fb, select.POLLIN)
while True:
    now = time.monotonic()
    due = min((q[0][0] for q in queue.values() if q), default=None)
    for fd, _ in poll.poll(None if due is None else max(0.0, (due - now) * 1000)):
        out = other[fd]
        while True:
            try:
                packet = os.read(fd, 65536)
            except BlockingIOError:
                break
            at = max(last[out], time.monotonic() + max(0.0, delay + random.uniform(-jitter, jitter)))
            last[out] = at
            if len(queue[out]) < 20000:
                queue[out].append((at, packet))
    now = time.monotonic()
    for fd, q in queue.items():
        while q and q[0][0] <= now:
            with contextlib.suppress(OSError):
                os.write(fd, q.popleft()[1])
