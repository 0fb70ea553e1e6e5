#!/usr/bin/env python3
"""The mutator does what its steps say, no more: checked on a bundled capture with the tests' own pcap reader."""

import os
import random
import struct
import unittest

import mutate
import pcap_file

CAPTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "healthy", "pd1.pcap.zst")


class Mutate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.packets = list(pcap_file.packets(pcap_file.load(CAPTURE)))

    def apply(self, *steps):
        return list(pcap_file.packets(mutate.mutate(self.packets, steps)))

    def streams(self, packets):
        return [(c.name(), c.stream(True)[1], c.stream(False)[1]) for c in pcap_file.connections(packets)]

    def test_start(self):
        self.assertEqual(self.apply(("start", "7")), self.packets[7:])

    def test_lose_and_duplicate(self):
        lost = self.apply(("lose", "5"))
        self.assertTrue(0.93 < len(lost) / len(self.packets) < 0.97)
        self.assertLess(set(lost), set(self.packets))
        twice = self.apply(("duplicate", "5"))
        self.assertTrue(1.03 < len(twice) / len(self.packets) < 1.07)
        self.assertEqual([p for i, p in enumerate(twice) if i == 0 or p != twice[i - 1]],
                         [p for i, p in enumerate(self.packets) if i == 0 or p != self.packets[i - 1]])

    def test_shuffle_moves_no_packet_too_far(self):
        marked = [pcap_file.Packet(p.t_us, struct.pack("<I", i)) for i, p in enumerate(self.packets)]
        out = mutate.shuffle(marked, 5, random.Random(1))
        moves = [abs(struct.unpack("<I", p.frame)[0] - i) for i, p in enumerate(out)]
        self.assertTrue(1 <= max(moves) <= 5)
        self.assertEqual([p.t_us for p in out], [p.t_us for p in marked])
        self.assertEqual(self.streams(self.apply(("shuffle", "5")))[0][1:], self.streams(self.packets)[0][1:])

    def test_mss_keeps_the_bytes(self):
        for size in (1, 100, 1448):
            out = self.apply(("mss", size))
            self.assertLessEqual(max(len(t.payload) for t in map(pcap_file.tcp_of, (p.frame for p in out)) if t), size)
            self.assertEqual(self.streams(out), self.streams(self.packets))

    def test_snaplen(self):
        data = mutate.mutate(self.packets, [("snaplen", "96")])
        _, _, captured, length = struct.unpack_from("<IIII", data, 24)
        self.assertEqual((captured, length), (min(96, len(self.packets[0].frame)), len(self.packets[0].frame)))
        self.assertTrue(all(p.frame == q.frame[:96] for p, q in zip(pcap_file.packets(data), self.packets)))

    def test_nat_changes_one_end_and_nothing_else(self):
        before = pcap_file.connections(self.packets)
        host = before[0].server[0]
        after = pcap_file.connections(self.apply(("nat", f"{host}:10.1.2.3:60000")))

        def renamed(end):
            return ("10.1.2.3", mutate.nat_port(end[1], 60000)) if end[0] == host else end

        self.assertTrue(all(1024 <= mutate.nat_port(port, 60000) < 65536 for port in range(1024, 65536)))
        self.assertEqual(len({mutate.nat_port(port, 60000) for port in range(1024, 65536)}), 65536 - 1024)
        self.assertEqual([{renamed(c.client), renamed(c.server)} for c in before],
                         [{c.client, c.server} for c in after])
        self.assertEqual([[(t, p.sequence, p.payload) for t, _, p in c.packets] for c in before],
                         [[(t, p.sequence, p.payload) for t, _, p in c.packets] for c in after])

    def test_direction(self):
        for side, other in (("client", 2), ("server", 1)):
            out = self.apply(("direction", side))
            parts = self.streams(out)
            self.assertTrue(all(part[other] == b"" for part in parts))
        both = len(self.apply(("direction", "client"))) + len(self.apply(("direction", "server")))
        self.assertEqual(both, sum(pcap_file.tcp_of(p.frame) is not None for p in self.packets))

    def test_clocks(self):
        out = self.apply(("shift", "350"))
        self.assertTrue(all(p.t_us - q.t_us == 350000 for p, q in zip(out, self.packets)))
        out = self.apply(("drift", "100"))
        self.assertEqual(out[0].t_us, self.packets[0].t_us)
        elapsed = self.packets[-1].t_us - self.packets[0].t_us
        self.assertEqual(out[-1].t_us - self.packets[-1].t_us, round(elapsed * 1e-4))
        out = self.apply(("set", "0.5:-250"))
        moves = [p.t_us - q.t_us for p, q in zip(out, self.packets)]
        later = [q.t_us - self.packets[0].t_us >= 500000 for q in self.packets]
        self.assertEqual(moves, [-250000 if late else 0 for late in later])
        self.assertEqual(len(set(later)), 2)


if __name__ == "__main__":
    unittest.main()
