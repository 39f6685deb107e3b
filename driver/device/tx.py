# SPDX-License-Identifier: Apache-2.0
"""The driver's side of one device's transmit: contexts, the queue of frames, completions.

Frames and commands share the device's queue, so a command acts on what is posted behind it; only
where it takes a key away the frames that need the key must be completed first (the device drops
those that are not). The queue is a count kept here, of frames posted and not completed: the frames
of a segment are posted all or none, and a segment that was not posted can be taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sealane.hdl.abi.config import NONCE_BYTES, VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.tx import TX_COUNTERS, TX_META, TX_STATUS, TxCommand, TxOp, TxReason

from ..crypto.keys import CryptoInfo
from ..net.tx_frames import split
from .contexts import Contexts
from .control import Control, DeviceError
from .counters import NetdevCounters, TlsStat
from .descriptors import Handle
from .rx import Flow
from .transport import Transport

KEY_SLOTS = 2
QUEUE = 256  # frames
COOKIES = 0xFFFF  # as many frames of a context can be told apart


class QueueFull(Exception):
    """There is no room for all frames of a segment; none was posted."""

    def __init__(self, wanted: int, room: int) -> None:
        super().__init__(f"{wanted} frames, room for {room}")
        self.wanted = wanted
        self.room = room


class HostFrame(Protocol):
    """A frame with its packed `TX_META`."""

    @property
    def frame(self) -> bytes:
        """The frame; of DUMP the payload alone."""
        ...

    @property
    def meta(self) -> int:
        """Its metadata."""
        ...


@dataclass(frozen=True, slots=True)
class TxCompletion:
    """What became of a frame; the fields but `tags` are those of `hdl.abi.tx.TX_STATUS`.

    tags: by record number N, 16 bytes each, of the records whose first tag byte is in the frame;
    empty unless `reason` is NONE: a tag of a frame that did not leave is worth nothing.
    generation: without end, as in a `Handle`.
    """

    op: TxOp
    reason: TxReason
    cookie: int
    context: int
    generation: int
    tags: dict[int, bytes] = field(default_factory=dict)

    @property
    def sent(self) -> bool:
        """The frame left, or was hashed."""
        return self.reason is TxReason.NONE


class TxPolled(NamedTuple):
    """What came out of transmit: frames for the wire, and a completion of every posted frame."""

    frames: list[bytes]
    completions: list[TxCompletion]


class _Posted(NamedTuple):
    op: TxOp
    cookie: int
    context: int
    generation: int  # without end: until the completion is here others may have come
    payload: int  # bytes, of ENCRYPT and DUMP


class TxDevice:
    """Transmit of the device behind `transport`, whose parameters are `config`.

    counters, stat: to be shared with the receive side of the same device. queue: frames that may
    be posted and not completed, 1 to 65535 (cookies have 16 bits); a segment that takes more than
    that never fits.

    Raises `DeviceError` on a device without transmit and on one with other parameters, and
    `ValueError` on a queue of another depth.
    """

    def __init__(
        self,
        transport: Transport,
        config: Config | None = None,
        *,
        counters: NetdevCounters | None = None,
        stat: TlsStat | None = None,
        queue: int = QUEUE,
    ) -> None:
        if not 1 <= queue <= COOKIES:
            raise ValueError("queue: 1 to 65535 frames")
        self.config = config or Config()
        self.counters = counters if counters is not None else NetdevCounters()
        self.stat = stat if stat is not None else TlsStat()
        self.queue = queue
        self._transport = transport
        self._control = Control(transport)
        if not self._control.read("TX_FLOWS"):
            raise DeviceError("the device has no transmit: its TX_FLOWS is 0")
        self._control.check("TX_FLOWS", self.config.tx_flows)
        self._contexts = Contexts(self.config.tx_flows, self._control, TxCommand.TX_FLOW_WRITE)
        self._versions: dict[int, int] = {}
        self._deleted: set[int] = set()
        self._posted: deque[_Posted] = deque()
        # What the transport gave and `poll` did not: also after an error it is not lost.
        self._words: deque[tuple[list[bytes], int]] = deque()
        self._polled = TxPolled([], [])

    # --- connections ------------------------------------------------------------------------

    def add(
        self, flow: Flow, info: CryptoInfo, seq: int, number: int = 0, nonce: bytes = b""
    ) -> Handle:
        """Offloads a transmit direction (`tls_dev_add`).

        flow: as in its packets, so src is the local end. seq: start marker, the TCP sequence number
        of the header of record `number` (Linux: `rcd_sn`). nonce: TLS 1.2, the 8 bytes of that
        record's explicit nonce, from which the others count up; TLS 1.3 has none.

        Raises `OffloadRefused` on a flow that is offloaded or deleted and not released,
        `FlowTableFull` where there is no context or no place in the table and `ValueError` on a
        nonce of another size; then nothing has changed. What the transport and the device raise
        passes too; the context is given back then.
        """
        if len(nonce) != (NONCE_BYTES if info.version == VERSION_TLS12 else 0):
            raise ValueError("nonce: 8 bytes in TLS 1.2, none in TLS 1.3")
        first = int.from_bytes(nonce, "big")

        def install(handle: Handle) -> None:
            self._control.set_seq(seq, number)
            self._control.write("CMD_NONCE_LO", first & 0xFFFFFFFF)
            self._control.write("CMD_NONCE_HI", first >> 32)
            self._control.install(TxCommand.TX_ADD, handle, info)

        handle = self._contexts.add(flow.key, install, self._clear)
        self._versions[handle.context] = info.version
        self.counters.tx_tls_ctx += 1
        self.stat.TlsTxDevice += 1
        self.stat.TlsCurrTxDevice += 1
        return handle

    def rekey(self, handle: Handle, slot: int, info: CryptoInfo, number: int) -> None:
        """A key in key slot 0 or 1 for the records from N = `number` on, the first of which is
        record 0 under it. The handle stays in force.

        Frames that need the key that is in the slot must be completed. Raises `KeyError` on a
        handle that is not in force and `ValueError` on a slot that is not there or on TLS 1.2,
        which has no key updates.
        """
        self._need(handle, slot)
        if {info.version, self._versions[handle.context]} != {VERSION_TLS13}:
            raise ValueError("only TLS 1.3 has key updates")
        self._control.set_number(number)
        self._control.install(TxCommand.TX_REKEY, handle, info, epoch=slot)

    def key_clear(self, handle: Handle, slot: int) -> None:
        """Empties a key slot: all records under its key are acknowledged. Raises as `rekey`."""
        self._need(handle, slot)
        self._control.command(TxCommand.TX_KEY_CLEAR, handle, epoch=slot)

    def delete(self, handle: Handle) -> None:
        """Ends the offload (`tls_dev_del`): keys are cleared.

        Until `release` the device drops what it finds of the flow behind the start marker without
        WIRE. Raises `KeyError` on a handle that is not in force.
        """
        self._need(handle)
        self._control.command(TxCommand.TX_DELETE, handle)
        self._deleted.add(handle.context)
        self.counters.tx_tls_del += 1
        self.stat.TlsCurrTxDevice -= 1

    def release(self, handle: Handle) -> None:
        """The deleted flow is drained: no frame of it is left in any queue of the host. Its
        context is free. Raises `KeyError` on a handle that was not deleted, or is released. What
        the transport and the device raise passes too; if it was in the flow table, which is brought
        up to date with the next change, the context is free all the same."""
        if handle.context not in self._deleted or not self._contexts.in_force(handle):
            raise KeyError(handle)
        self._control.command(TxCommand.TX_RELEASE, handle)
        self._contexts.unlist(handle)
        self._deleted.remove(handle.context)
        self._contexts.free(handle)
        self._contexts.write()

    # --- frames -----------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Frames that may be posted now."""
        return self.queue - len(self._posted)

    def outstanding(self, handle: Handle) -> int:
        """ENCRYPT and DUMP frames of a context that are posted and not completed."""
        return sum(
            posted.context == handle.context and posted.op in (TxOp.ENCRYPT, TxOp.DUMP)
            for posted in self._posted
        )

    def post(self, posts: Sequence[HostFrame]) -> None:
        """Gives frames to the device, all or none.

        Raises `QueueFull` where there is no room for all and `ValueError` on an empty frame or an
        unknown operation; then none was posted.
        """
        if len(posts) > self.room:
            raise QueueFull(len(posts), self.room)
        # It may raise: before the first frame is given away.
        notes = [self._note(post) for post in posts]
        for post, note in zip(posts, notes, strict=True):
            self._transport.post_tx(post.frame, post.meta)
            self._posted.append(note)

    def poll(self, wait: bool = True) -> TxPolled:
        """What has come out; with `wait`, of all frames that were posted.

        Raises `DeviceError` where completions are not those of the frames that were posted; what
        else has come out is what the next call begins with.
        """
        output = self._transport.poll_tx(wait)
        self._polled.frames.extend(output.frames)
        self._words.extend(output.completions)
        while self._words:
            self._polled.completions.append(self._completion(*self._words.popleft()))
        if wait and self._posted:
            raise DeviceError(f"{len(self._posted)} frames without a completion")
        polled, self._polled = self._polled, TxPolled([], [])
        return polled

    def device_counters(self) -> dict[str, int]:
        """The device's own counters of transmit, 32 bits each, by name."""
        return {name: self._control.read("COUNT_" + name.upper()) for name, _ in TX_COUNTERS}

    # --- state ------------------------------------------------------------------------------

    def _clear(self, handle: Handle) -> None:
        """A context whose flow is unlisted is cleared and released."""
        self._control.command(TxCommand.TX_DELETE, handle)
        self._contexts.write()
        self._control.command(TxCommand.TX_RELEASE, handle)

    def _need(self, handle: Handle, slot: int = 0) -> None:
        if handle.context in self._deleted:
            raise KeyError(handle)
        self._contexts.need(handle)
        if not 0 <= slot < KEY_SLOTS:
            raise ValueError(f"key slot {slot}: 0 or 1")

    def _completion(self, tags: list[bytes], word: int) -> TxCompletion:
        status = TX_STATUS.unpack(word)
        if not self._posted:
            raise DeviceError("a completion without a frame")
        posted = self._posted.popleft()
        who = posted.op, posted.cookie, posted.context, posted.generation & 0xFF
        if tuple(status[name] for name in ("op", "cookie", "context", "generation")) != who:
            raise DeviceError("a completion of another frame than the one that was posted")
        if status["tags"] != len(tags):
            raise DeviceError(f"{len(tags)} tags came, the status says {status['tags']}")
        if status["reason"] > max(TxReason):
            raise DeviceError(f"unknown reason {status['reason']}")
        reason = TxReason(status["reason"])
        sent = reason is TxReason.NONE
        if sent and posted.op == TxOp.ENCRYPT:
            self.counters.tx_tls_encrypted_packets += 1
            self.counters.tx_tls_encrypted_bytes += posted.payload
        elif sent and posted.op == TxOp.DUMP:
            self.counters.tx_tls_dump_packets += 1
            self.counters.tx_tls_dump_bytes += posted.payload
        return TxCompletion(
            op=posted.op,
            reason=reason,
            cookie=status["cookie"],
            context=status["context"],
            generation=posted.generation,
            tags=dict(enumerate(tags, status["first_number"])) if sent else {},
        )

    def _note(self, post: HostFrame) -> _Posted:
        if not post.frame:
            raise ValueError("a frame has at least one byte")
        meta = TX_META.unpack(post.meta)
        payload = 0
        if meta["op"] == TxOp.DUMP:
            payload = meta["length"]
        elif meta["op"] == TxOp.ENCRYPT:
            with suppress(ValueError):  # the device drops it, and says why
                payload = len(split(post.frame).payload)
        generation = self._contexts.whole(meta["context"], meta["generation"])
        return _Posted(TxOp(meta["op"]), meta["cookie"], meta["context"], generation, payload)
