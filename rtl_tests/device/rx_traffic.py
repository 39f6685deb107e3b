# SPDX-License-Identifier: Apache-2.0
"""Random work for receive: streams of records of all kinds, some forged, and a driver that errs.

The keys protect nothing.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.descriptors import Handle
from sealane.driver.device.rx import Flow
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from tests.support import tls_records
from tests.support.internet_checksum import checksum

APP, HANDSHAKE, ALERT, CCS = 23, 22, 21, 20


def tcp_frame(rng, flow, seq, payload, flags=0x10, damage=0.0):
    """A segment in IPv4 or IPv6 with options, VLAN tag and padding at random."""
    options = bytes(4 * rng.choice((0, 0, 3, 10)))
    head = (
        flow.sport.to_bytes(2, "big")
        + flow.dport.to_bytes(2, "big")
        + seq.to_bytes(4, "big")
        + bytes(4)
        + bytes([5 + len(options) // 4 << 4, flags])
        + bytes(6)
        + options
    )
    segment = head + payload
    addresses = flow.src.packed + flow.dst.packed
    pseudo = addresses + len(segment).to_bytes(4, "big") + (6).to_bytes(4, "big")
    check = checksum(pseudo + segment)
    if rng.random() < damage:
        check ^= 1 << rng.randrange(16)
    segment = segment[:16] + check.to_bytes(2, "big") + segment[18:]
    if flow.src.version == 6:
        packet = b"\x60\0\0\0" + len(segment).to_bytes(2, "big") + b"\x06\x40" + addresses + segment
        ethertype = b"\x86\xdd"
    else:
        ip = b"\x45\0" + (20 + len(segment)).to_bytes(2, "big") + bytes(4) + b"\x40\x06\0\0"
        check = checksum(ip + addresses)
        packet = ip[:10] + check.to_bytes(2, "big") + addresses + segment
        ethertype = b"\x08\0"
    vlan = b"\x81\0\0\x07" if rng.random() < 0.1 else b""
    frame = rng.randbytes(12) + vlan + ethertype + packet
    return frame.ljust(60, b"\0") if rng.random() < 0.5 else frame


@dataclass
class Record:
    offset: int
    number: int
    epoch: int
    end: int
    key_update: bool


class Stream:
    """A sender's stream from `seq` on: records, some of them not what they seem."""

    def __init__(self, rng, version, bits, size, forge):
        self.version, self.bits, self.seq = version, bits, rng.getrandbits(32)
        self.salt = rng.randbytes(48)
        self.wire = bytearray()
        self.records = []
        number = epoch = 0
        while len(self.wire) < size:
            kind = rng.choices((APP, HANDSHAKE, ALERT, CCS), (40, 2, 1, 1))[0]
            if version == VERSION_TLS13 and kind == CCS:
                kind = APP
            length = rng.choice((0, 1, 2, 15, 16, 17, rng.randrange(300), rng.randrange(3000)))
            if rng.random() < 0.05:
                length = 16384
            content = rng.randbytes(length)
            key_update = (
                forge > 0 and version == VERSION_TLS13 and kind == HANDSHAKE and rng.random() < 0.4
            )
            if key_update:
                content = b"\x18\0\0\x01\0"
            elif kind == APP and rng.random() < 0.05:
                # Something like a header inside the text: the search must not believe it.
                content = self.keys(0).key[:3] + b"\x17\x03\x03\x00\x20" + content
            offset = len(self.wire)
            wire = bytearray(self.seal(rng, epoch, number, kind, content[:16384]))
            if rng.random() < forge:
                wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
            self.wire += wire
            self.records.append(Record(offset, number, epoch, len(self.wire), key_update))
            number += 1
            if key_update:
                number, epoch = 0, epoch + 1

    def keys(self, epoch):
        size = self.bits // 8
        iv = 12 if self.version == VERSION_TLS13 else 4
        turned = self.salt[epoch % 8 :] + self.salt[: epoch % 8]
        return CryptoInfo(self.version, turned[:size], turned[size : size + iv])

    def seal(self, rng, epoch, number, kind, content):
        keys = self.keys(epoch)
        if self.version == VERSION_TLS13:
            padding = bytes(rng.choice((0, 0, 0, 1, 20, 200)))[: 16384 - len(content)]
            text, outer, explicit = content + bytes([kind]) + padding, APP, b""
        else:
            text, outer, explicit = content, kind, rng.randbytes(8)
        return tls_records.seal(self.version, keys.key, keys.iv, number, outer, text, explicit)


