# SPDX-License-Identifier: Apache-2.0
"""The transmit core: records, and the frames and metadata of each way."""

from __future__ import annotations

import pytest

from sealane.driver.ktls.tx.frames import UNUSED_CONTEXT
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Drop, DropReason, SequenceExhausted, TxFrame, TxMode, Way
from sealane.driver.ktls.tx.records import ROOM
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason, TxTags
from tests.support.ktls_tx_host import CONTEXT, HANDLE, MARKER, NONCE, NUMBER, Host, metas, payload
from tests.support.marking_device import info
from tests.support.tcp_frames import ACK, FIN, read
from tests.support.tx_by_hand import content

# --- records --------------------------------------------------------------------------------


def test_records_are_made_as_the_kernel_makes_them():
    host = Host()
    host.push(10, padding=3)
    assert host.plain == b"\x17\x03\x03\0\x1e" + content(10) + b"\x17\0\0\0" + ROOM
    handshake = host.tx.push(22, b"abc")
    assert handshake == b"\x17\x03\x03\0\x14abc\x16" + ROOM
    old = Host(VERSION_TLS12)
    old.push(10)
    assert old.plain == b"\x17\x03\x03\0\x22" + NONCE + content(10) + ROOM
    assert old.tx.push(22, b"")[:13] == b"\x16\x03\x03\0\x18" + b"\xff" * 8
    assert old.tx.push(23, b"")[5:13] == bytes(8)


def test_a_nonce_that_does_not_count_up_is_softwares():
    host = Host(VERSION_TLS12)
    odd = b"\x80" + bytes(7)
    first, other, third = host.push(), host.push(nonce=odd), host.push()
    assert host.sent(0, first.end).way is Way.IN_ORDER
    plan = host.sent(other.start, other.end)
    assert plan.way is Way.SOFTWARE
    assert payload(plan.frames[0]) == host.wire[other.start : other.end]
    plan = host.sent(third.start, third.end)
    assert (plan.way, metas(plan)[0]["sync"]) == (Way.IN_ORDER, 1)
    same = host.push(nonce=(1).to_bytes(8, "big"))  # the fourth: -2, -1, 0, 1
    assert not same.software_only


@pytest.mark.parametrize("handle", [HANDLE, None])
def test_a_nonce_that_the_counter_has_given_or_will_give_is_refused(handle):
    host = Host(VERSION_TLS12, handle)
    host.push()
    first = int.from_bytes(NONCE, "big")
    for step in (0, 2, 3, 1 << 32):
        taken = (first + step) % (1 << 64)
        with pytest.raises(ValueError, match="nonce"):
            host.push(nonce=taken.to_bytes(8, "big"))
    assert len(host.tx.records) == 1
    host.push(nonce=((first - 1) % (1 << 64)).to_bytes(8, "big"))
    host.push()


def test_who_gives_all_nonces_answers_for_all():
    """The device does not count for a sender with nonces of its own, or with those of a capture."""
    host = Host(VERSION_TLS12, None)
    for nonce in (4, 2, 0, 6):
        host.push(nonce=nonce.to_bytes(8, "big"))
    with pytest.raises(ValueError, match="nonce"):
        host.push()  # it might come to one of those
    host.tx.rekey(info(VERSION_TLS12, 1), bytes(8))
    assert host.tx.push(23, b"")[5:13] == bytes(8)
    for wrong in (bytes(7), bytes(9)):
        with pytest.raises(ValueError, match="nonce"):
            host.tx.rekey(info(VERSION_TLS12, 2), wrong)
    assert host.tx.keys.latest.number == 1


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_record_numbers_do_not_begin_again(version):
    nonce = b"" if version == VERSION_TLS13 else NONCE
    tx = KtlsTx(info(version), MARKER, HANDLE, (1 << 64) - 3, nonce)
    tx.push(23, b"last but one"), tx.push(23, b"last")
    for _ in range(2):
        with pytest.raises(SequenceExhausted):
            tx.push(23, b"none")
    assert (tx.records.next_count, len(tx.records)) == ((1 << 64) - 1, 2)
    host = Host(version)
    frame = host.frame(0, tx.records.end, tx.records.plain(0, tx.records.end))
    assert tx.transmit(frame).way is Way.IN_ORDER
    frame = host.frame(14, 16, tx.records.plain(0, tx.records.end))
    assert tx.transmit(frame).way is Way.SEEK


