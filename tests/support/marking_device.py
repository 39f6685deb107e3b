# SPDX-License-Identifier: Apache-2.0
"""Hand-made TLS streams and a card that marks any packet on demand, rightly or wrongly.

The card decrypts under whatever framing it is told to believe in, which need not be the stream's.
`Belief` holds number, epoch, generation and start. Keys here protect nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.descriptors import Handle, RxMeta, RxPacket
from sealane.driver.ktls.rx.offload import StreamRange
from sealane.hdl.abi.config import VERSION_TLS13, header_bytes
from sealane.hdl.abi.meta import Reason
from tests.support import tls_records

HANDLE = Handle(3, 7)
TICKET = b"\x04\0\0\x08ticketed"


def info(version: int, epoch: int = 0, bits: int = 128) -> CryptoInfo:
    """Fixed keys of an epoch, for tests only."""
    iv = bytes(range(0x40 + epoch, 0x4C + epoch))
    key = bytes(range(epoch, epoch + bits // 8))
    return CryptoInfo(version, key, iv if version == VERSION_TLS13 else iv[:4])


@dataclass(frozen=True)
class Record:
    """One record of a stream: its place (offset in the stream) and its content."""

    offset: int
    number: int
    epoch: int
    content_type: int
    content: bytes
    wire: bytes
    explicit: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.wire)


def seal(
    keys: CryptoInfo,
    number: int,
    content_type: int,
    content: bytes,
    padding: int = 0,
    explicit: bytes | None = None,
) -> tuple[bytes, bytes]:
    """Wire bytes and explicit nonce of a record."""
    if keys.version == VERSION_TLS13:
        text, outer, explicit = content + bytes([content_type]) + bytes(padding), 23, b""
    else:
        text, outer = content, content_type
        explicit = explicit or (0xABCD000000000000 + number).to_bytes(8, "big")
    wire = tls_records.seal(keys.version, keys.key, keys.iv, number, outer, text, explicit)
    return wire, explicit


def crypt_text(keys: CryptoInfo, number: int, explicit: bytes, offset: int, text: bytes) -> bytes:
    """`text`, which lies `offset` bytes into a record's text, encrypted or decrypted."""
    nonce = tls_records.nonce(keys.version, keys.iv, number, explicit)
    return tls_records.crypt(keys.key, nonce, offset, text)


@dataclass
class Stream:
    """Consecutive records from sequence number `seq` on."""

    version: int
    seq: int = 0xFFFFF000
    wire: bytes = b""
    records: list[Record] = field(default_factory=list)
    epoch: int = 0
    number: int = 0
    bits: int = 128

    def keys(self, epoch: int) -> CryptoInfo:
        return info(self.version, epoch, self.bits)

    def add(self, content: bytes, content_type: int = 23, padding: int = 0) -> Record:
        """Seals the next record and appends it."""
        wire, explicit = seal(self.keys(self.epoch), self.number, content_type, content, padding)
        record = Record(
            len(self.wire), self.number, self.epoch, content_type, content, wire, explicit
        )
        self.records.append(record)
        self.wire += wire
        self.number += 1
        return record

    def next_epoch(self) -> None:
        """Makes the next keys hold after the last record."""
        self.epoch, self.number = self.epoch + 1, 0

    @property
    def app_data(self) -> bytes:
        return b"".join(r.content for r in self.records if r.content_type == 23)


def stream_of(version: int, *sizes: int, **kwargs) -> Stream:
    stream = Stream(version, **kwargs)
    for i, size in enumerate(sizes):
        stream.add(bytes((i + j) & 0xFF for j in range(size)))
    return stream


@dataclass(frozen=True)
class Belief:
    """The card's beliefs: differences from the truth, and whether it gives a verdict."""

    number: int = 0
    epoch: int = 0
    generation: int = 0
    start: int = 0  # the card takes every header to be this many bytes later
    verdict: bool = True
    context: int = 0


