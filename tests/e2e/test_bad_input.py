#!/usr/bin/env python3
"""Bad input and wrong usage: one clear sentence with the path and the reason, the right exit status, and
whatever was decoded before the damage."""

import json
import os
import struct
import unittest

import harness
import pcap_file

AGENT = harness.program("keytrail-agent")
KEYTRAIL = harness.program("keytrail")


class BadInput(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.good = os.path.join(harness.BUNDLED, "healthy", "pd1.pcap.zst")

    def check(self, arguments, status, *words):
        """Exit status, and one sentence on stderr with all the words; nothing of it on stdout."""
        result = harness.run(arguments, timeout=120)
        self.assertEqual(result.returncode, status, f"{arguments}: {result.stdout}{result.stderr}")
        for word in words:
            self.assertIn(word, result.stderr, arguments)
        self.assertNotIn("terminate called", result.stderr)
        if status == harness.FAILED:
            self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        return result

    def test_missing_file(self):
        path = os.path.join(self.scratch, "absent.pcap")
        self.check([AGENT, "-r", path], harness.FAILED, path, "No such file")
        if os.path.exists(KEYTRAIL):
            self.check([KEYTRAIL, "investigate", path], harness.FAILED, path, "No such file")

    def test_folder_instead_of_file(self):
        self.check([AGENT, "-r", self.scratch], harness.FAILED, self.scratch)

    def test_empty_file(self):
        path = self.write("empty.pcap", b"")
        self.check([AGENT, "-r", path], harness.FAILED, path)

    def test_not_a_capture(self):
        path = self.write("words.pcap", b"These are only words, and no packets at all.\n" * 100)
        self.check([AGENT, "-r", path], harness.FAILED, path)
        if os.path.exists(KEYTRAIL):
            self.check([KEYTRAIL, "investigate", path], harness.FAILED, path)

    def test_damaged_zstd(self):
        with open(self.good, "rb") as handle:
            data = handle.read()
        path = self.write("cut.pcap.zst", data[:len(data) // 2])
        result = harness.run([AGENT, "-r", path, "--json"])
        self.assertIn(result.returncode, (harness.FAILED, harness.INCOMPLETE), result.stderr)
        self.assertIn(path, result.stderr)
        self.assertGreater(len(result.stdout.splitlines()), 10)

    def test_truncated_capture_keeps_what_came_before(self):
        whole = pcap_file.load(self.good)
        kept = list(pcap_file.packets(whole))[:2000]
        data = pcap_file.encode(kept)
        clean = self.write("clean.pcap", data)
        # A record header that promises 1,000 bytes, and 10 of them.
        broken = self.write("broken.pcap", data + struct.pack("<IIII", 1795451409, 0, 1000, 1000) + b"0123456789")
        expected = harness.run([AGENT, "-r", clean, "--json"]).stdout.splitlines()
        result = harness.run([AGENT, "-r", broken, "--json"])
        self.assertEqual(result.returncode, harness.INCOMPLETE, result.stderr)
        self.assertIn(broken, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        lines = result.stdout.splitlines()
        self.assertGreater(len(lines), 100)
        self.assertEqual(lines[:-1], expected[:-1])
        self.assertTrue(json.loads(lines[-1])["stopped_by"])

    def test_absurd_record_length(self):
        data = pcap_file.encode(list(pcap_file.packets(pcap_file.load(self.good)))[:500])
        path = self.write("absurd.pcap", data + struct.pack("<IIII", 1, 0, 0x7FFFFFFF, 0x7FFFFFFF) + b"x" * 100)
        result = harness.run([AGENT, "-r", path, "--json"])
        self.assertEqual(result.returncode, harness.INCOMPLETE, result.stderr)
        self.assertIn(path, result.stderr)

    def test_device(self):
        self.check([AGENT, "-i", "nosuchdev0"], harness.FAILED, "nosuchdev0")

    def test_filter(self):
        self.check([AGENT, "-r", self.good, "-f", "port port port"], harness.FAILED, "port port port")

    def test_proto(self):
        absent = os.path.join(self.scratch, "absent")
        self.check([AGENT, "-r", self.good, "--proto", absent], harness.FAILED, absent)
        empty = os.path.join(self.scratch, "empty")
        os.mkdir(empty)
        self.check([AGENT, "-r", self.good, "--proto", empty], harness.FAILED, empty)
        bad = os.path.join(self.scratch, "bad")
        os.mkdir(bad)
        self.write("bad/broken.proto", b'syntax = "proto3";\nmessage M {\n  int32 a = = 1;\n}\n')
        self.check([AGENT, "-r", self.good, "--proto", bad], harness.FAILED, "broken.proto", "3")
        words = self.write("words.bin", b"no descriptors here")
        self.check([AGENT, "-r", self.good, "--descriptor-set", words], harness.FAILED, words)

    def test_unwritable(self):
        path = os.path.join(self.scratch, "absent", "kept.pcap")
        self.check([AGENT, "-r", self.good, "-w", path], harness.FAILED, path)
        if not os.path.exists(KEYTRAIL):
            self.skipTest("no keytrail in this build")
        path = os.path.join(self.scratch, "absent", "out.db")
        self.check([KEYTRAIL, "investigate", "--db", path, self.good], harness.FAILED, path)
        words = self.write("words.db", b"This is no database. " * 100)
        self.check([KEYTRAIL, "investigate", "--db", words, self.good], harness.FAILED, words)
        absent = os.path.join(self.scratch, "absent.db")
        self.check([KEYTRAIL, "verdicts", "--db", absent], harness.FAILED, absent)

    def test_wrong_usage(self):
        for arguments in ([AGENT], [AGENT, "-r", self.good, "-i", "lo"], [AGENT, "--no-such-option"],
                          [AGENT, "-r", self.good, "--keys", "runes"], [AGENT, "-r", self.good, "--full", "--raw"],
                          [AGENT, "-r", self.good, "-c", "many"]):
            self.check(arguments, harness.USAGE)
        if os.path.exists(KEYTRAIL):
            for arguments in ([KEYTRAIL], [KEYTRAIL, "investigate"], [KEYTRAIL, "no-such-command"],
                              [KEYTRAIL, "verdicts", "--no-such-option"]):
                self.check(arguments, harness.USAGE)

    def test_help_and_version(self):
        for name in ("keytrail-agent", "keytrail-collector", "keytrail"):
            if os.path.exists(harness.program(name)):
                for option in ("--help", "--version"):
                    result = harness.run([harness.program(name), option])
                    self.assertEqual(result.returncode, harness.DONE)
                    self.assertTrue(result.stdout.strip())

    def test_closed_pipe(self):
        """`keytrail-agent … | head -1` ends quietly."""
        result = harness.run(["bash", "-c", f"'{AGENT}' -r '{self.good}' --json | head -n 1 >/dev/null"])
        self.assertNotIn("terminate", result.stderr)
        self.assertNotIn("Segmentation", result.stderr)


if __name__ == "__main__":
    unittest.main()
