# SPDX-License-Identifier: Apache-2.0
"""The receiving half of a TCP for hostile tests: what differs between hosts is a parameter.

`driver.tcp.Stream` keeps the bytes that came first. Hosts differ there, and they refuse segments
that the card has seen: old timestamps (PAWS, RFC 7323 section 5), bytes outside the window, and,
short of memory, the whole queue behind a hole.
"""

import struct

from sealane.driver.net import seq
from sealane.driver.net.checksum import ones_complement_sum
from tests.device.test_rx import FLOW

ACK = 0x10
_ADDRESSES = FLOW.src.packed + FLOW.dst.packed
_PORTS = struct.pack(">HH", FLOW.sport, FLOW.dport)
HEADERS = 14 + 20 + 32  # Ethernet, IPv4, TCP with timestamps


def frame(seq: int, payload: bytes, timestamp: int, bad_checksum: bool = False) -> bytes:
    """Ethernet, IPv4 and TCP with ACK set and timestamps, of `tests.device.test_rx.FLOW`."""
    length = 32 + len(payload)
    options = struct.pack(">BBBBII", 1, 1, 8, 10, timestamp, 0)
    header = struct.pack(">IIBBHHH", seq, 1, 0x80, ACK, 9, 0, 0)
    segment = b"".join((_PORTS, header, options, payload))
    pseudo = _ADDRESSES + struct.pack(">HH", 6, length)
    value = 0xFFFF - ones_complement_sum(pseudo + segment) ^ bad_checksum
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 6, 0) + _ADDRESSES
    return b"".join(
        (
            bytes(12),
            b"\x08\0",
            ip[:10],
            (0xFFFF - ones_complement_sum(ip)).to_bytes(2, "big"),
            ip[12:],
            segment[:16],
            value.to_bytes(2, "big"),
            segment[18:],
        )
    )


class SmallTcp:
    """Puts segments in order and remembers which packet each byte came from.

    base: sequence number of stream offset 0. window: bytes behind `next` that are taken.
    keep_last: of bytes that come twice the last stay while they wait, else the first.
    next: offset of the first byte that is missing. highest: behind the last byte ever taken.
    """

    def __init__(self, base: int, window: int, keep_last: bool) -> None:
        self.base, self.window, self.keep_last = base, window, keep_last
        self.next = self.highest = 0
        self.recent = 0  # TS.Recent
        self._queue: list[tuple[int, int, int]] = []  # start, end, packet; sorted, no overlap

    def accept(self, sequence: int, length: int, timestamp: int, packet: int):
        """A segment; returns what is in order now: (start, end, packet), stream offsets."""
        if timestamp < self.recent:
            return []
        start = self.next + seq.delta(sequence, seq.add(self.base, self.next))
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
        """Memory is short: what waits behind a hole is thrown away."""
        self._queue.clear()


def _without(pieces, start: int, end: int):
    """The pieces less the bytes [start, end)."""
    out = []
    for low, high, packet in pieces:
        if low < min(high, start):
            out.append((low, min(high, start), packet))
        if max(low, end) < high:
            out.append((max(low, end), high, packet))
    return out
