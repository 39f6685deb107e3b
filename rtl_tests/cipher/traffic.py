# SPDX-License-Identifier: Apache-2.0
"""Sealed records, cut into spans, and the cipher with a bench around it.

Keys are random and protect nothing.
"""

import ctypes
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.lib import data

from rtl_tests.support.verilated import build, words
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.cipher.cipher import Cipher
from sealane.hdl.common.layouts import Layouts, SpanKind
from tests.support import tls_records
from tests.support.gf128 import powers_of_h

BLANK = {"bad": 0, "stale": 0, "verified": 0, "park": 0, "park_last": 0, "number": 0, "proof": 0}


@dataclass(frozen=True)
class Key:
    """What a context is installed with."""

    context: int
    generation: int
    version: int
    key: bytes
    iv: bytes

    def span(self):
        return {
            "kind": SpanKind.KEY_WRITE,
            "context": self.context,
            "generation": self.generation,
            "version": self.version,
            "key256": len(self.key) == 32,
        }

    def clear(self):
        return {"kind": SpanKind.KEY_CLEAR, "context": self.context}

    def stage(self):
        """44 words of staging memory."""
        text = self.key.ljust(32, b"\0") + self.own_iv
        return text.ljust(48, b"\0") + b"".join(powers_of_h(self.key))

    @property
    def own_iv(self):
        """In TLS 1.2 the salt alone."""
        return self.iv[: 4 if self.version == VERSION_TLS12 else 12]


