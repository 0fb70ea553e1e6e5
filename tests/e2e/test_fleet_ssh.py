#!/usr/bin/env python3
"""keytrail fleet over a real ssh: an sshd of the test's own on loopback, with its own keys and configuration.

Needs root (agents capture in a network namespace of the test's own) and openssh-server."""

import os
import shutil
import subprocess
import unittest

import harness
from fleet_world import FleetTest, free_port, until

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
@unittest.skipUnless(os.path.exists(SSHD) and shutil.which("ssh"), "needs openssh-server and openssh-client")
class FleetSsh(FleetTest):
    def setUp(self):
        super().setUp()
        self.ssh = os.path.join(self.scratch, "ssh")
        os.makedirs(self.ssh, mode=0o700)
        for key in ("host_key", "good", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(key)], check=True)
        shutil.copy(self.path("good.pub"), self.path("authorized_keys"))
        self.ssh_port = free_port()
        self.bin = os.path.join(self.ssh, "bin")
        os.makedirs(self.bin)
        # sshd wants it, and gives its rights up in it.
        self.made_run = not os.path.exists("/run/sshd")
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.put("sshd_config", f"Port {self.ssh_port}\nListenAddress 127.0.0.1\nHostKey {self.path('host_key')}\nPidFile none\n"
                                f"AuthorizedKeysFile {self.path('authorized_keys')}\nStrictModes no\nUsePAM no\nMaxStartups 100\n"
                                f"SetEnv PATH={self.bin}:/usr/sbin:/usr/bin:/sbin:/bin\n"
                                "PasswordAuthentication yes\nPermitRootLogin prohibit-password\nMaxSessions 100\n")
        self.sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", self.path("sshd_config")], stderr=subprocess.DEVNULL)
        self.ends.append(self.sshd)
        harness.wait_listening(self.sshd, f"tcp://127.0.0.1:{self.ssh_port}")
        with open(self.path("host_key.pub"), encoding="ascii") as key:
            self.put("known_hosts", f"[127.0.0.1]:{self.ssh_port} {' '.join(key.read().split()[:2])}\n")
        self.put("config", f"Host *\n  UserKnownHostsFile {self.path('known_hosts')}\n  IdentitiesOnly yes\n"
                           f"  GlobalKnownHostsFile /dev/null\n  IdentityAgent none\n  IdentityFile {self.path('good')}\n")

    def tearDown(self):
        super().tearDown()
        if self.made_run:
            os.rmdir("/run/sshd")

    def path(self, name):
        return os.path.join(self.ssh, name)

    def put(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(self.path(name), 0o600)

    def add(self, name, **more):
        host = {"transport": None, "host": "127.0.0.1", "ssh_user": "root", "ssh_port": self.ssh_port}
        host.update(more)
        return super().add(name, **host)

    def fleet(self, verb, *more, **expect):
        if verb in ("start", "plan"):
            more = (*more, "--ssh-config", self.path("config"))
        return super().fleet(verb, *more, **expect)

    def failed(self, name, result):
        """What was said of a host, and what to do."""
        lines = result.stderr.splitlines()
        at = next(i for i, line in enumerate(lines) if f"{name}: FAILED: " in line)
        self.assertIn("what to do: ", lines[at + 1], result.stderr)
        return lines[at].split("FAILED: ")[1], lines[at + 1].split("what to do: ")[1]

    def test_a_whole_life(self):
        for name in ("tikv1", "tikv2", "pd1"):
            self.add(name)
        # The collector is another host, too.
        collector = {"start": True, "host": "127.0.0.1", "ssh_user": "root", "ssh_port": self.ssh_port, "address": f"127.0.0.1:{self.port}",
                     "query": f"127.0.0.1:{self.query}", "data": self.data, "dir": self.dir_of("collector"),
                     "program": harness.program("keytrail-collector")}
        self.save(collector)
        started = self.fleet("start")
        self.assertEqual(started.stderr.count(": started, pid "), 4)
        # How to get there is remembered.
        self.connected("tikv1", "tikv2", "pd1")
        before = {name: host["pid"] for name, host in self.status(expect=harness.DONE).items()}
        self.assertEqual(self.fleet("start").stderr.count("already running"), 4)
        self.assertEqual({name: host["pid"] for name, host in self.status().items()}, before)
        # Nothing that is secret stands in a command, and nobody else may read it there.
        plan = self.fleet("plan").stdout
        for name in before:
            key = os.path.join(self.folder(name), "own.key")
            self.assertEqual(os.stat(key).st_mode & 0o777, 0o600)
            with open(key, encoding="ascii") as text:
                self.assertNotIn(text.read().split()[-1], plan)
        self.fleet("collect", "--into", os.path.join(self.scratch, "fetched"))
        self.assertTrue(os.path.exists(os.path.join(self.scratch, "fetched", "pd1", "log")))
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "tikv2", "pd1", "collector")
        self.assertFalse(os.path.exists(self.state))

    def test_the_plan_is_what_a_shell_can_run(self):
        self.add("tikv1")
        self.save()
        ran = harness.run(["sh", self.write("plan.sh", self.fleet("plan").stdout.encode())])
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(self.fleet("start").stderr.count("already running"), 2)
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "collector")

    def test_hosts_that_cannot_be_reached(self):
        """Each is told with its own reason; the one that can be reached is started."""
        self.add("good")
        self.add("closed", ssh_port=free_port())
        self.add("nobody-there", host="192.0.2.1", ssh_port=None)
        self.add("nameless", host="no-such-host.invalid")
        self.add("stranger", ssh_user="nobody")  # may log in with no key and no password
        self.save()
        started = self.fleet("start", "--ssh-option", "ConnectTimeout=3", expect=harness.INCOMPLETE)
        self.assertIn("good: started", started.stderr)
        why, what = self.failed("closed", started)
        self.assertIn("connection refused", why)
        self.assertIn("ssh_port", what)
        self.assertIn("cannot be reached over ssh (", self.failed("nobody-there", started)[0])
        self.assertIn("cannot be resolved", self.failed("nameless", started)[0])
        self.failed("stranger", started)
        self.assertIn("1 of 5 hosts run", started.stderr)
        self.assertIn("not as wanted: closed, nobody-there, nameless, stranger", started.stderr)
        stopped = self.fleet("stop", expect=harness.INCOMPLETE)
        self.assertIn("good: stopped, nothing left there", stopped.stderr)
        self.assertIn("closed: FAILED: ", stopped.stderr)
        # Keys of hosts about which nothing is known are kept, and so is the collector, as long as its time is not over.
        self.assertTrue(os.path.exists(os.path.join(self.state, "keys", "fleet-closed.key")))
        self.hosts = self.hosts[:1]
        self.save()
        self.fleet("stop")
        self.assert_nothing_left("good", "collector")

    def test_a_wrong_key_or_password(self):
        """No question is asked: the host is told, the others go on."""
        self.add("good")
        self.add("bad")
        self.save()
        self.put("config", f"Host *\n  UserKnownHostsFile {self.path('known_hosts')}\n  IdentityAgent none\n  IdentitiesOnly yes\n"
                           f"Match originalhost 127.0.0.1\n  IdentityFile {self.path('stranger')}\n")
        self.hosts[0].update(transport="local")
        for key in ("host", "ssh_user", "ssh_port"):
            self.hosts[0].pop(key)
        self.save()
        started = self.fleet("start", expect=harness.INCOMPLETE)
        self.assertIn("good: started", started.stderr)
        why, what = self.failed("bad", started)
        self.assertIn("ssh does not let 'root@127.0.0.1' in", why)
        self.assertIn(f"ssh -p {self.ssh_port} root@127.0.0.1", what)
        self.assertEqual(os.listdir(self.dir_of("bad")), [])
        # With the right one a later start goes on.
        self.put("config", f"Host *\n  UserKnownHostsFile {self.path('known_hosts')}\n  IdentityAgent none\n  IdentityFile {self.path('good')}\n")
        again = self.fleet("start")
        self.assertIn("good: already running", again.stderr)
        self.assertIn("bad: started", again.stderr)
        self.fleet("stop")
        self.assert_nothing_left("good", "bad", "collector")

    def test_a_host_key_that_is_not_known_or_changed(self):
        self.add("tikv1")
        self.save()
        with open(self.path("known_hosts"), encoding="ascii") as known:
            right = known.read()
        self.put("known_hosts", "")
        why, what = self.failed("tikv1", self.fleet("start", expect=harness.FAILED))
        self.assertIn("not known", why)
        self.assertIn("accept-new", what)
        with open(self.path("stranger.pub"), encoding="ascii") as key:
            self.put("known_hosts", f"[127.0.0.1]:{self.ssh_port} {' '.join(key.read().split()[:2])}\n")
        why, what = self.failed("tikv1", self.fleet("start", expect=harness.FAILED))
        self.assertIn("another one than before", why)
        self.assertIn("ssh-keygen -R", what)
        self.put("known_hosts", right)
        self.fleet("start")
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "collector")

    def test_a_host_that_goes_away_meanwhile(self):
        self.add("tikv1")
        self.save()
        self.fleet("start")
        self.connected("tikv1")
        self.sshd.terminate()
        self.sshd.wait(60)
        self.assertEqual(self.status(expect=harness.FAILED)["tikv1"]["state"], "unknown")
        stopped = self.fleet("stop", expect=harness.FAILED)
        self.assertIn("connection refused", self.failed("tikv1", stopped)[0])
        # The agent goes on, and ships; the collector was left to it.
        self.assertEqual(len(self.agents("tikv1")), 1)
        self.sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", self.path("sshd_config")], stderr=subprocess.DEVNULL)
        self.ends.append(self.sshd)
        harness.wait_listening(self.sshd, f"tcp://127.0.0.1:{self.ssh_port}")
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "collector")

    def test_sudo(self):
        """What the host's sudo says, and that commands go through it: a stand-in that wants a password, and one that does not."""
        self.add("tikv1")
        self.save({**self.started_collector(), "host": "127.0.0.1", "ssh_user": "root", "ssh_port": self.ssh_port,
                   "program": harness.program("keytrail-collector")})
        sudo = os.path.join(self.bin, "sudo")

        def stands_in(text):
            with open(sudo, "w", encoding="ascii") as handle:
                handle.write("#!/bin/sh\n" + text)
            os.chmod(sudo, 0o755)

        stands_in("echo 'sudo: a password is required' >&2; exit 1\n")
        why, what = self.failed("collector", self.fleet("start", "--sudo", "always", expect=harness.FAILED))
        self.assertIn("sudo on the host asks 'root@127.0.0.1' for a password", why)
        self.assertIn("NOPASSWD", what)
        log = self.path("sudo.log")
        stands_in(f'[ "$1" = -n ] || exit 9\nshift\necho "$1" >>{log}\nexec "$@"\n')
        self.fleet("start", "--sudo", "always")
        self.fleet("stop")
        self.assert_nothing_left("tikv1", "collector")
        with open(log, encoding="ascii") as handle:
            self.assertGreaterEqual(handle.read().count("sh"), 10)


if __name__ == "__main__":
    unittest.main()
