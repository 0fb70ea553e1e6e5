#!/usr/bin/env python3
"""How long keytrail-agent takes to decode a big capture, against a bare libpcap read loop over the same file.

    whole_process.py --bin build/release/bin --bench build/release/bench [--mb 500] [--rounds 7] [CAPTURE ...]

Each capture is repeated to at least --mb megabytes with ports of its own a round (repeat_capture), into a
temporary folder that is removed at the end. In each round `bare_loop FILE` and `keytrail-agent -r FILE -q`
run one after the other, in turns first, with the file in the page cache. Printed: the medians, the median of
the rounds' ratios of wall time and of CPU time (user and system), and the peak memory. Without CAPTURE the
generated captures of $KEYTRAIL_SHARED_DATA (or ../shared/data) are taken. Exit status 1 if a ratio of wall
time is above --limit or the memory above --memory-mb.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
GENERATED = ("cpp_batch_20m", "cpp_pd_20m", "cpp_unary_20m", "go_unary_20m")


def measure(arguments):
    """(wall seconds, CPU seconds, peak memory in MiB) of one run."""
    with open(os.devnull, "wb") as nowhere:
        begun = time.monotonic()
        process = subprocess.Popen(arguments, stdout=nowhere, stderr=subprocess.PIPE)
        words = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(arguments)}: exit status {process.returncode}: {words.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def bench(name, path, options):
    bare = [os.path.join(options.bench, "bare_loop"), path]
    agent = [os.path.join(options.bin, "keytrail-agent"), "-r", path, "-q"]
    measure(bare)  # brings the file into the page cache
    rounds = []
    for n in range(options.rounds):
        results = {}
        for which in ((0, 1) if n % 2 == 0 else (1, 0)):
            results[which] = measure((bare, agent)[which])
        rounds.append((results[0], results[1]))

    def median(function):
        return statistics.median(function(b, a) for b, a in rounds)

    wall = median(lambda b, a: a[0] / b[0])
    size_mb = os.path.getsize(path) / 1e6
    agent_s = median(lambda b, a: a[0])
    memory = max(a[2] for _, a in rounds)
    print(f"{name:16} {size_mb:7.0f} {median(lambda b, a: b[0]):8.3f} {agent_s:8.3f} {size_mb / agent_s:8.0f} "
          f"{wall:8.2f} {median(lambda b, a: a[1] / b[1]):8.2f} {memory:8.1f}", flush=True)
    return wall <= options.limit and memory <= options.memory_mb


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "build/release/bin"))
    parser.add_argument("--bench", default=os.path.join(REPOSITORY, "build/release/bench"))
    parser.add_argument("--mb", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=4.5)
    parser.add_argument("--memory-mb", type=float, default=64)
    parser.add_argument("captures", nargs="*")
    options = parser.parse_args()
    captures = options.captures
    if not captures:
        top = os.environ.get("KEYTRAIL_SHARED_DATA", os.path.join(REPOSITORY, "..", "shared", "data"))
        captures = [os.path.join(top, "generated", name + ".pcap.zst") for name in GENERATED]
        if not os.path.exists(captures[0]):
            print("the generated captures are absent (KEYTRAIL_SHARED_DATA)", file=sys.stderr)
            return 1
    print(f"{options.rounds} rounds; times are medians in seconds, memory is the peak in MiB")
    print(f"{'capture':16} {'MB':>7} {'bare':>8} {'agent':>8} {'MB/s':>8} {'x wall':>8} {'x CPU':>8} {'memory':>8}")
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for capture in captures:
            name = os.path.basename(capture).removesuffix(".zst").removesuffix(".pcap")
            plain, big = capture, os.path.join(scratch, "big.pcap")
            if capture.endswith(".zst"):
                plain = os.path.join(scratch, "plain.pcap")
                subprocess.run(["zstd", "-dqf", capture, "-o", plain], check=True)
            subprocess.run([os.path.join(options.bench, "repeat_capture"), plain, big, str(options.mb * 1000000)],
                           check=True, stdout=subprocess.DEVNULL)
            good = bench(name, big, options) and good
            os.remove(big)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
