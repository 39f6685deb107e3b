# SPDX-License-Identifier: Apache-2.0
"""`sealane replay`: a capture through the device, its report, plaintext, waves and picture."""

import argparse
import contextlib
import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sealane.driver.capture import CaptureError, read_capture
from sealane.driver.device import DeviceError
from sealane.driver.keylog import Keylog, KeylogError
from sealane.driver.replay import Replay
from sealane.driver.trace import PacketTrace
from sealane.driver.transport import Transport

from .config_arguments import add_flow_options, flow_options_of
from .outputs import UsageError, check_outputs
from .replay_tables import directions, heading, reasons, resync_table, resyncs, shares

PACKET_COLUMNS = (
    "packet", "time", "connection", "dir", "seq", "offset", "length", "marked", "reason",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("capture", type=Path, help="pcap or pcapng, plain or gzip")
    parser.add_argument("--keylog", type=Path, required=True, metavar="FILE",
                        help="secrets in the SSLKEYLOGFILE format")
    parser.add_argument("--engine", choices=("rtl", "model"), default="rtl",
                        help="the simulated gateware (default) or the behavioural model")
    parser.add_argument("--direction", choices=("rx", "tx", "both"), default="rx",
                        help="which offload; transmit does not exist yet")
    parser.add_argument("--confirm-delay", type=int, default=0, metavar="SEGMENTS",
                        help="segments of a direction before the driver's answers take effect")
    parser.add_argument("--report", type=Path, metavar="OUT.json", help="write the report")
    parser.add_argument("--packets", type=Path, metavar="OUT.csv",
                        help="write what became of each packet: its number from 0, time, "
                        "connection, direction, TCP sequence number, offset in the stream, payload "
                        "bytes, mark (0 or 1) and the reason of an unmarked one")
    parser.add_argument("--plaintext", type=Path, metavar="DIR",
                        help="write recovered application bytes to DIR/INDEX.c2s.bin and .s2c.bin")
    parser.add_argument("--waves", type=Path, metavar="FILE", help="write waves (FST), rtl only")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw a picture")
    add_flow_options(parser)


def open_transport(engine: str, waves: Path | None) -> Transport:
    """The device: the model, or the simulator, which is built if need be."""
    if engine == "model":
        if waves is not None:
            raise UsageError("--waves needs --engine rtl")
        from sealane.driver.model.device import ModelTransport

        return ModelTransport()
    # Not at the top: the model must work where no simulator can be built.
    from sealane.sim.transport import RtlTransport

    with waiting("starting the simulator, which is built the first time (one to three minutes)"):
        return RtlTransport(waves=waves)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says on a terminal what is being waited for."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal; nothing otherwise."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("packets"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda done: bar.update(task, completed=done)


def show(report: dict[str, Any], console: Console) -> None:
    """Prints the report's sums, reasons and resyncs."""
    for line in heading(report):
        console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
    if not report["connections"]:
        console.print("no TCP connection in the capture")
        return
    tables = {"Decrypted by the hardware": shares(report)}
    if any(rx["reasons"] for _, rx in directions(report)):
        tables["Data packets that passed untouched"] = reasons(report)
    if resyncs(report["events"]):
        tables["Resyncs (positions in bytes of the stream)"] = resync_table(report["events"])
    for title, table in tables.items():
        console.print(f"\n{title}", style="bold", highlight=False)
        console.print(table)
    console.print()


def write_packets(path: Path, packets: Iterable[PacketTrace]) -> None:
    """A line of CSV for each packet of the capture, the columns' names first."""
    with path.open("w", newline="") as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(PACKET_COLUMNS)
        for p in packets:
            lines.writerow((p.packet, f"{p.time:.6f}", p.connection, p.way, p.seq, p.offset,
                            p.length, int(p.marked), p.reason))


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _run(args)
    except (CaptureError, KeylogError, UsageError, DeviceError) as error:
        wrong = str(error)
    except OSError as error:
        wrong = (f"{error.filename}: " if error.filename else "") + (error.strerror or str(error))
    # File names may hold line ends.
    print(f"sealane replay: {' '.join(wrong.splitlines())}", file=sys.stderr)
    return 2


def _run(args: argparse.Namespace) -> int:
    if args.direction != "rx":
        raise UsageError(f"--direction {args.direction}: transmit offload does not exist yet")
    if args.confirm_delay < 0:
        raise UsageError("--confirm-delay: 0 or more segments")
    capture = read_capture(args.capture)
    keylog = Keylog.read(args.keylog)
    check_outputs(
        {"--report": args.report, "--packets": args.packets, "--waves": args.waves},
        {"--plot": args.plot}, {"the capture": args.capture, "the key log": args.keylog},
    )
    if args.plaintext is not None:
        args.plaintext.mkdir(parents=True, exist_ok=True)
    transport = open_transport(args.engine, args.waves)
    try:
        replay = Replay(transport, keylog, confirm_delay=args.confirm_delay,
                        options=flow_options_of(args))
        began = time.perf_counter()
        with progress_bar(len(capture.packets)) as progress:
            replay.run(capture.packets, progress)
        seconds = time.perf_counter() - began
    finally:
        transport.close()
    # A name that is no text in this locale's encoding must not break the report.
    name = args.capture.name.encode(errors="replace").decode()
    report = replay.report(name, args.engine, capture.warnings)
    if args.report:
        args.report.write_text(json.dumps(report, indent=1) + "\n")
    if args.packets:
        write_packets(args.packets, replay.trace.packets)
    if args.plaintext:
        for (index, way), data in replay.plaintext().items():
            (args.plaintext / f"{index}.{way}.bin").write_bytes(data)
    if args.plot:
        # Matplotlib takes a second to import.
        from .picture import draw

        draw(report, replay.trace, args.plot)
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    show(report, console)
    payload = replay.offloaded_payload
    print(f"{payload} bytes of TCP payload of offloaded connections in {seconds:.2f} s, "
          f"{payload / seconds / 1000:.0f} kB/s")
    for error in report["errors"]:
        print(f"sealane replay: warning: {error}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command by itself."""
    parser = argparse.ArgumentParser(prog="sealane replay", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
