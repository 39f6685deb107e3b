# SPDX-License-Identifier: Apache-2.0
"""What a stream offers stays until it is taken, at the ports of every component."""

import pytest

from .bench import run
from .streams import COMPONENTS, axi_bench, stream_bench


@pytest.mark.parametrize("name", COMPONENTS)
def test_streams_stay_until_taken(name):
    outcome = run(stream_bench(name), mode="prove", depth=3)
    assert outcome.status == "PASS", outcome.log


@pytest.mark.parametrize(
    "name", ["fold", "flow_table", "span_arbiter", "shared_issue", "shared_fold", "tx_tags"]
)
def test_stream_proof_can_fail(name):
    """Nothing stays when it was taken."""
    outcome = run(stream_bench(name, wrong=True), mode="bmc", depth=8)
    assert outcome.status == "FAIL", outcome.log


def test_axi_lite_rules():
    outcome = run(axi_bench(), mode="prove", depth=3)
    assert outcome.status == "PASS", outcome.log


def test_axi_lite_proof_can_fail():
    outcome = run(axi_bench(wrong=True), mode="bmc", depth=6)
    assert outcome.status == "FAIL", outcome.log
