# SPDX-License-Identifier: Apache-2.0
"""Frames of the host for transmit: out of a TCP segment, and back into one.

A segment is taken apart once and put together again with another payload of the same length:
plaintext with room for tags for the device (`host_frame`), or the final bytes (`wire_frame`).
`wire_frame` is the only maker of frames with final bytes behind a start marker. The device lets
those leave as they are, so whoever calls it answers for the payload being ciphertext.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sealane.hdl.abi.config import Config

from .checksum_offload import fill_in, fill_in_ipv4, pseudo_header_sum
from .parser import FIN, Parsed, parse

# The host's frames are read whole, whatever a device examines.
_HOST: Final = Config(max_frame=16000)
_CHECKSUM = 16  # offset of the checksum field in the TCP header


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment of the host.

    head: the frame up to the payload. seq: of the first payload byte (RFC 9293). payload: by the IP
    length, without padding of the link. flags: TCP flags, FIN in bit 0. key: packed `FLOW_KEY`.
    """

    head: bytes
    seq: int
    payload: bytes
    flags: int
    key: int

    @property
    def fin(self) -> bool:
        """The sender's stream ends behind the payload."""
        return bool(self.flags & FIN)


def split(frame: bytes) -> Segment:
    """Takes a frame apart. Raises `ValueError` on what is not a whole TCP segment."""
    parsed = _parse(frame)
    at = parsed.payload_offset
    payload = frame[at : at + parsed.payload_length]
    return Segment(frame[:at], parsed.seq, payload, parsed.tcp_flags, parsed.key)


def host_frame(head: bytes, payload: bytes) -> bytes:
    """The segment with its checksum left to the device: the field holds the pseudo-header's sum.
    An IPv4 checksum that the stack left out, 0, is filled in: the device does not.

    head: of a `Segment` whose payload was as long. Short frames are not padded: that is the MAC's.
    Raises `ValueError` where head and payload make no TCP segment of that length.
    """
    return _partial(head, payload)[0]


def wire_frame(head: bytes, payload: bytes) -> bytes:
    """The segment as it shall leave, checksum included; for `TxOp.WIRE`.

    payload: final bytes; behind the start marker they must be records as a TLS stack sealed them.
    A sum of zero is written as 0, never as 0xFFFF, as `csum_fold` of Linux does. Raises
    `ValueError` where head and payload make no TCP segment of that length.
    """
    frame, parsed = _partial(head, payload)
    whole = fill_in(frame, parsed)
    assert whole is not None  # the partial sum was just written
    return whole


def dump_pieces(seq: int, payload: bytes, mtu: int) -> list[tuple[int, bytes]]:
    """Payload that is only to be hashed, as the DUMP frames that carry it: the TCP sequence number
    of the first byte of each and its bytes, in order.

    mtu: the most bytes of a piece; a piece has no headers, so all of them are payload. Raises
    `ValueError` on an MTU below one.
    """
    if mtu < 1:
        raise ValueError("mtu: at least one byte")
    cuts = range(0, len(payload), mtu)
    return [((seq + at) & 0xFFFFFFFF, payload[at : at + mtu]) for at in cuts]


def place_tags(payload: bytes, tags: Iterable[tuple[int, bytes]]) -> bytes:
    """The payload with tags in their room.

    tags: (offset in the payload, tag); of a tag that is cut by either end of the payload, with a
    negative offset in front, the bytes inside are placed.
    """
    out = bytearray(payload)
    for at, tag in tags:
        low, high = max(at, 0), min(at + len(tag), len(out))
        if low < high:
            out[low:high] = tag[low - at : high - at]
    return bytes(out)


def _parse(frame: bytes) -> Parsed:
    parsed = parse(frame, _HOST)
    if not parsed.is_tcp:
        raise ValueError("not a whole TCP segment")
    return parsed


def _partial(head: bytes, payload: bytes) -> tuple[bytes, Parsed]:
    frame = head + payload
    parsed = _parse(frame)
    if (parsed.payload_offset, parsed.payload_length) != (len(head), len(payload)):
        raise ValueError(f"the head is not of a segment with {len(payload)} bytes of payload")
    field = pseudo_header_sum(parsed, len(frame) - parsed.tcp_offset).to_bytes(2, "big")
    at = parsed.tcp_offset + _CHECKSUM
    frame = frame[:at] + field + frame[at + 2 :]
    return frame if parsed.ipv6 else fill_in_ipv4(frame), parsed
