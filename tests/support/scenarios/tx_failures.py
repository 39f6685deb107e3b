# SPDX-License-Identifier: Apache-2.0
"""Transmit failures, one test for each: kTLS, driver and device together.

Every test compares the frames sent with those of a software TLS sender, frame by frame
(`TxEndToEnd.check`). A test module imports the tests and has a fixture `transports`, which makes
the transport of the device.
"""

from __future__ import annotations

import random

import pytest

from sealane.driver.device.tx import QueueFull
from sealane.driver.ktls.tx.plan import DropReason, Hold, Plan, TxMode, Way
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from sealane.hdl.abi.tx import TxOp, TxReason, TxTags
from tests.support.tcp_frames import ACK, FIN, PSH
from tests.support.tx_end_to_end import TxEndToEnd

VERSIONS = pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13], ids=["1.2", "1.3"])
# The marker after the wrap, before it, and placed so that the first record straddles it.
MARKERS = pytest.mark.parametrize("marker", [5000, 16, 0xFFFF_FFF0, 0xFFFF_FF00])
TEXTS = (400, 0, 3000, 17, 1, 900)


def text(length: int, salt: int = 0) -> bytes:
    return bytes(89 * i + salt & 255 for i in range(length))


def world(transports, version=VERSION_TLS13, **kwargs) -> TxEndToEnd:
    made = TxEndToEnd(transports, version, **kwargs)
    for i, length in enumerate(TEXTS):
        made.write(text(length, i))
    return made


def all_in_order(w: TxEndToEnd, size: int = 700, start: int = 0) -> None:
    for low in range(start, w.end, size):
        sent = w.send(low, min(low + size, w.end))
        assert sent.left and sent.way is Way.IN_ORDER, low


# --- the start marker ---------------------------------------------------------------------------


@MARKERS
def test_packet_before_the_start_marker(transports, marker):
    w = world(transports, marker=marker)
    assert w.send(-200, -50, encrypt=False).left
    assert w.send(-50, 0, encrypt=False).left
    assert w.send(-200, -50).dropped is DropReason.BYPASS_REQ
    assert w.send(-50, 0).dropped is DropReason.BYPASS_REQ
    all_in_order(w)
    assert w.send(-50, 0, encrypt=False).left  # a retransmission of software's segment
    counters = w.device.counters
    assert counters.tx_tls_drop_bypass_req == 2
    assert counters.tx_tls_skip_no_sync_data == 3
    # Without the driver's word the device passes it too, and never encrypts it.
    assert w.nothing(-200, 0)
    assert w.raw(-200, -50) is TxReason.BYPASS


@MARKERS
def test_packet_straddling_the_start_marker(transports, marker):
    w = world(transports, marker=marker)
    assert w.send(-50, 50).dropped is DropReason.BYPASS_REQ
    assert w.device.counters.tx_tls_drop_bypass_req == 1
    assert w.raw(-50, 50) is TxReason.BYPASS
    assert not w.nothing(-50, 50)
    assert not w.on_wire
    all_in_order(w)
    assert w.send(-1, 1).dropped is DropReason.BYPASS_REQ
    # Without `encrypt` it is plaintext as well. Only the caller knows that software sealed and sent
    # it before the offload.
    assert w.send(-50, 50, encrypt=False).dropped is DropReason.BYPASS_REQ
    assert w.device.counters.tx_tls_drop_bypass_req == 3
    assert w.send(-50, 50, encrypt=False, data=w.stream.wire, final=True).left
    assert w.send(0, 50, encrypt=False, final=True).reasons == [TxReason.ORPHAN]


def test_text_without_a_word_for_a_device_that_knows_nothing_of_the_flow(transports):
    """Only a device that has the flow can be trusted to drop it."""
    w = world(transports)
    assert w.send(0, 100, encrypt=False).reasons == [TxReason.ORPHAN]
    assert w.send(0, 100, encrypt=False, device=object()).dropped is DropReason.ORPHAN
    w.delete()
    assert w.send(0, 100, encrypt=False).dropped is DropReason.ORPHAN
    w.device.release(w.handle)
    assert w.send(0, 100, encrypt=False).dropped is DropReason.ORPHAN
    assert w.ktls.counters.orphans == 4
    assert not w.on_wire
    assert w.send(0, 0, encrypt=False).left
    assert w.send(0, 100).way is Way.SOFTWARE


