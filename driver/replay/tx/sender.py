# SPDX-License-Identifier: Apache-2.0
"""One direction of a capture as its sender saw it: what it had to send, and what came of that."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...device.descriptors import Handle
from ...device.rx import Flow
from ...ktls.tx.offload import KtlsTx
from ...ktls.tx.plan import Way
from ...net.parser import SYN, Parsed
from ...net.tcp import Stream
from ...tls.records import APPLICATION_DATA
from .plain import PlainDirection, PlainRecord

# Why a segment behind the keys' installation left as it is in the capture.
BEFORE_MARKER = "before_marker"  # software sent it: a handshake comes again
UNKNOWN_PLAINTEXT = "unknown_plaintext"  # bytes of no whole and good record
FOREIGN_BYTES = "foreign_bytes"  # not those of the stream that the receiver read
BAD_CHECKSUM = "bad_checksum"  # damaged, so nothing of it is sure
OVERSIZE = "oversize"  # longer than the frames that the device takes: dropped

RANDOM_NONCES = "explicit nonces do not count up"


@dataclass
class TxCounts:
    """What became of a direction's segments with payload behind the installation of its keys.

    segments = wire + sum of by_way + dropped. identical: those that left as the capture has them.
    clear_bytes: text that left as it is where the capture has ciphertext. wire: left with the
    capture's own bytes, and why. reasons: of drops, by `TxReason` or by the driver's counter.
    retransmitted, _bytes: of these segments, those with nothing new in them.
    """

    segments: int = 0
    identical: int = 0
    clear_bytes: int = 0
    dropped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    tag_mismatch: int = 0
    by_way: Counter[Way] = field(default_factory=Counter)
    wire: int = 0
    wire_reasons: Counter[str] = field(default_factory=Counter)
    retransmitted: int = 0
    retransmitted_bytes: int = 0

    def report(self) -> dict[str, Any]:
        """The members of the report's `tx`."""
        return {
            "segments": self.segments,
            "identical": self.identical,
            "clear_bytes": self.clear_bytes,
            "dropped": self.dropped,
            "reasons": dict(sorted(self.reasons.items())),
            "tag_mismatch": self.tag_mismatch,
            "by_way": {way.value: self.by_way[way] for way in Way},
            "wire": self.wire,
            "wire_reasons": dict(sorted(self.wire_reasons.items())),
            "retransmitted": self.retransmitted,
            "retransmitted_bytes": self.retransmitted_bytes,
        }


@dataclass
class Outgoing:
    """A segment of the capture that is to leave.

    packet, time: number in the capture and seconds since its first packet. connection: index in
    the report. frame, head: as the capture has it. offset: of the first payload byte in the
    direction's stream. retransmitted, reread, cpu: see `tx_replay.TxTrace`.
    """

    packet: int
    time: float
    connection: int
    frame: bytes
    head: Parsed
    offset: int
    retransmitted: bool = False
    reread: int = 0
    cpu: int = 0

    @property
    def end(self) -> int:
        """Stream offset behind the payload."""
        return self.offset + self.head.payload_length

    @property
    def payload(self) -> bytes:
        """As the capture has it."""
        at = self.head.payload_offset
        return self.frame[at : at + self.head.payload_length]

    def with_payload(self, payload: bytes) -> bytes:
        """The host's frame: other payload of the same length."""
        return self.frame[: self.head.payload_offset] + payload


