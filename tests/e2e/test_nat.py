#!/usr/bin/env python3
"""A NAT, a proxy or a service address between the hosts: each side sees other ends of a connection than the other
side does, and the same component is found guilty, by its own name.

KEYTRAIL_NAT_ALL=1     the large scenarios, too
"""

import os
import re
import unittest

import harness  # first: it makes tests/support known
import mutate
import pcap_file

ALL = os.environ.get("KEYTRAIL_NAT_ALL") == "1"
ADDRESSES = {"tidb1": "10.77.0.11", "tidb2": "10.77.0.12", "pd1": "10.77.0.21", "tikv1": "10.77.0.31"}
GATEWAY = "10.200.0.1"
SERVICES = {"pd1": "10.201.0.21", "tikv1": "10.201.0.31"}


def behind_gateway(host):
    """As a capture of this host looks when both TiDB reach it from one address, each with ports of its own."""
    if host not in SERVICES:
        return []
    return [("nat", f"{ADDRESSES['tidb1']}:{GATEWAY}:3001"), ("nat", f"{ADDRESSES['tidb2']}:{GATEWAY}:17003")]


def to_services(host):
    """As a capture of this host looks when it reaches the servers at addresses that only it knows."""
    return [("nat", f"{ADDRESSES[server]}:{address}:7000") for server, address in SERVICES.items() if server != host]


NETWORKS = {"gateway": (behind_gateway,), "services": (to_services,), "both": (behind_gateway, to_services)}


def verdicts(report):
    return sorted((v["component"], v["rule"], v["client"], v["server"], v["region_id"], v["version"], v["key"],
                   v["occurrences"]) for v in report["verdicts"])


class Nat(harness.ProgramTest):
    def investigate(self, scenario, packets, steps_of, *more):
        files = []
        for host in harness.HOSTS:
            data = mutate.mutate(packets[host], [step for steps in steps_of for step in steps(host)])
            files.append(f"{host}=" + self.write(f"{host}.pcap", data))
        return harness.investigate(files, *more)[0]

    def test_a_timeline_has_both_views(self):
        """Of a call through gateway and service address both hosts' times are shown, as one call."""
        scenario = next(s for s in harness.scenarios() if s.name == "tidb_neighbour" and not s.large)
        packets = {h: list(pcap_file.packets(pcap_file.load(harness.capture(scenario, h)))) for h in harness.HOSTS}
        drawn = {}
        for name, steps in (("plain", ()), *NETWORKS.items()):
            path = os.path.join(self.scratch, name + ".db")
            self.investigate(scenario, packets, steps, "--db", path)
            out = harness.run([harness.program("keytrail"), "timeline", "--db", path, "--verdict", "1", "--width", "160"])
            self.assertEqual(out.returncode, harness.DONE, out.stderr)
            drawn[name] = out.stdout
        self.assertEqual(drawn["gateway"], drawn["plain"])
        # Too few lookups in this capture to know PD's connections again; those to the store are one.
        refused = re.compile(r"refused.*\(\d+\|\d+ µs\)")
        for name in NETWORKS:
            self.assertEqual(len(refused.findall(drawn[name])), 1, drawn[name])

    def test_the_same_verdicts(self):
        for scenario in harness.scenarios():
            if scenario.large and not ALL:
                continue
            packets = {h: list(pcap_file.packets(pcap_file.load(harness.capture(scenario, h))))
                       for h in harness.HOSTS}
            plain = self.investigate(scenario, packets, ())
            self.assertEqual(plain["translations"], [])
            for name, steps in NETWORKS.items():
                with self.subTest(scenario=scenario.name, large=scenario.large, network=name):
                    report = self.investigate(scenario, packets, steps)
                    joined = {(t["host"], t["server"]) for t in report["translations"]}
                    print(f"{scenario.name}{' (large)' if scenario.large else ''} through {name}: "
                          f"{len(report['verdicts'])} of {len(plain['verdicts'])} verdicts, "
                          f"{sum(t['connections'] for t in report['translations'])} connections joined "
                          f"({len(joined)} pairs of hosts), {report['calls']} calls ({plain['calls']} without)",
                          flush=True)
                    self.assertEqual({v["component"] for v in report["verdicts"]} - {scenario.truth["guilty"]}, set())
                    self.assertEqual(verdicts(report), verdicts(plain))
                    for t in report["translations"]:
                        self.assertEqual(t["client"].split(":")[0], ADDRESSES[t["host"]])
                        self.assertIn(t["server"].split(":")[0], ADDRESSES.values())


if __name__ == "__main__":
    unittest.main()
