#!/usr/bin/env python3
"""A live capture whose collector is away: what it saw meanwhile is kept, or told as lost, to the last record.

Needs root: the traffic goes over a pair of devices in a network namespace of the test's own.

KEYTRAIL_LONG   1: the collector is away for ten minutes, not for eight seconds
"""

import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import unittest

import harness
import unified_log
from test_restraint import CLONE_NEWNET, Program, frames, moved
from test_spool import COLUMNS, checksum

LONG = os.environ.get("KEYTRAIL_LONG") == "1"
AWAY_SECONDS = 600 if LONG else 8
ADDRESS = "tcp://127.0.0.1:17451"


def says_something(packet):
    """Not a bare acknowledgement."""
    header = (packet[14] & 15) * 4
    tcp = 14 + header
    ends = 14 + int.from_bytes(packet[16:18], "big")
    return packet[tcp + 13] & 0x07 != 0 or ends > tcp + (packet[tcp + 12] >> 4) * 4


class Flood:
    """The packets of a capture again and again, each time from other client ports."""

    def __init__(self, packets, at_once, pause):
        self.packets, self.at_once, self.pause = packets, at_once, pause
        self.sent = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def _send(self):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind(("kt0", 0))
            for turn in itertools.count():
                for n, packet in enumerate(self.packets):
                    if n % self.at_once == 0:
                        time.sleep(self.pause)
                        if self.stopping.is_set():
                            return
                    out.send(moved(packet, turn))
                    self.sent += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class Outage(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise unittest.SkipTest(f"network namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")
        for command in ("ip link set lo up", "ip link add kt0 type veth peer name kt1", "ip link set kt0 up", "ip link set kt1 up"):
            subprocess.run(command.split(), check=True)
        scenario = next(s for s in harness.scenarios() if s.name == "modern_pd_wide")
        # Of ports that an agent captures without being told, and that carry nothing but gRPC.
        ports = {(2379).to_bytes(2, "big"), (20160).to_bytes(2, "big")}
        cls.packets = [p for p in frames(harness.capture(scenario, "tidb1")) if ports & {p[34:36], p[36:38]}]

    def setUp(self):
        super().setUp()
        self.programs = []
        self.data = os.path.join(self.scratch, "data")

    def tearDown(self):
        for program in self.programs:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
            program.end()
        super().tearDown()

    def start(self, name, *arguments):
        program = Program(harness.program(name), *arguments)
        self.programs.append(program)
        return program

    def collector(self):
        program = self.start("keytrail-collector", "--listen", ADDRESS, "--query", "none", "--data", self.data)
        harness.wait_listening(program.process, ADDRESS)
        return program

    def agent(self, *more):
        program = self.start("keytrail-agent", "-i", "kt1", "-v", "--collector", ADDRESS, *more)
        program.wait_for("runs as")  # its device is open
        return program

    def stored(self):
        """([a line a call, in the agent's order], {kind of loss: count})."""
        copy = os.path.join(self.scratch, "copy.db")
        result = harness.run([harness.program("keytrail"), "backup", "--db", self.data, copy])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        with contextlib.closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as database:
            columns = ", ".join(COLUMNS)
            calls = ["|".join(str(v) for v in row) for row in database.execute(f"select {columns} from calls order by id")]
            return calls, dict(database.execute("select kind, sum(count) from losses group by kind"))

    def counts(self, agent):
        """What -v prints at the end."""
        found = {}
        for line in map(unified_log.parse, agent.lines):
            if line.message in ("counters", "shipping"):
                found.update((key, int(value)) for key, value in line.fields.items())
        return found

    def assert_saw_all(self, counts, flood):
        for kind in ("kernel_drops", "interface_drops"):
            self.assertEqual(counts[kind], 0)
        self.assertGreaterEqual(counts["packets"], flood.sent)

    def peak_mib(self, program):
        with open(f"/proc/{program.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024

    def test_spool_bridges_it(self):
        kept = os.path.join(self.scratch, "kept.pcap")
        collector = self.collector()
        agent = self.agent("--spool", os.path.join(self.scratch, "spool"), *([] if LONG else ["-w", kept]))
        flood = Flood(self.packets, 8, 0.003)
        try:
            time.sleep(1)
            collector.process.kill()
            collector.end()
            time.sleep(AWAY_SECONDS)
            self.collector()
            time.sleep(1)
        finally:
            flood.stop()
        time.sleep(0.5)  # what was sent last is on its way
        peak = self.peak_mib(agent)
        self.assertIn(agent.end(), (harness.DONE, harness.INCOMPLETE))
        counts = self.counts(agent)
        self.assert_saw_all(counts, flood)
        self.assertEqual((counts["spool_records_lost"], counts["spool_records_left"]), (0, 0))
        self.assertEqual(self.programs[-1].end(), harness.DONE)
        calls, losses = self.stored()
        self.assertEqual(len(calls), counts["ship_records"])
        self.assertEqual({kind for kind in losses if kind.startswith(("ship_", "spool_", "sequence_")) or kind == "shed"}, set())
        if not LONG:
            records, _, _ = harness.agent_json(kept)
            expected = ["|".join(str(r[c]) for c in COLUMNS) for r in records if r["kind"] != "amend"]
            # The clock of a file stands still at its end, that of a device does not: calls may end in another order.
            self.assertEqual((len(calls), checksum(sorted(calls))), (len(expected), checksum(sorted(expected))))
        self.assertLess(peak, 256)
        print(f"| collector away for {AWAY_SECONDS} s, spool | {flood.sent} packets, none dropped | {len(calls)} calls stored,"
              f" all of {counts['ship_records']} | agent {peak} MiB |", flush=True)

    def test_without_a_spool_what_is_shed_is_told(self):
        """The queue in memory takes some seconds of it; beyond, records are lost, and counted where the rest is stored."""
        collector = self.collector()
        agent = self.agent()
        flood = Flood([packet for packet in self.packets if says_something(packet)], 128, 0.001)
        try:
            time.sleep(1)
            collector.process.send_signal(signal.SIGSTOP)
            end = time.monotonic() + 120
            # The queue has room for some 100,000 records, a round of the packets makes 1,214.
            while flood.sent < 200 * len(flood.packets) and time.monotonic() < end:
                time.sleep(0.1)
            collector.process.send_signal(signal.SIGCONT)
            time.sleep(1)
        finally:
            flood.stop()
        time.sleep(0.5)
        peak = self.peak_mib(agent)
        self.assertEqual(agent.end(), harness.INCOMPLETE)
        counts = self.counts(agent)
        self.assert_saw_all(counts, flood)
        self.assertEqual(collector.end(), harness.DONE)
        calls, losses = self.stored()
        self.assertGreater(losses.get("ship_queue_full", 0), 0)
        said = next(line for line in agent.lines if "records were lost before" in line)
        self.assertEqual(losses["ship_queue_full"], int(re.search(r"(\d+) records were lost", said).group(1)))
        self.assertEqual(len(calls) + losses["ship_queue_full"], counts["ship_records"])
        self.assertLess(peak, 256)
        print(f"| collector stands still, no spool | {flood.sent} packets, none dropped | {len(calls)} calls stored +"
              f" {losses['ship_queue_full']} told as lost = {counts['ship_records']} | agent {peak} MiB |", flush=True)


if __name__ == "__main__":
    unittest.main()
