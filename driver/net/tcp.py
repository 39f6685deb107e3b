# SPDX-License-Identifier: Apache-2.0
"""TCP reassembly as the receiving host does it (RFC 9293), and which connection a segment is of.

Bytes of a stream are counted from the one behind the SYN, without end (sequence numbers wrap at
2^32, stream offsets do not). Of bytes that come twice the first stay. Every byte remembers the
packet that it came from. Only segments with good checksums may come in.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from . import seq
from .parser import FIN, RST, SYN, Parsed

ACK = 16
DIRECTIONS = ("c2s", "s2c")
# How far ahead of the in-order bytes a segment may lie. A receive window rarely gets this large,
# and a segment of an earlier connection of the same ports rarely gets inside.
WINDOW = 1 << 24
MODULUS = 1 << 32


def peer(direction: str) -> str:
    """The other direction."""
    return "s2c" if direction == "c2s" else "c2s"


@dataclass(frozen=True)
class Piece:
    """Bytes of a stream that came in one packet: `data` at stream offset `offset`."""

    offset: int
    data: bytes = field(repr=False)
    packet: int

    @property
    def end(self) -> int:
        """Stream offset behind the last byte."""
        return self.offset + len(self.data)

    def cut(self, start: int, end: int) -> "Piece":
        """The part of it in [start, end)."""
        return Piece(start, self.data[start - self.offset : end - self.offset], self.packet)


class Stream:
    """One direction: puts segments in order.

    base: sequence number of stream offset 0, `None` before a segment was seen.
    next: stream offset of the first byte that is missing.
    end: stream offset behind the last byte, once FIN or RST was reached in order.
    ignored: segments out of the window or behind the end.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.base: int | None = None
        self.next = 0
        self.end: int | None = None
        self.fin: int | None = None
        self.reset = False
        self.ignored = 0
        self._synchronised = False
        self._starts: list[int] = []  # of _waiting, sorted
        self._waiting: dict[int, Piece] = {}  # by start; no two overlap

    @property
    def waiting_bytes(self) -> int:
        """Bytes behind a hole."""
        return sum(len(piece.data) for piece in self._waiting.values())

    def sequence(self, offset: int) -> int:
        """The sequence number of a stream offset."""
        return seq.add(self.base or 0, offset)

    def offset(self, sequence: int) -> int:
        """The stream offset, nearest to `next`, of a sequence number; may be negative."""
        return self.next + seq.distance(sequence, self.sequence(self.next))

    def accept(self, seq: int, payload: bytes, flags: int, packet: int) -> list[Piece]:
        """A segment; returns the pieces that are in order now, gapless from the former `next`."""
        if flags & SYN:
            seq = (seq + 1) % MODULUS
            if not self._synchronised and self.next == 0 and seq != self.base:
                # What came before may be a late segment of an earlier connection.
                self.base, self.end, self.fin, self.reset = seq, None, None, False
                self._starts.clear()
                self._waiting.clear()
            self._synchronised = True
        if self.base is None:
            self.base = seq
        start = self.offset(seq)
        end = start + len(payload)
        if (
            self.end is not None
            or not start - self.next > -MODULUS // 4
            or (end > self.next + self.window)
        ):
            self.ignored += 1
            return []
        if flags & RST:
            # RFC 5961 section 3.2: only the exact number resets.
            if start == self.next:
                self.reset, self.end = True, self.next
            return []
        if flags & FIN and self.fin is None and end >= self.next:
            self.fin = end
        self._insert(Piece(start, payload, packet))
        return self._release()

    def _insert(self, new: Piece) -> None:
        """Keeps those bytes of `new` that nobody brought yet."""
        at = max(new.offset, self.next)
        index = bisect_left(self._starts, at)
        if index and self._waiting[self._starts[index - 1]].end > at:
            at = self._waiting[self._starts[index - 1]].end
        while at < new.end:
            following = self._starts[index] if index < len(self._starts) else new.end
            if following > at:
                self._waiting[at] = new.cut(at, min(following, new.end))
                self._starts.insert(index, at)
                index += 1
            if following >= new.end:
                return
            at = self._waiting[following].end
            index += 1

    def _release(self) -> list[Piece]:
        pieces = []
        while self._starts and self._starts[0] == self.next:
            piece = self._waiting.pop(self._starts.pop(0))
            if self.fin is not None and piece.end > self.fin:
                piece = piece.cut(piece.offset, max(self.fin, piece.offset))
            if not piece.data:
                break
            pieces.append(piece)
            self.next = piece.end
        if self.fin is not None and self.next >= self.fin:
            self.end = self.next
            self._starts.clear()
            self._waiting.clear()
        return pieces


class TcpConnection:
    """One connection: who, and two streams.

    index: number of the connection in the capture. has_syn: its SYN (not only a SYN-ACK) was seen
    before any payload; without it the stream's beginning is a guess.
    """

    def __init__(self, index: int, client: "Endpoint", server: "Endpoint", packet: int) -> None:
        self.index = index
        self.client = client
        self.server = server
        self.first_packet = packet
        self.has_syn = False
        self.streams = {direction: Stream() for direction in DIRECTIONS}

    @property
    def closed(self) -> bool:
        """Reset, or both sides have sent all."""
        streams = self.streams.values()
        return any(s.reset for s in streams) or all(s.fin is not None for s in streams)

    def direction(self, source: "Endpoint") -> str:
        """The direction of what `source` sends."""
        return "c2s" if source == self.client else "s2c"


