# SPDX-License-Identifier: Apache-2.0
"""`sealane sweep`: its report, its picture, and what it says of arguments that make no sense."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from sealane.scripts.cli import main
from sealane.scripts.sweep import command as sweep
from sealane.scripts.sweep.picture import draw

SMALL = ["sweep", "--record-bytes", "2000", "--window", "16"]
FIELDS = [
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
]


def swept(tmp_path, *arguments):
    out = tmp_path / "out.json"
    assert main([*SMALL, "--json", str(out), *arguments]) == 0
    return json.loads(out.read_text())


def test_report(tmp_path, capsys):
    """Every combination, ours and the in-order device on the same arrivals."""
    report = swept(
        tmp_path,
        "--loss",
        "0,2.5",
        "--reorder",
        "0,20",
        "--runs",
        "4,8",
        "--slots",
        "2,3",
        "--records",
        "60",
        "--jobs",
        "1",
        "--seed",
        "7",
    )
    assert list(report) == ["schema", "points"]
    assert report["schema"] == "sealane.sweep/1"
    points = report["points"]
    assert all(list(point) == FIELDS for point in points)
    for device in ("sealane", "in-order"):
        assert sorted(
            (p["loss"], p["reorder"], p["runs"], p["slots"])
            for p in points
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--loss", "x"],
        ["--loss", "1,,2"],
        ["--loss", "nan"],
        ["--loss", "101"],
        ["--reorder", "-1"],
        ["--slots", "9"],
        ["--slots", "4.5"],
        ["--runs", "1"],
        ["--engine", "fpga"],
        ["--records", "0"],
        ["--jobs", "0"],
        ["--mss", "9000"],
        ["--window", "0"],
        ["--record-bytes", "16385"],
        ["--version", "1.1"],
        ["--answer-delay", "-1"],
        ["--displace", "0"],
        ["--tag-proof=1"],
        ["--json", "x.png"],
        ["--json", "."],
        ["--json", "nowhere/x.json"],
        ["--picture", "x.txt"],
    ],
)
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
        [
            sys.executable,
            "-m",
            "sealane.scripts.cli",
            *SMALL,
            "--loss",
            "0,5",
            "--records",
            "40",
            "--jobs",
            "2",
            "--picture",
            picture,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_curves_are_drawn_beside_the_report(tmp_path):
    """Unless another place is named; a report that is no file has nothing beside it."""
    swept(tmp_path, "--loss", "1", "--records", "2", "--jobs", "1")
    assert (tmp_path / "out.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (tmp_path / "out.png").unlink()
    swept(
        tmp_path,
        "--loss",
        "1",
        "--records",
        "2",
        "--jobs",
        "1",
        "--picture",
        str(tmp_path / "other.svg"),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.svg", "out.json"]
    assert main([*SMALL, "--loss", "1", "--records", "2", "--jobs", "1", "--json", os.devnull]) == 0
    assert not os.path.exists(os.devnull + ".png")


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch, capsys):
    """Though it may be hours of work, and without a trace of the trial."""
    monkeypatch.setattr(sweep, "measure", lambda *_: pytest.fail("measured"))
    name = "x" * 300
    assert (
        main([*SMALL, "--json", str(tmp_path / "a.json"), "--picture", str(tmp_path / name)]) == 2
    )
    assert name in capsys.readouterr().err
    assert (
        main(
            [
                *SMALL,
                "--json",
                str(tmp_path / "a.json"),
                "--picture",
                str(tmp_path / "no" / ".." / "a.json"),
            ]
        )
        == 2
    )
    assert list(tmp_path.iterdir()) == []


def end(task):
    """In the place of `work`."""
    os._exit(1)


def test_a_process_that_is_ended_is_one_line(monkeypatch, capsys):
    """As by a machine that is out of memory."""
    monkeypatch.setattr(sweep, "work", end)
    assert main([*SMALL, "--records", "2", "--jobs", "2"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1


def test_records_a_point():
    """As many as the figures in the documentation, unless it is said otherwise."""
    assert sweep.RECORDS == {"model": 20_000, "rtl": 2_000}
    for engine, records in sweep.RECORDS.items():
        parser = argparse.ArgumentParser()
        sweep.add_arguments(parser)
        points = sweep.points_of(parser.parse_args(["--engine", engine]))
        assert {point.records for point in points} == {records}
        tasks = sweep.tasks_of(points)
        assert sum(t.records for t in tasks if t.config is None) == records * len(points)


def test_progress_counts_every_record():
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    points = sweep.points_of(
        parser.parse_args(
            ["--loss", "0,5", "--records", "1100", "--record-bytes", "200", "--runs", "4,8"]
        )
    )
    done = []
    sweep.measure(points, 2, done.append)
    assert sum(done) == sum(task.records for task in sweep.tasks_of(points)) == 6 * 1100
    assert len(done) == 12


@pytest.mark.parametrize("loss, reorder", [((1,), (0, 5, 20)), ((0, 5), (0, 10)), ((2,), (0,))])
def test_any_report_can_be_drawn(tmp_path, loss, reorder):
    """Over loss, over reordering where only that varies, and a single point."""
    points = [
        dict(
            zip(
                FIELDS,
                (device, "rtl", a, b, 8, 4, 1, 100, 90 - a - b, 5, 5 + a + b, 0),
                strict=True,
            )
        )
        for a in loss
        for b in reorder
        for device in ("sealane", "in-order")
    ]
    draw({"points": points}, tmp_path / "x.svg")
    drawn = (tmp_path / "x.svg").read_bytes()
    assert b"record slots" in drawn and b"in-order device" in drawn
    assert b"100 records a point" in drawn


def test_many_sizes_share_colours_and_markers(tmp_path):
    """Three slots by four runs: seven entries of the legend and the in-order device."""
    points = [
        dict(zip(FIELDS, (device, "model", a, 0, r, s, 1, 100, 90 - a, 5, 5 + a, 0), strict=True))
        for a in (0, 5)
        for r in (4, 8, 12, 32)
        for s in (4, 5, 8)
        for device in ("sealane", "in-order")
    ]
    draw({"points": points}, tmp_path / "x.svg")
    drawn = (tmp_path / "x.svg").read_text()
    assert [drawn.count(f"<!-- sealane, {s} record slots -->") for s in (4, 5, 8)] == [1] * 3
    assert [drawn.count(f"<!-- sealane, {r} runs -->") for r in (4, 8, 12, 32)] == [1] * 4
    assert drawn.count("<!-- in-order device") == 1
