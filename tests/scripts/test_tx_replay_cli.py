# SPDX-License-Identifier: Apache-2.0
"""`sealane replay --direction tx` as a user meets it: report, tables, files and what is refused."""

import csv
import gzip
import json

import pytest

from sealane.scripts.cli import main
from tests.support.replay_command import EVENT, RX, refused, sealane
from tests.support.replays import CAPTURES, DIRECTIONS, truth_of

NAME = "l3_tls12_aes128_loss3_cli"
CAPTURE, KEYS = CAPTURES / f"{NAME}.pcap.gz", CAPTURES / f"{NAME}.keys"
MODEL = [CAPTURE, "--keylog", KEYS, "--engine", "model"]

# Every member of a direction's `tx`; the first eight are those of the schema sealane.replay/1.
TX = {
    "segments": int,
    "identical": int,
    "clear_bytes": int,
    "dropped": int,
    "reasons": dict,
    "tag_mismatch": int,
    "by_way": dict,
    "wire": int,
    "wire_reasons": dict,
    "retransmitted": int,
    "retransmitted_bytes": int,
    "bus_bytes": dict,
}
BY_WAY = ["in_order", "seek", "tag", "rebuild", "next_record", "software"]
TOP = [
    "schema",
    "capture",
    "engine",
    "direction",
    "tx_mode",
    "tx_rekey",
    "ack_delay",
    "errors",
    "events",
    "counters",
    "connections",
]


def run(capsys, *arguments):
    """The command in this process; returns what it printed."""
    status = main(["replay", *map(str, MODEL), *map(str, arguments)])
    out = capsys.readouterr()
    assert (status, out.err) == (0, "")
    return out.out


def test_report_follows_the_schema(tmp_path, capsys):
    report, plain = tmp_path / "r.json", tmp_path / "plain"
    run(capsys, "--direction", "tx", "--report", report, "--plaintext", plain)
    got = json.loads(report.read_text())
    assert list(got) == TOP
    assert (got["schema"], got["engine"], got["direction"]) == ("sealane.replay/1", "model", "tx")
    assert (got["tx_mode"], got["tx_rekey"], got["ack_delay"]) == ("auto", "epochs", 0.05)
    (connection,) = got["connections"]
    for direction in DIRECTIONS:
        tx = connection[direction]["tx"]
        assert {key: type(value) for key, value in tx.items()} == TX
        assert list(tx["by_way"]) == BY_WAY
        size = truth_of(NAME)["connections"][0][direction]["app_bytes"]
        assert (plain / f"0.{direction}.bin").stat().st_size == size
    assert [event["kind"] for event in got["events"]] == ["tx_installed"] * 2
    assert all(list(event) == EVENT for event in got["events"])
    assert got["counters"]["tx_tls_encrypted_packets"] == 640


def test_tables(capsys):
    """What a terminal of 80 columns shows."""
    out = run(capsys, "--direction", "tx")
    lines = out.splitlines()
    tables = lines[3 : lines.index("", len(lines) - 3)]
    assert all(len(line) <= 80 for line in tables)
    assert lines[0] == f"{NAME}.pcap.gz: transmit, model engine"
    assert "0 c2s       401   100%      0        0         0         0       138" in lines
    assert "0 c2s    263   119   19        0       0         0" in lines
    assert "all      471   133   22       14       0         0" in lines
    assert "rebuild         14   21196  20111     0   112         0" in lines
    assert "\x1b" not in out
    out = run(capsys, "--direction", "tx", "--tx-mode", "software")
    assert out.startswith(f"{NAME}.pcap.gz: transmit, model engine with tx-mode software\n")


def test_each_segment(tmp_path, capsys):
    """--packets: a line for each segment, here those of a forced way."""
    path = tmp_path / "x.csv"
    run(capsys, "--direction", "tx", "--tx-mode", "rebuild", "--packets", path)
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
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
    ]
    assert len(lines) == 640 and {line["identical"] for line in lines} == {"1"}
    rebuilt = [line for line in lines if line["way"] == "rebuild"]
    assert len(rebuilt) == 138 + 31
    assert sum(int(line["reread"]) for line in lines) == 733_115 + 79_616 + 20_111
    packets = [int(line["packet"]) for line in lines]
    assert sorted(packets) == packets


def test_segments_that_are_dropped(tmp_path, capsys):
    """Records forgotten at once: the reason stands in the table and in the report."""
    report = tmp_path / "r.json"
    out = run(capsys, "--direction", "tx", "--ack-delay", 0, "--report", report)
    cells = ["0", "s2c", "1", "dropped", "tx_tls_drop_no_sync_data"]
    assert cells in [line.split() for line in out.splitlines()]
    tx = json.loads(report.read_text())["connections"][0]["s2c"]["tx"]
    assert tx["reasons"] == {"tx_tls_drop_no_sync_data": 1}


