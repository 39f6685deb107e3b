# SPDX-License-Identifier: Apache-2.0
"""The receiving half of a TCP for hostile tests, with host differences as parameters.

`driver.tcp_seq.Stream` keeps the bytes that came first. Hosts differ there. They also refuse
segments that the card has seen: old timestamps (PAWS, RFC 7323 section 5), bytes outside the window
and, when memory is short, the entire queue after a hole.
"""

from tests.support.sequence_numbers import distance


class SmallTcp:
    """Puts segments in order and remembers which packet each byte came from.

    base: sequence number of stream offset 0. window: number of bytes after `next` that are
    accepted. keep_last: of bytes that arrive twice, the last copy is kept while they wait, else the
    first. next: offset of the first missing byte. highest: end of the last byte ever accepted.
    """

    def __init__(self, base: int, window: int, keep_last: bool) -> None:
        self.base, self.window, self.keep_last = base, window, keep_last
        self.next = self.highest = 0
        self.recent = 0  # TS.Recent
        self._queue: list[tuple[int, int, int]] = []  # start, end, packet: sorted, no overlap

    def accept(self, sequence: int, length: int, timestamp: int, packet: int):
        """Takes a segment and returns the pieces now in order: (start, end, packet) by offset."""
        if timestamp < self.recent:
            return []
        start = self.next + distance(sequence, self.base + self.next)
        end = min(start + length, self.next + self.window)
        if start <= self.next:
            self.recent = timestamp
            start = self.next
        if start >= end:
            return []
        self.highest = max(self.highest, end)
        new = [(start, end, packet)]
        if self.keep_last:
            old = _without(self._queue, start, end)
        else:
            old = self._queue
            for low, high, _ in old:
                new = _without(new, low, high)
        self._queue = sorted(old + new)
        out = []
        while self._queue and self._queue[0][0] == self.next:
            out.append(self._queue.pop(0))
            self.next = out[-1][1]
        return out

    def prune(self) -> None:
        """Discards everything that waits after a hole, as a host does when memory is short."""
        self._queue.clear()


def _without(pieces, start: int, end: int):
    """The pieces without the bytes [start, end)."""
    out = []
    for low, high, packet in pieces:
        if low < min(high, start):
            out.append((low, min(high, start), packet))
        if max(low, end) < high:
            out.append((max(low, end), high, packet))
    return out
