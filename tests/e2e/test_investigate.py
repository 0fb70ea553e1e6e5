#!/usr/bin/env python3
"""keytrail investigate names the guilty component of every scenario, with certainty, and nobody else.

What must be found is taken from truth.json and from a byte search for the store's own complaints
(tests/support/pcap_file.py), not from the program.
"""

import itertools
import os
import random
import shutil
import unittest

import harness
import pcap_file

NEAR_NS = 50 * 1000 * 1000  # clocks of the hosts are one clock; the estimate of their offset has an error


def true_complaints(scenario):
    """[(t_ns, client address, region or None, key)] that the store wrote, from the store's own capture."""
    if "complaints" in scenario.truth:
        return [(c["t_ns"], c["client"], c["region_id"], c["key"]) for c in scenario.truth["complaints"]]
    data = pcap_file.load(harness.capture(scenario, "tikv1"))
    return [(c.t_us * 1000, c.connection.client[0], c.region, c.key)
            for connection in pcap_file.connections(pcap_file.packets(data)) if connection.server[1] == 20160
            for c in pcap_file.complaints(connection)]


def essence(report):
    """What must not depend on names and order of the files."""
    return {
        "verdicts": sorted((v["component"], v["confidence"], v["rule"], v["client"], v["server"], v["region_id"],
                            v["version"], v["key"], v["occurrences"], v["first_ns"], v["last_ns"])
                           for v in report["verdicts"]),
        "inconclusive": sorted((sorted(i["suspects"]), sorted(i["missing"]), i["occurrences"])
                               for i in report["inconclusive"]),
        "benign": report["benign"],
        "calls": report["calls"],
        "hosts": sorted((h["address"], h["role"]) for h in report["hosts"]),
    }


