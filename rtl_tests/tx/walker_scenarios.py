# SPDX-License-Identifier: Apache-2.0
"""Random work for the transmit walker: frames in order, retransmissions, everything hostile."""

import random
from bisect import bisect_right
from dataclasses import dataclass, replace

from rtl_tests.tx.walker_bench import Item, Model
from sealane.driver.net.parser import Parsed
from sealane.hdl.abi.config import LENGTH_BOUNDS, TYPES, VERSION_TLS12, header_bytes
from sealane.hdl.abi.tx import TX_COMMAND, TX_META, TxCommand, TxOp, TxTags
from tests.support.sequence_numbers import distance
from tests.support.tcp_frames import ACK, FIN, SYN

TINY = (22, 23, 30, 37, 38, 45)
MIXED = (*TINY, 60, 200, 700)
LONG = (700, 3000, 16645)
OFFSETS = (14, 54, 66, 58, 97)  # of the payload in the frame


@dataclass(frozen=True)
class TrafficProfile:
    """Chances of what may happen, and sizes of records on the wire."""

    records: tuple[int, ...] = MIXED
    command: float = 0.05
    detached: float = 0.4
    sync: float = 0.03
    dump: float = 0.15
    other: float = 0.08  # NOTHING, WIRE
    bad_byte: float = 0.03
    hostile: float = 0.1  # frames of which each field is random with that chance too


class Sender:
    """A sender's stream in one context: what it would hand to the device.

    Positions are offsets from the marker. starts, records: of each record, its bytes; first: N of
    the first one.
    """

    def __init__(self, rng, profile, version, marker, first, nonce):
        self.random, self.profile, self.version = rng, profile, version
        self.marker, self.first, self.nonce = marker, first, nonce
        self.starts, self.records, self.numbers = [], [], []
        self.at = 0  # of the next byte in order
        self.number = first  # of the record that is made next
        self.tail = 0  # where it begins

    def _make(self):
        rng, front = self.random, header_bytes(self.version)
        low, high = LENGTH_BOUNDS[self.version]
        size = rng.choice(self.profile.records) + rng.choice((0, 0, 1, 7))
        length = min(max(size - 5, low), high)
        head = bytes((rng.choice(TYPES[self.version]), 3, 3)) + length.to_bytes(2, "big")
        if self.version == VERSION_TLS12:
            head += ((self.nonce + self.number - self.first) % (1 << 64)).to_bytes(8, "big")
        data = head + rng.randbytes(5 + length - front)
        self.starts.append(self.tail)
        self.records.append(data)
        self.numbers.append(self.number)
        self.tail += len(data)
        self.number = (self.number + 1) % (1 << 64)

    def take(self, count):
        """The next `count` bytes in order."""
        data = self.read(self.at, self.at + count)
        self.at += len(data)
        return data

    def find(self, at):
        """Index of the record with the byte at that offset."""
        while self.tail <= at:
            self._make()
        return bisect_right(self.starts, at) - 1

    def read(self, start, end):
        """Bytes of the stream; ends early where a gap begins."""
        data = b""
        while start < end:
            index = self.find(start)
            offset = start - self.starts[index]
            part = self.records[index][offset : offset + end - start]
            if not part:
                break
            data += part
            start += len(part)
        return data

    def skip(self, count, numbers):
        """The next record begins `count` bytes and `numbers` records further on."""
        self.tail += count
        self.number = (self.number + numbers) % (1 << 64)
        self.at = self.tail


