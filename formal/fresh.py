# SPDX-License-Identifier: Apache-2.0
"""Fresh bytes: what the walk has passed once, no later packet has unseen. See docs/proofs.md.

One byte of one flow is followed, both of the solver's choice. It is unseen while it lies at or
behind `high`, or in a hole. The walker takes it when `high` goes past it or it is cut out of a
hole; `seen` remembers that.
"""

import argparse
import sys
from itertools import combinations
from time import monotonic
from unittest import mock

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

from sealane.hdl.abi.commands import Op
from sealane.hdl.abi.meta import Reason
from sealane.hdl.common.sequence import distance
from sealane.hdl.walker import commands as walker_commands
from sealane.hdl.walker import coverage as coverage_file
from sealane.hdl.walker import tracking as walker_proven
from sealane.hdl.walker import walker
from sealane.hdl.walker.core import Core, Return

from .bench import FAST, Bench, run
from .fresh_run import FLOW, START, Watched, play
from .inside import Opened, Recorder
from .mark import SMALL

NEAR = 30  # the byte and all holes lie within 2^30 bytes of `high`, as window and STALE have it

ADOPTION = ("ADOPT_LOOKUP", "ADOPT_PICK", "ADOPT", "OPEN_LAST")
HOPS = ("AFTER_FEED", "FETCH", "WAIT", "CHECK", "STEP", "SPLIT_HEADER", "MATCH_CANDIDATE")
SEARCH = ("CONTINUE", "PROBE", "ADDRESS", "SCANNING", "FOUND", "CHAIN", "CHAINED", "SCANNED")

_BASIS = ("rows", "front", "packets", "adoption")
_HOLES = ("order", "filling", "search")
_BYTE = ("views", "inner", "cut", "single")
STAGES = {
    "basis": (_BASIS, ()),
    "holes": (_HOLES, ()),
    "byte": (_BYTE, _BASIS + _HOLES),
    "seen": (("seen",), _BASIS + _HOLES + _BYTE),
    "stored": (("stored",), _BASIS + _HOLES + _BYTE + ("seen",)),
    "mark": (("taken", "marked"), ()),
}
"""Parts of the induction by stage, and those that a stage may take as proven for the same clock."""

CASES = {
    "seen": {
        "idle": ("IDLE",),
        "load": ("LOAD",),
        "front": ("FRONTIER",),
        "cut": ("CUT",),
        "rest": ("SPLIT_HOLE",),
        "adopt": ("ADOPT",),
        "else": (),
    },
    "stored": {"idle": ("IDLE",), "load": ("LOAD",), "else": ()},
}
"""Stages that are done by the state in which a step begins; "else": those that no other has."""


def inside(byte, start, end):
    """Whether a sequence number lies in [start, end)."""
    return (start <= byte) & (byte < end)


def below(a, b):
    """Whether sequence number a lies in front of b."""
    return a < b


def in_range(*positions):
    """Whether sequence numbers lie in the range that claims are about."""
    return ~Cat(position[NEAR:] for position in positions).any()


class View:
    """A row as far as freshness goes."""

    def __init__(self, row, coverage, byte):
        self.high, self.proven = row.high, row.proven
        self.holes = [coverage.holes[i] for i in range(SMALL.runs - 1)]
        self.unseen_in = Cat(h.valid & inside(byte, h.start, h.end) for h in self.holes)
        self.in_hole = self.unseen_in.any()
        self.below = below(byte, row.high)

    def same(self, other):
        """Whether another view finds the same of the byte."""
        return (self.below == other.below) & (self.unseen_in == other.unseen_in)

    def in_range(self):
        """What window and STALE see to."""
        return (
            in_range(self.high)
            & Cat(~hole.valid | in_range(hole.start, hole.end) for hole in self.holes).all()
        )

    def orderly(self):
        """Holes are not empty, lie in front of `high` and do not overlap; else they are gone."""
        apart = [
            ~(one.valid & other.valid) | ~below(other.start, one.end) | ~below(one.start, other.end)
            for one, other in combinations(self.holes, 2)
        ]
        return (
            Cat(
                ~hole.valid
                | (self.proven & below(hole.start, hole.end) & ~below(self.high, hole.end))
                for hole in self.holes
            ).all()
            & Cat(apart).all()
        )


