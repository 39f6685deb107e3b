# SPDX-License-Identifier: Apache-2.0
"""What the walker says of a segment: spans for the cipher, framing, reason and event for commit."""

from dataclasses import dataclass, field

from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason


@dataclass
class Span:
    """Consecutive text and tag bytes of one record in one packet; see `hdl/common/layouts.py`."""

    slot: int
    number: int
    nonce: int
    content_type: int
    length: int
    at: int  # offset of the first byte in the payload
    text_offset: int
    text_bytes: int
    tag_offset: int
    tag_bytes: int
    first: bool
    completes: bool
    probe: bool = False  # of a record whose number is a guess


@dataclass
class Probe:
    """A candidate record is complete under a guessed number."""

    candidate_seq: int  # sequence number of the candidate chain's first header
    number: int  # of the record there, if the guess is right


@dataclass
class WalkerEvent:
    """What the walker has to report with a packet or a command."""

    kind: EventKind
    lost_at: int = 0
    candidate_seq: int = 0
    resumed_at: int = 0
    proven_by: ProvenBy = ProvenBy.NOTHING
    seq: int = 0
    number: int = 0


@dataclass
class Walked:
    """What became of one segment."""

    reason: Reason = Reason.NONE
    spans: list[Span] = field(default_factory=list)
    event: WalkerEvent | None = None
    records: int = 0
    first: tuple[int, int, int, int, bool] = (0, 0, 0, 0, False)
    last: tuple[int, int, int, bool] = (0, 0, 0, False)
    evicted: int = 0
    ahead: bool = False  # the packet ends behind the end of an open record
    probe: Probe | None = None
    any_all_marked: bool = False  # one of its records has been in marked packets only, so far

    def add_reason(self, reason: Reason) -> None:
        """Keep the reason with the lowest code."""
        if self.reason is Reason.NONE or reason < self.reason:
            self.reason = reason

    def touch(
        self, number: int, start: int, offset: int, length: int, nonce: int, completes: bool
    ) -> None:
        """Note one more record with bytes in the packet; `offset` counts for the first only."""
        if not self.records:
            self.first = (number, offset, length, nonce, completes)
        self.last = (number, start, length, completes)
        self.records += 1
