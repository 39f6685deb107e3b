# SPDX-License-Identifier: Apache-2.0
"""Replays of transmit on the Verilated gateware: the captures byte for byte, and the model's very
report."""

import json

import pytest

from rtl_tests.support.reports import differences
from sealane.driver.ktls.tx.plan import TxMode
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.scripts.replay import command as replay
from sealane.sim.transport import RtlTransport
from tests.support.replays import CAPTURES
from tests.support.tx_replays import CONFIG, all_identical, tx_replay_named

CLIENT, SERVER = "l3_tls12_aes128_loss3_cli", "l3_tls13_aes256_loss3_srv"
SMALL = "c06_tls13_aes128_tiny"
KEY_UPDATES = "c37_tls13_keyupdate_corked"


def check_same(name, device=None, **options):
    """A capture through gateware and model: identical to the capture, and all else the same."""
    with RtlTransport(CONFIG, **(device or {})) as transport:
        rtl = tx_replay_named(name, transport=transport, engine="rtl", **options)
    model = tx_replay_named(name, **options)
    all_identical(rtl)
    assert differences(model.report, rtl.report) == [".engine: 'model', 'rtl'"]
    assert rtl.trace == model.trace
    assert rtl.plaintext == model.plaintext


@pytest.mark.parametrize("name", [SMALL, CLIENT, SERVER])
def test_capture_on_the_gateware(name):
    check_same(name)


@pytest.mark.parametrize("mode", [TxMode.REBUILD, TxMode.NEXT_RECORD, TxMode.SOFTWARE])
def test_forced_way_on_the_gateware(mode):
    check_same(SERVER, mode=mode)


def test_late_completions_on_the_gateware():
    check_same(CLIENT, completion_delay=20)


@pytest.mark.parametrize("rekey", RekeyMode)
def test_key_updates_on_the_gateware(rekey):
    check_same(KEY_UPDATES, rekey=rekey, ack_delay=0)


def test_gaps_and_backpressure_change_nothing():
    check_same(CLIENT, {"seed": 5, "idle": 0.3, "stall": 0.3})


@pytest.mark.parametrize("name, direction", [(SMALL, "tx"), (SMALL, "both"), (SERVER, "both")])
def test_command_on_the_gateware(name, direction, tmp_path, capsys):
    """What `sealane replay` writes, and what it says in front of the time that it took."""
    reports, said = {}, {}
    for engine in ("model", "rtl"):
        out = tmp_path / f"{engine}.json"
        arguments = [str(CAPTURES / f"{name}.pcap.gz"), "--keylog", str(CAPTURES / f"{name}.keys")]
        arguments += ["--direction", direction, "--engine", engine, "--report", str(out)]
        assert replay.main(arguments) == 0
        reports[engine] = json.loads(out.read_text())
        shown = capsys.readouterr()
        assert shown.err == ""
        assert f", {engine} engine\n" in shown.out
        said[engine] = shown.out.replace(f", {engine} engine\n", "\n", 1).rsplit(" in ", 1)[0]
    assert differences(reports["model"], reports["rtl"]) == [".engine: 'model', 'rtl'"]
    assert said["model"] == said["rtl"]
    for connection in reports["rtl"]["connections"]:
        for way in ("c2s", "s2c"):
            tx = connection[way]["tx"]
            assert tx["identical"] == tx["segments"] > 0 == tx["clear_bytes"]
            assert ("rx" in connection[way]) == (direction == "both")
