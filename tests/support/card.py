# SPDX-License-Identifier: Apache-2.0
"""A device with one flow over a stream of records, and no host."""

from sealane.driver.device.descriptors import RxPacket
from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EventKind
from tests.support.flow_frames import FLOW, frame
from tests.support.marking_device import Stream


def model_device(**parameters) -> Device:
    """A behavioural model of few flows."""
    config = Config(flows=4, **parameters)
    return Device(ModelTransport(config), config)


class Flow:
    """A device with one flow over a stream."""

    def __init__(self, stream: Stream, device: Device, options: Option = Option.MARK_REST) -> None:
        self.stream, self.device = stream, device
        self.handle = device.tls_dev_add(FLOW, stream.keys(0), stream.seq, options=options)

    def send(self, low: int, high: int) -> RxPacket:
        """The packet with stream bytes [low, high)."""
        seq = (self.stream.seq + low) % 2**32
        (packet,) = self.device.receive([frame(seq, self.stream.wire[low:high])])
        return packet


class Card(Flow):
    """A model device with one flow, records with the given content lengths and no host."""

    def __init__(self, version, sizes, options=Option.TAG_PROOF, **parameters):
        stream = Stream(version)
        for i, size in enumerate(sizes):
            stream.add(bytes([i]) * size)
        super().__init__(stream, model_device(**parameters), options)
        self.records = stream.records

    def proofs(self):
        """(proven by, number) of the positions that were proven since the last call."""
        return [
            (event.proven_by, event.number)
            for event in self.device.events()
            if event.kind == EventKind.RESUMED
        ]

    def lose(self, first, last):
        """Sends everything before record `first` and all but ten bytes of it, then loses everything
        up to the middle of record `last`. Returns where that is.
        """
        assert self.send(0, self.records[first].offset - 10).marked
        return self.records[last].offset + 50
