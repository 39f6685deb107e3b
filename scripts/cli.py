# SPDX-License-Identifier: Apache-2.0
"""The command `sealane`. What the user got wrong is said in one line, with exit status 2."""

import argparse
import sys
from importlib import metadata
from typing import NoReturn, Protocol

from sealane.driver.device.rx import DeviceError
from sealane.sim.errors import BuildError, StreamError

from . import verilog
from .bench import command as bench
from .replay import command as replay
from .sweep import command as sweep


class Command(Protocol):
    """A module with a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Arguments of the command."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Runs the command; returns the exit status."""
        ...


COMMANDS: dict[str, tuple[Command, str]] = {
    "replay": (replay, "replay a capture through the device"),
    "verilog": (verilog, "write the device as Verilog"),
    "bench": (bench, "measure the throughput of the simulated device in bits per clock"),
    "sweep": (sweep, "measure the share of records fully decrypted under loss and reordering"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (--help says more)\n")


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    parser = Parser(prog="sealane", description="Inline TLS engine: gateware tools.")
    version = f"sealane {metadata.version('sealane')}"
    parser.add_argument(
        "--version", action="version", version=version, help="print the version and exit"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (module, text) in COMMANDS.items():
        said = text[0].upper() + text[1:] + "."
        command = subparsers.add_parser(name, help=text, description=said)
        module.add_arguments(command)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error(f"choose a COMMAND: {', '.join(COMMANDS)}")
    module, _ = COMMANDS[args.command]
    try:
        return module.run(args)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        wrong = where + (error.strerror or str(error))
    except KeyboardInterrupt:
        print(f"sealane {args.command}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, BuildError, StreamError, DeviceError) as error:
        wrong = str(error)
    # File names may hold line ends.
    print(f"sealane {args.command}: {' '.join(wrong.splitlines())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
