# SPDX-License-Identifier: Apache-2.0
"""One transmit direction end to end: a software TLS sender, kTLS, the driver and a device.

The sender seals every record (`tls_records`) before the device sees it, so the right wire bytes are
known. Every frame sent is compared with the frame that this sender would have sent, to the last
byte of the IP packet. Keys here protect nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from sealane.driver.device.rx import Flow
from sealane.driver.device.transport import Transport
from sealane.driver.device.tx import QueueFull, TxCompletion, TxDevice
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Drop, DropReason, Hold, Plan, TxFrame, TxMode, Way
from sealane.driver.ktls.tx.rekey import ClearKey, InstallKey, KeyAction, RekeyMode
from sealane.hdl.abi.config import NONCE_BYTES, VERSION_TLS12, VERSION_TLS13, Config, header_bytes
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason
from tests.support.marking_device import Record, Stream
from tests.support.sequence_numbers import distance
from tests.support.tcp_frames import ACK, Peer, Segment, Wire, left_to_the_card, read

CONFIG = Config(flows=4, tx_flows=4)
ROOM = b"\xa5" * 16
BEFORE = bytes(251 * i >> 3 & 255 for i in range(4000))  # sent by software before the offload
Transports = Callable[[Config], Transport]


@dataclass
class Sent:
    """The result of a segment: the plan, the frames sent and all completions."""

    frames: list[bytes] = field(default_factory=list)
    completions: list[TxCompletion] = field(default_factory=list)
    plan: Plan | Drop | Hold | None = None

    @property
    def left(self) -> bool:
        """Whether one frame was sent and everything else that was posted was accepted."""
        return len(self.frames) == 1 and not any(self.reasons)

    @property
    def way(self) -> Way | None:
        assert isinstance(self.plan, Plan)
        return self.plan.way

    @property
    def dropped(self) -> DropReason | None:
        return self.plan.reason if isinstance(self.plan, Drop) else None

    @property
    def reasons(self) -> list[TxReason]:
        return [completion.reason for completion in self.completions]

    @property
    def operations(self) -> list[TxOp]:
        """Metadata of the frames that were posted."""
        return [completion.op for completion in self.completions]


class TxEndToEnd:
    """A direction whose start marker has the TCP sequence number `marker`.

    Positions are stream offsets. Offset 0 is the marker, and `BEFORE` lies before it.
    transports: makes the device. number: N of the first record. queue: number of frames that fit
    into the device's queue. posts: number of frames that one segment may take.
    """

    def __init__(
        self,
        transports: Transports,
        version: int = VERSION_TLS13,
        *,
        bits: int = 128,
        marker: int = 0xFFFF_FC00,
        number: int = 3,
        queue: int = 64,
        config: Config | None = None,
        mode: TxMode = TxMode.AUTO,
        rekey_mode: RekeyMode = RekeyMode.EPOCHS,
        mtu: int = 1500,
        posts: int = 32,
    ) -> None:
        self.config = config = (
            config or CONFIG
        )  # looked up late: a module may run the scenarios on another
        self.path = Wire(client=Peer("10.9.0.2", 40000, (marker - 1) % 2**32))
        self.flow = Flow(ip_address("10.9.0.2"), ip_address("10.9.0.1"), 40000, 443)
        self.stream = Stream(version, marker, number=number, bits=bits)
        self.plain = b""
        self.transport = transports(config)
        self.device = TxDevice(self.transport, config, queue=queue)
        nonce = b""
        if version == VERSION_TLS12:
            nonce = (0xABCD000000000000 + number).to_bytes(NONCE_BYTES, "big")
        keys = self.stream.keys(0)
        self.handle = self.device.add(self.flow, keys, marker, number, nonce)
        self.ktls = KtlsTx(
            keys,
            marker,
            self.handle,
            number,
            nonce,
            device=self.device,
            mode=mode,
            rekey_mode=rekey_mode,
            mtu=mtu,
            queue=posts,
            netdev=self.device.counters,
            stat=self.device.stat,
        )
        self.cookie = 0
        self.on_wire: dict[int, int] = {}  # stream offset -> byte
        self.refuse_keys = False  # the device accepts no further key
        self.strict = True  # frames sent must be those of the software sender

    @property
    def end(self) -> int:
        """Stream offset of the end of the last record."""
        return len(self.plain)

    # --- the application and TCP --------------------------------------------------------------

    def write(self, content: bytes, content_type: int = 23, frozen: bool = True) -> Record:
        """Adds the next record and returns it as it must be on the wire."""
        record = self.stream.add(bytes(content), content_type)
        inner = bytes([content_type]) if self.stream.version == VERSION_TLS13 else b""
        front = record.wire[: header_bytes(self.stream.version)]
        plain = front + content + inner + ROOM
        assert self.ktls.push(content_type, content, frozen) == plain
        self.plain += plain
        return record

    def change(self, offset: int) -> None:
        """Changes a byte of the data that TCP holds, as happens with zero-copy."""
        changed = bytearray(self.plain)
        changed[offset] ^= 1
        self.plain = bytes(changed)

    def frame(self, start: int, end: int, data: bytes, flags: int = ACK) -> bytes:
        """The finished frame with [start, end) of the stream that is `data` from the marker on."""
        payload = (BEFORE + data)[len(BEFORE) + start : len(BEFORE) + end]
        return Segment("c2s", start, payload, flags).frame(self.path)

    def host_frame(self, start: int, end: int, flags: int = ACK) -> bytes:
        """The segment as TCP hands it to the driver: plaintext, the checksum left to the card."""
        return left_to_the_card(self.frame(start, end, self.plain, flags))

    def send(
        self,
        start: int,
        end: int,
        *,
        encrypt: bool = True,
        flags: int = ACK,
        data: bytes | None = None,
        device: object = None,
        poll: bool = True,
        final: bool = False,
    ) -> Sent:
        """TCP sends [start, end) or, with start == end, a segment without payload.

        encrypt: the payload is plaintext. Without it the frame is finished, and its payload is that
        of `data`, or plaintext without any metadata. device: another device sends it. poll: wait
        for the completions. final: `data` is sealed. Raises `QueueFull`.
        """
        if encrypt and start < end:
            frame = self.host_frame(start, end, flags)
        else:
            frame = self.frame(start, end, self.plain if data is None else data, flags)
        plan = self.ktls.transmit(frame, encrypt, device, final)
        if not isinstance(plan, Plan):
            return Sent(plan=plan)
        if device is not None:
            for post in plan.frames:
                self.check(post.frame)
            return Sent([post.frame for post in plan.frames], plan=plan)
        try:
            self.device.post(plan.frames)
        except QueueFull:
            plan.undo()
            raise
        sent = self.poll() if poll else Sent()
        sent.plan = plan
        return sent

    def ack(self, offset: int) -> None:
        """Acknowledges everything before `offset`."""
        self._carry_out(self.ktls.acked((self.stream.seq + offset) % 2**32))

    def rekey(self) -> None:
        """Installs new keys for all records from the next one on."""
        self.stream.next_epoch()
        self._carry_out(self.ktls.rekey(self.stream.keys(self.stream.epoch)))

    def delete(self) -> None:
        """The device releases the direction. The connection continues."""
        self.device.delete(self.handle)
        self.ktls.deleted()

    def poll(self) -> Sent:
        """The frames sent since the last call. Each of them is checked."""
        frames, completions = self.device.poll()
        for frame in frames:
            self.check(frame)
        for completion in completions:
            self._carry_out(self.ktls.completed(completion))
        return Sent(frames, completions)

    def _carry_out(self, actions: Iterable[KeyAction]) -> None:
        for action in actions:
            if isinstance(action, InstallKey) and self.refuse_keys:
                self._carry_out(self.ktls.key_installed(False))
            elif isinstance(action, InstallKey):
                self.device.rekey(
                    self.handle, action.key_slot, action.epoch.info, action.epoch.base
                )
                self._carry_out(self.ktls.key_installed(True))
            else:
                assert isinstance(action, ClearKey)
                self.device.key_clear(self.handle, action.key_slot)

    # --- the device, with metadata that no driver chose -----------------------------------------

    def meta(self, op: TxOp = TxOp.ENCRYPT, **fields: int) -> int:
        """Packed metadata of this direction. `fields` override."""
        who = {"context": self.handle.context, "generation": self.handle.generation & 0xFF}
        return TX_META.pack({"op": op, **who, **fields})

    def detached(self, start: int, **fields: int) -> dict[str, int]:
        """The fields that name the position `start` of a detached frame."""
        records, record = self.stream.records, self.record_at(start)
        number = records[0].number + records.index(record)
        return {
            "detached": 1,
            "number": number,
            "offset": start - record.offset,
            "record_length": len(record.wire) - 5,
            "record_type": record.wire[0],
            **fields,
        }

    def record_at(self, offset: int) -> Record:
        """The record that holds the byte at `offset`."""
        return next(record for record in self.stream.records if offset < record.end)

    def with_tags(self, start: int, end: int) -> bytes:
        """The host's frame with [start, end) and its tags in their room."""
        data = bytearray(self.plain)
        for record in self.stream.records:
            data[record.end - 16 : record.end] = record.wire[-16:]
        return left_to_the_card(self.frame(start, end, bytes(data)))

    def post(self, frame: bytes, meta: int) -> Sent:
        """Posts a frame past kTLS and waits for the result."""
        self.device.post([TxFrame(frame, meta)])
        frames, completions = self.device.poll()
        for out in frames:
            self.check(out)
        return Sent(frames, completions)

    def raw(self, start: int, end: int, **fields: int) -> TxReason:
        """Posts one ENCRYPT frame with [start, end) and returns the device's reason."""
        return self.post(self.host_frame(start, end), self.meta(**fields)).reasons[0]

    def nothing(self, start: int, end: int) -> bool:
        """Posts one frame without metadata and returns whether it was sent."""
        return self.post(self.frame(start, end, self.plain), self.meta(TxOp.NOTHING)).left

    @property
    def has_faults(self) -> bool:
        """Whether `lose` works."""
        return hasattr(getattr(self.transport, "tx", None), "fail_next")

    def lose(self, writes: int) -> None:
        """Loses writes of text of the next frame in the device, if the device can be made to."""
        if not self.has_faults:
            pytest.skip("this device has no fault to switch on")
        self.transport.tx.fail_next(writes)

    # --- the wire -------------------------------------------------------------------------------

    def check(self, frame: bytes) -> None:
        """Compares a frame on the wire with what the software sender would have sent."""
        segment = read(frame)
        start = distance(segment.seq, self.stream.seq)
        whole = segment.whole
        end = start + len(segment.payload)
        if self.strict:
            expected = self.frame(start, end, self.stream.wire, segment.flags)
            assert whole == expected[: len(whole)], f"[{start}, {end}) is not the sender's"
            self.on_wire |= dict(enumerate(segment.payload, start))
            return
        for record in self.stream.records:
            for at in range(max(start, record.end - 16), min(end, record.end)):
                byte = segment.payload[at - start]
                assert self.on_wire.setdefault(at, byte) == byte, f"a second tag at {at}"
