# SPDX-License-Identifier: Apache-2.0
"""What the device hands up, as Python values: packet metadata and events."""

from __future__ import annotations

from dataclasses import dataclass

from sealane.hdl.abi.config import NONCE_BYTES
from sealane.hdl.abi.events import EVENT, EventKind
from sealane.hdl.abi.meta import META, Reason


@dataclass(frozen=True, slots=True)
class Handle:
    """A context of the device and the generation of what it holds.

    `Device` counts generations without end; the device itself knows the low 8 bits.
    """

    context: int
    generation: int


@dataclass(frozen=True, slots=True)
class RxMeta:
    """Metadata of a received packet; the fields are those of `hdl.abi.meta.META`."""

    context: int = 0
    context_valid: int = 0
    generation: int = 0
    epoch: int = 0
    decrypted: int = 0
    l4_verified: int = 0
    reason: int = Reason.NONE
    first_completes: int = 0
    last_completes: int = 0
    payload_offset: int = 0
    payload_length: int = 0
    seq: int = 0
    records: int = 0
    first_number: int = 0
    first_offset: int = 0
    first_length: int = 0
    first_nonce: int = 0
    last_number: int = 0
    last_start: int = 0
    last_length: int = 0

    @classmethod
    def unpack(cls, word: int) -> RxMeta:
        """Metadata out of the integer that the device delivers."""
        return cls(**META.unpack(word))

    @property
    def nonce(self) -> bytes:
        """Explicit nonce of the first record, 8 bytes in wire order."""
        return self.first_nonce.to_bytes(NONCE_BYTES, "little")


@dataclass(frozen=True, slots=True, eq=False)
class RxPacket:
    """A frame as the device delivered it; two packets are equal only if they are the same one."""

    frame: bytes
    meta: RxMeta

    @property
    def marked(self) -> bool:
        """Whether the text of every record in the packet is plaintext."""
        return bool(self.meta.decrypted)

    @property
    def payload(self) -> bytes:
        """The TCP payload, without padding of the link."""
        at = self.meta.payload_offset
        return self.frame[at : at + self.meta.payload_length]


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """An event of the device; the fields are those of `hdl.abi.events.EVENT`."""

    kind: int = EventKind.NONE
    generation: int = 0
    context: int = 0
    lost_at: int = 0
    candidate_seq: int = 0
    resumed_at: int = 0
    proven_by: int = 0
    park: int = 0
    reserved: int = 0
    seq: int = 0
    number: int = 0

    @classmethod
    def unpack(cls, word: int) -> DeviceEvent:
        """An event out of the integer that the event registers show."""
        return cls(**EVENT.unpack(word))
