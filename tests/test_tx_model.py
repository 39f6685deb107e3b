# SPDX-License-Identifier: Apache-2.0
"""The behavioural model of transmit, at its ports, against records sealed by `cryptography`."""

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from sealane.driver.flowtable import FlowTable
from sealane.driver.model.device import ModelTransport
from sealane.driver.model.parser import ones_complement_sum, parse
from sealane.driver.model.tx_engine import TxVerdict, leave
from sealane.driver.model.tx_walker import Action, TxWalked
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.registers import OFFSET
from sealane.hdl.abi.tx import TX_COUNTERS, TxCommand, TxOp, TxReason, TxTags
from tcp_frames import ACK, FIN, PSH
from tx_stream import CONFIG, ROOM, V4, V6, TxStream, given

VERSIONS = pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])


def stream(seed=0, **options):
    return TxStream(ModelTransport(CONFIG), seed, **options)


def counters(tx):
    return {name: tx.transport.read(OFFSET["COUNT_" + name.upper()]) for name, _ in TX_COUNTERS}


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("bits", [128, 256])
@VERSIONS
def test_in_order_in_any_cut(version, bits, ends):
    """Every frame is what software would have sent, and every tag comes back once."""
    for seed in range(8):
        tx = stream(seed, version=version, bits=bits, ends=ends)
        tx.random_records(15)
        tx.in_order(most=tx.rng.choice((2, 40, 1400)))


@VERSIONS
def test_the_longest_record(version):
    tx = stream(version=version)
    tx.write(16384 + (1 if version == VERSION_TLS13 else 0), 100)
    tx.in_order(most=9000)


@settings(max_examples=60, deadline=None)
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
    while at < a and a - record.start > tx.front():
        end = min(a, at + tx.rng.randint(1, mtu))
        result = tx.dump(at, end, **tx.side(at, TxTags.COMPUTE))
        assert (result.left, result.reason) == (None, TxReason.NONE)
        assert result.tags == ([record.tag] if at <= record.tag_at < end else [])
        at = end
    payload = tx.with_tags(a, b) if tags == TxTags.COMPARE else tx.plain(a, b)
    return tx.send(a, b, payload, **tx.side(a, tags))


@settings(max_examples=60, deadline=None)
@cases(
    st.integers(0, 2**32), st.sampled_from([VERSION_TLS12, VERSION_TLS13]),
    st.sampled_from([TxTags.COMPUTE, TxTags.COMPARE]),
)  # fmt: skip
def test_side_frames_rebuilt(seed, version, tags):
    """The record's beginning is hashed again; the stream goes on in between undisturbed."""
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
    """The text changed: the frame is dropped. With the tag given the old one leaves."""
    tx = stream()
    record = tx.record(100)
    tx.in_order()
    changed = bytes([tx.plain(5, 6)[0] ^ 1])
    payload = tx.plain(0, 5) + changed + tx.with_tags(6, tx.end)
    result = tx.send(0, tx.end, payload, **tx.side(0, TxTags.COMPARE))
    assert (result.left, result.reason) == (None, TxReason.TAG_MISMATCH)
    result = tx.send(0, tx.end, payload, **tx.side(0, TxTags.GIVEN))
    assert result.left[: len(result.left)].endswith(record.tag)
    assert counters(tx)["tx_tag_mismatch"] == 1


def test_a_cut_tag_is_compared_where_it_is():
    tx = stream()
    record = tx.record(40)
    tx.in_order()
    middle = record.tag_at + 7
    wrong = bytearray(tx.with_tags(0, record.end))
    wrong[-1] ^= 1
    assert tx.sent(0, middle, tx.send(0, middle, wrong[:middle], **tx.side(0, TxTags.COMPARE)))
    rest = tx.side(middle, TxTags.COMPARE)
    assert tx.sent(middle, tx.end, tx.send(middle, tx.end, tx.with_tags(middle, tx.end), **rest))
    tx.send(0, middle, tx.with_tags(0, middle), **tx.side(0, TxTags.COMPARE))
    result = tx.send(middle, tx.end, bytes(wrong[middle:]), **rest)
    assert result.reason == TxReason.TAG_MISMATCH


