#!/usr/bin/env python3
"""keytrail doctor: a healthy host has no findings, and each planted fault is found, alone, with a fix that mends it.

Needs root: devices and traffic are in a network namespace of the test's own, disks in a mount namespace. Faults are real
ones (a device that is down, a process without CAP_NET_RAW, TLS of Python's ssl module, a full tmpfs, …); only the state of
the kernel's clock is handed in by a preloaded library (doctor_shim.c)."""

import contextlib
import ctypes
import fcntl
import glob
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from test_restraint import CLONE_NEWNET, Program, frames, moved

KEYTRAIL = harness.program("keytrail")
AGENT = harness.program("keytrail-agent")
COLLECTOR = harness.program("keytrail-collector")
CLONE_NEWNS = 0x00020000
FILTER = "tcp port 2379 or tcp port 20160"
FINDINGS = ("warning", "fault")
# linux/if_tun.h, linux/if_arp.h
TUNSETIFF, TUNSETLINK, IFF_TUN, IFF_NO_PI, ARPHRD_IEEE80211 = 0x400454CA, 0x400454CD, 0x0001, 0x1000, 801


# Below those that the kernel gives to clients: in a namespace of our own nobody else has them.
ports = itertools.count(17000)


def free_port():
    return next(ports)


def sh(command):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, PATH=harness.BIN + ":" + os.environ["PATH"] + ":/usr/sbin:/sbin"))


class Traffic:
    """Packets of a healthy cluster on kt1, again and again, each time from other client ports."""

    def __init__(self, packets, pause=0.002, at_once=8):
        self.packets, self.pause, self.at_once = packets, pause, at_once
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def _send(self):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind(("kt0", 0))
            for turn in itertools.count():
                for n, packet in enumerate(self.packets):
                    if n % self.at_once == 0:
                        time.sleep(self.pause)
                    if self.stopping.is_set():
                        return
                    with contextlib.suppress(OSError):  # a device that a test took down
                        out.send(moved(packet, turn))

    def stop(self):
        self.stopping.set()
        self.thread.join()


class Listener:
    """A TCP server of this process; `serve` gets each connection, on a thread of its own."""

    def __init__(self, serve, port=None):
        self.socket = socket.create_server(("127.0.0.1", port or free_port()))
        self.port = self.socket.getsockname()[1]
        self.serve = serve
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection):
        with connection, contextlib.suppress(OSError):
            self.serve(connection)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@unittest.skipIf(os.geteuid() != 0, "needs root, to plant faults in namespaces of its own")
