# SPDX-License-Identifier: Apache-2.0
"""Reader of transmit: what leaves of a frame, against a reference byte by byte."""

import random

import pytest

from rtl_tests.tx.bench import CONFIG, Bench, frames_of, random_frame
from sealane.hdl.tx.reader import TxReader
from sealane.sim.unit import build

CHECKSUM = 0xBEEF


@pytest.fixture(scope="module")
def reader():
    return lambda: build(TxReader, CONFIG, name="tx_reader")


def job_of(unit, frame, kind):
    """The job as an integer; kind: "encrypt", "pass" or "drop"."""
    return (
        unit.shapes["jobs__payload"]
        .const(
            {
                "drop": kind.startswith("drop"),
                "encrypt": kind in ("encrypt", "drop_encrypt"),
                "clears": len(frame.spans),
                "payload_at": frame.payload_at,
                "payload_end": frame.payload_end,
                "checksum_at": frame.checksum_at,
                "checksum": CHECKSUM,
            }
        )
        .as_value()
        .value
    )


def run(unit, items, rng, idle=0.0, stall=0.0):
    """Frames that leave of (frame, kind), and the clocks that they take."""
    bench = Bench(unit, rng, {"jobs": idle, "clear_spans": 0.0}, {"frames": stall})
    order = iter(items)

    def admit(frame, kind):
        bench.sources["clear_spans"].queue.extend(start | end << 14 for start, end in frame.spans)
        bench.sources["jobs"].queue.append(job_of(unit, frame, kind))

    for frame, kind in items:
        bench.rings.waiting.append((frame, lambda f=frame, k=kind: admit(f, k)))
    bench.on_offer["jobs"] = lambda _: bench.rings.settle(next(order)[0])
    total = sum(-(-len(f.host) // 16) for f, kind in items if not kind.startswith("drop"))

    def done():
        return len(bench.sinks["frames"].got) == total and bench.rings.drained()

    clocks = bench.run(done)
    assert not bench.sources["clear_spans"].queue
    return frames_of(bench.sinks["frames"].got), clocks


def expect(items):
    """The reference."""
    return [
        frame.encrypted(CHECKSUM.to_bytes(2, "little")) if kind == "encrypt" else frame.host
        for frame, kind in items
        if not kind.startswith("drop")
    ]


KINDS = ("encrypt", "encrypt", "encrypt", "pass", "drop", "drop_encrypt")


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.9, 0), (0, 0.6), (0.3, 0.3), (0.95, 0.9)])
def test_random_frames(reader, idle, stall):
    rng = random.Random(f"{idle} {stall}")
    items = [(random_frame(rng), rng.choice(KINDS)) for _ in range(120)]
    assert run(reader(), items, rng, idle, stall)[0] == expect(items)


def test_every_length(reader):
    """Payloads that begin and end in every place of a word."""
    rng = random.Random(4)
    items = [(random_frame(rng, length), "encrypt") for length in range(54, 140) for _ in range(6)]
    assert run(reader(), items, rng)[0] == expect(items)


def test_nothing_written_leaves_only_headers(reader):
    """Fail closed: with no text written not one byte of text leaves, whatever is in the rings."""
    rng = random.Random(5)
    items = [(random_frame(rng, written=0), "encrypt") for _ in range(40)]
    frames, _ = run(reader(), items, rng)
    for (frame, _), out in zip(items, frames, strict=True):
        clear = {at for start, end in frame.spans for at in range(start, end)}
        for at in range(frame.payload_at, len(out)):
            assert out[at] == (frame.host[at] if at in clear else 0)
    assert frames == expect(items)


def test_a_frame_that_is_too_long_never_gets_back_to_its_front(reader):
    """Only dropped frames are longer than 16 KiB; if one were not, it would leave as zeros."""
    rng = random.Random(6)
    frame = random_frame(rng, 54 + 16 * 1100)
    frame.payload_at, frame.payload_end, frame.spans = 54, 1000, []
    items = [(frame, "encrypt"), (random_frame(rng), "encrypt")]
    unit = reader()
    bench = Bench(unit, rng, {"jobs": 0.0, "clear_spans": 0.0}, {"frames": 0.0})
    # It is longer than the ring, so its job comes first, as that of an oversize frame does.
    for item, _ in items:
        bench.sources["jobs"].queue.append(job_of(unit, item, "encrypt"))
        bench.sources["clear_spans"].queue.extend(s | e << 14 for s, e in item.spans)
        bench.rings.waiting.append((item, lambda: None))
    bench.run(lambda: sum(w >> 133 for w in bench.sinks["frames"].got) == 2)
    out = frames_of(bench.sinks["frames"].got)[0]
    assert len(out) == len(frame.host) and not any(out[1000:])


@pytest.mark.parametrize("kind", ["encrypt", "pass", "drop"])
@pytest.mark.parametrize("length", [64, 500])
def test_back_to_back(reader, kind, length):
    rng = random.Random(length)
    items = [(random_frame(rng, length), kind) for _ in range(40)]
    frames, clocks = run(reader(), items, rng)
    assert frames == expect(items)
    # The source loads two words a clock, so the reader alone sets the pace.
    assert clocks <= 40 * -(-length // 16) + 40


def test_nothing_is_lost_while_the_output_waits(reader):
    """An output that takes nothing for long fills the ring; then all of it leaves."""
    rng = random.Random(8)
    items = [(random_frame(rng), rng.choice(KINDS)) for _ in range(60)]
    unit = reader()
    bench = Bench(unit, rng, {"jobs": 0.0, "clear_spans": 0.0}, {"frames": 1.0})
    order = iter(items)

    def admit(frame, kind):
        bench.sources["clear_spans"].queue.extend(s | e << 14 for s, e in frame.spans)
        bench.sources["jobs"].queue.append(job_of(unit, frame, kind))

    for frame, kind in items:
        bench.rings.waiting.append((frame, lambda f=frame, k=kind: admit(f, k)))
    bench.on_offer["jobs"] = lambda _: bench.rings.settle(next(order)[0])
    for _ in range(2000):
        bench.clock()
    assert not bench.sinks["frames"].got
    bench.sinks["frames"].stall = 0.0
    total = sum(-(-len(f.host) // 16) for f, kind in items if not kind.startswith("drop"))
    bench.run(lambda: len(bench.sinks["frames"].got) == total)
    assert frames_of(bench.sinks["frames"].got) == expect(items)
