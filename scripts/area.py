# SPDX-License-Identifier: Apache-2.0
"""What the device's parts take of a chip, counted on its netlist.

    python -m sealane.scripts.area [--tx-flows N]

Counted by Yosys before any mapping to a family: one-bit flip-flops; gates of one or two inputs, a
two-way multiplexer being one; bits of memory, however many ports read them. The registers behind a
memory's ports count as memory. So the figures compare designs, and say nothing of LUTs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sealane.hdl.abi.config import Config
from sealane.hdl.top import Device
from sealane.hdl.verilog import to_rtlil

TOP = "sealane"
GATES = ("$_AND_", "$_OR_", "$_XOR_", "$_NOT_", "$_MUX_")
_GATES_OF_CELLS = ("memory_collect", "opt_clean", "techmap", "opt_expr", "opt_merge", "opt_clean")


@dataclass
class Part:
    """An instance: what it takes itself, and its parts."""

    name: str
    flip_flops: int
    gates: int
    memory_bits: int
    parts: list["Part"] = field(default_factory=list)

    @property
    def whole(self) -> tuple[int, int, int]:
        """Flip-flops, gates and bits of memory with those of all parts."""
        own = (self.flip_flops, self.gates, self.memory_bits)
        sums = zip(own, *(part.whole for part in self.parts), strict=True)
        flip_flops, gates, memory_bits = (sum(column) for column in sums)
        return flip_flops, gates, memory_bits


def area(text: str, top: str = TOP) -> Part:
    """Counts the RTLIL text of a design, from the module `top` down.

    Raises `RuntimeError` if a cell is left that is not counted. What is no RTLIL ends the process.
    """
    import pyosys.libyosys as yosys  # a tenth of a second

    with tempfile.TemporaryDirectory() as folder:
        source, bits, cells = (Path(folder, name) for name in ("design.il", "bits", "cells"))
        source.write_text(text)
        design = yosys.Design()
        for command in (
            f"read_rtlil {source}",
            f"hierarchy -top {top}",
            "proc",
            "opt_expr",
            "opt_clean",
            f"tee -q -o {bits} stat -json",
            *_GATES_OF_CELLS,
            f"tee -q -o {cells} stat -json",
        ):
            design.run_pass(command if command.startswith("tee") else f"tee -q {command}")
        memories, modules = (json.loads(path.read_text())["modules"] for path in (bits, cells))
    return _part(top, f"\\{top}", memories, modules)


def _part(name: str, module: str, memories: dict[str, Any], modules: dict[str, Any]) -> Part:
    own = Part(name, 0, 0, memories[module]["num_memory_bits"])
    for kind, count in modules[module]["num_cells_by_type"].items():
        if kind in GATES:
            own.gates += count
        elif kind.startswith(("$_DFF", "$_SDFF")):
            own.flip_flops += count
        elif f"\\{kind}" in modules or kind in modules:
            inner = kind if kind in modules else f"\\{kind}"
            # Amaranth numbers modules that would have the same name.
            part = _part(kind.rsplit(".", 1)[-1].split("$")[0], inner, memories, modules)
            own.parts += [part] * count
        elif kind != "$mem_v2":
            raise RuntimeError(f"{kind}: not counted")
    return own


def rows(part: Part, depth: int, level: int = 0) -> Iterator[tuple[int, Part]]:
    """The part and those in it, `depth` levels deep, each with its level."""
    yield level, part
    if depth:
        for inner in sorted(part.parts, key=lambda inner: inner.name):
            yield from rows(inner, depth - 1, level + 1)


def table(part: Part, depth: int) -> Table:
    """A row for each part; a part's figures hold those of the rows that are indented under it."""
    made = Table(box=SIMPLE_HEAD)
    made.add_column("part")
    for name in ("flip-flops", "gates", "memory bits"):
        made.add_column(name, justify="right")
    for level, inner in rows(part, depth):
        made.add_row("  " * level + inner.name, *(f"{count}" for count in inner.whole))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit status 2 on numbers that no device has."""
    parser = argparse.ArgumentParser(
        prog="python -m sealane.scripts.area",
        description="What the device's parts take of a chip, counted on its netlist.",
    )
    parser.add_argument(
        "--tx-flows",
        type=int,
        default=0,
        metavar="N",
        help="connections that transmit offloads (default 0, receive only)",
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=2,
        metavar="N",
        help="levels of the hierarchy that are shown (default 2)",
    )
    args = parser.parse_args(argv)
    try:
        config = replace(Config(), tx_flows=args.tx_flows)
    except ValueError as error:
        print(f"area: {error}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    console.print(table(area(to_rtlil(Device(config), TOP)), args.depth))
    return 0


if __name__ == "__main__":
    sys.exit(main())
