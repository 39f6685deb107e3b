# SPDX-License-Identifier: Apache-2.0
"""One direction of a connection as a host sends it through transmit, for device tests.

`TxStream` makes records as the kernel would (header, nonce, text, room for the tag). It knows by
`tls_records` what must be on the wire. It posts any cut of them with any metadata to any transport.
Keys are random and protect nothing.
"""

import random
from dataclasses import dataclass
from ipaddress import ip_address

from sealane.driver.device.flowtable import FlowTable
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import FLOW_KEY, STAGE_IV, STAGE_POWERS
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config, header_bytes
from sealane.hdl.abi.registers import OFFSET
from sealane.hdl.abi.tx import TX_COUNTERS, TX_META, TX_STATUS, TxCommand, TxOp, TxReason, TxTags
from tests.support import tls_records
from tests.support.gf128 import powers_of_h
from tests.support.tcp_frames import ACK, Peer, Segment, Wire, read

CONFIG = Config(tx_flows=4)
ROOM = b"\xa5"
V4, V6 = ("10.9.0.2", "10.9.0.1"), ("fd00::2", "fd00::1")


def command(transport, op, *, context=0, generation=0, epoch=0, seq=0, number=0, nonce=0, **flags):
    """Rings a `TxCommand`. flags: those of CMD_FLAGS by name."""
    at = {"version": 0, "key256": 1, "valid": 3, "table": 4, "slot": 5, "bucket": 16}
    for name, value in (
        ("CMD_CONTEXT", context | generation << 16 | epoch << 24),
        ("CMD_FLAGS", sum(int(value) << at[name] for name, value in flags.items())),
        ("CMD_SEQ", seq),
        ("CMD_NUMBER_LO", number & 0xFFFFFFFF),
        ("CMD_NUMBER_HI", number >> 32),
        ("CMD_NONCE_LO", nonce & 0xFFFFFFFF),
        ("CMD_NONCE_HI", nonce >> 32),
        ("COMMAND", op),
    ):
        transport.write(OFFSET[name], value)
    while transport.read(OFFSET["STATUS"]) & 1:
        pass


@dataclass(frozen=True)
class Key:
    """Keys that seal the records from N = base on."""

    key: bytes
    iv: bytes
    base: int = 0


@dataclass(frozen=True)
class Record:
    """N, stream offset of the header, the host's bytes and the wire's bytes."""

    number: int
    start: int
    plain: bytes
    wire: bytes

    @property
    def end(self):
        return self.start + len(self.wire)

    @property
    def tag_at(self):
        return self.end - 16

    @property
    def tag(self):
        return self.wire[-16:]


@dataclass(frozen=True)
class Result:
    """The result of one frame: the frame sent (None: nothing) and its completion."""

    left: bytes | None
    reason: TxReason
    tags: list
    status: dict


