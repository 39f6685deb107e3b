# SPDX-License-Identifier: Apache-2.0
"""Segmentation as a stack or its network card does it behind the point where a sender captures.

With segmentation offload on (Linux: TSO, GSO), TCP hands down up to 64 KiB in one segment, and a
capture on the sender shows that instead of what is on the wire; one on the receiver shows what the
card has joined. Such a frame is longer than a card takes that encrypts, so it is cut in front of
it: sequence number, lengths, identification and checksums anew, FIN and PSH in the last segment
only, CWR in the first (RFC 9293 section 3.1, RFC 791 section 3.1, RFC 3168 section 6.1.2).
"""

from collections.abc import Sequence
from dataclasses import replace

from sealane.hdl.abi.config import Config

from ..net.checksum_offload import fill_in, packet_offset, pseudo_header_sum
from ..net.parser import FIN, PSH, Parsed, parse
from .capture import Packet

MTU = 1500  # bytes of an IP packet, which a capture does not tell
IPV6_HEADER = 40
CWR = 0x80


def cut_long(
    packets: Sequence[Packet], parsed: Sequence[Parsed], host: Config, longest: int
) -> tuple[list[Packet], list[Parsed], list[int]]:
    """The packets with every sound TCP segment in a frame of more than `longest` bytes cut to
    segments that fit the MTU; they keep its number, time and original length.

    parsed: what `host` reads in each packet. Returns also what it reads in each packet that comes
    out, and where the first packet that each given one became stands, then the count of all.
    """
    out: list[Packet] = []
    heads: list[Parsed] = []
    first = []
    for packet, head in zip(packets, parsed, strict=True):
        first.append(len(out))
        if len(packet.frame) <= longest or not (head.payload_length and head.checksum_ok):
            out.append(packet)
            heads.append(head)
            continue
        for frame in cut(packet.frame, head):
            out.append(replace(packet, frame=frame))
            heads.append(parse(frame, host))
    return out, heads, [*first, len(out)]


def cut(frame: bytes, head: Parsed, mtu: int = MTU) -> list[bytes]:
    """The segments of a frame, at most `mtu` bytes of IP packet each.

    head: what a parser read in it, a TCP segment with payload. What is behind the IP packet is
    left out.
    """
    ip, at = packet_offset(frame), head.payload_offset
    size = max(1, mtu - (at - ip))
    payload = frame[at : at + head.payload_length]
    pieces = [payload[place : place + size] for place in range(0, len(payload), size)]
    return [
        _segment(frame, head, ip, number, number * size, piece, number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]


def _segment(
    frame: bytes, head: Parsed, ip: int, number: int, place: int, payload: bytes, last: bool
) -> bytes:
    """Segment `number`, with `payload` from `place` bytes behind the frame's first."""
    made = bytearray(frame[: head.payload_offset] + payload)
    length, tcp = len(made) - ip, head.tcp_offset
    if head.ipv6:
        made[ip + 4 : ip + 6] = (length - IPV6_HEADER).to_bytes(2, "big")
    else:
        made[ip + 2 : ip + 4] = length.to_bytes(2, "big")
        identification = int.from_bytes(made[ip + 4 : ip + 6], "big") + number
        made[ip + 4 : ip + 6] = (identification % (1 << 16)).to_bytes(2, "big")
        made[ip + 10 : ip + 12] = bytes(2)  # to be filled in, as the segment's
    made[tcp + 4 : tcp + 8] = ((head.seq + place) % (1 << 32)).to_bytes(4, "big")
    if not last:
        made[tcp + 13] &= 0xFF ^ (FIN | PSH)
    if place:
        made[tcp + 13] &= 0xFF ^ CWR
    made[tcp + 16 : tcp + 18] = pseudo_header_sum(head, len(made) - tcp).to_bytes(2, "big")
    whole = fill_in(bytes(made), replace(head, payload_length=len(payload)))
    assert whole is not None
    return whole