TRUTH = Belief()


def packet(
    stream: Stream, low: int, high: int, belief: Belief | None, completes: Callable[[Record], bool]
) -> RxPacket:
    """The packet with stream bytes [low, high), untouched (belief None) or marked.

    completes: whether a record becomes complete with this packet. A header cut by the packet's end
    is reported as length 0, as the contract has it. With a belief that moves headers, only packets
    inside one record can be made, because the card has no headers to read there.
    """
    payload, at = bytearray(stream.wire[low:high]), (stream.seq + low) % 2**32
    frame, prefix = bytes(54), header_bytes(stream.version)
    epoch = stream_epoch(stream, low)
    base = dict(
        context=HANDLE.context,
        context_valid=1,
        generation=HANDLE.generation + epoch,
        epoch=epoch,
        l4_verified=1,
        payload_offset=len(frame),
        payload_length=len(payload),
        seq=at,
    )
    if belief is None:
        return RxPacket(frame + bytes(payload), RxMeta(**base, reason=Reason.SEARCHING))
    base["epoch"] += belief.epoch
    base["generation"] = base["generation"] + belief.generation & 0xFF
    base["context"] += belief.context
    keys = stream.keys(base["epoch"])
    inside = [r for r in stream.records if r.offset < high and r.end > low]
    known = {}
    for record in inside:
        start = record.offset + belief.start
        length = len(record.wire) - 5
        known[record.offset] = length if start + 5 <= high else 0
        first = max(low, start + prefix)
        last = min(high, start + len(record.wire) - 16)
        if last > first:
            payload[first - low : last - low] = crypt_text(
                keys,
                record.number + belief.number,
                record.explicit,
                first - start - prefix,
                bytes(payload[first - low : last - low]),
            )
    first_record, last_record = inside[0], inside[-1]
    meta = RxMeta(
        **base,
        decrypted=1,
        records=len(inside),
        first_completes=int(belief.verdict and completes(first_record)),
        last_completes=int(belief.verdict and completes(last_record)),
        first_number=first_record.number + belief.number,
        first_offset=low - first_record.offset - belief.start,
        first_length=known[first_record.offset],
        first_nonce=int.from_bytes(first_record.explicit, "little"),
        last_number=last_record.number + belief.number,
        last_start=(stream.seq + last_record.offset + belief.start) % 2**32,
        last_length=known[last_record.offset],
    )
    return RxPacket(frame + bytes(payload), meta)


def stream_epoch(stream: Stream, offset: int) -> int:
    """Key epoch of the record with the byte at `offset`."""
    return next((r.epoch for r in stream.records if r.end > offset), stream.epoch)


def ranges(
    stream: Stream, cuts: Sequence[int], beliefs: Sequence[Belief | None]
) -> list[StreamRange]:
    """The stream cut at offsets `cuts`. Packet i is marked under `beliefs[i]`.

    Arrival is in order: a record completes with the packet that brings its last byte. The card
    never marks a packet across a key change. It gives no verdict for a record unless it was shown
    all of it under one belief's tuple.
    """
    bounds = [0, *cuts, len(stream.wire)]
    out = []
    for i, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        if low == high:
            continue
        inside = [r for r in stream.records if r.offset < high and r.end > low]
        belief = beliefs[i] if len({r.epoch for r in inside}) == 1 else None
        if belief and inside[0].epoch + belief.epoch < 0:
            belief = TRUTH
        if belief and belief.start:
            # The card reads false headers only where they lie in earlier packets.
            moved = inside[0].offset + belief.start
            header = moved + header_bytes(stream.version)
            if len(inside) > 1 or low < header or high > moved + len(inside[0].wire):
                belief = None

        def completes(record: Record, high: int = high, low: int = low) -> bool:
            return low < record.end <= high

        made = packet(stream, low, high, belief, completes)
        out.append(StreamRange((stream.seq + low) % 2**32, high - low, made))
    return out
