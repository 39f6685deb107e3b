# SPDX-License-Identifier: Apache-2.0
"""Tags of transmit: X rows, the tag of each record, and the verdict of each frame.

Received tag bytes do not go into X on transmit, so behind tag byte 0 the sum is the tag:

    X = A*H^(n+2) + sum C_i*H^(n-i+2) + L*H + E(K, J0) = tag

A context has two rows, one for its stream and one for positions that the driver names. A row stays
as it is while the rest of a tag that a frame's end cut passes: what comes then adds 0.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..abi.tx import TxTags as Mode
from ..common.delay import read_in_two
from ..common.tx_layouts import TxLayouts
from .gf128 import field_order
from .layouts import CipherLayouts


class TxTags(wiring.Component):
    """Contributions in, in order, four clocks each and two more for a frame's last one.

    outcomes: the tag bytes of each span that has some, and behind them the verdict of its frame.
    A tag is the row's, or with GIVEN that of the host's frame. Nothing is written for a span whose
    key was not the one it was walked for.
    tags: the tag of each span with tag byte 0 that is not GIVEN, for the completion; a stale one
    gives some value, so that their number is what the walker counted.
    retired: a span is through.
    key_done: a key token was executed, while no span was under way; gives an empty verdict.
    key_pending: that verdict waits to be taken; no other token may end meanwhile.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.own = CipherLayouts(config)
        self.layouts = layouts = TxLayouts(config)
        super().__init__(
            {
                "contributions": In(stream.Signature(self.own.tx_contribution)),
                "outcomes": Out(stream.Signature(layouts.outcome)),
                "tags": Out(stream.Signature(128)),
                "retired": Out(1),
                "key_done": In(1),
                "key_pending": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.x = memory = Memory(shape=128, depth=2 * self._config.tx_flows, init=[])
        write = memory.write_port()

        # The span stays at the port until it is through.
        span, delta = self.contributions.payload.retire, self.contributions.payload.delta
        place = Cat(span.detached, span.context)
        row = read_in_two(m, memory, place)
        x, computed = Signal(128), Signal(128)
        mask, mask_bits = Signal(16), Signal(128)
        given = span.tag_mode == Mode.GIVEN
        m.d.comb += [
            mask.eq(((1 << span.tag_bytes) - 1) << span.tag_offset),
            mask_bits.eq(Cat(Mux(bit, C(0xFF, 8), C(0, 8)) for bit in mask)),
            x.eq(
                self.contributions.payload.value
                ^ Mux(span.first | ~span.use_row | span.stale, 0, row)
            ),
            computed.eq(field_order(x)),
            write.addr.eq(place),
            write.data.eq(x),
        ]

        tag, difference = Signal(128), Signal(128)
        in_place = tag & mask_bits
        lanes = [in_place.word_select(i, 16) for i in range(8)]
        swapped = span.tag_address[0]
        added, addend = Signal(), Signal(20)
        total = Signal(32)
        so_far = Signal(self.layouts.verdict)  # of the frame; `sum` is in `total`
        folded = Signal(17)
        m.d.comb += folded.eq(total[:16] + total[16:])
        m.d.sync += added.eq(0)
        with m.If(added):
            m.d.sync += total.eq(total + addend)

        writes = (span.tag_bytes != 0) & ~span.stale
        gives = span.tag_final & ~given
        written, gave, finished = Signal(), Signal(), Signal()
        out = self.outcomes.payload
        m.d.comb += self.tags.payload.eq(tag)

        with m.FSM():
            with m.State("READ"):
                with m.If(self.key_pending):
                    m.d.comb += [self.outcomes.valid.eq(1), out.is_verdict.eq(1)]
                    with m.If(self.outcomes.ready):
                        m.d.sync += self.key_pending.eq(0)
                with m.Elif(self.contributions.valid):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.next = "UPDATE"
            with m.State("UPDATE"):
                m.d.comb += write.en.eq(span.use_row & ~span.stale)
                m.d.sync += [
                    tag.eq(Mux(given, delta.tag_in, computed)),
                    difference.eq((computed ^ delta.tag_in) & mask_bits),
                ]
                m.next = "EMIT"
            with m.State("EMIT"):
                m.d.comb += [
                    self.outcomes.valid.eq(writes & ~written),
                    out.address.eq(span.tag_address),
                    out.mask.eq(mask),
                    out.tag.eq(tag),
                    self.tags.valid.eq(gives & ~gave),
                    finished.eq(
                        (~writes | written | self.outcomes.ready)
                        & (~gives | gave | self.tags.ready)
                    ),
                ]
                m.d.sync += [
                    written.eq(~finished & (written | self.outcomes.ready)),
                    gave.eq(~finished & (gave | self.tags.ready)),
                ]
                with m.If(finished):
                    m.d.sync += [
                        so_far.stale.eq(so_far.stale | span.stale),
                        so_far.mismatch.eq(
                            so_far.mismatch
                            | (writes & (span.tag_mode == Mode.COMPARE) & (difference != 0))
                        ),
                        so_far.written.eq(
                            so_far.written + delta.written + Mux(writes, span.tag_bytes, 0)
                        ),
                        added.eq(1),
                        addend.eq(
                            delta.even
                            + Cat(delta.odd[8:], delta.odd[:8])
                            + Mux(writes, _sum(lanes, swapped), 0)
                        ),
                    ]
                    with m.If(span.last):
                        m.next = "SUM"
                    with m.Else():
                        m.d.comb += self.contributions.ready.eq(1)
                        m.next = "READ"
            with m.State("SUM"):
                m.next = "VERDICT"
            with m.State("VERDICT"):
                m.d.comb += [
                    self.outcomes.valid.eq(1),
                    out.is_verdict.eq(1),
                    out.verdict.eq(so_far),
                    out.verdict.sum.eq(folded[:16] + folded[16]),
                ]
                with m.If(self.outcomes.ready):
                    m.d.comb += self.contributions.ready.eq(1)
                    m.d.sync += [so_far.eq(0), total.eq(0)]
                    m.next = "READ"
        m.d.comb += self.retired.eq(self.contributions.ready)
        # Drained: the state is READ, and no span comes before the verdict has gone.
        with m.If(self.key_done):
            m.d.sync += self.key_pending.eq(1)
        return m


def _sum(lanes: list[Value], swapped: Value) -> Value:
    """Sum of 16-bit lanes, their bytes swapped or not."""
    turned = [Mux(swapped, Cat(lane[8:], lane[:8]), lane) for lane in lanes]
    while len(turned) > 1:
        turned = [a + b for a, b in zip(turned[::2], turned[1::2], strict=True)]
    return turned[0]
