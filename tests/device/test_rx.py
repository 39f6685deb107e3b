# SPDX-License-Identifier: Apache-2.0
"""The driver's device: what it writes, in which order, and with the model behind it."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from sealane.driver.device.descriptors import Handle, RxMeta
from sealane.driver.device.flowtable import FlowTableFull
from sealane.driver.device.rx import Device, DeviceError, Flow, OffloadRefused, refusal
from sealane.driver.ktls.rx.events import How, RecordAccepted
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import FLOW_KEY, STAGE_IV, STAGE_KEY, STAGE_POWERS, Op
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.events import EVENT, EventKind
from sealane.hdl.abi.meta import META
from sealane.hdl.abi.registers import OFFSET
from tests.support import tcp_frames
from tests.support.colliding_flows import colliding_flows
from tests.support.flow_frames import FLOW, caller, flow, frame
from tests.support.gf128 import powers_of_h
from tests.support.ktls_actions import apply_action
from tests.support.marking_device import TICKET, Stream, info
from tests.support.register_file import Registers, staged
from tests.support.sealed_streams import KEY_UPDATE

CONFIG = Config(flows=4)
CROWDED = Config(flows=16)


@pytest.mark.parametrize("version, bits", [(VERSION_TLS12, 128), (VERSION_TLS13, 256)])
def test_add_writes_context_then_flow(version, bits):
    registers = Registers()
    device = Device(registers, CONFIG)
    keys = info(version, 0, bits)
    handle = device.tls_dev_add(FLOW, keys, 0x89ABCDEF, number=1 << 40 | 5, epoch=9)
    assert [op for op, _, _ in registers.commands] == [Op.CONTEXT_ADD, Op.FLOW_WRITE]
    _, fields, stage = registers.commands[0]
    assert fields["CMD_CONTEXT"] == handle.context | handle.generation << 16 | 9 << 24
    assert fields["CMD_FLAGS"] & 3 == (version == VERSION_TLS13) | (bits == 256) << 1
    assert fields["CMD_SEQ"] == 0x89ABCDEF
    assert (fields["CMD_NUMBER_HI"], fields["CMD_NUMBER_LO"]) == (1 << 8, 5)
    assert staged(stage, STAGE_KEY, bits // 8) == keys.key
    assert staged(stage, STAGE_IV, len(keys.iv)) == keys.iv
    assert staged(stage, STAGE_POWERS, 128) == b"".join(powers_of_h(keys.key))
    _, fields, _ = registers.commands[1]
    assert fields["key"] == FLOW.key
    assert fields["CMD_CONTEXT"] & 0xFFFF == handle.context
    assert fields["CMD_FLAGS"] >> 3 & 1 == 1
    assert device.counters.rx_tls_ctx == device.stat.TlsCurrRxDevice == 1


def test_delete_writes_flow_then_context():
    registers = Registers()
    device = Device(registers, CONFIG)
    handle = device.tls_dev_add(FLOW, info(VERSION_TLS13), 0)
    del registers.commands[:]
    device.tls_dev_del(handle)
    assert [op for op, _, _ in registers.commands] == [Op.FLOW_WRITE, Op.CONTEXT_DELETE]
    assert registers.commands[0][1]["CMD_FLAGS"] >> 3 & 1 == 0
    assert device.counters.rx_tls_del == 1 and device.stat.TlsCurrRxDevice == 0
    with pytest.raises(KeyError):
        device.tls_dev_del(handle)
    again = device.tls_dev_add(FLOW, info(VERSION_TLS13), 0)
    assert again.context == handle.context
    assert again.generation == handle.generation + 1


def test_generations_never_come_again_though_the_device_knows_eight_bits():
    registers = Registers()
    device = Device(registers, CONFIG)
    handle = device.tls_dev_add(FLOW, info(VERSION_TLS13), 0)
    for i in range(1, 300):
        former, handle = handle, device.rekey(handle, info(VERSION_TLS13), 0, i & 0xFF, 4)
        assert handle == Handle(former.context, former.generation + 1)
        _, fields, _ = registers.commands[-1]
        assert fields["CMD_CONTEXT"] == handle.context | (i & 0xFF) << 16 | (i & 0xFF) << 24


def test_rekey():
    registers = Registers()
    device = Device(registers, CONFIG)
    handle = device.tls_dev_add(FLOW, info(VERSION_TLS13), 0)
    new = device.rekey(handle, info(VERSION_TLS13, 1), 77, 1, number=5)
    op, fields, _ = registers.commands[-1]
    assert op == Op.REKEY
    assert (fields["CMD_SEQ"], fields["CMD_NUMBER_LO"]) == (77, 5)
    assert fields["CMD_CONTEXT"] >> 24 == 1
    device.rekey(new, info(VERSION_TLS13, 1), 77, 1)
    assert registers.commands[-1][0] == Op.CONTEXT_ADD
    with pytest.raises(KeyError):
        device.rekey(handle, info(VERSION_TLS13, 1), 77, 1)


def test_answers_hints_and_go_on():
    registers = Registers()
    device = Device(registers, CONFIG)
    handle = device.tls_dev_add(FLOW, info(VERSION_TLS13), 0)
    del registers.commands[:]
    device.tls_dev_resync(handle, 5, 6)
    device.tls_dev_resync(handle, 7, None)
    device.resync_hint(handle, 8, 9)
    device.go_on(handle, 200)
    assert [
        (op, f["CMD_SEQ"], f["CMD_NUMBER_LO"], f["CMD_FLAGS"]) for op, f, _ in registers.commands
    ] == [
        (Op.RESYNC_ANSWER, 5, 6, 0),
        (Op.RESYNC_ANSWER, 7, 0, 1 << 2),
        (Op.RESYNC_HINT, 8, 9, 0),
        (Op.GO_ON, 8, 9, 200 << 8),
    ]
    assert device.counters.rx_tls_resync_res_ok == 3
    device.tls_dev_del(handle)
    del registers.commands[:]
    device.tls_dev_resync(handle, 5, 6)
    device.resync_hint(handle, 8, 9)
    device.go_on(handle, 200)
    assert registers.commands == []
    assert device.counters.rx_tls_resync_res_skip == 2


def test_no_context_left():
    registers = Registers()
    device = Device(registers, CONFIG)
    handles = [device.tls_dev_add(flow(i), info(VERSION_TLS13), 0) for i in range(4)]
    before = len(registers.commands)
    with pytest.raises(FlowTableFull):
        device.tls_dev_add(flow(9), info(VERSION_TLS13), 0)
    assert len(registers.commands) == before
    device.tls_dev_del(handles[2])
    device.tls_dev_add(flow(9), info(VERSION_TLS13), 0)
    with pytest.raises(OffloadRefused):
        device.tls_dev_add(flow(1), info(VERSION_TLS13), 0)


def test_a_device_that_hangs_is_an_error(monkeypatch):
    monkeypatch.setattr("sealane.driver.device.control.STATUS_POLLS", 50)
    device = Device(Registers(busy=10**9), CONFIG)
    with pytest.raises(DeviceError, match="CONTEXT_ADD does not end"):
        device.tls_dev_add(FLOW, info(VERSION_TLS13), 0)


def known(device: Device, each: Flow) -> bool:
    """Whether the device finds the flow of a packet."""
    path = tcp_frames.Wire(
        tcp_frames.Peer(str(each.src), each.sport, 999), tcp_frames.Peer(str(each.dst), each.dport)
    )
    (packet,) = device.receive([tcp_frames.Segment("c2s", 0, b"text").frame(path)])
    return packet.meta.context_valid


@pytest.mark.parametrize("fails", [Op.CONTEXT_ADD, Op.FLOW_WRITE])
@pytest.mark.parametrize("times", [1, 4])
def test_a_flow_that_moves_is_found_though_the_other_one_is_not_installed(fails, times):
    flows, moved, added = colliding_flows(caller, CROWDED.flows)
    transport = ModelTransport(CROWDED)
    device = Device(transport, CROWDED)
    for each in flows:
        device.tls_dev_add(each, info(VERSION_TLS13), 1000)
    write, failed = transport.write, []

    def failing(address, value):
        if address == OFFSET["COMMAND"] and (failed or value == fails) and len(failed) < times:
            failed.append(value)
            raise TimeoutError("the bus")
        write(address, value)

    transport.write = failing
    with pytest.raises(TimeoutError):
        device.tls_dev_add(added, info(VERSION_TLS13), 1000)
    assert known(device, moved) and not known(device, added)
    assert device.counters.rx_tls_ctx == device.stat.TlsCurrRxDevice == len(flows)
    failed += [0] * times  # the bus is good again
    handle = device.tls_dev_add(added, info(VERSION_TLS13), 1000)
    assert known(device, moved) and known(device, added)
    device.tls_dev_del(handle)
    assert known(device, moved) and not known(device, added)


def test_a_device_that_is_another_one():
    with pytest.raises(DeviceError, match="IDENT"):
        Device(Registers(ident=0), CONFIG)
    with pytest.raises(DeviceError, match="FLOWS"):
        Device(Registers(flows=8), CONFIG)


def test_events_are_read_while_there_is_an_interrupt():
    registers = Registers()
    device = Device(registers, CONFIG)
    assert device.events() == []
    kind = EventKind.RESYNC_REQUEST
    fields = {"kind": kind, "context": 3, "candidate_seq": 0xFEDCBA98, "number": 1 << 63}
    registers.events = [EVENT.pack(fields), EVENT.pack({"kind": EventKind.PARKED, "park": 7})]
    first, second = device.events()
    assert (first.kind, first.context, first.candidate_seq, first.number) == tuple(fields.values())
    assert (second.kind, second.park) == (EventKind.PARKED, 7)
    assert device.counters.rx_tls_resync_req_pkt == 1


def test_an_event_queue_that_never_empties_is_an_error():
    registers = Registers()
    device = Device(registers, CONFIG)
    registers.events = [0] * 1000
    with pytest.raises(DeviceError):
        device.events()


def test_receive_counts_marks_and_lost_frames():
    registers = Registers()
    device = Device(registers, CONFIG)
    packets = device.receive([b"a", b"b"])
    assert [p.frame for p in packets] == [b"a", b"b"] and packets[0].marked
    assert device.counters.rx_tls_decrypted_packets == 2
    assert device.counters.rx_tls_decrypted_bytes == 200
    registers.poll = lambda wait=True: []
    with pytest.raises(DeviceError, match="1 frames in, 0 out"):
        device.receive([b"c"])


def test_what_is_offloaded():
    assert refusal("1.3", "TLS_AES_256_GCM_SHA384") is None
    assert refusal("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256") is None
    assert "CHACHA20" in refusal("1.3", "TLS_CHACHA20_POLY1305_SHA256")
    assert "1.1" in refusal("1.1", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")


def test_flow_key():
    fields = FLOW_KEY.unpack(FLOW.key)
    assert fields["src"] == 0x0A090001 and fields["dport"] == 40000 and fields["ipv6"] == 0
    six = Flow(ip_address("2001:db8::1"), ip_address("2001:db8::2"), 1, 2)
    fields = FLOW_KEY.unpack(six.key)
    assert fields["dst"] == 0x20010DB8 << 96 | 2 and fields["ipv6"] == 1


def test_metadata_fields_are_the_contracts():
    assert tuple(RxMeta.__slots__) == tuple(field.name for field in META)


# --- with the behavioural model -----------------------------------------------------------------


class Connection:
    """One stream through a model device into `KtlsRx`, with TCP by way of sorted retransmission."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.device = Device(ModelTransport(CONFIG), CONFIG)
        handle = self.device.tls_dev_add(FLOW, stream.keys(0), stream.seq)
        self.rx = KtlsRx(
            stream.keys(0),
            stream.seq,
            handle=handle,
            next_keys=lambda: stream.keys(self.rx.epoch + 1),
        )
        self.records: list[RecordAccepted] = []
        self.waiting: dict[int, StreamRange] = {}

    def arrive(self, low: int, high: int) -> None:
        at = (self.stream.seq + low) % 2**32
        (packet,) = self.device.receive([frame(at, self.stream.wire[low:high])])
        for event in self.device.events():
            self.carry_out(self.rx.device_event(event))
        self.waiting[at] = StreamRange(at, high - low, packet)
        while self.rx.received in self.waiting:
            self.carry_out(self.rx.feed([self.waiting.pop(self.rx.received)]))

    def carry_out(self, events) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                self.records.append(event)
                continue
            end = (self.stream.seq + len(self.stream.wire)) % 2**32
            if not apply_action(self.device, self.rx, event, end):
                pytest.fail(f"{event}")

    @property
    def app_data(self) -> bytes:
        return b"".join(r.plaintext for r in self.records if r.content_type == 23)


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
@pytest.mark.parametrize("size", [53, 700, 1448])
def test_in_order_stream_is_done_whole_in_the_device(version, size):
    stream = Stream(version)
    for length in (3000, 0, 1, 17, 5000, 40):
        stream.add(bytes(range(256)) * 20 if length == 5000 else bytes(length))
    connection = Connection(stream)
    for low in range(0, len(stream.wire), size):
        connection.arrive(low, min(low + size, len(stream.wire)))
    assert connection.app_data == stream.app_data
    assert {r.how for r in connection.records} == {How.FULL}


