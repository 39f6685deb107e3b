# SPDX-License-Identifier: Apache-2.0
"""Frames of the host out of the rings: plaintext stays behind, ciphertext takes its place."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..abi.config import Config
from ..common.fifo import StreamFIFO
from ..common.layouts import Word
from ..common.read_ahead import OUT_DEPTH, ReadAhead, lanes_before
from ..common.span_cursor import SpanCursor
from ..common.tx_layouts import TxLayouts

Merge = data.StructLayout(
    {
        "host": Word,
        "text": 128,
        "from_host": 16,
        "from_text": 16,
    }
)
"""A word of the host ring, that of the text ring, and whose byte leaves; of neither: 0."""


class TxReader(Component):
    """Reads the frames of the decided jobs, in order, and puts the two rings together.

    Of an encrypted frame leave: the headers in front of the payload, the TCP checksum replaced; of
    the payload the bytes inside clear spans and those that were written into the text ring since
    the frame came in; 0 for all other bytes, those behind the payload (link padding) too. So text
    of the host leaves nowhere but in clear spans, whatever the cipher did or did not do. A frame
    that is neither encrypted nor dropped leaves as it came; of a dropped frame nothing leaves.

    Latency: the first word is offered six clocks after its job was taken. Throughput: a word a
    clock, frame after frame, while jobs come in time, dropped frames too. Backpressure: see
    `ReadAhead`; no path leads from `frames.ready` to the rings.

    jobs: one a frame. Its verdict came before, so the text is in place.
    clear_spans: `clears` spans for each job, in order; there before it. Two lie so far apart (16
        bytes of tag) that at most one touches a word.
    frames: the words.
    write_word: ring word that is written next; it is never read.
    read_word: ring word that was not consumed yet; everything before it may be overwritten.
    ring_word -> ring_data, text_data, text_written: address to data in two clocks.
    """

    def __init__(self, config: Config) -> None:
        layouts = TxLayouts(config)
        bits = layouts.word_bits
        self._job = layouts.job
        super().__init__(
            {
                "jobs": In(stream.Signature(layouts.job)),
                "clear_spans": In(stream.Signature(layouts.clear_span)),
                "frames": Out(stream.Signature(Word)),
                "write_word": In(bits),
                "read_word": Out(bits),
                "ring_word": Out(bits),
                "ring_data": In(Word),
                "text_data": In(128),
                "text_written": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reads = ReadAhead(m, self, self._job)

        # The frame that leaves.
        busy = Signal()
        job = Signal(self._job)
        # Word in the frame. It stays at its greatest value, which lies behind every payload, so
        # that a frame without end does not get to a place where bytes of the host leave.
        index = Signal(10)
        word = self.ring_data
        spans = SpanCursor(m, self.clear_spans, index, "clears")
        merging = job.encrypt & ~job.drop
        take = Signal()  # the word that has arrived is used up
        m.d.comb += take.eq(reads.current & busy & reads.decided & spans.there(merging))
        reads.go_on(take)

        in_front, in_payload, in_clear = Signal(16), Signal(16), Signal(16)
        span = self.clear_spans.payload
        m.d.comb += [
            in_front.eq(Cat(lanes_before(index, job.payload_at))),
            in_payload.eq(~in_front & Cat(lanes_before(index, job.payload_end))),
            in_clear.eq(
                ~Cat(lanes_before(index, span.start))
                & Cat(lanes_before(index, span.end))
                & (spans.left != 0).replicate(16)
            ),
        ]
        clears_left = spans.follow(merging & busy, take)
        with m.If(take & ~index.all()):
            m.d.sync += index.eq(index + 1)

        # Frame to frame without a gap, if the next one is decided and no span is left over.
        finish = Signal()
        m.d.comb += finish.eq(take & word.last)
        decided, next_job = reads.next_job(finish)
        with m.If(finish):
            m.d.sync += [index.eq(0), busy.eq(0)]
        with m.If((finish | ~busy) & decided & (clears_left == 0)):
            m.d.sync += [busy.eq(1), job.eq(next_job), spans.left.eq(next_job.clears)]

        # The checksum field has an even offset, so both its bytes lie in one word.
        first_byte, second_byte = Signal(16), Signal(16)
        field_word, field_lane = job.checksum_at[4:], job.checksum_at[:4]
        m.d.comb += second_byte.eq((first_byte << 1) & in_front)
        with m.If(merging & (field_word == index)):
            m.d.comb += first_byte.eq((1 << field_lane) & in_front)
        patched = Signal(128)
        for i in range(16):
            lane = slice(8 * i, 8 * i + 8)
            with m.If(first_byte[i]):
                m.d.comb += patched[lane].eq(job.checksum[:8])
            with m.Elif(second_byte[i]):
                m.d.comb += patched[lane].eq(job.checksum[8:])
            with m.Else():
                m.d.comb += patched[lane].eq(word.data[lane])

        # Two rings become one word; a register for the comparisons above.
        leaves = Signal()
        merge = Signal(Merge)
        m.d.sync += [
            leaves.eq(take & ~job.drop),
            merge.host.eq(word),
            merge.host.data.eq(patched),
            merge.text.eq(self.text_data),
            merge.from_host.eq(Mux(merging, in_front | (in_payload & in_clear), 0xFFFF)),
            merge.from_text.eq(in_payload & ~in_clear & self.text_written),
        ]
        m.submodules.out = out = StreamFIFO(Word, OUT_DEPTH)
        connect(m, out.o, flipped(self.frames))
        m.d.comb += [
            out.i.valid.eq(leaves),
            out.i.payload.bytes.eq(merge.host.bytes),
            out.i.payload.last.eq(merge.host.last),
        ]
        for i in range(16):
            lane = slice(8 * i, 8 * i + 8)
            m.d.comb += out.i.payload.data[lane].eq(
                Mux(
                    merge.from_host[i],
                    merge.host.data[lane],
                    Mux(merge.from_text[i], merge.text[lane], 0),
                )
            )
        reads.give_back(take & ~job.drop, out.o.valid & out.o.ready)
        return m
