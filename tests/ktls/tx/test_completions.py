# SPDX-License-Identifier: Apache-2.0
"""The transmit core: undone plans, and the effect of completions on tags and the stream."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from sealane.driver.ktls.tx.plan import Drop, DropReason, Hold, TxMode, Way
from sealane.hdl.abi.tx import TX_META, TxReason
from tests.support.ktls_tx_host import NUMBER, Completion, Host, metas, payload
from tests.support.tx_by_hand import content

# --- taking back ----------------------------------------------------------------------------


def state(host):
    tx = host.tx
    records = [(r.tag, r.outstanding, r.from_stream, r.unknown) for r in tx.records]
    kept = (tx.expected, tx.high, tx.resync, tx._resync_way, tx._syncs, dict(tx._in_flight))
    counters = asdict(tx.counters) | {"undone": 0}
    return records, kept, counters, asdict(tx.netdev), asdict(tx.stat)


@pytest.mark.parametrize("mode", list(TxMode))
@pytest.mark.parametrize("lost", [False, True])
def test_undo_restores_everything(mode, lost):
    host = Host(mode=mode, gap_limit=1200)
    for _ in range(5):
        host.push()
    host.sent(0, 1500)
    if lost:
        host.tx.tls_offload_tx_resync_request()
    for start, end in (
        (1500, 1700),
        (100, 300),
        (100, 1030),
        (1400, 1600),
        (1800, 1900),
        (4200, 4300),
        (2044, 2200),
    ):
        before = state(host)
        plan = host.send(start, end)
        assert plan.frames
        assert state(host) != before
        plan.undo()
        assert state(host) == before
        again = host.send(start, end)
        assert [p.frame for p in again.frames] == [p.frame for p in plan.frames]
        again.undo()
        assert host.tx.counters.undone % 2 == 0


def test_only_the_latest_plan_can_be_taken_back_and_once():
    host = Host()
    host.push()
    first, second = host.send(0, 100), host.send(100, 200)
    with pytest.raises(ValueError, match="latest"):
        first.undo()
    second.undo()
    assert host.tx.expected == 100
    with pytest.raises(ValueError, match="once"):
        second.undo()
    assert host.tx.counters.undone == 1


# --- tags -----------------------------------------------------------------------------------


def test_text_that_may_change_waits_for_the_tag_that_is_under_way():
    data = bytearray(content(1000))
    host = Host()
    record = host.push(data=memoryview(data), frozen=False)
    plan = host.send(0, record.end)
    assert host.send(500, record.end) == Hold((NUMBER,))
    assert host.tx.counters.tag_wait == 1
    host.complete(plan)
    assert host.send(500, record.end).way is Way.TAG


def test_the_rest_of_a_tag_is_told_of_before_its_beginning():
    """The tag is still to come, so nothing has to be given up."""
    host = Host()
    record = host.push(data=memoryview(bytearray(content(1000))), frozen=False)
    first, second = host.send(0, record.end - 10), host.send(record.end - 10, record.end)
    host.complete(second)
    assert host.send(500, record.end) == Hold((NUMBER,))
    host.complete(first)
    assert host.send(500, record.end).way is Way.TAG
    assert host.tx.netdev.tx_tls_drop_no_sync_data == 0


def test_software_sends_no_second_tag():
    data = bytearray(content(1000))
    host = Host(mode=TxMode.SOFTWARE)
    record = host.push(data=memoryview(data), frozen=False)
    host.sent(0, record.end)
    data[77] ^= 1
    before = state(host)[:2]
    assert host.send(500, record.end) == Drop(DropReason.TAG_MISMATCH)
    assert state(host)[:2] == before
    assert host.tx.counters.tag_mismatch == 1
    data[77] ^= 1
    assert host.send(500, record.end).way is Way.SOFTWARE


def test_a_frame_that_failed_brings_no_tag_and_is_rebuilt():
    host = Host()
    record = host.push()
    plan = host.send(0, record.end)
    host.complete(plan, TxReason.DEVICE_ERROR)
    assert (record.tag, record.outstanding, host.tx.resync) == (None, 0, None)
    assert host.tx.counters.device_drops == 1
    plan = host.send(0, record.end)
    assert plan.way is Way.REBUILD
    host.complete(plan)
    assert record.tag == host.tag(record)
    plan = host.send(0, record.end)
    assert plan.way is Way.TAG
    host.complete(plan, TxReason.TAG_MISMATCH)
    assert (host.tx.counters.tag_mismatch, host.tx.counters.device_drops) == (1, 1)


def test_the_rest_of_a_tag_that_left_unseen_marks_the_record():
    """The frame with the first tag bytes fails, and the one with the others is sent.

    Some value of the tag is on the wire and nobody knows it.
    """
    for frozen in (False, True):
        host = Host()
        record = host.push(frozen=frozen)
        host.push()
        cut = record.tag_start + 5
        head, rest = host.send(0, cut), host.send(cut, record.end + 50)
        assert record.outstanding == 2
        host.complete(head, TxReason.DEVICE_ERROR)
        assert record.outstanding == 1
        host.complete(rest)
        assert record.unknown
        got = host.send(0, cut)
        if frozen:
            assert got.way is Way.REBUILD
        else:
            assert got == Drop(DropReason.NO_SYNC_DATA)


def test_a_tag_of_the_stream_is_told_from_one_that_a_side_frame_brought():
    host = Host()
    first, second = host.push(), host.push()
    host.sent(0, first.end)
    assert first.from_stream
    host.complete(host.send(first.end, second.end), TxReason.DEVICE_ERROR)
    host.sent(first.end, second.end)
    assert (second.tag, second.from_stream) == (host.tag(second), False)


def test_completions_of_nobodys_frames_change_nothing():
    host = Host()
    record = host.push()
    plan = host.send(0, record.end)
    assert host.tx.completed(Completion(999, TxReason.NONE, {NUMBER: bytes(16)})) == []
    host.complete(plan)
    host.complete(plan, TxReason.BROKEN)  # twice
    assert (record.tag, host.tx.resync) == (host.tag(record), None)
    plan = host.send(0, record.end)
    (cookie,) = (TX_META.unpack(post.meta)["cookie"] for post in plan.frames)
    host.tx.completed(Completion(cookie, TxReason.NONE, {NUMBER: bytes(16), 77: bytes(16)}))
    assert record.tag == host.tag(record)


# --- the stream is lost ---------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(TxReason)[1:])
def test_what_a_failed_stream_frame_means(reason):
    host = Host()
    _, second, third = host.push(), host.push(), host.push()
    host.complete(host.send(0, second.start + 10), reason)
    walked = reason in (TxReason.TAG_MISMATCH, TxReason.STALE_KEY, TxReason.DEVICE_ERROR)
    assert host.tx.tls_offload_tx_resync_pending is not walked
    assert host.tx.eor == (None if walked else third.start)
    if not walked:
        plan = host.send(second.start + 10, third.start)
        assert (plan.way, payload(plan.frames[0])) == (
            Way.NEXT_RECORD,
            host.wire[second.start + 10 : third.start],
        )
        plan = host.send(third.start, third.end)
        assert (plan.way, metas(plan)[0]["sync"]) == (Way.NEXT_RECORD, 1)
        assert not host.tx.tls_offload_tx_resync_pending
        assert host.tx.expected == third.end


def test_failures_from_before_the_stream_was_moved_do_not_count():
    host = Host()
    _, second, third = host.push(), host.push(), host.push()
    one, two = host.send(0, 300), host.send(300, 600)
    host.complete(one, TxReason.BAD_HEADER)
    assert host.tx.resync == second.start
    assert host.send(600, second.start).way is Way.NEXT_RECORD
    moved = host.send(second.start, third.start)
    host.complete(two, TxReason.BROKEN)
    assert host.tx.resync is None
    host.complete(moved)
    assert host.send(third.start, third.end).way is Way.IN_ORDER


def test_a_failed_side_frame_says_nothing_of_the_stream():
    host = Host()
    host.push()
    host.sent(0, 500)
    host.complete(host.send(0, 100), TxReason.OUT_OF_ORDER)
    assert (host.tx.resync, host.tx.counters.device_drops) == (None, 1)


def test_counters_by_way_and_by_bytes():
    host = Host()
    first, second = host.push(), host.push()
    sizes = []
    for start, end in ((0, first.end), (100, 200), (900, first.end), (first.end + 300, second.end)):
        plan = host.sent(start, end)
        sizes.append(len(plan.frames[-1].frame))
    counters, netdev = host.tx.counters, host.tx.netdev
    assert counters.by_way == {"in_order": 1, "seek": 1, "tag": 1, "rebuild": 1}
    assert list(counters.frame_bytes.values()) == sizes
    assert counters.reread_bytes == {"rebuild": 300}
    assert counters.tag_in_bytes == {"tag": 16}
    assert counters.tag_out_bytes == {"in_order": 16, "rebuild": 16}
    assert netdev.tx_tls_ooo == 3
    # The device's actions are counted where its completions are.
    assert (netdev.tx_tls_encrypted_packets, netdev.tx_tls_dump_packets) == (0, 0)
