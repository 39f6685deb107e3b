# SPDX-License-Identifier: Apache-2.0
"""One direction of a TLS connection as a TLS library reads it: records and handshake messages."""

from dataclasses import dataclass, field
from enum import Enum

from .protection import BadTag, Protection, Refused

HEADER_BYTES = 5
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
MAX_MESSAGE = 1 << 20  # a handshake message longer than this is nobody's


class Outcome(Enum):
    """What became of a record."""

    OK = "ok"
    BAD_TAG = "bad_tag"
    NO_KEY = "no_key"
    REFUSED = "refused"
    SKIPPED = "skipped"  # early data that the server did not accept


class Phase(Enum):
    """Which keys protect a record."""

    PLAIN = "plain"
    EARLY = "early"
    HANDSHAKE = "handshake"
    APPLICATION = "application"


@dataclass(frozen=True)
class Record:
    """One record.

    offset: of its header in the direction's stream, in bytes; wire_length counts header and tag.
    epoch: key changes of this direction before it, 0 in the clear; number counts from 0 in each.
    """

    direction: str
    offset: int
    wire_length: int
    outer_type: int
    inner_type: int
    epoch: int
    number: int
    phase: Phase
    outcome: Outcome
    plaintext: bytes = field(default=b"", repr=False)
    padding: int = 0
    explicit_nonce: bytes = field(default=b"", repr=False)
    why: str = ""  # of a refusal

    @property
    def end(self) -> int:
        """Offset of the first byte behind the record."""
        return self.offset + self.wire_length


def check_header(header: bytes, protected: bool, tls13: bool) -> str:
    """Why TLS does not allow this header, or "".

    protected: keys are in use, so that the version field is fixed.
    """
    kind, length = header[0], int.from_bytes(header[3:5], "big")
    if kind not in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA):
        return "record type"
    if header[1] != 3 or (protected and header[2] != 3):
        return "record version"
    if length > (16384 + (256 if tls13 else 2048) if protected else 16384):
        return "record length"
    return ""


class HandshakeReader:
    """Puts handshake messages together again: several in a record, or one over several."""

    def __init__(self) -> None:
        self._data = b""

    @property
    def pending(self) -> bool:
        """A message has begun and is not complete."""
        return bool(self._data)

    def feed(self, fragment: bytes) -> list[tuple[int, bytes]]:
        """Messages that `fragment` completes: (type, body). Raises `Refused`."""
        data, messages = self._data + fragment, []
        while len(data) >= 4:
            length = int.from_bytes(data[1:4], "big")
            if length > MAX_MESSAGE:
                raise Refused("handshake message too long")
            if len(data) < 4 + length:
                break
            messages.append((data[0], data[4 : 4 + length]))
            data = data[4 + length :]
        self._data = data
        return messages


def post_handshake_messages(fragments: list[bytes]) -> list[tuple[int, bytes]]:
    """Whole messages in the plaintexts of consecutive handshake records: (type, body)."""
    reader = HandshakeReader()
    return [message for fragment in fragments for message in reader.feed(fragment)]


class RecordDecoder:
    """Cuts one direction's stream into records and opens them under the keys it was given.

    Bytes are fed in order. Keys change by `install`; the record number then starts at 0 (or as
    given) and the epoch grows by one. The owner decides what to do with a record that fails.
    """

    def __init__(self, direction: str) -> None:
        self.direction = direction
        self.protection: Protection | None = None
        self.phase = Phase.PLAIN
        self.epoch = 0
        self.number = 0
        self._data = bytearray()
        self._base = 0  # stream offset of _data[0]
        self._at = 0  # the next record's header in _data

    @property
    def position(self) -> int:
        """Stream offset of the next record's header."""
        return self._base + self._at

    @property
    def waiting(self) -> int:
        """Bytes behind the last record taken."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """More bytes of the stream."""
        self._data += data

    def skip(self, count: int) -> None:
        """Drops bytes in front of the next record."""
        self._at += count
        if self._at > 1 << 18 or self._at == len(self._data):
            del self._data[: self._at]
            self._base += self._at
            self._at = 0

    def buffered(self) -> bytes:
        """The bytes that wait."""
        return bytes(self._data[self._at :])

    def header(self) -> bytes | None:
        """The next record's header, if it is there."""
        if self.waiting < HEADER_BYTES:
            return None
        return bytes(self._data[self._at : self._at + HEADER_BYTES])

    def complete(self) -> bool:
        """Whether the next record is there as a whole."""
        header = self.header()
        return header is not None and (
            self.waiting >= HEADER_BYTES + int.from_bytes(header[3:5], "big")
        )

    def install(self, protection: Protection | None, phase: Phase, number: int = 0) -> None:
        """Keys of the records from here on."""
        self.protection = protection
        self.phase = phase
        self.epoch += 1
        self.number = number

    def refuse(self, why: str) -> Record:
        """The next record as one that TLS does not allow; it stays where it is."""
        header = self.header() or b"\0" * HEADER_BYTES
        length = min(self.waiting, HEADER_BYTES + int.from_bytes(header[3:5], "big"))
        return self._record(length, header[0], Outcome.REFUSED, why=why)

    def take_clear(self) -> Record:
        """The next record, which is not protected. It must be complete."""
        header, fragment = self._split()
        record = Record(
            self.direction,
            self.position,
            HEADER_BYTES + len(fragment),
            header[0],
            header[0],
            self.epoch,
            0,
            self.phase,
            Outcome.OK,
            fragment,
        )
        self.skip(record.wire_length)
        return record

    def take(self) -> Record:
        """The next record, opened. It must be complete; one that fails keeps its number."""
        header, fragment = self._split()
        length = HEADER_BYTES + len(fragment)
        if self.protection is None:
            record = self._record(length, header[0], Outcome.NO_KEY)
        else:
            try:
                opened = self.protection.open(self.number, header, fragment)
            except BadTag:
                record = self._record(length, header[0], Outcome.BAD_TAG)
            except Refused as refusal:
                record = self._record(length, header[0], Outcome.REFUSED, why=str(refusal))
            else:
                record = Record(
                    self.direction,
                    self.position,
                    length,
                    header[0],
                    opened.inner_type,
                    self.epoch,
                    self.number,
                    self.phase,
                    Outcome.OK,
                    opened.content,
                    opened.padding,
                    opened.explicit_nonce,
                )
                self.number += 1
        self.skip(length)
        return record

    def _split(self) -> tuple[bytes, bytes]:
        start = self._at + HEADER_BYTES
        length = int.from_bytes(self._data[start - 2 : start], "big")
        return bytes(self._data[self._at : start]), bytes(self._data[start : start + length])

    def _record(self, length: int, kind: int, outcome: Outcome, why: str = "") -> Record:
        return Record(
            self.direction,
            self.position,
            length,
            kind,
            kind,
            self.epoch,
            self.number,
            self.phase,
            outcome,
            why=why,
        )
