# SPDX-License-Identifier: Apache-2.0
"""Issue: turns a job into slots, one a clock and without a gap, also from one job to the next."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .cipher_layouts import CipherLayouts
from .cipher_prep import big_endian
from .datapath import slot_layouts
from .layouts import Layouts

_TEXT_COUNTER = 2  # counter of text block 0; 1 encrypts J0


class Issue(wiring.Component):
    """Jobs in, slots and what is to follow them out.

    A job begins only when `retires` takes its second half, which is the promise that its sum has a
    place. slot_valid, cipher, rest: a slot (`datapath.slot_layouts`), from registers.
    With transmit its jobs go on at `tx_retires` instead.
    """

    def __init__(self, config):
        self.lanes = config.ghash_lanes
        self.layouts = CipherLayouts(config)
        self.cipher_layout, self.rest_layout = slot_layouts(Layouts(config))
        super().__init__(
            {
                "jobs": In(stream.Signature(self.layouts.job)),
                "retires": Out(stream.Signature(self.layouts.retire)),
                "slot_valid": Out(1),
                "cipher": Out(self.cipher_layout),
                "rest": Out(self.rest_layout),
            }
            | (
                {"tx_retires": Out(stream.Signature(self.layouts.tx_retire))}
                if self.layouts.transmit
                else {}
            )
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.lanes
        job = Signal(self.layouts.issue)
        left, fresh = Signal(10), Signal(range(lanes + 1))
        tag_left, first = Signal(), Signal()
        text_now, tag_now, over = Signal(), Signal(), Signal()
        m.d.comb += [
            text_now.eq(left != 0),
            tag_now.eq(~text_now & tag_left),
            over.eq(Mux(tag_left, ~text_now, left[1:] == 0)),  # the last slot, or none
            self.retires.valid.eq(self.jobs.valid & over),
            self.retires.payload.eq(self.jobs.payload.retire),
            self.jobs.ready.eq(self.retires.ready & over),
        ]
        if self.layouts.transmit:
            of_tx, behind = self.jobs.payload.issue.tx, self.tx_retires
            parts = self.jobs.payload.transmit, self.jobs.payload.retire
            m.d.comb += [
                self.retires.valid.eq(self.jobs.valid & over & ~of_tx),
                behind.valid.eq(self.jobs.valid & over & of_tx),
                self.jobs.ready.eq(Mux(of_tx, behind.ready, self.retires.ready) & over),
                *(
                    behind.payload[name].eq(parts[name not in parts[0].shape().members][name])
                    for name in self.layouts.tx_retire.members
                ),
            ]

        # Text slots advance in place; the tag slot takes its own address.
        with m.If(text_now):
            m.d.sync += [
                left.eq(left - 1),
                fresh.eq(Mux(fresh == 0, 0, fresh - 1)),
                first.eq(0),
                job.address.eq(job.address + 16),
                job.text_block.eq(job.text_block + 1),
            ]
        with m.Else():
            m.d.sync += tag_left.eq(0)
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [
                job.eq(self.jobs.payload.issue),
                left.eq(self.jobs.payload.issue.blocks),
                tag_left.eq(self.jobs.payload.issue.has_tag),
                fresh.eq(lanes),
                first.eq(1),
            ]

        counter = Signal(32)
        head_mask, end_mask, tag_mask = Signal(16), Signal(16), Signal(16)
        lengths = Signal(128)
        aad_bits = 8 * Mux(job.tls13, 5, 13)
        m.d.comb += [
            counter.eq(Mux(text_now, job.text_block + _TEXT_COUNTER, 1)),
            head_mask.eq(0xFFFF << Mux(first, job.skip, 0)),
            end_mask.eq(0xFFFF >> ~Mux(left == 1, job.end, 0xF)),
            tag_mask.eq(((1 << job.tag_bytes) - 1) << job.tag_offset),
            lengths.eq(Cat(job.text_length << 3, C(0, 64 - len(job.text_length << 3)), aad_bits)),
        ]
        cipher, rest = self.cipher, self.rest
        m.d.sync += [
            self.slot_valid.eq(text_now | tag_now),
            cipher.key.eq(job.key),
            cipher.key256.eq(job.key256),
            cipher.counter_block.eq(Cat(job.nonce, big_endian(counter))),
            rest.is_tag.eq(tag_now),
            rest.with_j0.eq(job.tag_first),
            rest.text_block.eq(job.text_block),
        ]
        if self.layouts.transmit:
            m.d.sync += rest.tx.eq(job.tx)
        with m.If(text_now):
            m.d.sync += [
                rest.address.eq(job.address),
                rest.mask.eq(head_mask & end_mask),
                rest.inject.eq(Mux(first & job.aad_in_text, job.aad, 0)),
                rest.power.eq(Cat(Mux(left > lanes, lanes - 1, left)[:3], job.key_row)),
                rest.fresh.eq(fresh != 0),
                rest.tail.eq(left <= lanes),
                rest.last.eq((left == 1) & ~tag_left),
            ]
        with m.Else():
            m.d.sync += [
                rest.address.eq(job.tag_address),
                rest.mask.eq(tag_mask),
                rest.inject.eq(
                    Mux(job.tag_first, lengths ^ Mux(job.aad_in_tag, job.aad, 0), 0)
                ),
                rest.power.eq(Cat(C(0, 3), job.key_row)),
                rest.fresh.eq(1),
                rest.tail.eq(1),
                rest.last.eq(1),
            ]
        return m


