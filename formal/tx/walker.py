# SPDX-License-Identifier: Apache-2.0
"""The walker of transmit: what must be so before a frame has a span. See docs/proofs.md."""

from unittest import mock

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TX_COMMAND, TX_META, TxCommand, TxOp, TxTags
from sealane.hdl.common.sequence import distance
from sealane.hdl.common.tx_layouts import Action
from sealane.hdl.tx import checks as tx_checks
from sealane.hdl.tx import walker as tx_walker

from ..bench import Bench
from ..inside import Opened, Recorder

SMALL = Config(flows=4, tx_flows=4, ring_words=128, tx_ring_words=128, max_frame=64)
WALK = ("FETCH", "WAIT", "HEAD", "JUDGE", "CHECK", "SPAN", "CLOSE")


def _scene(bench, dut, orphan):
    """The environment gives one context and then one frame of it (or, `orphan`, of no flow)."""
    m, work, meta = bench.m, dut.work.payload, dut.metas.payload
    added = Signal()
    with m.If(dut.work.valid & dut.work.ready):
        m.d.sync += added.eq(1)
    command, packet = work.command, work.packet
    for value, wanted in (
        (dut.work.valid, 1),
        (dut.metas.valid, 1),
        (work.is_command, ~added),
        (
            Value.cast(command),
            Const(
                TX_COMMAND.pack(
                    {"op": TxCommand.TX_ADD, "generation": 1, "version": 1, "seq": 100}
                ),
                TX_COMMAND.width,
            ),
        ),
        (
            Value.cast(meta),
            Const(
                TX_META.pack({"op": TxOp.NOTHING if orphan else TxOp.ENCRYPT, "generation": 1}),
                TX_META.width,
            ),
        ),
        (work.hit, int(not orphan)),
        (work.context, 0),
        (packet.oversize, 0),
        (packet.is_tcp, 1),
        (packet.tcp_flags, 0),
        (packet.seq, 100),
        (packet.payload_length, 30),
        (packet.refused_tcp, 0),
        (dut.spans.ready, 1),
        (dut.entries.ready, 1),
    ):
        bench.assume(value == wanted)


STAGES = {"rows": (("rows",), ()), "frames": (("frames",), ("rows",))}
"""Parts of the induction that are proven at once, and those proven before."""


