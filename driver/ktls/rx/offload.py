# SPDX-License-Identifier: Apache-2.0
"""Receive core of kTLS: one direction of one connection, from in-order bytes to records.

Bytes come as TCP put them in order, each range with the packet that brought it. The core frames
the records itself, and only a record that the device verified under exactly the host's framing
skips crypto in software (rule H, `acceptance.RuleH`). No clocks, no sockets: everything that
happens is returned.

Two comparisons carry the soundness:

- before a header is read out of a marked packet, the device's framing of that packet must have a
  header at the same place, under the same context, generation, epoch and record number; else the
  packet's text is encrypted again, under its own framing, before anything is read;
- a record skips crypto if every byte comes from marked packets that framed it alike, length and
  nonce included, and one of them reports its verdict. All others pass AEAD in software, marked
  parts encrypted again first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from sealane.hdl.abi.config import CONTENT_CHANGE_CIPHER_SPEC, HEADER_BYTES, VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason

from ...crypto.keys import CryptoInfo
from ...device.counters import NetdevCounters, RxCounters, TlsStat
from ...device.descriptors import DeviceEvent, Handle, RxPacket
from ...net import seq
from .acceptance import HostFraming, OneBit, Part, RuleH, Share
from .events import (
    GoOn,
    How,
    KeysNeeded,
    KtlsEvent,
    RecordAccepted,
    RecordRefused,
    Rekey,
    ResyncAnswer,
    ResyncHint,
    StreamClosed,
)
from .framing import UnknownEpoch
from .records import KeyUpdateTracker, RecordError, closes, inner_plaintext, parse_header
from .resync import Resync, ResyncMode


@dataclass(frozen=True, slots=True)
class StreamRange:
    """`length` bytes of the stream at TCP sequence number `seq`, out of `packet`'s payload."""

    seq: int
    length: int
    packet: RxPacket


