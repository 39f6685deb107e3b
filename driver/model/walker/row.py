# SPDX-License-Identifier: Apache-2.0
"""What the walker keeps of a flow between packets, and the rules that its parts share.

A row holds two chains of headers:

    proven     `next_record_seq` is the next header, `number` its record number, `high` the end of what was
               seen. Records in front of `next_record_seq` that are not complete have a slot; unseen ranges
               in front of `high` are holes, each inside one record with a slot.
    candidate  while a header is lost: the scan's find at `candidate_seq`, followed by length to
               `cand_next_seq`, counting `cand_count` records; `cand_high` is the end of what it saw.

The bytes of a header (TLS 1.2: with its explicit nonce) that a segment's end cuts off are held
and put in front of the next segment's payload.
"""

from dataclasses import dataclass
from enum import IntEnum

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import (
    CONTENT_CHANGE_CIPHER_SPEC,
    CONTENT_HANDSHAKE,
    HEADER_BYTES,
    VERSION_TLS12,
    Config,
)

from ...net.seq import add, distance

LOST_RECORDS = 1 << 18  # the guess counts modulo this


class TrackerState(IntEnum):
    """States of the tracker, in the terms of Linux's tls-offload.rst."""

    START = 0  # armed for a known header position
    TRACKING = 1  # the next header's position is known
    SEARCHING = 2  # a header was lost
    CONFIRMING = 3  # a candidate chain waits for proof
    GIVEN_UP = 4  # nothing is searched until software gives a position


@dataclass
class OpenRecord:
    """An open record: header seen, not complete."""

    start: int
    length: int
    number: int
    nonce: int
    content_type: int
    fed: bool = False
    no_verdict: bool = False  # bytes of it passed unfed: no verdict
    has_unmarked: bool = False  # bytes of it were first seen in a packet that was not marked

    @property
    def end(self) -> int:
        return add(self.start, HEADER_BYTES + self.length)

    def holds(self, seq: int) -> bool:
        """Whether the byte at `seq` belongs to the record."""
        return distance(seq, self.start) >= 0 and distance(seq, self.end) < 0


@dataclass
class Hole:
    """Unseen bytes [start, end) in front of `high`, inside one open record."""

    start: int
    end: int


@dataclass
class Row:
    """A flow's walker state."""

    generation: int
    epoch: int
    version: int
    next_record_seq: int
    number: int
    high: int
    slots: list[OpenRecord | None]
    holes: list[Hole | None]
    options: Option = Option.NONE
    state: TrackerState = TrackerState.START
    proven: bool = True
    part_header: bytes = b""
    marked_high: int | None = None  # end of the highest packet that could be marked
    marked_number: int = 0  # behind the highest record number in such a packet
    closed: bool = False  # the position was given anew and the walk is not past what was marked
    closed_below: int = 0  # `marked_high` when the position was given anew
    barrier_end: int | None = None  # end of the last record closed unverified that holds marks back
    lost_at: int = 0
    candidate_seq: int = 0
    cand_next_seq: int = 0
    cand_count: int = 0
    cand_high: int = 0
    cand_part_header: bytes = b""
    # Start, length, nonce and content type of the last record, if all of it is known.
    cand_last: tuple[int, int, int, int] | None = None
    cand_barrier_end: int | None = None  # the same in the candidate chain
    # The third proof: the record that `cand_last` names is fed under a guessed number.
    probing: bool = False
    probe_fed: bool = False  # bytes of it were fed
    probe_number: int = 0
    lost_records: int = (
        0  # guess: records that begin from `next_record_seq` on, in front of `candidate_seq`
    )
    probes: int = 0  # numbers tried in this candidate chain
    scanned: int = 0
    bad_headers: int = 0
    passed_high: int = 0  # end of the highest segment, fed or not
    passed_from: int = 0  # begin of the lowest one behind the lost header
    behind_hole: bytes = b""  # its first bytes, in case that it begins inside that header

    def arm(self, seq: int, number: int) -> None:
        """START at a known header; what was open is closed."""
        self.close_all()
        self.next_record_seq = self.high = seq
        self.number = number
        self.part_header = self.cand_part_header = b""
        self.close_below()
        self.barrier_end = None
        self.proven = True
        self.state = TrackerState.START
        self.scanned = self.bad_headers = 0

    def close_below(self) -> None:
        """The position was given anew: records in what was marked stay closed."""
        self.closed = self.marked_high is not None
        self.closed_below = self.marked_high or 0

    def close_all(self) -> None:
        """No record is open."""
        self.slots = [None] * len(self.slots)
        self.holes = [None] * len(self.holes)

    def withholds(self, config: Config, content_type: int, length: int) -> bool:
        """Whether nothing is marked behind such a record before its verdict."""
        if self.options & Option.ONE_BIT:
            return True
        if self.version == VERSION_TLS12:
            return content_type in (CONTENT_CHANGE_CIPHER_SPEC, CONTENT_HANDSHAKE)
        return length <= config.park_hold_len

    def clear_barrier(self, seq: int) -> None:
        """Software has read the stream up to `seq`."""
        if self.barrier_end is not None and distance(seq, self.barrier_end) >= 0:
            self.barrier_end = None


def new_row(
    config: Config,
    generation: int,
    epoch: int,
    version: int,
    seq: int,
    number: int,
    options: Option = Option.NONE,
) -> Row:
    """A row armed for the record `number` whose header starts at `seq`."""
    return Row(
        generation,
        epoch,
        version,
        next_record_seq=seq,
        number=number,
        high=seq,
        slots=[None] * config.record_slots,
        holes=[None] * (config.runs - 1),
        options=options,
        passed_high=seq,
        passed_from=seq,
    )


def header_length(head: bytes) -> int:
    """The length field of a header."""
    return int.from_bytes(head[3:5], "big")
