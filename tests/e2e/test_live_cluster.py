#!/usr/bin/env python3
"""A small TiDB cluster, its agents and its collector, live, on hosts of their own: who is wrong is named, nobody else is,
and nothing stays.

Needs root: the hosts are network namespaces of the test's own. tests/live/README.md tells what the nodes are and what becomes of
a fault.

KEYTRAIL_SEED     of all that is random here; printed, a number of its own for each run if not given
KEYTRAIL_ROUNDS   how many whole rounds (1), each with the next seed
"""

import json
import os
import random
import signal
import tempfile
import time
import unittest

import fleet_world
import harness
import namespaces
from live_cluster import CLUSTER, OFFICE, RAIN, STORM, Cluster, wait_until

NODE = os.path.join(os.path.dirname(harness.BIN), "tests", "live_node")
SEED = int(os.environ.get("KEYTRAIL_SEED", random.randrange(1 << 30)))
ROUNDS = int(os.environ.get("KEYTRAIL_ROUNDS", "1"))
COLLECTOR_PORT, QUERY = 7450, "127.0.0.1:7451"
# What each host serves gRPC at; a TiDB at its status port.
PORTS = {"tidb1": 10080, "tidb2": 10080, "pd1": 2379, "tikv1": 20160, "tikv2": 20160}
# Agents and collector give up root's rights, as they do where they are installed.
os.environ.pop("KEYTRAIL_USER", None)


class Fleet:
    """Agents and collector, by `keytrail fleet` without ssh: a host is its folder and words in front of each command."""

    def __init__(self, cluster, folder, archive):
        self.host, self.folder, self.archive = cluster.hosts["collector"], folder, archive
        self.hosts = cluster.hosts
        for name in self.hosts:
            os.mkdir(self.dir_of(name), 0o755)
        self.inventory = os.path.join(folder, "inventory.yaml")
        collector = {"start": True, "address": f"tcp://{self.host.address}:{COLLECTOR_PORT}", "query": QUERY,
                     "data": os.path.join(folder, "data"), "dir": self.dir_of("collector"), "run": [*self.host.prefix, "--"]}
        hosts = [{"name": name, "transport": "local", "run": [*self.hosts[name].prefix, "--"], "ports": [port], "device": "eth0",
                  "dir": self.dir_of(name)} for name, port in PORTS.items()]
        with open(self.inventory, "w", encoding="utf-8") as file:
            json.dump({"collector": collector, "hosts": hosts}, file)  # JSON is YAML

    def dir_of(self, name):
        return os.path.join(self.folder, "on-" + name)

    def run(self, verb, *more):
        result = harness.run([harness.program("keytrail"), "fleet", verb, self.inventory, *more])
        if result.returncode != harness.DONE:
            raise AssertionError(f"fleet {verb}: {result.returncode}: {result.stdout}{result.stderr}")
        return result.stdout

    def start(self):
        """Also what has ended meanwhile. Whatever becomes of this test, ten minutes later they end by themselves."""
        self.run("start", "--agent-archive", self.archive, "--spool-bytes", "64MiB", "--duration", "10m", "--give-up-after", "2m")

    def status(self):
        return json.loads(self.run("status", "--json"))

    def stop(self):
        self.run("stop")

    def end_collector(self, how):
        """By a signal from elsewhere."""
        there, = [pid for pid, words in self.host.programs().items() if words.split()[0].endswith("/keytrail-collector")]
        os.kill(there, how)
        wait_until(lambda: not self.host.programs(), self.host.programs)

    def left(self):
        """What there still is of them: programs by host, and files."""
        files = [os.path.join(self.dir_of(name), entry) for name in self.hosts for entry in os.listdir(self.dir_of(name))]
        return files + ([self.inventory + ".keytrail"] if os.path.exists(self.inventory + ".keytrail") else [])

    def ask(self, command):
        """What the collector says; None while it has nothing to say."""
        result = harness.run([*self.host.prefix, harness.program("keytrail"), command, "--collector", QUERY, "--json"])
        return json.loads(result.stdout) if result.returncode in (harness.DONE, harness.INCOMPLETE) else None

    def report(self):
        return self.ask("verdicts")

    def kept_report(self):
        """Of the collector that has ended: its last judgement stands in its files."""
        result = harness.run([harness.program("keytrail"), "verdicts", "--db", os.path.join(self.folder, "data"), "--json"])
        return json.loads(result.stdout)

    def close(self):
        """When something failed: whatever runs on these hosts."""
        for host in self.hosts.values():
            for pid in host.programs():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


