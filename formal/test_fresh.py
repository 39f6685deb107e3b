# SPDX-License-Identifier: Apache-2.0
"""No byte that the walk has passed is unseen again, and a mark is for new bytes only."""

import pytest

from .bench import FAST, run
from .fresh import STAGES, fresh_bench
from .fresh_run import watch


def test_stages_prove_every_part():
    """No part is taken as given only, and none is used in its own clock before it is proven."""
    bench = fresh_bench(at=47)
    assert watch(bench) == (1, 1, 1)
    done = set()
    for parts, proven in STAGES.values():
        assert set(proven) <= done
        done.update(parts)
    assert bench.parts == done


@pytest.mark.parametrize("at, taken, cut, marked", [(0, 1, 0, 1), (55, 1, 1, 1), (90, 0, 0, 0)])
def test_claims_speak_of_something(at, taken, cut, marked):
    """In a run with a hole that is filled in three parts, and with bytes that come twice, all
    claims and assumptions hold; packets are marked, and each byte is taken once."""
    assert watch(fresh_bench(at=at)) == (taken, cut, marked)


@pytest.mark.parametrize("wrong", ["uncut", "late"])
def test_claims_find_faults(wrong):
    """A walker with a fault breaks claims in that run."""
    with pytest.raises(AssertionError, match="line"):
        watch(fresh_bench(at=47, wrong=wrong))


@pytest.mark.parametrize("case", ["front", "cut", "rest", "adopt"])
def test_taken_bytes_stay_seen(case):
    """The steps of the induction in which `high` and holes change; `python -m formal.fresh` has
    all of them."""
    outcome = run(fresh_bench("seen", case=case), mode="prove", depth=1, **FAST)
    assert outcome.status == "PASS", outcome.log


def test_induction_can_fail():
    """With a hole that is not cut there is a step that breaks the claim."""
    bench = fresh_bench("seen", case="cut", wrong="uncut")
    outcome = run(bench, mode="prove", depth=1, **FAST)
    assert outcome.status == "UNKNOWN" and "Assert failed" in outcome.log, outcome.log
