# SPDX-License-Identifier: Apache-2.0
"""The gateware with many packets of a flow in flight while tags fail, keys change, contexts go.

Nobody says here which packets must be marked; what is checked holds at every moment: frames keep
their order, an unmarked one is as it came, a marked one gives its wire bytes back when its text is
encrypted again under its own metadata, and a verdict names a record that its sender sealed.
"""

import random
from ipaddress import IPv4Address

import pytest

from rtl_tests.device.rx_traffic import tcp_frame
from sealane.driver.device.counters import RxCounters
from sealane.driver.device.descriptors import RxMeta, RxPacket
from sealane.driver.device.rx import Device, Flow
from sealane.driver.ktls.rx.framing import Mark
from sealane.driver.ktls.rx.software import SoftwareAes
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason
from sealane.sim.transport import RtlTransport
from tests.support.marking_device import TICKET, Stream
from tests.support.sealed_streams import KEY_UPDATE
from tests.support.trial_counts import seeds

CONFIG = Config()


class Sender:
    """A stream, its flow, and the bytes that are really sent, some of them forged."""

    def __init__(self, index, version=VERSION_TLS13):
        self.flow = Flow(IPv4Address(index + 1), IPv4Address(99), 1000 + index, 443)
        self.stream = Stream(version, seq=0xFFFFE000 + 0x1000 * index & 0xFFFFFFFF)
        self.sent = bytearray()
        self.forged = set()  # offsets of records

    def add(self, content, content_type=23, forge=False):
        record = self.stream.add(content, content_type)
        self.sent += record.wire
        if forge:
            self.sent[record.offset + len(record.wire) // 2] ^= 0x40
            self.forged.add(record.offset)
        return record

    def at(self, offset):
        return (self.stream.seq + offset) % 2**32


class Bench:
    """A device with packets in flight, and what must be true of each when it comes out.

    `keys` are those of each generation: (context, generation) -> (sender, epoch, keys).
    """

    def __init__(self, **options):
        self.rtl = RtlTransport(CONFIG, **options)
        self.device = Device(self.rtl, CONFIG)
        self.random = random.Random(repr(options))
        self.keys = {}
        self.posted = []

    def install(self, sender, offset=0, number=0, epoch=0, keys=None):
        keys = keys or sender.stream.keys(epoch)
        handle = self.device.tls_dev_add(sender.flow, keys, sender.at(offset), number, epoch)
        self.keys[handle.context, handle.generation] = sender, epoch, keys
        return handle

    def rekey(self, handle, sender, offset, epoch, number):
        keys = sender.stream.keys(epoch)
        handle = self.device.rekey(handle, keys, sender.at(offset), epoch, number)
        self.keys[handle.context, handle.generation] = sender, epoch, keys
        return handle

    def post(self, sender, start, end):
        payload = bytes(sender.sent[start:end])
        frame = tcp_frame(self.random, sender.flow, sender.at(start), payload)
        self.rtl.post(frame)
        self.posted.append((sender, start, frame, payload))

    def collect(self):
        """All packets and events; raises AssertionError where a packet is wrong."""
        packets = self._packets()
        events = self.device.events()
        out = []
        for packet, (sender, start, frame, payload) in zip(packets, self.posted, strict=True):
            self._check(packet, sender, frame, payload)
            out.append((packet, sender, start))
        self.posted.clear()
        self.rtl.close()
        return out, events

    def _packets(self):
        return [RxPacket(c.frame, RxMeta.unpack(c.meta)) for c in self.rtl.poll()]

    def _check(self, packet, sender, frame, payload):
        meta = packet.meta
        if not packet.marked:
            assert packet.frame == frame
            return
        assert meta.reason == Reason.NONE and meta.l4_verified and meta.context_valid
        at = meta.payload_offset
        assert len(packet.frame) == len(frame) and packet.frame[:at] == frame[:at]
        assert packet.frame[at + len(payload) :] == frame[at + len(payload) :]
        owner, epoch, keys = self.keys[meta.context, meta.generation]
        assert owner is sender and meta.epoch == epoch
        mark = Mark(packet, sender.stream.version)
        assert mark.consistent
        assert mark.wire(0, len(payload), {epoch: keys}, SoftwareAes(RxCounters())) == payload
        sealed = {sender.at(record.offset): record for record in sender.stream.records}
        for framed in mark._records:
            if framed.completed:
                record = sealed[framed.start]
                assert record.offset not in sender.forged
                assert (record.number, record.epoch) == (framed.number, epoch)
                assert framed.length == len(record.wire) - 5


def packets_of(sender, size=None, rng=None):
    """(start, end) of segments: one record each, or `size` bytes each, or at random."""
    if size is None and rng is None:
        return [(record.offset, record.end) for record in sender.stream.records]
    cuts, at = [], 0
    while at < len(sender.sent):
        end = min(len(sender.sent), at + (size or rng.randrange(1, 1448)))
        cuts.append((at, end))
        at = end
    return cuts


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
@pytest.mark.parametrize("size", [40, 1000, 8000])
@pytest.mark.parametrize("bad", [(20,), (20, 21, 22, 30)])
def test_a_bad_tag_with_packets_behind_it(version, size, bad):
    """Nothing of that flow is marked behind it, whatever the walker did meanwhile; others are."""
    bench, sender, other = Bench(), Sender(0, version), Sender(1, version)
    count = 44 if size < 8000 else 34
    for i in range(count):
        sender.add(bytes(size), forge=i in bad)
        other.add(bytes(50))
    bench.install(sender)
    bench.install(other)
    for i, segment in enumerate(packets_of(sender)):
        bench.post(sender, *segment)
        bench.post(other, *packets_of(other)[i])
    out, events = bench.collect()
    first = sender.stream.records[bad[0]]
    for packet, owner, start in out:
        assert packet.marked == (owner is other or start < first.offset)
    mismatches = [e.number for e in events if e.kind == EventKind.TAG_MISMATCH]
    assert mismatches[0] == first.number and set(mismatches) <= set(bad)


@pytest.mark.parametrize("right_keys", [True, False])
def test_delete_and_add_again_with_packets_in_flight(right_keys):
    """Each packet is under the keys of its generation; under wrong ones none that completes."""
    marked = set()
    for wait in range(0, 3000, 250):
        bench, sender = Bench(seed=wait, stall=0.2), Sender(0)
        for _ in range(40):
            sender.add(bytes(1000))
        handle = bench.install(sender)
        for segment in packets_of(sender):
            bench.post(sender, *segment)
        bench.rtl.run(wait)
        bench.device.tls_dev_del(handle)
        record = sender.stream.records[20]
        keys = sender.stream.keys(0 if right_keys else 1)
        new = bench.install(sender, record.offset, record.number, 0, keys)
        out, events = bench.collect()
        ours = [p.meta.generation for p, _, _ in out if p.marked]
        assert ours == sorted(ours)
        if not right_keys:
            assert new.generation not in ours
        for event in events:
            assert event.kind != EventKind.TAG_MISMATCH or event.generation == new.generation
        marked.update(ours)
    assert marked == ({0, 1} if right_keys else {0})


def test_a_rekey_between_a_bad_tag_and_its_news():
    """The key change comes while the bad record is in the cipher: what lies behind the record is
    as unproven as without it."""
    late = 0
    for wait in range(0, 4000, 60):
        bench, sender = Bench(), Sender(0)
        sender.add(bytes(8000))
        bad = sender.add(bytes(8500), forge=True)
        sender.stream.next_epoch()
        for _ in range(20):
            sender.add(bytes(60))
        handle = bench.install(sender)
        for segment in packets_of(sender):
            bench.post(sender, *segment)
        bench.rtl.run(wait)
        new = bench.rekey(handle, sender, bad.end, 1, bad.number + 1)
        for _ in range(3):
            start = len(sender.sent)
            bench.post(sender, start, sender.add(bytes(60)).end)
        out, events = bench.collect()
        if not any(e.kind == EventKind.TAG_MISMATCH and e.number == bad.number for e in events):
            continue
        for packet, _, start in out:
            assert not (packet.marked and start >= bad.end)
            late += (
                packet.meta.generation == new.generation
                and packet.meta.reason == Reason.TAG_MISMATCH
            )
    assert late  # packets of the new generation were held back by the old one's bad tag


def test_a_rekey_with_packets_in_flight():
    """Records before and behind the change, all in flight: text is right for its generation."""
    marked = set()
    for wait in range(0, 3000, 300):
        bench, sender = Bench(seed=wait, idle=0.1, stall=0.1), Sender(0)
        for _ in range(12):
            sender.add(bytes(900))
        update = sender.add(KEY_UPDATE, 22)
        sender.stream.next_epoch()
        for _ in range(24):
            sender.add(bytes(900))
        handle = bench.install(sender)
        for segment in packets_of(sender):
            bench.post(sender, *segment)
        bench.rtl.run(wait)
        new = bench.rekey(handle, sender, update.end, 1, update.number + 1)
        out, _ = bench.collect()
        for packet, _, start in out:
            if packet.marked:
                marked.add(packet.meta.generation)
                assert (start >= update.end) == (packet.meta.generation == new.generation)
    assert marked == {0, 1}


def test_a_park_with_packets_in_flight():
    """Nothing behind the park is marked before the go-on of the last of two tickets."""
    for wait in range(0, 2400, 300):
        bench, sender = Bench(seed=wait, stall=0.3), Sender(0)
        sender.add(bytes(700))
        tickets = [sender.add(TICKET, 22), sender.add(TICKET, 22)]
        for _ in range(30):
            sender.add(bytes(700))
        handle = bench.install(sender)
        first, *rest = packets_of(sender)
        bench.post(sender, *first)
        bench.post(sender, tickets[0].offset, tickets[1].end)
        for segment in rest[2:]:
            bench.post(sender, *segment)
        bench.rtl.run(wait)
        bench.device.go_on(handle, 0)  # of no park
        bench.device.go_on(handle, 1)
        out, events = bench.collect()
        (event,) = events
        assert (event.kind, event.park, event.number) == (EventKind.PARKED, 1, 2)
        marks = [packet.marked for packet, _, _ in out]
        assert marks[0] and not marks[1]
        assert marks[2:] == sorted(marks[2:])  # from the go-on on, all


@pytest.mark.parametrize("seed", seeds(3, 6))
def test_anything_at_any_time(seed):
    """Forged, lost, repeated and cut segments of four flows with commands in between, bubbles and
    backpressure."""
    rng = random.Random(seed)
    bench = Bench(seed=seed, idle=rng.choice((0, 0.3)), stall=rng.choice((0, 0.2, 0.7)))
    senders = [Sender(i, rng.randrange(2)) for i in range(4)]
    todo = []
    handles = {}
    for sender in senders:
        for _ in range(60):
            size = rng.choice((0, 1, 20, 200, 1500, 5000))
            sender.add(rng.randbytes(size), forge=rng.random() < 0.03)
        cut = packets_of(sender, rng=rng) if rng.random() < 0.7 else packets_of(sender, 8900)
        for i, segment in enumerate(cut):
            if rng.random() > 0.02:
                todo.append((i + rng.random() * rng.choice((0, 0, 0, 4)), sender, segment))
            if rng.random() < 0.03:
                todo.append((i + 2, sender, segment))
        handles[sender] = bench.install(sender)
    todo.sort(key=lambda item: item[0])
    events = []
    for i, (_, sender, segment) in enumerate(todo):
        bench.post(sender, *segment)
        if i % 16 == 0:
            bench.rtl.run(rng.randrange(800))
            events += bench.device.events()
        while events and rng.random() < 0.2:
            event = events.pop(0)
            owner = bench.keys[event.context, event.generation][0]
            if handles[owner].generation != event.generation:
                continue
            if event.kind == EventKind.RESYNC_REQUEST:
                number = next(
                    (
                        r.number
                        for r in owner.stream.records
                        if owner.at(r.offset) == event.candidate_seq
                    ),
                    None,
                )
                bench.device.tls_dev_resync(handles[owner], event.candidate_seq, number)
            elif event.kind == EventKind.TAG_MISMATCH and rng.random() < 0.5:
                bench.device.tls_dev_del(handles[owner])
                record = rng.choice(owner.stream.records)
                handles[owner] = bench.install(owner, record.offset, record.number)
    out, _ = bench.collect()
    assert sum(packet.marked for packet, _, _ in out) > 20