class Scene:
    """The walker with free packets, commands and ring contents, and names for what goes on."""

    def __init__(self, wrong, at):
        self.bench = bench = Bench() if at is None else Watched()
        m = bench.m
        self.dut = dut = walker.Walker(SMALL)
        cores = []

        def core_of(*args):
            cores.append(Core(*args))
            return cores[0]

        proven, commands = Recorder(), Recorder()
        compare = (lambda a, b: distance(a, b) + 1) if wrong == "late" else distance
        with (
            mock.patch.object(walker, "Core", core_of),
            mock.patch.object(walker_proven, "distance", compare),
            mock.patch.object(walker_proven, "Signal", proven),
            mock.patch.object(walker_commands, "Signal", commands),
        ):
            opened = Opened(dut, walker, keep=("Memory",))
        self.core = core = cores[0]
        self.inner = opened.signals
        self.proven, self.commands = proven.named, commands.named
        if wrong == "uncut":
            core.coverage.cut = Signal()
        covered = Opened(core.coverage, coverage_file)
        core.coverage.elaborate = lambda platform: covered.module
        self.search = covered.signals
        self.state_of = opened.state
        m.submodules.dut = opened.module
        if at is None:
            bench.free_inputs(dut)
        else:
            play(m, dut)
        for name in ("work", "feedback"):
            bench.holds_until_taken(getattr(dut, name), assume=True, name=name)
        self.packet = dut.work.payload.packet
        bench.assume(self.packet.payload_length <= SMALL.max_frame)

        bench.assume(~self.packet.seq[NEAR - 1 :].any())
        if at is None:
            self.flow, self.byte = bench.constant(2, "flow"), bench.constant(32, "byte")
        else:
            self.flow, self.byte = Const(FLOW, 2), Const(START + at, 32)
        bench.assume(in_range(self.byte))
        self.memory = opened.memories[0]
        m.d.comb += self.memory.kept.eq(self.flow)

        # Where the flow's row is: in the registers, or in the memory.
        self.loading = self.state("LOAD") & self.inner["uses_row"] & ~self.inner["keep"]
        self.ours = self.inner["loaded"] & (core.context == self.flow)
        self.here = self.ours & ~self.loading
        self.regs = View(core.row, core.coverage.contents, self.byte)
        self.kept = View(self.memory.row, self.memory.row.coverage, self.byte)
        self.walking = (
            self.here
            & ~self.state("IDLE", "LOAD")
            & core.dirty
            & ~core.is_command
            & ~core.is_feedback
        )
        self.hits = inside(self.byte, self.packet.seq, core.end)
        # No reason applies yet; bit 0 stands for no reason.
        self.clean = ~core.reasons[1:].any()
        self.filling = self.proven["filling"]

    def state(self, *names):
        """Whether the walker is in one of these states."""
        return Cat(self.state_of(name) for name in names).any()

    def evicting_for(self, *backs):
        """Whether a record is closed and the walker goes on with one of these."""
        return self.state("EVICT") & Cat(self.core.evict_for == back for back in backs).any()


