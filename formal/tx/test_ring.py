# SPDX-License-Identifier: Apache-2.0
"""Transmit: a bit of the text ring says that its byte was written since its frame came in."""

import pytest

from ..bench import run
from .ring import ring_bench


def test_written_iff_since_ingest():
    outcome = run(ring_bench(), mode="prove", depth=4)
    assert outcome.status == "PASS", outcome.log


@pytest.mark.parametrize("wrong", ["overlap", "stays"])
def test_ring_proof_can_fail(wrong):
    """Without the distance between the two writers, or with bits that stay, it does not hold."""
    outcome = run(ring_bench(wrong=wrong), mode="bmc", depth=10)
    assert outcome.status == "FAIL", outcome.log
