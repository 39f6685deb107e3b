# SPDX-License-Identifier: Apache-2.0
"""The walker off the proven chain: looking for a header, following a candidate."""

import re

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import HEADER_BYTES, TYPES, header_bytes, header_prefix_ok
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason

from ...net.seq import add, distance
from .core import Core
from .row import LOST_RECORDS, OpenRecord, TrackerState, header_length
from .span import Probe, WalkerEvent

# Type and version, or as much of them as the bytes end with.
_BEGINNINGS = {
    version: re.compile(b"[%s](?:\\x03(?:\\x03|\\Z)|\\Z)" % bytes(types))
    for version, types in TYPES.items()
}


def candidate(core: Core) -> None:
    """A segment behind a lost header: it goes on with the candidate chain, or is searched."""
    row, out = core.row, core.out
    if row.state in (TrackerState.START, TrackerState.TRACKING):
        row.lost_at = row.next_record_seq
        row.state = TrackerState.SEARCHING
        row.scanned = 0
        row.cand_part_header = b""
        row.passed_from, row.passed_high = core.seq, core.end
        row.behind_hole = core.payload[:HEADER_BYTES]
    elif distance(core.seq, row.passed_from) < 0:
        row.passed_from = core.seq
        row.behind_hole = b""
    if row.state is TrackerState.GIVEN_UP:
        out.add_reason(Reason.GIVEN_UP)
        return
    if row.state is TrackerState.CONFIRMING:
        gap = distance(core.seq, row.cand_high)
        if distance(core.end, row.cand_high) <= 0:
            out.add_reason(Reason.AWAITING_PROOF)
            return
        if gap > 0:
            row.probing = False
        if gap > 0 and len(row.cand_part_header) >= HEADER_BYTES:
            _count(core, row.cand_part_header)
            row.cand_last = None  # its nonce is not known
            row.cand_part_header = b""
        if gap <= 0 or (not row.cand_part_header and distance(row.cand_next_seq, core.seq) >= 0):
            start = row.cand_high if gap <= 0 else core.seq
            virtual = row.cand_part_header + core.payload[distance(start, core.seq) :]
            base = add(start, -len(row.cand_part_header))
            if row.probing:
                _probe(core, start)
            mismatch = _chain(core, base, virtual)
            if mismatch is None:
                out.add_reason(Reason.AWAITING_PROOF)
            else:
                scan(core, base, virtual, mismatch + 1)
            return
        row.state = TrackerState.SEARCHING
        row.cand_part_header = b""
    if row.cand_part_header and core.seq == row.cand_high:
        base = add(core.seq, -len(row.cand_part_header))
        scan(core, base, row.cand_part_header + core.payload, 0)
    else:
        scan(core, core.seq, core.payload, 0)


# --- the scan -------------------------------------------------------------------------------


def scan(core: Core, base: int, virtual: bytes, at: int) -> None:
    """Look for a header from offset `at` on and follow it; virtual[0] is byte `base`.

    A candidate that leads to something else than a header inside this segment is false: the
    scan goes on behind the place of the mismatch, `rescan_limit` times a segment at most.
    """
    row, out = core.row, core.out
    out.event = None
    row.cand_high = core.end
    for _ in range(core.config.rescan_limit):
        row.state = TrackerState.SEARCHING
        row.cand_part_header = b""
        found = _find_header(row.version, virtual, at)
        if found is None:
            break
        if found + HEADER_BYTES > len(virtual):
            row.cand_next_seq = add(base, found)
            row.cand_part_header = virtual[found:]
            break
        row.candidate_seq = row.cand_next_seq = add(base, found)
        row.cand_count = row.probes = 0
        row.cand_last = row.cand_barrier_end = None
        row.probing = False
        # Records are about 2^14 bytes or shorter: a shorter one is found a few tries later.
        row.lost_records = (
            max(1, distance(row.candidate_seq, row.next_record_seq) >> 14) % LOST_RECORDS
        )
        row.state = TrackerState.CONFIRMING
        mismatch = _chain(core, base, virtual)
        if mismatch is None:
            out.event = WalkerEvent(
                EventKind.RESYNC_REQUEST,
                lost_at=row.lost_at,
                candidate_seq=row.candidate_seq,
                seq=core.end,
            )
            out.add_reason(Reason.AWAITING_PROOF)
            return
        at = mismatch + 1
    else:
        row.state = TrackerState.SEARCHING
        row.cand_part_header = b""
    row.scanned += len(core.payload)
    if row.scanned > core.config.scan_limit:
        give_up(core)
    else:
        out.add_reason(Reason.SEARCHING)


