# SPDX-License-Identifier: Apache-2.0
"""The driver's side of transmit: what it writes, in which order, and what it makes of answers."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from sealane.driver.device.contexts import OffloadRefused
from sealane.driver.device.control import DeviceError
from sealane.driver.device.descriptors import Handle
from sealane.driver.device.flowtable import FlowTableFull
from sealane.driver.device.rx import Device, Flow
from sealane.driver.device.transport import TxOutput
from sealane.driver.device.tx import QueueFull, TxDevice
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import STAGE_IV, STAGE_KEY, STAGE_POWERS, Op
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.registers import OFFSET
from sealane.hdl.abi.tx import TX_META, TX_STATUS, TxCommand, TxOp, TxReason
from tests.support import tcp_frames
from tests.support.colliding_flows import colliding_flows
from tests.support.flow_frames import FLOW, caller, flow
from tests.support.gf128 import powers_of_h
from tests.support.marking_device import info
from tests.support.register_file import Registers, staged

CONFIG = Config(flows=8, tx_flows=4)
CROWDED = Config(flows=16, tx_flows=16)
FRAME = tcp_frames.Segment("c2s", 0, bytes(100)).frame(tcp_frames.DEFAULT)


class TxFrame(NamedTuple):
    """A frame for the device with its packed metadata."""

    frame: bytes
    meta: int


def device(queue: int = 8) -> tuple[Registers, TxDevice]:
    registers = Registers(flows=8, tx_flows=4)
    return registers, TxDevice(registers, CONFIG, queue=queue)


def status(reason=TxReason.NONE, op=TxOp.ENCRYPT, tags=(), first=0, **fields):
    word = TX_STATUS.pack(
        {"reason": reason, "op": op, "tags": len(tags), "first_number": first, **fields}
    )
    return list(tags), word


def post(op=TxOp.ENCRYPT, frame=FRAME, **fields) -> TxFrame:
    return TxFrame(frame, TX_META.pack({"op": op, **fields}))


@pytest.mark.parametrize("version, bits", [(VERSION_TLS12, 128), (VERSION_TLS13, 256)])
def test_add_writes_context_then_flow(version, bits):
    registers, tx = device()
    keys = info(version, 0, bits)
    nonce = bytes(range(1, 9)) if version == VERSION_TLS12 else b""
    handle = tx.add(FLOW, keys, 0x89ABCDEF, number=1 << 40 | 5, nonce=nonce)
    assert [op for op, _, _ in registers.commands] == [TxCommand.TX_ADD, TxCommand.TX_FLOW_WRITE]
    _, fields, stage = registers.commands[0]
    assert fields["CMD_CONTEXT"] == handle.context | handle.generation << 16
    assert fields["CMD_FLAGS"] & 3 == (version == VERSION_TLS13) | (bits == 256) << 1
    assert fields["CMD_SEQ"] == 0x89ABCDEF
    assert (fields["CMD_NUMBER_HI"], fields["CMD_NUMBER_LO"]) == (1 << 8, 5)
    first = fields["CMD_NONCE_HI"] << 32 | fields["CMD_NONCE_LO"]
    assert first == (0x0102030405060708 if nonce else 0)
    assert staged(stage, STAGE_KEY, bits // 8) == keys.key
    assert staged(stage, STAGE_IV, len(keys.iv)) == keys.iv
    assert staged(stage, STAGE_POWERS, 128) == b"".join(powers_of_h(keys.key))
    _, fields, _ = registers.commands[1]
    assert fields["key"] == FLOW.key
    assert fields["CMD_CONTEXT"] & 0xFFFF == handle.context
    assert fields["CMD_FLAGS"] >> 3 & 1 == 1
    assert tx.counters.tx_tls_ctx == tx.stat.TlsCurrTxDevice == tx.stat.TlsTxDevice == 1


@pytest.mark.parametrize(
    "version, nonce", [(VERSION_TLS12, 0), (VERSION_TLS12, 7), (VERSION_TLS13, 8)]
)
def test_a_nonce_of_another_size_is_refused(version, nonce):
    registers, tx = device()
    with pytest.raises(ValueError, match="nonce"):
        tx.add(FLOW, info(version), 0, nonce=bytes(nonce))
    assert registers.commands == []
    for i in range(4):
        tx.add(flow(i), info(VERSION_TLS13), 0)


def test_no_context_left_and_flows_known_already():
    registers, tx = device()
    handles = [tx.add(flow(i), info(VERSION_TLS13), 0) for i in range(4)]
    before = len(registers.commands)
    with pytest.raises(FlowTableFull):
        tx.add(flow(9), info(VERSION_TLS13), 0)
    with pytest.raises(OffloadRefused):
        tx.add(flow(1), info(VERSION_TLS13), 0)
    assert len(registers.commands) == before
    tx.delete(handles[1])
    with pytest.raises(OffloadRefused):  # its drop entry is there until it is released
        tx.add(flow(1), info(VERSION_TLS13), 0)
    tx.release(handles[1])
    again = tx.add(flow(1), info(VERSION_TLS13), 0)
    assert again == Handle(handles[1].context, handles[1].generation + 1)


def test_rekey_and_clear_name_the_slot():
    registers, tx = device()
    handle = tx.add(FLOW, info(VERSION_TLS13), 0)
    del registers.commands[:]
    keys = info(VERSION_TLS13, 1)
    tx.rekey(handle, 1, keys, 1 << 33 | 7)
    tx.key_clear(handle, 0)
    (op, fields, stage), (clear, clear_fields, _) = registers.commands
    assert (op, clear) == (TxCommand.TX_REKEY, TxCommand.TX_KEY_CLEAR)
    who = handle.context | handle.generation << 16
    assert fields["CMD_CONTEXT"] == who | 1 << 24 and clear_fields["CMD_CONTEXT"] == who
    assert (fields["CMD_NUMBER_HI"], fields["CMD_NUMBER_LO"]) == (2, 7)
    assert staged(stage, STAGE_KEY, len(keys.key)) == keys.key
    with pytest.raises(ValueError, match="slot"):
        tx.rekey(handle, 2, keys, 0)
    with pytest.raises(ValueError, match=r"TLS 1\.3"):
        tx.rekey(handle, 0, info(VERSION_TLS12), 0)
    old = tx.add(flow(1), info(VERSION_TLS12), 0, nonce=bytes(8))
    with pytest.raises(ValueError, match=r"TLS 1\.3"):
        tx.rekey(old, 1, info(VERSION_TLS12), 0)


def test_delete_keeps_the_flow_until_it_is_released():
    registers, tx = device()
    handle = tx.add(FLOW, info(VERSION_TLS13), 0)
    del registers.commands[:]
    with pytest.raises(KeyError):
        tx.release(handle)
    tx.delete(handle)
    assert [op for op, _, _ in registers.commands] == [TxCommand.TX_DELETE]
    assert tx.counters.tx_tls_del == 1 and tx.stat.TlsCurrTxDevice == 0
    for call in (
        tx.delete,
        lambda h: tx.key_clear(h, 0),
        lambda h: tx.rekey(h, 1, info(VERSION_TLS13), 0),
    ):
        with pytest.raises(KeyError):
            call(handle)
    del registers.commands[:]
    tx.release(handle)
    assert [op for op, _, _ in registers.commands] == [
        TxCommand.TX_RELEASE,
        TxCommand.TX_FLOW_WRITE,
    ]
    assert registers.commands[1][1]["CMD_FLAGS"] >> 3 & 1 == 0
    with pytest.raises(KeyError):
        tx.release(handle)


def test_posts_are_all_or_none():
    registers, tx = device(queue=2)
    tx.post([post(cookie=1)])
    with pytest.raises(QueueFull) as full:
        tx.post([post(cookie=2), post(cookie=3)])
    assert (full.value.wanted, full.value.room) == (2, 1)
    assert len(registers.tx) == 1 and tx.room == 1
    with pytest.raises(ValueError, match="at least one byte"):
        tx.post([TxFrame(b"", 0)])
    with pytest.raises(ValueError, match="5 is not a valid TxOp"):
        tx.post([post(op=5)])
    assert len(registers.tx) == 1 and tx.room == 1
    tx.post([post(cookie=2)])
    assert tx.room == 0
    tx.post([])
    with pytest.raises(QueueFull):
        tx.post([post()])
    registers.tx_output = TxOutput([FRAME], [status(cookie=1)])
    tx.poll(wait=False)
    assert tx.room == 1
    tx.post([post(cookie=3)])
    assert [TX_META.unpack(meta)["cookie"] for _, meta in registers.tx] == [1, 2, 3]


def test_tags_come_by_record_number_and_only_of_frames_that_left():
    registers, tx = device()
    tags = [bytes([i]) * 16 for i in range(3)]
    tx.post([post(cookie=5), post(cookie=6)])
    registers.tx_output = TxOutput(
        [FRAME],
        [
            status(tags=tags, first=2**40, cookie=5),
            status(TxReason.TAG_MISMATCH, tags=tags[:1], first=9, cookie=6),
        ],
    )
    frames, (left, dropped) = tx.poll()
    assert frames == [FRAME]
    assert left.sent and left.tags == {2**40: tags[0], 2**40 + 1: tags[1], 2**40 + 2: tags[2]}
    assert not dropped.sent and dropped.tags == {}
    assert (dropped.reason, dropped.cookie) == (TxReason.TAG_MISMATCH, 6)


def test_generations_come_back_whole():
    registers, tx = device()
    for _ in range(300):
        handle = tx.add(FLOW, info(VERSION_TLS13), 0)
        tx.delete(handle)
        tx.release(handle)
    assert handle.generation == 299
    assert registers.commands[-5][1]["CMD_CONTEXT"] >> 16 == 299 & 0xFF
    tx.post([post(context=handle.context, generation=299 & 0xFF)])
    registers.tx_output = TxOutput([], [status(context=handle.context, generation=299 & 0xFF)])
    (done,) = tx.poll().completions
    assert (done.context, done.generation) == (handle.context, 299)


def test_frames_are_counted_by_what_became_of_them():
    registers, tx = device()
    tx.post(
        [
            post(),
            post(),
            post(TxOp.DUMP, bytes(77), length=77),
            post(TxOp.DUMP, bytes(5), length=5),
            post(TxOp.WIRE),
            post(TxOp.NOTHING),
        ]
    )
    registers.tx_output = TxOutput(
        [],
        [
            status(),
            status(TxReason.DEVICE_ERROR),
            status(op=TxOp.DUMP),
            status(TxReason.BROKEN, TxOp.DUMP),
            status(op=TxOp.WIRE),
            status(TxReason.ORPHAN, TxOp.NOTHING),
        ],
    )
    tx.poll()
    counters = tx.counters
    assert (counters.tx_tls_encrypted_packets, counters.tx_tls_encrypted_bytes) == (1, 100)
    assert (counters.tx_tls_dump_packets, counters.tx_tls_dump_bytes) == (1, 77)


def test_outstanding_counts_what_may_need_a_key():
    registers, tx = device()
    mine, other = (tx.add(flow(i), info(VERSION_TLS13), 0) for i in range(2))
    tx.post(
        [
            post(context=mine.context),
            post(TxOp.DUMP, context=mine.context),
            post(TxOp.WIRE),
            post(TxOp.NOTHING),
            post(context=other.context),
        ]
    )
    assert (tx.outstanding(mine), tx.outstanding(other)) == (2, 1)
    registers.tx_output = TxOutput([], [status(context=mine.context)])
    tx.poll(wait=False)
    assert (tx.outstanding(mine), tx.outstanding(other)) == (1, 1)


@pytest.mark.parametrize(
    "completions, message",
    [
        ([], "1 frames without a completion"),
        ([status(), status()], "completion without a frame"),
        ([status(cookie=1)], "another frame"),
        ([status(op=TxOp.DUMP)], "another frame"),
        ([([bytes(16)], status()[1])], "1 tags came"),
        ([status(31)], "unknown reason 31"),
    ],
    ids=["none", "too many", "cookie", "op", "tags", "reason"],
)
def test_completions_that_do_not_fit_are_errors(completions, message):
    registers, tx = device()
    tx.post([post()])
    registers.tx_output = TxOutput([], completions)
    with pytest.raises(DeviceError, match=message):
        tx.poll()


def test_what_came_out_beside_an_error_is_not_lost():
    registers, tx = device()
    tx.post([post(cookie=cookie) for cookie in (1, 2, 3, 4)])
    good, wrong = [status(cookie=1), status(cookie=3)], status(cookie=7)
    registers.tx_output = TxOutput([b"first", b"third"], [good[0], wrong, good[1]])
    with pytest.raises(DeviceError, match="another frame"):
        tx.poll()
    registers.tx_output = TxOutput([b"fourth"], [])
    with pytest.raises(DeviceError, match="1 frames without"):
        tx.poll()
    registers.tx_output = TxOutput([], [status(cookie=4)])
    polled = tx.poll()
    assert polled.frames == [b"first", b"third", b"fourth"]
    assert [completion.cookie for completion in polled.completions] == [1, 3, 4]
    assert tx.poll() == ([], [])
    assert tx.room == 8


@pytest.mark.parametrize("fails", [TxCommand.TX_ADD, TxCommand.TX_FLOW_WRITE])
@pytest.mark.parametrize("dead", [False, True])
def test_a_context_whose_installation_fails_is_given_back(fails, dead):
    registers, tx = device()
    write = registers.write
    failed = []

    def failing(address, value):
        if address == OFFSET["COMMAND"] and (value == fails or failed) and (dead or not failed):
            failed.append(value)
            raise TimeoutError("the bus")
        write(address, value)

    registers.write = failing
    for _ in range(5):  # more often than there are contexts
        failed.clear()
        with pytest.raises(TimeoutError):
            tx.add(FLOW, info(VERSION_TLS13), 0)
    if not dead:  # nothing of it is left in the device
        assert [op for op, _, _ in registers.commands][-3:] == [
            TxCommand.TX_DELETE,
            TxCommand.TX_FLOW_WRITE,
            TxCommand.TX_RELEASE,
        ]
    registers.write = write
    assert tx.counters.tx_tls_ctx == tx.stat.TlsCurrTxDevice == 0
    handles = [tx.add(flow(i), info(VERSION_TLS13), 0) for i in range(4)]
    assert {handle.context for handle in handles} == {0, 1, 2, 3}


def crowded() -> tuple[ModelTransport, TxDevice, Flow, Flow]:
    """A device so full that one flow more moves another one; the latter, and that flow."""
    flows, moved, added = colliding_flows(caller, CROWDED.tx_flows)
    transport = ModelTransport(CROWDED)
    tx = TxDevice(transport, CROWDED)
    for each in flows:
        tx.add(each, info(VERSION_TLS13), 1000)
    return transport, tx, moved, added


def leaves(tx: TxDevice, moved: Flow, **fields) -> TxReason:
    """Why text of the flow does not leave."""
    path = tcp_frames.Wire(
        tcp_frames.Peer(str(moved.src), moved.sport, 999),
        tcp_frames.Peer(str(moved.dst), moved.dport),
    )
    frame = tcp_frames.Segment("c2s", 0, b"text" * 20).frame(path)
    tx.post([post(TxOp.NOTHING, frame, **fields)])
    ((completion,),) = (tx.poll().completions,)
    return completion.reason


@pytest.mark.parametrize("fails", [TxCommand.TX_ADD, TxCommand.TX_FLOW_WRITE])
@pytest.mark.parametrize("times", [1, 4])
def test_a_flow_that_moves_is_found_though_the_other_one_is_not_installed(fails, times):
    """The device must find it in the end: text of a flow that it does not find would leave."""
    transport, tx, moved, added = crowded()
    assert leaves(tx, moved) is TxReason.ORPHAN
    write, failed = transport.write, []

    def failing(address, value):
        if address == OFFSET["COMMAND"] and (failed or value == fails) and len(failed) < times:
            failed.append(value)
            raise TimeoutError("the bus")
        write(address, value)

    transport.write = failing
    with pytest.raises(TimeoutError):
        tx.add(added, info(VERSION_TLS13), 1000)
    assert leaves(tx, moved) is TxReason.ORPHAN
    failed += [0] * times  # the bus is good again
    handle = tx.add(added, info(VERSION_TLS13), 1000)
    assert leaves(tx, moved) is leaves(tx, added) is TxReason.ORPHAN
    tx.delete(handle)
    tx.release(handle)
    assert leaves(tx, moved) is TxReason.ORPHAN
    assert leaves(tx, added) is TxReason.NONE  # nobody's any more


def test_a_release_that_fails_half_way_is_done_with_the_next_change():
    transport, tx, moved, added = crowded()
    handle = tx.add(added, info(VERSION_TLS13), 1000)
    tx.delete(handle)
    write, failed = transport.write, []

    def failing(address, value):
        if address == OFFSET["COMMAND"] and value == TxCommand.TX_FLOW_WRITE and not failed:
            failed.append(value)
            raise TimeoutError("the bus")
        write(address, value)

    transport.write = failing
    with pytest.raises(TimeoutError):
        tx.release(handle)
    again = tx.add(added, info(VERSION_TLS13), 1000)
    assert again.context == handle.context
    assert leaves(tx, moved) is leaves(tx, added) is TxReason.ORPHAN


def test_a_frame_that_is_no_segment_is_the_devices_to_refuse():
    registers, tx = device()
    tx.post([post(frame=bytes(60))])
    registers.tx_output = TxOutput([], [status(TxReason.NOT_TCP)])
    assert not tx.poll().completions[0].sent


def test_a_device_without_transmit_is_a_clear_error():
    with pytest.raises(DeviceError, match="no transmit"):
        TxDevice(Registers(flows=8), CONFIG)
    with pytest.raises(DeviceError, match="TX_FLOWS is 0x8"):
        TxDevice(Registers(flows=8, tx_flows=8), CONFIG)
    with pytest.raises(DeviceError, match="IDENT"):
        TxDevice(Registers(flows=8, ident=0), CONFIG)
    for queue in (0, 1 << 17):
        with pytest.raises(ValueError, match="queue"):
            TxDevice(Registers(flows=8, tx_flows=4), CONFIG, queue=queue)


def test_both_directions_share_one_device():
    registers = Registers(flows=8, tx_flows=4)
    rx = Device(registers, CONFIG)
    tx = TxDevice(registers, CONFIG, counters=rx.counters, stat=rx.stat)
    rx.tls_dev_add(FLOW, info(VERSION_TLS13), 1)
    tx.add(FLOW, info(VERSION_TLS13), 2)
    assert [op for op, _, _ in registers.commands] == [
        Op.CONTEXT_ADD,
        Op.FLOW_WRITE,
        TxCommand.TX_ADD,
        TxCommand.TX_FLOW_WRITE,
    ]
    assert (rx.counters.rx_tls_ctx, rx.counters.tx_tls_ctx) == (1, 1)
    assert (tx.stat.TlsCurrRxDevice, tx.stat.TlsCurrTxDevice) == (1, 1)


def test_device_counters_are_read_by_name():
    registers, tx = device()
    registers.values[OFFSET["COUNT_TX_ORPHANS"]] = 3
    assert tx.device_counters()["tx_orphans"] == 3
