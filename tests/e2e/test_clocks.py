#!/usr/bin/env python3
"""Captures of one cluster whose hosts' clocks are minutes apart and drift: the same verdicts, offsets that are true
within their own bounds, and no answer before its question.

The recorded hosts share one clock, so what was done to their time stamps here is the whole truth about them.

KEYTRAIL_CLOCK_SEEDS=N   clocks for each scenario (default 1)
KEYTRAIL_CLOCK_ALL=1     the large scenarios, too
"""

import bisect
import collections
import os
import random
import sqlite3
import unittest

import harness  # first: it makes tests/support known
import mutate
import pcap_file

SEEDS = int(os.environ.get("KEYTRAIL_CLOCK_SEEDS", "1"))
ALL = os.environ.get("KEYTRAIL_CLOCK_ALL") == "1"
MOST_SHIFT_MS = 10 * 60 * 1000
MOST_DRIFT_PPM = 200


class Clock:
    """What was done to one host's stamps; times are in microseconds, as in the captures."""

    def __init__(self, packets, shift_ms, ppm, set_at_s=None, set_by_ms=0):
        self.first = packets[0].t_us
        self.last = packets[-1].t_us
        self.shift, self.rate = shift_ms * 1000, ppm / 1e6
        self.moment = None if set_at_s is None else self.first + round(set_at_s * 1e6)
        self.by = set_by_ms * 1000
        self.steps = [] if set_at_s is None else [("set", f"{set_at_s}:{set_by_ms}")]
        self.steps += [("drift", ppm), ("shift", shift_ms)]
        if set_at_s is not None:  # the drift would count from the stamps that were set
            assert ppm == 0

    def reading(self, true_us):
        stepped = self.by if self.moment is not None and true_us >= self.moment else 0
        return true_us + (true_us - self.first) * self.rate + self.shift + stepped


def random_clock(rng, packets):
    return Clock(packets, round(rng.uniform(-MOST_SHIFT_MS, MOST_SHIFT_MS), 3),
                 round(rng.uniform(-MOST_DRIFT_PPM, MOST_DRIFT_PPM), 1))


def verdicts(report):
    """What clocks must not change."""
    return {
        "verdicts": sorted((v["component"], v["rule"], v["confidence"], v["client"], v["server"], v["region_id"],
                            v["version"], v["key"], v["occurrences"], tuple(v["weakened_by"]))
                           for v in report["verdicts"]),
        "inconclusive": sorted((tuple(i["suspects"]), tuple(i["missing"]), i["region_id"], i["version"],
                                i["occurrences"]) for i in report["inconclusive"]),
        "benign": report["benign"],
        "calls": report["calls"],
    }


class Rows:
    """clock_offsets of one pair of hosts, by time."""

    def __init__(self, rows):
        self.rows = sorted(rows, key=lambda r: r["from_ns"])
        self.starts = [r["from_ns"] for r in self.rows]

    def at(self, t_ns):
        """[(offset, error)] of the rows that speak of this reading."""
        found = []
        for row in self.rows[max(0, bisect.bisect_right(self.starts, t_ns) - 3):]:
            if row["from_ns"] > t_ns:
                break
            if t_ns <= row["to_ns"]:
                drift = (row["drift_ppb"] or 0) * (t_ns - row["from_ns"]) / 1e9
                found.append((row["offset_ns"] + drift, row["error_ns"]))
        return found


