# SPDX-License-Identifier: Apache-2.0
"""Transmit of the gateware against that of the model, with receive traffic at the same time.

Senders of all ways, hostile metadata, damaged frames, commands that nobody wanted: what leaves,
each tag, each reason and each counter must be the same; see `pair` and `tx_traffic`. The keys
protect nothing.
"""

from collections import Counter

import pytest

from rtl_tests.device.rx_traffic import TrafficFlow
from rtl_tests.device.tx_traffic import seeded, senders
from rtl_tests.support.pair import TX_SMALL, Pair
from sealane.driver.device.rx import Device
from sealane.hdl.abi.tx import TX_COUNTERS, TX_STATUS, TxReason
from tests.support.trial_counts import seeds

SEEDS = seeds(2, 6, "SEALANE_SEEDS")


def run(seed, batch, frames, forge=0.0, receive=True, **options):
    """One random scenario with about `frames` frames of transmit, `batch` in flight together.

    receive: segments of receive are in flight with them; forge: of records of receive.
    Returns how many completions gave each reason, and transmit's counters.
    """
    rng = seeded(seed, batch, forge, receive)
    pair = Pair(TX_SMALL, seed=seed, **options)
    device = Device(pair, TX_SMALL)
    ways = [TrafficFlow(rng, device, index, forge, 0.05) for index in range(2)] if receive else []
    hosts = senders(pair, rng)
    reasons = Counter()
    while pair.tx_count < frames:
        posted = 0
        while posted < batch:
            for frame, meta in rng.choice(hosts).give():
                pair.post_tx(frame, meta)
                posted += 1
        arriving = []
        for _ in range(batch if batch > 1 else rng.randrange(2)):
            active = [way for way in ways if way.todo]
            if active:
                arriving.append(rng.choice(active).frame(0.01))
        device.receive(arriving)
        output = pair.poll_tx()
        reasons.update(TxReason(TX_STATUS.unpack(word)["reason"]) for _, word in output.completions)
        for event in device.events():
            for way in ways:
                if way.handle.context == event.context:
                    way.event(event)
        for party in (*ways, *hosts):
            party.act()
    pair.check_counters()
    counters = {name: pair.model.tx.counts[name] for name, _ in TX_COUNTERS}
    pair.close()
    return reasons, counters


@pytest.mark.parametrize("seed", SEEDS)
def test_frame_by_frame_beside_forged_records(seed):
    reasons, counters = run(seed, 1, 400, forge=0.02)
    assert counters["tx_encrypted"] > 100 and counters["tx_tags"] > 100
    assert len(reasons) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_many_frames_in_flight(seed):
    # Of receive no record is bad; see test_equivalence.
    reasons, counters = run(seed, 24, 600, idle=0.2, stall=0.3)
    assert counters["tx_encrypted"] > 100 and counters["tx_dumped"] and counters["tx_wire"]
    assert len(reasons) > 5


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.8, 0), (0, 0.8)])
def test_transmit_alone(idle, stall):
    reasons, counters = run(0, 40, 600, receive=False, idle=idle, stall=stall)
    assert counters["tx_encrypted"] > 100 and reasons[TxReason.NONE] > 200


def test_every_reason_occurs():
    """The scenarios above reach every reason that only frames can bring about."""
    reasons = Counter()
    for seed in range(4):
        reasons += run(seed, 24, 600, receive=False)[0]
    frames_cannot = {TxReason.STALE_KEY, TxReason.DEVICE_ERROR}
    assert set(TxReason) - frames_cannot <= set(reasons)
