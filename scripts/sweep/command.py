# SPDX-License-Identifier: Apache-2.0
"""`sealane sweep`: records decrypted whole over loss, reordering and the device's parameters.

Every combination of the lists is one point: real sealed records cross a lossy path, the device
and a host. The in-order device of Linux's tls-offload.rst sees the same arrivals beside it. The
same seed gives the same arrivals for every size of device and on either engine.
"""

import argparse
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sealane.driver.device.rx import Device
from sealane.driver.sweep.lossy_path import (
    RECORDS_A_CONNECTION,
    Connection,
    Counts,
    SweepError,
    in_order,
)
from sealane.driver.sweep.lossy_path import Path as Traffic
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config

from ..config_arguments import add_flow_options, flags_of, flow_options_of
from ..engines import ENGINES, open_engine
from ..outputs import check_outputs
from ..replay.command import waiting
from ..replay.tables import share

SCHEMA = "sealane.sweep/1"
DEFAULT_LOSS = "0,0.5,1,2,3,5"
RECORDS = {"model": 20_000, "rtl": 2_000}
VERSIONS = {"1.2": VERSION_TLS12, "1.3": VERSION_TLS13}
SEALANE, IN_ORDER = "sealane", "in-order"


@dataclass(frozen=True)
class Point:
    """One measurement, of a device with this config and of the in-order device beside it."""

    traffic: Traffic
    config: Config
    engine: str
    records: int
    options: Option = Option.NONE

    def entry(self, device: str, counted: Counts) -> dict[str, Any]:
        """The report's entry for one of the two."""
        return {
            "device": device,
            "engine": self.engine,
            "loss": self.traffic.loss,
            "reorder": self.traffic.reorder,
            "runs": self.config.runs,
            "slots": self.config.record_slots,
            "seed": self.traffic.seed,
            "records": counted.records,
            "whole": counted.whole,
            "partial": counted.partial,
            "none": counted.none,
            "wrong_marks": counted.wrong_marks,
            **{str(option.name).lower(): True for option in self.options},
        }


@dataclass(frozen=True)
class Task:
    """One connection of a point; config `None`: through the in-order device."""

    traffic: Traffic
    config: Config | None
    engine: str
    connection: int
    records: int
    options: Option = Option.NONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--loss",
        type=percents,
        default=percents(DEFAULT_LOSS),
        metavar="LIST",
        help=f"percentages of segments lost (default {DEFAULT_LOSS})",
    )
    parser.add_argument(
        "--reorder",
        type=percents,
        default=[0],
        metavar="LIST",
        help="percentages of segments that arrive late (default 0)",
    )
    device = Config()
    parser.add_argument(
        "--slots",
        type=counts,
        default=[device.record_slots],
        metavar="LIST",
        help=f"numbers of open records per flow (default {device.record_slots})",
    )
    parser.add_argument(
        "--runs",
        type=counts,
        default=[device.runs],
        metavar="LIST",
        help=f"numbers of intervals of seen bytes per flow (default {device.runs})",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="model",
        help="the behavioural model (default) or the simulated gateware, which takes one to "
        "three minutes to build for each pair of slots and runs",
    )
    parser.add_argument(
        "--records", type=int, metavar="N", help="records per point (default 20000; rtl 2000)"
    )
    parser.add_argument(
        "--version", choices=tuple(VERSIONS), default="1.3", help="version of TLS (default 1.3)"
    )
    traffic = Traffic()
    for name, text in (
        ("seed", "seed of all random choices"),
        ("window", "segments after which a lost one is retransmitted"),
        ("displace", "largest delay of a late segment, in segments"),
        ("answer-delay", "segments before the driver's answers reach the device"),
        ("mss", "bytes of a full segment's payload"),
        ("record-bytes", "bytes of a record's plaintext"),
    ):
        default = getattr(traffic, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default {default})"
        )
    jobs = os.cpu_count() or 1
    parser.add_argument(
        "--jobs",
        type=int,
        default=jobs,
        metavar="N",
        help=f"processes (default {jobs}, one per processor)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="OUT.json",
        help="write the report, and draw the curves beside it",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="OUT.png",
        help="draw the curves (default with --json: the same name with .png)",
    )
    add_flow_options(parser)