def walker_bench(stage=None, *, wrong=None):
    """The walker with free streams and a free ring; one context's row is kept.

    stage: a name in `STAGES`; None: all claims.
    wrong: something that is to be said the other way round, so that a counterexample must come:
        "valid", "deleted", "generation", "flow", "marker", "frontier" or "orphan". The environment
        is narrowed then, so that one is soon found.
    """
    bench = Bench()
    bench.part = "frames"
    if stage:
        bench.proving, bench.proven = STAGES[stage]
    m = bench.m
    dut = tx_walker.TxWalker(SMALL)
    cores = []

    class Kept(tx_walker.TxCore):
        def __init__(self, *args):
            super().__init__(*args)
            cores.append(self)

    recorder = Recorder()
    with (
        mock.patch.object(tx_walker, "TxCore", Kept),
        mock.patch.object(tx_checks, "Signal", recorder),
    ):
        opened = Opened(dut, tx_walker, keep=("Memory",))
    checks, inner = recorder.named, opened.signals
    m.submodules.dut = opened.module
    (core,), (rows,) = cores, opened.memories
    bench.free_inputs(dut)
    m.d.comb += rows.kept.eq(bench.constant(range(SMALL.tx_flows), "kept"))
    for name in ("work", "metas"):
        bench.holds_until_taken(getattr(dut, name), assume=True, name=name)
    if wrong:
        bench.assume(rows.kept == 0)
        _scene(bench, dut, wrong == "orphan")
    work, meta = dut.work.payload, dut.metas.payload
    packet, row, kept = work.packet, core.row, rows.row

    def state(*names):
        return Cat(opened.state(name) for name in names).any()

    # The row that is judged is that of the context, as the last item left it.
    ours = core.context == rows.kept
    judging = state("COMPARE", "DECIDE", *WALK, "FINISH")
    begun = state("LOAD", "COMMAND", "KEY", "TOKEN") | judging
    frame = dut.work.valid & dut.metas.valid & ~work.is_command
    bench.claim(~judging | frame)
    bench.claim(~begun | dut.work.valid)
    bench.claim(~opened.state("LOAD") | work.is_command | dut.metas.valid)
    loaded = Value.cast(rows.read.data) == Value.cast(kept)
    bench.claim(~opened.state("LOAD") | ~ours | loaded)
    unnamed = (meta.op == TxOp.NOTHING) | (meta.op == TxOp.WIRE)
    named = Mux(unnamed, work.context, meta.context)
    bench.claim(
        ~(judging | (opened.state("LOAD") & ~work.is_command))
        | (
            (core.context == named[: len(core.context)])
            & (core.in_range == (named < SMALL.tx_flows))
        )
    )
    for name in ("valid", "deleted", "generation", "version", "start"):
        bench.claim(~judging | ~ours | (getattr(row, name) == kept[name]))
    before_close = state("COMPARE", "DECIDE", *WALK)
    for name in ("marker_expired", "next", "number", "at", "broken"):
        bench.claim(~before_close | ~ours | (getattr(row, name) == kept[name]))

    # `live` is the number of rows in use: the kept one and, counted here, the others, of which the
    # environment gives no more and no fewer as in use than there are.
    bench.part = "rows"
    others = Signal(range(SMALL.tx_flows))
    stored = rows.read.data
    with m.If(inner["done"] & core.dirty & ~ours):
        m.d.sync += others.eq(others + row.valid - core.was_valid)
    counted = Mux(core.was_valid, others != 0, others != SMALL.tx_flows - 1)
    bench.assume(
        ~opened.state("LOAD") | ours | Mux(stored.valid, others != 0, others != SMALL.tx_flows - 1)
    )
    under_way = begun & ~opened.state("LOAD")
    bench.claim(~under_way | Mux(ours, core.was_valid == kept.valid, counted))
    bench.claim(core.live == others + kept.valid)
    bench.part = "frames"

    # Position of the frame, as the packet or the metadata says.
    dump = meta.op == TxOp.DUMP
    seq = Mux(dump, meta.seq, packet.seq)
    size = Mux(dump, packet.frame_bytes, packet.payload_length)
    end = (seq + size)[:32]
    placed = judging | (opened.state("LOAD") & ~work.is_command)
    bench.claim(~placed | ((core.seq == seq) & (core.size == size)))
    bench.claim(~judging | (core.end == end))

    before_start = ~kept.marker_expired & (distance(seq, kept.start) < 0)
    good = {
        "valid": kept.valid,
        "deleted": ~kept.deleted,
        "generation": kept.generation == meta.generation,
        "range": meta.context < SMALL.tx_flows,
        "flow": dump | (packet.is_tcp & work.hit & (work.context == meta.context)),
        "syn": dump | ~packet.tcp_flags[1],
        "size": ~packet.oversize,
        "op": (meta.op == TxOp.ENCRYPT) | dump,
        "given": (meta.tags != TxTags.GIVEN) | meta.detached,
        "marker": ~before_start,
        "frontier": Mux(
            meta.detached,
            (distance(end, kept.next) <= 0) & (meta.number <= kept.number),
            Mux(
                meta.sync,
                (distance(seq, kept.next) >= 0) & (meta.number >= kept.number),
                (seq == kept.next) & ~kept.broken,
            ),
        ),
    }
    if wrong in good:
        good[wrong] = ~good[wrong]
    # What COMPARE has found out.
    deciding = opened.state("DECIDE")
    for name, value in (
        ("before_start", distance(seq, kept.start) < 0),
        ("end_before", distance(end, kept.start) <= 0),
        ("at_next", seq == kept.next),
        ("not_before_next", distance(seq, kept.next) >= 0),
        ("within", distance(end, kept.next) <= 0),
    ):
        bench.claim(~deciding | ~ours | (checks[name] == value))
    contradicts = core.given & ~meta.detached
    bench.claim(~deciding | checks["bad_meta"] | ~contradicts)
    elsewhere = meta.detached | meta.sync
    bench.claim(~state("COMPARE") | ~elsewhere | (core.number == meta.number))
    bench.claim(~deciding | ~ours | ~elsewhere | (core.above == (meta.number > kept.number)))
    bench.claim(~deciding | ~ours | ~elsewhere | (core.same == (meta.number == kept.number)))

    # No header byte leaves and no span is given before all of that holds, and an entry that is
    # neither PASS nor DROP had it all.
    all_good = Cat(good.values()).all()
    walked = state(*WALK) | (opened.state("FINISH") & core.walked)
    walks = (core.action == Action.ENCRYPT) | (core.action == Action.DUMP)
    ends = opened.state("FINISH")
    bench.claim(~walked | ~ours | all_good)
    bench.claim(~walked | (meta.op == TxOp.ENCRYPT) | dump)
    bench.claim(~walked | (core.action != Action.PASS))
    bench.claim(~state("LOAD", "COMPARE", "DECIDE") | work.is_command | ~core.walked)
    bench.claim(~state(*WALK) | core.walked)
    bench.claim(~ends | ~walks | core.walked)
    bench.claim(~ends | core.walked | ~core.dirty | (meta.op == TxOp.WIRE))
    bench.claim(~state("LOAD", "COMPARE", "DECIDE", *WALK[:-1]) | ~core.dirty)
    spans = dut.clear_spans.valid & ~bench.before(dut.clear_spans.valid, "clear_before")
    bench.claim(~spans | state("SPAN", "CLOSE"))
    bench.claim(~core.maker.pieces.valid | opened.state("SPAN"))

    # What passes as it is: software's own, nothing at all, and no text of an offloaded flow.
    text = work.hit & kept.valid & (packet.payload_length != 0)
    orphan = text & (kept.marker_expired | (distance(end, kept.start) > 0))
    if wrong == "orphan":
        orphan = ~orphan
    passes = ends & (core.action == Action.PASS)
    nothing, encrypt = meta.op == TxOp.NOTHING, meta.op == TxOp.ENCRYPT
    bench.claim(
        ~passes | (meta.op == TxOp.WIRE) | nothing | (encrypt & (packet.payload_length == 0))
    )
    refused = packet.refused_tcp
    bench.claim(~passes | ~nothing | ~ours | refused | ~orphan)
    bench.claim(~passes | ~nothing | ~refused | ((core.live == 0) & ~kept.valid))
    return bench
