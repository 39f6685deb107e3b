# SPDX-License-Identifier: Apache-2.0
"""The mark implies a good verdict, no park in front of the end and the generation in force."""

import pytest

from .bench import run
from .mark import mark_bench


def test_mark_implies_good_verdict():
    outcome = run(mark_bench(), mode="prove", depth=2)
    assert outcome.status == "PASS", outcome.log


@pytest.mark.parametrize("part", ["bad", "park"])
def test_mark_proof_can_fail(part):
    """With one condition turned round there is a packet that is marked against it."""
    outcome = run(mark_bench(broken_claim=part), mode="bmc", depth=12)
    assert outcome.status == "FAIL", outcome.log
