# SPDX-License-Identifier: Apache-2.0
"""Replays a capture through a device, with a host behind it. Sans-IO; yields the report.

Both directions are receive flows of one card: each is replayed as if the card sat at its
receiver. Packets go through the device in the order of the capture; what comes out goes to the
host's TCP, to a TLS library until a direction's keys are known, and then to the kernel's TLS. What
the driver does about a packet (install a context, answer, go on, rekey) is done before the next
packet of that flow is given to the device.

Packets that cannot cause a command may be in the device together (`batches`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason

from ...device.descriptors import DeviceEvent, RxMeta, RxPacket
from ...device.rx import Device
from ...device.transport import Transport
from ...ktls.rx.events import GoOn, Rekey, ResyncAnswer, ResyncHint
from ...net import seq
from ...net.parser import Parsed, parse
from ...net.tcp import Segment, TcpConnection, ends, pair
from ...tls.keylog import Keylog
from ..capture import Packet
from ..hosts import IDLE, NO_SYN, SCHEMA, Connections, offload, report_event
from ..oracle import HOST, ConnectionTruth, decode_capture
from ..trace import PacketTrace, SegmentTrace, Trace
from ..wire import as_on_wire
from .batches import Batches
from .connection import HostConnection, ReceiveDirection
from .host import KtlsAction


class Replay:
    """One capture through one device.

    confirm_delay: segments of a direction that pass before the driver's reactions are carried out.
    options: of every flow.
    """

    def __init__(
        self,
        transport: Transport,
        keylog: Keylog,
        confirm_delay: int = 0,
        config: Config | None = None,
        options: Option = Option.NONE,
    ) -> None:
        self.trace = Trace()
        self.errors: list[str] = []
        self._device = Device(transport, config)
        self._keylog = keylog
        self._delay = confirm_delay
        self._options = options
        self._truths: list[ConnectionTruth] = []
        self._connections = Connections(self._hosts, self._release_both)
        self._by_context: dict[int, tuple[HostConnection, ReceiveDirection]] = {}
        self._sessions: dict[bytes, bytes] = {}
        self._events: list[dict[str, Any]] = []
        self._strangers = 0  # segments with bad checksums that belong to no connection
        self._packet = 0
        self._time = 0.0

    # --- running ----------------------------------------------------------------------------

    def run(
        self,
        packets: Sequence[Packet],
        progress: Callable[[int], None] = lambda done: None,
        in_front: Callable[[int, int], None] = lambda start, end: None,
    ) -> None:
        """Everything. `progress` is told how many packets have been processed, `in_front` which
        ones [start, end) the device is given next.

        Raises what the transport and the device raise: `TimeoutError`, `DeviceError`.
        """
        packets, parsed, notes = as_on_wire(packets, HOST, self._device.config)
        self.errors += notes
        self._truths = decode_capture(packets, self._keylog, parsed)
        batches = Batches(parsed, self._truths, self._connections.current)
        at = 0
        while at < len(packets):
            end = batches.end(at)
            in_front(at, end)
            delivered = self._through(packets[at:end])
            events = _by_packet(self._device.events(), delivered)
            for i, (packet, head) in enumerate(zip(packets[at:end], parsed[at:end], strict=True)):
                self._packet, self._time = packet.index, packet.time - packets[0].time
                self._receive(packet, head, delivered[i], events.get(i, []))
            at = end
            progress(at)

    def _through(self, packets: Sequence[Packet]) -> list[RxPacket]:
        """The frames through the device; empty ones, which no wire carries, go around it."""
        delivered = iter(self._device.receive(p.frame for p in packets if p.frame))
        empty = RxMeta(reason=Reason.NOT_TCP)
        return [next(delivered) if p.frame else RxPacket(b"", empty) for p in packets]

    # --- one packet -------------------------------------------------------------------------

    def _receive(
        self, packet: Packet, head: Parsed, out: RxPacket, events: list[DeviceEvent]
    ) -> None:
        if not out.marked and out.frame != packet.frame:
            self.errors.append(f"packet {packet.index} came back changed and not marked")
            head = parse(out.frame, HOST)
        segment = None
        if head.is_tcp and not out.marked and out.meta.payload_length != head.payload_length:
            # The device examined no frame of that length; the host does.
            out = RxPacket(
                out.frame,
                replace(
                    out.meta,
                    seq=head.seq,
                    payload_offset=head.payload_offset,
                    payload_length=head.payload_length,
                ),
            )
        if head.is_tcp and head.checksum_ok:
            source, target = ends(head)
            segment = self._connections.table.segment(
                packet.index,
                source,
                target,
                head.seq,
                head.tcp_flags,
                out.payload
                if out.marked
                else out.frame[head.payload_offset :][: head.payload_length],
            )
        self._connections.open_new()
        if segment is None:
            self._trace_packet(head, out, *self._dropped(head, out))
            self._take_events(events)
            return
        connection = self._connections[segment.connection.index]
        connection.late_syn()
        direction = connection.directions[segment.direction]
        self._trace_packet(head, out, direction, segment.offset)
        direction.heard = self._time
        if segment.length:
            direction.marked = out.marked
            direction.host.segment(out, packet.index, segment.length)
            self._trace_segment(connection, segment, out)
        self._take_events(events)
        self._deliver(connection, direction, segment)
        self._settle(connection)
        for ended in connection.directions.values():
            if ended.host.stream.end is not None or direction.host.stream.reset:
                self._release(ended)

    def _dropped(self, head: Parsed, out: RxPacket) -> tuple[ReceiveDirection | None, int | None]:
        """A segment that TCP dropped counts for the connection that its addresses name.

        Returns the direction and the offset in its stream, if there is one.
        """
        if not head.is_tcp or head.checksum_ok:
            return None, None
        connection = self._connections.current(pair(*ends(head)))
        self._strangers += connection is None
        if connection is None:
            return None, None
        direction = connection.directions[connection.tcp.direction(ends(head)[0])]
        offset = direction.host.stream.offset(head.seq)
        if head.payload_length:
            direction.host.counts.segments += 1
            direction.host.counts.reasons[Reason(out.meta.reason)] += 1
            segment = Segment(
                connection.tcp, direction.host.direction, offset, head.payload_length, []
            )
            self._trace_segment(connection, segment, out)
        return direction, offset

    def _trace_packet(
        self, head: Parsed, out: RxPacket, direction: ReceiveDirection | None, offset: int | None
    ) -> None:
        self.trace.packets.append(
            PacketTrace(
                self._packet,
                self._time,
                direction.host.connection if direction else None,
                direction.host.direction if direction else None,
                head.seq if head.is_tcp else None,
                offset,
                head.payload_length if head.is_tcp else 0,
                out.marked,
                Reason(out.meta.reason).name.lower(),
            )
        )

    def _trace_segment(self, connection: HostConnection, segment: Segment, out: RxPacket) -> None:
        outcome = "decrypted" if out.marked else Reason(out.meta.reason).name.lower()
        self.trace.segments.append(
            SegmentTrace(
                self._packet,
                self._time,
                connection.tcp.index,
                segment.direction,
                segment.offset,
                segment.length,
                outcome,
            )
        )

    def _hosts(self, tcp: TcpConnection) -> HostConnection:
        truth = self._truths[tcp.index]
        return HostConnection(tcp, truth, self._keylog, self._sessions, self.trace, self._options)

    def _deliver(
        self, connection: HostConnection, direction: ReceiveDirection, segment: Segment
    ) -> None:
        """In-order bytes to whoever reads the direction's stream."""
        host = direction.host
        if host.ktls is not None:
            host.to_kernel(segment.pieces)
            return
        host.to_library(segment.pieces)
        data = b"".join(piece.data for piece in segment.pieces)
        connection.take(connection.tls.feed(host.direction, data))
        if connection.tls.reason is not None or connection.refusal == NO_SYN:
            host.forget()

    def _settle(self, connection: HostConnection) -> None:
        """Contexts that can be installed now, and reactions that are due."""
        for direction in connection.directions.values():
            if direction.host.ktls is not None and not direction.tried:
                direction.tried = True
                self._install(connection, direction)
            self._react(direction)

    # --- the device -------------------------------------------------------------------------

    def _install(self, connection: HostConnection, direction: ReceiveDirection) -> None:
        kernel = direction.host.ktls
        assert kernel is not None
        if kernel.closed or direction.host.stream.end is not None:
            return
        start, number = kernel.boundary
        handle = offload(
            lambda: self._device.tls_dev_add(
                direction.flow, kernel.info, start, number, kernel.epoch, self._options
            ),
            self._release_idle,
        )
        if isinstance(handle, str):
            connection.refusal = handle
            return
        kernel.installed(handle)
        direction.host.handle = handle
        connection.offloaded = True
        self._by_context[handle.context] = connection, direction
        self._event(direction, "installed", resumed_at=start)

    def _release_idle(self) -> bool:
        """Ends the offload of the direction that needs it least, if there is one.

        A capture need not hold the end of a connection: one that TLS has closed or that was silent
        for long makes room.
        """
        directions = [direction for _, direction in self._by_context.values()]
        for direction in sorted(directions, key=lambda direction: direction.heard):
            closed = direction.host.ktls is not None and direction.host.ktls.closed
            if closed or self._time - direction.heard >= IDLE:
                self._release(direction)
                return True
        return False

    def _release_both(self, connection: HostConnection) -> None:
        for direction in connection.directions.values():
            self._release(direction)

    def _release(self, direction: ReceiveDirection) -> None:
        """Ends the offload of a direction."""
        if direction.host.handle is None:
            return
        self._device.tls_dev_del(direction.host.handle)
        self._by_context.pop(direction.host.handle.context, None)
        direction.host.handle = None
        direction.due.clear()
        if direction.host.ktls is not None:
            direction.host.ktls.installed(None)

    def _take_events(self, events: Iterable[DeviceEvent]) -> None:
        for event in events:
            self._take_event(event)

    def _take_event(self, event: DeviceEvent) -> None:
        owner = self._by_context.get(event.context)
        if (
            owner is None
            or owner[1].host.handle is None
            or (owner[1].host.handle.generation != event.generation)
        ):
            return
        direction = owner[1]
        host, kind = direction.host, EventKind(event.kind)
        assert host.ktls is not None
        where: dict[str, int] = {}
        if kind is EventKind.RESYNC_REQUEST:
            host.counts.resync["requested"] += 1
            where = {"lost_at": event.lost_at, "guess": event.candidate_seq}
        elif kind is EventKind.RESUMED:
            host.counts.proven_by[ProvenBy(event.proven_by)] += 1
            where = {
                "lost_at": event.lost_at,
                "guess": event.candidate_seq,
                "resumed_at": event.resumed_at,
            }
        elif kind is EventKind.PARKED:
            host.counts.parks += 1
            where = {"lost_at": event.seq}
        else:
            where = {"lost_at": event.lost_at or event.seq}
        proven = ProvenBy(event.proven_by).name.lower() if event.proven_by else None
        self._event(direction, kind.name.lower(), proven, **where)
        host.take(host.ktls.device_event(event))

    def _react(self, direction: ReceiveDirection) -> None:
        """Carries out what the kernel asked for, when its time has come."""
        host = direction.host
        while True:
            direction.due += ((host.counts.segments + self._delay, r) for r in host.actions)
            host.actions.clear()
            if not direction.due or direction.due[0][0] > host.counts.segments:
                return
            self._carry_out(direction, direction.due.popleft()[1])
            self._take_events(self._device.events())

    def _carry_out(self, direction: ReceiveDirection, action: KtlsAction) -> None:
        host = direction.host
        handle, kernel = host.handle, host.ktls
        if handle is None or kernel is None:
            return
        if isinstance(action, GoOn):
            self._device.go_on(handle, action.park)
            self._event(direction, "go_on", resumed_at=kernel.start)
        elif isinstance(action, ResyncAnswer):
            confirmed = "refused" if action.number is None else "confirmed"
            host.counts.resync[confirmed] += 1
            self._event(direction, f"resync_{confirmed}", guess=action.seq)
            self._device.tls_dev_resync(handle, action.seq, action.number)
        elif isinstance(action, ResyncHint):
            self._event(direction, "resync_hint", guess=action.seq)
            self._device.resync_hint(handle, action.seq, action.number)
        elif isinstance(action, Rekey):
            self._event(direction, "key_update", resumed_at=action.seq)
            host.handle = self._device.rekey(
                handle, action.keys, action.seq, action.epoch, action.number
            )
            assert host.highest is not None
            kernel.rekeyed(host.handle, host.highest)

    def _event(
        self, direction: ReceiveDirection, kind: str, proven_by: str | None = None, **where: int
    ) -> None:
        """where: TCP sequence numbers."""
        host = direction.host
        offsets = {name: host.stream.offset(tcp_seq) for name, tcp_seq in where.items()}
        self._events.append(
            report_event(
                self._packet,
                self._time,
                host.connection,
                host.direction,
                kind,
                proven_by,
                **offsets,
            )
        )

    # --- results ----------------------------------------------------------------------------

    def report(self, capture: str, engine: str, warnings: Iterable[str] = ()) -> dict[str, Any]:
        """The report; `warnings` are what the capture's reader had to say."""
        errors = [*warnings, *self.errors]
        if self._strangers:
            errors.append(
                f"TCP segments with bad checksums that belong to no connection: {self._strangers}"
            )
        return {
            "schema": SCHEMA,
            "capture": capture,
            "engine": engine,
            **{option.name.lower(): True for option in self._options if option.name},
            "errors": errors,
            "events": self._events,
            "connections": [c.report() for c in self._connections],
        }

    @property
    def offloaded_payload(self) -> int:
        """Bytes of payload, duplicates included, in the segments of offloaded connections."""
        segments = self.trace.segments
        return sum(s.length for s in segments if self._connections[s.connection].offloaded)

    def plaintext(self) -> dict[tuple[int, str], bytes]:
        """The recovered application bytes by connection and direction."""
        return {
            (connection.tcp.index, name): direction.host.plaintext
            for connection in self._connections
            for name, direction in connection.directions.items()
        }


def _by_packet(
    events: Iterable[DeviceEvent], delivered: Sequence[RxPacket]
) -> dict[int, list[DeviceEvent]]:
    """Which packet brought which event: one of its context, by sequence number if there are more.

    What fits no packet belongs to the last one.
    """
    found: dict[int, list[DeviceEvent]] = {}
    for event in events:
        at = len(delivered) - 1
        for i, packet in enumerate(delivered):
            meta = packet.meta
            if not (meta.context_valid and meta.payload_length and meta.context == event.context):
                continue
            at = i
            if seq.add(meta.seq, meta.payload_length) == event.seq:
                break
        found.setdefault(at, []).append(event)
    return found