def fresh_bench(stage=None, *, wrong=None, case=None, at=None):
    """Claims about one byte.

    stage: a name in `STAGES`, the part of the induction that is to be done; None: all at once.
    case: a name in `CASES[stage]`, the states that the step of the induction begins in; None: all.
    wrong: "uncut" leaves bytes that are taken out of a hole in it, "late" compares sequence numbers
        one off; the induction must not close.
    at: the inputs are the run in `fresh_run`, and the byte is the one so far from its start.
    """
    scene = Scene(wrong, at)
    bench, core, dut, state = scene.bench, scene.core, scene.dut, scene.state
    if stage:
        bench.proving, bench.proven = STAGES[stage]
    m, byte, walking, here = bench.m, scene.byte, scene.walking, scene.here
    row, regs, hits = core.row, scene.regs, scene.hits

    frontier = walking & state("FRONTIER") & ~core.coverage.evict
    frontier &= inside(byte, core.start, core.end)
    cut = walking & state("CUT") & inside(byte, core.start, core.stop)
    taken = frontier | cut
    seen, now = Signal(), Signal()  # taken since the position was given; taken by this packet
    op = dut.work.payload.command.op
    given = state("COMMAND") & (
        (op == Op.CONTEXT_ADD) | ((op == Op.RESYNC_HINT) & core.coverage.clear)
    )
    behind_walk = scene.commands["since_base"][64] | (core.one_bit & row.barrier)
    given |= state("REKEY") & row.proven & behind_walk
    given |= state("HINT_CLOSE") & core.coverage.clear
    # So does a candidate that software or a tag proves while nothing is proven.
    answered = state(*ADOPTION[:3]) & (core.is_command | core.is_feedback)
    given |= answered & ~row.proven
    with m.If(taken):
        m.d.sync += [seen.eq(1), now.eq(1)]
    with m.If(state("IDLE")):
        m.d.sync += now.eq(0)
    with m.If(here & given):
        m.d.sync += seen.eq(0)
    # Taken as given: neither proves a candidate that ends in front of what the walk has passed.
    bench.assume(~(here & answered & row.proven) | ~below(row.cand_high, row.high))

    if case:
        cases = CASES[stage]
        named = [name for names in cases.values() for name in names]
        begins = state(*cases[case]) if cases[case] else ~state(*named)
        bench.assume(bench.first() | bench.before(begins, "begins"))
    marked = walking & state("FINISH") & dut.work.ready & (core.reason() == Reason.NONE)
    bench.part = "taken"
    bench.claim(~(taken & seen))
    bench.taken, bench.cut, bench.marked = taken, cut, marked & hits
    bench.part = "marked"
    bench.claim(~(marked & hits) | now)
    bench.claim(~now | (seen & (walking | state("IDLE"))))

    for view, where in ((regs, here), (scene.kept, ~here)):
        bench.assume(~where | view.in_range())
        bench.part = "order"
        bench.claim(~where | view.orderly())
        bench.part = "single"
        bench.claim(~where | (sum(view.unseen_in) <= 1))
        bench.part = "seen" if view is regs else "stored"
        bench.claim(~(where & seen) | (view.below & ~view.in_hole))
    _rows(scene)
    _packets(scene, now)
    _filling(scene, seen, now)
    _adoption(scene, _front(scene))
    _search(scene)
    return bench


def _rows(scene):
    """The row is in one place, and there are no two of it."""
    scene.bench.part = "rows"
    bench, core, state, inner = scene.bench, scene.core, scene.state, scene.inner
    row = scene.memory.row
    stored = Cat(
        *(getattr(core.row, name) for name in core.row._names), core.coverage.contents.as_value()
    )
    settled = state("LOAD") | (state("IDLE") & ~inner["write"])
    settled |= state("FINISH") & ~core.dirty
    bench.claim(~inner["write"] | (state("IDLE") & inner["loaded"]))
    uses = (state("LOAD") & inner["uses_row"]) | core.dirty
    uses |= ~state("IDLE") & (core.is_command | core.is_feedback)
    bench.claim(~uses | inner["loaded"])
    bench.claim(~(state("LOAD") & (core.is_command | core.is_feedback)) | inner["uses_row"])
    bench.claim(~state("LOAD") | ~core.dirty)
    untouched = state("LOAD") | (state("FINISH") & ~core.dirty)
    bench.claim(~untouched | (scene.search["touched"] == 0))
    bench.claim(~(scene.here & settled) | (Value.cast(row) == stored))
    scene.bench.part = "views"
    read = scene.memory.read.data
    loaded = View(read, read.coverage, scene.byte)
    bench.claim(~(scene.here & settled) | scene.kept.same(scene.regs))
    bench.claim(~(scene.loading & scene.ours) | scene.kept.same(loaded))
    scene.bench.part = "rows"
    read = Value.cast(scene.memory.read.data)
    bench.claim(~(scene.loading & scene.ours) | (read == Value.cast(row)))


