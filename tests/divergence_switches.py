# SPDX-License-Identifier: Apache-2.0
"""The design with one rule of safety taken away, to see that `tests.divergence` would notice.

R1: a record that was completed or evicted opens again when its first bytes come again.
R2: a position given anew closes nothing that was marked before.
H: a record all of whose packets are marked skips crypto, whatever was verified (one-bit rule).
"""

from __future__ import annotations

from sealane.driver.ktls import How, KtlsRx
from sealane.driver.model import walker
from sealane.driver.seq import delta
from sealane.hdl.abi.config import TAG_BYTES, header_bytes

RULES = ("R1", "R2", "H")
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
            self._close_all()
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


class OneBit(KtlsRx):
    """A host that believes a record's marks without asking for its verdict."""

    def _text(self, content_type, length, end, shares):
        if all(part.mark is not None for part, _, _ in shares):
            record = b"".join(part.payload[low:high] for part, low, high in shares)
            return How.FULL, record[header_bytes(self.version) : len(record) - TAG_BYTES]
        return super()._text(content_type, length, end, shares)


def without(rule: str | None) -> None:
    """Takes a rule out of this process's model, and puts the others back."""
    walker.Walk = {"R1": Reopening, "R2": Unclosed}.get(rule, _Walk)
    walker.close_below = (lambda row: None) if rule == "R2" else _close_below


def receiver(rule: str | None) -> type[KtlsRx]:
    """The host to go with it."""
    return OneBit if rule == "H" else KtlsRx