@pytest.mark.parametrize(
    ("version", "kwargs"),
    [
        (VERSION_TLS13, {"nonce": NONCE}),
        (VERSION_TLS12, {"padding": 1}),
        (VERSION_TLS12, {"nonce": b"12"}),
        (VERSION_TLS13, {"data": bytes(16385)}),
        (VERSION_TLS13, {"padding": 16000}),
    ],
)
def test_what_tls_has_not_is_refused(version, kwargs):
    host = Host(version)
    with pytest.raises(ValueError, match=r"nonce|bytes"):
        host.push(**kwargs)
    assert len(host.tx.records) == 0
    with pytest.raises(ValueError, match="nonce"):
        KtlsTx(info(version), 0, nonce=b"1")


# --- views ----------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_a_view_of_items_that_are_no_bytes(frozen):
    """A view's length is that of its items, a record's that of its bytes."""
    words = content(400)
    view = memoryview(bytearray(words)).cast("I")
    one, other = Host(), Host()
    assert one.tx.push(23, view, frozen) == other.tx.push(23, words)
    assert one.tx.push(23, view[:0], frozen) == other.tx.push(23, b"")
    with pytest.raises(ValueError, match="gaps"):
        one.tx.push(23, view[::2], frozen)
    with pytest.raises(ValueError, match="at most"):
        one.tx.push(23, memoryview(bytes(20000)).cast("I"), frozen)
    assert (len(one.tx.records), one.tx.records.end) == (2, other.tx.records.end)


# --- frames and metadata of each way --------------------------------------------------------


def test_in_order_frames_leave_room_for_tags_and_say_no_position():
    host = Host()
    host.push(), host.push()
    plan = host.send(0, 1100)
    assert plan.way is Way.IN_ORDER
    assert metas(plan) == [CONTEXT | {"op": TxOp.ENCRYPT}]
    assert plan.frames[0].frame == host.frame(0, 1100)
    assert host.tx.expected == 1100
    assert host.made[0].outstanding == 1
    host.complete(plan)
    assert (host.made[0].tag, host.made[0].outstanding) == (host.tag(host.made[0]), 0)
    assert host.made[1].tag is None


def test_seek_and_tag_name_a_position_and_hand_tags_in():
    host = Host()
    first, second = host.push(), host.push()
    host.sent(0, host.tx.records.end)
    plan = host.send(200, 300)
    detached = CONTEXT | {"op": TxOp.ENCRYPT, "detached": 1, "tags": TxTags.GIVEN, "number": NUMBER}
    where = {"offset": 200, "record_length": first.length, "record_type": 23}
    assert (plan.way, metas(plan)) == (Way.SEEK, [detached | where])
    assert payload(plan.frames[0]) == host.plain[200:300]
    cut = first.tag_start + 9
    plan = host.send(cut, second.tag_start + 2)
    assert (plan.way, metas(plan)) == (Way.TAG, [detached | where | {"offset": cut}])
    assert payload(plan.frames[0]) == (
        host.tag(first)[9:] + host.plain[second.start : second.tag_start] + host.tag(second)[:2]
    )
    assert host.tx.counters.tag_in_bytes == {"tag": 32}
    plan = host.send(second.start, second.start + 4)
    assert metas(plan) == [detached | {"number": NUMBER + 1}]
    assert (first.outstanding, host.tx.expected) == (0, host.tx.records.end)


def test_rebuild_replays_the_records_beginning_in_pieces_and_compares():
    host = Host(mode=TxMode.REBUILD)
    first = host.push()
    host.push()
    host.sent(0, host.tx.records.end)
    plan = host.send(900, first.end)
    dump = CONTEXT | {"op": TxOp.DUMP, "detached": 1, "number": NUMBER}
    where = {"record_length": first.length, "record_type": 23}
    assert metas(plan) == [
        dump | {"seq": MARKER, "length": 500},
        dump | where | {"seq": (MARKER + 500) % 2**32, "length": 400, "offset": 500},
        CONTEXT
        | where
        | {
            "op": TxOp.ENCRYPT,
            "detached": 1,
            "tags": TxTags.COMPARE,
            "number": NUMBER,
            "offset": 900,
        },
    ]
    assert b"".join(post.frame for post in plan.frames[:2]) == host.plain[:900]
    assert payload(plan.frames[2]) == host.plain[900 : first.tag_start] + host.tag(first)
    assert host.tx.counters.reread_bytes == {"rebuild": 900}
    assert first.outstanding == 1
    host.complete(plan)
    assert first.outstanding == 0
    assert host.tx.counters.tag_out_bytes == {"in_order": 32, "rebuild": 16}


