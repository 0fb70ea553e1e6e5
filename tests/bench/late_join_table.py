#!/usr/bin/env python3
"""What keytrail-agent names when it comes late: captures cut at random packets, against the whole ones.

    late_join_table.py [--bin build/release/bin] [--cuts 20] [--seed 1] [--markdown] [CAPTURE ...]

Each capture loses its beginning at --cuts random packets. Counted are the calls whose request and response
bytes are both left and whose method the whole run read from a header: named, unknown, and false ones; false
pairings and false keys besides. Without CAPTURE all captures of $KEYTRAIL_SHARED_DATA (or ../shared/data).
Exit status 1 if anything is false, or fewer than 95 % of all calls or 99 % of all BatchCommands sub-commands
are named.
"""

import argparse
import glob
import os
import random
import struct
import sys

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(REPOSITORY, "tests", "support"))

import compare_runs  # noqa: E402
import pcap_file  # noqa: E402


def packet_offsets(data):
    """[(offset, time in ns)] of the packets of a little-endian microsecond pcap."""
    offsets, at = [], 24
    while at + 16 <= len(data):
        seconds, micros, captured, _ = struct.unpack_from("<IIII", data, at)
        offsets.append((at, (seconds * 1000000 + micros) * 1000))
        at += 16 + captured
    return offsets


def captures():
    top = os.environ.get("KEYTRAIL_SHARED_DATA", os.path.join(REPOSITORY, "..", "shared", "data"))
    return sorted(glob.glob(os.path.join(top, "generated", "*.pcap.zst"))) + \
        sorted(glob.glob(os.path.join(top, "cluster", "*", "*.pcap.zst")))


def name_of(path):
    parts = path.removesuffix(".zst").removesuffix(".pcap").split(os.sep)
    return parts[-1] if parts[-2] == "generated" else "/".join(parts[-2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "build/release/bin"))
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="a row for each cut")
    parser.add_argument("--why", type=int, default=0, metavar="N", help="print the N most frequent unnamed")
    parser.add_argument("captures", nargs="*")
    options = parser.parse_args()
    agent = os.path.join(options.bin, "keytrail-agent")
    paths = options.captures or captures()
    if not paths:
        print("no captures (KEYTRAIL_SHARED_DATA)", file=sys.stderr)
        return 1
    row = "| {:24} | {:>8} | {:>8} | {:>8} | {:>7} | {:>8} | {:>7} | {:>7} | {:>5} | {:>5} | {:>5} |"
    print(row.format("capture", "cut at", "calls", "named", "%", "subs", "% subs", "unknown", "false", "pairs", "keys"))
    print("|" + "---|" * 11, flush=True)

    def show(name, cut, v):
        def percent(part, of):
            return f"{100 * part / of:.2f}" if of else "-"
        print(row.format(name, cut, v.calls, v.named, percent(v.named, v.calls), v.subs,
                         percent(v.subs_named, v.subs), v.calls - v.named, v.false_names, v.false_pairs,
                         v.false_keys), flush=True)

    rng = random.Random(options.seed)
    total = compare_runs.NOTHING
    for path in paths:
        data = pcap_file.load(path)
        offsets = packet_offsets(data)
        records, _ = compare_runs.run_agent(agent, path)
        truth = compare_runs.Truth(records)
        of_capture = compare_runs.NOTHING
        for cut in sorted(rng.sample(range(1, len(offsets)), options.cuts)):
            at, last_lost = offsets[cut][0], offsets[cut - 1][1]
            expected = [r for r in truth.calls if compare_runs.whole(r) and compare_runs.span(r)[0] > last_lost]
            got, _ = compare_runs.run_agent(agent, path, data[:24] + data[at:])
            v = compare_runs.compare(truth, got, expected)
            if options.each:
                show(name_of(path), cut, v)
            for detail in v.details[:3]:
                print("  FALSE:", *detail)
            of_capture = compare_runs.add(of_capture, v)
        show(name_of(path), f"{options.cuts} cuts", of_capture)
        if options.why:
            for (method, command, missing), n in of_capture.unknown.most_common(options.why):
                print(f"      {n:7} {method} {command or ''}{' (no record)' if missing else ''}")
        total = compare_runs.add(total, of_capture)
    show("all", "", total)
    good = not (total.false_names or total.false_pairs or total.false_keys)
    good = good and total.named >= 0.95 * total.calls and total.subs_named >= 0.99 * total.subs
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
