#!/usr/bin/env python3
"""keytrail-agent --spool against a running keytrail-collector, both killed at random moments: what the spool held is
stored exactly once.

KEYTRAIL_ROUNDS   rounds of each way to kill (default 2); the seeds are printed
"""

import contextlib
import hashlib
import os
import random
import select
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import harness
import pcap_file

ROUNDS = int(os.environ.get("KEYTRAIL_ROUNDS", "2"))
ENTRY = struct.Struct("<IIQQIqqQII")
MARKER = 0xB7E57A1C


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def spooled(folder):
    """{epoch: (last sequence, records up to it)} of the whole entries in a spool, read by another program than the
    agent's."""
    found = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".spool"):
            continue
        epoch = int(name.split("-")[1], 16)
        with open(os.path.join(folder, name), "rb") as handle:
            data = handle.read()
        if len(data) < 16:
            continue
        at = struct.unpack_from("<I", data, 12)[0]
        while at + ENTRY.size <= len(data):
            marker, length, sequence, before, records = ENTRY.unpack_from(data, at)[:5]
            if marker != MARKER or at + ENTRY.size + length > len(data):
                break
            found[epoch] = (sequence, before + records)
            at += ENTRY.size + length
    return found


def repeated(path, times):
    """An Ethernet capture's packets `times` times in a row, later and with other client ports each time."""
    data = pcap_file.load(path)
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    packets, at = [], 24
    while at + 16 <= len(data):
        second, fraction, kept, length = struct.unpack_from(order + "IIII", data, at)
        packets.append((second, fraction, kept, length, data[at + 16:at + 16 + kept]))
        at += 16 + kept
    step = packets[-1][0] - packets[0][0] + 2
    out = [data[:24]]
    for n in range(times):
        for second, fraction, kept, length, packet in packets:
            if n and packet[12:14] == b"\x08\x00" and packet[23] == 6:
                tcp = 14 + (packet[14] & 15) * 4
                ports = struct.unpack_from(">HH", packet, tcp)
                at = tcp if ports[0] > ports[1] else tcp + 2  # the client has the higher one
                port = 25000 + (max(ports) + 331 * n) % 40000
                packet = packet[:at] + struct.pack(">H", port) + packet[at + 2:]
            out.append(struct.pack(order + "IIII", second + n * step, fraction, kept, length) + packet)
    return b"".join(out)


COLUMNS = ("client", "server", "stream", "request_id", "req_first_ns", "resp_last_ns", "req_bytes", "resp_bytes")


def checksum(lines):
    digest = hashlib.sha256()
    for one in lines:
        digest.update(one.encode())
    return digest.hexdigest()


