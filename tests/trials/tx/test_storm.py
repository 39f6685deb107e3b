# SPDX-License-Identifier: Apache-2.0
"""Transmit under events that come at the worst moment: the short form and its coverage."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

import pytest

from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import DropReason, Way
from sealane.driver.ktls.tx.rekey import TxRekey
from sealane.driver.ktls.tx.ways import _Segment
from tests.trials.tx import storm as tx_storm
from tests.trials.tx.storm import STEPS, Storm, broken, draw, smallest

LENGTH = 90
_installed, _progress = TxRekey.installed, TxRekey.progress


def test_nothing_breaks_and_everything_happens():
    counts: Counter[str] = Counter()
    for seed in range(100):
        try:
            counts += Storm(seed).run(draw(seed, LENGTH))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    names = [*STEPS, "held", "undone", "installed", "refused", "reason DEVICE_ERROR"]
    names += [f"way {way}" for way in Way] + [f"drop {why}" for why in DropReason]
    missing = [name for name in names if not counts[name]]
    assert missing == [f"drop {DropReason.ORPHAN}"]  # those are in `tests/trials/tx/transfers.py`


def _without_clearing(keys: TxRekey, ok: bool):
    actions = _installed(keys, ok)
    return actions if ok else []


def _never_busy(keys: TxRekey, una: int, high: int, busy):
    return _progress(keys, una, high, frozenset())


def _knows_nothing(ktls: KtlsTx) -> None:
    ktls.deleted()
    for flight, _ in ktls._in_flight.values():
        for record in flight.touched:
            record.outstanding = record.streaming = 0
    ktls._in_flight.clear()
    ktls._latest = None


MUTANTS = {
    "a refused key's slot is not emptied": (
        TxRekey,
        "installed",
        _without_clearing,
        50100,
        "a key",
    ),
    "a key is taken from frames": (TxRekey, "progress", _never_busy, 50050, "NO_KEY"),
    "a failed device has told all": (KtlsTx, "failed", _knows_nothing, 50030, "second tag"),
    "nothing waits": (_Segment, "_blocked", lambda segment, missing: None, 50020, "second tag"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_that_is_taken_away_is_missed(name):
    owner, method, instead, first, says = MUTANTS[name]
    with patch.object(owner, method, instead):
        found = (broken(seed, draw(seed, LENGTH)) for seed in range(first, first + 200))
        assert any(says in what for what in found)


def test_the_command_names_what_broke(capsys):
    assert tx_storm.main(["--trials", "2", "--seed", "5", "--steps", "40"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("model: 2 storms; ") and "0 breaks" in line
    with patch.object(Storm, "run", side_effect=tx_storm.Broken("all")):
        assert tx_storm.main(["--trials", "2", "--seed", "5", "--steps", "4"]) == 1
    first, steps, *_ = capsys.readouterr().out.splitlines()
    assert (first, steps) == ("seed 5: all; in 0 steps: Broken: all", "    []")  # it needs none


def test_what_broke_is_made_smaller():
    owner, method, instead, _, _ = MUTANTS["nothing waits"]
    with patch.object(owner, method, instead):
        seed = next(seed for seed in range(50020, 50220) if broken(seed, draw(seed, LENGTH)))
        steps = draw(seed, LENGTH)
        less = smallest(seed, steps)
        assert len(less) < len(steps) // 2 and broken(seed, less)
