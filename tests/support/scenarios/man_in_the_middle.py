# SPDX-License-Identifier: Apache-2.0
"""A man in the middle against card, TCP and host together: no forged byte is ever delivered.

Each packet may be seen by card and TCP, by the card alone or by TCP alone. The attacker knows all
plaintext and forges text with the keystream that follows from it. It replays sealed records at
other places, cuts anew, reorders and repeats. What the application receives must be a prefix of
what the peer sent.
"""

from __future__ import annotations

import random

from sealane.driver.device.descriptors import RxMeta, RxPacket
from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.events import RecordAccepted
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.driver.net.tcp import Stream as TcpStream
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.flow_frames import FLOW, frame
from tests.support.ktls_actions import apply_action
from tests.support.marking_device import TICKET, Stream
from tests.support.sealed_streams import KEY_UPDATE

ACK = 0x10


def peer_stream(rng: random.Random) -> Stream:
    """A short stream. The peer itself embeds its own sealed records in the content."""
    stream = Stream(rng.choice((VERSION_TLS12, VERSION_TLS13)), seq=rng.choice((7, 0xFFFFFE00)))
    for _ in range(rng.randint(3, 8)):
        content = rng.randbytes(rng.choice((0, 3, 40, 200)))
        if stream.records and rng.random() < 0.3:
            content += rng.choice(stream.records).wire
        stream.add(content)
        if stream.version == VERSION_TLS13 and rng.random() < 0.25:
            update = rng.random() < 0.6
            stream.add(KEY_UPDATE if update else TICKET, content_type=22)
            if update:
                stream.next_epoch()
    return stream


def forge(rng: random.Random, stream: Stream, low: int, payload: bytes) -> bytes:
    """The segment with other content."""
    out = bytearray(payload)
    kind = rng.randrange(4)
    if kind == 0:  # known plaintext: any change of the ciphertext is a chosen change of the text
        for _ in range(rng.randint(1, 3)):
            out[rng.randrange(len(out))] ^= rng.randint(1, 255)
    elif kind == 1:  # sealed records of the same stream at another place
        wire = rng.choice(stream.records).wire
        at = rng.randrange(len(out))
        out[at : at + len(wire)] = wire[: len(out) - at]
    elif kind == 2:  # a header where there is none
        header = bytes((23, 3, 3)) + rng.randint(17, 300).to_bytes(2, "big")
        at = rng.randrange(len(out))
        out[at : at + 5] = header[: len(out) - at]
    else:  # another part of the stream
        at = rng.randrange(len(stream.wire))
        part = stream.wire[at : at + len(out)]
        out[: len(part)] = part
    return bytes(out)


def plan(rng: random.Random, stream: Stream) -> list[tuple[int, bytes, bool, bool]]:
    """Packets as (offset, payload, seen by the card, seen by TCP)."""
    packets, low = [], 0
    while low < len(stream.wire):
        high = min(len(stream.wire), low + rng.randint(1, 250))
        packets.append((low, high))
        low = high
    extra = [
        (low, min(len(stream.wire), low + rng.randint(1, 250)))
        for low in (rng.randrange(len(stream.wire)) for _ in range(rng.randint(0, 6)))
    ]
    out = []
    for i, (low, high) in enumerate(packets + extra):
        payload = stream.wire[low:high]
        genuine = i < len(packets)
        if rng.random() < (0.1 if genuine else 0.6):
            forged = forge(rng, stream, low, payload)
            out.append((low, forged, *rng.choice(((True, True), (True, False), (False, True)))))
        see = rng.random()
        out.append((low, payload, see < 0.95, not 0.85 < see < 0.95))
    jitter = rng.choice((0, 2, 6))
    return [p for _, p in sorted((i + rng.random() * jitter, p) for i, p in enumerate(out))]


class Victim:
    """A device, TCP and `KtlsRx`."""

    def __init__(self, stream: Stream, device: Device) -> None:
        self.stream, self.device = stream, device
        self.rx = KtlsRx(
            stream.keys(0),
            stream.seq,
            handle=self.device.tls_dev_add(FLOW, stream.keys(0), stream.seq),
            next_keys=lambda: stream.keys(self.rx.epoch + 1),
        )
        self.tcp = TcpStream()
        self.tcp.base = stream.seq
        self.packets: list[RxPacket] = []
        self.records: list[RecordAccepted] = []

    def packet(self, low: int, payload: bytes, card: bool, host: bool) -> None:
        seq = (self.stream.seq + low) % 2**32
        raw = frame(seq, payload)
        if card:
            (packet,) = self.device.receive([raw])
            for event in self.device.events():
                self.take(self.rx.device_event(event))
        else:
            meta = RxMeta(seq=seq, payload_offset=54, payload_length=len(payload))
            packet = RxPacket(raw, meta)
        if not host:
            return
        self.packets.append(packet)
        index = len(self.packets) - 1
        for piece in self.tcp.accept(seq, packet.payload, ACK, index):
            start = self.tcp.sequence(piece.offset)
            source = self.packets[piece.packet]
            self.take(self.rx.feed([StreamRange(start, len(piece.data), source)]))

    def take(self, events) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                self.records.append(event)
                continue
            end = (self.stream.seq + len(self.stream.wire)) % 2**32
            apply_action(self.device, self.rx, event, end)


def attack(seed: int, device: Device) -> Victim:
    """Runs one trial and asserts that nothing forged is delivered."""
    rng = random.Random(seed)
    stream = peer_stream(rng)
    victim = Victim(stream, device)
    for packet in plan(rng, stream):
        victim.packet(*packet)
    for got, sent in zip(victim.records, stream.records, strict=False):
        assert (got.content_type, got.plaintext) == (sent.content_type, sent.content), seed
    assert len(victim.records) <= len(stream.records)
    return victim
