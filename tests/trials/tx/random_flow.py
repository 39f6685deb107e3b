# SPDX-License-Identifier: Apache-2.0
"""One direction of a random transfer: application, software TLS sender, TCP and kTLS.

The sender seals every record with `cryptography` as it is written, so each frame is known to the
last byte before the driver sees it. Keys are random and protect nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import ip_address

from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.descriptors import Handle
from sealane.driver.device.rx import Flow
from sealane.driver.device.tx import TxDevice
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import TxFrame, TxMode
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TX_META, TxOp
from tests.support.internet_checksum import checksum
from tests.support.tcp_frames import ACK, FIN, PSH, Peer, Segment, Wire
from tests.support.wire_checker import Sealed, WireChecker, seal

BEFORE = bytes(251 * i >> 3 & 255 for i in range(600))  # sent by software before the offload
REJECTED_COOKIE = 0xFFFF  # cookie of frames that kTLS knows nothing of


@dataclass
class Written:
    """A record of the application.

    number: N, across key changes. content: the buffer that kTLS refers to. A bytearray is
    zero-copy, and the application may change it. room: the record as TCP holds it.
    """

    number: int
    sealed: Sealed
    content: bytes | bytearray
    room: bytes

    @property
    def promised(self) -> bool:
        return isinstance(self.content, bytearray)


class RandomFlow:
    """A direction on `device`, from its handle to its last byte. port: its own."""

    def __init__(
        self,
        rng: random.Random,
        device: TxDevice,
        port: int,
        keystream: dict[bytes, bytes],
        mode: TxMode,
        rekey_mode: RekeyMode,
    ) -> None:
        self.rng, self.device = rng, device
        self.version = rng.choice((VERSION_TLS12, VERSION_TLS13))
        self.bits = rng.choice((128, 256))
        near = -rng.randrange(2500) & 0xFFFFFFFF  # the wrap
        self.seq = rng.choice((rng.getrandbits(32), near, near, 0, 0xFFFFFFFF))
        self.number = rng.choice((0, 1, rng.randrange(1000), (1 << 32) - 2, (1 << 64) - 1000))
        self.nonce = rng.choice((rng.getrandbits(64), (1 << 64) - rng.randrange(1, 9)))
        self.mss = rng.choice((60, 150, 400))
        self.network = 40 if rng.random() < 0.3 else 20
        self._frame_head(port)
        self.checker = WireChecker(self.seq, BEFORE, keystream)
        self.records: list[Written] = []
        self.host = bytearray()  # the stream as TCP holds it now
        self.software = bytearray()  # the stream as it must be on the wire
        self.nxt = self.una = 0
        self.fin = False
        self.held: list[tuple[int, int, int]] = []
        self.stale: list[TxFrame] = []  # copies of frames that were posted
        self.alive = True  # the device has it
        self.broken = False  # the device has lost its stream and awaits a sync
        self.resync_told = False  # ... and kTLS was informed
        self.released = False  # the device has no context of it any more
        self.refuse_keys = False
        self.last_payload = 0  # bytes in the frame that was sent last
        self._new_keys(first=True)
        nonce = self.nonce.to_bytes(8, "big") if self.version == VERSION_TLS12 else b""
        a, b = (ip_address(side.address) for side in (self.path.client, self.path.server))
        self.handle: Handle = device.add(
            Flow(a, b, port, 443), self.info, self.seq, self.number, nonce
        )
        room = device.queue
        self.ktls = KtlsTx(
            self.info,
            self.seq,
            self.handle,
            self.number,
            nonce,
            device=device,
            mode=mode,
            rekey_mode=rekey_mode,
            mtu=rng.choice((1500, 300, 97)),
            queue=min(32, room),
            gap_limit=rng.choice((1 << 14, 200, 0)),
            netdev=device.counters,
            stat=device.stat,
        )
        self.first_number = self.number

    # --- the application --------------------------------------------------------------------

    def _new_keys(self, first: bool = False) -> None:
        rng, tls13 = self.rng, self.version == VERSION_TLS13
        self.info = CryptoInfo(
            self.version, rng.randbytes(self.bits // 8), rng.randbytes(12 if tls13 else 4)
        )
        self.base = self.number
        # The first keys have sealed records before the offload in a real connection. N continues.
        self.offset = 0 if first else self.number

    @property
    def end(self) -> int:
        return len(self.host)

    def write(
        self, size: int, kind: int = 23, promised: bool = False, padding: int = 0, odd: bool = False
    ) -> None:
        """Makes a record of `size` bytes. promised: zero-copy.

        odd: in TLS 1.2, with a nonce that does not count up.
        """
        tls13 = self.version == VERSION_TLS13
        content: bytes | bytearray = self.rng.randbytes(size)
        if promised:
            content = bytearray(content)
        inner = bytes((kind,)) + bytes(padding) if tls13 else b""
        nonce, own = b"", None
        if not tls13:
            nonce = ((self.nonce + self.number - self.base) % (1 << 64)).to_bytes(8, "big")
            if odd:
                nonce = own = self.rng.randbytes(8)
        length = len(nonce) + size + len(inner) + 16
        header = bytes((23 if tls13 else kind, 3, 3)) + length.to_bytes(2, "big") + nonce
        sealed = seal(
            self.version,
            self.info.key,
            self.info.iv,
            self.number - self.offset,
            header,
            bytes(content) + inner,
        )
        room = header + content + inner + b"\xa5" * 16
        made = self.ktls.push(kind, content, not promised, padding if tls13 else 0, own)
        assert made == room, "kTLS makes another record than the kernel would"
        self.checker.wrote(sealed)
        self.records.append(Written(self.number, sealed, content, room))
        self.host += room
        self.software += sealed.wire
        self.number += 1

    def change(self, written: Written) -> None:
        """The application breaks its promise: some bytes of a zero-copy record change."""
        sealed = written.sealed
        for _ in range(self.rng.randrange(1, 4)):
            at = self.rng.randrange(len(written.content))
            written.content[at] ^= self.rng.randrange(1, 256)
            self.host[sealed.text_at + at] = written.content[at]
            self.checker.changed(sealed, sealed.text_at + at, written.content[at])

    def new_keys(self) -> tuple[CryptoInfo, bytes]:
        """Makes keys for the records from the next one on, in TLS 1.2 with their first nonce."""
        self._new_keys()
        self.nonce = self.rng.getrandbits(64)
        tls12 = self.version == VERSION_TLS12
        return self.info, self.nonce.to_bytes(8, "big") if tls12 else b""

    # --- frames -----------------------------------------------------------------------------

    def _frame_head(self, port: int) -> None:
        rng = self.rng
        ends = ("fd00::2", "fd00::1") if self.network == 40 else ("10.9.0.2", "10.9.0.1")
        self.path = Wire(
            Peer(ends[0], port, self.seq - 1),
            Peer(ends[1], 443, 77, b"\x02\0\0\0\0\2"),
            vlans=(7,) if rng.random() < 0.2 else (),
            timestamps=rng.random() < 0.5,
        )
        self.ip_at = 14 + 4 * len(self.path.vlans)
        self.tcp_at = self.ip_at + self.network
        frame = Segment("c2s", 0, b"").frame(self.path)
        self.head = frame[: self.tcp_at + 4 * (frame[self.tcp_at + 12] >> 4)]

    def frame(self, start: int, payload: bytes, flags: int = ACK) -> bytes:
        """The finished frame with `payload` at stream offset `start`."""
        head, ip, tcp = bytearray(self.head), self.ip_at, self.tcp_at
        size = len(head) - tcp + len(payload)
        if self.network == 40:
            head[ip + 4 : ip + 6] = size.to_bytes(2, "big")
            addresses = head[ip + 8 : ip + 40]
        else:
            head[ip + 2 : ip + 4] = (20 + size).to_bytes(2, "big")
            head[ip + 10 : ip + 12] = b"\0\0"
            head[ip + 10 : ip + 12] = checksum(bytes(head[ip:tcp])).to_bytes(2, "big")
            addresses = head[ip + 12 : ip + 20]
        head[tcp + 4 : tcp + 8] = (self.seq + start & 0xFFFFFFFF).to_bytes(4, "big")
        head[tcp + 13] = flags
        head[tcp + 16 : tcp + 18] = b"\0\0"
        pseudo = bytes(addresses) + b"\0\6" + size.to_bytes(2, "big")
        whole = pseudo + bytes(head[tcp:]) + payload
        head[tcp + 16 : tcp + 18] = checksum(whole).to_bytes(2, "big")
        return bytes(head) + payload

    def stream(self, data: bytes | bytearray, start: int, end: int) -> bytes:
        """[start, end) of `data`, preceded by the bytes sent before the marker."""
        before = BEFORE[len(BEFORE) + start : len(BEFORE) + min(end, 0)] if start < 0 else b""
        return before + bytes(data[max(start, 0) : max(end, 0)])

    def host_frame(self, start: int, end: int, flags: int = ACK) -> bytes:
        return self.frame(start, self.stream(self.host, start, end), flags)

    def expected(self, start: int, end: int, flags: int = ACK) -> bytes | None:
        """The bytes of a software sender, or `None` where the application has changed them."""
        if any(r.sealed.changed for r in self.covering(start, end)):
            return None
        return self.frame(start, self.stream(self.software, start, end), flags)

    @property
    def usable(self) -> range:
        """Numbers of the records under the latest keys, if the device has them."""
        latest = self.ktls.keys.latest
        return range(
            latest.base if latest.number in self.ktls.keys.usable else self.number, self.number
        )

    def covering(self, start: int, end: int) -> list[Written]:
        return [r for r in self.records if r.sealed.start < end and start < r.sealed.end]

    @property
    def released_to(self) -> int:
        """End of the last record that is fully acknowledged."""
        ends = [r.sealed.end for r in self.records if r.sealed.end <= self.una]
        return ends[-1] if ends else 0

    # --- cuts -------------------------------------------------------------------------------

    def edge(self, low: int, high: int) -> int:
        """A place in [low, high], often in or beside a header or a tag."""
        rng = self.rng
        at = rng.randint(low, high)
        if self.records and rng.random() < 0.5:
            sealed = self.records[rng.randrange(len(self.records))].sealed
            near = rng.choice((sealed.start, sealed.text_at, sealed.tag_at, sealed.end))
            at = near + rng.randint(-3, 3)
        return min(max(at, low), high)

    def cut(self, start: int, end: int) -> int:
        """End of the segment that begins at `start`, at most `end`."""
        most = min(end, start + self.mss)
        if self.rng.random() < 0.4:
            return most
        return self.edge(min(start + 1, most), most)

    # --- metadata that no driver chose ------------------------------------------------------

    def rejected_frame(
        self, start: int, end: int, op: TxOp = TxOp.ENCRYPT, **fields: int
    ) -> TxFrame:
        """Posts a frame with the plaintext of [start, end) past kTLS. `fields` of `TX_META`
        override.
        """
        who = {"context": self.handle.context, "generation": self.handle.generation & 0xFF}
        meta = TX_META.pack({"op": op, "cookie": REJECTED_COOKIE, **who, **fields})
        return TxFrame(self.host_frame(start, end), meta)

    def detached(self, start: int, **fields: int) -> dict[str, int]:
        """The fields that name the position `start` of a detached frame."""
        (written,) = self.covering(start, start + 1)
        sealed = written.sealed
        return {
            "detached": 1,
            "number": written.number,
            "offset": start - sealed.start,
            "record_length": len(sealed.wire) - 5,
            "record_type": sealed.wire[0],
            **fields,
        }

    def with_tags(self, post: TxFrame, start: int, end: int) -> TxFrame:
        """The same frame with the right tags in their room."""
        frame, shift = bytearray(post.frame), len(post.frame) - end
        for written in self.covering(start, end):
            sealed = written.sealed
            for at in range(max(start, sealed.tag_at), min(end, sealed.end)):
                frame[shift + at] = sealed.wire[at - sealed.start]
        return TxFrame(bytes(frame), post.meta)


FLAGS = (ACK, ACK, ACK, ACK | PSH, ACK | FIN)
