#!/usr/bin/env python3
"""The agent's memory stays bounded whatever a capture holds.

Each case is an endless kind of traffic, made on the fly and read from standard input, with more of it than the caps of
common/limits.h let the agent keep. The peak resident size of the real process is printed and must stay below BOUND, the
caps that the case hits must be counted, and a call that comes afterwards must still be told.
"""

import json
import os
import random
import struct
import subprocess
import tempfile
import threading
import unittest

import harness
import pcap_file

BOUND_MIB = 600
SYN, ACK = pcap_file.SYN, pcap_file.ACK
START_S = 1795451409

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(path, name_in_table=False):
    """A gRPC request's header block: :method POST, :scheme http, :path, content-type (RFC 7541, appendix A)."""
    start = b"\x44" if name_in_table else b"\x04"
    length = bytes([len(path)]) if len(path) < 127 else b"\x7f" + varint(len(path) - 127)
    return b"\x83\x86" + start + length + path + b"\x0f\x10" + bytes([16]) + b"application/grpc"


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def message(body, promised=None):
    return b"\x00" + struct.pack(">I", len(body) if promised is None else promised) + body


class Traffic:
    """Packets (raw IPv4) of many connections, as pcap records. Client n has an address and port of its own."""

    def __init__(self):
        self.count = 0
        self.next = {}

    def record(self, packet):
        self.count += 1
        micros = self.count * 3
        return struct.pack("<IIII", START_S + micros // 1000000, micros % 1000000, len(packet), len(packet)) + packet

    def segment(self, client, flags, sequence, payload=b"", acknowledgement=101):
        source = struct.pack(">BBH", 10, 1 + (client >> 24), client >> 8 & 0xFFFF)
        tcp = struct.pack(">HHIIBBHHH", 1024 + (client & 0xFF), 20160, sequence & 0xFFFFFFFF, acknowledgement, 5 << 4, flags,
                          65535, 0, 0) + payload
        return self.record(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, source,
                                       b"\x0a\x00\x00\x01") + tcp)

    def answer(self, client, flags, sequence, payload=b""):
        """From the server, which acknowledges the SYN alone."""
        to = struct.pack(">BBH", 10, 1 + (client >> 24), client >> 8 & 0xFFFF)
        tcp = struct.pack(">HHIIBBHHH", 20160, 1024 + (client & 0xFF), sequence, 1, 5 << 4, flags, 65535, 0, 0) + payload
        return self.record(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, b"\x0a\x00\x00\x01", to) +
                           tcp)

    def open(self, client):
        self.next[client] = 1
        return self.segment(client, SYN, 0, b"", 0)

    def send(self, client, data):
        """In order, in segments of 60,000 bytes at most."""
        for at in range(0, len(data), 60000):
            part = data[at:at + 60000]
            yield self.segment(client, ACK, self.next[client], part)
            self.next[client] += len(part)

    def fragment(self, number, offset, payload):
        return self.record(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number & 0xFFFF, 0x2000 | offset // 8, 64,
                                       6, 0, struct.pack(">I", 0x0A000000 + (number >> 16)), b"\x0a\x00\x00\x02") + payload)


def syns(t):
    for n in range(250000):
        yield t.open(n)


def one_byte_segments_with_holes(t):
    for client in range(20):
        yield t.open(client)
    for n in range(12000):
        for client in range(20):
            yield t.segment(client, ACK, 3 + 2 * n, b"x")


def holes(t):
    block = bytes(60000)
    for client in range(40):
        yield t.open(client)
    for n in range(64):
        for client in range(40):
            yield t.segment(client, ACK, 1000 + n * 60000, block)


def undecided_connections(t):
    noise = random.Random(1).randbytes(60000)
    for client in range(8000):
        t.next[client] = 5
        yield from t.send(client, noise)


def fragments(t):
    part = bytes(1480)
    for n in range(100000):
        yield t.fragment(n, 63992 if n % 2 else 0, part)


def streams(t):
    block = request(b"/tikvpb.Tikv/KvGet")
    for client in range(36):
        yield t.open(client)
        yield from t.send(client, PREFACE)
        for first in range(1, 2 * 8300, 200):
            yield from t.send(client, b"".join(frame(1, 4, first + 2 * i, block) for i in range(100)))


def half_messages(t):
    block = request(b"/tikvpb.Tikv/KvGet")
    part = bytes(16384)
    for client in range(20):
        yield t.open(client)
        yield from t.send(client, PREFACE)
        for stream in range(1, 21, 2):
            yield from t.send(client, frame(1, 4, stream, block))
            yield from t.send(client, frame(0, 0, stream, message(b"", 60 << 20)) + frame(0, 0, stream, part) * 128)


def open_header_blocks(t):
    piece = frame(9, 0, 1, bytes([0x10, 1, 97, 0x7f]) + varint(16200 - 127) + b"v" * 16200)
    for client in range(2500):
        yield t.open(client)
        yield from t.send(client, PREFACE + frame(1, 0, 1, request(b"/tikvpb.Tikv/KvGet")) + piece * 15)


