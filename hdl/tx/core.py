# SPDX-License-Identifier: Apache-2.0
"""The registers that the states of the transmit walker share."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from ..abi.config import HEADER_BYTES, NONCE_BYTES, VERSION_TLS12, Config
from ..abi.tx import TxReason, TxTags
from ..common.amaranth_types import Statement
from ..common.span_maker import SpanMaker
from ..common.tx_layouts import Action, TxLayouts, tx_config
from .row import LENGTH_BITS, PART_HEADER_BYTES, KeySlot, TxRow


class TxCore:
    """Everything that one frame or command leaves in registers.

    `number`, `at`, `length`, `content` and `part_header` are the record and the place in it that is
    next, as in the row; `pos` is the same place in the payload, `place` its TCP sequence number,
    `addr` its address in the ring, and `left` the bytes from there to the payload's end.
    """

    def __init__(self, m: Module, config: Config, work: data.View, meta: data.View) -> None:
        self.config = config
        self.layouts = layouts = TxLayouts(config)
        self.packet, self.command, self.meta = work.packet, work.command, meta
        self.hit, self.hit_context = work.hit, work.context
        self.row = TxRow()
        self.maker = SpanMaker(tx_config(config), layouts.span)

        self.context = Signal(layouts.context_bits)
        self.in_range = Signal()  # the context that was named is one of the device
        self.live = Signal(range(config.tx_flows + 1), reset_less=True)
        """Rows in use. It keeps its value in a reset, as the memory of rows does, and changes in
        the clock in which a row is written, so that no reset comes between the two."""
        self.was_valid = Signal()  # of the row, when it was loaded

        self.seq, self.end = Signal(32), Signal(32)  # of the payload
        self.payload_at, self.size = Signal(14), Signal(14)  # of the payload in the frame
        self.payload_addr = Signal(layouts.byte_bits)

        self.number = Signal(64)
        self.at = Signal(16)
        self.length = Signal(LENGTH_BITS)
        self.content = Signal(2)
        self.part_header = Signal(8 * PART_HEADER_BYTES)
        self.named = Signal()  # the metadata names the header of the record under way
        self.pos, self.left = Signal(14), Signal(14)
        self.place = Signal(32)
        self.addr = Signal(layouts.byte_bits)
        self.key = KeySlot(m, self.row, self.number)

        # Of a detached frame, one clock behind the position: whether its record is one that the
        # stream has started, and where the stream had it.
        self.above, self.same = Signal(), Signal()
        same_start = Signal()
        m.d.sync += [
            self.above.eq(self.number > self.row.number),
            self.same.eq(self.number == self.row.number),
            same_start.eq((self.place - self.at)[:32] == (self.row.next - self.row.at)[:32]),
        ]
        self.beyond = self.above | (self.same & ~same_start)
        self.under_way = self.same & (self.row.at >= HEADER_BYTES)

        self.action, self.reason = Signal(Action), Signal(5)
        self.walked = Signal()  # the frame was walked, so its payload and spans mean something
        self.dirty = Signal()  # the row is to be written back
        self.clears = Signal(10)
        self.clear_bytes = Signal(14)
        self.tags = Signal(10)
        self.first_number = Signal(64)

        self.detached, self.sync = self.meta.detached, self.meta.sync
        self.given = self.meta.tags == TxTags.GIVEN
        self.tls12 = self.row.version == VERSION_TLS12
        self.header_size = Mux(self.tls12, HEADER_BYTES + NONCE_BYTES, HEADER_BYTES)

    def drop(self, reason: TxReason) -> list[Statement]:
        """Statements: the frame is dropped for the reason."""
        return [self.action.eq(Action.DROP), self.reason.eq(int(reason))]

    def take(self, count: Value) -> list[Statement]:
        """Statements: `count` bytes of the payload are done."""
        return [
            self.pos.eq(self.pos + count),
            self.place.eq(self.place + count),
            self.addr.eq(self.addr + count),
            self.left.eq(self.left - count),
        ]


def header_of(kind: Value, length: Value) -> Value:
    """The five bytes of a record's header (RFC 8446 section 5.1)."""
    length = length | Const(0, 16)
    return Cat(kind, Const(3, 8), Const(3, 8), length[8:16], length[:8])
