# SPDX-License-Identifier: Apache-2.0
"""Software encryption of a transmit segment, against complete records from `cryptography`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.ktls.tx.records import RecordMap, TxEpoch
from sealane.driver.ktls.tx.software import TagMismatch, encrypt
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.marking_device import info
from tests.support.tx_by_hand import content, push, sealed

KINDS = [(version, bits) for version in (VERSION_TLS12, VERSION_TLS13) for bits in (128, 256)]


def made(version, bits, sizes, number=0, frozen=True):
    records = RecordMap(number)
    epochs = {0: TxEpoch(0, info(version, 0, bits))}
    for size in sizes:
        push(records, size, version, frozen=frozen)
    return records, epochs, b"".join(sealed(record, epochs[0]) for record in records)


@pytest.mark.parametrize(("version", "bits"), KINDS)
def test_every_cut_of_several_records(version, bits):
    records, epochs, wire = made(version, bits, (0, 1, 40, 16), number=(1 << 32) - 2)
    for start in range(0, len(wire), 3):
        for end in range(start + 1, len(wire) + 1):
            got = encrypt(records.covering(start, end), epochs, start, end)
            assert got.payload == wire[start:end]


@pytest.mark.parametrize(("version", "bits"), KINDS)
def test_what_is_computed_is_told(version, bits):
    records, epochs, wire = made(version, bits, (100, 50))
    first, second = records
    text = first.text_bytes
    half = encrypt(records.covering(20, 60), epochs, 20, 60)
    assert (half.tags, half.cpu_bytes) == ([], 40)
    header = encrypt(records.covering(0, 5), epochs, 0, 5)
    assert (header.payload, header.tags, header.cpu_bytes) == (first.header[:5], [], 0)
    for start, end in ((first.tag_start - 1, first.tag_start + 1), (first.end - 1, first.end)):
        cut = encrypt(records.covering(start, end), epochs, start, end)
        assert cut.tags == [(first, wire[first.tag_start : first.end])]
        assert cut.cpu_bytes == text
    both = encrypt([first, second], epochs, 30, len(wire))
    assert [record for record, _ in both.tags] == [first, second]
    assert both.cpu_bytes == text + second.text_bytes


def test_incomplete_records_need_no_tag():
    """A segment that ends inside a record's text, whatever the tag's state."""
    records, epochs, wire = made(VERSION_TLS13, 128, (16384,))
    (record,) = records
    record.tag = bytes(16)  # a wrong one is not looked at
    assert encrypt([record], epochs, 0, 9000).payload == wire[:9000]


def test_a_tag_that_differs_is_refused_in_whatever_part_of_it():
    data = bytearray(content(64))
    records = RecordMap()
    epochs = {0: TxEpoch(0, info(VERSION_TLS13))}
    record = push(records, 64, data=memoryview(data), frozen=False)
    ((_, record.tag),) = encrypt([record], epochs, 0, record.end).tags
    assert encrypt([record], epochs, 0, record.end).tags == [(record, record.tag)]
    data[0] ^= 1
    for start, end in (
        (0, record.end),
        (record.tag_start, record.tag_start + 1),
        (record.end - 1, record.end),
    ):
        with pytest.raises(TagMismatch):
            encrypt([record], epochs, start, end)
    data[0] ^= 1
    encrypt([record], epochs, 0, record.end)


def test_records_of_two_keys_in_one_segment():
    records = RecordMap(5)
    epochs = {0: TxEpoch(0, info(VERSION_TLS13)), 3: TxEpoch(3, info(VERSION_TLS13, 1, 256), 7)}
    for epoch in (0, 0, 3, 3):
        push(records, 33, epoch=epoch)
    wire = b"".join(sealed(record, epochs[record.epoch]) for record in records)
    got = encrypt(list(records), epochs, 0, records.end)
    assert got.payload == wire


@given(
    version=st.sampled_from((VERSION_TLS12, VERSION_TLS13)),
    sizes=st.lists(st.integers(0, 80), min_size=1, max_size=6),
    cut=st.tuples(st.integers(0, 700), st.integers(0, 700)),
    number=st.integers(0, (1 << 64) - 10),
)
def test_random_cuts(version, sizes, cut, number):
    records, epochs, wire = made(version, 128, sizes, number)
    start, end = sorted(at % (len(wire) + 1) for at in cut)
    if start < end:
        got = encrypt(records.covering(start, end), epochs, start, end)
        assert got.payload == wire[start:end]
