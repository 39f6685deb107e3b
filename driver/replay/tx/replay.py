# SPDX-License-Identifier: Apache-2.0
"""Replays what a capture's senders sent through transmit, and compares it with the capture.

Both directions are transmit flows of one card: each is replayed as if the card sat at its sender.
A capture point sees what TCP did, so that losses and retransmissions of the capture decide which
way each segment goes. Every frame of the capture is given to the device, in its order: segments of
offloaded directions as the host had them, plaintext and room for tags, all others as they are. One
that is longer than the device takes is cut in front of it (`segmentation`).

Frames are in the device together where no decision depends on what they come to; which those are
does not depend on the engine, so that every engine gets the same frames and commands.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason

from ...device.control import DeviceError
from ...device.transport import Transport
from ...device.tx import TxCompletion, TxDevice
from ...ktls.tx.offload import KtlsTx
from ...ktls.tx.plan import Drop, DropReason, Plan, TxFrame, TxMode
from ...ktls.tx.rekey import InstallKey, KeyAction, RekeyMode
from ...net.parser import RST, Parsed
from ...net.tcp import ACK, TcpConnection, ends, pair, peer
from ...tls.connection import InstallKeys
from ...tls.keylog import Keylog
from ..capture import Packet
from ..hosts import IDLE, SCHEMA, Connections, crypto_info, offload, report_event
from ..oracle import HOST, ConnectionTruth, decode_capture
from ..segmentation import MTU, cut_long
from ..wire import as_on_wire, without_trailer
from .connection import SendingConnection
from .needed import StillNeeded
from .plain import PlainRecord
from .sender import BAD_CHECKSUM, BEFORE_MARKER, OVERSIZE, RANDOM_NONCES, Outgoing, Sender

ACK_DELAY = 0.05  # seconds
BATCH = 32  # frames in the device together


@dataclass(frozen=True)
class TxTrace:
    """A segment with payload of an offloaded direction.

    packet: its number in the capture, from 0. time: seconds since the first packet. offset: of its
    first byte in the stream. outcome: its way, `wire` or `dropped`; reason: of the latter two.
    retransmitted: nothing in it is new. reread: bytes replayed only to be hashed for it. cpu:
    bytes that software encrypted, or read for a tag, for it.
    """

    packet: int
    time: float
    connection: int
    way: str
    seq: int
    offset: int
    length: int
    outcome: str
    reason: str
    identical: bool
    retransmitted: bool = False
    reread: int = 0
    cpu: int = 0


@dataclass
class _Posted:
    """A frame in the device. sender: whose plan it is of. out: the segment, if it is its frame.
    final: why it was posted with the capture's own bytes."""

    op: TxOp
    packet: int
    frame: bytes
    sender: Sender | None = None
    out: Outgoing | None = None
    plan: Plan | None = None
    final: str | None = None


