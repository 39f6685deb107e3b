# SPDX-License-Identifier: Apache-2.0
"""Which records of marked packets skip crypto: rule H, or the one bit that Linux has.

`RuleH` compares the device's framing of every packet with the host's and asks for the verdict of
exactly the record at hand. `OneBit` looks at nothing but the mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealane.hdl.abi.config import HEADER_BYTES, TAG_BYTES, header_bytes

from ...crypto.keys import CryptoInfo
from ...device.counters import RxCounters
from ...device.descriptors import Handle, RxPacket
from ...net import seq
from .events import How
from .framing import Framed, Mark
from .software import SoftwareAes


@dataclass(slots=True)
class Part:
    """A range of the stream that is not consumed yet; `low` is its place in the payload.

    mark: the device's framing of a marked packet, for those that use it (`RuleH`).
    """

    seq: int
    length: int
    low: int
    payload: bytes
    packet: RxPacket
    mark: Mark | None


# A part's bytes of one record: bounds in the payload.
Share = tuple[Part, int, int]


@dataclass(frozen=True, slots=True)
class HostFraming:
    """The host's own framing: the record under way starts at TCP sequence number `start`."""

    handle: Handle | None
    epoch: int
    number: int
    start: int
    keys: CryptoInfo

    @property
    def prefix(self) -> int:
        """Bytes of header and explicit nonce."""
        return header_bytes(self.keys.version)


class RuleH:
    """A record skips crypto if the device verified exactly it. epochs: keys by key epoch."""

    def __init__(self, counters: RxCounters, epochs: Mapping[int, CryptoInfo]) -> None:
        self._counters = counters
        self._epochs = epochs
        self._aes = SoftwareAes(counters)
        self._marks: dict[int, Mark] = {}  # by id of the packet, which the mark keeps alive

    def mark(self, packet: RxPacket, version: int) -> Mark | None:
        """The framing of a marked packet; the ranges of one packet share it."""
        if not packet.marked:
            return None
        mark = self._marks.get(id(packet))
        if mark is None:
            mark = self._marks[id(packet)] = Mark(packet, version)
        return mark

    def drop_passed(self, start: int) -> None:
        """Forgets packets that lie in front of sequence number `start`."""
        passed = [key for key, m in self._marks.items() if seq.distance(m.end, start) <= 0]
        for key in passed:
            del self._marks[key]

    def clear(self) -> None:
        """Forgets all packets."""
        self._marks.clear()

    def new_marks_from(self, end: int | None) -> None:
        """The context is another one: generations and epochs say so, packet by packet."""

    def wire_header(self, framing: HostFraming, shares: list[Share]) -> bytes:
        """Header, or header and nonce, as they were on the wire."""
        wire_header = b""
        for part, low, high in shares:
            if part.mark and not part.mark.undone and self._framed(part.mark, framing) is None:
                self._undo(part.mark)
            if part.mark and part.mark.undone:
                wire_header += part.mark.wire(low, high, self._epochs, self._aes)
            else:
                wire_header += part.payload[low:high]
        return wire_header

    def text(
        self, framing: HostFraming, content_type: int, length: int, end: int, shares: list[Share]
    ) -> tuple[How, bytes]:
        """The record's text, and by which way.

        Raises `InvalidTag`, and `UnknownEpoch` for marks under keys that are not there.
        """
        nonce = self.wire_header(framing, _cut(shares, framing.prefix))[HEADER_BYTES:]
        any_marked, all_marked = False, True
        verdict, contradicted = False, False
        for part, _, _ in shares:
            mark = part.mark
            any_marked |= mark is not None
            if mark is None:
                all_marked = False
                continue
            framed = None if mark.undone else self._framed(mark, framing)
            if framed and framed.length in (None, length) and framed.nonce in (None, nonce):
                verdict |= framed.completed
                continue
            contradicted |= mark.verdicts_within(framing.start, end)
            all_marked = False
            if not mark.undone:
                self._undo(mark)
        self._counters.verdict_mismatch += contradicted
        if all_marked and verdict:
            return How.FULL, _marked_text(framing, shares)
        self._counters.without_verdict += all_marked
        wire = b"".join(
            part.mark.wire(low, high, self._epochs, self._aes)
            if part.mark
            else part.payload[low:high]
            for part, low, high in shares
        )
        text = self._aes.open(framing.keys, framing.number, content_type, wire[HEADER_BYTES:])
        return (How.PARTIAL if any_marked else How.NONE), text

    def _framed(self, mark: Mark, framing: HostFraming) -> Framed | None:
        """The device's framing of the record under way, if it agrees in all but length, nonce."""
        meta, record = mark.packet.meta, mark.record_at(framing.start)
        agrees = (
            record is not None
            and framing.handle == Handle(meta.context, meta.generation)
            and meta.epoch == framing.epoch
            and record.number == framing.number
        )
        return record if agrees else None

    def _undo(self, mark: Mark) -> None:
        mark.undone = True
        self._counters.marks_undone += 1


