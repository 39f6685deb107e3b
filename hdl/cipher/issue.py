# SPDX-License-Identifier: Apache-2.0
"""Issue: turns a job into slots, one a clock and without a gap, also from one job to the next."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.layouts import Layouts
from .datapath import slot_layouts
from .layouts import CipherLayouts
from .prepare import big_endian

_TEXT_COUNTER = 2  # counter of text block 0; 1 encrypts J0
_LONGEST_RUN = 7  # slots of the direction that comes first while the other waits


class _Job:
    """The job under way and what is left of it: its text slots in order, then its tag slot."""

    def __init__(self, layouts: CipherLayouts, lanes: int) -> None:
        self.lanes = lanes
        self.job = Signal(layouts.issue, name="job")
        self.left, self.fresh = Signal(10), Signal(range(lanes + 1), name="fresh")
        self.tag_left, self.first = Signal(), Signal(name="first")
        self.text_now, self.tag_now = Signal(), Signal()

    def look(self, m: Module, over: Signal) -> None:
        """What its next slot is; over: it is the last one, or there is none."""
        m.d.comb += [
            self.text_now.eq(self.left != 0),
            self.tag_now.eq(~self.text_now & self.tag_left),
            over.eq(Mux(self.tag_left, ~self.text_now, self.left[1:] == 0)),
        ]

    def step(self, m: Module) -> None:
        """Text slots advance in place; the tag slot takes its own address."""
        job, fresh = self.job, self.fresh
        with m.If(self.text_now):
            m.d.sync += [
                self.left.eq(self.left - 1),
                fresh.eq(Mux(fresh == 0, 0, fresh - 1)),
                self.first.eq(0),
                job.address.eq(job.address + 16),
                job.text_block.eq(job.text_block + 1),
            ]
        with m.Else():
            m.d.sync += self.tag_left.eq(0)

    def load(self, m: Module, issue: data.View) -> None:
        """The next job begins."""
        m.d.sync += [
            self.job.eq(issue),
            self.left.eq(issue.blocks),
            self.tag_left.eq(issue.has_tag),
            self.fresh.eq(self.lanes),
            self.first.eq(1),
        ]

    def slot(self, m: Module, cipher: data.View, rest: data.View) -> None:
        """Its next slot, into registers."""
        job, left, lanes, first = self.job, self.left, self.lanes, self.first
        counter = Signal(32)
        head_mask, end_mask, tag_mask = Signal(16), Signal(16), Signal(16)
        lengths = Signal(128)
        aad_bits = 8 * Mux(job.tls13, 5, 13)
        m.d.comb += [
            counter.eq(Mux(self.text_now, job.text_block + _TEXT_COUNTER, 1)),
            head_mask.eq(0xFFFF << Mux(first, job.skip, 0)),
            end_mask.eq(0xFFFF >> ~Mux(left == 1, job.end, 0xF)),
            tag_mask.eq(((1 << job.tag_bytes) - 1) << job.tag_offset),
            lengths.eq(Cat(job.text_length << 3, C(0, 64 - len(job.text_length << 3)), aad_bits)),
        ]
        m.d.sync += [
            cipher.key.eq(job.key),
            cipher.key256.eq(job.key256),
            cipher.counter_block.eq(Cat(job.nonce, big_endian(counter))),
            rest.is_tag.eq(self.tag_now),
            rest.with_j0.eq(job.tag_first),
            rest.text_block.eq(job.text_block),
        ]
        with m.If(self.text_now):
            m.d.sync += [
                rest.address.eq(job.address),
                rest.mask.eq(head_mask & end_mask),
                rest.inject.eq(Mux(first & job.aad_in_text, job.aad, 0)),
                rest.power.eq(Cat(Mux(left > lanes, lanes - 1, left)[:3], job.key_row)),
                rest.fresh.eq(self.fresh != 0),
                rest.tail.eq(left <= lanes),
                rest.last.eq((left == 1) & ~self.tag_left),
            ]
        with m.Else():
            m.d.sync += [
                rest.address.eq(job.tag_address),
                rest.mask.eq(tag_mask),
                rest.inject.eq(Mux(job.tag_first, lengths ^ Mux(job.aad_in_tag, job.aad, 0), 0)),
                rest.power.eq(Cat(C(0, 3), job.key_row)),
                rest.fresh.eq(1),
                rest.tail.eq(1),
                rest.last.eq(1),
            ]


class Issue(wiring.Component):
    """Jobs in, slots and what is to follow them out.

    A job begins only when `retires` takes its second half, which is the promise that its sum has a
    place. slot_valid, cipher, rest: a slot (`datapath.slot_layouts`), from registers.
    """

    def __init__(self, config: Config) -> None:
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
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        now, over = _Job(self.layouts, self.lanes), Signal()
        now.look(m, over)
        m.d.comb += [
            self.retires.valid.eq(self.jobs.valid & over),
            self.retires.payload.eq(self.jobs.payload.retire),
            self.jobs.ready.eq(self.retires.ready & over),
        ]
        now.step(m)
        with m.If(self.jobs.valid & self.jobs.ready):
            now.load(m, self.jobs.payload.issue)
        m.d.sync += self.slot_valid.eq(now.text_now | now.tag_now)
        now.slot(m, self.cipher, self.rest)
        return m


class SharedIssue(wiring.Component):
    """`Issue` for a job of each direction at a time; in each clock one of them has a slot.

    They take turns slot by slot while both have one. A direction whose ring is over half full comes
    first, receive before transmit, as the wire does not wait; but every eighth slot is the
    other's, so that neither ever stands still.

    tx_jobs, tx_retires: those of transmit. over_half, tx_over_half: of the rings.
    """

    def __init__(self, config: Config) -> None:
        self.lanes = config.ghash_lanes
        self.layouts = CipherLayouts(config)
        self.cipher_layout, self.rest_layout = slot_layouts(Layouts(config))
        super().__init__(
            {
                "jobs": In(stream.Signature(self.layouts.rx_job)),
                "retires": Out(stream.Signature(self.layouts.retire)),
                "tx_jobs": In(stream.Signature(self.layouts.tx_job)),
                "tx_retires": Out(stream.Signature(self.layouts.tx_retire)),
                "over_half": In(1),
                "tx_over_half": In(1),
                "slot_valid": Out(1),
                "cipher": Out(self.cipher_layout),
                "rest": Out(self.rest_layout),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        jobs = [_Job(self.layouts, self.lanes) for _ in range(2)]
        has = [job.text_now | job.tag_now for job in jobs]
        pick, before, run = Signal(), Signal(), Signal(range(_LONGEST_RUN + 1))
        both = has[0] & has[1]
        with m.If(~both):
            m.d.comb += pick.eq(has[1])
        with m.Elif((run == _LONGEST_RUN) | ~(self.over_half | self.tx_over_half)):
            m.d.comb += pick.eq(~before)
        with m.Else():
            m.d.comb += pick.eq(~self.over_half)
        with m.If(has[0] | has[1]):
            m.d.sync += before.eq(pick)
        m.d.sync += run.eq(Mux(both, Mux(pick == before, run + 1, 1), 0))

        streams = (self.jobs, self.retires), (self.tx_jobs, self.tx_retires)
        for i, (job, (taken, behind)) in enumerate(zip(jobs, streams, strict=True)):
            over, turn, free = (Signal(name=f"{name}{i}") for name in ("over", "turn", "free"))
            job.look(m, over)
            m.d.comb += [
                turn.eq(has[i] & (pick == i)),
                free.eq(over & (turn | ~has[i])),
                behind.valid.eq(taken.valid & free),
                behind.payload.eq(taken.payload.retire),
                taken.ready.eq(behind.ready & free),
            ]
            with m.If(turn):
                job.step(m)
            with m.If(taken.valid & taken.ready):
                job.load(m, taken.payload.issue)

        # The choice in one clock, what it comes to in the next.
        now, of_tx = _Job(self.layouts, self.lanes), Signal()
        m.d.sync += of_tx.eq(pick)
        for name in ("job", "left", "fresh", "tag_left", "first", "text_now", "tag_now"):
            rx, tx = (Value.cast(getattr(job, name)) for job in jobs)
            m.d.sync += Value.cast(getattr(now, name)).eq(Mux(pick, tx, rx))
        m.d.sync += [self.slot_valid.eq(now.text_now | now.tag_now), self.rest.tx.eq(of_tx)]
        now.slot(m, self.cipher, self.rest)
        return m
