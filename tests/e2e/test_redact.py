#!/usr/bin/env python3
"""--redact on: no byte of a key or value leaves the host, and the verdicts are the same.

KEYTRAIL_REDACT_ALL=1   all scenarios, the large ones, too (default: two of tests/data)
"""

import json
import os
import random
import re
import struct
import subprocess
import unittest

import harness
import pcap_file
from test_keys import Proxy
from test_ship import Collector

ALL = os.environ.get("KEYTRAIL_REDACT_ALL") == "1"
ENTRY = struct.Struct("<IIQQIqqQII")
ZSTD = b"\x28\xb5\x2f\xfd"
MOST_NEEDLES = 400 if ALL else 120
SOME = ("modern_pd_wide", "tidb_neighbour")


def encoded(raw):
    """Memcomparable, as TiKV's regions are bounded: groups of eight, each with a marker."""
    out = b""
    for at in range(0, len(raw) + 1, 8):
        group = raw[at:at + 8]
        out += group + bytes(8 - len(group)) + bytes([255 - (8 - len(group))])
    return out


def decoded(key):
    out = b""
    for at in range(0, len(key), 9):
        group, marker = key[at:at + 8], key[at + 8:at + 9]
        if len(group) != 8 or not marker or marker[0] < 247:
            return None
        out += group[:8 - (255 - marker[0])]
        if marker[0] != 255:
            return out if at + 9 == len(key) else None
    return None


