# SPDX-License-Identifier: Apache-2.0
"""Transmit: nothing leaves but behind a good verdict, its tags before its status."""

import pytest

from ..bench import run
from .commit import commit_bench


def test_a_frame_leaves_behind_a_good_verdict_only():
    outcome = run(commit_bench(), mode="prove", depth=2)
    assert outcome.status == "PASS", outcome.log


@pytest.mark.parametrize("part", ["stale", "count", "verdict", "tags", "checksum"])
def test_commit_proof_can_fail(part):
    """With one part said the other way round there is a counterexample."""
    outcome = run(commit_bench(wrong=part), mode="bmc", depth=8)
    assert outcome.status == "FAIL", outcome.log
