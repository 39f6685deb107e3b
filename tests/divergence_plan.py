# SPDX-License-Identifier: Apache-2.0
"""What a trial of `tests.divergence` is made of: a sender's stream and an attacker's plan.

The attacker sits on the path without keys. It knows all plaintext, so that it can change sealed
text into any text it likes, has recorded every sealed record, and decides of every packet whether
card and TCP see it, the card alone or TCP alone. Keys are fixed and protect nothing.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

from sealane.driver.keys import CryptoInfo
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes

from tests.ideal_card import KEY_UPDATE, TICKET, Record, Stream, info

CHANGE_CIPHER_SPEC = b"\1"
HELLO_REQUEST = bytes(4)
CLOSE_NOTIFY = b"\1\0"

_keys = lru_cache(64)(info)


class Sent(Stream):
    """A sender's stream; its keys are prepared once a process."""

    def keys(self, epoch: int) -> CryptoInfo:
        return _keys(self.version, epoch, self.bits)


class Step(NamedTuple):
    """One thing that happens: a packet, or the host's doing.

    what: "packet"; "readd": the context is deleted and added again; "prune": TCP drops its queue.
    offset: of the payload in the stream. old: its timestamp is, so TCP drops it (PAWS). bad: its
    checksum is, so TCP drops it.
    """

    what: str = "packet"
    offset: int = 0
    payload: bytes = b""
    card: bool = True
    host: bool = True
    old: bool = False
    bad: bool = False


def sender(rng: random.Random) -> Sent:
    """A short stream: two to six records of data, and handshake records between them."""
    stream = Sent(
        rng.choice((VERSION_TLS12, VERSION_TLS13, VERSION_TLS13)),
        seq=rng.choice((7, 0xFFFFFE00, 0x7FFFFF00)), bits=rng.choice((128, 128, 256)),
    )
    rate = rng.choice((0, 0.15, 0.3))
    for _ in range(rng.randint(2, 6)):
        content = rng.randbytes(rng.choice((0, 1, 3, 16, 40, 100, 200)))
        embeds = rng.random()
        if stream.records and embeds < 0.15:
            content += rng.choice(stream.records).wire
        elif embeds < 0.3:
            content += rng.randint(2, 5) * (b"\x17\3\3\0\x19" + rng.randbytes(25))
        stream.add(content, padding=rng.choice((0, 0, 0, 30)))
        if rng.random() < rate:
            _handshake(rng, stream)
    if rng.random() < 0.1:
        stream.add(CLOSE_NOTIFY, 21)
    return stream


def _handshake(rng: random.Random, stream: Sent) -> None:
    """Records that change keys, or look as if they could."""
    kind = rng.randrange(6)
    if stream.version == VERSION_TLS12:
        stream.add(HELLO_REQUEST, 22)
        if kind < 3:
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
    elif kind == 2:  # behind a ticket
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
    """The packets of the stream in some order, with what the attacker adds."""
    wire = stream.wire
    # What TCP takes of a forgery ends the connection: in half of the trials only the card gets it.
    hidden = rng.random() < 0.5
    attacked = rng.sample(stream.records, rng.choice((0, 1, 1, 2)))
    schemes = {record.offset: scheme(rng, stream, record, hidden) for record in attacked}
    forged = rng.choice((0, 0, 0.1))
    unseen = rng.choice((0, 0.05, 0.15))
    timed: list[tuple[float, int, Step]] = []
    jitter = rng.choice((0, 0, 2, 6))
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
    for _ in range(rng.choice((0, 0, 2, 4))):
        timed.append((rng.random() * len(timed), len(timed), extra(rng, stream, hidden)))
    return [step for _, _, step in sorted(timed)]


def seen(rng: random.Random, low: int, payload: bytes) -> Step:
    """The packet, seen by both, by one of them, or dropped by TCP for what it is."""
    card, host, old, bad = rng.choice((
        (True, True, False, False), (True, True, False, False), (True, False, False, False),
        (False, True, False, False), (True, True, True, False), (True, True, False, True),
    ))  # fmt: skip
    return Step("packet", low, payload, card, host, old, bad)


def card_alone(rng: random.Random, low: int, payload: bytes) -> Step:
    """The packet, seen by the card alone for one reason or another."""
    old = rng.random() < 0.3
    return Step("packet", low, payload, True, old, old)


def extra(rng: random.Random, stream: Sent, hidden: bool) -> Step:
    """Something at any time: a repetition, a forgery, a guessed number, the host's own doing."""
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


