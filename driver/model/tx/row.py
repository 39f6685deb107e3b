# SPDX-License-Identifier: Apache-2.0
"""A transmit context as the walker holds it, and what the commands do to it.

Records have one count N. A key slot serves the records from its `base` on until the newer slot's
base, and the number in a record's nonce is N - base. Only names of keys are here, the keys are in
the cipher: a name counts up with every key that a slot gets, so that a span never runs under
another key than the one it was walked for.
"""

from dataclasses import dataclass, field

from sealane.hdl.abi.config import NONCE_BYTES, VERSION_TLS12, VERSION_TLS13, header_bytes
from sealane.hdl.abi.tx import TxCommand

from ...net.seq import MASK

KEY_SLOTS = 2
NAMES = 1 << 8  # names of keys count modulo this
NUMBERS = 1 << 64  # record numbers and explicit nonces count modulo this
MARKER_HORIZON = 1 << 30  # so far behind the marker it is not compared any more, before it wraps


@dataclass
class TxRow:
    """One transmit context. All zero: unused.

    deleted: a drop entry until TX_RELEASE. broken: the stream is lost and awaits sync.
    start: TCP sequence number of the marker; passed: `next`, or what software sent, has been
    `MARKER_HORIZON` bytes behind it.
    next: sequence number of the next byte in order. number, at: N of the record under way and its
    bytes in front of `next`; length, content_type: of its header, known if at >= 5, else held: the
    header bytes so far. nonce_delta: TLS 1.2, explicit nonce minus N.
    base, has, key_name: by key slot; newer: the slot that was written last.
    side_*: what the X row for detached frames has hashed: N, bytes from its header, its header.
    """

    valid: bool = False
    deleted: bool = False
    broken: bool = False
    generation: int = 0
    version: int = 0
    start: int = 0
    marker_expired: bool = False
    next: int = 0
    number: int = 0
    at: int = 0
    length: int = 0
    content_type: int = 0
    part_header: bytes = b""
    nonce_delta: int = 0
    base: list[int] = field(default_factory=lambda: [0] * KEY_SLOTS)
    has: list[bool] = field(default_factory=lambda: [False] * KEY_SLOTS)
    newer: int = 0
    key_name: list[int] = field(default_factory=lambda: [0] * KEY_SLOTS)
    detached_valid: bool = False
    detached_number: int = 0
    detached_at: int = 0
    detached_length: int = 0
    detached_type: int = 0

    @property
    def live(self) -> bool:
        """In use and not deleted."""
        return self.valid and not self.deleted

    @property
    def header_size(self) -> int:
        """Header and explicit nonce: bytes in front of a record's text."""
        return header_bytes(self.version)

    def nonce(self, number: int) -> bytes:
        """The explicit nonce that record N must have, 8 bytes; TLS 1.3 has none."""
        if self.version != VERSION_TLS12:
            return b""
        return ((self.nonce_delta + number) % NUMBERS).to_bytes(NONCE_BYTES, "big")

    def key_slot(self, number: int) -> int | None:
        """The key slot of record N. The last number has none: a stream ends before N wraps, as
        nonces would begin anew (RFC 8446 section 5.5)."""
        if number == NUMBERS - 1:
            return None
        newer, other = self.newer, 1 - self.newer
        if self.has[newer] and number >= self.base[newer]:
            return newer
        if self.has[other] and self.base[other] <= number < self.base[newer]:
            return other
        return None

    def move(self, to: int) -> None:
        """Sets `next`."""
        self.next = to
        self.marker_expired |= (to - self.start) & MASK >= MARKER_HORIZON

    def seen(self, end: int) -> None:
        """Software has sent up to `end`: the marker is left behind in a long stretch of it too.

        From half the numbers on an end would lie in front of the marker, so those do not count.
        """
        self.marker_expired |= MARKER_HORIZON <= (end - self.start) & MASK < 2 * MARKER_HORIZON

    # --- commands ---------------------------------------------------------------------------

    def added(self, generation: int, version: int, seq: int, number: int, nonce: int) -> "TxRow":
        """TX_ADD: the row that takes this one's place; its key is in slot 0. Names go on."""
        row = TxRow(
            valid=True,
            generation=generation,
            version=version,
            start=seq,
            next=seq,
            number=number,
            key_name=list(self.key_name),
        )
        if version == VERSION_TLS12:
            row.nonce_delta = (nonce - number) % NUMBERS
        row._name(0)
        return row

    def rekey(self, generation: int, slot: int, number: int) -> bool:
        """TX_REKEY: a key for the records from `number` on; false in TLS 1.2, which has none."""
        if not self.live or self.generation != generation or self.version != VERSION_TLS13:
            return False
        self.base[slot] = number
        self.newer = slot
        self._name(slot)
        self.detached_valid = False  # what it hashed may have been under the key that was replaced
        return True

    def key_clear(self, generation: int, slot: int) -> bool:
        """TX_KEY_CLEAR: no record has this key any more."""
        if not self.live or self.generation != generation:
            return False
        self.has[slot] = False
        self.detached_valid = False
        return True

    def delete(self, generation: int) -> bool:
        """TX_DELETE: both keys are cleared, and the row stays as a drop entry."""
        if not self.live or self.generation != generation:
            return False
        self.deleted = True
        self.has = [False] * KEY_SLOTS
        self.detached_valid = False
        return True

    def release(self) -> bool:
        """TX_RELEASE: the drop entry ends."""
        if not self.deleted:
            return False
        self.valid = self.deleted = False
        return True

    def _name(self, slot: int) -> None:
        self.has[slot] = True
        self.key_name[slot] = (self.key_name[slot] + 1) % NAMES


def command(rows: list[TxRow], fields: dict[str, int]) -> bool:
    """Carries out a command (fields of `TX_COMMAND`) on the rows; whether it changed its row.

    One that names a generation that is not there, a key slot of a TLS 1.2 context or no context of
    the device changes nothing, and its staged key is not taken.
    """
    op, context, generation = fields["op"], fields["context"], fields["generation"]
    if context >= len(rows):
        return False
    row, slot, number = rows[context], fields["epoch"] & 1, fields["number"]
    if op == TxCommand.TX_ADD:
        version, seq, nonce = fields["version"], fields["seq"], fields["nonce"]
        rows[context] = row.added(generation, version, seq, number, nonce)
        return True
    if op == TxCommand.TX_REKEY:
        return row.rekey(generation, slot, number)
    if op == TxCommand.TX_KEY_CLEAR:
        return row.key_clear(generation, slot)
    if op == TxCommand.TX_DELETE:
        return row.delete(generation)
    return op == TxCommand.TX_RELEASE and row.release()
