# SPDX-License-Identifier: Apache-2.0
"""Random transfers on the behavioural model, with the sender as judge."""

import os
from dataclasses import replace

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import Config
from tests.trials.transfers import PLANS, check_safe, run_transfers, share_full

TRIALS = int(os.environ.get("SEALANE_TRIALS", "12"))
SMALL = Config(flows=4, record_slots=1, runs=2, scan_limit=3000, bad_header_limit=2, rescan_limit=2)


@pytest.mark.parametrize("config", [Config(), SMALL], ids=["default", "small"])
@pytest.mark.parametrize("name", PLANS)
def test_nothing_wrong_and_nothing_lost(name, config):
    for trial in range(TRIALS):
        device = Device(ModelTransport(config), config)
        seeds = [trial * 3 + i for i in range(3)]
        check_safe(run_transfers(device, seeds, PLANS[name]))


def test_in_order_every_record_is_done_whole():
    for seed in range(TRIALS):
        device = Device(ModelTransport())
        result = run_transfers(device, [seed], PLANS["in order"])
        check_safe(result)
        assert share_full(result) == 1, result


def test_loss_inside_records_costs_nothing():
    """In any order, hardware does most of the big records fully although a tenth was lost."""
    device = Device(ModelTransport())
    result = run_transfers(device, list(range(6)), PLANS["loss, big records"])
    check_safe(result)
    assert share_full(result) > 0.3, result


def test_key_updates_faster_than_the_driver_rekeys():
    """Several KeyUpdates are read before the first rekey is done. Old keys stay until then."""
    for seed in (1003, 1004, 1005):
        device = Device(ModelTransport())
        check_safe(run_transfers(device, [seed], PLANS["late answers"]))


def test_a_peer_that_embeds_records_makes_the_device_take_false_candidates():
    """The plan only tests something if the device sees the headers: they are in sealed text."""
    found = []
    for embed in (0.7, 0.0):
        plan = replace(PLANS["chains of headers"], embed=embed)
        result = run_transfers(Device(ModelTransport()), list(range(24)), plan)
        check_safe(result)
        found.append(result.false_candidates)
    assert found[0] > 10 and not found[1], found
