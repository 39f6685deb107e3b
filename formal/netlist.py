# SPDX-License-Identifier: Apache-2.0
"""A component as a netlist of gates, as Yosys sees it, in evaluation order."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sealane.hdl.verilog import to_rtlil

# Everything becomes one-bit gates and plain flip-flops; nothing is optimised away.
RECIPE = ("proc", "flatten", "simplemap", "dffunmap", "simplemap", "write_json {out}")

REGISTERS = ("$_DFF_P_",)


@dataclass(frozen=True)
class Gate:
    """One gate: Yosys's type and its pins; a pin is a net's number, or "0" or "1"."""

    type: str
    pins: dict[str, int | str]


class Netlist:
    """Gates of a component. ports: net numbers of each port, bit 0 first.

    registers: flip-flops of the one clock. gates: all others, each behind those whose outputs it
    reads.
    Raises `ValueError` on a loop without a register, `RuntimeError` if Yosys does not take it.
    """

    def __init__(self, component):
        module = _read(to_rtlil(component, "top"))
        self.ports = {name: port["bits"] for name, port in module["ports"].items()}
        self.registers: list[Gate] = []
        waiting: list[Gate] = []
        for cell in module["cells"].values():
            if cell["type"] == "$scopeinfo":
                continue
            pins = {name: bits[0] for name, bits in cell["connections"].items() if bits}
            gate = Gate(cell["type"], pins)
            (self.registers if gate.type in REGISTERS else waiting).append(gate)
        self.gates = _ordered(waiting, self._sources())

    def _sources(self) -> set[int | str]:
        known: set[int | str] = {"0", "1", "x"}
        known.update(gate.pins["Q"] for gate in self.registers)
        for bits in self.ports.values():
            known.update(bits)
        return known


def _read(text: str):
    import pyosys.libyosys as yosys  # a tenth of a second, and only proofs want it

    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "design.il"), Path(folder, "design.json")
        source.write_text(text)
        design = yosys.Design()
        for command in (f"read_rtlil {source}", *RECIPE):
            design.run_pass(f"tee -q {command.format(out=out)}")
        if not out.exists():
            raise RuntimeError("Yosys wrote no netlist")
        return json.loads(out.read_text())["modules"]["top"]


def _ordered(gates: list[Gate], known: set[int | str]) -> list[Gate]:
    """Gates behind what they read."""
    outputs = {gate.pins["Y"] for gate in gates}
    known = known - outputs
    readers: dict[int | str, list[int]] = {}
    missing = []
    ready = []
    for number, gate in enumerate(gates):
        wanted = {net for pin, net in gate.pins.items() if pin != "Y" and net not in known}
        missing.append(len(wanted))
        for net in wanted:
            readers.setdefault(net, []).append(number)
        if not wanted:
            ready.append(number)
    order = []
    while ready:
        number = ready.pop()
        order.append(gates[number])
        for reader in readers.get(gates[number].pins["Y"], ()):
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if len(order) != len(gates):
        raise ValueError("a loop without a register, or a net that nothing drives")
    return order
