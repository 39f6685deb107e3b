# SPDX-License-Identifier: Apache-2.0
"""Fold: weighs the sum of a span that stops before its record's end by H^e."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .cipher_layouts import CipherLayouts
from .gf128 import SideMultiplier


class Fold(wiring.Component):
    """Joins spans with their sums, in order: one a clock, three clocks with a product.

    A span without slots has no sum and contributes 0.
    """

    def __init__(self, config):
        layouts = CipherLayouts(config)
        super().__init__(
            {
                "retires": In(stream.Signature(layouts.retire)),
                "sums": In(stream.Signature(layouts.sum)),
                "contributions": Out(stream.Signature(layouts.contribution)),
            }
        )

    def elaborate(self, platform):
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
        with m.If(span.fold):
            m.d.comb += out.payload.sum.value.eq(multiplier.p)

        with m.FSM():
            with m.State("PASS"):
                m.d.comb += [
                    out.valid.eq(complete & ~span.fold),
                    multiplier.start.eq(complete & span.fold),
                ]
                with m.If(complete & span.fold):
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.next = "PRODUCT"
            with m.State("PRODUCT"):
                m.d.comb += out.valid.eq(1)
                with m.If(out.ready):
                    m.next = "PASS"
        return m
