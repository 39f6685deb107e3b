# SPDX-License-Identifier: Apache-2.0
"""Arithmetic in GF(2^128) as GHASH uses it (NIST SP 800-38D section 6.3).

Field order, used by everything in this file, in the power memory and in X rows: a block's bytes
reversed, so that the integer's bit 127 - i is the coefficient of x^i.

    block   byte 0          byte 1      ...  byte 15
            x^0 .. x^7      x^8 ..           .. x^127      (x^0 is bit 7 of byte 0)
    bits    127 .. 120      119 ..           .. 0

A carry-less integer product of two such numbers is the product polynomial in the same order, so
no bit has to be reversed anywhere; reduction shifts right. Products are written on wide vectors,
not bit by bit: synthesis sees the same XOR trees and a simulator a tenth of the operations.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LEAF_BITS = 32  # operand width below which Karatsuba's method saves nothing


def field_order(block: Value) -> Value:
    """A block (byte 0 in bits 7:0) in field order, or back; wires only."""
    return Cat(block.word_select(15 - i, 8) for i in range(16))


def xor_tree(values: list[Value]) -> Value:
    """Balanced XOR of at least one value."""
    while len(values) > 1:
        pairs = [a ^ b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(values) & ~1 :]
    return values[0]


def named(m: Module, value: Value, name: str, register: bool = False) -> Signal:
    """The value as a signal, one clock later if `register`."""
    signal = Signal(len(value), name=name, reset_less=True)
    (m.d.sync if register else m.d.comb).__iadd__(signal.eq(value))
    return signal


def clmul(
    m: Module, a: Value, b: Value, cuts: frozenset[str] = frozenset(), *, top: bool = True
) -> Value:
    """Carry-less product of two equally wide integers, 2n - 1 bits, by Karatsuba's method.

    cuts: names of places at which a register is put: "pre" (sums of operand halves), "partial"
    (8 partial products), "leaf" (products of 32 bits), "join64" (of 64 bits), "join128".
    """
    n = len(a)
    if n <= LEAF_BITS:
        a = named(m, a, "clmul_a", "pre" in cuts)
        b = named(m, b, "clmul_b", "pre" in cuts)
        terms = [Mux(b[i], (a << i)[: 2 * n - 1], 0) for i in range(n)]
        groups = [
            named(m, xor_tree(terms[i : i + 8]), "clmul_part", "partial" in cuts)
            for i in range(0, n, 8)
        ]
        return named(m, xor_tree(groups), "clmul_leaf", "leaf" in cuts)
    h = n // 2
    low = clmul(m, a[:h], b[:h], cuts, top=False)
    high = clmul(m, a[h:], b[h:], cuts, top=False)
    middle = clmul(m, a[:h] ^ a[h:], b[:h] ^ b[h:], cuts, top=False)
    joined = (Cat(low, C(0, 1), high)) ^ ((low ^ high ^ middle) << h)
    return named(m, joined[: 2 * n - 1], "clmul_join", f"join{n}" in cuts)


def reduce(m: Module, product: Value) -> Value:
    """A carry-less product of 255 bits modulo 1 + x + x^2 + x^7 + x^128."""
    low = Signal(128, name="reduce_low")
    folded = Signal(128, name="reduce_folded")
    m.d.comb += low.eq(product[:127] << 1)
    # What the second line shifts out at the right is reduced by the first.
    m.d.comb += folded.eq(low ^ (low[0] << 127) ^ (low[:2] << 126) ^ (low[:7] << 121))
    return product[127:255] ^ folded ^ (folded >> 1) ^ (folded >> 2) ^ (folded >> 7)


def multiply(m: Module, a: Value, b: Value) -> Value:
    """The product of two elements in field order, combinational."""
    return named(m, reduce(m, clmul(m, a, b)), "gf_product")


def square(m: Module, a: Value) -> Value:
    """The square: zeros between the coefficients, then the reduction. Linear: wires and XORs."""
    parts = []
    for i in range(4):
        spread = named(m, Cat(a.word_select(i, 32), C(0, 32)), "spread")
        for shift in (16, 8, 4, 2, 1):
            keep = sum(((1 << shift) - 1) << 2 * shift * j for j in range(32 // shift))
            spread = named(m, (spread | (spread << shift)[:64]) & keep, "spread")
        parts.append(spread)
    return named(m, reduce(m, Cat(*parts)[:255]), "gf_square")


# Where the registers of a multiplier of that many clocks lie; "out" is behind the reduction.
_CUTS = {
    1: {"out"},
    2: {"leaf", "out"},
    3: {"pre", "leaf", "out"},
    4: {"pre", "leaf", "join128", "out"},
    5: {"pre", "partial", "leaf", "join128", "out"},
    6: {"pre", "partial", "leaf", "join64", "join128", "out"},
    7: {"in", "pre", "partial", "leaf", "join64", "join128", "out"},
}


class Multiplier(wiring.Component):
    """Pipelined product: `p` is `a * b` of `lanes` clocks ago; one product a clock, no handshake.

    lanes: 1 to 7, otherwise `ValueError`.
    """

    a: In(128)
    b: In(128)
    p: Out(128)

    def __init__(self, lanes: int) -> None:
        if lanes not in _CUTS:
            raise ValueError("lanes: 1 to 7")
        self.lanes = lanes
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cuts = frozenset(_CUTS[self.lanes])
        a, b = (named(m, value, "operand", "in" in cuts) for value in (self.a, self.b))
        m.d.sync += self.p.eq(reduce(m, clmul(m, a, b, cuts)))
        return m


class SideMultiplier(wiring.Component):
    """Digit-serial product, two 64-bit digits of `b`, for what is needed once a span.

    `start` in clock t with `a` and `b`, which stay until t+1; `p` holds the product from t+2 until
    the next one. `start` may come again at t+2.
    """

    start: In(1)
    a: In(128)
    b: In(128)
    done: Out(1)  # at t+2
    p: Out(128)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        second = Signal()
        m.d.sync += second.eq(self.start)
        m.d.sync += self.done.eq(second)

        digit = Signal(64)
        m.d.comb += digit.eq(Mux(second, self.b[:64], self.b[64:]))
        low = clmul(m, self.a[:64], digit)
        high = clmul(m, self.a[64:], digit)
        product = Signal(191)
        m.d.comb += product.eq(low ^ (high << 64))
        first = Signal(191, reset_less=True)
        with m.If(self.start):
            m.d.sync += first.eq(product)
        with m.If(second):
            m.d.sync += self.p.eq(reduce(m, named(m, (product ^ (first << 64))[:255], "sum")))
        return m
