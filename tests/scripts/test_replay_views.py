# SPDX-License-Identifier: Apache-2.0
"""What `sealane replay` shows of a report: shares, reasons, resyncs, and a line for each packet.

The judges are the capture's bytes read by another library and the software truth.
"""

import csv
import gzip
import io
from collections import Counter

import dpkt
import pytest
from rich.console import Console

from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.oracle import decode_capture
from sealane.driver.tls.keylog import Keylog
from sealane.scripts.cli import main
from sealane.scripts.replay.command import PACKET_COLUMNS, show
from sealane.scripts.replay.tables import MAX_RESYNCS, resyncs, share, shares
from tests.support.replays import CAPTURES, DIRECTIONS, NAMES, replay_named, truth_of, whole

LOSSY = "l3_tls13_aes256_loss3_srv"


def printed(report, width=80):
    """What the command prints of a report, line by line."""
    out = io.StringIO()
    show(report, Console(file=out, width=width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_the_hardware_decrypted(name):
    """Byte by byte, by which packet brought it first, against the truth's records."""
    result = replay_named(ModelTransport(), name)
    truths = decode_capture(
        read_capture(CAPTURES / f"{name}.pcap.gz").packets, Keylog.read(CAPTURES / f"{name}.keys")
    )
    for index, truth in enumerate(truths):
        header = 13 if truth_of(name)["connections"][index]["version"] == "1.2" else 5
        for direction in DIRECTIONS:
            owner: dict[int, bool] = {}
            for s in result.trace.segments:
                if (s.connection, s.direction) == (
                    index,
                    direction,
                ) and s.outcome != "bad_checksum":
                    for at in range(s.offset, s.offset + s.length):
                        owner.setdefault(at, s.outcome == "decrypted")
            app = truth[direction].accepted(True)
            rx = result.report["connections"][index][direction]["rx"]
            assert rx["app_bytes_decrypted"] == sum(
                owner[at]
                for r in app
                for at in range(r.offset + header, r.offset + header + len(r.plaintext))
            )
            done = whole(result, index, direction)
            assert rx["app_bytes_full"] == sum(len(r.plaintext) for r in app if r.offset in done)
    offloaded = any(c["offloadable"] for c in truth_of(name)["connections"])
    decrypted = [
        c[w]["rx"]["app_bytes_decrypted"] for c in result.report["connections"] for w in DIRECTIONS
    ]
    assert any(decrypted) == offloaded


@pytest.mark.parametrize("name", [LOSSY, "c14_ipv6_vlan_tls12", "c37_tls13_keyupdate_corked"])
def test_a_line_for_each_packet(name, tmp_path, capsys):
    """Numbers as another reader of the capture finds them; reasons summed as in the report."""
    listing, capture = tmp_path / "p.csv", CAPTURES / f"{name}.pcap.gz"
    assert (
        main(
            [
                "replay",
                str(capture),
                "--keylog",
                str(CAPTURES / f"{name}.keys"),
                "--engine",
                "model",
                "--packets",
                str(listing),
            ]
        )
        == 0
    )
    assert capsys.readouterr().err == ""
    with listing.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(PACKET_COLUMNS)
    packets = list(dpkt.pcap.Reader(io.BytesIO(gzip.decompress(capture.read_bytes()))))
    assert [int(row["packet"]) for row in rows] == list(range(len(packets)))
    bases = {}
    for row, (time, frame) in zip(rows, packets, strict=True):
        assert abs(float(row["time"]) - (time - packets[0][0])) < 1e-5
        tcp = dpkt.ethernet.Ethernet(frame).data.data
        if not isinstance(tcp, dpkt.tcp.TCP):
            assert (row["seq"], row["connection"], row["reason"]) == ("", "", "not_tcp")
            continue
        assert (int(row["seq"]), int(row["length"])) == (tcp.seq, len(tcp.data))
        stream = row["connection"], row["dir"]
        if tcp.flags & dpkt.tcp.TH_SYN:
            bases[stream] = tcp.seq + 1
        elif row["offset"]:
            assert int(row["offset"]) == (tcp.seq - bases[stream]) % 2**32
        assert (row["marked"] == "1") == (row["reason"] == "none")
    report = replay_named(ModelTransport(), name).report
    for connection in report["connections"]:
        for direction in DIRECTIONS:
            stream = str(connection["index"]), direction
            mine = [r for r in rows if (r["connection"], r["dir"]) == stream and int(r["length"])]
            rx = connection[direction]["rx"]
            assert len(mine) == rx["segments"]
            reasons = Counter(r["reason"] for r in mine)
            assert reasons.pop("none", 0) == rx["segments_decrypted"]
            assert reasons == rx["reasons"]


def test_shares_reasons_and_resyncs_in_80_columns():
    report = replay_named(ModelTransport(), LOSSY, confirm_delay=16).report
    lines = printed(report)
    assert max(map(len, lines)) <= 80
    (connection,) = report["connections"]
    ways = [connection[direction]["rx"] for direction in DIRECTIONS]
    rows = [line.split() for line in lines]
    for direction, rx in zip(DIRECTIONS, ways, strict=True):
        own = [row[2:] for row in rows if row[:2] == ["0", direction]]
        records, size = rx["app_records"], rx["app_bytes"]
        assert own[0] == [
            str(records),
            *(share(rx[f"records_{how}"], records) for how in ("full", "partial", "none")),
            str(rx["segments"]),
            share(rx["segments_decrypted"], rx["segments"]),
            str(size),
            share(rx["app_bytes_decrypted"], size),
            share(rx["app_bytes_full"], size),
        ]
        assert own[1][0] == str(rx["segments"] - rx["segments_decrypted"])
    every = [row[1:] for row in rows if row[:1] == ["all"]]
    assert every[0][0] == str(sum(rx["app_records"] for rx in ways))
    assert every[0][1] == share(
        sum(rx["records_full"] for rx in ways), sum(rx["app_records"] for rx in ways)
    )
    assert every[1][0] == str(sum(rx["segments"] - rx["segments_decrypted"] for rx in ways))
    for event in report["events"]:
        if event["kind"] == "resumed":
            assert [event["proven_by"], str(event["packet"]), str(event["resumed_at"])] in [
                row[-3:] for row in rows
            ]
    found = resyncs(report["events"])
    for direction, rx in zip(DIRECTIONS, ways, strict=True):
        proven = Counter(one["proven_by"] for one in found if one["dir"] == direction)
        assert all(proven[by] == n for by, n in rx["resync"]["proven_by"].items())


def test_no_line_ends_before_its_reasons():
    """A reason that is long is folded, not cut; names of the capture are only names."""
    report = replay_named(ModelTransport(), "c27_chacha_tls13").report
    report["capture"] = "[red]x[/] :smile:\n\x1b[2J"
    text = "\n".join(printed(report, 40))
    assert "[red]x[/] :smile:??[2J: receive" in text
    assert report["connections"][0]["reason"] in text
    assert "no_flow" in text and "…" not in text


def test_nothing_to_show():
    report = {"capture": "x", "engine": "model", "connections": [], "events": []}
    assert printed(report) == ["x: receive, model engine", "no TCP connection in the capture"]


@pytest.mark.parametrize(
    ("part", "all_", "text"),
    [
        (0, 0, "-"),
        (0, 9, "0%"),
        (9, 9, "100%"),
        (1, 3, "33.3%"),
        (9999, 10_000, "99.9%"),
        (1, 10_000, "0.1%"),
    ],
)
def test_all_and_nothing_are_said_only_where_it_is_so(part, all_, text):
    assert share(part, all_) == text


def event(kind, packet, guess=None, lost_at=None, proven_by=None, resumed_at=None, direction="c2s"):
    return {
        "packet": packet,
        "time": packet / 10,
        "connection": 0,
        "dir": direction,
        "kind": kind,
        "lost_at": lost_at,
        "guess": guess,
        "proven_by": proven_by,
        "resumed_at": resumed_at,
    }


def test_a_resync_from_its_question_to_its_proof():
    found = resyncs(
        [
            event("installed", 0, resumed_at=5),
            event("resync_request", 1, 100, 50),
            event("resync_request", 2, 100, 60, direction="s2c"),
            event("resync_confirmed", 3, 100),
            event("resumed", 4, 100, 50, "software", 200),
            event("resync_request", 5, 300, 250),
            event("resync_request", 6, 400, 300),
            event("resync_refused", 7, 400),
            event("resumed", 8, 500, 450, "walk", 600),
            event("resync_request", 9, 700, 650),
            event("given_up", 10, lost_at=650),
            event("given_up", 11, lost_at=800),
        ]
    )
    assert [
        (
            one["dir"],
            one["packet"],
            one["lost_at"],
            one["guess"],
            one["proven_by"],
            one["resumed_in"],
            one["resumed_at"],
        )
        for one in found
    ] == [
        ("c2s", 1, 50, 100, "software", 4, 200),
        ("s2c", 2, 60, 100, "not proven", None, None),
        ("c2s", 5, 250, 300, "not proven", None, None),
        ("c2s", 6, 300, 400, "refused", None, None),
        ("c2s", 8, 450, 500, "walk", 8, 600),
        ("c2s", 9, 650, 700, "given up", None, None),
        ("c2s", 11, 800, None, "given up", None, None),
    ]


def test_many_resyncs_are_bounded():
    report = replay_named(ModelTransport(), LOSSY).report
    report["events"] = [event("resumed", i, i, i, "walk", i) for i in range(1000)]
    lines = printed(report)
    assert sum("walk" in line for line in lines) == MAX_RESYNCS
    assert any(f"and {1000 - MAX_RESYNCS} more" in line for line in lines)
    assert shares(report).row_count == 3