class Clocks(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.bounds, self.checked, self.pairs, self.turned = [], 0, 0, 0

    def scenarios(self):
        return [s for s in harness.scenarios() if ALL or not s.large]

    def run_with(self, packets, clocks):
        files = []
        for host in harness.HOSTS:
            data = mutate.mutate(packets[host], clocks[host].steps)
            files.append(f"{host}=" + self.write(f"{host}.pcap", data))
        path = os.path.join(self.scratch, "out.db")
        if os.path.exists(path):
            os.remove(path)
        report, _ = harness.investigate(files, "--db", path)
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        self.addCleanup(database.close)
        return report, database

    def check_offsets(self, database, clocks):
        """Every row of clock_offsets against what was done, all over its time."""
        pairs = collections.defaultdict(list)
        for row in database.execute("select * from clock_offsets"):
            self.assertIn(row["relation"], ("direct", "path"), dict(row))
            self.assertLessEqual(row["from_ns"], row["to_ns"])
            pairs[row["host"], row["reference"], row["relation"]].append(row)
        rows = {pair: Rows(some) for pair, some in pairs.items()}
        for (host, reference, _), some in rows.items():
            mine, other = clocks[host], clocks[reference]
            seen = 0
            for i in range(2001):
                true_us = mine.first + (mine.last - mine.first) * i / 2000
                reading = mine.reading(true_us)
                truth = (reading - other.reading(true_us)) * 1000
                for offset, error in some.at(reading * 1000):
                    self.assertLessEqual(abs(offset - truth), error, (host, reference, true_us - mine.first))
                    self.bounds.append(error)
                    seen += 1
            self.assertGreater(seen, 0, (host, reference))
            self.checked += seen
        return rows

    def check_hosts(self, report, clocks):
        reference = report["hosts"][0]["reference"]
        for host in report["hosts"]:
            self.assertEqual(host["reference"], reference)
            if host["host"] == reference:
                self.assertEqual((host["clock_offset_ns"], host["offset_error_ns"]), (0, 0))
                continue
            mine, other = clocks[host["host"]], clocks[reference]
            true_us = mine.first + (host["clock_at_ns"] / 1000 - mine.shift - mine.first) / (1 + mine.rate)
            truth = (mine.reading(true_us) - other.reading(true_us)) * 1000
            self.assertLessEqual(abs(host["clock_offset_ns"] - truth), host["offset_error_ns"], host)

    def check_order(self, report, database, rows):
        """On the reference's clock no answer comes before its question, on any machine."""
        reference = report["hosts"][0]["reference"]

        def corrected(host, t_ns):
            if host == reference:
                return t_ns, 0
            for relation in ("direct", "path"):
                if (host, reference, relation) in rows:
                    for offset, error in rows[host, reference, relation].at(t_ns):
                        return t_ns - offset, error
            return None
        views = collections.defaultdict(list)
        for row in database.execute(
                "select c.*, a.name as host from calls c join agents a on a.id = c.agent where req_first_ns is not"
                " null and resp_first_ns is not null and (request_id is not null or kind = 'unary')"):
            views[row["client"], row["server"], row["stream"], row["request_id"]].append(row)
        addresses = {h["address"]: h["host"] for h in report["hosts"]}
        for (client, server, _, _), both in views.items():
            ends = {r["host"]: r for r in both}
            at_client = ends.get(addresses.get(client.rsplit(":", 1)[0]))
            at_server = ends.get(addresses.get(server.rsplit(":", 1)[0]))
            if len(both) != 2 or at_client is None or at_server is None or at_client is at_server:
                continue
            asked = corrected(at_client["host"], at_client["req_first_ns"])
            heard = corrected(at_server["host"], at_server["req_first_ns"])
            answered = corrected(at_server["host"], at_server["resp_first_ns"])
            got = corrected(at_client["host"], at_client["resp_first_ns"])
            if None in (asked, heard, answered, got):
                continue
            self.pairs += 1
            self.assertLessEqual(asked[0], answered[0], dict(at_client))
            self.assertLessEqual(heard[0], got[0], dict(at_client))
            # What is nearer than the bounds may look turned round, by no more than the bounds.
            self.assertLessEqual(asked[0] - heard[0], asked[1] + heard[1], dict(at_client))
            self.assertLessEqual(answered[0] - got[0], answered[1] + got[1], dict(at_client))
            self.turned += asked[0] > heard[0] or answered[0] > got[0]
        for verdict in report["verdicts"] + report["inconclusive"]:
            used = [e["t_reference_ns"] for e in verdict["evidence"] if e["what"] == "request"]
            refused = [e["t_reference_ns"] for e in verdict["evidence"] if e["what"] == "complaint"]
            for question, answer in zip(used, refused):
                self.assertLessEqual(question, answer, verdict["text"])

    def test_clocks_apart_and_drifting(self):
        for scenario in self.scenarios():
            packets = {h: list(pcap_file.packets(pcap_file.load(harness.capture(scenario, h))))
                       for h in harness.HOSTS}
            still = {h: Clock(packets[h], 0, 0) for h in harness.HOSTS}
            expected = verdicts(self.run_with(packets, still)[0])
            for seed in range(SEEDS):
                with self.subTest(scenario=scenario.name, large=scenario.large, seed=seed):
                    rng = random.Random(f"{scenario.name} {scenario.large} {seed}")
                    clocks = {h: random_clock(rng, packets[h]) for h in harness.HOSTS}
                    self.bounds, self.checked, self.pairs, self.turned = [], 0, 0, 0
                    report, database = self.run_with(packets, clocks)
                    self.assertEqual(verdicts(report), expected)
                    rows = self.check_offsets(database, clocks)
                    self.check_hosts(report, clocks)
                    self.assertEqual({h["clock_steps"] for h in report["hosts"]}, {0}, report["hosts"])
                    self.check_order(report, database, rows)
                    self.assertGreater(self.pairs, 50)
                    self.assertGreater(self.checked, 3 * 1000)
                    self.bounds.sort()
                    print(f"{scenario.name}{' (large)' if scenario.large else ''} seed {seed}: {len(expected['verdicts'])} "
                          f"verdicts the same; {self.checked} offsets true, bound {self.bounds[len(self.bounds) // 2] / 1e6:.3f} "
                          f"ms in the median, {self.bounds[-1] / 1e6:.3f} ms at most; {self.pairs} calls at both ends in "
                          f"order, {self.turned} closer than their bound and turned round by less", flush=True)

    def test_a_clock_is_set(self):
        """While packets are recorded the clock of a host jumps: nobody else is blamed, and every bound still holds."""
        for scenario in self.scenarios():
            if scenario.large or scenario.name not in ("pd_wide", "tidb_neighbour"):
                continue
            packets = {h: list(pcap_file.packets(pcap_file.load(harness.capture(scenario, h))))
                       for h in harness.HOSTS}
            for host, by_ms in (("tidb1", 1500), ("tikv1", -800), ("pd1", 2500), ("pd1", -400)):
                with self.subTest(scenario=scenario.name, host=host, by_ms=by_ms):
                    clocks = {h: Clock(packets[h], 0, 0) for h in harness.HOSTS}
                    length_s = (packets[host][-1].t_us - packets[host][0].t_us) / 1e6
                    clocks[host] = Clock(packets[host], 0, 0, round(length_s * 0.6, 3), by_ms)
                    report, database = self.run_with(packets, clocks)
                    self.check_offsets(database, clocks)
                    self.assertLessEqual({v["component"] for v in report["verdicts"]}, {scenario.truth["guilty"]})
                    self.assertGreater(sum(h["clock_steps"] for h in report["hosts"]), 0, report["hosts"])

    def test_unrelated_hosts_are_told(self):
        """Two hosts that share no call: said so, and not guessed."""
        scenario = next(s for s in harness.scenarios() if s.name == "pd_wide" and not s.large)
        path = os.path.join(self.scratch, "two.db")
        report, _ = harness.investigate([f"{h}={harness.capture(scenario, h)}" for h in ("tidb1", "tidb2")],
                                        "--db", path)
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            rows = database.execute("select relation, offset_ns, error_ns, calls from clock_offsets").fetchall()
        self.assertEqual(rows, [("unrelated", None, None, 0)])
        self.assertEqual(sum(h["clock_offset_ns"] is None for h in report["hosts"]), 1)


if __name__ == "__main__":
    unittest.main()
