# SPDX-License-Identifier: Apache-2.0
"""Placement of flows: the device, played by a plain array, finds every flow after every write."""

import functools
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.device.flowtable import FlowTable, FlowTableError, FlowTableFull
from sealane.hdl.abi import flowhash
from sealane.hdl.abi.commands import FLOW_KEY


def crc32c(data):
    """RFC 3720 appendix B.4: polynomial 0x1EDC6F41, bits reflected."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
    return value ^ 0xFFFFFFFF


@functools.cache
def bucket(key, table, flows):
    """Where an entry may lie in a table of half as many rows as flows."""
    data = key.to_bytes(37, "little")
    return (zlib.crc32(data), crc32c(data))[table] % (flows // 2)


class Device:
    """What the gateware does with FLOW_WRITE and with a packet."""

    def __init__(self, flows):
        self.flows = flows
        self.table = {}

    def write(self, write):
        self.table[write[:3]] = write[3:]

    def lookup(self, key):
        places = [(t, bucket(key, t, self.flows), s) for t in range(2) for s in range(2)]
        hits = {
            context
            for valid, entry, context in (self.table.get(p, (False, 0, 0)) for p in places)
            if valid and entry == key
        }
        assert len(hits) < 2
        return hits.pop() if hits else None


def flow_key(number):
    """Consecutive client ports of one server, and another client now and then."""
    return FLOW_KEY.pack(
        {
            "src": 0x0A090002 + (number >> 10),
            "dst": 0x0A090001,
            "sport": 32768 + (number & 1023),
            "dport": 443,
        }
    )


def test_hashes():
    """Of the contract, which places entries for the gateware: those of IEEE 802.3 and RFC 3720."""
    assert (zlib.crc32(b"123456789"), crc32c(b"123456789")) == (0xCBF43926, 0xE3069283)
    rng = random.Random(0)
    for flows in (4, 64, 1024):
        assert flowhash.rows(flows) == flows // 2
        for key in [0, (1 << FLOW_KEY.width) - 1, *(rng.getrandbits(289) for _ in range(50))]:
            for table in range(2):
                assert flowhash.bucket(key, table, flows) == bucket(key, table, flows)


@pytest.mark.parametrize("flows", [64, 1024])
@pytest.mark.parametrize("kind", ["ports", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_fills_up(flows, kind, seed):
    rng = random.Random(seed)
    keys = [flow_key(i + 100 * seed) for i in range(flows)]
    if kind == "random":
        keys = [rng.getrandbits(FLOW_KEY.width) for _ in range(flows)]
    table, device = FlowTable(flows), Device(flows)
    for context, key in enumerate(keys):
        for write in table.insert(key, context):
            device.write(write)
            if flows == 64:
                assert all(device.lookup(k) == c for c, k in enumerate(keys[:context]))
    assert [device.lookup(key) for key in keys] == list(range(flows))
    with pytest.raises(FlowTableFull, match="full"):
        table.insert(flow_key(1 << 20), 0)
    for key in keys:
        for write in table.delete(key):
            device.write(write)
    assert not any(valid for valid, _, _ in device.table.values()) and not len(table)


def test_errors_change_nothing():
    table = FlowTable(8)
    table.insert(flow_key(1), 5)
    with pytest.raises(FlowTableError, match="already"):
        table.insert(flow_key(1), 6)
    with pytest.raises(FlowTableError, match="not in"):
        table.delete(flow_key(2))
    with pytest.raises(FlowTableError, match="context"):
        table.insert(flow_key(2), 8)
    assert len(table) == 1 and table.lookup(flow_key(1)) == 5 and table.lookup(flow_key(2)) is None


def test_unplaceable():
    """Five keys for four places: the fifth is refused, the four stay."""
    flows = 16
    same = [
        k for k in map(flow_key, range(20000)) if not bucket(k, 0, flows) + bucket(k, 1, flows)
    ][:5]
    table = FlowTable(flows)
    for context, key in enumerate(same[:4]):
        table.insert(key, context)
    with pytest.raises(FlowTableFull, match="no place"):
        table.insert(same[4], 4)
    assert [table.lookup(key) for key in same] == [0, 1, 2, 3, None]


@given(st.sampled_from([4, 16, 64]), st.lists(st.integers(0, 90), max_size=150))
def test_insert_and_delete(flows, numbers):
    """A number inserts its key, or deletes it if it is there."""
    table, device, present = FlowTable(flows), Device(flows), {}
    for number in numbers:
        key, context = flow_key(number), number % flows
        if number in present:
            del present[number]
            writes = table.delete(key)
        else:
            try:
                writes = table.insert(key, context)
            except FlowTableFull:
                writes = []
            else:
                assert writes[-1].key == key
        for write in writes:
            device.write(write)
            for other, expected in present.items():
                assert device.lookup(flow_key(other)) == expected
        if key in table:
            present[number] = context
        assert len(table) == len(present) <= flows
        assert (device.lookup(key) is not None) == (number in present)
