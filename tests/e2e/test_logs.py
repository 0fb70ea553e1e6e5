#!/usr/bin/env python3
"""What keytrail-agent and keytrail-collector log on standard error is TiDB's unified log format, line by line."""

import datetime
import os
import signal
import subprocess
import unittest

import harness
import unified_log
from test_ship import free_port

AGENT = harness.program("keytrail-agent")
COLLECTOR = harness.program("keytrail-collector")


class Parser(unittest.TestCase):
    """The oracle itself, by the samples of the RFC."""

    def test_samples(self):
        line = unified_log.parse('[2018/12/15 14:20:11.015 +08:00] [WARN] [session.go:1234] ["Slow query"] '
                                 r'[sql="SELECT * FROM TABLE\nWHERE ID=\"abc\""] [duration=1.345s] ["user name"=foo]')
        self.assertEqual(line.message, "Slow query")
        self.assertEqual(line.fields, {"sql": 'SELECT * FROM TABLE\nWHERE ID="abc"', "duration": "1.345s",
                                       "user name": "foo"})
        unknown = unified_log.parse("[2013/01/05 00:01:15.000 -07:00] [WARN] [<unknown>] [DDL_Finished] [ddl_job_id=1]")
        self.assertEqual((unknown.source, unknown.message), ("<unknown>", "DDL_Finished"))

    def test_what_is_none(self):
        header = "[2018/12/15 14:20:11.015 +08:00] [INFO] [a.cc:1] "
        for rest in ("words", "[two words]", "[a]  [b=c]", "[a] [b]", "[a] [b=c=d]", '[a] [b="c]', "[a] [b=c", "[a] ",
                     '["a\x01"]', r'["a\q"]'):
            with self.assertRaises(ValueError, msg=rest):
                unified_log.parse(header + rest)
        for wrong in ("[2018-12-15 14:20:11.015 +08:00] [INFO] [a.cc:1] [m]", "[2018/12/15 14:20:11 +08:00] [INFO] [a.cc:1] [m]",
                      "[2018/12/15 14:20:11.015 +08:00] [info] [a.cc:1] [m]", "keytrail-agent: m"):
            with self.assertRaises(ValueError, msg=wrong):
                unified_log.parse(wrong)


class Logs(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(harness.BUNDLED, "pd_wide", "tidb1.pcap.zst")
        self.address = f"tcp://127.0.0.1:{free_port()}"
        # What has to be quoted, in the name of a folder.
        self.data = os.path.join(self.scratch, 'da ta "[x]=é\\')

    def collector(self, *more):
        log = os.path.join(self.scratch, "collector.log")
        with open(log, "wb") as errors:
            process = subprocess.Popen([COLLECTOR, "--listen", self.address, "--data", self.data, "--query", "none",
                                        *more], stderr=errors, env=dict(os.environ, TZ="IST-5:30"))
        harness.wait_listening(process, self.address)
        return process, log

    def stop(self, process, log):
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), harness.DONE)
        with open(log, "rb") as handle:
            return unified_log.parse_all(handle.read())

    def agent(self, *arguments, statuses=(harness.DONE, harness.INCOMPLETE)):
        """The lines that an agent logged."""
        result = subprocess.run([AGENT, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300,
                                check=False)
        self.assertIn(result.returncode, statuses, result.stderr)
        return unified_log.parse_all(result.stderr)

    def find(self, lines, words):
        found = [line for line in lines if words in line.message]
        self.assertEqual(len(found), 1, (words, lines))
        return found[0]

    def test_every_line(self):
        process, log = self.collector("-v", "--metrics", "127.0.0.1:0")
        shipped = self.agent("-r", self.path, "--collector", self.address, "-v", "--metrics", "127.0.0.1:0")
        counters = self.find(shipped, "counters").fields
        _, summary, _ = harness.agent_json(self.path)
        self.assertEqual(int(counters["packets"]), summary["packets"])
        shipping = self.find(shipped, "shipping").fields
        self.assertGreater(int(shipping["ship_records"]), 0)
        self.assertIn(f"{summary['packets']} packets", self.find(shipped, " packets, ").message)
        # Waits, ends with what it could not ship, and ships it later.
        spool = os.path.join(self.scratch, "spool")
        nowhere = f"tcp://127.0.0.1:{free_port()}"
        kept = self.agent("-r", self.path, "--collector", nowhere, "--wait", "1s", "--spool", spool)
        self.assertEqual(self.find(kept, "the spool").level, "WARN")
        drained = self.agent("--drain", "--collector", self.address, "--spool", spool)
        self.assertEqual(self.find(drained, "batches of the spool were shipped").level, "INFO")
        lines = self.stop(process, log)
        listening = self.find(lines, "listening on")
        self.assertEqual(listening.level, "INFO")
        self.assertRegex(listening.source, r"^collector_main\.cc:\d+$")
        self.assertEqual(listening.time.utcoffset(), datetime.timedelta(hours=5, minutes=30))
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - listening.time), datetime.timedelta(minutes=15))
        self.assertEqual(listening.fields, {"address": self.address, "data": self.data})
        self.assertIn(f"writing {self.data}", listening.message)
        self.assertEqual(self.find(lines, "stored ").fields["calls"], str(2 * int(shipping["ship_records"])))
        self.assertIn("DEBUG", {line.level for line in lines})
        self.find(lines, "terminated, finishing")

    def test_levels(self):
        process, log = self.collector("--log-level", "warn")
        self.assertEqual(self.agent("-r", self.path, "--collector", self.address, "--log-level", "warn"), [])
        # A probe of the port that said nothing may have been told.
        self.assertLessEqual({line.level for line in self.stop(process, log)}, {"WARN"})

    def test_what_ends_a_run_at_once(self):
        for arguments in (["-i", "no such device"], ["-r", "/nowhere.pcap", "--collector", self.address],
                          ["-r", self.path, "--collector", self.address, "--wait", "1s"]):
            lines = self.agent(*arguments, statuses=(harness.FAILED,))
            self.assertEqual([line.level for line in lines if line.level != "INFO"], ["ERROR"], lines)
        failed = harness.run([COLLECTOR, "--listen", self.address, "--data", "/dev/null"])
        self.assertEqual(failed.returncode, harness.FAILED)
        self.assertEqual([line.level for line in unified_log.parse_all(failed.stderr.encode())], ["ERROR"])

    def test_what_is_for_people_stays(self):
        told = harness.run([AGENT, "-r", self.path, "-v"])
        self.assertRegex(told.stderr, r"^/.*: \d+ packets, ")
        self.assertRegex(told.stderr, r"(?m)^  packets \d+$")
        missing = harness.run([AGENT, "-r", "/nowhere.pcap"])
        self.assertTrue(missing.stderr.startswith("keytrail-agent: "), missing.stderr)
        for arguments in ([AGENT, "-r", self.path, "--log-level", "info"], [AGENT, "-i", "lo", "--log-level", "loud"],
                          [COLLECTOR, "--data", self.data, "--log-level", "fatal"],
                          [COLLECTOR, "--data", self.data, "--log-level", "info", "-q"],
                          [COLLECTOR, "--data", self.data, "--listen", "nowhere"]):
            wrong = harness.run(arguments, timeout=60)
            self.assertEqual(wrong.returncode, harness.USAGE, arguments)
            self.assertFalse(wrong.stderr.startswith("["), wrong.stderr)


if __name__ == "__main__":
    unittest.main()
