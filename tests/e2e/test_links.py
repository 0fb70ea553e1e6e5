#!/usr/bin/env python3
"""The same TCP segments under every link type, tag, tunnel and in fragments give the same records.

A bundled capture is put into other clothes by tests/support/wrap_capture.py, whose work tshark checks. Each form
must give the records of the plain capture, byte for byte, and the same counts.
"""

import collections
import concurrent.futures
import ipaddress
import json
import os
import re
import shutil
import struct
import subprocess
import unittest

import harness
import pcap_file
import wrap_capture

AGENT = harness.program("keytrail-agent")
# What a form may change.
FREE = {"input", "packets", "bytes", "ip_fragments", "ip_datagrams_reassembled", "ip_fragments_repeated"}


def plain_addresses(text):
    """IPv6 addresses that stand for IPv4 ones (wrap_capture.PREFIX) as IPv4."""
    def plain(hit):
        packed = ipaddress.IPv6Address(hit.group(1)).packed
        return ".".join(map(str, packed[12:])) if packed[:12] == wrap_capture.PREFIX else hit.group(0)
    return re.sub(r"\[([0-9a-f:]+)\]", plain, text)


class LinkTest(harness.ProgramTest):
    def decoded(self, path, *more):
        """(the records as text, summary)."""
        result = harness.run([AGENT, "-r", path, "--json", *more])
        lines = plain_addresses(result.stdout).splitlines()
        self.assertTrue(lines, f"{path}: {result.stderr}")
        self.assertEqual(result.stderr, "", path)
        return lines[:-1], json.loads(lines[-1])

    def packets_of(self, scenario, host):
        path = os.path.join(harness.BUNDLED, scenario, host + ".pcap.zst")
        return path, list(wrap_capture.ip_packets(pcap_file.load(path)))

    def check_same(self, what, expected, got):
        self.assertEqual(len(got[0]), len(expected[0]), what)
        for wanted, line in zip(expected[0], got[0]):
            self.assertEqual(line, wanted, what)
        for name, value in expected[1].items():
            if name not in FREE:
                self.assertEqual(got[1][name], value, (what, name))


