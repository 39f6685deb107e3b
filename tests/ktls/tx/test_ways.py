# SPDX-License-Identifier: Apache-2.0
"""The way of each segment of a transmit direction, rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealane.driver.ktls.tx.plan import Drop, DropReason, Hold, TxMode, Way
from sealane.driver.ktls.tx.records import RecordMap
from sealane.driver.ktls.tx.ways import GAP_LIMIT, Decision, TxState, as_it_is, choose
from sealane.hdl.abi.config import VERSION_TLS12
from sealane.hdl.abi.tx import TxOp, TxTags
from tests.support.tx_by_hand import push

TAG = bytes(range(16))
SIZE = 1000


def records_of(count=6, size=SIZE, **kwargs):
    records = RecordMap(3)
    return records, [push(records, size, **kwargs) for _ in range(count)]


def ask(records, start, end, expected=0, encrypt=True, **kwargs):
    kwargs.setdefault("epochs", frozenset({0}))
    kwargs.setdefault("high", expected)
    return choose(TxState(records, expected, **kwargs), start, end, encrypt)


def way_of(decision):
    return decision.way if isinstance(decision, Decision) else type(decision)


# --- segments that need no encryption -------------------------------------------------------


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("at", [-10, 0, 50, 1 << 33])
def test_segments_without_payload_are_never_touched(encrypt, offloaded, at):
    records, _ = records_of(1)
    got = ask(records, at, at, 20, encrypt, offloaded=offloaded, resync=30)
    assert got == Decision(TxOp.NOTHING, 20, 30)


@pytest.mark.parametrize(("start", "end"), [(-20, -10), (-20, 0), (-20, 1), (-1, 900)])
def test_before_the_marker_final_bytes_pass_and_encryption_is_refused(start, end):
    records, _ = records_of(1)
    assert ask(records, start, end) == Drop(DropReason.BYPASS_REQ)
    got = ask(records, start, end, encrypt=False)
    if end > 0:
        assert got == Drop(DropReason.BYPASS_REQ)
        got = as_it_is(TxState(records, 0, 0, frozenset()), start, end)
    assert (got.op, got.way, got.final) == (TxOp.WIRE, None, True)
    assert (got.expected, got.ooo, got.skipped) == (0, True, end <= 0)
    assert ask(records, 0, 900).op is TxOp.ENCRYPT


def test_behind_the_marker_a_segment_without_encrypt_is_left_to_the_device_to_drop():
    records, _ = records_of(1)
    got = ask(records, 0, 100, encrypt=False)
    assert (got.op, got.way, got.ooo) == (TxOp.NOTHING, None, False)
    assert ask(records, 0, 100, encrypt=False, offloaded=False) == Drop(DropReason.ORPHAN)


@pytest.mark.parametrize("offloaded", [False, True])
def test_bytes_of_no_record_are_dropped(offloaded):
    records, made = records_of(3)
    records.release(made[0].end)
    dropped = Drop(DropReason.NO_SYNC_DATA)
    kwargs = {"expected": made[2].start, "offloaded": offloaded}
    assert ask(records, 5, 20, **kwargs) == dropped  # released
    assert ask(records, made[0].end - 1, made[1].start + 9, **kwargs) == dropped  # and kept
    assert ask(records, made[2].start, made[2].end + 1, **kwargs) == dropped  # not pushed
    # Acknowledged inside a record: the record is kept, and an ordinary way is chosen.
    records.release(made[1].start + 10)
    assert way_of(ask(records, made[1].start, made[1].start + 9, **kwargs)) is (
        Way.SEEK if offloaded else Way.SOFTWARE
    )


# --- in order -------------------------------------------------------------------------------


def test_in_order():
    records, made = records_of()
    end = made[1].start + 8
    got = ask(records, 10, end, 10)
    assert got == Decision(TxOp.ENCRYPT, end, None, Way.IN_ORDER, tuple(made[:2]))


def test_without_device_or_key_software_encrypts_and_the_frontier_stays():
    records, made = records_of(2)
    last = push(records, SIZE, epoch=1)
    assert way_of(ask(records, 0, 500, offloaded=False)) is Way.SOFTWARE
    got = ask(records, made[1].start, last.start + 1, made[1].start)
    assert (got.op, got.way, got.expected) == (TxOp.WIRE, Way.SOFTWARE, made[1].start)
    assert way_of(ask(records, made[1].start, last.start, made[1].start)) is Way.IN_ORDER
    both = frozenset({0, 1})
    assert way_of(ask(records, 0, records.end, epochs=both)) is Way.IN_ORDER
    made[0].software_only = True
    assert way_of(ask(records, 0, 100)) is Way.SOFTWARE


def test_tags_that_are_stored_already_are_compared_in_order():
    """Rule M: software sent the tags before the stream reached them."""
    records, made = records_of(3)
    start, end = 100, made[2].start + 5
    assert ask(records, start, end, start).tags is TxTags.COMPUTE
    made[0].tag = TAG
    mixed = ask(records, start, end, start)
    assert (mixed.way, mixed.op, mixed.expected) == (Way.SOFTWARE, TxOp.WIRE, start)
    made[1].tag = TAG
    got = ask(records, start, end, start)
    assert (got.way, got.tags) == (Way.IN_ORDER, TxTags.COMPARE)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_rest_of_a_tag_comes_from_the_stream_that_began_it(frozen):
    records, (first, second, _) = records_of(3, frozen=frozen)
    at = first.tag_start + 7
    ends = (first.end - 1, first.end, second.tag_start, second.tag_start + 1)
    first.outstanding = first.streaming = 1
    for end in ends:
        got = ask(records, at, end, at)
        assert (got.way, got.tags) == (Way.IN_ORDER, TxTags.COMPUTE)
    first.outstanding = first.streaming = 0
    first.tag, first.from_stream = TAG, True
    for end in ends:
        got = ask(records, at, end, at)
        begins = end > second.tag_start
        assert got.tags is (TxTags.COMPUTE if begins else TxTags.COMPARE)
    second.tag = TAG
    assert ask(records, at, ends[-1], at).tags is TxTags.COMPARE
    # Stored for the one that begins, not yet for the rest: the frame cannot express both.
    first.tag, first.outstanding, first.streaming = None, 1, 1
    assert way_of(ask(records, at, ends[-1], at)) is (Way.SOFTWARE if frozen else Hold)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_rest_of_a_tag_that_another_frame_brought_is_not_computed_anew(frozen):
    """A detached frame sent a first part, from text that may have been different."""
    records, (first, second, _) = records_of(3, frozen=frozen)
    first.tag = TAG
    at = first.tag_start + 7
    got = ask(records, at, second.tag_start + 1, at)
    assert way_of(got) is (Way.IN_ORDER if frozen else Way.SOFTWARE)
    assert ask(records, at, second.tag_start, at).tags is TxTags.COMPARE


@pytest.mark.parametrize("frozen", [False, True])
def test_the_rest_of_a_tag_whose_beginning_failed_is_softwares(frozen):
    records, (first, *_) = records_of(2, frozen=frozen)
    at = first.tag_start + 7
    assert way_of(ask(records, at, first.end, at)) is Way.SOFTWARE
    first.outstanding = 1  # it is being rebuilt, perhaps from other text
    assert way_of(ask(records, at, first.end, at)) is (Way.SOFTWARE if frozen else Hold)
    first.outstanding, first.unknown = 0, True
    assert way_of(ask(records, at, first.end, at)) is (Way.SOFTWARE if frozen else Drop)


# --- below the frontier ---------------------------------------------------------------------


def test_seek():
    records, made = records_of()
    for start, end in (
        (0, 3),
        (2, 600),
        (900, made[0].tag_start),
        (made[2].start, made[2].start + 1),
    ):
        got = ask(records, start, end, made[3].start)
        assert (got.way, got.detached, got.tags, got.dump) == (Way.SEEK, True, TxTags.GIVEN, None)
        assert (got.expected, got.ooo, got.sync) == (made[3].start, True, False)


def test_tag():
    records, made = records_of()
    made[0].tag = made[1].tag = TAG
    at, behind = made[0].tag_start, made[0].end
    for start, end in ((at - 1, at + 1), (behind - 1, behind), (4, made[1].end)):
        got = ask(records, start, end, made[3].start)
        assert (got.way, got.detached, got.tags, got.dump) == (Way.TAG, True, TxTags.GIVEN, None)


@pytest.mark.parametrize("version", [VERSION_TLS12, 1])
def test_rebuild(version):
    records, made = records_of(version=version)
    for start in (0, 3, made[0].text_start, made[0].text_start + 1, made[0].tag_start + 5):
        got = ask(records, start, made[1].end, made[3].start)
        assert (got.way, got.detached, got.tags) == (Way.REBUILD, True, TxTags.COMPUTE)
        replayed = start > made[0].text_start
        assert got.dump == ((0, start) if replayed else None)


def test_tags_known_and_not_in_one_segment_are_softwares():
    records, made = records_of()
    made[1].tag = TAG
    got = ask(records, 5, made[1].end, made[3].start)
    assert (got.way, got.op, got.expected) == (Way.SOFTWARE, TxOp.WIRE, made[3].start)
    made[0].outstanding = 1
    assert way_of(ask(records, 5, made[1].end, made[3].start)) is Way.SOFTWARE


def test_a_tag_under_way_is_waited_for_only_where_the_text_may_have_changed():
    for frozen, expected in ((True, Way.REBUILD), (False, Hold)):
        records, made = records_of(frozen=frozen)
        made[0].outstanding = made[1].outstanding = 1
        got = ask(records, 9, made[1].end, made[3].start)
        assert way_of(got) is expected
        if not frozen:
            assert got == Hold((3, 4))
            made[1].tag = TAG
            assert ask(records, 9, made[1].end, made[3].start) == Hold((3,))
            made[0].tag = TAG
            assert way_of(ask(records, 9, made[1].end, made[3].start)) is Way.TAG


def test_software_waits_for_the_tag_of_text_that_may_have_changed():
    records, made = records_of(frozen=False)
    made[0].outstanding = 1
    assert ask(records, 9, made[0].end, offloaded=False) == Hold((3,))
    assert way_of(ask(records, 9, made[0].tag_start, offloaded=False)) is Way.SOFTWARE
    made[0].tag = TAG
    assert way_of(ask(records, 9, made[0].end, offloaded=False)) is Way.SOFTWARE


def test_a_tag_of_which_bytes_left_unseen_never_gets_a_second_value():
    for frozen in (False, True):
        records, made = records_of(frozen=frozen)
        made[0].unknown = True
        got = ask(records, 9, made[0].end, made[3].start)
        assert way_of(got) is (Way.REBUILD if frozen else Drop)
        got = ask(records, 9, made[0].end, offloaded=False)
        assert way_of(got) is (Way.SOFTWARE if frozen else Drop)


def test_across_the_frontier_software_encrypts():
    records, made = records_of()
    got = ask(records, 100, 300, 200)
    assert (got.way, got.op, got.expected) == (Way.SOFTWARE, TxOp.WIRE, 200)
    assert way_of(ask(records, 100, 200, 200)) is Way.SEEK


# --- jumps forward --------------------------------------------------------------------------


def test_a_small_jump_is_replayed_from_the_frontier():
    records, made = records_of()
    start, end = made[2].start + 30, made[2].start + 90
    got = ask(records, start, end, 40)
    assert (got.way, got.dump, got.sync, got.detached) == (Way.REBUILD, (40, start), False, False)
    assert (got.expected, got.ooo, got.tags) == (end, True, TxTags.COMPUTE)


def test_a_long_jump_moves_the_stream_to_the_segments_record():
    records, made = records_of(30)
    at = made[20].start
    assert at > GAP_LIMIT
    got = ask(records, at + 30, at + 90, 40)
    assert (got.way, got.dump, got.sync) == (Way.REBUILD, (at, at + 30), True)
    got = ask(records, at, at + 90, 40)
    assert (got.way, got.dump, got.sync, got.expected) == (Way.IN_ORDER, None, True, at + 90)
    near = ask(records, at, at + 90, at - GAP_LIMIT)
    assert (near.dump, near.sync) == ((at - GAP_LIMIT, at), False)


def test_a_jump_inside_one_record_is_never_moved():
    records, made = records_of(2, 16384)
    got = ask(records, 16000, 16100, 10, gap_limit=100)
    assert (got.dump, got.sync) == ((10, 16000), False)


def test_a_jump_over_what_cannot_be_replayed_moves_the_stream():
    records, made = records_of(6)
    records.release(made[1].end)
    start = made[3].start + 5
    got = ask(records, start, start + 9, made[1].start)
    assert (got.dump, got.sync) == ((made[3].start, start), True)
    records, made = records_of(6)
    made[2].epoch = 1  # its key is not there
    got = ask(records, start, start + 9, made[1].start)
    assert (got.dump, got.sync) == ((made[3].start, start), True)


def test_the_tag_cut_by_a_jump_is_compared_if_it_is_stored():
    """The replayed bytes give the row the tag's first part. It must equal the part sent before."""
    for frozen in (False, True):
        records, made = records_of(frozen=frozen)
        at = made[0].tag_start + 5
        assert ask(records, at, at + 3, 10).tags is TxTags.COMPUTE
        made[0].tag = TAG
        assert ask(records, at, at + 3, 10).tags is TxTags.COMPARE
        got = ask(records, at, made[1].end, 10)
        assert way_of(got) is (Way.REBUILD if frozen else Way.SOFTWARE)
        made[1].tag = TAG
        assert ask(records, at, made[1].end, 10).tags is TxTags.COMPARE


