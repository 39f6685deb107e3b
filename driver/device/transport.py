# SPDX-License-Identifier: Apache-2.0
"""What carries the driver's reads, writes and frames to a device, and nothing else."""

from typing import NamedTuple, Protocol


class Completion(NamedTuple):
    """A frame that the device passed to the host, with its packed metadata (`META`)."""

    frame: bytes
    meta: int


class TxOutput(NamedTuple):
    """What transmit gave out, each list in the order of the frames that were posted.

    frames: those that left for the wire.
    completions: one of every frame, its tags (16 bytes each) and its packed `TX_STATUS`.
    """

    frames: list[bytes]
    completions: list[tuple[list[bytes], int]]


class Transport(Protocol):
    """A device's ports. The behavioural model, the simulated RTL and, one day, PCIe have them."""

    @property
    def irq(self) -> bool:
        """An event is waiting."""
        ...

    def read(self, address: int) -> int:
        """A 32-bit register."""
        ...

    def write(self, address: int, value: int) -> None:
        """Write a 32-bit register."""
        ...

    def post(self, frame: bytes) -> None:
        """Give a frame to the device, as it came from the wire, without its check sequence."""
        ...

    def poll(self, wait: bool = True) -> list[Completion]:
        """Frames that have come out, in order; with `wait`, until all that were posted have.

        Raises `TimeoutError` if the device does not pass them on within its bound.
        """
        ...

    def post_tx(self, frame: bytes, meta: int) -> None:
        """Give a frame of the host to transmit, with its packed metadata (`TX_META`).

        Raises `ValueError` on an empty frame and on a device without transmit.
        """
        ...

    def poll_tx(self, wait: bool = True) -> TxOutput:
        """What transmit has given out; with `wait`, of all frames that were posted.

        Raises `TimeoutError` if the device does not pass them on within its bound.
        """
        ...

    def close(self) -> None:
        """Release what the transport holds."""
        ...
