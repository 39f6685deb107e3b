# SPDX-License-Identifier: Apache-2.0
"""Frames that transmit drops or passes unchanged: every reason, on the model."""

from dataclasses import replace

import pytest

from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TxCommand, TxOp, TxReason, TxTags
from tests.support.tcp_frames import ACK, FIN, PSH
from tests.support.tx_stream import CONFIG, TxStream, counters, given, stream

VERSIONS = pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])


def oversize(tx):
    return tx.post(bytes(CONFIG.max_frame + 1), op=TxOp.WIRE)


def bad_meta(tx):
    return tx.send(0, 50, tags=TxTags.GIVEN)


def not_tcp(tx):
    return tx.post(tx.frame(0, tx.plain(0, 50))[:60])


def no_context(tx):
    return tx.send(0, 50, generation=tx.generation + 1)


def wrong_flow(tx):
    other = TxStream(tx.transport, 1, context=2, table=tx.table)
    return tx.send(0, 50, context=2, generation=other.generation)


def bypass(tx):
    return tx.send(-1, 50, b"x" + tx.plain(0, 50))


def orphan(tx):
    return tx.send(0, 50, op=TxOp.NOTHING)


def out_of_order(tx):
    return tx.send(1, 50)


def broken(tx):
    bad_header(tx)
    return tx.send(0, 50)


def bad_header(tx):
    return tx.send(0, 50, b"\x17\x03\x02" + tx.plain(3, 50))


def bad_nonce(tx):
    tx = stream(version=VERSION_TLS12)
    tx.record(100)
    return tx.send(0, 50, tx.plain(0, 12) + bytes([tx.plain(12, 13)[0] ^ 1]) + tx.plain(13, 50))


def no_key(tx):
    tx.command(TxCommand.TX_KEY_CLEAR, epoch=0)
    return tx.send(0, 50)


def no_sync_data(tx):
    tx.in_order()
    return tx.send(50, tx.end, **tx.detached(50, TxTags.COMPUTE))


def tag_mismatch(tx):
    tx.in_order()
    return tx.send(0, tx.end, **tx.detached(0, TxTags.COMPARE))  # still room, not the tag


def stale_key(tx):
    """A key that overtakes a span. In the gateware the order of keys leaves no such case."""
    keys = tx.transport.tx.engine.keys
    keys[tx.context, 0] = replace(keys[tx.context, 0], name=200)
    return tx.send(0, tx.end)


def device_error(tx):
    tx.transport.tx.fail_next(writes=1)
    return tx.send(0, 50)


SCENARIOS = [
    oversize, bad_meta, not_tcp, no_context, wrong_flow, bypass, orphan, out_of_order, broken,
    bad_header, bad_nonce, no_key, no_sync_data, tag_mismatch, stale_key, device_error,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_reason(scenario):
    """Each reason by name. Nothing is sent, and the counter of dropped frames increases."""
    tx = stream()
    tx.record(100)
    result = scenario(tx)
    assert (result.reason.name, result.left) == (scenario.__name__.upper(), None)
    assert counters(tx)["tx_dropped"] == (scenario is broken) + (scenario is not bad_nonce)


def test_a_stale_frame_has_as_many_tags_as_its_status_says():
    """The key is gone: the tags are zeros, and the next hash starts anew."""
    tx = stream()
    tx.write(50, 60)
    keys = dict(tx.transport.tx.engine.keys)
    tx.transport.tx.engine.keys.clear()
    result = tx.send(0, tx.end)
    assert (result.reason, result.tags) == (TxReason.STALE_KEY, [bytes(16)] * 2)
    tx.transport.tx.engine.keys.update(keys)
    assert tx.sent(0, tx.end, tx.send(0, tx.end, **tx.detached(0, TxTags.COMPUTE)))


def test_there_is_a_scenario_of_every_reason():
    assert [scenario.__name__.upper() for scenario in SCENARIOS] == [r.name for r in TxReason][1:]


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": 3},
        {"op": 4},
        {"op": 7},
        {"sync": 1, "detached": 1},
        {"detached": 1, "offset": 105, "record_length": 100},
    ],
    ids=str,
)
def test_contradicting_metadata(fields):
    tx = stream()
    tx.record(100)
    assert tx.send(0, 50, **fields).reason == TxReason.BAD_META
    tx.in_order()


