# SPDX-License-Identifier: Apache-2.0
"""Byte streams as Ethernet frames and capture files, for tests.

`conversation` turns what two ends wrote (as in `tls_traffic.TlsRun.flights`) into the frames of a
TCP connection. `impair` loses, reorders and duplicates some of them as a lossy path would, seen
after the loss. `write_pcap` makes a file of them. Seeds decide everything.
"""

import random
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import dpkt

from tests.support.internet_checksum import checksum, ones_complement_sum

FIN, SYN, RST, PSH, ACK, URG = (1 << bit for bit in range(6))
MODULUS = 1 << 32


@dataclass(frozen=True)
class Peer:
    """One end of a connection. isn: its initial sequence number."""

    address: str
    port: int
    isn: int = 0
    mac: bytes = b"\x02\0\0\0\0\1"


@dataclass(frozen=True)
class Wire:
    """Frame format of a connection. vlans: 802.1Q tags. timestamps: RFC 7323 option."""

    client: Peer = Peer("10.9.0.2", 40000, 1000)
    server: Peer = Peer("10.9.0.1", 443, 0xFFFF_F000, b"\x02\0\0\0\0\2")
    vlans: tuple[int, ...] = ()
    timestamps: bool = True
    mss: int = 1448


DEFAULT = Wire()


