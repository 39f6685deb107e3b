# SPDX-License-Identifier: Apache-2.0
"""The framing under which the device marked a packet, and the way back to its wire bytes.

A marked packet carries text in the clear between headers, explicit nonces and tags that are still
wire bytes. Its metadata names the first record and the last one; the records between them follow
from the headers in the packet itself, read where the *device* saw them. Whether the host agrees
is the question of rule H, which compares each record of this view with the host's own framing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealane.hdl.abi.config import (
    HEADER_BYTES,
    TAG_BYTES,
    VERSION_TLS12,
    header_bytes,
    header_prefix_ok,
)

from ...crypto.keys import CryptoInfo
from ...device.descriptors import RxPacket
from ...net import seq
from .software import SoftwareAes


class UnknownEpoch(Exception):
    """A mark under a key that the host never had or has given up: the wire bytes are lost."""


@dataclass(frozen=True, slots=True)
class Framed:
    """One record as the device saw it in one packet.

    start: TCP sequence number of its header. length: header's length field, None while the packet
    that ended inside the header could not know. nonce: explicit nonce in TLS 1.2, None where no
    text of the record can be in the packet. text_low, text_high: the record's text in the
    payload. text_offset: of the byte at `text_low`. completed: the device reports that the record
    is complete with this packet and authenticates.
    """

    number: int
    start: int
    length: int | None
    nonce: bytes | None
    text_low: int
    text_high: int
    text_offset: int
    completed: bool


class Mark:
    """A marked packet with the device's framing of it.

    `consistent` is False where metadata and the headers in the packet contradict each other; such
    a packet agrees with nothing and is always undone.
    """

    def __init__(self, packet: RxPacket, version: int) -> None:
        self.packet = packet
        self.payload = packet.payload
        self.undone = False
        self.consistent = True
        self._wire: bytearray | None = None
        self._clear: list[Framed] = []  # records whose text is not wire bytes yet
        self._records = self._walk(version)
        self._by_start = {record.start: record for record in self._records}

    @property
    def end(self) -> int:
        """TCP sequence number behind the packet."""
        return seq.add(self.packet.meta.seq, len(self.payload))

    def record_at(self, start: int) -> Framed | None:
        """The record whose header the device saw at sequence number `start`."""
        return self._by_start.get(start) if self.consistent else None

    def verdicts_within(self, start: int, end: int) -> bool:
        """Whether the device reports a good verdict for any record with bytes in [start, end)."""
        for record in self._records:
            if not record.completed or record.length is None:
                continue
            behind = seq.add(record.start, HEADER_BYTES + record.length)
            if seq.distance(record.start, end) < 0 < seq.distance(behind, start):
                return True
        return False

    def wire(
        self, low: int, high: int, epochs: Mapping[int, CryptoInfo], aes: SoftwareAes
    ) -> bytes:
        """Bytes [low, high) of the payload as they were on the wire.

        The text of each record in them, all that the packet has of it, is encrypted again under
        the packet's own framing, once. Raises `UnknownEpoch` where the key of the packet's epoch
        is not in `epochs`.
        """
        keys = epochs.get(self.packet.meta.epoch)
        if keys is None:
            raise UnknownEpoch
        if self._wire is None:
            self._wire = bytearray(self.payload)
            self._clear = [r for r in self._records if r.text_low < r.text_high]
        for record in [r for r in self._clear if r.text_low < high and r.text_high > low]:
            at, behind = record.text_low, record.text_high
            self._wire[at:behind] = aes.crypt_text(
                keys,
                record.number,
                record.nonce or b"",
                record.text_offset,
                self.payload[at:behind],
            )
            self._clear.remove(record)
        return bytes(self._wire[low:high])

    def _walk(self, version: int) -> list[Framed]:
        meta, payload = self.packet.meta, self.payload
        size, prefix = len(payload), header_bytes(version)
        records: list[Framed] = []
        at, number = -meta.first_offset, meta.first_number
        while at < size:
            length = self._length(at, version)
            nonce: bytes | None = b""
            if version == VERSION_TLS12:
                nonce = self._nonce(at, prefix)
            low = high = max(0, min(size, at + prefix))
            behind = size if length is None else at + HEADER_BYTES + length
            if length is not None and nonce is not None:
                high = max(low, min(size, behind - TAG_BYTES))
            first, last = not records, behind >= size
            completed = bool(
                (first and meta.first_completes)
                or (last and meta.last_completes)
                or not (first or last)
            )
            records.append(
                Framed(
                    number=number,
                    start=seq.add(meta.seq, at),
                    length=length,
                    nonce=nonce,
                    text_low=low,
                    text_high=high,
                    text_offset=low - at - prefix,
                    completed=completed and length is not None,
                )
            )
            if behind <= 0:
                self.consistent = False  # the first record ends in front of the packet
                break
            at, number = behind, number + 1
        self._check_last(records)
        return records

    def _length(self, at: int, version: int) -> int | None:
        """Length field of the record at payload offset `at`: the packet's bytes, or metadata."""
        meta, size = self.packet.meta, len(self.payload)
        if at < 0:
            return meta.first_length or None
        header = self.payload[at : at + HEADER_BYTES]
        if not header_prefix_ok(version, header):
            self.consistent = False
            return None
        length = int.from_bytes(header[3:], "big") if at + HEADER_BYTES <= size else None
        if at == 0 and (length or 0) != meta.first_length:
            self.consistent = False
        return length

    def _nonce(self, at: int, prefix: int) -> bytes | None:
        if at + prefix >= len(self.payload):
            return None
        if at + HEADER_BYTES < 0:
            return self.packet.meta.nonce
        return self.payload[at + HEADER_BYTES : at + prefix]

    def _check_last(self, records: list[Framed]) -> None:
        meta = self.packet.meta
        last = records[-1] if records else None
        if (
            last is None
            or len(records) != meta.records
            or last.number != meta.last_number
            or last.start != meta.last_start
            or (last.length or 0) != meta.last_length
        ):
            self.consistent = False