class OneBit:
    """A host that knows one bit of a packet, as Linux's `skb->decrypted` (`tls_device_decrypted`).

    A record skips crypto if all its bytes come from marked packets. Without any marked packet it is
    opened in software. If it is mixed, its marked parts are encrypted again and then it is opened;
    key, number and offset for that are those of the host's own record, because a bit tells nothing
    of the device's. Linux differs only in cost: to encrypt a part again it takes the whole record
    through AES (`tls_device_reencrypt`).

    What the bit implies. The device marks a packet only if the records that complete in it verify,
    and marks no byte twice. So if all bytes of a record come from marked packets that the device
    framed as the host does, under one installation, then the last of them to pass brought the
    verdict.

    What the host cannot know, and what comes of it:

    - *Installation and key.* Marked packets of two installations may make up one record that the
      device verified in neither. But the host knows how far packets had come when the context was
      installed or got new keys; it uses no mark in a record that starts in front of that place
      (`new_marks_from`), such a record counts as mixed.
    - *Framing.* A header is read as the packet shows it, even where the device took these bytes for
      text, and a mixed record is encrypted again where the host believes that text was. If the
      device was made to frame otherwise, this yields noise: a tag or a header is bad and the
      connection ends, though TCP got every byte right. `RuleH` goes on.
    - *Framing that the attacker chose.* Behind a record that is not verified a mark says nothing;
      `Option.ONE_BIT` is there so that the device gives none. But it marks inside such a record,
      whose header may be false: shown to the device alone, it may claim more bytes than the true
      record has, and what follows the true record comes to the host marked. What it says is the
      attacker's choice where the keystream is known. In TLS 1.2 it is: the explicit nonce lies in
      the clear and may be that of an old record with known plaintext. A record written that way is
      accepted. In TLS 1.3 the number decides the keystream, and what comes out is noise, which
      looks like a header once in 2^26 times. This remains; only `RuleH` refuses it.

    Metadata still drives resync, hints and parks, which the driver does for such a stack. None of
    it has a say in what is accepted.
    """

    def __init__(self, counters: RxCounters) -> None:
        self._aes = SoftwareAes(counters)
        self._distrusts = False  # marks are not used, up to `_until` or, with None, at all
        self._until: int | None = None

    def mark(self, packet: RxPacket, version: int) -> Mark | None:
        """The framing of a packet is not for this host."""
        return None

    def drop_passed(self, start: int) -> None:
        """Nothing is kept of packets; ends the distrust that the stream has passed."""
        if self._until is not None and seq.distance(start, self._until) >= 0:
            self._distrusts, self._until = False, None

    def clear(self) -> None:
        """Nothing is kept of packets."""

    def new_marks_from(self, end: int | None) -> None:
        """Marks in front of sequence number `end` may be of another installation; None: all."""
        self._distrusts, self._until = True, end

    def wire_header(self, framing: HostFraming, shares: list[Share]) -> bytes:
        """Header, or header and nonce, as the packets show them."""
        return b"".join(part.payload[low:high] for part, low, high in shares)

    def text(
        self, framing: HostFraming, content_type: int, length: int, end: int, shares: list[Share]
    ) -> tuple[How, bytes]:
        """The record's text, and by which way. Raises `InvalidTag`."""
        self.drop_passed(framing.start)
        marked = [part.packet.marked for part, _, _ in shares]
        if all(marked) and not self._distrusts:
            return How.FULL, _marked_text(framing, shares)
        nonce = self.wire_header(framing, _cut(shares, framing.prefix))[HEADER_BYTES:]
        text_end = HEADER_BYTES + length - TAG_BYTES
        wire, at = b"", 0  # at: offset in the record
        for part, low, high in shares:
            piece = part.payload[low:high]
            if part.packet.marked:
                first = min(max(0, framing.prefix - at), len(piece))
                last = max(first, min(len(piece), text_end - at))
                offset = at + first - framing.prefix
                piece = (
                    piece[:first]
                    + self._aes.crypt_text(
                        framing.keys, framing.number, nonce, offset, piece[first:last]
                    )
                    + piece[last:]
                )
            wire, at = wire + piece, at + high - low
        text = self._aes.open(framing.keys, framing.number, content_type, wire[HEADER_BYTES:])
        return (How.PARTIAL if any(marked) else How.NONE), text


def _cut(shares: list[Share], length: int) -> list[Share]:
    """The shares of a record's first `length` bytes."""
    out = []
    for part, low, high in shares:
        if length <= 0:
            break
        out.append((part, low, min(high, low + length)))
        length -= high - low
    return out


def _marked_text(framing: HostFraming, shares: list[Share]) -> bytes:
    """Text of a record whose packets are all marked."""
    record = b"".join(part.payload[low:high] for part, low, high in shares)
    return record[framing.prefix : len(record) - TAG_BYTES]
