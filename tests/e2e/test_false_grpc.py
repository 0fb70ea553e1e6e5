#!/usr/bin/env python3
"""Traffic that is not HTTP/2 gives no gRPC record, whatever its port: MySQL, HTTP/1, TLS, random bytes."""

import os
import random
import struct
import unittest

import harness
import pcap_file

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"


def segment(source, destination, sequence, acknowledgement, flags, payload=b""):
    """An Ethernet frame with one TCP segment; checksums are left 0, as offload leaves them."""
    tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF,
                      5 << 4, flags, 65535, 0, 0) + payload
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0,
                     bytes(map(int, source[0].split("."))), bytes(map(int, destination[0].split("."))))
    return b"\x02" * 6 + b"\x04" * 6 + b"\x08\x00" + ip + tcp


def conversation(port, turns, with_syn=True, client_port=40000, mss=1448):
    """Packets of one connection. turns: [(from the client?, bytes)]."""
    ends = ((CLIENT, client_port), (SERVER, port))
    sequence = [1000, 5000000]
    t_us, out = 1795451409000000, []

    def send(side, flags, payload=b""):
        nonlocal t_us
        t_us += 37
        out.append((t_us, segment(ends[side], ends[1 - side], sequence[side], sequence[1 - side], flags, payload)))
        sequence[side] += len(payload) + (1 if flags & (pcap_file.SYN | pcap_file.FIN) else 0)

    if with_syn:
        send(0, pcap_file.SYN)
        send(1, pcap_file.SYN | pcap_file.ACK)
        send(0, pcap_file.ACK)
    for from_client, data in turns:
        for at in range(0, len(data), mss):
            send(0 if from_client else 1, pcap_file.ACK | 0x08, data[at:at + mss])
    if with_syn:
        send(0, pcap_file.FIN | pcap_file.ACK)
        send(1, pcap_file.FIN | pcap_file.ACK)
        send(0, pcap_file.ACK)
    return out


def mysql_packet(sequence, payload):
    return struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload


def mysql(rng, queries):
    """A handshake, then queries and result sets in MySQL's framing (3-byte length, sequence)."""
    greeting = b"\x0a8.0.11-TiDB-v8.5.0\x00" + b"\x01\x00\x00\x00abcdefgh\x00\xff\xf7\x2e\x02\x00\xff\xc1\x15" + \
        b"\x00" * 10 + b"ijklmnopqrst\x00mysql_native_password\x00"
    turns = [(False, mysql_packet(0, greeting)),
             (True, mysql_packet(1, b"\x85\xa6\xff\x01\x00\x00\x00\x01\x2e" + b"\x00" * 23 + b"root\x00\x00")),
             (False, mysql_packet(2, b"\x00\x00\x00\x02\x00\x00\x00"))]
    for n in range(queries):
        turns.append((True, mysql_packet(0, b"\x03SELECT c FROM t WHERE id = %d" % n)))
        rows = b"".join(mysql_packet(3 + i, bytes([200]) + rng.randbytes(200)) for i in range(rng.randrange(1, 60)))
        turns.append((False, mysql_packet(1, b"\x01") + mysql_packet(2, b"\x03def\x04test\x01t\x01t\x01c\x01c\x0c") + rows +
                      mysql_packet(99, b"\xfe\x00\x00\x02\x00")))
    return turns


def http1(rng, requests):
    turns = []
    for n in range(requests):
        body = rng.randbytes(rng.randrange(0, 20000))
        turns.append((True, b"GET /pd/api/v1/regions/key?key=%d HTTP/1.1\r\nHost: pd:2379\r\n\r\n" % n))
        turns.append((False, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/grpc\r\n\r\n" % len(body) + body))
    return turns


def tls(rng, records):
    hello = b"\x16\x03\x01" + struct.pack(">H", 300) + rng.randbytes(300)
    turns = [(True, hello), (False, b"\x16\x03\x03" + struct.pack(">H", 1200) + rng.randbytes(1200))]
    for n in range(records):
        size = rng.randrange(1, 16384)
        turns.append((n % 2 == 0, b"\x17\x03\x03" + struct.pack(">H", size) + rng.randbytes(size)))
    return turns


def noise(rng, turns):
    return [(n % 2 == 0, rng.randbytes(rng.randrange(1, 30000))) for n in range(turns)]


def zeroes_and_small_numbers(rng, turns):
    """Bytes that resemble frame headers: many zeroes, small lengths and types."""
    return [(n % 2 == 0, bytes(rng.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 8, 9)) for _ in range(rng.randrange(1, 6000))))
            for n in range(turns)]


