"""Reads and writes classic pcap files for tests, with nothing but Python's standard library.

Independent of the program under test on purpose: what it says of a capture is an oracle. Ethernet, IPv4 and
TCP only, which is what the captures of the tests hold. Files whose name ends with .zst pass through the zstd
command.
"""

import collections
import re
import struct
import subprocess

Packet = collections.namedtuple("Packet", "t_us frame")  # microseconds since the epoch, the whole frame
Tcp = collections.namedtuple("Tcp", "source destination sequence flags payload")  # (address, port) twice

SYN, ACK, FIN, RST = 0x02, 0x10, 0x01, 0x04


def load(path):
    """All bytes of a file, unpacked if its name ends with .zst."""
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    with open(path, "rb") as handle:
        return handle.read()


def packets(data):
    """The packets of a little-endian microsecond pcap with whole Ethernet frames."""
    if struct.unpack_from("<I", data)[0] != 0xA1B2C3D4:
        raise ValueError("not a little-endian microsecond pcap")
    at = 24
    while at + 16 <= len(data):
        seconds, micros, captured, _ = struct.unpack_from("<IIII", data, at)
        yield Packet(seconds * 1000000 + micros, data[at + 16:at + 16 + captured])
        at += 16 + captured


def encode(some_packets, link_type=1):
    """A pcap file of (t_us, frame) pairs."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link_type)]
    for t_us, frame in some_packets:
        out.append(struct.pack("<IIII", t_us // 1000000, t_us % 1000000, len(frame), len(frame)))
        out.append(frame)
    return b"".join(out)


def tcp_of(frame):
    """The TCP segment in an Ethernet frame, or None."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    ip_length = struct.unpack_from(">H", frame, 16)[0]
    start = 14 + (frame[14] & 15) * 4
    source_port, destination_port, sequence = struct.unpack_from(">HHI", frame, start)
    data = start + (frame[start + 12] >> 4) * 4
    # Offloaded segments may say length 0: then the frame says it.
    end = 14 + ip_length if ip_length else len(frame)
    return Tcp((".".join(map(str, frame[26:30])), source_port),
               (".".join(map(str, frame[30:34])), destination_port),
               sequence, frame[start + 13], frame[data:end])


class Connection:
    """One TCP connection; a new SYN on the same ports starts a new one. `client` sent the SYN, or, if that
    was not seen, has the higher port."""

    def __init__(self, client, server, t_us, opened):
        self.client, self.server, self.first_us, self.opened = client, server, t_us, opened
        self.packets = []  # (t_us, frame, Tcp)

    def name(self):
        return f"{self.client[0]}:{self.client[1]}-{self.server[0]}:{self.server[1]}"

    def stream(self, from_client):
        """[(offset, t_us)] and the ordered bytes of one direction; the first copy of a byte wins. Bytes
        behind a hole are left out."""
        segments, start = [], None
        for t_us, _, tcp in self.packets:
            if (tcp.source == self.client) != from_client:
                continue
            if tcp.flags & SYN:
                start = (tcp.sequence + 1) & 0xFFFFFFFF
            elif tcp.payload:
                if start is None:
                    start = tcp.sequence
                segments.append((((tcp.sequence - start + 0x80000000) & 0xFFFFFFFF) - 0x80000000, t_us, tcp.payload))
        segments.sort(key=lambda s: s[0])
        marks, parts, at = [], [], 0
        for offset, t_us, payload in segments:
            if offset > at:
                break
            if offset + len(payload) > at:
                marks.append((at, t_us))
                parts.append(payload[at - offset:])
                at = offset + len(payload)
        return marks, b"".join(parts)


def connections(some_packets):
    """All TCP connections in the order of their first packet."""
    found, current = [], {}
    for packet in some_packets:
        tcp = tcp_of(packet.frame)
        if tcp is None:
            continue
        ends = frozenset((tcp.source, tcp.destination))
        begins = tcp.flags & (SYN | ACK) == SYN
        connection = current.get(ends)
        repeated = (connection is not None and connection.opened and connection.client == tcp.source and
                    connection.packets[0][2].sequence == tcp.sequence)
        if connection is None or (begins and not repeated):
            client, server = tcp.source, tcp.destination
            if not begins and client[1] < server[1]:
                client, server = server, client
            connection = current[ends] = Connection(client, server, packet.t_us, begins)
            found.append(connection)
        connection.packets.append((packet.t_us, packet.frame, tcp))
    return found


# The forms in which the store of the captures refuses a key or a range (all keys encoded, hex).
COMPLAINT = re.compile(
    rb"Key (?P<key>[0-9A-F]+) is out of \[region (?P<region>\d+)\] \[(?P<start>[0-9A-F]*), (?P<end>[0-9A-F]*)\)|"
    rb"key (?P<key2>[0-9A-F]+) is not in region key range \[(?P<start2>[0-9A-F]*), (?P<end2>[0-9A-F]*)\) "
    rb"for region (?P<region2>\d+)|"
    rb"Request range exceeds bound, request range:\[(?P<from>[0-9A-F]*), (?P<to>[0-9A-F]*)\), "
    rb"physical bound:\[(?P<start3>[0-9A-F]*), (?P<end3>[0-9A-F]*)\)")

Complaint = collections.namedtuple("Complaint", "t_us connection region key start end")


def complaints(connection):
    """Every range complaint that the server of this connection wrote, found as text in its bytes. A text
    that a frame header cuts in two is not found. `region` is None where the text does not say it."""
    marks, data = connection.stream(from_client=False)
    for hit in COMPLAINT.finditer(data):
        t_us = max((t for offset, t in marks if offset <= hit.start()), default=connection.first_us)
        group = hit.groupdict()

        def pick(*names):
            return next((group[n].decode().lower() for n in names if group[n] is not None), None)

        region = pick("region", "region2")
        yield Complaint(t_us, connection, int(region) if region else None, pick("key", "key2", "from"),
                        pick("start", "start2", "start3"), pick("end", "end2", "end3"))
