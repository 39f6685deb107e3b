# SPDX-License-Identifier: Apache-2.0
"""`sealane bench` without a simulator: traffic that comes out right on the model, the report, and
what it says of arguments that make no sense."""

import itertools
import json

import pytest

from sealane.driver.model.device import ModelTransport
from sealane.driver.model.tx.device import TxModel
from sealane.hdl.abi.config import Config
from sealane.scripts.bench import command as bench
from sealane.scripts.cli import main
from sealane.sim import transport

SIZES = (2000, 64)
PACKETS = 20
SIDE = [
    "payload_bytes",
    "cycles",
    "bits_per_clock",
    "width_bits",
    "efficiency",
    "input_stall_cycles",
]
NAMES = ["direction", "version", "key_bits", "record_bytes", "segment_bytes", "flows", "pattern"]


class Timed(ModelTransport):
    """The model with made-up clocks."""

    def __init__(self, config, waves=None):
        super().__init__(config)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def clear_stats(self):
        pass

    def stats(self):
        return {
            "first_in": 101,
            "last_out": 4100,
            "stall_cycles": 400,
            "tx_first_in": 1,
            "tx_last_out": 3200,
            "tx_stall_cycles": 1600,
        }


@pytest.fixture
def small(monkeypatch):
    """The model instead of the gateware, and few cases."""
    monkeypatch.setattr(transport, "RtlTransport", Timed)
    monkeypatch.setattr(bench, "RECORD_BYTES", SIZES)
    monkeypatch.setattr(bench, "own_captures", list)
    monkeypatch.setenv("COLUMNS", "80")


def report_of(tmp_path, *arguments):
    out = tmp_path / "out.json"
    assert main(["bench", "--packets", str(PACKETS), "--json", str(out), *arguments]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("direction", bench.DIRECTIONS)
def test_report(small, tmp_path, capsys, direction):
    report = report_of(tmp_path, "--direction", direction)
    assert list(report) == ["schema", "config", "cases", "replay"]
    assert report["schema"] == "sealane.bench/1"
    assert report["config"]["tx_flows"] == (0 if direction == "rx" else Config().flows)
    patterns = ("in-order",) if direction == "rx" else ("in-order", "5% again")
    found = [
        (c["record_bytes"], c["version"], c["key_bits"], c["flows"], c["pattern"])
        for c in report["cases"]
    ]
    assert found == list(itertools.product(SIZES, ("1.2", "1.3"), (128, 256), (1, 8), patterns))
    of_both = ["rx", "tx"] if direction == "both" else []
    of_transmit = [] if direction == "rx" else ["again", "by_way"]
    for case in report["cases"]:
        assert list(case) == NAMES + SIDE + of_both + of_transmit
        assert case["direction"] == direction and case["width_bits"] == 128
        sides = {direction: case} if direction != "both" else {"rx": case["rx"], "tx": case["tx"]}
        clocks = {"rx": 4000, "tx": 3200}
        for name, side in sides.items():
            assert (side["payload_bytes"], side["cycles"]) == (PACKETS * 1448, clocks[name])
            assert side["bits_per_clock"] == round(PACKETS * 1448 * 8 / clocks[name], 2)
        if direction == "both":
            assert (case["payload_bytes"], case["cycles"]) == (2 * PACKETS * 1448, 4100)
            assert case["input_stall_cycles"] == 2000
        if direction != "rx":
            assert sum(case["by_way"].values()) == PACKETS
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    stalls = {"rx": ["10.0%"], "tx": ["50.0%"], "both": ["10.0%", "50.0%"]}[direction]
    rows = [line.replace("│", " ").split() for line in lines if "%" in line]
    assert len(rows) == len(found) and all(row[-len(stalls) :] == stalls for row in rows)


def test_a_share_is_sent_again(small, tmp_path):
    """One frame in twenty, whatever the number of flows, by seek or with tags that came back."""
    again = [c for c in report_of(tmp_path, "--direction", "tx")["cases"] if c["again"]]
    for case in again:
        assert PACKETS - case["by_way"]["in_order"] == PACKETS // 20
        assert set(case["by_way"]) <= {"in_order", "seek", "tag"}
    assert any("tag" in case["by_way"] for case in again)


def test_few_contexts(small, tmp_path):
    """Cases are those that the device has contexts for."""
    for arguments in (["--flows", "4"], ["--tx-flows", "4"]):
        report = report_of(tmp_path, "--direction", "tx", *arguments)
        assert report["config"]["tx_flows"] == 4
        assert {case["flows"] for case in report["cases"]} == {1}


def spoilt(change):
    """A model of which `change` alters the latest frame or completion."""
    poll = TxModel.poll

    def polled(self):
        out = poll(self)
        return change(out) if out.completions else out

    return polled


def other_byte(out):
    return out._replace(frames=[*out.frames[:-1], out.frames[-1][:-1] + b"\0\0"[:1]])


def other_tag(out):
    return out._replace(
        completions=[([bytes(16) for _ in tags], word) for tags, word in out.completions]
    )


def other_reason(out):
    # `reason` is in bits 4:0
    return out._replace(completions=[(tags, word | 16) for tags, word in out.completions])


@pytest.mark.parametrize(
    "change, said",
    [(other_byte, "encrypted wrongly"), (other_tag, "other tags"), (other_reason, "is dropped")],
)
def test_wrong_results_have_no_speed(small, monkeypatch, capsys, change, said):
    monkeypatch.setattr(TxModel, "poll", spoilt(change))
    assert main(["bench", "--direction", "tx", "--packets", "30"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err and len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--packets", "0"],
        ["--direction", "both", "--packets", "-3"],
        ["--direction", "tx", "--packets", "65536"],
        ["--direction", "tx", "--tx-flows", "3"],
        ["--direction", "both", "--tx-ring-words", "4096"],
        ["--tx-flows", "1"],
        ["--direction", "tx", "--capture", "x.pcap"],
        ["--keylog", "x.keys"],
    ],
)
def test_arguments_that_make_no_sense(arguments, capsys):
    """One line and status 2, before anything is built."""
    assert main(["bench", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("sealane bench: ")


@pytest.mark.parametrize("arguments", [["--direction", "up"], ["--packets", "many"], ["--again"]])
def test_arguments_that_are_not_known(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_captures_that_cannot_be_read(small, tmp_path, capsys):
    path = str(tmp_path / "none")
    for direction in bench.DIRECTIONS:
        arguments = ["--direction", direction, "--capture", path, "--keylog", path]
        assert main(["bench", "--packets", "1", *arguments]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and len(shown.err.splitlines()) == 1
