# SPDX-License-Identifier: Apache-2.0
"""The in-order device of Linux's `Documentation/networking/tls-offload.rst`, as geometry.

For comparison with Sealane on the same arrivals: which packets such a device decrypts follows from
where records and segments begin and end, so there are no bytes and no keys here. What the document
says of receive and leaves open is read in the device's favour:

- In order, with the record's state unbroken since its header, a packet is decrypted.
- A hole inside a record whose end is known: packets pass untouched up to and with the one that
  holds the next header; from that header on state is collected, and the packet behind is
  decrypted. So a hole costs its record and the beginning of the next one.
- A lost header: the device waits. If the missing segment comes before the next header has passed,
  it is decrypted and the device goes on behind the hole. Once the stream is more than the longest
  record past the loss, the device scans for a header, follows its chain of lengths, starts again
  where the chain breaks, and asks. The driver confirms when its own parse has arrived there; the
  device goes on with what it counted, at the next header.
- A late segment passes untouched and changes nothing.
- The scan never takes a false header.
"""

from sealane.hdl.abi.config import HEADER_BYTES, LENGTH_BOUNDS


class InOrderDevice:
    """One flow of records of equal size; all positions are stream offsets from the first header.

    wire_bytes: of a record, header included. version: decides the longest record.
    candidate: offset of the header that the device asks about, else `None`.
    """

    def __init__(self, wire_bytes: int, version: int) -> None:
        self.candidate: int | None = None
        self._wire = wire_bytes
        self._longest = HEADER_BYTES + LENGTH_BOUNDS[version][1]
        self._expected = 0
        self._walk = 0  # next header; behind `_expected` if that lies inside a header
        self._unbroken = True
        self._lost = False
        self._high = 0  # end of what has passed
        self._chain = 0  # next header of the candidate's chain
        self._chain_end = 0

    def segment(self, start: int, end: int) -> bool:
        """Whether the packet that brings [start, end) is decrypted."""
        if self._lost:
            decrypted = self._out_of_sync(start, end)
        elif start < self._expected:
            decrypted = False
        elif start > self._expected and not self._expected <= start <= self._next_header():
            self._lost = True
            self.candidate = None
            decrypted = self._out_of_sync(start, end)
        else:
            self._unbroken &= start == self._expected
            decrypted = self._unbroken or start == self._walk
            self._follow(end)
        self._high = max(self._high, end)
        return decrypted

    def confirm(self, candidate: int) -> None:
        """The driver says that a record begins there; nothing changes if it was given up."""
        if not self._lost or candidate != self.candidate:
            return
        self._lost, self.candidate = False, None
        self._walk, self._expected, self._unbroken = self._chain, self._chain_end, False

    def _next_header(self) -> int:
        """Up to where a segment may begin without a header being lost in front of it."""
        return self._walk if self._walk >= self._expected else self._expected

    def _follow(self, end: int) -> None:
        while self._walk < end:
            self._unbroken = True
            if self._walk + HEADER_BYTES > end:
                break
            self._walk += self._wire
        self._expected = end

    def _out_of_sync(self, start: int, end: int) -> bool:
        if start == self._expected and self._high <= self._expected + self._longest:
            decrypted = self._unbroken
            self._follow(end)
            if self._walk >= self._high:
                self._lost, self._expected = False, max(self._high, end)
                self._unbroken &= self._high <= end
            return decrypted
        if start >= self._high and end > self._expected + self._longest:
            self._scan(start, end)
        return False

    def _scan(self, start: int, end: int) -> None:
        follows = start == self._chain_end or (
            self._chain >= self._chain_end and start <= self._chain
        )
        if self.candidate is None or not follows:
            first = -(-start // self._wire) * self._wire
            self.candidate = None
            if first + HEADER_BYTES > end:
                return
            self.candidate = self._chain = first
        while self._chain + HEADER_BYTES <= end:
            self._chain += self._wire
        self._chain_end = end
