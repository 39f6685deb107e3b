# SPDX-License-Identifier: Apache-2.0
"""The software truth of a capture: every connection decrypted with software AEAD alone.

What the engine and the kernel's TLS give out is compared with this. It shares the handshake code
with the replay's host TLS library, and nothing with marks, metadata or the device.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sealane.hdl.abi.config import Config

from ..net.parser import Parsed, parse
from ..net.tcp import DIRECTIONS, ConnectionTable, TcpConnection
from ..tls.connection import Connection, InstallKeys
from ..tls.keylog import Keylog
from ..tls.records import APPLICATION_DATA, Outcome, Record
from .capture import Packet


class HostConfig(Config):
    """A parser's parameters for the host, which reads frames of any length."""

    def __post_init__(self) -> None:
        # No ring of a device is meant; frames joined by the host's own offloads reach 64 KiB.
        object.__setattr__(self, "max_frame", 1 << 17)


HOST = HostConfig()


@dataclass
class DirectionTruth:
    """One direction, decrypted.

    app_records: application data accepted, early data and empty records too. other_records:
    accepted records of other types. refused_records: records that failed (at most one, nothing
    behind it is read). leftover_bytes: bytes in order of which no record was made.
    """

    records: list[Record] = field(default_factory=list)
    installs: list[InstallKeys] = field(default_factory=list)
    stream_bytes: int = 0
    key_updates: int = 0
    leftover_bytes: int = 0

    def accepted(self, application: bool) -> list[Record]:
        """Accepted records with application data, or all others."""
        return [
            record
            for record in self.records
            if record.outcome is Outcome.OK
            and (record.inner_type == APPLICATION_DATA) == application
        ]

    @property
    def app_bytes(self) -> bytes:
        """The application's bytes."""
        return b"".join(record.plaintext for record in self.accepted(True))

    @property
    def app_sha256(self) -> str:
        """Their SHA-256 in hexadecimal."""
        return hashlib.sha256(self.app_bytes).hexdigest()

    @property
    def app_records(self) -> int:
        return len(self.accepted(True))

    @property
    def other_records(self) -> int:
        return len(self.accepted(False))

    @property
    def refused_records(self) -> int:
        failed = (Outcome.BAD_TAG, Outcome.REFUSED)
        return sum(record.outcome in failed for record in self.records)


@dataclass
class ConnectionTruth:
    """One connection, decrypted."""

    tcp: TcpConnection
    tls: Connection
    c2s: DirectionTruth = field(default_factory=DirectionTruth)
    s2c: DirectionTruth = field(default_factory=DirectionTruth)

    def __getitem__(self, direction: str) -> DirectionTruth:
        return self.c2s if direction == "c2s" else self.s2c

    @property
    def offloadable(self) -> bool:
        """Whether a card may be given its keys: a SYN, AES-GCM, and a handshake that was read."""
        return (
            self.tcp.has_syn
            and self.tls.offloadable
            and bool(self.c2s.installs or self.s2c.installs)
        )


def decode_capture(
    packets: Iterable[Packet], keylog: Keylog, parsed: Iterable[Parsed] | None = None
) -> list[ConnectionTruth]:
    """Every TCP connection of a capture, in the order of their SYNs.

    parsed: what the host reads in each packet, where that is known already.
    """
    table = ConnectionTable()
    truths: list[ConnectionTruth] = []
    sessions: dict[bytes, bytes] = {}
    packets = list(packets)
    heads = (parse(packet.frame, HOST) for packet in packets) if parsed is None else parsed
    for packet, head in zip(packets, heads, strict=True):
        segment = table.accept(packet.index, head, packet.frame)
        while len(truths) < len(table.connections):
            truths.append(
                ConnectionTruth(table.connections[len(truths)], Connection(keylog, sessions))
            )
        if segment is None or not segment.pieces:
            continue
        truth = truths[segment.connection.index]
        data = b"".join(piece.data for piece in segment.pieces)
        truth[segment.direction].stream_bytes += len(data)
        for event in truth.tls.feed(segment.direction, data):
            if isinstance(event, Record):
                truth[event.direction].records.append(event)
            else:
                truth[event.direction].installs.append(event)
    for truth in truths:
        for direction in DIRECTIONS:
            truth[direction].key_updates = truth.tls.key_updates(direction)
            truth[direction].leftover_bytes = truth.tls.leftover(direction)
    return truths
