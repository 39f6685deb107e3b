# SPDX-License-Identifier: Apache-2.0
"""`sealane bench`: how many payload bits a clock the simulated device takes.

Frames come back to back, with 66 bytes of headers (Ethernet, IPv4, TCP with timestamps) and
records cut into full segments, all in order. The clocks are those from the first word in to the
last word out, so a few hundred frames make the pipeline's latency small. The keys protect nothing.
"""

import argparse
import itertools
import json
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table
from sealane.driver.capture import CaptureError, read_capture
from sealane.driver.device import Device, Flow
from sealane.driver.keylog import Keylog, KeylogError
from sealane.driver.keys import CryptoInfo
from sealane.driver.model.gcm import record_aad
from sealane.driver.model.parser import ones_complement_sum
from sealane.driver.replay import Replay
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, WORD_BYTES, Config

from .config_arguments import add_config_arguments, config_of

SCHEMA = "sealane.bench/1"
SEGMENT_BYTES = 1448  # 1500 of IPv4, TCP with timestamps
RECORD_BYTES = (16384, 1460, 64)
FLOWS = (1, 8)
WIDTH_BITS = 8 * WORD_BYTES
VERSIONS = {"1.2": VERSION_TLS12, "1.3": VERSION_TLS13}
START_SEQ = 0xFFFF0000  # so that sequence numbers wrap on the way


class BenchError(ValueError):
    """The device did something else than decrypt everything, so its speed means nothing."""


@dataclass(frozen=True)
class Case:
    """One measurement. record_bytes: application data of a record."""

    version: str
    key_bits: int
    record_bytes: int
    flows: int


def cases(config: Config) -> Iterator[Case]:
    """All that the device has contexts for."""
    for record_bytes, version, key_bits, flows in itertools.product(
        RECORD_BYTES, VERSIONS, (128, 256), FLOWS
    ):
        if flows <= config.flows:
            yield Case(version, key_bits, record_bytes, flows)