def scheme(rng: random.Random, stream: Sent, record: Record, hidden: bool) -> list[Step]:
    """Two texts of one record: the one that verifies for the card, another for TCP.

    The card is shown the record's beginning twice, genuine to it alone and forged to both (hidden:
    the other way round). In between something happens that may make it take the record for new.
    """
    wire, start, end = stream.wire, record.offset, record.end
    prefix = header_bytes(stream.version)
    following = next((r for r in stream.records if r.offset == end), None)
    if following and following.epoch != record.epoch and rng.random() < 0.7:
        return overtake(rng, stream, record, following)
    cut = rng.randint(min(start + prefix + 1, end - 1), end - 1)
    front = wire[start:cut]
    other = change(rng, stream, record, front)
    before = start
    for r in stream.records:
        if r.offset < start and r.epoch == record.epoch and rng.random() < 0.7:
            before = r.offset
            break
    rest = [Step(offset=cut, payload=wire[cut:end])]
    if end - cut > 2 and rng.random() < 0.2:
        half = rng.randint(cut + 1, end - 1)
        rest = [Step(offset=half, payload=wire[half:end]), Step(offset=cut, payload=wire[cut:half])]
    again = [Step(offset=before, payload=wire[before:start])] if before < start else []
    between = trigger(rng, stream, record, end)
    genuine, forgery = card_alone(rng, start, front), Step(offset=start, payload=other)
    if hidden:
        genuine, forgery = Step(offset=start, payload=front), card_alone(rng, start, other)
    if rng.random() < 0.5:
        return [genuine, *rest, *between, *again, forgery]
    return [forgery, *between, *again, genuine, *rest]


def overtake(rng: random.Random, stream: Sent, record: Record, following: Record) -> list[Step]:
    """A key change of which a part is late: what follows may be marked under the old key."""
    wire, low, high = stream.wire, following.offset, following.end
    cut = rng.randint(record.offset + 1, record.end - 1)
    first = Step(offset=record.offset, payload=wire[record.offset : cut])
    out = [first, Step(offset=low, payload=wire[low : rng.randint(low + 1, high)])]
    if rng.random() < 0.5:  # or else it comes with all the rest
        out.append(Step(offset=cut, payload=wire[cut:low]))
    return out


def trigger(rng: random.Random, stream: Sent, record: Record, end: int) -> list[Step]:
    """What may make a card forget what it has seen of a record that ends at `end`."""
    kind = rng.randrange(5)
    if kind == 0:
        return [Step("readd")]
    if kind == 1:  # no header where one must be: sync is lost
        return [card_alone(rng, end, bytes(20))]
    if kind == 2:  # more records than a flow has slots for
        at, out = end, []
        for _ in range(6):
            out.append(card_alone(rng, at, b"\x17\3\3\0\x64" + bytes(20)))
            at += 5 + 100
        return out
    if kind == 3:  # a header is lost
        return [card_alone(rng, end + 300, rng.randbytes(30))]
    return []


def change(rng: random.Random, stream: Sent, record: Record, front: bytes) -> bytes:
    """The record's beginning with another text: known plaintext is turned into a chosen one."""
    prefix = header_bytes(stream.version)
    out = bytearray(front)
    if len(out) <= prefix:
        return bytes(out)
    if rng.random() < 0.5:
        out[rng.randrange(prefix, len(out))] ^= rng.randint(1, 255)
        return bytes(out)
    text = record.content + bytes((record.content_type,))
    wanted = rng.choice((KEY_UPDATE + b"\x16", CLOSE_NOTIFY, b"forged", b"\x17\3\3\0\x20"))
    for i, (old, new) in enumerate(zip(text, wanted, strict=False)):
        if prefix + i < len(out):
            out[prefix + i] ^= old ^ new
    return bytes(out)


def forge(rng: random.Random, stream: Sent, low: int, payload: bytes) -> bytes:
    """The segment with something else in it."""
    out = bytearray(payload)
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.randint(1, 3)):
            out[rng.randrange(len(out))] ^= rng.randint(1, 255)
    elif kind == 1:  # sealed records of the same stream at another place
        sealed = rng.choice(stream.records).wire
        at = rng.randrange(len(out))
        out[at : at + len(sealed)] = sealed[: len(out) - at]
    elif kind == 2:  # a header where there is none
        header = bytes((rng.choice((20, 21, 22, 23, 23, 23)), 3, 3))
        header += rng.randint(17, 300).to_bytes(2, "big")
        at = rng.randrange(len(out))
        out[at : at + 5] = header[: len(out) - at]
    elif kind == 3:  # another part of the stream
        at = rng.randrange(len(stream.wire))
        part = stream.wire[at : at + len(out)]
        out[: len(part)] = part
    else:  # the text of the record under way changed into a chosen one
        record = next((r for r in reversed(stream.records) if r.offset <= low), None)
        if record and record.offset == low:
            return change(rng, stream, record, bytes(out))
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)
