# SPDX-License-Identifier: Apache-2.0
"""Transmit with one rule removed at a time, to test that `tests.trials.tx.transfers` notices.

    python -m tests.trials.tx.mutants

runs trials on each faulty model or driver until one breaks, prints how many it took and its
message, and fails if a fault was not found within its number of trials. Nothing in the tree is
changed. A fault replaces a function or class of the model or the driver, in this process, during a
`with` block. Faults that cannot show on the model are not here: a key that is replaced between a
frame's walk and its encryption (`STALE_KEY`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from sealane.driver.ktls.tx import offload as tx_core
from sealane.driver.ktls.tx import software as tx_software
from sealane.driver.ktls.tx import ways as tx_ways
from sealane.driver.ktls.tx.frames import Builder
from sealane.driver.ktls.tx.journal import Journal
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Hold
from sealane.driver.ktls.tx.records import RecordMap, TxRecord
from sealane.driver.ktls.tx.rekey import TxRekey
from sealane.driver.model.tx import device as tx_device
from sealane.driver.model.tx import engine as tx_engine
from sealane.driver.model.tx import walker as tx_walker
from sealane.driver.model.tx.row import TxRow
from sealane.hdl.abi.config import HEADER_BYTES
from sealane.hdl.abi.tx import TxReason, TxTags
from tests.trials.tx.transfers import make_device, run_trial

_Walk, _decide, _leave, _choose = (
    tx_walker._Walk,
    tx_device.decide,
    tx_device.assemble_frame,
    tx_core.choose,
)
_Segment, _rekey, _delete, _release = tx_ways._Segment, TxRow.rekey, TxRow.delete, RecordMap.release
_place = Builder._place
_sent, _failed, _added = KtlsTx._sent, KtlsTx._failed, TxRow.added


# --- the device: which frames may be sent ---------------------------------------------------------


class Unordered(_Walk):
    """A stream frame is taken for one that begins at the frontier."""

    def _stream_position(self):
        reason = super()._stream_position()
        return TxReason.NONE if not self.meta["sync"] and not self.row.broken else reason


class SyncBackwards(_Walk):
    """The stream moves to any position that it is given."""

    def _stream_position(self):
        return TxReason.NONE if self.meta["sync"] else super()._stream_position()


class SyncBackInNumbers(_Walk):
    """The same, forward in the sequence and back in the records' numbers."""

    def _stream_position(self):
        forward = tx_walker.distance(self.seq, self.row.next) >= 0
        return TxReason.NONE if self.meta["sync"] and forward else super()._stream_position()


class BeyondTheFrontier(_Walk):
    """A detached frame may hold bytes that the stream has not reached."""

    def _detached_position(self):
        before, self.row.next = self.row.next, self.end
        try:
            return super()._detached_position()
        finally:
            self.row.next = before

    def _beyond(self):
        return False


class AnyNumber(_Walk):
    """A detached frame may name a record that the stream has not begun."""

    def _beyond(self):
        return self.number == self.row.number and super()._beyond()


class AnyNonce(_Walk):
    """The host's explicit nonce is believed."""

    def _header(self):
        reason = super()._header()
        if reason is not TxReason.BAD_NONCE:
            return reason
        taken = self.payload[self.pos : self.pos + self.row.header_size - self.at]
        at = self.out.payload_at + self.pos
        self.out.clears.append((at, at + len(taken)))
        self.at += len(taken)
        self.pos += len(taken)
        self.part_header = b""
        if self.length == 0:
            self.length = int.from_bytes(taken[3:HEADER_BYTES], "big")
        return TxReason.NONE


class NoMarker(_Walk):
    """Bytes before the start marker may be encrypted."""

    def run(self):
        passed, self.row.marker_expired = self.row.marker_expired, True
        reason = super().run()
        self.row.marker_expired = passed
        return reason


class NoBeginning(_Walk):
    """A tag is computed whatever part of the record was hashed."""

    def _detached_position(self):
        reason = super()._detached_position()
        return TxReason.NONE if reason is TxReason.NO_SYNC_DATA else reason


def key_stays(row: TxRow, generation: int, slot: int) -> bool:
    """TX_KEY_CLEAR does nothing."""
    return True


def one_base_more(row: TxRow, generation: int, slot: int, number: int) -> bool:
    return _rekey(row, generation, slot, number + 1)


def first_key_from_zero(row: TxRow, generation: int, version: int, seq: int, number: int, nonce):
    """The first key's record numbers begin at 0 with the offload."""
    made = _added(row, generation, version, seq, number, nonce)
    made.base[0] = number
    return made


