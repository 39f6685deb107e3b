# SPDX-License-Identifier: Apache-2.0
"""GHASH of a run of blocks with absolute weights (NIST SP 800-38D section 6.4).

A run of N blocks i = 0 .. N-1 goes through `lanes` = k interleaved products, lane i mod k, which
start at 0. Block i is multiplied by H^k while N - i > k and by H^(N-i+1) otherwise; the sum of the
last min(k, N) products is

    sum C_i * H^(N-i+1),    i = 0 .. N-1

so the last block has weight H^2 and room is left for the length block at H^1. Nothing is drained
between runs: the next run's first block may follow in the next clock.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .gf128 import Multiplier


class Ghash(wiring.Component):
    """One block a clock; `result` in the clock of `result_valid`, `latency` after the last block.

    Blocks of a run come in consecutive clocks: a lane's product is taken up where it comes out.
    All values in field order (`gf128`).

    valid, data: a block. power: its weight.
    fresh: the lane starts here; for the first `lanes` blocks of a run and for any single term.
    tail: the product belongs to the run's sum. last: ... and is its last term.
    addend: XORed into the sum, with `tail` only.
    """

    valid: In(1)
    data: In(128)
    power: In(128)
    fresh: In(1)
    tail: In(1)
    last: In(1)
    addend: In(128)
    result_valid: Out(1)
    result: Out(128)

    def __init__(self, lanes: int):
        self.lanes = lanes
        self.latency = lanes + 1
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(self.lanes)
        m.d.comb += [
            multiplier.a.eq(self.data ^ Mux(self.fresh, 0, multiplier.p)),
            multiplier.b.eq(self.power),
        ]

        tail, last, addend = self.valid & self.tail, self.last, self.addend
        for i in range(self.lanes):
            flags = Signal(2, name=f"flags{i}")
            held = Signal(128, name=f"addend{i}", reset_less=True)
            m.d.sync += [flags.eq(Cat(tail, last)), held.eq(addend)]
            tail, last, addend = flags[0], flags[1], held

        total = Signal(128)
        m.d.comb += total.eq(self.result ^ multiplier.p ^ addend)
        m.d.sync += self.result_valid.eq(tail & last)
        # The sum stands in `result` for the one clock behind the last term, then starts again.
        with m.If(self.result_valid):
            m.d.sync += self.result.eq(Mux(tail, multiplier.p ^ addend, 0))
        with m.Elif(tail):
            m.d.sync += self.result.eq(total)
        return m
