# SPDX-License-Identifier: Apache-2.0
"""The receiving hosts of one connection: TCP and TLS library of both, and their two directions."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sealane.hdl.abi.commands import Option

from ...device.rx import Flow
from ...net.tcp import DIRECTIONS, Endpoint, TcpConnection
from ...tls.connection import Connection, InstallKeys, State
from ...tls.keylog import Keylog
from ...tls.records import Record
from ..oracle import ConnectionTruth
from ..trace import Trace
from .host import HostDirection, Reaction

NO_SYN = "no SYN in the capture"


@dataclass
class Way:
    """A direction and what is kept of it beside the host.

    tried: to install a context. marked: the last segment was. heard: when the last one came, in
    seconds. due: what the kernel asked for, with the count of segments at which it is carried out.
    """

    host: HostDirection
    flow: Flow
    tried: bool = False
    marked: bool = False
    heard: float = 0.0
    due: deque[tuple[int, Reaction]] = field(default_factory=deque)


class HostConnection:
    """A connection. refusal: why it has no context, or not two; offloaded: it had one."""

    def __init__(
        self,
        tcp: TcpConnection,
        truth: ConnectionTruth,
        keylog: Keylog,
        sessions: dict[bytes, bytes],
        trace: Trace,
        options: Option = Option.NONE,
    ) -> None:
        self.tcp = tcp
        self.tls = Connection(keylog, sessions, hand_over=tcp.has_syn)
        self.refusal: str | None = None if tcp.has_syn else NO_SYN
        self.offloaded = False
        self.ways: dict[str, Way] = {}
        for way in DIRECTIONS:
            source, target = tcp.client, tcp.server
            if way == "s2c":
                source, target = target, source
            host = HostDirection(
                tcp.index, way, tcp.streams[way], truth[way], self.deliver, trace, options
            )
            self.ways[way] = Way(host, flow_of(source, target))

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
        if self.tls.version is None:
            return "no ServerHello in the capture"
        if not all(way.tried for way in self.ways.values()):
            return "the handshake is not complete in the capture"
        return None if self.offloaded else "over before its keys could be installed"

    def report(self) -> dict[str, Any]:
        """The connection's member of the report."""
        tcp, tls = self.tcp, self.tls
        return {
            "index": tcp.index,
            "client": tcp.client.host,
            "client_port": tcp.client.port,
            "server": tcp.server.host,
            "server_port": tcp.server.port,
            "version": tls.version,
            "cipher": tls.cipher,
            "offloaded": self.offloaded,
            "reason": self.reason,
            **{
                name: {"rx": way.host.report(tls.key_updates(name), tls.leftover(name))}
                for name, way in self.ways.items()
            },
        }


def flow_of(source: Endpoint, target: Endpoint) -> Flow:
    """The flow of what `source` sends to `target`."""
    address = IPv6Address if source.ipv6 else IPv4Address
    return Flow(address(source.address), address(target.address), source.port, target.port)
