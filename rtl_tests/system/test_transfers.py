# SPDX-License-Identifier: Apache-2.0
"""The random transfers of `tests/trials/transfers.py` on gateware and model side by side."""

import pytest

from rtl_tests.support.pair import Pair
from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.events import How
from sealane.hdl.abi.config import Config
from tests.support.trial_counts import counts
from tests.trials.transfers import PLANS, check_safe, run_transfers

TRIALS = counts(1, 4, "SEALANE_TRIALS_RTL")


@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.parametrize("name", PLANS)
def test_nothing_wrong_and_nothing_lost(name, trials):
    config = Config()
    for trial in range(trials):
        pair = Pair(config)
        seeds = [trial * 3 + i for i in range(3)]
        result = run_transfers(Device(pair, config), seeds, PLANS[name])
        check_safe(result)
        assert result.by_how[How.FULL]
        pair.close()


def test_two_rekeys_in_a_row():
    """A command ends when its key is in place: the next key may be staged then."""
    config = Config()
    for trial in (1, 3):
        pair = Pair(config)
        seeds = [trial * 3 + i for i in range(3)]
        check_safe(run_transfers(Device(pair, config), seeds, PLANS["key updates"]))
        pair.close()
