#!/usr/bin/env python3
"""The agent and tshark say the same of two captures: counts by path and sub-command, and calls field by field.

tshark (4.0) decodes with our .proto files as its search path. Where the two differ on purpose:
  - tshark prints a varint that proto3 left out as nothing; the agent prints 0 where the table of the JSON
    output says "numbers". An absent field is therefore compared as 0.
  - the agent gives the keys of a Scan or a Coprocessor request as ranges [start, end]; tshark gives them as
    two fields.
  - the agent prints nothing for a field that it does not use; only what it prints is compared.
  - both ends of a call may be cut off by the end of the capture; only calls with both messages are compared.
"""

import collections
import os
import unittest

import harness
import tshark_oracle

CAPTURES = (("modern_pd_wide", "tidb1"), ("pd_wide", "tikv1"))
LEAST_CALLS = 10
BATCH = "/tikvpb.Tikv/BatchCommands"
PD_LOOKUPS = ("/pdpb.PD/GetRegion", "/pdpb.PD/GetRegionByID", "/pdpb.PD/BatchScanRegions")


class Fields:
    """The fields of one message, by name, in wire order."""

    def __init__(self, fields):
        self.fields = fields

    def number(self, name):
        return next((int(show) for n, show, _ in self.fields if n == name), 0)

    def keys(self, name):
        return [value for n, _, value in self.fields if n == name]

    def key(self, name):
        return (self.keys(name) or [""])[0]

    def has(self, name):
        return any(n == name for n, _, _ in self.fields)

    def groups(self, name):
        """The runs of fields that begin with field `name`, up to the next one."""
        out = []
        for field in self.fields:
            if field[0] == name:
                out.append([])
            if out:
                out[-1].append(field)
        return [Fields(group) for group in out]


def sub_commands(message, kind):
    """[(request id, name, Fields)] of a BatchCommands message; kind: Request or Response."""
    top = f"tikvpb.BatchCommands{kind}."
    whole = Fields(message.fields)
    ids = [int(show) for n, show, _ in message.fields if n == top + "request_ids"]
    groups = whole.groups(top + kind.lower() + "s")
    found = []
    for request_id, group in zip(ids, groups):
        name = next(n for n, _, _ in group.fields if n.startswith(top + kind + "."))
        found.append((request_id, name.rsplit(".", 1)[1], group))
    return found


def expected_of_sub(name, fields):
    """What the agent's record of this sub-command must say of its request."""
    said = {
        "region_id": fields.number("kvrpcpb.Context.region_id"),
        "conf_ver": fields.number("metapb.RegionEpoch.conf_ver"),
        "version": fields.number("metapb.RegionEpoch.version"),
        "peer_id": fields.number("metapb.Peer.id"),
        "store_id": fields.number("metapb.Peer.store_id"),
        "cluster_id": None,
    }
    if name == "Get":
        said.update(keys=fields.keys("kvrpcpb.GetRequest.key"), start_ts=fields.number("kvrpcpb.GetRequest.version"))
    elif name == "BatchGet":
        said.update(keys=fields.keys("kvrpcpb.BatchGetRequest.keys"),
                    start_ts=fields.number("kvrpcpb.BatchGetRequest.version"))
    elif name == "Prewrite":
        said.update(keys=fields.keys("kvrpcpb.Mutation.key"),
                    start_ts=fields.number("kvrpcpb.PrewriteRequest.start_version"))
    elif name == "PessimisticLock":
        said.update(keys=fields.keys("kvrpcpb.Mutation.key"),
                    start_ts=fields.number("kvrpcpb.PessimisticLockRequest.start_version"))
    elif name == "Commit":
        said.update(keys=fields.keys("kvrpcpb.CommitRequest.keys"),
                    start_ts=fields.number("kvrpcpb.CommitRequest.start_version"),
                    commit_ts=fields.number("kvrpcpb.CommitRequest.commit_version"))
    elif name == "Scan" and not fields.number("kvrpcpb.ScanRequest.reverse"):
        said.update(ranges=[[fields.key("kvrpcpb.ScanRequest.start_key"), fields.key("kvrpcpb.ScanRequest.end_key")]],
                    start_ts=fields.number("kvrpcpb.ScanRequest.version"))
    elif name == "Coprocessor" and not fields.has("coprocessor.Request.tasks"):
        said.update(ranges=[[r.key("coprocessor.KeyRange.start"), r.key("coprocessor.KeyRange.end")]
                            for r in fields.groups("coprocessor.Request.ranges")],
                    start_ts=fields.number("coprocessor.Request.start_ts"))
    else:
        return None
    del said["cluster_id"]
    return said