def arrivals(rng, size, loss):
    """(start, end) of segments of a stream in the order of their arrival."""
    cut = rng.choice((60, 400, 1448, 1448, 8900))
    out, at, late = [], 0, []
    while at < size or late:
        while late and (late[0][0] <= len(out) or at >= size):
            out.append(late.pop(0)[1])
        if at >= size:
            continue
        end = min(size, at + (cut if rng.random() < 0.6 else rng.randrange(1, cut + 1)))
        chance = rng.random()
        if chance < loss:
            late.append((len(out) + rng.choice((1, 2, 5, 30)), (at, end)))
            late.sort()
        else:
            out.append((at, end))
            if chance > 0.97:
                out.append((at, end))
            elif chance > 0.94:
                low = max(0, at - rng.randrange(2 * cut))
                out.append((low, min(size, low + rng.randrange(1, 2 * cut))))
        at = end
    return out


class TrafficFlow:
    """A stream, its context, and a driver's idea of it; where records are forged it also errs."""

    def __init__(self, rng, device, index, forge, loss):
        self.rng, self.device, self.driver_errs = rng, device, forge > 0
        version = rng.randrange(2)
        self.stream = Stream(rng, version, rng.choice((128, 256)), 60_000, forge)
        address = IPv6Address if rng.random() < 0.3 else IPv4Address
        self.flow = Flow(address(index + 1), address(100), 1000 + index, 443)
        self.todo = arrivals(rng, len(self.stream.wire), loss)
        self.later = []  # reactions that wait
        self.epoch, self.handle = 0, None
        self.sent = 0
        self.install()

    def install(self, at=0):
        """tls_dev_add at the record with index `at`."""
        record = self.stream.records[at]
        self.epoch = record.epoch
        self.handle = self.device.tls_dev_add(
            self.flow,
            self.stream.keys(record.epoch),
            self.at(record.offset),
            record.number,
            record.epoch,
        )

    def at(self, offset):
        return self.stream.seq + offset & 0xFFFFFFFF

    def offset(self, seq):
        return seq - self.stream.seq & 0xFFFFFFFF

    def frame(self, damage):
        """The next segment as a frame."""
        start, end = self.todo.pop(0)
        self.sent = max(self.sent, end)
        payload = bytes(self.stream.wire[start:end])
        flags = 0x10 if self.rng.random() < 0.99 else self.rng.choice((0x12, 0x14, 0x30, 0x00))
        if self.rng.random() < 0.02:
            payload = b""
        return tcp_frame(self.rng, self.flow, self.at(start), payload, flags, damage)

    def next_record(self):
        """Index of the first record behind everything sent, or None."""
        for index, record in enumerate(self.stream.records):
            if record.offset >= self.sent:
                return index
        return None

    def hint(self, index):
        """Says where a record is; one of another epoch only by mistake."""
        record = self.stream.records[index or 0]
        if self.driver_errs or record.epoch == self.epoch:
            self.device.resync_hint(self.handle, self.at(record.offset), record.number)

    def event(self, event):
        """Reactions to an event, some at once, some late, some never."""
        wait = self.rng.choice((0, 0, 1, 5, 20))
        if self.rng.random() < 0.9:
            self.later.append((wait, event))

    def act(self):
        """Carry out what is due, and now and then something that nobody asked for."""
        due = [event for wait, event in self.later if wait <= 0]
        self.later = [(wait - 1, event) for wait, event in self.later if wait > 0]
        for event in due:
            self.react(event)
        chance = self.rng.random()
        index = self.next_record()
        if chance < 0.002:
            self.device.tls_dev_del(self.handle)
            self.install(index or 0)
        elif chance < 0.006:
            self.hint(index)
        elif chance < 0.008:
            # An answer to a question that was not asked, and a go-on of no park.
            self.device.tls_dev_resync(self.handle, self.rng.getrandbits(32), 5)
            self.device.go_on(self.handle, self.rng.randrange(256))

    def react(self, event):
        handle = Handle(event.context, event.generation)
        if handle != self.handle:
            return
        records = self.stream.records
        if event.kind == EventKind.RESYNC_REQUEST:
            offset = self.offset(event.candidate_seq)
            number = next(
                (
                    r.number
                    for r in records
                    if r.offset == offset and (self.driver_errs or r.epoch == self.epoch)
                ),
                None,
            )
            if self.driver_errs and self.rng.random() < 0.05:
                number = 7
            self.device.tls_dev_resync(handle, event.candidate_seq, number)
        elif event.kind == EventKind.PARKED:
            parking = next(
                (r for r in records if (r.number, r.epoch) == (event.number, self.epoch)), None
            )
            if (
                parking
                and parking.key_update
                and not (self.driver_errs and self.rng.random() < 0.1)
            ):
                number = parking.number + 1 if self.rng.random() < 0.7 else None
                self.epoch += 1
                self.handle = self.device.rekey(
                    handle, self.stream.keys(self.epoch), self.at(parking.end), self.epoch, number
                )
            else:
                self.device.go_on(handle, event.park)
        elif event.kind in (EventKind.TAG_MISMATCH, EventKind.GIVEN_UP):
            index = self.next_record()
            if index is not None:
                self.hint(index)
