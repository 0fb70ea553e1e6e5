#!/usr/bin/env python3
"""keytrail-collector --metrics: the figures are those of the agent and of the database, the document names each of
them, and readiness follows the disk. Read by Prometheus's own parser (python3-prometheus-client)."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

# Debian's package, also for a Python that is not Debian's: it is plain Python.
sys.path.append("/usr/lib/python3/dist-packages")
from prometheus_client.parser import text_string_to_metric_families

import harness
from test_ship import free_port


def get(base, path):
    try:
        with urllib.request.urlopen(base + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(what, seconds=60):
    """The first true answer of `what`, asked again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = what()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


class Metrics(harness.ProgramTest):
    @contextlib.contextmanager
    def collector(self, data, query="none"):
        self.address = f"tcp://127.0.0.1:{free_port()}"
        base = f"http://127.0.0.1:{free_port()}"
        with open(os.path.join(self.scratch, "stderr"), "wb") as errors:
            process = subprocess.Popen(
                [harness.program("keytrail-collector"), "--listen", self.address, "--data", data, "--query", query,
                 "--metrics", base[len("http://"):]], stderr=errors)
            try:
                harness.wait_listening(process, self.address)
                harness.wait_listening(process, base.replace("http", "tcp"))
                yield base
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)

    def samples(self, base):
        status, text = get(base, "/metrics")
        self.assertEqual(status, 200)
        return {sample.name: (sample.value, family.type)
                for family in text_string_to_metric_families(text) for sample in family.samples}

    def ship(self, path, *more):
        return harness.run([harness.program("keytrail-agent"), "-r", path, "-q", "--collector", self.address, *more])

    def test_figures_of_a_run(self):
        scenario = next(s for s in harness.scenarios() if s.name == "healthy")
        path = harness.capture(scenario, "tidb1")
        records, _, _ = harness.agent_json(path)
        data = os.path.join(self.scratch, "data")
        with self.collector(data) as base:
            until(lambda: get(base, "/readyz")[0] == 200)
            self.assertEqual(get(base, "/healthz")[0], 200)
            self.assertEqual(get(base, "/nothing")[0], 404)
            shipped = self.ship(path)
            self.assertIn(shipped.returncode, (harness.DONE, harness.INCOMPLETE), shipped.stderr)
            got = until(lambda: (s := self.samples(base))["keytrail_collector_agents_finished_total"][0] and s)
        self.assertEqual(got["keytrail_collector_calls_total"], (len(records), "counter"))
        self.assertEqual(got["keytrail_collector_hellos_total"][0], 1)
        self.assertEqual(got["keytrail_collector_connections_total"][0], 2)  # wait_listening's is one
        counted = harness.run([harness.program("keytrail"), "sql", "--db", data, "--format", "csv", "-e",
                               "select count(*) as n from calls"])
        self.assertEqual(counted.stdout.split(), ["n", str(len(records))], counted.stderr)

    def test_document_and_program_agree(self):
        with open(os.path.join(harness.REPOSITORY, "docs", "metrics.md"), encoding="utf-8") as handle:
            told = dict(re.findall(r"^\| `(keytrail_\w+)` \| (\w+) \|", handle.read(), re.M))
        with self.collector(os.path.join(self.scratch, "data"), f"127.0.0.1:{free_port()}") as base:
            until(lambda: get(base, "/readyz")[0] == 200)
            found = {name: kind for name, (_, kind) in self.samples(base).items()}
        self.assertEqual(found, told)

    def test_other_hosts_are_refused(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "localhost:0", "7452", "127.0.0.1:70000",
                        "127.0.0.1:0,0.0.0.0:0", "127.0.0.1:0r"):
            result = harness.run([harness.program("keytrail-collector"), "--listen", f"tcp://127.0.0.1:{free_port()}",
                                  "--data", os.path.join(self.scratch, "data"), "--query", "none",
                                  "--metrics", address], timeout=60)
            self.assertNotEqual(result.returncode, harness.DONE, address)
            self.assertIn("--metrics", result.stderr)

    def test_a_full_disk_is_not_ready(self):
        disk = os.path.join(self.scratch, "disk")
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no tmpfs can be mounted here")
        try:
            self.fill(disk)
        finally:  # before the folder that it lies in is removed
            subprocess.run(["umount", "-l", disk], check=False)

    def fill(self, disk):
        scenario = next(s for s in harness.scenarios() if s.name == "healthy")
        with self.collector(os.path.join(disk, "data")) as base:
            until(lambda: get(base, "/readyz")[0] == 200)
            filler = os.path.join(disk, "filler")
            with open(filler, "wb", buffering=0) as handle, contextlib.suppress(OSError):
                while handle.write(bytes(4096)):
                    pass
            self.ship(harness.capture(scenario, "tidb1"), "--wait", "2s")
            status, why = until(lambda: (a := get(base, "/readyz"))[0] == 503 and a)
            self.assertIn("disk", why)
            self.assertEqual(get(base, "/healthz")[0], 200)
            self.assertGreater(self.samples(base)["keytrail_collector_refused_unavailable_total"][0], 0)
            os.unlink(filler)
            self.ship(harness.capture(scenario, "tidb1"))
            until(lambda: get(base, "/readyz")[0] == 200)


if __name__ == "__main__":
    unittest.main()
