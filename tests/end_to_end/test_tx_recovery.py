# SPDX-License-Identifier: Apache-2.0
"""Recovery without loss: software sends what a device refuses again and again.

TCP sends a segment again until it is acknowledged. Each scenario counts how often. Keys protect
nothing.
"""

from __future__ import annotations

import pytest

from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Drop, DropReason, Hold, Plan, TxMode, Way
from sealane.driver.ktls.tx.rekey import ClearKey, InstallKey, RekeyMode
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.tx import TxReason
from tests.support.marking_device import info
from tests.support.tx_end_to_end import TxEndToEnd

TEXT = bytes(range(256)) * 4


def world(version=VERSION_TLS13, texts=(TEXT, TEXT), **kwargs) -> TxEndToEnd:
    made = TxEndToEnd(ModelTransport, version, **kwargs)
    for text in texts:
        made.write(text)
    return made


def until_it_leaves(w: TxEndToEnd, start: int, end: int) -> list[TxReason]:
    """Reasons of all earlier failures."""
    failed = []
    for _ in range(4):
        sent = w.send(start, end)
        if sent.left:
            return failed
        failed += [reason for reason in sent.reasons if reason]
    raise AssertionError(f"never leaves: {failed}")


# --- detached frames ----------------------------------------------------------------------------


def test_a_content_type_that_the_device_refuses_is_softwares_at_once():
    w = TxEndToEnd(ModelTransport, VERSION_TLS12)
    first, heartbeat, third = w.write(TEXT), w.write(TEXT, 24), w.write(TEXT)
    ways = [
        w.send(low, high).way
        for low, high in (
            (0, first.end),
            (first.end, heartbeat.end),
            (heartbeat.end, third.end),
            (first.end, heartbeat.end),
        )
    ]
    assert ways == [Way.IN_ORDER, Way.SOFTWARE, Way.IN_ORDER, Way.SOFTWARE]
    assert w.ktls.counters.device_drops == 0
    assert set(w.on_wire) == set(range(w.end))


def test_a_retransmission_that_loses_its_writes_each_time():
    w = world()
    w.send(0, w.end)
    for _ in range(2):
        w.lose(1)
        assert w.send(100, 300).reasons == [TxReason.DEVICE_ERROR]
    sent = w.send(100, 300)
    assert sent.left and sent.way is Way.SOFTWARE
    record = list(w.ktls.records)[1]
    assert w.send(record.start, record.end).way is Way.TAG  # the others are the device's


def test_pieces_that_are_too_long_for_the_device():
    """kTLS is not informed of the device's limits: the record's beginning is not hashed."""
    w = world(
        texts=(bytes(9000),),
        mtu=15000,
        mode=TxMode.REBUILD,
        config=Config(flows=4, tx_flows=4, max_frame=2048),
    )
    for low in range(0, w.end, 1000):
        assert w.send(low, min(w.end, low + 1000)).left
    failed = until_it_leaves(w, 8000, 8900)
    assert failed[:2] == [TxReason.OVERSIZE, TxReason.NO_SYNC_DATA]
    assert len(failed) <= 4
    for wrong in (0, 65536):
        with pytest.raises(ValueError, match="mtu"):
            KtlsTx(info(VERSION_TLS13), 0, mtu=wrong)


# --- the stream -----------------------------------------------------------------------------


def test_a_failure_that_is_heard_of_while_the_next_plan_is_pending():
    """The stream is lost at a frame. A plan that would move it on is made and undone."""
    w = world(texts=(TEXT, TEXT, bytes(16000), bytes(16000), bytes(5000), TEXT))
    first, second, _, _, fifth, _ = w.stream.records
    w.send(0, first.end)
    frame = bytearray(w.host_frame(first.end, second.end))
    at = frame.index(w.plain[second.offset + 5 : second.end]) - 5
    frame[at] = 99  # on its way to the device: a false header
    plan = w.ktls.transmit(bytes(frame))
    assert isinstance(plan, Plan)
    w.device.post(plan.frames)
    jump = w.ktls.transmit(w.host_frame(fifth.offset, fifth.offset + 1000))
    assert isinstance(jump, Plan) and jump.way is Way.IN_ORDER
    assert w.poll().reasons == [TxReason.BAD_HEADER]
    assert not w.ktls.tls_offload_tx_resync_pending  # the jump settles it
    jump.undo()
    assert w.ktls.tls_offload_tx_resync_pending
    assert until_it_leaves(w, second.offset, second.end) == []


@pytest.mark.parametrize("mode", [TxMode.AUTO, TxMode.NEXT_RECORD])
def test_a_resync_that_is_requested_while_a_plan_is_pending(mode):
    w = world(texts=(TEXT, TEXT, TEXT), mode=mode)
    first, _, third = w.stream.records
    w.send(0, first.end)
    plan = w.ktls.transmit(w.host_frame(third.offset, third.offset + 100))
    assert isinstance(plan, Plan)
    w.ktls.tls_offload_tx_resync_request()
    plan.undo()
    assert w.ktls.tls_offload_tx_resync_pending


def test_a_device_that_cannot_follow_any_more_is_let_go():
    """Half the sequence space behind, forward looks like backward."""
    w = world(texts=[bytes(200)] * 12)
    records = w.stream.records
    w.send(0, records[0].end)
    row = w.transport.tx.walker.rows[w.handle.context]
    row.next = (row.next - (1 << 31) - 100) & 0xFFFFFFFF
    w.ktls.tls_offload_tx_resync_request()
    for record in records[1:]:
        w.send(record.offset, record.end)
    assert (w.ktls.counters.given_up, w.ktls.handle) == (1, None)
    assert w.ktls.counters.device_drops == 3
    for record in records[1:]:
        assert until_it_leaves(w, record.offset, record.end) == []
    assert set(w.on_wire) == set(range(w.end))
    w.ktls.tls_offload_tx_resync_request()
    assert not w.ktls.tls_offload_tx_resync_pending


