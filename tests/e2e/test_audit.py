#!/usr/bin/env python3
"""The audit log of a collector's folder: each export leaves exactly one line, also those that were refused or cut off."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

import harness
import test_tls
from test_query import ENDLESS, RunningCollector

KEYTRAIL = harness.program("keytrail")


class Audit(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.collector = RunningCollector(cls.folder.name)
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide" and not s.large)
        report, _ = harness.investigate([f"{host}={harness.capture(scenario, host)}" for host in harness.HOSTS])
        cls.collector.ship(scenario)
        cls.collector.wait_judged(report["calls"])
        cls.log = os.path.join(cls.collector.data, "audit.log")

    @classmethod
    def tearDownClass(cls):
        status = cls.collector.stop()
        cls.folder.cleanup()
        if status != harness.DONE:
            raise AssertionError(f"the collector ended with {status}")

    def lines(self):
        with open(self.log, encoding="utf-8") as log:
            return [json.loads(line) for line in log]

    def new_lines(self, do, wanted=1):
        """What `do` adds. A client that was cut off may be gone before the collector notices."""
        before = len(self.lines()) if os.path.exists(self.log) else 0
        result = do()
        while len(self.lines()) < before + wanted:  # ctest ends what never comes
            time.sleep(0.02)
        lines = self.lines()[before:]
        self.assertEqual(len(lines), wanted, lines)
        return result, lines

    def one(self, *arguments, status=harness.DONE):
        result, (line,) = self.new_lines(lambda: harness.run([KEYTRAIL, *arguments]))
        self.assertEqual(result.returncode, status, result.stderr)
        return result, line

    def sources(self):
        return (("file", ["--db", self.collector.data]), ("file", ["--db", self.collector.database]),
                ("service", ["--collector", self.collector.query]))

    def check_who(self, via, line):
        if via == "file":
            self.assertEqual(line["who"]["uid"], os.getuid())
        else:
            self.assertRegex(line["who"]["peer"], r"^ipv4:127\.0\.0\.1:\d+$")
            self.assertIsNone(line["who"]["tls_name"])

    def test_sql(self):
        for via, source in self.sources():
            begun = time.time_ns()
            statement = "select id, kind from calls limit 7"
            result, line = self.one("sql", *source, "-e", statement, "--format", "csv")
            self.check_who(via, line)
            self.assertEqual((line["what"], line["statement"], line["rows"], line["ended"], line["for"]),
                             ("sql", statement, 7, "done", None))
            if via == "file":
                self.assertEqual(line["bytes"], len(result.stdout))
            self.assertGreater(line["bytes"], 0)
            self.assertTrue(begun <= line["at_ns"] <= time.time_ns(), line)
            _, line = self.one("sql", *source, "--named", "requests-of-region", "--param", "region=4711")
            self.assertEqual((line["named"], line["statement"], line["parameters"]), ("requests-of-region", None, ["region"]))
            self.assertNotIn("4711", json.dumps({**line, "at_ns": 0, "who": 0}), "values of parameters are not kept")
            _, line = self.one("sql", *source, "-e", "select id from calls", "--limit", "3", status=harness.INCOMPLETE)
            self.assertEqual((line["rows"], line["ended"]), (3, "row_limit"))
            _, line = self.one("sql", *source, "-e", "delete from calls", status=harness.FAILED)
            self.assertEqual((line["statement"], line["rows"], line["ended"]), ("delete from calls", 0, "refused"))
            _, line = self.one("sql", *source, "-e", "select nothing from nowhere", status=harness.FAILED)
            self.assertEqual(line["ended"], "wrong")
            _, line = self.one("sql", *source, "-e", ENDLESS, "--timeout", "300ms", status=harness.FAILED)
            self.assertEqual(line["ended"], "time_limit")
            script = "select 1;\nselect 2;\n"
            _, lines = self.new_lines(lambda s=source: harness.run([KEYTRAIL, "sql", *s], input=script), 2)
            self.assertEqual([line["statement"] for line in lines], ["select 1;", "select 2;"])
            long = "select '" + "x" * 2000 + "'"
            _, line = self.one("sql", *source, "-e", long)
            self.assertEqual((line["statement"], line["statement_bytes"]), (long[:512], len(long)))

    def test_verdicts_and_timelines(self):
        for via, source in self.sources():
            result, line = self.one("verdicts", *source, "--json")
            self.check_who(via, line)
            self.assertEqual((line["what"], line["rows"], line["ended"]),
                             ("verdicts", len(json.loads(result.stdout)["verdicts"]), "done"))
            self.assertGreater(line["rows"], 0)
            if via == "file":
                self.assertEqual(line["bytes"], len(result.stdout.encode()))
                result, line = self.one("timeline", *source, "--verdict", "1", "--format", "html")
                self.assertEqual((line["what"], line["statement"], line["bytes"], line["ended"]),
                                 ("timeline", "--verdict 1 --format html", len(result.stdout.encode()), "done"))
                _, line = self.one("timeline", *source, "--verdict", "999", status=harness.FAILED)
                self.assertEqual((line["rows"], line["ended"]), (0, "failed"))
            else:
                # Several questions, and the collector knows what for.
                before = len(self.lines())
                done = harness.run([KEYTRAIL, "timeline", *source, "--verdict", "1"])
                self.assertEqual(done.returncode, harness.DONE, done.stderr)
                lines = self.lines()[before:]
                self.assertEqual({line["for"] for line in lines if line["what"] == "sql"}, {"timeline"})
                self.assertEqual(len([line for line in lines if line["what"] == "verdicts"]), 1)
                self.assertEqual({line["ended"] for line in lines}, {"done"})

    def test_backup_and_watch(self):
        copy = os.path.join(self.scratch, "copy.db")
        _, line = self.one("backup", "--db", self.collector.data, copy)
        self.assertEqual((line["what"], line["statement"], line["bytes"], line["ended"]),
                         ("backup", copy, os.path.getsize(copy), "done"))
        _, line = self.one("backup", "--db", self.collector.data, copy, status=harness.FAILED)
        self.assertEqual((line["bytes"], line["ended"]), (0, "failed"))
        for via, source in self.sources():
            _, line = self.one("watch", *source, "--json", "--duration", "300ms")
            self.check_who(via, line)
            self.assertEqual((line["what"], line["ended"]), ("watch", "done" if via == "file" else "cut_off"))
            self.assertGreater(line["rows"], 0)
        # A database by itself is nobody's folder, and asking for agents takes no key along.
        before = len(self.lines())
        self.assertEqual(harness.run([KEYTRAIL, "verdicts", "--db", copy]).returncode, harness.DONE)
        self.assertEqual(harness.run([KEYTRAIL, "agents", "--db", self.collector.data]).returncode, harness.DONE)
        self.assertEqual(len(self.lines()), before)
        self.assertEqual(os.listdir(self.scratch), ["copy.db"])

    def test_cut_off(self):
        def killed():
            asking = subprocess.Popen([KEYTRAIL, "sql", "--collector", self.collector.query, "-e", ENDLESS],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.collector.wait_for(lambda stats: stats["running"] == 1)
            asking.kill()
            asking.wait(timeout=60)

        _, (line,) = self.new_lines(killed)
        self.assertEqual((line["statement"], line["rows"], line["ended"]), (ENDLESS, 0, "cut_off"))

        def begun(source, end):
            asking = subprocess.Popen([KEYTRAIL, "sql", *source, "--format", "csv", "-e",
                                       "select a.*, b.id from calls a, calls b limit 1000000"],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            asking.stdout.read(1000)
            end(asking)
            asking.communicate(timeout=60)

        for _, source in self.sources():
            for end in (lambda asking: asking.stdout.close(), lambda asking: asking.send_signal(signal.SIGINT)):
                _, (line,) = self.new_lines(lambda s=source, e=end: begun(s, e))
                self.assertEqual(line["ended"], "cut_off")
                self.assertTrue(0 < line["rows"] < 1000000 and line["bytes"] > 1000, line)

    def test_for_its_owner_alone_and_without_secrets(self):
        self.one("sql", "--db", self.collector.data, "-e", "select start_key, tidb_key(start_key) from call_keys limit 50")
        self.assertEqual(stat.S_IMODE(os.stat(self.log).st_mode), 0o600)
        keys = harness.run([KEYTRAIL, "sql", "--db", self.collector.data, "--format", "csv", "-e",
                            "select distinct tidb_key(start_key) from call_keys where length(start_key) > 20"]).stdout
        with open(self.log, encoding="utf-8") as log:
            text = log.read()
        found = [key for key in keys.split()[1:] if len(key) > 8]
        self.assertGreater(len(found), 10)
        self.assertEqual([key for key in found if key in text], [])

    def test_where_it_cannot_be_written(self):
        """A copy is read, and it is said that nothing keeps it in mind."""
        data = os.path.join(self.scratch, "data")
        shutil.copytree(self.collector.data, data, ignore=shutil.ignore_patterns("audit.log*"))
        os.mkdir(os.path.join(data, "audit.log"))
        result = harness.run([KEYTRAIL, "verdicts", "--db", data])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        self.assertIn("not in the audit log", result.stderr)
        self.assertIn(os.path.join(data, "audit.log"), result.stderr)
        # The collector answers too, and tells it once.
        os.rename(self.log, self.log + ".away")
        os.mkdir(self.log)
        try:
            for _ in range(3):
                asked = self.collector.ask("sql", "-e", "select 1")
                self.assertEqual(asked.returncode, harness.DONE, asked.stderr)
            told = self.told("exports are answered, but not in the audit log")
        finally:
            os.rmdir(self.log)
            os.rename(self.log + ".away", self.log)
        self.assertEqual(told, 1)
        self.one("sql", "--collector", self.collector.query, "-e", "select 1")
        self.assertEqual(self.told("the audit log is written again"), 1)

    def told(self, words):
        while True:
            with open(os.path.join(self.folder.name, "collector.stderr"), encoding="utf-8") as errors:
                count = errors.read().count(words)
            if count:
                return count
            time.sleep(0.05)


@unittest.skipUnless(shutil.which("openssl"), "no openssl command")
class AuditTls(test_tls.Tls):
    test_tls = test_wrong_files_and_addresses = None

    def test_client_certificates(self):
        self.start("--query-client-ca", self.file("ca.pem"), name="server")
        ca = ["--tls-ca", self.file("ca.pem")]
        self.assertEqual(self.ask(*ca, *self.ours("client"))[0], harness.DONE)
        self.assertEqual(self.ask(*ca)[0], harness.FAILED)
        with open(os.path.join(self.scratch, "data", "audit.log"), encoding="utf-8") as log:
            lines = [json.loads(line) for line in log]
        # Who has no certificate is refused in the handshake, before there is a question.
        self.assertEqual([(line["who"]["tls_name"], line["statement"]) for line in lines], [("client", "select 42 as n")])


if __name__ == "__main__":
    unittest.main()