def test_a_jump_is_replayed_in_order_and_a_long_one_moves_the_stream():
    host = Host(gap_limit=1500)
    *_, third = host.push(), host.push(), host.push(1010), host.push()
    plan = host.send(600, 700)
    assert metas(plan) == [
        CONTEXT | {"op": TxOp.DUMP, "seq": MARKER, "length": 500},
        CONTEXT | {"op": TxOp.DUMP, "seq": MARKER + 500, "length": 100},
        CONTEXT | {"op": TxOp.ENCRYPT},
    ]
    plan.undo()
    at = third.start + 600
    plan = host.send(at, at + 100)
    sync = {"sync": 1, "number": NUMBER + 3}
    assert metas(plan) == [
        CONTEXT | sync | {"op": TxOp.DUMP, "seq": (MARKER + third.start) % 2**32, "length": 500},
        CONTEXT | {"op": TxOp.DUMP, "seq": (MARKER + third.start + 500) % 2**32, "length": 100},
        CONTEXT | {"op": TxOp.ENCRYPT},
    ]
    assert (MARKER + third.start) % 2**32 < MARKER  # after the wrap
    plan.undo()
    plan = host.send(third.start, at)
    assert metas(plan) == [CONTEXT | sync | {"op": TxOp.ENCRYPT}]
    assert (plan.way, host.tx.expected) == (Way.IN_ORDER, at)


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_software_finishes_the_frame_and_keeps_its_tags(version):
    host = Host(version, mode=TxMode.SOFTWARE)
    first, second = host.push(), host.push()
    host.sent(0, 300)
    plan = host.send(100, second.start + 100)
    assert (plan.way, metas(plan)) == (Way.SOFTWARE, [CONTEXT | {"op": TxOp.WIRE}])
    whole = host.frame(100, second.start + 100, host.wire)
    assert payload(plan.frames[0]) == read(whole).payload
    assert plan.frames[0].frame[:-1][-9:] == whole[:-1][-9:]
    assert first.tag == host.tag(first)
    assert host.tx.counters.cpu_bytes == {"software": first.text_bytes + 95 - 8 * (not version)}
    assert host.tx.expected == 300
    plan.undo()
    assert first.tag is None
    assert host.tx.counters.cpu_bytes == {}


# --- the marker, segments without payload, other devices ------------------------------------


def test_before_and_across_the_marker():
    host = Host()
    host.push()
    netdev = host.tx.netdev
    plan = host.send(-300, 0, encrypt=False)
    assert (plan.way, metas(plan)) == (None, [CONTEXT | {"op": TxOp.WIRE}])
    assert payload(plan.frames[0]) == bytes(300)
    assert (netdev.tx_tls_ooo, netdev.tx_tls_skip_no_sync_data) == (1, 1)
    plan = host.send(-300, 10, encrypt=False, final=True)
    assert metas(plan) == [CONTEXT | {"op": TxOp.WIRE}]
    assert (netdev.tx_tls_ooo, netdev.tx_tls_skip_no_sync_data) == (2, 1)
    for end in (-1, 0, 10):
        assert host.send(-300, end) == Drop(DropReason.BYPASS_REQ)
    assert host.send(-300, 10, encrypt=False) == Drop(DropReason.BYPASS_REQ)
    assert (netdev.tx_tls_ooo, netdev.tx_tls_drop_bypass_req) == (6, 4)
    assert host.tx.counters.by_way == {}
    # Far along in the stream the marker has wrapped out of sight.
    for _ in range(3):
        host.push()
    host.sent(0, host.tx.records.end)
    assert host.tx.offset((MARKER - 1) % 2**32) == -1
    host.tx.una = (1 << 31) + 5
    assert host.tx.offset((MARKER - 1) % 2**32) == (1 << 32) - 1


