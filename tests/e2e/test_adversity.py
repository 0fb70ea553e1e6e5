#!/usr/bin/env python3
"""Bad networks, clocks and disks between real agents and a real collector: what is stored is what a direct decode gives,
each record once.

KEYTRAIL_LONG   1: more links and longer cuts

Elsewhere: kills, slow collectors and a thousand broken connections (test_spool), full disks and damage (test_store), half-open
handshakes, replays and claims of 2 GiB at the receiving socket (test_keys).
"""

import mmap
import os
import random
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import harness
import test_spool
from bad_link import BadLink, Weather
from test_spool import COLUMNS, checksum, free_port, repeated

LONG = os.environ.get("KEYTRAIL_LONG") == "1"
SHIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adversity_shim.c")
YEAR = 365 * 86400


def command(*words):
    subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Shim:
    """What one process takes for the time and for its disk."""

    def __init__(self, folder, name, library, disk=""):
        path = os.path.join(folder, name + ".shim")
        with open(path, "wb") as handle:
            handle.write(bytes(4096))
        with open(path, "r+b") as handle:
            self.map = mmap.mmap(handle.fileno(), 4096)
        self.environment = dict(os.environ, LD_PRELOAD=library, KEYTRAIL_SHIM=path, KEYTRAIL_SHIM_FOLDER=disk)

    def step(self, seconds):
        self.map[0:8] = struct.pack("<q", seconds)

    def read_only(self, yes):
        self.map[8:16] = struct.pack("<q", int(yes))