def test_contradicting_dump():
    tx = stream()
    tx.record(100)
    assert tx.dump(0, 50, **tx.detached(0, TxTags.GIVEN)).reason == TxReason.BAD_META
    result = tx.post(tx.plain(0, 50), op=TxOp.DUMP, seq=tx.start, length=49)
    assert result.reason == TxReason.BAD_META


@pytest.mark.parametrize("start", [0, 100, 0xFFFF_FFF0, 0x8000_0000])
def test_start_marker_with_wrap(start):
    tx = stream(start=start)
    tx.record(300)
    for op, a, b, reason in (
        (TxOp.NOTHING, -200, 0, TxReason.NONE),
        (TxOp.NOTHING, -200, 1, TxReason.ORPHAN),
        (TxOp.NOTHING, 0, 1, TxReason.ORPHAN),
        (TxOp.ENCRYPT, -200, -100, TxReason.BYPASS),
        (TxOp.ENCRYPT, -1, 100, TxReason.BYPASS),
        (TxOp.WIRE, -1, 100, TxReason.NONE),
    ):
        frame = tx.frame(a, bytes(b - a))
        result = tx.post(frame, op=op)
        assert result.reason == reason
        assert result.left == (None if reason else frame)
    tx.in_order()


def test_the_marker_ends_when_the_stream_is_far_behind_it():
    """2^31 bytes after the marker a sequence number looks as if it lay before it."""
    tx = stream(start=0)
    row = tx.transport.tx.walker.rows[tx.context]
    tx.write(100, 100)
    tx.in_order(b=50)
    assert not row.marker_expired
    assert tx.send(1 << 30, (1 << 30) + 9, tx.plain(121, 130), sync=1, number=6).reason == 0
    assert row.marker_expired
    frame = tx.frame((1 << 31) + 50, b"text")
    assert tx.post(frame, op=TxOp.NOTHING).reason == TxReason.ORPHAN
    assert tx.send((1 << 31) + 50, (1 << 31) + 59, tx.plain(0, 9), sync=1, number=7).reason == 0


def test_the_marker_ends_where_software_sends_for_long():
    """The stream stands still, and the segments of software wrap around."""
    tx = stream(start=5)
    row = tx.transport.tx.walker.rows[tx.context]
    for at in (-(1 << 20), 0, (1 << 30) - 10, -(1 << 30)):
        assert tx.post(tx.frame(at, b"software"), op=TxOp.WIRE).left
        assert not row.marker_expired
    assert tx.post(tx.frame(1 << 30, b""), op=TxOp.WIRE).left
    assert not row.marker_expired
    assert tx.post(tx.frame(1 << 30, b"software"), op=TxOp.WIRE).left
    assert row.marker_expired
    frame = tx.frame((1 << 31) + 50, b"text")
    assert tx.post(frame, op=TxOp.NOTHING).reason == TxReason.ORPHAN


def test_numbers_do_not_wrap():
    """The last record number is never used: after it nonces would start over."""
    tx = stream(number=(1 << 64) - 2)
    first, last = tx.write(100, 100)

    def send(record, **more):
        return tx.send(record.start, record.end, record.plain, **more).reason

    assert send(first) == 0
    assert send(last) == TxReason.NO_KEY
    assert send(last, sync=1, number=(1 << 64) - 1) == TxReason.NO_KEY
    assert send(last, sync=1, number=0) == TxReason.OUT_OF_ORDER


def test_text_behind_the_ip_packet():
    """Bytes beyond the IP length are no link padding if the frame is long enough."""
    tx = stream()
    tx.record(100)
    for op, reason in (
        (TxOp.NOTHING, TxReason.ORPHAN),
        (TxOp.ENCRYPT, TxReason.BAD_META),
        (TxOp.WIRE, 0),
    ):
        for behind in (bytes(6), b"text" * 20):
            frame = tx.frame(0, b"") + behind
            fits = len(frame) <= 60
            assert tx.post(frame, op=op).reason == (0 if fits else reason)
    early = tx.frame(-50, b"before") + bytes(80)
    assert tx.post(early, op=TxOp.NOTHING).reason == TxReason.ORPHAN


