# SPDX-License-Identifier: Apache-2.0
"""What a capture's senders send again later, so that they cannot know it to be acknowledged yet.

A capture point sees an acknowledgement before the sender does, and one that is lost behind it the
sender never sees. But no TCP sends what it knows to be acknowledged (RFC 9293 section 3.8.1), so
the segments that follow bound what had arrived.
"""

from bisect import bisect_left
from collections.abc import Sequence

from ...net.parser import Parsed
from ...net.tcp import ConnectionTable
from ..capture import Packet


class StillNeeded:
    """The lowest stream offset that each direction sends from a packet on.

    Damaged segments, and those without payload, ask for nothing: a keep-alive names a byte that is
    acknowledged.
    """

    def __init__(self, packets: Sequence[Packet], parsed: Sequence[Parsed]) -> None:
        self._sent: dict[tuple[int, str], tuple[list[int], list[int]]] = {}
        table = ConnectionTable()
        for packet, head in zip(packets, parsed, strict=True):
            segment = table.accept(packet.index, head, packet.frame)
            if segment is not None and segment.length:
                key = segment.connection.index, segment.direction
                numbers, offsets = self._sent.setdefault(key, ([], []))
                numbers.append(packet.index)
                offsets.append(segment.offset)
        for _, offsets in self._sent.values():
            for i in reversed(range(len(offsets) - 1)):
                offsets[i] = min(offsets[i], offsets[i + 1])

    def lowest(self, connection: int, direction: str, packet: int) -> int | None:
        """Stream offset of the lowest byte in the direction's segments from the packet on, that is
        number `packet` in the capture; `None` if there are no more."""
        numbers, offsets = self._sent.get((connection, direction), ([], []))
        at = bisect_left(numbers, packet)
        return offsets[at] if at < len(offsets) else None
