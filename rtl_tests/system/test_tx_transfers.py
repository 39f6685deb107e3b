# SPDX-License-Identifier: Apache-2.0
"""The random transfers of `tests/trials/tx/transfers.py` on the simulated gateware, many on one."""

import os

import pytest

from sealane.driver.device.tx import TxDevice
from sealane.sim.transport import RtlTransport
from tests.support.trial_counts import seeds
from tests.trials.tx.transfers import CONFIGS, Tally, run_trial

CONFIG = CONFIGS["rtl"]
COUNT = int(os.environ.get("SEALANE_TRIALS_RTL", "20"))
BLOCK = 5
BLOCKS = seeds(2, -(-COUNT // BLOCK)) if COUNT == 20 else range(-(-COUNT // BLOCK))


@pytest.fixture(scope="module")
def device():
    with RtlTransport(CONFIG) as transport:
        yield TxDevice(transport, CONFIG)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_wire_is_what_software_would_have_sent(device, block):
    total = Tally()
    for seed in range(block * BLOCK, min(block * BLOCK + BLOCK, COUNT)):
        total.add(run_trial(device, seed))
        assert not total.breaks, total
    assert total.opened


def test_a_host_that_waits_and_a_wire_that_waits():
    """Words come with gaps at the inputs, and the outputs are not always ready."""
    total = Tally()
    with RtlTransport(CONFIG, seed=3, idle=0.3, stall=0.3) as transport:
        device = TxDevice(transport, CONFIG)
        for seed in range(500, 500 + max(4, COUNT // 10)):
            total.add(run_trial(device, seed))
            assert not total.breaks, total
    assert total.opened
