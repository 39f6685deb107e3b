# SPDX-License-Identifier: Apache-2.0
"""Reader of transmit: what a byte that leaves may be. See docs/proofs.md for the statement."""

from unittest import mock

from amaranth.hdl import Array, Cat, Mux, Signal, Value

from sealane.hdl.common import read_ahead, span_cursor
from sealane.hdl.common.read_ahead import JOBS, OUT_DEPTH
from sealane.hdl.tx import reader as tx_reader

from ..bench import Bench
from ..inside import Opened, Recorder
from .commit import SMALL

BEHIND = 16000  # no payload reaches further: the greatest `Config.max_frame`
OVER = 1 << 10  # stands for all words from this one on


def sane(job):
    """What the walker promises of places in a frame."""
    ordered = (job.payload_at <= job.payload_end) & (job.payload_end <= BEHIND)
    return ordered & ~job.checksum_at[0]


class Scene:
    """The reader with free jobs and ring contents, and names for what goes on.

    `chosen` is a job of the solver's choice from its acceptance on, `ours` says that its words are
    next, `lane` is the place of a byte in its word. Of the output queue only the filling is kept.
    """

    def __init__(self):
        self.bench = bench = Bench()
        self.m = m = bench.m
        self.dut = dut = tx_reader.TxReader(SMALL)
        recorder, cursor = Recorder(), Recorder()
        with (
            mock.patch.object(read_ahead, "Signal", recorder),
            mock.patch.object(span_cursor, "Signal", cursor),
        ):
            opened = Opened(dut, tx_reader, without=("StreamFIFO",))
        m.submodules.dut = opened.module
        (self.out,) = opened.parts
        self.inner, self.reads, self.spans = opened.signals, recorder.named, cursor.named
        bench.free_inputs(dut)
        for name in ("jobs", "clear_spans"):
            bench.holds_until_taken(getattr(dut, name), assume=True, name=name)
        job = dut.jobs.payload
        bench.assume(sane(job))
        self.lane = bench.constant(4, "lane")

        self.take, self.busy = self.inner["take"], self.inner["busy"]
        self.finish = self.take & dut.ring_data.last
        self.done = self.reads["done"]
        self.waiting = (self.reads["written"] - self.done)[:3]
        self.queue = Array(Value.cast(self.reads[f"job{i}"]) for i in range(JOBS))
        self.accepted = dut.jobs.valid & dut.jobs.ready
        self.picked, self.chosen = Signal(), Signal(job.shape())
        self.ahead = Signal(3)  # frames to be done before the chosen one
        self.age = Signal(2)  # clocks since it was accepted and known, 3 or more
        self.pick = self.accepted & ~self.picked & bench.free(1, "pick")
        self.ours = self.picked & (self.ahead == 0)
        with m.If(self.age != 3):
            m.d.sync += self.age.eq(self.age + 1)
        with m.If(self.pick):
            ahead = self.waiting - self.finish
            m.d.sync += [self.picked.eq(1), self.chosen.eq(job), self.ahead.eq(ahead)]
            m.d.sync += self.age.eq(0)
        with m.Elif(self.finish & self.ours):
            m.d.sync += self.picked.eq(0)
        with m.Elif(self.finish & self.picked):
            m.d.sync += self.ahead.eq(self.ahead - 1)

    def job(self, index):
        """The job that so many frames are in front of."""
        return self.queue[(self.done + index)[:2]]

    def clears(self, index):
        """Its number of clear spans."""
        shape = self.chosen.shape()
        field = shape["clears"]
        return self.job(index)[field.offset : field.offset + field.width]


STAGES = {
    "reads": (("jobs", "reads"), ()),
    "spans": (("spans",), ("jobs", "reads")),
    "bytes": (("bytes",), ("jobs", "reads", "spans")),
}
"""Parts of the induction that are proven at once, and those proven before."""


def reader_bench(stage=None, *, wrong=None):
    """Claims about one byte of each word of one job.

    stage: a name in `STAGES`; None: all claims.
    wrong: something that is said otherwise, so that a counterexample must come: "written" (text
        leaves whether it is new or not), "clear" (nothing of the payload comes from the host),
        "late" (the read comes a clock later than it has to) or "drop" (a dropped frame leaves).
    """
    scene = Scene()
    if stage:
        scene.bench.proving, scene.bench.proven = STAGES[stage]
    _jobs(scene)
    own = _spans(scene)
    _bytes(scene, own, wrong)
    _reads(scene, wrong)
    return scene.bench


def _jobs(scene):
    """The frame at hand has its own job."""
    bench, picked, busy = scene.bench, scene.picked, scene.busy
    bench.part = "jobs"
    job, chosen = Value.cast(scene.inner["job"]), Value.cast(scene.chosen)
    bench.claim(scene.waiting <= JOBS)
    bench.claim(~picked | ((scene.ahead < scene.waiting) & sane(scene.chosen)))
    bench.claim(~picked | (scene.job(scene.ahead) == chosen))
    bench.claim(~busy | ((scene.waiting != 0) & (scene.job(0) == job)))
    bench.claim(~(scene.ours & busy) | (job == chosen))


