# SPDX-License-Identifier: Apache-2.0
"""Components under Verilator as shared libraries, for unit tests that count in millions of clocks.

`build` turns a component into a library with a C++ bench; `Vectors` is the bench for components
that need no answer from outside: a row of inputs a clock in, a row of outputs a clock out.
"""

import ctypes

from amaranth.hdl import Value

from sealane.hdl.verilog import to_verilog
from sealane.sim.verilate import Bench, design_name, library


def build(component, *arguments, bench: str) -> ctypes.CDLL:
    """`component(*arguments)`, of a class, and the C++ text `bench` as a library."""
    path = library(
        component.__name__.lower(),
        lambda: to_verilog(component(*arguments), "top"),
        Bench(top="top", text=bench),
        design_name(component, arguments),
    )
    return ctypes.CDLL(str(path))


def words(width: int) -> int:
    """32-bit words that hold a port of that width."""
    return -(-width // 32)


_ACCESS = """
template <class P> static void put(P &p, const uint32_t *w) {
    if constexpr (sizeof(P) > 8) for (size_t i = 0; i < sizeof(P) / 4; i++) p[i] = w[i];
    else if constexpr (sizeof(P) == 8) p = w[0] | (uint64_t)w[1] << 32;
    else p = w[0];
}
template <class P> static void get(const P &p, uint32_t *w) {
    if constexpr (sizeof(P) > 8) for (size_t i = 0; i < sizeof(P) / 4; i++) w[i] = p[i];
    else if constexpr (sizeof(P) == 8) { w[0] = (uint32_t)p; w[1] = (uint32_t)(p >> 32); }
    else w[0] = p;
}
"""


class Vectors:
    """A component of plain ports, `kind(*arguments)` of a class, run on a list of input rows.

    Outputs of row t are what the ports show after the inputs of row t settled, before the clock.
    """

    def __init__(self, kind, *arguments):
        component = kind(*arguments)
        ports = [(path, member) for path, member, _ in component.signature.flatten(component)]
        self.inputs, self.outputs = [], []
        for path, member in ports:
            name = "_".join(map(str, path))
            width = len(Value.cast(_reach(component, path)))
            (self.inputs if member.flow.name == "In" else self.outputs).append((name, width))
        puts, at = [], 0
        for name, width in self.inputs:
            puts.append(f"put(top->{name}, in + {at});")
            at += words(width)
        gets, to = [], 0
        for name, width in self.outputs:
            gets.append(f"get(top->{name}, out + {to});")
            to += words(width)
        self.row_in, self.row_out = at, to
        bench = f"""
#include "Vtop.h"
#include <cstdint>
#include <cstddef>
double sc_time_stamp() {{ return 0; }}
{_ACCESS}
extern "C" void run(const uint32_t *in, uint32_t *out, uint64_t rows) {{
    VerilatedContext context;
    Vtop *top = new Vtop(&context);
    top->rst = 0; top->clk = 0;
    for (; rows--; in += {at}, out += {to}) {{
        {" ".join(puts)}
        top->clk = 0; top->eval();
        {" ".join(gets)}
        top->clk = 1; top->eval();
    }}
    delete top;
}}
"""
        self.library = build(kind, *arguments, bench=bench)

    def run(self, rows: list[dict[str, int]]) -> list[dict[str, int]]:
        """Inputs by name a clock, 0 if not given; outputs by name a clock."""
        packed = bytearray()
        for row in rows:
            for name, width in self.inputs:
                packed += row.get(name, 0).to_bytes(4 * words(width), "little")
        result = ctypes.create_string_buffer(4 * self.row_out * len(rows))
        self.library.run(bytes(packed), result, ctypes.c_uint64(len(rows)))
        raw, at, answers = result.raw, 0, []
        for _ in rows:
            answer = {}
            for name, width in self.outputs:
                size = 4 * words(width)
                answer[name] = int.from_bytes(raw[at : at + size], "little") & ((1 << width) - 1)
                at += size
            answers.append(answer)
        return answers


def _reach(component, path):
    for step in path:
        component = component[step] if isinstance(step, int) else getattr(component, step)
    return component
