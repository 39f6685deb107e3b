# SPDX-License-Identifier: Apache-2.0
"""Replays on the Verilated gateware: the truth of every capture, and the model's very report."""

import re

import pytest

from rtl_tests.support.reports import differences
from sealane.driver.model.device import ModelTransport
from sealane.sim import build
from sealane.sim.transport import RtlTransport
from tests.support.replays import DIRECTIONS, NAMES, check_truth, replay_named, truth_of


@pytest.mark.parametrize("name", NAMES)
def test_capture_on_the_gateware(name):
    with RtlTransport() as transport:
        rtl = replay_named(transport, name, "rtl")
    model = replay_named(ModelTransport(), name)
    check_truth(rtl, truth_of(name))
    assert differences(model.report, rtl.report) == [".engine: 'model', 'rtl'"]
    assert rtl.trace == model.trace
    assert rtl.plaintext == model.plaintext


@pytest.mark.parametrize("delay", [1, 7])
def test_late_reactions_on_the_gateware(delay):
    name = "l3_tls13_aes256_loss3_srv"
    with RtlTransport() as transport:
        rtl = replay_named(transport, name, "rtl", confirm_delay=delay)
    model = replay_named(ModelTransport(), name, confirm_delay=delay)
    assert differences(model.report, rtl.report) == [".engine: 'model', 'rtl'"]


@pytest.mark.parametrize("name", ["c06_tls13_aes128_tiny", "l3_tls12_aes128_loss3_cli"])
def test_gaps_and_backpressure_change_nothing(name):
    with RtlTransport(seed=5, idle=0.3, stall=0.3) as transport:
        rtl = replay_named(transport, name, "rtl")
    model = replay_named(ModelTransport(), name)
    assert differences(model.report, rtl.report) == [".engine: 'model', 'rtl'"]


def without_one_gate(verilog):
    """The device's Verilog with one of the 128 XOR gates that make text taken out: bit 0 of each
    block leaves as it came."""
    begin = verilog.index("module \\sealane.cipher.datapath (")
    end = verilog.index("endmodule", begin)
    pattern = r"(assign \S+ += received \^ )(\\\S+) ;"
    changed, count = re.subn(pattern, r"\1(\2 & ~128'h1);", verilog[begin:end], count=1)
    assert count == 1
    return verilog[:begin] + changed + verilog[end:]


def test_one_broken_gate_shows_in_the_report(monkeypatch):
    """Text comes out of the simulated ports and nowhere else: what the broken device gives out is
    wrong, and the comparison with software says so."""
    sound = build.to_verilog
    monkeypatch.setattr(build, "to_verilog", lambda *what: without_one_gate(sound(*what)))
    # A cache of its own: libraries are found by their sources, which are those of a sound device.
    monkeypatch.setenv("SEALANE_CACHE", str(build.cache_folder() / "one-gate-less"))
    monkeypatch.setenv("SEALANE_SIM_OPTIMIZE", "-O1")
    name = "c02_tls12_aes256_mixed"
    # A process keeps its simulators: this test must have none of theirs, nor they the broken one.
    build.build.cache_clear()
    try:
        with RtlTransport() as transport:
            result = replay_named(transport, name, "rtl")
    finally:
        build.build.cache_clear()
    want = truth_of(name)["connections"][0]
    for direction in DIRECTIONS:
        rx = result.report["connections"][0][direction]["rx"]
        assert rx["records_full"] > 0, "tags are made of ciphertext and still hold"
        assert rx["wrong_marks"] == rx["records_full"]
        assert rx["app_sha256"] != want[direction]["app_sha256"]
