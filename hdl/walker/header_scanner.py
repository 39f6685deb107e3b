# SPDX-License-Identifier: Apache-2.0
"""Twelve places a clock where a record header may begin."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import HEADER_BYTES
from ..common.record_header import header_ok

STEP = 12  # a read of 16 bytes shows headers of five bytes at that many offsets
BLOCK_BYTES = STEP + HEADER_BYTES - 1


class HeaderScanner(Component):
    """Judges every offset of a block; the answer is given one clock after `enable`.

    block: 16 bytes. there: which of them exist. A header that the end of the stream cuts off is
    found too, by as much of it as is there (`abi.config.header_prefix_ok`).
    found, offset: whether and where the first allowed header begins.
    """

    enable: In(1)
    version: In(1)
    block: In(8 * BLOCK_BYTES)
    there: In(BLOCK_BYTES)
    found: Out(1)
    offset: Out(range(STEP))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        allowed = Signal(STEP)
        with m.If(self.enable):
            m.d.sync += allowed.eq(
                Cat(
                    header_ok(self.version, self.block[8 * i :], self.there[i : i + HEADER_BYTES])
                    for i in range(STEP)
                )
            )
        m.d.comb += self.found.eq(allowed.any())
        for i in reversed(range(STEP)):
            with m.If(allowed[i]):
                m.d.comb += self.offset.eq(i)
        return m
