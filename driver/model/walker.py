# SPDX-License-Identifier: Apache-2.0
"""The walker, behaviourally: where records begin and end in a flow's segments, and what was seen.

It knows TCP sequence numbers and record lengths and no keys. One call takes one segment (or one
command) and the flow's row, changes the row, and returns the spans for the cipher and what is to
be said of the packet. `hdl/walker.py` does the same in hardware; the two agree bit by bit.

A row holds two chains of headers:

    proven     `walk` is the next header, `number` its record number, `high` the end of what was
               seen. Records in front of `walk` that are not complete have a slot; unseen ranges
               in front of `high` are holes, each inside one record with a slot.
    candidate  while a header is lost: the scan's find at `guess`, followed by length to
               `cand_walk`, counting `cand_count` records; `cand_high` is the end of what it saw.

The bytes of a header (TLS 1.2: with its explicit nonce) that a segment's end cuts off are held
and put in front of the next segment's payload.
"""

import re
from dataclasses import dataclass, field
from enum import IntEnum

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import (
    CONTENT_CHANGE_CIPHER_SPEC,
    CONTENT_HANDSHAKE,
    HEADER_BYTES,
    TYPES,
    VERSION_TLS12,
    Config,
    header_bytes,
    header_prefix_ok,
    text_bytes,
)
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason

from ..seq import add, delta

# Type and version, or as much of them as the bytes end with.
_BEGINNINGS = {
    version: re.compile(b"[%s](?:\\x03(?:\\x03|\\Z)|\\Z)" % bytes(types))
    for version, types in TYPES.items()
}
LOST_RECORDS = 1 << 18  # the guess counts modulo this
STALE = 1 << 30  # a record so far behind is closed, before sequence numbers wrap onto it


class State(IntEnum):
    """States of the tracker, in the terms of Linux's tls-offload.rst."""

    START = 0  # armed for a known header position
    TRACKING = 1  # the next header's position is known
    SEARCHING = 2  # a header was lost
    CONFIRMING = 3  # a candidate chain waits for proof
    GIVEN_UP = 4  # nothing is searched until software gives a position


@dataclass
class Slot:
    """An open record: header seen, not complete."""

    start: int
    length: int
    number: int
    nonce: int
    content_type: int
    fed: bool = False
    blind: bool = False  # bytes of it passed unfed: no verdict
    spoiled: bool = False  # bytes of it were first seen in a packet that was not marked

    @property
    def end(self) -> int:
        return add(self.start, HEADER_BYTES + self.length)

    def holds(self, seq: int) -> bool:
        """Whether the byte at `seq` belongs to the record."""
        return delta(seq, self.start) >= 0 and delta(seq, self.end) < 0


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
    walk: int
    number: int
    high: int
    slots: list[Slot | None]
    holes: list[Hole | None]
    options: Option = Option.NONE
    state: State = State.START
    proven: bool = True
    hold: bytes = b""
    marked_high: int | None = None  # end of the highest packet that could be marked
    marked_number: int = 0  # behind the highest record number in such a packet
    closed: bool = False  # the position was given anew and the walk is not past what was marked
    closed_below: int = 0  # `marked_high` when the position was given anew
    suspect_end: int | None = None  # end of the last record closed unverified that holds marks back
    lost_at: int = 0
    guess: int = 0
    cand_walk: int = 0
    cand_count: int = 0
    cand_high: int = 0
    cand_hold: bytes = b""
    # Start, length, nonce and content type of the last record, if all of it is known.
    cand_last: tuple[int, int, int, int] | None = None
    cand_suspect_end: int | None = None  # the same in the candidate chain
    # The third proof: the record that `cand_last` names is fed under a guessed number.
    probing: bool = False
    probe_fed: bool = False  # bytes of it were fed
    probe_number: int = 0
    lost_records: int = 0  # guess: records that begin from `walk` on, in front of `guess`
    probes: int = 0  # numbers tried in this candidate chain
    scanned: int = 0
    bad_headers: int = 0
    passed_high: int = 0  # end of the highest segment, fed or not
    passed_from: int = 0  # begin of the lowest one behind the lost header
    edge: bytes = b""  # its first bytes, in case that it begins inside that header

    def close_all(self) -> None:
        """No record is open."""
        self.slots = [None] * len(self.slots)
        self.holes = [None] * len(self.holes)

    def drop_holes(self, slot: Slot) -> None:
        """The unseen bytes of an open record do not matter any more."""
        self.holes = [None if hole and slot.holds(hole.start) else hole for hole in self.holes]


