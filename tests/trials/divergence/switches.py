# SPDX-License-Identifier: Apache-2.0
"""The design with one rule removed, to test that `tests.trials.divergence.trial` notices it.

R1: a record that was completed or evicted opens again when its first bytes come again.
R2: a resync closes nothing that was marked before.
H: a fully marked record skips crypto, whatever was verified (one-bit rule).
old-keys: the host gives up the old epoch's key as soon as the device has the new one.
generation, number: H does not compare the one or the other.
position: the card believes each candidate at once, under a number that it makes up. H and exact
undo must keep even that sound, so here nothing may break.
"""

from __future__ import annotations

from dataclasses import replace

from sealane.driver.device.descriptors import Handle
from sealane.driver.ktls.rx.acceptance import RuleH
from sealane.driver.ktls.rx.events import How
from sealane.driver.ktls.rx.offload import KtlsRx
from sealane.driver.model.walker import resync as walker_search
from sealane.driver.model.walker import tracking as walker_proven
from sealane.driver.model.walker.row import Row, TrackerState
from sealane.driver.model.walker.walk import Walk
from sealane.driver.net.seq import distance
from sealane.hdl.abi.config import TAG_BYTES, header_bytes
from sealane.hdl.abi.meta import ProvenBy

RULES = ("R1", "R2", "H", "old-keys", "generation", "number", "position")
SOUND = ("position",)
_run, _open, _is_closed = Walk.run, walker_proven._open, walker_proven._is_closed
_close_below, _candidate = Row.close_below, walker_search.candidate


def reopening(self):
    """The walk goes back to a record that it had closed."""
    row, seq = self._core.row, self._core.seq
    number = _passed(row).get((row.generation, seq))
    closed = all(slot is None or slot.start != seq for slot in row.slots)
    if number is not None and row.proven and closed and distance(seq, row.next_record_seq) < 0:
        row.next_record_seq = row.high = seq
        row.number = number
        row.part_header = b""
        row.close_all()
    return _run(self)


def open_and_remember(core, head: bytes, offset: int) -> None:
    """The walk knows where it has been."""
    row = core.row
    _passed(row)[row.generation, row.next_record_seq] = row.number
    _open(core, head, offset)


def _passed(row: Row) -> dict[tuple[int, int], int]:
    return vars(row).setdefault("passed", {})


def believing(core) -> None:
    """A candidate needs no proof."""
    row = core.row
    number = row.number + row.candidate_seq % 3
    _candidate(core)
    if row.state is TrackerState.CONFIRMING:
        walker_proven.adopt(core, number % 2**64, ProvenBy.SOFTWARE)


class OneBit(KtlsRx):
    """A host that believes a record's marks without asking for its verdict."""

    def _text(self, content_type, length, end, shares):
        if all(part.mark is not None for part, _, _ in shares):
            record = b"".join(part.payload[low:high] for part, low, high in shares)
            return How.FULL, record[header_bytes(self.version) : len(record) - TAG_BYTES]
        return super()._text(content_type, length, end, shares)


class Forgetful(KtlsRx):
    """A host that does not keep the old key for waiting packets that were marked with it."""

    def rekeyed(self, handle, received_end):
        super().rekeyed(handle, self.start)


class AnyGeneration(RuleH):
    """Marks of an earlier installation count as if they belonged to this one."""

    def _framed(self, mark, framing):
        meta = mark.packet.meta
        return super()._framed(mark, replace(framing, handle=Handle(meta.context, meta.generation)))


class AnyNumber(RuleH):
    """The number under which the device opened a record does not matter."""

    def _framed(self, mark, framing):
        record = mark.record_at(framing.start)
        return record and super()._framed(mark, replace(framing, number=record.number))


class Careless(KtlsRx):
    """A host with one of these in place of rule H."""

    rule_h = RuleH

    def __init__(self, *given, **named) -> None:
        super().__init__(*given, **named)
        self._accept = self.rule_h(self.counters, self._epochs)


class CarelessOfGenerations(Careless):
    rule_h = AnyGeneration


class CarelessOfNumbers(Careless):
    rule_h = AnyNumber


def without(rule: str | None) -> None:
    """Removes a rule from this process's model and restores the others."""
    Walk.run = reopening if rule == "R1" else _run
    walker_proven._open = open_and_remember if rule == "R1" else _open
    # For R2 no record was marked before a resync.
    walker_proven._is_closed = (lambda core: False) if rule == "R2" else _is_closed
    Row.close_below = (lambda row: None) if rule == "R2" else _close_below
    walker_search.candidate = believing if rule == "position" else _candidate


def receiver(rule: str | None) -> type[KtlsRx]:
    """The host for it."""
    return {
        "H": OneBit,
        "old-keys": Forgetful,
        "generation": CarelessOfGenerations,
        "number": CarelessOfNumbers,
    }.get(rule, KtlsRx)
