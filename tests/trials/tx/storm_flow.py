# SPDX-License-Identifier: Apache-2.0
"""One transmit direction of a storm (see `storm`): its sender and an observer of the wire.

Records are sealed with `cryptography` as they are written (RFC 8446 section 5.2, RFC 5288 section
3). If the caller changed a text, each byte sent must be one that the text had, under the record's
own keystream. The tag must be unique. Keys are random and protect nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.rx import Flow
from sealane.driver.device.tx import TxCompletion, TxDevice
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Plan, TxFrame
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.tcp_frames import ACK, Peer, Segment, Wire
from tests.support.wire_checker import tcp_of

TAG = 16
BEFORE = bytes(range(1, 201))  # bytes that software sent before the start marker


class Broken(AssertionError):
    """A storm found something."""


@dataclass
class Sealed:
    """A record as its receiver will open it. values: all values of each text byte.

    tag: bytes of it that were sent.
    """

    start: int
    header_size: int
    wire: bytes
    keystream: bytes
    values: list[set[int]]
    content: bytes | bytearray
    changed: bool = False
    tag: dict[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + len(self.wire)


class Connection:
    """A host's knowledge of one direction. nonces: all (key, nonce) ever given to a record."""

    def __init__(self, rng: random.Random, device: TxDevice, nonces: set[bytes]) -> None:
        self.rng, self.device, self.nonces = rng, device, nonces
        self.version = rng.choice((VERSION_TLS12, VERSION_TLS13, VERSION_TLS13))
        self.seq = rng.choice((rng.getrandbits(32), -rng.randrange(1500) & 0xFFFFFFFF))
        self.number = self.base = rng.choice((0, 5, (1 << 64) - 400))
        self.path = Wire(Peer("10.9.0.2", 40000, self.seq - 1), timestamps=False)
        self.records: list[Sealed] = []
        self.host = bytearray()
        self.left = bytearray()  # 1 for each byte that was sent
        self.una = self.nxt = self.floor = 0
        self.offset = 0  # N of record 0 under the latest keys
        self.first = rng.getrandbits(64)
        self.info = self._keys()
        self.alive = True
        self.pending: tuple[Plan, int, int] | None = None
        self.installing = 0
        self.fresh = True  # nothing was transmitted after the pending plan
        self.faults = self.lost = False
        self.in_flight: list[TxCompletion] = []
        self.posted: list[TxFrame] = []
        self.answered: TxCompletion | None = None
        self.sum: Counter[str] = Counter()  # the expected values of its counters
        flow = Flow(ip_address("10.9.0.2"), ip_address("10.9.0.1"), 40000, 443)
        tls12 = self.version == VERSION_TLS12
        nonce = self.first.to_bytes(8, "big") if tls12 else b""
        self.handle = device.add(flow, self.info, self.seq, self.number, nonce)
        self.ktls = KtlsTx(
            self.info,
            self.seq,
            self.handle,
            self.number,
            nonce,
            device=device,
            rekey_mode=rng.choice(list(RekeyMode)),
            mtu=rng.choice((1500, 90)),
            gap_limit=rng.choice((1 << 14, 150, 0)),
            netdev=device.counters,
            stat=device.stat,
            queue=rng.choice((2, 32)),
        )

    def _keys(self) -> CryptoInfo:
        tls13, rng = self.version == VERSION_TLS13, self.rng
        return CryptoInfo(
            self.version, rng.randbytes(rng.choice((16, 32))), rng.randbytes(12 if tls13 else 4)
        )

    def rekeyed(self) -> tuple[CryptoInfo, bytes]:
        """Installs keys from the next record on."""
        self.info = self._keys()
        self.offset = self.base = self.number
        self.first = self.rng.getrandbits(64)
        return self.info, self.first.to_bytes(8, "big") if self.version == VERSION_TLS12 else b""

    def write(self, size: int, kind: int, promised: bool) -> None:
        """The application writes a record."""
        info, tls13 = self.info, self.version == VERSION_TLS13
        content: bytes | bytearray = self.rng.randbytes(size)
        content = bytearray(content) if promised else content
        text, nonce = bytes(content) + (bytes([kind]) if tls13 else b""), b""
        if not tls13:
            nonce = ((self.first + self.number - self.base) % (1 << 64)).to_bytes(8, "big")
        length = len(nonce) + len(text) + TAG
        header = bytes((23 if tls13 else kind, 3, 3)) + length.to_bytes(2, "big") + nonce
        number = self.number - self.offset
        if tls13:
            iv, aad = (int.from_bytes(info.iv, "big") ^ number).to_bytes(12, "big"), header
        else:
            iv = info.iv + nonce
            aad = number.to_bytes(8, "big") + header[:3] + len(text).to_bytes(2, "big")
        if info.key + iv in self.nonces:
            raise Broken("the sender uses a nonce twice")
        self.nonces.add(info.key + iv)
        stream = Cipher(algorithms.AES(info.key), modes.CTR(iv + b"\0\0\0\2")).encryptor()
        made = self.ktls.push(kind, content, not promised)
        room = header + text
        if made[: len(room)] != room or len(made) != len(room) + TAG:
            raise Broken("another record than the sender's")
        self.records.append(
            Sealed(
                len(self.host),
                len(header),
                header + AESGCM(info.key).encrypt(iv, text, aad),
                stream.update(bytes(len(text))),
                [{byte} for byte in text],
                content,
            )
        )
        self.host += made
        self.left += bytes(len(made))
        self.number += 1

    def frame(self, start: int, end: int, flags: int = ACK) -> bytes:
        """[start, end) as TCP hands it over."""
        payload = bytes(self.host[max(0, start) : max(0, end)])
        if start < 0:
            payload = BEFORE[len(BEFORE) + start : len(BEFORE) + min(0, end)] + payload
        return Segment("c2s", start, payload, flags).frame(self.path)

    def covering(self, start: int, end: int) -> list[Sealed]:
        return [r for r in self.records if r.start < end and start < r.end]

    @property
    def contiguous(self) -> int:
        at = self.left.find(0)
        return len(self.left) if at < 0 else at

    def saw(self, frame: bytes) -> None:
        """A frame is on the wire: every byte is one that the sender could have sealed."""
        seq, payload = tcp_of(frame)
        at = self.floor + ((seq - self.seq - self.floor + (1 << 31)) % (1 << 32)) - (1 << 31)
        if at < 0:
            header_size = payload[:-at]
            if header_size != BEFORE[len(BEFORE) + at :][: len(header_size)]:
                raise Broken(f"{at}: not what was sent before the marker")
            payload, at = payload[len(header_size) :], at + len(header_size)
        end = at + len(payload)
        if payload and end > len(self.host):
            raise Broken(f"[{at}, {end}) was never written")
        for record in self.covering(at, end):
            low, high = max(at, record.start), min(end, record.end)
            self._judge(record, low - record.start, payload[low - at : high - at])
        self.left[at:end] = b"\1" * len(payload)

    def _judge(self, record: Sealed, low: int, piece: bytes) -> None:
        if not record.changed:
            if piece != record.wire[low : low + len(piece)]:
                raise Broken(f"{record.start} + {low}: not the sender's bytes")
        tag_at = len(record.wire) - TAG
        for at, byte in enumerate(piece, low):
            if at >= tag_at:
                if record.tag.setdefault(at, byte) != byte:
                    raise Broken(f"{record.start} + {at}: a second tag")
            elif at >= record.header_size:
                o = at - record.header_size
                if byte ^ record.keystream[o] not in record.values[o]:
                    raise Broken(f"{record.start} + {at}: text that never was")
            elif byte != record.wire[at]:
                raise Broken(f"{record.start} + {at}: another header")
