"""The packets of a capture in other clothes: link types, tags, tunnels, IPv6, fragments, offload.

    wrap_capture.py FORM IN.pcap[.zst] OUT.pcap      FORM: a name of FORMS, or `list`

Every form says the same TCP segments at the same times, so a decoder must say the same of it. A form makes of one
IPv4 packet (no link header, no padding) the frames that carry it. Checksums that a form computes are right where
Wireshark needs them to go on (IPv4 headers), and left 0 elsewhere, as offload does.
"""

import os
import random
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pcap_file  # noqa: E402

ETHERNET, NULL, LOOP, RAW, SLL, IPV4, IPV6, SLL2 = 1, 0, 108, 101, 113, 228, 229, 276
OUTER_A, OUTER_B = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"
OUTER6_A, OUTER6_B = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x02"
PREFIX = b"\xfd" + bytes(11)  # of the IPv6 address that stands for an IPv4 one: fd00::a4d:c is 10.77.0.12
ATOM = 8


def ethernet(kind, payload, pad=True):
    frame = b"\x02" * 6 + b"\x04" * 6 + struct.pack(">H", kind) + payload
    return frame + bytes(60 - len(frame)) if pad and len(frame) < 60 else frame


def vlan(number, kind, payload):
    return struct.pack(">HH", number, kind) + payload


def checksum(header):
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol, payload, number=0, flags=0x4000, source=OUTER_A, destination=OUTER_B, options=b""):
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | 5 + len(options) // 4, 0, 20 + len(options) + len(payload), number, flags,
                       64, protocol, 0, source, destination) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(next_header, payload, source=OUTER6_A, destination=OUTER6_B, length=None):
    return struct.pack(">IHBB16s16s", 0x60000000, len(payload) if length is None else length, next_header, 64, source,
                       destination) + payload


def udp(port, payload):
    return struct.pack(">HHHH", 50000, port, 8 + len(payload), 0) + payload


def vxlan(frame, flags=0x08000000):
    return struct.pack(">II", flags, 77 << 8) + frame


