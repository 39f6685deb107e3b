# SPDX-License-Identifier: Apache-2.0
"""The cipher on records of `cryptography`: cut, shuffled, interleaved, tampered with.

Every text must be decrypted right and nothing else written; verdicts must be those of the records.
"""

import random
import time
from functools import lru_cache

import pytest

from rtl_tests.cipher.traffic import (
    CipherBench,
    Record,
    Traffic,
    new_key,
    new_record,
    shuffled_traffic,
)
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from tests.support.trial_counts import counts

DEFAULT = Config(ring_words=1 << 16, flows=16)
CONFIGS = {
    "default": DEFAULT,
    "one lane": Config(ring_words=1 << 16, flows=16, ghash_lanes=1),
    "deep": Config(ring_words=1 << 16, flows=16, ghash_lanes=7, aes_round_registers=2),
}


@lru_cache
def bench(config=DEFAULT):
    return CipherBench(config)


@pytest.mark.parametrize("budget", counts(200_000, 900_000))
@pytest.mark.parametrize("name", CONFIGS)
def test_shuffled(name, budget):
    config = CONFIGS[name]
    for seed in range(4):
        rng = random.Random(seed)
        traffic = shuffled_traffic(rng, config, budget)
        started = time.perf_counter()
        result = bench(config).run(traffic, idle=(0, 128)[seed & 1], stall=(0, 128)[seed // 2])
        seconds = time.perf_counter() - started
        print(f"{len(traffic.spans)} spans, {result.cycles} clocks in {seconds:.2f} s")


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_every_cut(version):
    """Records of every length around block edges, cut in two at every byte, in both orders."""
    rng = random.Random(version)
    traffic = Traffic(DEFAULT)
    key = new_key(rng, 3, version)
    traffic.install(key)
    for size in (*range(35), 63, 64, 65):
        record = new_record(rng, key, 0, size)
        total = len(record.wire)
        for cut in range(0, total + 1, 1 if size < 20 else 3):
            for order in (0, 1):
                pieces = [(0, cut), (cut, total)]
                if order:
                    pieces.reverse()
                pieces = [piece for piece in pieces if piece[0] < piece[1]]
                for i, (start, end) in enumerate(pieces):
                    traffic.feed(
                        record, start, end, first=i == 0, completes=i == len(pieces) - 1, last=True
                    )
    bench().run(traffic)


def test_bytewise():
    """One byte a span, shuffled: the same X row is written every few clocks."""
    rng = random.Random(5)
    traffic = Traffic(DEFAULT)
    for context in range(4):
        key = new_key(rng, context)
        traffic.install(key)
        for _ in range(10):
            record = new_record(rng, key, rng.randrange(5), rng.randrange(60))
            pieces = [(i, i + 1) for i in range(len(record.wire))]
            rng.shuffle(pieces)
            for i, (start, end) in enumerate(pieces):
                traffic.feed(
                    record, start, end, first=i == 0, completes=i == len(pieces) - 1, last=True
                )
    bench().run(traffic)


def test_every_tail_weight():
    """A one-byte piece of every block of the longest records: all powers H^e."""
    rng = random.Random(6)
    traffic = Traffic(DEFAULT)
    key = new_key(rng, 1, VERSION_TLS13)
    traffic.install(key)
    record = Record(key, 2, 7, 23, rng.randbytes(16623) + b"\x17").seal()
    places = [0, *(16 * i + rng.randrange(1, 16) for i in range(1039)), len(record.wire)]
    pieces = list(zip(places, places[1:], strict=False))
    for _ in range(2):
        rng.shuffle(pieces)
        for i, (start, end) in enumerate(pieces):
            traffic.feed(
                record, start, end, first=i == 0, completes=i == len(pieces) - 1, last=i % 5 == 0
            )
    traffic.feed(record, 0, 0, first=True, completes=False, last=True)
    bench().run(traffic)


def test_empty_spans():
    """Spans without bytes carry `completes` and `last`."""
    rng = random.Random(7)
    traffic = Traffic(DEFAULT)
    key = new_key(rng, 0, VERSION_TLS13)
    traffic.install(key)
    for good in (True, False):
        record = Record(key, 1, 9, 23, b"abc\x16\0\0").seal()
        if not good:
            record.flip(8 * len(record.wire) - 1)
        total = len(record.wire)
        traffic.feed(record, 0, total, first=True, completes=False, last=True)
        traffic.feed(record, total, total, first=False, completes=True, last=False)
        traffic.feed(record, total, total, first=False, completes=False, last=True)
        traffic.feed(record, 0, total, first=True, completes=True, last=False)
        traffic.feed(record, 0, 0, first=True, completes=False, last=True)
    bench().run(traffic)


def test_padding_in_an_earlier_span():
    """The inner type lies in front, then only padding; and the other way round."""
    rng = random.Random(8)
    traffic = Traffic(DEFAULT)
    key = new_key(rng, 0, VERSION_TLS13)
    traffic.install(key)
    for inner in (b"\x16", b"\x17", b"\x15\x16", b"\x16\x17"):
        for order in (0, 1):
            record = Record(key, 0, rng.getrandbits(64), 23, bytes(30) + inner + bytes(70)).seal()
            pieces = [(0, 20), (20, 50), (50, 90), (90, len(record.wire))]
            if order:
                pieces.reverse()
            for i, (start, end) in enumerate(pieces):
                traffic.feed(record, start, end, first=i == 0, completes=i == 3, last=True)
    assert [v["park"] for v in traffic.expected if v["verified"]] == [1, 1, 0, 0, 1, 1, 0, 0]
    bench().run(traffic)


def test_keys_change():
    """Keys come, go and come again between spans; other generations open nothing."""
    rng = random.Random(9)
    traffic = Traffic(DEFAULT)

    def whole(key, stale):
        record = new_record(rng, key, 0, rng.randrange(200))
        half = len(record.wire) // 2
        traffic.feed(record, 0, half, first=True, completes=False, last=False, stale=stale)
        traffic.feed(
            record, half, len(record.wire), first=False, completes=True, last=True, stale=stale
        )

    for round_ in range(20):
        old = new_key(rng, 5, generation=round_)
        other = new_key(rng, 6, generation=round_)
        whole(other, True)
        traffic.install(old)
        whole(old, False)
        traffic.install(other)
        whole(old, False)
        whole(other, False)
        new = new_key(rng, 5, generation=round_ + 100)
        traffic.install(new)
        whole(old, True)
        whole(new, False)
        traffic.token(new.clear())
        whole(new, True)
        whole(other, False)
        traffic.token(other.clear())
    for seed in range(3):
        bench().run(traffic, idle=(0, 100, 230)[seed], stall=(253, 0, 128)[seed], seed=seed + 1)


@pytest.mark.parametrize("size", [1, 47, 64, 250, 1400, 16384])
def test_throughput(size):
    """Whole records of changing flows back to back: clocks a slot."""
    rng = random.Random(10)
    traffic = Traffic(DEFAULT)
    keys = [new_key(rng, context, VERSION_TLS13) for context in range(8)]
    for key in keys:
        traffic.install(key)
    slots = 0
    for i in range(min(1000, 900_000 // (size + 17))):
        record = Record(keys[i % 8], 0, i, 23, rng.randbytes(size - 1) + b"\x17").seal()
        # Pieces of at most 9,000 bytes, the length of a large frame.
        places = [*range(0, len(record.wire), 9000), len(record.wire)]
        for start, end in zip(places, places[1:], strict=False):
            traffic.feed(
                record, start, end, first=start == 0, completes=end == len(record.wire), last=True
            )
            text_end = min(end, size)
            slots += -(-text_end // 16) - start // 16 + (end > size)
    result = bench().run(traffic)
    clocks = result.last_verdict - result.first_taken
    print(f"{size} bytes: {slots} slots in {clocks} clocks, {clocks / slots:.3f} clocks a slot")
    if size >= 47:
        assert clocks <= slots + 60
