# SPDX-License-Identifier: Apache-2.0
"""`sealane verilog`: the device as one file of Verilog, and a description of its ports."""

import argparse
import json
from pathlib import Path

from .config_arguments import add_config_arguments, config_of

TOP = "sealane"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT.v",
        help="the Verilog; OUT.json beside it says parameters and ports",
    )
    parser.add_argument("--name", default=TOP, help=f"of the top module (default {TOP})")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status. Raises `ValueError` and `OSError`."""
    config = config_of(args)
    if not args.name.isidentifier():
        raise ValueError(f"--name: {args.name!r} is no module name")
    if args.output.suffix == ".json":
        raise ValueError("--output: OUT.json is written beside it, so another suffix")
    # Amaranth takes half a second to import, which `--help` need not wait for.
    from sealane.hdl.top import Device
    from sealane.hdl.verilog import port_widths, to_verilog

    device = Device(config)
    text = to_verilog(device, args.name)
    args.output.write_text(text)
    about = {
        "top": args.name,
        "config": config.as_dict(),
        "clock": "clk",
        "reset": "rst, synchronous, active high",
        "ports": port_widths(device),
    }
    args.output.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    return 0
