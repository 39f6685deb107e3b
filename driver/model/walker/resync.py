# SPDX-License-Identifier: Apache-2.0
"""The walker off the proven chain: looking for a header, following a candidate."""

import re

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import HEADER_BYTES, TYPES, header_bytes, header_prefix_ok
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason

from ...net.seq import add, delta
from .core import Core
from .row import LOST_RECORDS, Slot, State, header_length
from .span import Probe, WalkerEvent

# Type and version, or as much of them as the bytes end with.
_BEGINNINGS = {
    version: re.compile(b"[%s](?:\\x03(?:\\x03|\\Z)|\\Z)" % bytes(types))
    for version, types in TYPES.items()
}


def candidate(core: Core) -> None:
    """A segment behind a lost header: it goes on with the candidate chain, or is searched."""
    row, out = core.row, core.out
    if row.state in (State.START, State.TRACKING):
        row.lost_at = row.walk
        row.state = State.SEARCHING
        row.scanned = 0
        row.cand_hold = b""
        row.passed_from, row.passed_high = core.seq, core.end
        row.edge = core.payload[:HEADER_BYTES]
    elif delta(core.seq, row.passed_from) < 0:
        row.passed_from = core.seq
        row.edge = b""
    if row.state is State.GIVEN_UP:
        out.blame(Reason.GIVEN_UP)
        return
    if row.state is State.CONFIRMING:
        gap = delta(core.seq, row.cand_high)
        if delta(core.end, row.cand_high) <= 0:
            out.blame(Reason.AWAITING_PROOF)
            return
        if gap > 0:
            row.probing = False
        if gap > 0 and len(row.cand_hold) >= HEADER_BYTES:
            _count(core, row.cand_hold)
            row.cand_last = None  # its nonce is not known
            row.cand_hold = b""
        if gap <= 0 or (not row.cand_hold and delta(row.cand_walk, core.seq) >= 0):
            start = row.cand_high if gap <= 0 else core.seq
            virtual = row.cand_hold + core.payload[delta(start, core.seq) :]
            base = add(start, -len(row.cand_hold))
            if row.probing:
                _probe(core, start)
            mismatch = _chain(core, base, virtual)
            if mismatch is None:
                out.blame(Reason.AWAITING_PROOF)
            else:
                scan(core, base, virtual, mismatch + 1)
            return
        row.state = State.SEARCHING
        row.cand_hold = b""
    if row.cand_hold and core.seq == row.cand_high:
        base = add(core.seq, -len(row.cand_hold))
        scan(core, base, row.cand_hold + core.payload, 0)
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
        mismatch = _chain(core, base, virtual)
        if mismatch is None:
            out.event = WalkerEvent(
                EventKind.RESYNC_REQUEST, lost_at=row.lost_at, guess=row.guess, seq=core.end
            )
            out.blame(Reason.AWAITING_PROOF)
            return
        at = mismatch + 1
    else:
        row.state = State.SEARCHING
        row.cand_hold = b""
    row.scanned += len(core.payload)
    if row.scanned > core.config.scan_limit:
        give_up(core)
    else:
        out.blame(Reason.SEARCHING)


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
    row.state = State.GIVEN_UP
    row.cand_hold = b""
    core.out.blame(Reason.GIVEN_UP)
    core.out.event = WalkerEvent(EventKind.GIVEN_UP, lost_at=row.lost_at, seq=core.end)


# --- the candidate chain --------------------------------------------------------------------


def _chain(core: Core, base: int, virtual: bytes) -> int | None:
    """Hop along the candidate chain; where in `virtual` TLS does not allow a header, if so."""
    row = core.row
    size = header_bytes(row.version)
    row.cand_hold = b""
    row.cand_high = core.end
    while delta(row.cand_walk, core.end) < 0:
        at = delta(row.cand_walk, base)
        head = virtual[at : at + size]
        if not header_prefix_ok(row.version, head[:HEADER_BYTES]):
            return at
        if len(head) < size:
            row.cand_hold = head
            break
        start = add(row.cand_walk, size)
        _count(core, head)
        if row.options & Option.TAG_PROOF and row.proven:
            _begin_probe(core, start)
    return None


def _count(core: Core, head: bytes) -> None:
    """One more record of the candidate chain. It is counted, not opened."""
    row, length = core.row, header_length(head)
    nonce = int.from_bytes(head[HEADER_BYTES:], "little")
    row.cand_last = (row.cand_walk, length, nonce, head[0])
    row.cand_walk = add(row.cand_walk, HEADER_BYTES + length)
    row.cand_count += 1
    if core.withholds(head[0], length):
        row.cand_suspect_end = row.cand_walk


def _begin_probe(core: Core, start: int) -> None:
    """A record of the candidate chain begins: it is fed as if its number were known."""
    row = core.row
    whole = delta(row.cand_walk, core.end) <= 0
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
    slot = Slot(at, length, row.probe_number, nonce, content_type, fed=row.probe_fed)
    whole = delta(row.cand_walk, core.end) <= 0
    end = row.cand_walk if whole else core.end
    core.span(core.config.record_slots, slot, start, end, whole, probe=True)
    row.probe_fed = True
    if whole:
        number = (row.probe_number - row.cand_count + 1) % 2**64
        core.out.probe = Probe(row.guess, number)
        # If the tag is bad, one more record was lost.
        row.probing = False
        row.probes += 1
        row.lost_records = (row.lost_records + 1) % LOST_RECORDS
