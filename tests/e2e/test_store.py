#!/usr/bin/env python3
"""A collector's folder: windows that roll and go, kills between files, a full disk, damage, earlier layouts, backup."""

import glob
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
import unittest

import harness
from test_ship import free_port


class StoreFolder(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.data = os.path.join(self.scratch, "data")
        self.collector = None
        self.words = ""
        self.scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")

    def tearDown(self):
        if self.collector:
            self.kill()
        super().tearDown()

    def start(self, *options):
        self.log = open(os.path.join(self.scratch, "words"), "a+", encoding="utf-8")
        self.collector = subprocess.Popen(
            [harness.program("keytrail-collector"), "-q", "--query", "none", "--listen", self.address, "--data", self.data,
             *options], stdout=subprocess.DEVNULL, stderr=self.log)

    def said(self):
        with open(os.path.join(self.scratch, "words"), encoding="utf-8") as words:
            return words.read()

    def kill(self):
        self.collector.kill()
        self.collector.wait()
        self.log.close()
        self.collector = None

    def stop(self):
        harness.wait_listening(self.collector, self.address)
        self.collector.send_signal(signal.SIGTERM)
        status = self.collector.wait(timeout=60)
        self.log.close()
        self.collector = None
        return status

    def agent(self, host):
        return subprocess.Popen(
            [harness.program("keytrail-agent"), "-r", harness.capture(self.scenario, host), "-q", "--collector", self.address,
             "--agent-name", host, "--role", host[:-1]], stderr=subprocess.PIPE)

    def ship(self, hosts=harness.HOSTS):
        for agent in [self.agent(host) for host in hosts]:
            _, words = agent.communicate(timeout=120)
            self.assertIn(agent.returncode, (harness.DONE, harness.INCOMPLETE), words)

    def sql(self, query, path=None):
        result = harness.run([harness.program("keytrail"), "sql", "--db", path or self.data, "-e", query, "--format", "json"])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        return json.loads(result.stdout)

    def one(self, query, path=None):
        return list(self.sql(query, path)[0].values())[0]

    def expected(self):
        return sum(len(harness.agent_json(harness.capture(self.scenario, host))[0]) for host in harness.HOSTS)

    def windows(self):
        return sorted(glob.glob(os.path.join(self.data, "calls-*.db")))

    def test_killed_while_windows_roll(self):
        """SIGKILL at random moments with windows of half a megabyte: each record once, all windows as one table."""
        expected = self.expected()
        rolls = ("--keep-bytes", "4M")
        self.start(*rolls)
        agents = [self.agent(host) for host in harness.HOSTS]
        kills = 0
        while any(agent.poll() is None for agent in agents) and kills < 12:
            time.sleep(random.uniform(0.05, 0.4))
            self.kill()
            kills += 1
            self.start(*rolls)
        for agent in agents:
            _, words = agent.communicate(timeout=120)
            self.assertIn(agent.returncode, (harness.DONE, harness.INCOMPLETE), words)
        self.assertEqual(self.stop(), harness.DONE, self.said())
        self.assertNotIn("damaged", self.said())
        self.assertGreater(len(self.windows()), 1)
        records = self.one("select sum(records) from record_batches")
        dropped = self.one("select coalesce(sum(last_call_id - first_call_id + 1 - carried), 0) from windows"
                           " where state = 'dropped'")
        self.assertEqual(records + dropped, expected)
        self.assertEqual(self.one("select count(*) - count(distinct id) from calls"), 0)
        for window in self.windows():
            with sqlite3.connect(window) as database:
                self.assertEqual(database.execute("pragma integrity_check").fetchone()[0], "ok")

    def test_retention_by_bytes_is_told(self):
        self.start("--keep-bytes", "4M")
        for _ in range(3):
            self.ship()
        self.assertEqual(self.stop(), harness.DONE, self.said())
        self.assertIn("dropped 'calls-", self.said())
        lost = harness.run([harness.program("keytrail"), "losses", "--db", self.data])
        self.assertIn("dropped_window", lost.stdout)
        # The report keeps its account, also of calls that went before they were judged.
        self.assertGreater(self.one("select count(*) from evidence"), 0)
        verdicts = harness.run([harness.program("keytrail"), "verdicts", "--db", self.data, "--json"])
        self.assertEqual({v["component"] for v in json.loads(verdicts.stdout)["verdicts"]}, {"pd"})

    def test_a_full_disk(self):
        """Nothing is taken, it is said once, reading goes on, and it goes on by itself."""
        if os.geteuid() != 0:
            self.skipTest("needs root to mount a small tmpfs")
        os.makedirs(self.data)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", self.data], check=False).returncode != 0:
            self.skipTest("mount is not allowed here")
        try:
            filler = os.path.join(self.data, "filler")
            self.start()
            harness.wait_listening(self.collector, self.address)
            with open(filler, "wb", buffering=0) as handle:
                try:
                    while True:
                        handle.write(b"x" * 4096)
                except OSError:
                    pass
            agents = [self.agent(host) for host in harness.HOSTS]
            while "disk is full" not in self.said():
                self.assertIsNone(self.collector.poll())
                time.sleep(0.05)
            time.sleep(2.5)  # the agents try again twice meanwhile
            self.assertEqual(self.said().count("disk is full"), 1, self.said())
            self.assertEqual(self.one("select count(*) >= 0 from calls"), 1)
            os.remove(filler)
            subprocess.run(["mount", "-o", "remount,size=64m", self.data], check=True)
            for agent in agents:
                _, words = agent.communicate(timeout=120)
                self.assertIn(agent.returncode, (harness.DONE, harness.INCOMPLETE), words)
            self.assertEqual(self.stop(), harness.DONE, self.said())
            self.assertIn("writing again", self.said())
            self.assertEqual(self.one("select sum(records) from record_batches"), self.expected())
        finally:
            if self.collector:
                self.kill()
            subprocess.run(["umount", self.data], check=False)

    def test_a_disk_that_cannot_be_written(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to mount a read-only tmpfs")
        os.makedirs(self.data)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", self.data], check=False).returncode != 0:
            self.skipTest("mount is not allowed here")
        try:
            result = harness.run([harness.program("keytrail-collector"), "--query", "none", "--listen", self.address,
                                  "--data", self.data], timeout=30)
            self.assertEqual(result.returncode, harness.FAILED)
            self.assertIn(f"'{self.data}' is not writable: Read-only file system", result.stderr)
        finally:
            subprocess.run(["umount", self.data], check=False)

    def test_a_damaged_window(self):
        self.start()
        self.ship()
        self.assertEqual(self.stop(), harness.DONE, self.said())
        window = self.windows()[0]
        with open(window, "r+b") as handle:
            for page in range(2, 30):
                handle.seek(page * 4096)
                handle.write(b"\x5a" * 2000)
        self.start()
        harness.wait_listening(self.collector, self.address)
        self.assertIn(f"'{window}' is damaged", self.said())
        self.assertTrue(os.path.exists(window + ".damaged"))
        self.ship()
        self.assertEqual(self.stop(), harness.DONE, self.said())
        self.assertEqual(self.one("select sum(records) from record_batches"), self.expected())
        self.assertEqual(self.one("select count(*) from lost where kind = 'damaged_window'"), 1)

    def test_an_earlier_layout_and_a_newer_one(self):
        os.makedirs(self.data)
        old = os.path.join(self.data, "keytrail.db")
        harness.run([harness.program("keytrail"), "investigate", "--db", old] +
                    [f"{host}={harness.capture(self.scenario, host)}" for host in harness.HOSTS])
        calls = self.one("select count(*) from calls", old)
        with sqlite3.connect(old) as database:
            for view, in database.execute("select name from sqlite_schema where type = 'view'").fetchall():
                database.execute(f"drop view {view}")
            for table, column in (("agents", "redaction"), ("agents", "redact_secret"), ("connections", "client_pid"),
                                  ("connections", "client_process"), ("connections", "server_pid"),
                                  ("connections", "server_process")):
                database.execute(f"alter table {table} drop column {column}")
            database.execute("drop table windows")
            database.execute("pragma user_version = 2")
        database.close()
        self.start()
        harness.wait_listening(self.collector, self.address)
        self.assertIn("earlier layout", self.said())
        self.ship()
        self.assertEqual(self.stop(), harness.DONE, self.said())
        self.assertEqual(self.one("select count(*) from calls"), 2 * calls)
        with sqlite3.connect(self.windows()[0]) as database:
            database.execute("pragma user_version = 1000")
        database.close()
        result = harness.run([harness.program("keytrail-collector"), "--query", "none", "--listen", self.address, "--data",
                              self.data], timeout=30)
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("newer keytrail (schema 1000", result.stderr)

    def test_backup(self):
        self.start("--keep-bytes", "16M")
        self.ship()
        verdicts = [harness.program("keytrail"), "verdicts", "--db", self.data]
        while harness.run(verdicts).returncode != harness.DONE:
            self.assertIsNone(self.collector.poll())
            time.sleep(0.1)
        copy = os.path.join(self.scratch, "copy.db")
        result = harness.run([harness.program("keytrail"), "backup", "--db", self.data, copy])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        self.assertEqual(self.stop(), harness.DONE, self.said())
        with sqlite3.connect(f"file:{copy}?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("pragma integrity_check").fetchone()[0], "ok")
            self.assertEqual(database.execute("select sum(records) from record_batches").fetchone()[0], self.expected())
        self.assertEqual(self.sql("select * from calls order by id", copy), self.sql("select * from calls order by id"))
        for command in (["losses"], ["agents"], ["timeline", "--region", "1"]):
            result = harness.run([harness.program("keytrail"), *command, "--db", copy])
            self.assertIn(result.returncode, (harness.DONE, harness.INCOMPLETE), (command, result.stderr))
        result = harness.run([harness.program("keytrail"), "backup", "--db", self.data, copy])
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("is there already", result.stderr)

    def test_wrong_sizes_and_ages(self):
        for option, value in (("--keep-bytes", "1"), ("--keep-bytes", "x"), ("--keep-age", "3"), ("--keep-age", "-5h")):
            result = harness.run([harness.program("keytrail-collector"), "--data", self.data, option + "=" + value], timeout=30)
            self.assertEqual(result.returncode, harness.USAGE, (option, value, result.stderr))
            self.assertFalse(os.path.exists(self.data))


if __name__ == "__main__":
    unittest.main()
