# SPDX-License-Identifier: Apache-2.0
"""The input of a divergence trial: a sender's stream and an attacker's plan.

The attacker sits on the path without keys. It knows all plaintext, so that it can change sealed
text into any text it likes, and has recorded every sealed record. It decides for every packet
whether card and TCP see it, the card alone or TCP alone. Keys are fixed and protect nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from sealane.driver.crypto.keys import CryptoInfo
from sealane.hdl.abi.config import TAG_BYTES, VERSION_TLS12, VERSION_TLS13
from tests.support.marking_device import TICKET, Record, Stream, crypt_text, info, seal
from tests.support.sealed_streams import KEY_UPDATE
from tests.trials.divergence.attacks import CLOSE_NOTIFY, Step, card_alone, forge, scheme, seen

CHANGE_CIPHER_SPEC = b"\1"
HELLO_REQUEST = bytes(4)

_keys = lru_cache(64)(info)


@dataclass
class Sent(Stream):
    """A sender's stream. Its keys are prepared once per process.

    embeds: the records whose sealed text reads as records.
    """

    embeds: list[Record] = field(default_factory=list)

    def keys(self, epoch: int) -> CryptoInfo:
        return _keys(self.version, epoch, self.bits)

    def embed(self, wanted: bytes) -> None:
        """Adds a record whose sealed text is `wanted`, as a peer can do that knows its own key."""
        keys = self.keys(self.epoch)
        explicit = seal(keys, self.number, 23, b"")[1]
        self.embeds.append(self.add(crypt_text(keys, self.number, explicit, 0, wanted)))


def sender(rng: random.Random) -> Sent:
    """A short stream: two to six records of data, and handshake records between them."""
    stream = Sent(
        rng.choice((VERSION_TLS12, VERSION_TLS13, VERSION_TLS13)),
        seq=rng.choice((7, 0xFFFFFE00, 0x7FFFFF00)),
        bits=rng.choice((128, 128, 256)),
    )
    rate = rng.choice((0, 0.15, 0.3))
    for _ in range(rng.randint(2, 6)):
        content = rng.randbytes(rng.choice((0, 1, 3, 16, 40, 100, 200, 200)))
        if rng.random() < 0.2:
            stream.embed(_like_records(rng, stream, content[:8]))
        else:
            stream.add(content, padding=rng.choice((0, 0, 0, 30)))
        if rng.random() < rate:
            _handshake(rng, stream)
    if rng.random() < 0.1:
        stream.add(CLOSE_NOTIFY, 21)
    return stream


def _like_records(rng: random.Random, stream: Sent, front: bytes) -> bytes:
    """`front`, and what looks like records: headers alone, or records sealed for later numbers.

    The last header may lead on to the next true one.
    """
    out = front
    if rng.random() < 0.3:
        out += rng.randint(2, 5) * (b"\x17\3\3\0\x19" + rng.randbytes(25))
    else:
        number = max(0, stream.number + rng.choice((-1, 0, 1, 1, 2, 3)))
        for i in range(rng.randint(1, 2)):
            content = rng.randbytes(rng.choice((1, 20, 60)))
            out += seal(stream.keys(stream.epoch), number + i, 23, content)[0]
    if rng.random() < 0.5:
        filling = rng.randbytes(rng.randint(8, 40))
        behind = len(filling) + (stream.version == VERSION_TLS13) + TAG_BYTES
        out += b"\x17\3\3" + behind.to_bytes(2, "big") + filling
    return out


def _handshake(rng: random.Random, stream: Sent) -> None:
    """Records that change keys, or look as if they could."""
    kind = rng.choice((0, 1, 2, 2, 3, 3, 4, 5))
    if stream.version == VERSION_TLS12:
        stream.add(HELLO_REQUEST, 22)
        if kind < 2 or kind > 3:
            stream.add(CHANGE_CIPHER_SPEC, 20)
            stream.next_epoch()
            stream.add(bytes(16), 22)
        return
    if kind == 0:
        stream.add(TICKET, 22)
        return
    if kind == 1:  # in two records
        stream.add(KEY_UPDATE[:2], 22)
        stream.add(KEY_UPDATE[2:], 22)
    elif kind == 2:  # after a ticket
        stream.add(TICKET + KEY_UPDATE, 22)
    elif kind == 3:
        stream.add(KEY_UPDATE, 22, padding=rng.randint(1, 80))
    else:
        stream.add(KEY_UPDATE, 22)
    stream.next_epoch()
    if kind == 5:  # back to back
        stream.add(KEY_UPDATE, 22)
        stream.next_epoch()


def plan(rng: random.Random, stream: Sent) -> list[Step]:
    """The packets of the stream in some order, with those that the attacker adds."""
    wire = stream.wire
    # A forgery that TCP accepts ends the connection, so in half of the trials only the card gets
    # it.
    hidden = rng.random() < 0.5
    attacked = rng.sample(stream.records, rng.choice((0, 1, 1, 2)))
    turns = [a for a, b in pairwise(stream.records) if a.epoch != b.epoch]
    for special in (turns, stream.embeds):
        if special and rng.random() < 0.6:
            attacked.append(rng.choice(special))
    schemes = {r.offset: scheme(rng, stream, r, stream.embeds, hidden) for r in attacked}
    # An attacker with a scheme may leave everything else alone, so that it succeeds.
    quiet = bool(schemes) and rng.random() < 0.4
    forged = 0 if quiet else rng.choice((0, 0, 0.1))
    unseen = 0 if quiet else rng.choice((0, 0.05, 0.15))
    timed: list[tuple[float, int, Step]] = []
    jitter = 0 if quiet else rng.choice((0, 0, 2, 6))
    largest = rng.choice((60, 150, 300))
    low = 0
    while low < len(wire):
        high = min(len(wire), low + rng.randint(largest // 4, largest))
        high = min([high, *(start for start in schemes if low < start)])
        if low in schemes:
            timed += [(len(timed), len(timed) + i, s) for i, s in enumerate(schemes[low])]
        payload = wire[low:high]
        if rng.random() < forged:
            false = forge(rng, stream, low, payload)
            step = card_alone(rng, low, false) if hidden else seen(rng, low, false)
            timed.append((len(timed), len(timed), step))
        step = Step(offset=low, payload=payload)
        if rng.random() < unseen:
            step = seen(rng, low, payload)
        timed.append((len(timed) + rng.random() * jitter, len(timed), step))
        low = high
    for _ in range(0 if quiet else rng.choice((0, 0, 2, 4))):
        timed.append((rng.random() * len(timed), len(timed), extra(rng, stream, hidden)))
    return [step for _, _, step in sorted(timed)]


def extra(rng: random.Random, stream: Sent, hidden: bool) -> Step:
    """An event at any time: a repetition, a forgery, a guessed number, an action of the host."""
    low = rng.randrange(len(stream.wire))
    payload = stream.wire[low : low + rng.randint(1, 250)]
    kind = rng.randrange(8)
    if kind == 0:
        return Step("readd")
    if kind == 1:
        return Step("prune")
    if kind == 2:
        return seen(rng, rng.choice((1 << 31, 1 << 30, -5000, 70000, rng.getrandbits(32))), payload)
    if kind < 6:
        payload = forge(rng, stream, low, payload)
        return card_alone(rng, low, payload) if hidden else seen(rng, low, payload)
    return seen(rng, low, payload)
