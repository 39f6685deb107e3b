# SPDX-License-Identifier: Apache-2.0
"""Ingress against the parser's model: good, bad and adversarial frames, with and without idles."""

import random

import pytest

from sealane.driver.net.parser import parse
from sealane.hdl.abi.commands import FLOW_KEY
from sealane.hdl.abi.config import Config
from sealane.hdl.common.layouts import Word
from sealane.hdl.ingress.ingress import Ingress
from sealane.sim.unit import build
from tests.support.internet_checksum import checksum

CONFIG = Config(ring_words=256, max_frame=1600)
TAGS = (b"\x81\x00\x00\x05", b"\x88\xa8\x20\x07", b"\x91\x00\xff\xff")
EXTENSIONS = (0, 43, 60)


@pytest.fixture(scope="module")
def unit():
    return build(Ingress, CONFIG, name="ingress")


def put(data, at, value, size=2):
    return data[:at] + value.to_bytes(size, "big") + data[at + size :]


def tcp_segment(rng, length, doff, pseudo):
    segment = rng.randbytes(12) + bytes([doff << 4 | rng.randrange(16), rng.randrange(256)])
    segment = put(segment + rng.randbytes(2 + 2 + 2 + 4 * (doff - 5) + length), 16, 0)
    total = pseudo + len(segment).to_bytes(4, "big") + bytes([0, 0, 0, 6])
    return put(segment, 16, checksum(total + segment))


def good_frame(rng, length, tags=None, ihl=None, doff=None, extensions=None, v6=None):
    """A frame with right lengths and checksums; what is not given is drawn."""
    tags = rng.choice((0, 0, 1, 2)) if tags is None else tags
    v6 = rng.random() < 0.5 if v6 is None else v6
    doff = rng.choice((5, 8, rng.randrange(5, 16))) if doff is None else doff
    link = rng.randbytes(12) + b"".join(rng.choice(TAGS) for _ in range(tags))
    if not v6:
        ihl = rng.choice((5, 5, rng.randrange(5, 16))) if ihl is None else ihl
        addresses = rng.randbytes(8)
        segment = tcp_segment(rng, length, doff, addresses)
        header = bytes([0x40 | ihl, 0]) + (4 * ihl + len(segment)).to_bytes(2, "big")
        header += rng.randbytes(2) + rng.choice((b"\x40\0", b"\0\0", b"\x80\0")) + b"\x40\x06\0\0"
        header += addresses + rng.randbytes(4 * (ihl - 5))
        header = put(header, 10, checksum(header))
        return link + b"\x08\0" + header + segment
    addresses = rng.randbytes(32)
    extensions = rng.choice((0, 0, 1, 2, 3, 5)) if extensions is None else extensions
    body, next_header = tcp_segment(rng, length, doff, addresses), 6
    for _ in range(extensions):
        units = rng.choice((0, 0, 1, 2, 5))
        number = rng.choice(EXTENSIONS)
        extension = bytes([next_header, units]) + rng.randbytes(6 + 8 * units)
        if number == 43:
            extension = put(extension, 3, 0, 1)
        body, next_header = extension + body, number
    return (
        link
        + b"\x86\xdd\x60"
        + rng.randbytes(3)
        + len(body).to_bytes(2, "big")
        + bytes([next_header, 64])
        + addresses
        + body
    )


def spoil(rng, frame):
    """One thing wrong, perhaps: a byte, a bit, the end, padding, or the fields that matter."""
    kind = rng.randrange(8) if len(frame) > 13 else 1
    if kind == 0:
        return frame[: rng.randrange(1, len(frame) + 1)]
    if kind == 1:
        return frame + rng.randbytes(rng.randrange(1, 40))
    if kind == 2:
        at = rng.randrange(12, len(frame))
        return put(frame, at, rng.randrange(256), 1)
    if kind == 3:  # headers
        at = rng.randrange(12, min(len(frame), 80))
        return put(frame, at, frame[at] ^ 1 << rng.randrange(8), 1)
    if kind == 4:
        return frame + bytes(60 - len(frame)) if len(frame) < 60 else frame
    if kind == 5:  # something else where a header number or a type is likely
        at = rng.choice((12, 13, 16, 17, 20, 23, 27, 31, 54, 58, 62))
        return (
            put(frame, at, rng.choice((0, 6, 8, 43, 44, 51, 59, 60, 0x81)), 1)
            if at < len(frame)
            else frame
        )
    if kind == 6:
        return rng.randbytes(rng.randrange(1, 150))
    return frame


def expected(frame):
    """The description's fields but for `ring_word`, by the model."""
    parsed = parse(frame, CONFIG)
    return {
        "oversize": int(parsed.oversize),
        "is_tcp": int(parsed.is_tcp),
        "checksum_ok": int(parsed.checksum_ok),
        "key": FLOW_KEY.unpack(parsed.key),
        "seq": parsed.seq,
        "tcp_flags": parsed.tcp_flags,
        "payload_offset": parsed.payload_offset,
        "payload_length": parsed.payload_length,
        "frame_bytes": parsed.frame_bytes,
        "refused_tcp": int(parsed.refused_tcp),
        "tcp_offset": parsed.tcp_offset,
        "tcp_checksum": parsed.tcp_checksum,
        "segment_sum": parsed.segment_sum,
    }


