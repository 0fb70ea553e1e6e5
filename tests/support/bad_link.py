"""A bad link between two network namespaces: an Ethernet cable whose frames pass through this process.

Each end is a TAP device (tun(4)) that is made here and moved into its namespace; a thread takes frames from one end and gives
them to the other, late, twice, out of order, or not at all. Unlike tc's netem it needs nothing but TUN of the kernel, and it counts
what it did.
"""

import collections
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
MAX_WAITING = 2000  # frames of one direction: a longer queue drops, as a switch does

# Seconds, shares of the frames, bits per second (0: no bound).
Weather = collections.namedtuple("Weather", "delay jitter loss duplicate reorder rate", defaults=(0.0, 0.0, 0.0, 0.0, 0.0, 0))


class BadLink:
    """Between the namespaces, with devices of these names there; up when it is made. `weather` may be replaced at any time.

    A namespace is a name of `ip netns` or the number of a process that is in it; an end without an address (None) is for a bridge."""

    def __init__(self, namespaces, devices, addresses, weather, seed):
        self.weather = weather
        self.counts = collections.Counter()
        self._chance = random.Random(seed)
        self._stop = os.pipe()
        self._ends = []
        try:
            for namespace, device, address in zip(namespaces, devices, addresses):
                end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                self._ends.append(end)
                # The name must be free here until it is moved.
                name = f"bl{os.getpid()}{len(self._ends)}"
                fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
                there = (["nsenter", f"--net=/proc/{namespace}/ns/net", "ip"] if str(namespace).isdigit()
                         else ["ip", "-n", namespace])
                for words in (["ip", "link", "set", name, "netns", str(namespace), "name", device],
                              [*there, "addr", "add", address, "dev", device] if address else ["true"],
                              [*there, "link", "set", device, "up"]):
                    subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except BaseException:
            self._close()
            raise
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self):
        os.write(self._stop[1], b"x")
        self._thread.join()
        self._close()

    def _close(self):
        for descriptor in (*self._ends, *self._stop):
            os.close(descriptor)

    def _carry(self):
        waiting = [[], []]     # by the end that they go to: (when, number, frame)
        free_at = [0.0, 0.0]  # when that direction has sent what it took
        number = 0
        while True:
            now = time.monotonic()
            for to, frames in enumerate(waiting):
                while frames and frames[0][0] <= now:
                    self._give(to, heapq.heappop(frames)[2])
            due = min((frames[0][0] for frames in waiting if frames), default=now + 1)
            ready, _, _ = select.select([*self._ends, self._stop[0]], [], [], max(0, due - now))
            if self._stop[0] in ready:
                return
            now = time.monotonic()
            for end in ready:
                to = 1 - self._ends.index(end)
                for _ in range(64):
                    try:
                        frame = os.read(end, 65536)
                    except OSError:  # no more, or the device is down
                        break
                    for when in self._times(now, len(frame), free_at, to, len(waiting[to])):
                        heapq.heappush(waiting[to], (when, number, frame))
                        number += 1

    def _times(self, now, size, free_at, to, backlog):
        """When the frame arrives: never, once or twice."""
        weather, chance = self.weather, self._chance
        self.counts["frames"] += 1
        if chance.random() < weather.loss or backlog >= MAX_WAITING:
            self.counts["lost"] += 1
            return []
        sent = now
        if weather.rate:
            free_at[to] = max(now, free_at[to]) + size * 8 / weather.rate
            sent = free_at[to]
        if chance.random() < weather.reorder:
            self.counts["hurried"] += 1
            return [sent]
        times = [sent + max(0.0, weather.delay + chance.uniform(-weather.jitter, weather.jitter))]
        if chance.random() < weather.duplicate:
            self.counts["doubled"] += 1
            times.append(times[0] + 0.001)
        return times

    def _give(self, to, frame):
        try:
            os.write(self._ends[to], frame)
        except OSError:  # the device is down: a cut cable
            self.counts["cut"] += 1
