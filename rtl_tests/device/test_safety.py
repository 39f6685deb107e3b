# SPDX-License-Identifier: Apache-2.0
"""The attacks of `tests/model/test_safety.py` on gateware and model side by side."""

import pytest

from rtl_tests.support.pair import Pair
from sealane.hdl.abi.config import Config
from tests.ktls.rx import test_attacks as test_ktls_attacks
from tests.model import test_safety
from tests.support.trial_counts import seeds


@pytest.mark.parametrize(
    "attack",
    [
        test_safety.test_header_bytes_of_a_closed_record_are_not_marked,
        test_safety.test_a_park_is_not_ended_by_the_go_on_of_an_earlier_record,
        test_safety.test_marks_end_at_the_lowest_park,
        test_safety.test_the_last_record_of_a_packet_that_may_change_keys_names_the_park,
        test_safety.test_a_mark_of_256_generations_ago_is_not_of_this_generation,
    ],
)
def test_gateware(attack, monkeypatch):
    for module in (test_safety, test_ktls_attacks):
        monkeypatch.setattr(module, "ModelTransport", Pair)
        monkeypatch.setattr(module, "CONFIG", Config())
    attack()


@pytest.mark.parametrize("seed", seeds(6, 20))
def test_nothing_forged_is_given_out(seed, monkeypatch):
    monkeypatch.setattr(test_ktls_attacks, "ModelTransport", Pair)
    monkeypatch.setattr(test_ktls_attacks, "CONFIG", Config())
    test_ktls_attacks.attack(1000 + seed)
