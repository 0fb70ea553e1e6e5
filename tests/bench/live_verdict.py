#!/usr/bin/env python3
"""How long it takes from a fault on the wire until its verdict can be read, on a collector that is busy.

    live_verdict.py --bin build/release/bin --bench build/release/bench [--rate 20000] [--seconds 60] [--faults 30]

live_load ships what agents on 20 hosts see of --rate calls a second, each at both ends, and makes --faults faults in
between, each of a region of its own. The time of one runs from the moment at which its last record was handed to its
host's shipper (its batches are in the figure) until a client of the query service reads a verdict about that region; the
service is asked every --poll seconds. Faults without a verdict --wait seconds after the load are told as such.

Printed: median, worst and all times; the rate that was made and stored; records that shippers had to drop; the CPU of the
collector and of the load while it lasted (100 %: one core), and the collector's memory at the end. The load takes CPU of
the same machine: on two cores a collector that wants more than one has not got it. Exit status 1 if a verdict never came.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as handle:
        fields = handle.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as handle:
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main():
    # Its scratch folders are root's where root runs it.
    if os.geteuid() == 0:
        os.environ.setdefault("KEYTRAIL_USER", "root")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "build", "release", "bin"))
    parser.add_argument("--bench", default=os.path.join(REPOSITORY, "build", "release", "bench"))
    parser.add_argument("--rate", type=int, default=20000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=5)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--poll", type=float, default=0.1)
    parser.add_argument("--wait", type=float, default=60)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        listen, query = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        collector = subprocess.Popen([os.path.join(options.bin, "keytrail-collector"), "-q", "--listen", f"tcp://{listen}",
                                      "--query", query, "--data", os.path.join(folder, "data")])
        for address in (listen, query):
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", int(address.rsplit(":", 1)[1]))) == 0:
                        break
                time.sleep(0.05)

        def ask(*arguments):
            return subprocess.run([os.path.join(options.bin, "keytrail"), *arguments, "--collector", query],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout

        cpu_before, begun = cpu_seconds(collector.pid), time.monotonic()
        load = subprocess.Popen([os.path.join(options.bench, "live_load"), f"tcp://{listen}", str(options.rate),
                                 str(options.seconds), str(options.faults), str(options.warm_up)],
                                stdout=subprocess.PIPE, text=True)
        made, end = {}, []  # region -> ns

        def read():
            for line in load.stdout:
                words = line.split()
                if words[0] == "fault":
                    made[int(words[1])] = int(words[2])
                else:
                    end.extend(float(w) for w in words[1:])
        reader = threading.Thread(target=read)
        reader.start()

        seen, used, deadline = {}, None, None
        while len(seen) < options.faults:
            out = ask("sql", "--format", "csv", "-e", "select distinct region_id from verdicts")
            now = time.time_ns()
            for line in out.decode().splitlines()[1:]:
                seen.setdefault(int(line), now)
            if load.poll() is None:
                used = (cpu_seconds(collector.pid) - cpu_before, cpu_seconds(load.pid), time.monotonic() - begun)
            elif deadline is None:
                deadline = time.monotonic() + options.wait
            elif time.monotonic() > deadline:
                break
            time.sleep(options.poll)
        status = load.wait()
        reader.join()
        agents = json.loads(ask("agents", "--json"))["agents"]
        memory = resident_mb(collector.pid)
        collector.send_signal(signal.SIGTERM)
        collector.wait()

    if status != 0 or not end or used is None:
        print("live_load did not finish", file=sys.stderr)
        return 1
    calls, records, dropped, seconds, late = end
    times = sorted((seen[region] - ns) / 1e9 for region, ns in made.items() if region in seen)
    stored = sum(agent["records"] for agent in agents)
    print(f"load: {calls / seconds:.0f} calls/s made of {options.rate} wanted, for {seconds:.0f} s; {records:.0f} records given to"
          f" shippers, {dropped:.0f} dropped, {stored} stored; {late:.0f} calls late at the end")
    print(f"cpu: collector {100 * used[0] / used[2]:.0f} %, load {100 * used[1] / used[2]:.0f} %; collector's memory {memory:.0f} MB")
    if times:
        print(f"verdict after: median {statistics.median(times):.2f} s, worst {times[-1]:.2f} s of {len(times)} faults"
              f" (asked every {options.poll} s)")
        print("all: " + " ".join(f"{t:.2f}" for t in times))
    missing = len(made) - len(times)
    if missing:
        print(f"{missing} faults without a verdict {options.wait:.0f} s after the load")
    return 1 if missing or not times else 0


if __name__ == "__main__":
    sys.exit(main())