@dataclass
class Record:
    """A sealed record. `good`: it authenticates; the text decrypts in any case."""

    key: Key
    slot: int
    number: int
    content_type: int
    plain: bytes  # in TLS 1.3 with inner type and padding
    nonce: bytes = bytes(8)
    good: bool = True
    wire: bytes = b""  # text and tag
    probe: bool = False  # its number is a guess

    def seal(self):
        key = self.key
        explicit = self.nonce if key.version == VERSION_TLS12 else b""
        record = tls_records.seal(
            key.version, key.key, key.own_iv, self.number, self.content_type, self.plain, explicit
        )
        self.wire = record[5 + len(explicit) :]
        return self

    def flip(self, bit):
        """Turns one bit of text or tag over; the plaintext follows, the tag fails."""
        at, mask = bit // 8, 1 << bit % 8
        self.wire = self.wire[:at] + bytes([self.wire[at] ^ mask]) + self.wire[at + 1 :]
        if at < len(self.plain):
            self.plain = self.plain[:at] + bytes([self.plain[at] ^ mask]) + self.plain[at + 1 :]
        self.good = False

    @property
    def length(self):
        return len(self.plain) + (16 if self.key.version == VERSION_TLS13 else 24)

    @property
    def parks(self):
        if self.key.version == VERSION_TLS13:
            return self.plain.rstrip(b"\0")[-1:] == b"\x16"
        return self.content_type in (20, 22)

    def cut(self, rng, cuts):
        """Pieces (start, end) of text and tag, at random places near and far from block edges.

        None is longer than a frame.
        """
        total = len(self.wire)
        places = {*range(0, total, 9000), total}
        for _ in range(cuts):
            at = rng.randrange(total + 1)
            places.add(rng.choice((at, at // 16 * 16, max(total - rng.randrange(20), 0))))
        places = sorted(places)
        return list(zip(places, places[1:], strict=False))


@dataclass
class Traffic:
    """Spans in order with what must come of them."""

    config: Config
    spans: list = field(default_factory=list)
    stages: list = field(default_factory=list)
    texts: list = field(default_factory=list)  # (ring address, plaintext)
    expected: list = field(default_factory=list)  # verdicts
    packet: dict = field(default_factory=dict)

    def __post_init__(self):
        self.layouts = Layouts(self.config)
        self.size = self.config.ring_words * 16
        self.ring = bytearray(self.size)
        self.at = self.size - 777  # so that the ring's end is crossed
        self.used = 0

    def install(self, key):
        self.stages.append(key.stage())
        self.token(key.span())

    def token(self, span):
        """A key token: an empty verdict says that it was executed."""
        self.spans.append(span)
        self.expected.append(dict(BLANK))

    def feed(self, record, start, end, *, first, completes, last, stale=False):
        """One piece of a record; `stale`: the key store has another generation, or no key."""
        n_text = len(record.plain)
        piece = record.wire[start:end]
        address = self.at
        for i, byte in enumerate(piece):
            self.ring[(address + i) % self.size] = byte
        self.at = (self.at + len(piece)) % self.size
        self.used += len(piece)
        assert self.used <= self.size
        text_end = min(end, n_text)
        if start < text_end and not stale:
            self.texts.append((address, record.plain[start:text_end]))
        self.spans.append(
            {
                "context": record.key.context,
                "generation": record.key.generation,
                "version": record.key.version,
                "slot": record.slot,
                "number": record.number,
                "nonce": int.from_bytes(record.nonce, "little"),
                "content_type": record.content_type,
                "length": record.length,
                "ring_byte": address,
                "text_offset": min(start, n_text),
                "text_bytes": max(text_end - start, 0),
                "tag_offset": max(start - n_text, 0),
                "tag_bytes": max(end - max(start, n_text), 0),
                "first": first,
                "completes": completes,
                "probe": record.probe,
                "last": last,
            }
        )
        self._judge(record, completes and not stale, stale, last)

    def check(self, verdicts, shadow):
        """Compares what came out; numbers count only where the verdict speaks of a record."""
        for verdict, wanted in zip(verdicts, self.expected, strict=False):
            if not (wanted["bad"] or wanted["park"]):
                verdict["number"] = 0
        assert verdicts == self.expected
        wanted_shadow = bytearray(b"\xa5" * self.size)
        for address, plain in self.texts:
            for i, byte in enumerate(plain):
                wanted_shadow[(address + i) % self.size] = byte
        assert shadow == bytes(wanted_shadow)

    def _judge(self, record, completes, stale, last):
        packet = self.packet or dict(BLANK)
        self.packet = packet
        packet["stale"] |= stale
        if completes and not packet["bad"]:
            if record.good:
                if record.probe:
                    packet["proof"] = 1
                else:
                    packet["verified"] += 1
                if record.parks:
                    first = not packet["park"]
                    packet.update(park=1, park_last=int(last and first), number=record.number)
            elif not packet["park"] and not record.probe:
                packet.update(bad=1, number=record.number)
        if last:
            self.expected.append(packet)
            self.packet = {}


def new_key(rng, context, version=None, generation=None):
    version = rng.choice((VERSION_TLS12, VERSION_TLS13)) if version is None else version
    return Key(
        context,
        rng.randrange(256) if generation is None else generation,
        version,
        rng.randbytes(rng.choice((16, 32))),
        rng.randbytes(12),
    )


def new_record(rng, key, slot, size):
    if key.version == VERSION_TLS12:
        plain, nonce = rng.randbytes(size), rng.randbytes(8)
        content_type = rng.choice((20, 21, 22, 23))
    else:
        padding = rng.choice((0, 0, 0, 1, 16, rng.randrange(200)))
        plain = rng.randbytes(size) + bytes([rng.choice((21, 22, 23))]) + bytes(padding)
        content_type, nonce = 23, bytes(8)
    record = Record(key, slot, rng.getrandbits(64), content_type, plain, nonce).seal()
    if rng.random() < 0.15:
        record.flip(rng.randrange(8 * len(record.wire)))
    return record


def random_size(rng):
    return rng.choice(
        (0, 1, 15, 16, 17, 31, 32, rng.randrange(100), rng.randrange(600), rng.randrange(5000))
    )


def shuffled_traffic(rng, config, budget):
    """Lanes (context, slot) with records in pieces, shuffled within a record and among lanes."""
    traffic = Traffic(config)
    keys = [new_key(rng, context) for context in rng.sample(range(config.flows), 6)]
    for key in keys:
        traffic.install(key)
    lanes = [(key, slot) for key in keys for slot in range(config.record_slots + 1)]
    open_pieces = {}
    while budget > 0 or open_pieces:
        lane = rng.choice(lanes if budget > 0 else list(open_pieces))
        if lane not in open_pieces:
            record = new_record(rng, *lane, random_size(rng))
            if rng.random() < 0.02:
                record = new_record(rng, *lane, 16380)
            record.probe = lane[1] == config.record_slots
            budget -= len(record.wire)
            pieces = record.cut(rng, rng.choice((0, 0, 1, 2, 8)))
            rng.shuffle(pieces)
            open_pieces[lane] = [record, pieces, True]
        record, pieces, first = open_pieces[lane]
        for _ in range(rng.choice((1, 1, len(pieces)))):
            start, end = pieces.pop()
            traffic.feed(
                record, start, end, first=first, completes=not pieces, last=rng.random() < 0.4
            )
            first = open_pieces[lane][2] = False
            if not pieces:
                del open_pieces[lane]
                break
    record = new_record(rng, keys[0], 0, 40)
    traffic.feed(record, 0, len(record.wire), first=True, completes=True, last=True)
    return traffic


def packed_items(layout, items):
    """Rows of 32-bit words, one an item."""
    width = 4 * words(layout.size)
    return b"".join(
        layout.const({k: int(v) for k, v in item.items()}).as_bits().to_bytes(width, "little")
        for item in items
    )


def unpacked(layout, raw, count):
    """The items back: {field: value}."""
    width, items = 4 * words(layout.size), []
    for i in range(count):
        bits = int.from_bytes(raw[i * width :][:width], "little") & ((1 << layout.size) - 1)
        value = layout.from_bits(bits)
        items.append({name: _plain(getattr(value, name)) for name in layout.members})
    return items


def _plain(value):
    if isinstance(value, data.Const):
        return {name: _plain(getattr(value, name)) for name in value.shape().members}
    return int(value)


class _Knobs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("span_words", "verdict_words", "ring_bytes", "idle", "stall", "seed")
    ]


class Result(ctypes.Structure):
    """Clocks are numbered from 0; `slots` counts text slots."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "verdicts",
            "cycles",
            "first_taken",
            "last_verdict",
            "slots",
            "unclean_stages",
            "unstable",
        )
    ]


class CipherBench:
    """The cipher under Verilator."""

    def __init__(self, config):
        self.config = config
        self.layouts = Layouts(config)
        bench = (Path(__file__).parent / "bench.cpp").read_text()
        self.library = build(Cipher, config, bench=bench)

    def run(self, traffic, *, idle=0, stall=0, seed=1):
        """Runs the traffic and checks texts, verdicts and streams.

        idle, stall: chance in 256 that a clock brings no span, takes no verdict.
        """
        span, verdict = self.layouts.span, self.layouts.verdict
        width, verdict_width = 4 * words(span.size), 4 * words(verdict.size)
        knobs = _Knobs(width // 4, verdict_width // 4, traffic.size, idle, stall, seed)
        packed = packed_items(span, traffic.spans)
        shadow = ctypes.create_string_buffer(b"\xa5" * traffic.size, traffic.size)
        count = len(traffic.expected)
        verdicts = ctypes.create_string_buffer(verdict_width * count)
        result = Result()
        self.library.run(
            ctypes.byref(knobs),
            packed,
            ctypes.c_uint64(len(traffic.spans)),
            b"".join(traffic.stages),
            bytes(traffic.ring),
            shadow,
            verdicts,
            ctypes.c_uint64(count),
            ctypes.c_uint64(10_000_000),
            ctypes.byref(result),
        )
        traffic.check(unpacked(verdict, verdicts.raw, result.verdicts), shadow.raw)
        assert result.unstable == 0
        assert result.unclean_stages == 0
        return result
