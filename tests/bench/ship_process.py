#!/usr/bin/env python3
"""What shipping and the spool cost keytrail-agent, against decoding alone, in one run; and the bytes on the wire a call.

    ship_process.py --bin build/release/bin --bench build/release/bench [--mb 200] [--rounds 5] CAPTURE ...

Each capture (.zst too) is repeated to --mb megabytes (repeat_capture). In each round the agent decodes the file
alone, ships it to a collector on this host, and ships it with a spool. Printed: medians of wall and CPU seconds
of the agent, and the ratios to decoding alone. The collector works on the same machine meanwhile, so wall time
is that of whoever is slower; CPU time is the agent's own.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time


def measure(arguments):
    """(wall seconds, CPU seconds, what was said) of one run."""
    begun = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    words = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(arguments)}: exit status {process.returncode}: {words}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, words


def main():
    # Its scratch folders are root's where root runs it.
    if os.geteuid() == 0:
        os.environ.setdefault("KEYTRAIL_USER", "root")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--bench", default="build/release/bench")
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("captures", nargs="+")
    options = parser.parse_args()
    agent = os.path.join(options.bin, "keytrail-agent")
    print(f"{'capture':12} {'way':8} {'wall s':>8} {'CPU s':>8} {'x wall':>7} {'x CPU':>7} {'calls':>9} {'B a call':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for capture in options.captures:
            plain, big = os.path.join(scratch, "plain.pcap"), os.path.join(scratch, "big.pcap")
            if capture.endswith(".zst"):
                subprocess.run(["zstd", "-dqf", capture, "-o", plain], check=True)
            else:
                shutil.copy(capture, plain)
            subprocess.run([os.path.join(options.bench, "repeat_capture"), plain, big, str(options.mb * 1000000)],
                           check=True, stdout=subprocess.DEVNULL)
            ways = {"decode": [], "ship": [], "spool": []}
            calls = wire = 0
            for n in range(options.rounds):
                for way in sorted(ways, reverse=n % 2 == 1):
                    if way == "decode":
                        ways[way].append(measure([agent, "-r", big, "-q"])[:2])
                        continue
                    with socket.socket() as some:
                        some.bind(("127.0.0.1", 0))
                        address = f"tcp://127.0.0.1:{some.getsockname()[1]}"
                    data = os.path.join(scratch, "data")
                    collector = subprocess.Popen([os.path.join(options.bin, "keytrail-collector"), "--listen", address,
                                                  "--query", "none", "--data", data, "-q"])
                    time.sleep(0.5)
                    more = ["--spool", os.path.join(scratch, "spool")] if way == "spool" else []
                    wall, cpu, words = measure([agent, "-r", big, "-v", "--collector", address, *more])
                    ways[way].append((wall, cpu))
                    calls = int(re.search(r"ship_records[ =](\d+)", words).group(1))
                    wire = int(re.search(r"ship_wire_bytes[ =](\d+)", words).group(1))
                    collector.send_signal(signal.SIGKILL)
                    collector.wait()
                    shutil.rmtree(data)
            alone = [statistics.median(x) for x in zip(*ways["decode"])]
            for way, runs in ways.items():
                wall, cpu = (statistics.median(x) for x in zip(*runs))
                tail = f"{calls:9} {wire / calls:9.1f}" if way != "decode" else ""
                print(f"{os.path.basename(capture)[:12]:12} {way:8} {wall:8.2f} {cpu:8.2f} {wall / alone[0]:7.2f} "
                      f"{cpu / alone[1]:7.2f} {tail}", flush=True)


if __name__ == "__main__":
    main()