class Spool(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        scenario = next(s for s in harness.scenarios() if s.name == "modern_pd_wide")
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = os.path.join(cls.folder.name, "load.pcap")
        with open(cls.path, "wb") as handle:
            handle.write(repeated(harness.capture(scenario, "tidb1"), 50 if ROUNDS >= 100 else 25))
        records, _, _ = harness.agent_json(cls.path)
        cls.expected = ["|".join(str(r[c]) for c in COLUMNS) for r in records if r["kind"] != "amend"]
        cls.seed = int(os.environ.get("KEYTRAIL_SEED", random.randrange(1 << 30)))
        print(f"{len(cls.expected)} records, {ROUNDS} rounds, KEYTRAIL_SEED={cls.seed}", flush=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        super().setUp()
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.spool = os.path.join(self.scratch, "spool")
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        super().tearDown()

    def start(self, arguments, **options):
        errors = open(os.path.join(self.scratch, f"{len(self.started)}.stderr"), "w+b")
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=errors, **options)
        errors.close()
        process.words = os.path.join(self.scratch, f"{len(self.started)}.stderr")
        self.started.append(process)
        return process

    def collector(self, address=None):
        return self.start([harness.program("keytrail-collector"), "--listen", address or self.address, "--query",
                           "none", "--data", os.path.join(self.scratch, "data")])

    def agent(self, *more, address=None, path=None):
        source = ["-r", path or self.path] if "--drain" not in more else []
        return self.start([harness.program("keytrail-agent"), "-q", *source, "--collector", address or self.address,
                           "--agent-name", "tidb1", "--spool", self.spool, *more])

    def wait(self, process, *statuses, timeout=120):
        status = process.wait(timeout=timeout)
        with open(process.words, encoding="utf-8") as handle:
            words = handle.read()
        self.assertIn(status, statuses, words)
        return words

    def kill(self, process):
        process.kill()
        process.wait()

    def stop_collector(self, process):
        harness.wait_listening(process, self.address)
        process.send_signal(signal.SIGTERM)
        self.wait(process, harness.DONE)

    def database(self):
        """All of the collector's files, as one."""
        copy = os.path.join(self.scratch, "copy.db")
        for name in (copy, copy + "-wal", copy + "-shm"):
            if os.path.exists(name):
                os.remove(name)
        result = harness.run([harness.program("keytrail"), "backup", "--db", os.path.join(self.scratch, "data"), copy])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        return contextlib.closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True))

    def stored(self):
        """{epoch: [a line a record, in the order of the agent]} of the database."""
        epochs = {}
        with self.database() as database:
            self.assertEqual(database.execute("pragma quick_check").fetchone()[0], "ok")
            columns = ", ".join("c." + column for column in COLUMNS)
            for row in database.execute(f"select a.epoch, {columns} from calls c join agents a on a.id = c.agent"
                                        " order by c.id"):
                epochs.setdefault(row[0] % 2**64, []).append("|".join(str(v) for v in row[1:]))
        return epochs

    def losses(self):
        with self.database() as database:
            return [r[0] for r in database.execute(
                "select kind from losses where kind in ('shed', 'spool_damaged', 'sequence_gap', 'ship_queue_full')")]

    def check(self, sealed, whole):
        """Each epoch is a beginning of what a direct decode gives, at least as long as what was sealed of it; `whole`
        of them are all of it."""
        stored = self.stored()
        for epoch, lines in stored.items():
            self.assertEqual((len(lines), checksum(lines)), (len(lines), checksum(self.expected[:len(lines)])))
            self.assertLessEqual(len(lines), len(self.expected))
        for epoch, (_, records) in sealed.items():
            self.assertGreaterEqual(len(stored.get(epoch, [])), records)
        self.assertEqual(sum(len(lines) == len(self.expected) for lines in stored.values()) >= whole, True,
                         {e: len(lines) for e, lines in stored.items()})
        self.assertEqual(self.losses(), [])
        self.assertEqual([n for n in os.listdir(self.spool) if n.endswith(".spool")], [])
        return stored

    def rounds(self, what, play):
        cut_short = 0
        for n in range(ROUNDS):
            for name in ("data", "spool"):
                shutil.rmtree(os.path.join(self.scratch, name), ignore_errors=True)
            chance = random.Random(f"{self.seed} {what} {n}")
            with self.subTest(what=what, n=n):
                cut_short += play(chance)
        print(f"{what}: {ROUNDS} rounds, {cut_short} with something under way at the kill", flush=True)

    def test_agent_is_killed(self):
        def play(chance):
            collector = self.collector()
            harness.wait_listening(collector, self.address)
            sealed = {}
            for _ in range(chance.randint(1, 2)):
                agent = self.agent()
                time.sleep(chance.uniform(0, 0.6))
                self.kill(agent)
                if os.path.isdir(self.spool):
                    sealed.update(spooled(self.spool))
            self.wait(self.agent(), harness.DONE, harness.INCOMPLETE)
            self.stop_collector(collector)
            self.check(sealed, 1)
            return bool(sealed)
        self.rounds("agent", play)

    def test_collector_is_killed(self):
        def play(chance):
            collector = self.collector()
            harness.wait_listening(collector, self.address)
            agent = self.agent()
            time.sleep(chance.uniform(0, 0.6))
            under_way = agent.poll() is None
            self.kill(collector)
            collector = self.collector()
            self.wait(agent, harness.DONE, harness.INCOMPLETE)
            self.stop_collector(collector)
            self.assertEqual(len(self.check({}, 1)), 1)
            return under_way
        self.rounds("collector", play)

    def test_both_are_killed(self):
        def play(chance):
            collector = self.collector()
            harness.wait_listening(collector, self.address)
            agent = self.agent()
            time.sleep(chance.uniform(0.05, 0.6))
            both = [collector, agent]
            chance.shuffle(both)
            for process in both:
                process.kill()
            for process in both:
                process.wait()
            sealed = spooled(self.spool) if os.path.isdir(self.spool) else {}
            collector = self.collector()
            self.wait(self.agent("--drain"), harness.DONE, harness.INCOMPLETE)
            self.stop_collector(collector)
            self.check(sealed, 0)
            return bool(sealed)
        self.rounds("both", play)

    def test_collector_away_at_the_end_and_back_later(self):
        words = self.wait(self.agent("--wait", "1s"), harness.INCOMPLETE)
        self.assertIn(f"keeps {len(self.expected)} records", words)
        self.assertIn("--drain --spool", words)
        for name in os.listdir(self.spool):
            self.assertEqual(os.stat(os.path.join(self.spool, name)).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(self.spool).st_mode & 0o777, 0o700)
        sealed = spooled(self.spool)
        self.assertEqual([records for _, records in sealed.values()], [len(self.expected)])
        collector = self.collector()
        self.wait(self.agent("--drain"), harness.DONE)
        self.wait(self.agent("--drain"), harness.DONE)
        self.stop_collector(collector)
        self.assertEqual(len(self.check(sealed, 1)), 1, "a drain has no epoch of its own")

    def test_slow_collector(self):
        collector = self.collector()
        harness.wait_listening(collector, self.address)
        agent = self.agent()
        for _ in range(2):
            time.sleep(0.1)
            collector.send_signal(signal.SIGSTOP)
            time.sleep(0.7)
            collector.send_signal(signal.SIGCONT)
        self.wait(agent, harness.DONE, harness.INCOMPLETE)
        self.stop_collector(collector)
        self.assertEqual(len(self.check({}, 1)), 1)

    def test_connections_that_break(self):
        cuts = 10 * ROUNDS if ROUNDS >= 100 else 5
        collector = self.collector()
        harness.wait_listening(collector, self.address)
        proxy = Proxy(self.address, cuts, self.seed)
        begun = time.monotonic()
        # Small pieces: each connection gets some of it through.
        self.wait(self.agent(address=proxy.address), harness.DONE, harness.INCOMPLETE, timeout=3000)
        print(f"{proxy.cut} connections cut, {time.monotonic() - begun:.1f} s", flush=True)
        proxy.stop()
        self.stop_collector(collector)
        self.assertGreaterEqual(proxy.cut, cuts)
        self.assertEqual(len(self.check({}, 1)), 1)

    def test_a_spool_has_one_agent(self):
        first = self.agent("--wait", "2s")
        while not os.path.exists(os.path.join(self.spool, "lock")) or not os.path.getsize(
                os.path.join(self.spool, "lock")):
            self.assertIsNone(first.poll())
            time.sleep(0.01)
        words = self.wait(self.agent(), harness.FAILED)
        self.assertIn(f"process {first.pid}", words)
        self.wait(first, harness.INCOMPLETE)

    def test_wrong_usage(self):
        for more in (["--spool-bytes", "1000"], ["--wait", "soon"], ["--drain", "-i", "lo"]):
            self.wait(self.agent(*more), harness.USAGE)


class Proxy:
    """Passes bytes between agents and a collector, and cuts the connection after some of them, `cuts` times."""

    def __init__(self, target, cuts, seed):
        host, port = target[len("tcp://"):].rsplit(":", 1)
        self.target, self.cuts, self.cut = (host, int(port)), cuts, 0
        self.chance = random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.stopped = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def stop(self):
        self.stopped = True
        self.thread.join()
        self.listener.close()

    def run(self):
        while not self.stopped:
            if select.select([self.listener], [], [], 0.1)[0]:
                agent, _ = self.listener.accept()
                with agent, socket.create_connection(self.target) as collector:
                    self.connection(agent, collector)

    def connection(self, agent, collector):
        left = self.chance.randint(300, 6000) if self.cut < self.cuts else None
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while not self.stopped:
            for one in select.select([agent, collector], [], [], 0.1)[0]:
                try:
                    data = one.recv(2048)
                    if left is not None:
                        left -= len(data)
                        if left < 0:
                            self.cut += 1
                            return
                    if not data:
                        return
                    (collector if one is agent else agent).sendall(data)
                except OSError:
                    return


if __name__ == "__main__":
    unittest.main()
