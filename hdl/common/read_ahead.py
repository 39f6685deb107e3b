# SPDX-License-Identifier: Apache-2.0
"""Reads of frames that lie behind one another in a ring, ahead of the word that leaves."""

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component

JOBS = 4  # frames decided ahead of the one that leaves
OUT_DEPTH = 8  # words between ring and output: the read loop of five clocks at full rate


class ReadAhead:
    """Jobs, one a frame, and the reads of their words, in the module `m` of a reader.

    A frame's end is known only when its last word has been read, so words are read ahead: each
    read remembers how many frames were decided when it was issued. A word of a frame that was not
    decided then may be old: it is dropped, with the reads behind it, and read again.

    A read takes a credit, which stands for its place in the output queue of `OUT_DEPTH` words.

    reader: has `jobs`, `write_word`, `read_word` and `ring_word` (address to data in two clocks).
    arrived: the read whose data are there. `current`, `decided`: whether it was not dropped, and
    whether its frame had been decided when it was issued; both are needed to take it.
    """

    def __init__(self, m: Module, reader: Component, job: data.StructLayout) -> None:
        self._m, self._reader = m, reader
        bits = len(reader.ring_word)

        # `written` and `done` count modulo 8, so that they tell 0 from 4.
        self.written = written = Signal(3)
        self.done = done = Signal(3)
        self._jobs = jobs = Array(Signal(job, name=f"job{i}") for i in range(JOBS))
        m.d.comb += reader.jobs.ready.eq((written - done)[:3] != JOBS)
        with m.If(reader.jobs.valid & reader.jobs.ready):
            m.d.sync += [jobs[written[:2]].eq(reader.jobs.payload), written.eq(written + 1)]

        credit = self._credit = Signal(range(OUT_DEPTH + 1), init=OUT_DEPTH)
        next_word = self._next_word = Signal(bits)
        epoch = self._epoch = Signal()  # reads of another epoch are dropped
        issue = self._issue = Signal()
        m.d.comb += [
            issue.eq((credit != 0) & (next_word != reader.write_word) & (written != done)),
            reader.ring_word.eq(next_word),
        ]
        read = data.StructLayout({"valid": 1, "word": bits, "epoch": 1, "decided": 3})
        under_way = Signal(read)
        self.arrived = arrived = Signal(read)
        m.d.sync += [
            under_way.valid.eq(issue),
            under_way.word.eq(next_word),
            under_way.epoch.eq(epoch),
            under_way.decided.eq(written),
            arrived.eq(under_way),
        ]

    @property
    def current(self) -> Value:
        """Whether a read has arrived that was not dropped."""
        return self.arrived.valid & (self.arrived.epoch == self._epoch)

    @property
    def decided(self) -> Value:
        """Whether the frame was decided when its word was read."""
        return self.arrived.decided != self.done

    def go_on(self, take: Value) -> None:
        """`take`: the word that has arrived is used up; else it is read again."""
        m, arrived, next_word = self._m, self.arrived, self._next_word
        refuse = Signal()
        m.d.comb += refuse.eq(self.current & ~take)
        with m.If(refuse):
            m.d.sync += [self._epoch.eq(~self._epoch), next_word.eq(arrived.word)]
        with m.Elif(self._issue):
            m.d.sync += next_word.eq(next_word + 1)
        with m.If(take):
            m.d.sync += self._reader.read_word.eq(arrived.word + 1)

    def next_job(self, finish: Value) -> tuple[Value, data.View]:
        """`finish`: the frame's last word was used up. Whether another is decided, and its job."""
        candidate = Signal(3)
        self._m.d.comb += candidate.eq(self.done + finish)
        with self._m.If(finish):
            self._m.d.sync += self.done.eq(candidate)
        return self.written != candidate, self._jobs[candidate[:2]]

    def give_back(self, kept: Value, left: Value) -> None:
        """`kept`: the word that has arrived goes to the output queue; `left`: one left it."""
        dropped = self.arrived.valid & ~kept
        self._m.d.sync += self._credit.eq(self._credit - self._issue + left + dropped)


def lanes_before(index: Value, limit: Value) -> list[Value]:
    """Which bytes of word `index` of a frame lie in front of byte `limit` of it, bit i: byte i."""
    word, byte = limit[4:], limit[:4]
    return [(word > index) | ((word == index) & (byte > lane)) for lane in range(16)]
