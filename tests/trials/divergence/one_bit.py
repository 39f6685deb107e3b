# SPDX-License-Identifier: Apache-2.0
"""Hosts that know one bit of a packet, and one of them under attack."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.events import RecordRefused
from sealane.driver.ktls.rx.offload import KtlsRx
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS13, Config, header_bytes
from tests.support.flow_frames import FLOW
from tests.support.marking_device import crypt_text
from tests.trials.divergence.attacks import Step
from tests.trials.divergence.host import Habits, Host
from tests.trials.divergence.plan import Sent

CONFIG = Config(flows=4)


FORGED = b"attacker's"


class Telling(Host):
    """Tells `KtlsRx` how far packets of the old context reach when it is added again."""

    def _add_again(self) -> None:
        rx = self.rx
        if rx.closed or rx.waiting_for_keys or not rx.handle:
            return
        self.device.tls_dev_del(rx.handle)
        seq, number = rx.boundary
        rx.installed(
            self.device.tls_dev_add(FLOW, rx.info, seq, number, rx.epoch, self.habits.options),
            self._received_end,
        )
        self._installation += 1


class OneBitHost(Telling):
    """TCP, driver and `KtlsRx` over a device of their own. `one_bit` False: rule H instead."""

    def __init__(
        self, stream: Sent, options=Option.ONE_BIT, one_bit=True, rng=None, **habits
    ) -> None:
        device = Device(ModelTransport(CONFIG), CONFIG)
        settings = Habits(window=1 << 20, options=options, knows_keys=True, **habits)
        kind = partial(KtlsRx, one_bit=one_bit)
        super().__init__(device, stream, rng or random.Random(0), settings, kind)

    def wire(self, low: int, high: int, card: bool = True, host: bool = True):
        """The stream's bytes [low, high)."""
        return self.step(Step("packet", low, self.stream.wire[low:high], card, host))

    def false(self, low: int, payload: bytes, card: bool = True, host: bool = True):
        """Other bytes at that place."""
        return self.step(Step("packet", low, payload, card, host))

    @property
    def hows(self) -> Counter[str]:
        """How each accepted record was opened."""
        return Counter(record.how.value for record in self.records)


class Attacked(OneBitHost):
    """Six records of 400 bytes of application data, but number 3 has 40."""

    def __init__(self, version: int, options=Option.ONE_BIT, one_bit=True) -> None:
        stream = Sent(version)
        for i in range(6):
            stream.add(bytes([i]) * (40 if i == 3 else 400))
        super().__init__(stream, options, one_bit)
        self.prefix = header_bytes(version)
        self.records_at = [record.offset for record in stream.records]

    def changed(self, low: int, high: int) -> bytes:
        """The stream's bytes with the last one changed."""
        payload = self.stream.wire[low:high]
        return payload[:-1] + bytes([payload[-1] ^ 1])

    def header(self, length: int, nonce_of: int = 0) -> bytes:
        """Header for a record that ends `length` bytes after its start, in TLS 1.2 with a nonce."""
        header = b"\x17\3\3" + (length - 5).to_bytes(2, "big")
        return header + self.stream.records[nonce_of].explicit

    def disguised(self, low: int, start: int, number: int) -> bytes:
        """Output of the card at `low` if it takes the bytes there for text of a record.

        The record is `number` and starts at `start`. Its keystream is that of known plaintext.
        """
        nonce = self.stream.records[number].explicit
        text = FORGED + b"\x17" * (self.stream.version == VERSION_TLS13)
        record = self.header(self.prefix + len(text) + 16, number) + text + bytes(16)
        offset = low - start - self.prefix
        assert offset + len(record) - 16 <= 400, "more of the keystream is not known"
        return crypt_text(self.stream.keys(0), number, nonce, offset, record)

    def judge_refused(self, accepted: int) -> None:
        """The first `accepted` records were delivered, nothing forged, and then the connection
        ended.
        """
        self.judge()
        assert len(self.records) == accepted
        assert isinstance(self.refused, RecordRefused)