def words_of(frame):
    for at in range(0, len(frame), 16):
        part = frame[at : at + 16]
        yield (
            Word.const(
                {
                    "data": int.from_bytes(part, "little"),
                    "bytes": len(part),
                    "last": at + 16 >= len(frame),
                }
            )
            .as_value()
            .value
        )


def run(unit, frames, rng, idle=0.0, hold=0.0):
    """Sends the frames; checks each description and the ring; gives clocks with a stall.

    idle: chance of no word in a clock. hold: chance that descriptions and ring space wait.
    """
    unit.reset()
    queue = [(word, number) for number, frame in enumerate(frames) for word in words_of(frame)]
    starts, place = [], 0
    for frame in frames:
        starts.append(place % CONFIG.ring_words)
        place += (len(frame) + 15) // 16
    sent, stalls, offered = 0, 0, False
    written, descriptions, read = [], 0, 0
    deadline = 40 * len(queue) + 1000
    unit.set("read_word", 0)
    while descriptions < len(frames) or len(written) < len(queue):
        deadline -= 1
        assert deadline, "no progress"
        offered = sent < len(queue) and (offered or rng.random() >= idle)
        unit.set("frames__valid", offered)
        unit.set("frames__payload", queue[sent][0] if offered else rng.getrandbits(Word.size))
        take = rng.random() >= hold
        unit.set("descs__ready", take)
        if rng.random() >= hold:
            read = unit.get("write_word")
        unit.set("read_word", read)
        if unit.get("write_en"):
            assert unit.get("write_word") == len(written) % CONFIG.ring_words
            assert (len(written) + 1) % CONFIG.ring_words != read
            assert unit.get("write_data") == queue[len(written)][0]
            written.append(unit.get("write_data"))
        if take and unit.get("descs__valid"):
            got = unit.fields("descs__payload")
            assert got.pop("ring_word") == starts[descriptions]
            want = expected(frames[descriptions])
            assert got == want, f"frame {descriptions}: {frames[descriptions].hex()}"
            assert want["oversize"] or queue[len(written) - 1][1] >= descriptions
            descriptions += 1
        assert unit.get("stall") == (offered and not unit.get("frames__ready"))
        stalls += unit.get("stall")
        if offered and unit.get("frames__ready"):
            sent, offered = sent + 1, False
        unit.tick()
    for _ in range(20):
        unit.set("frames__valid", 0)
        assert not unit.get("descs__valid") or not take
        unit.tick()
    return stalls


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_every_length(unit, tags, v6):
    rng = random.Random(tags)
    frames = [
        good_frame(rng, length, tags, ihl=ihl, doff=doff, extensions=ihl - 5, v6=v6)
        for ihl in (5, 6, 7, 8)
        for doff in (5, 6, 7, 8)
        for length in range(36)
    ]
    assert all(parse(frame, CONFIG).checksum_ok for frame in frames)
    assert run(unit, frames, rng) == 0


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_every_truncation_and_padding(unit, v6):
    rng = random.Random(3)
    frames = []
    for tags in range(3):
        frame = good_frame(rng, 9, tags, ihl=6, doff=6, extensions=2, v6=v6)
        frames += [frame[:length] for length in range(1, len(frame))]
        frames += [frame + rng.randbytes(length) for length in range(40)]
    assert run(unit, frames, rng) == 0


@pytest.mark.parametrize("at", range(12, 90))
def test_every_value_of_a_header_byte(unit, at):
    rng = random.Random(at)
    frames = [
        put(good_frame(rng, 30, at % 3, extensions=1, v6=bool(i & 1)), at, i >> 1, 1)
        for i in range(512)
    ]
    run(unit, frames, rng)


@pytest.mark.parametrize("idle,hold", [(0, 0), (0.3, 0), (0, 0.9), (0.5, 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_random(unit, idle, hold, seed):
    rng = random.Random(seed)
    frames = []
    for _ in range(400):
        length = rng.choice((rng.randrange(64), rng.randrange(1500), 1440))
        frame = good_frame(rng, length)
        for _ in range(rng.choice((0, 1, 1, 2))):
            frame = spoil(rng, frame)
        frames.append(frame)
    run(unit, frames, rng, idle, hold)


def test_oversize(unit):
    rng = random.Random(4)
    frames = []
    for length in (*range(1580, 1640), 3000, 4097, 9000, 40000):
        frames += [rng.randbytes(length), good_frame(rng, 5)]
    frames += [good_frame(rng, 1600)[:1600], good_frame(rng, 1500)]
    run(unit, frames, rng)
    run(unit, frames, rng, hold=0.8)


def test_single_words(unit):
    """More descriptions than may wait, one a clock."""
    rng = random.Random(5)
    frames = [rng.randbytes(rng.randrange(1, 17)) for _ in range(300)]
    run(unit, frames, rng, hold=0.95)
    assert run(unit, frames, rng) == 0
