# SPDX-License-Identifier: Apache-2.0
"""Replays on the Verilated gateware: the truth of every capture, and the model's very report."""

import pytest
from sealane.driver.model.device import ModelTransport
from sealane.sim import build
from sealane.sim.transport import RtlTransport

from tests.replays import NAMES, check_truth, replay_named, truth_of


def differences(one, other, path=""):
    """Where two reports differ, as lines."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line for key in {**one, **other}
            for line in differences(one.get(key), other.get(key), f"{path}.{key}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            line for i, pair in enumerate(zip(one, other, strict=True))
            for line in differences(*pair, f"{path}[{i}]")
        ]
    return [] if one == other else [f"{path}: {one!r}, {other!r}"]


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


def broken(monkeypatch, old, new):
    """A device in whose Verilog one place, `old`, says `new`."""
    rtlil, verilog = build._rtlil, build.to_verilog

    def break_gate(component, name):
        text = verilog(component, name)
        assert text.count(old) >= 1
        return text.replace(old, new, 1)

    monkeypatch.setattr(build, "_rtlil", lambda config: f"{old} -> {new}\n{rtlil(config)}")
    monkeypatch.setattr(build, "to_verilog", break_gate)
    monkeypatch.setenv("SEALANE_SIM_OPTIMIZE", "-O1")
    return RtlTransport()
