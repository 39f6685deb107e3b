# SPDX-License-Identifier: Apache-2.0
"""The multipliers of the gateware compute the product of SP 800-38D, for all operands."""

import pytest

from sealane.hdl.cipher import gf128
from sealane.hdl.cipher.gf128 import Multiplier, SideMultiplier
from tests.support.gf128 import multiply

from .algebra import WIDTH, Netlist, pairs, variables


def definition():
    """The product's 128 bits as polynomials, from algorithm 1 on all 128 x 128 basis pairs."""
    terms = [[] for _ in range(WIDTH)]
    for i in range(WIDTH):
        for j in range(WIDTH):
            product = multiply(1 << i, 1 << j)
            for bit in range(WIDTH):
                if product >> bit & 1:
                    terms[bit].append((i, j))
    return [pairs(one) for one in terms]


@pytest.fixture(scope="module")
def product():
    return definition()


def pipelined(netlist, lanes):
    """What stands at `p` so many clocks behind the operands, all other clocks unknown."""
    netlist.clock(a=variables("a"), b=variables("b"))
    for _ in range(lanes - 1):
        netlist.clock()
    return netlist.clock()["p"]


def by_digits(netlist):
    """The side multiplier's `p` at t+2 and five clocks later, while nothing new is started."""
    operands = {"a": variables("a"), "b": variables("b")}
    netlist.clock(start=[0])
    netlist.clock(start=[1], **operands)
    netlist.clock(start=[0], **operands)
    seen = [netlist.clock(start=[0]) for _ in range(6)]
    assert [one["done"] for one in seen] == [[1]] + [[0]] * 5
    assert all(one["p"] == seen[0]["p"] for one in seen)
    return seen[0]["p"]


@pytest.mark.parametrize("lanes", (1, 4, 7))
def test_multiplier_is_the_product(product, lanes):
    assert pipelined(Netlist(Multiplier(lanes)), lanes) == product


def test_side_multiplier_is_the_product(product):
    assert by_digits(Netlist(SideMultiplier())) == product


def test_side_multiplier_back_to_back(product):
    netlist = Netlist(SideMultiplier())
    netlist.clock(start=[0])
    netlist.clock(start=[1])
    netlist.clock(start=[0])
    operands = {"a": variables("a"), "b": variables("b")}
    netlist.clock(start=[1], **operands)
    netlist.clock(start=[0], **operands)
    assert netlist.clock()["p"] == product


def test_another_reduction_is_told_apart(product, monkeypatch):
    """The check can fail: one coefficient of the reduction is another."""
    reduce = gf128.reduce
    monkeypatch.setattr(gf128, "reduce", lambda m, wide: reduce(m, wide) ^ (wide[3] << 77))
    assert pipelined(Netlist(Multiplier(4)), 4) != product


def test_another_latency_is_told_apart(product):
    """The check can fail: after three clocks the product of four is not there."""
    assert pipelined(Netlist(Multiplier(4)), 3) != product
