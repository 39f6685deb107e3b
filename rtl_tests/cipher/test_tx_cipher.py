# SPDX-License-Identifier: Apache-2.0
"""The cipher's transmit side against records that `cryptography` sealed.

Every byte of text and tag must be that of the sealed record and nothing else written; verdicts must
count the bytes and know the difference for the TCP checksum; receive goes on beside it.
"""

import random
from functools import lru_cache

import pytest

from rtl_tests.cipher.traffic import (
    Record,
    Traffic,
    new_key,
    new_record,
    random_size,
    shuffled_traffic,
)
from rtl_tests.cipher.tx_traffic import COMPARE, COMPUTE, GIVEN, TxCipherBench, TxTraffic
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from tests.support.trial_counts import seeds

DEFAULT = Config(ring_words=1 << 16, flows=16, tx_flows=8, tx_ring_words=1 << 16)
CONFIGS = {
    "default": DEFAULT,
    # More contexts than receive has, a smaller ring, the deepest pipelines.
    "deep": Config(
        ring_words=1 << 16,
        flows=4,
        tx_flows=16,
        tx_ring_words=1 << 15,
        ghash_lanes=7,
        aes_round_registers=2,
    ),
}
FRAME = 9000  # bytes of text and tag in a frame, at most about twice as many here


@lru_cache
def _bench(config):
    return TxCipherBench(config)


def bench(config=DEFAULT):
    return _bench(config)


def sealed(rng, key, size):
    """A record that authenticates."""
    record = new_record(rng, key, 0, size)
    return record if record.good else sealed(rng, key, size)


def cut_up(traffic, record, places, rng=None, **how):
    """The pieces of a record between places, in order, each in a frame of its own."""
    for i, (start, end) in enumerate(zip(places, places[1:], strict=False)):
        traffic.skip(rng.randrange(30) if rng else 0)
        traffic.feed(record, start, end, first=i == 0, last=True, **how)