class Sender:
    """One direction: its records, its kernel's TLS and how far it has come.

    plain: `None` where no card may have its keys. kernel: from the installation of the keys on;
    handle: the device's context while there is one. heard: time of the last segment. highest:
    stream offset behind the highest segment sent. refusal: why the device was not given the keys.
    """

    def __init__(self, way: str, flow: Flow, stream: Stream, plain: PlainDirection | None) -> None:
        self.direction = way
        self.flow = flow
        self.stream = stream
        self.plain = plain
        self.kernel: KtlsTx | None = None
        self.handle: Handle | None = None
        self.refusal: str | None = None
        self.counts = TxCounts()
        self.heard = 0.0
        self.highest = 0
        self._pushed = 0  # records
        self._acks: deque[tuple[float, int]] = deque()  # when they take effect, stream offset
        self._heard_of = 0  # stream offset of the highest that has
        self._acked = 0  # ... up to which the kernel was told

    @property
    def marker_seq(self) -> int:
        """TCP sequence number of the start marker."""
        assert self.plain is not None
        return self.stream.sequence(self.plain.start)

    def why_final(self, out: Outgoing) -> str | None:
        """Why a segment leaves as the capture has it; `None` if it is to be encrypted."""
        plain = self.plain
        assert plain is not None
        if out.offset < plain.start:
            return BEFORE_MARKER
        if out.end > plain.end:
            return UNKNOWN_PLAINTEXT
        # No TCP that has records to send sends a SYN, and no card encrypts one.
        if out.head.tcp_flags & SYN or plain.wire_bytes(out.offset, out.end) != out.payload:
            return FOREIGN_BYTES
        return None

    def host_frame(self, out: Outgoing) -> bytes:
        """A segment that is to be encrypted, as TCP hands it to the driver."""
        assert self.plain is not None
        return out.with_payload(self.plain.host_bytes(out.offset, out.end))

    def push(self, end: int, rekey: Callable[[PlainRecord], None]) -> None:
        """Gives the kernel every record that begins before stream offset `end`.

        rekey: called with the first record of a new epoch, in front of it.
        """
        plain, kernel = self.plain, self.kernel
        assert plain is not None and kernel is not None
        while self._pushed < len(plain.records) and plain.records[self._pushed].start < end:
            record = plain.records[self._pushed]
            if self._pushed and record.epoch != plain.records[self._pushed - 1].epoch:
                rekey(record)
            made = kernel.push(
                record.content_type,
                record.content,
                padding=record.padding,
                nonce=record.nonce or None,
            )
            assert made == record.host, "the kernel's record is not the capture's"
            self._pushed += 1

    def compare(self, out: Outgoing, left: bytes) -> bool:
        """Looks at a frame that left for `out`; returns whether it is the capture's, to the end of
        its IP packet."""
        end = out.head.payload_offset + out.head.payload_length
        same = left[:end] == out.frame[:end]
        self.counts.identical += same
        if not same:
            self.counts.clear_bytes += self._clear_bytes(out, left[out.head.payload_offset : end])
        return same

    def _clear_bytes(self, out: Outgoing, payload: bytes) -> int:
        """Bytes of text in what left that are plaintext, and not so in the capture by chance."""
        plain, wire = self.plain, out.payload
        assert plain is not None
        low, high = max(out.offset, plain.start), min(out.end, plain.end)
        if low >= high:
            return 0
        host = plain.host_bytes(low, high)
        places = (
            at
            for start, end in plain.text_spans(low, high)
            for at in range(start, end)
            if at - out.offset < len(payload)
        )
        return sum(
            payload[at - out.offset] == host[at - low] != wire[at - out.offset] for at in places
        )

    # --- acknowledgements -------------------------------------------------------------------

    def acknowledge(self, ack: int, due: float) -> None:
        """The receiver's acknowledgement number, seen now, that reaches the sender at `due`."""
        self._acks.append((due, self.stream.offset(ack)))

    def acknowledged(self, now: float, needed: int | None = None) -> int | None:
        """The TCP sequence number up to which everything is acknowledged at `now`, if it moved.

        needed: stream offset of the first byte that the sender will send again; what is behind it
        counts as acknowledged only later.
        """
        while self._acks and self._acks[0][0] <= now:
            # The capture may lack segments, and a FIN counts as a byte.
            self._heard_of = max(self._heard_of, min(self._acks.popleft()[1], self.highest))
        offset = self._heard_of if needed is None else min(self._heard_of, needed)
        if self.plain is None or offset <= max(self._acked, self.plain.start):
            return None
        self._acked = offset
        return self.stream.sequence(offset)

    @property
    def application_bytes(self) -> bytes:
        """The application data of the records that the kernel was given."""
        if self.plain is None:
            return b""
        records = self.plain.records[: self._pushed]
        return b"".join(r.content for r in records if r.content_type == APPLICATION_DATA)

    def report(self) -> dict[str, Any]:
        """The direction's `tx`."""
        counters = self.kernel.counters.as_dict() if self.kernel is not None else {}
        kinds = ("frame_bytes", "reread_bytes", "tag_in_bytes", "tag_out_bytes", "cpu_bytes")
        return {
            **self.counts.report(),
            "bus_bytes": {kind: counters.get(kind, {}) for kind in kinds},
        }
