# SPDX-License-Identifier: Apache-2.0
"""X does not depend on cuts and order: a block's weight is that of its place in the record."""

from .bench import run
from .weights import span_bench, tail_weight_bench


def test_weight_in_a_span():
    outcome = run(span_bench(7), mode="bmc", depth=14)
    assert outcome.status == "PASS", outcome.log


def test_weight_in_a_span_can_fail():
    outcome = run(span_bench(7, wrong=1), mode="bmc", depth=14)
    assert outcome.status == "FAIL", outcome.log


def test_weight_to_the_end_of_the_record():
    outcome = run(tail_weight_bench(), mode="bmc", depth=8)
    assert outcome.status == "PASS", outcome.log


def test_tail_weight_can_fail():
    outcome = run(tail_weight_bench(wrong=1), mode="bmc", depth=8)
    assert outcome.status == "FAIL", outcome.log