def _packets(scene, now):
    """What is known of the item under work, and what a packet has taken in the end."""
    scene.bench.part = "packets"
    bench, core, state, clean = scene.bench, scene.core, scene.state, scene.clean
    packet, walking, evicting_for = scene.packet, scene.walking, scene.evicting_for
    of_packet = ~state("IDLE") & ~core.is_command & ~core.is_feedback
    commanding = state("COMMAND", "REKEY", "KEY_SPAN", "HINT", "HINT_CLOSE")
    adopting = state("TOKEN", *ADOPTION) | evicting_for(Return.OPEN_LAST)
    between = state("IDLE", "LOAD")
    bench.claim(~(of_packet & ~between) | core.dirty | state("FINISH"))
    bench.claim(~(of_packet & state("FINISH") & clean) | core.dirty)
    bench.claim(~(core.is_command & core.is_feedback))
    bench.claim(~core.is_command | between | commanding | adopting)
    bench.claim(~core.is_feedback | between | state("DESYNC", "PROVEN") | adopting)
    bench.claim(~commanding | core.is_command)
    bench.claim(~state("DESYNC", "PROVEN") | core.is_feedback)
    bench.claim(~state("TOKEN") | core.is_command | core.is_feedback)
    bench.claim(state("IDLE") | core.is_feedback | scene.dut.work.valid)
    bench.claim(~of_packet | (core.end == (packet.seq + packet.payload_length)[:32]))
    bench.claim(~walking | (packet.payload_length != 0))

    # While headers are followed that are not proven, the packet is blamed in the end.
    bench.claim(~(walking & state(*SEARCH)) | core.searching)
    chained = state("DECIDE", "FIND", "CUT", "SPLIT_HOLE", "FEED", "FRONTIER")
    chained |= state("AFTER_FEED", "STEP", "SPLIT_HEADER", "MATCH_CANDIDATE")
    chained |= evicting_for(Return.FRONTIER, Return.SPLIT_HOLE, Return.STEP)
    bench.claim(~(walking & chained) | ~core.searching)
    unproven = state("FETCH", "WAIT", "CHECK") & core.searching
    done = (state(*HOPS) & ~unproven) | (state("FEED") & ~scene.filling)
    done |= state("FINISH", *ADOPTION)
    done |= evicting_for(Return.STEP, Return.OPEN_LAST)
    bench.claim(~(walking & done & clean & scene.hits) | now)


def _front(scene):
    """Bytes behind `high`."""
    scene.bench.part = "front"
    bench, core, state, proven = scene.bench, scene.core, scene.state, scene.proven
    row, seq, walking = core.row, scene.packet.seq, scene.walking
    ahead = (seq - row.high)[:32]
    over = (core.end != row.high) & ~below(core.end, row.high)
    edge = ahead[SMALL.window.bit_length() - 1 :]
    in_window = edge.all() | ~edge.any()
    decide = walking & state("DECIDE")
    front = walking & (state("FRONTIER") | scene.evicting_for(Return.FRONTIER))
    filling = walking & (state("FIND", "CUT", "SPLIT_HOLE") | scene.evicting_for(Return.SPLIT_HOLE))
    filling |= walking & state("FEED") & scene.filling
    early = decide | front | filling
    bench.claim(~early | (proven["seq_lt_high"] == ahead[31]))
    bench.claim(~early | (proven["seq_gt_high"] == (~ahead[31] & (ahead != 0))))
    bench.claim(~early | (proven["end_gt_high"] == over))
    bench.claim(~decide | (proven["in_window"] == in_window))
    bench.claim(~(front | filling) | (in_window & row.proven))
    bench.claim(~(front | filling) | (core.hopping == over))
    bench.claim(~front | over)
    bench.claim(~front | (core.start == Mux(ahead[31], row.high, seq)))
    bench.claim(~(front & ahead[31]) | ~scene.clean)
    return early