def test_orphans_are_posted_for_the_device_to_drop():
    host = Host()
    host.push()
    plan = host.send(0, 100, encrypt=False)
    assert (plan.way, metas(plan)) == (None, [CONTEXT])
    assert plan.frames[0].frame == host.frame(0, 100)
    assert (host.tx.expected, host.tx.high) == (0, 0)
    host.complete(plan, TxReason.ORPHAN)
    assert (host.tx.counters.orphans, host.tx.counters.device_drops) == (1, 0)


@pytest.mark.parametrize("flags", [ACK, ACK | FIN])
def test_segments_without_payload_pass_unchanged_in_any_state(flags):
    host = Host()
    host.push()
    host.tx.tls_offload_tx_resync_request()
    for at in (-1, 0, 500, host.tx.records.end, host.tx.records.end + 1):
        frame = host.frame(at, at, flags=flags)
        plan = host.tx.transmit(frame)
        assert (plan.way, plan.frames[0].frame, metas(plan)) == (None, frame, [CONTEXT])
    assert host.tx.netdev.tx_tls_ooo == 0
    assert (host.tx.expected, host.tx.high, host.tx.resync) == (0, 0, 0)


def test_fin_with_data_goes_in_order_with_its_flags():
    host = Host()
    host.push(100)
    end = host.tx.records.end
    frame = host.frame(0, end, flags=ACK | FIN)
    plan = host.tx.transmit(frame)
    assert (plan.way, plan.frames[0].frame, host.tx.expected) == (Way.IN_ORDER, frame, end)
    host.tx.acked((MARKER + end + 1) % 2**32)
    assert (len(host.tx.records), host.tx.una) == (0, end + 1)


def test_by_another_device_or_without_one_software_encrypts():
    host = Host()
    first = host.push()
    for other in (object(), Host()):
        plan = host.send(0, 600, device=other)
        assert (plan.way, payload(plan.frames[0])) == (Way.SOFTWARE, host.wire[:600])
    assert host.send(0, 600, device=host).way is Way.IN_ORDER
    host.tx.deleted()
    plan = host.send(0, first.end)
    assert (plan.way, payload(plan.frames[0])) == (Way.SOFTWARE, host.wire)
    meta = TX_META.unpack(plan.frames[0].meta)  # the context may soon belong to another connection
    assert (meta["op"], meta["context"], meta["cookie"]) == (TxOp.WIRE, UNUSED_CONTEXT, 0)
    none = Host(handle=None)
    none.push()
    plan = none.send(0, 600)
    assert (plan.way, payload(plan.frames[0])) == (Way.SOFTWARE, none.wire[:600])
    assert none.tx.rekey(info(VERSION_TLS13, 1)) == []
    assert none.tx.stat.TlsTxRekeyError == 0


def test_the_marker_ends_a_segment_until_something_behind_it_was_sent():
    host = Host()
    host.push()
    assert host.tx.eor == 0
    host.send(-10, 0, encrypt=False)
    assert host.tx.eor == 0
    plan = host.send(0, 10)
    assert host.tx.eor is None
    plan.undo()
    assert host.tx.eor == 0
    assert plan.frames == [TxFrame(post.frame, post.meta) for post in plan.frames]


# --- acknowledgements -----------------------------------------------------------------------


def test_released_records_are_dropped_and_partly_acknowledged_ones_kept():
    host = Host()
    first, second = host.push(), host.push()
    host.sent(0, host.tx.records.end)
    ooo = host.tx.netdev.tx_tls_ooo
    host.tx.acked((MARKER + second.start + 10) % 2**32)
    for start, end in ((0, 10), (first.end - 1, first.end), (first.end - 1, second.end)):
        assert host.send(start, end) == Drop(DropReason.NO_SYNC_DATA)
    assert host.tx.netdev.tx_tls_drop_no_sync_data == 3
    assert host.tx.netdev.tx_tls_ooo == ooo + 3
    assert host.send(second.start, second.start + 20).way is Way.SEEK
    host.tx.acked((MARKER + 5) % 2**32)  # an old one
    assert host.tx.una == second.start + 10
