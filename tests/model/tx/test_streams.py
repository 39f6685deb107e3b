# SPDX-License-Identifier: Apache-2.0
"""The behavioural model of transmit: cuts of a stream in order, detached, and over key changes.

The device's ports are compared with records sealed by `cryptography`.
"""

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from sealane.driver.device.flowtable import FlowTable
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TxCommand, TxReason, TxTags
from tests.support.tx_stream import CONFIG, V4, V6, TxStream, counters, given, stream

VERSIONS = pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("bits", [128, 256])
@VERSIONS
def test_in_order_in_any_cut(version, bits, ends):
    """Every frame equals the software sender's, and every tag comes back once."""
    for seed in range(8):
        tx = stream(seed, version=version, bits=bits, ends=ends)
        tx.random_records(15)
        tx.in_order(most=tx.rng.choice((2, 40, 1400)))


@VERSIONS
def test_the_longest_record(version):
    tx = stream(version=version)
    tx.write(16384 + (1 if version == VERSION_TLS13 else 0), 100)
    tx.in_order(most=9000)


@settings(max_examples=60)
@cases(st.integers(0, 2**32), st.sampled_from([VERSION_TLS12, VERSION_TLS13]))
def test_side_frames_with_given_tags(seed, version):
    """Any cut below the frontier, between frames in order, with no tag in the completion."""
    tx = stream(seed, version=version)
    tx.random_records(12)
    sent = 0
    while sent < tx.end:
        end = min(tx.end, sent + tx.rng.randint(1, 500))
        assert tx.sent(sent, end, tx.send(sent, end))
        a = tx.rng.randrange(end)
        b = min(end, a + tx.rng.randint(1, 500))
        result = given(tx, a, b)
        assert tx.sent(a, b, result), (a, b, result.reason)
        assert result.tags == []
        sent = end


def rebuild(tx, a, b, tags, mtu=200):
    """DUMP of the record's beginning in pieces, then the frame [a, b) with tags computed."""
    record = tx.at(a)
    at = record.start
    while at < a and a - record.start > tx.header_size():
        end = min(a, at + tx.rng.randint(1, mtu))
        result = tx.dump(at, end, **tx.detached(at, TxTags.COMPUTE))
        assert (result.left, result.reason) == (None, TxReason.NONE)
        assert result.tags == ([record.tag] if at <= record.tag_at < end else [])
        at = end
    payload = tx.with_tags(a, b) if tags == TxTags.COMPARE else tx.plain(a, b)
    return tx.send(a, b, payload, **tx.detached(a, tags))


@settings(max_examples=60)
@cases(
    st.integers(0, 2**32),
    st.sampled_from([VERSION_TLS12, VERSION_TLS13]),
    st.sampled_from([TxTags.COMPUTE, TxTags.COMPARE]),
)
def test_side_frames_rebuilt(seed, version, tags):
    """The record's beginning is hashed again. The stream continues undisturbed meanwhile."""
    tx = stream(seed, version=version)
    tx.random_records(10)
    half = tx.rng.randrange(1, tx.end)
    tx.in_order(b=half)
    for _ in range(10):
        a = tx.rng.randrange(half)
        b = min(half, a + tx.rng.randint(1, 500))
        result = rebuild(tx, a, b, tags)
        assert tx.sent(a, b, result), (a, b, result.reason)
        assert result.tags == [r.tag for r in tx.records if a <= r.tag_at < b]
        if result.tags:
            first = next(r for r in tx.records if a <= r.tag_at)
            assert result.status["first_number"] == first.number
    tx.in_order(half)


def test_compare_sends_no_second_tag():
    """The text changed: the frame is dropped. With the tag given, the old tag is sent."""
    tx = stream()
    record = tx.record(100)
    tx.in_order()
    changed = bytes([tx.plain(5, 6)[0] ^ 1])
    payload = tx.plain(0, 5) + changed + tx.with_tags(6, tx.end)
    result = tx.send(0, tx.end, payload, **tx.detached(0, TxTags.COMPARE))
    assert (result.left, result.reason) == (None, TxReason.TAG_MISMATCH)
    result = tx.send(0, tx.end, payload, **tx.detached(0, TxTags.GIVEN))
    assert result.left[: len(result.left)].endswith(record.tag)
    assert counters(tx)["tx_tag_mismatch"] == 1


def test_a_cut_tag_is_compared_where_it_is():
    tx = stream()
    record = tx.record(40)
    tx.in_order()
    middle = record.tag_at + 7
    wrong = bytearray(tx.with_tags(0, record.end))
    wrong[-1] ^= 1
    assert tx.sent(0, middle, tx.send(0, middle, wrong[:middle], **tx.detached(0, TxTags.COMPARE)))
    rest = tx.detached(middle, TxTags.COMPARE)
    assert tx.sent(middle, tx.end, tx.send(middle, tx.end, tx.with_tags(middle, tx.end), **rest))
    tx.send(0, middle, tx.with_tags(0, middle), **tx.detached(0, TxTags.COMPARE))
    result = tx.send(middle, tx.end, bytes(wrong[middle:]), **rest)
    assert result.reason == TxReason.TAG_MISMATCH


