#!/usr/bin/env python3
"""A collector judges while records keep coming: a sign of a fault brings its verdict, and what comes later amends it."""

import json
import os
import signal
import subprocess
import threading
import time
import unittest

import harness
import pcap_file
from test_query import RunningCollector

# Longer than any machine that runs tests needs; a condition that never comes must end.
PATIENCE_S = 240
# Who was wrong about what: that stays when more becomes known.
IDENTITY = ("component", "rule", "client", "server", "region_id", "version")


def by_name(name):
    return next(s for s in harness.scenarios() if s.name == name and not s.large)


def elsewhere(data):
    """The requests to stores of a capture, as those of another cluster's machines."""
    moved = []
    for ts, frame in pcap_file.packets(data):
        frame = bytearray(frame)
        ports = frame[34:38]
        if frame[12:14] != b"\x08\x00" or 20160 not in (ports[0] << 8 | ports[1], ports[2] << 8 | ports[3]):
            continue
        for at in (26, 30):
            if frame[at:at + 2] == b"\x0a\x4d":  # 10.77.0.0
                frame[at + 1] = 99
        moved.append((ts, bytes(frame)))
    return pcap_file.encode(moved)


class Traffic:
    """An agent that ships the same capture again and again, until stop()."""

    def __init__(self, listen, path):
        self.listen, self.path = listen, path
        self.stopping = threading.Event()
        self.rounds, self.problem = 0, None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stopping.is_set():
            result = harness.run([harness.program("keytrail-agent"), "-r", self.path, "-q", "--collector", self.listen,
                                  "--agent-name", "busy"])
            if result.returncode not in (harness.DONE, harness.INCOMPLETE):
                self.problem = result.stderr
                return
            self.rounds += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()


class Watch:
    """The events of `keytrail watch --json`, as they come."""

    def __init__(self, query):
        self.events = []
        self.process = subprocess.Popen([harness.program("keytrail"), "watch", "--collector", query, "--json"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def verdicts(self, change):
        return [e["verdict"] for e in list(self.events) if e["event"] == "verdict" and e["change"] == change]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)
        self.thread.join()
        self.process.stdout.close()


def identity(verdict):
    return tuple(verdict[name] for name in IDENTITY)


class LiveVerdict(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.collector = RunningCollector(self.scratch)
        scenario = by_name("healthy")
        other = self.write("other.pcap", elsewhere(pcap_file.load(harness.capture(scenario, "tidb1"))))
        self.traffic = Traffic(self.collector.listen, other)
        self.watch = Watch(self.collector.query)

    def tearDown(self):
        self.watch.stop()
        self.traffic.stop()
        self.collector.stop()
        super().tearDown()

    def wait(self, condition):
        """What `condition` gives as soon as it gives anything."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.traffic.problem is not None:
                self.fail(self.traffic.problem)
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        self.fail(f"it never came; the other agent shipped {self.traffic.rounds} times; {self.watch.events[-3:]}")
        return None

    def ship(self, scenario, *hosts):
        for host in hosts:
            result = harness.run([harness.program("keytrail-agent"), "-r", harness.capture(scenario, host), "-q",
                                  "--collector", self.collector.listen, "--agent-name", host, "--role", host[:-1]])
            self.assertIn(result.returncode, (harness.DONE, harness.INCOMPLETE), result.stderr)

    def agents(self):
        return json.loads(self.collector.ask("agents", "--json").stdout)["agents"]

    def verdicts(self):
        result = self.collector.ask("verdicts", "--json")
        return json.loads(result.stdout)["verdicts"] if result.returncode == harness.DONE else []

    def test_a_sign_is_judged_and_amended_while_records_come(self):
        scenario = by_name("pd_wide")
        self.wait(lambda: self.traffic.rounds >= 2)
        self.assertEqual(self.verdicts(), [])
        self.wait(lambda: sum(a["records"] for a in self.agents() if a["host"] == "busy") > 100)
        self.ship(scenario, "tidb1", "pd1")
        shipped_at = self.traffic.rounds
        early = self.wait(self.verdicts)
        self.assertEqual({v["component"] for v in early}, {"pd"})
        # All that these two captures show, whatever of them the first judgement saw.
        alone, _ = harness.investigate([f"{host}={harness.capture(scenario, host)}" for host in ("tidb1", "pd1")])
        expected = {identity(v): v for v in alone["verdicts"]}

        def settled(wanted):
            now = {identity(v): v for v in self.verdicts()}
            if set(now) != set(wanted):
                return None
            same = all(now[i]["occurrences"] == v["occurrences"] and len(now[i]["evidence"]) == len(v["evidence"])
                       for i, v in wanted.items())
            return now if same else None
        first = self.wait(lambda: settled(expected))
        told = self.wait(lambda: {identity(v) for v in self.watch.verdicts("new")} >= set(expected))
        self.assertTrue(told)
        # The other agent has not stopped: nothing waited for silence.
        self.wait(lambda: self.traffic.rounds > shipped_at + 1)

        self.ship(scenario, "tikv1", "tidb2")
        whole, _ = harness.investigate([f"{host}={harness.capture(scenario, host)}" for host in harness.HOSTS])
        second = self.wait(lambda: settled({identity(v): v for v in whole["verdicts"]}))
        self.assertEqual(set(first), set(second))
        for who, verdict in second.items():
            self.assertGreaterEqual(len(verdict["evidence"]), len(first[who]["evidence"]))
            self.assertGreaterEqual(verdict["confidence"] == "certain", first[who]["confidence"] == "certain")
        grown = [who for who in second if len(second[who]["evidence"]) > len(first[who]["evidence"])]
        self.assertTrue(grown)
        # A reader of both sees one verdict that changed, and none that went.
        self.assertEqual([v for v in self.watch.verdicts("withdrawn") if identity(v) in second], [])


if __name__ == "__main__":
    unittest.main()
