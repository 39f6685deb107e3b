# SPDX-License-Identifier: Apache-2.0
"""The attacks of `tests/support/scenarios/safety.py` and of the man in the middle on gateware and
model side by side."""

import pytest

from rtl_tests.support.pair import Pair
from sealane.driver.device.rx import Device
from sealane.hdl.abi.config import Config
from tests.support.scenarios.man_in_the_middle import attack
from tests.support.scenarios.safety import (  # noqa: F401
    test_a_mark_of_256_generations_ago_is_not_of_this_generation,
    test_a_park_is_not_ended_by_the_go_on_of_an_earlier_record,
    test_header_bytes_of_a_closed_record_are_not_marked,
    test_marks_end_at_the_lowest_park,
    test_the_last_record_of_a_packet_that_may_change_keys_names_the_park,
)
from tests.support.trial_counts import seeds


@pytest.fixture
def device():
    pair = Pair(Config())
    yield Device(pair, pair.config)
    pair.check_counters()
    pair.close()


@pytest.mark.parametrize("seed", seeds(6, 20))
def test_nothing_forged_is_given_out(device, seed):
    attack(1000 + seed, device)