def no_drop_entry(row: TxRow, generation: int) -> bool:
    """A deleted context is free at once: its frames belong to nobody."""
    done = _delete(row, generation)
    row.valid = row.valid and not done
    return done


def keys_stay(row: TxRow, generation: int) -> bool:
    """A deleted context continues."""
    return row.live and row.generation == generation


def no_orphans(walker, head, hit):
    return False


# --- the device: the frames sent ------------------------------------------------------------------


def tags_not_compared(walked, verdict):
    return _decide(walked, replace(verdict, mismatch=False))


def not_counted(walked, verdict):
    """Whether every byte was written is not checked, and an unwritten byte is sent as 0."""
    return _decide(walked, replace(verdict, written=walked.expected))


def bits_ignored(frame, head, walked, verdict):
    """An unwritten byte is sent as the host's byte: the bits say nothing."""
    out = bytearray(_leave(frame, head, walked, verdict))
    written = {at + i for at, data in verdict.writes for i in range(len(data))}
    written.update(i for start, end in walked.clears for i in range(start, end))
    for at in range(walked.payload_at, walked.payload_end):
        if at not in written:
            out[at] = frame[at]
    return bytes(out)


def even_lanes(at: int, data: bytes) -> int:
    """The checksum's differences are summed as if each piece began at an even place."""
    return int.from_bytes(data, "little") % 0xFFFF


class GivenTagsComputed(tx_engine.TxEngine):
    """A given tag does not count: the row's tag is sent."""

    def frame(self, context, spans, frame, lost_writes=0):
        given = any(span.tag_mode == TxTags.GIVEN for span in spans)
        computed = [
            replace(span, tag_mode=TxTags.COMPUTE) if span.tag_mode == TxTags.GIVEN else span
            for span in spans
        ]
        verdict = super().frame(context, computed, frame, lost_writes)
        return replace(verdict, tags=[]) if given else verdict


class OneRow(tx_engine.TxEngine):
    """Detached frames and the stream share one X row."""

    def _row(self, context, span, x, alone):
        return super()._row(context, replace(span, detached=False), x, alone)


# --- the driver -----------------------------------------------------------------------------------


def plain_before_marker(state, start, end, encrypt):
    """A segment that begins before the marker is sent as it is."""
    return _choose(state, start, end, encrypt and start >= 0)


def tags_not_stored(core, flight, completion):
    _sent(core, flight, replace(completion, tags={}))


def not_noticed(core, flight, reason, syncs):
    """A frame was dropped because the stream is lost, and nothing is done about it."""
    _failed(core, flight, reason, -1)


def not_undone(journal: Journal) -> None:
    journal._back.clear()


def released_early(records: RecordMap, una: int) -> list[TxRecord]:
    """A record is dropped when its first byte is acknowledged."""
    ends = [record.end for record in records if record.start < una]
    return _release(records, max(ends, default=una))


class NothingWaits(_Segment):
    """A tag is computed while another may be on its way."""

    __slots__ = ()

    def _blocked(self, missing):
        return None


class AlwaysGiven(_Segment):
    """Below the frontier all tags are said to be given, even those that nobody has."""

    __slots__ = ()

    def _detached(self):
        decision = super()._detached()
        if isinstance(decision, Hold) or not getattr(decision, "detached", False):
            return decision
        return replace(decision, tags=TxTags.GIVEN)


class StreamComputes(_Segment):
    """In order a tag is computed, even if one was sent before."""

    __slots__ = ()

    def _stream_tags(self, begin):
        return TxTags.COMPUTE


def not_compared_by_software(records, epochs, start, end):
    """Software computes a tag without looking at the one that was sent."""
    kept = [(record, record.tag) for record in records]
    for record, _ in kept:
        record.tag = None
    try:
        return tx_software.encrypt(records, epochs, start, end)
    finally:
        for record, tag in kept:
            record.tag = tag


def all_keys(rekey: TxRekey) -> frozenset[int]:
    """Every record may be given to the device, whichever keys it has."""
    return frozenset(rekey.epochs)


def one_record_off(builder, detached, sync, record, at):
    """Below the frontier the record's number is one too low: only the receiver can notice."""
    meta = _place(builder, detached, sync, record, at)
    return meta | {"number": meta["number"] - 1} if detached and meta["number"] else meta


def one_byte_off(builder, detached, sync, record, at):
    """The same with an offset one too high."""
    meta = _place(builder, detached, sync, record, at)
    return meta | {"offset": meta["offset"] + 1} if detached and meta.get("offset") else meta


