"""What tests of `keytrail fleet` share: an archive of this build's agent, hosts with folders of their own on this machine, and a
look at what is left of them.

Needs root and a network namespace of the test's own (`own_network`): agents capture on its loopback.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import unittest

import harness

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
PATIENCE = 120  # seconds until something that does not come fails the test


def own_network():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        raise unittest.SkipTest(f"namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for command in ("ip link set lo up", "ip link add kt0 type veth peer name kt1", "ip link set kt0 up", "ip link set kt1 up"):
        subprocess.run(command.split(), check=True)


def make_archive(path, version=None, broken=None):
    """An archive as the `packages` target makes it, of the agent of this build, which finds its libraries on this machine. With
    a version it calls itself so; a broken one says that instead, and ends."""
    top = f"keytrail-agent-{version or 'test'}-x86_64"
    folder = path + ".d"
    os.makedirs(os.path.join(folder, top, "bin"))
    os.makedirs(os.path.join(folder, top, "lib"))
    agent = os.path.join(folder, top, "bin", "keytrail-agent")
    if version is None:
        shutil.copy(harness.program("keytrail-agent"), agent)
    else:
        shutil.copy(harness.program("keytrail-agent"), os.path.join(folder, top, "lib", "keytrail-agent"))
        with open(agent, "w", encoding="utf-8") as script:
            script.write(f"#!/bin/sh\necho '{broken}' >&2\nexit 1\n" if broken else f'#!/bin/sh\n[ "$1" != --version ] || exec echo keytrail-agent {version}\n'
                         'exec "${0%/bin/*}/lib/keytrail-agent" "$@"\n')
        os.chmod(agent, 0o755)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(os.path.join(folder, top), top)
    shutil.rmtree(folder)
    return path


def processes_of(folder):
    """(pid, command line) of each process that has the folder in its command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as handle:
                line = handle.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in line and int(pid) != os.getpid():
            found.append((int(pid), line))
    return found


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return int(stat.read().rsplit(") ", 1)[1].split()[1])
    except OSError:
        return None


def until(what, condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class FleetTest(harness.ProgramTest):
    """self.fleet("start") runs on self.inventory; at the end nothing may be left that the test did not say."""

    @classmethod
    def setUpClass(cls):
        own_network()
        # The archive is made once.
        import tempfile
        cls._archives = tempfile.TemporaryDirectory()
        cls.archive = make_archive(os.path.join(cls._archives.name, "agent.tar.gz"))

    @classmethod
    def tearDownClass(cls):
        cls._archives.cleanup()

    def setUp(self):
        super().setUp()
        os.chmod(self.scratch, 0o755)  # agents become `nobody` and must come through
        self.file = os.path.join(self.scratch, "inventory.yaml")
        self.state = self.file + ".keytrail"
        self.data = os.path.join(self.scratch, "data")
        self.port, self.query = free_port(), free_port()
        self.hosts = []
        self.ends = []  # processes that the test started itself

    def tearDown(self):
        for process in self.ends:
            process.kill()
            process.wait(60)
        left = processes_of(self.scratch)
        for pid, _ in left:
            # A supervisor's group has more than what names the folder.
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) == os.getpgid(0):
                    os.kill(pid, signal.SIGKILL)
                else:
                    os.killpg(os.getpgid(pid), signal.SIGKILL)
        until("killed processes are gone", lambda: not processes_of(self.scratch))
        super().tearDown()
        self.assertEqual(left, [], "the test left processes")

    def dir_of(self, name):
        folder = os.path.join(self.scratch, "on-" + name)
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        return folder

    def add(self, name, **more):
        host = {"name": name, "transport": "local", "ports": [20160], "device": "kt1", "dir": self.dir_of(name)}
        host.update(more)
        self.hosts.append({key: value for key, value in host.items() if value is not None})
        return host

    def started_collector(self):
        return {"start": True, "address": f"127.0.0.1:{self.port}", "query": f"127.0.0.1:{self.query}", "data": self.data,
                "dir": self.dir_of("collector")}

    def save(self, collector=None):
        # JSON is YAML.
        with open(self.file, "w", encoding="utf-8") as handle:
            json.dump({"collector": collector or self.started_collector(), "hosts": self.hosts}, handle)

    def words(self, verb, *more):
        words = [harness.program("keytrail"), "fleet", verb, self.file, *more]
        if verb in ("plan", "start"):
            words += ["--agent-archive", self.archive] if "--agent-archive" not in more else []
            words += ["--spool-bytes", "40MiB"] if "--spool-bytes" not in more else []
        return words

    def fleet(self, verb, *more, expect=harness.DONE):
        result = harness.run(self.words(verb, *more), timeout=300)
        self.assertEqual(result.returncode, expect, f"{verb} {more}: {result.stdout}\n{result.stderr}")
        return result

    def status(self, expect=None):
        result = harness.run(self.words("status", "--json"), timeout=300)
        if expect is not None:
            self.assertEqual(result.returncode, expect, result.stdout + result.stderr)
        report = json.loads(result.stdout)
        return {host["name"]: host for host in report["hosts"]}

    def folder(self, name):
        return os.path.join(self.dir_of(name), "keytrail-fleet-" + name)

    def agents(self, name):
        """Agents of a host: neither what supervises them nor what they began themselves."""
        pids = [pid for pid, line in processes_of(self.folder(name)) if line.split()[0].endswith("/keytrail-agent")
                and "--version" not in line]
        return [pid for pid in pids if parent_of(pid) not in pids]

    def assert_nothing_left(self, *names):
        for name in names:
            self.assertEqual(os.listdir(self.dir_of(name)), [], name)
            # Its supervisor ends last, and with it what watches for the time box.
            until(f"nothing runs any more on {name}", lambda: not processes_of(self.folder(name)), 30)

    def connected(self, *names):
        def all_are():
            status = self.status()
            return all(status[name]["collector"] == "connected" for name in names)
        until("all are connected", all_are)

    def send_traffic(self, packets):
        """Once over the pair of devices; the agents see what comes in at kt1."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind(("kt0", 0))
            for n, packet in enumerate(packets):
                out.send(packet)
                if n % 64 == 0:
                    time.sleep(0.002)
