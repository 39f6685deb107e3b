# SPDX-License-Identifier: Apache-2.0
"""The brute-force trials of `tests/trials/brute_force/trial.py` on the simulated gateware, many
flows on one."""

import pytest

from sealane.driver.device.rx import Device
from sealane.hdl.abi.config import Config
from sealane.sim.transport import RtlTransport
from tests.support.trial_counts import counts
from tests.trials.brute_force.trial import TRIALS, Tally, run_trial

COUNTS = counts(4, 6, "SEALANE_BRUTE_FORCE_RTL")


@pytest.fixture(scope="module")
def device():
    config = Config()
    with RtlTransport(config) as transport:
        yield Device(transport, config)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("plan", TRIALS)
def test_every_mark_and_every_record_as_the_rules_allow(device, plan, count):
    total = Tally()
    for seed in range(count):
        total.add(run_trial(device, device.config, 1000 + seed, plan))
    assert not total.breaks, total
    assert total.whole
