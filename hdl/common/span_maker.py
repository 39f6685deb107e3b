# SPDX-License-Identifier: Apache-2.0
"""From a run of bytes in a record to what the cipher and commit are told of it."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from .layouts import Layouts, SpanKind
from .record_header import content_type, text_geometry

PASSED_THROUGH = ("key_row", "tag_mode", "use_row")
"""Fields that only the spans of transmit have."""


class SpanMaker(Component):
    """Computes text and tag parts of spans and marks the last one of a packet.

    A span leaves when the next one of its packet is there or `end` was given, so that `last` is
    known; two clocks a span. Nothing is dropped: `pieces.ready` falls while the outputs stall.

    pieces: records' bytes in a packet; `at` counts in the payload, `behind` from the record's
        header. Context fields of the pieces are taken with each.
    end: strobe, the packet has no more pieces; only while `settled`.
    settled: no piece is being computed; `texts` and `any` hold for the packet so far.
    begin: strobe, sets `texts` and `any` back.
    keys: key spans (ready only between packets).

    The spans of transmit have a layout of their own; what it adds (`PASSED_THROUGH`) is an input
    beside the context fields and goes into each span as it is. Its `text_spans` are for nobody.
    """

    def __init__(self, config: Config, span: data.StructLayout | None = None) -> None:
        layouts = Layouts(config)
        self._span = span = span or layouts.span
        self._passed = [name for name in PASSED_THROUGH if name in span.members]
        self.piece = data.StructLayout(
            {
                "slot": layouts.slot_bits,
                "number": 64,
                "nonce": 64,
                "content": 2,
                "length": 15,
                "at": 14,
                "behind": 15,
                "count": 14,
                "first": 1,
                "completes": 1,
                "probe": 1,
            }
        )
        super().__init__(
            {
                "pieces": In(stream.Signature(self.piece)),
                "keys": In(stream.Signature(span)),
                "spans": Out(stream.Signature(span)),
                "text_spans": Out(stream.Signature(layouts.text_span)),
                "context": In(layouts.context_bits),
                "generation": In(8),
                "version": In(1),
                "payload_addr": In(layouts.byte_bits),
                "payload_offset": In(14),
                "begin": In(1),
                "end": In(1),
                "settled": Out(1),
                "texts": Out(10),
                "any": Out(1),
            }
            | {name: In(span.members[name]) for name in self._passed}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        piece = self.pieces.payload

        # First clock: how much of the record is text, and where the piece lies in the frame.
        one = Signal(self._span)
        one_valid = Signal()
        count = Signal(14)
        text = Signal(15)
        offset = Signal(15)
        frame_at = Signal(14)
        front, no_text = text_geometry(self.version)
        ending = Signal()
        m.d.comb += self.pieces.ready.eq(~one_valid & ~ending)
        with m.If(self.pieces.valid & self.pieces.ready):
            m.d.sync += [
                one_valid.eq(1),
                one.kind.eq(SpanKind.DATA),
                one.context.eq(self.context),
                one.generation.eq(self.generation),
                one.version.eq(self.version),
                one.slot.eq(piece.slot),
                one.number.eq(piece.number),
                one.nonce.eq(piece.nonce),
                one.content_type.eq(content_type(piece.content)),
                one.length.eq(piece.length),
                one.ring_byte.eq(self.payload_addr + piece.at),
                one.first.eq(piece.first),
                one.completes.eq(piece.completes),
                one.probe.eq(piece.probe),
                *(one[name].eq(getattr(self, name)) for name in self._passed),
                count.eq(piece.count),
                text.eq(piece.length - no_text),
                offset.eq(piece.behind - front),
                frame_at.eq(self.payload_offset + piece.at),
                self.any.eq(1),
            ]

        # Second clock: the parts, into the place where a span waits for its successor.
        kept = Signal(self._span)
        kept_valid = Signal()
        left = Signal(signed(16))
        in_text = Signal(14)
        m.d.comb += [
            left.eq(text - offset),
            in_text.eq(Mux(left <= 0, 0, Mux(count < left, count, left))),
        ]
        out_free = ~self.spans.valid | self.spans.ready
        text_free = ~self.text_spans.valid | self.text_spans.ready
        move = one_valid & (~kept_valid | out_free) & ((in_text == 0) | text_free)
        with m.If(self.spans.ready):
            m.d.sync += self.spans.valid.eq(0)
        with m.If(self.text_spans.ready):
            m.d.sync += self.text_spans.valid.eq(0)
        with m.If(move):
            m.d.sync += [
                one_valid.eq(0),
                kept_valid.eq(1),
                kept.eq(one),
                kept.text_offset.eq(Mux(left < 0, text, offset)),
                kept.text_bytes.eq(in_text),
                kept.tag_offset.eq(Mux(left < 0, -left, 0)),
                kept.tag_bytes.eq(count - in_text),
            ]
            with m.If(in_text != 0):
                m.d.sync += [
                    self.text_spans.valid.eq(1),
                    self.text_spans.payload.start.eq(frame_at),
                    self.text_spans.payload.end.eq(frame_at + in_text),
                    self.texts.eq(self.texts + 1),
                ]
        with m.If(self.begin):
            m.d.sync += [self.texts.eq(0), self.any.eq(0)]

        with m.If(kept_valid & (move | ending) & out_free):
            m.d.sync += [
                self.spans.valid.eq(1),
                self.spans.payload.eq(kept),
                self.spans.payload.last.eq(ending),
            ]
            with m.If(ending):
                m.d.sync += [kept_valid.eq(0), ending.eq(0)]
        # A packet without pieces may end while the last span of another still waits to leave.
        with m.If(self.end & kept_valid & ~ending):
            m.d.sync += ending.eq(1)
        m.d.comb += [
            self.settled.eq(~one_valid),
            self.keys.ready.eq(~kept_valid & ~one_valid & out_free),
        ]
        with m.If(self.keys.valid & self.keys.ready):
            m.d.sync += [self.spans.valid.eq(1), self.spans.payload.eq(self.keys.payload)]
        return m
