# SPDX-License-Identifier: Apache-2.0
"""Transmit: of an encrypted payload a byte leaves as clear by the walker's word, new text, or 0."""

import pytest

from ..bench import FAST, run
from .reader import STAGES, reader_bench


@pytest.mark.parametrize("stage", STAGES)
def test_what_leaves_is_clear_or_new_or_zero(stage):
    outcome = run(reader_bench(stage), mode="prove", depth=2, **FAST)
    assert outcome.status == "PASS", outcome.log


def test_stages_cover_every_claim():
    bench, proven = reader_bench(), set()
    for parts, before in STAGES.values():
        assert set(before) <= proven
        proven |= set(parts)
    assert proven == bench.parts
    assert bench.rtlil()


@pytest.mark.parametrize("part", ["written", "clear", "late", "drop"])
def test_reader_proof_can_fail(part):
    """With one part said otherwise there is a counterexample."""
    outcome = run(reader_bench(wrong=part), mode="bmc", depth=12)
    assert outcome.status == "FAIL", outcome.log
