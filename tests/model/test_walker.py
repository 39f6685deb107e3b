# SPDX-License-Identifier: Apache-2.0
"""Invariants of the behavioural walker for arbitrary segments."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealane.driver.model.walker.commands import answer, desync, hint
from sealane.driver.model.walker.row import TrackerState, new_row
from sealane.driver.model.walker.walk import Walk
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import (
    LENGTH_BOUNDS,
    TYPES,
    VERSION_TLS12,
    VERSION_TLS13,
    Config,
    header_bytes,
    header_prefix_ok,
    text_bytes,
)
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason
from tests.support.sequence_numbers import distance

AMPLE = Config(record_slots=8, runs=32)
VERSIONS = (VERSION_TLS12, VERSION_TLS13)


@dataclass
class Stream:
    """An honest sender's bytes: records[i] is (start offset, length field, nonce)."""

    version: int
    base: int
    content: bytes
    records: list[tuple[int, int, int]]

    @property
    def end(self):
        return len(self.content)


def make_stream(rng, version, count, longest=600, chains=True):
    """`count` records, whose texts are full of false headers if `chains`."""
    low, high = LENGTH_BOUNDS[version]
    content, records = bytearray(), []
    for _ in range(count):
        length = rng.choice((low, low + 1, rng.randrange(low, longest)))
        if rng.random() < 0.05:
            length = high
        body = bytearray(rng.randbytes(length))
        if chains and rng.random() < 0.5:
            false = bytes((23, 3, 3, 0, rng.randrange(17, 60)))
            body = bytearray((false * (length // 5 + 1))[:length])
        nonce = int.from_bytes(body[:8], "little") if version == VERSION_TLS12 else 0
        records.append((len(content), length, nonce))
        # Application data only, and nothing short enough in TLS 1.3 to hold marks back.
        content += bytes((23, 3, 3)) + length.to_bytes(2, "big") + body
    base = rng.choice((rng.getrandbits(32), -rng.randrange(1, len(content)) % 2**32))
    return Stream(version, base, bytes(content), records)


@dataclass
class Judge:
    """Walks segments and judges every span by the true stream.

    fed: record number -> offsets of the record's bytes that spans brought. complete: numbers.
    """

    stream: Stream
    config: Config = AMPLE
    honest: bool = True
    fed: dict[int, set[int]] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)

    def __post_init__(self):
        stream = self.stream
        self.row = new_row(self.config, 1, 0, stream.version, stream.base, 0, Option.MARK_REST)

    def walk(self, start, end, content=None):
        stream = self.stream
        payload = stream.content[start:end] if content is None else content
        walked = Walk(self.config, self.row, (stream.base + start) % 2**32, payload).run()
        for span in walked.spans:
            self._judge(span, start, payload)
        self._check_row()
        return walked

    def _judge(self, span, start, payload):
        version = self.stream.version
        text = text_bytes(version, span.length)
        assert span.text_bytes + span.tag_bytes > 0
        assert span.at >= 0 and span.at + span.text_bytes + span.tag_bytes <= len(payload)
        assert span.text_offset + span.text_bytes <= text
        assert span.tag_offset + span.tag_bytes <= 16
        if span.text_bytes and span.tag_bytes:
            assert span.text_offset + span.text_bytes == text and span.tag_offset == 0
        first = span.text_offset if span.text_bytes else text + span.tag_offset
        offsets = range(first, first + span.text_bytes + span.tag_bytes)
        seen = self.fed.setdefault(span.number, set())
        assert span.first == (not seen)
        assert not seen.intersection(offsets), "a byte twice"
        assert span.number not in self.complete
        seen.update(offsets)
        if span.completes:
            assert seen == set(range(text + 16)), "complete with bytes missing"
            self.complete.add(span.number)
        else:
            assert len(seen) < text + 16, "all bytes and not complete"
        if self.honest:
            at, length, nonce = self.stream.records[span.number]
            assert (span.length, span.nonce) == (length, nonce)
            assert start + span.at == at + header_bytes(version) + first

    def _check_row(self):
        """Holes are disjoint and lie in open records before the end of the seen bytes."""
        row = self.row
        holes = sorted(
            (
                (distance(hole.start, self.stream.base), distance(hole.end, self.stream.base))
                for hole in row.holes
                if hole
            ),
        )
        assert all(start < end for start, end in holes)
        assert all(a[1] <= b[0] for a, b in zip(holes, holes[1:], strict=False))
        for hole in row.holes:
            if hole:
                slot = next(slot for slot in row.slots if slot and slot.holds(hole.start))
                assert distance(hole.end, slot.end) <= 0
                assert distance(hole.end, row.high) <= 0
        if row.proven:
            assert (
                distance(row.next_record_seq, row.high) >= 0
                or (row.next_record_seq + len(row.part_header)) % 2**32 == row.high
            )
        else:
            assert not row.part_header and not any(row.slots) and not any(row.holes)


def cut(rng, end, longest):
    """Neighbouring segments that cover [0, end)."""
    segments, at = [], 0
    while at < end:
        stop = min(end, at + rng.randrange(1, longest + 1))
        segments.append((at, stop))
        at = stop
    return segments


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from(VERSIONS), st.sampled_from((1, 14, 60, 1500)))
@settings(max_examples=60)
def test_in_order_completes_every_record(seed, version, longest):
    rng = random.Random(seed)
    stream = make_stream(rng, version, 6 if longest == 1 else 20)
    judge = Judge(stream)
    for start, end in cut(rng, stream.end, longest):
        walked = judge.walk(start, end)
        assert walked.reason in (Reason.NONE, Reason.HELD)
        first = max(i for i, r in enumerate(stream.records) if r[0] <= start)
        last = max(i for i, r in enumerate(stream.records) if r[0] < end)
        assert walked.records == last - first + 1
        assert walked.first[0] == first and walked.first[1] == start - stream.records[first][0]
        assert walked.last[0] == last
        assert walked.last[1] == (stream.base + stream.records[last][0]) % 2**32
    assert judge.complete == set(range(len(stream.records)))
    assert judge.row.slots == [None] * AMPLE.record_slots
    assert judge.row.holes == [None] * (AMPLE.runs - 1)


@given(seeds, st.sampled_from(VERSIONS))
@settings(max_examples=60)
def test_any_order_within_a_record(seed, version):
    """Once a record's header has passed, its pieces may come in any order, with duplicates."""
    rng = random.Random(seed)
    low, high = LENGTH_BOUNDS[version]
    length = rng.randrange(low, high)
    body = rng.randbytes(length)
    nonce = int.from_bytes(body[:8], "little") if version == VERSION_TLS12 else 0
    content = bytes((23, 3, 3)) + length.to_bytes(2, "big") + body
    stream = Stream(version, rng.getrandbits(32), content, [(0, length, nonce)])
    judge = Judge(stream)
    front = rng.randrange(header_bytes(version), header_bytes(version) + 10)
    judge.walk(0, front)
    pieces = [(front + a, front + b) for a, b in cut(rng, stream.end - front, length // 8 + 1)]
    repeated = pieces + rng.choices(pieces, k=3)
    rng.shuffle(repeated)
    passed = set()
    for piece in repeated:
        walked = judge.walk(*piece)
        if piece in passed:
            assert not walked.spans and walked.reason in (Reason.SEEN_BYTES, Reason.NOT_OPEN)
        else:
            assert walked.spans and walked.reason in (Reason.NONE, Reason.HELD)
        passed.add(piece)
    assert judge.complete == {0}


@given(seeds, st.sampled_from(VERSIONS), st.booleans())
@settings(max_examples=150)
def test_any_segments_of_an_honest_stream(seed, version, small):
    """Loss, reordering, overlaps, right answers. Every span lies where the sender put it."""
    rng = random.Random(seed)
    stream = make_stream(rng, version, 30)
    config = Config(record_slots=2, runs=3) if small else AMPLE
    judge = Judge(stream, config)
    starts = {record[0]: number for number, record in enumerate(stream.records)}
    arrivals = []
    for index, (start, end) in enumerate(cut(rng, stream.end, rng.choice((30, 300, 1500)))):
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2))):
            late = rng.expovariate(0.1) if rng.random() < 0.2 else 0
            arrivals.append((index + late, start, end))
        if rng.random() < 0.2:
            a = rng.randrange(stream.end)
            b = min(stream.end, a + rng.randrange(1, 1500))
            arrivals.append((index, a, b))
    for _, start, end in sorted(arrivals):
        walked = judge.walk(start, end)
        if walked.reason is Reason.NONE:
            assert judge.row.proven
        if walked.event and walked.event.kind is EventKind.RESYNC_REQUEST and rng.random() < 0.7:
            candidate_seq = distance(walked.event.candidate_seq, stream.base)
            number = starts.get(candidate_seq)
            answer(config, judge.row, walked.event.candidate_seq, number or 0, number is None)
        if (
            judge.row.state is TrackerState.TRACKING
            and judge.row.proven
            and not judge.row.part_header
        ):
            at = distance(judge.row.next_record_seq, stream.base)
            assert at == stream.end or starts[at] == judge.row.number