def header_tables(t):
    """Receivers that allow 1 MiB, and senders that fill it."""
    grow = b"\x3f" + varint((1 << 20) - 31)
    fields = b"".join(b"\x40\x01" + bytes([97 + n]) + b"\x7f" + varint(4000 - 127) + b"v" * 4000 for n in range(4))
    for client in range(700):
        yield t.open(client)
        yield t.answer(client, SYN | ACK, 100)
        yield t.answer(client, ACK, 101, frame(4, 0, 0, struct.pack(">HI", 1, 1 << 20)))
        yield from t.send(client, PREFACE + frame(1, 4, 1, grow + request(b"/tikvpb.Tikv/KvGet")))
        for n in range(64):
            yield from t.send(client, frame(1, 4, 3 + 2 * n, fields))


def pending_requests(t):
    block = request(b"/tikvpb.Tikv/BatchCommands")
    empty = b"\x0a\x05\xfa\x0f\x02\x08\x01"  # requests { Empty { test_id: 1 } }
    yield t.open(1)
    yield from t.send(1, PREFACE)
    for n in range(18):
        stream = 1 + 2 * n
        yield from t.send(1, frame(1, 4, stream, block))
        for first in range(0, 66000, 1000):
            ids = b"".join(varint(i) for i in range(first, first + 1000))
            body = empty * 1000 + b"\x12" + varint(len(ids)) + ids
            yield from t.send(1, frame(0, 0, stream, message(body)))


def facts(t):
    block = request(b"/tikvpb.Tikv/KvBatchGet")
    key = bytes(random.Random(2).randbytes(1 << 20))
    body = message((b"\x12" + varint(len(key)) + key) * 7)
    frames = [body[at:at + 16384] for at in range(0, len(body), 16384)]
    yield t.open(1)
    yield from t.send(1, PREFACE)
    for n in range(44):
        stream = 1 + 2 * n
        yield from t.send(1, frame(1, 4, stream, block))
        yield from t.send(1, b"".join(frame(0, 0, stream, part) for part in frames))


def method_names(t):
    yield t.open(1)
    yield from t.send(1, PREFACE)
    for n in range(5000):
        path = b"/foreign/%d" % n + b"m" * 100000
        block = request(path)
        parts = [block[at:at + 16384] for at in range(0, len(block), 16384)]
        stream = 1 + 2 * n
        out = frame(1, 0, stream, parts[0])
        for part in parts[1:-1]:
            out += frame(9, 0, stream, part)
        yield from t.send(1, out + frame(9, 4, stream, parts[-1]) + frame(3, 0, stream, bytes(4)))


# What is counted, of whatever else there is.
CASES = {
    syns: ("cap_connections",),
    one_byte_segments_with_holes: ("cap_held_segments",),
    holes: ("cap_held_bytes",),
    undecided_connections: ("cap_detect_bytes",),
    fragments: ("cap_fragments",),
    streams: ("cap_streams",),
    half_messages: ("cap_partial_bytes",),
    open_header_blocks: ("cap_open_blocks",),
    header_tables: ("cap_header_tables",),
    pending_requests: ("cap_pending_requests",),
    facts: ("cap_facts",),
    method_names: (),
}


def a_call(t):
    client = 0xFFFF00
    yield t.open(client)
    yield from t.send(client, PREFACE + frame(1, 4, 1, request(b"/tikvpb.Tikv/KvGet")) +
                      frame(0, 1, 1, message(b"\x12\x05alive")))


def peak_mib(make, results):
    """Runs the agent on the traffic; its summary, the last record, and its peak resident size."""
    t = Traffic()
    with tempfile.TemporaryFile() as out:
        agent = subprocess.Popen([harness.program("keytrail-agent"), "-r", "-", "--json"], stdin=subprocess.PIPE, stdout=out,
                                 stderr=subprocess.PIPE)

        def feed():
            with agent.stdin as to:
                to.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101))
                waiting = []
                size = 0
                for some in (make(t), a_call(t)):
                    for record in some:
                        waiting.append(record)
                        size += len(record)
                        if size > 1 << 20:
                            to.write(b"".join(waiting))
                            waiting, size = [], 0
                to.write(b"".join(waiting))

        feeder = threading.Thread(target=feed)
        feeder.start()
        errors = agent.stderr.read()
        _, status, usage = os.wait4(agent.pid, 0)
        agent.returncode = os.waitstatus_to_exitcode(status)
        agent.stderr.close()
        feeder.join()
        out.seek(0)
        alive = False
        line = b"{}"
        for line in out:
            alive = alive or (b'"' + b"alive".hex().encode() + b'"') in line
    results.update(summary=json.loads(line), alive=alive, errors=errors, status=agent.returncode)
    return usage.ru_maxrss / 1024


class Memory(unittest.TestCase):
    def test_hostile_traffic(self):
        for make, counters in CASES.items():
            with self.subTest(make.__name__):
                results = {}
                peak = peak_mib(make, results)
                summary = results["summary"]
                hit = {name: n for name, n in summary.items() if name.startswith("cap_") and n}
                print(f"{make.__name__}: {peak:.0f} MiB, {summary['bytes'] >> 20} MiB in {summary['packets']} packets, {hit}",
                      flush=True)
                self.assertIn(results["status"], (harness.DONE, harness.INCOMPLETE), results["errors"])
                self.assertTrue(results["alive"], "the call at the end is missing")
                for name in counters:
                    self.assertGreater(summary[name], 0, name)
                self.assertLess(peak, BOUND_MIB)


if __name__ == "__main__":
    unittest.main()