@VERSIONS
def test_a_side_frame_goes_on_only_where_its_record_was_hashed(version):
    """Another offset, record or header than the detached row has: no tag is computed."""
    tx = stream(version=version)
    first, second = tx.write(200, 200)
    tx.in_order()
    at = 60
    for fields in ({"offset": at + 1}, {"number": second.number}, {"record_length": 99}):
        tx.dump(0, at, **tx.detached(0, TxTags.COMPUTE))
        named = tx.detached(at, TxTags.COMPUTE) | fields
        assert tx.send(at, first.end, **named).reason in (
            TxReason.NO_SYNC_DATA,
            TxReason.OUT_OF_ORDER,
        )
    gap = tx.send(at + 1, first.end, **tx.detached(at + 1, TxTags.COMPUTE))
    assert gap.reason == TxReason.NO_SYNC_DATA
    there = second.start + at
    result = tx.send(there, tx.end, **tx.detached(there, TxTags.COMPUTE))
    assert result.reason == TxReason.NO_SYNC_DATA
    given(tx, 10, 150)  # hashes nothing
    assert tx.sent(at, first.end, tx.send(at, first.end, **tx.detached(at, TxTags.COMPUTE)))


@VERSIONS
def test_dump_in_the_stream(version):
    """A frame was lost on its way here. Its content is hashed, and the stream continues."""
    tx = stream(version=version)
    tx.write(200, 300, 400)
    assert tx.sent(0, 50, tx.send(0, 50))
    assert tx.send(250, 260).reason == TxReason.OUT_OF_ORDER
    first, second = tx.records[:2]
    assert tx.dump(50, 120).tags == []
    result = tx.dump(120, 260)
    assert result.tags == [first.tag] and result.status["first_number"] == first.number
    tx.in_order(260)
    assert counters(tx)["tx_dumped"] == 2


@VERSIONS
def test_sync_moves_the_stream_forward(version):
    tx = stream(version=version)
    tx.write(200, 300, 400, 500)
    tx.in_order(b=20)
    third = tx.records[2]
    assert tx.sent(
        third.start,
        third.start + 60,
        tx.send(third.start, third.start + 60, sync=1, number=third.number),
    )
    tx.in_order(third.start + 60)


def test_sync_by_a_dump():
    tx = stream()
    tx.write(200, 300, 400)
    second = tx.records[1]
    result = tx.dump(second.start, second.start + 99, sync=1, number=second.number)
    assert result.reason == TxReason.NONE
    tx.in_order(second.start + 99)


def test_sync_never_goes_back():
    """No record is started in order twice, nor one whose number is below those started."""
    tx = stream()
    tx.write(50, 60, 70)
    second = tx.records[1]
    tx.in_order(b=second.start + 5)
    for number in (second.number - 1, second.number):
        result = tx.send(second.start + 5, tx.end, sync=1, number=number)
        assert result.reason == TxReason.OUT_OF_ORDER
    assert tx.send(0, 9, sync=1, number=second.number + 1).reason == TxReason.OUT_OF_ORDER
    tx.in_order(second.start + 5)
    fresh = stream()
    record = fresh.record(50)
    assert fresh.sent(0, 9, fresh.send(0, 9, sync=1, number=record.number))


@pytest.mark.parametrize("bits", [128, 256])
def test_rekey_with_two_key_slots(bits):
    """No pause: frames hold records of both keys, and retransmissions of either are sealed."""
    tx = stream(bits=bits)
    tx.random_records(6)
    tx.in_order(b=tx.end - 3)
    from_here = tx.end - 3
    for slot in (1, 0, 1):
        old = tx.records[-6:]
        tx.rekey(slot)
        tx.random_records(6)
        tx.in_order(from_here, most=2000)
        from_here = tx.end
        a, b = old[0].start, tx.end
        assert tx.sent(a, b, given(tx, a, b))
        assert tx.sent(a, b, tx.send(a, b, **tx.detached(a, TxTags.COMPUTE)))
        if old[0].start:  # the key before the last two is gone
            assert given(tx, 0, 50).reason == TxReason.NO_KEY
    tx.command(TxCommand.TX_KEY_CLEAR, epoch=0)
    assert given(tx, a, a + 20).reason == TxReason.NO_KEY
    tx.record(90)
    tx.in_order(from_here)


def test_records_of_a_cleared_key_have_no_other():
    """Without the newer key its records are not sealed with the older one."""
    tx = stream()
    first = tx.record(50)
    tx.rekey(1)
    second = tx.record(60)
    tx.in_order(b=second.start)
    tx.command(TxCommand.TX_KEY_CLEAR, epoch=1)
    assert tx.send(second.start, tx.end).reason == TxReason.NO_KEY
    assert tx.sent(0, first.end, given(tx, 0, first.end))


def test_rekey_is_refused():
    """Of another generation, in TLS 1.2, of a deleted context: no key changes."""
    tx = stream()
    tx.write(50, 60)
    key, number = tx.keys[0], tx.number
    tx.stage(tx.new_key(0))
    tx.command(TxCommand.TX_REKEY, generation=1, epoch=0, number=0)
    tx.in_order()
    assert (tx.keys, tx.number) == ([key], number)
    old = stream(version=VERSION_TLS12)
    old.write(50)
    old.stage(old.new_key(0))
    old.command(TxCommand.TX_REKEY, epoch=0, number=0)
    old.in_order()


def test_what_was_hashed_under_a_key_ends_with_it():
    tx = stream()
    tx.record(200)
    tx.in_order()
    tx.dump(0, 50, **tx.detached(0, TxTags.COMPUTE))
    tx.rekey(1)
    result = tx.send(50, tx.end, **tx.detached(50, TxTags.COMPUTE))
    assert result.reason == TxReason.NO_SYNC_DATA


def test_contexts_do_not_touch_each_other():
    table, transport = FlowTable(CONFIG.tx_flows), ModelTransport(CONFIG)
    streams = [
        TxStream(transport, i, context=i, table=table, version=i & 1, start=1000 * i)
        for i in range(CONFIG.tx_flows)
    ]
    for tx in streams:
        tx.random_records(5)
    for part in range(0, 100, 10):
        for tx in streams:
            tx.in_order(part, part + 10, most=7)
