# SPDX-License-Identifier: Apache-2.0
"""Which contexts of one direction of a device are taken, by which flows, and their generations."""

from __future__ import annotations

from collections.abc import Iterator

from .descriptors import Handle
from .flowtable import FlowTable, FlowTableFull, FlowWrite


class OffloadRefused(Exception):
    """The connection stays in software; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Contexts:
    """Contexts and flow table of one direction with `flows` contexts.

    Generations are counted per context over all its flows and never come again: a packet may wait
    in TCP for as long as it likes. The device knows their low 8 bits.
    """

    def __init__(self, flows: int) -> None:
        self._table = FlowTable(flows)
        self._free = list(range(flows - 1, -1, -1))
        self._generations = [0] * flows  # of the next installation
        self._used: dict[int, tuple[int, int]] = {}  # context -> (flow key, generation)

    def __iter__(self) -> Iterator[int]:
        return iter(self._used)

    def claim(self, key: int) -> tuple[Handle, list[FlowWrite]]:
        """A free context for a flow, and the writes that lead to it.

        Raises `OffloadRefused` on a flow that has one already and `FlowTableFull` where there is no
        context or no place in the table; then nothing has changed.
        """
        if key in self._table:
            raise OffloadRefused("flow is offloaded already")
        if not self._free:
            raise FlowTableFull("no free context")
        context = self._free[-1]
        writes = self._table.insert(key, context)
        self._free.pop()
        self._used[context] = key, 0
        return self.renew(context), writes

    def renew(self, context: int) -> Handle:
        """A context's next generation, which is in force from now on."""
        generation = self._generations[context]
        self._generations[context] = generation + 1
        self._used[context] = self._used[context][0], generation
        return Handle(context, generation)

    def unlist(self, handle: Handle) -> list[FlowWrite]:
        """The writes that take the flow of a handle in force out of the table."""
        return self._table.delete(self._used[handle.context][0])

    def free(self, handle: Handle) -> None:
        """The context, whose flow is out of the table, may be claimed again."""
        del self._used[handle.context]
        self._free.append(handle.context)

    def in_force(self, handle: Handle) -> bool:
        """Whether the context is taken, and by this generation."""
        return self._used.get(handle.context, (0, -1))[1] == handle.generation

    def need(self, handle: Handle) -> None:
        """Raises `KeyError` on a handle that is not in force."""
        if not self.in_force(handle):
            raise KeyError(handle)

    def whole(self, context: int, low: int) -> int:
        """The generation of which the device gave the low 8 bits: the latest that fits. In the
        device itself there are never two generations of a context but while one command runs."""
        if context >= len(self._generations):
            return low
        latest = self._generations[context] - 1
        return max(low, latest - (latest - low & 0xFF))
