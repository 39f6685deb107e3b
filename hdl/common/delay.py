# SPDX-License-Identifier: Apache-2.0
"""Delay lines in memory, and memory ports with an output register."""

from amaranth.hdl import Module, Shape, ShapeLike, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class DelayLine(wiring.Component):
    """`o` is `i` of `clocks` clocks ago, kept in a memory that is written once a clock.

    Wide and deep at little cost; not cleared by reset. clocks: at least 2, else `ValueError`.
    """

    def __init__(self, shape: ShapeLike, clocks: int) -> None:
        if clocks < 2:
            raise ValueError("clocks: at least 2")
        self.shape = shape
        self.clocks = clocks
        super().__init__({"i": In(shape), "o": Out(shape)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address_bits = ceil_log2(self.clocks + 1)
        width = Shape.cast(self.shape).width
        m.submodules.memory = memory = Memory(shape=width, depth=1 << address_bits, init=[])
        write, read = memory.write_port(), memory.read_port()
        now = Signal(address_bits)
        m.d.sync += now.eq(now + 1)
        m.d.comb += [
            write.addr.eq(now),
            write.en.eq(1),
            write.data.eq(self.i),
            read.addr.eq(now - (self.clocks - 1)),
            Value.cast(self.o).eq(read.data),
        ]
        return m


def read_in_two(m: Module, memory: Memory, address: Value, enable: Value | int = 1) -> Signal:
    """A read port of latency 2: block RAM is fast only with its output register."""
    port = memory.read_port()
    data = Signal.like(port.data, name="read_data", reset_less=True)
    m.d.comb += [port.addr.eq(address), port.en.eq(enable)]
    with m.If(enable):
        m.d.sync += data.eq(port.data)
    return data
