# SPDX-License-Identifier: Apache-2.0
"""The device's parameters and a flow's options as options of a command."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import fields

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import Config

FLOW_OPTIONS = {
    Option.TAG_PROOF: "also prove a candidate position by the tag of its record",
    Option.ONE_BIT: "mark nothing after an unverified record, for a host that sees only the mark",
    Option.MARK_REST: "also mark the remaining packets of a record that has an unmarked packet",
}


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each parameter of `Config`, with its description and default."""
    group = parser.add_argument_group("parameters of the device")
    for field in fields(Config):
        said = re.search(rf"^    {field.name}: (.*?)(?=\.$)", Config.__doc__ or "", re.M | re.S)
        text = " ".join(said[1].split()) if said else field.name
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            type=int,
            default=field.default,
            metavar="N",
            help=f"{text} (default {field.default})",
        )


def config_of(args: argparse.Namespace) -> Config:
    """The parameters that were asked for. Raises `ValueError` where they make no device."""
    return Config(**{field.name: getattr(args, field.name) for field in fields(Config)})


def add_flow_options(parser: argparse.ArgumentParser) -> None:
    """One switch for each `Option`, all off by default."""
    group = parser.add_argument_group("options of every flow, off by default")
    for option, text in FLOW_OPTIONS.items():
        group.add_argument("--" + flag(option), action="store_true", help=text)


def flag(option: Option) -> str:
    """The option's name on the command line."""
    return str(option.name).lower().replace("_", "-")


def flags_of(entry: Mapping[str, object]) -> str:
    """The options that a report, or a point of one, names; "" without any."""
    names = [flag(o) for o in FLOW_OPTIONS if entry.get(str(o.name).lower())]
    return f"with {', '.join(names)}" if names else ""


def flow_options_of(args: argparse.Namespace) -> Option:
    """The options that were asked for."""
    chosen = Option.NONE
    for option in FLOW_OPTIONS:
        if getattr(args, str(option.name).lower()):
            chosen |= option
    return chosen
