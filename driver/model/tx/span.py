# SPDX-License-Identifier: Apache-2.0
"""What the walker of transmit says of a frame: spans for the cipher, and an entry for commit."""

from dataclasses import dataclass, field
from enum import IntEnum

from sealane.hdl.abi.tx import TxReason, TxTags


class Action(IntEnum):
    """What becomes of a frame, as far as the walker can say."""

    PASS = 0  # leaves as it came
    ENCRYPT = 1
    DUMP = 2  # hashed and discarded
    DROP = 3  # for the walker's reason; its spans, if any, still run


@dataclass(frozen=True, slots=True)
class TxSpan:
    """Consecutive text and tag bytes of one record in one frame.

    key_slot, key_name: the key. detached: X row 1 instead of 0. number: the one in the nonce. nonce:
    explicit bytes. at: of the first byte in the frame. first: the X row starts anew. use_row: the
    X row takes part; not where tags are given. tag_mode: `TxTags`.
    """

    key_slot: int
    key_name: int
    detached: bool
    number: int
    nonce: bytes
    content_type: int
    length: int
    at: int
    text_offset: int
    text_bytes: int
    tag_offset: int
    tag_bytes: int
    first: bool
    completes: bool
    tag_mode: int
    use_row: bool

    @property
    def gives_tag(self) -> bool:
        """Its tag goes into the completion."""
        return self.tag_bytes > 0 and self.tag_offset == 0 and self.tag_mode != TxTags.GIVEN


@dataclass
class TxWalked:
    """What the walker says of a frame; see `TxLayouts.entry`.

    clears: offsets in the frame, (start, end). tags: tags for the completion, of consecutive
    records from first_number on (0 if there are none). payload_at, payload_end: in the frame.
    """

    action: Action
    reason: TxReason = TxReason.NONE
    payload_at: int = 0
    payload_end: int = 0
    spans: list[TxSpan] = field(default_factory=list)
    clears: list[tuple[int, int]] = field(default_factory=list)
    tags: int = 0
    first_number: int = 0

    @property
    def expected(self) -> int:
        """Payload bytes that must be written."""
        clear = sum(end - start for start, end in self.clears)
        return self.payload_end - self.payload_at - clear
