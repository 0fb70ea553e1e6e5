#!/usr/bin/env python3
"""Recordings of programs that do not speak HTTP/2 give no HTTP/2 connection and no record: whole, and joined in the
middle of connections that were open before, at packets and within them."""

import os
import random
import struct
import unittest

import harness
import pcap_file

FOLDER = os.path.join(harness.BUNDLED, "other_protocols")
NAMES = ("redis", "postgres", "memcached", "tls", "ssh", "dropbear", "noise", "http1")


def beheaded(frame, bytes_gone):
    """The frame without the first bytes of its TCP payload: as if its beginning had been another segment."""
    tcp = pcap_file.tcp_of(frame)
    keep = len(tcp.payload) - bytes_gone
    at = 14 + (frame[14] & 15) * 4
    payload_at = at + (frame[at + 12] >> 4) * 4
    frame = frame[:payload_at] + frame[payload_at + bytes_gone:payload_at + bytes_gone + keep]
    frame = frame[:16] + struct.pack(">H", payload_at - 14 + keep) + frame[18:]
    return frame[:at + 4] + struct.pack(">I", (tcp.sequence + bytes_gone) & 0xFFFFFFFF) + frame[at + 8:]


class OtherProtocols(harness.ProgramTest):
    def silent(self, packets, what):
        path = self.write("some.pcap", pcap_file.encode(packets))
        records, summary, _ = harness.agent_json(path)
        self.assertEqual(records[:3], [], what)
        found = {name: value for name, value in summary.items() if name.startswith("connections_http2") and value}
        self.assertEqual(found, {}, what)
        self.assertEqual((summary["by_method"], summary["by_method_late"]), ({}, {}), what)
        self.assertEqual(summary["header_blocks"], 0, what)
        return summary

    def recordings(self):
        for name in NAMES:
            yield name, list(pcap_file.packets(pcap_file.load(os.path.join(FOLDER, name + ".pcap.zst"))))
        # MySQL's connections of a cluster.
        for scenario in ("pd_wide", "modern_pd_wide"):
            data = pcap_file.load(os.path.join(harness.BUNDLED, scenario, "tidb1.pcap.zst"))
            yield "mysql of " + scenario, [p for p in pcap_file.packets(data) if self.is_mysql(p.frame)]

    @staticmethod
    def is_mysql(frame):
        tcp = pcap_file.tcp_of(frame)
        return tcp is not None and 4000 in (tcp.source[1], tcp.destination[1])

    def test_whole(self):
        for name, packets in self.recordings():
            self.assertGreater(len(packets), 100, name)
            summary = self.silent(packets, name)
            self.assertEqual(summary["connections_tls"], 4 if name == "tls" else 0, name)
            self.assertEqual(summary["connections_http1"] > 0, name == "http1", name)
            self.assertEqual(summary["gaps"], 0, name)

    def test_the_test_can_fail(self):
        packets = list(pcap_file.packets(pcap_file.load(os.path.join(harness.BUNDLED, "healthy", "pd1.pcap.zst"))))
        for some in (packets, packets[500:]):
            with self.assertRaises(AssertionError):
                self.silent(some, "gRPC")

    def test_tls_is_told_where_it_begins(self):
        """Each connection from its SYN, and from the ClientHello, on."""
        packets = list(pcap_file.packets(pcap_file.load(os.path.join(FOLDER, "tls.pcap.zst"))))
        for connection in pcap_file.connections(packets):
            for gone in (0, 1, 2, 3):
                self.assertTrue(connection.packets[3][2].payload.startswith(b"\x16\x03\x01"))
                summary = self.silent([(t, f) for t, f, _ in connection.packets[gone:]], gone)
                self.assertEqual(summary["connections_tls"], 1, gone)

    def test_joined_at_a_packet(self):
        rng = random.Random(20261125)
        for name, packets in self.recordings():
            many = sorted({*range(1, 13), *(rng.randrange(len(packets)) for _ in range(30))})
            for at in many:
                self.silent(packets[at:], f"{name} without the first {at} packets")

    def test_joined_within_a_segment(self):
        """Each connection alone, from a random byte of a random segment on."""
        rng = random.Random(11)
        for name, packets in self.recordings():
            connections = [c for c in pcap_file.connections(packets) if len(c.packets) > 8]
            for _ in range(40):
                connection = rng.choice(connections)
                full = [n for n, (_, _, tcp) in enumerate(connection.packets) if len(tcp.payload) > 1]
                at = rng.choice(full)
                t_us, frame, tcp = connection.packets[at]
                gone = rng.randrange(1, len(tcp.payload))
                some = [(t_us, beheaded(frame, gone))] + [(t, f) for t, f, _ in connection.packets[at + 1:]]
                self.silent(some, f"{name}: {connection.name()} from byte {gone} of packet {at} on")

    def test_one_direction_alone(self):
        for name, packets in self.recordings():
            for from_server in (False, True):
                some = []
                for connection in pcap_file.connections(packets):
                    some += [(t, f) for t, f, tcp in connection.packets if (tcp.source == connection.server) == from_server]
                self.silent(sorted(some, key=lambda p: p[0])[4:], (name, from_server))

    def test_with_losses(self):
        rng = random.Random(5)
        for name, packets in self.recordings():
            for round_number in range(5):
                kept = [p for p in packets if rng.random() > 0.1]
                self.silent(kept, (name, round_number))


if __name__ == "__main__":
    unittest.main()
