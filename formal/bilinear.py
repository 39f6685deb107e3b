# SPDX-License-Identifier: Apache-2.0
"""What a netlist computes, as polynomials over GF(2) in the bits of two operands.

Every net holds, in every clock, one of

    a constant | c + a linear form in a + a linear form in b + sum q_ij a_i b_j | UNKNOWN

The rules are identities over GF(2), so a result that is not UNKNOWN is exact for all values of a
and b. UNKNOWN stands for a value that is not given (an operand outside its clock, a register
before it was written) and for what the form cannot say, such as the product of two forms in a.
"""

from dataclasses import dataclass

from .netlist import Gate, Netlist

WIDTH = 128


@dataclass(frozen=True)
class Form:
    """constant + linear forms + bilinear form. Bit WIDTH * i + j of `q` belongs to a_i b_j."""

    c: int = 0
    a: int = 0
    b: int = 0
    q: int = 0

    @property
    def constant(self) -> bool:
        """Whether it is 0 or 1."""
        return not (self.a or self.b or self.q)


ZERO, ONE = Form(), Form(c=1)
UNKNOWN = None
Value = Form | None


def add(x: Value, y: Value) -> Value:
    """x XOR y."""
    if x is UNKNOWN or y is UNKNOWN:
        return UNKNOWN
    return Form(x.c ^ y.c, x.a ^ y.a, x.b ^ y.b, x.q ^ y.q)


def multiply(x: Value, y: Value) -> Value:
    """x AND y; a product with 0 is 0 whatever the other is."""
    if x == ZERO or y == ZERO:
        return ZERO
    if x is UNKNOWN or y is UNKNOWN:
        return UNKNOWN
    if x.constant:
        return y
    if y.constant:
        return x
    if x.b and not y.b:
        x, y = y, x
    if x.c or x.b or x.q or y.c or y.a or y.q:
        return UNKNOWN
    q, rest = 0, x.a
    while rest:
        i = rest.bit_length() - 1
        q |= y.b << WIDTH * i
        rest ^= 1 << i
    return Form(q=q)


def evaluate(gate: Gate, value) -> Value:
    """The output of a gate. Raises `ValueError` on a type that it does not know."""
    kind = gate.type
    x = value(gate.pins["A"])
    if kind == "$_NOT_":
        return add(x, ONE)
    if kind == "$_BUF_":
        return x
    y = value(gate.pins["B"])
    if kind == "$_XOR_":
        return add(x, y)
    if kind == "$_XNOR_":
        return add(add(x, y), ONE)
    if kind == "$_AND_":
        return multiply(x, y)
    if kind == "$_OR_":
        return add(multiply(add(x, ONE), add(y, ONE)), ONE)
    if kind == "$_MUX_":
        s = value(gate.pins["S"])
        if s == ONE:
            return y
        return x if s == ZERO else add(x, multiply(s, add(x, y)))
    raise ValueError(f"a gate of type {kind}")


def simulate(netlist: Netlist, inputs: list[dict[str, list[Value]]], output: str) -> list[Value]:
    """The bits of a port in the last clock. inputs: a dict a clock; ports not in it are UNKNOWN.

    All registers are UNKNOWN in the first clock, so the result holds from any state; reset is low.
    """
    state: dict[int | str, Value] = {}
    nets: dict[int | str, Value] = {}
    reset: dict[int | str, Value] = dict.fromkeys(netlist.ports.get("rst", []), ZERO)
    for clock in inputs:
        nets = {"0": ZERO, "1": ONE, **reset, **state}
        for name, bits in clock.items():
            nets.update(zip(netlist.ports[name], bits, strict=True))
        for gate in netlist.gates:
            nets[gate.pins["Y"]] = evaluate(gate, nets.get)
        state = {gate.pins["Q"]: nets.get(gate.pins["D"]) for gate in netlist.registers}
    return [nets.get(net) for net in netlist.ports[output]]


def operands() -> tuple[list[Value], list[Value]]:
    """The bits of a and of b."""
    return [Form(a=1 << i) for i in range(WIDTH)], [Form(b=1 << i) for i in range(WIDTH)]


def table(bits: list[Value]) -> list[list[int]]:
    """The product of basis pairs, [i][j] for a = 1 << i and b = 1 << j.

    Raises `ValueError` unless every bit is a bilinear form, that is, has no other part: then the
    table is the whole function.
    """
    found = [[0] * WIDTH for _ in range(WIDTH)]
    for position, form in enumerate(bits):
        if form is UNKNOWN or form.c or form.a or form.b:
            raise ValueError(f"bit {position} is not bilinear in the operands of its clock")
        for i in range(WIDTH):
            row = form.q >> WIDTH * i
            for j in range(WIDTH):
                found[i][j] |= (row >> j & 1) << position
    return found


def columns(bits: list[Value]) -> list[int]:
    """The images of 1 << i under a function that is linear in a.

    Raises `ValueError` unless every bit is a linear form: then the list is the whole function.
    """
    found = [0] * WIDTH
    for position, form in enumerate(bits):
        if form is UNKNOWN or form.c or form.b or form.q:
            raise ValueError(f"bit {position} is not linear in the operand of its clock")
        for i in range(WIDTH):
            found[i] |= (form.a >> i & 1) << position
    return found