def regions_of(fields):
    """What a PD answer says: [(region, conf_ver, version, start, end)]."""
    return [(r.number("metapb.Region.id"), r.number("metapb.RegionEpoch.conf_ver"),
             r.number("metapb.RegionEpoch.version"), r.key("metapb.Region.start_key"), r.key("metapb.Region.end_key"))
            for r in fields.groups("metapb.Region.id")]


@unittest.skipUnless(tshark_oracle.available(), "tshark is not installed")
class Tshark(harness.ProgramTest):
    def test_two_captures(self):
        for scenario, host in CAPTURES:
            with self.subTest(scenario=scenario, host=host):
                path = os.path.join(harness.BUNDLED, scenario, host + ".pcap.zst")
                reading = tshark_oracle.read(harness.unpacked(path, self.scratch), harness.PROTO,
                                             ports=(20160, 2379, 10080),
                                             keep=lambda p: p == BATCH or p in PD_LOOKUPS)
                records, summary, _ = harness.agent_json(path)
                self.assertEqual(summary["by_method"], reading.by_path())
                self.assertEqual(summary["sub_commands"], reading.by_sub_command())
                compared = self.compare_sub_commands(reading, records)
                if host == "tidb1":
                    compared += self.compare_pd(reading, records)
                print(f"{scenario}/{host}: {dict(compared)} calls compared field by field", flush=True)

    def compare(self, record, said):
        self.assertEqual({name: record.get(name, 0) for name in said}, said, record)

    def compare_sub_commands(self, reading, records):
        by_id = {(r["client"], r["stream"], r["request_id"]): r for r in records if r["kind"] == "sub"}
        compared = collections.Counter()
        for message in reading.details:
            if message.path != BATCH:
                continue
            kind = "Request" if message.is_request else "Response"
            client = message.source if message.is_request else message.destination
            for request_id, name, fields in sub_commands(message, kind):
                record = by_id[(client, message.stream, request_id)]
                self.assertEqual(record["command"], name)
                # tshark's time is that of the last packet of the message.
                last = record["req_last_ns" if message.is_request else "resp_last_ns"]
                self.assertEqual(last, message.t_ns, record)
                if message.is_request:
                    said = expected_of_sub(name, fields)
                    if said is not None:
                        self.compare(record, said)
                        compared[name] += 1
                else:
                    kinds = {e["kind"] for e in record["errors"]}
                    self.assertEqual(fields.has("errorpb.Error.epoch_not_match"), "epoch_not_match" in kinds, record)
                    self.assertEqual(fields.has("kvrpcpb.KeyError.locked"), "key_locked" in kinds, record)
        for name in ("Get", "BatchGet", "Prewrite", "Commit", "Coprocessor"):
            self.assertGreaterEqual(compared[name], LEAST_CALLS, name)
        return compared

    def compare_pd(self, reading, records):
        by_stream = {(r["client"], r["stream"]): r for r in records if r["kind"] == "unary"}
        compared = collections.Counter()
        for message in reading.details:
            if message.path not in PD_LOOKUPS:
                continue
            client = message.source if message.is_request else message.destination
            record = by_stream[(client, message.stream)]
            fields = Fields(message.fields)
            self.assertEqual(record["method"], message.path)
            if not message.is_request:
                said = [(s["region_id"], s.get("conf_ver", 0), s.get("version", 0), s["start"], s["end"])
                        for s in record.get("statements", [])]
                self.assertEqual(said, regions_of(fields), record)
                compared[message.path] += 1
            elif message.path.endswith("/GetRegion"):
                self.assertEqual(record["keys"], fields.keys("pdpb.GetRegionRequest.region_key"))
                self.assertEqual(record["key_form"], "encoded")
            elif message.path.endswith("/GetRegionByID"):
                self.assertEqual(record["region_id"], fields.number("pdpb.GetRegionByIDRequest.region_id"))
            else:
                self.assertEqual(record["ranges"], [[r.key("pdpb.KeyRange.start_key"), r.key("pdpb.KeyRange.end_key")]
                                                    for r in fields.groups("pdpb.BatchScanRegionsRequest.ranges")])
        self.assertGreaterEqual(sum(compared.values()), LEAST_CALLS)
        return compared


if __name__ == "__main__":
    unittest.main()
