# SPDX-License-Identifier: Apache-2.0
"""The brute-force observer on the behavioural model: the short form and its test faults."""

import os

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.meta import META
from tests.trials.brute_force import trial as brute_force
from tests.trials.brute_force.mutants import MUTANTS, first_finding
from tests.trials.brute_force.mutants import main as mutants_main
from tests.trials.brute_force.rules import runs, span
from tests.trials.brute_force.trial import CONFIGS, TRIALS, run_trial, run_trials

COUNT = int(os.environ.get("SEALANE_BRUTE_FORCE", "20"))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("plan", TRIALS)
def test_every_mark_and_every_record_as_the_rules_allow(plan, config):
    device = Device(ModelTransport(CONFIGS[config]), CONFIGS[config])
    total = brute_force.Tally()
    for seed in range(COUNT):
        total.add(run_trial(device, CONFIGS[config], seed, plan))
    assert not total.breaks, total
    assert total.whole and total.marked < total.packets + 1
    if plan == "embedded":
        assert total.counts["not strict"], "no stream held false headers"


def test_the_trials_lose_and_find_positions():
    """The walk does its work: headers are lost, and the walk arrives at the candidate."""
    total = run_trials(range(150))
    assert not total.breaks, total
    for name in ("lost", "joined", "evicted", "not strict"):
        assert total.counts[name], total


class Withholds(ModelTransport):
    """A device that loses every tenth mark."""

    def poll(self, wait=True):
        out = super().poll(wait)
        for i, completion in enumerate(out):
            meta = META.unpack(completion.meta)
            if meta["decrypted"] and meta["seq"] % 10 == 0:
                out[i] = completion._replace(
                    frame=self.posted, meta=META.pack({**meta, "decrypted": 0, "reason": 8})
                )
        return out

    def post(self, frame):
        self.posted = frame
        super().post(frame)


class Spoils(ModelTransport):
    """A device that changes a byte of every packet with a certain sequence number."""

    def poll(self, wait=True):
        return [
            c._replace(frame=c.frame[:-1] + bytes([c.frame[-1] ^ 1]))
            if META.unpack(c.meta)["seq"] % 10 == 0
            else c
            for c in super().poll(wait)
        ]


@pytest.mark.parametrize(("transport", "says"), [(Withholds, "allowed by the rules"), (Spoils, "")])
def test_a_device_that_does_otherwise_is_caught(transport, says, monkeypatch, capsys):
    monkeypatch.setattr(brute_force, "open_engine", lambda engine, config: transport(config))
    assert brute_force.main(["--trials", "40"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("seed ") and says in line for line in lines)


# In other transfers they show too rarely for a short test.
BEST = dict.fromkeys(("R2", "bad tags", "old records stay"), "overtaken") | {"any go-on": "parks"}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_walker_with_a_fault_is_found(name):
    assert first_finding(name, range(4000), BEST.get(name)), "no trial broke"


def test_the_command_says_which_faults_were_found(capsys):
    assert mutants_main(["--trials", "1", "--mutant", "R2"]) == 1
    assert capsys.readouterr().out.split() == ["R2", "none"]


def test_the_command_says_in_one_line_what_it_did(capsys):
    assert brute_force.main(["--trials", "6", "--seed", "3"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("model: 6 trials, ") and "0 breaks" in line


def test_sets_of_bytes():
    assert runs(span(3, 7) | span(9, 10) | span(0, 1)) == [(0, 1), (3, 7), (9, 10)]
    assert runs(0) == [] and span(5, 5) == 0


def test_a_hint_to_a_place_that_has_passed_the_card():
    """A one-bit flow is armed after its walk's position: bytes it sees again are not seen bytes."""
    total = run_trials([3007478])
    assert total.trials == 1 and not total.breaks, total
