# SPDX-License-Identifier: Apache-2.0
"""The scenarios of `tests/support/scenarios/tx_failures.py` on the behavioural model."""

import pytest

from sealane.driver.model.device import ModelTransport
from tests.support.scenarios import tx_failures
from tests.support.scenarios.tx_failures import (  # noqa: F401
    test_a_tag_on_its_way_is_waited_for,
    test_a_tag_that_software_sent_first_is_the_only_one,
    test_device_error_in_mid_packet,
    test_dump_longer_than_the_mtu,
    test_end_in_mid_tag,
    test_fin_with_data,
    test_local_drop_then_a_jump_forward,
    test_middle_of_a_record,
    test_orphaned_packet,
    test_packet_before_the_start_marker,
    test_packet_behind_the_start_marker,
    test_packet_spanning_acknowledged_and_not,
    test_packet_straddling_the_start_marker,
    test_plaintext_changed_between_transmission_and_retransmission,
    test_plans_of_other_devices_are_software,
    test_pure_ack_while_out_of_sync,
    test_retransmission_after_release,
    test_ring_full,
    test_stale_packet_after_delete,
    test_stale_packet_after_rekey,
    test_tag_only_and_header_only_packets,
    test_text_without_a_word_for_a_device_that_knows_nothing_of_the_flow,
    test_the_rest_of_a_tag_whose_beginning_failed_while_it_is_rebuilt,
)


@pytest.fixture
def transports():
    return ModelTransport


def test_every_scenario_is_here():
    named = {name for name in vars(tx_failures) if name.startswith("test_")}
    assert named <= set(globals())