class Adversity(harness.ProgramTest):
    start, wait, kill = test_spool.Spool.start, test_spool.Spool.wait, test_spool.Spool.kill
    database, stored, losses = test_spool.Spool.database, test_spool.Spool.stored, test_spool.Spool.losses

    @classmethod
    def setUpClass(cls):
        scenario = next(s for s in harness.scenarios() if s.name == "modern_pd_wide")
        cls.folder = tempfile.TemporaryDirectory()
        cls.capture = os.path.join(cls.folder.name, "load.pcap")
        with open(cls.capture, "wb") as handle:
            handle.write(repeated(harness.capture(scenario, "tidb1"), 25 if LONG else 8))
        records, _, _ = harness.agent_json(cls.capture)
        cls.expected = ["|".join(str(r[c]) for c in COLUMNS) for r in records if r["kind"] != "amend"]
        cls.library = os.path.join(cls.folder.name, "shim.so")
        built = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", cls.library, SHIM, "-ldl"], stderr=subprocess.PIPE,
                               check=False)
        cls.shim_problem = built.stderr.decode() if built.returncode else ""
        cls.seed = int(os.environ.get("KEYTRAIL_SEED", random.randrange(1 << 30)))
        print(f"{len(cls.expected)} records, KEYTRAIL_SEED={cls.seed}", flush=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        super().setUp()
        self.assertEqual(self.shim_problem, "")
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.started = []
        self.begun = time.monotonic()

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        super().tearDown()

    def collector(self, *more, env=None, before=(), address=None):
        return self.start([*before, harness.program("keytrail-collector"), "--listen", address or self.address, "--data",
                           os.path.join(self.scratch, "data"), *(more if "--query" in more else ("--query", "none", *more))],
                          env=env)

    def agent(self, *more, env=None, before=(), address=None):
        return self.start([*before, harness.program("keytrail-agent"), "-q", "-r", self.capture, "--collector",
                           address or self.address, "--agent-name", "tidb1", *more], env=env)

    def said(self, process):
        with open(process.words, encoding="utf-8") as handle:
            return handle.read()

    def until_said(self, process, text):
        end = time.monotonic() + 60
        while text not in self.said(process):
            self.assertIsNone(process.poll(), self.said(process))
            self.assertLess(time.monotonic(), end, f"{text!r} was not told: {self.said(process)}")
            time.sleep(0.02)

    def stop(self, process):
        self.until_said(process, "listening on")
        process.send_signal(signal.SIGTERM)
        return self.wait(process, harness.DONE)

    def check(self, starts=1):
        """Each of `starts` starts of the agent is stored as a direct decode gives it, and nothing beside."""
        stored = self.stored()
        self.assertEqual([(len(lines), checksum(lines)) for lines in stored.values()],
                         [(len(self.expected), checksum(self.expected))] * starts)
        self.assertEqual(self.losses(), [])

    def row(self, case, *figures):
        print(f"| {case} | {time.monotonic() - self.begun:.1f} s | " + " | ".join(figures) + " |", flush=True)


class Links(Adversity):
    """The agent in one network namespace, the collector in another, a bad link between them."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("needs root to make network namespaces")
        self.ends = [f"kt{os.getpid()}a", f"kt{os.getpid()}c"]
        try:
            for end in self.ends:
                command("ip", "netns", "add", end)
            self.link = BadLink(self.ends, ("agent0", "collector0"), ("10.213.0.1/24", "10.213.0.2/24"), Weather(), self.seed)
        except (OSError, subprocess.CalledProcessError) as problem:
            self.remove()
            self.skipTest(f"network namespaces cannot be made here: {problem}")
        keys = [harness.program("keytrail"), "keys"]
        admitted = os.path.join(self.scratch, "admitted")
        for name in ("collector", "tidb1"):
            command(*keys, "new", name, "--dir", self.scratch)
        command(*keys, "admit", os.path.join(self.scratch, "tidb1.pub"), "--admitted", admitted)
        self.server_keys = ["--key", os.path.join(self.scratch, "collector.key"), "--admitted", admitted]
        self.agent_keys = ["--key", os.path.join(self.scratch, "tidb1.key"), "--server-key",
                           os.path.join(self.scratch, "collector.pub")]

    def tearDown(self):
        super().tearDown()
        self.link.close()
        self.remove()

    def remove(self):
        for end in self.ends:
            subprocess.run(["ip", "netns", "del", end], check=False, stderr=subprocess.DEVNULL)

    def play(self, case, weather, cuts=0, cut_seconds=1.0):
        self.link.weather = weather
        address = "tcp://10.213.0.2:7450"
        collector = self.collector(*self.server_keys, address=address, before=["ip", "netns", "exec", self.ends[1]])
        self.until_said(collector, "listening on")
        agent = self.agent(*self.agent_keys, "--wait", "120s", address=address,
                           before=["ip", "netns", "exec", self.ends[0]])
        cut = 0
        peak = 0
        next_cut = time.monotonic() + 0.5
        while agent.poll() is None:
            try:
                with open(f"/proc/{agent.pid}/status", encoding="ascii") as status:
                    peak = max([peak] + [int(line.split()[1]) for line in status if line.startswith("VmHWM")])
            except OSError:
                pass
            if cut < cuts and time.monotonic() >= next_cut:
                command("ip", "-n", self.ends[0], "link", "set", "agent0", "down")
                time.sleep(cut_seconds)
                command("ip", "-n", self.ends[0], "link", "set", "agent0", "up")
                cut += 1
                next_cut = time.monotonic() + 0.5
            time.sleep(0.02)
        self.wait(agent, harness.DONE, harness.INCOMPLETE)
        self.assertEqual(cut, cuts, "the load was over before")
        self.stop(collector)
        self.check()
        self.assertLess(peak / 1024, 128)
        counts = self.link.counts
        # What was asked for did happen.
        for share, kind in ((weather.loss, "lost"), (weather.duplicate, "doubled"), (weather.reorder, "hurried"), (cuts, "cut")):
            if share:
                self.assertGreater(counts[kind], 0, kind)
        self.row(case, f"{len(self.expected)} stored, checksum equal", f"agent {peak // 1024} MiB",
                 ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())))

    def test_cut(self):
        self.play("1 Mbit/s, cut", Weather(rate=1_000_000), cuts=4 if LONG else 1, cut_seconds=5 if LONG else 1)

    def test_everything_at_once(self):
        self.play("delay, loss, duplicates, reordering",
                  Weather(delay=0.03, jitter=0.02, loss=0.02, duplicate=0.02, reorder=0.25))


def long_link(case, weather):
    def test(self):
        self.play(case, weather)
    return test


if LONG:
    for _name, _weather in (("rate_1mbit", Weather(rate=1_000_000)), ("rate_256kbit", Weather(rate=256_000)),
                            ("loss_2", Weather(delay=0.01, loss=0.02)), ("loss_10", Weather(delay=0.01, loss=0.1)),
                            ("delay", Weather(delay=0.05, jitter=0.02)), ("duplicate", Weather(duplicate=0.2)),
                            ("reorder", Weather(delay=0.01, reorder=0.25))):
        setattr(Links, "test_" + _name, long_link(_name, _weather))


class Clocks(Adversity):
    def test_steps_on_both_while_shipping(self):
        shims = [Shim(self.scratch, name, self.library) for name in ("agent", "collector")]
        collector = self.collector(env=shims[1].environment)
        self.until_said(collector, "listening on")
        agent = self.agent("--spool", os.path.join(self.scratch, "spool"), env=shims[0].environment)
        chance = random.Random(self.seed)
        steps = 0
        while agent.poll() is None:
            chance.choice(shims).step(chance.choice((0, 90, -90, 7200, -7200, YEAR, -YEAR)))
            steps += 1
            time.sleep(0.01)
        self.wait(agent, harness.DONE, harness.INCOMPLETE)
        self.stop(collector)
        self.check()
        self.row("both clocks step", f"{len(self.expected)} stored, checksum equal", f"{steps} steps of up to a year")

    def test_a_year_ahead_drops_nothing(self):
        """While it runs, over a start, and after it is set right again."""
        shim = Shim(self.scratch, "collector", self.library)
        options = ("--keep-bytes", "48M")
        collector = self.collector(*options, env=shim.environment)
        self.until_said(collector, "listening on")
        starts = 0
        words = ""
        for offset, anew in ((0, False), (0, False), (YEAR, False), (YEAR, True), (0, False), (-YEAR, True), (0, True)):
            if anew:
                words += self.stop(collector)
            shim.step(offset)
            if anew:
                collector = self.collector(*options, env=shim.environment)
                self.until_said(collector, "listening on")
            self.wait(self.agent(), harness.DONE, harness.INCOMPLETE)
            starts += 1
            if offset > 0:
                time.sleep(1.2)  # windows are looked at once a second
        words += self.stop(collector)
        self.assertNotIn("dropped 'calls-", words)
        windows = [n for n in os.listdir(os.path.join(self.scratch, "data")) if n.startswith("calls-") and n.endswith(".db")]
        self.assertGreater(len(windows), 1)
        self.check(starts)
        self.assertIn("is not believed", words)
        self.row("collector's clock a year ahead and back", f"{starts} × {len(self.expected)} stored", f"{len(windows)} windows")


class Disks(Adversity):
    def test_store_turns_read_only(self):
        data = os.path.join(self.scratch, "data")
        shim = Shim(self.scratch, "collector", self.library, data)
        collector = self.collector(env=shim.environment)
        self.until_said(collector, "listening on")
        self.wait(self.agent(), harness.DONE, harness.INCOMPLETE)
        shim.read_only(True)
        agent = self.agent()
        self.until_said(collector, "the disk is read-only")
        asked = harness.run([harness.program("keytrail"), "sql", "--db", data, "-e", "select count(*) from calls", "--format",
                             "csv"])
        self.assertEqual(asked.stdout.split()[-1], str(len(self.expected)), asked.stderr)
        time.sleep(2.5)  # tried again twice meanwhile
        self.assertEqual(self.said(collector).count("the disk is read-only"), 1, self.said(collector))
        shim.read_only(False)
        self.wait(agent, harness.DONE, harness.INCOMPLETE)
        self.assertIn("writing again", self.stop(collector))
        self.check(2)
        self.row("store's disk read-only", f"2 × {len(self.expected)} stored, checksum equal", "told once, read meanwhile")

    def test_spool_turns_read_only(self):
        spool = os.path.join(self.scratch, "spool")
        shim = Shim(self.scratch, "agent", self.library, spool)
        shim.read_only(False)
        agent = self.agent("--spool", spool, "--wait", "60s", env=shim.environment)
        while not os.path.isdir(spool) or not any(n.endswith(".spool") for n in os.listdir(spool)):
            self.assertIsNone(agent.poll())
            time.sleep(0.005)
        shim.read_only(True)
        time.sleep(1.5)
        shim.read_only(False)
        collector = self.collector()
        words = self.wait(agent, harness.DONE, harness.INCOMPLETE)
        self.assertEqual(words.count("Read-only file system"), 1, words)
        self.stop(collector)
        self.check()
        self.row("spool's disk read-only", f"{len(self.expected)} stored, checksum equal", "told once")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, body):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def literal(name, value):
    """A field without index or Huffman code; values shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Strangers(Adversity):
    def test_slow_loris_at_the_query_port(self):
        """Connections that say nothing, half a preface, half a frame, headers without end, and streams that nobody reads: an
        agent ships and people ask meanwhile."""
        port = free_port()
        collector = self.collector("--query", f"127.0.0.1:{port}")
        self.until_said(collector, "answering queries")
        headers = b"".join(literal(*field) for field in (
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/keytrail.query.Query/Watch"), (b":authority", b"x"),
            (b"content-type", b"application/grpc"), (b"te", b"trailers")))
        settings = frame(4, 0, 0, struct.pack(">HI", 4, 0))  # a window of nothing
        watch = PREFACE + settings + frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5))
        block = b"".join(literal(b"x-%d" % n, b"y" * 100) for n in range(120))
        endless = PREFACE + frame(4, 0, 0, b"") + frame(1, 0, 1, headers) + frame(9, 0, 1, block) * 400
        kinds = {"silent": (b"", 400), "half a preface": (PREFACE[:9], 200), "half a frame": (PREFACE + b"\0\0", 200),
                 "not read": (watch, 20), "endless headers": (endless, 4)}
        open_ones = []
        try:
            for text, count in kinds.values():
                for _ in range(count):
                    one = socket.create_connection(("127.0.0.1", port), timeout=10)
                    open_ones.append(one)
                    try:
                        one.sendall(text)
                    except OSError:
                        pass  # it was put out already, which is well
            self.wait(self.agent(), harness.DONE, harness.INCOMPLETE)
            slowest = 0
            for what in ("agents", "losses", "verdicts"):
                begun = time.monotonic()
                asked = harness.run([harness.program("keytrail"), what, "--collector", f"127.0.0.1:{port}"], timeout=60)
                slowest = max(slowest, time.monotonic() - begun)
                self.assertTrue(asked.returncode in (harness.DONE, harness.INCOMPLETE) or "nothing was judged yet" in
                                asked.stderr, asked.stderr)
            with open(f"/proc/{collector.pid}/status", encoding="ascii") as status:
                peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
            self.assertLess(peak, 600)
        finally:
            for one in open_ones:
                one.close()
        self.stop(collector)
        self.check()
        self.row(f"{len(open_ones)} bad connections at the query port", f"{len(self.expected)} stored, slowest answer {slowest:.2f} s",
                 f"collector {peak} MiB")


if __name__ == "__main__":
    unittest.main()