def keys_in(node, found):
    """Every hex string of a record that is a key: `keys`, `ranges`, bounds of statements and errors."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("key", "start", "end", "keys", "ranges", "range", "start_key", "end_key"):
                texts(value, found)
            else:
                keys_in(value, found)
    elif isinstance(node, list):
        for value in node:
            keys_in(value, found)


def texts(value, found):
    if isinstance(value, str) and re.fullmatch(r"(?:[0-9a-f]{2})+", value):
        found.add(bytes.fromhex(value))
    elif isinstance(value, list):
        for part in value:
            texts(part, found)
    elif isinstance(value, dict):
        for part in value.values():
            texts(part, found)


def forms(key):
    """How a key may be written."""
    raw = decoded(key) or key
    out = set()
    for b in (raw, encoded(raw)):
        if len(b) >= 8:
            out |= {b, b.hex().encode(), b.hex().upper().encode()}
    record = re.fullmatch(rb"t(.{8})_r(.{8})", raw, re.S)
    if record:
        table, handle = (int.from_bytes(part, "big") - (1 << 63) for part in record.groups())
        if handle >= 1000:
            out.add(f"t{table}_r{handle}".encode())
    return out


def values_in(path):
    full = harness.run([harness.program("keytrail-agent"), "-r", path, "--full"]).stdout
    found = set()
    for text in re.findall(r'\bvalue: "((?:[^"\\]|\\.)*)"', full):
        value = text.encode("latin-1", "ignore").decode("unicode_escape").encode("latin-1", "ignore")
        if len(value) >= 8 and len(set(value)) >= 5:  # zeroes are everywhere
            found.add(value)
    return found


def spool_payloads(folder):
    """All batches of a spool, unpacked."""
    out = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".spool"):
            continue
        with open(os.path.join(folder, name), "rb") as handle:
            data = handle.read()
        at = struct.unpack_from("<I", data, 12)[0]
        while at + ENTRY.size <= len(data):
            length = ENTRY.unpack_from(data, at)[1]
            message = data[at + ENTRY.size:at + ENTRY.size + length]
            unpacked = subprocess.run(["zstd", "-dcq"], input=message[message.index(ZSTD):], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL).stdout  # what follows the frame is no frame
            assert unpacked
            out.append(unpacked)
            at += ENTRY.size + length
    return b"".join(out)


def wire_payloads(sent):
    """What agents sent, and all batches in it, unpacked."""
    out, at = [sent], sent.find(ZSTD)
    while at >= 0:
        out.append(subprocess.run(["zstd", "-dcq"], input=sent[at:at + (1 << 21)], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL).stdout)
        at = sent.find(ZSTD, at + 1)
    assert len(out) > 1
    return b"\0".join(out)


def every_file(folder):
    out = []
    for top, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(top, name), "rb") as handle:
                out.append(handle.read())
    return b"\0".join(out)


def essence(report):
    return {
        "verdicts": sorted((v["component"], v["confidence"], v["rule"], v["client"], v["server"], v["region_id"],
                            v["version"], v["occurrences"]) for v in report["verdicts"]),
        "inconclusive": sorted((tuple(i["suspects"]), i["region_id"], i["occurrences"]) for i in report["inconclusive"]),
        "benign": report["benign"], "calls": report["calls"],
    }


def raw(arguments, given=b""):
    """As harness.run, with bytes."""
    return subprocess.run(arguments, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
                          env=dict(os.environ, TZ="UTC"))


class Redact(harness.ProgramTest):
    def secret(self, name):
        path = os.path.join(self.scratch, name)
        made = harness.run([harness.program("keytrail"), "keys", "secret", path])
        self.assertEqual(made.returncode, harness.DONE, made.stderr)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        return path

    def collect(self, scenario, options_of, name):
        """Every agent into its spool while no collector is there, then all spools into one. What there is to read."""
        folder = os.path.join(self.scratch, name)
        os.mkdir(folder)
        spools, agents, left = {}, {}, b""
        for host in harness.HOSTS:
            spools[host] = os.path.join(folder, "spool_" + host)
            agents[host] = subprocess.Popen(
                [harness.program("keytrail-agent"), "-r", harness.capture(scenario, host), "-q", "--collector",
                 f"ipc://{folder}/nobody", "--wait", "1s", "--spool", spools[host], "--agent-name", host, "--role",
                 host[:-1], *options_of(host)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for host, agent in agents.items():
            words = b"".join(agent.communicate(timeout=300))
            self.assertEqual(agent.returncode, harness.INCOMPLETE, words)
            left += spool_payloads(spools[host]) + words
        collector = Collector(folder)
        # Without keys of its own the wire is there to be read, as it would be decrypted.
        harness.wait_listening(collector.process, collector.address)
        wire = Proxy(int(collector.address.rsplit(":", 1)[1]))
        try:
            for host in harness.HOSTS:
                drained = harness.run([harness.program("keytrail-agent"), "--drain", "-q", "--spool", spools[host],
                                       "--collector", f"tcp://127.0.0.1:{wire.port}", "--agent-name", host, "--role",
                                       host[:-1]])
                self.assertEqual(drained.returncode, harness.DONE, drained.stderr)
        finally:
            wire.close()
            collector.stop()
        data = os.path.join(folder, "data")
        out = {"spool": left, "wire": wire_payloads(b"\0".join(wire.sent)), "database": every_file(data), "all files": every_file(folder)}
        report = harness.run([harness.program("keytrail"), "verdicts", "--db", data, "--json"])
        exports = [report, harness.run([harness.program("keytrail"), "verdicts", "--db", data])]
        for query in ("select * from calls", "select * from statements", "select * from errors", "select * from evidence"):
            for form in ("csv", "json"):
                exports.append(harness.run([harness.program("keytrail"), "sql", "--db", data, "-e", query, "--format", form]))
        for form in ("text", "perfetto", "html"):
            exports.append(harness.run([harness.program("keytrail"), "timeline", "--db", data, "--verdict", "1",
                                        "--format", form]))
        for done in exports:
            self.assertIn(done.returncode, (harness.DONE, harness.FAILED, harness.INCOMPLETE), done.stderr)
        out["exports"] = "\n".join(done.stdout + done.stderr for done in exports).encode()
        return json.loads(report.stdout), out

    def needles(self, scenario):
        found, values = set(), set()
        for host in harness.HOSTS:
            records, _, _ = harness.agent_json(harness.capture(scenario, host))
            keys_in(records, found)
            values |= values_in(harness.capture(scenario, host))
        found = {key for key in found if len(key) >= 8 and len(set(key)) >= 5}
        self.assertGreater(len(found), 100)
        chosen = random.Random(1).sample(sorted(found), min(MOST_NEEDLES, len(found)))
        return {form for key in chosen for form in forms(key)}, set(sorted(values)[:MOST_NEEDLES])

    def test_the_same_verdicts_and_no_key(self):
        secret = self.secret("secret")
        for scenario in harness.scenarios():
            if not ALL and (scenario.large or scenario.name not in SOME):
                continue
            with self.subTest(scenario=scenario.name, large=scenario.large):
                mark = f"{scenario.name}_{scenario.large}"
                keys, values = self.needles(scenario)
                plain, leaves = self.collect(scenario, lambda host: [], mark + "_off")
                # What verdicts are about stands in the exports, whatever was chosen.
                keys |= {form for v in plain["verdicts"] if v["key"] for form in forms(bytes.fromhex(v["key"]))}
                redacted, left = self.collect(scenario, lambda host: ["--redact", "on", "--redact-secret", secret], mark)
                self.assertEqual(essence(redacted), essence(plain))
                self.assertEqual(redacted["checked"]["key_forms"], 1)
                seen = {}
                for where, data in leaves.items():
                    seen[where] = sum(needle in data for needle in keys)
                    # The search finds what is there. Exports of a healthy cluster may show none of the keys chosen.
                    if where != "exports" or plain["verdicts"]:
                        self.assertGreater(seen[where], 0, where)
                for where, data in left.items():
                    for needle in keys | values:
                        self.assertFalse(needle in data, (where, needle))
                wire = b"".join(pcap_file.load(harness.capture(scenario, host)) for host in harness.HOSTS)
                print(f"{mark}: {len(redacted['verdicts'])} verdicts the same; of {len(keys)} forms of keys and {len(values)} "
                      f"values none left (without --redact: {seen}; in the captures {sum(v in wire for v in values)} of "
                      f"the values)", flush=True)

    def test_two_secrets_are_not_compared(self):
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide" and not s.large)
        secrets = {host: self.secret("secret_" + ("b" if host == "tikv1" else "a") + host) for host in harness.HOSTS}
        for host in ("tidb2", "pd1"):
            secrets[host] = secrets["tidb1"]
        report, _ = self.collect(scenario, lambda host: ["--redact", "on", "--redact-secret", secrets[host]], "two")
        self.assertEqual(report["verdicts"], [])
        self.assertEqual(report["checked"]["key_forms"], 2)
        self.assertIn("tikv1", " ".join(report["inconclusive"][0]["missing"]))
        mixed, _ = self.collect(scenario, lambda host: [] if host == "pd1" else
                                ["--redact", "on", "--redact-secret", secrets["tidb1"]], "mixed")
        self.assertEqual(mixed["verdicts"], [])
        self.assertIn("pd1", " ".join(mixed["inconclusive"][0]["missing"]))
        # Who redacts how, and that it differs, is said at once and to whoever asks for the agents.
        data = os.path.join(self.scratch, "mixed", "data")
        agents = json.loads(harness.run([harness.program("keytrail"), "agents", "--db", data, "--json"]).stdout)
        self.assertEqual({a["host"]: a["redaction"] for a in agents["agents"] if a["records"]},
                         {host: "off" if host == "pd1" else "on" for host in harness.HOSTS})
        shown = {a["redact_secret"] for a in agents["agents"] if a["redaction"] == "on"}
        self.assertEqual(shown, {self.fingerprint(secrets["tidb1"])})
        self.assertIn("--redact off at pd1", agents["warning"])
        text = harness.run([harness.program("keytrail"), "agents", "--db", data]).stdout
        self.assertIn("warning: agents tell keys in different forms", text)
        self.assertIn(f"on {shown.pop()}", text)
        with open(os.path.join(self.scratch, "mixed", "collector.stderr"), encoding="utf-8") as told:
            self.assertEqual(told.read().count("agents tell keys in different forms"), 1)

    def fingerprint(self, secret):
        """As every token of it has it."""
        token = harness.run([harness.program("keytrail"), "keys", "token", "7480", "--secret", secret]).stdout
        return token[6:16]

    def test_a_spool_has_one_form_of_keys(self):
        secret, other = self.secret("secret"), self.secret("other")
        spool = os.path.join(self.scratch, "spool")
        agent = [harness.program("keytrail-agent"), "-r", harness.capture(harness.scenarios()[0], "tidb1"), "-q", "--spool", spool]
        start = [*agent, "--collector", f"ipc://{self.scratch}/nobody", "--wait", "1s"]
        on = ["--redact", "on", "--redact-secret"]
        kept = harness.run([*start, *on, secret])
        self.assertEqual(kept.returncode, harness.INCOMPLETE, kept.stderr)
        before = every_file(spool)
        for options in ([], [*on, other]):
            refused = harness.run([*start, *options])
            self.assertEqual(refused.returncode, harness.FAILED, refused.stderr)
            self.assertIn(self.fingerprint(secret), refused.stderr)
            self.assertIn("--drain", refused.stderr)
        self.assertEqual(every_file(spool), before)
        again = harness.run([*start, *on, secret])
        self.assertEqual(again.returncode, harness.INCOMPLETE, again.stderr)
        collector = Collector(self.scratch)
        try:
            drained = harness.run([harness.program("keytrail-agent"), "--drain", "--spool", spool, "--collector",
                                   collector.address])
            self.assertEqual(drained.returncode, harness.DONE, drained.stderr)
            emptied = harness.run([*agent, "--collector", collector.address])
            self.assertIn(emptied.returncode, (harness.DONE, harness.INCOMPLETE), emptied.stderr)
        finally:
            collector.stop()
        agents = json.loads(harness.run([harness.program("keytrail"), "agents", "--json", "--db",
                                         os.path.join(self.scratch, "data")]).stdout)["agents"]
        self.assertEqual([a["redaction"] for a in agents if a["records"]], ["on", "on", "off"])

    def test_tokens_and_back(self):
        secret, other = self.secret("one"), self.secret("other")
        key = encoded(b"t\x80\0\0\0\0\0\0\x35_r\x80\0\0\0\0\0\x1f\x4c").hex()
        token = harness.run([harness.program("keytrail"), "keys", "token", key, "--secret", secret])
        self.assertEqual(token.returncode, harness.DONE, token.stderr)
        back = harness.run([harness.program("keytrail"), "keys", "reveal", token.stdout.strip(), "--secret", secret])
        self.assertEqual(back.stdout, f"{key}  t53_r8012\n")
        wrong = harness.run([harness.program("keytrail"), "keys", "reveal", token.stdout.strip(), "--secret", other])
        self.assertEqual(wrong.returncode, harness.FAILED)
        again = harness.run([harness.program("keytrail"), "keys", "secret", secret])
        self.assertEqual(again.returncode, harness.FAILED, "a secret is never written over")

    def test_marks_and_without_them(self):
        """--redact marker: without the marks what is printed is as ever, without the marked texts no key is left."""
        agent, keytrail = harness.program("keytrail-agent"), harness.program("keytrail")
        for name in SOME if ALL else SOME[:1]:
            scenario = next(s for s in harness.scenarios() if s.name == name and not s.large)
            keys, values = self.needles(scenario)
            seen = dict.fromkeys(("text", "hex", "json", "full", "json full"), 0)
            marked_texts = 0
            for host in harness.HOSTS:
                path = harness.capture(scenario, host)
                for form, options in (("text", []), ("hex", ["--keys", "hex"]), ("json", ["--json"]),
                                      ("full", ["--full"]), ("json full", ["--json", "--full"])):
                    plain = raw([agent, "-r", path, *options]).stdout
                    marked = raw([agent, "-r", path, *options, "--redact", "marker"]).stdout
                    left = raw([keytrail, "keys", "strip", "--unmark"], marked)
                    self.assertEqual(left.returncode, harness.DONE, left.stderr)
                    self.assertEqual(left.stdout, plain, (name, host, form))
                    file = os.path.join(self.scratch, "marked")
                    with open(file, "wb") as handle:
                        handle.write(marked)
                    stripped = raw([keytrail, "keys", "strip", file])
                    self.assertEqual(stripped.returncode, harness.DONE, stripped.stderr)
                    for needle in keys | values:
                        self.assertFalse(needle in stripped.stdout, (name, host, form, needle))
                    self.assertFalse("‹".encode() in stripped.stdout or b'value: "' in stripped.stdout, (name, host, form))
                    if form.startswith("json"):
                        for line in stripped.stdout.splitlines():
                            json.loads(line)
                    self.assertEqual(stripped.stdout.count(b"\n"), plain.count(b"\n"))
                    seen[form] += sum(needle in plain for needle in keys)
                    marked_texts += marked.count("‹".encode())
            for form, count in seen.items():
                self.assertGreater(count, 0, form)
            print(f"{name}: {marked_texts} texts marked; of {len(keys)} forms of keys none left (unmarked: {seen})", flush=True)

    def test_marks_stand_where_redaction_would_act(self):
        """--redact on is the oracle: what it changes or leaves out is marked, and nothing else is."""
        agent, secret = harness.program("keytrail-agent"), self.secret("secret")
        counts = {"marked": 0, "plain": 0}

        def compare(plain, on, stripped, where):
            if isinstance(plain, dict):
                self.assertEqual(plain.keys(), stripped.keys(), where)
                for name, value in plain.items():
                    if name != "key_form":  # on marks all keys as encoded
                        compare(value, on.get(name) if isinstance(on, dict) else None, stripped[name], [*where, name])
            elif isinstance(plain, list) and isinstance(on, list):
                self.assertTrue(len(plain) == len(on) == len(stripped), where)
                for n, parts in enumerate(zip(plain, on, stripped)):
                    compare(*parts, [*where, n])
            else:
                self.assertEqual(stripped, plain if plain == on else "?", where)
                counts["plain" if plain == on else "marked"] += 1

        for host in harness.HOSTS:
            path = harness.capture(next(s for s in harness.scenarios() if s.name == "pd_wide" and not s.large), host)
            plain = raw([agent, "-r", path, "--json"]).stdout
            on = raw([agent, "-r", path, "--json", "--redact", "on", "--redact-secret", secret]).stdout
            marked = raw([agent, "-r", path, "--json", "--redact", "marker"]).stdout
            stripped = raw([harness.program("keytrail"), "keys", "strip"], marked).stdout
            lines = [[json.loads(line) for line in text.splitlines()] for text in (plain, on, stripped)]
            self.assertTrue(len(lines[0]) == len(lines[1]) == len(lines[2]))
            for n, parts in enumerate(zip(*lines)):
                compare(*parts, [host, n])
        self.assertGreater(counts["marked"], 1000)
        self.assertGreater(counts["plain"], 1000)

    def test_a_marked_file_that_was_cut(self):
        marked = "key=‹7480› text=‹74".encode()
        done = raw([harness.program("keytrail"), "keys", "strip"], marked)
        self.assertEqual((done.returncode, done.stdout), (harness.INCOMPLETE, b"key=? text=?"))
        gone = harness.run([harness.program("keytrail"), "keys", "strip", os.path.join(self.scratch, "none")])
        self.assertEqual(gone.returncode, harness.FAILED)
        self.assertIn("none", gone.stderr)

    def test_an_investigation_on_the_spot(self):
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide" and not s.large)
        secret = self.secret("secret")
        files = [f"{host}={harness.capture(scenario, host)}" for host in harness.HOSTS]
        keys, values = self.needles(scenario)
        out = {}
        for name, options in (("off", []), ("on", ["--redact", "on", "--redact-secret", secret])):
            folder = os.path.join(self.scratch, name)
            os.mkdir(folder)
            report, _ = harness.investigate(["--db", os.path.join(folder, "one.db"), *options, *files])
            text = harness.run([harness.program("keytrail"), "investigate", *options, *files])
            out[name] = report, every_file(folder) + "".join((json.dumps(report), text.stdout, text.stderr)).encode()
        self.assertGreater(len(out["off"][0]["verdicts"]), 0)
        self.assertEqual(essence(out["on"][0]), essence(out["off"][0]))
        self.assertGreater(sum(needle in out["off"][1] for needle in keys), 0)
        for needle in keys | values:
            self.assertFalse(needle in out["on"][1], needle)
        for options in (["--redact", "on"], ["--redact-secret", secret], ["--redact", "marker"]):
            wrong = harness.run([harness.program("keytrail"), "investigate", *options, *files])
            self.assertEqual(wrong.returncode, harness.USAGE, options)
        missing = harness.run([harness.program("keytrail"), "investigate", "--redact", "on", "--redact-secret",
                               os.path.join(self.scratch, "none"), *files])
        self.assertEqual(missing.returncode, harness.FAILED)
        self.assertIn("none", missing.stderr)

    def test_what_is_refused(self):
        agent, path = harness.program("keytrail-agent"), harness.capture(harness.scenarios()[0], "tidb1")
        secret = self.secret("secret")
        for options in (["--redact", "on"], ["--redact", "on", "--redact-secret", secret, "--full"],
                        ["--redact", "on", "--redact-secret", secret, "--raw"], ["--redact-secret", secret],
                        ["--redact", "marker", "--redact-secret", secret],
                        ["--redact", "marker", "--collector", "127.0.0.1:1"]):
            self.assertEqual(harness.run([agent, "-r", path, *options]).returncode, harness.USAGE, options)
        drain = harness.run([agent, "--drain", "--spool", self.scratch, "--collector", f"ipc://{self.scratch}/nobody",
                             "--wait", "1s", "--redact", "on", "--redact-secret", secret])
        self.assertEqual(drain.returncode, harness.USAGE, drain.stderr)
        os.chmod(secret, 0o644)
        readable = harness.run([agent, "-r", path, "-q", "--redact", "on", "--redact-secret", secret])
        self.assertEqual(readable.returncode, harness.FAILED)
        self.assertIn(secret, readable.stderr)


if __name__ == "__main__":
    unittest.main()
