# SPDX-License-Identifier: Apache-2.0
"""Which way a segment of a transmit direction goes: one decision, without side effects.

The device encrypts in order by itself. Everything else is decided here, from the record map and
from what the driver knows of the device's stream. Two rules carry the soundness:

- A record is started in order once, so the stream only moves forward (`sync`), and what lies below
  its frontier is encrypted with a position of its own (`detached`).
- At most one value of a tag leaves. The device computes a tag for a frame that leaves only while
  no other frame can have brought one; from then on a frame with bytes of that tag carries the
  stored one (GIVEN), or has it compared (COMPARE), as software does. Text that nobody can change
  (`TxRecord.frozen`) has one tag however often it is computed, so only text that the caller merely
  promised not to change makes a segment wait (`Hold`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sealane.hdl.abi.tx import TxOp, TxTags

from .plan import Drop, DropReason, Hold, TxMode, Way
from .records import RecordMap, TxRecord

# A jump of the stream up to this many bytes is bridged by replaying all of it, a longer one by
# moving the stream to the segment's own record. What was skipped comes again as a retransmission,
# and of a record that was never finished in order there is no tag: it would be replayed then.
GAP_LIMIT = 1 << 14


@dataclass(frozen=True, slots=True)
class TxState:
    """What a decision depends on. Positions are stream offsets, 0 is the start marker.

    expected: the frontier, where the device's stream goes on. high: end of the highest segment that
    was handed over. epochs: those whose keys are in the device, and to be used. offloaded: the
    device has this direction. resync: the record boundary up to which software encrypts because the
    device's stream is lost or moves to another key; segments up to there count as `resync_way`.
    mtu: most bytes of a DUMP piece. max_frames: frames of one segment.
    """

    records: RecordMap
    expected: int
    high: int
    epochs: frozenset[int]
    offloaded: bool = True
    resync: int | None = None
    resync_way: Way = Way.NEXT_RECORD
    mode: TxMode = TxMode.AUTO
    gap_limit: int = GAP_LIMIT
    mtu: int = 1500
    max_frames: int = 32


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a segment, and what becomes of the state then.

    op: of the frame. way: None if nobody encrypts. records: those of the segment. final: a WIRE
    frame with the host's own bytes; other WIRE frames are made by software. dump: [start, end) is
    replayed first. detached, sync: as in `TX_META`; `sync` belongs to the first frame of all. tags: of
    the frame itself. expected, resync: as they are when the frames are posted. ooo, skipped: the
    segment counts as `tx_tls_ooo`, as `tx_tls_skip_no_sync_data`.
    """

    op: TxOp
    expected: int
    resync: int | None
    way: Way | None = None
    records: tuple[TxRecord, ...] = ()
    final: bool = False
    dump: tuple[int, int] | None = None
    detached: bool = False
    sync: bool = False
    tags: TxTags = TxTags.COMPUTE
    ooo: bool = False
    skipped: bool = False


def choose(state: TxState, start: int, end: int, encrypt: bool) -> Decision | Drop | Hold:
    """The decision for the segment [start, end). encrypt: its payload is plaintext records."""
    ooo = state.offloaded and start != state.expected
    if start == end:
        return Decision(TxOp.NOTHING, state.expected, state.resync)
    if start < 0:
        # What straddles the marker is part plaintext, whatever is said about it: Linux's software
        # fallback does not send it either.
        if encrypt or end > 0:
            return Drop(DropReason.BYPASS_REQ)
        return as_it_is(state, start, end)
    if not encrypt:
        # Text without a word about it behind the marker: the device drops it, and this shows that.
        # A device that knows nothing of the flow would send it.
        if not state.offloaded:
            return Drop(DropReason.ORPHAN)
        return Decision(TxOp.NOTHING, state.expected, state.resync)
    records = tuple(state.records.covering(start, end))
    if not records:
        return Drop(DropReason.NO_SYNC_DATA)
    return _Segment(state, start, end, records, ooo).choose()


