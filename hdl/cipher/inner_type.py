# SPDX-License-Identifier: Apache-2.0
"""Finds the last non-zero text byte of each span (RFC 8446 section 5.4)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import CONTENT_HANDSHAKE
from .datapath import TEXT_BLOCK_BITS
from .layouts import InnerType


class InnerTypeTracker(wiring.Component):
    """Plaintext blocks in; `inner` holds a span's last non-zero byte `delay` clocks behind `last`.

    valid, data, block: a plaintext block, zero outside the span, and its index in the text.
    last: this clock ends the span, with or without a block.
    """

    def __init__(self, delay: int) -> None:
        self.delay = delay
        super().__init__(
            {
                "valid": In(1),
                "data": In(128),
                "block": In(TEXT_BLOCK_BITS),
                "last": In(1),
                "inner": Out(InnerType),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        seen = Signal(InnerType)  # of this span's earlier blocks
        found = Signal(InnerType)
        m.d.comb += found.eq(seen)
        index = Signal(4)
        handshake = Signal()
        for i in range(16):
            byte = self.data.word_select(i, 8)
            with m.If(byte != 0):
                m.d.comb += [index.eq(i), handshake.eq(byte == CONTENT_HANDSHAKE)]
        with m.If(self.valid & (self.data != 0)):
            m.d.comb += [
                found.valid.eq(1),
                found.offset.eq(Cat(index, self.block)),
                found.handshake.eq(handshake),
            ]
        m.d.sync += seen.eq(Mux(self.last, 0, found))

        moving = found
        for i in range(self.delay):
            stage = Signal(InnerType, name=f"inner{i}")
            m.d.sync += stage.eq(moving)
            moving = stage
        m.d.comb += self.inner.eq(moving)
        return m
