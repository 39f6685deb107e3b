# SPDX-License-Identifier: Apache-2.0
"""Frames out of the packet rings, one word a clock."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..abi.config import Config
from ..common.fifo import StreamFIFO
from ..common.layouts import Layouts, Word
from ..common.read_ahead import OUT_DEPTH, ReadAhead
from ..common.span_cursor import SpanCursor

Job = data.StructLayout({"mark": 1, "texts": 10})
"""One frame: whether its text leaves from the shadow ring, and how many text spans it has."""


class FrameReader(Component):
    """Reads the frames of the decided packets, in order, and puts the two rings together.

    Words are read ahead of the decision, see `ReadAhead`: a word that was read before it may
    be old (its shadow copy was not written yet).

    Latency: the first word is offered six clocks after its job was taken. Throughput: a word a
    clock, frame after frame, while jobs come in time. Backpressure: a read is issued only when
    the output queue has a place for it; no path leads from `frames.ready` to the rings.

    jobs: one `Job` a frame.
    text_spans: `Job.texts` spans for each job, in order; those of unmarked frames are dropped.
    frames: the words.
    write_word: ring word that is written next; it is never read.
    read_word: ring word that was not consumed yet; everything before it may be overwritten.
    ring_word -> ring_data, shadow_data: address to data in two clocks.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = Layouts(config)
        bits = layouts.word_bits
        self._bits = bits
        super().__init__(
            {
                "jobs": In(stream.Signature(Job)),
                "text_spans": In(stream.Signature(layouts.text_span)),
                "frames": Out(stream.Signature(Word)),
                "write_word": In(bits),
                "read_word": Out(bits),
                "ring_word": Out(bits),
                "ring_data": In(Word),
                "shadow_data": In(128),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        reads = ReadAhead(m, self, Job)

        # The frame that leaves.
        busy = Signal()
        mark = Signal()
        index = Signal(10)  # word in the frame; wraps in oversize frames, which have no text
        word = self.ring_data
        spans = SpanCursor(m, self.text_spans, index, "texts")
        take = Signal()  # the word that has arrived leaves
        m.d.comb += take.eq(reads.current & busy & reads.decided & spans.there(mark))
        reads.go_on(take)
        with m.If(take):
            m.d.sync += index.eq(index + 1)

        # Text bytes of this word. At most one text span touches a word: between two lie a tag
        # and a header, 21 bytes or more.
        span = self.text_spans.payload
        first, start = span.start[4:], span.start[:4]
        last, end = span.end[4:], span.end[:4]
        mask = Signal(16)
        for byte in range(16):
            behind_start = (first < index) | ((first == index) & (start <= byte))
            before_end = (last > index) | ((last == index) & (end > byte))
            m.d.comb += mask[byte].eq(mark & (spans.left != 0) & behind_start & before_end)
        texts_left = spans.follow(mark & busy, take)

        # Frame to frame without a gap, if the next one is decided and no span is left over.
        finish = Signal()
        m.d.comb += finish.eq(take & word.last)
        decided, job = reads.next_job(finish)
        with m.If(finish):
            m.d.sync += [index.eq(0), busy.eq(0)]
        with m.If((finish | ~busy) & decided & (texts_left == 0)):
            m.d.sync += [busy.eq(1), mark.eq(job.mark), spans.left.eq(job.texts)]

        # Two rings become one word; a register for the comparisons above.
        merge = Signal()
        original = Signal(Word)
        shadow = Signal(128)
        from_shadow = Signal(16)
        m.d.sync += [
            merge.eq(take),
            original.eq(word),
            shadow.eq(self.shadow_data),
            from_shadow.eq(mask),
        ]
        m.submodules.out = out = StreamFIFO(Word, OUT_DEPTH)
        connect(m, out.o, flipped(self.frames))
        merged = Cat(
            Mux(from_shadow[i], shadow[8 * i : 8 * i + 8], original.data[8 * i : 8 * i + 8])
            for i in range(16)
        )
        m.d.comb += [
            out.i.valid.eq(merge),
            out.i.payload.data.eq(merged),
            out.i.payload.bytes.eq(original.bytes),
            out.i.payload.last.eq(original.last),
        ]
        reads.give_back(take, out.o.valid & out.o.ready)
        return m
