# SPDX-License-Identifier: Apache-2.0
"""Random work for transmit through a device's ports, from hosts that do as they should and not.

A `Sender` is one context: it sends in order, again, after a jump and around its start marker, as a
driver would; of hostile frames each field of the metadata is random with a chance, and bytes of
the frame. It looks at the model's row to find its way back. Keys protect nothing.
"""

import random

from sealane.driver.device.flowtable import FlowTable
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TX_META, TxCommand, TxOp, TxTags
from tests.support.sequence_numbers import distance
from tests.support.tcp_frames import ACK, FIN, SYN
from tests.support.tx_stream import V4, V6, TxStream

HOSTILE = 0.1  # share of hostile frames, and chance of each of their fields
NEAR = (0, 1, 4, 5, 6, 12, 13, 14, 0xFFFF)
TINY, MIXED, LONG = 30, 400, 6000  # most bytes of text


class Sender:
    """One transmit context of the `pair`; `give` makes the next frames."""

    def __init__(self, pair, rng, context, table):
        self.pair, self.rng, self.context, self.table = pair, rng, context, table
        self.generation = rng.randrange(256)
        self.listed = False
        self.most = pair.config.max_frame - 120  # bytes of payload
        self.add()

    @property
    def row(self):
        return self.pair.model.tx.walker.rows[self.context]

    # --- commands, while nothing is in flight

    def add(self):
        """TX_ADD with a new stream."""
        rng = self.rng
        self.generation = self.generation + 1 & 0xFF
        bits = rng.choice((128, 256))
        self.stream = TxStream(
            self.pair,
            rng.getrandbits(32),
            version=rng.randrange(2),
            bits=bits,
            start=rng.choice((0, 0xFFFF_F800, 0x7FFF_F800, rng.getrandbits(32))),
            number=rng.choice((0, 1, rng.getrandbits(63), (1 << 64) - 100_000)),
            context=self.context,
            generation=self.generation,
            ends=V6 if self.context % 2 else V4,
            table=self.table if not self.listed else Unlisted,
        )
        self.listed = True
        self.size = rng.choice((TINY, MIXED, MIXED, LONG))
        self.at, self.keys = 0, 1

    def lost(self):
        """Whether the row is not where the sender can go on, or jump to."""
        row = self.row
        if not row.live or row.generation != self.generation:
            return True
        here = [r.number for r in self.stream.records if r.end > self.at]
        if here and row.key_slot(here[0]) is None and self.rng.random() < 0.3:
            return True
        numbers = [r.number for r in self.stream.records[-20:]]
        ahead = distance(row.next, self.stream.start + self.at & 0xFFFFFFFF)
        known = not numbers or row.number <= max(numbers) + 1
        return not known or (ahead != 0 and not row.broken) or not -(1 << 20) < ahead < 1 << 20

    def act(self):
        """Now and then a command, wanted or not; a lost context is begun anew, mostly."""
        rng, stream = self.rng, self.stream
        chance = rng.random()
        slot = rng.getrandbits(1)
        if self.lost() and chance < 0.7:
            if rng.random() < 0.5:
                stream.command(TxCommand.TX_DELETE)
                if rng.random() < 0.5:
                    stream.command(TxCommand.TX_RELEASE)
            self.add()
        elif chance < 0.04 and stream.version == VERSION_TLS13:
            stream.rekey(1 - self.row.newer if rng.random() < 0.8 else slot)
        elif chance < 0.05:
            stream.command(TxCommand.TX_KEY_CLEAR, epoch=slot)
        elif chance < 0.08:
            # A whole key is staged in any case: the model works out the powers of H by itself.
            stream.stage(stream.keys[0])
            op = rng.choice([op for op in TxCommand if op != TxCommand.TX_FLOW_WRITE])
            stream.command(
                op,
                epoch=slot,
                number=rng.getrandbits(64),
                version=rng.getrandbits(1),
                generation=rng.choice((self.generation, rng.getrandbits(8))),
                key256=stream.bits == 256,
            )

    # --- frames

    def give(self):
        """[(frame, metadata)]: one, or DUMP frames and the one that they are for."""
        rng, stream = self.rng, self.stream
        behind = distance(stream.start + self.at & 0xFFFFFFFF, self.row.next)
        if 0 < behind <= self.at and behind < 50_000 and rng.random() < 0.8:
            self.at -= behind  # what the device did not take comes again
        while stream.end < self.at + self.most:
            types = (20, 21, 22, 23) if stream.version == VERSION_TLS12 else (23,)
            low = int(stream.version == VERSION_TLS13)
            size = rng.choice((low, 1, 16, rng.randint(low, self.size)))
            stream.record(size, rng.choice(types))
        chance = rng.random()
        if chance < 0.1:
            return [self.other()]
        if self.row.broken and rng.random() < 0.8:
            return [self.sync()]
        if chance < 0.4 and self.at:
            return self.again()
        if chance < 0.43:
            return [self.sync()]
        return [self.in_order()]

    def in_order(self):
        rng = self.rng
        end = self.at + self.cut(self.at)
        tags = rng.choice((TxTags.COMPUTE, TxTags.COMPUTE, TxTags.COMPUTE, TxTags.COMPARE))
        start, self.at = self.at, end
        if rng.random() < 0.1:
            return self.dump(start, end, tags=tags)
        return self.encrypt(start, end, tags=tags)

    def cut(self, at):
        """Bytes of a frame: any, a segment, or to about the end of a record."""
        rng, record = self.rng, self.stream.at(at)
        rest = record.end - at
        size = rng.choice(
            (
                rng.randrange(1, 40),
                1448,
                rng.randrange(1, self.most),
                rest,
                rest + rng.randrange(-17, 15),
            )
        )
        return min(max(size, 1), self.most)

    def sync(self):
        """From a record's beginning on that the row has not started."""
        later = [r for r in self.stream.records if r.start >= self.at] or self.stream.records[-1:]
        record = later[0]
        end = record.start + min(self.cut(record.start), self.stream.end - record.start)
        self.at = end
        return self.encrypt(record.start, end, sync=1, number=record.number)

    def again(self):
        """A retransmission, by one of the ways."""
        rng, stream = self.rng, self.stream
        index = max(i for i, r in enumerate(stream.records) if r.start < self.at)
        record = stream.records[rng.randint(max(0, index - 6), index)]
        last = min(record.end, self.at) - 1
        start = record.start + rng.choice((0, rng.randint(0, last - record.start)))
        end = min(start + self.cut(start), self.at)
        tags = rng.choice(tuple(TxTags))
        frames = []
        if tags != TxTags.GIVEN and rng.random() < 0.8:
            at = record.start
            while at < start:
                piece = min(start, at + 700)
                frames.append(self.dump(at, piece, **stream.detached(at, TxTags.COMPUTE)))
                at = piece
        return [*frames, self.encrypt(start, end, **stream.detached(start, tags))]

    def other(self):
        """What is not to be encrypted, or pretends."""
        rng, stream = self.rng, self.stream
        at = rng.choice((-100, -50, self.at))
        payload = rng.choice((b"", rng.randbytes(rng.choice((50, 51, 150)))))
        flags = rng.choice((ACK, ACK, ACK | FIN, SYN))
        op = rng.choice((TxOp.NOTHING, TxOp.NOTHING, TxOp.WIRE, TxOp.ENCRYPT))
        frame = bytearray(stream.host_frame(at, payload, flags))
        if rng.random() < 0.1:
            frame[20] |= 0x20  # IPv4: more fragments follow
        if rng.random() < 0.1:
            frame += rng.randbytes(rng.randrange(1, 40))  # behind the IP packet
        if rng.random() < 0.05:
            frame += rng.randbytes(self.pair.config.max_frame)
        return self.finish(bytes(frame), op=op)

    def payload(self, start, end, tags=TxTags.COMPUTE):
        """Room for tags, or the right tags, or seldom a wrong one."""
        rng = self.rng
        if tags == TxTags.COMPUTE:
            return self.stream.plain(start, end)
        data = bytearray(self.stream.with_tags(start, end))
        if rng.random() < 0.05:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)

    def encrypt(self, start, end, **meta):
        payload = self.payload(start, end, meta.get("tags", TxTags.COMPUTE))
        flags = self.rng.choice((ACK, ACK, ACK, ACK | FIN))
        frame = self.stream.host_frame(start, payload, flags)
        if self.rng.random() < 0.2:
            frame = frame.ljust(self.rng.choice((60, 300)), b"\x5a")  # link padding
        return self.finish(frame, **meta)

    def dump(self, start, end, **meta):
        payload = self.payload(start, end, meta.get("tags", TxTags.COMPUTE))
        seq = self.stream.start + start & 0xFFFFFFFF
        return self.finish(payload, op=TxOp.DUMP, seq=seq, length=len(payload), **meta)

    def finish(self, frame, **meta):
        """The frame with its packed metadata, hostile by chance."""
        rng = self.rng
        fields = self.stream.meta(**meta)
        fields = {f.name: int(fields.get(f.name, 0)) for f in TX_META}
        if rng.random() < HOSTILE:
            for field in TX_META:
                if rng.random() < HOSTILE:
                    top = (1 << field.width) - 1
                    value = fields[field.name]
                    fields[field.name] = rng.choice(
                        (
                            rng.getrandbits(field.width),
                            rng.choice((*NEAR, top)) & top,
                            min(value + 1, top),
                            max(0, value - 1),
                        )
                    )
            if rng.random() < 0.3:
                damaged = bytearray(frame)
                damaged[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
                frame = bytes(damaged)
        return frame, TX_META.pack(fields)


class Unlisted:
    """A flow table for a flow that has its entry."""

    @staticmethod
    def insert(key, context):
        return []


def senders(pair, rng):
    """A sender for each transmit context."""
    table = FlowTable(pair.config.tx_flows)
    return [Sender(pair, rng, context, table) for context in range(pair.config.tx_flows)]


def seeded(*parts):
    """A generator for a scenario with these parameters."""
    return random.Random(" ".join(map(str, parts)))
