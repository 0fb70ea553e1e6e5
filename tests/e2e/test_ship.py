#!/usr/bin/env python3
"""keytrail-agent -r FILE --collector against a running keytrail-collector: every record arrives once, and the
verdicts are those of `keytrail investigate` on the same files."""

import glob
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import unittest

import harness
from test_investigate import essence
from test_spool import repeated


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


class Collector:
    """A keytrail-collector with its data in `folder`, until stop()."""

    def __init__(self, folder, *more):
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.errors = open(os.path.join(folder, "collector.stderr"), "w+b")
        self.process = subprocess.Popen(
            [harness.program("keytrail-collector"), "--listen", self.address, "--data", os.path.join(folder, "data"),
             *more], stdout=subprocess.DEVNULL, stderr=self.errors)

    def stop(self):
        if self.process.poll() is None:
            harness.wait_listening(self.process, self.address)
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.errors.close()
        return status

    def database(self):
        """All that is stored, as one file."""
        copy = os.path.join(self.folder, f"copy{len(glob.glob(os.path.join(self.folder, 'copy*')))}.db")
        result = harness.run([harness.program("keytrail"), "backup", "--db", os.path.join(self.folder, "data"), copy])
        if result.returncode != harness.DONE:
            raise AssertionError(result.stderr)
        return copy


class Ship(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.collector = Collector(self.scratch)

    def tearDown(self):
        self.collector.stop()
        super().tearDown()

    def ship(self, path, *more):
        result = harness.run([harness.program("keytrail-agent"), "-r", path, "-q", "--collector",
                              self.collector.address, *more])
        self.assertIn(result.returncode, (harness.DONE, harness.INCOMPLETE), result.stderr)

    def scenario(self, name):
        return next(s for s in harness.scenarios() if s.name == name)

    def test_every_record_arrives_once(self):
        scenario = self.scenario("modern_pd_wide")
        path = harness.capture(scenario, "tidb1")
        records, _, _ = harness.agent_json(path)
        self.ship(path, "--agent-name", "tidb1", "--role", "tidb")
        self.assertEqual(self.collector.stop(), harness.DONE)
        with sqlite3.connect(f"file:{self.collector.database()}?mode=ro", uri=True) as database:
            def one(query):
                return database.execute(query).fetchone()[0]
            self.assertEqual(one("select count(*) from calls"), len(records))
            self.assertEqual(one("select count(*) from calls where command = 'Get'"),
                             sum(r["command"] == "Get" for r in records))
            self.assertEqual(one("select count(*) from calls where method = '/pdpb.PD/GetRegion'"),
                             sum(r["method"] == "/pdpb.PD/GetRegion" for r in records))
            self.assertEqual(one("select count(*) from errors"), sum(len(r["errors"]) for r in records))
            self.assertEqual(one("select count(*) from statements"),
                             sum(len(r.get("statements", [])) + len(r.get("request_statements", [])) for r in records))
            self.assertEqual(one("select count(*) from agents"), 1)
            self.assertEqual(one("pragma integrity_check"), "ok")

    def test_verdicts_equal_those_of_investigate(self):
        scenario = self.scenario("pd_wide")
        files = [(host, harness.capture(scenario, host)) for host in harness.HOSTS]
        expected, _ = harness.investigate([f"{host}={path}" for host, path in files])
        agents = [subprocess.Popen([harness.program("keytrail-agent"), "-r", path, "-q", "--collector",
                                    self.collector.address, "--agent-name", host, "--role", host[:-1]],
                                   stderr=subprocess.PIPE) for host, path in files]
        for agent in agents:
            _, words = agent.communicate(timeout=300)
            self.assertIn(agent.returncode, (harness.DONE, harness.INCOMPLETE), words)
        self.collector.stop()
        result = harness.run([harness.program("keytrail"), "verdicts", "--db", self.collector.database(), "--json"])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        self.assertEqual(essence(json.loads(result.stdout)), essence(expected))

    def test_agent_waits_for_the_collector(self):
        """The agent starts first, the collector a second later: nothing is lost."""
        self.collector.stop()
        path = harness.capture(self.scenario("healthy"), "pd1")
        records, _, _ = harness.agent_json(path)
        agent = subprocess.Popen([harness.program("keytrail-agent"), "-r", path, "-q", "--collector",
                                  self.collector.address, "--agent-name", "pd1"], stderr=subprocess.PIPE)
        time.sleep(1)
        again = Collector.__new__(Collector)
        again.folder, again.address = self.scratch, self.collector.address
        again.errors = open(os.path.join(self.scratch, "again.stderr"), "w+b")
        again.process = subprocess.Popen(
            [harness.program("keytrail-collector"), "--listen", again.address, "--data", os.path.join(self.scratch, "data")],
            stdout=subprocess.DEVNULL, stderr=again.errors)
        self.collector = again
        _, words = agent.communicate(timeout=120)
        self.assertIn(agent.returncode, (harness.DONE, harness.INCOMPLETE), words)
        again.stop()
        with sqlite3.connect(f"file:{again.database()}?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("select count(*) from calls").fetchone()[0], len(records))

    def test_collector_refuses_a_public_address_without_keys(self):
        result = harness.run([harness.program("keytrail-collector"), "--listen", "tcp://0.0.0.0:0", "--data",
                              os.path.join(self.scratch, "other")], timeout=30)
        self.assertEqual(result.returncode, harness.USAGE, result.stderr)


class Quota(harness.ProgramTest):
    def test_an_agent_beyond_its_quota_waits_and_loses_nothing(self):
        scenario = next(s for s in harness.scenarios() if s.name == "tidb_neighbour")
        path = self.write("load.pcap", repeated(harness.capture(scenario, "tikv1"), 2))
        records, _, _ = harness.agent_json(path)
        self.assertGreater(len(records), 5000)  # 2,000 are free at the start
        collector = Collector(self.scratch, "--agent-quota", "1000")
        try:
            shipped = harness.run([harness.program("keytrail-agent"), "-r", path, "-q", "--collector", collector.address,
                                   "--agent-name", "greedy"])
            self.assertIn(shipped.returncode, (harness.DONE, harness.INCOMPLETE), shipped.stderr)
        finally:
            collector.stop()
        with open(os.path.join(self.scratch, "collector.stderr"), encoding="utf-8") as handle:
            words = handle.read()
        self.assertEqual(words.count("agent 'greedy' is beyond its quota"), 1, words)
        with sqlite3.connect(f"file:{collector.database()}?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("select count(*) from calls").fetchone()[0], len(records))

    def test_quotas_that_are_none(self):
        for quota in ("0", "999", "many"):
            refused = harness.run([harness.program("keytrail-collector"), "--data", self.scratch, "--agent-quota", quota])
            self.assertEqual(refused.returncode, harness.USAGE, quota)


if __name__ == "__main__":
    unittest.main()
