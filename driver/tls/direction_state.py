# SPDX-License-Identifier: Apache-2.0
"""What a TLS connection consists of: the keys it gives away, its handshakes and its directions."""

from dataclasses import dataclass, field
from enum import Enum

from .hello import Hello
from .key_schedule import TrafficKeys
from .protection import Protection
from .records import HandshakeReader, Record, RecordDecoder
from .suites import Suite


@dataclass(frozen=True)
class InstallKeys:
    """Keys of a direction from a record on, its handshake being complete.

    offset: stream offset of the first record's header; number: its record number; epoch: key
    changes of the direction so far.
    """

    direction: str
    offset: int
    protection: Protection = field(repr=False)
    number: int
    epoch: int

    @property
    def suite(self) -> Suite:
        """The cipher suite."""
        return self.protection.suite

    @property
    def tls13(self) -> bool:
        """TLS 1.3, else 1.2."""
        return self.protection.tls13

    @property
    def keys(self) -> TrafficKeys:
        """Key and IV (TLS 1.2 AES-GCM: the salt)."""
        return self.protection.keys


Event = Record | InstallKeys


class State(Enum):
    """Of one direction."""

    PRELUDE = "prelude"  # no hello yet
    OPEN = "open"
    HANDED_OVER = "handed over"
    CLOSED = "closed"  # close_notify or a fatal alert
    FAILED = "failed"  # a record failed: nothing behind it is given out
    GIVEN_UP = "given up"  # no TLS, or none that can be followed


@dataclass
class Exchange:
    """One handshake; a renegotiation (TLS 1.2) is another."""

    client: Hello | None = None
    server: Hello | None = None


class DirectionState:
    """State of one direction."""

    def __init__(self, direction: str) -> None:
        self.direction = direction
        self.decoder = RecordDecoder(direction)
        self.reader = HandshakeReader()
        self.state = State.PRELUDE
        self.exchange = 0
        self.finished = False  # the handshake of the current keys is complete
        self.lenient = False  # records that fail are left out until one opens
        self.change_at: int | None = None  # handed over: a ChangeCipherSpec waits for the peer
        self.key_updates = 0
