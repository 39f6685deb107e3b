# SPDX-License-Identifier: Apache-2.0
"""Transmit: no span without a live context, its flow and its place; no text of a flow unasked."""

import pytest

from ..bench import run
from .walker import STAGES, walker_bench


@pytest.mark.parametrize("stage", STAGES)
def test_no_span_without_context_and_place(stage):
    outcome = run(walker_bench(stage), mode="prove", depth=2)
    assert outcome.status == "PASS", outcome.log


def test_stages_cover_every_claim():
    assert {part for parts, _ in STAGES.values() for part in parts} == walker_bench().parts


@pytest.mark.parametrize("part", ["generation", "flow", "frontier", "orphan"])
def test_walker_proof_can_fail(part):
    """With one part said the other way round there is a counterexample."""
    outcome = run(walker_bench(wrong=part), mode="bmc", depth=11)
    assert outcome.status == "FAIL", outcome.log
