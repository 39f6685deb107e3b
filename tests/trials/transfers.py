# SPDX-License-Identifier: Apache-2.0
"""Random transfers through a device, its driver and kTLS, with the sender's records as judge.

The same scenario runs on any transport. A transfer is one TLS stream of random records, cut into
random segments that are lost, reordered, duplicated and cut anew. Only the card sees the attacker's
packets, if there are any. The keys are random and protect nothing.
"""

import random
from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from ipaddress import ip_address

from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.rx import Device, Flow
from sealane.driver.ktls.rx.events import How, RecordAccepted, RecordRefused
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.driver.net.tcp import Stream
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from sealane.hdl.abi.meta import Reason
from tests.support.ktls_actions import apply_action
from tests.support.sealed_streams import KEY_UPDATE, TICKET, Sealer, Sealer12
from tests.support.tcp_frames import ACK, Peer, Segment, Wire


@dataclass
class Sealed:
    """A record as the sender made it: place in the stream and inner content."""

    start: int
    end: int
    content_type: int
    content: bytes


@dataclass
class Plan:
    """Events that may occur in a transfer. Probabilities are per segment."""

    records: int = 30
    largest: int = 4000
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    recut: float = 0.5  # a retransmission has other boundaries than the original
    tickets: float = 0.0  # per record
    key_updates: float = 0.0  # per record
    padding: float = 0.0  # per record
    forged: float = 0.0  # before the segment the card alone sees it with a byte changed
    answer_delay: int = 0  # segments until the driver's reaction reaches the card
    embed: float = 0.0  # per record: its sealed text reads as a chain of records


@dataclass
class Result:
    """The result of a transfer."""

    by_how: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    wrong: int = 0
    refused: int = 0
    delivered: int = 0
    sent: int = 0
    marks_undone: int = 0
    false_candidates: int = 0  # refused by software


