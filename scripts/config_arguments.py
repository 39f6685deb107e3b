# SPDX-License-Identifier: Apache-2.0
"""The device's parameters as options of a command."""

import argparse
import re
from dataclasses import fields

from sealane.hdl.abi.config import Config


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each parameter of `Config`, with its description and default."""
    group = parser.add_argument_group("parameters of the device")
    for field in fields(Config):
        said = re.search(rf"^    {field.name}: (.*?)(?=\.$)", Config.__doc__ or "", re.M | re.S)
        text = " ".join(said[1].split()) if said else field.name
        group.add_argument(
            "--" + field.name.replace("_", "-"), type=int, default=field.default, metavar="N",
            help=f"{text} (default {field.default})",
        )  # fmt: skip


def config_of(args: argparse.Namespace) -> Config:
    """The parameters that were asked for. Raises `ValueError` where they make no device."""
    return Config(**{field.name: getattr(args, field.name) for field in fields(Config)})
