# SPDX-License-Identifier: Apache-2.0
"""The record map of a transmit direction: every record that is not acknowledged yet.

What Linux keeps as `tls_record_info` in `tls_offload_context_tx.records_list`: to encrypt a
segment again, the driver must find the record that it begins in, and that record's beginning. Here
a record is also the place where its tag is kept, so that no second value of it leaves.

All positions are stream offsets, integers without end: 0 is the start marker, where the first
record begins, and what was sent before it has negative ones. TCP sequence numbers wrap; these do
not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sealane.hdl.abi.config import HEADER_BYTES, TAG_BYTES

from ...crypto.keys import CryptoInfo

# Where the tag will stand. Not zero, and no bytes of the stream: should room leave, it shows.
ROOM = b"\xa5" * TAG_BYTES


@dataclass(frozen=True)
class TxEpoch:
    """Keys of consecutive records: `number` counts key changes, `base` is N of the first record,
    whose record number in the nonce is 0, and `start` is its offset."""

    number: int
    info: CryptoInfo
    base: int = 0
    start: int = 0


@dataclass(slots=True, eq=False)
class TxRecord:
    """A record as the kernel made it, from `push` to the acknowledgement of its last byte.

    count: N, its number in the direction, which never restarts. start: of its header. header: 5
    bytes and, in TLS 1.2, the explicit nonce. content: the caller's bytes; where they are not
    `frozen` (zero-copy) the caller has promised not to change them until they are acknowledged,
    and nothing here relies on it for what leaves twice. inner: type and padding of TLS 1.3. epoch:
    of its key.

    tag: its tag, once the device or software has computed it. outstanding: posted frames that
    carry or compute bytes of it and are not completed. streaming: those of them that bring it from
    the device's stream. from_stream: `tag` is what the device's
    stream row holds. unknown: bytes of a tag have left that never was reported, because the frame
    with its first byte failed. failures: frames that sent it again and failed. software_only: the
    device would not encrypt it.
    """

    count: int
    start: int
    header: bytes
    content: bytes | memoryview = field(repr=False)
    inner: bytes = field(default=b"", repr=False)
    epoch: int = 0
    frozen: bool = True
    tag: bytes | None = field(default=None, repr=False)
    outstanding: int = 0
    streaming: int = 0
    from_stream: bool = False
    unknown: bool = False
    failures: int = 0
    software_only: bool = False

    @property
    def text(self) -> bytes:
        """All that is encrypted, as it is now."""
        return bytes(self.content) + self.inner

    @property
    def text_bytes(self) -> int:
        """Bytes of `text`."""
        return len(self.content) + len(self.inner)

    @property
    def length(self) -> int:
        """The header's length field."""
        return len(self.header) - HEADER_BYTES + self.text_bytes + TAG_BYTES

    @property
    def text_start(self) -> int:
        """Offset behind header and explicit nonce."""
        return self.start + len(self.header)

    @property
    def tag_start(self) -> int:
        """Offset of the tag."""
        return self.text_start + self.text_bytes

    @property
    def end(self) -> int:
        """Offset behind the tag; Linux keeps it as `end_seq`."""
        return self.tag_start + TAG_BYTES

    @property
    def marker(self) -> bool:
        """The start marker, an entry without bytes."""
        return not self.header

    def has_tag_bytes(self, start: int, end: int) -> bool:
        """Whether [start, end) has any byte of the tag."""
        return start < self.end and self.tag_start < end

    def tag_begins(self, start: int, end: int) -> bool:
        """Whether [start, end) has the tag's first byte."""
        return start <= self.tag_start < end

    def plain(self, start: int, end: int) -> bytes:
        """What of [start, end) lies in the record, as the host gives it to TCP: tags are room."""
        whole = b"".join((self.header, self.content, self.inner, ROOM))
        return whole[max(start - self.start, 0) : max(end - self.start, 0)]


class RecordMap:
    """Records one behind the other, found by stream offset.

    number: N of the first one (Linux: `rcd_sn`). In front stands the start marker, an entry without
    bytes as in Linux, that is found at offsets before 0 as long as the first record is kept.
    """

    def __init__(self, number: int = 0) -> None:
        self.end = 0
        self.next_count = number
        self.start_marker: TxRecord | None = TxRecord(number, 0, b"", b"")
        self._records: deque[TxRecord] = deque()
        self._hint: TxRecord | None = None

    def __iter__(self) -> Iterator[TxRecord]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def retransmit_hint(self) -> TxRecord | None:
        """The record found last: the next search begins at it, as segments mostly follow it."""
        return self._hint

    def push(
        self,
        header: bytes,
        content: bytes | memoryview,
        inner: bytes = b"",
        epoch: int = 0,
        frozen: bool = True,
    ) -> TxRecord:
        """The next record, behind all others. Raises `ValueError` without a header."""
        if len(header) < HEADER_BYTES:
            raise ValueError("a record has a header")
        record = TxRecord(self.next_count, self.end, header, content, inner, epoch, frozen)
        self._records.append(record)
        self.next_count += 1
        self.end = record.end
        return record

    def find(self, offset: int) -> TxRecord | None:
        """The record that holds the byte at `offset`; the start marker before 0.

        `None` for what has been released and what has not been pushed.
        """
        if offset < 0:
            return self.start_marker
        if not self._records or not self._records[0].start <= offset < self.end:
            return None
        index = self._near(offset)
        if index is None:
            index = bisect_right(self._records, offset, key=lambda record: record.start) - 1
        self._hint = self._records[index]
        return self._hint

    def covering(self, start: int, end: int) -> list[TxRecord]:
        """The records that hold the bytes of [start, end), from offset 0 on, in order; none if any
        of these bytes is in no record."""
        first = self.find(start) if 0 <= start < end <= self.end else None
        if first is None:
            return []
        index = first.count - self._records[0].count
        found = [first]
        while found[-1].end < end:
            index += 1
            found.append(self._records[index])
        return found

    def boundary(self, offset: int) -> int:
        """Where the first record begins, or will begin, at or behind `offset`."""
        record = self.find(offset) if offset > 0 else None
        if record is None:
            first = self._records[0].start if self._records else self.end
            return first if offset <= first else self.end
        return record.start if record.start == offset else record.end

    def plain(self, start: int, end: int) -> bytes:
        """[start, end) as the host gave it to TCP, tags as room. Raises `ValueError` where no
        record holds a byte of it."""
        records = self.covering(start, end)
        if start < end and not records:
            raise ValueError(f"[{start}, {end}) is in no records")
        return b"".join(record.plain(start, end) for record in records)

    def release(self, una: int) -> list[TxRecord]:
        """Drops the records whose last byte lies in front of `una`; returns them.

        The start marker goes with the first of them, not before: bytes in front of it may still be
        asked for while data behind it is kept.
        """
        gone = []
        while self._records and self._records[0].end <= una:
            gone.append(self._records.popleft())
        if gone:
            self.start_marker = None
            if self._hint is not None and self._hint.end <= una:
                self._hint = None
        return gone

    def _near(self, offset: int) -> int | None:
        """Index of the record that holds `offset`, if it is the hint or the one behind it."""
        if self._hint is None or offset < self._hint.start:
            return None
        index = self._hint.count - self._records[0].count
        for near in range(index, min(index + 2, len(self._records))):
            if offset < self._records[near].end:
                return near
        return None
