# SPDX-License-Identifier: Apache-2.0
"""The short form of the divergence test on the gateware; a command runs more, see its module."""

from collections import Counter

import pytest

from sealane.driver.device.rx import Device
from sealane.hdl.abi.config import Config
from sealane.sim.transport import RtlTransport
from tests.support.trial_counts import counts
from tests.trials.divergence.trial import trial

TRIALS = 30, 60


@pytest.mark.parametrize("trials", counts(*TRIALS))
def test_nothing_forged_and_nothing_lost(trials):
    counts: Counter[str] = Counter()
    with RtlTransport(Config()) as transport:
        device = Device(transport, Config())
        for seed in range(trials):
            counts += trial(seed, device)
    assert min(counts[how] for how in ("full", "partial", "none", "refused")) > 0