@MARKERS
@VERSIONS
@pytest.mark.parametrize("bits", [128, 256])
def test_packet_behind_the_start_marker(transports, marker, version, bits):
    w = world(transports, version, marker=marker, bits=bits)
    all_in_order(w, 97)
    assert w.device.counters.tx_tls_encrypted_bytes == w.end == len(w.on_wire)
    assert w.device.counters.tx_tls_ooo == 0


# --- cuts -----------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("again", [False, True], ids=["in order", "again"])
def test_tag_only_and_header_only_packets(transports, version, again):
    w = world(transports, version)
    if again:
        all_in_order(w)
    for record in w.stream.records:
        front = record.offset + header_bytes(version)
        cuts = [record.offset, record.offset + 5, front, record.end - 16, record.end]
        for low, high in zip(cuts, cuts[1:], strict=False):
            if low < high:
                sent = w.send(low, high)
                assert sent.left, (low, high)
                assert again == (sent.way in (Way.SEEK, Way.TAG))
    assert len(w.on_wire) == w.end


@VERSIONS
@pytest.mark.parametrize("mode", [TxMode.AUTO, TxMode.REBUILD, TxMode.SOFTWARE])
@pytest.mark.parametrize("seed", range(3))
def test_middle_of_a_record(transports, version, mode, seed):
    rng = random.Random(seed)
    w = world(transports, version, mode=mode)
    all_in_order(w)
    for _ in range(40):
        low = rng.randrange(w.end)
        high = min(w.end, low + rng.randint(1, 1400))
        sent = w.send(low, high)
        assert sent.left, (low, high)
        if mode is TxMode.REBUILD:
            assert sent.way is Way.REBUILD and TxOp.WIRE not in sent.operations
        elif mode is TxMode.SOFTWARE:
            assert sent.way is Way.SOFTWARE and sent.operations == [TxOp.WIRE]
        else:
            assert sent.way in (Way.SEEK, Way.TAG) and sent.operations == [TxOp.ENCRYPT]


@VERSIONS
@pytest.mark.parametrize("mode", [TxMode.AUTO, TxMode.REBUILD, TxMode.SOFTWARE])
def test_end_in_mid_tag(transports, version, mode):
    w = world(transports, version, mode=mode)
    third = w.stream.records[2]
    low = 0
    for high in (third.end - 9, third.end - 8, third.end + 3, w.end):
        sent = w.send(low, high)
        assert sent.left and sent.way is Way.IN_ORDER
        low = high
    for low, high in (
        (third.end - 500, third.end - 9),
        (third.end - 9, third.end - 2),
        (third.end - 2, third.end),
        (third.end - 2, w.end),
    ):
        assert w.send(low, high).left, (low, high)


def test_fin_with_data(transports):
    w = world(transports)
    assert w.send(0, w.end - 100).left
    assert w.send(w.end - 100, w.end, flags=FIN | ACK | PSH).left
    assert w.send(w.end, w.end, flags=FIN | ACK).left  # the FIN again, alone
    again = w.send(w.end - 100, w.end, flags=FIN | ACK | PSH)
    assert again.left and again.way is Way.TAG


# --- acknowledgements ---------------------------------------------------------------------------


def test_retransmission_after_release(transports):
    w = world(transports)
    all_in_order(w)
    third = w.stream.records[2]
    w.ack(third.offset)
    for low, high in ((0, 100), (300, third.offset), (300, third.offset + 50)):
        sent = w.send(low, high)
        assert sent.dropped is DropReason.NO_SYNC_DATA and not sent.completions
    assert w.device.counters.tx_tls_drop_no_sync_data == 3
    assert w.send(third.offset, third.offset + 700).left