@dataclass
class Span:
    """Consecutive text and tag bytes of one record in one packet; see `hdl/layouts.py`."""

    slot: int
    number: int
    nonce: int
    content_type: int
    length: int
    at: int  # offset of the first byte in the payload
    text_offset: int
    text_bytes: int
    tag_offset: int
    tag_bytes: int
    first: bool
    completes: bool
    probe: bool = False  # of a record whose number is a guess


@dataclass
class Probe:
    """A candidate record is complete under a guessed number."""

    guess: int  # sequence number of the candidate chain's first header
    number: int  # of the record there, if the guess is right


@dataclass
class WalkerEvent:
    """What the walker has to report with a packet or a command."""

    kind: EventKind
    lost_at: int = 0
    guess: int = 0
    resumed_at: int = 0
    proven_by: ProvenBy = ProvenBy.NOTHING
    seq: int = 0
    number: int = 0


@dataclass
class Walked:
    """What became of one segment."""

    reason: Reason = Reason.NONE
    spans: list[Span] = field(default_factory=list)
    event: WalkerEvent | None = None
    records: int = 0
    first: tuple[int, int, int, int, bool] = (0, 0, 0, 0, False)
    last: tuple[int, int, int, bool] = (0, 0, 0, False)
    evicted: int = 0
    ahead: bool = False  # the packet ends behind the end of an open record
    probe: Probe | None = None
    intact: bool = False  # one of its records has been in marked packets only, so far

    def blame(self, reason: Reason) -> None:
        """Keep the reason with the lowest code."""
        if self.reason is Reason.NONE or reason < self.reason:
            self.reason = reason

    def touch(
        self, number: int, start: int, offset: int, length: int, nonce: int, completes: bool
    ) -> None:
        """Note one more record with bytes in the packet; `offset` counts for the first only."""
        if not self.records:
            self.first = (number, offset, length, nonce, completes)
        self.last = (number, start, length, completes)
        self.records += 1


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
        generation, epoch, version, walk=seq, number=number, high=seq,
        slots=[None] * config.record_slots, holes=[None] * (config.runs - 1),
        options=options, passed_high=seq, passed_from=seq,
    )