def test_a_plan_that_does_not_fit_the_queue_is_not_made():
    records, made = records_of(4, 16384)
    frontier = made[3].start
    for posts, way in ((12, Way.REBUILD), (11, Way.SOFTWARE)):
        limits = {"mtu": 1500, "max_frames": posts}
        got = ask(records, 16000, made[0].end, frontier, **limits)
        assert way_of(got) is way
        got = ask(records, 16000, 16100, 0, **limits)
        assert (way_of(got), got.expected) == (way, 16100 if way is Way.REBUILD else 0)
    # Two records lie in the gap. The segment's own record fits.
    at = made[1].start + 900
    got = ask(records, at, at + 10, 1000, mtu=1500, max_frames=3)
    assert (got.dump, got.sync) == ((made[1].start, at), True)


# --- the device's stream is lost, and way d -------------------------------------------------


def test_software_goes_on_to_the_record_boundary_and_the_stream_begins_there():
    records, made = records_of()
    at = made[2].start
    for start, end in ((0, 100), (at - 10, at), (at - 10, at + 10)):
        got = ask(records, start, end, 700, resync=at)
        assert (got.op, got.way, got.resync, got.expected) == (TxOp.WIRE, Way.NEXT_RECORD, at, 700)
    got = ask(records, at, at + 10, 700, resync=at)
    assert (got.op, got.way, got.sync) == (TxOp.ENCRYPT, Way.NEXT_RECORD, True)
    assert (got.resync, got.expected, got.dump) == (None, at + 10, None)
    # The boundary lay inside a segment of software. The next one begins after it.
    got = ask(records, at + 10, at + 20, 700, resync=at)
    assert (got.sync, got.dump, got.resync) == (True, (at, at + 10), None)
    other = ask(records, 0, 100, 700, resync=at, resync_way=Way.SOFTWARE)
    assert other.way is Way.SOFTWARE
    made[2].epoch = 9
    got = ask(records, at, at + 10, 700, resync=at)
    assert (got.way, got.resync) == (Way.SOFTWARE, at)


