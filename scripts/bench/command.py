# SPDX-License-Identifier: Apache-2.0
"""`sealane bench`: how many payload bits a clock the simulated device takes.

Frames come back to back, with 66 bytes of headers (Ethernet, IPv4, TCP with timestamps) and
records cut into full segments. Those of receive are all in order; of transmit also with a share of
segments that are sent once more, which go by `seek` or `tag`. The clocks are those from the first
word in to the last word out, so a few hundred frames make the pipeline's latency small. The keys
protect nothing.
"""

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sealane.driver.device.descriptors import RxPacket
from sealane.driver.device.rx import Device
from sealane.driver.device.tx import COOKIES, TxDevice, TxPolled
from sealane.driver.replay.both import ReplayBoth
from sealane.driver.replay.capture import CaptureError, read_capture
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.replay.tx.replay import TxReplay
from sealane.driver.tls.keylog import Keylog, KeylogError
from sealane.hdl.abi.config import WORD_BYTES, Config

from ..config_arguments import add_config_arguments, config_of
from ..engines import open_simulator
from .traffic import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    START_SEQ,
    VERSIONS,
    Case,
    Host,
    Sender,
    Sent,
    in_turn,
)

SCHEMA = "sealane.bench/1"
DIRECTIONS = ("rx", "tx", "both")
RECORD_BYTES = (16384, 1460, 64)
FLOWS = (1, 8)
AGAIN = (0.0, 0.05)
WIDTH_BITS = 8 * WORD_BYTES


class BenchError(ValueError):
    """The device did something else than decrypt and encrypt everything, so its speed means
    nothing."""


def cases(config: Config, direction: str = "rx") -> Iterator[Case]:
    """All that the device has contexts for."""
    most = config.flows if direction == "rx" else min(config.flows, config.tx_flows)
    again = (0.0,) if direction == "rx" else AGAIN
    for record_bytes, version, key_bits, flows, share in itertools.product(
        RECORD_BYTES, VERSIONS, (128, 256), FLOWS, again
    ):
        if flows <= most:
            yield Case(version, key_bits, record_bytes, flows, share)


def measure(case: Case, config: Config, packets: int, direction: str = "rx") -> dict[str, Any]:
    """Run one case with so many frames of each direction; the report's entry for it.

    Raises `BenchError` unless every packet of receive comes out decrypted and every one of transmit
    as it must be on the wire.
    """
    arriving: list[tuple[bytes, bytes]] = []
    leaving: list[Sent] = []
    with open_simulator(config) as transport:
        if direction != "tx":
            device = Device(transport, config)
            senders = [Sender(case, index) for index in range(case.flows)]
            for sender in senders:
                device.tls_dev_add(sender.flow, sender.keys, START_SEQ)
            arriving = [senders[i % case.flows].segment() for i in range(packets)]
        if direction != "rx":
            tx_device = TxDevice(transport, config, queue=COOKIES)
            hosts = [Host(case, index, tx_device) for index in range(case.flows)]
            leaving = in_turn(packets, [host.next for host in hosts])
        transport.clear_stats()
        if leaving:
            tx_device.post([post for sent in leaving for post in sent.frames])
        if arriving:
            received = device.receive(frame for frame, _ in arriving)
        if leaving:
            output = tx_device.poll()
        stats = transport.stats()
    if arriving:
        _check_received(case, received, arriving)
    if leaving:
        _check_sent(case, output, leaving)
    return _entry(case, direction, packets, stats, Counter(sent.way for sent in leaving))


def _check_received(
    case: Case, received: Sequence[RxPacket], arriving: Sequence[tuple[bytes, bytes]]
) -> None:
    for i, (packet, (_, clear)) in enumerate(zip(received, arriving, strict=True)):
        if not packet.marked:
            raise BenchError(f"{case}: packet {i} is not decrypted")
        if packet.frame[HEADER_BYTES:] != clear:
            raise BenchError(f"{case}: packet {i} is decrypted wrongly")


def _check_sent(case: Case, output: TxPolled, leaving: Sequence[Sent]) -> None:
    """Every segment went as one frame; see `Host`."""
    for i, (completion, sent) in enumerate(zip(output.completions, leaving, strict=True)):
        if not completion.sent:
            raise BenchError(f"{case}: segment {i} is dropped: {completion.reason.name.lower()}")
        if completion.tags != sent.tags:
            raise BenchError(f"{case}: segment {i} gives back other tags")
    for i, (left, sent) in enumerate(zip(output.frames, leaving, strict=True)):
        if left != sent.wire:
            raise BenchError(f"{case}: segment {i} is encrypted wrongly")


def _entry(
    case: Case, direction: str, packets: int, stats: dict[str, int], ways: Counter[str]
) -> dict[str, Any]:
    sides = {
        "rx": _side(packets, stats["first_in"], stats["last_out"], stats["stall_cycles"]),
        "tx": _side(packets, stats["tx_first_in"], stats["tx_last_out"], stats["tx_stall_cycles"]),
    }
    measured = sides.get(direction)
    if measured is None:
        begin = min(stats["first_in"], stats["tx_first_in"])
        end = max(stats["last_out"], stats["tx_last_out"])
        stalls = stats["stall_cycles"] + stats["tx_stall_cycles"]
        measured = _side(2 * packets, begin, end, stalls) | sides
    pattern = f"{case.again:.0%} again" if case.again else "in-order"
    entry = {
        "direction": direction,
        "version": case.version,
        "key_bits": case.key_bits,
        "record_bytes": case.record_bytes,
        "segment_bytes": SEGMENT_BYTES,
        "flows": case.flows,
        "pattern": pattern,
        **measured,
    }
    if direction == "rx":
        return entry
    return entry | {"again": case.again, "by_way": dict(sorted(ways.items()))}


