# SPDX-License-Identifier: Apache-2.0
"""Zero-copy with a caller that breaks its promise: text changes at any time, at random.

The frames sent cannot be right then, but no record ever has two tags. Every tag byte that is sent
twice is the same and belongs to the stored tag. Segments come again in any cut and by any way. The
device loses writes and the stream, its queue is full, keys change and completions come late.
"""

from __future__ import annotations

import random

import pytest

from sealane.driver.device.tx import QueueFull
from sealane.driver.ktls.tx.plan import TxMode
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from tests.support.tx_end_to_end import TxEndToEnd

SIZES = (1, 5, 16, 17, 700, 1448)


@pytest.fixture
def transports():
    return ModelTransport


class Careless:
    """A sender that changes text it has handed over. `TxEndToEnd.check` looks at the tags."""

    def __init__(self, transports, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        queue = 4 if seed % 4 == 3 else 256  # with the short one many segments are taken back
        self.world = TxEndToEnd(
            transports,
            rng.choice([VERSION_TLS12, VERSION_TLS13]),
            queue=queue,
            posts=min(queue, 32),
            marker=rng.choice([1000, 0xFFFF_FFF0]),
            mode=rng.choice(list(TxMode)),
            rekey_mode=rng.choice(list(RekeyMode)),
            mtu=rng.choice([100, 1500]),
        )
        self.world.strict = False
        self.texts: list[tuple[int, bytearray]] = []  # where a text begins, and the text
        self.sent = 0
        self.tags: dict[int, bytes] = {}  # stored tags by N

    def step(self) -> None:
        rng, w = self.rng, self.world
        draw = rng.random()
        if draw < 0.14 and len(self.texts) < 20:
            content = bytearray(rng.randbytes(rng.choice([1, 16, 300, rng.randint(0, 1500)])))
            record = w.write(content, frozen=False)
            self.texts.append((record.offset + header_bytes(w.stream.version), content))
        elif draw < 0.16 and w.stream.version == VERSION_TLS13:
            w.rekey()
        elif draw < 0.30 and any(content for _, content in self.texts):
            start, content = rng.choice([text for text in self.texts if text[1]][-3:])
            at = rng.randrange(len(content))
            content[at] ^= 1
            w.change(start + at)
        elif draw < 0.33:
            if w.has_faults:
                w.lose(1)
        elif draw < 0.34:
            w.ktls.tls_offload_tx_resync_request()
        elif draw < 0.38:
            w.ktls.mode = rng.choice(list(TxMode))
        elif draw < 0.60 and self.sent < w.end:
            skipped = rng.randint(1, 2000) if rng.random() < 0.2 else 0
            low = min(w.end - 1, self.sent + skipped)
            self.sent = self.send(low, w.end)
        elif self.sent:
            # Mostly near a tag, which is often cut.
            low = rng.randrange(self.sent)
            if rng.random() < 0.7:
                low = max(0, w.record_at(low).end - rng.randint(1, 24))
            if low < self.sent:
                self.send(low, self.sent)

    def send(self, low: int, limit: int) -> int:
        rng, w = self.rng, self.world
        high = min(limit, low + rng.choice(SIZES))
        if rng.random() < 0.3:
            high = min(limit, w.record_at(low).end - rng.randint(0, 16))
        if high <= low:
            return self.sent
        try:
            w.send(low, high, poll=rng.random() < 0.4)
        except QueueFull:
            w.poll()
            return self.sent
        self.look()
        return high

    def look(self) -> None:
        """A stored tag stays, and it is the one sent."""
        for record in self.world.ktls.records:
            if record.tag is not None:
                assert self.tags.setdefault(record.count, record.tag) == record.tag
                for i, byte in enumerate(record.tag, record.tag_start):
                    assert self.world.on_wire.get(i, byte) == byte


# The last three: the rest of a tag after another frame's, which once went wrong.
@pytest.mark.parametrize("seed", [*range(40), 1001, 1305, 1461])
def test_no_record_ever_has_two_tags(transports, seed):
    careless = Careless(transports, seed)
    for _ in range(150):
        careless.step()
    careless.world.poll()
    careless.look()
