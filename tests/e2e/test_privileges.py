#!/usr/bin/env python3
"""Programs that were started by root go on as somebody who may do nothing but what they are for."""

import glob
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import time
import unittest

import harness
from test_ship import free_port

AGENT = harness.program("keytrail-agent")
COLLECTOR = harness.program("keytrail-collector")
KEYTRAIL = harness.program("keytrail")
NO_CAPABILITY = "0" * 16


def other_user():
    """Whom root becomes without being told."""
    for name in ("keytrail", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise unittest.SkipTest("neither keytrail nor nobody is a user here")


class Program:
    """A running program, with what it says in a file."""

    def __init__(self, folder, *arguments, **options):
        self.path = os.path.join(folder, f"stderr{len(glob.glob(os.path.join(folder, 'stderr*')))}")
        environment = dict(os.environ, TZ="UTC")
        environment.pop("KEYTRAIL_USER", None)
        with open(self.path, "wb") as errors:
            self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=errors, env=environment, **options)

    def words(self):
        with open(self.path, encoding="utf-8") as handle:
            return handle.read()

    def wait_for(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.words():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"not '{text}' but (status {self.process.poll()}): {self.words()}")
            time.sleep(0.02)

    def tasks(self):
        """What the kernel says of each thread."""
        found = []
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/status"):
            with open(path, encoding="utf-8") as handle:
                found.append(dict(line.rstrip("\n").split(":\t", 1) for line in handle if ":\t" in line))
        return found

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@unittest.skipIf(os.geteuid() != 0, "not root")
class Privileges(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.scratch, 0o755)
        self.user = other_user()

    def path(self, name):
        return os.path.join(self.scratch, name)

    def start(self, *arguments, **options):
        program = Program(self.scratch, *arguments, **options)
        self.addCleanup(program.stop)
        return program

    def collector(self, *more):
        self.address = f"127.0.0.1:{free_port()}"
        program = self.start(COLLECTOR, "--listen", "tcp://" + self.address, "--data", self.path("data"), *more)
        program.wait_for("listening on")
        return program

    def assert_confined(self, program):
        tasks = program.tasks()
        self.assertTrue(tasks)
        without_seccomp = any(why in program.words() for why in ("built with a sanitizer", "the kernel refuses seccomp"))
        for task in tasks:
            name = task["Name"]
            self.assertEqual(set(task["Uid"].split()), {str(self.user.pw_uid)}, name)
            self.assertEqual(set(task["Gid"].split()), {str(self.user.pw_gid)}, name)
            self.assertNotIn("0", task["Groups"].split(), name)
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(task[kind], NO_CAPABILITY, name + " " + kind)
            self.assertEqual(task["NoNewPrivs"], "1", name)
            self.assertEqual(task["Seccomp"], "0" if without_seccomp else "2", name)
        return len(tasks)

    def test_both_daemons_run_as_somebody_else_and_work(self):
        query = f"127.0.0.1:{free_port()}"
        collector = self.collector("--query", query)
        collector.wait_for("answering queries at")
        agent = self.start(AGENT, "-i", "lo", "-f", f"port {free_port()} or icmp", "-v", "--collector", self.address,
                           "--spool", self.path("spool"), "--agent-name", "here")
        agent.wait_for("runs as '" + self.user.pw_name)
        # Threads that were made since are no exception.
        self.assertGreater(self.assert_confined(collector), 3)
        self.assertGreater(self.assert_confined(agent), 1)
        for folder in ("data", "spool"):
            about = os.stat(self.path(folder))
            self.assertEqual((about.st_uid, stat.S_IMODE(about.st_mode)), (self.user.pw_uid, 0o700), folder)
        shipped = harness.run([AGENT, "-r", os.path.join(harness.BUNDLED, "pd_wide", "tikv1.pcap.zst"), "--collector",
                               self.address, "--spool", self.path("spool2"), "--agent-name", "other"],
                              timeout=120)
        self.assertEqual(shipped.returncode, harness.DONE, shipped.stderr)
        self.assertNotIn("cannot", shipped.stderr)
        answer = harness.run([KEYTRAIL, "sql", "--collector", query, "--format", "csv", "-e",
                              "select (select count(*) > 100 from calls), (select group_concat(name, '+') from "
                              "(select distinct name from agents order by name))"], timeout=60)
        self.assertIn("1,here+other", answer.stdout, answer.stderr)
        self.assertIn(agent.stop(), (harness.DONE, harness.INCOMPLETE), agent.words())
        self.assertEqual(collector.stop(), harness.DONE, collector.words())

    def test_a_live_capture_goes_on_without_rights(self):
        port = free_port()
        agent = self.start(AGENT, "-i", "lo", "-f", f"tcp port {port}", "-q", "--json", "-c", "1000", "--duration", "60s",
                           "-w", self.path("kept.pcap"))
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))
            server.listen()
            for _ in range(2000):  # until the agent has its thousand packets
                with socket.create_connection(("127.0.0.1", port)):
                    server.accept()[0].close()
                if agent.process.poll() is not None:
                    break
                time.sleep(0.01)
        self.assertIn(agent.stop(), (harness.DONE, harness.INCOMPLETE), agent.words())
        # A file of root's that was opened before.
        self.assertEqual(os.stat(self.path("kept.pcap")).st_uid, 0)
        again = harness.run([AGENT, "-r", self.path("kept.pcap"), "-q", "--json"])
        self.assertEqual(json.loads(again.stdout)["packets"], 1000)

    def test_secrets_of_root_are_read_before(self):
        for name in ("collector", "host"):
            made = harness.run([KEYTRAIL, "keys", "new", name, "--dir", self.scratch])
            self.assertEqual(made.returncode, harness.DONE, made.stderr)
        admitted = self.path("admitted")
        os.mkdir(admitted, 0o755)
        collector = self.collector("--key", self.path("collector.key"), "--admitted", admitted)
        self.assertEqual(os.stat(self.path("collector.key")).st_uid, 0)
        self.assert_confined(collector)
        # The list of those who are admitted is read again and again.
        done = harness.run([KEYTRAIL, "keys", "admit", self.path("host.pub"), "--admitted", admitted])
        self.assertEqual(done.returncode, harness.DONE, done.stderr)
        environment = dict(os.environ)
        environment.pop("KEYTRAIL_USER", None)
        shipped = subprocess.run([AGENT, "-r", os.path.join(harness.BUNDLED, "pd_wide", "tikv1.pcap.zst"), "--collector",
                                  self.address, "--key", self.path("host.key"), "--server-key",
                                  self.path("collector.pub"), "--wait", "60s"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, env=environment)
        self.assertEqual(shipped.returncode, harness.DONE, shipped.stderr)

    def test_folders_of_others_and_users_that_are_not_there(self):
        os.mkdir(self.path("roots"), 0o700)
        refused = self.start(COLLECTOR, "--listen", f"tcp://127.0.0.1:{free_port()}", "--data", self.path("roots"))
        self.assertEqual(refused.process.wait(timeout=60), harness.FAILED)
        self.assertIn(self.path("roots"), refused.words())
        self.assertIn("chown -R " + self.user.pw_name, refused.words())
        unknown = self.start(AGENT, "-i", "lo", "--user", "no-such-user-here")
        self.assertEqual(unknown.process.wait(timeout=60), harness.FAILED)
        self.assertIn("--user: there is no user 'no-such-user-here'", unknown.words())

    def test_root_may_stay_root_without_its_capabilities(self):
        os.mkdir(self.path("data"), 0o700)
        collector = self.collector("--user", "root")
        for task in collector.tasks():
            self.assertEqual(set(task["Uid"].split()), {"0"})
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(task[kind], NO_CAPABILITY, kind)
        self.assertEqual(collector.stop(), harness.DONE, collector.words())

    def test_who_is_not_root_stays_who_it_is(self):
        someone = dict(user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[])
        capture = harness.unpacked(os.path.join(harness.BUNDLED, "pd_wide", "tikv1.pcap.zst"), self.scratch)
        os.chmod(capture, 0o644)
        copy = self.path("keytrail-agent")
        with open(AGENT, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        os.chmod(copy, 0o755)
        plain = self.start(copy, "-r", capture, "-q", "--json", **someone)
        self.assertEqual(plain.process.wait(timeout=60), harness.DONE, plain.words())
        other = self.start(copy, "-r", capture, "-q", "--user", "root", **someone)
        self.assertEqual(other.process.wait(timeout=60), harness.FAILED)
        self.assertIn("only root can become the user 'root'", other.words())


if __name__ == "__main__":
    unittest.main()
