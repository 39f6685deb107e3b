# SPDX-License-Identifier: Apache-2.0
"""The transmit record map: lookups and releases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.ktls.tx.records import ROOM, RecordMap
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.tx_by_hand import content, push


@pytest.mark.parametrize(("version", "front"), [(VERSION_TLS12, 13), (VERSION_TLS13, 5)])
def test_where_the_parts_of_a_record_lie(version, front):
    records = RecordMap(7)
    first, second = push(records, 100, version), push(records, 0, version)
    inner = int(version == VERSION_TLS13)
    assert (first.count, second.count, records.next_count) == (7, 8, 9)
    assert (first.start, first.text_start, first.tag_start) == (0, front, front + 100 + inner)
    assert first.end == second.start == first.tag_start + 16
    assert first.length == first.end - 5 == int.from_bytes(first.header[3:5], "big")
    assert first.plain(0, first.end) == first.header + first.text + ROOM
    assert records.end == second.end == second.start + front + inner + 16


def test_plain_bytes_are_cut_anywhere_and_span_records():
    records = RecordMap()
    for size in (3, 0, 50):
        push(records, size)
    whole = b"".join(record.header + record.text + ROOM for record in records)
    for start in range(0, records.end, 3):
        for end in range(start, records.end + 1, 5):
            assert records.plain(start, end) == whole[start:end]
    with pytest.raises(ValueError, match="no records"):
        records.plain(records.end - 1, records.end + 1)


def test_zero_copy_shows_what_the_caller_changes():
    data = bytearray(content(40))
    records = RecordMap()
    record = push(records, 40, data=memoryview(data), frozen=False)
    before = record.text
    data[3] ^= 1
    assert record.text != before
    assert record.plain(8, 9) == data[3:4]


def test_the_start_marker_stays_until_data_behind_it_is_released():
    records = RecordMap()
    marker = records.find(-1)
    assert marker is not None
    assert marker.marker
    assert (marker.start, records.boundary(-5)) == (0, 0)
    first = push(records, 10)
    assert not first.marker
    assert records.find(0) is first
    assert records.release(0) == []
    assert records.release(first.end - 1) == []
    assert records.find(-1) is marker
    assert records.release(first.end) == [first]
    assert records.find(-1) is None
    assert records.find(0) is None


def test_partly_acknowledged_records_are_kept():
    records = RecordMap()
    made = [push(records, 20) for _ in range(4)]
    assert records.release(made[1].start + 1) == made[:1]
    assert records.covering(made[1].start, made[2].end) == made[1:3]
    assert records.covering(made[0].end - 1, made[1].end) == []
    assert records.covering(made[3].end - 1, made[3].end + 1) == []
    assert records.covering(5, 5) == []


def test_the_hint_is_moved_by_searches_and_cleared_by_release():
    records = RecordMap()
    made = [push(records, 20) for _ in range(5)]
    assert records.retransmit_hint is None
    records.find(made[2].start)
    assert records.retransmit_hint is made[2]
    assert records.find(made[3].start + 4) is made[3]
    assert records.find(made[0].end - 1) is made[0]
    assert records.retransmit_hint is made[0]
    records.release(made[0].end)
    assert records.retransmit_hint is None
    assert records.find(made[4].start) is made[4]
    records.release(made[1].end)
    assert records.retransmit_hint is made[4]
    assert records.find(made[4].end) is None


def test_boundaries():
    records = RecordMap()
    a, b = push(records, 20), push(records, 30)
    assert [records.boundary(at) for at in (-3, 0, 1, a.end, a.end + 1, b.end)] == [
        0,
        0,
        a.end,
        a.end,
        b.end,
        b.end,
    ]


def test_a_record_needs_a_header():
    with pytest.raises(ValueError, match="header"):
        RecordMap().push(b"", b"text")


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2600)), max_size=60),
)
def test_search_and_release_are_those_of_a_plain_list(sizes, steps):
    records = RecordMap()
    kept = [push(records, size) for size in sizes]
    for release, at in steps:
        at = at % (records.end + 2)
        if release:
            gone = [record for record in kept if record.end <= at]
            assert records.release(at) == gone
            kept = kept[len(gone) :]
        else:
            expected = next((r for r in kept if r.start <= at < r.end), None)
            assert records.find(at) is expected
    assert list(records) == kept
    assert len(records) == len(kept)