@VERSIONS
def test_dump_in_the_stream(version):
    """A frame was lost on its way here: what it held is hashed, and the stream goes on."""
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
    assert tx.sent(third.start, third.start + 60, tx.send(
        third.start, third.start + 60, sync=1, number=third.number
    ))  # fmt: skip
    tx.in_order(third.start + 60)


def test_sync_by_a_dump():
    tx = stream()
    tx.write(200, 300, 400)
    second = tx.records[1]
    result = tx.dump(second.start, second.start + 99, sync=1, number=second.number)
    assert result.reason == TxReason.NONE
    tx.in_order(second.start + 99)


def test_sync_never_goes_back():
    """No record is started in order twice, nor one whose number is below what was started."""
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


# --- every reason ----------------------------------------


def oversize(tx):
    return tx.post(bytes(CONFIG.max_frame + 1), op=TxOp.WIRE)


def bad_meta(tx):
    return tx.send(0, 50, tags=TxTags.GIVEN)


def not_tcp(tx):
    return tx.post(tx.frame(0, tx.plain(0, 50))[:60])


def no_context(tx):
    return tx.send(0, 50, generation=tx.generation + 1)


def wrong_flow(tx):
    other = TxStream(tx.transport, 1, context=2, table=FlowTable(CONFIG.tx_flows))
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
    return tx.send(50, tx.end, **tx.side(50, TxTags.COMPUTE))


def tag_mismatch(tx):
    tx.in_order()
    return tx.send(0, tx.end, **tx.side(0, TxTags.COMPARE))  # still room, not the tag


def stale_key(tx):
    """A token that overtakes a span; the gateware's order of tokens leaves none."""
    tx.transport.tx.engine.keys.clear()
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
    """Each reason by name; nothing leaves, and the counter of dropped frames goes on."""
    tx = stream()
    tx.record(100)
    result = scenario(tx)
    assert (result.reason.name, result.left) == (scenario.__name__.upper(), None)
    assert counters(tx)["tx_dropped"] == (scenario is broken) + (scenario is not bad_nonce)


def test_there_is_a_scenario_of_every_reason():
    assert [scenario.__name__.upper() for scenario in SCENARIOS] == [r.name for r in TxReason][1:]


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": 3}, {"op": 4}, {"op": 7}, {"sync": 1, "side": 1},
        {"side": 1, "offset": 105, "record_length": 100},
    ],
    ids=str,
)  # fmt: skip
def test_contradicting_metadata(fields):
    tx = stream()
    tx.record(100)
    assert tx.send(0, 50, **fields).reason == TxReason.BAD_META
    tx.in_order()


def test_contradicting_dump():
    tx = stream()
    tx.record(100)
    assert tx.dump(0, 50, **tx.side(0, TxTags.GIVEN)).reason == TxReason.BAD_META
    result = tx.post(tx.plain(0, 50), op=TxOp.DUMP, seq=tx.start, length=49)
    assert result.reason == TxReason.BAD_META


# --- marker, orphans, frames without records ----------------------------------------


@pytest.mark.parametrize("start", [0, 100, 0xFFFF_FFF0, 0x8000_0000])
def test_start_marker_with_wrap(start):
    tx = stream(start=start)
    tx.record(300)
    for op, a, b, reason in (
        (TxOp.NOTHING, -200, 0, TxReason.NONE), (TxOp.NOTHING, -200, 1, TxReason.ORPHAN),
        (TxOp.NOTHING, 0, 1, TxReason.ORPHAN), (TxOp.ENCRYPT, -200, -100, TxReason.BYPASS),
        (TxOp.ENCRYPT, -1, 100, TxReason.BYPASS), (TxOp.WIRE, -1, 100, TxReason.NONE),
    ):  # fmt: skip
        frame = tx.frame(a, bytes(b - a))
        result = tx.post(frame, op=op)
        assert result.reason == reason
        assert result.left == (None if reason else frame)
    tx.in_order()