def _find_header(version: int, virtual: bytes, at: int) -> int | None:
    """First offset from `at` on where a header, or as much of one as is there, is allowed."""
    while found := _BEGINNINGS[version].search(virtual, at):
        at = found.start()
        if header_prefix_ok(version, virtual[at : at + HEADER_BYTES]):
            return at
        at += 1
    return None


def give_up(core: Core) -> None:
    """Nothing is searched any more, and software is told."""
    row = core.row
    row.state = TrackerState.GIVEN_UP
    row.cand_part_header = b""
    core.out.add_reason(Reason.GIVEN_UP)
    core.out.event = WalkerEvent(EventKind.GIVEN_UP, lost_at=row.lost_at, seq=core.end)


# --- the candidate chain --------------------------------------------------------------------


def _chain(core: Core, base: int, virtual: bytes) -> int | None:
    """Hop along the candidate chain; where in `virtual` TLS does not allow a header, if so."""
    row = core.row
    size = header_bytes(row.version)
    row.cand_part_header = b""
    row.cand_high = core.end
    while distance(row.cand_next_seq, core.end) < 0:
        at = distance(row.cand_next_seq, base)
        head = virtual[at : at + size]
        if not header_prefix_ok(row.version, head[:HEADER_BYTES]):
            return at
        if len(head) < size:
            row.cand_part_header = head
            break
        start = add(row.cand_next_seq, size)
        _count(core, head)
        if row.options & Option.TAG_PROOF and row.proven:
            _begin_probe(core, start)
    return None


def _count(core: Core, head: bytes) -> None:
    """One more record of the candidate chain. It is counted, not opened."""
    row, length = core.row, header_length(head)
    nonce = int.from_bytes(head[HEADER_BYTES:], "little")
    row.cand_last = (row.cand_next_seq, length, nonce, head[0])
    row.cand_next_seq = add(row.cand_next_seq, HEADER_BYTES + length)
    row.cand_count += 1
    if core.withholds(head[0], length):
        row.cand_barrier_end = row.cand_next_seq


def _begin_probe(core: Core, start: int) -> None:
    """A record of the candidate chain begins: it is fed as if its number were known."""
    row = core.row
    whole = distance(row.cand_next_seq, core.end) <= 0
    row.probing = row.probes < core.config.tag_proof_limit and not (whole and core.out.probe)
    if row.probing:
        row.probe_fed = False
        row.probe_number = (row.number + row.lost_records + row.cand_count - 1) % 2**64
        if start != core.end:
            _probe(core, start)


def _probe(core: Core, start: int) -> None:
    """Bytes of the candidate's last record, from `start` on, under a guessed number."""
    row = core.row
    assert row.cand_last is not None
    at, length, nonce, content_type = row.cand_last
    slot = OpenRecord(at, length, row.probe_number, nonce, content_type, fed=row.probe_fed)
    whole = distance(row.cand_next_seq, core.end) <= 0
    end = row.cand_next_seq if whole else core.end
    core.span(core.config.record_slots, slot, start, end, whole, probe=True)
    row.probe_fed = True
    if whole:
        number = (row.probe_number - row.cand_count + 1) % 2**64
        core.out.probe = Probe(row.candidate_seq, number)
        # If the tag is bad, one more record was lost.
        row.probing = False
        row.probes += 1
        row.lost_records = (row.lost_records + 1) % LOST_RECORDS