class Transfer:
    """One direction of one connection. `steps` yields once per segment that the card sees."""

    def __init__(self, device: Device, seed: int, plan: Plan) -> None:
        self.random = random.Random(seed)
        self.device, self.plan = device, plan
        self.version = self.random.choice([VERSION_TLS12, VERSION_TLS13])
        self.isn = self.random.choice([0, 0xFFFFF000, self.random.getrandbits(32)])
        self.records: list[Sealed] = []
        self.result = Result()
        self._seal_stream()
        client, server = f"10.0.{seed >> 8 & 255}.{seed & 255}", "10.255.0.1"
        if seed % 3 == 0:
            client, server = f"fd00::{seed & 0xFFFF:x}", "fd00::1:1"
        self.wire = Wire(
            Peer(client, 1024 + seed % 60000, (self.isn - 1) % 2**32),
            Peer(server, 443),
            vlans=(7,) * (seed % 4 == 1),
            timestamps=bool(seed % 2),
        )
        self.flow = Flow(ip_address(client), ip_address(server), 1024 + seed % 60000, 443)
        self.ktls = KtlsRx(self.infos[0], self.isn, next_keys=self._next_keys)
        handle = device.tls_dev_add(self.flow, self.infos[0], self.isn)
        self.ktls.installed(handle)
        self.tcp = Stream()
        self.tcp.base = self.isn
        self.packets = {}
        self.accepted = 0
        self.reactions: list[tuple[int, object]] = []
        self.clock = 0
        self.highest = 0  # stream offset of the end of the last byte that came

    # --- the sender -------------------------------------------------------------------------

    def _seal_stream(self) -> None:
        rng, plan = self.random, self.plan
        stream = bytearray()
        if self.version == VERSION_TLS13:
            suite = rng.choice([0x1301, 0x1302])
            sealer = Sealer(suite, rng.randbytes(32 if suite == 0x1301 else 48))
        else:
            sealer = Sealer12(
                rng.randbytes(rng.choice([16, 32])), rng.randbytes(4), rng.getrandbits(64)
            )
        self.infos = [self._info(sealer)]
        for _ in range(plan.records):
            start, kind = len(stream), 23
            content = self._content()
            if plan.embed and rng.random() < plan.embed:
                content = self._embedded(sealer)
            padding = rng.randrange(1, 200) if rng.random() < plan.padding else 0
            if self.version == VERSION_TLS12:
                stream += sealer.seal(content)
            elif rng.random() < plan.key_updates:
                kind, content = 22, KEY_UPDATE
                stream += sealer.key_update(padding)
                self.infos.append(self._info(sealer))
            elif rng.random() < plan.tickets:
                kind, content = 22, TICKET
                stream += sealer.seal(content, 22, padding)
            else:
                stream += sealer.seal(content, 23, padding)
            self.records.append(Sealed(start, len(stream), kind, content))
        self.stream = bytes(stream)
        self.result.sent = len(self.records)

    def _info(self, sealer) -> CryptoInfo:
        iv = sealer.iv if self.version == VERSION_TLS13 else sealer.salt
        return CryptoInfo(self.version, sealer.key, iv)

    def _content(self) -> bytes:
        rng, plan = self.random, self.plan
        size = rng.choice(
            [0, 1, 15, 16, 17, rng.randrange(100), plan.largest, rng.randrange(plan.largest + 1)]
        )
        return rng.randbytes(size)

    def _embedded(self, sealer) -> bytes:
        """Content that, once sealed, reads as records: headers alone, or records sealed for the
        next numbers. A peer can make it, because it knows the keystream.
        """
        rng, skip = self.random, header_bytes(self.version)
        size = rng.randrange(40, max(41, self.plan.largest))
        step = rng.choice([22, 30, 100])
        if rng.random() < 0.5:
            false = b"\x17\3\3" + (step - 5).to_bytes(2, "big") + rng.randbytes(step - 5)
            wanted = (false * (size // step + 1))[:size]
        else:
            ahead, wanted = copy(sealer), b""
            for _ in range(rng.randrange(3)):
                ahead.seal(b"")
            while len(wanted) < size:
                wanted += ahead.seal(rng.randbytes(step))
            wanted = wanted[:size]
        stream = copy(sealer).seal(bytes(size))[skip : skip + size]  # the keystream alone
        return bytes(a ^ b for a, b in zip(wanted, stream, strict=True))

    def _segments(self) -> list[tuple[int, int]]:
        """Arrival order of (offset, length). Everything arrives in the end."""
        rng, plan = self.random, self.plan
        mss = rng.choice([100, 536, 1448])
        at, timed = 0, []
        while at < len(self.stream):
            length = rng.choice([mss, mss, mss, rng.randrange(1, mss + 1)])
            length = min(len(self.stream) - at, length)
            now = len(timed) + 1.0
            if rng.random() < plan.loss:
                now += rng.randrange(5, 40)
                if rng.random() < plan.recut:
                    before = min(at, rng.randrange(mss))
                    at_, length_ = at - before, min(before + length, 1448)
                    timed.append((now, at_, length_))
                    rest = at + length - (at_ + length_)
                    if rest > 0:
                        timed.append((now, at_ + length_, rest))
                    at += length
                    continue
            elif rng.random() < plan.reorder:
                now += rng.randrange(1, 8) + 0.5
            timed.append((now, at, length))
            if rng.random() < plan.duplicate:
                timed.append((now + rng.randrange(20), at, length))
            at += length
        timed.sort()
        return [(offset, length) for _, offset, length in timed]

    # --- card and host ----------------------------------------------------------------------

    def steps(self):
        """Runs the transfer, one segment per step."""
        for offset, length in self._segments():
            data = self.stream[offset : offset + length]
            if self.random.random() < self.plan.forged:
                self._card(offset, self._forge(data))
                yield
            packet = self._card(offset, data)
            self.highest = max(self.highest, offset + length)
            self.packets[self.clock] = packet
            pieces = self.tcp.accept(packet.meta.seq, packet.payload, ACK, self.clock)
            self._take(
                self.ktls.feed(
                    StreamRange(self.tcp.sequence(p.offset), len(p.data), self.packets[p.packet])
                    for p in pieces
                )
            )
            self._react()
            self.clock += 1
            yield
        self.result.marks_undone = self.ktls.counters.marks_undone
        self.result.false_candidates = self.ktls.counters.resync_refused
        if self.ktls.handle:
            self.device.tls_dev_del(self.ktls.handle)

    def _forge(self, data: bytes) -> bytes:
        forged = bytearray(data)
        if self.random.random() < 0.5:
            forged[self.random.randrange(len(forged))] ^= 1 << self.random.randrange(8)
        else:
            forged = bytearray(self.random.randbytes(len(data)))
        return bytes(forged)

    def _card(self, offset: int, data: bytes):
        frame = Segment("c2s", offset, data).frame(self.wire)
        (packet,) = self.device.receive([frame])
        if packet.marked:
            self.result.reasons["decrypted"] += 1
        else:
            assert packet.frame == frame, "an unmarked packet was changed"
            self.result.reasons[Reason(packet.meta.reason).name] += 1
        for event in self.device.events():
            self._take(self.ktls.device_event(event))
        return packet

    def _next_keys(self):
        return self.infos[self.ktls.epoch + 1]

    def _take(self, events) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                truth = self.records[self.accepted]
                self.accepted += 1
                self.result.delivered += 1
                if (event.content_type, event.plaintext) != (truth.content_type, truth.content):
                    self.result.wrong += 1
                if event.content_type == 23:
                    self.result.by_how[event.how] += 1
            elif isinstance(event, RecordRefused):
                self.result.refused += 1
            else:
                self.reactions.append((self.clock + self.plan.answer_delay, event))

    def _react(self) -> None:
        due = [event for when, event in self.reactions if when <= self.clock]
        self.reactions = [pair for pair in self.reactions if pair[0] > self.clock]
        for event in due:
            apply_action(self.device, self.ktls, event, (self.isn + self.highest) % 2**32)


def run_transfers(device: Device, seeds, plan: Plan) -> Result:
    """Several transfers that take turns on one device, and the sum of their results."""
    transfers = [Transfer(device, seed, plan) for seed in seeds]
    running = [t.steps() for t in transfers]
    order = random.Random(seeds[0])
    while running:
        step = order.choice(running)
        if next(step, StopIteration) is StopIteration:
            running.remove(step)
    total = Result()
    for transfer in transfers:
        result = transfer.result
        total.by_how += result.by_how
        total.reasons += result.reasons
        for name in ("wrong", "refused", "delivered", "sent", "marks_undone", "false_candidates"):
            setattr(total, name, getattr(total, name) + getattr(result, name))
    return total


def check_safe(result: Result) -> None:
    """Nothing wrong, and nothing lost that software alone would have delivered."""
    assert result.wrong == 0
    assert result.refused == 0
    assert result.delivered == result.sent


def share_full(result: Result) -> float:
    """Share of application records that the hardware did fully."""
    return result.by_how[How.FULL] / max(1, result.by_how.total())


PLANS = {
    "in order": Plan(),
    "loss": Plan(loss=0.05, duplicate=0.03),
    "loss, big records": Plan(records=12, largest=16384, loss=0.05),
    "reorder": Plan(reorder=0.3),
    "key updates": Plan(tickets=0.1, key_updates=0.2, padding=0.2, loss=0.02),
    "late answers": Plan(tickets=0.1, key_updates=0.1, loss=0.08, reorder=0.1, answer_delay=9),
    "chains of headers": Plan(embed=0.4, loss=0.08),
    "forged": Plan(forged=0.05, loss=0.03, key_updates=0.05),
}
