#!/usr/bin/env python3
"""The agent's counts by path, message and sub-command equal those of independent decoders, exactly.

For cluster captures truth.json counts the connections that begin inside the capture, on the ports of TiKV and
PD; for the generated ones the load generator itself counted. The counts are made twice: from the records, and
from the summary. TiDB's status port (10080) carries HTTP/1 and, in the newer TiDB, a few gRPC calls between
TiDBs for cluster tables: truth.json leaves that port out, and only these calls may be found there.
"""

import collections
import json
import os
import unittest

import harness

REGION_ERRORS = {"not_leader", "region_not_found", "key_not_in_region", "epoch_not_match", "server_is_busy",
                 "stale_command", "store_not_match", "other_region_error"}


TRUTH_PORTS = ("20160", "2379")
BETWEEN_TIDBS = {"/tikvpb.Tikv/Coprocessor"}


def port(record):
    return record["server"].rsplit(":", 1)[1]


def count_by_path(records):
    """{path: [streams, request messages, response messages]} of the connections joined at their start."""
    counts = collections.defaultdict(lambda: [0, 0, 0])
    for record in records:
        if record["joined"] == "start" and record["kind"] in ("unary", "stream") and record["method"]:
            count = counts[record["method"]]
            count[0] += 1
            count[1] += record["req_messages"]
            count[2] += record["resp_messages"]
    return dict(counts)


def count_sub_commands(records):
    """{command: [asked, answered]}."""
    counts = collections.defaultdict(lambda: [0, 0])
    for record in records:
        if record["joined"] == "start" and record["kind"] == "sub" and record["command"]:
            counts[record["command"]][0] += record["req_last_ns"] is not None
            counts[record["command"]][1] += record["resp_last_ns"] is not None
    return dict(counts)


class AgentCounts(harness.ProgramTest):
    def check_times(self, records):
        for record in records:
            first, last = record["req_first_ns"], record["req_last_ns"]
            resp_first, resp_last = record["resp_first_ns"], record["resp_last_ns"]
            if first is not None and last is not None:
                self.assertLessEqual(first, last, record)
            if resp_first is not None and resp_last is not None:
                self.assertLessEqual(resp_first, resp_last, record)
            if record["kind"] in ("unary", "sub") and first is not None and resp_last is not None:
                self.assertLessEqual(first, resp_last, record)
            if record["kind"] == "sub" and last is not None and resp_last is not None:
                self.assertLessEqual(last, resp_last, record)

    def check_messages(self, records):
        """The `message` records of a stream are as many as its `stream` record says."""
        said, seen = {}, collections.Counter()
        for record in records:
            key = (record["connection"], record["stream"], record["method"])
            if record["kind"] == "stream":
                said[key] = said.get(key, 0) + record["req_messages"] + record["resp_messages"]
            elif record["kind"] == "message":
                seen[key] += 1
        for key, count in seen.items():
            self.assertEqual(count, said.get(key), key)

    def test_cluster(self):
        for scenario in harness.scenarios():
            for host in harness.HOSTS:
                with self.subTest(scenario=scenario.name, host=host, large=scenario.large):
                    truth = scenario.truth["hosts"][host]
                    records, summary, _ = harness.agent_json(harness.capture(scenario, host))
                    self.assertEqual(summary["by_method"], count_by_path(records))
                    self.assertEqual(count_by_path(r for r in records if port(r) in TRUTH_PORTS),
                                     truth["streams_and_messages"])
                    others = [r for r in records if port(r) not in TRUTH_PORTS]
                    self.assertLessEqual({(port(r), r["method"]) for r in others},
                                         {("10080", method) for method in BETWEEN_TIDBS})
                    self.check_sub_commands(scenario, truth, records, summary)
                    self.check_times(records)
                    self.check_messages(records)
                    for record in records:
                        self.assertEqual(record["method"] is None, record["method_from"] == "unknown", record)

    def check_sub_commands(self, scenario, truth, records, summary):
        counts = count_sub_commands(records)
        expected = truth["batch_subcommands"]
        if scenario.large:
            # Counted by number, requests only, with the sum of the answers.
            expected = {harness.SUB_COMMANDS[number]: n for number, n in expected.items()}
            self.assertEqual({name: asked for name, (asked, _) in counts.items()}, expected)
            self.assertEqual(sum(answered for _, answered in counts.values()), truth["batch_subcommands_answered"])
        else:
            self.assertEqual(counts, expected)
        self.assertEqual(summary["sub_commands"], counts)

    def test_generated(self):
        top = harness.shared_data()
        if not top:
            self.skipTest("the generated captures are absent (KEYTRAIL_SHARED_DATA)")
        for name in ("cpp_batch_20m", "cpp_pd_20m", "cpp_unary_20m", "go_unary_20m"):
            with self.subTest(capture=name):
                with open(os.path.join(top, "generated", name + ".json"), encoding="utf-8") as handle:
                    truth = json.load(handle)
                records, summary, _ = harness.agent_json(os.path.join(top, "generated", name + ".pcap.zst"))
                self.check_generated(truth, records, summary)

    def check_generated(self, truth, records, summary):
        calls = collections.Counter()
        sizes = collections.defaultdict(lambda: [0, 0])
        status = collections.Counter()
        region_errors, sub_region_errors = collections.Counter(), collections.Counter()
        for record in records:
            self.assertEqual(record["joined"], "start")
            refused = any(error["kind"] in REGION_ERRORS for error in record["errors"])
            if record["kind"] in ("unary", "stream"):
                calls[record["method"]] += 1
                sizes[record["method"]][0] += record["req_bytes"]
                sizes[record["method"]][1] += record["resp_bytes"]
                status[str(record["grpc_status"])] += 1
                if refused:
                    region_errors[record["method"]] += 1
            elif record["kind"] == "sub" and refused:
                sub_region_errors[record["command"]] += 1
        self.assertEqual(dict(calls), truth["calls"])
        self.assertEqual({path: n for path, (n, _) in sizes.items()}, truth["req_bytes"])
        self.assertEqual({path: n for path, (_, n) in sizes.items()}, truth["resp_bytes"])
        self.assertEqual(dict(status), truth["status"])
        self.assertEqual(dict(region_errors), truth.get("region_error", {}))
        self.assertEqual(dict(sub_region_errors), truth.get("sub_region_error", {}))
        subs = count_sub_commands(records)
        self.assertEqual({name: asked for name, (asked, _) in subs.items()}, truth.get("sub", {}))
        self.assertEqual({name: answered for name, (_, answered) in subs.items()}, truth.get("subresp", truth.get("sub", {})))
        messages = [sum(n[i] for n in summary["by_method"].values()) for i in (1, 2)]
        if truth.get("tso_req_msgs"):
            self.assertEqual(summary["by_method"]["/pdpb.PD/Tso"][1:], [truth["tso_req_msgs"], truth["tso_resp_msgs"]])
        if "batch_req_msgs" in truth:
            self.assertEqual(messages, [truth["batch_req_msgs"], truth["batch_resp_msgs"]])
        self.check_times(records)


if __name__ == "__main__":
    unittest.main()
