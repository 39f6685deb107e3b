# SPDX-License-Identifier: Apache-2.0
"""The walker of transmit, behaviourally: which bytes of a host's frame are whose text and tag.

It knows TCP sequence numbers, record numbers and lengths and no keys. `TxWalker.frame` judges a
frame by its metadata and its context's row, walks its records, changes the row and returns the
spans for the cipher, the clear spans (header and nonce bytes, which leave as the host wrote them)
and the reason if the frame must not leave. `hdl/tx/walker.py` does the same in hardware; the two
agree bit by bit.

A frame in order goes on where the row stands; `sync` moves the row forward to a record that begins
the frame. A `detached` frame names its own position, below the frontier, and leaves the stream alone.
A check that fails before the walk changes nothing. An error in the walk drops the frame too, but
the spans before it run: a stream frame breaks the stream until the next sync, and a detached frame
gives up what the detached row has hashed.
"""

from sealane.hdl.abi.config import HEADER_BYTES, header_prefix_ok, text_bytes
from sealane.hdl.abi.tx import TxOp, TxReason, TxTags

from ...net.parser import SYN, Parsed
from ...net.seq import add, distance
from .row import NUMBERS, TxRow
from .span import Action, TxSpan, TxWalked

SHORTEST_FRAME = 60  # of Ethernet, without its check sequence


class TxWalker:
    """The rows of all contexts, and the frames that pass by."""

    def __init__(self, flows: int) -> None:
        self.rows = [TxRow() for _ in range(flows)]

    def frame(self, frame: bytes, head: Parsed, hit: int | None, meta: dict[str, int]) -> TxWalked:
        """Judges and walks one frame.

        head: what the parser saw in it. hit: the context of its addresses and ports. meta: fields
        of `TX_META`.
        """
        op = meta["op"]
        if head.oversize:
            return TxWalked(Action.DROP, TxReason.OVERSIZE)
        if op == TxOp.WIRE:
            if hit is not None and self.rows[hit].valid and head.payload_length:
                self.rows[hit].seen(add(head.seq, head.payload_length))
            return TxWalked(Action.PASS)
        if op == TxOp.NOTHING:
            orphan = self._is_orphan(head, hit)
            return TxWalked(Action.DROP, TxReason.ORPHAN) if orphan else TxWalked(Action.PASS)
        if op == TxOp.ENCRYPT:
            if not head.is_tcp or head.tcp_flags & SYN:
                return TxWalked(Action.DROP, TxReason.NOT_TCP)
            if not head.payload_length:
                if _trails(head):
                    return TxWalked(Action.DROP, TxReason.BAD_META)
                return TxWalked(Action.PASS)
            start, size, seq = head.payload_offset, head.payload_length, head.seq
        else:
            start, size, seq = 0, len(frame), meta["seq"]
        if _contradicts(meta, size):
            return TxWalked(Action.DROP, TxReason.BAD_META)
        row = self.rows[meta["context"]] if meta["context"] < len(self.rows) else TxRow()
        if not row.live or row.generation != meta["generation"]:
            return TxWalked(Action.DROP, TxReason.NO_CONTEXT)
        if op == TxOp.ENCRYPT and hit != meta["context"]:
            return TxWalked(Action.DROP, TxReason.WRONG_FLOW)
        action = Action.ENCRYPT if op == TxOp.ENCRYPT else Action.DUMP
        out = TxWalked(action, payload_at=start, payload_end=start + size)
        out.reason = _Walk(row, seq, frame[start : start + size], meta, out).run()
        if out.reason:
            out.action = Action.DROP
        return out

    def _is_orphan(self, head: Parsed, hit: int | None) -> bool:
        """A frame without metadata that may hold text of an offloaded flow."""
        if head.refused_tcp:
            return any(row.valid for row in self.rows)
        if hit is None or not self.rows[hit].valid:
            return False
        if not head.payload_length:
            return _trails(head)
        row, end = self.rows[hit], add(head.seq, head.payload_length)
        return _trails(head) or row.marker_expired or distance(end, row.start) > 0


def _trails(head: Parsed) -> bool:
    """More bytes behind the IP packet than the link pads a short frame with."""
    return head.frame_bytes > max(SHORTEST_FRAME, head.payload_offset + head.payload_length)


def _contradicts(meta: dict[str, int], size: int) -> bool:
    """Metadata of ENCRYPT or DUMP (or of no operation) that makes no sense."""
    given = meta["tags"] == TxTags.GIVEN
    return bool(
        meta["op"] > TxOp.DUMP
        or meta["tags"] > TxTags.COMPARE
        or (given and not meta["detached"])
        or (meta["sync"] and meta["detached"])
        or (meta["op"] == TxOp.DUMP and (given or meta["length"] != size))
        or (meta["detached"] and meta["offset"] >= HEADER_BYTES + meta["record_length"])
    )


