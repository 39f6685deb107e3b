# SPDX-License-Identifier: Apache-2.0
"""Attacks and accidents around the moment when a position is proven, each of which once succeeded.

The keys are constants and protect nothing.
"""

import random

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.meta import Reason
from tests.support.card import Card
from tests.support.flow_frames import frame
from tests.support.sealed_streams import KEY_UPDATE
from tests.trials.divergence.attacks import Step
from tests.trials.divergence.host import Habits, Host
from tests.trials.divergence.plan import Sent

CONFIG = Config(flows=4, record_slots=3, runs=5)


class Connection(Host):
    """Card, TCP and a host that reacts at once."""

    def __init__(self, stream):
        device = Device(ModelTransport(CONFIG), CONFIG)
        super().__init__(device, stream, random.Random(0), Habits(knows_keys=True))

    def wire(self, low, high, card=True, host=True, change=None):
        """The stream's bytes [low, high). `change`: (offset, value) of one changed byte."""
        payload = bytearray(self.stream.wire[low:high])
        if change:
            payload[change[0] - low] = change[1]
        return self.step(Step("packet", low, bytes(payload), card, host))


@pytest.mark.parametrize("kept", [1, 3, 4])
@pytest.mark.parametrize("marked_before", [False, True])
def test_header_bytes_in_the_packet_that_proves_are_not_taken_from_another(kept, marked_before):
    """The card alone sees true bytes up to `kept` bytes of a header.

    The packet that fills the hole brings the same bytes once more with another content type, and is
    marked. Suppose that the record were opened with the bytes that the candidate has kept. Then its
    tag would be good and the host would read the other type from a marked packet.
    """
    stream = Sent(VERSION_TLS12)
    records = [stream.add(bytes(40)) for _ in range(4)]
    end = records[3].offset + kept
    connection = Connection(stream)
    first = 0
    if marked_before:
        first = records[0].end
        assert connection.wire(0, first).marked
    connection.wire(records[2].offset, end, host=False)
    connection.wire(first, end, change=(records[3].offset, 21))
    connection.wire(end, records[3].end)
    connection.judge()
    assert connection.refused is not None and connection.refused.number == 3


def test_nothing_is_marked_behind_a_key_update_of_which_bytes_passed_unfed():
    """It could be fed to its end and got no verdict. It holds back marks all the same."""
    stream = Sent(VERSION_TLS13)
    stream.add(bytes(100))
    update = stream.add(KEY_UPDATE, 22)
    stream.next_epoch()
    behind = stream.add(bytes(400))
    connection = Connection(stream)
    at = update.offset
    connection.wire(0, at - 5)
    connection.wire(at + 10, at + 18)
    connection.wire(at - 5, at + 10)
    assert connection.wire(at + 20, behind.offset + 200).meta.reason != Reason.NONE
    assert connection.wire(behind.offset + 200, behind.offset + 300).meta.reason == Reason.HELD


@pytest.mark.parametrize("injected", [False, True])
def test_a_packet_far_ahead_costs_the_records_of_its_own_loss_only(injected):
    """After the next loss of sync, holes in records are filled and verified as ever."""
    card = Card(VERSION_TLS13, [300] * 12, options=Option.NONE)
    records = card.records
    card.send(0, records[1].offset + 50)
    if injected:
        card.device.receive([frame((card.stream.seq + (1 << 29)) % 2**32, bytes(20))])
    card.send(records[1].offset + 50, records[3].end - 20)
    card.send(records[4].offset + 50, records[4].end - 40)
    card.send(records[3].end - 20, records[4].offset + 50)  # a header is late
    card.send(records[4].end - 40, records[6].offset + 50)
    for k in range(6, 11):
        start, end = records[k].offset + 150, records[k].end - 30
        card.send(start, end)
        assert card.send(records[k].offset + 50, start).marked
        last = card.send(end, records[k + 1].offset + 50)
        assert last.marked and last.meta.first_completes
