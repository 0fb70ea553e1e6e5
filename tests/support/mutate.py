#!/usr/bin/env python3
"""Damages a capture in ways that real ones are damaged.

    mutate.py IN.pcap[.zst] OUT.pcap STEP...

Steps, in the order given, all deterministic for one --seed=N:
    start=N         drop the first N packets
    lose=P          drop P percent of the packets
    duplicate=P     repeat P percent of the packets, right behind themselves
    shuffle=K       move each packet by at most K places; the time stamps stay in order
    mss=N           split TCP payloads into segments of at most N bytes
    snaplen=N       keep the first N bytes of each packet, with its true length
    direction=client|server   keep what TCP clients (servers) sent, nothing of the other side
    shift=MS        add MS milliseconds to every time stamp
    drift=PPM       let the clock run PPM millionths too fast, from the first packet on
    nat=A:B:N       what has the address A has the address B and ports N higher (round the corner at 65536),
                    as if the capture had been made behind a NAT or a proxy; checksums stay as they were
    set=S:MS        set the clock forward (back) by MS milliseconds, S seconds after the first packet

Ethernet, IPv4, TCP, classic pcap with microseconds.
"""

import random
import struct
import sys

import pcap_file
from pcap_file import Packet, tcp_of

FIN, PSH = 0x01, 0x08


def start(packets, count):
    return packets[int(count):]


def lose(packets, percent, rng):
    return [p for p in packets if rng.random() * 100 >= float(percent)]


def duplicate(packets, percent, rng):
    out = []
    for packet in packets:
        out.append(packet)
        if rng.random() * 100 < float(percent):
            out.append(packet)
    return out


def shuffle(packets, places, rng):
    """Each packet lands at most `places` away from where it was."""
    reach = int(places)
    order = sorted(range(len(packets)), key=lambda i: (i + rng.random() * reach, i))
    times = [p.t_us for p in packets]
    return [Packet(t, packets[i].frame) for t, i in zip(times, order)]


def mss(packets, size):
    size = int(size)
    out = []
    for packet in packets:
        tcp = tcp_of(packet.frame)
        if tcp is None or len(tcp.payload) <= size:
            out.append(packet)
            continue
        ip_header = 14 + (packet.frame[14] & 15) * 4
        head_length = ip_header + (packet.frame[ip_header + 12] >> 4) * 4
        for at in range(0, len(tcp.payload), size):
            piece = tcp.payload[at:at + size]
            head = bytearray(packet.frame[:head_length])
            struct.pack_into(">H", head, 16, head_length - 14 + len(piece))
            struct.pack_into(">I", head, ip_header + 4, (tcp.sequence + at) & 0xFFFFFFFF)
            if at + size < len(tcp.payload):
                head[ip_header + 13] &= ~(FIN | PSH) & 0xFF
            out.append(Packet(packet.t_us, bytes(head) + piece))
    return out


def direction(packets, side):
    """What the clients or the servers of TCP connections sent. The client sent the SYN; of a connection
    without one it is the end with the higher port."""
    kept = set()
    for connection in pcap_file.connections(packets):
        for _, frame, tcp in connection.packets:
            if (tcp.source == connection.client) == (side == "client"):
                kept.add(id(frame))
    return [p for p in packets if id(p.frame) in kept]


def shift(packets, milliseconds):
    return [Packet(p.t_us + round(float(milliseconds) * 1000), p.frame) for p in packets]


def drift(packets, ppm):
    first = packets[0].t_us if packets else 0
    return [Packet(p.t_us + round((p.t_us - first) * float(ppm) / 1e6), p.frame) for p in packets]


def nat_port(port, add):
    return (port - 1024 + int(add)) % (65536 - 1024) + 1024


def nat(packets, addresses_and_ports):
    old, new, add = addresses_and_ports.split(":")
    old, new = (bytes(map(int, address.split("."))) for address in (old, new))
    out = []
    for packet in packets:
        frame = packet.frame
        if tcp_of(frame) is not None and old in (frame[26:30], frame[30:34]):
            frame = bytearray(frame)
            ports = 14 + (frame[14] & 15) * 4
            for address, port in ((26, ports), (30, ports + 2)):
                if frame[address:address + 4] == old:
                    frame[address:address + 4] = new
                    struct.pack_into(">H", frame, port, nat_port(struct.unpack_from(">H", frame, port)[0], add))
            frame = bytes(frame)
        out.append(Packet(packet.t_us, frame))
    return out


def set_clock(packets, when_and_by):
    """The order of packets stays: a clock that is set back writes times twice."""
    when, by = when_and_by.split(":")
    moment = (packets[0].t_us if packets else 0) + round(float(when) * 1e6)
    return [Packet(p.t_us + (round(float(by) * 1000) if p.t_us >= moment else 0), p.frame) for p in packets]


STEPS = {"start": start, "lose": lose, "duplicate": duplicate, "shuffle": shuffle, "mss": mss,
         "direction": direction, "shift": shift, "drift": drift, "set": set_clock, "nat": nat}
RANDOM_STEPS = {"lose", "duplicate", "shuffle"}


def encode(packets, snaplen=None):
    """A pcap file; with a snaplen the packets are cut and their true length is kept."""
    if snaplen is None:
        return pcap_file.encode(packets)
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, 1)]
    for packet in packets:
        out.append(struct.pack("<IIII", packet.t_us // 1000000, packet.t_us % 1000000,
                               min(len(packet.frame), snaplen), len(packet.frame)))
        out.append(packet.frame[:snaplen])
    return b"".join(out)


def mutate(packets, steps, seed=1):
    """steps: [(name, value)]. The bytes of the damaged capture."""
    rng = random.Random(seed)
    snaplen = None
    for name, value in steps:
        if name == "snaplen":
            snaplen = int(value)
        elif name in RANDOM_STEPS:
            packets = STEPS[name](packets, value, rng)
        else:
            packets = STEPS[name](packets, value)
    return encode(packets, snaplen)


def main():
    words = [w for w in sys.argv[1:] if not w.startswith("--seed=")]
    seed = next((int(w[7:]) for w in sys.argv[1:] if w.startswith("--seed=")), 1)
    if len(words) < 3 or any(w.split("=")[0] not in STEPS and not w.startswith("snaplen=") for w in words[2:]):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if words[:1] in (["--help"], ["-h"]) else 2
    packets = list(pcap_file.packets(pcap_file.load(words[0])))
    with open(words[1], "wb") as handle:
        handle.write(mutate(packets, [tuple(w.split("=", 1)) for w in words[2:]], seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