class TxReplay:
    """One capture through one device's transmit.

    mode: forces a way. rekey: how the device gets new keys. ack_delay: seconds until an
    acknowledgement in the capture has reached the sender, where it releases records; without it
    `ACK_DELAY`, and never before the sender has sent the last segment that needs them.
    completion_delay: segments of a direction that pass before the driver looks at completions.
    """

    def __init__(
        self,
        transport: Transport,
        keylog: Keylog,
        config: Config | None = None,
        *,
        mode: TxMode = TxMode.AUTO,
        rekey: RekeyMode = RekeyMode.EPOCHS,
        ack_delay: float | None = None,
        completion_delay: int = 0,
    ) -> None:
        self.trace: list[TxTrace] = []
        self.errors: list[str] = []
        self.device = TxDevice(transport, config)
        self._keylog = keylog
        self._mode = mode
        self._rekey_mode = rekey
        self._ack_delay = ACK_DELAY if ack_delay is None else ack_delay
        self._foresees = ack_delay is None
        self._needed: StillNeeded | None = None
        self._completion_delay = completion_delay
        self._connections = Connections(self._hosts, self._release)
        self._posted: deque[_Posted] = deque()
        self._late: deque[tuple[int, Sender, TxCompletion]] = deque()
        self._segments = 0  # that were handed over
        self._sessions: dict[bytes, bytes] = {}
        self._events: list[dict[str, Any]] = []
        self._packets: Sequence[Packet] = ()
        self._parsed: Sequence[Parsed] = ()
        self._first: Sequence[int] = (0,)  # of each packet of the capture, in `_packets`
        self._truths: Sequence[ConnectionTruth] = ()
        self._packet = 0
        self._time = 0.0

    # --- running ----------------------------------------------------------------------------

    def run(
        self, packets: Sequence[Packet], progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Everything. `progress` is told how many packets have been processed.

        Raises what the transport and the device raise: `TimeoutError`, `DeviceError`.
        """
        self.begin(packets)
        for start in range(0, len(packets), BATCH):
            end = min(start + BATCH, len(packets))
            self.send(start, end)
            progress(end)
        self.finish()

    def begin(self, packets: Sequence[Packet]) -> None:
        """Reads a capture; then `send` all of its packets, and `finish`."""
        whole, parsed, notes = as_on_wire(packets, HOST, self.device.config)
        self._packets, self._parsed, self._first = cut_long(
            whole, parsed, HOST, self.device.config.max_frame
        )
        more = len(self._packets) - len(whole)
        self.errors += notes
        if more:
            self.errors.append(f"they are sent in segments that fit {MTU} bytes: {more} more")
        self._truths = decode_capture(self._packets, self._keylog, self._parsed)
        if self._foresees:
            self._needed = StillNeeded(self._packets, self._parsed)

    def send(self, start: int, end: int) -> None:
        """Packets [start, end) go to the device; some may still be in it."""
        start, end = self._first[start], self._first[end]
        for packet, head in zip(self._packets[start:end], self._parsed[start:end], strict=True):
            self._packet = packet.index
            self._time = max(self._time, packet.time - self._packets[0].time)
            self._one(packet, head)

    def finish(self) -> None:
        """Waits for what is in the device."""
        self._poll()
        self.trace.sort(key=lambda segment: segment.packet)

    # --- one packet -------------------------------------------------------------------------

    def _one(self, packet: Packet, head: Parsed) -> None:
        segment = self._connections.table.accept(packet.index, head, packet.frame)
        self._connections.open_new()
        connection = self._connections.current(pair(*ends(head))) if head.is_tcp else None
        if segment is not None:
            connection = self._connections[segment.connection.index]
        if connection is None:
            # Of a frame that was cut short nobody knows what the host sent.
            if packet.original_length <= len(packet.frame):
                self._post_as_it_is(packet.frame, packet.index)
            return
        for sender in connection.senders.values():
            self._acknowledge(connection.tcp.index, sender)
        way = connection.tcp.direction(ends(head)[0])
        sender = connection.senders[way]
        sender.heard = self._time
        if head.payload_length and sender.kernel is not None:
            offset = segment.offset if segment is not None else sender.stream.offset(head.seq)
            out = Outgoing(
                packet.index, self._time, connection.tcp.index, packet.frame, head, offset
            )
            self._segment(sender, out)
        else:
            self._post_as_it_is(without_trailer(packet.frame, head), packet.index)
        if segment is None:
            return
        if head.tcp_flags & ACK:
            other = connection.senders[peer(way)]
            other.acknowledge(self._ack_of(packet, head), self._time + self._ack_delay)
        if segment.pieces:
            connection.tls.hand_over = connection.tcp.has_syn
            data = b"".join(piece.data for piece in segment.pieces)
            for event in connection.tls.feed(way, data):
                if isinstance(event, InstallKeys):
                    self._install(connection, connection.senders[event.direction])
        if head.tcp_flags & RST and sender.stream.reset:
            self._release(connection)

    def _ack_of(self, packet: Packet, head: Parsed) -> int:
        at = head.tcp_offset + 8
        return int.from_bytes(packet.frame[at : at + 4], "big")

    def _post_as_it_is(self, frame: bytes, packet: int) -> None:
        """A frame without text of an offloaded direction. What no card carries goes around it."""
        if 0 < len(frame) <= self.device.config.max_frame:
            meta = TX_META.pack({"op": TxOp.NOTHING})
            self._post([TxFrame(frame, meta)], [_Posted(TxOp.NOTHING, packet, frame)])

    def _segment(self, sender: Sender, out: Outgoing) -> None:
        """A segment with payload behind the installation of its direction's keys."""
        counts, kernel = sender.counts, sender.kernel
        assert kernel is not None
        counts.segments += 1
        self._segments += 1
        if len(out.frame) > self.device.config.max_frame:
            self._dropped(sender, out, OVERSIZE)
            return
        final = BAD_CHECKSUM if not out.head.checksum_ok else sender.why_final(out)
        if final == BEFORE_MARKER:
            self._offer(sender, out, out.frame, final=True)
            return
        if final is not None:
            meta = TX_META.pack({"op": TxOp.WIRE})
            posted = _Posted(TxOp.WIRE, out.packet, out.frame, sender, out, None, final)
            self._post([TxFrame(out.frame, meta)], [posted])
            return
        if out.end <= sender.highest:
            out.retransmitted = True
            counts.retransmitted += 1
            counts.retransmitted_bytes += out.head.payload_length
        sender.highest = max(sender.highest, out.end)
        sender.push(out.end, lambda record: self._rekey(sender, record))
        if kernel.offset(out.head.seq) != kernel.expected:
            self._poll()
        self._offer(sender, out, sender.host_frame(out))
        if len(kernel.keys.epochs) > 1:
            self._poll()  # what is done about keys depends on completions

    def _offer(self, sender: Sender, out: Outgoing, frame: bytes, final: bool = False) -> None:
        """Gives the kernel a segment as its host has it, and the device what the kernel says."""
        kernel = sender.kernel
        assert kernel is not None
        read = sum(kernel.counters.cpu_bytes.values())
        got = kernel.transmit(frame, not final, final=final)
        if not isinstance(got, Plan):
            # Nothing is held: no text of a capture can change under the driver.
            self._dropped(sender, out, got.reason.value if isinstance(got, Drop) else "held")
            return
        out.reread = sum(len(post.frame) for post in got.frames[:-1])
        out.cpu = sum(kernel.counters.cpu_bytes.values()) - read
        frames = [
            _Posted(TxOp(TX_META.unpack(post.meta)["op"]), out.packet, b"", sender)
            for post in got.frames
        ]
        frames[-1] = replace(frames[-1], out=out, plan=got)
        self._post(got.frames, frames)

    # --- the device -------------------------------------------------------------------------

    def _post(self, posts: Sequence[TxFrame], frames: Iterable[_Posted]) -> None:
        """Gives frames to the device, all together."""
        self.device.post(posts)
        self._posted += frames
        if len(self._posted) >= BATCH:
            self._poll()

    def _poll(self) -> None:
        """Waits for all frames in the device, and looks at what has become of them."""
        if self._posted:
            output = self.device.poll()
            frames = iter(output.frames)
            for completion in output.completions:
                posted = self._posted.popleft()
                if completion.sent and posted.op is not TxOp.DUMP:
                    frame = next(frames, None)
                    if frame is None:
                        raise DeviceError(f"packet {posted.packet} was sent and did not come out")
                    self._left(posted, frame)
                elif not completion.sent:
                    self._kept(posted, completion.reason)
                if posted.plan is not None or posted.op is TxOp.DUMP:
                    assert posted.sender is not None
                    due = self._segments + self._completion_delay
                    self._late.append((due, posted.sender, completion))
            if next(frames, None) is not None:
                raise DeviceError("a frame came out that was not sent")
        self._look_at()

    def _look_at(self, all_of_them: bool = False) -> None:
        """Tells the kernels of completions whose time has come."""
        while self._late and (all_of_them or self._late[0][0] <= self._segments):
            _, sender, completion = self._late.popleft()
            assert sender.kernel is not None
            self._do(sender, sender.kernel.completed(completion))

    def _left(self, posted: _Posted, frame: bytes) -> None:
        """A frame that is on the wire."""
        sender, out = posted.sender, posted.out
        if sender is None or out is None:
            if frame != posted.frame:
                self.errors.append(f"packet {posted.packet} has no text and left changed")
            return
        same = sender.compare(out, frame)
        if posted.plan is not None and posted.plan.way is not None:
            sender.counts.by_way[posted.plan.way] += 1
            self._trace(sender, out, posted.plan.way.value, "", same)
            return
        why = posted.final or BEFORE_MARKER
        sender.counts.wire += 1
        sender.counts.wire_reasons[why] += 1
        self._trace(sender, out, "wire", why, same)

    def _kept(self, posted: _Posted, reason: TxReason) -> None:
        """A frame that the device dropped."""
        name = reason.name.lower()
        if posted.sender is None:
            self.errors.append(f"packet {posted.packet} did not leave: {name}")
        elif posted.out is None:
            self.errors.append(f"packet {posted.packet}: not hashed: {name}")
        else:
            self._dropped(posted.sender, posted.out, name)

    def _dropped(self, sender: Sender, out: Outgoing, reason: str) -> None:
        sender.counts.dropped += 1
        sender.counts.reasons[reason] += 1
        sender.counts.tag_mismatch += reason == DropReason.TAG_MISMATCH.value
        self._trace(sender, out, "dropped", reason, False)

    def _trace(self, sender: Sender, out: Outgoing, outcome: str, reason: str, same: bool) -> None:
        self.trace.append(
            TxTrace(
                out.packet,
                out.time,
                out.connection,
                sender.direction,
                out.head.seq,
                out.offset,
                out.head.payload_length,
                outcome,
                reason,
                same,
                out.retransmitted,
                out.reread,
                out.cpu,
            )
        )

    # --- contexts and keys ------------------------------------------------------------------

    def _hosts(self, tcp: TcpConnection) -> SendingConnection:
        return SendingConnection(tcp, self._truths[tcp.index], self._keylog, self._sessions)

    def _install(self, connection: SendingConnection, sender: Sender) -> None:
        """The direction's keys are known from here on: its kernel begins, and the device."""
        plain = sender.plain
        if plain is None or sender.kernel is not None:
            return
        if not connection.tcp.has_syn or not connection.tls.offloadable:
            return
        first, info = plain.first_keys, crypto_info(plain.first_keys)
        if plain.nonces_count_up:
            got = offload(
                lambda: self.device.add(
                    sender.flow, info, sender.marker_seq, first.number, plain.first_nonce
                ),
                self._release_idle,
            )
            if isinstance(got, str):
                sender.refusal = got
            else:
                sender.handle = got
        else:
            sender.refusal = RANDOM_NONCES
        sender.kernel = KtlsTx(
            info,
            sender.marker_seq,
            sender.handle,
            first.number,
            plain.first_nonce,
            mode=self._mode,
            rekey_mode=self._rekey_mode,
            netdev=self.device.counters,
            stat=self.device.stat,
        )
        if sender.handle is not None:
            connection.offloaded = True
            where = connection.tcp.index, sender.direction, "tx_installed"
            self._events.append(
                report_event(self._packet, self._time, *where, resumed_at=plain.start)
            )

    def _release_idle(self) -> bool:
        """Ends the offload of the connection that needs it least, if there is one: a capture need
        not hold the end of a connection."""
        held = [c for c in self._connections if any(s.handle for s in c.senders.values())]
        for connection in sorted(held, key=lambda c: c.heard):
            if connection.tcp.closed or self._time - connection.heard >= IDLE:
                self._release(connection)
                return True
        return False

    def _release(self, connection: SendingConnection) -> None:
        """Ends the offload of both directions; software sends what may still come."""
        self._poll()
        self._look_at(all_of_them=True)
        for sender in connection.senders.values():
            if sender.handle is not None and sender.kernel is not None:
                sender.kernel.deleted()
                self.device.delete(sender.handle)
                self.device.release(sender.handle)  # all frames are completed
                sender.handle = None

    def _rekey(self, sender: Sender, record: PlainRecord) -> None:
        """The kernel gets new keys, from this record on."""
        assert sender.kernel is not None
        self._poll()
        self._do(sender, sender.kernel.rekey(record.info, record.nonce))

    def _acknowledge(self, connection: int, sender: Sender) -> None:
        if sender.kernel is None:
            return
        needed = None
        if self._needed is not None:
            needed = self._needed.lowest(connection, sender.direction, self._packet)
        seq = sender.acknowledged(self._time, needed)
        if seq is not None:
            if len(sender.kernel.keys.epochs) > 1:
                self._poll()
            self._do(sender, sender.kernel.acked(seq))

    def _do(self, sender: Sender, actions: Iterable[KeyAction]) -> None:
        """Carries out what the kernel wants done about keys."""
        due = deque(actions)
        while due and sender.handle is not None and sender.kernel is not None:
            action = due.popleft()
            if isinstance(action, InstallKey):
                epoch = action.epoch
                self.device.rekey(sender.handle, action.key_slot, epoch.info, epoch.base)
                due += sender.kernel.key_installed(True)
            else:
                self.device.key_clear(sender.handle, action.key_slot)

    # --- results ----------------------------------------------------------------------------

    def report(self, capture: str, engine: str, warnings: Iterable[str] = ()) -> dict[str, Any]:
        """The report; `warnings` are what the capture's reader had to say."""
        netdev, stat = self.device.counters.as_dict(), self.device.stat.as_dict()
        return {
            "schema": SCHEMA,
            "capture": capture,
            "engine": engine,
            "direction": "tx",
            "tx_mode": self._mode.value,
            "tx_rekey": self._rekey_mode.value,
            "ack_delay": self._ack_delay,
            "errors": [*warnings, *self.errors],
            "events": self._events,
            "counters": {
                name: count
                for name, count in {**netdev, **stat}.items()
                if name.startswith(("tx_", "TlsTx", "TlsCurrTx"))
            },
            "connections": [c.report() for c in self._connections],
        }

    @property
    def offloaded_payload(self) -> int:
        """Bytes of payload, retransmissions included, of the segments of offloaded connections."""
        return sum(s.length for s in self.trace if self._connections[s.connection].offloaded)

    def plaintext(self) -> dict[tuple[int, str], bytes]:
        """The application bytes that went through transmit by connection and direction."""
        return {
            (connection.tcp.index, way): sender.application_bytes
            for connection in self._connections
            for way, sender in connection.senders.items()
        }
