# SPDX-License-Identifier: Apache-2.0
"""Text ring of the transmit path: what the cipher wrote, and which bytes of it are new.

A byte of the text ring may leave only if it was written since the frame that lies at its place
came into the host ring; else it is what an earlier frame left there. A bit a byte says so.

The bit has two writers, ingest (clears a word) and cipher (sets bytes), and memories have one write
port, so it is the difference of two bits, and each writer has one of them:

    written = A ^ B       ingest of a word: A := B       cipher writes a byte: B := ~A

Ingest and cipher never work on the same word within two clocks: a frame is described when all of it
is in the ring, and its words are free again only when its last verdict has come, which is behind
its last write.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from ..common.ring import ShadowRing
from ..common.tx_layouts import TxLayouts, tx_config


class WrittenBits(Component):
    """A bit for each byte of the ring: written since its word was taken in.

    Timing is that of `ShadowRing`: a write or a clear in clock t is seen by reads of clock t + 2
    and later. Reads: word in clock t, bits in clock t + 2, one a clock. A word must not be cleared
    and written within two clocks of one another. All bits are 0 at first.

    clear_en, clear_word: a word of a frame comes into the ring.
    write_en, write_addr, write_mask: byte `write_addr + i` is written if bit i of the mask is set.
    read_word -> read_written: bit i is that of byte i of the word.
    """

    def __init__(self, config: Config) -> None:
        layouts = TxLayouts(config)
        self._words = config.tx_ring_words
        super().__init__(
            {
                "clear_en": In(1),
                "clear_word": In(layouts.word_bits),
                "write_en": In(1),
                "write_addr": In(layouts.byte_bits),
                "write_mask": In(16),
                "read_word": In(layouts.word_bits),
                "read_written": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # As in ShadowRing: the mask is turned into place in the clock in which A is read.
        word, offset = self.write_addr[4:], self.write_addr[:4]
        lanes = Signal(32)
        m.d.comb += lanes.eq((self.write_mask & self.write_en.replicate(16)) << offset)
        here, beyond, is_odd = Signal(16), Signal(16), Signal()
        even_row, odd_row = Signal(len(word) - 1), Signal(len(word) - 1)
        next_even, next_odd = Signal.like(even_row), Signal.like(odd_row)
        m.d.comb += [next_even.eq((word + 1)[1:]), next_odd.eq(word[1:])]
        clear, clear_word = Signal(), Signal.like(self.clear_word)
        read_odd = Signal()
        m.d.sync += [
            here.eq(lanes[:16]),
            beyond.eq(lanes[16:]),
            is_odd.eq(word[0]),
            even_row.eq(next_even),
            odd_row.eq(next_odd),
            clear.eq(self.clear_en),
            clear_word.eq(self.clear_word),
            read_odd.eq(self.read_word[0]),
        ]

        results = []
        rows = ((next_even, even_row), (next_odd, odd_row))
        for odd, (row, row_later) in enumerate(rows):
            # Each memory twice: one for the other writer, one for whoever reads.
            a, a_out, b, b_out = (
                Memory(shape=16, depth=self._words // 2, init=[]) for _ in range(4)
            )
            for name, memory in {"a": a, "a_out": a_out, "b": b, "b_out": b_out}.items():
                m.submodules[f"{name}_{'odd' if odd else 'even'}"] = memory
            a_read, b_read = a.read_port(), b.read_port()
            m.d.comb += [a_read.addr.eq(row), b_read.addr.eq(self.clear_word[1:])]
            for memory in (a, a_out):
                port = memory.write_port()
                m.d.comb += [
                    port.addr.eq(clear_word[1:]),
                    port.data.eq(b_read.data),
                    port.en.eq(clear & (clear_word[0] == odd)),
                ]
            for memory in (b, b_out):
                port = memory.write_port(granularity=1)
                m.d.comb += [
                    port.addr.eq(row_later),
                    port.data.eq(~a_read.data),
                    port.en.eq(Mux(is_odd == odd, here, beyond)),
                ]
            a_view, b_view = a_out.read_port(), b_out.read_port()
            m.d.comb += [
                a_view.addr.eq(self.read_word[1:]),
                b_view.addr.eq(self.read_word[1:]),
            ]
            results.append(a_view.data ^ b_view.data)
        m.d.sync += self.read_written.eq(Mux(read_odd, results[1], results[0]))
        return m


class TextRing(Component):
    """Ciphertext and tags at the addresses where their plaintext and room lie in the host ring.

    Timing: see `WrittenBits` and `ShadowRing`; bytes and bits keep step. The cipher's text has the
    write port whenever it comes; a tag waits for a clock without text, and what is behind it in
    `outcomes` waits too. So a verdict that leaves comes behind all writes of its frame.

    clear_en, clear_word: a word of a frame comes into the host ring; its bytes are not written.
    text_en, text_addr, text_data, text_mask: byte i of the data goes to address `text_addr + i` if
        bit i of the mask is set.
    outcomes: tags to be written, and verdicts. `ready` depends on what is offered.
    verdicts: as they were given, in the same clock.
    read_word -> read_data, read_written: one aligned word, and which of its bytes are new.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = TxLayouts(config)
        super().__init__(
            {
                "clear_en": In(1),
                "clear_word": In(layouts.word_bits),
                "text_en": In(1),
                "text_addr": In(layouts.byte_bits),
                "text_data": In(128),
                "text_mask": In(16),
                "outcomes": In(stream.Signature(layouts.outcome)),
                "verdicts": Out(stream.Signature(layouts.verdict)),
                "read_word": In(layouts.word_bits),
                "read_data": Out(128),
                "read_written": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.text = text = ShadowRing(tx_config(self._config))
        m.submodules.written = written = WrittenBits(self._config)
        outcome = self.outcomes.payload
        tag = self.outcomes.valid & ~outcome.is_verdict & ~self.text_en
        m.d.comb += [
            self.verdicts.payload.eq(outcome.verdict),
            self.verdicts.valid.eq(self.outcomes.valid & outcome.is_verdict),
            self.outcomes.ready.eq(Mux(outcome.is_verdict, self.verdicts.ready, ~self.text_en)),
            written.clear_en.eq(self.clear_en),
            written.clear_word.eq(self.clear_word),
            text.write_data.eq(Mux(tag, outcome.tag, self.text_data)),
            self.read_data.eq(text.read_data),
            self.read_written.eq(written.read_written),
        ]
        for part in (text, written):
            m.d.comb += [
                part.write_en.eq(self.text_en | tag),
                part.write_addr.eq(Mux(tag, outcome.address, self.text_addr)),
                part.write_mask.eq(Mux(tag, outcome.mask, self.text_mask)),
                part.read_word.eq(self.read_word),
            ]
        return m
