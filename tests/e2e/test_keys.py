#!/usr/bin/env python3
"""Who may send records, and what becomes of everybody else: real agents with good and bad keys, and raw sockets that
speak ZMTP halfway."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import unittest

import harness
from test_ship import free_port

KEYTRAIL = harness.program("keytrail")
AGENT = harness.program("keytrail-agent")
COLLECTOR = harness.program("keytrail-collector")

# https://rfc.zeromq.org/spec/23: signature, version 3.0 (libzmq says 3.1), mechanism in 20 bytes, as-server, filler.
def greeting(mechanism):
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + b"\0" + bytes(31)


READY = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER" + b"\x08Identity" + struct.pack(">I", 0)
READY_FRAME = b"\x04" + bytes([len(READY)]) + READY


def keys(*arguments):
    return harness.run([KEYTRAIL, "keys", *arguments])


class Collector:
    """A keytrail-collector with whatever options, until stop()."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.port = int(self.address.rsplit(":", 1)[1])
        self.data = os.path.join(folder, "data")
        self.told = os.path.join(folder, "collector.stderr")
        with open(self.told, "wb") as errors:
            self.process = subprocess.Popen([COLLECTOR, "--listen", self.address, "--data", self.data, *options],
                                            stdout=subprocess.DEVNULL, stderr=errors)
        harness.wait_listening(self.process, self.address)

    def words(self):
        with open(self.told, encoding="utf-8") as handle:
            return handle.read()

    def wait_for(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.words():
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"{text!r} was not told, but:\n{self.words()}")
            time.sleep(0.02)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def count(self, query="select count(*) from calls"):
        """One number of what is stored, in whichever of the folder's files."""
        result = harness.run([harness.program("keytrail"), "sql", "--db", self.data, "-e", query, "--format", "csv"])
        if result.returncode != harness.DONE:
            raise LookupError(result.stderr)
        return int(result.stdout.split()[-1])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def plain_peer(collector):
    """A connection with the handshake of a peer without keys behind it."""
    connection = collector.connect()
    connection.sendall(greeting(b"NULL") + READY_FRAME)
    shake_hands(connection)
    return connection


def shake_hands(connection):
    """Reads the collector's greeting and its READY: what comes before it would be part of the handshake."""
    def exactly(size):
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                raise AssertionError("the handshake failed")
            data += more
        return data
    exactly(64)
    exactly(exactly(2)[1])


