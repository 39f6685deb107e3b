# SPDX-License-Identifier: Apache-2.0
"""The sending hosts of one connection: what a TLS library on both knows, and two senders."""

from typing import Any

from ...net.tcp import DIRECTIONS, TcpConnection
from ...tls.keylog import Keylog
from ..hosts import NO_SYN, Hosts
from ..oracle import ConnectionTruth
from .plain import PlainDirection
from .sender import Sender


class SendingConnection(Hosts):
    """The two senders of a connection."""

    def __init__(
        self,
        tcp: TcpConnection,
        truth: ConnectionTruth,
        keylog: Keylog,
        sessions: dict[bytes, bytes],
    ) -> None:
        super().__init__(tcp, keylog, sessions)
        self.senders: dict[str, Sender] = {}
        for direction in DIRECTIONS:
            installs, plain = truth[direction].installs, None
            if installs and installs[0].suite.offloadable:
                plain = PlainDirection(truth[direction])
            self.senders[direction] = Sender(
                direction, self.flow(direction), tcp.streams[direction], plain
            )

    @property
    def heard(self) -> float:
        """When its last segment came."""
        return max(sender.heard for sender in self.senders.values())

    @property
    def reason(self) -> str | None:
        """Why the connection was not offloaded, or not in both directions."""
        senders = self.senders.values()
        if not self.tcp.has_syn or self.tls.reason:
            return self.tls.reason or NO_SYN
        if self.tls.version is None:
            return "no ServerHello in the capture"
        refusal = next((s.refusal for s in senders if s.refusal), None)
        if refusal is None and not all(s.kernel for s in senders):
            return "the handshake is not complete in the capture"
        return refusal

    def report(self) -> dict[str, Any]:
        """The connection's member of the report."""
        return super().report() | {
            direction: {"tx": sender.report()} for direction, sender in self.senders.items()
        }