class _Walk:
    """One frame of a live context: its position, then from record to record."""

    def __init__(
        self, row: TxRow, seq: int, payload: bytes, meta: dict[str, int], out: TxWalked
    ) -> None:
        self.row, self.seq, self.payload, self.meta, self.out = row, seq, payload, meta, out
        self.end = add(seq, len(payload))
        self.pos = 0
        self.detached = bool(meta["detached"])
        self.named = b""  # header of the first record, if the metadata names it
        self.number, self.at, self.part_header = row.number, row.at, row.part_header
        self.length, self.content_type = row.length, row.content_type
        if meta["sync"]:
            self.number, self.at, self.part_header = meta["number"], 0, b""
        if self.detached:
            self.number, self.at, self.part_header = meta["number"], meta["offset"], b""
            self.length, self.content_type = meta["record_length"], meta["record_type"]
            if self.at:
                self.named = bytes((self.content_type, 3, 3)) + self.length.to_bytes(2, "big")
                self.part_header = self.named[: self.at]

    def run(self) -> TxReason:
        """The reason; the row is written unless a check before the walk failed."""
        row = self.row
        if not row.marker_expired and distance(self.seq, row.start) < 0:
            return TxReason.BYPASS
        reason = self._detached_position() if self.detached else self._stream_position()
        if reason:
            return reason
        reason = self._records()
        if self.detached:
            if self.meta["tags"] != TxTags.GIVEN:
                row.detached_valid = not reason and self.at > row.header_size
                row.detached_number, row.detached_at = self.number, self.at
                row.detached_length, row.detached_type = self.length, self.content_type
            return reason
        row.broken = bool(reason)
        row.move(self.seq if reason else self.end)
        row.number, row.at, row.part_header = self.number, self.at, self.part_header
        row.length, row.content_type = self.length, self.content_type
        return reason

    def _stream_position(self) -> TxReason:
        row = self.row
        if not self.meta["sync"]:
            if row.broken:
                return TxReason.BROKEN
            return TxReason.NONE if self.seq == row.next else TxReason.OUT_OF_ORDER
        fresh = self.number > row.number or (self.number == row.number and row.at == 0)
        forward = distance(self.seq, row.next) >= 0 and fresh
        return TxReason.NONE if forward else TxReason.OUT_OF_ORDER

    def _detached_position(self) -> TxReason:
        row, meta = self.row, self.meta
        if distance(self.end, row.next) > 0 or self._beyond():
            return TxReason.OUT_OF_ORDER
        if self.named and self._not_the_header_under_way():
            return TxReason.OUT_OF_ORDER
        if meta["tags"] != TxTags.GIVEN and self.at > row.header_size:
            hashed = (row.detached_number, row.detached_at, row.detached_length, row.detached_type)
            here = (self.number, self.at, self.length, self.content_type)
            if not row.detached_valid or hashed != here:
                return TxReason.NO_SYNC_DATA
        return TxReason.NONE

    def _beyond(self) -> bool:
        """The record is not one that the stream has started, or not where the stream had it."""
        row = self.row
        if self.number != row.number:
            return self.number > row.number
        return add(self.seq, self.pos - self.at) != add(row.next, -row.at)

    def _not_the_header_under_way(self) -> bool:
        row = self.row
        under_way = self.number == row.number and row.at >= HEADER_BYTES
        return under_way and (self.length, self.content_type) != (row.length, row.content_type)

    def _records(self) -> TxReason:
        row = self.row
        if self.named and not header_prefix_ok(row.version, self.named):
            return TxReason.BAD_HEADER
        entered = True  # a record of which nothing in this frame has been judged
        while self.pos < len(self.payload):
            if entered:
                if self.detached and self._beyond():
                    return TxReason.OUT_OF_ORDER
                if row.key_slot(self.number) is None:
                    return TxReason.NO_KEY
            if self.at < row.header_size:
                reason = self._header()
                if reason:
                    return reason
                entered = False
            else:
                entered = self._text()
        return TxReason.NONE

    def _header(self) -> TxReason:
        """Header and nonce bytes, as many as are here."""
        row, at = self.row, self.at
        taken = self.payload[self.pos : self.pos + row.header_size - at]
        split = max(0, HEADER_BYTES - at)
        head, nonce = self.part_header + taken[:split], taken[split:]
        if at < HEADER_BYTES:
            named = self.named[: len(head)]
            if not header_prefix_ok(row.version, head) or (named and named != head):
                return TxReason.BAD_HEADER
            if len(head) == HEADER_BYTES:
                self.length, self.content_type = int.from_bytes(head[3:], "big"), head[0]
                if self.detached and self._not_the_header_under_way():
                    return TxReason.OUT_OF_ORDER
        if nonce and not row.nonce(self.number)[max(0, at - HEADER_BYTES) :].startswith(nonce):
            return TxReason.BAD_NONCE
        start = self.out.payload_at + self.pos
        self.out.clears.append((start, start + len(taken)))
        self.part_header = head if len(head) < HEADER_BYTES else b""
        self.at += len(taken)
        self.pos += len(taken)
        return TxReason.NONE

    def _text(self) -> bool:
        """Text and tag bytes, as many as are here; whether the record ends with them."""
        row, out = self.row, self.out
        slot = row.key_slot(self.number)
        assert slot is not None
        whole = HEADER_BYTES + self.length
        count = min(whole - self.at, len(self.payload) - self.pos)
        text, behind = text_bytes(row.version, self.length), self.at - row.header_size
        in_text = max(0, min(count, text - behind))
        span = TxSpan(
            slot,
            row.key_name[slot],
            self.detached,
            self.number - row.base[slot],
            row.nonce(self.number),
            self.content_type,
            self.length,
            out.payload_at + self.pos,
            text_offset=min(behind, text),
            text_bytes=in_text,
            tag_offset=max(0, behind - text),
            tag_bytes=count - in_text,
            first=behind == 0,
            completes=self.at + count == whole,
            tag_mode=self.meta["tags"],
            use_row=self.meta["tags"] != TxTags.GIVEN,
        )
        out.spans.append(span)
        if span.gives_tag:
            if not out.tags:
                out.first_number = self.number
            out.tags += 1
        self.pos += count
        self.at += count
        if span.completes:
            self.number, self.at, self.part_header = (self.number + 1) % NUMBERS, 0, b""
            self.named = b""
        return span.completes
