# SPDX-License-Identifier: Apache-2.0
"""The loaded flow's open records and the holes in them."""

from ...net.seq import distance
from .row import Hole, OpenRecord, Row

STALE = 1 << 30  # a record so far behind is closed, before sequence numbers wrap onto it


class Coverage:
    """Slots and holes of a row in the walker, with what is done to them.

    It moves no other part of the row and knows nothing of the packet: what a closed record means
    for marks is the caller's, see `walker_core`.
    """

    def __init__(self, row: Row) -> None:
        self.row = row

    # --- open records -----------------------------------------------------------------------

    def at(self, seq: int) -> int | None:
        """The slot of the open record that the byte at `seq` belongs to."""
        for index, slot in enumerate(self.row.slots):
            if slot and slot.holds(seq):
                return index
        return None

    def slot(self, index: int) -> OpenRecord:
        """The open record in that slot; there must be one."""
        slot = self.row.slots[index]
        assert slot is not None
        return slot

    def stale(self, seq: int) -> bool:
        """Whether an open record lies so far in front of `seq` that it must be closed."""
        return any(slot and distance(seq, slot.start) >= STALE for slot in self.row.slots)

    @property
    def slot_free(self) -> bool:
        """One more record can be opened."""
        return None in self.row.slots

    def open(self, slot: OpenRecord) -> int:
        """Put a record into a slot, which must be free. Returns which."""
        index = self.row.slots.index(None)
        self.row.slots[index] = slot
        return index

    def whole(self, slot: OpenRecord) -> bool:
        """No hole is in the record, and it ends in front of what was seen."""
        row = self.row
        return distance(slot.end, row.high) <= 0 and not any(
            hole and slot.holds(hole.start) for hole in row.holes
        )

    def completed(self, index: int) -> None:
        """Nothing of the record is missing any more: its slot is free."""
        self.row.slots[index] = None

    def close(self, index: int) -> OpenRecord:
        """Give up an open record with its holes. Returns it."""
        slot = self.slot(index)
        self._drop_holes(slot)
        self.row.slots[index] = None
        return slot

    def evict(self, oldest: bool = False) -> OpenRecord:
        """Close an open record for good: of those whose end has passed the newest, because its
        holes will be filled last; without one, what is open. `oldest`: the oldest instead.
        Returns it."""
        row = self.row

        def order(index: int) -> tuple[bool, int]:
            slot = self.slot(index)
            age = distance(row.next_record_seq, slot.start)
            return (True, age) if oldest else (distance(slot.end, row.high) <= 0, -age)

        return self.close(max((index for index, slot in enumerate(row.slots) if slot), key=order))

    def drop_verdict(self, index: int) -> None:
        """Bytes of an open record have passed and were not fed: it can get no verdict. What is
        still to come of it is opened, because the next record begins in its last packet."""
        slot = self.slot(index)
        slot.no_verdict = True
        self._drop_holes(slot)

    def ends(self, seq: int) -> bool:
        """An open record ends at `seq` or in front of it."""
        return any(slot and distance(slot.end, seq) <= 0 for slot in self.row.slots)

    def close_ended(self, seq: int) -> None:
        """Close the records that end at `seq` or in front of it."""
        for index, slot in enumerate(self.row.slots):
            if slot and distance(slot.end, seq) <= 0:
                self.close(index)

    # --- holes ------------------------------------------------------------------------------

    @property
    def hole_free(self) -> bool:
        """One more hole can be noted."""
        return None in self.row.holes

    def add(self, start: int, end: int) -> None:
        """Note unseen bytes [start, end) of an open record; only while `hole_free`."""
        self.row.holes[self.row.holes.index(None)] = Hole(start, end)

    def find(self, seq: int, end: int) -> Hole | None:
        """The hole that overlaps [seq, end) and lies furthest in front."""
        found = None
        for hole in self.row.holes:
            if hole and distance(hole.start, end) < 0 and distance(hole.end, seq) > 0:
                if found is None or distance(hole.start, found.start) < 0:
                    found = hole
        return found

    def cut(self, hole: Hole, start: int, end: int) -> Hole | None:
        """Take [start, end) out of a hole. If it lies in the middle, the part in front stays and
        the part behind, which is returned, is to be added."""
        row = self.row
        if hole.start == start and hole.end == end:
            row.holes[row.holes.index(hole)] = None
        elif hole.start == start:
            hole.start = end
        elif hole.end == end:
            hole.end = start
        else:
            behind = hole.end
            hole.end = start
            return Hole(end, behind)
        return None

    def _drop_holes(self, slot: OpenRecord) -> None:
        """The unseen bytes of an open record do not matter any more."""
        row = self.row
        row.holes = [None if hole and slot.holds(hole.start) else hole for hole in row.holes]