@dataclass(frozen=True)
class Segment:
    """A TCP segment. offset: of the first payload byte in the direction's stream, or -1 for the
    SYN.
    """

    direction: str
    offset: int
    payload: bytes = field(default=b"", repr=False)
    flags: int = ACK
    ack: int = 0  # stream offset of the other direction

    def frame(self, path: Wire, bad_checksum: bool = False) -> bytes:
        """The Ethernet frame."""
        source, target = path.client, path.server
        if self.direction == "s2c":
            source, target = target, source
        options = b"\x02\x04" + path.mss.to_bytes(2, "big") if self.flags & SYN else b""
        if path.timestamps:
            options += b"\1\1\x08\x0a" + (self.offset & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4)
        header = b"".join(
            (
                source.port.to_bytes(2, "big"),
                target.port.to_bytes(2, "big"),
                ((source.isn + 1 + self.offset) % MODULUS).to_bytes(4, "big"),
                ((target.isn + 1 + self.ack) % MODULUS if self.flags & ACK else 0).to_bytes(
                    4, "big"
                ),
                bytes([(20 + len(options)) // 4 << 4, self.flags]),
                b"\xff\xff\0\0\0\0",
            )
        )
        segment = header + options + self.payload
        a, b = ip_address(source.address).packed, ip_address(target.address).packed
        value = checksum(a + b + len(segment).to_bytes(4, "big") + b"\0\0\0\6" + segment)
        value ^= 0x0101 if bad_checksum else 0
        segment = segment[:16] + value.to_bytes(2, "big") + segment[18:]
        if len(a) == 16:
            packet = b"\x60\0\0\0" + len(segment).to_bytes(2, "big") + b"\6\x40" + a + b + segment
            ethertype = b"\x86\xdd"
        else:
            length = (20 + len(segment)).to_bytes(2, "big")
            ip = b"\x45\0" + length + b"\0\1\x40\0\x40\6\0\0" + a + b
            packet = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:] + segment
            ethertype = b"\x08\0"
        tags = b"".join(b"\x81\0" + vlan.to_bytes(2, "big") for vlan in path.vlans)
        frame = target.mac + source.mac + tags + ethertype + packet
        return frame.ljust(60, b"\0")


@dataclass(frozen=True)
class Reading:
    """A TCP segment as a peer reads it out of a frame. tcp_at, payload_at, end: places in it."""

    frame: bytes
    ip_at: int
    tcp_at: int
    payload_at: int
    end: int

    @property
    def seq(self) -> int:
        return int.from_bytes(self.frame[self.tcp_at + 4 : self.tcp_at + 8], "big")

    @property
    def flags(self) -> int:
        return self.frame[self.tcp_at + 13]

    @property
    def payload(self) -> bytes:
        return self.frame[self.payload_at : self.end]

    @property
    def whole(self) -> bytes:
        """The frame without link padding."""
        return self.frame[: self.end]

    @property
    def is_ipv4(self) -> bool:
        return self.frame[self.ip_at] >> 4 == 4

    @property
    def checksum_field(self) -> bytes:
        return self.frame[self.tcp_at + 16 : self.tcp_at + 18]

    @property
    def pseudo_header(self) -> bytes:
        """RFC 9293 section 3.1, RFC 8200 section 8.1."""
        first, last = (12, 20) if self.is_ipv4 else (8, 40)
        addresses = self.frame[self.ip_at + first : self.ip_at + last]
        return addresses + (self.end - self.tcp_at).to_bytes(4, "big") + b"\0\0\0\6"

    @property
    def ip_checksum_ok(self) -> bool:
        """RFC 791. IPv6 has none."""
        return not self.is_ipv4 or checksum(self.frame[self.ip_at : self.tcp_at]) == 0

    @property
    def tcp_checksum_ok(self) -> bool:
        return checksum(self.pseudo_header + self.frame[self.tcp_at : self.end]) == 0


def read(frame: bytes) -> Reading:
    """Reads a frame by RFC 791, 8200 (without extension headers) and 9293.

    Raises `ValueError` if there is no complete TCP segment.
    """
    at = 12
    while frame[at : at + 2] == b"\x81\0":
        at += 4
    kind, at = frame[at : at + 2], at + 2
    if kind == b"\x08\0":
        size = 4 * (frame[at] & 15)
        end, protocol = at + int.from_bytes(frame[at + 2 : at + 4], "big"), frame[at + 9]
    elif kind == b"\x86\xdd":
        size = 40
        end, protocol = at + size + int.from_bytes(frame[at + 4 : at + 6], "big"), frame[at + 6]
    else:
        raise ValueError("not IP")
    tcp = at + size
    if protocol != 6 or end > len(frame) or end - tcp < 20:
        raise ValueError("not a whole TCP segment")
    return Reading(frame, at, tcp, tcp + 4 * (frame[tcp + 12] >> 4), end)


def left_to_the_card(frame: bytes) -> bytes:
    """A finished frame as a host hands it to a card that fills in TCP checksums.

    The field holds the pseudo-header's sum. Short frames are not padded.
    """
    segment = read(frame)
    field = ones_complement_sum(segment.pseudo_header).to_bytes(2, "big")
    at = segment.tcp_at + 16
    return frame[:at] + field + frame[at + 2 : segment.end]


def conversation(flights, path=DEFAULT, cut=None, syn=True, fin=True):
    """Segments of a complete connection.

    flights: (direction, bytes) in the order of writing. cut: payload sizes, as a function that
    returns the next one (default: full segments).
    """
    sent = {"c2s": 0, "s2c": 0}
    segments = []
    if syn:
        segments += [
            Segment("c2s", -1, flags=SYN),
            Segment("s2c", -1, flags=SYN | ACK),
            Segment("c2s", 0),
        ]
    for direction, data in flights:
        other = "s2c" if direction == "c2s" else "c2s"
        at = 0
        while at < len(data):
            size = max(1, min(cut() if cut else path.mss, len(data) - at))
            segments.append(
                Segment(direction, sent[direction], data[at : at + size], ACK | PSH, sent[other])
            )
            sent[direction] += size
            at += size
        segments.append(Segment(other, sent[other], flags=ACK, ack=sent[direction]))
    if fin:
        for direction, other in (("c2s", "s2c"), ("s2c", "c2s")):
            segments.append(Segment(direction, sent[direction], flags=FIN | ACK, ack=sent[other]))
    return segments


def random_cut(seed: int, low: int = 1, high: int = 1448):
    """Random payload sizes."""
    chance = random.Random(seed)
    return lambda: chance.randint(low, high)


def impair(segments, seed, drop=0.03, reorder=0.03, duplicate=0.03, delay=20, recut=0.5):
    """The same stream over a bad path, as the receiver sees it.

    A lost segment comes again up to `delay` segments later. With probability `recut` it is then
    joined with the beginning of its successor. Only segments with payload are affected.
    """
    chance = random.Random(seed)
    placed = []
    for i, segment in enumerate(segments):
        place = float(i)
        if segment.payload:
            draw = chance.random()
            if draw < drop:
                place += chance.randint(2, delay)
                following = segments[i + 1] if i + 1 < len(segments) else segment
                joined = following.direction == segment.direction and following.payload
                if joined and following.offset > segment.offset and chance.random() < recut:
                    count = chance.randint(1, len(following.payload))
                    segment = replace(segment, payload=segment.payload + following.payload[:count])
            elif draw < drop + reorder:
                place += chance.randint(1, 4) + 0.5
            elif draw < drop + reorder + duplicate:
                placed.append((place + chance.randint(1, 5) + 0.25, i, segment))
        placed.append((place, i, segment))
    placed.sort(key=lambda item: item[:2])
    return [segment for _, _, segment in placed]


def frames(segments, path=DEFAULT):
    """The frames of segments."""
    return [segment.frame(path) for segment in segments]


def write_pcap(file: Path, all_frames, start: float = 1_700_000_000.0, nano=False) -> Path:
    """Writes a pcap file with one frame per millisecond."""
    with file.open("wb") as out:
        writer = dpkt.pcap.Writer(out, snaplen=1 << 17, nano=nano)
        for i, frame in enumerate(all_frames):
            writer.writepkt_time(frame, start + i / 1000)
    return file
