# SPDX-License-Identifier: Apache-2.0
"""What both replays have: connections and who they are between, keys, contexts, the report's
events."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, TypeVar

from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13

from ..crypto.keys import CryptoInfo
from ..device.contexts import OffloadRefused
from ..device.descriptors import Handle
from ..device.flowtable import FlowTableError
from ..device.rx import Flow
from ..net.tcp import ConnectionTable, Pair, TcpConnection, pair
from ..tls.connection import Connection, InstallKeys
from ..tls.keylog import Keylog

SCHEMA = "sealane.replay/1"
IDLE = 60.0  # seconds of silence after which a context may be given to another connection
NO_SYN = "no SYN in the capture"

H = TypeVar("H", bound="Hosts")


class Hosts:
    """The hosts of one connection. offloaded: a direction of it had a context."""

    def __init__(self, tcp: TcpConnection, keylog: Keylog, sessions: dict[bytes, bytes]) -> None:
        self.tcp = tcp
        self.tls = Connection(keylog, sessions, hand_over=tcp.has_syn)
        self.offloaded = False

    @property
    def reason(self) -> str | None:
        """Why the connection was not offloaded, or not in both directions."""
        raise NotImplementedError

    def flow(self, direction: str) -> Flow:
        """The flow of a direction's packets."""
        source, target = self.tcp.client, self.tcp.server
        if direction == "s2c":
            source, target = target, source
        address = IPv6Address if source.ipv6 else IPv4Address
        return Flow(address(source.address), address(target.address), source.port, target.port)

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
        }


class Connections(Generic[H]):
    """The connections of a replay, in the order of the report.

    make: their hosts. over: called with the hosts of an earlier connection of the same endpoints.
    """

    def __init__(self, make: Callable[[TcpConnection], H], over: Callable[[H], None]) -> None:
        self.table = ConnectionTable()
        self._make = make
        self._over = over
        self._all: list[H] = []
        self._current: dict[Pair, H] = {}

    def __iter__(self) -> Iterator[H]:
        return iter(self._all)

    def __getitem__(self, index: int) -> H:
        return self._all[index]

    def open_new(self) -> None:
        """Makes the hosts of the connections that are new in the table."""
        for tcp in self.table.connections[len(self._all) :]:
            hosts = self._make(tcp)
            self._all.append(hosts)
            both = pair(tcp.client, tcp.server)
            former = self._current.get(both)
            if former is not None:
                self._over(former)
            self._current[both] = hosts

    def current(self, both: Pair) -> H | None:
        """The latest connection of two endpoints, in the order of `pair`."""
        return self._current.get(both)


def crypto_info(keys: InstallKeys) -> CryptoInfo:
    """The kernel's form of a direction's keys."""
    version = VERSION_TLS13 if keys.tls13 else VERSION_TLS12
    return CryptoInfo(version, keys.keys.key, keys.keys.iv)


def offload(add: Callable[[], Handle], make_room: Callable[[], bool]) -> Handle | str:
    """The context that `add` gets for a flow, or why there is none. make_room: ends another
    offload, if one can be spared."""
    while True:
        try:
            return add()
        except OffloadRefused as error:
            return str(error)
        except FlowTableError as error:
            if not make_room():
                return f"flow table full: {error}"


def report_event(
    packet: int,
    time: float,
    connection: int,
    direction: str,
    kind: str,
    proven_by: str | None = None,
    *,
    lost_at: int | None = None,
    guess: int | None = None,
    resumed_at: int | None = None,
) -> dict[str, Any]:
    """A member of the report's `events`; the last three are stream offsets."""
    return {
        "packet": packet,
        "time": round(time, 6),
        "connection": connection,
        "dir": direction,
        "kind": kind,
        "lost_at": lost_at,
        "guess": guess,
        "proven_by": proven_by,
        "resumed_at": resumed_at,
    }