class Walk:
    """One segment's way through a row. `payload` starts at sequence number `seq`."""

    def __init__(self, config: Config, row: Row, seq: int, payload: bytes) -> None:
        self.config = config
        self.row = row
        self.seq = seq
        self.end = add(seq, len(payload))
        self.payload = payload
        self.out = Walked()
        self._number_at_guess: int | None = None  # the walk has reached the candidate
        self._fed: list[Slot] = []

    def run(self) -> Walked:
        """Walk the segment. It is not empty, its checksums are good and its flags are right."""
        row = self.row
        if not -self.config.window <= delta(self.seq, row.high) < self.config.window:
            self.out.blame(Reason.OUT_OF_WINDOW)
            return self.out
        while any(slot and delta(self.seq, slot.start) >= STALE for slot in row.slots):
            self._evict(oldest=True)
        if self._continues_proven():
            self._proven()
        else:
            self._candidate()
        if delta(self.end, row.passed_high) > 0:
            row.passed_high = self.end
        self._hold_behind_unverified()
        if not (row.options & Option.MARK_REST or self.out.intact):
            self.out.blame(Reason.MIXED)
        if self.out.reason is not Reason.NONE:
            for slot in self._fed:
                slot.spoiled = True
        if self.out.reason is Reason.NONE:
            if row.marked_high is None or delta(self.end, row.marked_high) > 0:
                row.marked_high = self.end
            row.marked_number = max(row.marked_number, (self.out.last[0] + 1) % 2**64)
        return self.out

    # --- the proven chain -----------------------------------------------------------------

    def _continues_proven(self) -> bool:
        """Whether no header lies in the hole in front of the segment."""
        row = self.row
        if not row.proven:
            return False
        if delta(self.seq, row.high) <= 0:
            return True
        if len(row.hold) >= HEADER_BYTES:
            # Only nonce bytes are missing: the walk goes on, the record stays closed.
            row.walk = add(row.walk, HEADER_BYTES + _length(row.hold))
            self._suspect(row.hold[0], _length(row.hold), row.walk)
            row.number = (row.number + 1) % 2**64
            row.hold = b""
        return not row.hold and delta(row.walk, self.seq) >= 0

    def _proven(self) -> None:
        row = self.row
        open_at_start = any(slot.holds(self.seq) for slot in row.slots if slot)
        overlaps = Reason.SEEN_BYTES if open_at_start else Reason.NOT_OPEN
        if delta(self.seq, row.high) < 0:
            self._fill(overlaps)
        if delta(self.end, row.high) > 0:
            self._frontier()

    def _fill(self, overlaps: Reason) -> None:
        """Bytes in front of everything seen: what is unseen of them is fed."""
        at = self.seq
        while at != self.end and (hole := self._first_hole()) is not None:
            start = hole.start if delta(hole.start, at) > 0 else at
            end = hole.end if delta(hole.end, self.end) < 0 else self.end
            if start != at:
                self.out.blame(overlaps)
            at = end
            index = self._slot_at(start)
            assert index is not None  # a hole lies inside an open record
            slot = self.row.slots[index]
            assert slot is not None
            if self._cut_hole(hole, start, end):
                self._feed(index, slot, start, end)
            else:
                self.out.blame(Reason.NOT_OPEN)
        if at != self.end:
            self.out.blame(overlaps)

    def _frontier(self) -> None:
        """The segment brings bytes behind everything seen: they are fed and walked."""
        row, out = self.row, self.out
        start = row.high if delta(self.seq, row.high) < 0 else self.seq
        last = self._slot_at(row.high)
        if delta(start, row.high) > 0 and last is not None:
            if delta(row.passed_high, row.high) > 0 and delta(row.passed_from, start) < 0:
                self._passed_unfed(last)
            if not self._add_hole(row.high, start):
                last = None
        in_last = not row.hold and delta(start, row.walk) < 0
        row.high = self.end
        if in_last:
            end = row.walk if delta(row.walk, self.end) < 0 else self.end
            slot = None if last is None else row.slots[last]
            if last is None or slot is None:
                out.blame(Reason.NOT_OPEN)
            else:
                self._feed(last, slot, start, end)
        if not self._hop(start):
            return
        self._join()

    def _hop(self, start: int) -> bool:
        """From header to header to the segment's end; false if TLS does not allow one."""
        row, out = self.row, self.out
        size = header_bytes(row.version)
        virtual = row.hold + self.payload[delta(start, self.seq) :]
        base = add(start, -len(row.hold))  # sequence number of virtual[0]
        walked = False
        while delta(row.walk, self.end) < 0:
            if row.state is State.CONFIRMING and row.walk == row.guess:
                self._number_at_guess = row.number
            at = delta(row.walk, base)
            head = virtual[at : at + size]
            if not header_prefix_ok(row.version, head[:HEADER_BYTES]):
                self._lose_proof(row.walk)
                row.bad_headers += 1
                if row.bad_headers >= self.config.bad_header_limit:
                    self._give_up()
                else:
                    self._scan(base, virtual, at + 1)
                return False
            walked = True
            offset = max(0, delta(self.seq, row.walk))  # the packet may begin inside the header
            out.intact = True
            if len(head) < size:
                if self._closed():
                    out.blame(Reason.NOT_OPEN)
                row.hold = head
                length = _length(head) if len(head) >= HEADER_BYTES else 0
                nonce = int.from_bytes(head[HEADER_BYTES:], "little")
                out.touch(row.number, row.walk, offset, length, nonce, False)
                break
            row.hold = b""
            self._open(head, offset)
        if walked and row.state is State.START:
            row.state = State.TRACKING
        return True

    def _open(self, head: bytes, offset: int) -> None:
        """A whole header at `walk`: feed the record's bytes in this segment, go to its end."""
        row, out = self.row, self.out
        length = _length(head)
        nonce = int.from_bytes(head[HEADER_BYTES:], "little")
        slot = Slot(row.walk, length, row.number, nonce, head[0])
        whole = delta(slot.end, self.end) <= 0
        closed = self._closed()
        start = add(row.walk, len(head))
        end = slot.end if whole else self.end
        if closed:
            self._suspect(slot.content_type, length, slot.end)
            out.blame(Reason.NOT_OPEN)
            out.touch(slot.number, slot.start, offset, length, nonce, False)
        elif whole:
            self._span(0, slot, start, end, True)
            out.touch(slot.number, slot.start, offset, length, nonce, True)
        else:
            index = self._free_slot()
            row.slots[index] = slot
            self._fed.append(slot)
            if start != end:
                self._span(index, slot, start, end, False)
            out.touch(slot.number, slot.start, offset, length, nonce, False)
        row.walk = slot.end
        row.number = (row.number + 1) % 2**64

    def open_last(self) -> None:
        """The candidate is proven and its last record goes on: the rest of it can be marked, and
        with it what else is in its last packet. If text of it has passed it gets no verdict. A
        one-bit flow is not marked by a header that was read before the position was proven."""
        row = self.row
        if row.options & Option.ONE_BIT:
            return
        if row.cand_last is None or row.hold or delta(row.walk, row.high) <= 0:
            return
        start, length, nonce, content_type = row.cand_last
        number = (row.number - 1) % 2**64
        below = delta(start, row.closed_below) < 0 or number < row.marked_number
        if row.closed and below:
            return
        index = self._free_slot()
        blind = delta(row.high, start) > header_bytes(row.version)
        row.slots[index] = Slot(
            start, length, number, nonce, content_type, blind=blind, spoiled=True
        )

    def _closed(self) -> bool:
        """Whether the record at `walk` has bytes in a marked packet from before a resync.

        Its number says so too, because sequence numbers come again after 2^32 bytes. The walk
        never goes back, so the first record that is open ends the question.
        """
        row = self.row
        below = delta(row.walk, row.closed_below) < 0 or row.number < row.marked_number
        row.closed = row.closed and below
        return row.closed

    def _feed(self, index: int, slot: Slot, start: int, end: int) -> None:
        """Bytes [start, end) of an open record are now seen."""
        row = self.row
        self.out.intact |= not slot.spoiled
        self._fed.append(slot)
        complete = delta(slot.end, row.high) <= 0 and not any(
            hole and slot.holds(hole.start) for hole in row.holes
        )
        verified = complete and not slot.blind
        self._span(index, slot, start, end, verified)
        self.out.touch(
            slot.number, slot.start, delta(self.seq, slot.start), slot.length, slot.nonce, verified
        )
        if complete:
            row.slots[index] = None
            if not verified:
                self._suspect(slot.content_type, slot.length, slot.end)

    def _span(
        self, index: int, slot: Slot, start: int, end: int, completes: bool, probe: bool = False
    ) -> None:
        version = self.row.version
        text = text_bytes(version, slot.length)
        offset = delta(start, slot.start) - header_bytes(version)
        count = delta(end, start)
        in_text = max(0, min(count, text - offset))
        self.out.spans.append(
            Span(
                index, slot.number, slot.nonce, slot.content_type, slot.length,
                at=delta(start, self.seq), text_offset=min(offset, text), text_bytes=in_text,
                tag_offset=max(0, offset - text), tag_bytes=count - in_text,
                first=not slot.fed, completes=completes, probe=probe,
            )
        )
        slot.fed = True

    # --- slots and holes ------------------------------------------------------------------

    def _slot_at(self, seq: int) -> int | None:
        for index, slot in enumerate(self.row.slots):
            if slot and slot.holds(seq):
                return index
        return None

    def _free_slot(self) -> int:
        slots = self.row.slots
        if None not in slots:
            self._evict()
        return slots.index(None)

    def _evict(self, oldest: bool = False) -> None:
        """Close an open record for good: of those whose end has passed the newest, because its
        holes will be filled last; without one, what is open. `oldest`: the oldest instead."""
        row = self.row

        def order(index: int) -> tuple[bool, int]:
            slot = row.slots[index]
            assert slot is not None
            age = delta(row.walk, slot.start)
            return (True, age) if oldest else (delta(slot.end, row.high) <= 0, -age)

        self._close(max((index for index, slot in enumerate(row.slots) if slot), key=order))
        self.out.evicted += 1

    def _close(self, index: int) -> None:
        row = self.row
        slot = row.slots[index]
        assert slot is not None
        row.drop_holes(slot)
        row.slots[index] = None
        self._suspect(slot.content_type, slot.length, slot.end)

    def _passed_unfed(self, index: int) -> None:
        """Bytes of an open record have passed and were not fed: it can get no verdict. What is
        still to come of it is opened, because the next record begins in its last packet."""
        row = self.row
        slot = row.slots[index]
        assert slot is not None
        slot.blind = True
        row.drop_holes(slot)

    def _add_hole(self, start: int, end: int) -> bool:
        """Note unseen bytes; false if their record had to be closed for want of a run."""
        row = self.row
        index = self._slot_at(start)
        slot = None if index is None else row.slots[index]
        if slot and slot.blind:
            return True  # its unseen bytes do not matter any more
        while None not in row.holes:
            self._evict()
        if self._slot_at(start) is None:
            return False
        row.holes[row.holes.index(None)] = Hole(start, end)
        return True

    def _first_hole(self) -> Hole | None:
        """The hole that overlaps the segment and lies furthest in front."""
        found = None
        for hole in self.row.holes:
            if hole and delta(hole.start, self.end) < 0 and delta(hole.end, self.seq) > 0:
                if found is None or delta(hole.start, found.start) < 0:
                    found = hole
        return found

    def _cut_hole(self, hole: Hole, start: int, end: int) -> bool:
        """Take [start, end) out of a hole; false if its record had to be closed."""
        row = self.row
        if hole.start == start and hole.end == end:
            row.holes[row.holes.index(hole)] = None
        elif hole.start == start:
            hole.start = end
        elif hole.end == end:
            hole.end = start
        else:
            behind = hole.end
            hole.end = start
            return self._add_hole(end, behind)
        return True

    def _hold_behind_unverified(self) -> None:
        """Marks wait behind records that no verdict has settled: behind those that may change
        keys, in one-bit mode behind all, and far behind any."""
        row, out = self.row, self.out
        if row.suspect_end is not None and delta(self.end, row.suspect_end) > 0:
            out.blame(Reason.HELD)
        for slot in row.slots:
            behind = delta(self.end, slot.end) if slot else 0
            if slot and behind > 0:
                out.ahead = True
                if self._withholds(slot.content_type, slot.length) or (
                    behind > self.config.ahead_limit
                ):
                    out.blame(Reason.HELD)

    def _withholds(self, content_type: int, length: int) -> bool:
        return withholds(self.config, self.row, content_type, length)

    def _suspect(self, content_type: int, length: int, end: int) -> None:
        """A record that ends at `end` is closed without a verdict."""
        row = self.row
        if self._withholds(content_type, length) and (
            row.suspect_end is None or delta(end, row.suspect_end) > 0
        ):
            row.suspect_end = end

    # --- the candidate chain --------------------------------------------------------------

    def _lose_proof(self, at: int) -> None:
        row = self.row
        row.proven = False
        row.hold = b""
        row.lost_at = at
        row.state = State.SEARCHING
        row.scanned = 0
        row.close_all()

    def _give_up(self) -> None:
        row = self.row
        row.state = State.GIVEN_UP
        row.cand_hold = b""
        self.out.blame(Reason.GIVEN_UP)
        self.out.event = WalkerEvent(EventKind.GIVEN_UP, lost_at=row.lost_at, seq=self.end)

    def _join(self) -> None:
        """The proven chain went on while a header was lost: is the candidate reached?

        The walk may have passed the candidate's header in the same segment. It is of no use any
        more if the walk has passed all that was followed, or has not found a header there.
        """
        row = self.row
        self._over_the_edge()
        if row.state in (State.SEARCHING, State.GIVEN_UP):
            row.state = State.TRACKING
        elif row.state is State.CONFIRMING:
            if row.walk == row.guess:
                self._number_at_guess = row.number
            number, suspect_end = self._number_at_guess, row.cand_suspect_end
            if number is not None and delta(self.end, row.cand_high) <= 0:
                # Records of the candidate that the walk has been through are the walk's.
                if row.walk == row.cand_walk:
                    row.cand_last = None
                if suspect_end is not None and delta(suspect_end, row.walk) <= 0:
                    row.cand_suspect_end = None
                self.out.event = adopt(self, number, ProvenBy.WALK)
            elif number is not None or delta(row.walk, row.guess) > 0:
                row.state = State.TRACKING
                self.out.event = WalkerEvent(
                    EventKind.RESUMED, lost_at=row.lost_at, guess=row.guess, resumed_at=row.walk,
                    proven_by=ProvenBy.WALK, seq=self.end, number=row.number,
                )

    def _over_the_edge(self) -> None:
        """The hole is filled and its end cuts a header: the rest has passed. The walk goes on by
        the length; the record, of which bytes have passed unfed, stays closed."""
        row = self.row
        lost = row.state in (State.SEARCHING, State.CONFIRMING, State.GIVEN_UP)
        head = (row.hold + row.edge)[:HEADER_BYTES]
        if (
            lost and row.hold and row.high == row.passed_from
            and len(head) == HEADER_BYTES and header_prefix_ok(row.version, head)
        ):  # fmt: skip
            row.walk = add(row.walk, HEADER_BYTES + _length(head))
            row.number = (row.number + 1) % 2**64
            row.hold = b""
            self._suspect(head[0], _length(head), row.walk)

    def _candidate(self) -> None:
        row, out = self.row, self.out
        if row.state in (State.START, State.TRACKING):
            row.lost_at = row.walk
            row.state = State.SEARCHING
            row.scanned = 0
            row.cand_hold = b""
            row.passed_from, row.passed_high = self.seq, self.end
            row.edge = self.payload[:HEADER_BYTES]
        elif delta(self.seq, row.passed_from) < 0:
            row.passed_from = self.seq
            row.edge = b""
        if row.state is State.GIVEN_UP:
            out.blame(Reason.GIVEN_UP)
            return
        if row.state is State.CONFIRMING:
            gap = delta(self.seq, row.cand_high)
            if delta(self.end, row.cand_high) <= 0:
                out.blame(Reason.AWAITING_PROOF)
                return
            if gap > 0:
                row.probing = False
            if gap > 0 and len(row.cand_hold) >= HEADER_BYTES:
                self._candidate_record(row.cand_hold)
                row.cand_last = None  # its nonce is not known
                row.cand_hold = b""
            if gap <= 0 or (not row.cand_hold and delta(row.cand_walk, self.seq) >= 0):
                start = row.cand_high if gap <= 0 else self.seq
                virtual = row.cand_hold + self.payload[delta(start, self.seq) :]
                base = add(start, -len(row.cand_hold))
                if row.probing:
                    self._probe(start)
                mismatch = self._chain(base, virtual)
                if mismatch is None:
                    out.blame(Reason.AWAITING_PROOF)
                else:
                    self._scan(base, virtual, mismatch + 1)
                return
            row.state = State.SEARCHING
            row.cand_hold = b""
        if row.cand_hold and self.seq == row.cand_high:
            base = add(self.seq, -len(row.cand_hold))
            self._scan(base, row.cand_hold + self.payload, 0)
        else:
            self._scan(self.seq, self.payload, 0)

    def _scan(self, base: int, virtual: bytes, at: int) -> None:
        """Look for a header from offset `at` on and follow it; virtual[0] is byte `base`.

        A candidate that leads to something else than a header inside this segment is false: the
        scan goes on behind the place of the mismatch, `rescan_limit` times a segment at most.
        """
        row, out = self.row, self.out
        out.event = None
        row.cand_high = self.end
        for _ in range(self.config.rescan_limit):
            row.state = State.SEARCHING
            row.cand_hold = b""
            found = _find_header(row.version, virtual, at)
            if found is None:
                break
            if found + HEADER_BYTES > len(virtual):
                row.cand_walk = add(base, found)
                row.cand_hold = virtual[found:]
                break
            row.guess = row.cand_walk = add(base, found)
            row.cand_count = row.probes = 0
            row.cand_last = row.cand_suspect_end = None
            row.probing = False
            # Records are about 2^14 bytes or shorter: a shorter one is found a few tries later.
            row.lost_records = max(1, delta(row.guess, row.walk) >> 14) % LOST_RECORDS
            row.state = State.CONFIRMING
            mismatch = self._chain(base, virtual)
            if mismatch is None:
                out.event = WalkerEvent(
                    EventKind.RESYNC_REQUEST, lost_at=row.lost_at, guess=row.guess, seq=self.end
                )
                out.blame(Reason.AWAITING_PROOF)
                return
            at = mismatch + 1
        else:
            row.state = State.SEARCHING
            row.cand_hold = b""
        row.scanned += len(self.payload)
        if row.scanned > self.config.scan_limit:
            self._give_up()
        else:
            out.blame(Reason.SEARCHING)

    def _chain(self, base: int, virtual: bytes) -> int | None:
        """Hop along the candidate chain; where in `virtual` TLS does not allow a header, if so."""
        row = self.row
        size = header_bytes(row.version)
        row.cand_hold = b""
        row.cand_high = self.end
        while delta(row.cand_walk, self.end) < 0:
            at = delta(row.cand_walk, base)
            head = virtual[at : at + size]
            if not header_prefix_ok(row.version, head[:HEADER_BYTES]):
                return at
            if len(head) < size:
                row.cand_hold = head
                break
            start = add(row.cand_walk, size)
            self._candidate_record(head)
            if row.options & Option.TAG_PROOF and row.proven:
                self._begin_probe(start)
        return None

    def _begin_probe(self, start: int) -> None:
        """A record of the candidate chain begins: it is fed as if its number were known."""
        row = self.row
        whole = delta(row.cand_walk, self.end) <= 0
        row.probing = row.probes < self.config.tag_proof_limit and not (whole and self.out.probe)
        if row.probing:
            row.probe_fed = False
            row.probe_number = (row.number + row.lost_records + row.cand_count - 1) % 2**64
            if start != self.end:
                self._probe(start)

    def _probe(self, start: int) -> None:
        """Bytes of the candidate's last record, from `start` on, under a guessed number."""
        row = self.row
        assert row.cand_last is not None
        at, length, nonce, content_type = row.cand_last
        slot = Slot(at, length, row.probe_number, nonce, content_type, fed=row.probe_fed)
        whole = delta(row.cand_walk, self.end) <= 0
        end = row.cand_walk if whole else self.end
        self._span(self.config.record_slots, slot, start, end, whole, probe=True)
        row.probe_fed = True
        if whole:
            number = (row.probe_number - row.cand_count + 1) % 2**64
            self.out.probe = Probe(row.guess, number)
            # If the tag is bad, one more record was lost.
            row.probing = False
            row.probes += 1
            row.lost_records = (row.lost_records + 1) % LOST_RECORDS

    def _candidate_record(self, head: bytes) -> None:
        """One more record of the candidate chain. It is counted, not opened."""
        row = self.row
        nonce = int.from_bytes(head[HEADER_BYTES:], "little")
        row.cand_last = (row.cand_walk, _length(head), nonce, head[0])
        row.cand_walk = add(row.cand_walk, HEADER_BYTES + _length(head))
        row.cand_count += 1
        if self._withholds(head[0], _length(head)):
            row.cand_suspect_end = row.cand_walk


