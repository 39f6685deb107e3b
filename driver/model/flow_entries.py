# SPDX-License-Identifier: Apache-2.0
"""The device's flow table, behaviourally: four places for each key, see `hdl/abi/flowhash.py`."""

from functools import lru_cache

from sealane.hdl.abi.flowhash import BUCKET_SLOTS, POLYNOMIALS, bucket

_bucket = lru_cache(1 << 14)(bucket)  # a packet's rows depend on its flow only


class FlowEntries:
    """Entries as they were written; `flows` contexts."""

    def __init__(self, flows: int) -> None:
        self._flows = flows
        self._entries: dict[tuple[int, int, int], tuple[int, int]] = {}

    def write(self, place: tuple[int, int, int], valid: bool, key: int, context: int) -> None:
        """Writes the entry at (table, row, slot): a packed `FLOW_KEY` and its context."""
        if valid:
            self._entries[place] = (key, context)
        else:
            self._entries.pop(place, None)

    def lookup(self, key: int) -> int | None:
        """The context of a packed flow key; of the first place that has it."""
        for table in range(len(POLYNOMIALS)):
            for slot in range(BUCKET_SLOTS):
                entry = self._entries.get((table, _bucket(key, table, self._flows), slot))
                if entry and entry[0] == key:
                    return entry[1]
        return None
