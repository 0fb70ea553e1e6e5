#!/usr/bin/env python3
"""live_cost.py [--seconds S] [--rounds N] [--concurrency C] [--rate R] [--work-us W] [--load-cpu A] [--agent-cpu B]
             [--bin DIR]

What an agent costs the host that it looks at: a gRPC load (TiKV's KvGet, tests/live) over loopback, by itself, with an
agent that ships every call to a collector, and with tcpdump that writes the same packets to a file. The three take turns,
round after round, so that what else the machine does meets all of them. Client and server have CPU A, agent, collector
and tcpdump have CPU B: the spare core. The collector's files are in memory; tcpdump's is on the disk.

First with as many calls as C at once can make of a server that does nothing else than answer (each packet counts most
there), then the same where a call takes W microseconds of processor time (TiKV's own benchmark: 212,000 point gets a second
on three nodes of 40 virtual CPUs, so 566 us each at most), then at R calls a second without that work (latency; default: half
of the first throughput). Of each: calls a second, median and 99th percentile, and of the watchers processor time in percent of a core
and what the kernel dropped. The last lines are medians of the rounds' own ratios to the load by itself.

Needs root (capture), tcpdump and taskset. Only loopback is used, in a network namespace of its own.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ADDRESS = "127.0.0.1:20160"
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as handle:
        fields = handle.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def on(cpu, command, **options):
    return subprocess.Popen(["taskset", "-c", str(cpu), *command], **options)


class Agent:
    name = "agent"

    def __init__(self, a):
        # It stands for one on another host: the kernel's threads that write its files to a disk would take the load's CPU.
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        environment = dict(os.environ, KEYTRAIL_USER="root")
        self.collector = on(a.agent_cpu, [os.path.join(a.bin, "keytrail-collector"), "--data", self.folder.name, "-q", "--query",
                                          "none"], env=environment)
        time.sleep(1)
        self.process = on(a.agent_cpu, [os.path.join(a.bin, "keytrail-agent"), "-i", "lo", "-f", "tcp port 20160", "-v",
                                        "--collector", "127.0.0.1:7450"], env=environment, stderr=subprocess.PIPE, encoding="utf-8")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        text = self.process.communicate()[1]
        self.collector.send_signal(signal.SIGINT)
        self.collector.wait()
        self.folder.cleanup()

        def figure(name):
            return int(re.search(rf"\b{name}=(\d+)", text).group(1))
        return {"packets": figure("packets"), "dropped": figure("kernel_drops"), "calls": figure("ship_records")}


class Tcpdump:
    name = "tcpdump"

    def __init__(self, a):
        self.file = tempfile.NamedTemporaryFile(suffix=".pcap")
        self.process = on(a.agent_cpu, ["tcpdump", "-i", "lo", "-n", "-Z", "root", "-B", "65536", "-w", self.file.name,
                                        "tcp port 20160"], stderr=subprocess.PIPE, encoding="utf-8")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        text = self.process.communicate()[1]
        self.file.close()
        return {"packets": int(re.search(r"(\d+) packets captured", text).group(1)),
                "dropped": int(re.search(r"(\d+) packets dropped by kernel", text).group(1))}


@contextlib.contextmanager
def serving(a, work_us):
    server = on(a.load_cpu, [a.load, "serve", ADDRESS, "--work-us", str(work_us)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield
    finally:
        server.terminate()
        server.wait()


def measure(a, watcher, rate):
    watching = watcher(a) if watcher else None
    if watching:
        time.sleep(1.5)
        before, began = processor_seconds(watching.process.pid), time.monotonic()
    command = [a.load, "load", ADDRESS, str(a.seconds), str(a.concurrency)] + ([str(rate)] if rate else [])
    load = on(a.load_cpu, command, stdout=subprocess.PIPE, encoding="utf-8")
    out = load.communicate()[0]
    if load.returncode != 0:
        raise SystemExit(f"{command}: {load.returncode}: {out}")
    figures = json.loads(out)
    if watching:
        figures["watcher_cpu_percent"] = 100 * (processor_seconds(watching.process.pid) - before) / (time.monotonic() - began)
        time.sleep(1.5)
        figures.update(watching.end())
    return figures


def show(name, round_number, f):
    line = (f"{name:8} round {round_number}  {f['throughput']:9.0f} calls/s  median {f['median_us']:7.1f} us  p99 {f['p99_us']:8.1f} us")
    if "watcher_cpu_percent" in f:
        line += f"  cpu {f['watcher_cpu_percent']:5.1f} %  packets {f['packets']}  dropped {f['dropped']}"
    print(line, flush=True)


def compare(title, rounds):
    print(f"{title} ({len(rounds)} rounds)")
    for name in ("agent", "tcpdump"):
        def ratio(key):
            return statistics.median(r[name][key] / r["alone"][key] for r in rounds)

        def spread(of):
            ratios = sorted(r[of]["throughput"] / r["alone"]["throughput"] for r in rounds)
            return f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"  {name:8} throughput {ratio('throughput'):.4f} ({spread(name)})  median latency {ratio('median_us'):.4f}  "
              f"p99 latency {ratio('p99_us'):.4f}  of those of the load by itself; "
              f"cpu {statistics.median(r[name]['watcher_cpu_percent'] for r in rounds):.1f} %, "
              f"dropped {sum(r[name]['dropped'] for r in rounds)} of {sum(r[name]['packets'] for r in rounds)}")


def run(a, rate, title):
    rounds = []
    for number in range(1, a.rounds + 1):
        figures = {}
        order = [("alone", None), ("agent", Agent), ("tcpdump", Tcpdump)]
        # Whoever comes first in a round is another one each time.
        for name, watcher in order[number % 3:] + order[:number % 3]:
            figures[name] = measure(a, watcher, rate)
            show(name, number, figures[name])
        rounds.append(figures)
    compare(title, rounds)
    return statistics.median(r["alone"]["throughput"] for r in rounds)


def main():
    top = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--work-us", type=int, default=300)
    parser.add_argument("--load-cpu", type=int, default=0)
    parser.add_argument("--agent-cpu", type=int, default=1)
    parser.add_argument("--bin", default=os.path.join(top, "build", "release", "bin"))
    a = parser.parse_args()
    a.load = os.path.join(a.bin, "..", "tests", "live_node")
    if os.environ.get("KEYTRAIL_COST_NAMESPACE") != "1":
        os.environ["KEYTRAIL_COST_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(f"as many calls as {a.concurrency} at once can make, {a.seconds} s each")
    with serving(a, 0):
        most = run(a, 0, "throughput:")
    print(f"the same, each with {a.work_us} us of work")
    with serving(a, a.work_us):
        run(a, 0, "throughput with work:")
    rate = a.rate or int(most / 2)
    print(f"{rate} calls a second")
    with serving(a, 0):
        run(a, rate, "at a fixed rate:")


if __name__ == "__main__":
    main()