def test_next_record_begins_with_the_first_segment_out_of_order():
    records, made = records_of()
    mode = {"mode": TxMode.NEXT_RECORD}
    assert way_of(ask(records, 700, 800, 700, **mode)) is Way.IN_ORDER
    got = ask(records, 5, 20, 700, high=made[1].start + 1, **mode)
    assert (got.op, got.way, got.resync) == (TxOp.WIRE, Way.NEXT_RECORD, made[2].start)
    got = ask(records, made[2].start, made[2].end, 700, **mode)
    assert got.resync == made[3].start
    got = ask(records, 5, 20, made[1].start, **mode)
    assert got.resync == made[1].start
    assert ask(records, records.end - 9, records.end, 700, **mode).resync == records.end


# --- forced ways ----------------------------------------------------------------------------


def test_forced_seek_and_tag_are_used_where_they_can_and_the_rules_elsewhere():
    records, made = records_of()
    made[0].tag = TAG
    frontier = made[3].start
    for mode in (TxMode.AUTO, TxMode.SEEK, TxMode.TAG):
        asked = {"expected": frontier, "mode": mode}
        assert way_of(ask(records, 5, 100, **asked)) is Way.SEEK
        assert way_of(ask(records, 5, made[0].end, **asked)) is Way.TAG
        assert way_of(ask(records, 5, made[1].end, **asked)) is Way.SOFTWARE
        assert way_of(ask(records, made[2].start, made[2].end, **asked)) is Way.REBUILD
        assert way_of(ask(records, frontier, made[3].end, **asked)) is Way.IN_ORDER


