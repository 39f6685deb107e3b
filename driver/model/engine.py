# SPDX-License-Identifier: Apache-2.0
"""Cipher, verdict and commit, behaviourally.

`Cipher` knows keys, record numbers and offsets and no TCP; `Commit` knows packets and no keys. They
do what `hdl/cipher/cipher.py` and `hdl/commit/commit.py` do to a packet that the walker has walked.
"""

from dataclasses import dataclass, field

from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason

from ..net.seq import distance
from .gcm import inner_type, may_change_keys, open_piece
from .walker.span import Span


@dataclass
class KeyRow:
    """A context's key as the cipher holds it. `iv`: salt in TLS 1.2."""

    generation: int
    version: int
    key: bytes
    iv: bytes


@dataclass
class Accumulator:
    """X of an open record and the last non-zero text byte seen so far: (offset, value)."""

    x: int = 0
    last: tuple[int, int] | None = None


@dataclass
class Verdict:
    """What the spans of one packet came to; see `Layouts.verdict`."""

    bad: bool = False
    stale: bool = False
    verified: int = 0
    park: bool = False
    park_last: bool = False
    number: int = 0
    proof: bool = False  # the candidate record authenticated under its guessed number
    texts: list[tuple[int, bytes]] = field(default_factory=list)  # (offset in payload, plaintext)


class Cipher:
    """Opens the spans of packets. Rows are by context, accumulators by context and slot."""

    def __init__(self) -> None:
        self.keys: dict[int, KeyRow] = {}
        self._x: dict[tuple[int, int], Accumulator] = {}

    def packet(self, context: int, generation: int, spans: list[Span], payload: bytes) -> Verdict:
        """Run a packet's spans, in order."""
        verdict = Verdict()
        key = self.keys.get(context)
        if key is None or key.generation != generation:
            verdict.stale = True
            return verdict
        for index, span in enumerate(spans):
            self._span(context, key, span, payload, verdict, index == len(spans) - 1)
        return verdict

    def _span(
        self, context: int, key: KeyRow, span: Span, payload: bytes, verdict: Verdict, last: bool
    ) -> None:
        text_end = span.at + span.text_bytes
        piece = open_piece(
            key.key,
            key.iv,
            key.version,
            span.number,
            span.nonce.to_bytes(8, "little"),
            span.content_type,
            span.length,
            span.text_offset,
            payload[span.at : text_end],
            span.tag_offset,
            payload[text_end : text_end + span.tag_bytes],
        )
        if span.text_bytes:
            verdict.texts.append((span.at, piece.plaintext))
        held = Accumulator() if span.first else self._x[context, span.slot]
        held.x ^= int.from_bytes(piece.x, "big")
        found = inner_type(piece.plaintext)
        if found:
            offset = span.text_offset + found[0]
            if held.last is None or offset > held.last[0]:
                held.last = (offset, found[1])
        if not span.completes:
            self._x[context, span.slot] = held
            return
        if verdict.bad or (verdict.park and held.x):
            return  # behind a bad record nothing counts; behind a park another key may
        if span.probe:
            verdict.proof = not held.x
            if held.x:
                return  # the number was guessed wrong
        elif held.x:
            verdict.bad = True
            verdict.number = span.number
            return
        verdict.verified += not span.probe
        inner = held.last[1] if held.last else None
        if may_change_keys(key.version, span.content_type, inner):
            # The driver goes on when it has read the last such record.
            verdict.park_last = last and not verdict.park
            verdict.park = True
            verdict.number = span.number


@dataclass
class CommitRow:
    """A context's state at commit."""

    generation: int
    parked: bool = False
    park_end: int = 0  # packets that end behind it are not marked
    park: int = 0  # name of the latest park
    awaited: int = 0  # the park whose go-on ends all: that of the highest record
    park_number: int = 0  # number of that record, modulo 2^32


@dataclass
class Decision:
    """What commit decides of a packet: its reason, the events, and whether sync is lost."""

    reason: Reason
    events: list[dict[str, int]]
    desync: bool = False


class Commit:
    """Marks packets, all or nothing, in order."""

    def __init__(self) -> None:
        self.rows: dict[int, CommitRow] = {}

    def go_on(self, context: int, generation: int, park: int) -> None:
        """End the park of that name; a stale go-on changes nothing."""
        row = self.rows.get(context)
        if row and row.generation == generation and row.awaited == park:
            row.parked = False

    def packet(
        self, context: int, end: int, reason: Reason, verdict: Verdict, last_completes: bool
    ) -> Decision:
        """`end`: TCP sequence number behind the packet. `reason`: the front's."""
        row = self.rows[context]
        reasons = [reason] if reason else []
        behind = row.parked and distance(end, row.park_end) > 0
        if behind:
            reasons.append(Reason.PARKED)
        events: list[dict[str, int]] = []
        desync = False
        common = {
            "context": context,
            "generation": row.generation,
            "seq": end,
            "number": verdict.number,
        }
        if verdict.stale:
            reasons.append(Reason.STALE_GENERATION)
        elif verdict.bad:
            # Behind a park the record may be sealed with a key that is not here yet.
            if not behind:
                reasons.append(Reason.TAG_MISMATCH)
                events.append({"kind": EventKind.TAG_MISMATCH, **common})
                desync = True
        elif verdict.park:
            if not (verdict.park_last and last_completes):
                reasons.append(Reason.PARKED)
            row.park = row.park + 1 & 0xFF
            # The driver reads in order: what parks already stays parked until the highest record
            # that may change keys has been read, and marks end at the lowest.
            if not row.parked or distance(verdict.number, row.park_number) >= 0:
                row.awaited = row.park
                row.park_number = verdict.number & 0xFFFFFFFF
            if not row.parked or distance(end, row.park_end) < 0:
                row.park_end = end
            row.parked = True
            events.append({"kind": EventKind.PARKED, "park": row.park, **common})
        return Decision(min(reasons, default=Reason.NONE), events, desync)