def test_the_marker_ends_when_the_stream_is_far_behind_it():
    """2^31 bytes behind the marker a sequence number looks as if it lay before it."""
    tx = stream(start=0)
    row = tx.transport.tx.walker.rows[tx.context]
    tx.write(100, 100)
    tx.in_order(b=50)
    assert not row.passed
    assert tx.send(1 << 30, (1 << 30) + 9, tx.plain(121, 130), sync=1, number=6).reason == 0
    assert row.passed
    frame = tx.frame((1 << 31) + 50, b"text")
    assert tx.post(frame, op=TxOp.NOTHING).reason == TxReason.ORPHAN


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
    """The addresses of a fragment are not looked up: it may hold text of any context."""
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
    tx.command(TxCommand.TX_DELETE, generation=1)  # not this generation
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
    cuts = [0, 2, 5, tx.front(), record.tag_at, record.tag_at + 3, record.end, record.end + 4]
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


# --- errors in the walk ----------------------------------------


def test_an_error_in_the_walk_breaks_the_stream_until_sync():
    """The second record of a frame is bad. The first has run and may not be started again."""
    tx = stream()
    first, second, third = tx.write(50, 60, 70)
    payload = tx.plain(0, second.start) + b"\x16" + tx.plain(second.start + 1, tx.end)
    result = tx.send(0, tx.end, payload)
    assert result.reason == TxReason.BAD_HEADER
    assert result.tags == [first.tag]  # its span ran; the driver keeps no tag of a dropped frame
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
    tx.dump(0, 20, **tx.side(0, TxTags.COMPUTE))
    bad = tx.plain(20, second.start) + bytes(5) + tx.plain(second.start + 5, second.end)
    result = tx.send(20, second.end, bad, **tx.side(20, TxTags.COMPUTE))
    assert result.reason == TxReason.BAD_HEADER
    result = tx.send(20, second.end, **tx.side(20, TxTags.COMPUTE))
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
        {"number": third.number}, {"offset": 29}, {"record_length": 78}, {"record_type": 22}
    ):  # fmt: skip
        named = tx.side(at - 10, TxTags.GIVEN) | fields
        assert tx.send(at - 10, at, **named).reason == TxReason.OUT_OF_ORDER
    named = tx.side(first.start + 10, TxTags.GIVEN) | {"number": second.number}
    assert tx.send(10, at, tx.with_tags(10, at), **named).reason == TxReason.OUT_OF_ORDER
    tx.in_order(at)


def test_a_header_under_way_cannot_be_told_otherwise():
    """A second header for a record under way would make a second tag with its nonce."""
    tx = stream()
    record = tx.record(200)
    tx.in_order(b=150)
    longer = tx.plain(0, 3) + (len(record.plain) - 4).to_bytes(2, "big") + tx.plain(5, 150)
    result = tx.send(0, 150, longer, **tx.side(0, TxTags.GIVEN))
    assert result.reason == TxReason.OUT_OF_ORDER
    result = tx.send(3, 150, longer[3:], **tx.side(3, TxTags.GIVEN))
    assert result.reason == TxReason.BAD_HEADER  # not the one that the metadata names
    tx.in_order(150)


def test_a_side_frame_that_leads_elsewhere():
    """A length of its own leads a side frame past the header of the record under way."""
    tx = stream()
    first, second = tx.write(50, 200)
    tx.in_order(b=second.start + 100)
    shorter = tx.plain(0, 3) + (40).to_bytes(2, "big") + tx.plain(5, 45) + tx.plain(
        second.start, second.start + 50
    )  # fmt: skip
    result = tx.send(0, len(shorter), shorter, **tx.side(0, TxTags.GIVEN))
    assert result.reason == TxReason.OUT_OF_ORDER