@dataclass(frozen=True)
class Mutant:
    """A fault.

    place, name, to: for `patch.object`. plan: of all trials, where it shows soon. trials: the
    number within which it must be found.
    """

    place: Any
    name: str
    to: Any
    plan: str | None = None
    trials: int = 100

    @contextmanager
    def on(self) -> Iterator[None]:
        """The fault is in place during the block."""
        with patch.object(self.place, self.name, self.to):
            yield


def walk(to: Callable, plan: str = "hostile", trials: int = 100) -> Mutant:
    return Mutant(tx_walker, "_Walk", to, plan, trials)


MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "frontier not checked": (walk(Unordered),),
    "sync backwards": (walk(SyncBackwards),),
    "sync back in numbers": (walk(SyncBackInNumbers),),
    "side beyond the frontier": (walk(BeyondTheFrontier),),
    "side of a record to come": (walk(AnyNumber, trials=400),),
    "nonce not checked": (walk(AnyNonce),),
    "marker not checked": (walk(NoMarker),),
    "tag without a beginning": (walk(NoBeginning),),
    "key not cleared": (Mutant(TxRow, "key_clear", key_stays, "keys", 400),),
    "key base off by one": (Mutant(TxRow, "rekey", one_base_more, "keys"),),
    "first key from zero": (Mutant(TxRow, "added", first_key_from_zero),),
    "no drop entry": (Mutant(TxRow, "delete", no_drop_entry, "hostile", 400),),
    "not deleted": (Mutant(TxRow, "delete", keys_stay, "hostile", 400),),
    "orphan passed": (Mutant(tx_walker.TxWalker, "_is_orphan", no_orphans),),
    "tag not compared": (Mutant(tx_device, "decide", tags_not_compared, "promises"),),
    "count not checked": (Mutant(tx_device, "decide", not_counted, "faults"),),
    "count not checked, written bits ignored": (
        Mutant(tx_device, "decide", not_counted, "faults"),
        Mutant(tx_device, "assemble_frame", bits_ignored),
    ),
    "checksum at odd places": (Mutant(tx_engine, "lanes", even_lanes),),
    "given tags computed": (Mutant(tx_device, "TxEngine", GivenTagsComputed),),
    "one X row": (Mutant(tx_device, "TxEngine", OneRow, "loss"),),
    "plain before the marker": (Mutant(tx_core, "choose", plain_before_marker, None, 400),),
    "tags not stored": (Mutant(KtlsTx, "_sent", tags_not_stored, "promises", 400),),
    "lost stream not noticed": (Mutant(KtlsTx, "_failed", not_noticed, "common", 400),),
    "undo not undone": (Mutant(Journal, "undo", not_undone, "queues"),),
    "released early": (Mutant(RecordMap, "release", released_early),),
    "nothing waits": (Mutant(tx_ways, "_Segment", NothingWaits, "promises", 1000),),
    "always given": (Mutant(tx_ways, "_Segment", AlwaysGiven, "loss"),),
    "stream computes": (Mutant(tx_ways, "_Segment", StreamComputes, "promises", 1000),),
    "software does not compare": (
        Mutant(tx_core, "encrypt", not_compared_by_software, "promises", 400),
    ),
    "number one too low": (Mutant(Builder, "_place", one_record_off, "loss"),),
    "offset one too high": (Mutant(Builder, "_place", one_byte_off, "loss"),),
    "keys that are not in the device": (Mutant(TxRekey, "usable", property(all_keys), "keys"),),
}


def first_finding(name: str, seed: int = 0, trials: int | None = None) -> tuple[int, str] | None:
    """Number of trials from `seed` on until one breaks, and its message."""
    faults = MUTANTS[name]
    plan, most = faults[0].plan, faults[0].trials if trials is None else trials
    with ExitStack() as stack:
        for fault in faults:
            stack.enter_context(fault.on())
        for count in range(most):
            broken = run_trial(make_device("model"), seed + count, plan).breaks
            if broken:
                return count + 1, broken[0]
    return None


def main(argv=None) -> int:
    """Runs the command. The exit status is 1 if a fault was not found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--trials", type=int, help="number of trials (default: each fault's own number)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first trial")
    parser.add_argument("--mutant", choices=MUTANTS, action="append")
    options = parser.parse_args(argv)
    missed = 0
    for name in options.mutant or MUTANTS:
        found = first_finding(name, options.seed, options.trials)
        missed += not found
        most = options.trials or MUTANTS[name][0].trials
        print(
            f"{name:40} {f'{found[0]:4} {found[1]}' if found else f' none of {most}'}", flush=True
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
