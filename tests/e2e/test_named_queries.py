#!/usr/bin/env python3
"""Each saved query of `keytrail sql --named` on a database of the bundled captures, against what `keytrail-agent --json`
says of the same files."""

import collections
import json
import os
import re
import tempfile
import unittest

import harness

LOOKUPS = ("GetRegion", "GetPrevRegion", "GetRegionByID", "QueryRegion", "ScanRegions", "BatchScanRegions")
NOT_IN_REGION = ("key_not_in_region", "key_out_of_region", "range_exceeds_bound")


class NamedQueries(harness.ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.database = os.path.join(cls.folder.name, "i.db")
        cls.scenario = next(s for s in harness.scenarios() if s.name == "pd_wide")
        files = {host: harness.capture(cls.scenario, host) for host in harness.HOSTS}
        cls.report, _ = harness.investigate(["--db", cls.database] + [f"{h}={path}" for h, path in files.items()])
        # (host, record) of all observations.
        cls.records = [(host, record) for host, path in files.items() for record in harness.agent_json(path)[0]]
        cls.asked = set()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
        # A query that no test here asks is not tested.
        listed = harness.run([harness.program("keytrail"), "sql", "--named"]).stdout
        names = {line.split()[0] for line in listed.splitlines()}
        if len(cls.asked) > 1 and cls.asked != names:
            raise AssertionError(f"saved queries without a test: {names ^ cls.asked}")

    def rows(self, name, **parameters):
        self.asked.add(name)
        more = [word for key, value in parameters.items() for word in ("--param", f"{key}={value}")]
        result = harness.run([harness.program("keytrail"), "sql", "--db", self.database, "--named", name, "--format",
                              "json", *more])
        self.assertEqual(result.returncode, harness.DONE, result.stderr)
        return json.loads(result.stdout)

    def errors(self):
        """(host, record, error, region) of all errors."""
        for host, record in self.records:
            for error in record["errors"]:
                yield host, record, error, error.get("region_id") or record.get("region_id")

    def statements(self):
        """(host, record, statement) of all."""
        for host, record in self.records:
            for statement in record.get("request_statements", []) + record.get("statements", []):
                yield host, record, statement

    def lookups(self):
        for host, record in self.records:
            if record["method"] and record["method"].split("/")[-1] in LOOKUPS and record["kind"] != "stream":
                yield host, record

    @staticmethod
    def latency(record):
        if record["req_first_ns"] is None or record["resp_last_ns"] is None:
            return None
        return record["resp_last_ns"] - record["req_first_ns"]

    @staticmethod
    def what(record):
        return record["command"] or record["method"]

    def test_agents(self):
        counted = collections.Counter(host for host, _ in self.records)
        rows = self.rows("agents")
        self.assertEqual({row["host"]: row["records"] for row in rows}, counted)

    def test_connections(self):
        counted = collections.Counter((host, r["client"], r["server"], r["joined"]) for host, r in self.records)
        rows = self.rows("connections")
        self.assertEqual({(r["observer"], r["client"], r["server"], r["joined"]): r["calls"] for r in rows}, counted)
        self.assertEqual([r["calls"] for r in rows], sorted(counted.values(), reverse=True))

    def test_contradictions(self):
        ranges = collections.defaultdict(collections.Counter)
        for _, _, s in self.statements():
            if "version" in s:
                ranges[s["region_id"], s["version"]][s["start"], s["end"]] += 1
        expected = sorted((region, version, count) for (region, version), seen in ranges.items() if len(seen) > 1
                          for count in seen.values())
        rows = self.rows("contradictions")
        self.assertEqual(sorted((r["region_id"], r["version"], r["statements"]) for r in rows), expected)
        self.assertGreater(len(rows), 0)

    def test_errors_by_region(self):
        counted = collections.Counter((region, error["kind"]) for _, _, error, region in self.errors())
        rows = self.rows("errors-by-region")
        self.assertEqual({(r["region_id"], r["kind"]): r["observations"] for r in rows}, counted)
        self.assertGreater(len(rows), 3)

    def test_evidence(self):
        verdict = self.report["verdicts"][0]
        rows = self.rows("evidence", verdict=verdict["id"])
        self.assertEqual([(r["call_id"], r["region_id"]) for r in rows],
                         [(e["call_id"], e["region_id"]) for e in verdict["evidence"]])

    def test_hosts(self):
        rows = self.rows("hosts")
        self.assertEqual([(r["host"], r["role"]) for r in rows], [(h["host"], h["role"]) for h in self.report["hosts"]])

    def test_incomplete_calls(self):
        order = ("request_not_seen", "response_not_seen", "headers_not_seen", "gap", "cut", "over_cap",
                 "unknown_encoding", "malformed")
        counted = collections.Counter((host, ",".join(sorted(r["incomplete"], key=order.index)), r["kind"])
                                      for host, r in self.records if r["incomplete"])
        rows = self.rows("incomplete-calls")
        self.assertEqual({(r["observer"], r["reason"], r["kind"]): r["calls"] for r in rows}, counted)

    def test_key_not_in_region(self):
        expected = sorted((r["resp_last_ns"] // 1000 % 10**6, host, e["kind"], region) for host, r, e, region in self.errors()
                          if e["kind"] in NOT_IN_REGION)
        rows = self.rows("key-not-in-region")
        self.assertEqual(sorted((int(row["time"][-6:]), row["observer"], row["kind"], row["region_id"]) for row in rows),
                         expected)
        self.assertTrue(all(row["key"] or row["range_start"] for row in rows))
        self.assertTrue(all(re.match(r"t\d*", row["region_start"]) for row in rows))

    def test_key_owners(self):
        key = next(e["key"] for _, _, e, _ in self.errors() if e["kind"] == "key_out_of_region")
        counted = collections.Counter((s["region_id"], s.get("version")) for _, _, s in self.statements()
                                      if s["start"] <= key and (s["end"] == "" or key < s["end"]))
        rows = self.rows("key-owners", key="0x" + key)
        got = collections.Counter()
        for row in rows:
            got[row["region_id"], row["version"]] += row["statements"]
        self.assertEqual(got, counted)
        self.assertGreater(len(rows), 1)

    def test_lookups_by_region(self):
        counted = collections.Counter((s["region_id"], s["version"]) for _, r in self.lookups()
                                      for s in r.get("statements", []))
        rows = self.rows("lookups-by-region")
        self.assertEqual({(r["region_id"], r["version"]): r["observations"] for r in rows}, counted)

    def test_lookups_of_region(self):
        expected = sorted((host, self.latency(r)) for host, r in self.lookups()
                          for s in r.get("statements", []) if s["region_id"] == 12)
        rows = self.rows("lookups-of-region", region=12)
        self.assertEqual(sorted((r["observer"], round(r["ms"] * 1e6)) for r in rows), expected)
        self.assertEqual(len(self.rows("lookups-of-region", region=12, limit=2)), 2)

    def test_losses(self):
        late = collections.defaultdict(set)
        for host, r in self.records:
            if r["joined"] == "late":
                late[host].add(r["connection"])
        rows = self.rows("losses")
        self.assertEqual({r["host"]: r["count"] for r in rows if r["kind"] == "late_join"},
                         {host: len(serials) for host, serials in late.items()})

    def test_methods(self):
        counted = collections.Counter((r["method"], r["command"], r["kind"], r["method_from"]) for _, r in self.records)
        rows = self.rows("methods")
        self.assertEqual({(r["method"], r["command"], r["kind"], r["method_from"]): r["observations"] for r in rows},
                         counted)

    def test_not_leader(self):
        self.assertEqual(len(self.rows("not-leader")), sum(e["kind"] == "not_leader" for _, _, e, _ in self.errors()))

    def test_requests_of_region(self):
        expected = sorted((host, self.what(r), r["version"], ",".join(sorted({e["kind"] for e in r["errors"]})))
                          for host, r in self.records if r.get("region_id") == 13)
        rows = self.rows("requests-of-region", region=13, limit=100000)
        self.assertEqual(sorted((r["observer"], r["what"], r["version"], r["errors"] or "") for r in rows), expected)
        self.assertGreater(len(rows), 10)

    def test_routes_of_region(self):
        expected = collections.Counter((host, s["source"], s.get("version")) for host, _, s in self.statements()
                                       if s["region_id"] == 12)
        rows = self.rows("routes-of-region", region=12)
        self.assertEqual(collections.Counter((r["observer"], r["source"], r["version"]) for r in rows), expected)
        times = [row["time"] for row in rows if row["time"]]
        self.assertEqual(times, sorted(times))

    def test_slowest_lookups(self):
        expected = sorted((self.latency(r) for _, r in self.lookups() if self.latency(r) is not None), reverse=True)
        rows = self.rows("slowest-lookups", limit=7)
        self.assertEqual([round(row["ms"] * 1e6) for row in rows], expected[:7])

    def test_slowest_methods(self):
        latencies = collections.defaultdict(list)
        for _, r in self.records:
            if r["kind"] != "stream" and self.latency(r) is not None:
                latencies[self.what(r) or "?"].append(self.latency(r))
        rows = self.rows("slowest-methods")
        self.assertEqual({r["what"] for r in rows}, set(latencies))
        for row in rows:
            seen = sorted(latencies[row["what"]])
            self.assertEqual(row["observations"], len(seen))
            self.assertEqual(round(row["max_ms"] * 1e6), seen[-1])
            self.assertAlmostEqual(row["avg_ms"], sum(seen) / len(seen) / 1e6, places=2)
            # The smallest that is not exceeded by more than the rest.
            self.assertEqual(round(row["p50_ms"] * 1e6), seen[-(-len(seen) * 50 // 100) - 1], row["what"])
            self.assertEqual(round(row["p99_ms"] * 1e6), seen[-(-len(seen) * 99 // 100) - 1], row["what"])

    def test_slowest_requests(self):
        expected = sorted((self.latency(r) for _, r in self.records
                           if r.get("region_id") and "version" in r and self.latency(r) is not None), reverse=True)
        rows = self.rows("slowest-requests", limit=25)
        self.assertEqual([round(row["ms"] * 1e6) for row in rows], expected[:25])

    def test_sql_connection(self):
        # unistore's TiDB sends none; the query must still run.
        ids = [r["sql_connection"] for _, r in self.records if r.get("sql_connection")]
        self.assertEqual(len(self.rows("sql-connection", connection=ids[0] if ids else 1)),
                         ids.count(ids[0]) if ids else 0)

    def test_stale_routes(self):
        counted = collections.Counter((r["client"], region, r["version"]) for _, r, e, region in self.errors()
                                      if e["kind"] in ("epoch_not_match", "epoch_text"))
        rows = self.rows("stale-routes")
        self.assertEqual({(r["client"], r["region_id"], r["used_version"]): r["observations"] for r in rows}, counted)
        self.assertTrue(all(row["current_version"] > row["used_version"] for row in rows), rows)

    def test_stores(self):
        counted = collections.Counter((r["store_id"], r["server"]) for _, r in self.records if r.get("store_id"))
        rows = self.rows("stores")
        self.assertEqual({(r["store_id"], r["server"]): r["observations"] for r in rows}, counted)

    def test_transaction(self):
        counted = collections.Counter(r["start_ts"] for _, r in self.records if r.get("start_ts"))
        self.assertIn(2**64 - 1, counted)  # "the newest", which SQLite's integers do not hold as it is
        for start_ts, _ in counted.most_common(5):
            expected = sorted((host, self.what(r), r["region_id"]) for host, r in self.records
                              if r.get("start_ts") == start_ts)
            rows = self.rows("transaction", start_ts=start_ts)
            self.assertEqual(sorted((r["observer"], r["what"], r["region_id"]) for r in rows), expected)

    def test_wrong_routes(self):
        # PD's answers that truth.json holds to be altered, as far as the verdicts list them.
        rows = self.rows("wrong-routes")
        regions = {verdict["region_id"] for verdict in self.report["verdicts"]}
        self.assertEqual({row["region_id"] for row in rows}, regions)
        self.assertEqual({row["component"] for row in rows}, {"pd"})
        said = {(r["client"], s["region_id"], s["version"]) for _, r in self.lookups() for s in r.get("statements", [])}
        self.assertTrue({(row["client"], row["region_id"], row["version"]) for row in rows} <= said)


if __name__ == "__main__":
    unittest.main()
