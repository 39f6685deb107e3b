# SPDX-License-Identifier: Apache-2.0
"""Each term of X is fed once, whatever the cuts and the order. See docs/proofs.md."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from sealane.hdl.abi.config import LENGTH_BOUNDS, VERSION_TLS12, VERSION_TLS13
from sealane.hdl.cipher import verdict
from sealane.hdl.cipher.issue import Issue
from sealane.hdl.cipher.prepare import Prep, big_endian
from sealane.hdl.common.layouts import Layouts, SpanKind

from .bench import Bench
from .inside import Opened
from .mark import SMALL


class Straight(Prep):
    """Prep whose second stage hands on without products; `a_times_h` stands for A * H."""

    def _products(self, m, job, next_job, next_e, next_aad, handed_on, free):
        full = Signal()
        self.handed_on = handed_on
        self.a_times_h = Signal(128)
        m.d.comb += [
            free.eq(~full | self.jobs.ready),
            self.jobs.valid.eq(full),
            self.jobs.payload.eq(job),
            self.jobs.payload.issue.aad.eq(self.a_times_h),
        ]
        with m.If(handed_on):
            m.d.sync += [job.eq(next_job), full.eq(1)]
        with m.Elif(self.jobs.ready):
            m.d.sync += full.eq(0)


def slots_bench(blocks, *, broken_claim=None):
    """Prep and Issue: the slots of a span feed each of its bytes once, at its place.

    blocks: longest span. broken_claim: a claim to be replaced by its opposite: "mask", "address",
    "aad", "lengths", "j0" or "counter".
    """
    bench = Bench()
    m = bench.m
    m.submodules.prep = prep = Straight(SMALL)
    m.submodules.issue = issue = Issue(SMALL)
    module = prep.elaborate(None)
    prep.elaborate = lambda platform: module
    bench.free_inputs(prep, but=("jobs",))
    bench.free_inputs(issue, but=("jobs",))
    bench.holds_until_taken(prep.spans, assume=True, name="spans")
    m.d.comb += [
        Value.cast(issue.jobs.payload).eq(Value.cast(prep.jobs.payload)),
        issue.jobs.valid.eq(prep.jobs.valid),
        prep.jobs.ready.eq(issue.jobs.ready),
        prep.a_times_h.eq(bench.free(128, "a_times_h")),
    ]

    def text_length(span):
        overhead = Mux(span.version == VERSION_TLS13, 16, 24)
        return (span.length - overhead)[:15]

    # What the walker promises of a span, and the key that it was meant for.
    given = prep.spans.payload
    low = Mux(given.version, LENGTH_BOUNDS[VERSION_TLS13][0], LENGTH_BOUNDS[VERSION_TLS12][0])
    high = Mux(given.version, LENGTH_BOUNDS[VERSION_TLS13][1], LENGTH_BOUNDS[VERSION_TLS12][1])
    whole = text_length(given)
    bench.assume(given.kind == SpanKind.DATA)
    bench.assume((given.length >= low) & (given.length <= high))
    bench.assume(given.text_offset + given.text_bytes <= whole)
    bench.assume(given.text_bytes <= 16 * (blocks - 1))
    bench.assume(given.tag_offset + given.tag_bytes <= 16)
    # Tag bytes follow directly behind text, so text before them runs to its end.
    bench.assume(
        (given.tag_bytes == 0)
        | (given.text_bytes == 0)
        | ((given.text_offset + given.text_bytes == whole) & (given.tag_offset == 0))
    )

    # The span at each stage: taken, with its key row, issued, and that of the slot.
    span_layout = Layouts(SMALL).span
    taken, prepared, issued, span = (Signal(span_layout, name=f"span{i}") for i in range(4))
    bench.assume(prep.row.valid & (prep.row.generation == taken.generation))
    aad_issued, aad = Signal(128), Signal(128)
    started, open_ = Signal(), Signal()
    with m.If(prep.accepted):
        m.d.sync += taken.eq(given)
    with m.If(prep.handed_on):
        m.d.sync += prepared.eq(taken)
    accept = issue.jobs.valid & issue.jobs.ready
    m.d.sync += started.eq(accept)
    with m.If(accept):
        m.d.sync += [issued.eq(prepared), aad_issued.eq(prep.a_times_h)]
    has_slots = (issued.text_bytes != 0) | (issued.tag_bytes != 0)
    block, tag_done = Signal(12), Signal()
    rest, cipher, slot = issue.rest, issue.cipher, issue.slot_valid
    text_slot, tag_slot = slot & ~rest.is_tag, slot & rest.is_tag
    with m.If(text_slot):
        m.d.sync += block.eq(block + 1)
    with m.If(tag_slot):
        m.d.sync += tag_done.eq(1)
    with m.If(slot & rest.last):
        m.d.sync += open_.eq(0)
    with m.If(started):
        m.d.sync += [
            span.eq(issued),
            aad.eq(aad_issued),
            open_.eq(has_slots),
            block.eq(issued.text_offset >> 4),
            tag_done.eq(0),
        ]
    # A span begins when the one before has had all its slots.
    bench.claim(~started | ~open_ | (slot & rest.last))

    lane = bench.constant(4, "lane")
    place = Signal(16)
    m.d.comb += place.eq((rest.text_block << 4) | lane)
    here = Signal()
    m.d.comb += here.eq(rest.mask.bit_select(lane, 1))
    end = span.text_offset + span.text_bytes
    last_block = (end + 15) >> 4
    length = text_length(span)
    in_ring = (rest.address + lane)[: len(rest.address)]
    text_at = (span.ring_byte + place - span.text_offset)[: len(rest.address)]
    tag_at = (span.ring_byte + span.text_bytes + lane - span.tag_offset)[: len(rest.address)]
    aad_bits = 8 * Mux(span.version == VERSION_TLS13, 5, 13)
    lengths = Cat(length << 3, Const(0, 64 - len(length << 3)), aad_bits)
    counter = big_endian((rest.text_block + Const(2, 32))[:32])
    claims = {
        "order": ~slot | open_,
        "block": ~text_slot | ((rest.text_block == block) & (block < last_block)),
        "mask": ~text_slot | (here == ((place >= span.text_offset) & (place < end))),
        "address": ~text_slot | ~here | (in_ring == text_at),
        "tag": ~tag_slot
        | (here == ((lane >= span.tag_offset) & (lane < span.tag_offset + span.tag_bytes))),
        "tag address": ~tag_slot | ~here | (in_ring == tag_at),
        "once": ~tag_slot | (~tag_done & (span.tag_bytes != 0)),
        "complete": ~(slot & rest.last)
        | (
            ((span.text_bytes == 0) | (block + text_slot == last_block))
            & ((span.tag_bytes != 0) == rest.is_tag)
        ),
        "aad": ~text_slot
        | (rest.inject == Mux((rest.text_block == 0) & (span.text_offset == 0), aad, 0)),
        "lengths": ~tag_slot
        | (rest.inject == Mux(span.tag_offset == 0, lengths ^ Mux(length == 0, aad, 0), 0)),
        "j0": ~tag_slot | (rest.with_j0 == (span.tag_offset == 0)),
        "counter": ~slot
        | (cipher.counter_block[96:] == Mux(rest.is_tag, big_endian(Const(1, 32)), counter)),
    }
    if broken_claim:
        claims[broken_claim] = ~slot | ~claims[broken_claim]
    for condition in claims.values():
        bench.claim(condition)
    return bench


def rows_bench(*, wrong=0):
    """Verdicts: X of a completed record is the XOR of all that was contributed since its first.

    wrong: XORed into the X that is claimed.
    """
    bench = Bench()
    m = bench.m
    dut = verdict.Verdicts(SMALL)
    opened = Opened(dut, verdict)
    m.submodules.dut = opened.module
    bench.free_inputs(dut)
    bench.holds_until_taken(dut.contributions, assume=True, name="contributions")
    bench.assume(~dut.key_done)

    layouts = Layouts(SMALL)
    flow = bench.constant(layouts.context_bits, "flow")
    slot = bench.constant(layouts.slot_bits, "record")
    item = dut.contributions.payload
    take = dut.contributions.valid & dut.contributions.ready
    ours = (item.retire.context == flow) & (item.retire.slot == slot)
    x, open_ = Signal(128), Signal()
    now = Signal(128)
    m.d.comb += now.eq(item.sum.value ^ Mux(item.retire.first, 0, x))
    # The walker's promise: a record begins with its first span and ends with the one that
    # completes it. A span meant for another key changes nothing.
    bench.assume(~(take & ours) | item.retire.first | open_)
    with m.If(take & ours & ~item.retire.stale):
        m.d.sync += [x.eq(now), open_.eq(~item.retire.completes)]

    # The claim goes along with the item: three stages behind the entry.
    claimed = [Signal(129, name=f"claimed{i}") for i in range(4)]
    with m.If(opened.signals["go"]):
        m.d.sync += claimed[0].eq(Cat(now, take & ours & ~item.retire.stale))
        for before, behind in zip(claimed, claimed[1:], strict=False):
            m.d.sync += behind.eq(before)
    result = opened.signals["result"]
    bench.claim(~claimed[3][128] | (result.x == claimed[3][:128] ^ wrong))
    return bench
