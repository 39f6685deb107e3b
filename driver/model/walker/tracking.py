# SPDX-License-Identifier: Apache-2.0
"""The walker on the proven chain: feeding open records, hopping from header to header, and what
becomes of a candidate that is proven."""

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import HEADER_BYTES, header_bytes, header_prefix_ok
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason

from ...net.seq import add, distance
from .core import Core
from .resync import give_up, scan
from .row import OpenRecord, TrackerState, header_length
from .span import WalkerEvent


def continues(core: Core) -> bool:
    """Whether no header lies in the hole in front of the segment."""
    row = core.row
    if not row.proven:
        return False
    if distance(core.seq, row.high) <= 0:
        return True
    if len(row.part_header) >= HEADER_BYTES:
        # Only nonce bytes are missing: the walk goes on, the record stays closed.
        _step_over(core, row.part_header)
    return not row.part_header and distance(row.next_record_seq, core.seq) >= 0


def walk(core: Core) -> None:
    """Feed what the segment brings that is unseen, and hop along its headers."""
    row = core.row
    open_at_start = any(slot.holds(core.seq) for slot in row.slots if slot)
    overlaps = Reason.SEEN_BYTES if open_at_start else Reason.NOT_OPEN
    if distance(core.seq, row.high) < 0:
        _fill(core, overlaps)
    if distance(core.end, row.high) > 0:
        _frontier(core)


def _step_over(core: Core, head: bytes) -> None:
    """The walk goes on by the length of the header at `next_record_seq`; the record stays closed."""
    row, length = core.row, header_length(head)
    row.next_record_seq = add(row.next_record_seq, HEADER_BYTES + length)
    row.number = (row.number + 1) % 2**64
    row.part_header = b""
    core.set_barrier(head[0], length, row.next_record_seq)


# --- bytes of holes -------------------------------------------------------------------------


def _fill(core: Core, overlaps: Reason) -> None:
    """Bytes in front of everything seen: what is unseen of them is fed."""
    out, coverage = core.out, core.coverage
    at = core.seq
    while at != core.end and (hole := coverage.find(core.seq, core.end)) is not None:
        start = hole.start if distance(hole.start, at) > 0 else at
        end = hole.end if distance(hole.end, core.end) < 0 else core.end
        if start != at:
            out.add_reason(overlaps)
        at = end
        index = coverage.at(start)
        assert index is not None  # a hole lies inside an open record
        slot = coverage.slot(index)
        rest = coverage.cut(hole, start, end)
        if rest is None or core.add_hole(rest.start, rest.end):
            _feed(core, index, slot, start, end)
        else:
            out.add_reason(Reason.NOT_OPEN)
    if at != core.end:
        out.add_reason(overlaps)


# --- bytes behind everything seen -----------------------------------------------------------


def _frontier(core: Core) -> None:
    """The segment brings bytes behind everything seen: they are fed and walked."""
    row, coverage = core.row, core.coverage
    start = row.high if distance(core.seq, row.high) < 0 else core.seq
    last = coverage.at(row.high)
    if distance(start, row.high) > 0 and last is not None:
        if distance(row.passed_high, row.high) > 0 and distance(row.passed_from, start) < 0:
            coverage.drop_verdict(last)
        if not core.add_hole(row.high, start):
            last = None
    in_last = not row.part_header and distance(start, row.next_record_seq) < 0
    row.high = core.end
    if in_last:
        end = row.next_record_seq if distance(row.next_record_seq, core.end) < 0 else core.end
        slot = None if last is None else row.slots[last]
        if last is None or slot is None:
            core.out.add_reason(Reason.NOT_OPEN)
        else:
            _feed(core, last, slot, start, end)
    if not _hop(core, start):
        return
    _match_candidate(core)


def _feed(core: Core, index: int, slot: OpenRecord, start: int, end: int) -> None:
    """Bytes [start, end) of an open record are now seen."""
    core.out.any_all_marked |= not slot.has_unmarked
    core.touched.append(slot)
    complete = core.coverage.whole(slot)
    verified = complete and not slot.no_verdict
    core.span(index, slot, start, end, verified)
    core.out.touch(
        slot.number, slot.start, distance(core.seq, slot.start), slot.length, slot.nonce, verified
    )
    if complete:
        core.coverage.completed(index)
        if not verified:
            core.set_barrier(slot.content_type, slot.length, slot.end)


