# SPDX-License-Identifier: Apache-2.0
"""Commit of transmit: what must have been so that a frame leaves. See docs/proofs.md."""

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TxReason
from sealane.hdl.common.tx_layouts import Action
from sealane.hdl.tx import commit as tx_commit

from ..bench import Bench
from ..inside import Opened

SMALL = Config(flows=4, tx_flows=4, ring_words=128, tx_ring_words=128, max_frame=64)


def commit_bench(*, wrong=None):
    """Commit with free streams; the reader and the queue of completions do anything.

    wrong: something that is to be said the other way round, so that a counterexample must come:
        "reason", "stale", "mismatch", "count", "verdict", "tags" or "checksum".
    """
    bench = Bench()
    m = bench.m
    dut = tx_commit.TxCommit(SMALL)
    opened = Opened(dut, tx_commit, without=("TxReader", "StreamFIFO"))
    m.submodules.dut = opened.module
    reader, beats = opened.parts
    inner = opened.signals
    bench.free_inputs(dut)
    for name in ("entries", "verdicts", "tags", "clear_spans"):
        bench.holds_until_taken(getattr(dut, name), assume=True, name=name)

    entry, verdict = dut.entries.payload, dut.verdicts.payload
    job = reader.jobs.payload
    judged = entry.has_spans
    written = Mux(judged, verdict.written, 0)
    blames = {
        "reason": entry.reason != TxReason.NONE,
        "stale": judged & verdict.stale,
        "mismatch": judged & verdict.mismatch,
        "count": written != entry.expected,
        "action": (entry.action == Action.DROP) | ((entry.action == Action.PASS) & judged),
    }
    if wrong in blames:
        blames[wrong] = ~blames[wrong]
    blamed = Cat(blames.values()).any()

    # A frame is handed to the reader to leave only if nothing speaks against it.
    bench.claim(~reader.jobs.valid | (job.drop == (blamed | (entry.action == Action.DUMP))))
    bench.claim(~reader.jobs.valid | (job.encrypt == (entry.action == Action.ENCRYPT)))
    for name in ("clears", "payload_at", "payload_end", "checksum_at"):
        bench.claim(~reader.jobs.valid | (job[name] == entry[name]))

    # Job, status, entry and verdict go together, and the verdict is there.
    given = reader.jobs.valid & reader.jobs.ready
    ends = beats.i.valid & beats.i.ready & beats.i.payload.last
    there = dut.verdicts.valid if wrong != "verdict" else ~dut.verdicts.valid
    bench.claim(~reader.jobs.valid | (dut.entries.valid & ~entry.is_token & (~judged | there)))
    bench.claim(given == (dut.entries.valid & dut.entries.ready & ~entry.is_token))
    bench.claim(given == ends)
    taken = dut.verdicts.valid & dut.verdicts.ready
    bench.claim(~given | (taken == judged))
    bench.claim(~taken | (dut.entries.valid & dut.entries.ready & judged))

    # The status says the same, and its tags have gone in front of it.
    status = data.View(tx_commit.Status, beats.i.payload.data[: tx_commit.Status.size])
    bench.claim(~ends | ((status.reason != TxReason.NONE) == blamed))
    bench.claim(~ends | (entry.reason == TxReason.NONE) | (status.reason == entry.reason))
    for name in ("op", "cookie", "context", "generation", "first_number"):
        bench.claim(~ends | (status[name] == entry[name]))
    tags = Signal(10)  # beats of tags since the last status
    went = beats.i.valid & beats.i.ready & ~beats.i.payload.last
    bench.claim(went == (dut.tags.valid & dut.tags.ready))
    bench.claim(~went | (beats.i.payload.data == dut.tags.payload))
    with m.If(ends):
        m.d.sync += tags.eq(0)
    with m.Elif(went):
        m.d.sync += tags.eq(tags + 1)
    counted = tags if wrong != "tags" else tags + 1
    bench.claim(~ends | ((counted == entry.tags) & (status.tags == entry.tags)))

    # The checksum makes the segment's sum 0, modulo 0xFFFF, and is not all ones.
    change = Mux(judged, verdict.sum, 0)
    others = entry.segment_sum + (~entry.checksum_in)[:16] + change
    whole = Signal(18)
    m.d.comb += whole.eq(others + job.checksum)
    zero = ((whole[:16] + whole[16:]) == 0xFFFF) | (whole == 0)
    bench.claim(~reader.jobs.valid | (zero if wrong != "checksum" else whole == 0))
    bench.claim(~reader.jobs.valid | ~job.checksum.all())

    # What the registers hold in each state.
    late = ~opened.state("TAGS")
    bench.claim(~late | (dut.entries.valid & (~judged | dut.verdicts.valid)))
    bench.claim(~late | (inner["wrong_count"] == (written != entry.expected)))
    bench.claim(~late | (inner["total"] == others))
    total = inner["total"]
    bench.claim(~opened.state("DECIDE") | (inner["folded"] == total[:16] + total[16:]))
    # A token has no tags.
    bench.assume(~dut.entries.valid | ~entry.is_token | (entry.tags == 0))
    bench.claim((tags == inner["given"]) & (~late | (tags == entry.tags)))
    bench.claim((tags == 0) | (dut.entries.valid & ~entry.is_token))
    bench.claim((tags == 0) | (Value.cast(tags) <= entry.tags))
    return bench
