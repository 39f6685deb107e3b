# SPDX-License-Identifier: Apache-2.0
"""The rules for one flow, restated by an observer that knows the sender's record boundaries.

The observer searches for nothing. It has the true records and sets of stream bytes, and plays the
rules (`docs/theory-of-operation.md`) over all arrivals and commands. So it says of each packet
whether it may be marked, and of each record whether it was verified. It does not know bytes that
look like a header and are not. Streams that contain such bytes can only be tested for safety.

The device remembers less than the observer could. What it forgets is part of the design:

1. While a header is missing there is one candidate, and everything else that passes is forgotten.
   Bytes before the candidate (`candidate_record`) that came meanwhile count when they come
   again.
2. A record is opened only when the walk passes its header. When the candidate is proven, records
   between it and the end of its chain stay closed for good. Of the record that continues there the
   rest is opened, without a verdict if text of it has passed (`no_verdict`).
3. The bytes between the hole and the candidate are not kept, except for the first five. A header
   that the hole's end cuts leads on by its length, and its record stays closed.
4. A walk that arrives at the candidate inside a segment walks to the segment's end and opens what
   it passes. After that the candidate chain's counts hold, as in 2.
5. A record gets no verdict (`no_verdict`) if bytes of it passed while the walk stood before
   it. It is closed as soon as its end has passed. The device knows these bytes only as an interval,
   from the lowest of these segments to the end of the highest.
6. A record that could be a KeyUpdate holds back all later marks until it is verified, software has
   read it, or keys change.
7. Slots and runs are freed by closing the newest record whose end has passed.
8. A packet is not marked if each of its records already has a packet without the mark, unless
   MARK_REST is set. Its bytes are fed all the same.
9. In one-bit mode nothing is taken from bytes that passed before the position was proven. No record
   that continues there is opened, and marks resume at a position that software names.
10. The end of what could be marked is noted before the cipher. R2 closes a little more when a
   packet is refused only for a park or a bad tag.

Sets of bytes are integers, bit i for the byte at stream offset i.
"""

from dataclasses import dataclass

HEADER = 5


@dataclass(frozen=True)
class TrueRecord:
    """A record as the sender made it. text: stream offset after header and nonce."""

    start: int
    text: int
    end: int
    epoch: int
    number: int
    parks: bool  # a handshake record or ChangeCipherSpec: keys may change after it
    waits: bool  # before it is verified it could be a KeyUpdate (or changes keys, TLS 1.2)


@dataclass
class Chain:
    """Headers followed by length. at: the first record whose header has not passed completely."""

    at: int
    high: int  # end of the last byte that passed
    number: int  # the device's count for record `at`
    nonce: bool = False  # the record before `at` is known with its nonce


def span(start: int, end: int) -> int:
    """The set of bytes [start, end)."""
    return (1 << end) - (1 << start) if end > start else 0


def runs(bits: int) -> list[tuple[int, int]]:
    """The maximal runs [start, end) of a set, in order."""
    out, base = [], 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        length = (~bits & bits + 1).bit_length() - 1
        out.append((base + skip, base + skip + length))
        bits >>= length
        base += skip + length
    return out


