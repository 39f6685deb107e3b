# SPDX-License-Identifier: Apache-2.0
"""Counting netlists: designs whose parts can be counted by hand."""

import pytest
from amaranth.hdl import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from sealane.hdl.verilog import to_rtlil
from sealane.scripts import area


class Xors(wiring.Component):
    """Eight XORs, each with a register behind it."""

    a: In(8)
    b: In(8)
    y: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.a ^ self.b)
        return m


class Both(wiring.Component):
    """`Xors` twice, and 16 words of 4 bits."""

    a: In(8)
    at: In(4)
    y: Out(8)
    word: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.submodules.left = left = Xors()
        m.submodules.right = right = Xors()
        m.submodules.store = store = Memory(shape=4, depth=16, init=[])
        read, write = store.read_port(domain="comb"), store.write_port()
        m.d.comb += [
            left.a.eq(self.a),
            left.b.eq(right.y),
            right.a.eq(self.a),
            right.b.eq(left.y),
            self.y.eq(left.y),
            read.addr.eq(self.at),
            self.word.eq(read.data),
            write.addr.eq(self.at),
            write.data.eq(self.a),
            write.en.eq(self.a[7]),
        ]
        return m


def test_what_can_be_counted_by_hand():
    part = area.area(to_rtlil(Both(), "both"), "both")
    inner = {one.name: one for one in part.parts}
    assert {"left", "right"} <= set(inner)
    for name in ("left", "right"):
        # Amaranth's reset is a multiplexer a bit.
        assert (inner[name].flip_flops, inner[name].memory_bits) == (8, 0)
        assert inner[name].gates == 16
    assert part.whole == (16, 32, 64)
    assert [(level, one.name) for level, one in area.rows(part, 0)] == [(0, "both")]


def test_the_table_names_parts_by_level():
    part = area.Part("all", 1, 2, 3, [area.Part("b", 10, 0, 0), area.Part("a", 0, 20, 0)])
    assert [(level, one.name) for level, one in area.rows(part, 1)] == [
        (0, "all"),
        (1, "a"),
        (1, "b"),
    ]
    assert part.whole == (11, 22, 3)
    assert area.table(part, 1).row_count == 3


class Stranger(wiring.Component):
    """An instance of something that is not there."""

    a: In(1)
    y: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.box = Instance("box", i_a=self.a, o_y=self.y)
        return m


def test_a_cell_that_cannot_be_counted():
    with pytest.raises(RuntimeError, match="box: not counted"):
        area.area(to_rtlil(Stranger(), "stranger"), "stranger")


@pytest.mark.parametrize("flows", ["-1", "5000"])
def test_no_such_device(flows, capsys):
    assert area.main(["--tx-flows", flows]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("area: ")
