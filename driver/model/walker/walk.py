# SPDX-License-Identifier: Apache-2.0
"""The walker, behaviourally: where records begin and end in a flow's segments, and what was seen.

It knows TCP sequence numbers and record lengths and no keys. One call takes one segment (or one
command) and the flow's row, changes the row, and returns the spans for the cipher and what is to be
said of the packet. `hdl/walker/walker.py` does the same in hardware; the two agree bit by bit, and
their parts have the same names:

    walker_row       what is kept of a flow between packets: the two chains of headers
    coverage         the row's open records and the holes in them
    walker_span      what is said of a segment
    walker_core      what the parts below share while they do one segment or command
    walker_search    off the proven chain: the scan, and following a candidate
    walker_proven    on it: feeding, hopping from header to header, adopting a candidate
    walker_commands  what comes between packets

Each of them knows only those above it.
"""

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import Reason

from ...net.seq import distance
from . import resync as walker_search
from . import tracking as walker_proven
from .core import Core
from .row import Row
from .span import Walked


class Walk:
    """One segment's way through a row. `payload` starts at sequence number `seq`."""

    def __init__(self, config: Config, row: Row, seq: int, payload: bytes) -> None:
        self._core = Core(config, row, seq, payload)

    def run(self) -> Walked:
        """Walk the segment. It is not empty, its checksums are good and its flags are right."""
        core = self._core
        config, row, out = core.config, core.row, core.out
        if not -config.window <= distance(core.seq, row.high) < config.window:
            out.add_reason(Reason.OUT_OF_WINDOW)
            return out
        while core.coverage.stale(core.seq):
            core.evict(oldest=True)
        if walker_proven.continues(core):
            walker_proven.walk(core)
        else:
            walker_search.candidate(core)
        if distance(core.end, row.passed_high) > 0:
            row.passed_high = core.end
        _hold_behind_unverified(core)
        if not (row.options & Option.MARK_REST or out.any_all_marked):
            out.add_reason(Reason.MIXED)
        if out.reason is not Reason.NONE:
            for slot in core.touched:
                slot.has_unmarked = True
        if out.reason is Reason.NONE:
            if row.marked_high is None or distance(core.end, row.marked_high) > 0:
                row.marked_high = core.end
            row.marked_number = max(row.marked_number, (out.last[0] + 1) % 2**64)
        return out


def _hold_behind_unverified(core: Core) -> None:
    """Marks wait behind records that no verdict has settled: behind those that may change
    keys, in one-bit mode behind all, and far behind any."""
    row, out = core.row, core.out
    if row.barrier_end is not None and distance(core.end, row.barrier_end) > 0:
        out.add_reason(Reason.HELD)
    for slot in row.slots:
        behind = distance(core.end, slot.end) if slot else 0
        if slot and behind > 0:
            out.ahead = True
            if core.withholds(slot.content_type, slot.length) or behind > core.config.ahead_limit:
                out.add_reason(Reason.HELD)
