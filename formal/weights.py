# SPDX-License-Identifier: Apache-2.0
"""The weight of a block depends on its place in the record only. See docs/proofs.md.

GHASH is linear in its blocks (proven of the multiplier), so one block of a span is looked at while
all others are 0, and instead of field elements the accumulator carries the exponent of H by which
that block has been multiplied so far: 0 is 0, and v is H^(v-1).
"""

from unittest import mock

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.cipher import ghash
from sealane.hdl.cipher import prepare as cipher_prep
from sealane.hdl.cipher.issue import Issue

from .bench import Bench
from .inside import Opened
from .mark import SMALL


class Exponents(wiring.Component):
    """In the place of `Multiplier`: adds exponents in as many clocks."""

    a: In(128)
    b: In(128)
    p: Out(128)

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        value = Mux(self.a[:12] == 0, 0, (self.a[:12] + self.b[:4])[:12])
        for i in range(self.lanes):
            stage = Signal(12, name=f"stage{i}")
            m.d.sync += stage.eq(value)
            value = stage
        m.d.comb += self.p.eq(value)
        return m


def span_bench(blocks, *, wrong=0):
    """Issue and GHASH: block k of a span that ends in front of block m has weight H^(m-k+1).

    blocks: longest span. wrong: added to the exponent that is claimed.
    """
    bench = Bench()
    m = bench.m
    issue = Issue(SMALL)
    m.submodules.issue = issue
    with mock.patch.object(ghash, "Multiplier", Exponents):
        inner = ghash.Ghash(SMALL.ghash_lanes)
        module = inner.elaborate(None)
    inner._MustUse__silence = True
    m.submodules.ghash = module
    bench.free_inputs(issue)
    job, rest = issue.jobs.payload.issue, issue.rest
    bench.assume(job.blocks <= blocks)
    bench.assume(job.text_block < 1 << 10)

    # The span under issue: the block behind its last one. Slots follow a clock later.
    end, end_now = Signal(11), Signal(11)
    with m.If(issue.jobs.valid & issue.jobs.ready):
        m.d.sync += end.eq(job.text_block + job.blocks)
    m.d.sync += end_now.eq(end)
    pick = bench.free(1, "pick")
    picked, spans, results = Signal(), Signal(4), Signal(4)
    of_span, exponent = Signal(4), Signal(12)
    chosen = pick & ~picked & issue.slot_valid
    with m.If(chosen):
        m.d.sync += [
            picked.eq(1),
            of_span.eq(spans),
            exponent.eq(Mux(rest.is_tag, 1, end_now - rest.text_block + 1)),
        ]
    m.d.sync += [
        spans.eq(spans + (issue.slot_valid & rest.last)),
        results.eq(results + inner.result_valid),
    ]
    m.d.comb += [
        inner.valid.eq(issue.slot_valid),
        inner.data.eq(chosen),
        inner.power.eq(rest.power[:3] + 1),
        inner.fresh.eq(rest.fresh),
        inner.tail.eq(rest.tail),
        inner.last.eq(rest.last),
        inner.addend.eq(0),
    ]
    own = picked & (results == of_span)
    bench.claim(~inner.result_valid | (inner.result == Mux(own, exponent + 1 + wrong, 0)))
    return bench


def tail_weight_bench(*, wrong=0):
    """Prep: the exponent e of a span's fold and the block m behind its last one give e + m = n.

    n: text blocks of the record, from the length in its header.
    """
    bench = Bench()
    m = bench.m
    prep = cipher_prep.Prep(SMALL)
    with mock.patch.object(cipher_prep, "square", lambda module, value: value):
        opened = Opened(prep, cipher_prep, without=("SideMultiplier",))
    m.submodules.prep = opened.module
    bench.free_inputs(prep)
    bench.holds_until_taken(prep.spans, assume=True, name="spans")
    given = prep.spans.payload
    overhead = Mux(given.version == VERSION_TLS13, 16, 24)
    text = Signal(16)
    m.d.comb += text.eq(given.length - overhead)
    bench.assume((given.length >= overhead) & (given.length <= 16640))
    bench.assume(given.text_offset + given.text_bytes <= text)
    bench.assume(given.text_bytes <= 16000)  # the longest frame that `Config` allows
    n, first, bytes_ = Signal(11), Signal(11), Signal(14)
    with m.If(prep.spans.valid & prep.spans.ready):
        m.d.sync += [
            n.eq((text + 15) >> 4),
            first.eq(given.text_offset >> 4),
            bytes_.eq(given.text_bytes),
        ]
    early, e = opened.signals["early"], opened.signals["next_e"]
    at_hand = opened.state("ROW", "fetch") & (bytes_ != 0)
    behind = early.issue.text_block + early.issue.blocks
    bench.claim(~at_hand | (early.issue.text_block == first))
    bench.claim(~at_hand | (early.issue.blocks != 0))
    bench.claim(~at_hand | (e + behind + wrong == n))
    bench.claim(~at_hand | (early.retire.needs_weight == (e != 0)))
    return bench