class Scenario:
    """`items`: work and what the model makes of it, a few hundred steps on three contexts."""

    def __init__(self, config, seed, profile=None, steps=400):
        self.config, self.profile = config, profile or TrafficProfile()
        self.random = random.Random(seed)
        self.model = Model(config)
        self.items = []
        self.senders = {}
        self.word = 0
        for context in (0, 1, config.tx_flows - 1):
            self._add(context)
        for _ in range(steps):
            self._step()

    def _give(self, item):
        if item.command is None:
            item.ring_word = self.word
            self.word = (self.word + (len(item.frame) + 15) // 16) % self.config.tx_ring_words
        expected = self.model.step(item)
        self.items.append((item, expected))
        return expected

    def _row(self, context):
        return self.model.walker.rows[context]

    # --- commands

    def _command(self, op, context, **fields):
        fields = {
            "op": op,
            "context": context,
            "generation": self._row(context).generation,
            "key256": self.random.getrandbits(1),
        } | fields
        self._give(Item(command={f.name: fields.get(f.name, 0) for f in TX_COMMAND}))

    def _add(self, context):
        rng = self.random
        version = rng.getrandbits(1)
        marker = rng.choice((0, 0xFFFFF800, 0x7FFFF800, rng.getrandbits(32)))
        first = rng.choice((0, 1, rng.getrandbits(63), (1 << 64) - 5))
        nonce = rng.choice((0, first, rng.getrandbits(64), (1 << 64) - 3))
        self.senders[context] = Sender(rng, self.profile, version, marker, first, nonce)
        self._command(
            TxCommand.TX_ADD,
            context,
            generation=rng.getrandbits(8),
            version=version,
            seq=marker,
            number=first,
            nonce=nonce,
        )

    def _some_command(self):
        rng = self.random
        context = rng.choice(list(self.senders))
        sender, row = self.senders[context], self._row(context)
        op = rng.choice(
            (
                TxCommand.TX_ADD,
                *[TxCommand.TX_REKEY] * 4,
                TxCommand.TX_KEY_CLEAR,
                TxCommand.TX_DELETE,
                TxCommand.TX_RELEASE,
            )
        )
        if row.deleted and rng.random() < 0.7:
            op = rng.choice((TxCommand.TX_RELEASE, TxCommand.TX_ADD))
        if op == TxCommand.TX_ADD:
            return self._add(context)
        fields = {"number": sender.numbers[-1] if sender.numbers else sender.first}
        fields["number"] = (fields["number"] + rng.choice((0, 1, 2, 5))) % (1 << 64)
        fields["epoch"] = rng.getrandbits(1)
        if rng.random() < 0.15:
            fields["generation"] = rng.getrandbits(8)
        return self._command(op, context, **fields)

    # --- frames

    def _frame(self, context, seq, payload, op, **meta):
        """Gives a frame, perhaps with something wrong."""
        rng, profile = self.random, self.profile
        fields = {
            "op": op,
            "context": context,
            "generation": self._row(context).generation,
            "cookie": rng.getrandbits(16),
        } | meta
        if payload and rng.random() < profile.bad_byte:
            at = rng.randrange(min(len(payload), 40))
            wrong = payload[at] ^ 1 << rng.randrange(8)
            payload = payload[:at] + bytes([wrong]) + payload[at + 1 :]
        hit = context
        offset = rng.choice(OFFSETS)
        head = Parsed(
            is_tcp=True,
            frame_bytes=offset + len(payload) + rng.choice((0, 0, 6)),
            seq=seq,
            tcp_flags=ACK | rng.choice((0, 0, 0, FIN)),
            payload_offset=offset,
            payload_length=len(payload),
            tcp_offset=offset - 14,
            tcp_checksum=rng.getrandbits(16),
            segment_sum=rng.getrandbits(16),
        )
        if op == TxOp.DUMP:
            payload = payload or b"\x17"  # there is no empty frame
            head = Parsed(frame_bytes=len(payload))
            fields |= {"seq": seq, "length": len(payload)}
            hit = None
        fields = {f.name: fields.get(f.name, 0) for f in TX_META}
        if rng.random() < profile.hostile:
            head, hit = self._hostile(head, hit, fields)
        return self._give(Item(payload=payload, head=head, hit=hit, meta=fields))

    def _hostile(self, head, hit, fields):
        rng = self.random
        chance = self.profile.hostile
        near = (0, 1, 4, 5, 6, 12, 13, 14, 0xFFFF)
        for field in TX_META:
            if rng.random() < chance:
                fields[field.name] = rng.choice(
                    (
                        rng.getrandbits(field.width),
                        rng.choice(near) & (1 << field.width) - 1,
                        min((fields[field.name] + 1), (1 << field.width) - 1),
                        max(0, fields[field.name] - 1),
                    )
                )
        if rng.random() < chance:
            hit = rng.choice((None, 0, 1, 2))
        if rng.random() < chance and head.is_tcp:
            head = rng.choice(
                (
                    replace(head, tcp_flags=SYN),
                    replace(head, seq=rng.getrandbits(32)),
                    replace(head, seq=(head.seq + rng.choice((-1, 1))) % 2**32),
                    Parsed(frame_bytes=head.frame_bytes, refused_tcp=bool(rng.getrandbits(1))),
                    Parsed(oversize=True),
                )
            )
        return head, hit

    def _step(self):
        rng, profile = self.random, self.profile
        draw = rng.random()
        if draw < profile.command:
            return self._some_command()
        context = rng.choice(list(self.senders))
        sender = self.senders[context]
        if draw < profile.command + profile.other:
            return self._other(context, sender)
        self._recover(context, sender)
        sender = self.senders[context]
        if rng.random() < profile.detached and sender.at > 0 and not self._row(context).broken:
            return self._detached(context, sender)
        op = TxOp.DUMP if rng.random() < profile.dump else TxOp.ENCRYPT
        tags = rng.choice((TxTags.COMPUTE, TxTags.COMPUTE, TxTags.COMPARE))
        meta = {}
        if (self._row(context).broken and rng.random() < 0.8) or rng.random() < profile.sync:
            self._to_boundary(sender)
            meta = {"sync": 1, "number": sender.numbers[sender.find(sender.at)]}
        seq = (sender.marker + sender.at) % 2**32
        return self._frame(context, seq, sender.take(self._size(sender)), op, tags=tags, **meta)

    def _recover(self, context, sender):
        """Mostly brings sender and row together again, so that a fault is not the end of it."""
        rng, row = self.random, self._row(context)
        if rng.random() < 0.3:
            return
        lost = distance(row.next, (sender.marker + sender.at) % 2**32)
        sender.find(sender.at)
        if row.valid and not row.deleted and (row.broken or -50_000 < lost < 50_000):
            sender.at = max(0, sender.at + lost) if not row.broken else sender.at
            number = sender.numbers[sender.find(sender.at)]
            if row.broken or number == row.number or row.at == 0:
                if row.key_slot(number) is None:
                    slot = rng.getrandbits(1)
                    self._command(TxCommand.TX_REKEY, context, epoch=slot, number=number)
                return
        if row.deleted:
            self._command(TxCommand.TX_RELEASE, context)
        self._add(context)

    def _size(self, sender):
        """Bytes of a frame: any, small, a segment, or to about the end of a record."""
        rng = self.random
        index = sender.find(sender.at)
        rest = sender.starts[index] + len(sender.records[index]) - sender.at
        size = rng.choice(
            (
                rng.randrange(1, 40),
                1448,
                rng.randrange(1, 1449),
                rest,
                rest + rng.randrange(-17, 15),
            )
        )
        return min(max(size, 1), self.config.max_frame - 100)

    def _to_boundary(self, sender):
        """Moves the sender to the beginning of a record, perhaps a far one."""
        rng = self.random
        index = sender.find(sender.at)
        sender.at = sender.starts[index] + len(sender.records[index])
        if rng.random() < 0.3 and sender.at == sender.tail:
            sender.skip(rng.choice((0, 100, 1 << 29, 1 << 30, (1 << 31) - 100)), rng.choice((0, 3)))
        sender.find(sender.at)

    def _other(self, context, sender):
        rng = self.random
        at = rng.choice((-100, 0, sender.at, sender.at - 50))
        payload = rng.choice((b"", rng.randbytes(rng.choice((50, 100, 101)))))
        op = rng.choice((TxOp.NOTHING, TxOp.NOTHING, TxOp.WIRE))
        if rng.random() < 0.2:
            head = Parsed(frame_bytes=60, refused_tcp=bool(rng.getrandbits(1)))
            meta = {f.name: 0 for f in TX_META}
            return self._give(Item(payload=bytes(60), head=head, meta=meta))
        return self._frame(context, (sender.marker + at) % 2**32, payload, op)

    def _detached(self, context, sender):
        """A retransmission, or a record's beginning and then the rest."""
        rng = self.random
        newest = sender.find(sender.at - 1)
        index = rng.randint(max(0, newest - 8), newest)
        first, data = sender.starts[index], sender.records[index]
        start = first + rng.choice((0, rng.randrange(len(data)), rng.randrange(min(20, len(data)))))
        size = rng.choice((rng.randrange(1, 50), 1448, first + len(data) - start))
        end = max(start + 1, min(start + size, sender.at, start + self.config.max_frame - 100))
        tags = rng.choice(tuple(TxTags))
        seq = (sender.marker + start) % 2**32
        if tags != TxTags.GIVEN and start > first and rng.random() < 0.8:
            at = first
            while at < start:
                piece = sender.read(at, min(start, at + 1448))
                self._frame(
                    context,
                    (sender.marker + at) % 2**32,
                    piece,
                    TxOp.DUMP,
                    tags=rng.choice((TxTags.COMPUTE, tags)),
                    **self._place(sender, index, at),
                )
                at += len(piece)
        op = TxOp.ENCRYPT
        if tags != TxTags.GIVEN and rng.random() < self.profile.dump:
            op = TxOp.DUMP
        self._frame(
            context,
            seq,
            sender.read(start, end),
            op,
            tags=tags,
            **self._place(sender, index, start),
        )

    def _place(self, sender, index, at):
        offset, data = at - sender.starts[index], sender.records[index]
        number = sender.numbers[index]
        if self.random.random() < self.profile.hostile / 2:  # an engine that errs by a record
            number = (number + self.random.choice((-1, 1))) % (1 << 64)
        place = {"detached": 1, "number": number, "offset": offset}
        if offset:
            place |= {"record_length": len(data) - 5, "record_type": data[0]}
        return place
