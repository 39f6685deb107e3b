# SPDX-License-Identifier: Apache-2.0
"""The design with one rule taken away, to see that `tests.divergence` would notice.

R1: a record that was completed or evicted opens again when its first bytes come again.
R2: a position given anew closes nothing that was marked before.
H: a record all of whose packets are marked skips crypto, whatever was verified (one-bit rule).
old-keys: the host gives up the old epoch's key as soon as the device has the new one.
generation, number: H does not compare the one or the other.
position: the card believes each candidate at once, under a number that it makes up. H and exact
undo must keep even that sound, so here nothing may break.
"""

from __future__ import annotations

from dataclasses import replace

from sealane.driver.descriptors import Handle
from sealane.driver.ktls import How, KtlsRx
from sealane.driver.ktls.acceptance import RuleH
from sealane.driver.model import walker
from sealane.driver.seq import delta
from sealane.hdl.abi.config import TAG_BYTES, header_bytes
from sealane.hdl.abi.meta import ProvenBy

RULES = ("R1", "R2", "H", "old-keys", "generation", "number", "position")
SOUND = ("position",)
_Walk, _close_below = walker.Walk, walker.close_below


class Reopening(_Walk):
    """A walker that goes back to a record that it had closed."""

    def run(self) -> walker.Walked:
        row = self.row
        number = self._passed().get((row.generation, self.seq))
        closed = all(slot is None or slot.start != self.seq for slot in row.slots)
        if number is not None and row.proven and closed and delta(self.seq, row.walk) < 0:
            row.walk = row.high = self.seq
            row.number = number
            row.hold = b""
            row.close_all()
        return super().run()

    def _open(self, head: bytes, offset: int) -> None:
        row = self.row
        self._passed()[row.generation, row.walk] = row.number
        super()._open(head, offset)

    def _passed(self) -> dict[tuple[int, int], int]:
        return vars(self.row).setdefault("passed", {})


class Unclosed(_Walk):
    """A walker for which no record was marked before a resync."""

    def _closed(self) -> bool:
        return False


class Believing(_Walk):
    """A walker for which a candidate needs no proof."""

    def _candidate(self) -> None:
        row = self.row
        number = row.number + row.guess % 3
        super()._candidate()
        if row.state is walker.State.CONFIRMING:
            walker.adopt(self, number % 2**64, ProvenBy.SOFTWARE)


class OneBit(KtlsRx):
    """A host that believes a record's marks without asking for its verdict."""

    def _text(self, content_type, length, end, shares):
        if all(part.mark is not None for part, _, _ in shares):
            record = b"".join(part.payload[low:high] for part, low, high in shares)
            return How.FULL, record[header_bytes(self.version) : len(record) - TAG_BYTES]
        return super()._text(content_type, length, end, shares)


class Forgetful(KtlsRx):
    """A host that does not keep the old key for the packets marked with it that still wait."""

    def rekeyed(self, handle, received_end):
        super().rekeyed(handle, self.start)


class AnyGeneration(RuleH):
    """Marks of an earlier installation count as if they were of this one."""

    def _framed(self, mark, place):
        meta = mark.packet.meta
        return super()._framed(mark, replace(place, handle=Handle(meta.context, meta.generation)))


class AnyNumber(RuleH):
    """The number under which the device opened a record does not matter."""

    def _framed(self, mark, place):
        record = mark.record_at(place.start)
        return record and super()._framed(mark, replace(place, number=record.number))


class Careless(KtlsRx):
    """A host with one of these in the place of rule H."""

    rule_h = RuleH

    def __init__(self, *given, **named) -> None:
        super().__init__(*given, **named)
        self._accept = self.rule_h(self.counters, self._epochs)


class CarelessOfGenerations(Careless):
    rule_h = AnyGeneration


class CarelessOfNumbers(Careless):
    rule_h = AnyNumber


def without(rule: str | None) -> None:
    """Takes a rule out of this process's model, and puts the others back."""
    walker.Walk = {"R1": Reopening, "R2": Unclosed, "position": Believing}.get(rule, _Walk)
    walker.close_below = (lambda row: None) if rule == "R2" else _close_below


def receiver(rule: str | None) -> type[KtlsRx]:
    """The host to go with it."""
    return {
        "H": OneBit, "old-keys": Forgetful, "generation": CarelessOfGenerations,
        "number": CarelessOfNumbers,
    }.get(rule, KtlsRx)  # fmt: skip
