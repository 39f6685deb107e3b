# SPDX-License-Identifier: Apache-2.0
"""What a netlist computes, as polynomials over GF(2), for all inputs at once.

Yosys makes gates and registers of a component; this file runs them clock by clock on polynomials
in 256 variables, a_0 .. a_127 and b_0 .. b_127, in which no product has two factors of one side.
Such a polynomial is a set of monomials and is written as an integer, one bit a monomial:

    bit 0: 1    bit 1 + i: a_i    bit 129 + j: b_j    bit 257 + 128 * i + j: a_i * b_j

Polynomials of this form are equal exactly if the functions are (the algebraic normal form is
unique), so what comes out is exact and no search is needed. What is not of this form raises
`ValueError`. A bit that is not known is `None`; it stays so unless it is multiplied by 0.
"""

import json
import tempfile
from pathlib import Path

from sealane.hdl.verilog import to_rtlil

WIDTH = 128
_A = ((1 << WIDTH) - 1) << 1
_B = _A << WIDTH
_PAIRS = 1 + 2 * WIDTH
GATES = "flatten; proc; opt; simplemap; dffunmap; simplemap; opt_clean; write_json {out}"


def variables(side):
    """The 128 variables of "a" or "b", bit 0 first."""
    first = 1 + WIDTH * "ab".index(side)
    return [1 << first + i for i in range(WIDTH)]


def pairs(terms):
    """The polynomial that is the sum of a_i * b_j over the pairs (i, j) in `terms`."""
    value = 0
    for i, j in terms:
        value ^= 1 << _PAIRS + WIDTH * i + j
    return value


def bits_of(value):
    """Positions of the set bits."""
    while value:
        low = value & -value
        yield low.bit_length() - 1
        value ^= low


def both(x, y):
    """Product of two polynomials, or of unknowns."""
    if x == 0 or y == 0:
        return 0
    if x is None or y is None:
        return None
    if y == 1:
        return x
    if x == 1:
        return y
    if x & _B:
        x, y = y, x
    if x & ~_A or y & ~_B:
        raise ValueError("a product that is not one of the two sides")
    y >>= 1 + WIDTH
    product = 0
    for i in bits_of(x >> 1):
        product ^= y << _PAIRS + WIDTH * i
    return product


def added(x, y):
    """Sum of two polynomials, or of unknowns."""
    return None if x is None or y is None else x ^ y


def chosen(when_low, when_high, select):
    """What a multiplexer gives."""
    if select in (0, 1):
        return when_high if select else when_low
    if when_low is not None and when_low == when_high:
        return when_low
    return added(when_low, both(select, added(when_low, when_high)))


_GATES = {
    "$_BUF_": lambda g: g["A"],
    "$_NOT_": lambda g: added(g["A"], 1),
    "$_AND_": lambda g: both(g["A"], g["B"]),
    "$_XOR_": lambda g: added(g["A"], g["B"]),
    "$_XNOR_": lambda g: added(added(g["A"], g["B"]), 1),
    "$_OR_": lambda g: added(added(g["A"], g["B"]), both(g["A"], g["B"])),
    "$_MUX_": lambda g: chosen(g["A"], g["B"], g["S"]),
}


class Netlist:
    """A component as gates; all registers unknown at first."""

    def __init__(self, component):
        import pyosys.libyosys as yosys  # loads for a tenth of a second

        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder, "design.il"), Path(folder, "gates.json")
            source.write_text(to_rtlil(component, "design"))
            design = yosys.Design()
            for command in ("read_rtlil {source}; hierarchy -top design; " + GATES).split(";"):
                design.run_pass("tee -q " + command.strip().format(source=source, out=out))
            module = json.loads(out.read_text())["modules"]["design"]
        self._ports = module["ports"]
        cells = list(module["cells"].values())
        self._registers = [c["connections"] for c in cells if c["type"] == "$_DFF_P_"]
        self._gates = self._in_order([c for c in cells if c["type"] != "$_DFF_P_"])
        self._state = {register["Q"][0]: None for register in self._registers}

    def _in_order(self, cells):
        """Gates so that each stands behind those that it reads."""
        maker = {cell["connections"]["Y"][0]: cell for cell in cells}
        order, done = [], set()
        for cell in cells:
            stack = [cell]
            while stack:
                top = stack[-1]
                if id(top) in done:
                    stack.pop()
                    continue
                inputs = [bit[0] for pin, bit in top["connections"].items() if pin != "Y"]
                wait = [maker[b] for b in inputs if b in maker and id(maker[b]) not in done]
                stack += wait
                if not wait:
                    stack.pop()
                    done.add(id(top))
                    order.append(top)
        return order

    def clock(self, **inputs):
        """One clock without reset. {output: list of polynomials}.

        Inputs are lists of polynomials; those that are not named are unknown.
        """
        inputs["rst"] = [0]
        nets = {"0": 0, "1": 1, "x": None, **self._state}
        for name, port in self._ports.items():
            if port["direction"] == "input":
                values = inputs.get(name, [None] * len(port["bits"]))
                nets.update(zip(port["bits"], values, strict=True))
        for cell in self._gates:
            pins = cell["connections"]
            gate = {pin: nets[bit[0]] for pin, bit in pins.items() if pin != "Y"}
            nets[pins["Y"][0]] = _GATES[cell["type"]](gate)
        self._state = {r["Q"][0]: nets[r["D"][0]] for r in self._registers}
        return {
            name: [nets[bit] for bit in port["bits"]]
            for name, port in self._ports.items()
            if port["direction"] == "output"
        }
