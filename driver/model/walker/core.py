# SPDX-License-Identifier: Apache-2.0
"""What the walker's parts share while they do one item of work, and small things that several of
them do."""

from sealane.hdl.abi.config import Config, header_bytes, text_bytes

from ...net.seq import add, distance
from .coverage import Coverage
from .row import OpenRecord, Row
from .span import Span, Walked


class Core:
    """One item of work, a packet or a command, on its way through a row.

    seq, end, payload: of the segment, whose first byte is `seq`; a command has an empty one.
    out: what is to be said of it. touched: the records that were opened or fed in it.
    number_at_candidate: number of the record at the candidate's first header, once the walk of the
    proven chain has reached that in this segment.
    """

    def __init__(self, config: Config, row: Row, seq: int, payload: bytes = b"") -> None:
        self.config = config
        self.row = row
        self.coverage = Coverage(row)
        self.seq = seq
        self.end = add(seq, len(payload))
        self.payload = payload
        self.out = Walked()
        self.touched: list[OpenRecord] = []
        self.number_at_candidate: int | None = None

    def span(
        self,
        index: int,
        slot: OpenRecord,
        start: int,
        end: int,
        completes: bool,
        probe: bool = False,
    ) -> None:
        """Bytes [start, end) of a record, behind its header and nonce, go to the cipher."""
        version = self.row.version
        text = text_bytes(version, slot.length)
        offset = distance(start, slot.start) - header_bytes(version)
        count = distance(end, start)
        in_text = max(0, min(count, text - offset))
        self.out.spans.append(
            Span(
                index,
                slot.number,
                slot.nonce,
                slot.content_type,
                slot.length,
                at=distance(start, self.seq),
                text_offset=min(offset, text),
                text_bytes=in_text,
                tag_offset=max(0, offset - text),
                tag_bytes=count - in_text,
                first=not slot.fed,
                completes=completes,
                probe=probe,
            )
        )
        slot.fed = True

    # --- slots and holes, and what their want costs -----------------------------------------

    def open_slot(self, slot: OpenRecord) -> int:
        """Open a record, if need be in the place of another. Returns its slot's index."""
        if not self.coverage.slot_free:
            self.evict()
        return self.coverage.open(slot)

    def add_hole(self, start: int, end: int) -> bool:
        """Note unseen bytes; false if their record had to be closed for want of a run."""
        coverage = self.coverage
        index = coverage.at(start)
        if index is not None and coverage.slot(index).no_verdict:
            return True  # its unseen bytes do not matter any more
        while not coverage.hole_free:
            self.evict()
        if coverage.at(start) is None:
            return False
        coverage.add(start, end)
        return True

    def evict(self, oldest: bool = False) -> None:
        """Close an open record for good; `Coverage.evict` says which."""
        slot = self.coverage.evict(oldest)
        self.set_barrier(slot.content_type, slot.length, slot.end)
        self.out.evicted += 1

    def close(self, index: int) -> None:
        """Close an open record for good."""
        slot = self.coverage.close(index)
        self.set_barrier(slot.content_type, slot.length, slot.end)

    # --- what holds marks back --------------------------------------------------------------

    def withholds(self, content_type: int, length: int) -> bool:
        """Whether nothing is marked behind such a record before its verdict."""
        return self.row.withholds(self.config, content_type, length)

    def set_barrier(self, content_type: int, length: int, end: int) -> None:
        """A record that ends at `end` is closed without a verdict."""
        row = self.row
        if self.withholds(content_type, length) and (
            row.barrier_end is None or distance(end, row.barrier_end) > 0
        ):
            row.barrier_end = end