def _filling(scene, seen, now):
    """Bytes of holes: what lies in front of `filled` is taken, or the packet is blamed."""
    scene.bench.part = "filling"
    bench, core, state, proven = scene.bench, scene.core, scene.state, scene.proven
    byte, hole, walking, regs = scene.byte, core.coverage.hole, scene.walking, scene.regs
    seq, filled, clean = scene.packet.seq, proven["filled"], scene.clean
    find, cut = walking & state("FIND"), walking & state("CUT")
    rest = walking & (state("SPLIT_HOLE") | scene.evicting_for(Return.SPLIT_HOLE))
    feed = walking & state("FEED") & scene.filling
    loop = find | cut | rest | feed
    bench.claim(~(walking & state("DECIDE")) | (filled == seq))
    bench.claim(~(rest | cut) | scene.filling)
    before = state("DECIDE", "FRONTIER", "AFTER_FEED") | scene.evicting_for(Return.FRONTIER)
    bench.claim(~(walking & before) | ~scene.filling)
    bench.claim(~loop | below(seq, core.row.high))
    bench.claim(~loop | (filled == seq) | inside(filled - 1, seq, core.end))
    bench.claim(~(loop & clean & inside(byte, seq, filled)) | now)
    bench.claim(~find | (filled != core.end))
    # Holes behind the one at hand are further on.
    for i, other in enumerate(regs.holes):
        overlaps = other.valid & below(other.start, core.end) & below(seq, other.end)
        bench.claim(~((find | cut) & overlaps) | (filled == seq) | ~below(other.start, filled))
        apart = scene.search["found_at"] != i
        bench.claim(~(cut & overlaps & apart) | ~below(other.start, core.stop))
        bench.claim(~(feed & proven["more"] & overlaps) | ~below(other.start, core.stop))
    cut_front = below(filled, hole.start)
    cut_back = below(hole.end, core.end)
    bench.claim(~cut | (core.start == Mux(cut_front, hole.start, filled)))
    bench.claim(~cut | (core.stop == Mux(cut_back, hole.end, core.end)))
    bench.claim(~cut | (proven["more"] == cut_back))
    bench.part = "inner"
    skipped, upto = (core.start - hole.start)[:32], (core.stop - hole.start)[:32]
    bench.claim(~cut | ((skipped < upto) & (upto <= (hole.end - hole.start)[:32])))
    bench.part = "cut"
    out = inside(byte, core.start, core.stop)
    bench.claim(~(cut & out) | inside(byte, hole.start, hole.end))
    front = hole.start != core.start
    left = Mux(front, inside(byte, hole.start, core.start), inside(byte, core.stop, hole.end))
    left &= front | (core.stop != hole.end)
    bench.claim(~(cut & left) | (inside(byte, hole.start, hole.end) & ~out))
    unseen_here = (regs.unseen_in >> scene.search["found_at"])[0]
    bench.claim(~cut | (unseen_here == inside(byte, hole.start, hole.end)))
    bench.part = "filling"
    bench.claim(~(cut & cut_front) | ~clean)
    bench.claim(~(rest | feed) | (filled == core.stop))
    bench.claim(~(cut | rest | feed) | ~below(core.row.high, core.stop))
    bench.claim(~feed | (proven["more"] == (core.stop != core.end)))
    # What is left behind the bytes cut out of a hole's middle.
    behind = inside(byte, core.stop, hole.end)
    bench.claim(~rest | ((core.stop == core.end) & below(core.stop, hole.end)))
    bench.claim(~rest | ~below(core.row.high, hole.end))
    bench.claim(~(rest & behind) | (~seen & ~regs.in_hole & regs.below))
    bench.claim(~rest | (~core.hopping & core.row.proven & ~proven["more"]))
    for other in regs.holes:
        clear = ~below(other.start, hole.end) | ~below(core.stop, other.end)
        bench.claim(~(rest & other.valid) | clear)