class TxStream:
    """One transmit context and its stream. Offset 0 is the start marker, `start` its sequence
    number.
    """

    def __init__(
        self,
        transport,
        seed=0,
        *,
        version=VERSION_TLS13,
        bits=128,
        start=0xFFFF_F000,
        number=5,
        context=1,
        generation=9,
        ends=V4,
        table=None,
        add=True,
    ):
        self.rng = random.Random(seed)
        self.transport, self.version, self.start = transport, version, start
        self.context, self.generation = context, generation
        client = Peer(ends[0], 40000 + context, start - 1)
        self.path = Wire(client, Peer(ends[1], 443, 77, b"\x02\0\0\0\0\2"))
        self.number = number  # of the next record
        self.first, self.nonce = number, self.rng.getrandbits(64)
        self.bits, self.records = bits, []
        self._plain, self._wire, self._with_tags = b"", b"", b""
        self.keys = [self.new_key(0)]
        self.cookie = 0
        self.table = FlowTable(CONFIG.tx_flows) if table is None else table
        if add:
            self.write_flow(self.table)
            self.stage(self.keys[0])
            command(
                transport,
                TxCommand.TX_ADD,
                context=context,
                generation=generation,
                seq=start,
                number=number,
                nonce=self.nonce,
                version=version,
                key256=bits == 256,
            )

    # --- keys and tables ----------------------------------------------------------------------

    def new_key(self, base):
        iv = self.rng.randbytes(12 if self.version == VERSION_TLS13 else 4)
        return Key(self.rng.randbytes(self.bits // 8), iv, base)

    def stage(self, key):
        for word, data in (
            (0, key.key.ljust(32, b"\0")),
            (STAGE_IV, key.iv.ljust(12, b"\0")),
            (STAGE_POWERS, b"".join(powers_of_h(key.key))),
        ):
            for i in range(0, len(data), 4):
                value = int.from_bytes(data[i : i + 4], "little")
                self.transport.write(OFFSET["STAGE"] + 4 * word + i, value)

    def write_flow(self, table):
        client, server = self.path.client, self.path.server
        ends = {
            "src": int(ip_address(client.address)),
            "dst": int(ip_address(server.address)),
            "sport": client.port,
            "dport": server.port,
            "ipv6": int(":" in client.address),
        }
        for write in table.insert(FLOW_KEY.pack(ends), self.context):
            for i in range((FLOW_KEY.width + 31) // 32):
                word = write.key >> 32 * i & 0xFFFFFFFF
                self.transport.write(OFFSET["FLOW_KEY"] + 4 * i, word)
            command(
                self.transport,
                TxCommand.TX_FLOW_WRITE,
                context=write.context,
                valid=write.valid,
                table=write.table,
                slot=write.slot,
                bucket=write.bucket,
            )

    def command(self, op, **fields):
        fields = {"context": self.context, "generation": self.generation} | fields
        command(self.transport, op, **fields)

    def rekey(self, slot, number=None):
        """TX_REKEY for the records from the next one on."""
        key = self.new_key(self.number if number is None else number)
        self.keys.append(key)
        self.stage(key)
        self.command(
            TxCommand.TX_REKEY, epoch=slot, number=key.base, key256=self.bits == 256, version=1
        )

    # --- records ------------------------------------------------------------------------------

    @property
    def end(self):
        return self.records[-1].end if self.records else 0

    def record(self, n_text, content_type=23):
        """Makes the next record, with `n_text` bytes of text."""
        nonce = b""
        if self.version == VERSION_TLS12:
            nonce = ((self.nonce + self.number - self.first) % 2**64).to_bytes(8, "big")
        text = self.rng.randbytes(n_text)
        key = max((k for k in self.keys if k.base <= self.number), key=lambda k: k.base)
        count = self.number - key.base
        wire = tls_records.seal(self.version, key.key, key.iv, count, content_type, text, nonce)
        head = wire[: header_bytes(self.version)]
        made = Record(self.number, self.end, head + text + ROOM * 16, wire)
        self.number += 1
        self.records.append(made)
        self._plain += made.plain
        self._wire += made.wire
        self._with_tags += made.plain[:-16] + made.tag
        return made

    def write(self, *sizes):
        """Makes several records and returns them."""
        return [self.record(size) for size in sizes]

    def random_records(self, count, most=300):
        low = 1 if self.version == VERSION_TLS13 else 0
        sizes = (self.rng.choice((low, 1, 16, self.rng.randint(low, most))) for _ in range(count))
        return [self.record(size) for size in sizes]

    def at(self, offset):
        """The record that has the byte at `offset`."""
        return next(r for r in self.records if r.start <= offset < r.end)

    def plain(self, a, b):
        return self._plain[a:b]

    def wire(self, a, b):
        return self._wire[a:b]

    def with_tags(self, a, b):
        """Plaintext with the right tags in the room."""
        return self._with_tags[a:b]

    # --- frames -------------------------------------------------------------------------------

    def frame(self, offset, payload, flags=ACK):
        """The complete frame with a right checksum, as it must be on the wire."""
        return Segment("c2s", offset, payload, flags).frame(self.path)

    def host_frame(self, offset, payload, flags=ACK):
        """The host's frame, which may hold anything in the checksum field."""
        frame = bytearray(self.frame(offset, payload, flags))
        at = read(bytes(frame)).tcp_at + 16
        frame[at : at + 2] = self.rng.randbytes(2)
        return bytes(frame)

    def meta(self, op=TxOp.ENCRYPT, **fields):
        self.cookie = self.cookie + 1 & 0xFFFF
        base = {"op": op, "context": self.context, "generation": self.generation}
        return base | {"cookie": self.cookie} | fields

    def detached(self, a, tags):
        """Metadata fields of a detached frame from offset `a` on."""
        r = self.at(a)
        fields = {"detached": 1, "number": r.number, "offset": a - r.start, "tags": tags}
        if a > r.start:
            length = len(r.plain) - 5
            fields |= {"record_length": length, "record_type": r.plain[0]}
        return fields

    def post(self, frame, **meta):
        """Posts one frame and waits for its completion."""
        fields = self.meta(**meta)
        self.transport.post_tx(frame, TX_META.pack(fields))
        frames, completions = self.transport.poll_tx()
        [(tags, word)] = completions
        status = TX_STATUS.unpack(word)
        for name in ("op", "cookie", "context", "generation"):
            assert status[name] == fields[name]
        assert len(tags) == status["tags"] and len(frames) <= 1
        left = frames[0] if frames else None
        return Result(left, TxReason(status["reason"]), tags, status)

    def send(self, a, b, payload=None, flags=ACK, **meta):
        """Posts bytes [a, b) of the stream as an ENCRYPT frame."""
        payload = self.plain(a, b) if payload is None else payload
        return self.post(self.host_frame(a, payload, flags), **meta)

    def dump(self, a, b, payload=None, **meta):
        """Posts the same bytes as a DUMP frame."""
        payload = self.plain(a, b) if payload is None else payload
        seq = (self.start + a) & 0xFFFFFFFF
        return self.post(payload, op=TxOp.DUMP, seq=seq, length=len(payload), **meta)

    def sent(self, a, b, result, flags=ACK):
        """Whether [a, b) was sent just as software would have sent it."""
        return result.reason == 0 and result.left == self.frame(a, self.wire(a, b), flags)

    def in_order(self, a=0, b=None, most=700):
        """Sends [a, b) in order in random cuts, all of which must be right."""
        b = self.end if b is None else b
        while a < b:
            end = min(b, a + self.rng.randint(1, most))
            result = self.send(a, end)
            assert self.sent(a, end, result), (a, end, result.reason)
            assert result.tags == [r.tag for r in self.records if a <= r.tag_at < end]
            a = end

    def header_size(self):
        return header_bytes(self.version)


def given(stream, a, b):
    """Posts [a, b) as a detached frame with all tags given."""
    return stream.send(a, b, stream.with_tags(a, b), **stream.detached(a, TxTags.GIVEN))


def stream(seed=0, **options):
    """A stream on a model of its own."""
    return TxStream(ModelTransport(CONFIG), seed, **options)


def counters(tx):
    """The device's transmit counters by name."""
    return {name: tx.transport.read(OFFSET["COUNT_" + name.upper()]) for name, _ in TX_COUNTERS}