def test_both_directions_of_the_device(tmp_path, capsys):
    report, plain, picture = tmp_path / "r.json", tmp_path / "plain", tmp_path / "p.png"
    out = run(
        capsys, "--direction", "both", "--report", report, "--plaintext", plain, "--plot", picture
    )
    assert out.startswith(f"{NAME}.pcap.gz: receive and transmit, model engine\n")
    assert "Decrypted by the hardware" in out and "What left, against the capture" in out
    got = json.loads(report.read_text())
    assert got["direction"] == "both" and set(got) == set(TOP)
    for direction in DIRECTIONS:
        members = got["connections"][0][direction]
        assert list(members) == ["rx", "tx"]
        assert {key: type(value) for key, value in members["rx"].items()} == RX
        assert {key: type(value) for key, value in members["tx"].items()} == TX
        size = truth_of(NAME)["connections"][0][direction]["app_bytes"]
        assert (plain / f"0.{direction}.bin").stat().st_size == size
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_suite_that_no_card_does(capsys):
    name = "c27_chacha_tls13"
    status = main(
        [
            "replay",
            str(CAPTURES / f"{name}.pcap.gz"),
            "--keylog",
            str(CAPTURES / f"{name}.keys"),
            "--engine",
            "model",
            "--direction",
            "tx",
        ]
    )
    out = capsys.readouterr().out
    assert status == 0 and "not offloaded: cipher suite TLS_CHACHA20" in out
    assert "Segments by way" not in out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--tx-mode", "seek"], "--tx-mode: needs --direction tx or both"),
        (["--tx-rekey", "gap"], "--tx-rekey: needs"),
        (["--ack-delay", "0"], "--ack-delay: needs"),
        (["--direction", "tx", "--ack-delay", "-1"], "0 or more milliseconds"),
        (["--direction", "tx", "--ack-delay", "nan"], "0 or more milliseconds"),
        (["--direction", "both", "--ack-delay", "inf"], "0 or more milliseconds"),
        (["--direction", "tx", "--plot", "x.png"], "--plot: needs --direction rx or both"),
        (["--direction", "tx", "--confirm-delay", "3"], "--confirm-delay: needs"),
        (["--direction", "tx", "--one-bit"], "--one-bit: needs"),
        (["--direction", "both", "--packets", "x.csv"], "--packets: needs"),
        (["--direction", "tx", "--waves", "x.fst"], "--waves needs --engine rtl"),
    ],
)
def test_combinations_that_mean_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    """One line and status 2, before any work and without any file."""
    monkeypatch.chdir(tmp_path)
    assert main(["replay", *map(str, MODEL), *arguments]) == 2
    out = capsys.readouterr()
    assert out.out == "" and len(out.err.splitlines()) == 1 and words in out.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--direction", "up"],
        ["--direction", "tx", "--tx-mode", "up"],
        ["--direction", "tx", "--tx-rekey", "up"],
        ["--direction", "tx", "--ack-delay", "soon"],
    ],
)
def test_values_that_do_not_exist(arguments):
    assert arguments[-2] in refused(*MODEL, *arguments)


@pytest.mark.parametrize("direction", ["tx", "both"])
def test_bad_files(direction, tmp_path):
    """A capture and a key log that cannot be read."""
    broken = tmp_path / "x.pcap"
    broken.write_bytes(b"no capture at all")
    tail = ["--engine", "model", "--direction", direction]
    assert "x.pcap" in refused(broken, "--keylog", KEYS, *tail)
    assert "nowhere" in refused("nowhere", "--keylog", KEYS, *tail)
    assert "nowhere" in refused(CAPTURE, "--keylog", "nowhere", *tail)


def test_a_capture_that_is_cut(tmp_path):
    """What is whole is replayed; the rest is said, and the status is 0."""
    path = tmp_path / "cut.pcap"
    data = gzip.decompress(CAPTURE.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    report = tmp_path / "r.json"
    done = sealane(
        path, "--keylog", KEYS, "--engine", "model", "--direction", "tx", "--report", report
    )
    assert done.returncode == 0
    assert done.stderr == "sealane replay: warning: the file is cut short\n"
    for direction in DIRECTIONS:
        tx = json.loads(report.read_text())["connections"][0][direction]["tx"]
        assert tx["identical"] == tx["segments"] > 50
        assert set(tx["wire_reasons"]) <= {"unknown_plaintext"}
