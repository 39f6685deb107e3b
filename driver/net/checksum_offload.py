# SPDX-License-Identifier: Apache-2.0
"""Checksums that a stack leaves to its network card (Linux: `CHECKSUM_PARTIAL`), filled in."""

from .checksum import ones_complement_sum
from .parser import TCP, TPIDS, Parsed


def fill_in(frame: bytes, head: Parsed) -> bytes | None:
    """The frame with the checksums that its sender left to the card; `None` if it left none.

    head: what a parser read in it, a TCP segment. Some stacks leave the IPv4 checksum as well, 0.
    """
    at, end = head.tcp_offset, head.payload_offset + head.payload_length
    partial = pseudo_header_sum(head, end - at)
    if int.from_bytes(frame[at + 16 : at + 18], "big") != partial:
        return None
    whole = bytearray(frame)
    # The partial sum stands in the field: the sum over the segment includes the pseudo-header.
    _put(whole, at + 16, frame[at:end])
    return bytes(whole) if head.ipv6 else fill_in_ipv4(bytes(whole))


def fill_in_ipv4(frame: bytes) -> bytes:
    """The frame, which holds an IPv4 packet, with its header's checksum where that is 0."""
    ip = packet_offset(frame)
    if frame[ip + 10 : ip + 12] != b"\0\0":
        return frame
    whole = bytearray(frame)
    _put(whole, ip + 10, frame[ip : ip + (frame[ip] & 15) * 4])
    return bytes(whole)


def pseudo_header_sum(head: Parsed, length: int) -> int:
    """The sum over the pseudo-header of a TCP segment of `length` bytes, header included: what a
    stack leaves in the checksum field for the card (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    width = 16 if head.ipv6 else 4
    addresses = head.src.to_bytes(width, "big") + head.dst.to_bytes(width, "big")
    return ones_complement_sum(addresses + length.to_bytes(4, "big") + TCP.to_bytes(4, "big"))


def packet_offset(frame: bytes) -> int:
    """Where the IP packet begins, behind up to two VLAN tags."""
    at = 12
    for _ in range(2):
        if int.from_bytes(frame[at : at + 2], "big") not in TPIDS:
            break
        at += 4
    return at + 2


def _put(frame: bytearray, at: int, covered: bytes) -> None:
    """Writes the Internet checksum of `covered`."""
    frame[at : at + 2] = (ones_complement_sum(covered) ^ 0xFFFF).to_bytes(2, "big")
