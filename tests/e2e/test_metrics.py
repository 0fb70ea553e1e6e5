#!/usr/bin/env python3
"""--metrics of keytrail-agent and keytrail-collector: the figures are those of the summary and of the database, the
document names each of them, and readiness follows collector and disk. Read by Prometheus's own parser
(python3-prometheus-client)."""

import contextlib
import ctypes
import os
import re
import signal
import socket
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
from test_restraint import CLONE_NEWNET, frames
from test_ship import free_port

# Not numeric, or of other hosts, or none at all.
NO_ADDRESSES = ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "localhost:0", "7452", "127.0.0.1:70000", "127.0.0.1:0,0.0.0.0:0",
                "127.0.0.1:0r", "")

with open(os.path.join(harness.REPOSITORY, "common", "counters.h"), encoding="utf-8") as header:
    NAMES = re.findall(r'^  X\(k\w+, "(\w+)"\)', header.read(), re.M)


def told(prefix):
    """{name: type} of the document's tables."""
    with open(os.path.join(harness.REPOSITORY, "docs", "metrics.md"), encoding="utf-8") as handle:
        rows = re.findall(r"^\| `(\w+)`(?: by \w+(?:, \w+)*)? \| (\w+) \|", handle.read(), re.M)
    return {name: kind for name, kind in rows if name.startswith(prefix)}


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


