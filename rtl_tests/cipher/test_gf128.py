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

LANES = range(1, 8)


class Products(wiring.Component):
    """Every way to a product side by side, as one simulator: the functions with a register behind
    them, the pipelined multipliers of each depth, the one by digits."""

    def __init__(self):
        outputs = ("product", "squared", "side", *(f"p{lanes}" for lanes in LANES))
        super().__init__(
            {"a": In(128), "b": In(128), "start": In(1), "done": Out(1)}
            | {name: Out(128) for name in outputs}
        )

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.product.eq(gf128.multiply(m, self.a, self.b))
        m.d.sync += self.squared.eq(gf128.square(m, self.a))
        for lanes in LANES:
            m.submodules[f"multiplier{lanes}"] = multiplier = gf128.Multiplier(lanes)
            m.d.comb += [
                multiplier.a.eq(self.a),
                multiplier.b.eq(self.b),
                getattr(self, f"p{lanes}").eq(multiplier.p),
            ]
        m.submodules.side = side = gf128.SideMultiplier()
        m.d.comb += [
            side.a.eq(self.a),
            side.b.eq(self.b),
            side.start.eq(self.start),
            self.side.eq(side.p),
            self.done.eq(side.done),
        ]
        return m


@pytest.fixture(scope="module")
def products():
    return Vectors(Products)


def operands(count):
    rng = random.Random(count)
    edges = [0, 1, 1 << 127, (1 << 128) - 1, 1 << 64, 0xE1 << 120]
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [(1 << rng.randrange(128), 1 << rng.randrange(128)) for _ in range(count)]
    return pairs + [(rng.getrandbits(128), rng.getrandbits(128)) for _ in range(count)]


def test_combinational(products):
    pairs = operands(300)
    rows = products.run([{"a": a, "b": b} for a, b in pairs] + [{}])
    for (a, b), row in zip(pairs, rows[1:], strict=True):
        assert row["product"] == multiply(a, b)
        assert row["squared"] == multiply(a, a)


@pytest.mark.parametrize("lanes", LANES)
def test_pipelined(products, lanes):
    pairs = operands(100)
    rows = products.run([{"a": a, "b": b} for a, b in pairs] + [{}] * lanes)
    assert [row[f"p{lanes}"] for row in rows[lanes:]] == [multiply(a, b) for a, b in pairs]


def test_side(products):
    pairs = operands(100)
    rows = [{"start": first, "a": a, "b": b} for a, b in pairs for first in (1, 0)] + [{}]
    answers = products.run(rows)[2::2]
    assert all(row["done"] for row in answers)
    assert [row["side"] for row in answers] == [multiply(a, b) for a, b in pairs]


def test_bad_parameter():
    with pytest.raises(ValueError, match="1 to 7"):
        gf128.Multiplier(8)
