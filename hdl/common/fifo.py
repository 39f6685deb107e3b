# SPDX-License-Identifier: Apache-2.0
"""First in, first out queues between two streams."""

from amaranth.hdl import Module, Shape, ShapeLike, Value
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out, connect


class StreamFIFO(Component):
    """Queue of `depth` payloads of `shape` in a memory, and one more in its output register.

    A payload is offered at the output two clocks after it was taken at an empty input; one
    payload a clock flows in the steady state, and no path leads from `o.ready` to `i.ready`.
    Raises `ValueError` on a depth below 2.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if depth < 2:
            raise ValueError("depth: at least 2")
        self._shape = shape
        self._depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self._shape).width
        m.submodules.queue = queue = SyncFIFOBuffered(width=width, depth=self._depth + 1)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
        ]
        return m


def queue(
    m: Module,
    name: str,
    shape: ShapeLike,
    depth: int,
    source: stream.Interface,
    sink: stream.Interface,
) -> None:
    """Puts a `StreamFIFO` of `depth` payloads of `shape` between two streams, as NAME_queue."""
    fifo = StreamFIFO(shape, depth)
    m.submodules[f"{name}_queue"] = fifo
    connect(m, source, fifo.i)
    connect(m, fifo.o, sink)
