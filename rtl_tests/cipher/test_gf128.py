# SPDX-License-Identifier: Apache-2.0
"""Products in GF(2^128) against the bit-by-bit reference."""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl_tests.support.verilated import Vectors
from sealane.hdl.cipher import gf128
from tests.support.gf128 import multiply


class Combinational(wiring.Component):
    """The functions, with a register behind them to have a clock."""

    a: In(128)
    b: In(128)
    product: Out(128)
    squared: Out(128)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.product.eq(gf128.multiply(m, self.a, self.b))
        m.d.sync += self.squared.eq(gf128.square(m, self.a))
        return m


def operands(count):
    rng = random.Random(count)
    edges = [0, 1, 1 << 127, (1 << 128) - 1, 1 << 64, 0xE1 << 120]
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [(1 << rng.randrange(128), 1 << rng.randrange(128)) for _ in range(count)]
    return pairs + [(rng.getrandbits(128), rng.getrandbits(128)) for _ in range(count)]


def test_combinational():
    pairs = operands(300)
    rows = Vectors(Combinational()).run([{"a": a, "b": b} for a, b in pairs] + [{}])
    for (a, b), row in zip(pairs, rows[1:], strict=True):
        assert row["product"] == multiply(a, b)
        assert row["squared"] == multiply(a, a)


@pytest.mark.parametrize("lanes", range(1, 8))
def test_pipelined(lanes):
    pairs = operands(100)
    rows = Vectors(gf128.Multiplier(lanes)).run([{"a": a, "b": b} for a, b in pairs] + [{}] * lanes)
    assert [row["p"] for row in rows[lanes:]] == [multiply(a, b) for a, b in pairs]


def test_side():
    pairs = operands(100)
    rows = [{"start": first, "a": a, "b": b} for a, b in pairs for first in (1, 0)] + [{}]
    answers = Vectors(gf128.SideMultiplier()).run(rows)[2::2]
    assert all(row["done"] for row in answers)
    assert [row["p"] for row in answers] == [multiply(a, b) for a, b in pairs]


def test_bad_parameter():
    with pytest.raises(ValueError, match="1 to 7"):
        gf128.Multiplier(8)
