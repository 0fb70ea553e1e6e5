#!/usr/bin/env python3
"""What leaving other protocols out saves: the CPU time of two agents that see the same flood of something that is not
gRPC, one of which goes on capturing it.

    live_foreign.py [--bin build/release/bin] [--seconds 10] [--connections 8]

Needs root: the flood goes over a pair of devices in a network namespace of its own. One process sends packets of 1,000
bytes on port 4000, framed as MySQL frames them, as fast as it can; both agents have `-f ''` and listen at the other end
at the same time, one with --keep-foreign. Three seconds pass before the measurement, in which the connections are
recognised. Printed: packets a second, both agents' CPU time for the same packets, their ratio, and how many packets each
has read.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
CLONE_NEWNET = 0x40000000


def segment(client, number, flags, from_server, sequence, acknowledged, data=b""):
    ends = [(b"\x0a\0\0\1", client), (b"\x0a\0\0\2", 4000)]
    (source, sport), (target, tport) = reversed(ends) if from_server else ends
    return (b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), number & 0xFFFF, 0, 64, 6, 0) +
            source + target + struct.pack(">HHIIBBHHH", sport, tport, sequence & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF, 0x50, flags,
                                          65535, 0, 0) + data)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as handle:
        fields = handle.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Flood:
    def __init__(self, connections):
        self.out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.out.bind(("kt0", 0))
        self.sent, self.stopping = 0, threading.Event()
        self.clients = range(40000, 40000 + connections)
        self.sequence = {}
        for client in self.clients:
            for flags, from_server in ((2, False), (18, True), (16, False)):
                self.out.send(segment(client, 0, flags, from_server, 1001 if flags == 16 else 1000, 1001 if flags & 16 else 0))
            self.sequence[client] = [1001, 1001]
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def _send(self):
        data = b"\xe4\x03\0\0\x03" + b"select " * 141 + b"12345678"
        turn = 0
        while not self.stopping.is_set():
            from_server = turn % 2
            for client in self.clients:
                at = self.sequence[client]
                self.out.send(segment(client, turn, 0x18, bool(from_server), at[from_server], at[1 - from_server], data))
                at[from_server] += len(data)
                self.sent += 1
            turn += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()
        self.out.close()


def main():
    os.environ.setdefault("KEYTRAIL_USER", "root")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "build", "release", "bin"))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit("a network namespace cannot be made: " + os.strerror(ctypes.get_errno()))
    for command in ("link set lo up", "link add kt0 type veth peer name kt1", "link set kt0 up", "link set kt1 up"):
        subprocess.run(["ip", *command.split()], check=True)
    with tempfile.TemporaryDirectory() as folder:
        agents = []
        for name, more in (("left out", []), ("captured", ["--keep-foreign"])):
            with open(os.path.join(folder, name), "wb") as out:
                agents.append((name, subprocess.Popen([os.path.join(options.bin, "keytrail-agent"), "-i", "kt1", "-f", "", "--json",
                                                       "-q", *more], stdout=out, stderr=subprocess.DEVNULL)))
        time.sleep(1)
        flood = Flood(options.connections)
        time.sleep(3)
        before, sent, begun = [cpu_seconds(a.pid) for _, a in agents], flood.sent, time.monotonic()
        time.sleep(options.seconds)
        used = [cpu_seconds(a.pid) - b for (_, a), b in zip(agents, before)]
        sent, took = flood.sent - sent, time.monotonic() - begun
        flood.stop()
        print(f"{sent / took:,.0f} packets a second for {took:.0f} s")
        for (name, agent), cpu in zip(agents, used):
            agent.send_signal(signal.SIGINT)
            agent.wait(60)
            with open(os.path.join(folder, name), encoding="utf-8") as handle:
                summary = json.loads(handle.read().splitlines()[-1])
            print(f"{name}: {cpu:.2f} s of CPU, {cpu / sent * 1e9:,.0f} ns a packet sent; read {summary['packets']:,} of {flood.sent:,},"
                  f" kernel dropped {summary['kernel_drops']:,}")
        print(f"ratio: {used[0] / used[1]:.3f}")


if __name__ == "__main__":
    main()