class Rules:
    """One flow, armed for record 0 of `records`, on a device with the parameters `config`."""

    def __init__(
        self, records: list[TrueRecord], config, mark_rest: bool = False, one_bit: bool = False
    ) -> None:
        self.records, self.config = records, config
        self.mark_rest, self.one_bit = mark_rest, one_bit
        self.chain = Chain(0, 0, 0)  # the proven one
        self.proven = True
        self.search: str | None = None  # "scan", "candidate", "given up"
        self.candidate_record = 0
        self.candidate = Chain(0, 0, 0)
        self.scanned = 0
        self.scan_run: tuple[int, int] | None = None  # latest range scanned without a gap
        self.passed = 0  # bytes that the proven walk has seen
        self.open: dict[int, tuple[int, int]] = {}  # record -> (epoch, number) it was opened under
        self.no_verdict: set[int] = set()
        self.has_unmarked: set[int] = set()
        self.touched: set[int] = set()  # records that the latest packet opened or fed
        self.any_all_marked = False  # it has bytes of a record without unmarked packets
        self.highest = self.lowest = 0  # of the segments that passed: see 5.
        self.edge = 0  # bytes kept from `lowest` on
        self.barrier_end = 0  # end of the last record closed unverified that could change keys
        self.cand_barrier_end = 0
        self.could_mark = 0
        self.closed_below = 0
        self.epoch = 0
        self.parked = False
        self.park_end = self.park = self.awaited = self.park_number = 0
        self.verified: list[int] = []  # records verified by the latest packet
        self.evicted = self.lost = self.joined = self.passed_by = self.overlapped = 0

    # --- commands to the device ---------------------------------------------------------

    def answer(self, offset: int, number: int | None) -> None:
        """Software's answer for the candidate at stream offset `offset`."""
        if self.search != "candidate" or offset != self._start(self.candidate_record):
            return
        if number is None:
            self.search, self.scan_run = "scan", None
        else:
            self._read(offset)
            self._adopt(number, self.candidate_record)

    def hint(self, offset: int, number: int) -> None:
        """Software names a record that it has reached. A flow that is out of sync begins there."""
        held = bool(self.barrier_end)
        self._read(offset)
        read = [k for k in self.open if self.records[k].end <= offset]
        if self.search is not None or (self.one_bit and (read or (held and not self.barrier_end))):
            self._arm(offset, number)
            return
        for k in read:
            del self.open[k]

    def go_on(self, park: int) -> None:
        """Ends the parks if `park` is that of the highest record."""
        if park == self.awaited:
            self.parked = False

    def rekey(self, offset: int, base: int) -> None:
        """The record at `offset`, `base` in the old count, is number 0 under the next keys."""
        self.epoch += 1
        held = bool(self.barrier_end)
        self._read(offset)
        self.parked = False
        self.park = self.awaited = self.park_number = 0
        if self.proven and self.chain.number >= base and not (self.one_bit and held):
            self.chain.number -= base
            if any(self.records[k].waits for k in self.open):
                self.barrier_end = self._start(self.chain.at)
            self.open.clear()  # fed under the old key
            self.closed_below = self.could_mark
        elif self.proven:
            self._arm(offset, 0)

    def _arm(self, offset: int, number: int) -> None:
        at = (
            next(i for i, r in enumerate(self.records) if r.start == offset)
            if (offset < self._start(len(self.records)))
            else len(self.records)
        )
        self.open.clear()
        self.barrier_end = 0
        self.chain = Chain(at, offset, number)
        self.passed &= span(0, offset)  # software may name a place that has passed already
        self.proven, self.search = True, None
        self.closed_below = self.could_mark

    # --- packets --------------------------------------------------------------------------

    def packet(self, start: int, end: int) -> bool:
        """Passes the segment with stream bytes [start, end). Returns whether it may be marked."""
        self.verified = []
        self.touched, self.any_all_marked = set(), False
        complete: list[tuple[int, tuple[int, int]]] = []
        if self.proven and self._continues(self.chain, start):
            may = self._walk(start, end, complete)
        else:
            self._lost(start, end)
            may = False
        if any(self.records[k].waits and self.records[k].end < end for k in self.open):
            may = False
        if self.barrier_end and end > self.barrier_end:
            may = False
        self.highest = max(self.highest, end)
        may = may and (self.any_all_marked or self.mark_rest)
        if not may:
            self.has_unmarked |= self.touched
        if may:
            self.could_mark = max(self.could_mark, end)
        return self._commit(end, may, complete)

    def _start(self, k: int) -> int:
        return self.records[k].start if k < len(self.records) else self.records[-1].end

    def _continues(self, chain: Chain, start: int) -> bool:
        """Whether no header lies in the hole before a segment."""
        if start <= chain.high:
            return True
        held = chain.high - self._start(chain.at)
        if held >= HEADER:  # only the nonce is cut off: the length leads on, the record is lost
            self._unverified(chain, chain.at)
            chain.at, chain.number = chain.at + 1, chain.number + 1
            chain.nonce = False
            held = 0
        return held <= 0 and self._start(chain.at) >= start

    def _follow(self, chain: Chain, end: int) -> list[tuple[int, int]]:
        """Every header that is complete up to `end`: (record, its number)."""
        out = []
        while chain.at < len(self.records) and self.records[chain.at].text <= end:
            out.append((chain.at, chain.number))
            chain.nonce = True
            chain.at, chain.number = chain.at + 1, chain.number + 1
        chain.high = end
        return out

    def _walk(self, start: int, end: int, complete: list) -> bool:
        chain, may = self.chain, True
        first = max(start, chain.high)
        if start < chain.high:
            may = self._fill(start, min(end, chain.high), complete) and end <= chain.high
        if end <= chain.high:
            return may
        held, before = chain.high > self._start(chain.at), chain.at - 1
        if first > chain.high and before in self.open and not held:
            if self.highest > chain.high and self.lowest < first:
                self._drop_verdict(before)
            if before in self.no_verdict:
                self.passed |= span(chain.high, first)
        self.passed |= span(first, end)
        self._evict_for_holes(first)
        if not held and first < self._start(chain.at):
            # Bytes of the record that the walk is in.
            if before in self.open:
                self._touch(before)
                self._complete(before, complete)
            else:
                may = False
        for k, number in self._follow(chain, end):
            record = self.records[k]
            self.any_all_marked = True
            if record.start < self.closed_below:
                self._unverified(chain, k)
                may = False
            elif record.end <= end:
                complete.append((k, (self.epoch, number)))
            else:
                self._open(k, number)
        self.any_all_marked |= self._start(chain.at) < end
        if self._start(chain.at) < min(end, self.closed_below):
            may = False  # a few bytes of a closed record's header
        self._match_candidate()
        return may

    def _fill(self, start: int, end: int, complete: list) -> bool:
        """Handles bytes before everything seen: all unseen bytes are fed (R4)."""
        unseen = [
            (k, run) for k in sorted(self.open) for run in runs(self._missing(k) & span(start, end))
        ]
        self.overlapped += len(unseen) > 1
        for _, run in unseen:
            self.passed |= span(*run)
        self._evict_for_holes(self.chain.high)
        still_open = [k for k, _ in unseen if k in self.open]
        for k in sorted(set(still_open)):
            self._touch(k)
            self._complete(k, complete)
        return bool(still_open) and unseen[0][1] == (start, end)

    def _touch(self, k: int) -> None:
        self.touched.add(k)
        self.any_all_marked |= k not in self.has_unmarked

    def _open(self, k: int, number: int) -> None:
        if len(self.open) == self.config.record_slots:
            self._evict()
        self.open[k] = self.epoch, number
        self.no_verdict.discard(k)
        self.has_unmarked.discard(k)
        self.touched.add(k)

    def _drop_verdict(self, k: int) -> None:
        """Bytes of it have passed and were not fed. The others no longer matter."""
        self.no_verdict.add(k)
        self.passed |= span(self.records[k].start, self.chain.high)

    def _missing(self, k: int) -> int:
        return span(self.records[k].start, self.records[k].end) & ~self.passed

    def _complete(self, k: int, complete: list) -> None:
        if not self._missing(k):
            opened_as = self.open.pop(k)
            if k not in self.no_verdict:
                complete.append((k, opened_as))
            else:
                self._unverified(self.chain, k)

    def _evict_for_holes(self, high: int) -> None:
        """Closes records until the holes before `high` fit."""
        while self._holes(high) > self.config.runs - 1:
            self._evict()

    def _holes(self, high: int) -> int:
        return sum(len(runs(self._missing(k) & span(0, high))) for k in self.open)

    def _evict(self) -> None:
        ended = [k for k in self.open if self.records[k].end <= self.chain.high]
        chosen = max(ended or self.open)
        self._unverified(self.chain, chosen)
        del self.open[chosen]
        self.evicted += 1

    def _unverified(self, chain: Chain, k: int) -> None:
        """Record k is passed without a verdict. If it could change keys, marks wait after it."""
        if not self.records[k].waits:
            return
        end = self.records[k].end
        if chain is self.candidate:
            self.cand_barrier_end = end
        else:
            self.barrier_end = max(self.barrier_end, end)

    def _read(self, offset: int) -> None:
        """Software has read the stream up to there."""
        if offset >= self.barrier_end:
            self.barrier_end = 0

    # --- lost -----------------------------------------------------------------------------

    def _lost(self, start: int, end: int) -> None:
        if self.search is None:
            self.search, self.scanned, self.scan_run = "scan", 0, None
            self.lost += 1
            self.lowest, self.edge = start, min(end - start, HEADER)
            self.highest = end
        if start < self.lowest:
            self.lowest, self.edge = start, 0
        if self.search == "candidate":
            if end <= self.candidate.high:
                return
            if self._continues(self.candidate, start):
                self._count(end)
                return
            self.search, self.scan_run = "scan", None
        if self.search == "scan":
            self._scan(start, end)

    def _scan(self, start: int, end: int) -> None:
        """Takes the first complete header in the bytes that came without a gap as the candidate."""
        joined = self.scan_run is not None and self.scan_run[1] == start
        first = self.scan_run[0] if joined and self.scan_run else start
        self.scan_run = first, end
        found = next(
            (
                k
                for k, r in enumerate(self.records)
                if r.start >= first and start < r.start + HEADER <= end
            ),
            None,
        )
        if found is not None:
            self.search, self.candidate_record = "candidate", found
            self.candidate = Chain(found, 0, 0)  # it counts from 0
            self.cand_barrier_end = 0
            self._count(end)
            return
        self.scanned += end - start
        if self.scanned > self.config.scan_limit:
            self.search = "given up"

    def _count(self, end: int) -> None:
        for k, _ in self._follow(self.candidate, end):
            self._unverified(self.candidate, k)

    def _match_candidate(self) -> None:
        """The proven chain continued although a header was missing."""
        chain = self.chain
        held = chain.high - self._start(chain.at)
        at_edge = self.search is not None and chain.high == self.lowest
        if held > 0 and at_edge and held + self.edge >= HEADER:
            self._unverified(chain, chain.at)
            chain.at, chain.number, chain.nonce = chain.at + 1, chain.number + 1, False
        if self.search in ("scan", "given up"):
            self.search = None
        elif self.search == "candidate" and self.chain.at >= self.candidate_record:
            if self.chain.high <= self.candidate.high:
                # It may have walked past the candidate's header in the same segment.
                self.joined += 1
                self.passed_by += self.chain.at > self.candidate_record
                number = self.chain.number + self.candidate_record - self.chain.at
                self._adopt(number, self.chain.at, self.chain.high)
            else:
                self.search = None  # it has walked past the end of the chain

    def _adopt(self, number: int, walked: int, packet_end: int = 0) -> None:
        """The candidate, `number`, is proven: the walk resumes at the end of its chain.

        walked: the walk itself has been through the records before this one. packet_end: end of the
        packet that brought it there, which may be marked.
        """
        chain = self.candidate
        # What the candidate has seen of an open record was not fed.
        before, end = self.chain.at - 1, self._start(self.chain.at)
        if self.proven and before in self.open and self.chain.high < end:
            self._drop_verdict(before)
            if end <= chain.high:
                self._unverified(self.chain, before)
                del self.open[before]
            else:
                self.passed |= span(self.chain.high, chain.high)
        self.passed |= span(self._start(chain.at), chain.high)  # of a header cut off there
        self.chain = Chain(chain.at, chain.high, number + chain.number)
        self.closed_below = max(self.could_mark, packet_end)
        if self.cand_barrier_end > self._start(walked):
            self.barrier_end = self.cand_barrier_end
        if self.one_bit:
            self.barrier_end = self._start(chain.at)
        self.proven, self.search = True, None
        last = chain.at - 1
        goes_on = chain.nonce and last >= walked and self.records[last].end > chain.high
        if goes_on and not self.one_bit:
            record = self.records[last]
            if record.start >= self.closed_below:
                self.passed |= span(record.start, chain.high)
                self._open(last, self.chain.number - 1)
                self.has_unmarked.add(last)
                if chain.high > record.text:
                    self.no_verdict.add(last)

    # --- the cipher's verdict -------------------------------------------------------------

    def _commit(self, end: int, may: bool, complete: list) -> bool:
        behind = self.parked and end > self.park_end
        parks = []
        for k, opened_as in complete:
            record = self.records[k]
            if opened_as != (record.epoch, record.number):
                if parks:
                    continue  # after a park another key may hold
                if not behind:
                    self._desync()
                return False
            self.verified.append(k)
            if record.parks:
                parks.append(k)
        if parks:
            self.park = self.park + 1 & 0xFF
            last = self.records[parks[-1]].number
            if not self.parked or last >= self.park_number:
                self.awaited, self.park_number = self.park, last
            self.park_end = min(end, self.park_end) if self.parked else end
            self.parked = True
            may = may and self.records[parks[0]].end >= end
        return may and not behind

    def _desync(self) -> None:
        self.open.clear()
        self.proven = False
        if self.search is None:
            self.search, self.scanned, self.scan_run = "scan", 0, None
            self.lost += 1