class Served(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(harness.BUNDLED, "healthy", "tidb1.pcap.zst")
        self.address = f"tcp://127.0.0.1:{free_port()}"

    @contextlib.contextmanager
    def collector(self, data, query="none"):
        """Yields where its operations port is."""
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

    @contextlib.contextmanager
    def agent(self, *arguments):
        base = f"http://127.0.0.1:{free_port()}"
        with open(os.path.join(self.scratch, "agent.stderr"), "wb") as errors:
            process = subprocess.Popen([harness.program("keytrail-agent"), "--metrics", base[len("http://"):],
                                        *arguments], stdout=subprocess.DEVNULL, stderr=errors)
        try:
            harness.wait_listening(process, base.replace("http", "tcp"))
            yield process, base
        finally:
            process.kill()  # it would wait for its collector
            process.wait(timeout=60)

    def samples(self, base):
        """{name: (value, type)}; of those with labels a name and its labels' values: ("name", "tidb")."""
        status, text = get(base, "/metrics")
        self.assertEqual(status, 200)
        return {(sample.name, *sample.labels.values()) if sample.labels else sample.name: (sample.value, family.type)
                for family in text_string_to_metric_families(text) for sample in family.samples}

    def types(self, base):
        return {name if isinstance(name, str) else name[0]: kind for name, (_, kind) in self.samples(base).items()}

    @contextlib.contextmanager
    def open_agent(self, name):
        """An agent that has shipped all it could read so far and waits for more."""
        plain = harness.unpacked(self.path, self.scratch)
        agent = subprocess.Popen([harness.program("keytrail-agent"), "-r", "-", "-q", "--collector", self.address,
                                  "--agent-name", name], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            with open(plain, "rb") as handle:
                agent.stdin.write(handle.read())
            agent.stdin.flush()
            yield
        finally:
            agent.stdin.close()
            agent.wait(timeout=60)


class Collector(Served):
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
        with self.collector(os.path.join(self.scratch, "data"), f"127.0.0.1:{free_port()}") as base:
            until(lambda: get(base, "/readyz")[0] == 200)
            with self.open_agent("tidb1"):
                until(lambda: ("keytrail_collector_agent_batch_age_seconds", "tidb1") in self.samples(base))
                self.assertEqual(self.types(base), told("keytrail_collector_"))

    def test_agents_that_are_connected(self):
        with self.collector(os.path.join(self.scratch, "data")) as base:
            until(lambda: get(base, "/readyz")[0] == 200)
            self.assertEqual(self.samples(base)["keytrail_collector_agents_connected"], (0, "gauge"))
            with self.open_agent("one"), self.open_agent('two "quoted"'):
                got = until(lambda: (s := self.samples(base))["keytrail_collector_agents_connected"][0] == 2 and
                            sum(name[0] == "keytrail_collector_agent_lag_seconds" for name in s) == 2 and s)
            # The calls are as old as the capture.
            for name in ("one", 'two "quoted"'):
                self.assertGreater(got["keytrail_collector_agent_lag_seconds", name][0], 86400)
                self.assertLess(got["keytrail_collector_agent_silent_seconds", name][0], 60)
                self.assertLess(got["keytrail_collector_agent_batch_age_seconds", name][0], 60)
            got = until(lambda: (s := self.samples(base))["keytrail_collector_agents_connected"][0] == 0 and s)
            self.assertFalse([name for name in got if "agent_lag" in name[0]])

    def test_verdicts_and_files(self):
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        files = [harness.capture(scenario, host) for host in harness.HOSTS]
        report, _ = harness.investigate([f"{host}={path}" for host, path in zip(harness.HOSTS, files)])
        expected = {"pd": 0, "tidb": 0, "tikv": 0}
        for verdict in report["verdicts"]:
            expected[verdict["component"]] += 1
        data = os.path.join(self.scratch, "data")
        with self.collector(data) as base:
            for host, path in zip(harness.HOSTS, files):
                shipped = self.ship(path, "--agent-name", host)
                self.assertIn(shipped.returncode, (harness.DONE, harness.INCOMPLETE), shipped.stderr)
            got = until(lambda: (s := self.samples(base)) and all(
                s["keytrail_collector_verdicts", name][0] == count for name, count in expected.items()) and s)
        self.assertGreater(sum(expected.values()), 0)
        self.assertEqual(got["keytrail_collector_commits_total"][0], got["keytrail_collector_batches_total"][0])
        self.assertGreater(got["keytrail_collector_commit_seconds_total"][0], 0)
        self.assertGreaterEqual(got["keytrail_collector_store_seconds_total"][0],
                                got["keytrail_collector_commit_seconds_total"][0])
        self.assertEqual(got["keytrail_collector_windows"][0], 1)
        self.assertGreater(got["keytrail_collector_window_bytes"][0], 0)
        self.assertGreater(got["keytrail_collector_disk_free_bytes"][0], 0)
        self.assertGreater(got["keytrail_collector_correlator_records"][0], 0)
        self.assertGreater(got["keytrail_collector_reports_total"][0], 0)
        self.assertEqual(got["keytrail_collector_store_refuses"][0], 0)
        self.assertEqual(got["keytrail_collector_report_refused"][0], 0)

    def test_other_hosts_are_refused(self):
        for address in NO_ADDRESSES:
            result = harness.run([harness.program("keytrail-collector"), "--listen", f"tcp://127.0.0.1:{free_port()}",
                                  "--data", os.path.join(self.scratch, "data"), "--query", "none",
                                  "--metrics", address], timeout=60)
            self.assertEqual(result.returncode, harness.USAGE, address)
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
            got = self.samples(base)
            self.assertGreater(got["keytrail_collector_refused_unavailable_total"][0], 0)
            self.assertEqual(got["keytrail_collector_store_refuses"], (1, "gauge"))
            self.assertLess(got["keytrail_collector_disk_free_bytes"][0], 1 << 20)
            os.unlink(filler)
            self.ship(harness.capture(scenario, "tidb1"))
            until(lambda: get(base, "/readyz")[0] == 200)
            self.assertEqual(self.samples(base)["keytrail_collector_store_refuses"][0], 0)


class Agent(Served):
    def test_a_file_that_waits_for_its_collector(self):
        records, summary, _ = harness.agent_json(self.path)
        spool = os.path.join(self.scratch, "spool")
        with self.agent("-r", self.path, "--collector", self.address, "--wait", "5m", "--spool", spool) as (agent, base):
            until(lambda: "the capture has ended" in get(base, "/readyz")[1])
            status, why = until(lambda: (a := get(base, "/readyz"))[1].count("nobody takes the connection") and a)
            self.assertEqual(status, 503)
            self.assertIn(self.address, why)
            self.assertEqual(get(base, "/healthz"), (200, "alive\n"))
            got = until(lambda: (s := self.samples(base))["keytrail_agent_spool_bytes"][0] and s)
            for name in NAMES:
                self.assertEqual(got[f"keytrail_agent_{name}_total"], (summary.get(name, 0), "counter"), name)
            self.assertEqual(got["keytrail_agent_ship_records_total"][0], len(records))
            self.assertEqual(got["keytrail_agent_ship_records_acknowledged_total"][0], 0)
            self.assertEqual(got["keytrail_agent_ship_connected"], (0, "gauge"))
            self.assertEqual(got["keytrail_agent_spool_healthy"][0], 1)
            self.assertEqual(got["keytrail_agent_detail_level"][0], 0)
            self.assertEqual(self.types(base), told("keytrail_agent_"))
            with self.collector(os.path.join(self.scratch, "data")):
                self.assertEqual(agent.wait(timeout=120), harness.DONE)

    def test_a_spool_that_cannot_write(self):
        disk = os.path.join(self.scratch, "disk")
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=0700", "none", disk],
                          stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no tmpfs can be mounted here")
        try:
            with self.agent("-r", self.path, "--collector", self.address, "--wait", "5m", "--spool", disk) as (_, base):
                until(lambda: "No space left on device" in get(base, "/readyz")[1])
                got = self.samples(base)
                self.assertEqual(got["keytrail_agent_spool_healthy"][0], 0)
                self.assertEqual(got["keytrail_agent_spool_disk_failures_total"][0], 1)
        finally:
            subprocess.run(["umount", "-l", disk], check=False)

    def test_what_a_spool_has_is_shipped(self):
        spool = os.path.join(self.scratch, "spool")
        arguments = ["--collector", self.address, "--spool", spool]
        kept = harness.run([harness.program("keytrail-agent"), "-r", self.path, *arguments, "--wait", "1s"])
        self.assertEqual(kept.returncode, harness.INCOMPLETE, kept.stderr)
        with self.agent("--drain", *arguments, "--wait", "5m") as (agent, base):
            until(lambda: "nobody takes the connection" in get(base, "/readyz")[1])
            got = self.samples(base)
            self.assertNotIn("keytrail_agent_packets_total", got)
            self.assertGreater(got["keytrail_agent_spool_bytes"][0], 0)
            with self.collector(os.path.join(self.scratch, "data")):
                self.assertEqual(agent.wait(timeout=120), harness.DONE)

    def test_wrong_usage(self):
        good = "127.0.0.1:0"
        for arguments in (["-r", self.path, "--metrics", good], ["-r", self.path, "--json", "--metrics", good]):
            result = harness.run([harness.program("keytrail-agent"), *arguments], timeout=60)
            self.assertEqual(result.returncode, harness.USAGE, result.stderr)
            self.assertIn("--metrics is for captures that go on", result.stderr)
        for address in NO_ADDRESSES:
            result = harness.run([harness.program("keytrail-agent"), "-i", "lo", "--metrics", address], timeout=60)
            self.assertEqual(result.returncode, harness.USAGE, address)
            self.assertIn("--metrics", result.stderr)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            result = harness.run([harness.program("keytrail-agent"), "-i", "lo", "--metrics", address], timeout=60)
            self.assertEqual(result.returncode, harness.FAILED, result.stderr)
            self.assertIn(address, result.stderr)


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class LiveAgent(Served):
    """On a device, in a network namespace of its own, from which the process does not come back."""

    @classmethod
    def setUpClass(cls):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for command in ("ip link set lo up", "ip link add kt0 type veth peer name kt1", "ip link set kt0 up",
                        "ip link set kt1 up"):
            subprocess.run(command.split(), check=True)

    def test_a_device(self):
        with self.agent("-i", "kt1", "-f", "", "--collector", self.address, "--cpu-limit", "10000") as (_, base):
            until(lambda: "nobody takes the connection" in get(base, "/readyz")[1])
            with self.collector(os.path.join(self.scratch, "data")) as collector:
                until(lambda: get(base, "/readyz") == (200, "ready\n"))
                self.assertEqual(self.samples(base)["keytrail_agent_ship_connected"][0], 1)
                sent = frames(self.path)
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                    out.bind(("kt0", 0))
                    for n, packet in enumerate(sent):
                        if n % 64 == 0:
                            time.sleep(0.002)
                        out.send(packet)
                # The device may carry a packet of the kernel's own besides.
                got = until(lambda: (s := self.samples(base))["keytrail_agent_packets_total"][0] >= len(sent) and
                            s["keytrail_agent_ship_records_total"][0] > 0 and
                            s["keytrail_agent_ship_records_acknowledged_total"] == s["keytrail_agent_ship_records_total"]
                            and s)
                self.assertEqual(got["keytrail_agent_kernel_drops_total"][0], 0)
                until(lambda: self.samples(collector)["keytrail_collector_calls_total"][0] ==
                      self.samples(base)["keytrail_agent_ship_records_acknowledged_total"][0])
            status, why = until(lambda: (a := get(base, "/readyz"))[0] == 503 and a)
            self.assertIn(self.address, why)
            self.assertEqual(get(base, "/healthz")[0], 200)
            with self.collector(os.path.join(self.scratch, "data")):
                until(lambda: get(base, "/readyz")[0] == 200)

    def test_without_a_collector(self):
        with self.agent("-i", "kt1") as (_, base):
            until(lambda: get(base, "/readyz")[0] == 200)
            self.assertFalse([name for name in self.samples(base) if "ship" in name or "spool" in name])


if __name__ == "__main__":
    unittest.main()
