# SPDX-License-Identifier: Apache-2.0
"""Options of a flow on the command line: what the device is told, and what the reports say."""

import json
from collections import Counter
from enum import IntEnum

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.offload import KtlsRx
from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.rx import host
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.tls.keylog import Keylog
from sealane.hdl.abi.commands import OPTION_BITS, Option
from sealane.hdl.abi.meta import ProvenBy
from sealane.scripts.cli import main
from sealane.scripts.config_arguments import FLOW_OPTIONS, flag
from tests.support.replays import CAPTURES, DIRECTIONS, check_truth, replay_named, truth_of

NAME, LOSSY = "c03_tls13_aes128_max", "l3_tls13_aes256_loss3_srv"
CHOICES = [Option(bits) for bits in range(1 << OPTION_BITS)]
SWEEP = ["sweep", "--loss", "5", "--records", "30", "--jobs", "1", "--record-bytes", "2000"]


def flags(options):
    return [f"--{flag(option)}" for option in options]


def keys(options):
    return {option.name.lower(): True for option in options}


@pytest.fixture
def told(monkeypatch):
    """Options that a device and a host were given, in the order of the flows."""
    seen = {"device": [], "host": []}
    add, begin = Device.tls_dev_add, KtlsRx.__init__

    def tls_dev_add(self, flow, info, seq, number=0, epoch=0, options=Option.NONE):
        seen["device"].append(options)
        return add(self, flow, info, seq, number, epoch, options)

    def init(self, *args, one_bit=False, **named):
        seen["host"].append(one_bit)
        begin(self, *args, one_bit=one_bit, **named)

    monkeypatch.setattr(Device, "tls_dev_add", tls_dev_add)
    monkeypatch.setattr(KtlsRx, "__init__", init)
    return seen


def test_every_option_has_a_flag():
    assert set(FLOW_OPTIONS) == {option for option in Option if option}
    assert sorted(flags(FLOW_OPTIONS)) == ["--mark-rest", "--one-bit", "--tag-proof"]


@pytest.mark.parametrize("options", CHOICES)
def test_replay_tells_device_host_and_report(options, told, tmp_path):
    report, capture = tmp_path / "r.json", CAPTURES / f"{NAME}.pcap.gz"
    assert (
        main(
            [
                "replay",
                str(capture),
                "--keylog",
                str(CAPTURES / f"{NAME}.keys"),
                "--engine",
                "model",
                "--report",
                str(report),
                *flags(options),
            ]
        )
        == 0
    )
    assert told == {"device": [options] * 2, "host": [Option.ONE_BIT in options] * 2}
    got = json.loads(report.read_text())
    named = {
        key: value
        for key, value in got.items()
        if key not in ("schema", "capture", "engine", "errors", "events", "connections")
    }
    assert named == keys(options)
    for direction in DIRECTIONS:
        rx = got["connections"][0][direction]["rx"]
        assert (rx["records_full"], rx["wrong_marks"]) == (rx["app_records"], 0)
        assert list(rx["resync"]["proven_by"])[:2] == ["software", "walk"]


@pytest.mark.parametrize("options", CHOICES)
def test_sweep_tells_device_host_and_report(options, told, tmp_path, capsys):
    out = tmp_path / "s.json"
    assert main([*SWEEP, "--json", str(out), *flags(options)]) == 0
    assert told == {"device": [options], "host": [Option.ONE_BIT in options]}
    plain = {
        "device",
        "engine",
        "loss",
        "reorder",
        "runs",
        "slots",
        "seed",
        "records",
        "whole",
        "partial",
        "none",
        "wrong_marks",
    }
    for point in json.loads(out.read_text())["points"]:
        assert {k: v for k, v in point.items() if k not in plain} == keys(options)
        assert (point["records"], point["wrong_marks"]) == (30, 0)
    said = capsys.readouterr().out
    assert all(flag(option) in said for option in options)
    assert ("with" in said) == bool(options)


def test_options_are_off_by_default(told):
    packets = read_capture(CAPTURES / f"{NAME}.pcap.gz").packets
    Replay(ModelTransport(), Keylog.read(CAPTURES / f"{NAME}.keys")).run(packets)
    assert main(SWEEP) == 0
    assert told == {"device": [Option.NONE] * 3, "host": [False] * 3}


@pytest.mark.parametrize("name", [LOSSY, "l3_tls12_aes128_loss3_cli", "c37_tls13_keyupdate_corked"])
@pytest.mark.parametrize("options", [*FLOW_OPTIONS, CHOICES[-1]])
def test_no_option_loses_anything(name, options):
    result = replay_named(ModelTransport(), name, options=options, confirm_delay=16)
    check_truth(result, truth_of(name))


@pytest.mark.parametrize("options", [*FLOW_OPTIONS, CHOICES[-1]])
def test_same_report_whatever_is_in_flight_together(options, monkeypatch):
    together = replay_named(ModelTransport(), LOSSY, options=options).report
    monkeypatch.setattr("sealane.driver.replay.rx.batches.BATCH", 1)
    assert replay_named(ModelTransport(), LOSSY, options=options).report == together


class MoreProofs(IntEnum):
    """The proofs that there are, and one that nobody has thought of yet."""

    NOTHING = 0
    SOFTWARE = 1
    WALK = 2
    ORACLE = 9


@pytest.mark.parametrize(
    ("options", "counts", "names"),
    [
        (Option.NONE, {}, ["software", "walk"]),
        (Option.NONE, {1: 2}, ["software", "walk"]),
        (Option.NONE, {9: 1}, ["software", "walk", "oracle"]),
        (Option.TAG_PROOF, {}, ["software", "walk", "oracle"]),
        (Option.ONE_BIT | Option.MARK_REST, {2: 1}, ["software", "walk"]),
    ],
)
def test_proofs_are_named_as_in_the_contract(options, counts, names, monkeypatch):
    monkeypatch.setattr(host, "ProvenBy", MoreProofs)
    one = host.HostDirection.__new__(host.HostDirection)
    one.options, one.counts = options, host.RxCounts(proven_by=Counter(counts))
    got = one.proven_by()
    assert list(got) == names
    assert got == {
        by.name.lower(): counts.get(by, 0) for by in MoreProofs if by.name.lower() in names
    }


def test_only_the_tag_needs_an_option():
    """The report shows other proofs where a flow may see them, which is said by TAG_PROOF alone."""
    assert {by.name for by in ProvenBy} - {"NOTHING", "SOFTWARE", "WALK"} <= {"TAG"}