def _length(head: bytes) -> int:
    return int.from_bytes(head[3:5], "big")


def _find_header(version: int, virtual: bytes, at: int) -> int | None:
    """First offset from `at` on where a header, or as much of one as is there, is allowed."""
    while found := _BEGINNINGS[version].search(virtual, at):
        at = found.start()
        if header_prefix_ok(version, virtual[at : at + HEADER_BYTES]):
            return at
        at += 1
    return None


def adopt(walk: Walk, number_at_guess: int, by: ProvenBy) -> WalkerEvent:
    """The candidate is proven: the proven chain goes on from where the candidate's walk is."""
    row = walk.row
    # What the candidate passed of a record that is open was not fed.
    index = walk._slot_at(row.high)
    if row.proven and index is not None and delta(row.high, row.walk) < 0:
        walk._passed_unfed(index)
        # Where walk and candidate disagree, different bytes have passed.
        if delta(row.walk, row.cand_high) <= 0 or row.walk != row.cand_walk:
            walk._close(index)
    if row.cand_suspect_end is not None:
        row.suspect_end = row.cand_suspect_end
    if row.options & Option.ONE_BIT:
        row.suspect_end = row.cand_walk  # nothing that the candidate followed is verified
    event = WalkerEvent(
        EventKind.RESUMED, lost_at=row.lost_at, guess=row.guess, resumed_at=row.cand_walk,
        proven_by=by, seq=walk.end if by is ProvenBy.WALK else row.cand_high,
        number=(number_at_guess + row.cand_count) % 2**64,
    )
    row.walk = row.cand_walk
    row.number = event.number
    row.hold = row.cand_hold
    row.high = row.cand_high
    row.cand_hold = b""
    close_below(row)
    if by is ProvenBy.WALK and (
        row.marked_high is None or delta(walk.end, row.marked_high) > 0
    ):
        # The packet that brings the walk here may be marked, with its own bytes of a header of
        # which the candidate has kept others.
        row.closed, row.closed_below = True, walk.end
    row.proven = True
    row.state = State.TRACKING
    row.scanned = 0
    row.bad_headers = 0
    walk.open_last()
    return event


