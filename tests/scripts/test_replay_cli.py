# SPDX-License-Identifier: Apache-2.0
"""`sealane replay` as a user meets it: files in and out, tables, errors and exit statuses."""

import gzip
import json
import os

import pytest

from sealane.scripts.cli import main
from sealane.scripts.replay import command as replay_command
from tests.support.replay_command import EVENT, RX, refused, sealane
from tests.support.replays import CAPTURES, DIRECTIONS, truth_of

NAME = "c03_tls13_aes128_max"
CAPTURE, KEYS = CAPTURES / f"{NAME}.pcap.gz", CAPTURES / f"{NAME}.keys"


def test_report_plaintext_and_picture(tmp_path):
    report, plain, picture = tmp_path / "r.json", tmp_path / "plain", tmp_path / "p.png"
    done = sealane(
        CAPTURE,
        "--keylog",
        KEYS,
        "--engine",
        "model",
        "--report",
        report,
        "--plaintext",
        plain,
        "--plot",
        picture,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout, "no colours and no progress in a pipe"
    assert NAME in done.stdout and "0 c2s       12   100%    0%    0%      147" in done.stdout
    got = json.loads(report.read_text())
    want = truth_of(NAME)["connections"][0]
    for direction in DIRECTIONS:
        assert (plain / f"0.{direction}.bin").stat().st_size == want[direction]["app_bytes"]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert got["capture"] == CAPTURE.name


def test_report_follows_the_schema(tmp_path):
    report = tmp_path / "r.json"
    name = "l3_tls13_aes256_loss3_srv"
    assert (
        sealane(
            CAPTURES / f"{name}.pcap.gz",
            "--keylog",
            CAPTURES / f"{name}.keys",
            "--engine",
            "model",
            "--report",
            report,
        ).returncode
        == 0
    )
    got = json.loads(report.read_text())
    assert list(got) == ["schema", "capture", "engine", "errors", "events", "connections"]
    assert (got["schema"], got["engine"]) == ("sealane.replay/1", "model")
    for connection in got["connections"]:
        assert list(connection) == [
            "index",
            "client",
            "client_port",
            "server",
            "server_port",
            "version",
            "cipher",
            "offloaded",
            "reason",
            "c2s",
            "s2c",
        ]
        for direction in DIRECTIONS:
            rx = connection[direction]["rx"]
            assert {key: type(value) for key, value in rx.items()} == RX
            assert list(rx["resync"]) == ["requested", "confirmed", "refused", "proven_by"]
            assert list(rx["resync"]["proven_by"]) == ["software", "walk"]
            assert all(reason == reason.lower() for reason in rx["reasons"])
    assert got["events"]
    packets = [event["packet"] for event in got["events"]]
    assert packets == sorted(packets)
    assert all(list(event) == EVENT for event in got["events"])


def test_missing_capture():
    assert "nowhere.pcap" in refused("nowhere.pcap", "--keylog", KEYS, "--engine", "model")


def test_missing_key_log():
    assert "nowhere.keys" in refused(CAPTURE, "--keylog", "nowhere.keys", "--engine", "model")


@pytest.mark.parametrize("content", [b"", b"no capture at all", b"\x1f\x8b\x08broken"])
def test_file_that_is_no_capture(tmp_path, content):
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    assert "x.pcap" in refused(path, "--keylog", KEYS, "--engine", "model")


def test_key_log_without_keys(tmp_path):
    path = tmp_path / "x.keys"
    path.write_text("# nothing here\n")
    assert "x.keys" in refused(CAPTURE, "--keylog", path, "--engine", "model")


def test_output_that_cannot_be_written(tmp_path):
    line = refused(
        CAPTURE, "--keylog", KEYS, "--engine", "model", "--report", tmp_path / "no" / "r.json"
    )
    assert "r.json" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--report", "."],
        ["--report", "no/r.json"],
        ["--packets", "."],
        ["--packets", "no/p.csv"],
        ["--report", CAPTURE],
        ["--packets", KEYS],
        ["--waves", "no/x.fst"],
        ["--plot", "."],
        ["--plot", "no/p.png"],
        ["--plot", "p.docx"],
        ["--plaintext", KEYS],
    ],
)
def test_outputs_are_looked_at_before_the_work(arguments):
    assert str(arguments[1]) in refused(CAPTURE, "--keylog", KEYS, "--engine", "model", *arguments)


def test_file_names_are_only_names(tmp_path):
    """Markup, mathematics, line ends and bytes that are no text."""
    name = os.fsdecode(b"a[red]$_{$\xff\nb.pcap")
    (tmp_path / name).write_bytes(gzip.decompress(CAPTURE.read_bytes())[:200_000])
    report, plot = tmp_path / "r.json", tmp_path / "picture"
    done = sealane(
        tmp_path / name, "--keylog", KEYS, "--engine", "model", "--report", report, "--plot", plot
    )
    assert done.returncode == 0 and "[red]" in done.stdout
    assert json.loads(report.read_text())["capture"] == "a[red]$_{$?\nb.pcap"
    assert plot.read_bytes().startswith(b"\x89PNG")
    refused(tmp_path / "no" / name, "--keylog", KEYS, "--engine", "model")


def test_interrupted(monkeypatch, capsys):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(replay_command, "read_capture", interrupt)
    assert main(["replay", str(CAPTURE), "--keylog", str(KEYS), "--engine", "model"]) == 130
    assert capsys.readouterr().err == "sealane replay: interrupted\n"


def test_no_file_is_written_twice_or_read_and_written(tmp_path):
    """A capture is not overwritten by its report, by whatever name."""
    (tmp_path / "x.pcap.gz").symlink_to(CAPTURE)
    one, common = tmp_path / "one", ("--keylog", KEYS, "--engine", "model")
    assert "--report" in refused(CAPTURE, *common, "--report", one, "--packets", one)
    assert "capture" in refused(tmp_path / "x.pcap.gz", *common, "--packets", CAPTURE)
    assert not one.exists()
    assert sealane(CAPTURE, *common, "--report", os.devnull, "--packets", os.devnull).stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engine", "fpga"],
        ["--confirm-delay", "x"],
        ["--confirm-delay", "-1"],
        ["--engine", "model", "--waves", "x.fst"],
    ],
)
def test_arguments_that_make_no_sense(arguments):
    refused(CAPTURE, "--keylog", KEYS, *arguments)


def test_capture_cut_short_is_reported_and_replayed(tmp_path):
    path, report = tmp_path / "x.pcap.gz", tmp_path / "r.json"
    path.write_bytes(CAPTURE.read_bytes()[:300_000])
    done = sealane(path, "--keylog", KEYS, "--engine", "model", "--report", report)
    assert done.returncode == 0
    errors = json.loads(report.read_text())["errors"]
    assert errors and all("cut short" in error for error in errors)
    assert len(done.stderr.splitlines()) == len(errors)