@VERSIONS
def test_packet_spanning_acknowledged_and_not(transports, version):
    w = world(transports, version)
    all_in_order(w)
    third = w.stream.records[2]
    w.ack(third.offset + 1000)
    # The record is partly acknowledged. It is still in the map, and so is its tag.
    assert w.send(third.offset + 500, third.offset + 1500).way is Way.SEEK
    assert w.send(third.end - 100, third.end + 10).way is Way.TAG
    # It begins in a record that is gone.
    sent = w.send(third.offset - 10, third.offset + 500)
    assert sent.dropped is DropReason.NO_SYNC_DATA and not sent.completions


# --- the device's queue, gaps -------------------------------------------------------------------


def test_dump_longer_than_the_mtu(transports):
    w = world(transports, mode=TxMode.REBUILD, mtu=512)
    all_in_order(w)
    third = w.stream.records[2]
    low = third.end - 50
    sent = w.send(low, third.end)
    assert sent.left and sent.way is Way.REBUILD
    count = -(-(low - third.offset) // 512)
    assert sent.operations == [TxOp.DUMP] * count + [TxOp.ENCRYPT] and count > 4
    assert w.device.counters.tx_tls_dump_packets == count
    assert w.device.counters.tx_tls_dump_bytes == low - third.offset
    # The device refuses what no driver should post.
    long = bytes(w.config.max_frame + 1)
    meta = w.meta(TxOp.DUMP, seq=w.stream.seq, length=len(long))
    assert w.post(long, meta).reasons == [TxReason.OVERSIZE]


def test_ring_full(transports):
    """The sequence has advanced when the post fails. It is taken back without a trace."""
    w = world(transports, queue=3, mtu=512)
    assert w.send(0, 300).left
    for _ in range(2):  # a jump needs DUMP pieces, and the queue has room for too few
        with pytest.raises(QueueFull):
            w.send(2500, 2800)
    assert w.send(300, 500).way is Way.IN_ORDER
    w.device.queue = 8
    sent = w.send(2500, 2800)
    assert sent.left and sent.operations == [TxOp.DUMP] * 4 + [TxOp.ENCRYPT]
    w.device.queue = 0
    with pytest.raises(QueueFull):
        w.send(2800, 2900)
    with pytest.raises(QueueFull):
        w.send(100, 200)
    w.device.queue = 3
    assert w.send(2800, 2900).way is Way.IN_ORDER
    assert w.send(100, 200).way is Way.SEEK
    assert w.ktls.counters.undone == 4
    assert w.device.counters.tx_tls_ooo == 2  # the jump and the retransmission, once each


@pytest.mark.parametrize("mode", TxMode)
@VERSIONS
def test_local_drop_then_a_jump_forward(transports, version, mode):
    """A segment is lost above the driver, and the next one begins after the frontier."""
    w = world(transports, version, mode=mode)
    assert w.send(0, 300).left
    jump = w.send(1000, 1400)
    assert jump.left
    expected = {TxMode.NEXT_RECORD: Way.NEXT_RECORD, TxMode.SOFTWARE: Way.SOFTWARE}
    assert jump.way is expected.get(mode, Way.REBUILD)
    assert w.send(1400, 2000).left
    assert w.send(300, 1000).left  # TCP sends it again
    for low in range(2000, w.end, 300):
        assert w.send(low, min(low + 300, w.end)).left
    assert len(w.on_wire) == w.end
    assert w.device.counters.tx_tls_ooo > 0
    assert (w.ktls.counters.by_way.get(Way.NEXT_RECORD, 0) > 0) == (mode is TxMode.NEXT_RECORD)


def test_pure_ack_while_out_of_sync(transports):
    w = world(transports)
    assert w.send(0, 300).left
    assert w.raw(1000, 1400) is TxReason.OUT_OF_ORDER
    for at in (300, 1000, 100):
        assert w.send(at, at).left
        assert w.send(at, at, encrypt=False).left
    assert w.ktls.counters.by_way.get(Way.IN_ORDER) == 1
    assert w.send(300, 600).way is Way.IN_ORDER  # nobody's position moved
    # The stream was lost in the device itself. Acknowledgements continue all the same.
    record = w.stream.records[2]
    good = w.plain
    w.plain = good[: record.offset] + b"\x99" + good[record.offset + 1 :]
    assert w.raw(600, 1000) is TxReason.NONE
    broken = w.stream.records[3].offset
    w.plain = good[:broken] + b"\x99" + good[broken + 1 :]
    assert w.raw(1000, broken + 5) is TxReason.BAD_HEADER
    assert w.raw(broken + 5, broken + 9) is TxReason.BROKEN
    assert w.send(1000, 1000).left


# --- contexts, keys, orphans ----------------------------------------------------------------------


def test_stale_packet_after_delete(transports):
    w = world(transports)
    assert w.send(0, 300).left
    stale = (w.host_frame(300, 600), w.meta())  # waiting in a host queue
    w.delete()
    assert w.post(*stale).reasons == [TxReason.NO_CONTEXT]
    assert not w.nothing(300, 600)
    sent = w.send(300, 600)
    assert sent.left and sent.way is Way.SOFTWARE and sent.operations == [TxOp.WIRE]
    assert w.send(600, 600).left
    w.device.release(w.handle)
    assert w.post(*stale).reasons == [TxReason.NO_CONTEXT]
    # Another connection in the same context, which has another generation.
    w.device.add(w.flow, w.stream.keys(0), w.stream.seq, 0)
    assert w.post(*stale).reasons == [TxReason.NO_CONTEXT]


def test_stale_packet_after_rekey(transports):
    w = world(transports)
    all_in_order(w)
    old = (w.with_tags(500, 600), w.meta(**w.detached(500, tags=TxTags.GIVEN)))
    middle = w.end
    w.rekey()
    w.write(text(500))
    all_in_order(w, start=middle)
    again = w.send(500, 600)
    assert again.left and again.way is Way.SEEK  # both keys are in the device
    assert w.post(*old).reasons == [TxReason.NONE]
    w.ack(middle)
    assert w.post(*old).reasons == [TxReason.NO_KEY]
    assert w.send(middle + 100, middle + 200).way is Way.SEEK


def test_orphaned_packet(transports):
    """The socket is gone or the packet was redirected: it has plaintext and no metadata."""
    w = world(transports)
    assert w.send(0, 300).left
    for low, high in ((300, 600), (100, 200), (w.end - 1, w.end), (0, 1)):
        sent = w.send(low, high, encrypt=False)
        assert sent.frames == [] and sent.reasons == [TxReason.ORPHAN]
    assert w.ktls.counters.orphans == 4
    # A fragment's ports cannot be seen. It may belong to any flow.
    frame = bytearray(w.frame(300, 600, w.plain))
    frame[20] |= 0x20  # more fragments
    assert w.post(bytes(frame), w.meta(TxOp.NOTHING)).reasons == [TxReason.ORPHAN]
    assert w.send(300, 600).way is Way.IN_ORDER


# --- errors of the device, changed plaintext -----------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("writes", [1, 7])
def test_device_error_in_mid_packet(transports, version, writes):
    w = world(transports, version)
    third = w.stream.records[2]
    assert w.send(0, third.offset + 100).left
    w.lose(writes)
    sent = w.send(third.offset + 100, third.end + 50)
    assert sent.frames == [] and sent.reasons == [TxReason.DEVICE_ERROR]
    assert w.ktls.counters.device_drops == 1
    # The tags of that frame are worthless. TCP's retransmission computes them anew.
    again = w.send(third.offset + 100, third.end + 50)
    assert again.left and again.way is Way.REBUILD
    for low in range(third.end + 50, w.end, 500):
        assert w.send(low, min(low + 500, w.end)).left
    assert len(w.on_wire) == w.end


@VERSIONS
@pytest.mark.parametrize("mode", [TxMode.AUTO, TxMode.REBUILD, TxMode.SOFTWARE])
def test_plaintext_changed_between_transmission_and_retransmission(transports, version, mode):
    """Zero-copy, and the caller breaks its promise: nothing with a second tag is sent."""
    w = TxEndToEnd(transports, version, mode=mode)
    w.write(text(100))
    content = bytearray(text(2000))
    record = w.write(content, frozen=False)
    w.write(text(100))
    all_in_order(w)
    w.strict = False  # of the frames sent now, only the tags must be those sent before
    content[300] ^= 1
    w.change(record.offset + header_bytes(version) + 300)
    for low, high in (
        (record.offset, record.end),
        (record.end - 40, record.end),
        (record.end - 16, record.end),
        (record.end - 3, w.end),
        (record.end - 30, record.end - 10),
    ):
        sent = w.send(low, high)
        if mode is TxMode.REBUILD:
            assert sent.reasons[-1] is TxReason.TAG_MISMATCH and not sent.frames
        elif mode is TxMode.SOFTWARE:
            assert sent.dropped is DropReason.TAG_MISMATCH
    if mode is not TxMode.AUTO:
        assert w.ktls.counters.tag_mismatch == 5


@VERSIONS
@pytest.mark.parametrize("mode", [TxMode.AUTO, TxMode.REBUILD])
def test_a_tag_that_software_sent_first_is_the_only_one(transports, version, mode):
    """Software sends a record that the device's stream skips, and starts later."""
    w = TxEndToEnd(transports, version, mode=TxMode.NEXT_RECORD)
    w.write(text(100))
    content = bytearray(text(700))
    record = w.write(content, frozen=False)
    after = w.write(text(300))
    assert w.send(0, 50).left
    w.ktls.tls_offload_tx_resync_request()
    assert w.send(record.offset, record.end).way is Way.NEXT_RECORD
    assert w.send(after.offset, after.end).left
    w.ktls.mode = mode
    again = w.send(record.offset, record.end)
    assert again.left and again.way is (Way.TAG if mode is TxMode.AUTO else Way.REBUILD)
    content[300] ^= 1
    w.change(record.offset + header_bytes(version) + 300)
    w.strict = False
    sent = w.send(record.offset, record.end)
    if mode is TxMode.REBUILD:
        assert sent.reasons == [TxReason.TAG_MISMATCH]


@VERSIONS
def test_the_rest_of_a_tag_whose_beginning_failed_while_it_is_rebuilt(transports, version):
    """The row has the tag of text that has changed since, and a rebuilt one is on its way."""
    w = TxEndToEnd(transports, version)
    content = bytearray(text(40))
    record = w.write(content, frozen=False)
    w.lose(1)
    assert w.send(0, record.end - 10).reasons == [TxReason.DEVICE_ERROR]
    content[0] ^= 1
    w.change(header_bytes(version))
    w.strict = False
    assert w.send(record.end - 20, record.end - 10, poll=False).way is Way.REBUILD
    assert isinstance(w.send(record.end - 10, record.end).plan, Hold)
    w.poll()
    sent = w.send(record.end - 10, record.end)
    assert sent.reasons == [TxReason.TAG_MISMATCH]
    assert w.send(record.end - 16, record.end).way is Way.TAG


def test_a_tag_on_its_way_is_waited_for(transports):
    """Zero-copy: nothing computes a second tag before the completion with the first."""
    w = TxEndToEnd(transports)
    w.write(bytearray(text(500)), frozen=False)
    w.send(0, w.end, poll=False)
    sent = w.send(400, w.end)
    assert isinstance(sent.plan, Hold) and not sent.frames
    w.poll()
    assert w.send(400, w.end).way is Way.TAG
    assert w.ktls.counters.tag_wait == 1


def test_plans_of_other_devices_are_software(transports):
    """The route changed to another card, so software encrypts the segments."""
    w = world(transports)
    assert w.send(0, 300).left
    sent = w.send(300, 600, device=object())
    assert sent.left and sent.way is Way.SOFTWARE and isinstance(sent.plan, Plan)
    assert w.send(600, 900).left
