# SPDX-License-Identifier: Apache-2.0
"""Which packets of a replay may be in the device together.

Packets that cannot cause a command need not be waited for. Which ones those are is decided from
the capture and from what has been processed, never from timing, so that every engine sees the
same order of packets and commands.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

from ...net import seq
from ...net.parser import FIN, RST, SYN, Parsed
from ...net.tcp import Pair, ends, pair
from ...tls.records import APPLICATION_DATA, Outcome
from ..oracle import ConnectionTruth, DirectionTruth
from .connection import HostConnection

BATCH = 32  # packets in the device together
LOUD = 12  # of them that may bring events, so that the event queue holds all


class Quiet:
    """Where in a direction's stream nothing happens but application data that authenticates.

    Known beforehand from the software truth; only a question of speed.
    """

    def __init__(self, truth: DirectionTruth) -> None:
        self._records = [
            (r.offset, r.end, r.outcome is Outcome.OK and r.inner_type == APPLICATION_DATA)
            for r in truth.records
        ]
        self._starts = [start for start, _, _ in self._records]

    def __call__(self, start: int, end: int) -> bool:
        """Whether [start, end) lies in such records only."""
        at = bisect_right(self._starts, start) - 1
        while at >= 0 and start < end:
            if at == len(self._records) or not self._records[at][2]:
                return False
            start = self._records[at][1]
            at += 1
        return at >= 0


class Batches:
    """Cuts a capture, whose packets' headers are `parsed`, into batches.

    find: the current connection of two endpoints, or `None`.
    """

    def __init__(
        self,
        parsed: Sequence[Parsed],
        truths: Sequence[ConnectionTruth],
        find: Callable[[Pair], HostConnection | None],
    ) -> None:
        self._parsed = parsed
        self._find = find
        self._quiet = {
            (truth.tcp.index, direction): Quiet(truth[direction])
            for truth in truths
            for direction in ("c2s", "s2c")
        }

    def end(self, start: int) -> int:
        """How far packets from `start` on may be in the device together."""
        busy: dict[Pair, set[int]] = {}
        # By flow key: sequence number behind the last quiet segment.
        behind_quiet: dict[int, int] = {}
        loud: set[int] = set()  # flow keys with a segment that may bring events
        for at in range(start, min(start + BATCH, len(self._parsed))):
            head = self._parsed[at]
            if not head.is_tcp or not head.checksum_ok:
                continue
            opens_or_ends = bool(head.tcp_flags & (SYN | RST | FIN))
            if not head.payload_length and not opens_or_ends:
                continue
            both = pair(*ends(head))
            keys = busy.setdefault(both, set())
            connection = self._find(both)
            if keys and (opens_or_ends or connection is None or not connection.settled):
                return at
            behind = seq.add(head.seq, head.payload_length)
            if head.key in loud:
                return at
            if self._is_quiet(connection, head, behind_quiet.get(head.key)):
                behind_quiet[head.key] = behind
            elif head.key in keys or len(loud) == LOUD:
                return at
            else:
                loud.add(head.key)
            keys.add(head.key)
            if opens_or_ends:
                return at + 1
        return min(start + BATCH, len(self._parsed))

    def _is_quiet(self, connection: HostConnection | None, head: Parsed, end: int | None) -> bool:
        """In order, behind a marked segment, and only application data: no command can follow."""
        if connection is None or not connection.settled:
            return False
        direction = connection.directions[connection.tcp.direction(ends(head)[0])]
        stream = direction.host.stream
        if not direction.marked or direction.due or stream.waiting_bytes:
            return False
        if head.seq != (stream.sequence(stream.next) if end is None else end):
            return False
        offset = stream.offset(head.seq)
        return self._quiet[connection.tcp.index, direction.host.direction](
            offset, offset + head.payload_length
        )
