# SPDX-License-Identifier: Apache-2.0
"""A man in the middle against card, TCP and host together: no forged byte is ever delivered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sealane.driver.device.descriptors import RxPacket
from sealane.driver.ktls.rx.events import RecordAccepted
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.hdl.abi.config import VERSION_TLS13
from tests.support.card import model_device
from tests.support.flow_frames import frame
from tests.support.marking_device import Stream
from tests.support.scenarios.man_in_the_middle import Victim, attack


@pytest.mark.parametrize("block", range(8))
def test_nothing_forged_is_given_out(block):
    hows: Counter[str] = Counter()
    refused = 0
    for seed in range(block * 40, block * 40 + 40):
        victim = attack(seed, model_device())
        hows.update(record.how.value for record in victim.records)
        refused += victim.rx.counters.refused
    # The trials only test something if records end in every way.
    assert min(hows["full"], hows["partial"], hows["none"], refused) > 0


def test_a_card_that_believes_the_attacker_is_undone():
    """A marked packet whose metadata lies in any one field never makes its record skip crypto."""
    stream = Stream(VERSION_TLS13)
    stream.add(bytes(300))
    victim = Victim(stream, model_device())
    (packet,) = victim.device.receive([frame(stream.seq, stream.wire)])
    assert packet.marked and packet.meta.first_completes
    lies = {
        "context": 1,
        "generation": 1,
        "first_number": 1,
        "first_length": 1,
        "records": 1,
        "last_number": 1,
        "last_start": 1,
        "last_length": 1,
    }
    for name, change in lies.items():
        meta = replace(packet.meta, **{name: getattr(packet.meta, name) + change})
        rx = KtlsRx(stream.keys(0), stream.seq, handle=victim.rx.handle)
        out = rx.feed([StreamRange(stream.seq, len(stream.wire), RxPacket(packet.frame, meta))])
        assert rx.counters.full == 0, name
        assert all(e.plaintext == bytes(300) for e in out if isinstance(e, RecordAccepted))