@pytest.mark.parametrize("byte", range(8))
def test_nonces_of_tls12_count_up(byte):
    """The next explicit nonce is the one of the first record plus the records since, mod 2^64."""
    tx = stream(3, version=VERSION_TLS12, add=False)
    tx.nonce = 2**64 - 2  # it wraps
    tx.stage(tx.keys[0])
    tx.write_flow(FlowTable(CONFIG.tx_flows))
    tx.command(TxCommand.TX_ADD, seq=tx.start, number=tx.number, nonce=tx.nonce)
    tx.write(20, 30, 40, 50)
    third = tx.records[2]
    assert third.plain[5:13] == bytes(8)
    tx.in_order(b=third.start)
    at, wrong = third.start, bytearray(third.plain)
    wrong[5 + byte] ^= 1
    cut = 5 + byte  # the nonce is cut in front of the wrong byte
    assert tx.sent(at, at + cut, tx.send(at, at + cut))
    result = tx.send(at + cut, third.end, bytes(wrong[cut:]))
    assert result.reason == TxReason.BAD_NONCE
    side = tx.send(0, 30, tx.plain(0, 5) + b"\1" + tx.plain(6, 30), **tx.side(0, TxTags.GIVEN))
    assert side.reason == TxReason.BAD_NONCE


# --- keys ----------------------------------------


@pytest.mark.parametrize("bits", [128, 256])
def test_rekey_with_two_key_slots(bits):
    """No pause: frames hold records of both keys, retransmissions of either are sealed."""
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
        assert tx.sent(a, b, tx.send(a, b, **tx.side(a, TxTags.COMPUTE)))
        if old[0].start:  # the key before the last two is gone
            assert given(tx, 0, 50).reason == TxReason.NO_KEY
    tx.command(TxCommand.TX_KEY_CLEAR, epoch=0)
    assert given(tx, a, a + 20).reason == TxReason.NO_KEY
    tx.record(90)
    tx.in_order(from_here)


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
    tx.dump(0, 50, **tx.side(0, TxTags.COMPUTE))
    tx.rekey(1)
    result = tx.send(50, tx.end, **tx.side(50, TxTags.COMPUTE))
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


# --- what leaves ----------------------------------------


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
@VERSIONS
def test_tcp_checksum_of_every_length_and_offset(version, ends):
    """Odd and even offsets and lengths; the host may have left anything in the field."""
    tx = stream(version=version, ends=ends)
    tx.random_records(30, most=60)
    a = 0
    for length in range(1, 71):
        if a + length > tx.end:
            break
        result = tx.send(a, a + length)
        head = parse(result.left, CONFIG)
        assert head.checksum_ok and head.tcp_checksum != 0xFFFF
        a += length


def test_checksum_of_a_sum_of_zero():
    """Where the sum comes to 0 the field is 0 and not 0xFFFF, as Linux's `csum_fold` has it."""
    tx = stream()
    tx.record(64)
    right = bytearray(tx.frame(0, tx.wire(0, tx.end)))
    # The urgent pointer is of no concern to anybody here and makes the sum come out as wished.
    at = parse(bytes(right), CONFIG).tcp_offset
    right[at + 18 : at + 20] = right[at + 16 : at + 18]
    right[at + 16 : at + 18] = b"\0\0"
    host = bytearray(tx.host_frame(0, tx.plain(0, tx.end)))
    host[at + 18 : at + 20] = right[at + 18 : at + 20]
    result = tx.post(bytes(host))
    assert result.left == bytes(right) and parse(bytes(right), CONFIG).checksum_ok


def test_link_padding_leaves_as_zeros():
    tx = stream()
    tx.path = type(tx.path)(tx.path.client, tx.path.server, timestamps=False)
    tx.record(100)
    short = tx.host_frame(0, tx.plain(0, 2))
    assert len(short) == 60
    result = tx.post(short[:56] + b"leak")
    assert result.left == tx.frame(0, tx.wire(0, 2))


@pytest.mark.parametrize("writes", [1, 3, 1000])
def test_lost_writes_are_a_device_error(writes):
    """The count of written bytes differs; the frame does not leave, and the next one does."""
    tx = stream()
    tx.write(100, 100, 200)
    tx.transport.tx.fail_next(writes=writes)
    assert tx.send(0, 100).reason == TxReason.DEVICE_ERROR
    tx.in_order(100)
    # Its bytes were hashed in order; sent again they take another way.
    assert tx.sent(0, 100, given(tx, 0, 100))
    tx.transport.tx.fail_next(writes=writes)
    assert tx.dump(0, 100, **tx.side(0, TxTags.COMPUTE)).reason == TxReason.DEVICE_ERROR


