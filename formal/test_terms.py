# SPDX-License-Identifier: Apache-2.0
"""X does not depend on cuts and order: each term once, and sums of a record are added up."""

import pytest

from .bench import FAST, run
from .terms import rows_bench, slots_bench


def test_each_byte_and_each_term_once():
    outcome = run(slots_bench(3), mode="bmc", depth=10, **FAST)
    assert outcome.status == "PASS", outcome.log


@pytest.mark.parametrize("claim", ["mask", "address", "tag", "complete", "aad", "lengths", "j0"])
def test_each_claim_can_fail(claim):
    outcome = run(slots_bench(3, broken_claim=claim), mode="bmc", depth=10, **FAST)
    assert outcome.status == "FAIL", outcome.log


def test_x_is_the_sum_of_what_was_contributed():
    outcome = run(rows_bench(), mode="bmc", depth=10, **FAST)
    assert outcome.status == "PASS", outcome.log


def test_the_sum_can_fail():
    outcome = run(rows_bench(wrong=1), mode="bmc", depth=10, **FAST)
    assert outcome.status == "FAIL", outcome.log
