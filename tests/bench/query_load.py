#!/usr/bin/env python3
"""How fast a collector stores what an agent ships, alone and while clients ask it all the time.

    query_load.py --bin build/release/bin --bench build/release/bench [--clients 100] [--rounds 5] [--mb 60]
                  [--nice N] [--light] [CAPTURE]

The capture is repeated to --mb megabytes. A collector gets it once, so that there is something to ask. In each round it
gets it once more alone and once more while --clients processes, each with a connection of its own, ask one query after
the other; in turns first. The rate is records by the time from the agent's first hello to its last commit. Printed: both
medians, the median of the rounds' ratios, and how many queries were answered meanwhile. Exit status 1 if clients take
more than --limit (0.2: a fifth) of the rate away.

Clients run on the same machine, since the service is on loopback: their own work (connecting, reading rows) is in the
figure. --nice gives them that niceness, which shows the service's part alone. --light asks short queries only, of which many
are answered. Run it on a quiet machine: a build beside it changes the rates by a factor of two. CAPTURE is one that repeat_capture takes
(Ethernet, IPv4), by default a generated one of $KEYTRAIL_SHARED_DATA (or ../shared/data).
"""

import argparse
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

# Short and long, few rows and many: what people ask while they look at a cluster. The first three read everything.
QUERIES = (
    "select count(*) from calls where kind = 'sub' and latency_ns > 1000000;",
    "select command, count(*), avg(latency_ns) from calls group by command;",
    "select region_id, version, count(*) from routes group by 1, 2;",
    "select id, client, server, command, latency_ns from calls where id > 100000 limit 2000;",
    "select id, method, region_id from calls where id between 1000 and 3000;",
)


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.listen, self.query = f"tcp://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.database = os.path.join(folder, "data", "keytrail.db")
        self.script = os.path.join(folder, "queries.sql")
        with open(self.script, "w", encoding="utf-8") as handle:
            handle.write("\n".join((QUERIES[3:] if options.light else QUERIES) * 20000) + "\n")
        self.collector = subprocess.Popen(
            [self.program("keytrail-collector"), "-q", "--listen", self.listen, "--query", self.query, "--data",
             os.path.join(folder, "data")])
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.query.rsplit(":", 1)[1]))) == 0:
                    break
            time.sleep(0.05)
        self.agents = 0

    def program(self, name):
        return os.path.join(self.options.bin, name)

    def wait_idle(self):
        """Until the collector's own thread has stored and judged what came before: a judgement of the last round would
        stand in the way of this one."""
        path = f"/proc/{self.collector.pid}/task/{self.collector.pid}/stat"
        busy = quiet = 0
        while quiet < 4:
            with open(path, encoding="ascii") as handle:
                fields = handle.read().rsplit(")", 1)[1].split()
            now = int(fields[11]) + int(fields[12])  # user and system, in hundredths of a second
            quiet = quiet + 1 if now - busy <= 1 else 0
            busy = now
            time.sleep(0.3)

    def ship(self, capture):
        """Records a second of one agent."""
        self.wait_idle()
        self.agents += 1
        name = f"agent{self.agents}"
        result = subprocess.run([self.program("keytrail-agent"), "-r", capture, "-q", "--collector", self.listen,
                                 "--agent-name", name], stderr=subprocess.PIPE, check=False)
        if result.returncode not in (0, 3):
            raise SystemExit(f"keytrail-agent: {result.stderr.decode()}")
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            agent, seconds = database.execute(
                "select id, (last_seen_ns - first_seen_ns) / 1e9 from agents where name = ?", (name,)).fetchone()
            records, = database.execute("select sum(records) from record_batches where agent = ?", (agent,)).fetchone()
        return records / seconds

    def stats(self):
        out = subprocess.run([self.program("keytrail"), "agents", "--json", "--collector", self.query],
                             stdout=subprocess.PIPE, check=True).stdout
        return json.loads(out)["queries"]

    def ship_beside_clients(self, capture):
        """(records a second, queries a second, queries that could not be answered)."""
        command = [self.program("keytrail"), "sql", "--collector", self.query, "--format", "csv", "--timeout", "5m"]
        if self.options.nice:
            command = ["nice", "-n", str(self.options.nice), *command]
        clients = []
        try:
            for _ in range(self.options.clients):
                with open(self.script, "rb") as script:
                    clients.append(subprocess.Popen(command, stdin=script, stdout=subprocess.DEVNULL,
                                                    stderr=subprocess.DEVNULL))
            while True:  # all are connected and have asked
                stats = self.stats()
                if stats["running"] + stats["waiting"] >= self.options.clients * 0.9:
                    break
                time.sleep(0.1)
            self.wait_idle()
            before, begun = self.stats(), time.monotonic()
            rate = self.ship(capture)
            seconds, after = time.monotonic() - begun, self.stats()
            gone = sum(client.poll() is not None for client in clients)
        finally:
            for client in clients:
                client.kill()
            for client in clients:
                client.wait()
        return rate, (after["answered"] - before["answered"]) / seconds, gone

    def stop(self):
        self.collector.send_signal(signal.SIGTERM)
        self.collector.wait()


def main():
    # Its scratch folders are root's where root runs it.
    if os.geteuid() == 0:
        os.environ.setdefault("KEYTRAIL_USER", "root")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "build", "release", "bin"))
    parser.add_argument("--bench", default=os.path.join(REPOSITORY, "build", "release", "bench"))
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mb", type=int, default=60)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--limit", type=float, default=0.2)
    parser.add_argument("capture", nargs="?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.capture
        if source is None:
            shared = os.environ.get("KEYTRAIL_SHARED_DATA", os.path.join(REPOSITORY, "..", "shared", "data"))
            source = os.path.join(shared, "generated", "cpp_batch_20m.pcap.zst")
        plain = os.path.join(folder, "plain.pcap")
        if source.endswith(".zst"):
            subprocess.run(["zstd", "-dqf", source, "-o", plain], check=True)
        else:
            plain = source
        capture = os.path.join(folder, "repeated.pcap")
        subprocess.run([os.path.join(options.bench, "repeat_capture"), plain, capture, str(options.mb * 1_000_000)],
                       check=True)
        bench = Bench(options, folder)
        bench.ship(capture)
        alone, beside, ratios, asked = [], [], [], []
        for n in range(options.rounds):
            for with_clients in ((False, True) if n % 2 == 0 else (True, False)):
                if with_clients:
                    rate, queries, gone = bench.ship_beside_clients(capture)
                    beside.append(rate)
                    asked.append(queries)
                    if gone:
                        print(f"{gone} clients ended: they were told no", file=sys.stderr)
                else:
                    alone.append(bench.ship(capture))
            ratios.append(beside[-1] / alone[-1])
            print(f"round {n + 1}: {alone[-1]:9.0f} records/s alone, {beside[-1]:9.0f} beside {options.clients} clients"
                  f" ({asked[-1]:.0f} queries/s): {ratios[-1]:.2f}", flush=True)
        log = os.path.getsize(bench.database + "-wal") / 1e6
        bench.stop()
        ratio = statistics.median(ratios)
        print(f"median:  {statistics.median(alone):9.0f} records/s alone, {statistics.median(beside):9.0f} beside"
              f" {options.clients} clients ({statistics.median(asked):.0f} queries/s): {ratio:.2f};"
              f" log {log:.0f} MB at the end")
    return 0 if ratio >= 1 - options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
