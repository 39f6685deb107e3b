# SPDX-License-Identifier: Apache-2.0
"""The host under attack in the tests of single rules."""

import random

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import Config
from tests.trials.divergence.attacks import Step
from tests.trials.divergence.host import Habits, Host
from tests.trials.divergence.plan import Sent
from tests.trials.divergence.switches import receiver

CONFIG = Config(flows=4, record_slots=3, runs=5)


class Victim(Host):
    """Records of 40, 40 and 100 bytes of application data, and a driver that reacts at once."""

    def __init__(self, version: int, keep_last: bool, rule: str | None = None) -> None:
        stream = Sent(version)
        self.front = [stream.add(bytes(40)) for _ in range(CONFIG.record_slots - 1)]
        self.record = stream.add(bytes(100))
        self.cut = self.record.offset + 60
        device = Device(ModelTransport(CONFIG), CONFIG)
        habits = Habits(keep_last=keep_last)
        super().__init__(device, stream, random.Random(0), habits, receiver(rule))

    def wire(self, low: int, high: int, card: bool = True, host: bool = True):
        """The stream's bytes [low, high)."""
        return self.step(Step("packet", low, self.stream.wire[low:high], card, host))

    def forged(self, card: bool = True, host: bool = True):
        """The beginning of the second record, with one bit of its text changed."""
        payload = bytearray(self.stream.wire[self.record.offset : self.cut])
        payload[-1] ^= 1
        return self.step(Step("packet", self.record.offset, bytes(payload), card, host))
