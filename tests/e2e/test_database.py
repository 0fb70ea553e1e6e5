#!/usr/bin/env python3
"""keytrail-collector over restarts, and `keytrail sql` and `keytrail verdicts` on its database."""

import csv
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import unittest

import harness
from test_ship import free_port


class Database(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.data = os.path.join(self.scratch, "data")
        self.path = os.path.join(self.data, "keytrail.db")
        self.collector = None

    def tearDown(self):
        if self.collector:
            if self.collector.poll() is None:
                self.collector.kill()
                self.collector.wait()
            self.collector.stderr.close()
        super().tearDown()

    def start(self):
        self.collector = subprocess.Popen(
            [harness.program("keytrail-collector"), "-q", "--listen", self.address, "--data", self.data],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def stop(self, how=signal.SIGTERM):
        harness.wait_listening(self.collector, self.address)
        self.collector.send_signal(how)
        _, words = self.collector.communicate(timeout=60)
        return self.collector.returncode, words.decode()

    def agent(self, path, name):
        return subprocess.Popen([harness.program("keytrail-agent"), "-r", path, "-q", "--collector", self.address,
                                 "--agent-name", name], stderr=subprocess.PIPE)

    def sql(self, query, *more):
        return harness.run([harness.program("keytrail"), "sql", "--db", self.path, "-e", query, *more])

    def capture(self, host="tidb1", name="pd_wide"):
        return harness.capture(next(s for s in harness.scenarios() if s.name == name), host)

    def test_killed_again_and_again(self):
        """SIGKILL of the collector while agents ship: every record is stored exactly once."""
        hosts = harness.HOSTS
        expected = sum(len(harness.agent_json(self.capture(host))[0]) for host in hosts)
        self.start()
        agents = [self.agent(self.capture(host), host) for host in hosts]
        kills = 0
        while any(agent.poll() is None for agent in agents) and kills < 30:
            time.sleep(0.07)
            self.collector.kill()
            self.collector.wait()
            self.collector.stderr.close()
            kills += 1
            self.start()
        for agent in agents:
            _, words = agent.communicate(timeout=120)
            self.assertIn(agent.returncode, (harness.DONE, harness.INCOMPLETE), words)
        status, words = self.stop()
        self.assertEqual(status, harness.DONE, words)
        self.assertGreater(kills, 0)
        copy = os.path.join(self.scratch, "copy.db")
        result = harness.run([harness.program("keytrail"), "backup", "--db", self.data, copy])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        with sqlite3.connect(f"file:{copy}?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("select count(*) from calls").fetchone()[0], expected)
            self.assertEqual(database.execute("select sum(records) from record_batches").fetchone()[0], expected)
            self.assertEqual(database.execute("pragma integrity_check").fetchone()[0], "ok")
        # What was judged after all the kills is what one uninterrupted run says.
        result = harness.run([harness.program("keytrail"), "verdicts", "--db", self.path, "--json"])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        got = json.loads(result.stdout)
        whole, _ = harness.investigate([f"{host}={self.capture(host)}" for host in hosts])
        self.assertEqual([(v["component"], v["rule"], v["region_id"], v["occurrences"]) for v in got["verdicts"]],
                         [(v["component"], v["rule"], v["region_id"], v["occurrences"]) for v in whole["verdicts"]])
        self.assertEqual(got["calls"], whole["calls"])

    def test_verdicts_appear_while_the_collector_runs(self):
        self.start()
        agents = [self.agent(self.capture(host), host) for host in harness.HOSTS]
        for agent in agents:
            agent.communicate(timeout=120)
        verdicts = []
        for _ in range(200):
            result = harness.run([harness.program("keytrail"), "verdicts", "--db", self.path, "--json"])
            verdicts = json.loads(result.stdout)["verdicts"] if result.returncode == harness.DONE else []
            if verdicts:
                break
            time.sleep(0.05)
        self.assertEqual({v["component"] for v in verdicts}, {"pd"})
        status, words = self.stop(signal.SIGINT)
        self.assertEqual(status, harness.DONE, words)

    def test_sql_formats(self):
        result = harness.run([harness.program("keytrail"), "investigate", self.capture(), "--db",
                              os.path.join(self.scratch, "i.db")])
        self.assertIn(result.returncode, (harness.DONE, harness.INCOMPLETE), result.stderr)
        self.path = os.path.join(self.scratch, "i.db")
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as database:
            database.row_factory = sqlite3.Row
            expected = [dict(row) for row in database.execute("select * from calls order by id limit 500")]
        query = "select * from calls order by id limit 500"
        result = self.sql(query, "--format", "json")
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        plain = [{k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()} for row in expected]
        self.assertEqual(json.loads(result.stdout), plain)
        result = self.sql(query, "--format", "csv")
        self.assertEqual([dict(row) for row in csv.DictReader(io.StringIO(result.stdout))],
                         [{k: "" if v is None else str(v) for k, v in row.items()} for row in plain])
        result = self.sql("select tidb_key(start_key) k, count(*) n from call_keys group by 1 order by 2 desc limit 3")
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 5)

    def test_wrong_questions(self):
        harness.run([harness.program("keytrail"), "investigate", self.capture(), "--db",
                     os.path.join(self.scratch, "i.db")])
        self.path = os.path.join(self.scratch, "i.db")
        for query, words in (("selec 1", "syntax error"), ("select * from nowhere", "no such table: nowhere"),
                             ("delete from call_rows", "only reading is allowed"), ("", "no statement"),
                             ("select 1; select 2", "one statement")):
            result = self.sql(query)
            self.assertEqual(result.returncode, harness.FAILED, query)
            self.assertIn(words, result.stderr)
            self.assertEqual(result.stdout, "")
        self.assertEqual(self.sql("select 1", "--format", "xml").returncode, harness.USAGE)
        self.path = os.path.join(self.scratch, "absent.db")
        result = self.sql("select 1")
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("absent.db", result.stderr)
        self.assertFalse(os.path.exists(self.path))

    def test_nothing_judged_is_not_nobody_guilty(self):
        self.start()
        for _ in range(100):
            if os.path.exists(self.path):
                break
            time.sleep(0.05)
        time.sleep(0.3)
        result = harness.run([harness.program("keytrail"), "verdicts", "--db", self.path])
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("nothing was judged yet", result.stderr)

    def test_collector_says_what_is_wrong(self):
        def refused(*arguments):
            result = harness.run([harness.program("keytrail-collector"), *arguments], timeout=30)
            return result.returncode, result.stderr
        status, words = refused("--data", self.data, "--listen", "tcp://0.0.0.0:7450")
        self.assertEqual(status, harness.USAGE)
        self.assertIn("without keys", words)
        self.assertEqual(refused("--data", self.data, "--listen", "nonsense")[0], harness.USAGE)
        self.assertEqual(refused()[0], harness.USAGE)
        status, words = refused("--data", "/proc/nowhere", "--listen", self.address)
        self.assertEqual(status, harness.FAILED)
        self.assertIn("/proc/nowhere", words)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            status, words = refused("--data", self.data, "--listen", f"tcp://127.0.0.1:{port}")
        self.assertEqual(status, harness.FAILED)
        self.assertIn("Address already in use", words)
        os.makedirs(self.data, exist_ok=True)
        with open(os.path.join(self.scratch, "data", "keytrail.db"), "wb") as other:
            other.write(b"this is no database" * 100)
        status, words = refused("--data", self.data, "--listen", self.address)
        self.assertEqual(status, harness.FAILED)
        self.assertIn("not a database", words)


if __name__ == "__main__":
    unittest.main()
