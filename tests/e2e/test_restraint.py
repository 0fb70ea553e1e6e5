#!/usr/bin/env python3
"""keytrail-agent on a live device with limits: under load it reads less, step by step, says so to people and to the
collector, and reads more again when the load is gone.

Needs root: the traffic goes over a pair of devices in a network namespace of the test's own."""

import ctypes
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

import harness
import pcap_file
import unified_log

STEPS = ["drop_payloads", "sample_tso", "headers_only", "count_only"]
CLONE_NEWNET = 0x40000000
PATIENCE = 120  # seconds until a step that does not come fails the test


def frames(path):
    data = pcap_file.load(path)
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    found, at = [], 24
    while at + 16 <= len(data):
        kept = struct.unpack_from(order + "II", data, at + 8)[0]
        found.append(data[at + 16:at + 16 + kept])
        at += 16 + kept
    return [f for f in found if len(f) <= 1514]


def moved(frame, n):
    """The same TCP segment of IPv4 from other client ports: repeated traffic would be retransmissions."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return frame
    tcp = 14 + (frame[14] & 15) * 4
    ports = struct.unpack_from(">HH", frame, tcp)
    at = tcp if ports[0] > ports[1] else tcp + 2  # the client has the higher one
    return frame[:at] + struct.pack(">H", 25000 + (max(ports) + 331 * n) % 40000) + frame[at + 2:]


class Program:
    """A process whose standard error is read as it comes."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, NO_COLOR="1"))
        self.lines, self.changed = [], threading.Condition()
        self.readers = [threading.Thread(target=self._read), threading.Thread(target=self._drain)]
        self.output = []
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def _drain(self):
        for line in self.process.stdout:
            self.output.append(line)
            del self.output[:-5]

    def wait_for(self, words, since=0):
        end = time.monotonic() + PATIENCE
        with self.changed:
            while not any(words in line for line in self.lines[since:]):
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"'{words}' was not said: {self.lines}")
                self.changed.wait(1)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(60)
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return status


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class Restraint(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise unittest.SkipTest(f"network namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")
        for command in ("ip link set lo up", "ip link add kt0 type veth peer name kt1",
                        "ip link set kt0 up", "ip link set kt1 up"):
            subprocess.run(command.split(), check=True)

    def losses(self, data):
        got = harness.run([harness.program("keytrail"), "losses", "--db", data, "--json"])
        return [l for l in json.loads(got.stdout)["losses"] if l["kind"].startswith("degraded.")]

    def steps(self, program):
        """(reads less, reads more): the names of the levels, in the order told."""
        less = [l.split("reads less: ")[1].split()[0] for l in program.lines if "reads less: " in l]
        more = [l.split("reads more: ")[1].split()[0] for l in program.lines if "reads more: " in l]
        return less, more

    def test_up_under_load_and_down_again(self):
        data = os.path.join(self.scratch, "data")
        address = "tcp://127.0.0.1:17450"
        collector = Program(harness.program("keytrail-collector"), "--listen", address, "--data", data, "--query",
                            "none")
        agents = []
        stop = threading.Event()
        try:
            harness.wait_listening(collector.process, address)
            busy = Program(harness.program("keytrail-agent"), "-i", "kt1", "-v", "--cpu-limit", "1", "--collector",
                           address, "--agent-name", "busy")
            # No program fits into one page: it goes to the last step whatever it leaves out.
            large = Program(harness.program("keytrail-agent"), "-i", "kt1", "--json", "--memory-limit", "4KiB")
            free = Program(harness.program("keytrail-agent"), "-i", "kt1", "--json", "-q")
            agents = [busy, large, free]
            packets = frames(os.path.join(harness.BUNDLED, "pd_wide", "tidb1.pcap.zst"))

            def flood():
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                    out.bind(("kt0", 0))
                    for turn in itertools.count():
                        for n, packet in enumerate(packets):
                            if n % 64 == 0:
                                time.sleep(0.002)
                                if stop.is_set():
                                    return
                            out.send(moved(packet, turn))

            load = threading.Thread(target=flood)
            load.start()
            busy.wait_for("reads less: count_only")
            stop.set()
            load.join()
            busy.wait_for("reads more: headers_only")
            large.wait_for("still over its limits at the last step")
            statuses = [agent.end() for agent in agents]
        finally:
            stop.set()
            for program in agents + [collector]:
                program.end()
        self.assertEqual(statuses[:2], [harness.INCOMPLETE] * 2)

        less, more = self.steps(busy)
        self.assertEqual(less[:4], STEPS)
        self.assertEqual(more[0], "headers_only")
        self.assertTrue(any("lost or not read:" in l and "degradations=" in l for l in busy.lines), busy.lines)
        self.assertEqual(self.steps(large), (STEPS, []))
        self.assertEqual(self.steps(free), ([], []))
        summary = json.loads(large.output[-1])
        self.assertEqual((summary["detail"], summary["degradations"]), ("count_only", 4))
        self.assertTrue(all(summary[step + "_ns"] > 0 for step in STEPS), summary)
        unlimited = json.loads(free.output[-1])
        self.assertEqual((unlimited["detail"], unlimited["degradations"]), ("full", 0))

        # What the collector was told: every step, from when to when, and how much was left out.
        losses = self.losses(data)
        self.assertEqual({l["kind"] for l in losses}, {"degraded." + step for step in STEPS})
        self.assertEqual({l["host"] for l in losses}, {"busy"})
        for loss in losses:
            self.assertLessEqual(loss["first_ns"], loss["last_ns"])
        counted = {step: sum(l["count"] for l in losses if l["kind"] == "degraded." + step) for step in STEPS}
        told = next(line.fields for line in map(unified_log.parse, busy.lines) if line.message == "counters")
        self.assertEqual(counted["headers_only"], int(told["messages_headers_only"]))
        self.assertEqual(counted["count_only"], int(told["packets_counted_only"]))
        self.assertGreater(counted["headers_only"], 0)
        self.assertGreater(counted["count_only"], 0)

    def test_a_file_has_no_limits(self):
        path = os.path.join(harness.BUNDLED, "pd_wide", "pd1.pcap.zst")
        for limit in (["--cpu-limit", "50"], ["--memory-limit", "1GiB"]):
            refused = harness.run([harness.program("keytrail-agent"), "-r", path, *limit])
            self.assertEqual(refused.returncode, harness.USAGE)
            self.assertIn("live captures", refused.stderr)


if __name__ == "__main__":
    unittest.main()