def percents(text: str) -> list[float]:
    """A list of percentages, whole ones as integers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of percentages") from None
    if not all(0 <= number <= 100 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: percentages are 0 to 100")
    unique = dict.fromkeys(numbers)
    return [int(number) if number.is_integer() else number for number in unique]


def counts(text: str) -> list[int]:
    """A list of whole numbers."""
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers") from None


def points_of(args: argparse.Namespace) -> list[Point]:
    """All points that were asked for. Raises `ValueError` on parameters that make none."""
    records = RECORDS[args.engine] if args.records is None else args.records
    if not 1 <= records <= 10_000_000:
        raise ValueError("--records: 1 to 10000000")
    try:
        traffic = Traffic(
            seed=args.seed,
            window=args.window,
            displace=args.displace,
            answer_delay=args.answer_delay,
            mss=args.mss,
            record_bytes=args.record_bytes,
            version=VERSIONS[args.version],
        )
        configs = [Config(record_slots=s, runs=r) for s in args.slots for r in args.runs]
    except ValueError as error:
        # The options are called as the fields.
        raise ValueError("--" + str(error).replace("record_slots", "slots")) from None
    options = flow_options_of(args)
    return [
        Point(replace(traffic, loss=loss, reorder=reorder), config, args.engine, records, options)
        for reorder, loss, config in itertools.product(args.reorder, args.loss, configs)
    ]


# One device a process for each of the parameters: connections come one after the other.
kept_engine = functools.cache(open_engine)


def work(task: Task) -> Counts:
    """Runs one connection."""
    if task.config is None:
        return in_order(task.traffic, task.connection, task.records)
    device = Device(kept_engine(task.engine, task.config), task.config)
    return Connection(device, task.traffic, task.connection, task.records, task.options).run()


def tasks_of(points: Sequence[Point]) -> list[Task]:
    """Every connection of every point, and each path's once through the in-order device."""
    out: dict[Task, None] = {}
    for point in points:
        for connection, at in enumerate(range(0, point.records, RECORDS_A_CONNECTION)):
            records = min(RECORDS_A_CONNECTION, point.records - at)
            for config in (None, point.config):
                # The in-order device is the same beside any engine and any options.
                how = ("", Option.NONE) if config is None else (point.engine, point.options)
                task = Task(point.traffic, config, how[0], connection, records, how[1])
                out[task] = None
    return list(out)


def measure(
    points: Sequence[Point], jobs: int = 1, progress: Callable[[int], None] = lambda records: None
) -> list[dict[str, Any]]:
    """The report's entries, two for each point. `progress` is told of records as they are done."""
    sums: dict[tuple[Traffic, Config | None], Counts] = {}
    for task, counted in _results(tasks_of(points), jobs):
        key = task.traffic, task.config
        sums[key] = sums.get(key, Counts()) + counted
        progress(counted.records)
    return [
        point.entry(name, sums[point.traffic, config])
        for point in points
        for name, config in ((SEALANE, point.config), (IN_ORDER, None))
    ]


def _ignore_interrupts() -> None:
    """Ctrl-C ends the parent, and that its processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _results(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Counts]]:
    """What came of each task, in any order."""
    if min(jobs, len(tasks)) == 1:
        for task in tasks:
            yield task, work(task)
        return
    # Not forked: a thread of this process draws the bar.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, _ignore_interrupts) as pool:
        futures: dict[Future[Counts], Task] = {pool.submit(work, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise SweepError("a process of the measurement was ended from outside") from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def progress_bar(records: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal; nothing otherwise."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("sweep", total=records)
        yield lambda done: bar.advance(task, done)


def picture_of(args: argparse.Namespace) -> Path | None:
    """Where the curves go: beside a report that is a file, unless another place was named."""
    picture: Path | None = args.picture
    report: Path | None = args.json
    if picture or not report or (report.exists() and not report.is_file()):
        return picture
    return report.with_suffix(".png") if report.name else None


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    points = points_of(args)
    if not 1 <= args.jobs <= 256:
        raise ValueError("--jobs: 1 to 256")
    picture = picture_of(args)
    check_outputs({"--json": args.json}, {"--picture": picture})
    if args.engine == "rtl":
        # Here, so that no two processes build the same simulator.
        configs = list(dict.fromkeys(point.config for point in points))
        for i, config in enumerate(configs):
            with waiting(
                f"starting simulator {i + 1} of {len(configs)}; building one takes one "
                "to three minutes"
            ):
                kept_engine("rtl", config)
    with progress_bar(sum(task.records for task in tasks_of(points))) as progress:
        entries = measure(points, args.jobs, progress)
    report = {"schema": SCHEMA, "points": entries}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if picture:
        # Matplotlib takes a second to import.
        from .picture import draw

        draw(report, picture)
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    title = f"Records by how the hardware left them, {args.engine} engine {flags_of(entries[0])}"
    console.print(title.rstrip() + "\n", style="bold", highlight=False)
    console.print(table(report))
    return 0


def table(report: dict[str, Any]) -> Table:
    """One line for each point of ours, and one for the in-order device on each path."""
    out = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in (
        "reorder",
        "loss",
        "device",
        "slots",
        "runs",
        "records",
        "whole",
        "part",
        "none",
        "wrong marks",
    ):
        out.add_column(name, justify="left" if name == "device" else "right", overflow="fold")
    paths: dict[tuple[float, float], list[dict[str, Any]]] = {}
    for point in report["points"]:
        paths.setdefault((point["reorder"], point["loss"]), []).append(point)
    for path, points in paths.items():
        other = next(p for p in points if p["device"] == IN_ORDER)
        for point in [p for p in points if p["device"] == SEALANE] + [other]:
            size = ["-", "-"] if point is other else [str(point["slots"]), str(point["runs"])]
            shares = [share(point[how], point["records"]) for how in ("whole", "partial", "none")]
            out.add_row(
                *(f"{percent}%" for percent in path),
                point["device"],
                *size,
                str(point["records"]),
                *shares,
                str(point["wrong_marks"]),
                end_section=point is other,
            )
    return out
