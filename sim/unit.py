# SPDX-License-Identifier: Apache-2.0
"""One Amaranth component under Verilator, driven port by port from Python.

    unit = build(FlowTable, config, name="flow_table")   # seconds, then from the cache
    unit.set("descs__valid", 1)              # ports by the names that Amaranth's Verilog gives
    unit.set("descs__payload", value)        # a stream's payload is one port, packed
    unit.tick()                              # one clock edge
    assert unit.get("descs__ready")          # settles combinational paths first

`set` and `get` take plain integers of any width; `unit.fields` packs and unpacks ports that have a
`StructLayout` shape (nested dicts of integers). About 200,000 clocks a second with a few ports
touched in each. Every `build` gives a new simulation in its power-up state; `reset` pulses `rst`.

Kept and built as `verilate` says.
"""

import ctypes
import functools
from collections.abc import Hashable
from pathlib import Path
from typing import Any, SupportsInt

from amaranth.back import rtlil
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data
from amaranth.lib.wiring import Component

from sealane.hdl.verilog import from_rtlil

from .verilate import Bench, design_name, library

TOP = "unit"


def build(component: type[Component], *arguments: Hashable, name: str) -> "Unit":
    """A running simulation of `component(*arguments)`, an Amaranth `Component` in domain `sync`.

    component: its class. arguments: hashable. name: of the library. Raises `BuildError`.
    """
    # To mypy a class of untyped Amaranth is not hashable.
    return Unit(*_built(component, arguments, name))  # type: ignore[arg-type]


@functools.cache
def _built(
    component: type[Component], arguments: tuple[Hashable, ...], name: str
) -> tuple[Path, dict[str, int], dict[str, Any]]:
    """What a `Unit` is made of."""
    made = component(*arguments)
    shapes = {
        "__".join(str(part) for part in path): member.shape
        for path, member, _ in made.signature.flatten(made)
    }
    widths = {"clk": 1, "rst": 1}
    widths |= {port: Shape.cast(shape).width for port, shape in shapes.items()}
    # Verilator writes a double underscore of the source as ___05F.
    cases = "\n".join(
        f"    case {index}: PORT({port.replace('__', '___05F')})"
        for index, (port, width) in enumerate(widths.items())
        if width
    )
    path = library(
        name,
        lambda: from_rtlil(rtlil.convert(made, name=TOP, emit_src=False)),
        Bench(top=TOP, text=BENCH.replace("@CASES@", cases)),
        design_name(component, arguments),
    )
    return path, widths, shapes


class Unit:
    """A simulated component; see the module's docstring. Ports are named as in the Verilog.

    Raises `KeyError` on an unknown port and `OverflowError` on a value too wide for its port.
    """

    def __init__(self, library: Path, widths: dict[str, int], shapes: dict[str, Any]) -> None:
        self.widths = widths
        self.shapes = shapes
        self.ticks = 0  # clock edges so far
        self._library = ctypes.CDLL(str(library))
        self._library.unit_new.restype = ctypes.c_void_p
        self._library.unit_port.restype = ctypes.c_void_p
        self._library.unit_port.argtypes = [ctypes.c_void_p, ctypes.c_int]
        for call in ("unit_delete", "unit_eval", "unit_tick"):
            getattr(self._library, call).argtypes = [ctypes.c_void_p]
            getattr(self._library, call).restype = None
        self._model = ctypes.c_void_p(self._library.unit_new())
        # Verilator's ports: 1, 2, 4 or 8 bytes, wider ones arrays of 32-bit words.
        self._memory: dict[str, tuple[ctypes.Array[ctypes.c_char], int]] = {}
        for index, (port, width) in enumerate(widths.items()):
            size = 1
            while size * 8 < min(width, 64):
                size *= 2
            if width > 64:
                size = (width + 31) // 32 * 4
            address = self._library.unit_port(self._model, index)
            if address is None:
                continue
            self._memory[port] = (ctypes.c_char * size).from_address(address), size
        self._dirty = True
        self._eval, self._tick = self._library.unit_eval, self._library.unit_tick

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.unit_delete(self._model)

    def set(self, port: str, value: SupportsInt) -> None:
        """Drives an input port from now on."""
        value = int(value)
        if value >> self.widths[port]:
            raise OverflowError(f"{port} = {value:#x} needs more than {self.widths[port]} bits")
        memory, size = self._memory[port]
        memory.raw = value.to_bytes(size, "little")
        self._dirty = True

    def get(self, port: str) -> int:
        """The port's value now, combinational paths settled."""
        if self._dirty:
            self._eval(self._model)
            self._dirty = False
        return int.from_bytes(self._memory[port][0].raw, "little")

    def set_fields(self, port: str, **values: object) -> None:
        """Drives a port with a `StructLayout` shape; fields not named are 0."""
        self.set(port, self.shapes[port].const(values).as_value().value)

    def fields(self, port: str) -> Any:
        """A port with a `StructLayout` shape as nested dicts of integers."""
        return unpack(self.shapes[port], self.get(port))

    def tick(self, count: int = 1) -> None:
        """`count` clock edges."""
        for _ in range(count):
            self._tick(self._model)
        self.ticks += count
        self._dirty = False

    def reset(self) -> None:
        """One clock of synchronous reset."""
        self.set("rst", 1)
        self.tick()
        self.set("rst", 0)


def unpack(shape: ShapeLike, value: int) -> Any:
    """Nested dicts of integers out of a packed value of a `StructLayout`."""
    if not isinstance(shape, data.StructLayout):
        return value
    return {
        name: unpack(field.shape, value >> field.offset & (1 << Shape.cast(field.shape).width) - 1)
        for name, field in shape
    }


# A component without registers has neither `clk` nor `rst`.
BENCH = """
#include "Vunit.h"
#define PORT(name) if constexpr (requires { u->name; }) return &u->name; else return nullptr;
template <class U> static void tick(U* u) {
    u->eval();
    if constexpr (requires { u->clk; }) { u->clk = 1; u->eval(); u->clk = 0; u->eval(); }
}
template <class U> static void* port(U* u, int index) {
    switch (index) {
@CASES@
    }
    return nullptr;
}
extern "C" void* unit_new() { return new Vunit; }
extern "C" void unit_delete(Vunit* u) { delete u; }
extern "C" void unit_eval(Vunit* u) { u->eval(); }
extern "C" void unit_tick(Vunit* u) { tick(u); }
extern "C" void* unit_port(Vunit* u, int index) { return port(u, index); }
"""