def _spans(scene):
    """Each frame takes as many clear spans as its job says; whether the one offered is its own."""
    bench, m, dut = scene.bench, scene.m, scene.dut
    bench.part = "spans"
    spent = dut.clear_spans.valid & dut.clear_spans.ready
    left = Signal(10)  # of the frame at hand, or of the last one
    settled = left == spent
    candidate = (scene.done + scene.finish)[:3]
    begins = (scene.finish | ~scene.busy) & (scene.reads["written"] != candidate) & settled
    with m.If(begins):
        m.d.sync += left.eq(scene.clears(scene.finish))
    with m.Else():
        m.d.sync += left.eq(left - spent)
    bench.claim(~spent | (left != 0))
    bench.claim(left == scene.spans["clears"])
    # A frame begins when the one before has had all of its spans, and not otherwise.
    kept = scene.busy & ~scene.finish
    bench.claim(scene.busy == bench.before(begins | kept, "begun"))
    return dut.clear_spans.valid & (left != 0)


def _bytes(scene, own, wrong):
    """What leaves is what the job says, byte by byte."""
    bench, m, dut, chosen = scene.bench, scene.m, scene.dut, scene.chosen
    take, finish, lane = scene.take, scene.finish, scene.lane
    bench.part = "bytes"
    word = Signal(11)  # of the frame
    with m.If(finish):
        m.d.sync += word.eq(0)
    with m.Elif(take & (word != OVER)):
        m.d.sync += word.eq(word + 1)
    bench.claim(word <= OVER)
    bench.claim(scene.inner["index"] == Mux(word == OVER, OVER - 1, word))

    at = Cat(lane, word)
    span = dut.clear_spans.payload
    host = dut.ring_data.data.word_select(lane, 8)
    text = dut.text_data.word_select(lane, 8)
    new = dut.text_written.bit_select(lane, 1)
    field = chosen.checksum_at
    in_front = at < chosen.payload_at
    in_payload = ~in_front & (at < chosen.payload_end)
    clear = own & (span.start <= at) & (at < span.end)
    clear &= wrong != "clear"
    new |= wrong == "written"
    front = Mux(at == field + 1, chosen.checksum[8:], host)
    front = Mux(at == field, chosen.checksum[:8], front)
    payload = Mux(clear, host, Mux(new, text, 0))
    encrypted = Mux(in_front, front, Mux(in_payload, payload, 0))
    expected = Signal(8)
    m.d.comb += expected.eq(Mux(chosen.encrypt, encrypted, host))

    was = bench.before(take & scene.ours, "was")
    leaves = bench.before(take & scene.ours & (~chosen.drop | (wrong == "drop")), "was_to_leave")
    sent = scene.out.i
    bench.claim(~was | (sent.valid == leaves))
    bench.claim(~sent.valid | bench.before(take, "taken"))
    bench.claim(
        ~leaves | (sent.payload.data.word_select(lane, 8) == bench.before(expected, "was_expected"))
    )
    ends = Cat(sent.payload.bytes, sent.payload.last)
    given = Cat(dut.ring_data.bytes, dut.ring_data.last)
    bench.claim(~leaves | (ends == bench.before(given, "was_given")))


def _reads(scene, wrong):
    """A word is taken once, in order, from a read behind its job; the output queue has room."""
    bench, m, dut = scene.bench, scene.m, scene.dut
    bench.part = "reads"
    arrived, under_way = scene.reads["arrived"], scene.reads["under_way"]
    credit, next_word = scene.reads["credit"], scene.reads["next_word"]
    epoch = scene.reads["epoch"]
    here, coming = (read.valid & (read.epoch == epoch) for read in (arrived, under_way))
    bits = len(next_word)
    bench.claim(~scene.take | (here & scene.busy))
    bench.claim(~(scene.take & scene.ours) | (scene.age >= (3 if wrong == "late" else 2)))
    bench.claim(~here | (arrived.word == dut.read_word))
    bench.claim(~coming | (under_way.word == (dut.read_word + here)[:bits]))
    bench.claim(next_word == (dut.read_word + here + coming)[:bits])
    bench.claim(~(here & under_way.valid & ~coming))
    known = [(read.decided - scene.done)[:3] for read in (arrived, under_way)]
    for read, current, clocks in zip(known, (here, coming), (2, 1), strict=True):
        bench.claim(~current | (read <= scene.waiting))
        late = ~scene.picked | (read <= scene.ahead) | (scene.age >= clocks)
        bench.claim(~current | late)
    bench.claim(~(here & coming) | (known[0] <= known[1]))

    filled = Signal(range(OUT_DEPTH + 1))
    left = scene.out.o.valid & scene.out.o.ready
    m.d.sync += filled.eq(filled + scene.out.i.valid - left)
    bench.assume(~scene.out.o.valid | (filled != 0))
    under = under_way.valid + arrived.valid + scene.inner["leaves"]
    bench.claim(credit + filled + under == OUT_DEPTH)
    bench.claim(~scene.out.i.valid | (filled < OUT_DEPTH))
