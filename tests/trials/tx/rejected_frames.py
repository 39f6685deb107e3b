# SPDX-License-Identifier: Apache-2.0
"""Frames that must not be sent, because the device must see that their metadata is wrong.

Each function makes one for a flow, or returns `None` if the flow gives no occasion. None of them
moves the device's stream.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from sealane.driver.ktls.tx.plan import TxFrame
from sealane.hdl.abi.config import VERSION_TLS12
from sealane.hdl.abi.tx import TX_META, TxOp, TxTags
from tests.trials.tx.random_flow import REJECTED_COOKIE, RandomFlow, Written

Make = Callable[[random.Random, RandomFlow, Sequence[RandomFlow]], TxFrame | None]


def off_the_frontier(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A stream frame that is not in order: it lies after or before the frontier."""
    start = flow.edge(0, flow.end - 1)
    if start == flow.ktls.expected:
        return None
    return flow.rejected_frame(start, flow.cut(start, flow.end))


def sync_backwards(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """The stream would start a record again."""
    began = [r for r in flow.records if r.sealed.start < flow.ktls.expected]
    if not began:
        return None
    written = rng.choice(began)
    start = written.sealed.start
    return flow.rejected_frame(start, flow.cut(start, flow.end), sync=1, number=written.number)


def sync_with_an_old_number(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """The place is new, but the record's number is not."""
    ahead = [r for r in flow.records if r.sealed.start >= flow.ktls.expected]
    began = [r for r in flow.records if r.sealed.start < flow.ktls.expected]
    if not ahead or not began:
        return None
    start = rng.choice(ahead).sealed.start
    return flow.rejected_frame(
        start, flow.cut(start, flow.end), sync=1, number=rng.choice(began).number
    )


def beyond_the_frontier(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A detached frame with bytes that the stream has not encrypted yet."""
    frontier = flow.ktls.expected
    if frontier >= flow.end:
        return None
    start = max(0, frontier - rng.randrange(60))
    end = min(flow.end, frontier + rng.randrange(1, 60))
    post = flow.rejected_frame(start, end, **flow.detached(start, tags=TxTags.GIVEN))
    return flow.with_tags(post, start, end)


def record_to_come(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A detached frame below the frontier, under the number of a record that was not begun."""
    old = _below(rng, flow)
    ahead = [r for r in flow.records if r.sealed.start > flow.ktls.expected]
    if old is None or not ahead:
        return None
    start = flow.edge(old.sealed.start, old.sealed.end - 1)
    end = min(start + rng.randrange(1, 60), flow.ktls.expected)
    if start >= end:
        return None
    number = rng.choice(ahead).number
    post = flow.rejected_frame(start, end, **flow.detached(start, tags=TxTags.GIVEN, number=number))
    return flow.with_tags(post, start, end)


def other_nonce(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A bit of the explicit nonce in the header differs from the record's."""
    written = _below(rng, flow)
    if flow.version != VERSION_TLS12 or written is None:
        return None
    start, end = written.sealed.start, written.sealed.end
    post = flow.rejected_frame(start, end, **flow.detached(start, tags=TxTags.GIVEN))
    post = flow.with_tags(post, start, end)
    return _flipped(rng, post, end - start, 5, 13)


def other_version(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A header that TLS does not have."""
    written = _below(rng, flow)
    if written is None:
        return None
    start, end = written.sealed.start, written.sealed.end
    post = flow.rejected_frame(start, end, **flow.detached(start, tags=TxTags.GIVEN))
    return _flipped(rng, flow.with_tags(post, start, end), end - start, 1, 3)


def changed_text(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A complete record with its tag, which is to be compared, and a bit that it never had."""
    written = _below(rng, flow)
    if written is None or written.sealed.changed:  # the bit could be the one that was changed
        return None
    sealed = written.sealed
    start, end = sealed.start, sealed.end
    post = flow.rejected_frame(start, end, **flow.detached(start, tags=TxTags.COMPARE))
    post = flow.with_tags(post, start, end)
    return _flipped(rng, post, end - start, sealed.text_at - start, end - start)


def without_beginning(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A tag is to be computed, and the device has not hashed the record's beginning."""
    written = _below(rng, flow)
    if written is None:
        return None
    sealed = written.sealed
    start = rng.randint(sealed.text_at + 1, sealed.end - 1)
    tags = TxTags.COMPUTE if not written.promised else TxTags.COMPARE
    dump = flow.rejected_frame(sealed.start, start, **flow.detached(start, tags=tags))
    return TxFrame(flow.host_frame(start, sealed.end), dump.meta)


def cleared_key(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A record whose key has left the device: everything sealed with it is acknowledged."""
    keys = flow.ktls.keys
    oldest = min((keys.epochs[held].base for held in keys.slots.values()), default=None)
    gone = [r for r in flow.records if oldest is not None and r.number < oldest]
    if not gone:
        return None
    sealed = rng.choice(gone).sealed
    end = min(sealed.end, flow.ktls.expected)
    start = rng.randrange(sealed.start, end) if sealed.start < end else end
    if start >= end:
        return None
    post = flow.rejected_frame(start, end, **flow.detached(start, tags=TxTags.GIVEN))
    return flow.with_tags(post, start, end)


def other_generation(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """Metadata of a connection that had the context before."""
    start = flow.ktls.expected
    if start >= flow.end:
        return None
    end = flow.cut(start, flow.end)
    return flow.rejected_frame(start, end, generation=(flow.handle.generation + 1) & 0xFF)


def other_flow(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """The context of another connection."""
    other = next((other for other in flows if other is not flow), None)
    start = flow.ktls.expected
    if other is None or start >= flow.end:
        return None
    handle = other.handle
    return flow.rejected_frame(
        start,
        flow.cut(start, flow.end),
        context=handle.context,
        generation=handle.generation & 0xFF,
    )


def before_the_marker(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """Bytes before the marker as part of a record that the device knows."""
    written = _below(rng, flow)
    if written is None:
        return None
    start, sealed = -rng.randrange(1, 60), written.sealed
    place = flow.detached(rng.randrange(sealed.start, sealed.end), tags=TxTags.GIVEN)
    if rng.random() < 0.5:
        place = {}
    return flow.rejected_frame(start, min(0, start + rng.randrange(1, 80)), **place)


def straddling(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A frame that begins before the marker, where the stream continues."""
    if flow.ktls.expected:
        return None
    return flow.rejected_frame(-rng.randrange(1, 60), flow.cut(0, flow.end))


def contradicting(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """Given tags for the stream, which nobody could have computed."""
    start = flow.ktls.expected
    if start >= flow.end:
        return None
    return flow.rejected_frame(start, flow.cut(start, flow.end), tags=TxTags.GIVEN)


def dump_of_another_length(rng: random.Random, flow: RandomFlow, flows) -> TxFrame | None:
    """A DUMP frame whose length differs from the one that it names."""
    start = flow.ktls.expected
    if start >= flow.end:
        return None
    piece = bytes(flow.host[start : flow.cut(start, flow.end)])
    post = flow.rejected_frame(
        start, start, TxOp.DUMP, seq=flow.seq + start & 0xFFFFFFFF, length=len(piece) + 1
    )
    return TxFrame(piece, post.meta)


def _below(rng: random.Random, flow: RandomFlow) -> Written | None:
    """A record that the stream has passed."""
    records = [r for r in flow.records if r.sealed.end <= flow.ktls.expected]
    return rng.choice(records) if records else None


def _flipped(rng: random.Random, post: TxFrame, payload: int, low: int, high: int) -> TxFrame:
    """Flips a bit in the bytes [low, high) of the payload."""
    frame = bytearray(post.frame)
    frame[len(frame) - payload + rng.randrange(low, high)] ^= 1 << rng.randrange(8)
    assert TX_META.unpack(post.meta)["cookie"] == REJECTED_COOKIE
    return TxFrame(bytes(frame), post.meta)


REJECTED_FRAMES: dict[str, Make] = {
    make.__name__.replace("_", " "): make
    for make in (
        off_the_frontier,
        sync_backwards,
        sync_with_an_old_number,
        beyond_the_frontier,
        record_to_come,
        other_nonce,
        other_version,
        changed_text,
        without_beginning,
        cleared_key,
        other_generation,
        other_flow,
        before_the_marker,
        straddling,
        contradicting,
        dump_of_another_length,
    )
}
# By chance the device may have hashed just that. Then the bytes sent must be right, as ever.
MAY_LEAVE = frozenset({"without beginning"})
