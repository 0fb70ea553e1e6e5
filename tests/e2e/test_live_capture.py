#!/usr/bin/env python3
"""Live captures of several devices, of a bridge with its port, of `any` and of loopback: each call is told once; and
devices that go down, are removed and made again.

Needs root: the traffic goes over devices in a network namespace of the test's own.
"""

import collections
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import time
import unittest

import harness
import unified_log
from test_restraint import CLONE_NEWNET, frames, moved

AGENT = harness.program("keytrail-agent")
ADDRESS = "tcp://127.0.0.1:17461"
PATIENCE = 15
# What of a record does not depend on when its packets were sent.
SAME = ("kind", "method", "command", "client", "server", "stream", "request_id", "req_bytes", "resp_bytes", "grpc_status")


def ip(command):
    subprocess.run(["ip", *command.split()], check=True)


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(what)
        time.sleep(0.05)


def pcap_of(packets):
    """A capture file with these Ethernet frames, a millisecond apart."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for n, packet in enumerate(packets):
        out.append(struct.pack("<IIII", 1_700_000_000 + n // 1000, n % 1000 * 1000, len(packet), len(packet)) + packet)
    return b"".join(out)


def ports_of(frame):
    return struct.unpack_from(">HH", frame, 14 + (frame[14] & 15) * 4)


def from_client(frame):
    source, destination = ports_of(frame)
    return source > destination


def with_ports(frame, change):
    """The same segment with other ports: change {old: new}."""
    tcp = 14 + (frame[14] & 15) * 4
    return frame[:tcp] + struct.pack(">HH", *(change.get(port, port) for port in ports_of(frame))) + frame[tcp + 4:]


SYN, ACK, FIN, RST = 2, 16, 1, 4


class Foreign:
    """A connection of another protocol between the ends of a frame, seen from its client (who sent the frame)."""

    def __init__(self, frame):
        self.addresses = frame[26:30], frame[30:34]
        self.ports = ports_of(frame)
        self.next = [1000, 5000]

    def segment(self, side, flags, data=b""):
        frame = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0)
        frame += self.addresses[side] + self.addresses[1 - side]
        frame += struct.pack(">HHIIBBHHH", self.ports[side], self.ports[1 - side], self.next[side],
                             self.next[1 - side] if flags & ACK else 0, 0x50, flags, 65535, 0, 0)
        self.next[side] += len(data) + (1 if flags & (SYN | FIN) else 0)
        return frame + data

    def begin(self):
        return [self.segment(0, SYN), self.segment(1, SYN | ACK), self.segment(0, ACK)]

    def talk(self, n):
        """Length-prefixed packets, as MySQL has them."""
        return [self.segment(turn % 2, ACK, b"\x64\0\0" + bytes([turn % 256]) + b"\x03" + b"q" * 99) for turn in range(n)]

    def end(self):
        return [self.segment(0, FIN | ACK), self.segment(1, FIN | ACK), self.segment(0, ACK)]


def send(device, packets):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((device, 0))
        for n, packet in enumerate(packets):
            if n % 64 == 0:
                time.sleep(0.002)
            out.send(packet)


class Agent:
    """A running agent; what it prints and says is in files."""

    def __init__(self, folder, *arguments, **options):
        self.out, self.err = (os.path.join(folder, f"{name}{id(self)}") for name in ("out", "err"))
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([AGENT, *arguments], stdout=out, stderr=err, **options)

    def words(self):
        with open(self.err, encoding="utf-8") as handle:
            return handle.read()

    def wait_for(self, text):
        def said():
            if text in self.words():
                return True
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}, not '{text}': {self.words()}")
            return False
        until(said, f"'{text}' was not said")

    def lines(self):
        with open(self.out, encoding="utf-8") as handle:
            return [json.loads(line) for line in handle.read().split("\n")[:-1]]

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@unittest.skipIf(os.geteuid() != 0, "needs root, to capture in a network namespace of its own")
class LiveCapture(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise unittest.SkipTest(f"network namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")
        ip("link set lo up")
        # IPv4 alone: some hundred segments with the beginnings of their connections.
        packets = frames(os.path.join(harness.BUNDLED, "pd_wide", "tidb1.pcap.zst"))
        cls.packets = [p for p in packets if p[12:14] == b"\x08\x00" and p[23] == 6]

    def setUp(self):
        super().setUp()
        self.started = []
        for pair in ("kt0 type veth peer name kt1", "kt2 type veth peer name kt3"):
            ip("link add " + pair)
        for device in ("kt0", "kt1", "kt2", "kt3"):
            ip(f"link set {device} up")

    def tearDown(self):
        for program in self.started:
            if program.process.poll() is None:
                program.process.kill()
                program.process.wait()
        for device in ("kt0", "kt2", "br0"):
            subprocess.run(["ip", "link", "del", device], check=False, stderr=subprocess.DEVNULL)
        super().tearDown()

    def agent(self, *arguments):
        agent = Agent(self.scratch, *arguments)
        self.started.append(agent)
        agent.wait_for("runs as")  # its devices are open
        return agent

    def told(self, records):
        return collections.Counter(tuple(r.get(name) for name in SAME) for r in records if r["kind"] not in ("summary", "amend"))

    def expected(self, packets):
        """(the calls, holes: of frames that are too long for a device)."""
        records, summary, _ = harness.agent_json(self.write("sent.pcap", pcap_of(packets)))
        return self.told(records), summary["gaps"]

    def check_calls(self, agent, packets):
        """Ends the agent; the calls are those of the packets, each once. The summary."""
        expected, gaps = self.expected(packets)
        self.assertGreater(sum(expected.values()), 10)
        # All but those that end with the capture; those are told at its end.
        time.sleep(0.5)
        agent.end()
        lines = agent.lines()
        self.assertEqual(self.told(lines), expected, agent.words())
        self.assertEqual(lines[-1]["gaps"], gaps)
        return lines[-1]

    def test_directions_on_two_devices_meet(self):
        agent = self.agent("-i", "kt1,kt3", "--json", "-v", "--ring", "2MiB")
        self.assertEqual(agent.words().count("a ring of 2.00 MiB (TPACKET_V3)"), 2, agent.words())
        outs = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in range(2)]
        for out, device in zip(outs, ("kt2", "kt0")):
            out.bind((device, 0))
        for n, packet in enumerate(self.packets):
            if n % 64 == 0:
                time.sleep(0.002)
            outs[from_client(packet)].send(packet)
        for out in outs:
            out.close()
        summary = self.check_calls(agent, self.packets)
        self.assertEqual(summary["input"], "kt1,kt3")

    def test_a_bridge_and_its_port(self):
        ip("link add br0 type bridge")
        ip("link set kt1 master br0")
        ip("link set br0 up")
        agent = self.agent("-i", "br0", "-i", "kt1", "-f", "tcp", "--keep-foreign", "--json", "-v")
        everybodys = [b"\xff" * 6 + packet[6:] for packet in self.packets]  # a bridge takes these itself, too
        send("kt0", everybodys)
        summary = self.check_calls(agent, everybodys)
        self.assertGreaterEqual(summary["packets"], 2 * len(everybodys))

    def test_any_sees_both_ends_of_a_cable(self):
        agent = self.agent("-i", "any", "-f", "tcp", "--keep-foreign", "--json", "-v")
        send("kt0", self.packets)
        summary = self.check_calls(agent, self.packets)
        self.assertGreaterEqual(summary["packets"], 2 * len(self.packets))

    def test_loopback_is_seen_once(self):
        agents = [self.agent("-i", device, "-f", "tcp", "--keep-foreign", "--json", "-v") for device in ("lo", "any")]
        send("lo", self.packets)
        for agent in agents:
            summary = self.check_calls(agent, self.packets)
            self.assertEqual(summary["packets"], len(self.packets))

    @contextlib.contextmanager
    def collector(self):
        """The folder of a collector that runs."""
        data = os.path.join(self.scratch, "data")
        collector = subprocess.Popen([harness.program("keytrail-collector"), "--listen", ADDRESS, "--query", "none", "--data",
                                      data], stderr=subprocess.DEVNULL)
        try:
            harness.wait_listening(collector, ADDRESS)
            yield data
        finally:
            collector.send_signal(signal.SIGTERM)
            collector.wait(PATIENCE)

    def losses(self, data, kind):
        got = harness.run([harness.program("keytrail"), "losses", "--db", data, "--json"])
        return [l for l in json.loads(got.stdout)["losses"] if l["kind"] == kind]

    def test_what_the_kernel_drops_is_counted_and_told_with_its_time(self):
        packets = [p for p in self.packets if 20160 in ports_of(p)] * 3
        self.assertGreater(sum(map(len, packets)), 1 << 20)
        with self.collector() as data:
            agent = self.agent("-i", "kt1", "-f", "tcp port 20160", "-v", "--ring", "512KiB", "--collector", ADDRESS)
            begun = time.time_ns()
            agent.process.send_signal(signal.SIGSTOP)
            send("kt0", packets)
            agent.process.send_signal(signal.SIGCONT)
            told = until(lambda: self.losses(data, "kernel_drops"), "no drops were told while the capture goes on")
            self.assertEqual(agent.end(), harness.INCOMPLETE)
            ended = time.time_ns()
        counted = next(line.fields for line in map(unified_log.parse, agent.words().splitlines()) if line.message == "counters")
        dropped = int(counted["kernel_drops"])
        self.assertGreater(dropped, 0)
        self.assertEqual(int(counted["packets"]) + dropped, len(packets))
        losses = self.losses(data, "kernel_drops")
        self.assertEqual(sum(l["count"] for l in losses), dropped)
        for loss in told + losses:
            # The span begins with the look before the drops.
            self.assertLess(begun - 5 * 10**9, loss["first_ns"])
            self.assertLess(loss["first_ns"], loss["last_ns"])
            self.assertLess(loss["last_ns"], ended)

    def test_down_and_up_again(self):
        with self.collector() as data:
            agent = self.agent("-i", "kt1,kt3", "-v", "--collector", ADDRESS, "--agent-name", "here")
            send("kt0", self.packets)
            ip("link set kt1 down")
            agent.wait_for("device kt1 is down; the capture goes on with the 1 other")
            between = [moved(packet, 1) for packet in self.packets]
            send("kt2", between)
            ip("link set kt1 up")
            agent.wait_for("device kt1 is up again")
            after = [moved(packet, 2) for packet in self.packets]
            until(lambda: "LOWER_UP" in subprocess.run(["ip", "link", "show", "kt1"], check=True, stdout=subprocess.PIPE,
                                                       text=True).stdout, "kt1 has no carrier")
            send("kt0", after)
            time.sleep(0.5)
            self.assertEqual(agent.end(), harness.INCOMPLETE)
        losses = self.losses(data, "interface_down")
        self.assertEqual(sum(l["count"] for l in losses), 1, losses)
        self.assertTrue(any(l["last_ns"] > l["first_ns"] for l in losses), losses)
        got = harness.run([harness.program("keytrail"), "sql", "--db", data, "--format", "csv", "-e",
                           "select count(*) from calls where kind <> 'amend'"])
        expected = sum(self.expected(self.packets + between + after)[0].values())
        self.assertEqual(got.stdout.split()[-1], str(expected), agent.words())

    def test_removed_and_made_again(self):
        """By an agent that has no right to open a device any more: its socket is bound anew."""
        for devices in ("kt1", "kt3,kt1"):
            with self.subTest(devices=devices):
                agent = self.agent("-i", devices, "--json", "-v", "--promiscuous")
                send("kt0", self.packets)
                until(lambda: len(agent.lines()) > 100, "nothing was captured")
                ip("link del kt0")
                agent.wait_for("device kt1 is gone")
                self.assertIn("-i any captures" if devices == "kt1" else "goes on with the 1 other", agent.words())
                ip("link add kt0 type veth peer name kt1")
                ip("link set kt1 up")
                ip("link set kt0 up")
                agent.wait_for("device kt1 is up again")
                until(lambda: "LOWER_UP" in subprocess.run(["ip", "link", "show", "kt1"], check=True,
                                                           stdout=subprocess.PIPE, text=True).stdout, "kt1 has no carrier")
                after = [moved(packet, 3) for packet in self.packets]
                send("kt0", after)
                summary = self.check_calls(agent, self.packets + after)
                self.assertEqual((summary["interface_downs"], agent.process.returncode), (1, harness.INCOMPLETE))

    def test_other_ports_are_left_out_until_grpc_is_found_there(self):
        there = [with_ports(packet, {20160: 30999}) for packet in self.packets]
        again = [moved(packet, 1) for packet in there]
        agent = self.agent("-i", "kt1", "--json", "-v")
        send("kt0", there)
        agent.wait_for("gRPC on port 30999, which was not captured")
        time.sleep(1)  # the kernel's filter is another one by now
        before = len(agent.lines())
        self.assertGreater(before, 0)  # PD, on its own port
        send("kt0", again)
        time.sleep(0.5)
        self.assertEqual(agent.end(), harness.INCOMPLETE)
        lines = agent.lines()
        self.assertEqual(lines[-1]["ports_found"], 1)
        client_ports = {max(ports_of(packet)) for packet in again}
        seen = self.told(r for r in lines if int((r.get("client") or ":0").rsplit(":", 1)[1]) in client_ports)
        # Those that are in both rounds are of port 2379, whose connections have other ports in the second one, too.
        expected = self.expected(again)[0]
        self.assertEqual(seen, expected)

    def test_everything(self):
        """With -f '' ports are as good as others."""
        there = [with_ports(packet, {20160: 30999}) for packet in self.packets]
        agent = self.agent("-i", "kt1", "-f", "", "--json", "-v")
        send("kt0", there)
        self.assertEqual(self.check_calls(agent, there)["ports_found"], 0)

    def test_foreign_connections_are_kept_for_who_asks(self):
        mine, _ = self.first_grpc()
        agents = [self.agent("-i", "kt1", "--json", "-v", *more)
                  for more in (["--keep-foreign"], ["-w", os.path.join(self.scratch, "kept.pcap")])]
        foreign = Foreign(mine[0])
        for _ in range(4):
            send("kt0", (foreign.begin() if foreign.next[0] == 1000 else []) + foreign.talk(500))
            time.sleep(0.6)
        for agent in agents:
            agent.end()
            summary = agent.lines()[-1]
            self.assertGreaterEqual(summary["packets"], 2003)
            self.assertEqual(summary["connections_excluded"], 0)

    def test_grpc_beside_a_filter_is_a_loss(self):
        """Verdicts rest on what PD said: who does not listen to it must not be believed as if it had been silent."""
        tikv = [p for p in self.packets if 20160 in ports_of(p)]
        with self.collector() as data:
            agent = self.agent("-i", "kt1", "-f", "port 20160", "-v", "--collector", ADDRESS)
            send("kt0", self.packets)
            agent.wait_for("gRPC on port 2379, which -f leaves out")
            time.sleep(0.5)
            self.assertEqual(agent.end(), harness.INCOMPLETE)
        self.assertEqual([l["count"] for l in self.losses(data, "port_not_captured")], [1])
        counted = next(line.fields for line in map(unified_log.parse, agent.words().splitlines()) if line.message == "counters")
        self.assertEqual(int(counted["packets"]), len(tikv))

    def test_tagged_packets_pass_a_filter(self):
        """The kernel keeps the tag beside the packet, so filters see it without."""
        tagged = [p[:12] + b"\x81\0\0\5" + p[12:] for p in self.packets if len(p) <= 1510]
        tikv = [p for p in tagged if 20160 in ports_of(p[:12] + p[16:])]
        for more, expected in ((["-f", "port 20160"], tikv), (["-f", "vlan 5 and port 20160"], tikv), ([], tagged)):
            for device in ("kt1", "any") if more[1:] != ["vlan 5 and port 20160"] else ("kt1",):
                with self.subTest(filter=more, device=device):
                    agent = self.agent("-i", device, *more, "--json", "-v")
                    send("kt0", tagged)
                    self.check_calls(agent, expected)

    def test_a_filter_that_only_the_kernel_can_run(self):
        """Of packets that came past it nobody could say so: none do. (With packets that a program made, not a network card,
        `inbound` is not true of each one, for tcpdump neither.)"""
        agent = self.agent("-i", "kt1", "-f", "inbound and port 20160", "--json", "-v")
        send("kt0", self.packets)
        time.sleep(0.5)
        agent.end()
        lines = agent.lines()
        self.assertGreater(sum(self.told(lines).values()), 100)
        self.assertEqual(lines[-1]["ports_found"], 0)

    def test_ports(self):
        there = [with_ports(packet, {20160: 30999}) for packet in self.packets]
        agent = self.agent("-i", "kt1", "--ports", "2379,30990-30999", "--json", "-v")
        send("kt0", there)
        self.assertEqual(self.check_calls(agent, there)["ports_found"], 0)
        for text in ("0", "1-", "20160,x", "70000", "9-8", ""):
            got = harness.run([AGENT, "-i", "lo", "--ports", text])
            self.assertEqual(got.returncode, harness.USAGE, text)

    def leave_out(self, agent, conversation):
        """Sends until the kernel leaves it out."""
        send("kt0", conversation.begin())
        end = time.monotonic() + PATIENCE
        while "busy connection" not in agent.words():
            self.assertLess(time.monotonic(), end, agent.words())
            send("kt0", conversation.talk(400))
            time.sleep(0.2)

    def first_grpc(self):
        """The packets of a connection to TiKV that was seen from its SYN, and the place of its preface."""
        syn = next(p for p in self.packets if ports_of(p)[1] == 20160 and p[14 + (p[14] & 15) * 4 + 13] == SYN)
        mine = [p for p in self.packets if set(ports_of(p)) == set(ports_of(syn)) and {p[26:30], p[30:34]} == {syn[26:30], syn[30:34]}]
        data = next(n for n, p in enumerate(mine) if b"PRI * HTTP/2.0" in p)
        return mine, data

    def test_a_busy_foreign_connection_is_left_out_and_its_ports_are_used_again(self):
        mine, preface = self.first_grpc()
        agent = self.agent("-i", "kt1", "--json", "-v")
        foreign = Foreign(mine[0])
        self.leave_out(agent, foreign)
        unseen = foreign.talk(5000)
        send("kt0", unseen)
        send("kt0", foreign.end())
        # The new connection begins, and the kernel's filter is changed back; then it goes on.
        send("kt0", mine[:preface])
        time.sleep(2.5)
        send("kt0", mine[preface:])
        # Neither what was left out nor its end is a hole.
        summary = self.check_calls(agent, mine)
        self.assertEqual(summary["connections_excluded"], 1)
        self.assertLess(summary["packets"], 5000)

    def test_what_an_exclusion_took_is_a_hole(self):
        mine, _ = self.first_grpc()
        agent = self.agent("-i", "kt1", "--json", "-v")
        self.leave_out(agent, Foreign(mine[0]))
        send("kt0", mine)  # at once: the filter is the old one
        time.sleep(2.5)
        self.assertEqual(agent.end(), harness.INCOMPLETE)
        self.assertGreater(agent.lines()[-1]["gaps"], 0)

    def test_a_foreign_port_is_left_out_until_grpc_is_found_there(self):
        mine, preface = self.first_grpc()
        change = {20160: 20165}
        agent = self.agent("-i", "kt1", "--json", "-v")
        talks = []
        for n in range(20):
            talk = Foreign(with_ports(mine[0], change))
            talk.ports = (41000 + n, 20165)
            send("kt0", talk.begin() + talk.talk(4))
            talks.append(talk)
        end = time.monotonic() + PATIENCE
        while "port 20165 carries other protocols" not in agent.words():
            self.assertLess(time.monotonic(), end, agent.words())
            send("kt0", [p for talk in talks for p in talk.talk(100)])
            time.sleep(0.2)
        first = [with_ports(p, change) for p in mine]
        send("kt0", first)
        agent.wait_for("gRPC on port 20165, which was not captured")
        time.sleep(1)
        second = [with_ports(p, {**change, ports_of(mine[0])[0]: 45000}) for p in mine]
        send("kt0", second)
        time.sleep(0.5)
        self.assertEqual(agent.end(), harness.INCOMPLETE)
        lines = agent.lines()
        self.assertEqual((lines[-1]["ports_found"], lines[-1]["ports_excluded"]), (1, 1))
        self.assertEqual(self.told(r for r in lines if str(r.get("client")).endswith(":45000")), self.expected(second)[0])

    def test_wrong_devices(self):
        for devices, words in ((["-i", "any,lo"], "name no others"), (["-i", "lo", "-i", "lo"], "named twice"),
                               (["-i", "lo", "--ring", "1KiB"], "--ring"),
                               (["-i", "lo", "--ring", "2GiB"], "--ring"), (["--ring", "1MiB", "-r", "x"], "--ring"),
                               (["-i", ",".join(f"d{n}" for n in range(17))], "16 devices at most")):
            got = harness.run([AGENT, *devices])
            self.assertEqual(got.returncode, harness.USAGE, got.stderr)
            self.assertIn(words, got.stderr)
        got = harness.run([AGENT, "-i", "lo,nosuchdev0"])
        self.assertEqual(got.returncode, harness.FAILED)
        self.assertIn("nosuchdev0", got.stderr)


if __name__ == "__main__":
    unittest.main()
