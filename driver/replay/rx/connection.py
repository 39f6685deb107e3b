# SPDX-License-Identifier: Apache-2.0
"""The receiving hosts of one connection: TCP and TLS library of both, and their two directions."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sealane.hdl.abi.commands import Option

from ...device.rx import Flow
from ...net.tcp import DIRECTIONS, TcpConnection
from ...tls.connection import InstallKeys, State
from ...tls.keylog import Keylog
from ...tls.records import Record
from ..hosts import NO_SYN, Hosts
from ..oracle import ConnectionTruth
from ..trace import Trace
from .host import HostDirection, KtlsAction


@dataclass
class ReceiveDirection:
    """A direction and what is kept of it beside the host.

    tried: to install a context. marked: the last segment was. heard: when the last one came, in
    seconds. due: what the kernel asked for, with the count of segments at which it is carried out.
    """

    host: HostDirection
    flow: Flow
    tried: bool = False
    marked: bool = False
    heard: float = 0.0
    due: deque[tuple[int, KtlsAction]] = field(default_factory=deque)


class HostConnection(Hosts):
    """The receiving hosts. refusal: why the connection has no context, or not two."""

    def __init__(
        self,
        tcp: TcpConnection,
        truth: ConnectionTruth,
        keylog: Keylog,
        sessions: dict[bytes, bytes],
        trace: Trace,
        options: Option = Option.NONE,
    ) -> None:
        super().__init__(tcp, keylog, sessions)
        self.refusal: str | None = None if tcp.has_syn else NO_SYN
        self.directions: dict[str, ReceiveDirection] = {}
        for direction in DIRECTIONS:
            host = HostDirection(
                tcp.index,
                direction,
                tcp.streams[direction],
                truth[direction],
                self.deliver,
                trace,
                options,
            )
            self.directions[direction] = ReceiveDirection(host, self.flow(direction))

    def late_syn(self) -> None:
        """The SYN may have been captured behind the SYN-ACK; nothing is lost before any payload."""
        streams = self.tcp.streams.values()
        if self.refusal == NO_SYN and self.tcp.has_syn and not any(s.next for s in streams):
            self.refusal, self.tls.hand_over = None, True

    def deliver(self, direction: str, inner_type: int, plaintext: bytes, end: int) -> None:
        """A record to the TLS library; takes the keys that come of it."""
        self.take(self.tls.deliver(direction, inner_type, plaintext, end))

    def take(self, events: Iterable[Record | InstallKeys]) -> None:
        """What the TLS library gave out."""
        for event in events:
            host = self.directions[event.direction].host
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
            direction.host.ktls is not None and not direction.host.ktls.waiting_for_keys
            for direction in self.directions.values()
        )

    @property
    def reason(self) -> str | None:
        """Why the connection was not offloaded, or not in both directions."""
        if self.refusal or self.tls.reason:
            return self.refusal or self.tls.reason
        if self.tls.version is None:
            return "no ServerHello in the capture"
        if not all(direction.tried for direction in self.directions.values()):
            return "the handshake is not complete in the capture"
        return None if self.offloaded else "over before its keys could be installed"

    def report(self) -> dict[str, Any]:
        """The connection's member of the report."""
        return super().report() | {
            name: {"rx": direction.host.report(self.tls.key_updates(name), self.tls.leftover(name))}
            for name, direction in self.directions.items()
        }
