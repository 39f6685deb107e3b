# SPDX-License-Identifier: Apache-2.0
"""Replays for tests: captures with their truth, made-up traffic and checks of a report."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sealane.driver.replay.capture import Packet, read_capture
from sealane.driver.replay.oracle import decode_capture
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.replay.trace import Trace
from sealane.driver.tls.keylog import Keylog
from sealane.driver.tls.records import APPLICATION_DATA

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
NAMES = sorted(path.stem for path in CAPTURES.glob("*.json"))
LOSSLESS = [name for name in NAMES if not name.startswith("l3_")]
DIRECTIONS = ("c2s", "s2c")


@dataclass
class Result:
    """The result of a replay."""

    report: dict
    trace: Trace
    plaintext: dict


def captured(all_frames) -> list[Packet]:
    """Frames as the packets of a capture, one per millisecond."""
    return [Packet(i, i / 1000, f, len(f)) for i, f in enumerate(all_frames)]


def replay(transport, capture: Path, keylog: Keylog, engine="model", **options) -> Result:
    """Replays a capture through a device."""
    read = read_capture(capture)
    runner = Replay(transport, keylog, **options)
    runner.run(read.packets)
    report = runner.report(capture.name, engine, read.warnings)
    return Result(json.loads(json.dumps(report)), runner.trace, runner.plaintext())


def replay_named(transport, name: str, engine="model", **options) -> Result:
    """Replays one of the captures of the repository."""
    keylog = Keylog.read(CAPTURES / f"{name}.keys")
    return replay(transport, CAPTURES / f"{name}.pcap.gz", keylog, engine, **options)


def truth_of(name: str) -> dict:
    """Facts about a capture that are known beforehand."""
    return json.loads((CAPTURES / f"{name}.json").read_text())


def check_truth(result: Result, truth: dict) -> None:
    """Checks that plaintext is right, nothing wrong is accepted, refused suites are left alone."""
    report = result.report
    assert len(report["connections"]) == len(truth["connections"])
    for index, (got, want) in enumerate(
        zip(report["connections"], truth["connections"], strict=True)
    ):
        assert got["index"] == index
        assert (got["client"], got["client_port"]) == (want["client"], want["cport"])
        assert (got["server"], got["server_port"]) == (want["server"], want["sport"])
        assert got["version"] == want["version"]
        assert got["offloaded"] == want["offloadable"]
        assert (got["reason"] is None) == want["offloadable"]
        for direction in DIRECTIONS:
            rx, known = got[direction]["rx"], want[direction]
            assert rx["app_bytes"] == known["app_bytes"]
            assert rx["app_sha256"] == known["app_sha256"]
            assert rx["app_records"] == known["app_records"]
            assert rx["key_updates"] == known["key_updates"]
            assert rx["leftover_bytes"] == known["leftover"]
            assert rx["refused_records"] == 0
            check_direction(rx, result.plaintext[index, direction])
            if not want["offloadable"]:
                assert rx["segments_decrypted"] == rx["records_full"] == rx["records_partial"] == 0


def check_direction(rx: dict, plaintext: bytes) -> None:
    """Checks that apply to any direction of any replay."""
    assert rx["wrong_marks"] == 0
    assert (rx["app_bytes"], rx["app_sha256"]) == (
        len(plaintext),
        hashlib.sha256(plaintext).hexdigest(),
    )
    whole = rx["records_full"] + rx["records_partial"] + rx["records_none"]
    assert whole == rx["app_records"]
    assert rx["segments"] == rx["segments_decrypted"] + sum(rx["reasons"].values())
    assert rx["closed_records"] <= rx["records_partial"] + rx["records_none"]
    assert 0 <= rx["app_bytes_full"] <= rx["app_bytes_decrypted"] <= rx["app_bytes"]
    assert rx["segments_decrypted"] or not rx["app_bytes_decrypted"]


def must_be_whole(name: str, result: Result) -> dict:
    """For each direction, offsets of the application records that the hardware must do fully.

    They belong to a capture without loss. All their packets came after the installation. No packet
    carries a byte of a record of another type, or of a record that began under a new key before the
    device had it: what was fed under the old key is closed for good. Types come from the software
    truth.
    """
    packets = read_capture(CAPTURES / f"{name}.pcap.gz").packets
    truths = decode_capture(packets, Keylog.read(CAPTURES / f"{name}.keys"))
    installed = {
        (e["connection"], e["dir"]): e["packet"]
        for e in result.report["events"]
        if e["kind"] == "installed"
    }
    expected = {}
    for index, truth in enumerate(truths):
        for direction in DIRECTIONS:
            since = installed.get((index, direction))
            if since is None:
                continue
            others = [r for r in truth[direction].records if r.inner_type != APPLICATION_DATA]
            segments = [
                s
                for s in result.trace.segments
                if (s.connection, s.direction) == (index, direction)
            ]
            app = truth[direction].accepted(True)
            bad = [s for s in segments if s.packet <= since or _touching(s, others)]
            changes = {r.epoch for r in truth[direction].records} - {app[0].epoch if app else 0}
            early = [
                r
                for r in app
                if r.epoch in changes
                and any(_touching(s, [r]) and _changes_keys(s, others, r) for s in bad)
            ]
            bad += [s for s in segments if _touching(s, early)]
            expected[index, direction] = {
                r.offset for r in app if not any(_touching(s, [r]) for s in bad)
            }
    return expected


def _touching(segment, records) -> bool:
    """Whether the segment has a byte of one of the records."""
    end = segment.offset + segment.length
    return any(r.offset < end and segment.offset < r.end for r in records)


def _changes_keys(segment, others, record) -> bool:
    """Whether the segment has a record of the epoch before that of `record`."""
    return any(_touching(segment, [o]) and o.epoch < record.epoch for o in others)


def whole(result: Result, index: int, direction: str) -> set[int]:
    """Offsets of the records that the hardware did fully."""
    return {
        r.offset
        for r in result.trace.records
        if (r.connection, r.direction, r.outcome) == (index, direction, "full")
    }
