# SPDX-License-Identifier: Apache-2.0
"""The scenarios of `tests/support/scenarios/tx_failures.py` on gateware and model side by side.

Each is run as it stands, on another device: what leaves is compared with the software sender's
frame, and everything that the driver sees with what the model gives.
"""

import pytest

from rtl_tests.support.pair import Pair
from tests.support import tx_end_to_end as tx_world
from tests.support.scenarios import tx_failures as scenarios
from tests.support.tx_replays import CONFIG

# They need a device that loses writes, and the gateware has no port for that. Its back end without
# the cipher in front of it has: `test_tx_faults.py`.
FAULTS = {
    "test_device_error_in_mid_packet",
    "test_the_rest_of_a_tag_whose_beginning_failed_while_it_is_rebuilt",
}
globals().update(
    {n: t for n, t in vars(scenarios).items() if n.startswith("test_") and n not in FAULTS}
)


@pytest.fixture
def transports(monkeypatch):
    """Makes pairs; at the end of the scenario their counters must agree, too."""
    pairs = []

    def make(config):
        pairs.append(Pair(config))
        return pairs[-1]

    # The size that other tests of the gateware use: one simulator for all of them.
    monkeypatch.setattr(tx_world, "CONFIG", CONFIG)
    yield make
    for pair in pairs:
        pair.check_counters()
        pair.close()


def test_every_other_scenario_is_here():
    """The names of those that are left out are right, and the rest is found."""
    named = {name for name in vars(scenarios) if name.startswith("test_")}
    assert named & set(globals()) == named - FAULTS and named > FAULTS
