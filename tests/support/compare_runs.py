"""Compares what keytrail-agent says of a damaged capture with what it says of the whole one.

The whole run is the oracle where it has names from headers: those streams were opened before its eyes. What
neither run saw opened has no truth here and is left out. Streams are found again by their two endpoints, the
stream id and the time, so that a port used twice is two connections.
"""

import collections
import json
import subprocess

Verdict = collections.namedtuple("Verdict", "calls named unknown missing subs subs_named false_names "
                                            "false_pairs false_keys streams streams_named details")


def run_agent(agent, path, data=None, *more):
    """[record], summary of keytrail-agent -r PATH --json; with `data` the capture comes from memory."""
    result = subprocess.run([agent, "-r", path if data is None else "-", "--json", *more], input=data,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    if not lines or lines[-1]["kind"] != "summary":
        raise AssertionError(f"{path}: exit status {result.returncode}: {result.stderr.decode()}")
    return amended(lines[:-1]), lines[-1]


def span(record):
    """First and last time of a record, or None."""
    times = [record[name] for name in ("req_first_ns", "req_last_ns", "resp_first_ns", "resp_last_ns")
             if record[name] is not None]
    return (min(times), max(times)) if times else None


def stream_key(record):
    return (*sorted((record["client"], record["server"])), record["stream"])


def call_key(record):
    return (*stream_key(record), record["request_id"])


def keys_of(record):
    return (tuple(record.get("keys", ())), tuple(map(tuple, record.get("ranges", ()))))


class Truth:
    """The whole run."""

    def __init__(self, records):
        self.calls = [r for r in records if r["method_from"] == "header" and r["kind"] != "stream"]
        self.lives = collections.defaultdict(list)  # stream -> [[first, last, methods]]
        self.by_call = collections.defaultdict(list)
        for record in records:
            when = span(record)
            if record["method_from"] != "header" or when is None:
                continue
            self.lives[(*stream_key(record), record.get("connection"))].append((when, record["method"]))
            if record["kind"] != "stream":
                self.by_call[call_key(record)].append(record)
        merged = collections.defaultdict(list)
        for (*key, _), lives in self.lives.items():
            merged[tuple(key)].append((min(w[0] for w, _ in lives), max(w[1] for w, _ in lives),
                                       {m for _, m in lives}))
        self.lives = merged

    def methods(self, record):
        """The true methods of the streams that a damaged run's record can belong to; empty: nobody knows."""
        when = span(record)
        found = set()
        for first, last, methods in self.lives.get(stream_key(record), ()):
            if when is None or (when[0] <= last and when[1] >= first):
                found |= methods
        return found

    def same(self, record, timed=True):
        """The call of the whole run that this one of the damaged run is part of, or None."""
        for other in self.by_call.get(call_key(record), ()):
            if not timed:
                return other
            for name in ("req_last_ns", "resp_last_ns", "req_first_ns", "resp_first_ns"):
                if record[name] is not None and record[name] == other[name]:
                    return other
        return None


def amended(records):
    """The records with what came later about them."""
    late = {(r["connection"], r["stream"]): r for r in records if r["kind"] == "amend"}
    out = []
    for record in records:
        if record["kind"] == "amend":
            continue
        amendment = late.get((record["connection"], record["stream"]))
        if record["method"] is None and amendment is not None:
            record = dict(record, method=amendment["method"], method_from=amendment["method_from"])
        out.append(record)
    return out


def same_pair(record, other):
    """Question and answer are those of the whole run. Of a message that was sent twice the first copy may be
    lost, and of a unary call the trailers: then the times of the end differ, and nothing else may."""
    if (record["req_last_ns"], record["resp_last_ns"]) == (other["req_last_ns"], other["resp_last_ns"]):
        return True
    if (record["req_bytes"], record["resp_bytes"]) != (other["req_bytes"], other["resp_bytes"]):
        return False
    if record["kind"] == "unary":
        return record["resp_first_ns"] == other["resp_first_ns"] or record["req_first_ns"] == other["req_first_ns"]
    return record["request_id"] is not None and keys_of(record) == keys_of(other)


def whole(record):
    return record["resp_last_ns"] is not None and record["req_first_ns"] is not None


def compare(truth, records, expected, details=None, unnamed=None):
    """`expected`: the calls of the whole run that the damaged capture holds all bytes of. Those that were not named
    are appended to `unnamed`."""
    found = collections.defaultdict(list)
    false_names = false_pairs = false_keys = streams = streams_named = 0
    wrong = []
    for record in records:
        if record["method"] is not None:
            true = truth.methods(record)
            if true and record["method"] not in true:
                false_names += 1
                wrong.append(("name", record["method"], sorted(true), record))
        if record["kind"] == "stream":
            if truth.methods(record):
                streams += 1
                streams_named += record["method"] is not None
            continue
        found[call_key(record)].append(record)
        same = truth.same(record)
        if same is None:
            continue
        if record["command"] is not None and record["command"] != same["command"]:
            false_names += 1
            wrong.append(("command", record["command"], same["command"], record))
        if whole(record) and same["kind"] == record["kind"] and record.get("req_messages", 1) and \
                record.get("resp_messages", 1):
            if not same_pair(record, same):
                false_pairs += 1
                wrong.append(("pair", record, same, None))
        if record["method"] is not None and any(keys_of(record)) and record["method"] == same["method"]:
            if keys_of(record) != keys_of(same):
                false_keys += 1
                wrong.append(("keys", record, same, None))
    named = missing = subs = subs_named = 0
    unknown = collections.Counter()
    for call in expected:
        is_sub = call["command"] is not None
        subs += is_sub
        match = None
        for record in found.get(call_key(call), ()):
            if record["resp_last_ns"] == call["resp_last_ns"] and record["req_last_ns"] == call["req_last_ns"]:
                match = record
        if match is None:
            missing += 1
        if match is not None and match["method"] == call["method"] and match["command"] == call["command"]:
            named += 1
            subs_named += is_sub
        else:
            unknown[(call["method"], call["command"], match is None)] += 1
            if unnamed is not None:
                unnamed.append(call)
    return Verdict(len(expected), named, unknown, missing, subs, subs_named, false_names, false_pairs, false_keys,
                   streams, streams_named, wrong)


def add(a, b):
    return Verdict(*(x + y for x, y in zip(a, b)))


NOTHING = Verdict(0, 0, collections.Counter(), 0, 0, 0, 0, 0, 0, 0, 0, [])