def test_frames_without_payload_pass_unchanged():
    """Pure ACKs and a FIN alone, in any state of the context, broken or deleted too."""
    tx = stream()
    tx.record(100)
    frames = [tx.host_frame(0, b"", flags) for flags in (ACK, ACK | FIN)]

    def all_pass():
        for frame in frames:
            for op in (TxOp.NOTHING, TxOp.ENCRYPT, TxOp.WIRE):
                assert tx.post(frame, op=op).left == frame

    all_pass()
    bad_header(tx)
    all_pass()
    tx.command(TxCommand.TX_DELETE)
    all_pass()


def test_refused_tcp_is_an_orphan_while_there_is_a_context():
    """The addresses of a fragment are not looked up. It may hold text of any context."""
    tx = stream()
    fragment = bytearray(tx.frame(0, bytes(100)))
    fragment[20] |= 0x20  # more fragments
    assert tx.post(bytes(fragment), op=TxOp.NOTHING).reason == TxReason.ORPHAN
    arp = bytes(12) + b"\x08\x06" + bytes(50)
    assert tx.post(arp, op=TxOp.NOTHING).left == arp
    tx.command(TxCommand.TX_DELETE)
    assert tx.post(bytes(fragment), op=TxOp.NOTHING).reason == TxReason.ORPHAN
    tx.command(TxCommand.TX_RELEASE)
    assert tx.post(bytes(fragment), op=TxOp.NOTHING).left == bytes(fragment)


def test_a_deleted_context_stays_as_a_drop_entry_until_released():
    tx = stream()
    tx.record(100)
    tx.in_order(b=50)
    tx.command(TxCommand.TX_RELEASE)  # not deleted: no effect
    tx.command(TxCommand.TX_DELETE, generation=1)  # another generation
    tx.in_order(50, 60)
    tx.command(TxCommand.TX_DELETE)
    assert tx.send(60, 70).reason == TxReason.NO_CONTEXT
    assert given(tx, 0, 50).reason == TxReason.NO_CONTEXT
    assert tx.send(60, 70, op=TxOp.NOTHING).reason == TxReason.ORPHAN
    tx.command(TxCommand.TX_RELEASE)
    assert tx.send(60, 70).reason == TxReason.NO_CONTEXT
    assert tx.send(60, 70, op=TxOp.NOTHING).reason == TxReason.NONE
    assert not tx.transport.tx.engine.keys


@VERSIONS
def test_header_only_and_tag_only_frames(version):
    tx = stream(version=version)
    record = tx.record(100)
    tx.write(33)
    cuts = [0, 2, 5, tx.header_size(), record.tag_at, record.tag_at + 3, record.end, record.end + 4]
    for a, b in zip(cuts, cuts[1:], strict=False):
        if b > a:
            tx.in_order(a, b, most=10_000)
    for a, b in zip(cuts, cuts[1:], strict=False):
        if b > a:
            assert tx.sent(a, b, given(tx, a, b))


def test_fin_with_data():
    tx = stream()
    tx.record(100)
    result = tx.send(0, tx.end, flags=FIN | PSH | ACK)
    assert tx.sent(0, tx.end, result, FIN | PSH | ACK)


def test_an_error_in_the_walk_breaks_the_stream_until_sync():
    """The second record of a frame is bad. The first has run and may not be started again."""
    tx = stream()
    first, second, third = tx.write(50, 60, 70)
    payload = tx.plain(0, second.start) + b"\x16" + tx.plain(second.start + 1, tx.end)
    result = tx.send(0, tx.end, payload)
    assert result.reason == TxReason.BAD_HEADER
    assert result.tags == [first.tag]  # its span ran: the driver keeps no dropped tag
    assert tx.send(0, 10).reason == TxReason.BROKEN
    again = tx.send(0, 10, sync=1, number=first.number)
    assert again.reason == TxReason.OUT_OF_ORDER
    at = second.start
    assert tx.sent(at, tx.end, tx.send(at, tx.end, sync=1, number=second.number))
    assert third.number == tx.transport.tx.walker.rows[tx.context].number - 1


