# SPDX-License-Identifier: Apache-2.0
"""Whether two Verilog files describe the same netlist, names and hierarchy aside.

    python -m sealane.scripts.same_netlist before.v after.v

For changes that move or rename gateware and must not change the hardware. Yosys flattens both
files. Every cell then gets a colour from its type, its parameters, its initial value and the
colours of the cells that drive it, and colours are refined until their number stops growing
(Weisfeiler and Leman's algorithm). The netlists count as the same if as many cells have each
colour and every output port has the same one. Equal logic in another form, such as another order
of operands, counts as different.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSES = ("hierarchy -auto-top", "proc", "flatten", "opt_expr", "opt_clean -purge")
# Names, and an order of a memory's ports that Yosys derives from names.
NAMES = {
    "MEMID",
    "NAME",
    "PORTID",
    "PRIORITY",
    "PRIORITY_MASK",
    "TRANSPARENCY_MASK",
    "COLLISION_X_MASK",
}
UNDRIVEN = b"undriven"


class NetlistError(Exception):
    """A file that Yosys does not read; the message is one line."""


@dataclass(frozen=True)
class Cell:
    """A cell of the flat netlist. Bits are Yosys' numbers, constants are strings."""

    base: bytes  # colour of the cell alone
    memory: str | None
    reads_memory: bool
    inputs: list[tuple[str, list[Any]]]
    outputs: list[tuple[str, list[Any]]]


@dataclass(frozen=True)
class Netlist:
    """A flat netlist, ready to be coloured."""

    cells: list[Cell]
    memories: dict[str, tuple[int, int]]  # words and bits of a word
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]


def _hash(value: object) -> bytes:
    return hashlib.blake2b(repr(value).encode(), digest_size=8).digest()


def read_netlist(path: Path) -> Netlist:
    """The netlist of a Verilog file with one top module. Raises `NetlistError`."""
    import pyosys.libyosys as yosys  # a tenth of a second

    if not path.is_file():
        raise NetlistError(f"{path}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "netlist.json")
        design = yosys.Design()
        for command in (f"read_verilog {path}", *PASSES, f"write_json {out}"):
            design.run_pass(f"tee -q {command}")
        modules = json.loads(out.read_text())["modules"]
    if len(modules) != 1:
        raise NetlistError(f"{path}: {len(modules)} top modules, one expected")
    (module,) = modules.values()
    initial = {
        bit: value
        for net in module["netnames"].values()
        for bit, value in zip(
            net["bits"], reversed(net["attributes"].get("init", "")), strict=False
        )
    }
    cells = [_cell(cell, initial) for cell in module["cells"].values()]
    ports = module["ports"].items()
    inputs = {name: port["bits"] for name, port in ports if port["direction"] == "input"}
    outputs = {name: port["bits"] for name, port in ports if port["direction"] == "output"}
    memories = {name: (m["size"], m["width"]) for name, m in module.get("memories", {}).items()}
    return Netlist(cells, memories, inputs, outputs)


def _cell(cell: dict[str, Any], initial: dict[Any, str]) -> Cell:
    directions = cell["port_directions"]
    inputs = [(n, cell["connections"][n]) for n in sorted(directions) if directions[n] != "output"]
    outputs = [(n, cell["connections"][n]) for n in sorted(directions) if directions[n] == "output"]
    parameters = sorted((n, v) for n, v in cell["parameters"].items() if n not in NAMES)
    starts = [[initial.get(bit, "-") for bit in bits] for _, bits in outputs]
    base = _hash((cell["type"], parameters, starts))
    memory = cell["parameters"].get("MEMID")
    memory = memory and memory.removeprefix("\\")  # the list of memories is without it
    return Cell(base, memory, cell["type"].startswith("$memrd"), inputs, outputs)


def colours(netlist: Netlist) -> tuple[Counter[bytes], dict[str, list[bytes]]]:
    """How many cells have each colour, and the colours of every output port's bits."""
    bits: dict[Any, bytes] = {constant: constant.encode() for constant in "01xz"}
    for name, port in netlist.inputs.items():
        bits.update((bit, _hash((name, i))) for i, bit in enumerate(port))
    kinds = 0
    while True:
        colour = _cell_colours(netlist, bits)
        found = len(set(colour))
        if found <= kinds:
            break
        kinds = found
        for cell, own in zip(netlist.cells, colour, strict=True):
            for name, port in cell.outputs:
                bits.update((bit, _hash((own, name, i))) for i, bit in enumerate(port))
    ports = {name: _of(port, bits) for name, port in netlist.outputs.items()}
    return Counter(colour), ports


def _of(port: Iterable[Any], bits: dict[Any, bytes]) -> list[bytes]:
    return [bits.get(bit, UNDRIVEN) for bit in port]


def _cell_colours(netlist: Netlist, bits: dict[Any, bytes]) -> list[bytes]:
    """A colour for each cell; that of a read port includes its memory and the write ports."""
    cells = netlist.cells
    own = [_hash((cell.base, [(n, _of(p, bits)) for n, p in cell.inputs])) for cell in cells]
    writes = defaultdict(list)
    for cell, colour in zip(cells, own, strict=True):
        if cell.memory is not None and not cell.reads_memory:
            writes[cell.memory].append(colour)
    # A table that `proc` turned into a memory is in the cells only.
    content = {
        name: _hash((netlist.memories.get(name), sorted(writes[name])))
        for name in netlist.memories | writes
    }
    return [
        _hash((colour, content.get(cell.memory))) if cell.memory and cell.reads_memory else colour
        for cell, colour in zip(cells, own, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit status 0 if the netlists are the same, 1 if not, 2 on a bad file."""
    parser = argparse.ArgumentParser(
        prog="python -m sealane.scripts.same_netlist",
        description="Compare two Verilog files as netlists, names and hierarchy aside.",
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args(argv)
    try:
        netlists = [read_netlist(path) for path in (args.before, args.after)]
    except NetlistError as error:
        print(f"same_netlist: {error}", file=sys.stderr)
        return 2
    (cells, ports), (other_cells, other_ports) = map(colours, netlists)
    if cells == other_cells and ports == other_ports:
        print(f"same netlist: {cells.total()} cells, {len(cells)} kinds of surroundings")
        return 0
    names = sorted(n for n in ports | other_ports if ports.get(n) != other_ports.get(n))
    changed = ((cells - other_cells) + (other_cells - cells)).total()
    print(f"different netlists: {changed} cells differ; outputs: {', '.join(names) or 'none'}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