class Investigate(harness.ProgramTest):
    def files(self, scenario):
        return [harness.capture(scenario, host) for host in harness.HOSTS]

    def check_whole(self, scenario, report):
        guilty = scenario.truth["guilty"]
        self.assertEqual(report["inconclusive"], [])
        self.assertEqual({v["component"] for v in report["verdicts"]}, set() if guilty == "none" else {guilty})
        for verdict in report["verdicts"]:
            self.assertEqual(verdict["confidence"], "certain", verdict["text"])
            self.assertEqual(verdict["weakened_by"], [], verdict["text"])
            self.assertTrue(verdict["text"].strip())
            self.assertTrue(verdict["evidence"])
            self.assertLessEqual(verdict["first_ns"], verdict["last_ns"])
        if guilty == "none":
            # Connections are older than the captures; some of what is said on them cannot be named.
            self.assertEqual([l for l in report["losses"] if l["kind"] != "method_unread"], [])
        roles = {h["address"]: h["role"] for h in report["hosts"]}
        for host in harness.HOSTS:
            self.assertEqual(roles.get(scenario.truth["hosts"][host]["address"]), host[:-1], roles)

    def occurrence_of(self, report, t_ns, client, region, key):
        """A verdict that covers this complaint, or None."""
        for verdict in report["verdicts"]:
            if client and verdict["client"] != client and verdict["component"] != "pd":
                continue
            for item in verdict.get("occurrence_list", []):
                if (abs(item["t_ns"] - t_ns) <= NEAR_NS and (region is None or item["region_id"] == region) and
                        (not key or item.get("key", key) in (key, None))):
                    return verdict
        return None

    def check_occurrences(self, scenario, report):
        complaints = true_complaints(scenario)
        for t_ns, client, region, key in complaints:
            self.assertIsNotNone(self.occurrence_of(report, t_ns, client, region, None),
                                 f"complaint at {t_ns} about region {region}, key {key} is in no verdict")
        faults = {(f["region_id"], f["version"]) for f in scenario.truth["faults"]}
        for verdict in report["verdicts"]:
            # No verdict about a region and version that nobody touched.
            self.assertIn((verdict["region_id"], verdict["version"]), faults, verdict["text"])
        # A fault drew a complaint if the store complained of its region and key at its time; a wrong PD answer
        # is a statement by itself.
        for fault in scenario.truth["faults"]:
            near = [c for c in complaints if abs(c[0] - fault["t_ns"]) <= NEAR_NS and c[2] in (None, fault["region_id"])]
            if fault["component"] == "pd":
                near = [(fault["t_ns"], None, fault["region_id"], None)]
            for t_ns, client, region, key in near:
                verdict = self.occurrence_of(report, t_ns, client, region, None)
                self.assertIsNotNone(verdict, f"fault {fault} is in no verdict")
                self.assertEqual((verdict["region_id"], verdict["version"]), (fault["region_id"], fault["version"]))

    def test_scenarios(self):
        for scenario in harness.scenarios():
            with self.subTest(scenario=scenario.name, large=scenario.large):
                report, _ = harness.investigate(self.files(scenario))
                self.check_whole(scenario, report)
                self.check_occurrences(scenario, report)
                if scenario.name in ("healthy", "modern_healthy") and scenario.large:
                    self.assertGreater(report["benign"].get("stale_route", 0), 0, report["benign"])

    def test_names_and_order_change_nothing(self):
        shuffle = random.Random(1)
        for scenario in harness.scenarios():
            with self.subTest(scenario=scenario.name, large=scenario.large):
                expected = essence(harness.investigate(self.files(scenario))[0])
                files = self.files(scenario)
                shuffle.shuffle(files)
                renamed = []
                for i, path in enumerate(files):
                    target = os.path.join(self.scratch, f"{i}-{os.path.basename(path)[::-1].strip('.')}.pcap.zst")
                    shutil.copyfile(path, target)
                    renamed.append(target)
                self.assertEqual(essence(harness.investigate(renamed)[0]), expected)

    def test_given_host_names_are_used(self):
        scenario = harness.scenarios()[0]
        report, _ = harness.investigate([f"{host}={harness.capture(scenario, host)}" for host in harness.HOSTS])
        self.assertEqual({h["host"] for h in report["hosts"]} & set(harness.HOSTS), set(harness.HOSTS))

    def test_one_host_left_out(self):
        for scenario, absent in itertools.product(harness.scenarios(), harness.HOSTS):
            with self.subTest(scenario=scenario.name, large=scenario.large, absent=absent):
                report, _ = harness.investigate(
                    [harness.capture(scenario, host) for host in harness.HOSTS if host != absent])
                guilty = scenario.truth["guilty"]
                self.assertLessEqual({v["component"] for v in report["verdicts"]}, {guilty} - {"none"},
                                     [v["text"] for v in report["verdicts"]])
                for verdict in report["verdicts"]:
                    if verdict["confidence"] != "certain":
                        self.assertEqual(verdict["confidence"], "inferred")
                        self.assertTrue(verdict["weakened_by"], verdict["text"])
                for entry in report["inconclusive"]:
                    self.assertIn(guilty, entry["suspects"])
                    self.assertTrue(entry["missing"])
                if guilty == "none":
                    self.assertEqual(report["inconclusive"], [])

    def test_wrong_clocks(self):
        """A host whose clock is 350 ms ahead: the same verdicts, and the offset is found within its error."""
        skew_us = 350000
        for scenario in harness.scenarios():
            if scenario.large:
                continue
            with self.subTest(scenario=scenario.name):
                files = self.files(scenario)
                expected, _ = harness.investigate([f"{h}={f}" for h, f in zip(harness.HOSTS, files)])
                shifted = [(p.t_us + skew_us, p.frame) for p in pcap_file.packets(pcap_file.load(files[0]))]
                files[0] = self.write("shifted.pcap", pcap_file.encode(shifted))
                report, _ = harness.investigate([f"{h}={f}" for h, f in zip(harness.HOSTS, files)])
                self.check_whole(scenario, report)

                def causes(some):
                    return sorted((v["component"], v["rule"], v["client"], v["region_id"], v["version"],
                                   v["occurrences"]) for v in some["verdicts"])
                self.assertEqual(causes(report), causes(expected))
                hosts = {h["host"]: h for h in report["hosts"]}
                said = hosts["tidb1"]["clock_offset_ns"] - (hosts["tikv1"]["clock_offset_ns"] or 0)
                error = (hosts["tidb1"]["offset_error_ns"] or 0) + (hosts["tikv1"]["offset_error_ns"] or 0)
                self.assertLessEqual(abs(said - skew_us * 1000), error + 50000, hosts)

    def test_database_is_written(self):
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        path = os.path.join(self.scratch, "out.db")
        report, _ = harness.investigate(self.files(scenario), "--db", path)
        import sqlite3
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("select count(*) from verdicts").fetchone()[0],
                             len(report["verdicts"]) + len(report["inconclusive"]))
            self.assertGreaterEqual(database.execute("select count(*) from calls").fetchone()[0], report["calls"])
            self.assertEqual(database.execute("pragma integrity_check").fetchone()[0], "ok")
        again = harness.run([harness.program("keytrail"), "verdicts", "--db", path, "--json"])
        self.assertEqual(again.returncode, harness.DONE, again.stderr)
        import json
        self.assertEqual(essence(json.loads(again.stdout)), essence(report))

    def test_page_for_people_fits(self):
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        result = harness.run([harness.program("keytrail"), "investigate", *self.files(scenario)])
        self.assertIn(result.returncode, (harness.DONE, harness.INCOMPLETE), result.stderr)
        lines = result.stdout.splitlines()
        self.assertLessEqual(max(map(len, lines)), 100)
        self.assertLessEqual(len(lines), 30)
        said = [line for line in lines if " is wrong" in line]
        self.assertTrue(said and all(line.startswith("PD is wrong") for line in said), result.stdout)
        self.assertLess(lines.index(said[0]), 4)

    def test_graces_are_checked(self):
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        for text, problem in (("pd=x", "'x' is no number of seconds"), ("pd=-1", "'-1' is no number"),
                              ("pd", "'pd' is not pd, follower, store, client, address or hole"),
                              ("tidb=1", "'tidb=1' is not pd, follower"), ("pd=nan", "'nan' is no number")):
            result = harness.run([harness.program("keytrail"), "investigate", "--grace", text, *self.files(scenario)])
            self.assertEqual(result.returncode, 2, text)
            self.assertIn(problem, result.stderr + result.stdout)
        whole, _ = harness.investigate(self.files(scenario))
        given, _ = harness.investigate(self.files(scenario), "--grace", "pd=5", "--grace", "client=0.5")
        self.assertEqual(essence(whole), essence(given))


if __name__ == "__main__":
    unittest.main()
