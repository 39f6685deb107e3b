# SPDX-License-Identifier: Apache-2.0
"""`sealane sweep`: its report, its picture, and what it says of arguments that make no sense."""

import json
import subprocess
import sys

import pytest
from sealane.scripts.cli import main
from sealane.scripts.sweep_picture import draw

SMALL = ["sweep", "--record-bytes", "2000", "--window", "16"]
FIELDS = [
    "device", "engine", "loss", "reorder", "runs", "slots", "seed", "records", "whole", "partial",
    "none", "wrong_marks",
]


def swept(tmp_path, *arguments):
    out = tmp_path / "out.json"
    assert main([*SMALL, "--json", str(out), *arguments]) == 0
    return json.loads(out.read_text())


def test_report(tmp_path, capsys):
    """Every combination, ours and the in-order device on the same arrivals."""
    report = swept(tmp_path, "--loss", "0,2.5", "--reorder", "0,20", "--runs", "4,8",
                   "--slots", "2,3", "--records", "60", "--jobs", "1", "--seed", "7")
    assert list(report) == ["schema", "points"]
    assert report["schema"] == "sealane.sweep/1"
    points = report["points"]
    assert all(list(point) == FIELDS for point in points)
    for device in ("sealane", "in-order"):
        assert sorted(
            (p["loss"], p["reorder"], p["runs"], p["slots"]) for p in points
            if p["device"] == device
        ) == [(a, b, c, d) for a in (0, 2.5) for b in (0, 20) for c in (4, 8) for d in (2, 3)]
    for p in points:
        assert (p["engine"], p["seed"], p["records"], p["wrong_marks"]) == ("model", 7, 60, 0)
        assert p["whole"] + p["partial"] + p["none"] == 60
        assert p["whole"] == 60 or p["loss"] or p["reorder"]
    said = capsys.readouterr()
    assert said.err == "" and "in-order" in said.out


def test_processes_change_nothing(tmp_path):
    arguments = ["--loss", "3", "--records", "1100", "--version", "1.2"]
    assert swept(tmp_path, *arguments, "--jobs", "1") == swept(tmp_path, *arguments, "--jobs", "2")


def test_defaults(tmp_path):
    """The device's own size, and loss as published."""
    points = swept(tmp_path, "--records", "2", "--jobs", "1")["points"]
    assert [p["loss"] for p in points if p["device"] == "sealane"] == [0, 0.5, 1, 2, 3, 5]
    assert {(p["reorder"], p["slots"], p["runs"]) for p in points} == {(0, 5, 12)}


@pytest.mark.parametrize("arguments", [
    ["--loss", "x"], ["--loss", "1,,2"], ["--loss", "nan"], ["--loss", "101"], ["--reorder", "-1"],
    ["--slots", "9"], ["--slots", "4.5"], ["--runs", "1"], ["--engine", "fpga"],
    ["--records", "0"], ["--jobs", "0"], ["--mss", "9000"], ["--window", "0"],
    ["--record-bytes", "16385"], ["--version", "1.1"], ["--answer-delay", "-1"],
    ["--displace", "0"], ["--json", "."], ["--json", "nowhere/x.json"], ["--picture", "x.txt"],
])
def test_arguments_that_make_no_sense(arguments, capsys):
    try:
        status = main(["sweep", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1 and said.err.startswith("sealane sweep: ")


def test_as_a_program(tmp_path):
    """Silent in a pipe but for the table; a picture beside the report."""
    picture = tmp_path / "out.png"
    done = subprocess.run(
        [sys.executable, "-m", "sealane.scripts.cli", *SMALL, "--loss", "0,5", "--records", "40",
         "--jobs", "2", "--picture", picture],
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("loss, reorder", [((1,), (0, 5, 20)), ((0, 5), (0, 10)), ((2,), (0,))])
def test_any_report_can_be_drawn(tmp_path, loss, reorder):
    """Over loss, over reordering where only that varies, and a single point."""
    points = [
        dict(zip(FIELDS, (device, "rtl", a, b, 8, 4, 1, 100, 90 - a - b, 5, 5 + a + b, 0),
                 strict=True))
        for a in loss for b in reorder for device in ("sealane", "in-order")
    ]
    draw({"points": points}, tmp_path / "x.svg")
    assert b"record slots" in (tmp_path / "x.svg").read_bytes()