def test_an_error_in_a_side_frame_leaves_the_stream_alone():
    tx = stream()
    tx.write(50, 60, 70)
    second = tx.records[1]
    tx.in_order(b=second.end)
    tx.dump(0, 20, **tx.detached(0, TxTags.COMPUTE))
    bad = tx.plain(20, second.start) + bytes(5) + tx.plain(second.start + 5, second.end)
    result = tx.send(20, second.end, bad, **tx.detached(20, TxTags.COMPUTE))
    assert result.reason == TxReason.BAD_HEADER
    result = tx.send(20, second.end, **tx.detached(20, TxTags.COMPUTE))
    assert result.reason == TxReason.NO_SYNC_DATA
    tx.in_order(second.end)


def test_side_frames_stay_below_the_frontier():
    tx = stream()
    first, second, third = tx.write(50, 60, 70)
    tx.in_order(b=second.start + 40)
    at = second.start + 40
    for a, b, reason in ((at - 10, at, 0), (at - 10, at + 1, TxReason.OUT_OF_ORDER)):
        assert given(tx, a, b).reason == reason
    for fields in (
        {"number": third.number},
        {"offset": 29},
        {"record_length": 78},
        {"record_type": 22},
    ):
        named = tx.detached(at - 10, TxTags.GIVEN) | fields
        assert tx.send(at - 10, at, **named).reason == TxReason.OUT_OF_ORDER
    named = tx.detached(first.start + 10, TxTags.GIVEN) | {"number": second.number}
    assert tx.send(10, at, tx.with_tags(10, at), **named).reason == TxReason.OUT_OF_ORDER
    tx.in_order(at)


def test_a_header_under_way_cannot_be_told_otherwise():
    """A second header for a record in progress would make a second tag with its nonce."""
    tx = stream()
    record = tx.record(200)
    tx.in_order(b=150)
    longer = tx.plain(0, 3) + (len(record.plain) - 4).to_bytes(2, "big") + tx.plain(5, 150)
    result = tx.send(0, 150, longer, **tx.detached(0, TxTags.GIVEN))
    assert result.reason == TxReason.OUT_OF_ORDER
    result = tx.send(3, 150, longer[3:], **tx.detached(3, TxTags.GIVEN))
    assert result.reason == TxReason.BAD_HEADER  # not the one that the metadata names
    tx.in_order(150)


@pytest.mark.parametrize("fields", [{"record_length": 16641}, {"record_type": 24}], ids=str)
def test_a_named_header_that_tls_does_not_allow(fields):
    tx = stream()
    tx.write(50, 60)
    tx.in_order()
    result = tx.send(20, 40, **tx.detached(20, TxTags.GIVEN) | fields)
    assert result.reason == TxReason.BAD_HEADER


def test_a_side_frame_that_leads_elsewhere():
    """A wrong length leads a detached frame past the header of the record in progress."""
    tx = stream()
    first, second = tx.write(50, 200)
    tx.in_order(b=second.start + 100)
    shorter = (
        tx.plain(0, 3)
        + (40).to_bytes(2, "big")
        + tx.plain(5, 45)
        + tx.plain(second.start, second.start + 50)
    )
    result = tx.send(0, len(shorter), shorter, **tx.detached(0, TxTags.GIVEN))
    assert result.reason == TxReason.OUT_OF_ORDER


@pytest.mark.parametrize("byte", range(8))
def test_nonces_of_tls12_count_up(byte):
    """The next explicit nonce is that of the first record plus the records since, mod 2^64."""
    tx = stream(3, version=VERSION_TLS12, add=False)
    tx.nonce = 2**64 - 2  # it wraps
    tx.stage(tx.keys[0])
    tx.write_flow(tx.table)
    tx.command(TxCommand.TX_ADD, seq=tx.start, number=tx.number, nonce=tx.nonce)
    tx.write(20, 30, 40, 50)
    third = tx.records[2]
    assert third.plain[5:13] == bytes(8)
    tx.in_order(b=third.start)
    at, wrong = third.start, bytearray(third.plain)
    wrong[5 + byte] ^= 1
    cut = 5 + byte  # the nonce is cut before the wrong byte
    assert tx.sent(at, at + cut, tx.send(at, at + cut))
    result = tx.send(at + cut, third.end, bytes(wrong[cut:]))
    assert result.reason == TxReason.BAD_NONCE
    detached = tx.send(
        0, 30, tx.plain(0, 5) + b"\1" + tx.plain(6, 30), **tx.detached(0, TxTags.GIVEN)
    )
    assert detached.reason == TxReason.BAD_NONCE
