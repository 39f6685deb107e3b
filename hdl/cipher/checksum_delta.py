# SPDX-License-Identifier: Apache-2.0
"""What a span of transmit changes in its frame: the difference for the TCP checksum (RFC 1624).

The sum is over 16-bit lanes, first byte low, in one's complement: `+ text - received` for blocks of
text, `- received` for the tag's room, whose new bytes are added where they are written. Minus is
plus the complement; bytes outside the span count 0 and 0xFF, a lane of them 0xFFFF, which is 0.

    a | lanes of a block in four groups
    b | their sum
    c | added up over the span, blocks at even and at odd ring addresses apart
    d, e | carries of the two sums added, twice
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.tx_layouts import TxLayouts


class ChecksumDelta(wiring.Component):
    """Slots of transmit in, one a clock at most; for each span a `delta`, five clocks behind.

    text_valid: a text slot; tag_valid: a tag slot, the last one of its span. last: ... is the last.
    odd: its byte 0 lies at an odd address. mask: bytes of the slot that belong to the span.
    data, received: what goes out and what came in, 0 outside the mask; of a tag slot only
        `received` counts.
    done, delta: see `TxLayouts.delta`; a span without slots has none.
    """

    def __init__(self, config: Config) -> None:
        self.layout = TxLayouts(config).delta
        super().__init__(
            {
                "text_valid": In(1),
                "tag_valid": In(1),
                "last": In(1),
                "odd": In(1),
                "mask": In(16),
                "data": In(128),
                "received": In(128),
                "done": Out(1),
                "delta": Out(self.layout),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def lanes(value: Value) -> list[Value]:
            return [value.word_select(i, 16) for i in range(8)]

        plus = [Mux(self.text_valid, lane, 0) for lane in lanes(self.data)]
        minus = [(~lane)[:16] for lane in lanes(self.received)]
        groups = [Signal(18, name=f"group{i}") for i in range(4)]
        a_valid, a_last, a_odd, a_tag = Signal(), Signal(), Signal(), Signal(128)
        a_count = Signal(5)
        m.d.sync += [
            *(
                group.eq(plus[i] + plus[i + 4] + minus[i] + minus[i + 4])
                for i, group in enumerate(groups)
            ),
            a_valid.eq(self.text_valid | self.tag_valid),
            a_last.eq(self.last),
            a_odd.eq(self.odd),
            a_tag.eq(Mux(self.tag_valid, self.received, 0)),
            a_count.eq(Mux(self.text_valid, sum(self.mask), 0)),
        ]

        b_sum = Signal(20)
        b_valid, b_last, b_odd, b_tag = Signal(), Signal(), Signal(), Signal(128)
        b_count = Signal(5)
        m.d.sync += [
            b_sum.eq((groups[0] + groups[1]) + (groups[2] + groups[3])),
            b_valid.eq(a_valid),
            b_last.eq(a_valid & a_last),
            b_odd.eq(a_odd),
            b_tag.eq(a_tag),
            b_count.eq(a_count),
        ]

        # 1,001 slots of 20 bits at most.
        sums = [Signal(32, name="even"), Signal(32, name="odd_sum")]
        written = Signal(14)
        c_last, c_tag = Signal(), Signal(128)
        m.d.sync += [c_last.eq(b_last), c_tag.eq(b_tag)]
        for odd, total in enumerate(sums):
            m.d.sync += total.eq(Mux(c_last, 0, total) + Mux(b_valid & (b_odd == odd), b_sum, 0))
        m.d.sync += written.eq(Mux(c_last, 0, written) + Mux(b_valid, b_count, 0))

        d_last = Signal()
        halves = [Signal(17, name=f"half{i}") for i in range(2)]
        d_written, d_tag = Signal(14), Signal(128)
        m.d.sync += [
            *(half.eq(total[:16] + total[16:]) for half, total in zip(halves, sums, strict=True)),
            d_last.eq(c_last),
            d_written.eq(written),
            d_tag.eq(c_tag),
            self.delta.even.eq(halves[0][:16] + halves[0][16]),
            self.delta.odd.eq(halves[1][:16] + halves[1][16]),
            self.delta.written.eq(d_written),
            self.delta.tag_in.eq(d_tag),
            self.done.eq(d_last),
        ]
        return m