def _adoption(scene, early):
    """An adoption moves `high` forward only."""
    scene.bench.part = "adoption"
    bench, core, state, proven = scene.bench, scene.core, scene.state, scene.proven
    row, walking = core.row, scene.walking
    adopt = scene.here & state(*ADOPTION[:3])
    bench.assume(~adopt | in_range(row.cand_high))
    by_walk = ~core.is_command & ~core.is_feedback
    bench.claim(~(adopt & by_walk) | (row.proven & ~below(row.cand_high, row.high)))
    hops = (state(*HOPS) & ~core.searching) | state("FEED") & ~scene.filling
    hops |= scene.evicting_for(Return.STEP)
    hops &= walking & core.hopping
    bench.claim(~hops | (row.proven & (row.high == core.end)))
    further = (core.end - row.cand_high)[:32]
    bench.claim(~(early | hops) | (proven["end_gt_cand_high"] == (~further[31] & (further != 0))))


def _search(scene):
    """The hole that the search found is the one that is cut, and the one furthest in front."""
    scene.bench.part = "search"
    bench, core, state, search = scene.bench, scene.core, scene.state, scene.search
    coverage, hole = core.coverage, core.coverage.hole
    holes = Array(coverage.contents.holes[i].as_value() for i in range(SMALL.runs - 1))
    finding = search["busy"] & ~search["evicting"]
    bench.claim(~search["busy"] | state("FIND", "EVICT"))
    bench.claim(~(state("FIND") & search["busy"]) | finding)
    bench.claim(~(state("EVICT") & search["busy"]) | ~finding)
    last = SMALL.record_slots + 1
    bench.claim(~coverage.evicted | (search["busy"] & ~finding & (search["index"] != last)))
    index, started, last_index = search["index"], search["started"], search["last_index"]
    bench.claim(~finding | Mux(started, index == last_index + 1, index == 0))
    one = search["hole"]
    at_hand = finding & search["started"] & (search["last_index"] < SMALL.runs - 1)
    bench.claim(~at_hand | (holes[search["last_index"]] == Value.cast(one)))
    bench.claim(~(finding & search["started"] & one.valid) | at_hand)
    seq, end = scene.packet.seq, core.end
    found = scene.walking & ((state("FIND") & coverage.found) | state("CUT"))
    bench.claim(~found | (hole.valid & (holes[search["found_at"]] == Value.cast(hole))))
    bench.claim(~found | (search["found_at"] < SMALL.runs - 1))
    bench.claim(~found | (below(hole.start, end) & below(seq, hole.end)))
    bench.claim(~found | below(scene.proven["filled"], hole.end))
    for i, other in enumerate(scene.regs.holes):
        overlaps = other.valid & below(other.start, end) & below(seq, other.end)
        judged = ~search["busy"] | (search["started"] & (search["last_index"] > i))
        judged = (scene.walking & state("FIND") & judged) | (scene.walking & state("CUT"))
        bench.claim(~(judged & overlaps) | (found & ~below(other.start, hole.start)))


def main():
    """Proves all stages, or those named on the command line, one after the other."""
    steps = [(stage, case) for stage in STAGES for case in CASES.get(stage, [None])]
    names = ["/".join(filter(None, step)) for step in steps]
    parser = argparse.ArgumentParser(prog="formal.fresh", description=main.__doc__)
    parser.add_argument("stage", nargs="*", help=", ".join(names))
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for a stage")
    arguments = parser.parse_args()
    if unknown := set(arguments.stage) - set(names):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    proven = True
    for name, (stage, case) in zip(names, steps, strict=True):
        if arguments.stage and name not in arguments.stage:
            continue
        begun = monotonic()
        bench = fresh_bench(stage, case=case)
        outcome = run(bench, mode="prove", depth=1, timeout=arguments.timeout, **FAST)
        print(f"{name:12} {outcome.status:8} {monotonic() - begun:4.0f} s", flush=True)
        proven &= outcome.status == "PASS"
    sys.exit(not proven)


if __name__ == "__main__":
    main()
