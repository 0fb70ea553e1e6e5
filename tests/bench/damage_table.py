#!/usr/bin/env python3
"""What keytrail-agent makes of damaged captures, against the whole ones.

    damage_table.py [--bin build/release/bin] [--seed 1] [--only NAME] [--packets N] [CAPTURE ...]

Shuffled, re-segmented and duplicated captures must give the same records (times aside). Of captures with losses,
cut packets or one direction alone: nothing false, and the calls that are not named any more are held against
those that cannot be: calls of which a packet was lost (hit), and calls of a method whose first call on that
connection was hit, so that the header block which put its path into the table is lost (share). What is beyond both
stands between two losses, too short to be found, or came while a question was missing.
Without CAPTURE a choice from $KEYTRAIL_SHARED_DATA (or ../shared/data). Exit status 1 if anything differs that
must not, or is false.
"""

import argparse
import bisect
import collections
import json
import os
import sys

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(REPOSITORY, "tests", "support"))

import compare_runs  # noqa: E402
import mutate  # noqa: E402
import pcap_file  # noqa: E402

CHOICE = ("generated/cpp_batch_20m", "generated/cpp_unary_20m", "generated/cpp_pd_20m", "generated/go_unary_20m",
          "cluster/healthy/tidb1", "cluster/pd_wide/tidb2", "cluster/pd_wide/pd1", "cluster/tikv_narrow/tikv1",
          "cluster/modern_pd_wide/tidb2", "cluster/modern_boot/tikv1")
SAME = {"shuffle within 5": [("shuffle", 5)], "shuffle within 50": [("shuffle", 50)],
        "segments of 1448": [("mss", 1448)], "duplicates 5 %": [("duplicate", 5)]}
DAMAGED = {"loss 1 %": [("lose", 1)], "loss 5 %": [("lose", 5)], "snaplen 96": [("snaplen", 96)],
           "snaplen 256": [("snaplen", 256)], "snaplen 512": [("snaplen", 512)],
           "client alone": [("direction", "client")], "server alone": [("direction", "server")]}
TIMES = ("req_first_ns", "req_last_ns", "resp_first_ns", "resp_last_ns", "connection", "joined")


def essence(record):
    return json.dumps({k: v for k, v in record.items() if k not in TIMES}, sort_keys=True)


def lost_moments(packets, kept):
    """{connection's two ends: {source: [times in ns of packets with payload that are not in `kept`]}}."""
    lost = collections.defaultdict(lambda: collections.defaultdict(list))
    for packet in packets:
        if id(packet) in kept:
            continue
        tcp = pcap_file.tcp_of(packet.frame)
        if tcp is None or not tcp.payload:
            continue
        ends = tuple(sorted(f"{a}:{p}" for a, p in (tcp.source, tcp.destination)))
        lost[ends]["%s:%d" % tcp.source].append(packet.t_us * 1000)
    for sides in lost.values():
        for times in sides.values():
            times.sort()
    return lost


def any_between(times, first, last):
    at = bisect.bisect_left(times, first)
    return at < len(times) and times[at] <= last


def hit(call, lost):
    """A packet that went while the call's own bytes went, in the same direction, was lost."""
    sides = lost.get(tuple(sorted((call["client"], call["server"]))))
    if sides is None:
        return False
    return any_between(sides.get(call["client"], ()), call["req_first_ns"], call["req_last_ns"]) or \
        any_between(sides.get(call["server"], ()), call["resp_first_ns"], call["resp_last_ns"])


def sharing(calls, unnamed, lost):
    """How many of `unnamed` are not hit, but the first call of their method on their connection is."""
    def key(call):
        return call["client"], call["server"], call["method"]

    first = {}
    for call in sorted(calls, key=lambda c: c["req_first_ns"] or 0):
        first.setdefault(key(call), call)
    return sum(hit(first[key(call)], lost) and not hit(call, lost) for call in unnamed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "build/release/bin"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="the damages whose names contain this")
    parser.add_argument("--packets", type=int, default=0, help="the first N packets of each capture alone")
    parser.add_argument("captures", nargs="*")
    options = parser.parse_args()
    agent = os.path.join(options.bin, "keytrail-agent")
    top = os.environ.get("KEYTRAIL_SHARED_DATA", os.path.join(REPOSITORY, "..", "shared", "data"))
    paths = options.captures or [os.path.join(top, name + ".pcap.zst") for name in CHOICE]
    row = "| {:20} | {:18} | {:>8} | {:>8} | {:>6} | {:>6} | {:>6} | {:>6} | {:>5} | {:>5} | {:>5} |"
    print(row.format("capture", "damage", "calls", "named", "not", "hit", "share", "beyond", "false", "pairs", "keys"))
    print("|" + "---|" * 11, flush=True)
    good = True
    for path in paths:
        name = "/".join(path.removesuffix(".zst").removesuffix(".pcap").split(os.sep)[-2:]).removeprefix("generated/")
        packets = list(pcap_file.packets(pcap_file.load(path)))
        if options.packets:
            packets = packets[:options.packets]
        # One object a packet, even if two are equal: what is lost is found by identity.
        packets = [pcap_file.Packet(p.t_us, p.frame) for p in packets]
        records, _ = compare_runs.run_agent(agent, path, pcap_file.encode(packets))
        truth = compare_runs.Truth(records)
        whole = collections.Counter(map(essence, records))
        same = dict(SAME)
        if len(packets) <= 3000:
            same["segments of 1"] = [("mss", 1)]
        for damage, steps in same.items():
            if options.only and options.only not in damage:
                continue
            got, _ = compare_runs.run_agent(agent, path, mutate.mutate(packets, steps, options.seed))
            found = collections.Counter(map(essence, got))
            differ = sum(((whole - found) + (found - whole)).values())
            print(row.format(name, damage, len(records), "", differ, "", "", "", "", "", ""), flush=True)
            if differ:
                good = False
                for text in list((whole - found))[:1] + list((found - whole))[:1]:
                    print("  DIFFERS:", text[:400])
        for damage, steps in DAMAGED.items():
            if options.only and options.only not in damage:
                continue
            got, _ = compare_runs.run_agent(agent, path, mutate.mutate(packets, steps, options.seed))
            expected = [r for r in truth.calls if compare_runs.whole(r)]
            unnamed = []
            v = compare_runs.compare(truth, got, expected, unnamed=unnamed)
            lost_calls = ""
            share = ""
            beyond = ""
            if damage.startswith("loss"):
                kept = {id(p) for p in mutate.lose(packets, steps[0][1], mutate.random.Random(options.seed))}
                lost = lost_moments(packets, kept)
                lost_calls = sum(hit(call, lost) for call in expected)
                share = sharing(truth.calls, unnamed, lost)
                beyond = sum(not hit(call, lost) for call in unnamed) - share
            print(row.format(name, damage, v.calls, v.named, v.calls - v.named, lost_calls, share, beyond, v.false_names,
                             v.false_pairs, v.false_keys), flush=True)
            for detail in v.details[:2]:
                print("  FALSE:", str(detail)[:900])
            good = good and not (v.false_names or v.false_pairs or v.false_keys)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
