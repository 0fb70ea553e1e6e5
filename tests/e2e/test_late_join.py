#!/usr/bin/env python3
"""Captures that begin in the middle, lose packets, or hold half of the traffic, against the whole ones: names,
pairs and keys are never false, most calls keep their names, and nobody else is called guilty.

The whole run is the oracle (tests/support/compare_runs.py). The large captures are cut at few places here;
tests/bench/late_join_table.py and damage_table.py do it at many.
"""

import json
import random
import unittest

import harness  # first: it makes tests/support known
import compare_runs
import mutate
import pcap_file

CUTS = 3
HOSTS = harness.HOSTS


def loaded(scenario, host):
    path = harness.capture(scenario, host)
    return path, list(pcap_file.packets(pcap_file.load(path)))


class LateJoin(harness.ProgramTest):
    def captures(self):
        for scenario in harness.scenarios():
            for host in HOSTS:
                # Of the large ones, the busiest host.
                if not scenario.large or host == "tikv1":
                    yield scenario, host

    def agent(self, packets):
        return compare_runs.run_agent(harness.program("keytrail-agent"), "-", packets)

    def check_nothing_false(self, v):
        self.assertEqual((v.false_names, v.false_pairs, v.false_keys), (0, 0, 0), v.details[:2])

    def test_cut_at_any_packet(self):
        rng = random.Random(20261125)
        total = compare_runs.NOTHING
        for scenario, host in self.captures():
            path, packets = loaded(scenario, host)
            records, _ = compare_runs.run_agent(harness.program("keytrail-agent"), path)
            truth = compare_runs.Truth(records)
            for cut in rng.sample(range(1, len(packets)), CUTS):
                with self.subTest(scenario=scenario.name, large=scenario.large, host=host, cut=cut):
                    before = packets[cut - 1].t_us * 1000
                    expected = [r for r in truth.calls
                                if compare_runs.whole(r) and compare_runs.span(r)[0] > before]
                    got, _ = self.agent(pcap_file.encode(packets[cut:]))
                    v = compare_runs.compare(truth, got, expected)
                    self.check_nothing_false(v)
                    total = compare_runs.add(total, v)
        print(f"{total.calls} calls, {total.named} named; {total.subs} sub-commands, {total.subs_named} named")
        self.assertGreater(total.calls, 1000)
        self.assertGreaterEqual(total.named, 0.95 * total.calls, total.unknown.most_common(5))
        self.assertGreaterEqual(total.subs_named, 0.99 * total.subs, total.unknown.most_common(5))

    def test_order_and_size_of_segments_change_nothing(self):
        def essence(record):
            return json.dumps({k: v for k, v in record.items() if not k.endswith("_ns") and k != "connection"},
                              sort_keys=True)
        for scenario, host in self.captures():
            if scenario.large:
                continue
            _, packets = loaded(scenario, host)
            steps = [[("shuffle", 5)], [("shuffle", 50)], [("mss", 1448)], [("duplicate", 5)]]
            if host == "pd1":
                steps.append([("mss", 1)])
            records, _ = self.agent(pcap_file.encode(packets))
            whole = sorted(map(essence, records))
            for step in steps:
                with self.subTest(scenario=scenario.name, host=host, step=step):
                    got, _ = self.agent(mutate.mutate(packets, step, 7))
                    self.assertEqual(sorted(map(essence, got)), whole)

    def test_losses_make_nothing_false(self):
        for scenario, host in self.captures():
            if scenario.large:
                continue
            _, packets = loaded(scenario, host)
            records, _ = self.agent(pcap_file.encode(packets))
            truth = compare_runs.Truth(records)
            for step in ("lose=1", "lose=5", "snaplen=96", "snaplen=256", "snaplen=512", "direction=client",
                         "direction=server"):
                with self.subTest(scenario=scenario.name, host=host, step=step):
                    got, _ = self.agent(mutate.mutate(packets, [tuple(step.split("="))], 7))
                    self.check_nothing_false(compare_runs.compare(truth, got, []))

    def test_investigations_that_begin_in_the_middle(self):
        """All hosts cut at the same time, so that all connections were open before."""
        for scenario in harness.scenarios():
            captures = {host: loaded(scenario, host)[1] for host in HOSTS}
            first = max(packets[0].t_us for packets in captures.values())
            last = min(packets[-1].t_us for packets in captures.values())
            for part in (0.25, 0.5):
                with self.subTest(scenario=scenario.name, large=scenario.large, part=part):
                    begin = first + int((last - first) * part)
                    files = []
                    for host, packets in captures.items():
                        kept = [p for p in packets if p.t_us >= begin]
                        files.append(f"{host}={self.write(host + '.pcap', pcap_file.encode(kept))}")
                    report, _ = harness.investigate(files)
                    components = {v["component"] for v in report["verdicts"]}
                    self.assertLessEqual(components, {scenario.truth["guilty"]})
                    # In the large ones most of the faults come later than this.
                    if scenario.large and part == 0.25 and scenario.truth["guilty"] != "none":
                        self.assertEqual(components, {scenario.truth["guilty"]}, report["inconclusive"])
                    if scenario.truth["guilty"] == "none":
                        self.assertEqual(report["inconclusive"], [])


if __name__ == "__main__":
    unittest.main()
