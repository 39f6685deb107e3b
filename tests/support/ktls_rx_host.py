# SPDX-License-Identifier: Apache-2.0
"""A host over the receive core, without a device.

Packets are made up and rekeys are done at once.
"""

from __future__ import annotations

from sealane.driver.device.descriptors import Handle
from sealane.driver.ktls.rx.events import RecordAccepted, Rekey
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from tests.support.marking_device import HANDLE, Stream


class Host:
    """A `KtlsRx` with a device that does what it is asked to do."""

    def __init__(self, stream: Stream, **kwargs) -> None:
        self.stream = stream
        self.rx = KtlsRx(
            stream.keys(0), stream.seq, handle=HANDLE, next_keys=self._next_keys, **kwargs
        )
        self.events = []

    def _next_keys(self):
        return self.stream.keys(self.rx.epoch + 1)

    def feed(self, *pieces: StreamRange) -> None:
        for piece in pieces:
            self.take(self.rx.feed([piece]), (piece.packet.meta.seq + (1 << 16)) % 2**32)

    def take(self, events, received_end: int = 0) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Rekey):
                old = self.rx.handle
                self.rx.rekeyed(Handle(old.context, old.generation + 1 & 0xFF), received_end)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def app_data(self) -> bytes:
        return b"".join(e.plaintext for e in self.of(RecordAccepted) if e.content_type == 23)

    @property
    def hows(self) -> list[str]:
        return [event.how.value for event in self.of(RecordAccepted)]