def test_forced_rebuild_replays_everything_below_the_frontier_and_compares():
    records, made = records_of()
    asked = {"expected": made[3].start, "mode": TxMode.REBUILD}
    got = ask(records, 50, 100, **asked)
    assert (got.way, got.dump, got.tags) == (Way.REBUILD, (0, 50), TxTags.COMPARE)
    made[0].tag = TAG
    got = ask(records, 50, made[0].end, **asked)
    assert (got.way, got.dump, got.tags) == (Way.REBUILD, (0, 50), TxTags.COMPARE)
    assert way_of(ask(records, 50, made[1].end, **asked)) is Way.SOFTWARE
    assert ask(records, made[1].start, made[1].end, **asked).tags is TxTags.COMPUTE
    assert ask(records, made[3].start, made[3].end, **asked).way is Way.IN_ORDER
    assert ask(records, 3, 50, **asked).dump is None


def test_forced_software_takes_all_that_is_out_of_order():
    records, made = records_of()
    asked = {"mode": TxMode.SOFTWARE}
    assert way_of(ask(records, 0, 100, 0, **asked)) is Way.IN_ORDER
    for start in (0, 300):
        got = ask(records, start, start + 50, 200, **asked)
        assert (got.way, got.op, got.expected) == (Way.SOFTWARE, TxOp.WIRE, 200)


