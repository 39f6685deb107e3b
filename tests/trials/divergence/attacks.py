# SPDX-License-Identifier: Apache-2.0
"""Attacks of `tests.trials.divergence.trial` on one record, and on single packets.

The attacker has no keys, but knows all plaintext and has recorded every sealed record. A scheme is
a sequence of steps that precedes the stream's own packets from the attacked record on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from sealane.hdl.abi.config import header_bytes
from tests.support.marking_device import Record, Stream
from tests.support.sealed_streams import KEY_UPDATE

CLOSE_NOTIFY = b"\1\0"


class Step(NamedTuple):
    """One event: a packet, or an action of the host.

    what: "packet", "readd" (the context is deleted and added again) or "prune" (TCP drops its
    queue). offset: of the payload in the stream. old: its timestamp is old, so TCP drops it (PAWS).
    bad: its checksum is bad, so TCP drops it.
    """

    what: str = "packet"
    offset: int = 0
    payload: bytes = b""
    card: bool = True
    host: bool = True
    old: bool = False
    bad: bool = False


def seen(rng: random.Random, low: int, payload: bytes) -> Step:
    """The packet, seen by both, by one of them, or dropped by TCP for its defect."""
    card, host, old, bad = rng.choice(
        (
            (True, True, False, False),
            (True, True, False, False),
            (True, False, False, False),
            (False, True, False, False),
            (True, True, True, False),
            (True, True, False, True),
        )
    )
    return Step("packet", low, payload, card, host, old, bad)


def card_alone(rng: random.Random, low: int, payload: bytes) -> Step:
    """The packet, seen by the card alone for one reason or another."""
    old = rng.random() < 0.3
    return Step("packet", low, payload, True, old, old)


def scheme(
    rng: random.Random, stream: Stream, record: Record, embeds: Sequence[Record], hidden: bool
) -> list[Step]:
    """An attack on one record. hidden: TCP gets nothing forged.

    embeds: the records whose sealed text reads as records.
    """
    following = next((r for r in stream.records if r.offset == record.end), None)
    if following and following.epoch != record.epoch and rng.random() < 0.8:
        out = overtake(rng, stream, record, following)
    elif record in embeds and rng.random() < 0.8:
        out = headless(rng, stream, record)
    elif rng.random() < 0.4:
        out = rng.choice((replay, renumber, renumber, fork))(rng, stream, record, hidden)
    else:
        out = two_texts(rng, stream, record, hidden)
    if rng.random() < 0.1:
        out.insert(rng.randrange(len(out) + 1), Step("readd"))
    return out


def two_texts(rng: random.Random, stream: Stream, record: Record, hidden: bool) -> list[Step]:
    """A record that verifies for the card, and another one for TCP.

    The card is shown the record's beginning twice, genuine to it alone and forged to both (hidden:
    the other way round). In between something happens that may make it take the record for new.
    """
    wire, start, end = stream.wire, record.offset, record.end
    prefix = header_bytes(stream.version)
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


def pieces(
    rng: random.Random, stream: Stream, low: int, high: int, missing: float = 0
) -> list[Step]:
    """The stream's bytes [low, high) in any cuts.

    Apart from the first, some do not come now, and the card alone sees some.
    """
    out, first, largest = [], low, rng.choice((30, 80, 400))
    high = min(high, len(stream.wire))
    while low < high:
        end = min(high, low + rng.randint(largest // 3, largest))
        if low == first or rng.random() >= missing:
            payload = stream.wire[low:end]
            alone = rng.random() < missing
            out.append(card_alone(rng, low, payload) if alone else Step("packet", low, payload))
        low = end
    return out


def overtake(rng: random.Random, stream: Stream, record: Record, following: Record) -> list[Step]:
    """A key change of which a part is late: what follows may be marked under the old key.

    Parts of what follows are late too, so that old marks wait in TCP or in kTLS while the device
    gets the new keys. The part of the key change comes in other cuts, or with all the rest.
    """
    start, low = record.offset, record.end
    body = min(start + header_bytes(stream.version), low - 1)
    cut = rng.choice((start, rng.randint(start + 1, low - 1), *2 * [rng.randint(body, low - 1)]))
    out = [Step("packet", start, stream.wire[start:cut])] if cut > start else []
    behind = [r.end for r in stream.records if r.offset >= following.offset]
    out += pieces(rng, stream, low, rng.choice(behind[:3]), rng.choice((0, 0.2, 0.4)))
    if rng.random() < 0.5:
        again = rng.choice((cut, rng.randint(start, cut)))
        out += pieces(rng, stream, again, min(following.end, low + rng.choice((0, 0, 3, 70))))
    return out


def headless(rng: random.Random, stream: Stream, record: Record) -> list[Step]:
    """A record without its header: text that reads as records is taken for records."""
    low = record.offset + rng.randint(1, header_bytes(stream.version))
    behind = [r.end for r in stream.records if r.offset >= record.offset]
    return pieces(rng, stream, low, rng.choice(behind[:4]), rng.choice((0, 0, 0, 0.2)))


def replay(rng: random.Random, stream: Stream, record: Record, hidden: bool) -> list[Step]:
    """A header is withheld, and where the card searches it finds a captured record.

    It was sealed for another position, perhaps for the very number that the card expects. A false
    header after it may lead on to where a true record begins.
    """
    near = [r for r in stream.records if 0 <= r.number - record.number <= 2]
    captured = rng.choice(near if rng.random() < 0.7 else stream.records)
    at = record.offset + rng.randint(1, len(record.wire))
    payload = captured.wire
    if rng.random() < 0.3:
        payload += next((r.wire for r in stream.records if r.offset == captured.end), b"")
    end = at + len(payload)
    true = [r.offset for r in stream.records if r.offset >= end + 5 + 24]
    if true and rng.random() < 0.7:
        target = true[0]
        payload += b"\x17\3\3" + (target - end - 5).to_bytes(2, "big")
        end += 5
    if rng.random() < 0.3:  # in two segments
        half = rng.randint(1, len(payload) - 1)
        out = [card_alone(rng, at, payload[:half]), card_alone(rng, at + half, payload[half:])]
    else:
        out = [card_alone(rng, at, payload)]
    behind = [r.end for r in stream.records if r.end > end]
    if behind:
        out += pieces(rng, stream, end, rng.choice(behind[:3]), rng.choice((0, 0.2)))
    return out


def renumber(rng: random.Random, stream: Stream, record: Record, hidden: bool) -> list[Step]:
    """A header is withheld, and a captured record, for the card alone, ends at the next record.

    There, for TCP too, is the record that was sent after the captured one.
    """
    pairs = [
        (a, b)
        for a, b in pairwise(stream.records)
        if len(a.wire) < len(record.wire) and a.number >= record.number and b.number == a.number + 1
    ]
    if not pairs:
        return replay(rng, stream, record, hidden)
    expected = [pair for pair in pairs if pair[0].number == record.number + 1]
    captured, behind = rng.choice(expected if expected and rng.random() < 0.8 else pairs)
    out = [card_alone(rng, record.end - len(captured.wire), captured.wire)]
    half = rng.randint(1, len(behind.wire))
    for low, payload in ((0, behind.wire[:half]), (half, behind.wire[half:])):
        if payload:
            step = Step("packet", record.end + low, payload)
            out.append(card_alone(rng, step.offset, payload) if hidden else step)
    return out


def fork(rng: random.Random, stream: Stream, record: Record, hidden: bool) -> list[Step]:
    """A header is withheld, and the card sees the next header with another length.

    The candidate begins where a record begins, and leads elsewhere than the walk.
    """
    wire, start = stream.wire, record.end
    if start == len(wire):
        return []
    high = min(len(wire), start + rng.randint(8, 120))
    low = record.offset + rng.randint(1, len(record.wire))
    false = bytearray(wire[low:high])
    false[start + 3 - low : start + 5 - low] = rng.randint(17, 300).to_bytes(2, "big")
    cut = rng.randint(record.offset, start)
    return [
        card_alone(rng, low, bytes(false)),
        Step("packet", record.offset, wire[record.offset : cut]),
        *pieces(rng, stream, cut, rng.choice((high, start + rng.randint(5, 300))), 0.1),
    ]


def trigger(rng: random.Random, stream: Stream, record: Record, end: int) -> list[Step]:
    """Events that may make a card forget what it has seen of a record that ends at `end`."""
    kind = rng.choice((0, 1, 1, 2, 3, 4))
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


def change(rng: random.Random, stream: Stream, record: Record, front: bytes) -> bytes:
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


def forge(rng: random.Random, stream: Stream, low: int, payload: bytes) -> bytes:
    """The segment with other content."""
    out = bytearray(payload)
    kind = rng.randrange(6)
    starts = [r.offset - low for r in stream.records if 0 <= r.offset - low <= len(out) - 5]
    if kind == 5 and starts:  # another length in a true header
        at = rng.choice(starts)
        out[at + 3 : at + 5] = rng.randint(17, 300).to_bytes(2, "big")
    elif kind == 0:
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
    else:  # the text of the record in progress changed into a chosen one
        record = next((r for r in reversed(stream.records) if r.offset <= low), None)
        if record and record.offset == low:
            return change(rng, stream, record, bytes(out))
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)
