# SPDX-License-Identifier: Apache-2.0
"""Written bits of the text ring: set if and only if written since ingest. See docs/proofs.md."""

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from sealane.hdl.tx import ring as tx_ring

from ..bench import Bench
from ..inside import Opened
from .commit import SMALL


class KeptBits(wiring.Component):
    """As `inside.OneRow`, with an enable for each bit that is written."""

    def __init__(self, shape, depth):
        self.row = Signal(shape, name="kept_row")
        self.kept = Signal(range(depth), name="kept_index")
        self._width = shape
        super().__init__(
            {
                "write_addr": In(range(depth)),
                "write_data": In(shape),
                "write_en": In(shape),
                "read_addr": In(range(depth)),
                "read_data": Out(shape),
            }
        )

    def read_port(self):
        """The port for reading."""
        return Port(self.read_addr, self.read_data)

    def write_port(self, granularity=None):
        """The port for writing."""
        enable = Signal(1 if granularity is None else self._width)
        self._enable = enable if granularity else enable.replicate(self._width)
        return Port(self.write_addr, self.write_data, enable)

    def elaborate(self, platform):
        m = Module()
        hit, found = Signal(), Signal(self._width)
        m.d.comb += self.read_data.eq(Mux(hit, found, AnySeq(self._width)))
        m.d.sync += [hit.eq(self.read_addr == self.kept), found.eq(self.row)]
        with m.If(self.write_addr == self.kept):
            m.d.sync += self.row.eq((self.row & ~self._enable) | (self.write_data & self._enable))
        return m


class Port:
    """A port of a memory, by the names that Amaranth gives."""

    def __init__(self, addr, data, en=None):
        self.addr, self.data, self.en = addr, data, en


class _Opened(Opened):
    def _memory(self, shape, depth, init):
        self.memories.append(KeptBits(shape, depth))
        return self.memories[-1]


def ring_bench(*, wrong=None):
    """One word of the solver's choice, against bits that are kept beside.

    wrong: "overlap" lets ingest and cipher work on a word at once, "stays" says that a bit stays
    when the next frame comes in; each must give a counterexample.
    """
    bench = Bench()
    m = bench.m
    dut = tx_ring.WrittenBits(SMALL)
    opened = _Opened(dut, tx_ring, keep=("Memory",))
    m.submodules.dut = opened.module
    bench.free_inputs(dut)
    word = bench.constant(len(dut.read_word), "word")
    for memory in opened.memories:
        m.d.comb += memory.kept.eq(word[1:])

    clears = dut.clear_en & (dut.clear_word == word)
    sets = Signal(16)
    for lane in range(16):
        byte = Signal(range(SMALL.tx_ring_words * 16), name=f"byte{lane}")
        m.d.comb += byte.eq(Cat(Const(lane, 4), word) - dut.write_addr)
        chosen = dut.write_mask.bit_select(byte[:4], 1) & (byte < 16)
        m.d.comb += sets[lane].eq(dut.write_en & chosen)
    if wrong != "overlap":
        before = bench.before(clears, "clears_before"), bench.before(sets.any(), "sets_before")
        bench.assume(~(sets.any() & (clears | before[0])))
        bench.assume(~(clears & before[1]))

    # A command is seen by the addresses of two clocks later.
    since = Signal(16)
    cleared, set_now = bench.before(clears, "cleared"), bench.before(sets, "set_now")
    with m.If(cleared & (wrong != "stays")):
        m.d.sync += since.eq(0)
    with m.Else():
        m.d.sync += since.eq(since | set_now)
    asked = bench.before(bench.before(dut.read_word == word, "asked"), "asked_late")
    answer = bench.before(bench.before(since, "since_before"), "since_late")
    bench.claim(~asked | (dut.read_written == answer))

    for odd in range(2):
        a, a_out, b, b_out = (memory.row for memory in opened.memories[4 * odd : 4 * odd + 4])
        ours = word[0] == odd
        bench.claim((a == a_out) & (b == b_out))
        bench.claim(~ours | ((a ^ b) == since))
    return bench
