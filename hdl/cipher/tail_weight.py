# SPDX-License-Identifier: Apache-2.0
"""TailWeight: weighs the sum of a span that stops before its record's end by H^e."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.tx_layouts import TxLayouts
from .gf128 import SideMultiplier
from .layouts import CipherLayouts


class TailWeight(wiring.Component):
    """Joins spans with their sums, in order: one a clock, three clocks with a product.

    A span without slots has no sum and contributes 0.
    """

    def __init__(self, config: Config) -> None:
        layouts = CipherLayouts(config)
        super().__init__(
            {
                "retires": In(stream.Signature(layouts.retire)),
                "sums": In(stream.Signature(layouts.sum)),
                "contributions": Out(stream.Signature(layouts.contribution)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = SideMultiplier()
        span, out = self.retires.payload, self.contributions
        complete = Signal()
        m.d.comb += [
            complete.eq(self.retires.valid & (~span.has_slots | self.sums.valid)),
            multiplier.a.eq(self.sums.payload.value),
            multiplier.b.eq(span.power),
            out.payload.retire.eq(span),
            self.retires.ready.eq(out.valid & out.ready),
            self.sums.ready.eq(out.valid & out.ready & span.has_slots),
        ]
        with m.If(span.has_slots):
            m.d.comb += out.payload.sum.eq(self.sums.payload)
        with m.If(span.needs_weight):
            m.d.comb += out.payload.sum.value.eq(multiplier.p)

        with m.FSM():
            with m.State("PASS"):
                m.d.comb += [
                    out.valid.eq(complete & ~span.needs_weight),
                    multiplier.start.eq(complete & span.needs_weight),
                ]
                with m.If(complete & span.needs_weight):
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.next = "PRODUCT"
            with m.State("PRODUCT"):
                m.d.comb += out.valid.eq(1)
                with m.If(out.ready):
                    m.next = "PASS"
        return m


class SharedTailWeight(wiring.Component):
    """`TailWeight` for both directions with one multiplier: a product takes four clocks.

    A direction whose contributions nobody takes keeps its product and does not stand in the
    other's way. A span of transmit with slots has a sum and a delta.
    """

    def __init__(self, config: Config) -> None:
        layouts = CipherLayouts(config)
        super().__init__(
            {
                "retires": In(stream.Signature(layouts.retire)),
                "sums": In(stream.Signature(layouts.sum)),
                "contributions": Out(stream.Signature(layouts.contribution)),
                "tx_retires": In(stream.Signature(layouts.tx_retire)),
                "tx_sums": In(stream.Signature(128)),
                "tx_deltas": In(stream.Signature(TxLayouts(config).delta)),
                "tx_contributions": Out(stream.Signature(layouts.tx_contribution)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = SideMultiplier()
        rx, tx = self.contributions, self.tx_contributions
        products = [Signal(128, name=f"{name}_product") for name in ("rx", "tx")]
        there = [Signal(name=f"{name}_there") for name in ("rx", "tx")]
        wants = [Signal(name=f"{name}_wants") for name in ("rx", "tx")]
        directions = (
            (rx, self.retires, self.sums.payload.value, (self.sums,)),
            (tx, self.tx_retires, self.tx_sums.payload, (self.tx_sums, self.tx_deltas)),
        )
        for i, (out, retires, value, behind) in enumerate(directions):
            span = retires.payload
            complete, result = Signal(name=f"complete{i}"), Signal(128, name=f"result{i}")
            all_there = behind[0].valid
            for other in behind[1:]:
                all_there = all_there & other.valid
            m.d.comb += [
                complete.eq(retires.valid & (~span.has_slots | all_there)),
                wants[i].eq(complete & span.needs_weight & ~there[i]),
                out.valid.eq(complete & (~span.needs_weight | there[i])),
                out.payload.retire.eq(span),
                result.eq(Mux(span.needs_weight, products[i], value)),
                retires.ready.eq(out.valid & out.ready),
                *(part.ready.eq(out.valid & out.ready & span.has_slots) for part in behind),
            ]
            with m.If(out.valid & out.ready):
                m.d.sync += there[i].eq(0)
            with m.If(span.has_slots):
                if i == 0:
                    m.d.comb += [
                        rx.payload.sum.eq(self.sums.payload),
                        rx.payload.sum.value.eq(result),
                    ]
                else:
                    m.d.comb += [
                        tx.payload.value.eq(result),
                        tx.payload.delta.eq(self.tx_deltas.payload),
                    ]

        chosen, before = Signal(), Signal()
        m.d.comb += [
            multiplier.a.eq(Mux(chosen, self.tx_sums.payload, self.sums.payload.value)),
            multiplier.b.eq(Mux(chosen, self.tx_retires.payload.power, self.retires.payload.power)),
        ]
        with m.FSM():
            with m.State("CHOOSE"):
                m.d.comb += [
                    chosen.eq(wants[1] & (~wants[0] | ~before)),
                    multiplier.start.eq(wants[0] | wants[1]),
                ]
                with m.If(multiplier.start):
                    m.d.sync += before.eq(chosen)
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.comb += chosen.eq(before)
                m.next = "PRODUCT"
            with m.State("PRODUCT"):
                for i in range(2):
                    with m.If(before == i):
                        m.d.sync += [products[i].eq(multiplier.p), there[i].eq(1)]
                m.next = "CHOOSE"
        return m
