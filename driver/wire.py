# SPDX-License-Identifier: Apache-2.0
"""A capture's frames as they were on the wire, and what a capture cannot tell.

A frame that its own sender captured is often not finished: the network card fills in its checksums
afterwards. Where the TCP checksum is the sum of the pseudo-header alone, which is what a stack
leaves there for the card (Linux: `CHECKSUM_PARTIAL`), it is filled in as the card does it.
"""

from collections.abc import Sequence
from dataclasses import replace

from sealane.hdl.abi.config import Config

from .capture import Packet
from .model.parser import TCP, TPIDS, Parsed, ones_complement_sum, parse

SHORTEST = 60  # bytes of a frame without its check sequence, IEEE 802.3


def as_on_wire(
    packets: Sequence[Packet], host: Config, device: Config
) -> tuple[list[Packet], list[Parsed], list[str]]:
    """The packets with their checksums filled in, what `host` reads in them, and a line of text for
    each thing that keeps some of them from being offloaded."""
    out, parsed = list(packets), [parse(packet.frame, host) for packet in packets]
    filled = 0
    for i, head in enumerate(parsed):
        if head.is_tcp and not head.checksum_ok:
            frame = fill_in(packets[i].frame, head)
            again = parse(frame, host) if frame is not None else head
            if frame is not None and again.checksum_ok:
                out[i], parsed[i] = replace(packets[i], frame=frame), again
                filled += 1
    cut = sum(packet.original_length > len(packet.frame) for packet in packets)
    long = sum(
        head.is_tcp and len(packet.frame) > device.max_frame
        for packet, head in zip(packets, parsed, strict=True)
    )
    notes = (
        ("TCP checksums left to the sender's network card and filled in here", filled),
        ("packets cut short when they were captured (snap length)", cut),
        (
            f"frames longer than the {device.max_frame} bytes that the device examines (was "
            "segmentation offload on?)",
            long,
        ),
    )
    return out, parsed, [f"{text}: {count}" for text, count in notes if count]


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


def without_trailer(frame: bytes, head: Parsed) -> bytes:
    """The frame as its host made it: what stands behind the IP packet, beyond the shortest frame,
    was put there on the way (a check sequence, a switch's time stamp, padding inside a VLAN).

    head: what a parser read in it. Frames without a TCP segment stay as they are.
    """
    end = head.payload_offset + head.payload_length
    return frame[: max(end, SHORTEST)] if head.is_tcp else frame


def pseudo_header_sum(head: Parsed, length: int) -> int:
    """The sum over the pseudo-header of a TCP segment of `length` bytes, header included: what a
    stack leaves in the checksum field for the card (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    width = 16 if head.ipv6 else 4
    addresses = head.src.to_bytes(width, "big") + head.dst.to_bytes(width, "big")
    return ones_complement_sum(addresses + length.to_bytes(4, "big") + TCP.to_bytes(4, "big"))


def _put(frame: bytearray, at: int, covered: bytes) -> None:
    """Writes the Internet checksum of `covered`."""
    frame[at : at + 2] = (ones_complement_sum(covered) ^ 0xFFFF).to_bytes(2, "big")


def packet_offset(frame: bytes) -> int:
    """Where the IP packet begins, behind up to two VLAN tags."""
    at = 12
    for _ in range(2):
        if int.from_bytes(frame[at : at + 2], "big") not in TPIDS:
            break
        at += 4
    return at + 2
