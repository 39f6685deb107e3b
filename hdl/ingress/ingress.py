# SPDX-License-Identifier: Apache-2.0
"""From the MAC into the packet ring, with a description of every frame."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from ..common.layouts import Layouts, Word
from .parser import LATENCY, Parser

DESCS = 32  # descriptions that may wait


class Ingress(Component):
    """Writes frames into the packet ring and describes them, a word a clock, frame after frame.

    Backpressure: `frames.ready` falls while the ring is full or too many descriptions wait; it
    does not depend on `frames.valid`. Descriptions follow a frame's last word by about ten
    clocks, when all of it is in the ring. A frame longer than `Config.max_frame` is described
    as soon as it is too long and never again, and goes on into the ring.

    frames: words of frames, without preamble and check sequence.
    write_en, write_word, write_data: to the packet ring. Words before `write_word` can be read.
    read_word: words before it are free again. Both are indices modulo the ring's length; the
    ring is empty if they are equal, and at most all words but one are in use.
    descs: one a frame, in order. stall: a word waits in this clock.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = Layouts(config)
        super().__init__(
            {
                "frames": In(stream.Signature(Word)),
                "write_en": Out(1),
                "write_word": Out(layouts.word_bits),
                "write_data": Out(Word),
                "read_word": In(layouts.word_bits),
                "descs": Out(stream.Signature(layouts.packet_desc)),
                "stall": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layouts = Layouts(self._config)
        m.submodules.parser = parser = Parser(self._config)
        m.submodules.queue = queue = SyncFIFOBuffered(
            width=layouts.packet_desc.size, depth=DESCS + 1
        )

        place = Signal(layouts.word_bits)  # of the next word that is taken
        following = Signal(layouts.word_bits)
        taken = Signal()
        room = Signal(init=1)
        m.d.comb += [
            following.eq(place + 1),
            self.frames.ready.eq(room & (following != self.read_word)),
            taken.eq(self.frames.valid & self.frames.ready),
            self.stall.eq(self.frames.valid & ~self.frames.ready),
            parser.word_en.eq(taken),
            parser.word.eq(self.frames.payload),
            parser.ring_word.eq(place),
            queue.w_en.eq(parser.desc_valid),
            queue.w_data.eq(parser.desc),
            self.descs.valid.eq(queue.r_rdy),
            self.descs.payload.eq(queue.r_data),
            queue.r_en.eq(self.descs.ready),
        ]
        m.d.sync += [
            # Frames of one word could bring a description a clock that is still on its way here.
            room.eq(queue.level < DESCS - LATENCY - 2),
            self.write_en.eq(taken),
            self.write_data.eq(self.frames.payload),
            self.write_word.eq(place),
        ]
        with m.If(taken):
            m.d.sync += place.eq(following)
        return m


def over_half(ingress: Ingress) -> Value:
    """Whether more than half of the words of an ingress' ring are in use, within a word."""
    return (ingress.write_word - ingress.read_word)[len(ingress.read_word) - 1]