# What an undecided entry misses when connections and routes are older than the agents.
UNSEEN = ("to PD that could not be read whole", "it came before the capture began", "the answer that gave",
          # A region moved, and the new store was asked before it said anything else of it than what was wrong.
          "two stores differ, each true to itself")


class Truth:
    """What the nodes told of themselves."""

    def __init__(self, cluster):
        faults = cluster.events("fault")
        self.refused = cluster.events("refused")
        self.names = {cluster.address(host): host for host in cluster.hosts}
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

    def knows(self, undecided):
        """Whether one of those who were wrong is among its suspects."""
        return bool(self.culprits(undecided["region_id"], undecided["version"], self.names.get(undecided["client"])) &
                    set(undecided["suspects"]))

    def excused(self, undecided):
        """Whether it may stand for a verdict: several were wrong, or what told the client its route may have been said before the
        agents came, or in a call on an old connection that had no name yet."""
        at = (undecided["region_id"], undecided["version"], self.names.get(undecided["client"]))
        unseen = any(words in missing for missing in undecided["missing"] for words in UNSEEN)
        return self.knows(undecided) and (len(self.culprits(*at)) > 1 or unseen)

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
    @classmethod
    def setUpClass(cls):
        cls.archives = tempfile.TemporaryDirectory()
        cls.archive = fleet_world.make_archive(os.path.join(cls.archives.name, "agent.tar.gz"))

    @classmethod
    def tearDownClass(cls):
        cls.archives.cleanup()

    def setUp(self):
        super().setUp()
        os.chmod(self.scratch, 0o755)  # `nobody` must come through

    def begin(self, seed):
        print(f"KEYTRAIL_SEED={seed}", flush=True)
        self.chance = random.Random(seed)
        self.cluster = Cluster(NODE, seed)
        self.addCleanup(self.end)
        folder = os.path.join(self.scratch, str(seed))
        os.mkdir(folder)
        self.fleet = Fleet(self.cluster, folder, self.archive)
        self.cluster.start()
        self.begun = time.monotonic()

    def end(self):
        if self.cluster is None:  # it has been
            return
        self.fleet.close()
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
        """Waits until a verdict names that component (or one with an excuse suspects it); the time it was seen."""
        def there():
            report, truth = self.fleet.report(), Truth(self.cluster)
            return report and (any(v["component"] == component for v in report["verdicts"]) or
                               any(component in u["suspects"] and truth.excused(u) for u in report["inconclusive"]))
        wait_until(there, lambda: f"a verdict on {component}: {brief((self.fleet.report() or {}).get('verdicts', []))}")
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
        wait_until(lambda: self.complaints(component) >= before + 10 and time.monotonic() > since + 5,
                   f"ten refusals because of {who}")
        self.cluster.nodes[who].order("fault none")
        self.say(f"{who} was wrong; named {seen - since:.1f} s after the first refusal")
        # A TiDB that believes PD's wrong answer goes on until its region changes, or it is restarted.
        if component == "pd":
            self.cluster.restart_client(self.chance.choice(("tidb1", "tidb2")))
        for name in ("tidb1", "tidb2"):
            self.cluster.nodes[name].order("reconnect")

    def restart_collector(self):
        how = self.chance.choice((signal.SIGTERM, signal.SIGKILL))
        self.fleet.end_collector(how)
        time.sleep(1.5)  # a second or two in which agents keep what they see
        self.fleet.start()
        self.say(f"the collector was ended by {how.name} and started again")

    def check_agents(self):
        self.assertEqual({a["host"] for a in self.fleet.ask("agents")["agents"]}, set(PORTS))
        status = self.fleet.status()
        self.assertTrue(status["all_running"], status)
        self.assertEqual([h for h in status["hosts"] if h["collector"] != "connected"], [])
        for loss in self.fleet.ask("losses")["losses"]:
            # Connections are older than the agents; some of what was said first cannot be named. What tidb2's cable loses and a
            # connection that is then closed never sends again is a hole where it was to arrive.
            self.assertIn(loss["kind"], ("late_join", "method_unread", "message_unread", "gaps"), loss)
            if loss["kind"] == "gaps":
                self.assertNotEqual(loss["host"], "tidb1", loss)

    def check_verdicts(self, truth, report):
        """All refusals explained, by who was wrong, and nothing else said."""
        self.assertEqual(truth.unexplained(report), [])
        self.assertEqual(brief(v for v in report["verdicts"] if not truth.guilty(v)), [])
        # Wrong answers of PD's that nobody acted upon may stay undecided.
        self.assertEqual(brief(u for u in report["inconclusive"] if not truth.knows(u)), [])
        self.assertGreater(report["benign"]["stale_route"], 0)
        certain = sum(v["confidence"] == "certain" for v in report["verdicts"])
        self.say(f"{len(report['verdicts'])} verdicts, {certain} of them certain, {len(report['inconclusive'])} undecided"
                 f" ({sum(map(truth.excused, report['inconclusive']))} of them for cause), for {len(truth.complaints)} refusals among"
                 f" {report['calls']} calls; benign: {report['benign']}")

    def check_gone(self):
        """Everything ends when it is told to, and leaves nothing."""
        self.fleet.stop()
        self.assertEqual(self.fleet.left(), [])
        self.assertEqual(set(self.cluster.end().values()), {0})
        self.assertEqual({name: host.programs() for name, host in self.cluster.hosts.items() if host.programs()}, {})

    def round(self, seed):
        self.begin(seed)
        time.sleep(3)  # connections become old, tables warm
        started = time.monotonic()
        self.fleet.start()
        self.say(f"agents and collector are up, after {time.monotonic() - started:.1f} s")
        # Nobody is wrong: splits and moves alone.
        wait_until(lambda: (r := self.fleet.report()) and min(r["benign"]["stale_route"], r["benign"]["not_leader"]) >= 3,
                   lambda: f"a report on splits and moves: {self.fleet.report()}")
        report = self.fleet.report()
        self.assertEqual(brief(report["verdicts"] + report["inconclusive"]), [])
        self.say(f"nobody is wrong: {report['benign']} among {report['calls']} calls")
        order = self.chance.sample(sorted(FAULTS), 3)
        self.fault(order[0])
        first = self.first_verdict(order[0]) - started
        self.fault(order[1], amid=self.restart_collector)
        self.cluster.weather(collector=STORM, tidb2=RAIN)
        self.fault(order[2])
        self.cluster.weather(collector=OFFICE, tidb2=CLUSTER)
        time.sleep(1)
        self.cluster.load(0)
        truth = Truth(self.cluster)
        report = wait_until(lambda: (found := self.fleet.report()) and not truth.unexplained(found) and found,
                            lambda: f"what explains {truth.unexplained(self.fleet.report())}: {self.fleet.report()}")
        self.check_verdicts(truth, report)
        self.check_agents()
        self.check_gone()
        self.check_verdicts(truth, self.fleet.kept_report())
        self.say(f"all is gone; agents' start to first verdict, a healthy time before it: {first:.1f} s")

    def test_rounds(self):
        for n in range(ROUNDS):
            with self.subTest(seed=SEED + n):
                try:
                    self.round(SEED + n)
                except AssertionError as problem:  # of many rounds the first shall not be told last
                    self.say(f"FAILED: {problem}")
                    raise
                finally:
                    self.end()

    def test_time_to_the_first_verdict(self):
        """Agents that come when something is wrong already."""
        self.begin(SEED)
        component = self.chance.choice(sorted(FAULTS))
        who = self.culprit(component)
        self.cluster.nodes[who].order("fault " + FAULTS[component])
        wait_until(lambda: self.complaints(component) >= 3, f"three refusals because of {who}")
        started = time.monotonic()
        self.fleet.start()
        up = time.monotonic()
        seen = self.first_verdict(component)
        self.cluster.nodes[who].order("fault none")
        self.say(f"{who} was wrong; agents' start to first verdict: {seen - started:.1f} s, {up - started:.1f} s of which until"
                 " all of them capture")


if __name__ == "__main__":
    unittest.main()
