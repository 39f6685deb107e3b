# SPDX-License-Identifier: Apache-2.0
"""A component as one file of Verilog."""

import tempfile
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Shape, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

# Amaranth writes RTLIL (the netlist text of Yosys); `proc` turns its processes into what
# `write_verilog` can say without races.
RECIPE = ("proc", "memory_collect", "write_verilog -norename -noattr {out}")


def ports(component: wiring.Component) -> dict[str, tuple[Value, str]]:
    """The component's ports by their Verilog names, as (Amaranth value, "input" or "output").

    Names are the members' paths joined with one underscore: `s_axis.tdata` is `s_axis_tdata`.
    """
    found = {}
    for path, member, value in component.signature.flatten(component):
        direction = "input" if member.flow == wiring.In else "output"
        found["_".join(str(part) for part in path)] = (Value.cast(value), direction)
    return found


def port_widths(component: wiring.Component) -> dict[str, dict[str, object]]:
    """{name: {"direction": "input" or "output", "width": bits}}, clock and reset included."""
    table = {name: {"direction": "input", "width": 1} for name in ("clk", "rst")}
    for name, (value, direction) in ports(component).items():
        table[name] = {"direction": direction, "width": Shape.cast(value.shape()).width}
    return table


def to_rtlil(component: wiring.Component, name: str) -> str:
    """RTLIL text of the component, as module `name` with the ports of `ports`."""
    named = {port: (value, PortDirection(way)) for port, (value, way) in ports(component).items()}
    text: str = rtlil.convert(component, name=name, ports=named, emit_src=False)
    return text


def from_rtlil(text: str) -> str:
    """Verilog of an RTLIL text. Raises `RuntimeError` if Yosys does not take it."""
    import pyosys.libyosys as yosys  # a tenth of a second, and most users want no Verilog

    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "design.il"), Path(folder, "design.v")
        source.write_text(text)
        design = yosys.Design()
        for command in (f"read_rtlil {source}", *RECIPE):
            # `tee -q` keeps Yosys's log off standard output.
            design.run_pass(f"tee -q {command.format(out=out)}")
        if not out.exists():
            raise RuntimeError("Yosys wrote no Verilog")
        return out.read_text()


def to_verilog(component: wiring.Component, name: str) -> str:
    """Verilog text of the component as module `name`; see `ports` for its port names."""
    return from_rtlil(to_rtlil(component, name))
