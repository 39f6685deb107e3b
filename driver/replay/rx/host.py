# SPDX-License-Identifier: Apache-2.0
"""The receiving host of one direction of one connection: TLS library, then kernel TLS.

Until the handshake of the direction is complete a TLS library reads the stream; then its keys go
to the kernel (`KtlsRx`) and to the device. What the kernel asks of the device becomes a *reaction*
that the owner carries out, at once or some segments later.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import (
    CONTENT_APPLICATION_DATA,
    header_bytes,
)
from sealane.hdl.abi.meta import ProvenBy, Reason

from ...crypto.keys import CryptoInfo
from ...device.descriptors import Handle, RxPacket
from ...ktls.rx.events import (
    GoOn,
    How,
    KeysNeeded,
    KtlsEvent,
    RecordAccepted,
    RecordRefused,
    Rekey,
    ResyncAnswer,
    ResyncHint,
)
from ...ktls.rx.offload import KtlsRx, StreamRange
from ...net import seq
from ...net.tcp import Piece, Stream
from ...tls.connection import InstallKeys
from ...tls.records import APPLICATION_DATA, Outcome, Record
from ..hosts import crypto_info
from ..oracle import DirectionTruth
from ..trace import RecordTrace, Trace

KtlsAction = ResyncAnswer | ResyncHint | GoOn | Rekey


# The proofs that every flow may see; others are reported where a flow's options allow for them.
USUAL_PROOFS = (ProvenBy.SOFTWARE, ProvenBy.WALK)


@dataclass
class RxCounts:
    """What the report says of one direction, by its names there.

    app_bytes_decrypted: application bytes that came in marked packets. app_bytes_full: those of
    records that the hardware did whole, which cost software no crypto.
    """

    app_records: int = 0
    app_bytes_decrypted: int = 0
    app_bytes_full: int = 0
    other_records: int = 0
    refused_records: int = 0
    closed_records: int = 0
    segments: int = 0
    segments_decrypted: int = 0
    parks: int = 0
    wrong_marks: int = 0
    by_how: Counter[How] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    resync: Counter[str] = field(default_factory=Counter)  # requested, confirmed, refused
    proven_by: Counter[ProvenBy] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes [start, end) of the stream, and whether the packet that brought them was marked."""

    start: int
    end: int
    marked: bool
    reason: int