def test_syncs_that_fail_now_and_then_do_not_end_the_offload():
    w = world(texts=[bytes(200)] * 12)
    records = w.stream.records
    row = w.transport.tx.walker.rows[w.handle.context]
    for i, record in enumerate(records):
        if i % 2:
            w.ktls.tls_offload_tx_resync_request()
            row.number += 1000
            assert w.send(record.offset, record.end).reasons == [TxReason.OUT_OF_ORDER]
            row.number -= 1000
        else:
            assert w.send(record.offset, record.end).left
    assert w.ktls.counters.given_up == 0
    assert w.ktls.handle is not None


# --- the device is gone ---------------------------------------------------------------------


def test_a_device_that_has_failed_is_not_waited_for():
    w = TxEndToEnd(ModelTransport)
    promised = w.write(bytearray(TEXT), frozen=False)
    copied = w.write(TEXT)
    for low, high in ((0, promised.end), (promised.end, copied.end)):
        assert isinstance(w.ktls.transmit(w.host_frame(low, high)), Plan)
    assert w.ktls.transmit(w.host_frame(0, promised.end)) == Hold((3,))
    w.ktls.failed()
    dropped = w.ktls.transmit(w.host_frame(0, promised.end))
    assert dropped == Drop(DropReason.NO_SYNC_DATA)  # its tag may be sent, its text changed
    assert w.device.counters.tx_tls_drop_no_sync_data == 1
    assert w.send(0, promised.end - 16).way is Way.SOFTWARE
    assert w.send(promised.end, copied.end).way is Way.SOFTWARE
    later = w.write(bytearray(TEXT), frozen=False)
    assert w.send(copied.end, later.end).way is Way.SOFTWARE


def test_what_is_completed_behind_the_deletion_still_counts():
    w = TxEndToEnd(ModelTransport)
    promised = w.write(bytearray(TEXT), frozen=False)
    plan = w.ktls.transmit(w.host_frame(0, promised.end))
    w.device.post(plan.frames)
    w.delete()
    assert w.ktls.transmit(w.host_frame(0, promised.end)) == Hold((3,))
    w.poll()
    assert w.send(0, promised.end).way is Way.SOFTWARE


def test_a_plan_that_is_taken_back_behind_the_deletion_brings_no_resync_back():
    w = world(texts=(TEXT, TEXT))
    second = w.stream.records[1]
    w.send(0, second.offset)
    w.ktls.tls_offload_tx_resync_request()
    plan = w.ktls.transmit(w.host_frame(second.offset, second.end))  # the stream begins anew
    assert isinstance(plan, Plan) and not w.ktls.tls_offload_tx_resync_pending
    w.delete()
    plan.undo()
    assert not w.ktls.tls_offload_tx_resync_pending and w.ktls.eor is None
    assert w.send(second.offset, second.end).way is Way.SOFTWARE


def test_an_answer_about_a_key_that_comes_behind_the_deletion():
    w = world()
    w.stream.next_epoch()
    (install,) = w.ktls.rekey(w.stream.keys(1))
    assert isinstance(install, InstallKey)
    w.delete()
    for ok in (False, True):
        assert w.ktls.key_installed(ok) == []
    assert (w.device.stat.TlsTxRekeyOk, w.device.stat.TlsTxRekeyError) == (0, 0)
    w.ktls.tls_offload_tx_resync_request()
    assert w.ktls.eor == 0 and not w.ktls.tls_offload_tx_resync_pending


@pytest.mark.parametrize("mode", list(RekeyMode))
def test_the_old_key_is_cleared_though_the_new_one_was_refused(mode):
    w = world(rekey_mode=mode)
    w.send(0, w.end)
    w.refuse_keys, old = True, w.end
    w.rekey()
    w.write(TEXT)
    assert w.send(old, w.end).way is Way.SOFTWARE
    w.ack(w.end)
    assert w.transport.tx.engine.keys == {}
    assert w.ktls.keys.slots == {}


def test_a_key_of_tls12_is_cleared_when_the_last_record_under_it_is_acknowledged():
    w = world(VERSION_TLS12)
    w.send(0, w.end)
    w.stream.next_epoch()
    w.ktls.rekey(w.stream.keys(1), bytes(8))
    (clear,) = w.ktls.acked(w.stream.seq + w.end & 0xFFFFFFFF)
    assert clear == ClearKey(0)
    w._carry_out([clear])
    assert w.transport.tx.engine.keys == {}


# --- two keys and a third -------------------------------------------------------------------


def test_a_segment_with_three_keys_does_not_keep_the_device_out():
    """Software sends it. All of it was handed over, so the third key gets the oldest key's slot."""
    w = world()
    start = w.end
    w.send(0, start)
    for _ in range(2):
        w.write(b"short")
        w.rekey()
    w.write(b"short")
    middle = w.end
    assert w.send(start, middle).way is Way.SOFTWARE
    w.write(TEXT)
    assert w.send(middle, w.end).way is Way.IN_ORDER
    assert w.ktls.keys.usable == {1, 2}
    assert w.send(0, 100).way is Way.SOFTWARE  # a retransmission under the oldest
    assert w.send(middle, middle + 100).way is Way.SEEK