# --- over all of it -------------------------------------------------------------------------

_RECORD = st.fixed_dictionaries(
    {
        "size": st.integers(0, 40),
        "frozen": st.booleans(),
        "stored": st.booleans(),
        "outstanding": st.integers(0, 1),
        "streaming": st.integers(0, 1),
        "unknown": st.booleans(),
        "from_stream": st.booleans(),
        "epoch": st.sampled_from((0, 0, 0, 1)),
    }
)


@settings(max_examples=400)
@given(
    kinds=st.lists(_RECORD, min_size=1, max_size=6),
    cut=st.tuples(st.integers(0, 250), st.integers(1, 80)),
    expected=st.integers(0, 250),
    ahead=st.integers(0, 60),
    released=st.integers(0, 100),
    mode=st.sampled_from(list(TxMode)),
    resync=st.booleans(),
)
def test_no_decision_breaks_the_rules(kinds, cut, expected, ahead, released, mode, resync):
    records = RecordMap()
    for kind in kinds:
        record = push(records, kind["size"], epoch=kind["epoch"], frozen=kind["frozen"])
        record.tag = TAG if kind["stored"] else None
        record.outstanding, record.unknown = kind["outstanding"], kind["unknown"]
        record.streaming = min(kind["streaming"], record.outstanding)
        record.from_stream = kind["from_stream"]
    records.release(released)
    start, end, expected = cut[0], cut[0] + cut[1], min(expected, records.end)
    high = min(expected + ahead, records.end)
    boundary = records.boundary(high) if resync else None
    got = ask(
        records, start, end, expected, high=high, mode=mode, resync=boundary, gap_limit=50, mtu=20
    )
    covering = records.covering(start, end)
    if isinstance(got, Drop):
        assert not covering or any(r.unknown and not r.frozen and r.tag is None for r in covering)
        return
    if isinstance(got, Hold):
        assert all(r.outstanding and not r.frozen for r in covering if r.count in got.numbers)
        return
    assert list(got.records) == covering
    assert got.expected >= expected
    if got.op is TxOp.WIRE:
        assert got.expected == expected
        return
    hashed = records.covering(*got.dump) if got.dump else []
    assert all(record.epoch == 0 for record in covering + hashed)
    begin = got.dump[0] if got.dump else start
    assert got.dump is None or got.dump[1] == start
    tagged = [record for record in covering if record.has_tag_bytes(start, end)]
    if got.detached:
        assert end <= expected
        assert boundary is None or start >= boundary
        if got.tags is not TxTags.GIVEN:
            assert start <= covering[0].text_start or begin == covering[0].start
    elif got.sync:
        # Forward, to a record that the stream has not begun.
        assert begin == covering[0].start >= expected
        assert boundary is None or begin >= boundary
    else:
        assert begin == expected
        assert boundary is None
    for record in tagged:
        if got.tags is TxTags.COMPUTE:
            brought = record.tag_start < start and not got.detached
            assert record.tag is None or (brought and (record.frozen or record.from_stream))
            if brought and record.tag is None and record.tag_start < begin:
                assert record.streaming
            if got.detached:
                assert record.frozen or not (record.outstanding or record.unknown)
        else:
            assert record.tag is not None
