# SPDX-License-Identifier: Apache-2.0
"""Prepares spans for issue: key row, nonce, block counts, and the products A*H and H^e.

Two stages work on two spans at once. The first fetches the key row (three clocks); the second
multiplies (one clock, two more for A*H, two and three a base-8 digit more for H^e).

    e = n - m    n: text blocks of the record, m: last one that the span touches (from 1)
    H^e = ((H^d3)^8 * H^d2)^8 ...,    e = d3 d2 d1 d0 in base 8
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import (
    CONTENT_CHANGE_CIPHER_SPEC,
    CONTENT_HANDSHAKE,
    NONCE_BYTES,
    TAG_BYTES,
    Config,
)
from ..abi.tx import TxTags
from ..common.layouts import Layouts, SpanKind
from .datapath import POWER_BITS, TEXT_BLOCK_BITS
from .gf128 import SideMultiplier, field_order, square
from .layouts import TEXT_OFFSET_BITS, CipherLayouts, KeyRow


def big_endian(value: Value) -> Value:
    """The bytes of an integer as they go over the wire, first byte lowest."""
    count = len(value) // 8
    return Cat(value.word_select(count - 1 - i, 8) for i in range(count))


class Prep(wiring.Component):
    """Spans in, jobs out, in order; key tokens are run between spans and give no job.

    drained: no span is under way behind the spans taken; a token waits for it.
    key_start, key_done: run the token at `spans` in the key store.
    row, power: reads of latency 2 at the key store.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self.layouts = own = CipherLayouts(config)
        self.job_layout = own.job
        super().__init__(
            {
                "spans": In(stream.Signature(own.span)),
                "jobs": Out(stream.Signature(self.job_layout)),
                "drained": In(1),
                "accepted": Out(1),  # a data span was taken
                "key_start": Out(1),
                "key_done": In(1),
                "row_address": Out(layouts.key_bits),
                "row": In(KeyRow),
                "power_address": Out(layouts.key_bits + POWER_BITS),
                "power": In(128),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job = Signal(self.job_layout)
        handed_on = Signal()  # the first stage's span enters the second
        free = Signal()  # the second stage takes one
        next_job = Signal(self.job_layout)
        next_e = Signal(TEXT_BLOCK_BITS)
        next_aad = Signal(128)
        self._fetch(m, next_job, next_e, next_aad, handed_on, free)
        self._products(m, job, next_job, next_e, next_aad, handed_on, free)
        return m

    def _fetch(
        self,
        m: Module,
        job: data.View,
        e: Signal,
        aad: Signal,
        handed_on: Signal,
        free: Signal,
    ) -> None:
        """First stage: key row, and what follows from span and row."""
        span = Signal(self.layouts.span)
        key_row = self.layouts.key_row(span)
        with m.FSM(name="fetch"):
            with m.State("IDLE"):
                m.d.comb += self.row_address.eq(self.layouts.key_row(self.spans.payload))
                m.d.sync += span.eq(self.spans.payload)
                with m.If(self.spans.valid):
                    with m.If(self.spans.payload.kind == SpanKind.DATA):
                        m.d.comb += [self.spans.ready.eq(1), self.accepted.eq(1)]
                        m.next = "READ"
                    with m.Elif(self.drained):
                        m.d.comb += self.key_start.eq(1)
                        m.next = "KEY"
            with m.State("READ"):
                m.d.comb += self.row_address.eq(key_row)
                m.next = "ROW"
            with m.State("ROW"):
                m.d.comb += [self.row_address.eq(key_row), handed_on.eq(free)]
                with m.If(free):
                    m.next = "IDLE"
            with m.State("KEY"):
                m.d.comb += self.spans.ready.eq(self.key_done)
                with m.If(self.key_done):
                    m.next = "IDLE"

        early = Signal(self.job_layout)
        number = big_endian(span.number)
        self._early(m, span, key_row, number, early, e, aad)
        row = self.row
        m.d.comb += [
            job.eq(early),
            job.issue.key.eq(row.key),
            job.issue.key256.eq(row.key256),
            job.issue.nonce.eq(
                Cat(row.iv[:32], Mux(span.version, row.iv[32:] ^ number, span.nonce))
            ),
        ]
        with m.If(~row.valid | (row.generation != span.generation)):
            # Nothing is decrypted under a key that the span was not meant for.
            m.d.comb += [
                job.issue.blocks.eq(0),
                job.issue.has_tag.eq(0),
                job.retire.has_slots.eq(0),
                job.retire.needs_weight.eq(0),
                job.retire.stale.eq(1),
            ]

    def _early(
        self,
        m: Module,
        span: data.View,
        key_row: Value,
        number: Value,
        early: data.View,
        e: Signal,
        aad: Signal,
    ) -> None:
        """Registered between READ and ROW: all that needs no key row."""
        text_length = Signal(TEXT_OFFSET_BITS)
        text_end = Signal(TEXT_OFFSET_BITS + 1)
        record_blocks, end_block = Signal(TEXT_BLOCK_BITS), Signal(TEXT_BLOCK_BITS)
        has_text, has_tag = Signal(), Signal()
        overhead = Mux(span.version, TAG_BYTES, TAG_BYTES + NONCE_BYTES)
        first_block = span.text_offset >> 4
        m.d.comb += [
            text_length.eq(span.length - overhead),
            text_end.eq(span.text_offset + span.text_bytes),
            record_blocks.eq((text_length + 15) >> 4),
            end_block.eq((text_end + 15) >> 4),
            has_text.eq(span.text_bytes != 0),
            has_tag.eq(span.tag_bytes != 0),
        ]
        issue, retire = early.issue, early.retire
        header = Cat(span.content_type, C(0x0303, 16))
        length = text_length | C(0, 16)
        m.d.sync += [
            issue.key_row.eq(key_row),
            issue.blocks.eq(Mux(has_text, end_block - first_block, 0)),
            issue.address.eq(span.ring_byte - span.text_offset[:4]),
            issue.text_block.eq(first_block),
            issue.skip.eq(span.text_offset[:4]),
            issue.end.eq(text_end - 1),
            issue.has_tag.eq(has_tag),
            issue.tag_address.eq(span.ring_byte + span.text_bytes - span.tag_offset),
            issue.tag_offset.eq(span.tag_offset),
            issue.tag_bytes.eq(span.tag_bytes),
            issue.tag_first.eq(span.tag_offset == 0),
            issue.tls13.eq(span.version),
            issue.text_length.eq(text_length),
            issue.aad_in_text.eq(has_text & (span.text_offset == 0)),
            issue.aad_in_tag.eq(has_tag & (span.tag_offset == 0) & (text_length == 0)),
            retire.context.eq(span.context),
            retire.slot.eq(span.slot),
            retire.generation.eq(span.generation),
            retire.number.eq(span.number),
            retire.tls13.eq(span.version),
            retire.park_by_header.eq(
                ~span.version
                & (
                    (span.content_type == CONTENT_CHANGE_CIPHER_SPEC)
                    | (span.content_type == CONTENT_HANDSHAKE)
                )
            ),
            retire.first.eq(span.first),
            retire.completes.eq(span.completes),
            retire.last.eq(span.last),
            retire.probe.eq(span.probe),
            retire.has_slots.eq(has_text | has_tag),
            retire.needs_weight.eq(has_text & (record_blocks != end_block)),
            e.eq(record_blocks - end_block),
            aad.eq(
                Mux(
                    span.version,
                    Cat(header, big_endian(span.length)),
                    Cat(number, header, big_endian(length)),
                )
            ),
        ]

        if self.layouts.transmit:
            self._early_transmit(m, span, early, has_tag)

    def _early_transmit(self, m: Module, span: data.View, early: data.View, has_tag: Value) -> None:
        """The same of what only transmit needs."""
        issue, retire, of_tx = early.issue, early.retire, early.transmit
        m.d.sync += [
            issue.tx.eq(span.tx),
            of_tx.context.eq(span.context),
            of_tx.detached.eq(span.slot[0]),
            of_tx.tag_mode.eq(span.tag_mode),
            of_tx.use_row.eq(span.use_row),
            of_tx.tag_final.eq(has_tag & (span.tag_offset == 0)),
            of_tx.tag_offset.eq(span.tag_offset),
            of_tx.tag_bytes.eq(span.tag_bytes),
            of_tx.tag_address.eq(span.ring_byte + span.text_bytes - span.tag_offset),
        ]
        with m.If(span.tx & (span.tag_mode == TxTags.GIVEN)):
            # Nobody wants the sum: no product is waited for.
            m.d.sync += [issue.aad_in_text.eq(0), issue.aad_in_tag.eq(0), retire.needs_weight.eq(0)]

    def _products(
        self,
        m: Module,
        job: data.View,
        next_job: data.View,
        next_e: Signal,
        next_aad: Signal,
        handed_on: Signal,
        free: Signal,
    ) -> None:
        """Second stage: H^e, then A*H, which stays at the multiplier until the job is sent."""
        m.submodules.multiplier = multiplier = SideMultiplier()
        aad, h = Signal(128), Signal(128)
        digits, place = Signal(TEXT_BLOCK_BITS + 1), Signal(2)
        digit, leading = Signal(3), Signal()
        used = Signal(3)  # the digit of the product under way; the address runs ahead
        r, value, raised = Signal(128), Signal(128), Signal(128)
        m.d.comb += [
            digit.eq(digits.word_select(place, 3)),
            self.power_address.eq(Cat((digit - 1)[:POWER_BITS], job.issue.key_row)),
            value.eq(Mux(leading, self.power, Mux(used == 0, r, multiplier.p))),
            raised.eq(square(m, square(m, square(m, value)))),
            self.jobs.payload.eq(job),
            self.jobs.payload.issue.aad.eq(multiplier.p),
            self.jobs.payload.retire.power.eq(r),
        ]

        needs_aad = job.issue.aad_in_text | job.issue.aad_in_tag
        next_needs_aad = next_job.issue.aad_in_text | next_job.issue.aad_in_tag
        finished = Signal()

        def load() -> None:
            m.d.sync += [
                job.eq(next_job),
                aad.eq(field_order(next_aad)),
                h.eq(self.row.h),
                digits.eq(next_e),
                leading.eq(1),
                place.eq(Mux(next_e[9:], 3, Mux(next_e[6:], 2, next_e[3:] != 0))),
            ]
            with m.If(next_job.retire.needs_weight):
                m.next = "POWER_READ"
            with m.Elif(next_needs_aad):
                m.next = "AAD"
            with m.Else():
                m.next = "SEND"

        with m.FSM(name="products"):
            with m.State("EMPTY"):
                m.d.comb += free.eq(1)
                with m.If(handed_on):
                    load()
            with m.State("POWER_READ"):
                m.next = "POWER_READ_2"
            with m.State("POWER_READ_2"):
                m.next = "POWER"
            with m.State("POWER"):
                m.d.comb += [
                    multiplier.start.eq(1),
                    multiplier.a.eq(r),
                    multiplier.b.eq(self.power),
                ]
                m.d.sync += [used.eq(digit), finished.eq(place == 0), place.eq(place - 1)]
                m.next = "POWER_2"
            with m.State("POWER_2"):
                m.d.comb += [multiplier.a.eq(r), multiplier.b.eq(self.power)]
                m.next = "POWER_TAKE"
            with m.State("POWER_TAKE"):
                m.d.sync += [r.eq(Mux(finished, value, raised)), leading.eq(0)]
                with m.If(~finished):
                    m.next = "POWER"
                with m.Elif(needs_aad):
                    m.next = "AAD"
                with m.Else():
                    m.next = "SEND"
            with m.State("AAD"):
                m.d.comb += [multiplier.start.eq(1), multiplier.a.eq(aad), multiplier.b.eq(h)]
                m.next = "AAD_2"
            with m.State("AAD_2"):
                m.d.comb += [multiplier.a.eq(aad), multiplier.b.eq(h)]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.jobs.valid.eq(1), free.eq(self.jobs.ready)]
                with m.If(self.jobs.ready):
                    m.next = "EMPTY"
                    with m.If(handed_on):
                        load()
