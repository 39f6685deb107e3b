# SPDX-License-Identifier: Apache-2.0
"""Cipher, tag writer and commit of transmit, behaviourally.

`TxEngine` knows keys, record numbers and offsets and no TCP: it seals the spans of a frame and
writes what leaves. `decide` and `leave` know the frame and no keys: a frame leaves only if every
byte of its payload is a clear span's or was written, and a payload byte that was not written
leaves as 0 whatever was decided.
"""

from dataclasses import dataclass, field

from sealane.hdl.abi.config import TAG_BYTES, WORD_BYTES
from sealane.hdl.abi.tx import TxReason, TxTags

from ...net.parser import Parsed
from ..gcm import seal_piece
from .span import TxSpan, TxWalked


@dataclass(frozen=True)
class TxKey:
    """A key slot as the cipher holds it. name: counts up with every key of the slot."""

    name: int
    version: int
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)  # salt in TLS 1.2


@dataclass
class TxVerdict:
    """What the spans of one frame came to; see `TxLayouts.verdict`.

    difference: ciphertext and tags minus what stood in their place, in 16-bit lanes of the frame,
    first byte low, modulo 0xFFFF. writes: (offset in the frame, bytes). tags: for the completion.
    """

    stale: bool = False
    mismatch: bool = False
    written: int = 0
    difference: int = 0
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    tags: list[bytes] = field(default_factory=list)


def lanes(at: int, data: bytes) -> int:
    """Sum of the 16-bit lanes of bytes from offset `at` on, first byte low, modulo 0xFFFF."""
    return int.from_bytes(bytes(at & 1) + data, "little") % 0xFFFF


class TxEngine:
    """Seals the spans of frames. Keys are by context and key slot, X rows by context and detached."""

    def __init__(self) -> None:
        self.keys: dict[tuple[int, int], TxKey] = {}
        self._x: dict[tuple[int, bool], int] = {}

    def frame(
        self, context: int, spans: list[TxSpan], frame: bytes, lost_writes: int = 0
    ) -> TxVerdict:
        """Runs a frame's spans, in order; its first `lost_writes` writes of text are lost."""
        verdict = TxVerdict()
        for span in spans:
            text_end = span.at + span.text_bytes
            tag_in = frame[text_end : text_end + span.tag_bytes]
            text = frame[span.at : text_end]
            key = self.keys.get((context, span.key_slot))
            if key is None or key.name != span.key_name:
                verdict.stale = True
                self._row(context, span, 0, alone=True)
                if span.gives_tag:
                    verdict.tags.append(bytes(TAG_BYTES))
                continue
            piece = seal_piece(
                key.key,
                key.iv,
                key.version,
                span.number,
                span.nonce,
                span.content_type,
                span.length,
                span.text_offset,
                text,
                span.tag_bytes > 0 and span.tag_offset == 0,
            )
            at = span.at
            while lost_writes and at < text_end:  # a write is a word's part of the span
                at = (at // WORD_BYTES + 1) * WORD_BYTES
                lost_writes -= 1
            if at < text_end:
                self._write(verdict, at, frame, piece.ciphertext[at - span.at :])
            x = self._row(context, span, int.from_bytes(piece.x, "big"), alone=span.first)
            tag = x.to_bytes(TAG_BYTES, "big")
            if span.gives_tag:
                verdict.tags.append(tag)
            mine = tag[span.tag_offset : span.tag_offset + span.tag_bytes]
            if span.tag_mode == TxTags.COMPARE and mine != tag_in:
                verdict.mismatch = True
            if span.tag_bytes:
                out = tag_in if span.tag_mode == TxTags.GIVEN else mine
                self._write(verdict, text_end, frame, out)
        return verdict

    def _row(self, context: int, span: TxSpan, x: int, alone: bool) -> int:
        """X of the span's record so far; its row, if it has one, holds that from now on."""
        if not span.use_row:
            return x
        place = (context, span.detached)
        self._x[place] = x if alone else x ^ self._x.get(place, 0)
        return self._x[place]

    @staticmethod
    def _write(verdict: TxVerdict, at: int, frame: bytes, out: bytes) -> None:
        verdict.writes.append((at, out))
        verdict.written += len(out)
        change = lanes(at, out) - lanes(at, frame[at : at + len(out)])
        verdict.difference = (verdict.difference + change) % 0xFFFF


def decide(walked: TxWalked, verdict: TxVerdict) -> TxReason:
    """The reason of a frame with text, behind its verdict."""
    if walked.reason:
        return walked.reason
    if verdict.stale:
        return TxReason.STALE_KEY
    if verdict.mismatch:
        return TxReason.TAG_MISMATCH
    return TxReason.NONE if verdict.written == walked.expected else TxReason.DEVICE_ERROR


def assemble_frame(frame: bytes, head: Parsed, walked: TxWalked, verdict: TxVerdict) -> bytes:
    """The encrypted frame as it leaves.

    Of the payload only clear spans come from the host's frame. What lies behind the payload, the
    link's padding, is 0. The TCP checksum is brought up to date by differences (RFC 1624) and is
    never 0xFFFF.
    """
    out = bytearray(len(frame))
    out[: walked.payload_at] = frame[: walked.payload_at]
    for start, end in walked.clears:
        out[start:end] = frame[start:end]
    for at, data in verdict.writes:
        out[at : at + len(data)] = data
    total = (head.segment_sum - head.tcp_checksum + verdict.difference) % 0xFFFF or 0xFFFF
    at = head.tcp_offset + 16
    out[at : at + 2] = (total ^ 0xFFFF).to_bytes(2, "little")
    return bytes(out)
