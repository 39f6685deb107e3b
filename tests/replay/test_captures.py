# SPDX-License-Identifier: Apache-2.0
"""The software truth against what the captures' makers wrote down of every record."""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import pytest

from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.oracle import decode_capture
from sealane.driver.tls.keylog import Keylog
from sealane.driver.tls.records import Outcome, Phase

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
NAMES = sorted(path.stem for path in CAPTURES.glob("*.json"))
PHASES = {Phase.PLAIN: "plain", Phase.HANDSHAKE: "hs", Phase.APPLICATION: "app"}


def decode(name):
    capture = read_capture(CAPTURES / f"{name}.pcap.gz")
    assert not capture.warnings
    return decode_capture(capture.packets, Keylog.read(CAPTURES / f"{name}.keys"))


def test_there_are_captures():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_capture(name):
    wanted = json.loads((CAPTURES / f"{name}.json").read_text())
    truths = decode(name)
    assert len(truths) == len(wanted["connections"])
    for truth, connection in zip(truths, wanted["connections"], strict=True):
        tcp = truth.tcp
        assert (tcp.client.host, tcp.client.port) == (connection["client"], connection["cport"])
        assert (tcp.server.host, tcp.server.port) == (connection["server"], connection["sport"])
        assert truth.tls.version == connection["version"]
        assert truth.offloadable == connection["offloadable"]
        assert truth.tls.cipher.replace("_WITH", "").replace("_", "-").startswith("TLS-")
        for direction in ("c2s", "s2c"):
            got, expected = truth[direction], connection[direction]
            authenticated = [
                record
                for record in got.records
                if record.outcome is Outcome.OK
                and record.epoch > 0
                and not (record.outer_type == 20 and truth.tls.version == "1.3")
            ]
            assert got.stream_bytes == expected["stream_bytes"]
            assert got.app_sha256 == expected["app_sha256"]
            assert len(got.app_bytes) == expected["app_bytes"]
            assert got.app_records == expected["app_records"]
            assert len(got.records) == expected["records"]
            assert got.app_records + got.other_records == expected["records"]
            assert len(authenticated) == expected["auth_ok"]
            assert got.refused_records == expected["bad_tag"] + expected["refused"]
            assert got.key_updates == expected["key_updates"]
            assert got.leftover_bytes == expected["leftover"]


@pytest.mark.parametrize("name", NAMES)
def test_every_record(name):
    with gzip.open(CAPTURES / f"{name}.records.csv.gz", "rb") as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    truths = decode(name)
    by_direction = {}
    for row in rows:
        by_direction.setdefault((int(row["conn"]), row["dir"]), []).append(row)
    for (index, direction), expected in by_direction.items():
        truth = truths[index]
        for record, row in zip(truth[direction].records, expected, strict=True):
            assert record.offset == int(row["off"])
            assert record.wire_length == int(row["wire"])
            assert (record.outer_type, record.inner_type) == (int(row["otype"]), int(row["itype"]))
            assert len(record.plaintext) == int(row["plen"])
            assert hashlib.sha256(record.plaintext).hexdigest()[:16] == row["sha"]
            assert record.outcome is Outcome.OK and row["ok"] in ("clear", "auth")
            if row["ok"] == "auth":
                assert PHASES[record.phase] == row["epoch"]
                assert record.number == int(row["seq"])
                # Key generations of TLS 1.3 count from the first application keys, our epoch 2.
                first = 1 if truth.tls.version == "1.2" else 2
                if row["epoch"] == "app":
                    assert record.epoch - first == int(row["gen"]) - (first == 1)
                assert record.padding == int(row["pad"] or 0)
                assert record.explicit_nonce.hex() == row["nonce"]


@pytest.mark.parametrize("name", NAMES)
def test_first_install_is_behind_finished(name):
    for truth in decode(name):
        for direction in ("c2s", "s2c"):
            install = truth[direction].installs[0]
            tls13 = truth.tls.version == "1.3"
            assert install.number == (0 if tls13 else 1)
            following = [r for r in truth[direction].records if r.offset == install.offset]
            assert [(r.number, r.epoch) for r in following] == [(install.number, install.epoch)]
