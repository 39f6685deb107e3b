# SPDX-License-Identifier: Apache-2.0
"""Frames of plaintext records for the cipher's transmit side, and what must come of them.

Records are sealed by `cryptography`; keys are random and protect nothing.
"""

import ctypes
from dataclasses import dataclass, field
from pathlib import Path

from rtl_tests.cipher.traffic import Traffic, packed_items, unpacked
from rtl_tests.support.verilated import build, words
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TxTags
from sealane.hdl.cipher.cipher import Cipher
from sealane.hdl.common.layouts import Layouts, SpanKind
from sealane.hdl.common.tx_layouts import TxLayouts

COMPUTE, GIVEN, COMPARE = TxTags.COMPUTE, TxTags.GIVEN, TxTags.COMPARE
TAG = 16
ROOM = 0xA5


def key_row(config, context, key_slot):
    """The key row of a transmit context's key slot."""
    return config.flows + 2 * context + key_slot


@dataclass
class TxTraffic:
    """Spans in order with what must come of them. A `Key`'s context is one of transmit."""

    config: Config
    spans: list = field(default_factory=list)
    stages: list = field(default_factory=list)
    outcomes: list = field(default_factory=list)  # (address, bytes) of a tag, or a verdict
    tags: list = field(default_factory=list)  # bytes, or None: any value
    texts: int = 0  # bytes of text so far

    def __post_init__(self):
        self.size = self.config.tx_ring_words * 16
        self.ring = bytearray(self.size)
        self.wanted = bytearray(b"\xa5" * self.size)  # text ring
        self.at = self.size - 776  # so that the ring's end is crossed
        self.used = 0
        self._blank()

    def _blank(self):
        self.frame = {"stale": 0, "mismatch": 0, "written": 0, "sum": 0}

    def _verdict(self):
        self.outcomes.append((self.texts, self.frame))
        self._blank()

    def install(self, key, key_slot=0):
        self.stages.append(key.stage())
        row = key_row(self.config, key.context, key_slot)
        self.spans.append(key.span() | {"key_row": row})
        self._verdict()

    def clear(self, context, key_slot=0):
        row = key_row(self.config, context, key_slot)
        self.spans.append({"kind": SpanKind.KEY_CLEAR, "context": context, "key_row": row})
        self._verdict()

    def skip(self, count):
        """Header bytes, or the rest of a frame, that no span covers."""
        self.at = (self.at + count) % self.size
        self.used += count
        assert self.used <= self.size

    def feed(
        self,
        record,
        start,
        end,
        *,
        first,
        last,
        key_slot=0,
        mode=COMPUTE,
        use_row=True,
        detached=0,
        stale=False,
        flip=None,
    ):
        """One piece of a record. flip: a bit of the tag bytes in the frame that is turned over."""
        n_text = len(record.plain)
        text_end, tag_start = min(end, n_text), max(start, n_text) - n_text
        text = record.plain[start:text_end]
        tag = record.wire[n_text:]
        tag_bytes = max(end - max(start, n_text), 0)
        room = bytes([ROOM]) * tag_bytes
        if mode != COMPUTE:
            room = tag[tag_start : tag_start + tag_bytes]
        if flip is not None:
            room = (int.from_bytes(room, "little") ^ 1 << flip).to_bytes(tag_bytes, "little")
        out_tag = room if mode == GIVEN else tag[tag_start : tag_start + tag_bytes]
        address = self.at
        for i, byte in enumerate(text + room):
            self.ring[(address + i) % self.size] = byte
        self.skip(len(text) + tag_bytes)
        self.spans.append(
            {
                "context": record.key.context,
                "generation": record.key.generation,
                "version": record.key.version,
                "slot": detached,
                "number": record.number,
                "nonce": int.from_bytes(record.nonce, "little"),
                "content_type": record.content_type,
                "length": record.length,
                "ring_byte": address,
                "text_offset": min(start, n_text),
                "text_bytes": len(text),
                "tag_offset": tag_start if tag_bytes else 0,
                "tag_bytes": tag_bytes,
                "first": first,
                "completes": end == len(record.wire),
                "last": last,
                "key_row": key_row(self.config, record.key.context, key_slot),
                "tag_mode": mode,
                "use_row": use_row,
            }
        )
        if tag_bytes and not tag_start and mode != GIVEN:
            self.tags.append(None if stale else tag)
        if stale:
            self.frame["stale"] = 1
        else:
            self._change(address, text, record.wire[start:text_end])
            for i, byte in enumerate(record.wire[start:text_end]):
                self.wanted[(address + i) % self.size] = byte
            self.texts += len(text)
            if tag_bytes:
                place = (address + len(text)) % self.size
                self._change(place, room, out_tag)
                self.outcomes.append((place, out_tag))
                self.frame["mismatch"] |= int(mode == COMPARE and room != out_tag)
        if last:
            self._verdict()
            self.skip(self.used & 1)  # a frame begins at an even place

    def _change(self, address, old, new):
        """The frame's checksum: 16-bit lanes from an even place on, first byte low."""
        self.frame["written"] += len(new)
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            self.frame["sum"] += (after - before) << 8 * ((address + i) % 2)

    def check(self, outcomes, written, tags, text):
        """Compares what came out; written: text bytes written when each outcome was taken."""
        assert len(outcomes) == len(self.outcomes)
        for (place, wanted), got, bytes_then in zip(self.outcomes, outcomes, written, strict=True):
            assert got["is_verdict"] == isinstance(wanted, dict)
            if got["is_verdict"]:
                verdict = got["verdict"]
                assert verdict | {"sum": 0} == wanted | {"sum": 0}
                assert (verdict["sum"] - wanted["sum"]) % 0xFFFF == 0
                assert bytes_then >= place, "a verdict in front of its text"
            else:
                lanes = [i for i in range(TAG) if got["mask"] >> i & 1]
                assert lanes == list(range(lanes[0], lanes[0] + len(wanted)))
                assert (got["address"] + lanes[0]) % self.size == place
                assert bytes(got["tag"] >> 8 * i & 255 for i in lanes) == wanted
        for got, wanted in zip(tags, self.tags, strict=True):
            assert wanted is None or got == wanted
        assert text == bytes(self.wanted)


