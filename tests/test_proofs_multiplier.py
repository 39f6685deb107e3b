# SPDX-License-Identifier: Apache-2.0
"""Proof that the multipliers compute SP 800-38D's product (docs/proofs.md)."""

import pytest
from sealane.hdl import gf128

from formal import bilinear, multiplier


@pytest.fixture(scope="module")
def definition():
    return multiplier.definition()


@pytest.mark.parametrize("lanes", range(1, 8))
def test_pipelined_multiplier_is_the_definition(lanes, definition):
    assert bilinear.table(multiplier.pipelined(lanes)) == definition


@pytest.mark.parametrize("clocks", [2, 3, 6])
def test_side_multiplier_is_the_definition(clocks, definition):
    assert bilinear.table(multiplier.side(clocks)) == definition


def test_square_is_the_definition(definition):
    assert bilinear.columns(multiplier.squared()) == [definition[i][i] for i in range(128)]


def test_definition_is_linear_in_both(definition):
    """So the table decides: sums of basis products are products of sums."""
    x, y = 0x0123456789ABCDEF << 61, 0xF0E1D2C3B4A59687 << 3
    total = 0
    for i in range(128):
        for j in range(128):
            total ^= definition[i][j] * (x >> i & 1) * (y >> j & 1)
    assert total == multiplier.product(x, y)


def test_a_wrong_polynomial_is_found(monkeypatch, definition):
    right = gf128.reduce
    monkeypatch.setattr(gf128, "reduce", lambda m, product: right(m, product) ^ (product[254] << 3))
    assert bilinear.table(multiplier.pipelined(1)) != definition


def test_a_wrong_latency_is_found(monkeypatch):
    monkeypatch.setitem(gf128._CUTS, 3, {"leaf", "out"})
    with pytest.raises(ValueError, match="not bilinear"):
        bilinear.table(multiplier.pipelined(3))


def test_a_product_of_sums_is_not_bilinear():
    a, b = bilinear.Form(a=1), bilinear.Form(b=1)
    assert bilinear.multiply(a, a) is bilinear.UNKNOWN
    assert bilinear.multiply(bilinear.add(a, b), b) is bilinear.UNKNOWN
    assert bilinear.multiply(bilinear.ZERO, bilinear.UNKNOWN) == bilinear.ZERO
