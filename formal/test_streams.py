# SPDX-License-Identifier: Apache-2.0
"""Streams at the ports: what is offered stays offered, unchanged, until it is taken."""

import pytest
from sealane.hdl.commit import Commit
from sealane.hdl.flow_table import FlowTable

from formal.bench import Bench, run
from formal.mark import SMALL

PARTS = {
    "flow_table": (FlowTable, ("descs", "commands"), ("work",)),
    "commit": (Commit, ("entries", "verdicts", "text_spans"), ("events", "metas", "feedback")),
}


def streams_bench(name, *, wrong=False):
    """The rule as a claim on the outputs; wrong: as if what waits had to change."""
    component, inputs, outputs = PARTS[name]
    bench = Bench()
    bench.m.submodules.dut = dut = component(SMALL)
    bench.free_inputs(dut)
    for port in inputs:
        bench.holds_until_taken(getattr(dut, port), assume=True, name=port)
    for port in outputs:
        bench.holds_until_taken(getattr(dut, port), name=port)
        if wrong:
            stream = getattr(dut, port)
            bench.claim(~bench.before(stream.valid & ~stream.ready) | ~stream.valid)
    return bench


@pytest.mark.parametrize("name", ["flow_table", "commit"])
def test_streams_hold(name):
    outcome = run(streams_bench(name), mode="bmc", depth=8)
    assert outcome.status == "PASS", outcome.log


def test_streams_proof_can_fail():
    outcome = run(streams_bench("flow_table", wrong=True), mode="bmc", depth=8)
    assert outcome.status == "FAIL", outcome.log
