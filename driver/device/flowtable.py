# SPDX-License-Identifier: Apache-2.0
"""Where the entries of the device's flow table lie: cuckoo hashing with two choices of two slots.

A key may lie in two rows (`hdl/abi/flowhash.py`). When all four places are taken, entries are
moved to their own other row. The device reads the table while it is changed, so each entry is
written to its new place before its old place is overwritten.
R. Pagh, F. F. Rodler, Cuckoo Hashing, J. Algorithms 51 (2004).
"""

from collections import deque
from typing import NamedTuple

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.flowhash import BUCKET_SLOTS, POLYNOMIALS, bucket


class FlowTableError(ValueError):
    """A flow cannot be added, or is not there to be deleted. The table did not change."""


class FlowTableFull(FlowTableError):
    """No place for another flow: the table holds as many as it may, or all ways are taken."""


class Place(NamedTuple):
    """One slot of one row of one table."""

    table: int
    bucket: int
    slot: int


class FlowWrite(NamedTuple):
    """One FLOW_WRITE command. Key and context are 0 if `valid` is false."""

    table: int
    bucket: int
    slot: int
    valid: bool
    key: int
    context: int


class FlowTable:
    """The driver's copy of the device's flow table; it holds up to `flows` keys.

    Every method that changes it returns the writes that bring the device to the same state;
    after each single one every key present is found. Keys are packed `FLOW_KEY`s.
    """

    def __init__(self, flows: int = Config.flows) -> None:
        self.flows = flows
        self._entries: dict[Place, tuple[int, int]] = {}
        self._places: dict[int, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: int) -> bool:
        return key in self._places

    def lookup(self, key: int) -> int | None:
        """The key's context."""
        place = self._places.get(key)
        return None if place is None else self._entries[place][1]

    def insert(self, key: int, context: int) -> list[FlowWrite]:
        """Adds a key. Raises `FlowTableFull` if no place can be made for it and `FlowTableError`
        if it is there already or the context is not one of the device's."""
        if key in self._places:
            raise FlowTableError("the flow is already in the table")
        if not 0 <= context < self.flows:
            raise FlowTableError(f"context {context} is not one of the device's {self.flows}")
        if len(self) >= self.flows:
            raise FlowTableFull(f"the table holds {self.flows} flows and is full")
        path = self._path(key)
        if path is None:
            raise FlowTableFull("no place for the flow: all rows that it leads to are taken")
        # From the free end of the path backwards: copy an entry, then overwrite it.
        writes = []
        for target, source in zip(path[:0:-1], path[-2::-1], strict=True):
            writes.append(self._put(target, *self._entries[source]))
        writes.append(self._put(path[0], key, context))
        return writes

    def delete(self, key: int) -> list[FlowWrite]:
        """Takes a key out. Raises `FlowTableError` if it is not there."""
        place = self._places.pop(key, None)
        if place is None:
            raise FlowTableError("the flow is not in the table")
        del self._entries[place]
        return [FlowWrite(*place, valid=False, key=0, context=0)]

    def _put(self, place: Place, key: int, context: int) -> FlowWrite:
        self._entries[place] = key, context
        self._places[key] = place
        return FlowWrite(*place, valid=True, key=key, context=context)

    def _candidates(self, key: int) -> list[Place]:
        return [
            Place(table, bucket(key, table, self.flows), slot)
            for table in range(len(POLYNOMIALS))
            for slot in range(BUCKET_SLOTS)
        ]

    def _path(self, key: int) -> list[Place] | None:
        """The shortest chain of places from one of the key's own to a free one.

        Breadth first, so that the fewest entries move and a search that finds nothing ends.
        """
        came_from: dict[Place, Place | None] = dict.fromkeys(self._candidates(key))
        queue = deque(came_from)
        while queue:
            place = queue.popleft()
            if place not in self._entries:
                path: list[Place] = []
                step: Place | None = place
                while step is not None:
                    path.append(step)
                    step = came_from[step]
                return path[::-1]
            for other in self._candidates(self._entries[place][0]):
                if other not in came_from:
                    came_from[other] = place
                    queue.append(other)
        return None
