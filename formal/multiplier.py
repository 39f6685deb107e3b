# SPDX-License-Identifier: Apache-2.0
"""The multipliers against the definition of SP 800-38D section 6.3, on all pairs of a basis.

The definition below is the document's Algorithm 1, bit by bit, on blocks as bit strings; it shares
nothing with `hdl/gf128.py`.
"""

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out
from sealane.hdl.gf128 import Multiplier, SideMultiplier, square

from .bilinear import ONE, ZERO, Value, operands, simulate
from .netlist import Netlist

R = 0xE1 << 120  # 11100001 || 0^120, bit 0 of the string leftmost


def product(x: int, y: int) -> int:
    """X . Y of SP 800-38D section 6.3; bit i of the string is bit 127 - i of the integer."""
    z, v = 0, y
    for i in range(128):
        if x >> (127 - i) & 1:
            z ^= v
        v = v >> 1 ^ R if v & 1 else v >> 1
    return z


def definition() -> list[list[int]]:
    """All products of two blocks with one bit set, [i][j] for 1 << i and 1 << j."""
    return [[product(1 << i, 1 << j) for j in range(128)] for i in range(128)]


def pipelined(lanes: int) -> list[Value]:
    """`Multiplier.p` a product's latency behind `a` and `b`; what else goes in is unknown."""
    a, b = operands()
    inputs: list[dict[str, list[Value]]] = [{"a": a, "b": b}, *({} for _ in range(lanes))]
    return simulate(Netlist(Multiplier(lanes)), inputs, "p")


def side(clocks: int = 2) -> list[Value]:
    """`SideMultiplier.p` two clocks behind `start`, or later if nothing was started since.

    As its contract wants, nothing was started in the clock before.
    """
    a, b = operands()
    inputs: list[dict[str, list[Value]]] = [
        {"start": [ZERO]},
        {"start": [ONE], "a": a, "b": b},
        {"start": [ZERO], "a": a, "b": b},
        *({"start": [ZERO]} for _ in range(clocks - 1)),
    ]
    return simulate(Netlist(SideMultiplier()), inputs, "p")


class Square(Component):
    """`gf128.square` between ports."""

    a: In(128)
    p: Out(128)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.p.eq(square(m, self.a))
        return m


def squared() -> list[Value]:
    """`square` of a."""
    return simulate(Netlist(Square()), [{"a": operands()[0]}], "p")
