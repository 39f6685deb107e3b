# SPDX-License-Identifier: Apache-2.0
"""One direction of a capture as its sender's kernel held it: records of plaintext, in order.

The software truth (`oracle`) opens every record; here each becomes again what a kernel hands to a
card that encrypts: header, explicit nonce, text and room for the tag. Sealed again in software it
has to give the capture's own bytes. Layout of a record: RFC 8446 section 5.2, RFC 5288 section 3.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.hdl.abi.config import HEADER_BYTES, NONCE_BYTES, TAG_BYTES, VERSION_TLS13

from ...crypto.gcm import record_aad
from ...crypto.keys import CryptoInfo
from ...ktls.tx.records import ROOM
from ...tls.connection import InstallKeys
from ...tls.records import Outcome, Record
from ..hosts import crypto_info
from ..oracle import DirectionTruth


@dataclass(frozen=True)
class PlainRecord:
    """A record that a sender's kernel made.

    count: N, its number in the direction, which goes on over changes of keys. number: of its
    nonce. start: stream offset of its header. header: 5 bytes and, in TLS 1.2, the explicit nonce.
    content_type: of its content. text: everything that is encrypted, in TLS 1.3 with inner type
    and padding. epoch: changes of keys since the first record of the direction. info: its keys.
    """

    count: int
    number: int
    start: int
    header: bytes
    content_type: int
    content: bytes = field(repr=False)
    padding: int
    text: bytes = field(repr=False)
    epoch: int
    info: CryptoInfo = field(repr=False)

    @property
    def end(self) -> int:
        """Stream offset behind the tag."""
        return self.start + len(self.header) + len(self.text) + TAG_BYTES

    @property
    def tag_start(self) -> int:
        """Stream offset of the tag."""
        return self.end - TAG_BYTES

    @property
    def nonce(self) -> bytes:
        """Explicit nonce, 8 bytes in TLS 1.2."""
        return self.header[HEADER_BYTES:]

    @property
    def host(self) -> bytes:
        """The record as the kernel gives it to TCP."""
        return self.header + self.text + ROOM

    def sealed(self) -> bytes:
        """The record as software encrypts it."""
        body = len(self.header) - HEADER_BYTES + len(self.text) + TAG_BYTES
        return self.header + AESGCM(self.info.key).encrypt(
            self.info.nonce(self.number, self.nonce),
            self.text,
            record_aad(self.info.version, self.number, self.header[0], body),
        )


class PlainDirection:
    """The records of one direction from the first that its kernel could make.

    keys: of each epoch. records: gapless from stream offset `start` to `end`; behind it no whole
    and good record is known. Raises `ValueError` where the truth has no keys of AES-GCM.
    """

    def __init__(self, truth: DirectionTruth) -> None:
        if not truth.installs or not truth.installs[0].suite.offloadable:
            raise ValueError("no keys of AES-GCM")
        first = truth.installs[0]
        self.keys = [first]
        self.start = first.offset
        self.records: list[PlainRecord] = []
        self._read(truth)
        self.end = self.records[-1].end if self.records else self.start
        self._starts = [record.start for record in self.records]
        self._sealed = lru_cache(maxsize=64)(self._seal)

    def _read(self, truth: DirectionTruth) -> None:
        """Takes records while they are known."""
        changes, at, base = list(truth.installs[1:]), self.start, 0
        for record in truth.records:
            if record.offset < self.start:
                continue
            if changes and record.offset >= changes[0].offset:
                if not changes[0].suite.offloadable:
                    return
                base = self.records[-1].count + 1 if self.records else self.keys[0].number
                self.keys.append(changes.pop(0))
            if record.outcome is not Outcome.OK or record.offset != at:
                return
            self.records.append(
                _plain(record, base, len(self.keys) - 1, crypto_info(self.keys[-1]))
            )
            at = record.end

    @property
    def first_keys(self) -> InstallKeys:
        """The keys of the first record."""
        return self.keys[0]

    @property
    def first_nonce(self) -> bytes:
        """TLS 1.2: explicit nonce of the first record, zero without any; b"" in TLS 1.3."""
        if self.first_keys.tls13:
            return b""
        return self.records[0].nonce if self.records else bytes(NONCE_BYTES)

    @property
    def nonces_count_up(self) -> bool:
        """Whether the explicit nonces count up, if any: under each key from record to record."""
        if self.first_keys.tls13:
            return True
        return all(
            int.from_bytes(after.nonce) == (int.from_bytes(before.nonce) + 1) % (1 << 64)
            for before, after in pairwise(self.records)
            if before.epoch == after.epoch
        )

    def index(self, offset: int) -> int:
        """Which of `records` holds a stream offset in [start, end)."""
        return bisect_right(self._starts, offset) - 1

    def host_bytes(self, start: int, end: int) -> bytes:
        """[start, end) of the stream as the kernel gives it to TCP; must be known."""
        return self._bytes(start, end, lambda index: self.records[index].host)

    def wire_bytes(self, start: int, end: int) -> bytes:
        """[start, end) of the stream as a software TLS stack sends it; must be known."""
        return self._bytes(start, end, self._sealed)

    def text_spans(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where in [start, end) there is text: stream offsets, in order; must be known."""
        spans = []
        at = start
        while at < end:
            record = self.records[self.index(at)]
            low = max(at, record.start + len(record.header))
            high = min(end, record.tag_start)
            if low < high:
                spans.append((low, high))
            at = record.end
        return spans

    def _seal(self, index: int) -> bytes:
        return self.records[index].sealed()

    def _bytes(self, start: int, end: int, whole: Callable[[int], bytes]) -> bytes:
        if not self.start <= start <= end <= self.end:
            raise ValueError(f"[{start}, {end}) is not known")
        parts = []
        at = start
        while at < end:
            index = self.index(at)
            record = self.records[index]
            parts.append(whole(index)[at - record.start : end - record.start])
            at = record.end
        return b"".join(parts)


def _plain(record: Record, base: int, epoch: int, info: CryptoInfo) -> PlainRecord:
    """What the kernel made the record of. base: N of its epoch's record 0."""
    tls13 = info.version == VERSION_TLS13
    header = bytes([record.outer_type, 3, 3]) + (record.wire_length - HEADER_BYTES).to_bytes(2)
    inner = bytes([record.inner_type]) + bytes(record.padding) if tls13 else b""
    return PlainRecord(
        base + record.number,
        record.number,
        record.offset,
        header + record.explicit_nonce,
        record.inner_type,
        record.plaintext,
        record.padding,
        record.plaintext + inner,
        epoch,
        info,
    )