class Doctor(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
            raise unittest.SkipTest(f"namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")
        sh("mount --make-rprivate /")
        sh("ip link set lo up && ip link add kt0 type veth peer name kt1 && ip link set kt0 up && ip link set kt1 up")
        cls.folder = tempfile.mkdtemp(prefix="keytrail-doctor-")
        os.chmod(cls.folder, 0o755)
        cls.shim = os.path.join(cls.folder, "shim.so")
        here = os.path.dirname(os.path.abspath(__file__))
        sh(f"cc -shared -fPIC -O1 -o {cls.shim} {os.path.join(here, 'doctor_shim.c')}")
        for name in ("collector", "stranger", "host1"):
            sh(f"keytrail keys new {name} --dir {cls.folder}")
        cls.admitted = os.path.join(cls.folder, "admitted")
        sh(f"keytrail keys admit --admitted {cls.admitted} {cls.folder}/host1.pub")
        sh(f"keytrail keys secret {cls.folder}/redact.secret")
        cls.address = f"127.0.0.1:{free_port()}"
        cls.query = f"127.0.0.1:{free_port()}"
        cls.data = os.path.join(cls.folder, "data")
        cls.collector = Program(COLLECTOR, "--listen", "tcp://" + cls.address, "--data", cls.data, "--query", cls.query,
                                "--key", f"{cls.folder}/collector.key", "--admitted", cls.admitted)
        harness.wait_listening(cls.collector.process, "tcp://" + cls.address)
        harness.wait_listening(cls.collector.process, "tcp://" + cls.query)
        cls.packets = frames(os.path.join(harness.BUNDLED, "pd_wide", "tidb1.pcap.zst"))
        cls.traffic = Traffic(cls.packets)

    @classmethod
    def tearDownClass(cls):
        cls.traffic.stop()
        cls.collector.end()
        shutil.rmtree(cls.folder)

    def setUp(self):
        super().setUp()
        os.chmod(self.scratch, 0o755)
        self.programs = []
        self.options = {
            "-i": "kt1", "-f": FILTER, "--collector": self.address, "--user": "nobody", "--duration": "1s",
            "--key": f"{self.folder}/host1.key", "--server-key": f"{self.folder}/collector.pub",
            "--spool": os.path.join(self.scratch, "spool"), "--spool-bytes": "64MiB",
            "--metrics": f"127.0.0.1:{free_port()}",
        }

    def tearDown(self):
        for program in self.programs:
            program.end()
        super().tearDown()

    # ---- asking

    def arguments(self, options=None):
        chosen = dict(self.options, **(options or {}))
        return [word for option, value in chosen.items() if value is not None for word in (option, value)]

    def ask(self, options=None, before=(), program=AGENT, clock="good", more=()):
        """(exit status, [check])"""
        environment = {"KEYTRAIL_SHIM_CLOCK": clock, "LD_PRELOAD": self.shim, "KEYTRAIL_USER": ""}
        result = subprocess.run([*before, program, "--doctor", "--json", *self.arguments(options), *more], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, env={**os.environ, **environment})
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertTrue(lines and lines[-1]["kind"] == "summary", result.stderr)
        checks = lines[:-1]
        levels = [c["level"] for c in checks]
        self.assertEqual((lines[-1]["faults"], lines[-1]["warnings"]), (levels.count("fault"), levels.count("warning")))
        wanted = harness.FAILED if "fault" in levels else harness.INCOMPLETE if "warning" in levels else harness.DONE
        self.assertEqual(result.returncode, wanted, checks)
        return checks

    def findings(self, *arguments, **named):
        return [c for c in self.ask(*arguments, **named) if c["level"] in FINDINGS]

    def only(self, name, level, words, options=None, **named):
        """The one finding there is."""
        found = self.findings(options, **named)
        self.assertEqual([(c["check"], c["level"]) for c in found], [(name, level)], found)
        self.assertIn(words, found[0]["found"])
        self.assertTrue(found[0].get("command") or found[0].get("fix"), found[0])
        return found[0]

    def mended_by(self, finding, options=None, **named):
        """Its command, run as it is printed, makes it go away."""
        sh(finding["command"])
        self.assertEqual(self.findings(options, **named), [])

    def start(self, *arguments, words):
        program = Program(*arguments)
        self.programs.append(program)
        program.wait_for(words)
        return program

    def agent(self, *options):
        return self.start(AGENT, *options, "-v", "--collector", self.address, "--key", f"{self.folder}/host1.key",
                          "--server-key", f"{self.folder}/collector.pub", words="runs as")

    def copy(self, name, mode):
        path = os.path.join(self.scratch, name)
        shutil.copy(os.path.join(self.folder, name), path)
        os.chmod(path, mode)
        return path

    # ---- a healthy host

    def test_healthy_host_has_no_findings(self):
        options = {"--redact": "on", "--redact-secret": f"{self.folder}/redact.secret"}
        before = sorted(os.listdir(self.scratch))
        checks = self.ask(options)
        self.assertEqual([c for c in checks if c["level"] != "ok"], [])
        names = [c["check"] for c in checks]
        self.assertEqual(names, ["privileges", "device", "filter", "offload", "memory", "limits", "clock", "agents", "schema",
                                 "keys", "redaction", "ring", "confinement", "drops", "traffic", "spool", "metrics",
                                 "collector"])
        traffic = next(c for c in checks if c["check"] == "traffic")["found"]
        self.assertIn("HTTP/2 in plain text at port", traffic)
        self.assertIn("20160", traffic)
        # It changed nothing: no folder, and no agent in the collector.
        self.assertEqual(sorted(os.listdir(self.scratch)), before)
        agents = harness.run([KEYTRAIL, "agents", "--collector", self.query, "--json"])
        self.assertNotIn("host1", agents.stdout)

    def test_text_is_for_people(self):
        arguments = [AGENT, "--doctor", *self.arguments({"-i": "kt9", "--collector": None, "--key": None, "--server-key": None,
                                                         "--spool": None, "--spool-bytes": None})]
        result = harness.run(arguments)
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertRegex(result.stdout, r"(?m)^fault +device +there is no device 'kt9' here$")
        self.assertRegex(result.stdout, r"(?m)^ +fix: start it with -i and one of these: .*kt1")
        self.assertRegex(result.stdout, r"(?m)^- +traffic ")
        self.assertRegex(result.stdout, r"(?m)^\d+ checks: 1 fault, \d warnings?\.$")

    # ---- device, rights, ring

    def test_device_that_is_not_there(self):
        found = self.only("device", "fault", "no device 'eth7'", {"-i": "eth7"})
        self.assertIn("kt1", found["fix"])

    def test_device_that_is_down(self):
        sh("ip link set kt1 down")
        try:
            found = self.only("device", "fault", "kt1 is down")
        finally:
            if "found" not in locals():
                sh("ip link set kt1 up")
        self.assertEqual(found["command"], "ip link set dev kt1 up")
        self.mended_by(found)

    def test_device_without_carrier(self):
        sh("ip link set kt0 down")
        try:
            found = self.findings()
        finally:
            sh("ip link set kt0 up")
        self.assertEqual([(c["check"], c["level"]) for c in found], [("device", "warning"), ("traffic", "warning")])
        self.assertIn("no carrier", found[0]["found"])

    def test_device_of_another_kind(self):
        tun = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"wl9", IFF_TUN | IFF_NO_PI))
            fcntl.ioctl(tun, TUNSETLINK, ARPHRD_IEEE80211)
            sh("ip link set wl9 up")
            found = self.only("device", "fault", "which the agent does not decode", {"-i": "wl9"})
        finally:
            os.close(tun)
        self.assertIn("IEEE802_11", found["found"])

    def test_no_right_to_capture(self):
        program = os.path.join(self.scratch, "keytrail-agent")
        shutil.copy(AGENT, program)
        before = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        # Keys that it may read, and a folder for its spool.
        keys = {"--user": None, "--key": self.copy("host1.key", 0o600), "--spool": None, "--spool-bytes": None}
        os.chown(keys["--key"], 65534, 65534)
        found = self.only("privileges", "fault", "no CAP_NET_RAW", keys, before=before, program=program)
        self.assertEqual(found["command"], f"setcap cap_net_raw+ep {program}")
        sh(found["command"])
        # The loader preloads nothing for a file with capabilities: the clock is the machine's own.
        after = self.findings(keys, before=before, program=program)
        self.assertEqual([c for c in after if c["check"] != "clock"], [])

    def test_right_that_cannot_be_had(self):
        found = self.only("privileges", "fault", "not in the bounding set", before=["capsh", "--drop=cap_net_raw", "--", "-c",
                                                                                 'exec "$0" "$@"'])
        self.assertIn("--cap-add NET_RAW", found["fix"])

    def test_root_that_cannot_become_another(self):
        found = self.findings(before=["capsh", "--drop=cap_setuid", "--", "-c", 'exec "$0" "$@"'])
        self.assertEqual({c["check"] for c in found}, {"privileges", "confinement"})
        self.assertIn("CAP_SETUID", found[0]["found"])
        self.assertIn("--user root", found[0]["fix"])

    def test_account_that_is_not_there(self):
        found = self.only("privileges", "fault", "there is no user 'tidbee'", {"--user": "tidbee"})
        self.assertIn("useradd --system", found["fix"])

    def test_no_room_for_the_ring(self):
        found = self.findings({"--ring": "512MiB"}, before=["prlimit", f"--as={400 << 20}"])
        self.assertEqual([(c["check"], c["level"]) for c in found], [("limits", "warning"), ("ring", "fault")], found)
        self.assertIn("ulimit -v", found[0]["found"])
        self.assertIn("the ring wants 512 MiB", found[1]["fix"])

    def test_bounded_time_of_the_processor(self):
        self.only("limits", "warning", "after 900 s of CPU time", before=["prlimit", "--cpu=900"])

    def test_segments_longer_than_a_capture_keeps(self):
        sh("ip link set kt1 gro_max_size 400000")
        try:
            found = self.only("offload", "warning", "400000 bytes (BIG TCP)")
        except BaseException:
            sh("ip link set kt1 gro_max_size 65536")
            raise
        self.assertEqual(found["command"].split()[:6], ["ip", "link", "set", "dev", "kt1", "gro_max_size"])
        self.mended_by(found)

    def test_another_agent_on_the_device(self):
        other = self.agent("-i", "lo", "-i", "kt0,kt1")
        found = self.only("agents", "warning", f"process {other.process.pid} is an agent that captures on kt1 already")
        sh(found["command"])
        other.process.wait(60)
        self.assertEqual(self.findings(), [])

    # ---- filter and traffic

    def test_filter_that_is_none(self):
        self.only("filter", "fault", "filter 'tcp prt 20160'", {"-f": "tcp prt 20160"})

    def filter_of(self, fix):
        """The filter that a fix names."""
        return re.search(r"-f '([^']*)'", fix)[1]

    def test_filter_that_takes_nothing(self):
        found = self.only("traffic", "warning", "the filter 'tcp port 21' took none of them", {"-f": "tcp port 21", "--duration": "5s"})
        self.assertIn("tcp port 20160", self.filter_of(found["fix"]))
        self.assertEqual(self.findings({"-f": self.filter_of(found["fix"])}), [])

    def test_filter_that_leaves_out_a_part(self):
        found = self.only("filter", "warning", "HTTP/2 passes at port 20160, and -f leaves it out",
                          {"-f": "tcp port 2379", "--duration": "5s"})
        self.assertEqual(self.findings({"-f": self.filter_of(found["fix"])}), [])

    def test_device_where_the_cluster_is_not(self):
        with contextlib.closing(Listener(lambda c: c.recv(1), 20160)):
            sh("ip link add kt6 type veth peer name kt7 && sysctl -q net.ipv6.conf.kt6.disable_ipv6=1 net.ipv6.conf.kt7.disable_ipv6=1"
               " && ip link set kt6 up && ip link set kt7 up")
            try:
                found = self.only("traffic", "warning", "nothing passed on kt6", {"-i": "kt6", "-f": None})
            finally:
                sh("ip link del kt6")
        self.assertIn("-i any -f 'tcp port 20160'", found["fix"])

    def test_quiet_device(self):
        sh("ip link add kt8 type veth peer name kt9 && sysctl -q net.ipv6.conf.kt8.disable_ipv6=1 net.ipv6.conf.kt9.disable_ipv6=1"
           " && ip link set kt8 up && ip link set kt9 up")
        try:
            found = self.only("traffic", "warning", "nothing passed on kt8", {"-i": "kt8"})
        finally:
            sh("ip link del kt8")
        self.assertIn("look at the right host", found["fix"])

    def test_tls_on_the_port(self):
        with self.tls_at(20160):
            found = self.only("traffic", "fault", "nothing that can be read was seen", {"-i": "lo"})
        self.assertIn("TLS at port 20160", found["found"])
        self.assertIn("plain text only", found["fix"])
        self.assertIn(f"-f '({FILTER}) and not tcp port 20160'", found["fix"])

    def test_tls_on_one_of_the_ports(self):
        with self.tls_at(10080):
            found = self.only("traffic", "warning", "TLS at port 10080", {"-i": "kt1,lo", "-f": None})
        self.assertNotIn("nothing that can be read", found["found"])

    def test_tls_of_other_programs_is_no_finding(self):
        with self.tls_at(8443):
            self.assertEqual(self.findings({"-i": "kt1,lo", "-f": None}), [])
            self.assertEqual(self.findings({"-i": "any", "-f": None}), [])

    @contextlib.contextmanager
    def tls_at(self, port):
        key, certificate = os.path.join(self.scratch, "tls.key"), os.path.join(self.scratch, "tls.pem")
        sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=tikv -days 1 -keyout {key}"
           f" -out {certificate} 2>/dev/null")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, key)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

        def serve(connection):
            with server.wrap_socket(connection, server_side=True) as secured:
                while data := secured.recv(4096):
                    secured.sendall(data)

        listener = Listener(serve, port)
        stopping = threading.Event()

        def talk():
            while not stopping.is_set():
                with socket.create_connection(("127.0.0.1", port)) as plain, client.wrap_socket(plain) as secured:
                    for _ in range(5):
                        secured.sendall(b"what a store would be asked" * 20)
                        secured.recv(4096)
                        time.sleep(0.02)

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            yield
        finally:
            stopping.set()
            talker.join()
            listener.close()

    def test_another_protocol_on_the_port(self):
        def serve(connection):
            while connection.recv(4096):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        listener = Listener(serve, 20160)
        stopping = threading.Event()

        def talk():
            while not stopping.is_set():
                with socket.create_connection(("127.0.0.1", 20160)) as connection:
                    connection.sendall(b"GET /status HTTP/1.1\r\nHost: store\r\n\r\n")
                    connection.recv(4096)
                    time.sleep(0.02)

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            self.only("traffic", "warning", "none of which is HTTP/2", {"-i": "lo"})
        finally:
            stopping.set()
            talker.join()
            listener.close()

    def test_device_that_goes_down_meanwhile(self):
        environment = {**os.environ, "KEYTRAIL_SHIM_CLOCK": "good", "LD_PRELOAD": self.shim, "KEYTRAIL_USER": ""}
        asked = subprocess.Popen([AGENT, "--doctor", "--json", *self.arguments({"--duration": "4s"})], stdout=subprocess.PIPE,
                                 text=True, env=environment)
        try:
            for line in asked.stdout:
                if '"check":"confinement"' in line:
                    break
            time.sleep(0.5)
            sh("ip link set kt1 down")
            time.sleep(0.5)
            sh("ip link set kt1 up")
            found = [c for c in map(json.loads, asked.stdout) if c.get("level") in FINDINGS]
            self.assertEqual(asked.wait(60), harness.INCOMPLETE, found)
        finally:
            asked.kill()
            asked.wait()
            asked.stdout.close()
            sh("ip link set kt1 up")
        self.assertEqual([c["check"] for c in found], ["device"], found)
        self.assertIn("went down while it was looked at", found[0]["found"])

    def test_drops(self):
        # A process that stands still while a device is flooded: its ring runs over.
        flood = Traffic(self.packets * 4, pause=0, at_once=10 ** 9)
        environment = {**os.environ, "KEYTRAIL_SHIM_CLOCK": "good", "LD_PRELOAD": self.shim, "KEYTRAIL_USER": ""}
        asked = subprocess.Popen([AGENT, "--doctor", "--json", *self.arguments({"--duration": "12s", "-f": None})],
                                 stdout=subprocess.PIPE, text=True, env=environment)
        try:
            for line in asked.stdout:
                if '"check":"confinement"' in line:
                    break
            asked.send_signal(signal.SIGSTOP)
            self.fill_ring()
            asked.send_signal(signal.SIGCONT)
            checks = [json.loads(line) for line in asked.stdout]
            self.assertEqual(asked.wait(60), harness.INCOMPLETE, checks)
        finally:
            flood.stop()
            asked.kill()
            asked.wait()
            asked.stdout.close()
        found = [c for c in checks if c.get("level") in FINDINGS]
        self.assertEqual([c["check"] for c in found], ["drops"], found)
        self.assertIn("because the ring was full", found[0]["found"])
        self.assertIn("narrower -f", found[0]["fix"])

    def fill_ring(self):
        """Until more has passed kt1 than any ring holds."""
        def passed():
            shown = json.loads(subprocess.run(["ip", "-j", "-s", "link", "show", "kt1"], check=True, stdout=subprocess.PIPE).stdout)
            return shown[0]["stats64"]["rx"]["bytes"]
        began = passed()
        end = time.monotonic() + 120
        while passed() - began < 120 << 20:
            self.assertLess(time.monotonic(), end, "the flood is too slow")
            time.sleep(0.1)

    # ---- clock

    def test_clock_that_nothing_keeps_right(self):
        found = self.only("clock", "warning", "unsynchronised", clock="unsynchronised")
        self.assertEqual(found["command"], "timedatectl set-ntp true")

    def test_clock_that_may_be_far_off(self):
        self.only("clock", "warning", "may be wrong by 400.000 ms", clock="coarse")

    # ---- keys

    def test_key_that_everybody_can_read(self):
        options = {"--key": self.copy("host1.key", 0o644)}
        found = self.only("keys", "fault", "can be read by other users", options)
        self.assertEqual(found["command"], f"chmod 600 {options['--key']}")
        self.mended_by(found, options)

    def test_key_of_the_collector_that_everybody_can_change(self):
        options = {"--server-key": self.copy("collector.pub", 0o666)}
        found = self.only("keys", "fault", "can be changed by other users", options)
        self.mended_by(found, options)

    def test_key_of_another_user(self):
        options = {"--key": self.copy("host1.key", 0o600)}
        os.chown(options["--key"], 4711, 4711)
        found = self.only("keys", "fault", "belongs to user 4711", options)
        self.mended_by(found, options)

    def test_no_key_file(self):
        options = {"--key": os.path.join(self.scratch, "host7.key")}
        found = self.only("keys", "fault", "No such file", options)
        self.assertEqual(found["command"], f"keytrail keys new host7 --dir {self.scratch}")
        sh(found["command"])
        found = self.only("collector", "fault", "does not admit the key of this agent, 'host7'", options)
        self.assertIn("keytrail keys admit host7.pub", found["fix"])
        sh(f"keytrail keys admit --admitted {self.admitted} {self.scratch}/host7.pub")
        self.wait_until_fine(options)

    def wait_until_fine(self, options):
        """A running collector heeds its folder within a second."""
        end = time.monotonic() + 30
        while found := self.findings(options):
            self.assertLess(time.monotonic(), end, found)

    def test_swapped_halves(self):
        found = self.only("keys", "fault", "they are swapped",
                          {"--key": f"{self.folder}/collector.pub", "--server-key": f"{self.folder}/host1.key"})
        self.assertIn(f"--key {self.folder}/host1.key --server-key {self.folder}/collector.pub", found["fix"])
        words = found["fix"].split(",")[0].split()
        self.assertEqual(self.findings(dict(zip(words[3::2], words[4::2]))), [])

    def test_public_half_where_the_secret_belongs(self):
        found = self.only("keys", "fault", "is a public key", {"--key": f"{self.folder}/host1.pub"})
        self.assertIn(f"--key {self.folder}/host1.key", found["fix"])

    def test_secret_of_another_pair(self):
        path = self.copy("host1.key", 0o600)
        with open(path, encoding="ascii") as handle:
            lines = handle.read().splitlines()
        with open(f"{self.folder}/stranger.key", encoding="ascii") as handle:
            lines[3] = handle.read().splitlines()[3]
        with open(path, "w", encoding="ascii") as handle:
            handle.write("\n".join(lines) + "\n")
        self.only("keys", "fault", "the secret does not belong to the public key", {"--key": path})

    def test_secret_of_tokens_that_everybody_can_read(self):
        options = {"--redact": "on", "--redact-secret": self.copy("redact.secret", 0o644)}
        found = self.only("redaction", "fault", "can be read by other users", options)
        self.mended_by(found, options)

    # ---- collector

    def test_collector_that_is_away(self):
        found = self.only("collector", "fault", "nothing listens there", {"--collector": f"127.0.0.1:{free_port()}"})
        self.assertIn("systemctl start keytrail-collector", found["fix"])

    def test_collector_with_another_key(self):
        options = {"--server-key": self.copy("stranger.pub", 0o644)}
        found = self.only("collector", "fault", "its key is not 'stranger' of --server-key", options)
        self.assertIn(options["--server-key"], found["fix"])
        shutil.copy(f"{self.folder}/collector.pub", options["--server-key"])  # as it says
        self.assertEqual(self.findings(options), [])

    def test_key_that_is_not_admitted(self):
        found = self.only("collector", "fault", "does not admit the key of this agent, 'stranger'",
                          {"--key": f"{self.folder}/stranger.key"})
        self.assertIn("keytrail keys admit stranger.pub", found["fix"])

    def test_collector_that_wants_keys(self):
        self.only("collector", "fault", "the collector wants keys", {"--key": None, "--server-key": None})

    def test_collector_without_keys(self):
        address = f"tcp://127.0.0.1:{free_port()}"
        plain = Program(COLLECTOR, "--listen", address, "--query", "none", "--data", os.path.join(self.scratch, "plain"))
        self.programs.append(plain)
        harness.wait_listening(plain.process, address)
        self.only("collector", "fault", "what listens there has none", {"--collector": address})
        self.assertEqual(self.findings({"--collector": address, "--key": None, "--server-key": None}), [])

    def test_collector_of_another_host_without_keys(self):
        found = self.only("collector", "fault", "without keys everybody on the way could read",
                          {"--collector": "192.0.2.7:7450", "--key": None, "--server-key": None})
        self.assertIn("keytrail keys new", found["fix"])

    def test_name_that_nobody_knows(self):
        self.only("collector", "fault", "collector.invalid", {"--collector": "collector.invalid:7450"})

    def test_no_way_to_the_collector(self):
        sh("ip route add unreachable 192.0.2.0/24")
        try:
            found = self.only("collector", "fault", "cannot be reached", {"--collector": "192.0.2.7:7450"})
        finally:
            sh("ip route del unreachable 192.0.2.0/24")
        self.assertIn("TCP port 7450", found["fix"])

    def test_another_program_at_the_address(self):
        with contextlib.closing(Listener(lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.2\r\n") or c.recv(100))) as listener:
            self.only("collector", "fault", "does not speak ZeroMQ", {"--collector": f"127.0.0.1:{listener.port}"})

    def test_port_for_queries_instead(self):
        found = self.only("collector", "fault", "does not speak ZeroMQ", {"--collector": self.query})
        self.assertIn("--listen", found["fix"])

    def test_silence_at_the_address(self):
        with contextlib.closing(Listener(lambda c: time.sleep(20))) as listener:
            self.only("collector", "fault", "says nothing", {"--collector": f"127.0.0.1:{listener.port}"})

    # ---- disk

    @contextlib.contextmanager
    def disk(self, size, options="rw"):
        path = os.path.join(self.scratch, "disk")
        os.mkdir(path)
        sh(f"mount -t tmpfs -o size={size} kt {path}")
        try:
            spool = os.path.join(path, "spool")
            sh(f"install -d -m 700 -o nobody {spool}")
            sh(f"mount -o remount,{options} {path}")
            yield {"--spool": spool}
        finally:
            sh(f"umount {path}")

    def test_disk_that_is_read_only(self):
        with self.disk("200m", "ro") as options:
            found = self.only("spool", "fault", "read-only", options)
            self.mended_by(found, options)

    def test_full_disk(self):
        with self.disk("200m") as options:
            filler = os.path.join(os.path.dirname(options["--spool"]), "filler")
            sh(f"head -c {190 << 20} /dev/zero > {filler}")
            found = self.only("spool", "fault", "its disk is full", options)
            self.assertIn("du -xh", found["fix"])
            os.remove(filler)  # as it says
            self.assertEqual(self.findings(options), [])

    def test_disk_that_is_smaller_than_the_spool_may_grow(self):
        with self.disk("100m") as options:
            large = dict(options, **{"--spool-bytes": "1GiB"})
            found = self.only("spool", "warning", "may grow to 1 GiB", large)
            words = found["fix"].split()
            self.assertEqual(words[3], "--spool-bytes")
            self.assertEqual(self.findings(dict(options, **{"--spool-bytes": words[4].rstrip(",")})), [])

    def test_spool_of_another_user(self):
        os.mkdir(self.options["--spool"], 0o700)
        found = self.only("spool", "fault", "belongs to user 0, not to 'nobody'")
        self.mended_by(found)

    def test_spool_that_is_open_to_others(self):
        sh(f"install -d -m 755 -o nobody {self.options['--spool']}")
        found = self.only("spool", "fault", "open to other users")
        self.mended_by(found)

    def test_spool_below_a_closed_folder(self):
        closed = os.path.join(self.scratch, "closed")
        os.mkdir(closed, 0o700)
        sh(f"install -d -m 700 -o nobody {closed}/spool")
        found = self.only("spool", "fault", "cannot be written by 'nobody'", {"--spool": f"{closed}/spool"})
        self.assertIn("let that user through", found["fix"])

    def test_spool_that_a_live_agent_has(self):
        other = self.agent("-i", "lo", "--user", "nobody", "--spool", self.options["--spool"])
        end = time.monotonic() + 60
        while not glob.glob(self.options["--spool"] + "/lock"):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        found = self.only("spool", "fault", f"is used by another agent (process {other.process.pid})")
        sh(found["command"])
        other.process.wait(60)
        self.assertEqual(self.findings(), [])

    def spool_of_an_agent(self, *more):
        """A spool with batches of records that no collector took."""
        agent = Program(AGENT, "-i", "kt1", "-f", FILTER, "--collector", f"127.0.0.1:{free_port()}", "--user", "nobody", "--spool",
                        self.options["--spool"], "--wait", "1s", *more)
        self.programs.append(agent)
        end = time.monotonic() + 60
        while not any(os.path.getsize(f) > 50_000 for f in glob.glob(self.options["--spool"] + "/*.spool")):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)
        self.assertEqual(agent.end(), harness.INCOMPLETE, agent.lines)
        return glob.glob(self.options["--spool"] + "/*.spool")[0]

    def test_spool_with_damage(self):
        segment = self.spool_of_an_agent()
        self.assertEqual(self.findings(), [])  # what waits for a collector is no fault
        with open(segment, "r+b") as handle:
            handle.seek(os.path.getsize(segment) // 3)
            handle.write(b"\x00" * 64)
        found = self.only("spool", "warning", "damaged on the disk")
        self.assertRegex(found["found"], r": [1-9]\d* of \d+ batches")

    def test_spool_with_keys_told_in_another_way(self):
        self.spool_of_an_agent("--redact", "on", "--redact-secret", f"{self.folder}/redact.secret")
        found = self.only("spool", "fault", "this one has --redact off")
        self.assertIn("--drain", found["fix"])

    def test_file_that_cannot_be_written(self):
        self.only("write_file", "fault", "No such file", {"-w": os.path.join(self.scratch, "none", "x.pcap")})

    # ---- metrics, schema

    def test_busy_metrics_port(self):
        with contextlib.closing(Listener(lambda c: None)) as listener:
            found = self.only("metrics", "fault", f"127.0.0.1:{listener.port}", {"--metrics": f"127.0.0.1:{listener.port}"})
        self.assertIn(f"sport = :{listener.port}", found["fix"])

    def test_schema_that_is_none(self):
        self.only("schema", "fault", self.scratch, {"--proto": self.scratch})

    # ---- keytrail doctor

    def run_keytrail(self, *arguments):
        environment = {**os.environ, "KEYTRAIL_SHIM_CLOCK": "good", "LD_PRELOAD": self.shim, "KEYTRAIL_USER": ""}
        result = subprocess.run([KEYTRAIL, "doctor", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=120, env=environment)
        return result, [json.loads(line) for line in result.stdout.splitlines()] if "--json" in arguments else []

    def test_keytrail_asks_the_agent_beside_it(self):
        result, lines = self.run_keytrail("--json", "--data", self.data, "--query", self.query, *self.arguments())
        self.assertEqual(result.returncode, harness.DONE, result.stdout + result.stderr)
        names = [l["check"] for l in lines if l["kind"] == "check"]
        self.assertEqual(names[0], "privileges")
        self.assertEqual(names[-3:], ["data", "query", "clock_offset"])
        result, lines = self.run_keytrail(*self.arguments({"-i": "eth7"}), "--json")
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertEqual([l["check"] for l in lines if l.get("level") == "fault"], ["device"])

    def test_keytrail_looks_at_a_collector_alone(self):
        result, lines = self.run_keytrail("--json", "--query", f"127.0.0.1:{free_port()}")
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertEqual([(l["check"], l["level"]) for l in lines[:-1]], [("query", "fault")])
        copy = os.path.join(self.scratch, "copy")
        shutil.copytree(self.data, copy)
        os.chmod(copy, 0o755)
        result, lines = self.run_keytrail("--json", "--data", copy)
        self.assertEqual(result.returncode, harness.INCOMPLETE)
        sh(lines[0]["command"])
        result, lines = self.run_keytrail("--json", "--data", copy)
        self.assertEqual(result.returncode, harness.DONE, lines)

    def test_keytrail_compares_clocks(self):
        shim = os.path.join(self.scratch, "adversity.so")
        here = os.path.dirname(os.path.abspath(__file__))
        sh(f"cc -shared -fPIC -O1 -o {shim} {os.path.join(here, 'adversity_shim.c')} -ldl")
        state = self.write("state", struct.pack("<qq", 3600, 0).ljust(4096, b"\0"))
        result = subprocess.run([KEYTRAIL, "doctor", "--json", "--query", self.query], text=True, stdout=subprocess.PIPE,
                                env={**os.environ, "LD_PRELOAD": shim, "KEYTRAIL_SHIM": state}, timeout=60)
        self.assertEqual(result.returncode, harness.INCOMPLETE, result.stdout)
        found = [json.loads(line) for line in result.stdout.splitlines()][1]
        self.assertEqual((found["check"], found["level"]), ("clock_offset", "warning"))
        self.assertRegex(found["found"], r"differ by \+(3600\.[0-4]|3599\.[6-9])")

    def test_wrong_usage(self):
        for arguments in ([KEYTRAIL, "doctor"], [AGENT, "--doctor"], [AGENT, "--doctor", "-r", "x.pcap"]):
            self.assertEqual(harness.run(arguments).returncode, harness.USAGE, arguments)


if __name__ == "__main__":
    unittest.main()
