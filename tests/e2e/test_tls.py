#!/usr/bin/env python3
"""Queries over TLS: who is answered, who is not and what is said then. The openssl command makes the certificates."""

import os
import shutil
import subprocess
import unittest

import harness
from test_keys import COLLECTOR, KEYTRAIL, Collector
from test_ship import free_port


class Tls(harness.ProgramTest):
    """Queries over TLS; the certificates are made once."""

    @classmethod
    def setUpClass(cls):
        import tempfile
        cls.folder = tempfile.TemporaryDirectory()
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=cls.folder.name, check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for authority in ("ca", "other"):
            openssl("req", "-x509", *curve, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj",
                    f"/CN={authority}", "-days", "2")
        for name, authority, names in (("server", "ca", "DNS:localhost,IP:127.0.0.1"), ("client", "ca", "DNS:someone"),
                                       ("alien", "other", "DNS:someone"), ("named", "ca", "DNS:collector.example")):
            with open(os.path.join(cls.folder.name, name + ".ext"), "w", encoding="ascii") as handle:
                handle.write("subjectAltName=" + names + "\n")
            openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                    "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, *options, name="server"):
        self.query = f"127.0.0.1:{free_port()}"
        collector = Collector(self.scratch, "--query", self.query, "--query-cert", self.file(name + ".pem"), "--query-key",
                              self.file(name + ".key"), *options)
        self.addCleanup(collector.stop)
        collector.wait_for("answering queries at")
        return collector

    def ask(self, *options):
        result = harness.run([KEYTRAIL, "sql", "--collector", self.query, "-e", "select 42 as n", "--format", "csv",
                              *options], timeout=60)
        return result.returncode, result.stdout + result.stderr

    def ours(self, name):
        return ["--tls-cert", self.file(name + ".pem"), "--tls-key", self.file(name + ".key")]

    def test_tls(self):
        collector = self.start()
        self.assertIn("anybody who reaches it may ask", collector.words())
        ca = ["--tls-ca", self.file("ca.pem")]
        self.assertEqual(self.ask(*ca), (harness.DONE, "n\n42\n"))
        status, words = self.ask()
        self.assertEqual(status, harness.FAILED)
        self.assertIn("--tls-ca if it wants TLS", words)
        status, words = self.ask("--tls-ca", self.file("other.pem"))
        self.assertEqual(status, harness.FAILED)
        self.assertIn("not signed by an authority of --tls-ca", words)
        status, words = self.ask(*ca, "--tls-name", "elsewhere.example")
        self.assertEqual(status, harness.FAILED)
        self.assertIn("another name", words)

    def test_client_certificates(self):
        collector = self.start("--query-client-ca", self.file("ca.pem"), name="named")
        self.assertIn("for clients with a certificate", collector.words())
        ca = ["--tls-ca", self.file("ca.pem"), "--tls-name", "collector.example"]
        self.assertEqual(self.ask(*ca, *self.ours("client")), (harness.DONE, "n\n42\n"))
        for wrong in ([], self.ours("alien")):
            status, words = self.ask(*ca, *wrong)
            self.assertEqual(status, harness.FAILED)
            self.assertIn("does it want a certificate", words)
        self.assertEqual(self.ask(*ca, *self.ours("client")), (harness.DONE, "n\n42\n"))

    def test_wrong_files_and_addresses(self):
        def begin(*options):
            result = harness.run([COLLECTOR, "--data", self.scratch, "--listen", f"tcp://127.0.0.1:{free_port()}", *options],
                                 timeout=60)
            return result.returncode, result.stderr
        there = ["--query", f"127.0.0.1:{free_port()}"]
        pem, key = self.file("server.pem"), self.file("server.key")
        self.assertEqual(begin(*there, "--query-cert", pem)[0], harness.USAGE)
        self.assertEqual(begin(*there, "--query-key", key)[0], harness.USAGE)
        shutil.copy(pem, self.path("no.key"))
        os.chmod(self.path("no.key"), 0o640)
        for certificate, private, why in ((key, key, "has no CERTIFICATE"), (pem, self.path("no.key"), "has no PRIVATE KEY"),
                                          (pem, self.file("client.key"), "belong to"),
                                          (pem, self.file("none"), "No such file"),
                                          (KEYTRAIL, key, "")):
            status, words = begin(*there, "--query-cert", certificate, "--query-key", private)
            self.assertEqual(status, harness.FAILED)
            self.assertIn(why, words)
        shutil.copy(key, self.path("open.key"))
        os.chmod(self.path("open.key"), 0o644)
        self.assertIn("chmod 640", begin(*there, "--query-cert", pem, "--query-key", self.path("open.key"))[1])
        status, words = begin("--query", "0.0.0.0:0")
        self.assertEqual(status, harness.USAGE)
        self.assertIn("without TLS", words)
        # With TLS every address will do.
        self.query = f"0.0.0.0:{free_port()}"
        collector = Collector(self.scratch, "--query", self.query, "--query-cert", pem, "--query-key", key)
        self.addCleanup(collector.stop)
        collector.wait_for("answering queries at 0.0.0.0:")
        self.query = self.query.replace("0.0.0.0", "localhost")
        self.assertEqual(self.ask("--tls-ca", self.file("ca.pem")), (harness.DONE, "n\n42\n"))

    def path(self, name):
        return os.path.join(self.scratch, name)


if __name__ == "__main__":
    unittest.main()
