# SPDX-License-Identifier: Apache-2.0
"""What a replay remembers beside its report: packets, segments and records one by one."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PacketTrace:
    """Any packet of the capture, and what the device said of it.

    packet: its number in the capture, from 0. time: seconds since the first packet.
    connection, direction: index in the report, `c2s` or `s2c`; `None` if it belongs to none. seq: TCP
    sequence number, `None` if it is no TCP segment. offset: of its first byte in the stream,
    `None` without a connection. length: bytes of TCP payload. reason: why it was not marked, by
    the name in `Reason`.
    """

    packet: int
    time: float
    connection: int | None
    direction: str | None
    seq: int | None
    offset: int | None
    length: int
    marked: bool
    reason: str


@dataclass(frozen=True)
class SegmentTrace:
    """A segment with payload.

    packet: its number in the capture, from 0. time: seconds since the first packet.
    connection, direction: index in the report, `c2s` or `s2c`. offset: of its first byte in the stream,
    negative if it lies before the connection's first byte. outcome: `decrypted`, or the reason.
    """

    packet: int
    time: float
    connection: int
    direction: str
    offset: int
    length: int
    outcome: str


@dataclass(frozen=True)
class RecordTrace:
    """A record that the host framed.

    offset, length: header to tag in the stream. outcome: `full`, `partial`, `none`, or `other` for
    a record that is no accepted application data.
    """

    connection: int
    direction: str
    offset: int
    length: int
    outcome: str


@dataclass
class Trace:
    """What pictures and listings need beside the report, in the order of the capture."""

    segments: list[SegmentTrace] = field(default_factory=list)
    records: list[RecordTrace] = field(default_factory=list)
    packets: list[PacketTrace] = field(default_factory=list)
