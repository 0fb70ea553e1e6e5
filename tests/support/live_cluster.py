"""A TiDB cluster of live_node processes (tests/live) on hosts of tests/support/namespaces.py, and the truth about it."""

import json
import subprocess
import threading
import time

from bad_link import Weather
from namespaces import Network

PD_PORT, STORE_PORT = 2379, 20160
PATIENCE = 60  # seconds until a condition that does not come fails the test
# A cable of a cluster is not perfect; that of the collector goes through some more switches.
CLUSTER = Weather(delay=0.0005, jitter=0.0003, loss=0.002)
OFFICE = Weather(delay=0.004, jitter=0.001, loss=0.002)
RAIN = Weather(delay=0.01, jitter=0.008, loss=0.02, duplicate=0.01)
STORM = Weather(delay=0.05, jitter=0.03, loss=0.05, duplicate=0.02, reorder=0.1)


def wait_until(condition, what, seconds=PATIENCE):
    """What `condition` gives as soon as it gives anything."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"it never came: {what() if callable(what) else what}")
        time.sleep(0.05)


class Node:
    """A live_node: orders go in, events come out. It ends with its standard input."""

    def __init__(self, host, program, *arguments):
        self.name, self.events = host.name, []
        self.process = subprocess.Popen([*host.prefix, program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def order(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def of(self, event):
        return [e for e in list(self.events) if e["event"] == event]

    def wait(self, event, count=1):
        def there():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}: {self.events[-3:]}")
            return self.of(event)[count - 1:]
        return wait_until(there, lambda: f"{event} of {self.name}: {self.events[-3:]}")[0]

    def ask(self):
        """What a client did so far."""
        known = len(self.of("report"))
        self.order("report")
        return self.wait("report", known + 1)

    def end(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=PATIENCE)
        finally:
            self.process.kill()
            self.reader.join()
            self.process.stdout.close()
        return self.process.returncode


class Cluster:
    """Two TiDBs, a PD, two TiKVs and a host for the collector. tidb1 has BatchCommands streams, tidb2 unary calls."""

    HOSTS = (("tidb1", 11), ("tidb2", 12), ("pd1", 21), ("tikv1", 31), ("tikv2", 32))

    def __init__(self, program, seed):
        self.program, self.seed = program, seed
        self.network = Network("10.66.0", seed)
        self.nodes, self.former = {}, []
        for name, last in self.HOSTS:
            self.network.add(name, last, CLUSTER if name == "tidb2" else None)
        self.network.add("collector", 41, OFFICE)
        self.hosts = self.network.hosts
        self.pd = f"{self.hosts['pd1'].address}:{PD_PORT}"

    def _run(self, name, *arguments):
        node = self.nodes[name] = Node(self.hosts[name], self.program, *arguments, "--seed",
                                       str(self.seed * 100 + len(self.nodes) + len(self.former)))
        node.wait("ready")
        return node

    def _client(self, name):
        return self._run(name, "client", "--pd", self.pd, *(["--unary"] if name == "tidb2" else []))

    def start(self, regions=10, rate=50):
        """Everything up, regions moving, the load on."""
        self._run("pd1", "pd", self.pd)
        for name in ("tikv1", "tikv2"):
            self._run(name, "store", f"{self.hosts[name].address}:{STORE_PORT}", "--pd", self.pd)
        self.nodes["tikv1"].order(f"cut {regions}")
        self.nodes["tikv1"].wait("cut")
        for name in ("tidb1", "tidb2"):
            self._client(name)
        self.nodes["pd1"].order("moves 600")
        for name in ("tikv1", "tikv2"):
            self.nodes[name].order("splits 2000")
        self.load(rate)

    def load(self, rate):
        self.rate = rate
        for name in ("tidb1", "tidb2"):
            self.nodes[name].order(f"load {rate}")

    def weather(self, **links):
        for name, weather in links.items():
            self.network.links[name].weather = weather

    def restart_client(self, name):
        """As a TiDB that is restarted: what it knew is gone, every connection is new."""
        node = self.nodes.pop(name)
        self.former.append(node)
        status = node.end()
        self._client(name).order(f"load {self.rate}")
        return status

    def events(self, event):
        """Of all nodes, also of those that ended, with the host's name."""
        return [dict(e, host=node.name) for node in (*self.former, *self.nodes.values()) for e in node.of(event)]

    def address(self, name):
        return self.hosts[name].address

    def end(self):
        """{host: exit status}."""
        return {name: self.nodes[name].end() for name in ("tidb1", "tidb2", "tikv1", "tikv2", "pd1") if name in self.nodes}

    def close(self):
        self.end()
        self.network.close()