PROTOCOLS = {"mysql": mysql, "http1": http1, "tls": tls, "noise": noise, "zeroes": zeroes_and_small_numbers}


class FalseGrpc(harness.ProgramTest):
    def check_silent(self, path, what):
        records, summary, _ = harness.agent_json(path)
        self.assertEqual(records[:3], [], what)
        self.assertEqual(summary["connections_http2_start"] + summary["connections_http2_late"], 0, what)
        self.assertEqual((summary["by_method"], summary["by_method_late"]), ({}, {}), what)
        return summary

    def test_other_protocols(self):
        rng = random.Random(20261123)
        for port in (20160, 2379, 4000):
            for name, make in PROTOCOLS.items():
                for with_syn in (True, False):
                    some = []
                    for client_port in range(40000, 40008):
                        turns = make(rng, 30)
                        if not with_syn:  # joined late: in mid-conversation, at an arbitrary byte
                            turns = turns[3:]
                            turns[0] = (turns[0][0], turns[0][1][rng.randrange(len(turns[0][1])):])
                        some += conversation(port, turns, with_syn, client_port)
                    some.sort()
                    summary = self.check_silent(self.write("other.pcap", pcap_file.encode(some)), (name, port, with_syn))
                    self.assertEqual(summary["connections"], 8)

    def test_tls_and_http1_are_told(self):
        rng = random.Random(7)
        some = conversation(20160, tls(rng, 4), client_port=1) + conversation(2379, http1(rng, 4), client_port=2)
        _, summary, _ = harness.agent_json(self.write("two.pcap", pcap_file.encode(some)))
        self.assertEqual((summary["connections_tls"], summary["connections_http1"]), (1, 1))

    def test_mysql_and_http1_of_the_captures(self):
        """The connections of the bundled captures that are not gRPC, moved to TiKV's port."""
        for scenario in ("pd_wide", "modern_pd_wide"):
            data = pcap_file.load(os.path.join(harness.BUNDLED, scenario, "tidb1.pcap.zst"))
            some = []
            for connection in pcap_file.connections(pcap_file.packets(data)):
                _, sent = connection.stream(from_client=True)
                if sent.startswith(b"PRI * HTTP/2.0") or not sent:
                    continue
                for t_us, frame, tcp in connection.packets:
                    at = 14 + (frame[14] & 15) * 4 + (2 if tcp.source == connection.client else 0)
                    some.append((t_us, frame[:at] + struct.pack(">H", 20160) + frame[at + 2:]))
            some.sort()
            self.assertGreater(len(some), 100)
            self.check_silent(self.write("moved.pcap", pcap_file.encode(some)), scenario)

    def test_http2_in_the_middle_of_noise_does_not_end_the_rest(self):
        """A gRPC call beside all that noise is still found."""
        # :method POST, :scheme http, :path (literal), content-type (literal); RFC 7541, appendix A.
        headers = (b"\x83\x86" + b"\x44" + bytes([18]) + b"/tikvpb.Tikv/KvGet" + b"\x5f" + bytes([16]) +
                   b"application/grpc")
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        frame = struct.pack(">I", len(headers))[1:] + b"\x01\x04" + struct.pack(">I", 1) + headers
        frame += b"\x00\x00\x05\x00\x01" + struct.pack(">I", 1) + bytes(5)
        some = conversation(20160, [(True, preface + frame)], client_port=1)
        some += conversation(20160, noise(random.Random(3), 20), client_port=2)
        some.sort()
        records, summary, _ = harness.agent_json(self.write("mixed.pcap", pcap_file.encode(some)))
        self.assertEqual(summary["connections_http2_start"], 1)
        self.assertEqual({r["method"] for r in records}, {"/tikvpb.Tikv/KvGet"})


if __name__ == "__main__":
    unittest.main()
