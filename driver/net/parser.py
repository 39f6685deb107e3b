# SPDX-License-Identifier: Apache-2.0
"""What the device's parser sees in a frame: the bit-exact model of `hdl/ingress/parser.py`.

Ethernet II (IEEE 802.3), up to two VLAN tags (IEEE 802.1Q, 802.1ad), IPv4 (RFC 791) with options,
IPv6 (RFC 8200) with hop-by-hop, routing and destination options headers, TCP (RFC 9293) with
options. A segment counts only if the whole of it is in the frame: fragments, IPv6 fragment
headers (atomic ones too), routing headers with segments left, jumbograms, encrypted or unknown
headers and truncated packets are not TCP here and pass the device untouched.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from sealane.hdl.abi.commands import FLOW_KEY
from sealane.hdl.abi.config import Config

from .checksum import ones_complement_sum

TPIDS: Final = (0x8100, 0x88A8, 0x9100)
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
HOP_BY_HOP: Final = 0
TCP: Final = 6
ROUTING: Final = 43
FRAGMENT: Final = 44
DESTINATION_OPTIONS: Final = 60
EXTENSIONS: Final = (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS)  # headers that are read

FIN, SYN, RST, PSH, ACK, URG = (1 << bit for bit in range(6))


@dataclass(frozen=True)
class Parsed:
    """The parser's result. Without `is_tcp` all fields but the first four are 0.

    oversize: longer than `Config.max_frame`; then all others are 0. frame_bytes: of the frame.
    refused_tcp: IP names TCP, or a fragment or a packet on its way to another destination that
    may hide it, and still it is not a whole segment. checksum_ok: IPv4 header (if any) and TCP.
    src, dst: addresses, first byte highest. key: `FLOW_KEY`, packed. seq: of the first payload
    byte, or of the SYN. tcp_flags: CWR ECE URG ACK PSH RST SYN FIN, FIN in bit 0.
    payload_offset: bytes from the frame's beginning. payload_length: bytes, by the IP length.
    tcp_offset: of the TCP header in the frame. tcp_checksum: as it stands there. segment_sum: of
    segment and pseudo-header, 1 to 0xFFFF. Both have the byte that comes first in the low bits.
    """

    is_tcp: bool = False
    oversize: bool = False
    frame_bytes: int = 0
    refused_tcp: bool = False
    checksum_ok: bool = False
    key: int = 0
    ipv6: bool = False
    src: int = 0
    dst: int = 0
    sport: int = 0
    dport: int = 0
    seq: int = 0
    tcp_flags: int = 0
    payload_offset: int = 0
    payload_length: int = 0
    tcp_offset: int = 0
    tcp_checksum: int = 0
    segment_sum: int = 0


def parse(frame: bytes, config: Config) -> Parsed:
    """What the device sees in a frame (without its check sequence). Never raises."""
    if len(frame) > config.max_frame:
        return Parsed(oversize=True)
    at = 12
    ethertype = int.from_bytes(frame[at : at + 2], "big")
    for _ in range(2):
        if ethertype not in TPIDS:
            break
        at += 4
        ethertype = int.from_bytes(frame[at : at + 2], "big")
    packet_at = at + 2
    packet = frame[packet_at:]
    found, may_be_tcp = None, False
    if ethertype == ETHERTYPE_IPV4:
        found, may_be_tcp = _ipv4(packet)
    elif ethertype == ETHERTYPE_IPV6:
        found, may_be_tcp = _ipv6(packet)
    not_tcp = Parsed(frame_bytes=len(frame), refused_tcp=may_be_tcp)
    if found is None:
        return not_tcp
    segment_at, end, addresses, header_ok = found
    # What follows `end` is Ethernet padding.
    if end > len(packet) or segment_at + 20 > end:
        return not_tcp
    segment = packet[segment_at:end]
    data_offset = (segment[12] >> 4) * 4
    if data_offset < 20 or data_offset > len(segment):
        return not_tcp
    pseudo_header = addresses + len(segment).to_bytes(4, "big") + TCP.to_bytes(4, "big")
    total = ones_complement_sum(pseudo_header + segment)
    ends = _ends(addresses, segment[:4])
    return Parsed(
        is_tcp=True,
        frame_bytes=len(frame),
        checksum_ok=header_ok and total == 0xFFFF,
        key=ends.key,
        ipv6=len(addresses) == 32,
        src=ends.src,
        dst=ends.dst,
        sport=ends.sport,
        dport=ends.dport,
        seq=int.from_bytes(segment[4:8], "big"),
        tcp_flags=segment[13],
        payload_offset=packet_at + segment_at + data_offset,
        payload_length=len(segment) - data_offset,
        tcp_offset=packet_at + segment_at,
        tcp_checksum=int.from_bytes(segment[16:18], "little"),
        segment_sum=(total & 0xFF) << 8 | total >> 8,
    )


class _Ends(NamedTuple):
    src: int
    dst: int
    sport: int
    dport: int
    key: int


@lru_cache(1 << 14)
def _ends(addresses: bytes, ports: bytes) -> _Ends:
    """Both addresses, both ports and the packed key, which are those of the whole flow."""
    half = len(addresses) // 2
    src, dst = int.from_bytes(addresses[:half], "big"), int.from_bytes(addresses[half:], "big")
    sport, dport = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
    key = FLOW_KEY.pack(
        {"src": src, "dst": dst, "sport": sport, "dport": dport, "ipv6": int(half == 16)}
    )
    return _Ends(src, dst, sport, dport, key)


_Found = tuple[int, int, bytes, bool]
"""Where the TCP segment starts and ends in the packet, both addresses, header checksum good."""


def _ipv4(packet: bytes) -> tuple[_Found | None, bool]:
    """The segment, if there may be a whole one, and whether the header names TCP."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != TCP:
        return None, False
    header = (packet[0] & 15) * 4
    end = int.from_bytes(packet[2:4], "big")
    # More-fragments flag and fragment offset.
    fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
    if header < 20 or fragment:
        return None, True
    header_ok = ones_complement_sum(packet[:header]) == 0xFFFF
    return (header, end, packet[12:20], header_ok), True


def _ipv6(packet: bytes) -> tuple[_Found | None, bool]:
    """The same; IPv6 has no header checksum. TCP may also lie behind a header that is not read."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None, False
    end = 40 + int.from_bytes(packet[4:6], "big")
    next_header, at = packet[6], 40
    while next_header != TCP:
        if next_header not in (*EXTENSIONS, FRAGMENT) or at + 8 > len(packet):
            return None, False
        if next_header == FRAGMENT or (next_header == ROUTING and packet[at + 3]):
            return None, packet[at] in (TCP, *EXTENSIONS, FRAGMENT)
        next_header, at = packet[at], at + (packet[at + 1] + 1) * 8
    return (at, end, packet[8:40], True), at + 8 <= len(packet)