class _Knobs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in (
            "span_words",
            "verdict_words",
            "tx_span_words",
            "outcome_words",
            "ring_bytes",
            "tx_ring_bytes",
            "idle",
            "stall",
            "tx_idle",
            "tx_stall",
            "tag_stall",
            "seed",
            "over_half",
            "tx_over_half",
        )
    ]


class Result(ctypes.Structure):
    """`rx_done`, `tx_done`: the clock in which all of a direction was through, 0: never.

    `waits`, `tx_waits`: for each frame but key tokens, clocks from its last span's offer to its
    verdict.
    """

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "cycles",
            "verdicts",
            "outcomes",
            "tx_verdicts",
            "tags",
            "unclean_stages",
            "unstable",
            "rx_done",
            "tx_done",
        )
    ]


class TxCipherBench:
    """The cipher with both directions under Verilator."""

    def __init__(self, config):
        self.config = config
        bench = (Path(__file__).parent / "tx_bench.cpp").read_text()
        self.library = build(Cipher, config, bench=bench)

    def run(
        self,
        tx,
        rx=None,
        *,
        idle=0,
        stall=0,
        tx_idle=0,
        tx_stall=0,
        tag_stall=0,
        seed=1,
        over_half=0,
        tx_over_half=0,
        limit=10_000_000,
    ):
        """Runs the traffic and checks it. idle, stall: chances in 256; a stall of 256 takes
        nothing of that direction, which is then not checked. over_half: chances in 256 that a
        ring goes over half full or back; 256: it always is."""
        rx = rx or Traffic(self.config)
        span, verdict = Layouts(self.config).span, Layouts(self.config).verdict
        tx_span, outcome = TxLayouts(self.config).span, TxLayouts(self.config).outcome
        knobs = _Knobs(
            words(span.size),
            words(verdict.size),
            words(tx_span.size),
            words(outcome.size),
            rx.size,
            tx.size,
            idle,
            stall,
            tx_idle,
            tx_stall,
            tag_stall,
            seed,
            over_half,
            tx_over_half,
        )
        shadow = ctypes.create_string_buffer(b"\xa5" * rx.size, rx.size)
        text = ctypes.create_string_buffer(b"\xa5" * tx.size, tx.size)
        verdicts = ctypes.create_string_buffer(4 * knobs.verdict_words * len(rx.expected) + 4)
        outcomes = ctypes.create_string_buffer(4 * knobs.outcome_words * len(tx.outcomes) + 4)
        written = (ctypes.c_uint64 * (len(tx.outcomes) + 1))()
        tags = ctypes.create_string_buffer(TAG * len(tx.tags) + 4)
        result = Result()
        count = ctypes.c_uint64
        clocks = [
            (count * (len(items) + 1))() for items in (rx.spans, tx.spans, rx.expected, tx.outcomes)
        ]
        self.library.run(
            ctypes.byref(knobs),
            packed_items(span, rx.spans), count(len(rx.spans)), b"".join(rx.stages),
            packed_items(tx_span, tx.spans), count(len(tx.spans)), b"".join(tx.stages),
            bytes(rx.ring), bytes(tx.ring), shadow, text,
            verdicts, count(len(rx.expected)), outcomes, count(len(tx.outcomes)), written,
            tags, count(len(tx.tags)), count(limit), *clocks, ctypes.byref(result),
        )  # fmt: skip
        if stall < 256:
            rx.check(unpacked(verdict, verdicts.raw, result.verdicts), shadow.raw)
        if tx_stall < 256:
            given = [tags.raw[TAG * i :][:TAG] for i in range(result.tags)]
            got = unpacked(outcome, outcomes.raw, result.outcomes)
            tx.check(got, list(written)[: len(got)], given, text.raw)
        assert result.unstable == 0
        assert result.unclean_stages == 0
        outcomes = zip(clocks[3], tx.outcomes, strict=False)
        tx_ends = [at for at, (_, out) in outcomes if isinstance(out, dict)]
        result.waits = _waits(rx.spans, clocks[0], clocks[2])
        result.tx_waits = _waits(tx.spans, clocks[1], tx_ends)
        return result


def _waits(spans, offered, ends):
    """Clocks from the offer of each frame's last span to its verdict, key tokens left out."""
    closing = [(span, at) for span, at in zip(spans, offered, strict=False) if _closes(span)]
    return [
        end - at for (span, at), end in zip(closing, ends, strict=False) if not span.get("kind")
    ]


def _closes(span):
    """Whether a verdict follows: key tokens, and the last span of a frame."""
    return span.get("kind") or span["last"]
