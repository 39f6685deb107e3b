# SPDX-License-Identifier: Apache-2.0
"""Replays a capture through a device, with a host behind it. Sans-IO; yields the report.

Both directions are receive flows of one card: each is replayed as if the card sat at its
receiver. Packets go through the device in the order of the capture; what comes out goes to the
host's TCP, to a TLS library until a direction's keys are known, and then to the kernel's TLS. What
the driver does about a packet (install a context, answer, go on, rekey) is done before the next
packet of that flow is given to the device.

Packets that cannot cause a command may be in the device together. Which ones are is decided from
the capture and from what has been processed, never from timing, so that every engine sees the
same order of packets and commands and the reports are the same.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason

from . import seq as sequence
from .capture import Packet
from .descriptors import DeviceEvent, RxPacket
from .device import Device, Flow, OffloadRefused
from .flowtable import FlowTableError
from .host import HostDirection, Reaction
from .keylog import Keylog
from .ktls import GoOn, Rekey, ResyncAnswer, ResyncHint
from .model.parser import FIN, RST, SYN, Parsed, parse
from .oracle import HOST, ConnectionTruth, DirectionTruth, decode_capture
from .tcp import DIRECTIONS, ConnectionTable, Endpoint, Segment, TcpConnection
from .tls.connection import Connection, InstallKeys, State
from .tls.records import APPLICATION_DATA, Outcome, Record
from .trace import SegmentTrace, Trace
from .transport import Transport

SCHEMA = "sealane.replay/1"
NO_SYN = "no SYN in the capture"
BATCH = 32  # packets in the device together
LOUD = 12  # of them that may bring events, so that the event queue holds all


class Quiet:
    """Where in a direction's stream nothing happens but application data that authenticates.

    Known beforehand from the software truth; only a question of speed.
    """

    def __init__(self, truth: DirectionTruth) -> None:
        self._records = [
            (r.offset, r.end, r.outcome is Outcome.OK and r.inner_type == APPLICATION_DATA)
            for r in truth.records
        ]
        self._starts = [start for start, _, _ in self._records]

    def __call__(self, start: int, end: int) -> bool:
        """Whether [start, end) lies in such records only."""
        at = bisect_right(self._starts, start) - 1
        while at >= 0 and start < end:
            if at == len(self._records) or not self._records[at][2]:
                return False
            start = self._records[at][1]
            at += 1
        return at >= 0


@dataclass
class _Way:
    """A direction and what the runner keeps of it."""

    host: HostDirection
    quiet: Quiet
    flow: Flow
    tried: bool = False  # to install a context
    marked: bool = False  # the last segment was
    due: deque[tuple[int, Reaction]] = field(default_factory=deque)


class _Connection:
    """A connection: TCP, TLS library, two directions."""

    def __init__(
        self, tcp: TcpConnection, truth: ConnectionTruth, keylog: Keylog,
        sessions: dict[bytes, bytes], trace: Trace,
    ) -> None:
        self.tcp = tcp
        self.tls = Connection(keylog, sessions, hand_over=tcp.has_syn)
        self.refusal: str | None = None if tcp.has_syn else NO_SYN
        self.offloaded = False
        self.ways: dict[str, _Way] = {}
        for way in DIRECTIONS:
            source, target = tcp.client, tcp.server
            if way == "s2c":
                source, target = target, source
            host = HostDirection(
                tcp.index, way, tcp.streams[way], truth[way], self.deliver, trace
            )
            self.ways[way] = _Way(host, Quiet(truth[way]), _flow(source, target))

    def deliver(self, direction: str, inner_type: int, plaintext: bytes, end: int) -> None:
        """A record to the TLS library; takes the keys that come of it."""
        self.take(self.tls.deliver(direction, inner_type, plaintext, end))

    def take(self, events: Iterable[Record | InstallKeys]) -> None:
        """What the TLS library gave out."""
        for event in events:
            host = self.ways[event.direction].host
            if isinstance(event, Record):
                host.library_record(event)
            elif host.ktls is not None:
                if event.suite.offloadable:
                    host.new_keys(event)
                else:
                    self.refusal = f"renegotiated {event.suite.name}, which kTLS does not do"
            elif self.tls.state(event.direction) is State.HANDED_OVER:
                host.hand_over(event)

    @property
    def settled(self) -> bool:
        """Packets of one direction can cause no command for the other."""
        if self.refusal == NO_SYN or self.tls.reason is not None:
            return True
        return all(
            way.host.ktls is not None and not way.host.ktls.waiting_for_keys
            for way in self.ways.values()
        )

    @property
    def reason(self) -> str | None:
        """Why the connection was not offloaded, or not in both directions."""
        if self.refusal or self.tls.reason:
            return self.refusal or self.tls.reason
        if not all(way.tried for way in self.ways.values()):
            return "the handshake is not complete in the capture"
        return None if self.offloaded else "over before its keys could be installed"


class Replay:
    """One capture through one device.

    confirm_delay: segments of a direction that pass before the driver's reactions are carried out.
    """

    def __init__(
        self, transport: Transport, keylog: Keylog, confirm_delay: int = 0,
        config: Config | None = None,
    ) -> None:
        self.trace = Trace()
        self.errors: list[str] = []
        self._device = Device(transport, config)
        self._keylog = keylog
        self._delay = confirm_delay
        self._table = ConnectionTable()
        self._connections: list[_Connection] = []
        self._by_pair: dict[tuple[Endpoint, Endpoint], _Connection] = {}
        self._by_context: dict[int, tuple[_Connection, _Way]] = {}
        self._sessions: dict[bytes, bytes] = {}
        self._events: list[dict[str, Any]] = []
        self._packet = 0
        self._time = 0.0

    # --- running ----------------------------------------------------------------------------

    def run(
        self, packets: Sequence[Packet], progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Everything. `progress` is told how many packets have been processed.

        Raises what the transport and the device raise: `TimeoutError`, `DeviceError`.
        """
        truths = decode_capture(packets, self._keylog)
        parsed = [parse(packet.frame, HOST) for packet in packets]
        at = 0
        while at < len(packets):
            end = self._batch(parsed, at)
            delivered = self._device.receive(p.frame for p in packets[at:end])
            events = _by_packet(self._device.events(), delivered)
            for i, (packet, head) in enumerate(zip(packets[at:end], parsed[at:end], strict=True)):
                self._packet, self._time = packet.index, packet.time - packets[0].time
                self._receive(packet, head, delivered[i], events.get(i, []), truths)
            at = end
            progress(at)

    def _batch(self, parsed: Sequence[Parsed], start: int) -> int:
        """How far packets from `start` on may be in the device together."""
        busy: dict[tuple[Endpoint, Endpoint], set[int]] = {}
        ends: dict[int, int] = {}  # by flow key: sequence number behind the last quiet segment
        loud = 0
        for at in range(start, min(start + BATCH, len(parsed))):
            head = parsed[at]
            if not head.is_tcp or not head.checksum_ok:
                continue
            opens_or_ends = bool(head.tcp_flags & (SYN | RST | FIN))
            if not head.payload_length and not opens_or_ends:
                continue
            pair = _pair(head)
            keys = busy.setdefault(pair, set())
            connection = self._by_pair.get(pair)
            if keys and (opens_or_ends or connection is None or not connection.settled):
                return at
            behind = sequence.add(head.seq, head.payload_length)
            if self._is_quiet(connection, head, ends.get(head.key)):
                ends[head.key] = behind
            elif head.key in keys or loud == LOUD:
                return at
            else:
                loud += 1
            keys.add(head.key)
            if opens_or_ends:
                return at + 1
        return min(start + BATCH, len(parsed))

    def _is_quiet(self, connection: _Connection | None, head: Parsed, end: int | None) -> bool:
        """In order, behind a marked segment, and only application data: no command can follow."""
        if connection is None or not connection.settled:
            return False
        way = connection.ways[connection.tcp.direction(_ends(head)[0])]
        stream = way.host.stream
        if not way.marked or way.due or stream.waiting_bytes:
            return False
        if head.seq != (stream.sequence(stream.next) if end is None else end):
            return False
        offset = stream.offset(head.seq)
        return way.quiet(offset, offset + head.payload_length)

    # --- one packet -------------------------------------------------------------------------

    def _receive(
        self, packet: Packet, head: Parsed, out: RxPacket, events: list[DeviceEvent],
        truths: list[ConnectionTruth],
    ) -> None:
        if not out.marked and out.frame != packet.frame:
            self.errors.append(f"packet {packet.index} came back changed and not marked")
            head = parse(out.frame, HOST)
        known = len(self._table.connections)
        segment = None
        if head.is_tcp and head.checksum_ok:
            source, target = _ends(head)
            segment = self._table.segment(
                packet.index, source, target, head.seq, head.tcp_flags, out.payload
                if out.marked else out.frame[head.payload_offset :][: head.payload_length],
            )
        for tcp in self._table.connections[known:]:
            self._open(tcp, truths[tcp.index])
        if segment is None:
            self._dropped(head, out)
            self._take_events(events)
            return
        connection = self._connections[segment.connection.index]
        way = connection.ways[segment.direction]
        if segment.length:
            way.marked = out.marked
            way.host.segment(out, packet.index, segment.length)
            self._trace_segment(connection, segment, out)
        self._take_events(events)
        self._deliver(connection, way, segment)
        self._settle(connection)
        if way.host.stream.end is not None:
            self._release(way)

    def _dropped(self, head: Parsed, out: RxPacket) -> None:
        """A segment that TCP dropped counts for the connection that its addresses name."""
        connection = self._by_pair.get(_pair(head)) if head.is_tcp else None
        if connection is None or not head.payload_length or head.checksum_ok:
            return
        way = connection.ways[connection.tcp.direction(_ends(head)[0])]
        way.host.counts.segments += 1
        way.host.counts.reasons[Reason(out.meta.reason)] += 1
        offset = way.host.stream.offset(head.seq)
        segment = Segment(connection.tcp, way.host.way, offset, head.payload_length, [])
        self._trace_segment(connection, segment, out)

    def _trace_segment(self, connection: _Connection, segment: Segment, out: RxPacket) -> None:
        outcome = "decrypted" if out.marked else Reason(out.meta.reason).name.lower()
        self.trace.segments.append(SegmentTrace(
            self._packet, self._time, connection.tcp.index, segment.direction, segment.offset,
            segment.length, outcome,
        ))

    def _open(self, tcp: TcpConnection, truth: ConnectionTruth) -> None:
        connection = _Connection(tcp, truth, self._keylog, self._sessions, self.trace)
        self._connections.append(connection)
        pair = (min(tcp.client, tcp.server), max(tcp.client, tcp.server))
        former = self._by_pair.get(pair)
        if former is not None:
            for way in former.ways.values():
                self._release(way)
        self._by_pair[pair] = connection

    def _deliver(self, connection: _Connection, way: _Way, segment: Segment) -> None:
        """In-order bytes to whoever reads the direction's stream."""
        host = way.host
        if host.ktls is not None:
            host.to_kernel(segment.pieces)
            return
        host.to_library(segment.pieces)
        data = b"".join(piece.data for piece in segment.pieces)
        connection.take(connection.tls.feed(host.way, data))
        if connection.tls.reason is not None or connection.refusal == NO_SYN:
            host.forget()

    def _settle(self, connection: _Connection) -> None:
        """Contexts that can be installed now, and reactions that are due."""
        for way in connection.ways.values():
            if way.host.ktls is not None and not way.tried:
                way.tried = True
                self._install(connection, way)
            self._react(connection, way)

    # --- the device -------------------------------------------------------------------------

    def _install(self, connection: _Connection, way: _Way) -> None:
        kernel = way.host.ktls
        assert kernel is not None
        if kernel.closed or way.host.stream.end is not None:
            return
        seq, number = kernel.boundary
        try:
            handle = self._device.tls_dev_add(way.flow, kernel.info, seq, number, kernel.epoch)
        except (OffloadRefused, FlowTableError) as error:
            full = isinstance(error, FlowTableError)
            connection.refusal = f"flow table full: {error}" if full else str(error)
            return
        kernel.installed(handle)
        way.host.handle = handle
        connection.offloaded = True
        self._by_context[handle.context] = connection, way
        self._event(way, "installed", resumed_at=seq)

    def _release(self, way: _Way) -> None:
        """Ends the offload of a direction."""
        if way.host.handle is None:
            return
        self._device.tls_dev_del(way.host.handle)
        self._by_context.pop(way.host.handle.context, None)
        way.host.handle = None
        way.due.clear()
        if way.host.ktls is not None:
            way.host.ktls.installed(None)

    def _take_events(self, events: Iterable[DeviceEvent]) -> None:
        for event in events:
            self._take_event(event)

    def _take_event(self, event: DeviceEvent) -> None:
        owner = self._by_context.get(event.context)
        if owner is None or owner[1].host.handle is None or (
            owner[1].host.handle.generation != event.generation
        ):
            return
        way = owner[1]
        host, kind = way.host, EventKind(event.kind)
        assert host.ktls is not None
        where: dict[str, int] = {}
        if kind is EventKind.RESYNC_REQUEST:
            host.counts.resync["requested"] += 1
            where = {"lost_at": event.lost_at, "guess": event.guess}
        elif kind is EventKind.RESUMED:
            host.counts.proven_by[ProvenBy(event.proven_by)] += 1
            where = {
                "lost_at": event.lost_at, "guess": event.guess, "resumed_at": event.resumed_at,
            }
        elif kind is EventKind.PARKED:
            host.counts.parks += 1
            where = {"lost_at": event.seq}
        else:
            where = {"lost_at": event.lost_at or event.seq}
        proven = ProvenBy(event.proven_by).name.lower() if event.proven_by else None
        self._event(way, kind.name.lower(), proven, **where)
        host.take(host.ktls.device_event(event))

    def _react(self, connection: _Connection, way: _Way) -> None:
        """Carries out what the kernel asked for, when its time has come."""
        host = way.host
        while True:
            way.due += ((host.counts.segments + self._delay, r) for r in host.reactions)
            host.reactions.clear()
            if not way.due or way.due[0][0] > host.counts.segments:
                return
            self._carry_out(way, way.due.popleft()[1])
            self._take_events(self._device.events())

    def _carry_out(self, way: _Way, reaction: Reaction) -> None:
        host = way.host
        handle, kernel = host.handle, host.ktls
        if handle is None or kernel is None:
            return
        if isinstance(reaction, GoOn):
            self._device.go_on(handle, reaction.park)
            self._event(way, "go_on", resumed_at=kernel.start)
        elif isinstance(reaction, ResyncAnswer):
            confirmed = "refused" if reaction.number is None else "confirmed"
            host.counts.resync[confirmed] += 1
            self._event(way, f"resync_{confirmed}", guess=reaction.seq)
            self._device.tls_dev_resync(handle, reaction.seq, reaction.number)
        elif isinstance(reaction, ResyncHint):
            self._event(way, "resync_hint", guess=reaction.seq)
            self._device.resync_hint(handle, reaction.seq, reaction.number)
        elif isinstance(reaction, Rekey):
            self._event(way, "key_update", resumed_at=reaction.seq)
            host.handle = self._device.rekey(
                handle, reaction.keys, reaction.seq, reaction.epoch, reaction.number
            )
            assert host.highest is not None
            kernel.rekeyed(host.handle, host.highest)

    def _event(self, way: _Way, kind: str, proven_by: str | None = None, **where: int) -> None:
        stream = way.host.stream
        self._events.append({
            "packet": self._packet, "time": round(self._time, 6),
            "connection": way.host.connection, "dir": way.host.way, "kind": kind,
            **{
                name: stream.offset(where[name]) if name in where else None
                for name in ("lost_at", "guess")
            },
            "proven_by": proven_by,
            "resumed_at": stream.offset(where["resumed_at"]) if "resumed_at" in where else None,
        })

    # --- results ----------------------------------------------------------------------------

    def report(self, capture: str, engine: str, warnings: Iterable[str] = ()) -> dict[str, Any]:
        """The report; `warnings` are what the capture's reader had to say."""
        return {
            "schema": SCHEMA, "capture": capture, "engine": engine,
            "errors": [*warnings, *self.errors], "events": self._events,
            "connections": [self._connection_report(c) for c in self._connections],
        }

    @staticmethod
    def _connection_report(connection: _Connection) -> dict[str, Any]:
        tcp, tls = connection.tcp, connection.tls
        return {
            "index": tcp.index,
            "client": tcp.client.host, "client_port": tcp.client.port,
            "server": tcp.server.host, "server_port": tcp.server.port,
            "version": tls.version, "cipher": tls.cipher,
            "offloaded": connection.offloaded, "reason": connection.reason,
            **{
                name: {"rx": way.host.report(tls.key_updates(name), tls.leftover(name))}
                for name, way in connection.ways.items()
            },
        }

    @property
    def offloaded_payload(self) -> int:
        """Bytes of payload, duplicates included, in the segments of offloaded connections."""
        offloaded = {c.tcp.index for c in self._connections if c.offloaded}
        return sum(s.length for s in self.trace.segments if s.connection in offloaded)

    def plaintext(self) -> dict[tuple[int, str], bytes]:
        """The recovered application bytes by connection and direction."""
        return {
            (connection.tcp.index, name): way.host.plaintext
            for connection in self._connections
            for name, way in connection.ways.items()
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
            if sequence.add(meta.seq, meta.payload_length) == event.seq:
                break
        found.setdefault(at, []).append(event)
    return found


def _ends(head: Parsed) -> tuple[Endpoint, Endpoint]:
    return (
        Endpoint(head.ipv6, head.src, head.sport), Endpoint(head.ipv6, head.dst, head.dport)
    )


def _pair(head: Parsed) -> tuple[Endpoint, Endpoint]:
    source, target = _ends(head)
    return min(source, target), max(source, target)


def _flow(source: Endpoint, target: Endpoint) -> Flow:
    address = IPv6Address if source.ipv6 else IPv4Address
    return Flow(address(source.address), address(target.address), source.port, target.port)
