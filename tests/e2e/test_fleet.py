#!/usr/bin/env python3
"""keytrail fleet on hosts that are folders of this machine: the whole life of a fleet, and what comes between.

Needs root: agents capture in a network namespace of the test's own."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
import unittest

import harness
from fleet_world import FleetTest, make_archive, processes_of, until
from test_restraint import Program, frames

GRPC = "tcp"  # the bundled captures have their own ports


def kill_and_wait(process):
    process.kill()
    process.wait(60)


def group_of(leader):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rsplit(") ", 1)[1].split()
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append(int(pid))
    return found


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class Fleet(FleetTest):
    def packets(self):
        scenario = next(s for s in harness.scenarios() if s.name == "modern_pd_wide")
        return frames(harness.capture(scenario, "tidb1"))

    def calls(self, data):
        copy = os.path.join(self.scratch, "copy.db")
        with contextlib.suppress(FileNotFoundError):
            os.remove(copy)
        result = harness.run([harness.program("keytrail"), "backup", "--db", data, copy])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        with contextlib.closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as database:
            return database.execute("select count(*) from calls").fetchone()[0]

    # -- the life of a fleet

    def test_a_whole_life(self):
        for name in ("tikv1", "pd1"):
            self.add(name, filter=GRPC)
        self.save()
        started = self.fleet("start", "--duration", "10m")
        for name in ("collector", "tikv1", "pd1"):
            self.assertRegex(started.stderr, rf"{name}: started, pid \d+")
        self.connected("tikv1", "pd1")
        status = self.status(expect=harness.DONE)
        for name, host in status.items():
            self.assertEqual((host["state"], [host["pid"]]), ("running", self.agents(name)))
            self.assertTrue(0 < host["seconds_left"] <= 600)
            self.assertEqual(host["version"], "0.1.0")
        self.assertRegex(self.fleet("status").stdout, r"tikv1 +running +\d+ +0\.1\.0 .* connected")

        # A second start changes nothing: not a process, not a file but those of the supervisor's.
        def files():
            return {os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_mtime_ns
                    for host in status for folder, _, names in os.walk(self.folder(host)) for name in names
                    if name not in ("lock", ".keytrail-fleet")}
        before = files()
        again = self.fleet("start", "--duration", "10m")
        self.assertEqual(len(re.findall("already running", again.stderr)), 3)
        self.assertEqual({name: [host["pid"]] for name, host in self.status().items()},
                         {name: self.agents(name) for name in status})
        self.assertEqual(files(), before)
        self.assertEqual({name: host["pid"] for name, host in self.status().items()}, {name: host["pid"] for name, host in status.items()})

        self.send_traffic(self.packets())
        named = os.path.join(self.scratch, "fetched")
        collected = self.fleet("collect", "--into", named)
        self.assertEqual(collected.stderr.count("it runs on"), 3)
        with open(os.path.join(named, "tikv1", "log"), encoding="utf-8") as log:
            self.assertIn("connected to the collector", log.read())
        self.assertEqual(os.stat(named).st_mode & 0o777, 0o700)

        groups = []
        for name in ("tikv1", "pd1", "collector"):
            with open(os.path.join(self.folder(name), "supervisor"), encoding="ascii") as handle:
                groups.append(int(handle.read().split()[0]))
            self.assertGreater(len(group_of(groups[-1])), 2)
        stopped = self.fleet("stop")
        self.assertEqual(stopped.stderr.count("stopped, nothing left there"), 3)
        until("nor a process of theirs", lambda: not any(map(group_of, groups)), 10)
        self.assert_nothing_left("tikv1", "pd1", "collector")
        self.assertFalse(os.path.exists(self.state))
        self.assertGreater(self.calls(self.data), 0)
        agents = json.loads(harness.run([harness.program("keytrail"), "agents", "--db", self.data, "--json"]).stdout)
        self.assertEqual({agent["host"] for agent in agents["agents"]}, {"tikv1", "pd1"})
        # Once more is in order.
        self.assertEqual(self.fleet("stop").stderr.count("nothing runs, and nothing was left there"), 3)
        self.assertFalse(os.path.exists(self.state))

    def test_the_plan_is_what_a_shell_can_run(self):
        self.add("tikv1", dir=self.dir_of("it's 1"))
        self.save()
        plan = self.fleet("plan").stdout
        self.assertEqual(self.fleet("start", "--dry-run").stdout, plan)
        self.assertFalse(os.path.exists(self.state), "a plan changes nothing")
        script = self.write("plan.sh", plan.encode())
        ran = harness.run(["sh", script])
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(self.status()["tikv1"]["state"], "running")
        # It is what start runs: to start there is nothing to do any more.
        again = self.fleet("start")
        self.assertEqual(again.stderr.count("already running"), 2, again.stderr)
        for secret in ("fleet-tikv1.key", "fleet-collector.key"):
            with open(os.path.join(self.state, "keys", secret), encoding="utf-8") as key:
                secrets = key.read().split()[-1]
            self.assertNotIn(secrets, plan + self.fleet("plan").stdout)
            self.assertEqual(os.stat(os.path.join(self.state, "keys", secret)).st_mode & 0o777, 0o600)
        # ... and neither is it in the arguments of any process.
        stop = self.write("stop.sh", self.fleet("stop", "--dry-run").stdout.encode())
        ran = harness.run(["sh", "-e", stop])
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(os.listdir(self.dir_of("it's 1")), [])
        self.assert_nothing_left("collector")
        self.fleet("stop")

    def test_the_time_box_ends_it(self):
        self.add("tikv1")
        self.save()
        self.fleet("start", "--duration", "2s", "--linger", "1s")
        until("nothing is left", lambda: os.listdir(self.dir_of("tikv1")) == [])
        self.assert_nothing_left("tikv1")
        self.assertEqual(self.status(expect=harness.INCOMPLETE)["tikv1"]["state"], "none")
        self.fleet("stop")
        self.assert_nothing_left("collector")

    # -- the collector is lost

    def collector_of_ours(self):
        """One that runs already, whose folder of admitted keys the fleet is told."""
        folder = os.path.join(self.scratch, "own")
        os.makedirs(folder, exist_ok=True)
        made = harness.run([harness.program("keytrail"), "keys", "new", "collector", "--dir", folder])
        self.assertEqual(made.returncode, 0, made.stderr)
        admitted = os.path.join(folder, "admitted")
        os.makedirs(admitted, exist_ok=True)
        address = f"tcp://127.0.0.1:{self.port}"
        process = subprocess.Popen([harness.program("keytrail-collector"), "--listen", address, "--query", "none", "--data", self.data,
                                    "--key", os.path.join(folder, "collector.key"), "--admitted", admitted], stderr=subprocess.DEVNULL)
        self.ends.append(process)
        harness.wait_listening(process, address)
        return process, {"address": address, "server_key": os.path.join(folder, "collector.pub"), "admitted": admitted}

    def test_a_lost_collector_ends_it(self):
        process, collector = self.collector_of_ours()
        for name in ("tikv1", "pd1"):
            self.add(name, filter=GRPC)
        self.save(collector)
        self.fleet("start", "--give-up-after", "3s")
        self.assertEqual(sorted(os.listdir(collector["admitted"])), ["fleet-pd1.pub", "fleet-tikv1.pub"])
        self.connected("tikv1", "pd1")
        kill_and_wait(process)
        self.send_traffic(self.packets())
        until("both have given up", lambda: all(host["state"] == "ended" for host in self.status().values()))
        for name, host in self.status().items():
            self.assertTrue(host["records_left"])
            self.assertEqual(host["ended_status"], harness.INCOMPLETE)
            self.assertEqual(processes_of(self.folder(name)), [])
            # The agent, its libraries and its keys are gone; what somebody would miss is there.
            self.assertFalse({"bin", "lib", "own.key"} & set(os.listdir(self.folder(name))))
        with open(os.path.join(self.folder("tikv1"), "log"), encoding="utf-8") as log:
            self.assertIn("gives up, as --give-up-after says", log.read())
        kept = self.fleet("stop", expect=harness.INCOMPLETE)
        self.assertEqual(kept.stderr.count("records that the collector did not take are left there"), 2)
        self.assertTrue(os.path.exists(os.path.join(self.state, "keys", "fleet-tikv1.key")))

        # They are shipped from here, once there is a collector again.
        into = os.path.join(self.scratch, "fetched")
        self.collector_of_ours()
        drained = self.fleet("collect", "--drain", "--into", into)
        self.assertEqual(drained.stderr.count("its records were shipped to the collector"), 2, drained.stderr)
        self.assert_nothing_left("tikv1", "pd1")
        self.assertFalse(os.path.exists(os.path.join(into, "tikv1", "spool")))
        self.fleet("stop")
        self.assertEqual(os.listdir(collector["admitted"]), [])
        self.assertFalse(os.path.exists(self.state))
        self.assertGreater(self.calls(self.data), 0)

    def test_a_lost_collector_leaves_nothing_if_so_wanted(self):
        process, collector = self.collector_of_ours()
        self.add("tikv1", filter=GRPC)
        self.save(collector)
        self.fleet("start", "--give-up-after", "2s", "--leave-nothing")
        self.connected("tikv1")
        kill_and_wait(process)
        self.send_traffic(self.packets())
        until("nothing is left", lambda: os.listdir(self.dir_of("tikv1")) == [])
        self.assert_nothing_left("tikv1")
        self.fleet("stop")

    def test_records_may_be_discarded(self):
        process, collector = self.collector_of_ours()
        self.add("tikv1", filter=GRPC)
        self.save(collector)
        self.fleet("start", "--give-up-after", "2s")
        self.connected("tikv1")
        kill_and_wait(process)
        self.send_traffic(self.packets())
        until("it has given up", lambda: self.status()["tikv1"]["state"] == "ended")
        self.fleet("stop", expect=harness.INCOMPLETE)
        self.fleet("stop", "--discard")
        self.assert_nothing_left("tikv1")

    # -- something else is there

    def test_an_old_version_left_running(self):
        for name in ("tikv1", "pd1"):
            self.add(name)
        self.save()
        old = make_archive(os.path.join(self.scratch, "old.tar.gz"), "0.0.9")
        one = self.hosts[:1]
        self.hosts, both = one, self.hosts
        self.save()
        self.fleet("start", "--agent-archive", old)
        pid = self.agents("tikv1")
        self.assertEqual(self.status()["tikv1"]["version"], "0.0.9")
        self.hosts = both
        self.save()
        refused = self.fleet("start", expect=harness.INCOMPLETE)
        self.assertRegex(refused.stderr, r"tikv1: FAILED: keytrail-agent 0\.0\.9 of an earlier start runs here.*\n.*--replace")
        self.assertIn("pd1: started", refused.stderr)
        self.assertEqual(self.agents("tikv1"), pid)
        replaced = self.fleet("start", "--replace")
        self.assertIn("in place of keytrail-agent 0.0.9", replaced.stderr)
        self.assertIn("pd1: already running", replaced.stderr)
        self.assertEqual(self.status()["tikv1"]["version"], "0.1.0")
        self.assertEqual(len(self.agents("tikv1")), 1)
        self.assertNotEqual(self.agents("tikv1"), pid)
        other = self.fleet("start", "--duration", "5m", expect=harness.FAILED)
        self.assertIn("with other options", other.stderr)
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "pd1", "collector")

    def test_a_foreign_process_is_not_killed(self):
        self.add("tikv1")
        self.save()
        self.fleet("start")
        stranger = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(kill_and_wait, stranger)
        with open(f"/proc/{stranger.pid}/stat", encoding="ascii") as stat:
            began = stat.read().rsplit(") ", 1)[1].split()[19]
        # Both killed, and their numbers belong to another one now. Their watchdog is still there.
        with open(os.path.join(self.folder("tikv1"), "supervisor"), encoding="ascii") as handle:
            supervisor = int(handle.read().split()[0])
        for pid in (supervisor, *self.agents("tikv1")):
            os.kill(pid, signal.SIGKILL)
        until("they are gone", lambda: len(processes_of(self.folder("tikv1"))) == 1)
        for name in ("pid", "supervisor"):
            with open(os.path.join(self.folder("tikv1"), name), "w", encoding="ascii") as handle:
                handle.write(f"{stranger.pid} {began}\n")
        self.assertEqual(self.status()["tikv1"]["state"], "died")
        self.fleet("stop")
        self.assertIsNone(stranger.poll())
        self.assert_nothing_left("tikv1")
        self.assertEqual(group_of(supervisor), [])

    def test_a_foreign_folder_is_left_alone(self):
        self.add("tikv1")
        self.save()
        os.makedirs(self.folder("tikv1"))
        precious = os.path.join(self.folder("tikv1"), "precious")
        with open(precious, "w", encoding="ascii") as handle:
            handle.write("x")
        failed = self.fleet("start", expect=harness.FAILED)
        self.assertIn("was not made by keytrail fleet", failed.stderr)
        self.fleet("stop", expect=harness.FAILED)
        self.assertTrue(os.path.exists(precious))
        os.remove(precious)
        self.fleet("stop")

    def test_lost_keys_are_told(self):
        self.add("tikv1")
        self.save()
        self.fleet("start")
        subprocess.run(["rm", "-rf", self.state], check=True)
        failed = self.fleet("start", expect=harness.FAILED)
        self.assertIn("with keys that are not in", failed.stderr)
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "collector")

    # -- a host fails

    def test_a_full_disk(self):
        small, full = self.dir_of("small"), self.dir_of("full")
        # One has too little room to begin with; the other one runs out of it while the archive is unpacked.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=0755", "none", small], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,nr_inodes=8,mode=0755", "none", full], check=True)
        try:
            self.start_on_full_disks()
        finally:
            subprocess.run(["umount", small, full], check=True)

    def start_on_full_disks(self):
        for name in ("small", "full", "tikv1"):
            self.add(name)
        self.save()
        started = self.fleet("start", expect=harness.INCOMPLETE)
        self.assertRegex(started.stderr, r"small: FAILED: the disk of '.*on-small' has \d+ MiB free, and \d+ MiB may be needed")
        self.assertRegex(started.stderr, r"full: FAILED: its disk is full")
        self.assertIn("tikv1: started", started.stderr)
        self.assertIn("1 of 3 hosts run", started.stderr)
        self.assert_nothing_left("small")
        self.fleet("stop")
        self.assert_nothing_left("small", "full", "tikv1", "collector")

    def test_an_agent_that_ends_at_once(self):
        self.add("tikv1", device="nosuch0")
        self.add("pd1")
        self.save()
        started = self.fleet("start", expect=harness.INCOMPLETE)
        self.assertRegex(started.stderr, r"tikv1: FAILED: keytrail-agent 0\.1\.0 ended at once, with status 1[^\n]*\n +\| .*nosuch0")
        self.assertIn("pd1: started", started.stderr)
        self.assert_nothing_left("tikv1")
        self.fleet("stop")

    def test_a_collector_that_is_not_there(self):
        """Without it no agent is started."""
        self.add("tikv1")
        self.save({**self.started_collector(), "program": "/no/such/keytrail-collector"})
        failed = self.fleet("start", expect=harness.FAILED)
        self.assertIn("collector: FAILED: '/no/such/keytrail-collector' does not run here", failed.stderr)
        self.assert_nothing_left("tikv1")
        self.fleet("stop")
        self.assert_nothing_left("collector")

    def test_many_hosts(self):
        """Forty at once, some of which fail."""
        names = [f"tikv{n}" for n in range(40)]
        for n, name in enumerate(names):
            self.add(name, **({"device": "nosuch0"} if n % 10 == 3 else {}))
        self.save()
        started = self.fleet("start", expect=harness.INCOMPLETE)
        self.assertIn("36 of 40 hosts run", started.stderr)
        self.assertIn("not as wanted: tikv3, tikv13, tikv23, tikv33", started.stderr)
        self.connected(*(name for n, name in enumerate(names) if n % 10 != 3))
        self.fleet("stop")
        self.assert_nothing_left(*names, "collector")

    def test_an_archive_that_does_not_run_there(self):
        """As on a host whose glibc is too old."""
        self.add("tikv1")
        self.save()
        other = make_archive(os.path.join(self.scratch, "other.tar.gz"), "0.1.0", "libc.so.6: version GLIBC_2.99 not found")
        failed = self.fleet("start", "--agent-archive", other, expect=harness.FAILED)
        self.assertIn("tikv1: FAILED: the agent does not run here: libc.so.6: version GLIBC_2.99 not found", failed.stderr)
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "collector")

    def test_another_arch_is_told_in_the_plan(self):
        self.add("tikv1", arch="arm64")
        self.add("pd1")
        self.save()
        planned = self.fleet("plan", expect=harness.INCOMPLETE)
        self.assertIn("# left out: its arch is arm64", planned.stdout)
        started = self.fleet("start", expect=harness.INCOMPLETE)
        self.assertIn("tikv1: FAILED: its arch is arm64", started.stderr)
        self.assertIn("pd1: started", started.stderr)
        self.fleet("stop")

    def test_roll_back(self):
        self.add("tikv1", device="nosuch0")
        self.add("pd1")
        self.save()
        started = self.fleet("start", "--rollback", expect=harness.INCOMPLETE)
        self.assertRegex(started.stderr, "rolled back")
        self.assert_nothing_left("tikv1", "pd1", "collector")
        self.fleet("stop")

    # -- an interrupt in the middle

    def begun(self, *more):
        return subprocess.Popen(self.words("start", *more), stderr=subprocess.PIPE, text=True, env=dict(os.environ, NO_COLOR="1"))

    def test_an_interrupt_in_the_middle(self):
        slow = ["sh", "-c", 'sleep 0.4; exec "$@"', "slow"]
        for name in ("tikv1", "tikv2", "tikv3", "tikv4"):
            self.add(name, run=slow)
        self.save()
        start = self.begun("--jobs", "1")
        lines = []
        for line in start.stderr:
            lines.append(line)
            if "tikv1: started" in line:
                start.send_signal(signal.SIGINT)
                break
        lines += start.stderr.readlines()
        start.stderr.close()
        said = "".join(lines)
        self.assertEqual(start.wait(120), harness.INCOMPLETE, said)
        self.assertIn("interrupted", said)
        self.assertRegex(said, r"1 of 4 hosts run")
        self.assertRegex(said, r"not begun: .*tikv4")
        self.assertIn("fleet stop", said)
        # What was begun is whole or not there at all: it goes on from here.
        pid = self.agents("tikv1")
        again = self.fleet("start")
        self.assertIn("tikv1: already running", again.stderr)
        self.assertEqual(self.agents("tikv1"), pid)
        self.assertEqual(again.stderr.count(": started"), 3)
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "tikv2", "tikv3", "tikv4", "collector")

    def test_a_command_that_hangs_is_ended_by_the_second_interrupt(self):
        self.add("tikv1", run=["sh", "-c", "exec tail -f " + self.file])
        self.save()
        start = self.begun()
        until("it hangs", lambda: any("tail -f" in line for _, line in self.children(start.pid)))
        start.send_signal(signal.SIGINT)
        for line in start.stderr:
            if "interrupted" in line:
                break
        self.assertTrue(any("tail -f" in line for _, line in self.children(start.pid)))
        start.send_signal(signal.SIGINT)
        said = start.stderr.read()
        start.stderr.close()
        self.assertEqual(start.wait(120), harness.INCOMPLETE, said)
        self.assertIn("tikv1: FAILED: interrupted", said)
        self.hosts = []
        self.add("tikv1")
        self.save()
        self.fleet("stop")
        self.assert_nothing_left("collector")

    @staticmethod
    def children(parent):
        found = []
        for pid, line in processes_of(""):
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                    if int(stat.read().rsplit(") ", 1)[1].split()[1]) == parent:
                        found.append((pid, line))
        return found

    def test_killed_in_the_middle(self):
        """At whatever moment: a later start goes on, stop cleans up."""
        for name in ("tikv1", "tikv2"):
            self.add(name)
        self.save()
        for moment in (0.05, 0.2, 0.35, 0.5, 0.7, 0.9):
            with self.subTest(moment=moment):
                start = self.begun()
                time.sleep(moment)
                kill_and_wait(start)
                start.stderr.close()
                # Commands that ran go on to their end; until then what they do is locked.
                until("start goes on", lambda: harness.run(self.words("start"), timeout=120).returncode == harness.DONE)
                self.assertEqual([len(self.agents(name)) for name in ("tikv1", "tikv2")], [1, 1])
                self.fleet("stop")
                self.assert_nothing_left("tikv1", "tikv2", "collector")

    def test_a_host_that_says_nothing(self):
        """Its commands end well, and did nothing: that is no agent that runs, and none that was stopped."""
        self.add("tikv1", run=["sh", "-c", "cat >/dev/null"])
        self.save()
        self.assertIn("tikv1: FAILED: it did not answer", self.fleet("start", expect=harness.FAILED).stderr)
        self.assertEqual(self.status()["tikv1"]["state"], "unknown")
        self.assertIn("tikv1: FAILED: it did not answer", self.fleet("stop", expect=harness.FAILED).stderr)
        self.hosts[0].pop("run")
        self.save()
        self.fleet("stop")
        self.assert_nothing_left("collector")

    def test_a_command_without_an_answer(self):
        self.add("tikv1", run=["sh", "-c", "exec tail -f " + self.file])
        self.add("pd1")
        self.save()
        started = self.fleet("start", "--timeout", "2s", expect=harness.INCOMPLETE)
        self.assertIn("tikv1: FAILED: no answer within 2 s", started.stderr)
        self.assertIn("pd1: started", started.stderr)
        stopped = self.fleet("stop", "--timeout", "2s", "--grace", "1", expect=harness.INCOMPLETE)
        self.assertIn("tikv1: FAILED", stopped.stderr)
        self.assertRegex(stopped.stderr, "collector: runs on until its own time is over")
        self.hosts[0].pop("run")
        self.save()
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "pd1", "collector")

    # -- what is typed

    def test_inventories_of_the_page_are_read(self):
        with open(os.path.join(harness.REPOSITORY, "docs", "fleet.md"), encoding="utf-8") as page:
            inventories = re.findall(r"^```yaml\n(.*?)^```$", page.read(), re.MULTILINE | re.DOTALL)
        self.assertEqual(len(inventories), 2)
        for text in inventories:
            with open(self.file, "w", encoding="utf-8") as handle:
                handle.write(text)
            self.assertIn("# host tikv1", self.fleet("plan").stdout)

    def test_wrong_usage(self):
        self.add("tikv1")
        self.save()
        for arguments in (["fleet"], ["fleet", "start"], ["fleet", "start", self.file, "--duration", "soon"],
                          ["fleet", "start", self.file, "--jobs", "0"], ["fleet", "start", self.file, "--jobs", "257"]):
            result = harness.run([harness.program("keytrail"), *arguments])
            self.assertEqual(result.returncode, harness.USAGE, arguments)
        for arguments, words in ((["--agent-archive", "/nowhere"], "/nowhere"), (["--dir", "relative"], "must begin with '/'"),
                                 (["--sudo", "please"], "neither auto nor always nor never")):
            self.assertIn(words, self.fleet("start", *arguments, expect=harness.FAILED).stderr)
        with open(self.file, "a", encoding="ascii") as handle:
            handle.write("#" * (4 << 20))
        self.assertIn("is larger than", self.fleet("start", expect=harness.FAILED).stderr)
        self.assertFalse(os.path.exists(self.state))


class Script(unittest.TestCase):
    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_it_is_linted(self):
        linted = harness.run(["shellcheck", "-s", "sh", os.path.join(harness.REPOSITORY, "deploy", "fleet", "host.sh")])
        self.assertEqual((linted.returncode, linted.stdout), (0, ""))

    def test_the_program_has_it(self):
        with open(os.path.join(harness.REPOSITORY, "deploy", "fleet", "host.sh"), encoding="utf-8") as text:
            self.assertEqual(harness.run([harness.program("keytrail"), "fleet", "script"]).stdout, text.read())


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class GiveUp(FleetTest):
    """--give-up-after of the agent itself."""

    def agent(self, *more):
        return harness.run([harness.program("keytrail-agent"), "-i", "kt1", "--collector", f"127.0.0.1:{self.port}", *more], timeout=120)

    def test_it_ends_a_capture_whose_collector_never_came(self):
        ended = self.agent("--give-up-after", "2s")
        self.assertEqual(ended.returncode, harness.FAILED)
        self.assertIn("gives up, as --give-up-after says", ended.stderr)

    def test_it_ends_when_the_collector_stands_still(self):
        """As when its host is cut off: connections stay, and nothing comes any more."""
        address = f"tcp://127.0.0.1:{self.port}"
        collector = subprocess.Popen([harness.program("keytrail-collector"), "--listen", address, "--query", "none", "--data", self.data],
                                     stderr=subprocess.DEVNULL)
        self.ends.append(collector)
        harness.wait_listening(collector, address)
        agent = Program(harness.program("keytrail-agent"), "-i", "kt1", "--collector", address, "--give-up-after", "3s")
        try:
            agent.wait_for("connected to the collector")
            collector.send_signal(signal.SIGSTOP)
            agent.wait_for("gives up, as --give-up-after says")
            agent.process.wait(60)
        finally:
            collector.send_signal(signal.SIGCONT)
            agent.end()
        self.assertIn(agent.process.returncode, (harness.FAILED, harness.INCOMPLETE))

    def test_wrong_usage(self):
        self.assertEqual(self.agent("--give-up-after", "soon").returncode, harness.USAGE)
        self.assertIn("--wait is for files",
                      harness.run([harness.program("keytrail-agent"), "-r", "x", "--collector", "127.0.0.1:1", "--give-up-after", "2s"]).stderr)


if __name__ == "__main__":
    unittest.main()
