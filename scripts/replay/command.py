# SPDX-License-Identifier: Apache-2.0
"""`sealane replay`: a capture through the device, its report, plaintext, waves and picture.

With `--direction tx` what the capture's senders sent goes through transmit and is compared with
the capture; the device then has as many transmit contexts as it has for receive.
"""

import argparse
import contextlib
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sealane.driver.device.rx import DeviceError
from sealane.driver.device.transport import Transport
from sealane.driver.ktls.tx.plan import TxMode
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.driver.replay.both import ReplayBoth
from sealane.driver.replay.capture import CaptureError, read_capture
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.replay.trace import PacketTrace
from sealane.driver.replay.tx.replay import ACK_DELAY, TxReplay, TxTrace
from sealane.driver.tls.keylog import Keylog, KeylogError
from sealane.hdl.abi.config import Config

from ..config_arguments import add_flow_options, flag, flow_options_of
from ..engines import ENGINES, open_engine
from ..outputs import UsageError, check_outputs
from .tables import directions, heading, reasons, resync_table, resyncs, shares
from .tx_tables import tx_tables

PACKET_COLUMNS = (
    "packet",
    "time",
    "connection",
    "dir",
    "seq",
    "offset",
    "length",
    "marked",
    "reason",
)
TX_PACKET_COLUMNS = (
    "packet",
    "time",
    "connection",
    "dir",
    "seq",
    "offset",
    "length",
    "way",
    "reason",
    "identical",
    "reread",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("capture", type=Path, help="pcap or pcapng, plain or gzip")
    parser.add_argument(
        "--keylog",
        type=Path,
        required=True,
        metavar="FILE",
        help="secrets in the SSLKEYLOGFILE format",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="rtl",
        help="the simulated gateware (default) or the behavioural model",
    )
    parser.add_argument(
        "--direction",
        choices=("rx", "tx", "both"),
        default="rx",
        help="receive (default), transmit, or both at once",
    )
    parser.add_argument(
        "--confirm-delay",
        type=int,
        default=0,
        metavar="SEGMENTS",
        help="delay of the driver's answers, in segments of a direction (default 0)",
    )
    parser.add_argument("--report", type=Path, metavar="OUT.json", help="write the report")
    parser.add_argument(
        "--packets",
        type=Path,
        metavar="OUT.csv",
        help="write one line per packet: number from 0, time, connection, direction, TCP "
        "sequence number, offset in the stream, payload bytes, mark (0 or 1), and the reason if "
        "it is not marked; with --direction tx, one line per segment, which ends with the way it "
        "was sent (or wire, dropped), the reason, whether it is identical to the capture (0 or "
        "1), and the bytes read again for it",
    )
    parser.add_argument(
        "--plaintext",
        type=Path,
        metavar="DIR",
        help="write the application bytes to DIR/INDEX.c2s.bin and .s2c.bin: the received ones "
        "or, with --direction tx, the sent ones",
    )
    parser.add_argument(
        "--waves", type=Path, metavar="FILE", help="write waves (FST); needs --engine rtl"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="OUT.png", help="draw a picture of the receive side"
    )
    add_transmit_arguments(parser)
    add_flow_options(parser)


def add_transmit_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that only transmit has."""
    group = parser.add_argument_group("transmit, with --direction tx or both")
    group.add_argument(
        "--tx-mode",
        choices=[mode.value for mode in TxMode],
        help="how to send segments that do not continue the device's stream, where that is "
        "possible. seek: encrypt at the segment's position; tag: the same with stored tags; "
        "rebuild: replay the beginning of the record first; next_record: software until the next "
        "record begins; software: always software; auto (default): the cheapest possible way",
    )
    group.add_argument(
        "--tx-rekey",
        choices=[mode.value for mode in RekeyMode],
        help="when the device gets a new key. epochs (default): at once, beside the old key; gap, "
        "as in Linux: after all records under the old key are acknowledged, with software until "
        "then",
    )
    group.add_argument(
        "--ack-delay",
        type=float,
        metavar="MS",
        help="milliseconds until an acknowledgement in the capture reaches the sender, which then "
        f"releases its records (default {ACK_DELAY * 1000:g}, or longer if the sender "
        "retransmits them)",
    )


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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("packets"),
        TimeRemainingColumn(),
    )
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
    tables = {}
    if any(directions(report)):
        tables["Decrypted by the hardware"] = shares(report)
    if any(rx["reasons"] for _, rx in directions(report)):
        tables["Data packets that passed untouched"] = reasons(report)
    if resyncs(report["events"]):
        tables["Resyncs (positions in bytes of the stream)"] = resync_table(report["events"])
    tables |= tx_tables(report)
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
            lines.writerow(
                (
                    p.packet,
                    f"{p.time:.6f}",
                    p.connection,
                    p.direction,
                    p.seq,
                    p.offset,
                    p.length,
                    int(p.marked),
                    p.reason,
                )
            )


def write_segments(path: Path, segments: Iterable[TxTrace]) -> None:
    """The same for transmit: a line for each segment of an offloaded direction."""
    with path.open("w", newline="") as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(TX_PACKET_COLUMNS)
        for s in segments:
            lines.writerow(
                (
                    s.packet,
                    f"{s.time:.6f}",
                    s.connection,
                    s.direction,
                    s.seq,
                    s.offset,
                    s.length,
                    s.outcome,
                    s.reason,
                    int(s.identical),
                    s.reread,
                )
            )


def check_arguments(args: argparse.Namespace) -> None:
    """Raises `UsageError` on values and combinations that mean nothing."""
    if args.confirm_delay < 0:
        raise UsageError("--confirm-delay: 0 or more segments")
    if args.ack_delay is not None and not 0 <= args.ack_delay < math.inf:
        raise UsageError("--ack-delay: 0 or more milliseconds")
    if args.direction == "rx":
        for name in ("tx_mode", "tx_rekey", "ack_delay"):
            if getattr(args, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')}: needs --direction tx or both")
    if args.direction == "tx":
        only_receive = {"--confirm-delay": args.confirm_delay, "--plot": args.plot}
        only_receive |= {f"--{flag(option)}": True for option in flow_options_of(args)}
        for name, value in only_receive.items():
            if value:
                raise UsageError(f"{name}: needs --direction rx or both")
    if args.direction == "both" and args.packets is not None:
        raise UsageError("--packets: needs --direction rx or tx, whose columns differ")


def make_replay(
    args: argparse.Namespace, transport: Transport, config: Config, keylog: Keylog
) -> tuple[Replay | None, TxReplay | None]:
    """The replays of the sides that were asked for."""
    receive = transmit = None
    if args.direction != "tx":
        receive = Replay(transport, keylog, args.confirm_delay, config, flow_options_of(args))
    if args.direction != "rx":
        delay = None if args.ack_delay is None else args.ack_delay / 1000
        transmit = TxReplay(
            transport,
            keylog,
            config,
            mode=TxMode(args.tx_mode or TxMode.AUTO),
            rekey=RekeyMode(args.tx_rekey or RekeyMode.EPOCHS),
            ack_delay=delay,
        )
    return receive, transmit


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
    check_arguments(args)
    capture = read_capture(args.capture)
    keylog = Keylog.read(args.keylog)
    check_outputs(
        {"--report": args.report, "--packets": args.packets, "--waves": args.waves},
        {"--plot": args.plot},
        {"the capture": args.capture, "the key log": args.keylog},
    )
    if args.plaintext is not None:
        args.plaintext.mkdir(parents=True, exist_ok=True)
    config = Config()
    if args.direction != "rx":
        config = replace(config, tx_flows=config.flows)
    starting = "starting the simulator, which is built the first time (one to three minutes)"
    with waiting(starting) if args.engine == "rtl" else contextlib.nullcontext():
        transport = open_engine(args.engine, config, args.waves)
    with contextlib.closing(transport):
        receive, transmit = make_replay(args, transport, config, keylog)
        runner: Replay | TxReplay | ReplayBoth | None = receive or transmit
        if receive is not None and transmit is not None:
            runner = ReplayBoth(receive, transmit)
        assert runner is not None
        began = time.perf_counter()
        with progress_bar(len(capture.packets)) as progress:
            runner.run(capture.packets, progress)
        seconds = time.perf_counter() - began
    # A name that is no text in this locale's encoding must not break the report.
    name = args.capture.name.encode(errors="replace").decode()
    report = runner.report(name, args.engine, capture.warnings)
    if args.report:
        args.report.write_text(json.dumps(report, indent=1) + "\n")
    if args.packets and receive is not None:
        write_packets(args.packets, receive.trace.packets)
    elif args.packets and transmit is not None:
        write_segments(args.packets, transmit.trace)
    if args.plaintext:
        for (index, direction), data in runner.plaintext().items():
            (args.plaintext / f"{index}.{direction}.bin").write_bytes(data)
    if args.plot and receive is not None:
        # Matplotlib takes a second to import.
        from .picture import draw

        draw(report, receive.trace, args.plot)
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    show(report, console)
    payload = runner.offloaded_payload
    print(
        f"{payload} bytes of TCP payload of offloaded connections in {seconds:.2f} s, "
        f"{payload / seconds / 1000:.0f} kB/s"
    )
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