def random_traffic(rng, config, budget):
    """Records of many contexts, both key slots and both rows, in pieces that take turns."""
    traffic = TxTraffic(config)
    keys = {}
    for context in rng.sample(range(config.tx_flows), 4):
        for key_slot in (0, 1):
            keys[context, key_slot] = new_key(rng, context)
            traffic.install(keys[context, key_slot], key_slot)
    lanes = [(context, detached) for context, _ in keys for detached in (0, 1)]
    under_way, done = {}, []

    def feed(*args, **how):
        last = rng.random() < 0.4 or traffic.frame["written"] > 4000
        traffic.skip(rng.choice((0, 5, 13)))
        traffic.feed(*args, last=last, **how)

    while budget > 0 or under_way:
        if done and rng.random() < 0.15:
            record, key_slot = rng.choice(done)
            total = len(record.wire)
            start = rng.choice((0, rng.randrange(total), max(total - rng.randrange(1, 20), 0)))
            end = min(total, start + rng.choice((1, 16, 100, FRAME)))
            flip = 0 if end > max(start, len(record.plain)) and rng.random() < 0.2 else None
            feed(
                record,
                start,
                end,
                first=start == 0,
                key_slot=key_slot,
                mode=GIVEN,
                use_row=False,
                detached=rng.randrange(2),
                flip=flip,
            )
            budget -= end - start
        lane = rng.choice(lanes if budget > 0 else list(under_way))
        if lane not in under_way:
            key_slot = rng.randrange(2)
            size = 16300 if rng.random() < 0.02 else random_size(rng)
            record = sealed(rng, keys[lane[0], key_slot], size)
            budget -= len(record.wire)
            pieces = record.cut(rng, rng.choice((0, 0, 1, 2, 8)))
            alone = len(pieces) == 1 and rng.random() < 0.5
            under_way[lane] = [record, key_slot, pieces, not alone]
        record, key_slot, pieces, use_row = under_way[lane]
        for _ in range(rng.choice((1, 1, len(pieces)))):
            start, end = pieces.pop(0)
            mode = rng.choice((COMPUTE, COMPARE))
            tag_bytes = end - max(start, len(record.plain))
            flip = None
            if mode == COMPARE and tag_bytes > 0 and rng.random() < 0.2:
                flip = rng.randrange(8 * tag_bytes)
            feed(
                record,
                start,
                end,
                first=start == 0,
                key_slot=key_slot,
                mode=mode,
                use_row=use_row,
                detached=lane[1],
                flip=flip,
            )
            if not pieces:
                done.append((record, key_slot))
                del under_way[lane]
                break
    record = sealed(rng, keys[lanes[0][0], 0], 40)
    traffic.feed(record, 0, len(record.wire), first=True, last=True)
    return traffic


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", seeds(2, 4))
def test_both_directions(name, seed):
    """Random cuts of random records on transmit, shuffled pieces on receive, and stalls."""
    config = CONFIGS[name]
    rng = random.Random(seed)
    tx = random_traffic(rng, config, min(400_000, config.tx_ring_words * 8))
    rx = shuffled_traffic(rng, config, 400_000) if config.flows >= 6 else Traffic(config)
    assert any(v["mismatch"] for _, v in tx.outcomes if isinstance(v, dict))
    quick = seed & 1
    result = bench(config).run(
        tx,
        rx,
        idle=(100, 0)[quick],
        stall=(128, 0)[quick],
        tx_idle=(0, 60)[seed // 2],
        tx_stall=(0, 128)[seed // 2],
        tag_stall=(0, 200)[seed // 2],
        seed=seed + 1,
        over_half=(0, 20, 5, 0)[seed],
        tx_over_half=(0, 20, 0, 5)[seed],
    )
    print(f"{len(rx.spans)} and {len(tx.spans)} spans, {result.cycles} clocks")


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_every_cut(version, bits):
    """Records of every length around block edges, cut in two at every byte, the tag too."""
    rng = random.Random(version + bits)
    traffic = TxTraffic(DEFAULT)
    key = new_key(rng, 3, version)
    while len(key.key) * 8 != bits:
        key = new_key(rng, 3, version)
    traffic.install(key, 1)
    for size in (*range(35), 63, 64, 65):
        record = sealed(rng, key, size)
        total = len(record.wire)
        for at in range(1, total, 1 if size < 20 else 3):
            cut_up(traffic, record, (0, at, total), rng, key_slot=1, mode=rng.choice((0, 2)))
    bench().run(traffic)


def test_bytewise():
    """One byte a span, and all bytes of the tag in frames of their own."""
    rng = random.Random(1)
    traffic = TxTraffic(DEFAULT)
    for context in range(4):
        key = new_key(rng, context)
        traffic.install(key)
        for detached in (0, 1):
            record = sealed(rng, key, rng.randrange(60))
            places = range(len(record.wire) + 1)
            cut_up(traffic, record, places, rng, detached=detached)
    bench().run(traffic)


@pytest.mark.parametrize("mode", [COMPUTE, GIVEN, COMPARE])
def test_checksum_of_every_length(mode):
    """Texts of 1 to 70 bytes at odd and even places: the difference is that of the bytes."""
    rng = random.Random(2)
    traffic = TxTraffic(DEFAULT)
    key = new_key(rng, 0, VERSION_TLS12)
    traffic.install(key)
    for size in range(1, 71):
        for odd in (0, 1):
            record = sealed(rng, key, size)
            traffic.skip(odd)
            traffic.feed(
                record, 0, len(record.wire), first=True, last=True, mode=mode, use_row=mode != GIVEN
            )
    sums = {v["sum"] % 0xFFFF for _, v in traffic.outcomes if isinstance(v, dict)}
    assert len(sums) > 100
    bench().run(traffic)


def test_rows_of_a_context():
    """Stream and side rows, and what is GIVEN, leave one another alone; so do contexts."""
    rng = random.Random(3)
    traffic = TxTraffic(DEFAULT)
    keys = [new_key(rng, context) for context in range(3)]
    for key in keys:
        traffic.install(key)
    for _ in range(20):
        records = {(key, detached): sealed(rng, key, 100) for key in keys for detached in (0, 1)}
        for (_, detached), record in records.items():
            traffic.feed(record, 0, 50, first=True, last=False, detached=detached)
        for (_, detached), record in records.items():
            total = len(record.wire)
            traffic.feed(
                record,
                20,
                total,
                first=False,
                last=False,
                detached=detached,
                mode=GIVEN,
                use_row=False,
            )
            traffic.feed(record, 50, total - 7, first=False, last=True, detached=detached)
        for (_, detached), record in records.items():
            total = len(record.wire)
            traffic.feed(record, total - 7, total, first=False, last=True, detached=detached)
    bench().run(traffic)


def test_mismatch():
    """A stored tag that differs in any one bit, in either part of a tag that is cut."""
    rng = random.Random(4)
    traffic = TxTraffic(DEFAULT)
    key = new_key(rng, 5)
    traffic.install(key)
    record = sealed(rng, key, 30)
    text, total = len(record.plain), len(record.wire)
    for bit in range(0, 128, 3):
        for flip in (None, bit):
            traffic.feed(record, 0, total, first=True, last=True, mode=COMPARE, flip=flip)
    for flip in (None, 0, 23, 39):
        traffic.feed(record, 0, text + 5, first=True, last=True, mode=COMPARE, flip=flip)
        flip = None if flip is None else flip + 40
        traffic.feed(record, text + 5, total, first=False, last=True, mode=COMPARE, flip=flip)
    found = [v["mismatch"] for _, v in traffic.outcomes if isinstance(v, dict)]
    assert sum(found) == 43 + 6
    bench().run(traffic)


def test_stale_keys():
    """Under a key that was replaced or cleared nothing is written, and the verdict says so."""
    rng = random.Random(5)
    traffic = TxTraffic(DEFAULT)
    rx = Traffic(DEFAULT)
    rx_key = new_key(rng, 2)

    def whole(key, stale, key_slot=0):
        record = sealed(rng, key, rng.randrange(1, 200))
        total = len(record.wire)
        half = total - rng.randrange(1, 20)
        how = {"key_slot": key_slot, "stale": stale, "mode": rng.choice((COMPUTE, COMPARE))}
        traffic.feed(record, 0, half, first=True, last=False, **how)
        traffic.feed(record, half, total, first=False, last=True, **how)

    for _ in range(20):
        # Receive's context 2 has another key than transmit's.
        rx.install(rx_key)
        for _ in range(4):
            record = new_record(rng, rx_key, 0, rng.randrange(500))
            rx.feed(record, 0, len(record.wire), first=True, completes=True, last=True)
    for name in range(20):
        old, other = (new_key(rng, context, generation=name) for context in (2, 3))
        whole(other, True)
        traffic.install(old)
        whole(old, False)
        whole(old, True, 1)
        traffic.install(other)
        whole(old, False)
        whole(other, False)
        new = new_key(rng, 2, generation=name + 100)
        traffic.install(new)
        traffic.install(old, 1)
        whole(old, True)
        whole(old, False, 1)
        whole(new, False)
        traffic.clear(2, 0)
        traffic.clear(2, 1)
        whole(new, True)
        whole(old, True, 1)
        whole(other, False)
        traffic.clear(3)
    for seed in range(3):
        bench().run(
            traffic, rx, tx_idle=(0, 100, 230)[seed], tx_stall=(253, 0, 128)[seed], seed=seed + 1
        )


@pytest.mark.parametrize("stuck", ["receive", "transmit"])
def test_one_direction_waits(stuck):
    """A host that takes nothing of one direction does not hold up the other, its keys included.

    The direction that is stuck has its one key before: there is one staging memory.
    """
    rng = random.Random(6)
    tx, rx = TxTraffic(DEFAULT), Traffic(DEFAULT)
    for traffic, stays in ((tx, stuck == "transmit"), (rx, stuck == "receive")):
        keys = [new_key(rng, i % 4, generation=i) for i in range(1 if stays else 60)]
        for key in keys if stays else ():
            traffic.install(key)
        for i in range(60):
            key = keys[i % len(keys)]
            if not stays:
                traffic.install(key)
            for _ in range(10):
                record = sealed(rng, key, rng.randrange(300))
                half = len(record.wire) // 2
                for start, end in ((0, half), (half, len(record.wire))):
                    first, last = start == 0, end > half
                    ends = {"completes": last} if traffic is rx else {}
                    traffic.feed(record, start, end, first=first, last=last, **ends)
    # Its ring fills, so its slots would come first.
    if stuck == "receive":
        stalls = {"stall": 256, "over_half": 256}
    else:
        stalls = {"tx_stall": 256, "tx_over_half": 256}
    result = bench().run(tx, rx, **stalls, limit=200_000)
    assert (result.tx_done > 0, result.rx_done > 0) == (stuck == "receive", stuck == "transmit")


@pytest.mark.parametrize("over_half", [False, True])
@pytest.mark.parametrize("short", ["transmit", "receive"])
def test_short_beside_long(short, over_half):
    """A record of 64 bytes does not wait for the long ones of the other direction.

    It has 5 slots and waits for one more with each, or for 7 while the other direction's ring is
    over half full; and for the products of one span in front. Sometimes two are under way at once.
    """
    rng = random.Random(8)
    tx, rx = TxTraffic(DEFAULT), Traffic(DEFAULT)
    keys = [new_key(rng, context, VERSION_TLS12) for context in range(2)]
    many, few = (rx, tx) if short == "transmit" else (tx, rx)
    alone = type(few)(DEFAULT)

    def feed(traffic, size):
        record = Record(keys[1], 0, rng.getrandbits(64), 23, rng.randbytes(size)).seal()
        places = [*range(0, len(record.wire), FRAME), len(record.wire)]
        for start, end in zip(places, places[1:], strict=False):
            ends = {} if isinstance(traffic, TxTraffic) else {"completes": end > size}
            traffic.feed(record, start, end, first=start == 0, last=True, **ends)

    for traffic, size, count in ((many, 16384, 50), (few, 64, 150), (alone, 64, 150)):
        traffic.install(keys[1])
        for _ in range(count):
            feed(traffic, size)
    if short == "transmit":
        base = bench().run(alone, tx_idle=254).tx_waits
        result = bench().run(tx, rx, tx_idle=254, over_half=256 * over_half)
        waits, ends = result.tx_waits, (result.tx_done, result.rx_done)
    else:
        base = bench().run(TxTraffic(DEFAULT), alone, idle=254).waits
        result = bench().run(tx, rx, idle=254, tx_over_half=256 * over_half)
        waits, ends = result.waits, (result.rx_done, result.tx_done)
    assert len(waits) == len(base) == 150
    assert ends[0] < ends[1], "the long ones were there all the time"
    # While a key is taken, 90 clocks, nothing else is.
    before, beside = max(base[1:]), max(waits[1:])
    print(f"{before} clocks from offer to verdict alone, {beside} beside long records")
    assert beside <= before + (112 if over_half else 24)


@pytest.mark.parametrize("size", [47, 250, 1400, 8000])
def test_throughput(size):
    """Whole records of both directions back to back: clocks a slot."""
    rng = random.Random(7)
    tx, rx = TxTraffic(DEFAULT), Traffic(DEFAULT)
    keys = [new_key(rng, context, VERSION_TLS13) for context in range(8)]
    slots = 0
    for key in keys:
        tx.install(key)
        rx.install(key)
    for i in range(min(500, 450_000 // (size + 17))):
        for traffic, ends in ((tx, {}), (rx, {"completes": True})):
            record = Record(keys[i % 8], 0, i, 23, rng.randbytes(size - 1) + b"\x17").seal()
            traffic.feed(record, 0, len(record.wire), first=True, last=True, **ends)
            slots += -(-size // 16) + 1
    result = bench().run(tx, rx)
    # Those of the key tokens in front are counted, about 90 each.
    print(f"{size} bytes: {slots} slots in {result.cycles} clocks, {len(keys) * 2} key tokens")
    # Key tokens take the first 16 times 90 clocks or so.
    assert result.cycles <= slots + 2000