def _side(packets: int, first_in: int, last_out: int, stalls: int) -> dict[str, Any]:
    """What one direction came to, or with twice the frames both of them."""
    payload, cycles = packets * SEGMENT_BYTES, last_out - first_in + 1
    rate = 8 * payload / cycles
    return {
        "payload_bytes": payload,
        "cycles": cycles,
        "bits_per_clock": round(rate, 2),
        "width_bits": WIDTH_BITS,
        "efficiency": round(rate / WIDTH_BITS, 4),
        "input_stall_cycles": stalls,
    }


def own_captures() -> list[tuple[Path, Path]]:
    """Captures of the source tree, with their secrets: big records, and loss. None in a wheel."""
    folder = Path(__file__).resolve().parents[2] / "captures"
    found = sorted([*folder.glob("c03_*.pcap.gz"), *folder.glob("l3_*.pcap.gz")])
    return [(path, path.with_name(path.name.replace(".pcap.gz", ".keys"))) for path in found]


def replay_rate(config: Config, captures: list[tuple[Path, Path]], direction: str = "rx") -> int:
    """TCP payload bytes a second that replays of captures pass through the simulator."""
    payload, seconds = 0, 0.0
    for capture, keylog in captures:
        packets = read_capture(capture).packets
        with open_simulator(config) as transport:
            started = time.perf_counter()
            secrets = Keylog.read(keylog)
            replay: Replay | TxReplay | ReplayBoth
            if direction == "rx":
                replay = Replay(transport, secrets, config=config)
            elif direction == "tx":
                replay = TxReplay(transport, secrets, config)
            else:
                replay = ReplayBoth(
                    Replay(transport, secrets, config=config), TxReplay(transport, secrets, config)
                )
            replay.run(packets)
            seconds += time.perf_counter() - started
        payload += replay.offloaded_payload
    return round(payload / seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="rx",
        help="receive (default), transmit, or both at once; "
        "with the last two, unless --tx-flows says otherwise, it has as many "
        "transmit contexts as it has for receive",
    )
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write the report")
    parser.add_argument(
        "--packets",
        type=int,
        default=600,
        metavar="N",
        help="frames per case and direction (default 600)",
    )
    parser.add_argument(
        "--capture",
        type=Path,
        help="capture whose replay is timed (default: the source tree's c03, l3)",
    )
    parser.add_argument("--keylog", type=Path, help="secrets of the capture")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    config, direction = config_of(args), args.direction
    if args.packets < 1:
        raise ValueError("--packets: at least 1")
    if direction != "rx":
        if args.packets > COOKIES:
            raise ValueError(f"--packets: at most {COOKIES} with transmit")
        if not config.tx_flows:
            config = replace(config, tx_flows=config.flows)
    if (args.capture is None) != (args.keylog is None):
        raise ValueError("--capture and --keylog: both or none")
    console = Console(stderr=True)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "config": config.as_dict(),
        "cases": [],
        "replay": {"payload_bytes_per_second": 0},
    }
    with console.status("bench: the simulator is built the first time") as status:
        for case in cases(config, direction):
            report["cases"].append(measure(case, config, args.packets, direction))
            status.update(f"bench: {len(report['cases'])} cases done")
        captures = [(args.capture, args.keylog)] if args.capture else own_captures()
        if captures:
            try:
                rate = replay_rate(config, captures, direction)
            except (CaptureError, KeylogError) as error:
                raise ValueError(str(error)) from error
            report["replay"]["payload_bytes_per_second"] = rate
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    table = _table_of_both(report) if direction == "both" else _table(report, direction)
    Console(file=sys.stdout).print(table)
    return 0


def _table(report: dict[str, Any], direction: str) -> Table:
    pattern = {"rx": "Receive, in order, segments", "tx": "Transmit, segments"}[direction]
    table = Table(title=f"{pattern} of {SEGMENT_BYTES} bytes", caption=_caption(report))
    for name in (
        "record",
        "TLS",
        "key",
        "flows",
        *["again"] * (direction == "tx"),
        "bits/clock",
        "of the width",
        "input stall",
    ):
        table.add_column(name, justify="right")
    for case in report["cases"]:
        table.add_row(
            *_named(case, direction),
            f"{case['bits_per_clock']:.1f}",
            f"{case['efficiency']:.1%}",
            _stall(case),
        )
    return table


def _table_of_both(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"Both directions at once, segments of {SEGMENT_BYTES} bytes, bits a clock",
        caption=_caption(report),
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    for name in (
        "record",
        "TLS",
        "key",
        "flows",
        "again",
        "receive",
        "transmit",
        "sum",
        "receive\nstall",
        "transmit\nstall",
    ):
        table.add_column(name, justify="right")
    for case in report["cases"]:
        rx, tx = case["rx"], case["tx"]
        table.add_row(
            *_named(case, "both"),
            *(f"{side['bits_per_clock']:.1f}" for side in (rx, tx, case)),
            _stall(rx),
            _stall(tx),
        )
    return table


def _named(case: dict[str, Any], direction: str) -> list[str]:
    """The cells that name a case."""
    cells = [str(case[name]) for name in ("record_bytes", "version", "key_bits", "flows")]
    if direction != "rx":
        cells.append(f"{case['again']:.0%}")
    return cells


def _stall(side: dict[str, Any]) -> str:
    """The share of clocks in which a word waited at the input."""
    return f"{side['input_stall_cycles'] / side['cycles']:.1%}"


def _caption(report: dict[str, Any]) -> str:
    rate = report["replay"]["payload_bytes_per_second"]
    return f"replay: {rate / 1e6:.2f} MB of payload a second" if rate else ""
