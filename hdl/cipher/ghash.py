# SPDX-License-Identifier: Apache-2.0
"""GHASH of a run of blocks with absolute weights (NIST SP 800-38D section 6.4).

A run of N blocks i = 0 .. N-1 goes through `lanes` = k interleaved products, lane i mod k, which
start at 0. Block i is multiplied by H^k while N - i > k and by H^(N-i+1) otherwise; the sum of the
last min(k, N) products is

    sum C_i * H^(N-i+1),    i = 0 .. N-1

so the last block has weight H^2 and room is left for the length block at H^1. Nothing is drained
between runs: the next run's first block may follow in the next clock.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .gf128 import Multiplier

PORTS = {
    "valid": In(1),
    "data": In(128),
    "power": In(128),
    "fresh": In(1),
    "tail": In(1),
    "last": In(1),
    "addend": In(128),
    "result_valid": Out(1),
    "result": Out(128),
}


class Ghash(wiring.Component):
    """One block a clock; `result` in the clock of `result_valid`, `latency` after the last block.

    Blocks of a run come in consecutive clocks: a lane's product is taken up where it comes out.
    All values in field order (`gf128`).

    valid, data: a block. power: its weight.
    fresh: the lane starts here; for the first `lanes` blocks of a run and for any single term.
    tail: the product belongs to the run's sum. last: ... and is its last term.
    addend: XORed into the sum, with `tail` only.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.latency = lanes + 1
        super().__init__(PORTS)

    def elaborate(self, platform: object) -> Module:
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

        _sum(m, self.result_valid, self.result, tail, last, multiplier.p ^ addend)
        return m


class SharedGhash(wiring.Component):
    """`Ghash` for two runs at a time, one of receive and one of transmit, slot by slot.

    Blocks of a run may have gaps between them: a product that is not taken up where it comes out
    waits in a memory, by direction and lane. Block i + k of a run comes at least k clocks behind
    block i, so the product is there or just coming out.

    The ports of `Ghash`, and tx: the block is of transmit. tx_result_valid, tx_result: of its runs.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.latency = lanes + 1
        super().__init__({**PORTS, "tx": In(1), "tx_result_valid": Out(1), "tx_result": Out(128)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(self.lanes)
        bits = max(1, ceil_log2(self.lanes))
        m.submodules.waiting = waiting = Memory(shape=128, depth=2 << bits, init=[])
        read, write = waiting.read_port(domain="comb"), waiting.write_port()

        # Each direction counts on from run to run: only distances within a run matter.
        place = Signal(bits + 1)  # lane, direction
        lanes = [Signal(bits, name=f"{name}_lane") for name in ("rx", "tx")]
        m.d.comb += place.eq(Cat(Mux(self.tx, lanes[1], lanes[0]), self.tx))
        for direction, lane in enumerate(lanes):
            with m.If(self.valid & (self.tx == direction)):
                m.d.sync += lane.eq(Mux(lane == self.lanes - 1, 0, lane + 1))

        layout = data.StructLayout({"valid": 1, "tail": 1, "last": 1, "place": bits + 1})
        out = Signal(layout, name="entering")
        m.d.comb += [
            out.valid.eq(self.valid),
            out.tail.eq(self.valid & self.tail),
            out.last.eq(self.last),
            out.place.eq(place),
        ]
        addend = self.addend
        for i in range(self.lanes):
            stage = Signal(layout, name=f"flags{i}")
            held = Signal(128, name=f"addend{i}", reset_less=True)
            m.d.sync += [stage.eq(out), held.eq(addend)]
            out, addend = stage, held

        # What a run's tail leaves in the memory is not read: the next run's lanes start afresh.
        product, carried = multiplier.p, Signal(128)
        m.d.comb += [
            write.en.eq(out.valid),
            write.addr.eq(out.place),
            write.data.eq(product),
            read.addr.eq(place),
            carried.eq(Mux(out.valid & (out.place == place), product, read.data)),
            multiplier.a.eq(self.data ^ Mux(self.fresh, 0, carried)),
            multiplier.b.eq(self.power),
        ]
        for direction, (valid, result) in enumerate(
            ((self.result_valid, self.result), (self.tx_result_valid, self.tx_result))
        ):
            tail = Signal(name=f"tail{direction}")
            m.d.comb += tail.eq(out.tail & (out.place[-1] == direction))
            _sum(m, valid, result, tail, out.last, product ^ addend)
        return m


def _sum(m: Module, valid: Signal, result: Signal, tail: Value, last: Value, term: Value) -> None:
    """`result`: a run's terms, those with `tail`, up to the one with `last`; `valid` behind it."""
    m.d.sync += valid.eq(tail & last)
    # The sum stands in `result` for the one clock behind the last term, then starts again.
    with m.If(valid):
        m.d.sync += result.eq(Mux(tail, term, 0))
    with m.Elif(tail):
        m.d.sync += result.eq(result ^ term)
