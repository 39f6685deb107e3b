# SPDX-License-Identifier: Apache-2.0
"""What is to be done with one segment of a transmit direction, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from sealane.hdl.abi.tx import TxReason


class Way(StrEnum):
    """How a segment gets encrypted."""

    IN_ORDER = "in_order"  # by the device's stream, which is just there
    SEEK = "seek"  # by the device where it lies; no bytes of a tag in it
    TAG = "tag"  # the same, with tags that the device or software has computed before
    REBUILD = "rebuild"  # by the device, behind bytes that are replayed only to be hashed
    NEXT_RECORD = "next_record"  # by software until a record boundary, where the device goes on
    SOFTWARE = "software"  # by software, from the record map


class TxMode(StrEnum):
    """Which way segments go that do not begin at the next expected byte, where that way can.

    SEEK and TAG are for segments without and with bytes of tags, REBUILD for what lies below the
    frontier; where the named way cannot apply, and with AUTO, the ordinary rules choose.
    """

    AUTO = "auto"
    SEEK = "seek"
    TAG = "tag"
    REBUILD = "rebuild"
    NEXT_RECORD = "next_record"
    SOFTWARE = "software"


class DropReason(StrEnum):
    """Why a segment is not sent, by the name of the counter that counts it."""

    BYPASS_REQ = "tx_tls_drop_bypass_req"
    NO_SYNC_DATA = "tx_tls_drop_no_sync_data"
    TAG_MISMATCH = "tag_mismatch"
    ORPHAN = "orphans"


class SequenceExhausted(ValueError):
    """The direction has used up its record numbers; another record would have to begin again with
    one that was used. Linux ends such a connection with EBADMSG."""


class TxFrame(NamedTuple):
    """A frame for the device with its packed metadata (`TX_META`)."""

    frame: bytes
    meta: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Frames to post, all of them or none, in order.

    way: None for what needs no encryption by anybody. undo: to be called if nothing was posted,
    while no later segment was transmitted; the segment can be offered again then.
    """

    frames: list[TxFrame]
    way: Way | None
    undo: Callable[[], None] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Drop:
    """The segment is not sent."""

    reason: DropReason


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing can be decided before the tags of these records (N) have come back in completions;
    the segment is to be offered again then. Without numbers any completion will do: so many frames
    are in flight that no more can be told apart."""

    numbers: tuple[int, ...]


class Completed(Protocol):
    """What became of a frame that was posted."""

    @property
    def cookie(self) -> int:
        """Of the frame's metadata."""
        ...

    @property
    def reason(self) -> TxReason:
        """Why it did not leave."""
        ...

    @property
    def tags(self) -> Mapping[int, bytes]:
        """By record number N, of the records whose first tag byte is in the frame; worth nothing
        unless the reason is NONE."""
        ...
