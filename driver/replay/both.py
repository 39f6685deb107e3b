# SPDX-License-Identifier: Apache-2.0
"""Replays a capture through both sides of one device at once: each packet leaves a sender through
transmit, and then arrives at its receiver.

What is transmitted is not looped back: receive gets the capture's own frames, so that neither side
can hide what is wrong with the other. The device has frames of both at the same time.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..net.tcp import DIRECTIONS
from .capture import Packet
from .rx.replay import Replay
from .tx.replay import TxReplay


class ReplayBoth:
    """Both replays on one transport; each has been made with it, and has not run."""

    def __init__(self, receive: Replay, transmit: TxReplay) -> None:
        self.receive = receive
        self.transmit = transmit

    def run(
        self, packets: Sequence[Packet], progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Everything. `progress` is told how many packets have been processed.

        Raises what the transport and the device raise: `TimeoutError`, `DeviceError`.
        """
        self.transmit.begin(packets)
        self.receive.run(packets, progress, self.transmit.send)
        self.transmit.finish()

    def report(self, capture: str, engine: str, warnings: Iterable[str] = ()) -> dict[str, Any]:
        """One report: each direction has `rx` and `tx`. What both say of the capture is said
        once."""
        out = self.receive.report(capture, engine, warnings)
        sent = self.transmit.report(capture, engine)
        out["errors"] += [error for error in sent["errors"] if error not in out["errors"]]
        events = [*sent["events"], *out["events"]]
        out["events"] = sorted(events, key=lambda event: int(event["packet"]))
        connections = out.pop("connections")
        for connection, other in zip(connections, sent["connections"], strict=True):
            connection["offloaded"] |= other["offloaded"]
            connection["reason"] = connection["reason"] or other["reason"]
            for direction in DIRECTIONS:
                connection[direction] |= other[direction]
        own = {name: value for name, value in sent.items() if name not in out}
        return {**out, **own, "direction": "both", "connections": connections}

    @property
    def offloaded_payload(self) -> int:
        """Bytes of payload that went through the device, those of both sides."""
        return self.receive.offloaded_payload + self.transmit.offloaded_payload

    def plaintext(self) -> dict[tuple[int, str], bytes]:
        """The application bytes that receive recovered, by connection and direction."""
        return self.receive.plaintext()