def test_key_updates_and_tickets_through_the_device():
    stream = Stream(VERSION_TLS13)
    for _ in range(3):
        stream.add(bytes(800))
        stream.add(TICKET, content_type=22)
        stream.add(bytes(800))
        stream.add(KEY_UPDATE, content_type=22)
        stream.next_epoch()
    stream.add(bytes(800))
    connection = Connection(stream)
    ends = [record.end for record in stream.records]
    for low, high in zip([0, *ends], ends, strict=False):
        connection.arrive(low, high)
    assert connection.app_data == stream.app_data
    assert {r.how for r in connection.records} == {How.FULL}
    assert connection.rx.counters.parks_ended == 3
    assert connection.rx.stat.TlsRxRekeyOk == 3


@pytest.mark.parametrize("seed", range(20))
def test_loss_and_reordering_through_the_device(seed):
    rng = random.Random(seed)
    stream = Stream(rng.choice([VERSION_TLS12, VERSION_TLS13]))
    for i in range(90):
        stream.add(rng.randbytes(rng.choice([0, 5, 300, 2000])))
        if stream.version == VERSION_TLS13 and rng.random() < 0.1:
            stream.add(KEY_UPDATE if i % 2 else TICKET, content_type=22)
            if i % 2:
                stream.next_epoch()
    connection = Connection(stream)
    cuts, low = [], 0
    while low < len(stream.wire):
        high = min(len(stream.wire), low + rng.randint(1, 900))
        cuts.append((low, high))
        low = high
    order = sorted(range(len(cuts)), key=lambda i: i + (12 if rng.random() < 0.1 else 0))
    for i in order:
        connection.arrive(*cuts[i])
    assert connection.app_data == stream.app_data
    assert connection.rx.leftover_bytes == 0
    assert any(r.how is How.FULL for r in connection.records)