def as_it_is(state: TxState, start: int, end: int) -> Decision:
    """The segment [start, end), which begins in front of the marker, with bytes that are final."""
    ooo = state.offloaded and start != state.expected
    return Decision(
        TxOp.WIRE, state.expected, state.resync, final=True, ooo=ooo, skipped=ooo and end <= 0
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    state: TxState
    start: int
    end: int
    records: tuple[TxRecord, ...]
    ooo: bool

    def choose(self) -> Decision | Drop | Hold:
        state, start, end = self.state, self.start, self.end
        if not state.offloaded:
            return self._software()
        if state.resync is not None and start < state.resync:
            return self._software(state.resync_way)
        if not all(self._usable(record) for record in self.records):
            return self._software()
        if state.resync is not None:
            way = Way.NEXT_RECORD if state.resync_way is Way.NEXT_RECORD else None
            return self._stream(self.records[0].start, True, way)
        if start == state.expected:
            return self._stream(start, False)
        if state.mode is TxMode.SOFTWARE:
            return self._software()
        if state.mode is TxMode.NEXT_RECORD:
            boundary = state.records.boundary(max(state.high, end))
            return self._software(Way.NEXT_RECORD, boundary)
        if start > state.expected:
            return self._jump()
        if end > state.expected:
            return self._software()
        return self._detached()

    def _jump(self) -> Decision | Drop | Hold:
        """The stream moves forward: in order through the gap, or to the segment's own record."""
        state, first = self.state, self.records[0]
        near = self.start - state.expected <= state.gap_limit or first.start <= state.expected
        if self._frame_count((state.expected, self.start)) > state.max_frames:
            near = False
        gap = state.records.covering(state.expected, self.start) if near else []
        if gap and all(self._usable(record) for record in gap):
            return self._stream(state.expected, False)
        if first.start < state.expected:
            return self._software()  # nothing moves the stream back
        return self._stream(first.start, True)

    def _stream(self, begin: int, sync: bool, way: Way | None = None) -> Decision | Drop | Hold:
        """By the device's stream, which hashes [begin, start) first."""
        state = self.state
        dump = (begin, self.start) if begin < self.start else None
        tags = self._stream_tags(begin)
        if tags is None or self._frame_count(dump) > state.max_frames:
            return self._software()
        return Decision(
            TxOp.ENCRYPT,
            self.end,
            None,
            way or (Way.REBUILD if dump else Way.IN_ORDER),
            self.records,
            dump=dump,
            sync=sync,
            tags=tags,
            ooo=self.ooo,
        )

    def _stream_tags(self, begin: int) -> TxTags | None:
        """How the stream treats tags; None if software must, because some are known and some not.

        Of the tag that is cut by `start` the stream's row has the value already, or gets it from
        the replayed bytes; it only has to be the one that is stored, if one is.
        """
        begins = [r for r in self.records if r.tag_begins(self.start, self.end)]
        stored = sum(record.tag is not None for record in begins)
        rest = self.records[0] if self.records[0].tag_start < self.start else None
        if 0 < stored < len(begins):
            return None
        if rest is None:
            return TxTags.COMPARE if stored else TxTags.COMPUTE
        if rest.tag is not None:
            if stored == len(begins):
                return TxTags.COMPARE
            return TxTags.COMPUTE if rest.frozen or rest.from_stream else None
        if stored:
            return None
        # Its first byte was in a frame that failed: what the row holds is not to be trusted, and a
        # frame that is rebuilding the tag now may send another.
        lost = rest.tag_start < begin and not rest.streaming
        return None if lost else TxTags.COMPUTE

    def _detached(self) -> Decision | Drop | Hold:
        """Below the frontier, without touching the stream."""
        state, first = self.state, self.records[0]
        tagged = self._tagged()
        missing = [record for record in tagged if record.tag is None]
        rebuild = bool(missing) or state.mode is TxMode.REBUILD
        if rebuild:
            blocked = self._blocked(missing)
            if blocked is not None:
                return blocked
            if 0 < len(missing) < len(tagged):
                return self._software()
        dump = (first.start, self.start) if rebuild and self.start > first.text_start else None
        if self._frame_count(dump) > state.max_frames:
            return self._software()
        tags, way = TxTags.GIVEN, Way.TAG if tagged else Way.SEEK
        if rebuild:
            tags, way = TxTags.COMPUTE if missing else TxTags.COMPARE, Way.REBUILD
        return Decision(
            TxOp.ENCRYPT,
            state.expected,
            state.resync,
            way,
            self.records,
            dump=dump,
            detached=True,
            tags=tags,
            ooo=self.ooo,
        )

    def _software(
        self, way: Way = Way.SOFTWARE, resync: int | None = None
    ) -> Decision | Drop | Hold:
        """By software; with `resync`, software goes on up to there."""
        blocked = self._blocked([r for r in self._tagged() if r.tag is None])
        if blocked is not None:
            return blocked
        boundary = self.state.resync if resync is None else resync
        return Decision(TxOp.WIRE, self.state.expected, boundary, way, self.records, ooo=self.ooo)

    def _blocked(self, missing: list[TxRecord]) -> Drop | Hold | None:
        """Why no tag of these records may be computed now: another could have left."""
        promised = [record for record in missing if not record.frozen]
        if any(record.unknown and not record.outstanding for record in promised):
            return Drop(DropReason.NO_SYNC_DATA)
        waiting = tuple(record.count for record in promised if record.outstanding)
        return Hold(waiting) if waiting else None

    def _tagged(self) -> list[TxRecord]:
        return [r for r in self.records if r.has_tag_bytes(self.start, self.end)]

    def _usable(self, record: TxRecord) -> bool:
        return record.epoch in self.state.epochs and not record.software_only

    def _frame_count(self, dump: tuple[int, int] | None) -> int:
        return 1 + (-(-(dump[1] - dump[0]) // self.state.mtu) if dump else 0)
