# SPDX-License-Identifier: Apache-2.0
"""What the walker of transmit keeps of a context between frames, and which key a record has.

`driver/model/tx/row.py` says what the fields mean; content types are kept by their two low bits.
"""

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from ..common.amaranth_types import Statement

MARKER_HORIZON_BITS = 30  # from 2^30 bytes behind the marker on it is not compared any more
LENGTH_BITS = 15
POSITION_BITS = 15  # of a byte in its record, header included
PART_HEADER_BYTES = 4  # of a header that a frame's end cuts off

ROW = data.StructLayout(
    {
        "valid": 1,
        "deleted": 1,  # only with `valid`: a drop entry
        "broken": 1,
        "generation": 8,
        "version": 1,
        "start": 32,
        "marker_expired": 1,
        "next": 32,
        "number": 64,
        "at": POSITION_BITS,
        "length": LENGTH_BITS,  # known, as `content` is, if `at` >= 5
        "content": 2,  # content type - 20
        "part_header": 8 * PART_HEADER_BYTES,
        "nonce_delta": 64,
        "base_0": 64,
        "base_1": 64,
        "has_0": 1,
        "has_1": 1,
        "newer": 1,
        "name_0": 8,
        "name_1": 8,
        "detached_valid": 1,
        "detached_number": 64,
        "detached_at": POSITION_BITS,
        "detached_length": LENGTH_BITS,
        "detached_content": 2,
    }
)


class TxRow:
    """The loaded row, a signal for each field: narrow registers simulate faster than a wide one."""

    def __init__(self) -> None:
        for name in ROW.members:
            setattr(self, name, Signal(ROW[name].shape, name=f"row_{name}"))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Signal: ...  # the fields of `ROW`

    def load(self, row: data.View) -> list[Statement]:
        """Statements that take the fields of `row`."""
        return [getattr(self, name).eq(getattr(row, name)) for name in ROW.members]

    def store(self, row: data.View) -> list[Statement]:
        """Statements that put the fields into `row`."""
        return [getattr(row, name).eq(getattr(self, name)) for name in ROW.members]

    def move(self, to: Value) -> list[Statement]:
        """Statements for a new frontier."""
        return [
            self.next.eq(to),
            self.marker_expired.eq(
                self.marker_expired | ((to - self.start)[MARKER_HORIZON_BITS:32] != 0)
            ),
        ]


class KeySlot:
    """The key slot of record `number`, two clocks after number or row changed.

    known: there is one; otherwise the rest means nothing. slot, name: of the key. rebased: the
    record number that the nonce has.
    """

    def __init__(self, m: Module, row: TxRow, number: Value) -> None:
        self.known, self.slot = Signal(), Signal()
        self.name, self.rebased = Signal(8), Signal(64)
        behind = [Signal(name=f"behind_base_{slot}") for slot in range(2)]
        # The last number has no key: a stream ends before N wraps, as nonces would begin anew
        # (RFC 8446 section 5.5).
        last = Signal()
        m.d.sync += [
            last.eq(number.all()),
            behind[0].eq(number >= row.base_0),
            behind[1].eq(number >= row.base_1),
        ]
        # The newer slot serves from its base on; the other one from its own up to there.
        new, old = Signal(), Signal()
        slot = Signal()
        m.d.comb += [
            new.eq(Mux(row.newer, behind[1] & row.has_1, behind[0] & row.has_0)),
            old.eq(
                Mux(
                    row.newer,
                    behind[0] & row.has_0 & ~behind[1],
                    behind[1] & row.has_1 & ~behind[0],
                )
            ),
            slot.eq(Mux(new, row.newer, ~row.newer)),
        ]
        m.d.sync += [
            self.known.eq((new | old) & ~last),
            self.slot.eq(slot),
            self.name.eq(Mux(slot, row.name_1, row.name_0)),
            self.rebased.eq(number - Mux(slot, row.base_1, row.base_0)),
        ]