@settings(max_examples=50, deadline=None)
@cases(st.integers(0, 2**32), st.data())
def test_bytes_that_were_not_written_leave_as_zeros(seed, data):
    """Even if commit let it go: no payload byte of the host but those of clear spans."""
    tx = stream(seed)
    tx.random_records(3)
    frame = tx.frame(0, tx.plain(0, tx.end))
    head = parse(frame, CONFIG)
    start, end = head.payload_offset, head.payload_offset + head.payload_length
    bounds = st.integers(start, end)
    clear = sorted(data.draw(st.tuples(bounds, bounds)))
    write = sorted(data.draw(st.tuples(bounds, bounds)))
    walked = TxWalked(Action.ENCRYPT, payload_at=start, payload_end=end, clears=[tuple(clear)])
    verdict = TxVerdict(writes=[(write[0], b"\x5a" * (write[1] - write[0]))])
    left = leave(frame, head, walked, verdict)
    for at in range(start, end):
        if write[0] <= at < write[1]:
            assert left[at] == 0x5A
        else:
            assert left[at] == (frame[at] if clear[0] <= at < clear[1] else 0)
    assert left[: head.tcp_offset + 16] == frame[: head.tcp_offset + 16]


def test_wire_and_foreign_frames_leave_unchanged():
    tx = stream()
    tx.record(100)
    final = tx.frame(0, tx.wire(0, tx.end))
    assert tx.post(final, op=TxOp.WIRE).left == final
    tx.path = type(tx.path)(tx.path.server, tx.path.client)
    foreign = tx.frame(0, b"text of another connection")
    assert tx.post(foreign, op=TxOp.NOTHING).left == foreign
    want = {"tx_frames": 2, "tx_wire": 1, "tx_passed": 1}
    assert {name: n for name, n in counters(tx).items() if n} == want


def test_counters():
    tx = stream()
    tx.write(50, 50)
    tx.in_order(most=30)
    frames = counters(tx)["tx_encrypted"]
    tx.dump(0, 50, **tx.side(0, TxTags.COMPUTE))
    orphan(tx)
    assert counters(tx) == dict.fromkeys((name for name, _ in TX_COUNTERS), 0) | {
        "tx_frames": frames + 2, "tx_encrypted": frames, "tx_dumped": 1, "tx_dropped": 1,
        "tx_orphans": 1, "tx_tags": 2,
    }  # fmt: skip


def test_room_is_never_sent():
    """What stands in the room makes no difference to what leaves."""
    tx = stream()
    tx.record(50)
    payload = tx.plain(0, tx.end)[:-16]
    assert ROOM * 16 not in tx.send(0, tx.end, payload + ROOM * 16).left


def test_a_device_without_transmit():
    transport = ModelTransport(Config(tx_flows=0))
    with pytest.raises(ValueError, match="no transmit"):
        transport.post_tx(b"x", 0)
    assert transport.poll_tx() == ([], [])
    assert transport.read(OFFSET["TX_FLOWS"]) == 0
    transport.write(OFFSET["CMD_NONCE_LO"], 1)
    transport.write(OFFSET["COMMAND"], TxCommand.TX_ADD)
    assert transport.read(OFFSET["CMD_NONCE_LO"]) == transport.read(OFFSET["COUNT_TX_FRAMES"]) == 0
    with pytest.raises(ValueError, match="at least one byte"):
        ModelTransport(CONFIG).post_tx(b"", 0)


def test_ones_complement_difference():
    """The lanes of `tx_engine` are those of RFC 1071, first byte low."""
    from sealane.driver.model.tx_engine import lanes

    data = bytes(range(7, 60))
    swapped = int.from_bytes(ones_complement_sum(data).to_bytes(2, "big"), "little")
    assert lanes(4, data) == swapped % 0xFFFF
    assert lanes(5, data) == ones_complement_sum(data) % 0xFFFF
