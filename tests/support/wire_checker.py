# SPDX-License-Identifier: Apache-2.0
"""Checker of one direction's frames, as a peer and an eavesdropper see them.

It knows nothing of the driver or the device. It reads frames by the RFCs (`tcp_frames.read`), opens
records with the receiver's keys by `cryptography` (RFC 5288, RFC 8446 section 5), and keeps
everything that was ever sent. Of the application it knows what was written. A `Violation` is

- a wrong checksum, or bytes that nobody wrote;
- two copies of a byte that differ. This includes tags: one tag per (key, nonce);
- a run of plaintext;
- one keystream block used for two texts, whichever nonce it was thought to belong to;
- text that the receiver's keystream does not turn into what the application wrote, and a complete
  record that does not open.

If the application changed text after writing it (zero-copy), copies may differ in the changed
bytes, as counter mode has it. The tag may not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support import tls_records
from tests.support.tcp_frames import read

TAG = 16
RUN = 6  # a run this long is equal by chance at one place in 2^48


class Violation(AssertionError):
    """Something is on the wire that must not be there."""


@dataclass
class Sealed:
    """A record as the receiver will open it. start, text_at, tag_at, end: stream offsets.

    wire: what a software sender puts on the wire. texts: all values of each text byte that was
    changed, by stream offset.
    """

    start: int
    text_at: int
    wire: bytes
    text: bytes
    key: bytes
    nonce: bytes
    aad: bytes
    texts: dict[int, set[int]] = field(default_factory=dict)
    changed: bool = False
    opened: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.wire)

    @property
    def tag_at(self) -> int:
        return self.end - TAG


def seal(version: int, key: bytes, iv: bytes, number: int, header: bytes, text: bytes) -> Sealed:
    """A record at offset 0.

    header: 5 bytes, in TLS 1.2 followed by the explicit nonce. iv: in TLS 1.2 the salt. text: in
    TLS 1.3 with inner type and padding.
    """
    wire = tls_records.seal(version, key, iv, number, header[0], text, header[5:])
    assert wire.startswith(header)
    nonce = tls_records.nonce(version, iv, number, header[5:])
    aad = tls_records.additional_data(version, number, header[0], len(text))
    return Sealed(0, len(header), wire, text, key, nonce, aad)


def tcp_of(frame: bytes) -> tuple[int, bytes]:
    """Sequence number and payload of a TCP segment. Raises `Violation` on wrong checksums."""
    try:
        segment = read(frame)
    except ValueError as error:
        raise Violation(str(error)) from error
    if not segment.ip_checksum_ok:
        raise Violation("the IPv4 checksum is wrong")
    if not segment.tcp_checksum_ok:
        raise Violation("the TCP checksum is wrong")
    return segment.seq, segment.payload


class WireChecker:
    """One direction. Stream offset 0, where the first record begins, has the TCP sequence `seq`.

    before: what was sent before it. keystream: texts by the keystream block used for them.
    Directions whose keys could be mistaken for one another's share it.
    """

    def __init__(
        self, seq: int, before: bytes = b"", keystream: dict[bytes, bytes] | None = None
    ) -> None:
        self.records: list[Sealed] = []
        self.frames = self.opened = self.copies = 0
        self._seq, self._before = seq, before
        self._at = 0  # sequence numbers are read near this offset
        self._plain = bytearray()  # as first written
        self._wire = bytearray()
        self._have = bytearray()  # 1 for each byte of `_wire` that was sent
        self._keystream = {} if keystream is None else keystream

    @property
    def end(self) -> int:
        """Stream offset of the end of all records."""
        return len(self._plain)

    def wrote(self, record: Sealed) -> None:
        """Adds the next record that the application wrote."""
        shift = self.end
        record.start, record.text_at = shift, shift + record.text_at
        self.records.append(record)
        header = record.wire[: record.text_at - shift]
        self._plain += header + record.text + b"\xa5" * TAG
        self._wire += bytes(len(record.wire))
        self._have += bytes(len(record.wire))

    def changed(self, record: Sealed, offset: int, value: int) -> None:
        """Gives the text's byte at a stream offset another value from now on."""
        first = record.text[offset - record.text_at]
        record.texts.setdefault(offset, {first}).add(value)
        record.changed = True

    def left(self, start: int = 0, end: int | None = None) -> bool:
        """Whether each byte of [start, end) was sent."""
        return 0 not in self._have[start : self.end if end is None else end]

    def missing(self, start: int = 0) -> int:
        """The first byte at or after `start` that was not sent, or the end if all were."""
        at = self._have.find(0, start)
        return self.end if at < 0 else at

    @property
    def contiguous(self) -> int:
        """The offset up to which everything was sent, so that the receiver may acknowledge it."""
        return self.missing()

    def saw(self, frame: bytes) -> tuple[int, int]:
        """Checks a frame that was sent and returns the stream offsets of its payload."""
        self.frames += 1
        seq, payload = tcp_of(frame)
        start = self._at + ((seq - self._seq - self._at + (1 << 31)) % (1 << 32)) - (1 << 31)
        end = start + len(payload)
        self._at = max(self._at, start)
        low = start
        if start < 0 and payload:
            at = len(self._before) + start
            part = self._before[at : at + len(payload)]
            if at < 0 or payload[: len(part)] != part:
                raise Violation(f"[{start}, {min(end, 0)}) is not what was sent before the marker")
            payload, start = payload[len(part) :], min(end, 0)
        if not payload:
            return low, end
        if end > self.end:
            raise Violation(f"[{start}, {end}) has bytes that nobody wrote")
        for record in self._covering(start, end):
            first, last = max(start, record.start), min(end, record.end)
            self._piece(record, first, payload[first - start : last - start])
        return low, end

    def _covering(self, start: int, end: int) -> list[Sealed]:
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if self.records[middle].end <= start:
                low = middle + 1
            else:
                high = middle
        found = []
        while low < len(self.records) and self.records[low].start < end:
            found.append(self.records[low])
            low += 1
        return found

    def _piece(self, record: Sealed, start: int, piece: bytes) -> None:
        end = start + len(piece)
        low, high = max(start, record.text_at), min(end, record.tag_at)
        text = piece[low - start : high - start] if low < high else b""
        plain = record.text[low - record.text_at :][: len(text)]
        if bytes(RUN) in _xor(text, plain):
            raise Violation(f"{low}: plaintext")
        if b"\xa5" * RUN in piece[max(0, record.tag_at - start) :]:
            raise Violation(f"{start}: room for a tag left")
        self._same_as_before(record, start, piece)
        if text:
            self._text(record, low, text, plain)
        if start < record.text_at:
            header = record.wire[start - record.start : record.text_at - record.start]
            if piece[: len(header)] != header[: len(piece)]:
                raise Violation(f"{start}: a record header that the sender did not write")
        self._wire[start:end] = piece
        self._have[start:end] = b"\1" * len(piece)
        if not record.opened and not record.changed and self.left(record.start, record.end):
            self._open(record)

    def _same_as_before(self, record: Sealed, start: int, piece: bytes) -> None:
        end = start + len(piece)
        have, wire = self._have[start:end], self._wire[start:end]
        if 1 not in have:
            return
        self.copies += 1
        if 0 not in have and wire == piece:
            return
        for at, (seen, old, new) in enumerate(zip(have, wire, piece, strict=True), start):
            if seen and old != new and at not in record.texts:
                what = "a second tag" if at >= record.tag_at else "another copy"
                raise Violation(f"{at}: {what} of record {self.records.index(record)}")

    def _text(self, record: Sealed, start: int, piece: bytes, text: bytes) -> None:
        used = _xor(piece, text)  # the keystream, where the text was not changed
        if record.texts:
            good = _xor(used, self._receiver(record, start, len(piece)))
            for at, difference in enumerate(good, start):
                values = record.texts.get(at, {text[at - start]})
                if text[at - start] ^ difference not in values:
                    raise Violation(f"{at}: not the receiver's keystream over any text")
            return
        first = -(start - record.text_at) % 16
        for at in range(first, len(piece) - 15, 16):
            mine = text[at : at + 16]
            if self._keystream.setdefault(used[at : at + 16], mine) != mine:
                raise Violation(f"{start + at}: keystream used twice")
        if record.wire[start - record.start :][: len(piece)] != piece:
            raise Violation(f"{start}: not what the receiver's keys decrypt")

    @staticmethod
    def _receiver(record: Sealed, start: int, length: int) -> bytes:
        return tls_records.crypt(record.key, record.nonce, start - record.text_at, bytes(length))

    def _open(self, record: Sealed) -> None:
        sealed = bytes(self._wire[record.text_at : record.end])
        try:
            text = AESGCM(record.key).decrypt(record.nonce, sealed, record.aad)
        except Exception as error:
            raise Violation(f"{record.start}: the record does not open") from error
        if text != record.text:
            raise Violation(f"{record.start}: the record holds another text")
        record.opened = True
        self.opened += 1


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")
