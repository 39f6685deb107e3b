# SPDX-License-Identifier: Apache-2.0
"""A capture's frames as they were on the wire, and what a capture cannot tell.

A frame that its own sender captured is often not finished: the network card fills in its checksums
afterwards. Where the TCP checksum is the sum of the pseudo-header alone, which is what a stack
leaves there for the card (Linux: `CHECKSUM_PARTIAL`), it is filled in as the card does it.
"""

from collections.abc import Sequence
from dataclasses import replace

from sealane.hdl.abi.config import Config

from ..net.checksum_offload import fill_in
from ..net.parser import Parsed, parse
from .capture import Packet

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


def without_trailer(frame: bytes, head: Parsed) -> bytes:
    """The frame as its host made it: what stands behind the IP packet, beyond the shortest frame,
    was put there on the way (a check sequence, a switch's time stamp, padding inside a VLAN).

    head: what a parser read in it. Frames without a TCP segment stay as they are.
    """
    end = head.payload_offset + head.payload_length
    return frame[: max(end, SHORTEST)] if head.is_tcp else frame
