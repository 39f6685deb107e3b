# SPDX-License-Identifier: Apache-2.0
"""Gateware against the behavioural model on hostile random traffic, with a driver that errs.

Streams of records of all kinds, some forged, are cut, lost, repeated, reordered and damaged; the
driver answers late, wrongly or not at all, rekeys, goes on, deletes. What either device says is
compared frame by frame; see `pair`. The keys protect nothing.
"""

import random

import pytest

from rtl_tests.device.rx_traffic import TrafficFlow
from rtl_tests.support.pair import Pair
from sealane.driver.device.rx import Device
from sealane.hdl.abi.config import Config
from tests.support.trial_counts import seeds

# As few resources as go, so that they run out.
SMALL = Config(
    flows=4,
    record_slots=2,
    runs=3,
    scan_limit=5000,
    rescan_limit=3,
    bad_header_limit=3,
    window=1 << 17,
)
CONFIGS = {"default": Config(), "small": SMALL}
SEEDS = seeds(2, 6, "SEALANE_SEEDS")


def run(name, seed, batch, forge, damage, **options):
    """One random scenario; `batch`: frames in the device together."""
    rng = random.Random(f"{name} {seed} {batch} {forge}")
    config = CONFIGS[name]
    pair = Pair(config, seed=seed, **options)
    device = Device(pair, config)
    ways = [
        TrafficFlow(rng, device, index, forge, rng.choice((0, 0.02, 0.1))) for index in range(4)
    ]
    while any(way.todo for way in ways):
        frames = []
        for _ in range(batch):
            active = [way for way in ways if way.todo]
            if active:
                frames.append(rng.choice(active).frame(damage))
        device.receive(frames)
        for event in device.events():
            for way in ways:
                if way.handle.context == event.context:
                    way.event(event)
        for way in ways:
            way.act()
    pair.check_counters()
    counters = device.device_counters()
    pair.close()
    return counters


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", SEEDS)
def test_packet_by_packet_with_forged_records(name, seed):
    counters = run(name, seed, 1, forge=0.02, damage=0.01)
    assert counters["marked"] and counters["records_verified"] and counters["resync_requests"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", SEEDS)
def test_many_packets_in_flight(name, seed):
    # News of a bad tag reaches the walker some packets later than in the model, so none is bad,
    # and no KeyUpdate is overtaken, which would make one.
    counters = run(name, seed, 16, forge=0, damage=0.01, idle=0.2, stall=0.3)
    assert counters["marked"] and not counters["tag_mismatch"]