@dataclass(frozen=True, order=True)
class Endpoint:
    """Address and port of one side."""

    ipv6: bool
    address: int
    port: int

    @property
    def host(self) -> str:
        """The address as text."""
        return str(IPv6Address(self.address) if self.ipv6 else IPv4Address(self.address))


Pair = tuple[Endpoint, Endpoint]


def ends(parsed: Parsed) -> Pair:
    """Sender and receiver of a segment."""
    return (
        Endpoint(parsed.ipv6, parsed.src, parsed.sport),
        Endpoint(parsed.ipv6, parsed.dst, parsed.dport),
    )


def pair(one: Endpoint, other: Endpoint) -> Pair:
    """The two in an order that both directions share."""
    return min(one, other), max(one, other)


@dataclass(frozen=True)
class Segment:
    """What came of one packet.

    offset: stream offset of the payload's first byte (negative: before the stream's beginning).
    pieces: what is in order now, in order, of this and earlier packets.
    """

    connection: TcpConnection
    direction: str
    offset: int
    length: int
    pieces: list[Piece] = field(repr=False)


class ConnectionTable:
    """All connections of a capture, in the order of their first packets."""

    def __init__(self) -> None:
        self.connections: list[TcpConnection] = []
        self._current: dict[Pair, TcpConnection] = {}
        # SYNs that may begin a new connection while the old one is not over: packet, ISN, sender.
        self._asking: dict[Pair, tuple[int, int, Endpoint]] = {}
        self._isns: dict[Pair, set[int]] = {}

    def accept(self, packet: int, parsed: Parsed, frame: bytes) -> Segment | None:
        """A packet's segment, or `None` if it is no sound TCP segment or of no connection."""
        if not parsed.is_tcp or not parsed.checksum_ok:
            return None
        source, target = ends(parsed)
        payload = frame[parsed.payload_offset : parsed.payload_offset + parsed.payload_length]
        return self.segment(packet, source, target, parsed.seq, parsed.tcp_flags, payload)

    def segment(
        self, packet: int, source: Endpoint, target: Endpoint, seq: int, flags: int, payload: bytes
    ) -> Segment | None:
        """The same with the fields of the segment."""
        connection = self._find(packet, source, target, seq, flags, payload)
        if connection is None:
            return None
        direction = connection.direction(source)
        stream = connection.streams[direction]
        pieces = stream.accept(seq, payload, flags, packet)
        start = stream.offset(seq + 1 if flags & SYN else seq)
        return Segment(connection, direction, start, len(payload), pieces)

    def _find(
        self, packet: int, source: Endpoint, target: Endpoint, seq: int, flags: int, payload: bytes
    ) -> TcpConnection | None:
        """The segment's connection; a new one where it begins one."""
        both = pair(source, target)
        connection = self._current.get(both)
        asking = self._asking.get(both)
        if flags & SYN and not flags & ACK and not flags & RST:
            isns = self._isns.setdefault(both, set())
            if connection is not None and seq in isns:
                # A retransmission, or a late copy of an earlier connection's SYN.
                known = connection.streams[connection.direction(source)].base
                return connection if known == (seq + 1) % MODULUS else None
            if connection is not None and not connection.has_syn and source == connection.client:
                own = connection.streams["c2s"]
                if own.base is None or own.base == (seq + 1) % MODULUS:
                    isns.add(seq)
                    connection.has_syn = own.next == 0
                    return connection
            if (
                connection is None
                or connection.closed
                or (connection.streams[connection.direction(target)].base is None)
            ):
                return self._open(source, target, packet, seq)
            # Real hosts answer with a challenge ACK unless the old connection is gone.
            self._asking[both] = (packet, seq, source)
            return None
        if asking is not None and connection is not None:
            first, isn, client = asking
            answered = (
                flags & SYN
                and source != client
                and (connection.streams[connection.direction(source)].base != (seq + 1) % MODULUS)
            )
            if answered or (source == client and seq == (isn + 1) % MODULUS and flags & ACK):
                other = target if source == client else source
                return self._open(client, other, first, isn)
        if connection is None:
            if flags & RST:
                return None
            # In mid-stream: a SYN-ACK comes from the server, and servers have the known ports.
            from_server = bool(flags & SYN) or source.port < 1024 <= target.port
            client, server = (target, source) if from_server else (source, target)
            return self._open(client, server, packet, None)
        return connection

    def _open(
        self, client: Endpoint, server: Endpoint, packet: int, isn: int | None
    ) -> TcpConnection:
        both = pair(client, server)
        connection = TcpConnection(len(self.connections), client, server, packet)
        if isn is not None:
            connection.has_syn = True
            connection.streams["c2s"].base = (isn + 1) % MODULUS
            self._isns.setdefault(both, set()).add(isn)
        self._asking.pop(both, None)
        self.connections.append(connection)
        self._current[both] = connection
        return connection
