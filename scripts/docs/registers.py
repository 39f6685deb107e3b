# SPDX-License-Identifier: Apache-2.0
"""Writes `docs/registers.md` from `hdl/abi`.

`python -m sealane.scripts.docs.registers [--check] [-o FILE]`; `--check` writes nothing and exits 1
if the file is not what the contract says.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import IntEnum, IntFlag
from pathlib import Path

from sealane.hdl.abi import commands, config, events, flowhash, layout, meta, registers, tx

INTRO = """\
<!-- Written by scripts/docs/registers.py (`make docs`) from hdl/abi; changes belong there. -->
# Registers, commands, metadata and events

This page lists the complete contract between gateware and driver, as defined in `hdl/abi`. In every
layout, the first field lies in the lowest bits, and there are no gaps. Byte 0 of a 128-bit word, a
block, a key or a nonce lies in bits 7:0. Sequence numbers, ports, lengths and record numbers are
plain integers.
"""


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return (
        "".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
        )
        + "\n"
    )


def bits(position: int, width: int) -> str:
    """`7:0`, or `7` for a single bit."""
    return f"{position + width - 1}:{position}" if width > 1 else f"{position}"


def layout_table(what: layout.Layout) -> str:
    """Bit positions and meaning of every field."""
    return table(
        ("bits", "field", "meaning"),
        ((bits(what.offset(f.name), f.width), f"`{f.name}`", f.doc or f.name) for f in what),
    )


def enum_table(enum: type[IntEnum] | type[IntFlag], source: str) -> str:
    """Values and names of an enumeration; the meaning is the comment beside each member."""
    comments = dict(re.findall(r"^    (\w+) = \d+  # (.+)$", source, re.M))
    return table(
        ("value", "name", "meaning"),
        ((str(int(m)), f"`{m.name}`", comments.get(m.name, "")) for m in enum),
    )


def parameter_rows() -> Iterator[tuple[str, ...]]:
    """Name, default and meaning of the device's parameters, out of the class's docstring."""
    text = re.sub(r"\n {8}", " ", config.Config.__doc__ or "")
    meaning = dict(re.findall(r"^ {4}(\w+): (.+)$", text, re.M))
    for field in fields(config.Config):
        yield f"`{field.name}`", str(field.default), meaning[field.name]


def register_rows() -> Iterator[tuple[str, ...]]:
    """Offset, name, access and meaning of every register."""
    for r in registers.REGISTERS + registers.TX_REGISTERS:
        last = r.offset + 4 * (r.count - 1)
        where = f"0x{r.offset:03x}" + (f"-0x{last:03x}" if r.count > 1 else "")
        yield where, f"`{r.name}`" + (f"[{r.count}]" if r.count > 1 else ""), r.access, r.doc


def paragraph(text: str | None) -> str:
    """A docstring with its indentation taken out."""
    return re.sub(r"\n +", "\n", (text or "").strip()) + "\n\n"


def stage_rows() -> Iterator[tuple[str, ...]]:
    """The staging memory: key, IV and powers of H."""
    yield f"{commands.STAGE_KEY}", "8", "the key; AES-128 uses the first four words"
    yield f"{commands.STAGE_IV}", "3", "TLS 1.3: the IV; TLS 1.2: the salt in the first word"
    yield (
        f"{commands.STAGE_POWERS}",
        f"{4 * commands.H_POWERS}",
        f"H^1 to H^{commands.H_POWERS}, four words each, in the byte order of SP 800-38D",
    )


TRANSMIT = """\
Only a device with `tx_flows` has this part, including the registers `CMD_NONCE` and `COUNT_TX_*`.

"""

COMPLETION = f"""\
Each frame has one completion, in the order of the frames. A completion is a stream packet in beats
of {tx.TX_COMPLETION_BITS} bits. `tags` beats of one tag each, byte 0 lowest, precede the status,
which is the last beat. A tag is returned for every record whose first tag byte is in the frame and
was not GIVEN. Tags are valid only if the status has the reason NONE.

"""


def generate() -> str:
    """The whole page."""
    here = Path(str(config.__file__)).parent
    source = {
        name: (here / f"{name}.py").read_text() for name in ("commands", "meta", "events", "tx")
    }
    return (
        "".join(
            (
                INTRO,
                "\n## Parameters of a device\n\n",
                table(("parameter", "default", "meaning"), parameter_rows()),
                "## Registers\n\n",
                paragraph((registers.__doc__ or "").split("\n", 1)[1]),
                f"`IDENT` reads {registers.IDENT_VALUE:#010x}. ",
                f"The port has {registers.ADDRESS_BITS} address bits.\n\n",
                table(("address", "register", "access", "meaning"), register_rows()),
                "### Staging memory\n\n",
                table(("word", "words", "content"), stage_rows()),
                "## Commands\n\n",
                enum_table(commands.Op, source["commands"]),
                layout_table(commands.COMMAND),
                "### Options of a flow\n\n",
                paragraph(commands.Option.__doc__),
                enum_table(commands.Option, source["commands"]),
                "### Flow key\n\n",
                layout_table(commands.FLOW_KEY),
                "### Flow table\n\n",
                paragraph(flowhash.__doc__),
                "## Metadata of a packet\n\n",
                f"Each packet has one beat of {meta.META_BITS} bits. ",
                "The framing fields (from `records` on) are 0 unless the packet\nis marked.\n\n",
                layout_table(meta.META),
                "### Reasons\n\n",
                paragraph(meta.Reason.__doc__),
                enum_table(meta.Reason, source["meta"]),
                "## Events\n\n",
                enum_table(events.EventKind, source["events"]),
                layout_table(events.EVENT),
                "### What proved a position\n\n",
                enum_table(meta.ProvenBy, source["meta"]),
                "## Transmit\n\n",
                TRANSMIT,
                paragraph((tx.__doc__ or "").split("\n", 1)[1]),
                "### Transmit commands\n\n",
                enum_table(tx.TxCommand, source["tx"]),
                layout_table(tx.TX_COMMAND),
                "### Metadata of a host frame\n\n",
                f"Each frame has one beat of {tx.TX_META_BITS} bits.\n\n",
                layout_table(tx.TX_META),
                enum_table(tx.TxOp, source["tx"]),
                enum_table(tx.TxTags, source["tx"]),
                "### Completion of a host frame\n\n",
                COMPLETION,
                layout_table(tx.TX_STATUS),
                "### Why a frame was not sent\n\n",
                paragraph(tx.TxReason.__doc__),
                enum_table(tx.TxReason, source["tx"]),
            )
        ).rstrip("\n")
        + "\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="docgen", description="docs/registers.md from hdl/abi")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/registers.md"))
    args = parser.parse_args(argv)
    text = generate()
    if not args.check:
        args.output.write_text(text)
        return 0
    if args.output.exists() and args.output.read_text() == text:
        return 0
    print(f"{args.output} is not what hdl/abi says: run `make docs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