class KtlsRx:
    """Receives one direction from the point where its keys are installed.

    info: keys in force at TCP sequence number `seq`, where record `number` begins. epoch: key
    epoch told to the device. next_keys: called at each TLS 1.3 KeyUpdate for the keys behind it;
    without it or them, and in TLS 1.2, the core stops at a key change with `KeysNeeded` until
    `install_next`. one_bit: marks count without framing and verdicts (`acceptance.OneBit`); the
    flow is to have `Option.ONE_BIT` then. Every method that takes something in returns what came
    of it, in order.
    """

    def __init__(
        self,
        info: CryptoInfo,
        seq: int,
        number: int = 0,
        epoch: int = 0,
        handle: Handle | None = None,
        next_keys: Callable[[], CryptoInfo | None] | None = None,
        resync_mode: ResyncMode = ResyncMode.DRIVER_REQ,
        stat: TlsStat | None = None,
        netdev: NetdevCounters | None = None,
        one_bit: bool = False,
    ) -> None:
        self.counters = RxCounters()
        self.netdev = netdev if netdev is not None else NetdevCounters()
        self.stat = stat if stat is not None else TlsStat()
        self.handle = handle
        self.epoch = epoch
        self.number = number
        self.start = seq  # of the record under way
        self.received = seq  # behind the last byte taken in
        self.offset = 0  # of `start` in the stream since the beginning
        self.bytes_in = 0
        self.closed = False
        self.waiting_for_keys = False
        self.resync = Resync(resync_mode)
        self._info = info
        self._next_keys = next_keys
        self._epochs = {epoch: info}
        self._accept: RuleH | OneBit = RuleH(self.counters, self._epochs)
        if one_bit:
            self._accept = OneBit(self.counters)
        self._retiring: list[tuple[int, int]] = []  # epoch, sequence number that ends its use
        self._header: tuple[int, int] | None = None
        self._parts: deque[Part] = deque()
        self._tracker = KeyUpdateTracker()
        self._parks: dict[int, int] = {}  # record number -> park
        self._rekeys: deque[int] = deque()  # epochs asked of the device and not done yet, in order
        self._had_device = handle is not None
        # Generations of this offload: a resync request crosses a rekey, because headers need no
        # key and the device's walk goes on.
        self._generations = {handle.generation} if handle else set()

    @property
    def version(self) -> int:
        """`VERSION_TLS12` or `VERSION_TLS13`."""
        return self._info.version

    @property
    def boundary(self) -> tuple[int, int]:
        """Where a device may be armed: sequence number and record number of the first header that
        has not been read yet."""
        return self._parsed, self.number + (self._header is not None)

    @property
    def info(self) -> CryptoInfo:
        """The keys in force."""
        return self._info

    @property
    def leftover_bytes(self) -> int:
        """Bytes that came in and are not part of an accepted record."""
        return self.bytes_in - self.offset

    # --- what comes in ----------------------------------------------------------------------

    def feed(self, ranges: Iterable[StreamRange]) -> list[KtlsEvent]:
        """Takes in-order bytes. Raises `ValueError` where a range does not follow the last one or
        does not lie in its packet."""
        out: list[KtlsEvent] = []
        for piece in ranges:
            if piece.seq != self.received:
                raise ValueError(f"range at {piece.seq}, expected {self.received}")
            self._take(piece)
        self._advance(out)
        return out

    def install_next(self, info: CryptoInfo) -> list[KtlsEvent]:
        """Gives the keys asked for with `KeysNeeded`; raises `ValueError` if none were."""
        if not self.waiting_for_keys:
            raise ValueError("no key change is under way")
        self.waiting_for_keys = False
        out: list[KtlsEvent] = []
        self._change_keys(info, out)
        self._advance(out)
        return out

    def device_event(self, event: DeviceEvent) -> list[KtlsEvent]:
        """Takes an event of the device; those of another context or generation are ignored."""
        out: list[KtlsEvent] = []
        handle = self.handle
        if (
            handle is None
            or event.context != handle.context
            or event.generation not in self._generations
        ):
            return out
        if event.kind == EventKind.PARKED:
            if self._rekeys or event.generation != handle.generation:
                return out  # the new keys have ended this park
            self._parks[event.number] = event.park
            if event.number < self.number and not self.waiting_for_keys:
                self._go_on(event.number, out)
        elif event.kind == EventKind.RESYNC_REQUEST:
            self.counters.resync_requested += 1
            if self.closed:
                self._note(out, [ResyncAnswer(event.candidate_seq, None)])
            elif self.resync.mode is ResyncMode.DRIVER_REQ_ASYNC:
                length = max(0, seq.distance(event.candidate_seq, event.lost_at))
                self.async_start(event.lost_at, length)
            else:
                self._note(out, self.resync.request(event.candidate_seq, self._parsed))
        elif event.kind == EventKind.GIVEN_UP:
            self.resync.stuck = True
        elif event.kind == EventKind.RESUMED:
            self.resync.stuck = False
        return out

    def async_start(self, seq: int, length: int) -> None:
        """Opens an asynchronous request over [seq, seq + length]; an open one is given up."""
        self.async_cancel()
        self.netdev.rx_tls_resync_req_start += 1
        self.resync.async_start(seq, length)

    def async_cancel(self) -> None:
        """Gives up the asynchronous request that is open, if any."""
        self.netdev.rx_tls_resync_req_skip += self.resync.async_open
        self.resync.async_cancel()

    def async_end(self, candidate_seq: int) -> list[KtlsEvent]:
        """Ends an asynchronous request: the device's candidate is the header at `candidate_seq`."""
        out: list[KtlsEvent] = []
        self.netdev.rx_tls_resync_req_end += self.resync.async_open
        self._note(out, self.resync.async_end(candidate_seq, self._parsed))
        return out

    def installed(self, handle: Handle | None, received_end: int | None = None) -> None:
        """The device took the direction on anew under the same keys, or (None) let go of it.

        received_end: highest sequence number that had come from the device by then. A one-bit host
        uses no mark in front of it; where it is not told and there was a device before, no mark at
        all.
        """
        if handle and self._had_device:
            self._accept.new_marks_from(received_end)
        self._had_device |= handle is not None
        self.handle = handle
        self._rekeys.clear()
        self._generations = {handle.generation} if handle else set()
        self._parks.clear()
        self.resync.reset()

    def rekeyed(self, handle: Handle, received_end: int) -> None:
        """The oldest `Rekey` was done. received_end: highest sequence number that had come from
        the device by then; old keys are kept until the stream has passed it. Raises `ValueError`
        if none was asked for."""
        if not self._rekeys:
            raise ValueError("no rekey is under way")
        self.stat.TlsRxRekeyOk += 1
        self.handle = handle
        installed = self._rekeys.popleft()
        if not self._rekeys:
            self._accept.new_marks_from(received_end)
        self._generations.add(handle.generation)
        self._retiring += [
            (epoch, received_end)
            for epoch in self._epochs
            if epoch != installed
            and epoch not in self._rekeys
            and epoch not in {old for old, _ in self._retiring}
        ]
        self._retire()

    def rekey_failed(self) -> None:
        """`Rekey` could not be done: the connection goes on in software."""
        self.stat.TlsRxRekeyError += 1
        self.handle = None
        self._rekeys.clear()

    # --- framing ----------------------------------------------------------------------------

    @property
    def _parsed(self) -> int:
        """Sequence number in front of which every header is known."""
        if self._header is None:
            return self.start
        return seq.add(self.start, HEADER_BYTES + self._header[1])

    def _take(self, piece: StreamRange) -> None:
        packet = piece.packet
        low = seq.distance(piece.seq, packet.meta.seq)
        if low < 0 or piece.length < 0 or low + piece.length > packet.meta.payload_length:
            raise ValueError("range outside its packet")
        self.received = seq.add(self.received, piece.length)
        self.bytes_in += piece.length
        if self.closed or not piece.length:
            return
        if packet.meta.reason in (Reason.GIVEN_UP, Reason.HELD):
            # Given up: the event may have been lost, the packets say it too. Held: the record that
            # holds marks back may never get a verdict; a hint says that software has read it.
            self.resync.stuck = True
        mark = self._accept.mark(packet, self.version)
        payload = mark.payload if mark else packet.payload
        self._parts.append(Part(piece.seq, piece.length, low, payload, packet, mark))

    def _advance(self, out: list[KtlsEvent]) -> None:
        """Frames and finishes what is here."""
        try:
            while not (self.closed or self.waiting_for_keys):
                here = seq.distance(self.received, self.start)
                if self._header is None:
                    if here < HEADER_BYTES:
                        return
                    self._header = parse_header(self.version, self._read_header())
                    end = self._parsed
                    answers = self.resync.header(self.start, self.number, end, self.received)
                    self._note(out, answers)
                if here < HEADER_BYTES + self._header[1]:
                    return
                self._finish(self._header, out)
        except UnknownEpoch:
            self._refuse(RecordError("internal_error", "a mark under an unknown key epoch"), out)
        except RecordError as error:
            self._refuse(error, out)

    def _parts_of(self, end: int) -> list[Share]:
        """Parts of [start, end) with the bounds of their share in the payload."""
        shares = []
        for part in self._parts:
            left = seq.distance(end, part.seq)
            if left <= 0:
                break
            skip = max(0, seq.distance(self.start, part.seq))
            shares.append((part, part.low + skip, part.low + min(part.length, left)))
        return shares

    @property
    def _framing(self) -> HostFraming:
        return HostFraming(self.handle, self.epoch, self.number, self.start, self._info)

    def _read_header(self) -> bytes:
        return self._accept.wire_header(
            self._framing, self._parts_of(seq.add(self.start, HEADER_BYTES))
        )

    # --- records ----------------------------------------------------------------------------

    def _finish(self, header: tuple[int, int], out: list[KtlsEvent]) -> None:
        content_type, length = header
        end = self._parsed
        shares = self._parts_of(end)
        how, text = self._text(content_type, length, end, shares)
        content_type, content = inner_plaintext(self.version, content_type, text)
        key_change = self._changes_keys(content_type, content)
        setattr(self.counters, how.value, getattr(self.counters, how.value) + 1)
        wire_length = HEADER_BYTES + length
        out.append(
            RecordAccepted(
                content_type,
                content,
                self.number,
                self.epoch,
                self.start,
                self.offset,
                how,
                wire_length,
            )
        )
        number = self.number
        self.start, self.number = end, number + 1
        self.offset += wire_length
        self._header = None
        self._drop_consumed()
        if closes(self.version, content_type, content):
            self._close(out)
            out.append(StreamClosed(end))
        elif key_change:
            known = self._next_keys() if self.version == VERSION_TLS13 and self._next_keys else None
            if known is not None:
                self._change_keys(known, out)
            else:
                self.waiting_for_keys = True
                out.append(KeysNeeded(end))
        else:
            self._go_on(number, out)
            hints = self.resync.record(how is How.NONE, end, number, self.received)
            self._note(out, hints)

    def _text(
        self, content_type: int, length: int, end: int, shares: list[Share]
    ) -> tuple[How, bytes]:
        """The record's text, and by which way. Raises `RecordError` on a bad tag."""
        try:
            return self._accept.text(self._framing, content_type, length, end, shares)
        except InvalidTag:
            self.stat.TlsDecryptError += 1
            raise RecordError("bad_record_mac", "the tag does not verify") from None

    def _changes_keys(self, content_type: int, content: bytes) -> bool:
        if self.version == VERSION_TLS13:
            return self._tracker.feed(content_type, content)
        return content_type == CONTENT_CHANGE_CIPHER_SPEC

    def _change_keys(self, info: CryptoInfo, out: list[KtlsEvent]) -> None:
        """Switches at the record boundary `start`; the device follows with `Rekey`."""
        if info.version != self.version:
            raise ValueError("keys of another TLS version")
        self.epoch = self.epoch + 1 & 0xFF
        self._epochs[self.epoch] = self._info = info
        number, self.number = self.number, 0
        self._parks.clear()
        if self._had_device:
            self._accept.new_marks_from(None)
        self.async_cancel()
        self.resync.renumber()
        self.counters.key_updates += 1
        self.stat.TlsRxRekeyReceived += 1
        if self.handle:
            self._rekeys.append(self.epoch)
            out.append(Rekey(self.start, self.epoch, info, number))

    # --- endings ----------------------------------------------------------------------------

    def _go_on(self, number: int, out: list[KtlsEvent]) -> None:
        park = self._parks.pop(number, None)
        if park is not None:
            self.counters.parks_ended += 1
            out.append(GoOn(park))

    def _note(self, out: list[KtlsEvent], answers: Iterable[ResyncAnswer | ResyncHint]) -> None:
        for answer in answers:
            if isinstance(answer, ResyncHint):
                self.counters.resync_hints += 1
            elif answer.number is None:
                self.counters.resync_refused += 1
            else:
                self.counters.resync_confirmed += 1
            if self.handle:
                out.append(answer)

    def _refuse(self, error: RecordError, out: list[KtlsEvent]) -> None:
        self.counters.refused += 1
        self._close(out)
        out.append(RecordRefused(error.alert, error.reason, self.number, self.epoch, self.start))

    def _close(self, out: list[KtlsEvent]) -> None:
        self.closed = True
        self._note(out, self.resync.refuse())
        self._parts.clear()
        self._accept.clear()

    def _drop_consumed(self) -> None:
        while self._parts:
            part = self._parts[0]
            if seq.distance(seq.add(part.seq, part.length), self.start) > 0:
                break
            self._parts.popleft()
        self._accept.drop_passed(self.start)
        self._retire()

    def _retire(self) -> None:
        done = [epoch for epoch, end in self._retiring if seq.distance(end, self.start) <= 0]
        self._retiring = [pair for pair in self._retiring if pair[0] not in done]
        for epoch in done:
            self._epochs.pop(epoch, None)