def answer(
    config: Config, row: Row, seq: int, number: int, refused: bool
) -> tuple[WalkerEvent | None, int]:
    """RESYNC_ANSWER: the event to report and how many records were evicted."""
    if row.state is not State.CONFIRMING or seq != row.guess:
        return None, 0
    if refused:
        row.state = State.SEARCHING
        row.cand_hold = b""
        return None, 0
    clear_suspicion(row, seq)
    walk = Walk(config, row, seq, b"")
    event = adopt(walk, number, ProvenBy.SOFTWARE)
    return event, walk.out.evicted


def tag_proof(config: Config, row: Row, probe: Probe) -> tuple[WalkerEvent | None, int]:
    """A candidate record authenticated under its guessed number: event, records evicted."""
    if not row.proven or row.state is not State.CONFIRMING or probe.guess != row.guess:
        return None, 0
    walk = Walk(config, row, row.cand_high, b"")
    event = adopt(walk, probe.number, ProvenBy.TAG)
    return event, walk.out.evicted


def hint(row: Row, seq: int, number: int) -> WalkerEvent | None:
    """RESYNC_HINT: arm a flow that is out of sync for a record that software names.

    Software has read every record in front of it, so none of them holds marks back any more. A
    one-bit flow goes on from there: its walk has passed records that were not verified.
    """
    suspected = row.suspect_end is not None
    clear_suspicion(row, seq)
    if row.state in (State.START, State.TRACKING):
        ended = any(slot and delta(slot.end, seq) <= 0 for slot in row.slots)
        if row.options & Option.ONE_BIT and (ended or (suspected and row.suspect_end is None)):
            arm(row, seq, number)
        for index, slot in enumerate(row.slots):
            if slot and delta(slot.end, seq) <= 0:
                row.drop_holes(slot)
                row.slots[index] = None
        return None
    lost_at = row.lost_at
    arm(row, seq, number)
    return WalkerEvent(
        EventKind.RESUMED, lost_at=lost_at, guess=seq, resumed_at=seq,
        proven_by=ProvenBy.SOFTWARE, seq=seq, number=number,
    )


