# SPDX-License-Identifier: Apache-2.0
"""Commit: what the mark on a leaving packet implies. See docs/proofs.md for the statement."""

from amaranth.hdl import Cat, Signal, Value
from amaranth.lib import data

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import Reason
from sealane.hdl.commit import commit
from sealane.hdl.common.layouts import Meta, TokenKind

from .bench import Bench
from .inside import Opened

SMALL = Config(flows=4, record_slots=2, runs=3, ring_words=128, max_frame=64, events=8)
# Packets lie within 2^30 bytes of one another, as the walker's window sees to; commit forms
# differences of sequence numbers only, so where that range begins does not matter.
NEAR = 30


def mark_bench(*, broken_claim=None):
    """Commit with free streams; claims about one context of the solver's choice.

    broken_claim: a part of what a mark implies, to be replaced by its opposite, so that a
    counterexample must come: "bad", "stale", "park" or "reason".
    """
    bench = Bench()
    m = bench.m
    dut = commit.Commit(SMALL)
    opened = Opened(dut, commit, keep=("Memory",), without=("FrameReader",))
    m.submodules.dut = opened.module
    inner = opened.signals
    rows = opened.memories[0]
    bench.free_inputs(dut)
    for name in ("entries", "verdicts", "text_spans"):
        bench.holds_until_taken(getattr(dut, name), assume=True, name=name)

    entry, verdict = dut.entries.payload, dut.verdicts.payload
    # What the walker guarantees of an entry that may be marked.
    bench.assume((entry.meta.reason != Reason.NONE) | entry.meta.context_valid)
    flow = bench.constant(2, "flow")
    m.d.comb += rows.kept.eq(flow)
    row = rows.row
    decide = dut.entries.valid & dut.entries.ready
    packet = decide & ~entry.is_token
    ours = entry.context == flow
    same = ours & (entry.generation == row.generation)

    # A park of the solver's choice that was reported for this flow and not released since.
    end = (entry.meta.seq + entry.meta.payload_length)[:32]
    near = end < (1 << NEAR)
    bench.assume(near | entry.is_token)
    parks = entry.has_spans & verdict.park & ~verdict.bad & ~verdict.stale
    picked, park_end = Signal(), Signal(32)
    pick = bench.free(1, "pick")
    with m.If(packet & same & parks & pick):
        m.d.sync += [picked.eq(1), park_end.eq(end)]
    released = (entry.token == TokenKind.ADD) | (entry.token == TokenKind.DELETE)
    released |= entry.token == TokenKind.REKEY
    released |= (entry.token == TokenKind.GO_ON) & same & (row.awaited == entry.park)
    with m.If(decide & entry.is_token & ours & released):
        m.d.sync += picked.eq(0)
    behind_park = picked & same & (end > park_end)

    # The generation in force, and a bad tag that the walker has not heard of.
    generation = Signal(8)
    with m.If(decide & entry.is_token & ours & (entry.token != TokenKind.GO_ON) & released):
        m.d.sync += generation.eq(entry.generation)
    reasons = {
        "reason": entry.meta.reason != Reason.NONE,
        "bad": entry.has_spans & verdict.bad,
        "stale": entry.has_spans & verdict.stale,
        "park": behind_park,
        "broken": same & row.broken,
    }
    if broken_claim:
        reasons[broken_claim] = ~reasons[broken_claim]
    allowed = Signal()
    with m.If(packet):
        m.d.sync += allowed.eq(~Cat(reasons.values()).any())

    meta = data.View(Meta, dut.metas.payload[: Meta.size])
    bench.claim(~(dut.metas.valid & meta.decrypted) | allowed)
    bench.claim(~(inner["job_pending"] & meta.decrypted) | allowed)
    bench.claim(~(inner["meta_pending"] & meta.decrypted) | allowed)
    bench.claim((meta.decrypted == 0) | (meta.reason == Reason.NONE))
    bench.claim(row.generation == generation)
    # What makes the induction close: the row at hand is the row in memory, and its park lies no
    # later than the one picked.
    deciding = opened.state("DECIDE")
    at_hand = inner["row"]
    bench.claim(~(deciding & ours) | (Value.cast(at_hand) == Value.cast(row)))
    bench.claim(~deciding | (inner["behind"] == (end - at_hand.park_end)[:32]))
    bench.claim(~deciding | dut.entries.valid)
    bench.claim(~opened.state("PARK") | dut.entries.valid)
    bench.claim(~opened.state("PARK") | (inner["packet_end"] == end))
    bench.claim(~deciding | (inner["packet_end"] == end))
    bench.claim(~picked | (row.parked & (row.park_end <= park_end)))
    bench.claim(~row.parked | (row.park_end < (1 << NEAR)))
    return bench