def geneve(kind, payload, options=b""):
    return struct.pack(">BBHI", len(options) // 4, 0, kind, 5 << 8) + options + payload


def gre(flags, kind, payload):
    """RFC 2784 and 2890. The checksum covers header and payload."""
    head = struct.pack(">HH", flags, kind)
    fields = [bit for bit in (0x8000, 0x2000, 0x1000) if flags & bit]
    rest = b"".join(bytes(4) if bit == 0x8000 else struct.pack(">I", 7) for bit in fields)
    whole = head + rest + payload
    if flags & 0x8000:
        value = checksum(whole + bytes(len(whole) % 2))
        whole = whole[:4] + struct.pack(">H", value) + whole[6:]
    return whole


def as_ipv6(packet):
    """(payload, source, destination) of the IPv6 packet that says the same."""
    return packet[(packet[0] & 15) * 4:], PREFIX + packet[12:16], PREFIX + packet[16:20]


def six(packet, *headers):
    """An IPv6 packet with extension headers: (number, bytes behind its next-header byte)."""
    payload, source, destination = as_ipv6(packet)
    next_header = 6
    for number, rest in reversed(headers):
        payload = bytes([next_header]) + rest + payload
        next_header = number
    return ipv6(next_header, payload, source, destination)


def pieces(payload, size):
    size -= size % ATOM
    return [(at, payload[at:at + size]) for at in range(0, len(payload), size)]


class Fragmenter:
    """IPv4 and IPv6 fragments, each datagram with a number of its own. `order` is given a list of (offset, bytes) and
    returns what is sent, in order."""

    def __init__(self, mtu, order=lambda parts: parts):
        self.mtu, self.order, self.number = mtu, order, 0

    def parts(self, payload, header):
        self.number += 1
        return self.order(pieces(payload, max(ATOM, self.mtu - header)))

    def v4(self, packet):
        header = (packet[0] & 15) * 4
        payload = packet[header:]
        if len(packet) <= self.mtu:
            return [packet]
        return [ipv4(packet[9], part, self.number & 0xFFFF, at // ATOM | (0x2000 if at + len(part) < len(payload) else 0),
                     packet[12:16], packet[16:20], packet[20:header]) for at, part in self.parts(payload, header)]

    def v6(self, packet, before=(), inside=()):
        payload, source, destination = as_ipv6(packet)
        first = 6
        for number, rest in reversed(inside):
            payload = bytes([first]) + rest + payload
            first = number
        out = []
        for at, part in self.parts(payload, 48):
            more = 1 if at + len(part) < len(payload) else 0
            body = struct.pack(">BBHI", first, 0, at | more, self.number) + part
            next_header = 44
            for number, rest in reversed(before):
                body = bytes([next_header]) + rest + body
                next_header = number
            out.append(ipv6(next_header, body, source, destination))
        return out


def shuffled(parts, rng=random.Random(6)):
    return rng.sample(parts, len(parts))


def overlapping(parts):
    """Every part begins 16 bytes earlier than it must, where those were sent before."""
    out = []
    for at, part in parts:
        back = out[-1][1][-16:] if out and len(out[-1][1]) >= 16 and len(out[-1][1]) % ATOM == 0 else b""
        out.append((at - len(back), back + part))
    return out


def wrapped4(*layers):
    """Ethernet with an outer IPv4 header around what `layers` make of a packet."""
    def form(packet):
        for layer in layers:
            packet = layer(packet)
        return [ethernet(0x0800, packet)]
    return form


def tunnel_fragments(fragmenter, make):
    return lambda packet: [ethernet(0x0800, part) for part in fragmenter.v4(make(packet))]


def frame_of(packet):
    return ethernet(0x0800, packet)


def bad_checksums(packet):
    header = (packet[0] & 15) * 4
    packet = packet[:10] + b"\xbe\xef" + packet[12:]
    return packet[:header + 16] + b"\xde\xad" + packet[header + 18:]


HOP, ROUTING, DESTINATION = (0, b"\x00" + b"\x01\x04" + bytes(4)), (43, b"\x02\x04" + bytes(5) + OUTER6_B), \
    (60, b"\x01" + b"\x01\x0c" + bytes(12))
ATOMIC = (44, b"\x00\x00\x00" + b"\x00\x00\x00\x63")
AH = (51, b"\x04\x00\x00" + struct.pack(">II", 1, 1) + bytes(12))


def link(kind, head):
    return kind, lambda packet: [head + packet]


# name: (link type, packet -> frames). Names that contain "6" hold IPv6 addresses of their own (PREFIX).
FORMS = {
    "ethernet_unpadded": (ETHERNET, lambda p: [ethernet(0x0800, p, pad=False)]),
    "ethernet_long_padding": (ETHERNET, lambda p: [ethernet(0x0800, p) + b"padding" * 9]),
    "sll": link(SLL, struct.pack(">HHH", 0, 1, 6) + bytes(8) + b"\x08\x00"),
    "sll2": link(SLL2, b"\x08\x00" + struct.pack(">HIHBB", 0, 2, 1, 0, 6) + bytes(8)),
    "sll_vlan": link(SLL, struct.pack(">HHH", 0, 1, 6) + bytes(8) + b"\x81\x00" + b"\x00\x05\x08\x00"),
    "null": link(NULL, b"\x02\x00\x00\x00"),
    "null_big_endian": link(NULL, b"\x00\x00\x00\x02"),
    "loop": link(LOOP, b"\x00\x00\x00\x02"),
    "raw": link(RAW, b""),
    "raw_v4_only": link(IPV4, b""),
    "vlan": (ETHERNET, lambda p: [ethernet(0x8100, vlan(5, 0x0800, p))]),
    "qinq": (ETHERNET, lambda p: [ethernet(0x88A8, vlan(9, 0x8100, vlan(5, 0x0800, p)))]),
    "qinq_old": (ETHERNET, lambda p: [ethernet(0x9100, vlan(9, 0x8100, vlan(5, 0x0800, p)))]),
    "vlan_priority": (ETHERNET, lambda p: [ethernet(0x8100, vlan(0xE000, 0x0800, p))]),
    "vxlan": (ETHERNET, wrapped4(frame_of, vxlan, lambda p: ipv4(17, udp(4789, p)))),
    "vxlan_linux_port": (ETHERNET, wrapped4(frame_of, vxlan, lambda p: ipv4(17, udp(8472, p)))),
    "vxlan_group_policy": (ETHERNET, wrapped4(frame_of, lambda p: vxlan(p, 0x88000017),
                                              lambda p: ipv4(17, udp(4789, p)))),
    "vxlan_vlan": (ETHERNET, wrapped4(lambda p: ethernet(0x8100, vlan(3, 0x0800, p)), vxlan,
                                      lambda p: ipv4(17, udp(4789, p)))),
    "vxlan_on_v_six": (ETHERNET, lambda p: [ethernet(0x86DD, ipv6(17, udp(4789, vxlan(frame_of(p)))))]),
    "vxlan_in_sll2": (SLL2, lambda p: [b"\x08\x00" + struct.pack(">HIHBB", 0, 2, 1, 0, 6) + bytes(8) +
                                       ipv4(17, udp(4789, vxlan(frame_of(p))))]),
    "geneve": (ETHERNET, wrapped4(frame_of, lambda p: geneve(0x6558, p), lambda p: ipv4(17, udp(6081, p)))),
    "geneve_options": (ETHERNET, wrapped4(frame_of, lambda p: geneve(0x6558, p, b"\x01\x02\x80\x01abcd" + b"\x01\x03\x01\x00"),
                                          lambda p: ipv4(17, udp(6081, p)))),
    "geneve_ip": (ETHERNET, wrapped4(lambda p: geneve(0x0800, p), lambda p: ipv4(17, udp(6081, p)))),
    "gre_ip": (ETHERNET, wrapped4(lambda p: gre(0, 0x0800, p), lambda p: ipv4(47, p))),
    "gre_checksum": (ETHERNET, wrapped4(lambda p: gre(0x8000, 0x0800, p), lambda p: ipv4(47, p))),
    "gre_key": (ETHERNET, wrapped4(lambda p: gre(0x2000, 0x0800, p), lambda p: ipv4(47, p))),
    "gre_sequence": (ETHERNET, wrapped4(lambda p: gre(0x1000, 0x0800, p), lambda p: ipv4(47, p))),
    "gre_all": (ETHERNET, wrapped4(lambda p: gre(0xB000, 0x0800, p), lambda p: ipv4(47, p))),
    "gre_bridged": (ETHERNET, wrapped4(frame_of, lambda p: gre(0, 0x6558, p), lambda p: ipv4(47, p))),
    "gre_bridged_key": (ETHERNET, wrapped4(frame_of, lambda p: gre(0x2000, 0x6558, p), lambda p: ipv4(47, p))),
    "gre_on_v_six": (ETHERNET, lambda p: [ethernet(0x86DD, ipv6(47, gre(0x2000, 0x0800, p)))]),
    "gre_v6": (ETHERNET, lambda p: [ethernet(0x0800, ipv4(47, gre(0, 0x86DD, six(p))))]),
    "ip_in_ip": (ETHERNET, wrapped4(lambda p: ipv4(4, p))),
    "ip_in_v_six": (ETHERNET, lambda p: [ethernet(0x86DD, ipv6(4, p))]),
    "v6_in_ip": (ETHERNET, wrapped4(six, lambda p: ipv4(41, p))),
    "tunnel_in_tunnel": (ETHERNET, wrapped4(frame_of, vxlan, lambda p: ipv4(17, udp(4789, p)), lambda p: gre(0x2000, 0x0800, p),
                                            lambda p: ipv4(47, p))),
    "v6": (ETHERNET, lambda p: [ethernet(0x86DD, six(p))]),
    "v6_sll2": (SLL2, lambda p: [b"\x86\xdd" + struct.pack(">HIHBB", 0, 2, 1, 0, 6) + bytes(8) + six(p)]),
    "v6_null": (NULL, lambda p: [b"\x1e\x00\x00\x00" + six(p)]),
    "v6_loop_bsd": (LOOP, lambda p: [b"\x00\x00\x00\x18" + six(p)]),
    "v6_raw": (IPV6, lambda p: [six(p)]),
    "v6_vlan": (ETHERNET, lambda p: [ethernet(0x8100, vlan(5, 0x86DD, six(p)))]),
    "v6_hop_by_hop": (ETHERNET, lambda p: [ethernet(0x86DD, six(p, HOP))]),
    "v6_routing": (ETHERNET, lambda p: [ethernet(0x86DD, six(p, ROUTING))]),
    "v6_destination": (ETHERNET, lambda p: [ethernet(0x86DD, six(p, DESTINATION))]),
    "v6_ah": (ETHERNET, lambda p: [ethernet(0x86DD, six(p, AH))]),
    "v6_atomic_fragment": (ETHERNET, lambda p: [ethernet(0x86DD, six(p, ATOMIC))]),
    "v6_all_headers": (ETHERNET, lambda p: [ethernet(0x86DD, six(p, HOP, DESTINATION, ROUTING, ATOMIC, AH))]),
    "options_of_ip": (ETHERNET, lambda p: [ethernet(0x0800, ipv4(6, p[(p[0] & 15) * 4:], 0, 0x4000, p[12:16], p[16:20],
                                                                 b"\x07\x07\x04" + bytes(5)))]),
    "bad_checksums": (ETHERNET, lambda p: [frame_of(bad_checksums(p))]),
    # The length of an offloaded segment; there is no padding then.
    "offload_length_0": (ETHERNET, lambda p: [ethernet(0x0800, p[:2] + b"\x00\x00" + p[4:], pad=False)]),
    "v6_offload_length_0": (ETHERNET, lambda p: [ethernet(0x86DD, ipv6(6, *as_ipv6(p), length=0), pad=False)]),
    "fragments_576": (ETHERNET, lambda p, f=Fragmenter(576): [frame_of(q) for q in f.v4(p)]),
    "fragments_68": (ETHERNET, lambda p, f=Fragmenter(68): [frame_of(q) for q in f.v4(p)]),
    "fragments_reversed": (ETHERNET, lambda p, f=Fragmenter(300, lambda s: s[::-1]): [frame_of(q) for q in f.v4(p)]),
    "fragments_shuffled": (ETHERNET, lambda p, f=Fragmenter(100, shuffled): [frame_of(q) for q in f.v4(p)]),
    "fragments_twice": (ETHERNET, lambda p, f=Fragmenter(400, lambda s: [x for x in s for _ in (1, 2)]):
                        [frame_of(q) for q in f.v4(p)]),
    "fragments_overlapping": (ETHERNET, lambda p, f=Fragmenter(200, overlapping): [frame_of(q) for q in f.v4(p)]),
    "fragments_raw": (RAW, lambda p, f=Fragmenter(300): f.v4(p)),
    "fragments_of_vxlan": (ETHERNET, tunnel_fragments(Fragmenter(500), lambda p: ipv4(17, udp(4789, vxlan(frame_of(p)))))),
    "fragments_of_gre": (ETHERNET, tunnel_fragments(Fragmenter(500), lambda p: ipv4(47, gre(0x2000, 0x6558, frame_of(p))))),
    "fragments_in_geneve": (ETHERNET, lambda p, f=Fragmenter(400): [
        ethernet(0x0800, ipv4(17, udp(6081, geneve(0x6558, frame_of(q))))) for q in f.v4(p)]),
    "fragments_in_fragments": (ETHERNET, lambda p, f=Fragmenter(400), g=Fragmenter(200): [
        frame_of(r) for q in f.v4(p) for r in g.v4(ipv4(17, udp(4789, vxlan(frame_of(q)))))]),
    "v6_fragments": (ETHERNET, lambda p, f=Fragmenter(400): [ethernet(0x86DD, q) for q in f.v6(p)]),
    "v6_fragments_shuffled": (ETHERNET, lambda p, f=Fragmenter(200, shuffled): [ethernet(0x86DD, q) for q in f.v6(p)]),
    "v6_fragments_headers": (ETHERNET, lambda p, f=Fragmenter(400): [
        ethernet(0x86DD, q) for q in f.v6(p, before=(HOP, ROUTING), inside=(DESTINATION,))]),
}


def ip_packets(data):
    """(t_us, IPv4 packet without link header and padding) of a capture with Ethernet frames."""
    for t_us, frame in pcap_file.packets(data):
        if frame[12:14] == b"\x08\x00":
            length = struct.unpack_from(">H", frame, 16)[0] or len(frame) - 14
            packet = frame[14:14 + length]
            # An offloaded length is written out where it fits: the forms put headers around it.
            yield t_us, packet[:2] + struct.pack(">H", min(len(packet), 65535)) + packet[4:]


def wrap(form, some_packets):
    """A pcap file of (t_us, IPv4 packet) pairs in another form."""
    kind, make = FORMS[form]
    return pcap_file.encode(((t_us, frame) for t_us, packet in some_packets for frame in make(packet)), kind)


def main():
    if len(sys.argv) == 2 and sys.argv[1] == "list":
        print("\n".join(FORMS))
        return 0
    if len(sys.argv) != 4 or sys.argv[1] not in FORMS:
        print(__doc__.strip())
        return 2
    with open(sys.argv[3], "wb") as handle:
        handle.write(wrap(sys.argv[1], ip_packets(pcap_file.load(sys.argv[2]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
