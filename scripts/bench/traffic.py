# SPDX-License-Identifier: Apache-2.0
"""The senders of `sealane bench`: back-to-back segments of records. The keys protect nothing."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.driver.crypto.gcm import record_aad
from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.rx import Flow
from sealane.driver.device.tx import TxCompletion, TxDevice
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Plan, TxFrame
from sealane.driver.net.checksum import ones_complement_sum
from sealane.hdl.abi.config import NONCE_BYTES, TAG_BYTES, VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason

SEGMENT_BYTES = 1448  # 1500 of IPv4, TCP with timestamps
HEADER_BYTES = 66  # Ethernet, IPv4, TCP with timestamps
VERSIONS = {"1.2": VERSION_TLS12, "1.3": VERSION_TLS13}
START_SEQ = 0xFFFF0000  # so that sequence numbers wrap on the way
APPLICATION_DATA = 23
TX_INDEX = 8  # of the first sender of transmit: its keys and ports are none of receive's
REACH = 16  # segments between one and its retransmission, at most


@dataclass(frozen=True)
class Case:
    """One measurement. record_bytes: application data of a record. again: share of the frames of
    transmit that send a segment once more, 0 to 1."""

    version: str
    key_bits: int
    record_bytes: int
    flows: int
    again: float = 0.0


@dataclass(frozen=True)
class Record:
    """Stream offset behind the record; application data; tag."""

    end: int
    content: bytes
    tag: bytes


class Sender:
    """One flow's sender: a stream of records cut into segments."""

    def __init__(self, case: Case, index: int) -> None:
        self.case = case
        version = VERSIONS[case.version]
        key = bytes((index + i) & 0xFF for i in range(case.key_bits // 8))
        iv = bytes(range(0x80 + index, 0x80 + index + (12 if version == VERSION_TLS13 else 4)))
        self.keys = CryptoInfo(version, key, iv)
        self.flow = Flow(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), 40000 + index, 443)
        self.records: list[Record] = []
        self._aead = AESGCM(key)
        self._wire = bytearray()
        self._plain = bytearray()
        self._sent = 0

    def seal(self) -> Record:
        """Makes the next record. Its explicit nonce in TLS 1.2 is its number."""
        number, version = len(self.records), self.keys.version
        pattern = (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big")
        content = (pattern * (self.case.record_bytes // 8 + 1))[: self.case.record_bytes]
        text, explicit = content, b""
        if version == VERSION_TLS13:
            text += bytes([APPLICATION_DATA])
        else:
            explicit = number.to_bytes(NONCE_BYTES, "big")
        length = len(explicit) + len(text) + TAG_BYTES
        header = b"\x17\x03\x03" + struct.pack(">H", length) + explicit
        aad = record_aad(version, number, APPLICATION_DATA, length)
        sealed = self._aead.encrypt(self.keys.nonce(number, explicit), text, aad)
        self._wire += header + sealed
        self._plain += header + text + sealed[-TAG_BYTES:]
        self.records.append(Record(len(self._wire), content, sealed[-TAG_BYTES:]))
        return self.records[-1]

    def segment(self) -> tuple[bytes, bytes]:
        """The next frame, and its payload with the text in the clear."""
        start = self._sent
        self._sent += SEGMENT_BYTES
        while len(self._wire) < self._sent:
            self.seal()
        return self.wire_frame(start), bytes(self._plain[start : self._sent])

    def wire_frame(self, start: int) -> bytes:
        """The frame of the segment at stream offset `start`, as it is on the wire."""
        return frame(self.flow, start, bytes(self._wire[start : start + SEGMENT_BYTES]))


@dataclass(frozen=True)
class Sent:
    """A segment of transmit: what is posted, how it goes, what must come of it."""

    posts: list[TxFrame]
    way: str
    wire: bytes
    tags: dict[int, bytes]


class Host:
    """One transmit flow: kTLS in front of the device's driver.

    Segments are planned before the first of them is posted, so that they can follow each other
    without a gap. For that kTLS is told at once of the tags that the device will give back; they
    are known by `cryptography`, and whoever posts the frames compares them.

    index: of the flow among the case's; the flows take turns at sending once more.
    """

    def __init__(self, case: Case, index: int, device: TxDevice) -> None:
        self.sender = Sender(case, TX_INDEX + index)
        keys = self.sender.keys
        nonce = bytes(NONCE_BYTES if keys.version == VERSION_TLS12 else 0)
        self.handle = device.add(self.sender.flow, keys, START_SEQ, 0, nonce)
        self.kernel = KtlsTx(keys, START_SEQ, self.handle, 0, nonce)
        self._random = random.Random(index)
        self._host = bytearray()  # the stream as TCP has it
        self._segments = 0
        self._due = (index + 0.5) / case.flows  # retransmissions

    def next(self) -> Sent:
        """The next segment, or an earlier one once more."""
        self._due += self.sender.case.again
        if self._due >= 1 and self._segments:
            self._due -= 1
            back = self._random.randint(1, min(REACH, self._segments))
            return self._transmit((self._segments - back) * SEGMENT_BYTES)
        self._segments += 1
        end = self._segments * SEGMENT_BYTES
        while len(self._host) < end:
            self._host += self.kernel.push(APPLICATION_DATA, self.sender.seal().content)
        return self._transmit(end - SEGMENT_BYTES)

    def _transmit(self, start: int) -> Sent:
        end = start + SEGMENT_BYTES
        payload = bytes(self._host[start:end])
        plan = self.kernel.transmit(frame(self.sender.flow, start, payload))
        assert isinstance(plan, Plan) and plan.way is not None
        meta = TX_META.unpack(plan.frames[-1].meta)
        tags = {}
        if not meta["detached"]:
            at = ((number, record.end - TAG_BYTES) for number, record in self._near(start, end))
            tags = {n: self.sender.records[n].tag for n, tag in at if start <= tag < end}
        self.kernel.completed(
            TxCompletion(
                TxOp.ENCRYPT,
                TxReason.NONE,
                meta["cookie"],
                self.handle.context,
                self.handle.generation,
                tags,
            )
        )
        return Sent(plan.frames, plan.way.value, self.sender.wire_frame(start), tags)

    def _near(self, start: int, end: int) -> list[tuple[int, Record]]:
        """Records whose tags may be in [start, end), by number. All records are as long."""
        size = self.sender.records[0].end
        records = self.sender.records[start // size : end // size + 1]
        return list(enumerate(records, start // size))


def in_turn(count: int, next_of: list[Callable[[], Sent]]) -> list[Sent]:
    """So many segments, flow after flow."""
    return [next_of[i % len(next_of)]() for i in range(count)]


def frame(flow: Flow, offset: int, payload: bytes) -> bytes:
    """An Ethernet frame with IPv4 (RFC 791) and TCP (RFC 9293), 66 bytes of headers.

    offset: of the payload in the stream, whose first byte is `START_SEQ`.
    """
    seq = START_SEQ + offset & 0xFFFFFFFF
    timestamps = b"\x01\x01\x08\x0a" + bytes(8)
    segment = (
        struct.pack(">HHIIBBHHH", flow.sport, flow.dport, seq, 0, 8 << 4, 0x10, 0xFFFF, 0, 0)
        + timestamps
        + payload
    )
    addresses = flow.src.packed + flow.dst.packed
    check = ~ones_complement_sum(addresses + struct.pack(">HH", 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack(">H", check & 0xFFFF) + segment[18:]
    header = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(segment), 0, 64, 6, 0) + addresses
    check = ~ones_complement_sum(header) & 0xFFFF
    header = header[:10] + struct.pack(">H", check) + header[12:]
    return bytes(12) + b"\x08\x00" + header + segment
