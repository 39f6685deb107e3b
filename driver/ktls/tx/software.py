# SPDX-License-Identifier: Apache-2.0
"""Any segment of a transmit direction, encrypted by software from the record map.

What Linux does in `tls_sw_fallback` (net/tls/tls_device_fallback.c), with one difference: the
record map holds whole records, so a segment that ends in mid-record or in mid-tag needs nothing
special. Text is encrypted in counter mode where it lies; a tag is the AEAD's over the whole record
(SP 800-38D), and if it has been computed before it must be the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.hdl.abi.config import HEADER_BYTES, TAG_BYTES

from ...crypto.gcm import record_aad
from .records import TxEpoch, TxRecord


class TagMismatch(Exception):
    """A record's tag is not the one that was computed before: its text was changed."""


@dataclass(frozen=True)
class Encrypted:
    """A segment as it shall be on the wire.

    tags: of the records with bytes of a tag in it. cpu_bytes: text that was encrypted for it, and
    text that was read for a tag.
    """

    payload: bytes = field(repr=False)
    tags: list[tuple[TxRecord, bytes]] = field(repr=False)
    cpu_bytes: int


def encrypt(
    records: Sequence[TxRecord], epochs: Mapping[int, TxEpoch], start: int, end: int
) -> Encrypted:
    """The bytes [start, end) of the stream, which lie in `records` and nowhere else.

    epochs: keys by key epoch. Raises `TagMismatch` where a tag differs from the stored one.
    """
    parts: list[bytes] = []
    tags: list[tuple[TxRecord, bytes]] = []
    cpu_bytes = 0
    for record in records:
        low, high = max(start, record.start), min(end, record.end)
        keys = epochs[record.epoch]
        text = record.text
        if record.has_tag_bytes(low, high):
            sealed = seal(record, keys, text)
            tag = sealed[-TAG_BYTES:]
            if record.tag is not None and record.tag != tag:
                raise TagMismatch
            tags.append((record, tag))
            cpu_bytes += len(text)
            whole = record.header + sealed
            parts.append(whole[low - record.start : high - record.start])
            continue
        parts.append(record.header[low - record.start : high - record.start])
        at = max(low - record.text_start, 0)
        piece = text[at : max(high - record.text_start, 0)]
        if piece:
            number, nonce = record.count - keys.base, record.header[HEADER_BYTES:]
            parts.append(keys.info.crypt_text(number, nonce, at, piece))
            cpu_bytes += len(piece)
    return Encrypted(b"".join(parts), tags, cpu_bytes)


def seal(record: TxRecord, keys: TxEpoch, text: bytes) -> bytes:
    """The record's ciphertext and tag; text: that of the record, read once."""
    number, nonce = record.count - keys.base, record.header[HEADER_BYTES:]
    aad = record_aad(keys.info.version, number, record.header[0], record.length)
    return AESGCM(keys.info.key).encrypt(keys.info.nonce(number, nonce), text, aad)
