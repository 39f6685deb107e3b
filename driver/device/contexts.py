# SPDX-License-Identifier: Apache-2.0
"""Which contexts of one direction of a device are taken, by which flows, and their generations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sealane.hdl.abi.commands import Op
from sealane.hdl.abi.tx import TxCommand

from .control import Control
from .descriptors import Handle
from .flowtable import FlowTable, FlowTableFull, FlowWrite


class OffloadRefused(Exception):
    """The connection stays in software; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Contexts:
    """Contexts and flow table of one direction with `flows` contexts.

    op: the command that writes the device's flow table. What an error leaves unwritten of it is
    written before anything else: a flow that the device does not find would be nobody's, and on
    transmit its text would leave.

    Generations are counted per context over all its flows and never come again: a packet may wait
    in TCP for as long as it likes. The device knows their low 8 bits.
    """

    def __init__(self, flows: int, control: Control, op: Op | TxCommand) -> None:
        self._control = control
        self._op = op
        self._owed: deque[FlowWrite] = deque()  # until the device's flow table is this one
        self._table = FlowTable(flows)
        self._free = list(range(flows - 1, -1, -1))
        self._generations = [0] * flows  # of the next installation
        self._used: dict[int, tuple[int, int]] = {}  # context -> (flow key, generation)

    def add(
        self, key: int, install: Callable[[Handle], None], undo: Callable[[Handle], None]
    ) -> Handle:
        """A free context for a flow, which `install` gives its keys; then the table leads to it.

        Raises `OffloadRefused` on a flow that has one already and `FlowTableFull` where there is no
        context or no place in the table; then nothing has changed. What the transport and the
        device raise passes too; the context is given back then, by `undo` in the device too if it
        still takes commands.
        """
        if key in self._table:
            raise OffloadRefused("flow is offloaded already")
        if not self._free:
            raise FlowTableFull("no free context")
        context = self._free[-1]
        *moves, lead = self._table.insert(key, context)
        self._free.pop()
        self._used[context] = key, 0
        handle = self.renew(context)
        self._owed += moves
        try:
            self.write()  # other flows that move do so whatever becomes of this one
            # The context first: the flow table must never lead to a context without keys.
            install(handle)
            self._control.write_flow(self._op, lead)
        except Exception:
            self.unlist(handle)
            self.free(handle)
            with suppress(Exception):  # what went wrong first is what the caller is told
                undo(handle)
            raise
        return handle

    def renew(self, context: int) -> Handle:
        """A context's next generation, which is in force from now on."""
        generation = self._generations[context]
        self._generations[context] = generation + 1
        self._used[context] = self._used[context][0], generation
        return Handle(context, generation)

    def unlist(self, handle: Handle) -> None:
        """Takes the flow of a handle in force out of the table; the device's is due to `write`."""
        self._owed += self._table.delete(self._used[handle.context][0])

    def write(self) -> None:
        """Writes what is due. Raises what the transport and the device do; the rest stays due."""
        while self._owed:
            self._control.write_flow(self._op, self._owed[0])
            self._owed.popleft()

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