def withholds(config: Config, row: Row, content_type: int, length: int) -> bool:
    """Whether nothing is marked behind such a record before its verdict."""
    if row.options & Option.ONE_BIT:
        return True
    if row.version == VERSION_TLS12:
        return content_type in (CONTENT_CHANGE_CIPHER_SPEC, CONTENT_HANDSHAKE)
    return length <= config.park_hold_len


def clear_suspicion(row: Row, seq: int) -> None:
    """Software has read the stream up to `seq`."""
    if row.suspect_end is not None and delta(seq, row.suspect_end) >= 0:
        row.suspect_end = None


def close_below(row: Row) -> None:
    """The position was given anew: records in what was marked stay closed."""
    row.closed = row.marked_high is not None
    row.closed_below = row.marked_high or 0


def arm(row: Row, seq: int, number: int) -> None:
    """Put a row into START at a known header; what was open is closed."""
    row.close_all()
    row.walk = row.high = seq
    row.number = number
    row.hold = row.cand_hold = b""
    close_below(row)
    row.suspect_end = None
    row.proven = True
    row.state = State.START
    row.scanned = row.bad_headers = 0


def rekey(
    config: Config, row: Row, generation: int, epoch: int, seq: int, base: int
) -> None:
    """REKEY: the record that counted `base` and starts at `seq` is number 0 under a new key.

    The walk went on behind the park, because headers need no key: it is only counted anew. What
    is open was fed under the old key and is closed.
    """
    row.generation, row.epoch = generation, epoch
    row.probing = False
    row.marked_number = 0
    one_bit = row.options & Option.ONE_BIT and row.suspect_end is not None
    clear_suspicion(row, seq)
    if row.proven and row.number >= base and not one_bit:
        row.number -= base
        if any(slot and withholds(config, row, slot.content_type, slot.length)
               for slot in row.slots):
            row.suspect_end = row.walk
        close_below(row)
        row.close_all()
    elif row.proven:
        arm(row, seq, 0)


def desync(row: Row) -> None:
    """A record did not authenticate: nothing behind it is proven."""
    row.close_all()
    row.proven = row.probing = False
    row.hold = b""
    if row.state in (State.START, State.TRACKING):
        row.lost_at = row.walk
        row.state = State.SEARCHING
        row.scanned = 0
        row.cand_hold = b""
        row.cand_high = row.high