class HostDirection:
    """One direction. Offsets count from the first byte of its stream.

    truth: the same direction decrypted in software, to compare records that skipped crypto with.
    deliver: gives a record that the kernel opened to the connection's TLS library: direction,
    inner type, plaintext, stream offset behind it.
    options: of the flow in the device; `Option.ONE_BIT` is of the host too.
    highest: TCP sequence number behind everything that came.
    ktls: the kernel's TLS once it has the keys; handle: the device's context while there is one.
    """

    def __init__(
        self,
        connection: int,
        direction: str,
        stream: Stream,
        truth: DirectionTruth,
        deliver: Callable[[str, int, bytes, int], None],
        trace: Trace,
        options: Option = Option.NONE,
    ) -> None:
        self.connection = connection
        self.direction = direction
        self.stream = stream
        self.options = options
        self.counts = RxCounts()
        self.ktls: KtlsRx | None = None
        self.handle: Handle | None = None
        self.highest: int | None = None
        self.app: list[bytes] = []
        self.actions: list[KtlsAction] = []
        self._base = 0  # stream offset at which the kernel began
        self._deliver = deliver
        self._trace = trace
        self._truth = {record.offset: record for record in truth.records}
        self._packets: dict[int, RxPacket] = {}
        self._early: list[Piece] = []  # in order, behind the last record that the library took
        self._pending: deque[_Part] = deque()  # in order, not in an accepted record yet
        self._next_keys: deque[CryptoInfo] = deque()

    # --- segments ---------------------------------------------------------------------------

    def segment(self, packet: RxPacket, index: int, length: int) -> None:
        """Counts a segment with payload and keeps it while its bytes may be waiting."""
        self.counts.segments += 1
        if packet.marked:
            self.counts.segments_decrypted += 1
        else:
            self.counts.reasons[Reason(packet.meta.reason)] += 1
        self._packets[index] = packet
        behind = seq.add(packet.meta.seq, length)
        if self.highest is None or seq.distance(behind, self.highest) > 0:
            self.highest = behind

    def to_library(self, pieces: Iterable[Piece]) -> None:
        """Remembers in-order bytes that the TLS library reads: the kernel may need them again."""
        self._early += pieces

    def forget(self) -> None:
        """The direction stays with the TLS library."""
        self._early.clear()
        self._packets.clear()

    def to_kernel(self, pieces: Iterable[Piece]) -> None:
        """In-order bytes behind the hand-over."""
        if self.ktls is None:
            return
        ranges = []
        for piece in pieces:
            packet = self._packets[piece.packet]
            ranges.append(StreamRange(self.stream.sequence(piece.offset), len(piece.data), packet))
            self._pending.append(_Part(piece.offset, piece.end, packet.marked, packet.meta.reason))
        self._take(self.ktls.feed(ranges))
        if not self.stream.waiting_bytes:
            # Every byte of these packets was taken; KtlsRx keeps those that it still needs.
            self._packets.clear()

    # --- keys -------------------------------------------------------------------------------

    def hand_over(self, keys: InstallKeys) -> None:
        """The kernel takes the direction on, with the bytes that are there already."""
        self._base = keys.offset
        self.ktls = KtlsRx(
            crypto_info(keys),
            self.stream.sequence(keys.offset),
            keys.number,
            one_bit=bool(self.options & Option.ONE_BIT),
        )
        early, self._early = self._early, []
        self.to_kernel(
            piece.cut(max(piece.offset, keys.offset), piece.end)
            for piece in early
            if piece.end > keys.offset
        )

    def new_keys(self, keys: InstallKeys) -> None:
        """Keys behind a KeyUpdate or a renegotiation."""
        self._next_keys.append(crypto_info(keys))
        self._install_next()

    def _install_next(self) -> None:
        if self.ktls is not None and self.ktls.waiting_for_keys and self._next_keys:
            self._take(self.ktls.install_next(self._next_keys.popleft()))

    # --- records ----------------------------------------------------------------------------

    def library_record(self, record: Record) -> None:
        """A record that the TLS library read."""
        application = record.inner_type == APPLICATION_DATA
        outcome = "other"
        if record.outcome is Outcome.OK:
            self._accept(application, How.NONE, record.plaintext)
            outcome = "none" if application else "other"
        elif record.outcome in (Outcome.BAD_TAG, Outcome.REFUSED):
            self.counts.refused_records += 1
        self._trace.records.append(
            RecordTrace(self.connection, self.direction, record.offset, record.wire_length, outcome)
        )

    def _accept(self, application: bool, how: How, plaintext: bytes) -> None:
        if not application:
            self.counts.other_records += 1
            return
        self.counts.app_records += 1
        self.counts.by_how[how] += 1
        self.app.append(plaintext)

    def take(self, events: Iterable[KtlsEvent]) -> None:
        """What the kernel gave out."""
        self._take(events)

    def _take(self, events: Iterable[KtlsEvent]) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                self._accepted(event)
            elif isinstance(event, RecordRefused):
                self.counts.refused_records += 1
            elif isinstance(event, KeysNeeded):
                self._install_next()
            elif isinstance(event, KtlsAction):
                self.actions.append(event)

    def _accepted(self, event: RecordAccepted) -> None:
        offset = self._base + event.offset
        application = event.content_type == CONTENT_APPLICATION_DATA
        self._accept(application, event.how, event.plaintext)
        end = offset + event.wire_length
        parts = self._parts_until(end)
        if application:
            self._count_bytes(event, offset, parts)
        if (
            application
            and event.how is not How.FULL
            and (any(part.reason == Reason.NOT_OPEN for part in parts))
        ):
            self.counts.closed_records += 1
        if event.how is How.FULL:
            truth = self._truth.get(offset)
            if (
                truth is None
                or truth.outcome is not Outcome.OK
                or (truth.inner_type, truth.plaintext) != (event.content_type, event.plaintext)
            ):
                self.counts.wrong_marks += 1
        self._trace.records.append(
            RecordTrace(
                self.connection,
                self.direction,
                offset,
                event.wire_length,
                event.how.value if application else "other",
            )
        )
        if not application:
            self._deliver(self.direction, event.content_type, event.plaintext, end)

    def _parts_until(self, end: int) -> list[_Part]:
        """Where the bytes in front of `end` came from; what begins there is kept."""
        parts = []
        while self._pending and self._pending[0].start < end:
            parts.append(self._pending[0])
            if self._pending[0].end > end:
                break
            self._pending.popleft()
        return parts

    def _count_bytes(self, event: RecordAccepted, offset: int, parts: Iterable[_Part]) -> None:
        """Which of the record's application bytes the hardware decrypted."""
        assert self.ktls is not None
        # TLS 1.3 puts the inner type and the padding behind them.
        start = offset + header_bytes(self.ktls.version)
        end = start + len(event.plaintext)
        self.counts.app_bytes_decrypted += sum(
            max(0, min(part.end, end) - max(part.start, start)) for part in parts if part.marked
        )
        if event.how is How.FULL:
            self.counts.app_bytes_full += len(event.plaintext)

    # --- summary ----------------------------------------------------------------------------

    @property
    def plaintext(self) -> bytes:
        """The application's bytes."""
        return b"".join(self.app)

    def report(self, key_updates: int, leftover: int) -> dict[str, object]:
        """The direction's `rx` member of the report."""
        counts, counters = self.counts, self.ktls.counters if self.ktls else None
        app = self.plaintext
        return {
            "app_bytes": len(app),
            "app_sha256": hashlib.sha256(app).hexdigest(),
            "app_records": counts.app_records,
            "other_records": counts.other_records,
            "refused_records": counts.refused_records,
            **{f"records_{how.value}": counts.by_how[how] for how in How},
            "closed_records": counts.closed_records,
            "segments": counts.segments,
            "segments_decrypted": counts.segments_decrypted,
            "reasons": {r.name.lower(): counts.reasons[r] for r in Reason if counts.reasons[r]},
            "resync": {
                **{what: counts.resync[what] for what in ("requested", "confirmed", "refused")},
                "proven_by": self.proven_by(),
            },
            "parks": counts.parks,
            "key_updates": key_updates,
            "marks_undone": counters.marks_undone if counters else 0,
            "verdict_mismatch": counters.verdict_mismatch if counters else 0,
            "wrong_marks": counts.wrong_marks,
            "leftover_bytes": self.ktls.leftover_bytes if self.ktls else leftover,
            "app_bytes_decrypted": counts.app_bytes_decrypted,
            "app_bytes_full": counts.app_bytes_full,
        }

    def proven_by(self) -> dict[str, int]:
        """How often a position was proven, by each proof that the flow may see."""
        proofs, more = self.counts.proven_by, bool(self.options & Option.TAG_PROOF)
        return {
            by.name.lower(): proofs[by]
            for by in ProvenBy
            if by and (by in USUAL_PROOFS or proofs[by] or more)
        }