def closed_by_peer(connection):
    """Reads to the end of the connection; the socket's time-out fails the test."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


class KeyTest(harness.ProgramTest):
    """Keys of a collector and of agent `good`, which is admitted."""

    def setUp(self):
        super().setUp()
        self.admitted = os.path.join(self.scratch, "admitted")
        for name in ("collector", "good", "stranger"):
            self.assertEqual(keys("new", name, "--dir", self.scratch).returncode, harness.DONE)
        self.assertEqual(keys("admit", self.path("good.pub"), "--admitted", self.admitted).returncode, harness.DONE)
        self.collector = None
        scenario = next(s for s in harness.scenarios() if s.name == "healthy")
        self.capture = harness.capture(scenario, "pd1")

    def tearDown(self):
        if self.collector is not None:
            self.collector.stop()
        super().tearDown()

    def path(self, name):
        return os.path.join(self.scratch, name)

    def read(self, name):
        with open(self.path(name), "rb") as handle:
            return handle.read()

    def start(self, *more):
        self.collector = Collector(self.scratch, "--query", "none", "--key", self.path("collector.key"), "--admitted",
                                   self.admitted, *more)

    def keyed(self, name, server="collector"):
        return ["--key", self.path(name + ".key"), "--server-key", self.path(server + ".pub")]

    def ship(self, *options, timeout=120):
        return harness.run([AGENT, "-r", self.capture, "-q", "--collector", self.collector.address, *options],
                           timeout=timeout)

    def agent(self, *options):
        return subprocess.Popen([AGENT, "-r", self.capture, "-q", "--collector", self.collector.address, *options],
                                stderr=subprocess.PIPE, encoding="utf-8")


class Transport(KeyTest):
    def test_everybody_without_an_admitted_key_is_refused_while_a_good_agent_ships(self):
        """No key, an unlisted key, another collector's key, garbage, a claim of 2 GiB, and half-open handshakes."""
        records, _, _ = harness.agent_json(self.capture)
        self.start()
        # Half-open handshakes: nothing, a part of the greeting, the greeting alone.
        slow = [self.collector.connect() for _ in range(120)]
        for i, connection in enumerate(slow):
            connection.sendall(greeting(b"CURVE")[:(0, 10, 64)[i % 3]])
        bad = [self.agent(*self.keyed("stranger")), self.agent(), self.agent(*self.keyed("good", server="stranger"))]
        for text in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\x16\x03\x01\x02\x00\x01\x00"):
            with self.collector.connect() as garbage:
                garbage.sendall(text)
                garbage.shutdown(socket.SHUT_WR)
                self.assertTrue(closed_by_peer(garbage))
        with self.collector.connect() as huge:
            # A command of 2 GiB instead of the HELLO of the handshake.
            huge.sendall(greeting(b"CURVE") + b"\x06" + struct.pack(">Q", 1 << 31))
            self.assertTrue(closed_by_peer(huge))
        with self.collector.connect() as plain:
            plain.sendall(greeting(b"NULL") + READY_FRAME)
            self.assertTrue(closed_by_peer(plain))
        good = self.ship(*self.keyed("good"), "--agent-name", "good")
        self.assertEqual(good.returncode, harness.DONE, good.stderr)
        for agent, why in zip(bad, ("does not admit the key of 'stranger'", "it wants keys (--key, --server-key)",
                                    "--server-key 'stranger' is not its key")):
            _, words = agent.communicate(timeout=60)
            self.assertEqual(agent.returncode, harness.FAILED, words)
            self.assertIn(why, words)
            self.assertIn("records are not stored", words)
        for connection in slow:
            self.assertTrue(closed_by_peer(connection))
            connection.close()
        self.assertEqual(self.collector.stop(), harness.DONE)
        self.assertEqual(self.collector.count(), len(records))
        self.assertEqual(self.collector.count("select count(*) from agents"), 1)
        words = self.collector.words()
        self.assertRegex(words, r"refused 127\.0\.0\.1: its key \S{40} is not admitted")
        summary = re.search(r"(\d+) with admitted keys, (\d+) with keys that are not, (\d+) that failed", words)
        self.assertTrue(summary, words)
        admitted, denied, failed = map(int, summary.groups())
        self.assertEqual(admitted, 1)
        self.assertGreaterEqual(denied, 1)
        self.assertGreaterEqual(failed, 120 + 5)
        # Told, but not each of them: the rest is in the summary's counts.
        self.assertLess(words.count("refused 127.0.0.1"), 30)

    def test_revoked_while_connected(self):
        """A live connection: the proxy holds the agent's bytes back until its key is revoked."""
        self.start()
        proxy = Proxy(self.collector.port)
        agent = subprocess.Popen([AGENT, "-r", "-", "-q", "--collector", f"tcp://127.0.0.1:{proxy.port}",
                                  *self.keyed("good"), "--agent-name", "good"],
                                 stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        with open(harness.unpacked(self.capture, self.scratch), "rb") as handle:
            packets = handle.read()
        try:
            agent.stdin.write(packets[:len(packets) // 2])
            agent.stdin.flush()
            end = time.monotonic() + 60
            while self.count_if_any() == 0:
                self.assertLess(time.monotonic(), end, self.collector.words())
                time.sleep(0.05)
            revoked = keys("revoke", "good", "--admitted", self.admitted)
            self.assertEqual((revoked.returncode, revoked.stdout), (harness.DONE, "'good' is revoked\n"))
            self.collector.wait_for("0 keys are admitted now")
            before = self.count_if_any()
            agent.stdin.write(packets[len(packets) // 2:])
            agent.stdin.close()
        except BrokenPipeError:
            pass
        words = agent.stderr.read().decode()
        self.assertEqual(agent.wait(timeout=60), harness.FAILED, words)
        agent.stderr.close()
        self.assertIn("refuses: the key of 'good' is revoked", words)
        # ... nor does it come in again, until it is admitted again; it goes on trying.
        again = self.agent(*self.keyed("good"))
        self.collector.wait_for("refused 127.0.0.1: the key of 'good'")
        self.assertEqual(self.collector.count(), before)
        self.assertEqual(keys("admit", self.path("good.pub"), "--admitted", self.admitted).stdout,
                         "'good' is admitted again\n")
        _, words = again.communicate(timeout=60)
        self.assertEqual(again.returncode, harness.DONE, words)
        proxy.close()

    def count_if_any(self):
        try:
            return self.collector.count()
        except LookupError:
            return 0

    def test_recorded_bytes_sent_again_are_not_stored_twice(self):
        """What an agent sent, from the first byte of the connection: with keys it is no handshake of theirs; without, it
        is a good one, and every batch is known."""
        records, _, _ = harness.agent_json(self.capture)
        for options, agent_options in (([], []), (["--key", self.path("collector.key"), "--admitted", self.admitted],
                                                  self.keyed("good"))):
            folder = os.path.join(self.scratch, "keys" if options else "plain")
            os.mkdir(folder)
            self.collector = Collector(folder, "--query", "none", *options)
            proxy = Proxy(self.collector.port)
            result = harness.run([AGENT, "-r", self.capture, "-q", "--collector", f"127.0.0.1:{proxy.port}",
                                  "--agent-name", "a", *agent_options])
            self.assertEqual(result.returncode, harness.DONE, result.stderr)
            proxy.close()
            with self.collector.connect() as replay:
                sent = proxy.sent[0]
                if not options:
                    ready = 64 + 2 + sent[65]
                    replay.sendall(sent[:ready])
                    shake_hands(replay)
                    sent = sent[ready:]
                replay.sendall(sent)
                replay.settimeout(1)
                answer = b""
                try:
                    while more := replay.recv(65536):
                        answer += more
                except (socket.timeout, ConnectionError):
                    pass
            self.assertEqual(self.collector.stop(), harness.DONE)
            self.assertEqual(self.collector.count(), len(records))
            self.assertEqual(self.collector.count("select count(*) from agents"), 1)
            if options:
                # The look whether it listens may count as a second.
                self.assertRegex(self.collector.words(), "1 with admitted keys, 0 with keys that are not, [12] that failed")
            else:
                # Short frames with an Envelope each: the second byte of what follows is its field.
                kinds = set()
                while len(answer) > 2:
                    kinds.add(answer[2] >> 3)
                    answer = answer[2 + answer[1]:]
                self.assertTrue({2, 4} <= kinds, "welcomed and acknowledged, as ever")

    def test_plain_peers_on_loopback_are_bounded_too(self):
        self.collector = Collector(self.scratch, "--query", "none")
        mute = plain_peer(self.collector)
        with plain_peer(self.collector) as huge:
            huge.sendall(b"\x02" + struct.pack(">Q", 1 << 31) + b"x" * 1000)
            self.assertTrue(closed_by_peer(huge))
        with plain_peer(self.collector) as garbage:
            # What comes before the collector knows of the connection does not count yet.
            try:
                for _ in range(200):
                    garbage.sendall(b"\x00\x07garbage" * 10)
                    time.sleep(0.02)
            except OSError:
                pass
            self.assertTrue(closed_by_peer(garbage))
        self.assertEqual(self.ship("--agent-name", "good").returncode, harness.DONE)
        self.assertTrue(closed_by_peer(mute))
        mute.close()
        self.assertEqual(self.collector.stop(), harness.DONE)
        self.assertIn(" 1 that went without hello; put out: 1 without hello", self.collector.words())
        self.assertIn("1 for garbage or a revoked key", self.collector.words())

    def test_other_hosts_need_keys(self):
        def status(*arguments):
            result = harness.run(arguments, timeout=30)
            return result.returncode, result.stderr
        data = ["--data", self.path("d"), "--query", "none"]
        code, words = status(COLLECTOR, "--listen", "tcp://0.0.0.0:0", *data)
        self.assertEqual(code, harness.USAGE)
        self.assertIn("--key FILE and --admitted DIR", words)
        code, words = status(AGENT, "-r", self.capture, "--collector", "192.0.2.1:7450")
        self.assertEqual(code, harness.FAILED)
        self.assertIn("--key FILE", words)
        for half in (["--key", self.path("good.key")], ["--server-key", self.path("collector.pub")]):
            self.assertEqual(status(AGENT, "-r", self.capture, "--collector", "192.0.2.1:7450", *half)[0], harness.USAGE)
        self.assertEqual(status(COLLECTOR, *data, "--key", self.path("collector.key"))[0], harness.USAGE)
        code, words = status(COLLECTOR, *data, "--key", self.path("collector.key"), "--admitted", self.path("nowhere"))
        self.assertEqual(code, harness.FAILED)
        self.assertIn("nowhere", words)
        # With keys every address will do.
        port = free_port()
        process = subprocess.Popen([COLLECTOR, "-q", "--listen", f"tcp://0.0.0.0:{port}", *data, "--key",
                                    self.path("collector.key"), "--admitted", self.admitted])
        harness.wait_listening(process, f"tcp://127.0.0.1:{port}")
        process.terminate()
        self.assertEqual(process.wait(timeout=60), harness.DONE)


class Proxy:
    """Passes connections on to a port of this host, and keeps what the clients sent."""

    def __init__(self, port):
        self.target = port
        self.sent = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            number = len(self.sent)
            self.sent.append(b"")
            threading.Thread(target=self.copy, args=(client, server, number), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, None), daemon=True).start()

    def copy(self, source, target, number):
        try:
            while data := source.recv(65536):
                if number is not None:
                    self.sent[number] += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


class KeyFiles(KeyTest):
    def test_new(self):
        secret, public = self.path("good.key"), self.path("good.pub")
        self.assertEqual(stat.S_IMODE(os.stat(secret).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(public).st_mode), 0o644)
        with open(secret, encoding="ascii") as handle:
            lines = handle.read().splitlines()
        self.assertEqual([line.split(" ")[0] for line in lines], ["keytrail-secret-key-1", "name", "public", "secret"])
        with open(public, encoding="ascii") as handle:
            self.assertNotIn(lines[3].split(" ")[1], handle.read())
        # Again: the same pair, and what is missing is made.
        os.remove(public)
        again = keys("new", "good", "--dir", self.scratch)
        self.assertEqual(again.returncode, harness.DONE, again.stderr)
        self.assertIn("there already", again.stdout)
        self.assertIn(lines[2].split(" ")[1], again.stdout)
        with open(secret, encoding="ascii") as handle:
            self.assertEqual(handle.read().splitlines(), lines)
        self.assertTrue(os.path.exists(public))
        # Somebody else's public key stays.
        shutil.copy(self.path("stranger.pub"), self.path("other.pub"))
        result = keys("new", "other", "--dir", self.scratch)
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("another pair", result.stderr)
        self.assertFalse(os.path.exists(self.path("other.key")))
        for name in ("../x", "", ".x", "a b", "x" * 65):
            self.assertEqual(keys("new", name, "--dir", self.scratch).returncode, harness.FAILED, name)
        self.assertEqual([f for f in os.listdir(self.scratch) if f.startswith(".")], [], "no temporary files")

    def refused(self, key, server="collector.pub"):
        result = harness.run([AGENT, "-r", self.capture, "--collector", "127.0.0.1:1", "--key", self.path(key),
                              "--server-key", self.path(server)])
        self.assertEqual(result.returncode, harness.FAILED, result.stderr)
        return result.stderr

    def test_files_that_are_not_to_be_trusted(self):
        for mode in (0o640, 0o604, 0o660):
            os.chmod(self.path("good.key"), mode)
            self.assertIn("chmod 600 '" + self.path("good.key") + "'", self.refused("good.key"))
        os.chmod(self.path("good.key"), 0o600)
        if os.geteuid() == 0:
            os.chown(self.path("good.key"), 12345, 12345)
            words = self.refused("good.key")
            self.assertIn("belongs to user 12345", words)
            self.assertIn("chown 0", words)
            os.chown(self.path("good.key"), 0, 0)
        os.chmod(self.path("collector.pub"), 0o666)
        self.assertIn("can be changed by others", self.refused("good.key"))
        os.chmod(self.path("collector.pub"), 0o644)
        os.chmod(self.admitted, 0o777)
        result = keys("list", "--admitted", self.admitted)
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("chmod go-w", result.stderr)
        os.chmod(self.admitted, 0o755)

    def test_wrong_files(self):
        self.assertIn("is a public key, and a secret one is wanted", self.refused("good.pub"))
        self.assertIn("is a secret key, and a public one is wanted", self.refused("good.key", "good.key"))
        self.assertIn("No such file", self.refused("nowhere.key"))
        self.assertIn("is no file", self.refused("."))
        good = self.read("good.key")
        for text, why in ((b"", "no secret key of keytrail"), (b"\0\xff" * 100, "no secret key of keytrail"),
                          (good[:-20], "line 4: no good 'secret'"), (good.replace(b"name", b"nome"), "line 2: not understood"),
                          (good + b"name x\n", "a second 'name'"), (good.replace(b"-1\n", b"-2\n", 1), "another version"),
                          (good + b"#" * 5000, "larger than 4096 bytes")):
            os.chmod(self.write("bad.key", text), 0o600)
            self.assertIn(why, self.refused("bad.key"))
        # A secret that belongs to another public key.
        other = self.read("stranger.key").splitlines()
        os.chmod(self.write("mixed.key", b"\n".join(good.splitlines()[:3] + other[3:])), 0o600)
        result = harness.run([COLLECTOR, "--data", self.path("d"), "--query", "none", "--key", self.path("mixed.key"),
                              "--admitted", self.admitted], timeout=60)
        self.assertEqual(result.returncode, harness.FAILED)
        self.assertIn("does not belong to the public key", result.stderr)

    def test_admit_list_revoke(self):
        def words(*arguments, status=harness.DONE):
            result = keys(*arguments, "--admitted", self.admitted)
            self.assertEqual(result.returncode, status, result.stderr)
            return result.stdout + result.stderr
        self.assertIn("'good' is admitted already", words("admit", self.path("good.pub")))
        self.assertEqual(words("admit", self.path("stranger.pub")), "'stranger' is admitted\n")
        self.assertIn("is a secret key", words("admit", self.path("good.key"), status=harness.FAILED))
        # Another key of the same name, the same key under another name.
        os.mkdir(self.path("second"))
        keys("new", "good", "--dir", self.path("second"))
        self.assertIn("revoke good", words("admit", self.path("second/good.pub"), status=harness.FAILED))
        self.write("alias.pub", self.read("good.pub").replace(b"name good", b"name alias"))
        self.assertIn("admitted already, as 'good'", words("admit", self.path("alias.pub"), status=harness.FAILED))
        self.assertEqual(words("revoke", "good"), "'good' is revoked\n")
        self.assertEqual(words("revoke", "good"), "'good' is revoked already\n")
        self.assertIn("nobody is admitted as 'goood'", words("revoke", "goood", status=harness.FAILED))
        report = json.loads(words("list", "--json"))
        self.assertEqual([(k["name"], k["state"]) for k in report["keys"]],
                         [("stranger", "admitted"), ("good", "revoked")])
        self.assertEqual(words("revoke", report["keys"][0]["public_key"]), "'stranger' is revoked\n")
        # What does not count is told, and counts not.
        with open(os.path.join(self.admitted, "damaged.pub"), "w", encoding="ascii") as handle:
            handle.write("keytrail-public-key-1\nname damaged\n")
        self.assertIn("'public' is missing", words("list", status=harness.INCOMPLETE))


if __name__ == "__main__":
    unittest.main()