class Sender:
    """One flow's sender: a stream of records cut into segments."""

    def __init__(self, case: Case, index: int) -> None:
        self.case = case
        version = VERSIONS[case.version]
        key = bytes((index + i) & 0xFF for i in range(case.key_bits // 8))
        iv = bytes(range(0x80 + index, 0x80 + index + (12 if version == VERSION_TLS13 else 4)))
        self.keys = CryptoInfo(version, key, iv)
        self.flow = Flow(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), 40000 + index, 443)
        self._aead = AESGCM(key)
        self._number = 0
        self._wire = bytearray()
        self._plain = bytearray()
        self._sent = 0

    def _seal(self) -> None:
        number, version = self._number, self.keys.version
        self._number += 1
        content = (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big")
        text = (content * (self.case.record_bytes // 8 + 1))[: self.case.record_bytes]
        explicit = b""
        if version == VERSION_TLS13:
            text += bytes([23])
        else:
            explicit = number.to_bytes(8, "big")
        length = len(explicit) + len(text) + 16
        header = b"\x17\x03\x03" + struct.pack(">H", length) + explicit
        aad = record_aad(version, number, 23, length)
        sealed = self._aead.encrypt(self.keys.nonce(number, explicit), text, aad)
        self._wire += header + sealed
        self._plain += header + text + sealed[-16:]

    def segment(self) -> tuple[bytes, bytes]:
        """The next frame, and its payload as the device should give it."""
        end = self._sent + SEGMENT_BYTES
        while len(self._wire) < end:
            self._seal()
        seq = START_SEQ + self._sent & 0xFFFFFFFF
        payload, clear = bytes(self._wire[self._sent : end]), bytes(self._plain[self._sent : end])
        self._sent = end
        return frame(self.flow, seq, payload), clear


def frame(flow: Flow, seq: int, payload: bytes) -> bytes:
    """An Ethernet frame with IPv4 (RFC 791) and TCP (RFC 9293), 66 bytes of headers."""
    timestamps = b"\x01\x01\x08\x0a" + bytes(8)
    segment = struct.pack(
        ">HHIIBBHHH", flow.sport, flow.dport, seq, 0, 8 << 4, 0x10, 0xFFFF, 0, 0
    ) + timestamps + payload  # fmt: skip
    addresses = flow.src.packed + flow.dst.packed
    check = ~ones_complement_sum(addresses + struct.pack(">HH", 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack(">H", check & 0xFFFF) + segment[18:]
    header = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(segment), 0, 64, 6, 0) + addresses
    check = ~ones_complement_sum(header) & 0xFFFF
    header = header[:10] + struct.pack(">H", check) + header[12:]
    return bytes(12) + b"\x08\x00" + header + segment


def measure(case: Case, config: Config, packets: int) -> dict[str, Any]:
    """Run one case; the report's entry for it.

    Raises `BenchError` unless every packet comes out decrypted.
    """
    from sealane.sim.transport import RtlTransport

    with RtlTransport(config) as transport:
        device = Device(transport, config)
        senders = [Sender(case, index) for index in range(case.flows)]
        for sender in senders:
            device.tls_dev_add(sender.flow, sender.keys, START_SEQ)
        segments = [senders[i % case.flows].segment() for i in range(packets)]
        transport.clear_stats()
        received = device.receive(segment for segment, _ in segments)
        stats = transport.stats()
    for i, (packet, (_, clear)) in enumerate(zip(received, segments, strict=True)):
        if not packet.marked:
            raise BenchError(f"{case}: packet {i} is not decrypted")
        if packet.frame[66:] != clear:
            raise BenchError(f"{case}: packet {i} is decrypted wrongly")
    payload = packets * SEGMENT_BYTES
    cycles = stats["last_out"] - stats["first_in"] + 1
    rate = 8 * payload / cycles
    return {
        "direction": "rx", "version": case.version, "key_bits": case.key_bits,
        "record_bytes": case.record_bytes, "segment_bytes": SEGMENT_BYTES, "flows": case.flows,
        "pattern": "in-order", "payload_bytes": payload, "cycles": cycles,
        "bits_per_clock": round(rate, 2), "width_bits": WIDTH_BITS,
        "efficiency": round(rate / WIDTH_BITS, 4), "input_stall_cycles": stats["stall_cycles"],
    }  # fmt: skip


def own_captures() -> list[tuple[Path, Path]]:
    """Captures of the source tree, with their secrets: big records, and loss. None in a wheel."""
    folder = Path(__file__).resolve().parent.parent / "captures"
    found = sorted([*folder.glob("c03_*.pcap.gz"), *folder.glob("l3_*.pcap.gz")])
    return [(path, path.with_name(path.name.replace(".pcap.gz", ".keys"))) for path in found]


def replay_rate(config: Config, captures: list[tuple[Path, Path]]) -> int:
    """TCP payload bytes a second that replays of captures pass through the simulator."""
    from sealane.sim.transport import RtlTransport

    payload, seconds = 0, 0.0
    for capture, keylog in captures:
        packets = read_capture(capture).packets
        with RtlTransport(config) as transport:
            started = time.perf_counter()
            replay = Replay(transport, Keylog.read(keylog), config=config)
            replay.run(packets, lambda done: None)
            seconds += time.perf_counter() - started
        payload += sum(segment.length for segment in replay.trace.segments)
    return round(payload / seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write the report")
    parser.add_argument("--packets", type=int, default=600, metavar="N",
                        help="frames of each case (default 600)")
    parser.add_argument("--capture", type=Path,
                        help="capture whose replay is timed (default: the source tree's c03, l3)")
    parser.add_argument("--keylog", type=Path, help="secrets of the capture")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    config = config_of(args)
    if args.packets < 1:
        raise ValueError("--packets: at least 1")
    if (args.capture is None) != (args.keylog is None):
        raise ValueError("--capture and --keylog: both or none")
    console = Console(stderr=True)
    report: dict[str, Any] = {
        "schema": SCHEMA, "config": config.as_dict(), "cases": [],
        "replay": {"payload_bytes_per_second": 0},
    }  # fmt: skip
    with console.status("bench: the simulator is built the first time") as status:
        for case in cases(config):
            report["cases"].append(measure(case, config, args.packets))
            status.update(f"bench: {len(report['cases'])} cases done")
        captures = [(args.capture, args.keylog)] if args.capture else own_captures()
        if captures:
            try:
                rate = replay_rate(config, captures)
            except (CaptureError, KeylogError) as error:
                raise ValueError(str(error)) from error
            report["replay"]["payload_bytes_per_second"] = rate
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    Console(file=sys.stdout).print(_table(report))
    return 0


def _table(report: dict[str, Any]) -> Table:
    table = Table(title="Receive, in order, segments of 1448 bytes", caption=_caption(report))
    for name in ("record", "TLS", "key", "flows", "bits/clock", "of the width", "input stall"):
        table.add_column(name, justify="right")
    for case in report["cases"]:
        table.add_row(
            str(case["record_bytes"]), case["version"], str(case["key_bits"]), str(case["flows"]),
            f"{case['bits_per_clock']:.1f}", f"{case['efficiency']:.1%}",
            f"{case['input_stall_cycles'] / case['cycles']:.1%}",
        )  # fmt: skip
    return table


def _caption(report: dict[str, Any]) -> str:
    rate = report["replay"]["payload_bytes_per_second"]
    return f"replay: {rate / 1e6:.2f} MB of payload a second" if rate else ""