# --- headers --------------------------------------------------------------------------------


def _hop(core: Core, start: int) -> bool:
    """From header to header to the segment's end; false if TLS does not allow one."""
    row, out = core.row, core.out
    size = header_bytes(row.version)
    virtual = row.part_header + core.payload[distance(start, core.seq) :]
    base = add(start, -len(row.part_header))  # sequence number of virtual[0]
    walked = False
    while distance(row.next_record_seq, core.end) < 0:
        if row.state is TrackerState.CONFIRMING and row.next_record_seq == row.candidate_seq:
            core.number_at_candidate = row.number
        at = distance(row.next_record_seq, base)
        head = virtual[at : at + size]
        if not header_prefix_ok(row.version, head[:HEADER_BYTES]):
            _lose_proof(core)
            row.bad_headers += 1
            if row.bad_headers >= core.config.bad_header_limit:
                give_up(core)
            else:
                scan(core, base, virtual, at + 1)
            return False
        walked = True
        offset = max(
            0, distance(core.seq, row.next_record_seq)
        )  # the packet may begin inside the header
        out.any_all_marked = True
        if len(head) < size:
            if _is_closed(core):
                out.add_reason(Reason.NOT_OPEN)
            row.part_header = head
            length = header_length(head) if len(head) >= HEADER_BYTES else 0
            nonce = int.from_bytes(head[HEADER_BYTES:], "little")
            out.touch(row.number, row.next_record_seq, offset, length, nonce, False)
            break
        row.part_header = b""
        _open(core, head, offset)
    if walked and row.state is TrackerState.START:
        row.state = TrackerState.TRACKING
    return True


def _open(core: Core, head: bytes, offset: int) -> None:
    """A whole header at `next_record_seq`: feed the record's bytes in this segment, go to its end."""
    row, out = core.row, core.out
    length = header_length(head)
    nonce = int.from_bytes(head[HEADER_BYTES:], "little")
    slot = OpenRecord(row.next_record_seq, length, row.number, nonce, head[0])
    whole = distance(slot.end, core.end) <= 0
    closed = _is_closed(core)
    start = add(row.next_record_seq, len(head))
    if closed:
        core.set_barrier(slot.content_type, length, slot.end)
        out.add_reason(Reason.NOT_OPEN)
    elif whole:
        core.span(0, slot, start, slot.end, True)
    else:
        index = core.open_slot(slot)
        core.touched.append(slot)
        if start != core.end:
            core.span(index, slot, start, core.end, False)
    out.touch(slot.number, slot.start, offset, length, nonce, whole and not closed)
    row.next_record_seq = slot.end
    row.number = (row.number + 1) % 2**64


def _is_closed(core: Core) -> bool:
    """Whether the record at `next_record_seq` has bytes in a marked packet from before a resync.

    Its number says so too, because sequence numbers come again after 2^32 bytes. The walk
    never goes back, so the first record that is open ends the question.
    """
    row = core.row
    below = distance(row.next_record_seq, row.closed_below) < 0 or row.number < row.marked_number
    row.closed = row.closed and below
    return row.closed


def _lose_proof(core: Core) -> None:
    """TLS does not allow the header at `next_record_seq`."""
    row = core.row
    row.proven = False
    row.part_header = b""
    row.lost_at = row.next_record_seq
    row.state = TrackerState.SEARCHING
    row.scanned = 0
    row.close_all()


# --- the walk arrives at the candidate ------------------------------------------------------


