# SPDX-License-Identifier: Apache-2.0
"""How many records a device does whole on a bad path: one measurement of `sealane sweep`.

A sender's stream of equal application records is cut into full segments; some are lost and come
again, some are late. The card is the real thing behind a transport, the host is TCP reassembly and
`KtlsRx`, and a record counts as `KtlsRx` accepted it. The in-order device gets the same arrivals.

The path: a segment is lost with the probability `loss`, each by itself; its retransmission comes
`window` segments later and is not lost again, so that the loss alone decides how long a hole is. A
segment that is not lost is late with the probability `reorder`, by 1 to `displace` places, each as
likely. Keys are constants and protect nothing.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import (
    HEADER_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    VERSION_TLS12,
    VERSION_TLS13,
)
from sealane.hdl.abi.meta import Reason

from ..crypto.gcm import record_aad
from ..crypto.keys import CryptoInfo
from ..device.descriptors import RxPacket
from ..device.rx import Device, Flow
from ..ktls.rx.events import (
    GoOn,
    How,
    KtlsEvent,
    RecordAccepted,
    RecordRefused,
    ResyncAnswer,
    ResyncHint,
)
from ..ktls.rx.offload import KtlsRx, StreamRange
from ..net.checksum import ones_complement_sum
from ..net.parser import ACK
from ..net.seq import add
from ..net.tcp import Stream
from .in_order import InOrderDevice

T = TypeVar("T")

APPLICATION_DATA = 23
RECORDS_A_CONNECTION = 1000
FRAME_HEADER_BYTES = 66  # Ethernet, IPv4, TCP with timestamps


class SweepError(ValueError):
    """The device or the host did what no path may make them do."""


@dataclass(frozen=True)
class Path:
    """What happens to a stream on its way, and how it is cut. Raises `ValueError`.

    loss, reorder: percent of segments. window, displace, answer_delay: segments. record_bytes: of
    application data. answer_delay: between the host's answer and its effect in the device.
    """

    loss: float = 0
    reorder: float = 0
    version: int = VERSION_TLS13
    record_bytes: int = 16384
    mss: int = 1448
    window: int = 64
    displace: int = 8
    answer_delay: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        def need(ok: bool, what: str) -> None:
            if not ok:
                raise ValueError(what)

        need(0 <= self.loss <= 100, "loss: 0 to 100 percent")
        need(0 <= self.reorder <= 100, "reorder: 0 to 100 percent")
        need(1 <= self.record_bytes <= 16384, "record-bytes: 1 to 16384")
        need(1 <= self.mss <= 8948, "mss: 1 to 8948 bytes")
        need(1 <= self.window <= 4096, "window: 1 to 4096 segments")
        need(1 <= self.displace <= 4096, "displace: 1 to 4096 segments")
        need(0 <= self.answer_delay <= 4096, "answer-delay: 0 to 4096 segments")

    @property
    def wire_bytes(self) -> int:
        """Of a record, header included."""
        extra = NONCE_BYTES if self.version == VERSION_TLS12 else 1  # TLS 1.3: the inner type
        return HEADER_BYTES + extra + self.record_bytes + TAG_BYTES

    def randomness(self, connection: int) -> random.Random:
        """Decides the arrivals of a connection: the same whatever the device."""
        return random.Random(f"path {self.seed} {self.loss:g} {self.reorder:g} {connection}")

    def segments(self, records: int) -> Iterator[tuple[int, int]]:
        """Bounds of the segments of so many records in the stream, in order."""
        end = records * self.wire_bytes
        return ((at, min(end, at + self.mss)) for at in range(0, end, self.mss))

    def arrivals(self, segments: Iterable[T], chance: random.Random) -> Iterator[T]:
        """The segments in the order of arrival, which is known `window` segments ahead."""
        loss, reorder = self.loss / 100, self.reorder / 100
        late: list[tuple[float, int, T]] = []
        for i, segment in enumerate(segments):
            while late and late[0][0] < i:
                yield heapq.heappop(late)[2]
            if chance.random() < loss:
                heapq.heappush(late, (i + self.window + 0.25, i, segment))
            elif chance.random() < reorder:
                heapq.heappush(late, (i + chance.randint(1, self.displace) + 0.5, i, segment))
            else:
                yield segment
        while late:
            yield heapq.heappop(late)[2]


@dataclass
class Counts:
    """Records by what the device did of them, packets by why they were not decrypted."""

    records: int = 0
    whole: int = 0
    partial: int = 0
    none: int = 0
    wrong_marks: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.records + other.records,
            self.whole + other.whole,
            self.partial + other.partial,
            self.none + other.none,
            self.wrong_marks + other.wrong_marks,
            self.reasons + other.reasons,
        )


class Sender:
    """Seals the records of one connection when their bytes are needed.

    sealed: plaintexts of the records that the host has not accepted yet, oldest first.
    """

    def __init__(self, path: Path, connection: int, records: int) -> None:
        self._path, self._records = path, records
        self._chance = random.Random(f"content {path.seed} {connection}")
        key = self._chance.randbytes(16)
        iv = self._chance.randbytes(12 if path.version == VERSION_TLS13 else 4)
        self.info = CryptoInfo(path.version, key, iv)
        # Half of the connections wrap their sequence numbers early.
        self.isn = self._chance.getrandbits(32) if connection % 2 else 0xFFFF0000
        self.flow = Flow(
            IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), 10000 + connection % 50000, 443
        )
        self.sealed: deque[bytes] = deque()
        self._aead = AESGCM(key)
        addresses = self.flow.src.packed + self.flow.dst.packed
        self._ports = self.flow.sport.to_bytes(2, "big") + self.flow.dport.to_bytes(2, "big")
        self._addresses = addresses

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """(Sequence number, payload), in order."""
        wire, base, number = bytearray(), 0, 0
        for start, end in self._path.segments(self._records):
            while base + len(wire) < end:
                wire += self._seal(number)
                number += 1
            yield add(self.isn, start), bytes(wire[: end - start])
            del wire[: end - start]
            base = end

    def frame(self, seq: int, payload: bytes) -> bytes:
        """An Ethernet frame with IPv4 (RFC 791) and TCP with timestamps (RFC 9293, RFC 7323)."""
        length = FRAME_HEADER_BYTES - 34 + len(payload)
        head = self._ports + seq.to_bytes(4, "big") + b"\0\0\0\0\x80\x10\xff\xff"
        options = b"\x01\x01\x08\x0a" + bytes(8)
        pseudo = self._addresses + b"\0\6" + length.to_bytes(2, "big")
        # The pseudo-header and the header have an even length.
        check = ones_complement_sum(pseudo + head + b"\0\0\0\0" + options + payload) ^ 0xFFFF
        ip = b"\x45\0" + (20 + length).to_bytes(2, "big") + b"\0\0\0\0\x40\6"
        ip_check = ones_complement_sum(ip + self._addresses) ^ 0xFFFF
        return b"".join(
            (
                bytes(12),
                b"\x08\0",
                ip,
                ip_check.to_bytes(2, "big"),
                self._addresses,
                head,
                check.to_bytes(2, "big"),
                b"\0\0",
                options,
                payload,
            )
        )

    def _seal(self, number: int) -> bytes:
        text = self._chance.randbytes(self._path.record_bytes)
        self.sealed.append(text)
        explicit = b""
        if self._path.version == VERSION_TLS13:
            text += bytes([APPLICATION_DATA])
        else:
            explicit = number.to_bytes(8, "big")
        length = len(explicit) + len(text) + TAG_BYTES
        aad = record_aad(self._path.version, number, APPLICATION_DATA, length)
        body = self._aead.encrypt(self.info.nonce(number, explicit), text, aad)
        return b"\x17\x03\x03" + length.to_bytes(2, "big") + explicit + body


class Connection:
    """One connection through a card and into a host; `run` gives what became of its records.

    options: of the flow in the device; with `Option.ONE_BIT` the host looks at marks alone.
    """

    def __init__(
        self,
        device: Device,
        path: Path,
        connection: int,
        records: int,
        options: Option = Option.NONE,
    ) -> None:
        self._device, self._path, self._connection = device, path, connection
        self._sender = Sender(path, connection, records)
        self._records = records
        self._options = options
        self._ktls = KtlsRx(
            self._sender.info, self._sender.isn, one_bit=bool(options & Option.ONE_BIT)
        )
        self._tcp = Stream()
        self._tcp.base = self._sender.isn
        self._due: deque[tuple[int, KtlsEvent]] = deque()
        self._clock = 0
        self.counts = Counts()

    def run(self) -> Counts:
        """The whole of it. Raises `SweepError` unless all records are accepted."""
        sender, path = self._sender, self._path
        handle = self._device.tls_dev_add(
            sender.flow, sender.info, sender.isn, options=self._options
        )
        self._ktls.installed(handle)
        packets: dict[int, RxPacket] = {}
        chance = path.randomness(self._connection)
        for seq, payload in path.arrivals(sender.segments(), chance):
            packet = self._card(sender.frame(seq, payload))
            packets[self._clock] = packet
            pieces = self._tcp.accept(seq, packet.payload, ACK, self._clock)
            # No two segments overlap: a packet's bytes are taken all at once.
            self._take(
                self._ktls.feed(
                    [
                        StreamRange(
                            self._tcp.sequence(p.offset), len(p.data), packets.pop(p.packet)
                        )
                        for p in pieces
                    ]
                )
            )
            self._react()
            self._clock += 1
        self._device.tls_dev_del(handle)
        if self.counts.records != self._records:
            raise SweepError(f"{self._records} records sent, {self.counts.records} accepted")
        return self.counts

    def _card(self, frame: bytes) -> RxPacket:
        (packet,) = self._device.receive((frame,))
        reason = "decrypted" if packet.marked else Reason(packet.meta.reason).name.lower()
        self.counts.reasons[reason] += 1
        if not packet.marked and packet.frame != frame:
            raise SweepError("a packet came back changed and not marked")
        for event in self._device.events():
            self._take(self._ktls.device_event(event))
        return packet

    def _take(self, events: Iterable[KtlsEvent]) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                self._accepted(event)
            elif isinstance(event, RecordRefused):
                raise SweepError(f"record {event.number} was refused: {event.reason}")
            else:
                self._due.append((self._clock + self._path.answer_delay, event))

    def _accepted(self, event: RecordAccepted) -> None:
        counts = self.counts
        sealed = self._sender.sealed.popleft()
        counts.records += 1
        counts.whole += event.how is How.FULL
        counts.partial += event.how is How.PARTIAL
        counts.none += event.how is How.NONE
        if (event.content_type, event.plaintext) != (APPLICATION_DATA, sealed):
            if event.how is not How.FULL:
                raise SweepError(f"software opened record {event.number} wrongly")
            counts.wrong_marks += 1

    def _react(self) -> None:
        handle = self._ktls.handle
        assert handle is not None
        while self._due and self._due[0][0] <= self._clock:
            _, event = self._due.popleft()
            if isinstance(event, ResyncAnswer):
                self._device.tls_dev_resync(handle, event.seq, event.number)
            elif isinstance(event, ResyncHint):
                self._device.resync_hint(handle, event.seq, event.number)
            elif isinstance(event, GoOn):
                self._device.go_on(handle, event.park)


def in_order(path: Path, connection: int, records: int) -> Counts:
    """The same connection through the in-order device."""
    device = InOrderDevice(path.wire_bytes, path.version)
    touched, decrypted = [0] * records, [0] * records
    received: list[int] = []  # starts of segments behind a hole
    in_order_to, asked, due = 0, -1, 0
    counts = Counts()
    arrivals = path.arrivals(path.segments(records), path.randomness(connection))
    for clock, (start, end) in enumerate(arrivals):
        good = device.segment(start, end)
        counts.reasons["decrypted" if good else "untouched"] += 1
        for record in range(start // path.wire_bytes, -(-end // path.wire_bytes)):
            touched[record] += 1
            decrypted[record] += good
        heapq.heappush(received, start)
        while received and received[0] == in_order_to:
            in_order_to = min(heapq.heappop(received) + path.mss, records * path.wire_bytes)
        guess = device.candidate
        if guess is not None and in_order_to >= guess + HEADER_BYTES:
            if guess != asked:
                asked, due = guess, clock + path.answer_delay
            if clock >= due:
                device.confirm(guess)
    for all_, done in zip(touched, decrypted, strict=True):
        counts.records += 1
        counts.whole += done == all_
        counts.partial += 0 < done < all_
        counts.none += not done
    return counts