class Links(LinkTest):
    def test_every_form_gives_the_same_records(self):
        path, packets = self.packets_of("pd_wide", "tikv1")
        expected = self.decoded(path)
        self.assertGreater(len(expected[0]), 1000)
        for form in wrap_capture.FORMS:
            data = wrap_capture.wrap(form, packets)
            got = self.decoded(self.write("form.pcap", data))
            self.check_same(form, expected, got)
            cut_up = form.startswith(("fragments", "v6_fragments"))
            self.assertEqual(got[1]["ip_datagrams_reassembled"] > 300, cut_up, form)
            self.assertEqual(got[1]["ip_fragments_repeated"] > 0, form == "fragments_twice", form)

    def test_lost_fragments_are_gaps(self):
        _, packets = self.packets_of("healthy", "tikv1")
        frames = list(pcap_file.packets(wrap_capture.wrap("fragments_576", packets)))
        lost = [n for n, p in enumerate(frames) if p.frame[20] & 0x20 and n > 2000][::100]
        path = self.write("lost.pcap", pcap_file.encode([p for n, p in enumerate(frames) if n not in set(lost)]))
        _, summary = self.decoded(path)
        self.assertEqual(summary["ip_datagrams_incomplete"], len(lost))
        self.assertGreater(summary["gaps"], 0)
        self.assertLessEqual(summary["gaps"], len(lost))

    def test_snapshot_length_cuts_like_that_of_plain_packets(self):
        """The same bytes of each segment, whatever stands before them."""
        _, packets = self.packets_of("healthy", "pd1")

        def cut(form, extra):
            kind, make = wrap_capture.FORMS[form]
            out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, kind)]
            for t_us, packet in packets:
                frame, = make(packet)
                kept = frame[:120 + extra]
                out.append(struct.pack("<IIII", t_us // 1000000, t_us % 1000000, len(kept), len(frame)) + kept)
            return self.decoded(self.write("cut.pcap", b"".join(out)))

        expected = cut("ethernet_unpadded", 14)
        self.assertGreater(expected[1]["packets_cut"], 100)
        for form, extra in (("raw", 0), ("sll", 16), ("sll2", 20), ("null", 4), ("loop", 4), ("qinq", 22),
                            ("vxlan", 64), ("geneve_options", 76), ("gre_all", 50), ("ip_in_ip", 34)):
            self.check_same(form, expected, cut(form, extra))

    @unittest.skipUnless(shutil.which("tshark"), "tshark is not installed")
    def test_tshark_reads_the_forms_so_too(self):
        """The wrapper is right: tshark finds the same segments in each form."""
        _, packets = self.packets_of("pd_wide", "tikv1")
        packets = packets[:250]

        def segments(name):
            path = self.write(name + ".pcap", wrap_capture.wrap(name, packets))
            out = subprocess.run(
                ["tshark", "-n", "-r", path, "-Y", "tcp", "-o", "tcp.desegment_tcp_streams:FALSE", "-d",
                 "udp.port==8472,vxlan", "-T", "fields", "-E", "occurrence=l", "-e", "tcp.srcport", "-e",
                 "tcp.dstport", "-e", "tcp.seq_raw", "-e", "tcp.len"],
                check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8").stdout
            return collections.Counter(out.splitlines())

        expected = segments("ethernet_unpadded")
        self.assertEqual(sum(expected.values()), 250)
        # tshark 4.0 takes an IPv6 length of 0 for what it says.
        names = [name for name in wrap_capture.FORMS if name != "v6_offload_length_0"]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for name, got in zip(names, pool.map(segments, names)):
                with self.subTest(name):
                    self.assertEqual(set(got), set(expected))


@unittest.skipUnless(shutil.which("mergecap") and shutil.which("editcap"), "Wireshark's tools are not installed")
class Files(LinkTest):
    """Files as Wireshark's tools write them."""

    def tool(self, *arguments):
        subprocess.run(arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_formats(self):
        path, _ = self.packets_of("modern_pd_wide", "tikv1")
        expected = self.decoded(path)
        plain = self.write("plain.pcap", pcap_file.load(path))
        for kind in ("pcap", "nsecpcap", "pcapng"):
            out = os.path.join(self.scratch, "out." + kind)
            self.tool("editcap", "-F", kind, plain, out)
            self.check_same(kind, expected, self.decoded(out))
        ng = os.path.join(self.scratch, "out.pcapng")
        self.tool("zstd", "-q", ng)
        self.check_same("pcapng.zst", expected, self.decoded(ng + ".zst"))

    def test_interfaces_with_different_link_types(self):
        """One capture, seen on four devices of different kinds, one of them with nanoseconds."""
        path, packets = self.packets_of("pd_wide", "tikv1")
        expected, _ = self.decoded(path)
        connections = collections.defaultdict(list)
        for t_us, packet in packets:
            at = (packet[0] & 15) * 4
            connections[frozenset((packet[12:16] + packet[at:at + 2], packet[16:20] + packet[at + 2:at + 4]))].append(
                (t_us, packet))
        parts = [[], [], [], []]
        for n, some in enumerate(connections.values()):  # a connection stays on its device
            parts[n % 4] += some
        files = []
        for form, some in zip(("ethernet_unpadded", "sll2", "raw", "null"), parts):
            files.append(self.write(form + ".pcap", wrap_capture.wrap(form, sorted(some, key=lambda p: p[0]))))
        self.tool("editcap", "-F", "nsecpcap", files[1], files[1] + ".ns")
        files[1] += ".ns"
        merged = os.path.join(self.scratch, "merged.pcapng")
        self.tool("mergecap", "-F", "pcapng", "-w", merged, *files)
        records, summary = self.decoded(merged)
        self.assertEqual(summary["packets_unknown_link"], 0)
        self.assertEqual(sorted(map(json.dumps, map(self.without_connection_number, records))),
                         sorted(map(json.dumps, map(self.without_connection_number, expected))))
        # The same with a filter, which libpcap compiles for each link type.
        port = self.decoded(path, "-f", "tcp port 20160")[0]
        self.assertEqual(len(self.decoded(merged, "-f", "tcp port 20160")[0]), len(port))
        # -w writes pcap, which has one link type: a sentence, not a wrong file.
        kept = os.path.join(self.scratch, "kept.pcap")
        result = harness.run([AGENT, "-r", merged, "--json", "-w", kept])
        self.assertEqual(result.returncode, harness.INCOMPLETE)
        self.assertIn("one link type", result.stderr)

    @staticmethod
    def without_connection_number(line):
        return {k: v for k, v in json.loads(line).items() if k not in ("connection", "id", "sequence")}


if __name__ == "__main__":
    unittest.main()