def _match_candidate(core: Core) -> None:
    """The proven chain went on while a header was lost: is the candidate reached?

    The walk may have passed the candidate's header in the same segment. It is of no use any
    more if the walk has passed all that was followed, or has not found a header there.
    """
    row = core.row
    _step_over_split_header(core)
    if row.state in (TrackerState.SEARCHING, TrackerState.GIVEN_UP):
        row.state = TrackerState.TRACKING
    elif row.state is TrackerState.CONFIRMING:
        if row.next_record_seq == row.candidate_seq:
            core.number_at_candidate = row.number
        number, barrier_end = core.number_at_candidate, row.cand_barrier_end
        if number is not None and distance(core.end, row.cand_high) <= 0:
            # Records of the candidate that the walk has been through are the walk's.
            if row.next_record_seq == row.cand_next_seq:
                row.cand_last = None
            if barrier_end is not None and distance(barrier_end, row.next_record_seq) <= 0:
                row.cand_barrier_end = None
            core.out.event = adopt(core, number, ProvenBy.WALK)
        elif number is not None or distance(row.next_record_seq, row.candidate_seq) > 0:
            row.state = TrackerState.TRACKING
            core.out.event = WalkerEvent(
                EventKind.RESUMED,
                lost_at=row.lost_at,
                candidate_seq=row.candidate_seq,
                resumed_at=row.next_record_seq,
                proven_by=ProvenBy.WALK,
                seq=core.end,
                number=row.number,
            )


def _step_over_split_header(core: Core) -> None:
    """The hole is filled and its end cuts a header: the rest has passed. The walk goes on by
    the length; the record, of which bytes have passed unfed, stays closed."""
    row = core.row
    lost = row.state in (TrackerState.SEARCHING, TrackerState.CONFIRMING, TrackerState.GIVEN_UP)
    head = (row.part_header + row.behind_hole)[:HEADER_BYTES]
    if (
        lost
        and row.part_header
        and row.high == row.passed_from
        and len(head) == HEADER_BYTES
        and header_prefix_ok(row.version, head)
    ):
        _step_over(core, head)


# --- the candidate is proven: by the walk in a packet, by software, by a tag ----------------


def adopt(core: Core, number_at_candidate: int, by: ProvenBy) -> WalkerEvent:
    """The proven chain goes on from where the candidate's walk is."""
    row = core.row
    # What the candidate passed of a record that is open was not fed.
    index = core.coverage.at(row.high)
    if row.proven and index is not None and distance(row.high, row.next_record_seq) < 0:
        core.coverage.drop_verdict(index)
        # Where walk and candidate disagree, different bytes have passed.
        if (
            distance(row.next_record_seq, row.cand_high) <= 0
            or row.next_record_seq != row.cand_next_seq
        ):
            core.close(index)
    if row.cand_barrier_end is not None:
        row.barrier_end = row.cand_barrier_end
    if row.options & Option.ONE_BIT:
        row.barrier_end = row.cand_next_seq  # nothing that the candidate followed is verified
    event = WalkerEvent(
        EventKind.RESUMED,
        lost_at=row.lost_at,
        candidate_seq=row.candidate_seq,
        resumed_at=row.cand_next_seq,
        proven_by=by,
        seq=core.end if by is ProvenBy.WALK else row.cand_high,
        number=(number_at_candidate + row.cand_count) % 2**64,
    )
    row.next_record_seq = row.cand_next_seq
    row.number = event.number
    row.part_header = row.cand_part_header
    row.high = row.cand_high
    row.cand_part_header = b""
    row.close_below()
    if by is ProvenBy.WALK and (row.marked_high is None or distance(core.end, row.marked_high) > 0):
        # The packet that brings the walk here may be marked, with its own bytes of a header of
        # which the candidate has kept others.
        row.closed, row.closed_below = True, core.end
    row.proven = True
    row.state = TrackerState.TRACKING
    row.scanned = 0
    row.bad_headers = 0
    _open_last(core)
    return event


def _open_last(core: Core) -> None:
    """The candidate is proven and its last record goes on: the rest of it can be marked, and
    with it what else is in its last packet. If text of it has passed it gets no verdict. A
    one-bit flow is not marked by a header that was read before the position was proven."""
    row = core.row
    if row.options & Option.ONE_BIT:
        return
    if row.cand_last is None or row.part_header or distance(row.next_record_seq, row.high) <= 0:
        return
    start, length, nonce, content_type = row.cand_last
    number = (row.number - 1) % 2**64
    below = distance(start, row.closed_below) < 0 or number < row.marked_number
    if row.closed and below:
        return
    no_verdict = distance(row.high, start) > header_bytes(row.version)
    core.open_slot(
        OpenRecord(
            start, length, number, nonce, content_type, no_verdict=no_verdict, has_unmarked=True
        )
    )