@given(seeds, st.sampled_from(VERSIONS))
@settings(max_examples=100)
def test_hostile_segments(seed, version):
    """In any case no byte of an open record is fed twice and nothing raises."""
    rng = random.Random(seed)
    stream = make_stream(rng, version, 20)
    config = Config(
        record_slots=rng.randrange(1, 4),
        runs=rng.randrange(2, 5),
        window=1 << 14,
        scan_limit=rng.choice((64, 5000, 1 << 20)),
        rescan_limit=rng.randrange(1, 5),
        bad_header_limit=rng.randrange(1, 4),
    )
    judge = Judge(stream, config, honest=False)
    for _ in range(120):
        start = rng.randrange(stream.end)
        end = min(stream.end, start + rng.randrange(1, 1500))
        garbage = rng.random() < 0.2
        walked = judge.walk(start, end, rng.randbytes(end - start) if garbage else None)
        event = walked.event
        if event and event.kind is EventKind.RESYNC_REQUEST and rng.random() < 0.5:
            number = rng.getrandbits(40) << 20
            answer(config, judge.row, event.candidate_seq, number, rng.random() < 0.2)
        draw = rng.random()
        if draw < 0.03:
            desync(judge.row)
        elif draw < 0.06:
            hint(judge.row, (stream.base + start) % 2**32, rng.getrandbits(40) << 20)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_closed_record_stays_closed(version):
    """R1: a record that completed, or was marked before a resync, is never opened again."""
    rng = random.Random(1)
    stream = make_stream(rng, version, 4, chains=False)
    judge = Judge(stream)
    judge.walk(0, stream.end)
    for start, end in cut(rng, stream.end, 200):
        walked = judge.walk(start, end)
        assert not walked.spans and walked.reason is Reason.NOT_OPEN
    desync(judge.row)
    assert hint(judge.row, stream.base, 0)
    walked = judge.walk(0, stream.end)
    assert not walked.spans and walked.reason is Reason.NOT_OPEN
    assert judge.row.next_record_seq == (stream.base + stream.end) % 2**32


@given(st.binary(min_size=0, max_size=5), st.sampled_from(VERSIONS))
def test_a_prefix_is_allowed_if_some_header_is(head, version):
    """`header_prefix_ok` of some bytes: there is an allowed header that begins with them."""
    low, high = LENGTH_BOUNDS[version]
    allowed = any(
        (bytes((kind, 3, 3)) + length.to_bytes(2, "big")).startswith(head)
        for kind in TYPES[version]
        for length in range(low, high + 1)
    )
    assert header_prefix_ok(version, head) == allowed
