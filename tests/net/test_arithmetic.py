# SPDX-License-Identifier: Apache-2.0
"""The driver's checksum and sequence arithmetic against those of the tests, and those against dpkt
and plain integers."""

import dpkt
from hypothesis import example, given
from hypothesis import strategies as st

from sealane.driver.net import seq
from sealane.driver.net.checksum import ones_complement_sum
from tests.support import internet_checksum
from tests.support.sequence_numbers import distance

NUMBERS = st.integers(0, 2**32 - 1)


@given(st.binary(max_size=200))
@example(b"")
@example(bytes(10))
@example(b"\xff" * 10)
@example(b"\xff\xfe\0\1")
def test_checksum(data):
    assert ones_complement_sum(data) == internet_checksum.ones_complement_sum(data)
    assert internet_checksum.checksum(data) == dpkt.in_cksum(data)


@given(NUMBERS, st.integers(-(2**31), 2**31 - 1))
@example(0, -(2**31))
@example(2**32 - 1, 2**31 - 1)
def test_sequence_numbers(number, count):
    moved = (number + count) % 2**32
    assert seq.add(number, count) == moved
    assert seq.distance(moved, number) == distance(moved, number) == count
