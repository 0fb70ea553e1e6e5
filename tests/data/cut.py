#!/usr/bin/env python3
"""Cuts the large captures down to what stands in this folder.

    cut.py SHARED_DATA [OUT]      SHARED_DATA has cluster/<scenario>/{*.pcap.zst,truth.json}

Only whole connections and the ends of connections are left out, so that every connection that begins inside
a large capture begins inside the small one too:
  - connections that the load tool on tidb2 opened (all that tidb2 opens to TiKV or PD `tool_from_s` seconds
    or more after the start), and all but the first MySQL connection;
  - everything after `until_s` seconds.
Seconds count from the first packet of tidb1's capture. The same cut is made on every host, so a call is
still seen at both of its ends.

truth.json beside the captures holds the faults that remain (the connection of the fault is kept and its time
is before the end), every range complaint that stands in the remaining bytes as text, the addresses, and per
host what tshark counts: [streams, request messages, response messages] by path, [asked, answered] by
BatchCommands sub-command, on connections that begin inside the capture.
"""

import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import pcap_file  # noqa: E402
import tshark_oracle  # noqa: E402

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto", "kvproto")

HOSTS = ("tidb1", "tidb2", "pd1", "tikv1")
TIDB2 = "10.77.0.12"
CUTS = {
    "pd_wide": {"tool_from_s": 1.0, "until_s": 10.8},
    "tidb_neighbour": {"tool_from_s": 1.0, "until_s": 7.4},
    "tikv_narrow": {"tool_from_s": 1.0, "until_s": 6.5},
    "modern_pd_wide": {"tool_from_s": 1.0, "until_s": 9.5},
    "healthy": {"tool_from_s": 1.0, "until_s": 3.0},
}


def load(shared, scenario, host):
    return list(pcap_file.packets(pcap_file.load(os.path.join(shared, "cluster", scenario, host + ".pcap.zst"))))


def wanted(connection, start_us, cut, mysql_seen):
    opened_s = (connection.first_us - start_us) / 1e6
    port = connection.server[1]
    if port == 4000:
        mysql_seen.append(connection.name())
        return connection.name() == mysql_seen[0]
    if connection.client[0] == TIDB2 and port in (20160, 2379) and opened_s >= cut["tool_from_s"]:
        return False
    return True


def fault_remains(fault, whole, kept, end_us):
    """Whether the message of the fault is among the packets that are kept: of the packets of the whole
    capture that hold its key or its wrong bound, the one nearest in time tells the connection."""
    t_us = fault["t_ns"] // 1000
    if t_us > end_us - 100000:
        return False
    needle = bytes.fromhex(fault.get("said_end") or fault.get("raw_key"))
    host = "pd1" if fault["component"] == "pd" else "tikv1"
    near = [(abs(at_us - t_us), connection.name(), connection.first_us) for connection in whole[host]
            for at_us, _, tcp in connection.packets if abs(at_us - t_us) < 100000 and needle in tcp.payload]
    return bool(near) and min(near)[1:] in [(c.name(), c.first_us) for c in kept[host]]


def one_item_a_line(truth):
    """JSON that can be read and compared: one host, fault or complaint a line."""
    parts = []
    for name, value in truth.items():
        if isinstance(value, dict):
            inner = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(name)}: {{\n  {inner}\n }}")
        elif isinstance(value, list) and value:
            inner = ",\n  ".join(json.dumps(v) for v in value)
            parts.append(f" {json.dumps(name)}: [\n  {inner}\n ]")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def cut_scenario(shared, out, scenario, cut):
    folder = os.path.join(out, scenario)
    os.makedirs(folder, exist_ok=True)
    raw = {host: load(shared, scenario, host) for host in HOSTS}
    start_us = raw["tidb1"][0].t_us
    end_us = start_us + int(cut["until_s"] * 1e6)
    whole, kept, counts = {}, {}, {}
    mysql_seen = []
    for host in HOSTS:
        some = [p for p in raw[host] if p.t_us <= end_us]
        whole[host] = pcap_file.connections(some)
        kept[host] = [c for c in whole[host] if wanted(c, start_us, cut, mysql_seen)]
        # Packets of one host in the order of the large capture.
        order = {}
        for connection in kept[host]:
            for _, frame, _ in connection.packets:
                order[id(frame)] = True
        data = pcap_file.encode([p for p in some if id(p.frame) in order])
        path = os.path.join(folder, host + ".pcap.zst")
        subprocess.run(["zstd", "-q", "-f", "--ultra", "-22", "-o", path], input=data, check=True)
        with tempfile.NamedTemporaryFile(suffix=".pcap") as plain:
            plain.write(data)
            plain.flush()
            counts[host] = tshark_oracle.read(plain.name, PROTO)
        print(f"{scenario}/{host}: {len(kept[host])} connections, {len(data)} bytes, "
              f"{os.path.getsize(path)} compressed")
    with open(os.path.join(shared, "cluster", scenario, "truth.json"), encoding="utf-8") as handle:
        truth = json.load(handle)
    found = [c for connection in kept["tikv1"] for c in pcap_file.complaints(connection)]
    small = {
        "name": truth["name"],
        "guilty": truth["guilty"],
        "hosts": {host: {"address": truth["hosts"][host]["address"],
                         "streams_and_messages": counts[host].by_path(),
                         "batch_subcommands": counts[host].by_sub_command()} for host in HOSTS},
        "faults": [f for f in truth["faults"] if fault_remains(f, whole, kept, end_us)],
        "complaints": [{"t_ns": c.t_us * 1000, "client": c.connection.client[0], "region_id": c.region,
                        "key": c.key, "start": c.start, "end": c.end}
                       for c in sorted(found, key=lambda c: c.t_us)],
    }
    with open(os.path.join(folder, "truth.json"), "w", encoding="utf-8") as handle:
        handle.write(one_item_a_line(small))
    print(f"{scenario}: {len(small['faults'])} of {len(truth['faults'])} faults, "
          f"{len(small['complaints'])} complaints")


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) > 1 else 2
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    for scenario, cut in CUTS.items():
        cut_scenario(sys.argv[1], out, scenario, cut)
    return 0


if __name__ == "__main__":
    sys.exit(main())
