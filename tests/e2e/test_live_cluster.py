#!/usr/bin/env python3
"""A small TiDB cluster, its agents and its collector, live, on hosts of their own: who is wrong is named, nobody else is,
and nothing stays.

Needs root: the hosts are network namespaces of the test's own. tests/live/README.md tells what the nodes are and what becomes of a
fault.

KEYTRAIL_SEED     of all that is random here; printed, a number of its own for each run if not given
KEYTRAIL_ROUNDS   how many whole rounds (1), each with the next seed
"""

import json
import os
import random
import signal
import subprocess
import time
import unittest

import harness
import namespaces
from live_cluster import OFFICE_WEATHER, PATIENCE, STORM, Cluster, wait_until

NODE = os.path.join(os.path.dirname(harness.BIN), "tests", "live_node")
SEED = int(os.environ.get("KEYTRAIL_SEED", random.randrange(1 << 30)))
ROUNDS = int(os.environ.get("KEYTRAIL_ROUNDS", "1"))
PORTS = "tcp port 2379 or tcp port 20160"
COLLECTOR_PORT, QUERY = 7450, "127.0.0.1:7451"
# Whatever happens to this process, what it started ends with it.
BOUND = ["setpriv", "--pdeathsig", "KILL"]


class Tracers:
    """The agents on the cluster's hosts and the collector on its own, with keys."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder
        self.host = cluster.hosts["collector"]
        self.agents, self.collector, self.collectors = {}, None, 0
        self.address = f"tcp://{self.host.address}:{COLLECTOR_PORT}"
        for name in ("collector", *(name for name, _ in Cluster.HOSTS)):
            self.keytrail("keys", "new", name, "--dir", folder)
            if name != "collector":
                self.keytrail("keys", "admit", self.path(name + ".pub"), "--admitted", self.path("admitted"))

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def keytrail(*arguments, prefix=()):
        result = harness.run([*prefix, harness.program("keytrail"), *arguments])
        if result.returncode not in (harness.DONE, harness.INCOMPLETE):
            raise AssertionError(f"keytrail {arguments}: {result.returncode}: {result.stderr}")
        return result.stdout

    def words(self, name):
        with open(self.path(name + ".stderr"), encoding="utf-8", errors="replace") as handle:
            return handle.read()

    def _start(self, host, name, *arguments):
        with open(self.path(name + ".stderr"), "wb") as errors:
            return subprocess.Popen([*BOUND, *host.prefix, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=errors)

    def _until_said(self, process, name, text):
        wait_until(lambda: text in self.words(name) or process.poll() is not None, lambda: self.words(name))
        if process.poll() is not None:
            raise AssertionError(f"{name} ended with {process.returncode}: {self.words(name)}")

    def start_collector(self):
        self.collectors += 1
        name = f"collector{self.collectors}"
        self.collector = self._start(self.host, name, harness.program("keytrail-collector"), "--listen", self.address, "--query",
                                     QUERY, "--data", self.path("data"), "--key", self.path("collector.key"), "--admitted",
                                     self.path("admitted"))
        self._until_said(self.collector, name, "listening on")

    def stop_collector(self, how=signal.SIGTERM):
        self.collector.send_signal(how)
        return self.collector.wait(timeout=PATIENCE)

    def start_agents(self):
        for name, _ in Cluster.HOSTS:
            self.agents[name] = self._start(
                self.cluster.hosts[name], name, harness.program("keytrail-agent"), "-i", "eth0", "-f", PORTS, "-v", "--collector",
                self.address, "--key", self.path(name + ".key"), "--server-key", self.path("collector.pub"), "--agent-name", name,
                "--spool", self.path("spool-" + name))
        for name, agent in self.agents.items():
            self._until_said(agent, name, "runs as")  # its device is open

    def stop_agents(self):
        for agent in self.agents.values():
            agent.send_signal(signal.SIGTERM)
        return {name: agent.wait(timeout=PATIENCE) for name, agent in self.agents.items()}

    def ask(self, command):
        return json.loads(self.keytrail(command, "--collector", QUERY, "--json", prefix=self.host.prefix))

    def report(self):
        """The verdicts, or None while the collector has none to give."""
        result = harness.run([*self.host.prefix, harness.program("keytrail"), "verdicts", "--collector", QUERY, "--json"])
        return json.loads(result.stdout) if result.returncode in (harness.DONE, harness.INCOMPLETE) else None

    def close(self):
        for process in (*self.agents.values(), self.collector):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


class Truth:
    """What the nodes told of themselves."""

    def __init__(self, cluster):
        faults = cluster.events("fault")
        self.refused = cluster.events("refused")
        self.names = {cluster.address(host): host for host in cluster.hosts}
        # (component, region, version, client or store)
        self.tikv = {(f["region_id"], f["version"], f["host"]) for f in faults if f["component"] == "tikv"}
        self.pd = {(f["region_id"], f["version"]) for f in faults if f["component"] == "pd"}
        wrong = {(f["region_id"], f["version"], f["key"], f["host"]) for f in faults if f["component"] == "tidb"}
        self.tidb, self.complaints = set(), []
        for r in self.refused:
            client = self.names[r["client"]]
            if "component" in r:
                self.complaints.append(("tikv", r["region_id"], r["version"], client, r["host"]))
            elif (r["region_id"], r["version"], r["key"], client) in wrong:
                self.complaints.append(("tidb", r["region_id"], r["version"], client, r["host"]))
                self.tidb.add((r["region_id"], r["version"], client))
            else:
                self.complaints.append(("pd", r["region_id"], r["version"], client, r["host"]))

    def guilty(self, verdict):
        """Whether that component did what the verdict says."""
        at = (verdict["region_id"], verdict["version"])
        client, server = self.names.get(verdict["client"]), self.names.get(verdict["server"].rsplit(":", 1)[0])
        if verdict["component"] == "tidb":
            return (*at, client) in self.tidb
        if verdict["component"] == "tikv":
            return (*at, server) in self.tikv
        return at in self.pd

    def culprits(self, region, version, client):
        """Who was wrong about that. Where PD was as well as a client, the wire cannot tell them apart: what PD said is a reason
        for what the client did."""
        at = (region, version)
        return {c for c, yes in (("tidb", (*at, client) in self.tidb), ("tikv", any(t[:2] == at for t in self.tikv)),
                                 ("pd", at in self.pd)) if yes}

    def excused(self, undecided):
        """Whether several were wrong, and keytrail says that it is one of them."""
        wrong = self.culprits(undecided["region_id"], undecided["version"], self.names.get(undecided["client"]))
        return len(wrong) > 1 and bool(wrong & set(undecided["suspects"]))

    def unexplained(self, report):
        """The refusals that the report leaves out."""
        said = {(c, v["region_id"], v["version"], self.names.get(v["client"]) if c == "tidb" else None)
                for v in report["verdicts"] + list(filter(self.excused, report["inconclusive"]))
                for c in v.get("suspects", [v.get("component")])}
        return [r for r in set(self.complaints)
                if not any((c, *r[1:3], r[3] if c == "tidb" else None) in said for c in {r[0]} | self.culprits(*r[1:4]))]


def brief(verdicts):
    return [(v.get("component") or v["suspects"], v["rule"], v["region_id"], v["version"], v["client"], v["server"],
             v["occurrences"], v["text"], *v.get("missing", [])) for v in verdicts]


REASON = namespaces.impossible()
FAULTS = {"tidb": "tidb_neighbour 0.15", "tikv": "tikv_narrow 0.3", "pd": "pd_wide 0.5"}


@unittest.skipIf(REASON, REASON)
class LiveCluster(harness.ProgramTest):
    def begin(self, seed):
        print(f"KEYTRAIL_SEED={seed}", flush=True)
        self.chance = random.Random(seed)
        self.cluster = Cluster(NODE, seed)
        self.addCleanup(self.end)
        folder = os.path.join(self.scratch, str(seed))
        os.mkdir(folder)
        self.tracers = Tracers(self.cluster, folder)
        self.cluster.start()
        self.begun = time.monotonic()

    def end(self):
        if self.cluster is None:  # it has been
            return
        self.tracers.close()
        self.cluster.close()
        self.cluster = None

    def say(self, text):
        print(f"  {time.monotonic() - self.begun:5.1f} s  {text}", flush=True)

    def culprit(self, component):
        """A node that does it."""
        return {"tidb": self.chance.choice(("tidb1", "tidb2")), "tikv": self.chance.choice(("tikv1", "tikv2")),
                "pd": "pd1"}[component]

    def complaints(self, component):
        return sum(c[0] == component for c in Truth(self.cluster).complaints)

    def first_verdict(self, component):
        """Waits for a verdict on that component; the time it was seen."""
        def there():
            report = self.tracers.report()
            return report and any(v["component"] == component for v in report["verdicts"])
        wait_until(there, lambda: f"a verdict on {component}: {brief((self.tracers.report() or {}).get('verdicts', []))}")
        return time.monotonic()

    def fault(self, component, amid=None):
        """Switches it on, waits until it was noticed by stores and by the verdicts, and off."""
        before = self.complaints(component)
        who = self.culprit(component)
        self.cluster.nodes[who].order("fault " + FAULTS[component])
        wait_until(lambda: self.complaints(component) > before, f"a refusal because of {who}")
        since = time.monotonic()
        if amid:
            amid()
        seen = self.first_verdict(component)
        wait_until(lambda: self.complaints(component) >= before + 10, f"ten refusals because of {who}")
        self.cluster.nodes[who].order("fault none")
        self.say(f"{who} was wrong; named {seen - since:.1f} s after the first refusal")
        # A TiDB that believes PD's wrong answer goes on until its region changes, or it is restarted.
        if component == "pd":
            self.cluster.restart_client(self.chance.choice(("tidb1", "tidb2")))
        for name in ("tidb1", "tidb2"):
            self.cluster.nodes[name].order("reconnect")

    def restart_collector(self):
        how = self.chance.choice((signal.SIGTERM, signal.SIGKILL))
        self.tracers.stop_collector(how)
        time.sleep(1.5)  # a second or two in which agents keep what they see
        self.tracers.start_collector()
        self.say(f"the collector was ended by {how.name} and started again")

    def check_agents(self):
        agents = self.tracers.ask("agents")["agents"]
        self.assertEqual({a["host"] for a in agents}, {name for name, _ in Cluster.HOSTS})
        for loss in self.tracers.ask("losses")["losses"]:
            # Connections are older than the agents; some of what was said first cannot be named.
            self.assertIn(loss["kind"], ("late_join", "method_unread", "message_unread"), loss)

    def check_verdicts(self):
        """When all has come: all refusals explained, by who was wrong, and nothing else said."""
        truth = Truth(self.cluster)

        def problem():
            report = self.tracers.report()
            return f"{truth.unexplained(report)}\n{brief(report['verdicts'])}\n{brief(report['inconclusive'])}"
        report = wait_until(lambda: (found := self.tracers.report()) and not truth.unexplained(found) and found, problem)
        self.assertEqual(brief(v for v in report["verdicts"] if not truth.guilty(v)), [])
        self.assertEqual(brief(u for u in report["inconclusive"] if not truth.excused(u)), [])
        self.assertGreater(report["benign"]["stale_route"], 0)
        certain = sum(v["confidence"] == "certain" for v in report["verdicts"])
        self.say(f"{len(report['verdicts'])} verdicts, {certain} of them certain, {len(report['inconclusive'])} undecided where two were"
                 f" wrong, for {len(truth.complaints)} refusals among {report['calls']} calls; benign: {report['benign']}")

    def check_gone(self):
        """Everything ends when it is told to, and leaves nothing."""
        self.assertEqual(set(self.tracers.stop_agents().values()) - {harness.DONE, harness.INCOMPLETE}, set())
        for name in self.tracers.agents:
            for counter in ("kernel_drops", "interface_drops", "spool_records_lost", "spool_records_left"):
                self.assertRegex(self.tracers.words(name), rf"{counter}[= ]+0\b", name)
        self.assertEqual(self.tracers.stop_collector(), harness.DONE)
        self.assertEqual(set(self.cluster.end().values()), {0})
        self.assertEqual({name: host.programs() for name, host in self.cluster.hosts.items() if host.programs()}, {})

    def round(self, seed):
        self.begin(seed)
        self.tracers.start_collector()
        time.sleep(3)  # connections become old, tables warm
        self.tracers.start_agents()
        started = time.monotonic()
        self.say("agents are up")
        # Nobody is wrong: splits and moves alone.
        wait_until(lambda: (r := self.tracers.report()) and r["benign"]["stale_route"] >= 3 and r["benign"]["not_leader"] >= 3,
                   lambda: self.tracers.report())
        report = self.tracers.report()
        self.assertEqual(brief(report["verdicts"]), [])
        self.say(f"nobody is wrong: {report['benign']} among {report['calls']} calls")
        order = self.chance.sample(sorted(FAULTS), 3)
        self.fault(order[0])
        first = self.first_verdict(order[0]) - started
        self.fault(order[1], amid=self.restart_collector)
        self.cluster.network.links["collector"].weather = STORM
        self.fault(order[2])
        self.cluster.network.links["collector"].weather = OFFICE_WEATHER
        time.sleep(1)
        self.cluster.load(0)
        self.check_verdicts()
        self.check_agents()
        self.check_gone()
        self.say(f"all is gone; agents' start to first verdict, with a healthy time before: {first:.1f} s")

    def test_rounds(self):
        for n in range(ROUNDS):
            with self.subTest(seed=SEED + n):
                try:
                    self.round(SEED + n)
                finally:
                    self.end()

    def test_time_to_the_first_verdict(self):
        """Agents that come when something is wrong already."""
        self.begin(SEED)
        self.tracers.start_collector()
        component = self.chance.choice(sorted(FAULTS))
        who = self.culprit(component)
        self.cluster.nodes[who].order("fault " + FAULTS[component])
        wait_until(lambda: self.complaints(component) >= 3, f"three refusals because of {who}")
        started = time.monotonic()
        self.tracers.start_agents()
        up = time.monotonic()
        seen = self.first_verdict(component)
        self.cluster.nodes[who].order("fault none")
        self.say(f"{who} was wrong; agents' start to first verdict: {seen - started:.1f} s, {up - started:.1f} s of which until all"
                 " of them capture")


if __name__ == "__main__":
    unittest.main()
