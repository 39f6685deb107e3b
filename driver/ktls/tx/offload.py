# SPDX-License-Identifier: Apache-2.0
"""Transmit core of kTLS: one direction of one connection, from the application's bytes to frames.

`push` makes a record as the kernel does, with room for its tag, and TCP cuts the stream into
segments, sends and resends them as it likes. Each segment comes to `transmit`, which returns the
frames to post: by the device in order, by one of the ways out of order, or by software (`tx_ways`).
No sockets, no clocks, no device inside: what the device answers is told by `completed`, what is
acknowledged by `acked`, and what is to be done about keys is returned by both.

Positions are stream offsets: 0 is the start marker, where the first record begins. TCP sequence
numbers are converted at the edge, to the offset nearest to what is acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable

from sealane.hdl.abi.config import (
    CONTENT_APPLICATION_DATA,
    HEADER_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    VERSION_TLS13,
    header_prefix_ok,
)
from sealane.hdl.abi.tx import TxOp, TxReason

from ...crypto.gcm import MAX_PLAINTEXT
from ...crypto.keys import CryptoInfo
from ...device.counters import NetdevCounters, TlsStat, TxCounters
from ...device.descriptors import Handle
from ...net import seq
from ...net.tx_frames import Segment, split, wire_frame
from .frames import COOKIES, Builder, InFlightFrame, context_of
from .journal import Journal
from .plan import Completed, Drop, DropReason, Hold, Plan, SequenceExhausted, TxFrame, TxMode, Way
from .records import RecordMap, TxRecord
from .rekey import KeyAction, RekeyMode, TxRekey
from .software import TagMismatch, encrypt
from .ways import GAP_LIMIT, Decision, TxState, as_it_is, choose

# The frame failed behind the walk: the device's stream is where it would have been.
_WALKED = (TxReason.TAG_MISMATCH, TxReason.STALE_KEY, TxReason.DEVICE_ERROR)

_LAST_NUMBER = (1 << 64) - 2  # N; so that the number behind it is one too
_AHEAD = 1 << 32  # explicit nonces that are kept for the counter: no key lasts longer
_FAILURES = 2  # of a record sent again, then software sends it
_SYNCS = 3  # in a row that the device refuses, then software sends everything
_LONGEST_PIECE = 0xFFFF  # of a DUMP frame


class KtlsTx:
    """Sends one direction from the start marker on, the TCP sequence number `seq`.

    info: keys of record `number` (Linux: `rcd_sn`), which begins there. nonce: in TLS 1.2 that
    record's explicit nonce, 8 bytes, from which the others count up. handle: the context of the
    device; without it everything is software's. mode: forces a way. mtu: most bytes of a DUMP
    piece. queue: most frames that one segment may take. gap_limit: see `tx_ways`. netdev: the
    device's counters; what was encrypted and dumped is counted there by the device's driver.

    Raises `ValueError` on a nonce of another size and on an `mtu` that is not 1 to 65535. One that
    is above the device's `max_frame` costs rebuilding: software does it.
    """

    def __init__(
        self,
        info: CryptoInfo,
        seq: int,
        handle: Handle | None = None,
        number: int = 0,
        nonce: bytes = b"",
        *,
        device: object = None,
        mode: TxMode = TxMode.AUTO,
        rekey_mode: RekeyMode = RekeyMode.EPOCHS,
        mtu: int = 1500,
        queue: int = 32,
        gap_limit: int = GAP_LIMIT,
        netdev: NetdevCounters | None = None,
        stat: TlsStat | None = None,
    ) -> None:
        if len(nonce) != (0 if info.version == VERSION_TLS13 else NONCE_BYTES):
            raise ValueError("nonce: 8 bytes in TLS 1.2, none in TLS 1.3")
        if not 1 <= mtu <= _LONGEST_PIECE:
            raise ValueError("mtu: 1 to 65535 bytes")
        self.counters = TxCounters()
        self.netdev = netdev if netdev is not None else NetdevCounters()
        self.stat = stat if stat is not None else TlsStat()
        self.handle = handle
        self.device = device
        self.seq = seq
        self.mode = mode
        self.records = RecordMap(number)
        self.expected = 0
        self.high = 0
        self.una = 0
        self.resync: int | None = None
        self.keys = TxRekey(info, mode=rekey_mode)
        if handle is None:
            self.keys.stop()
        self._resync_way = Way.NEXT_RECORD
        self._syncs = 0  # moves of the stream; what failed before the last one is settled by it
        self._lost = -1  # the most of them behind which the stream is known to be lost
        self._refused = 0  # of them in a row
        self._nonce = int.from_bytes(nonce, "big"), number
        self._own_nonces = False  # some under the latest keys are not the counter's, nor checked
        self._counting = False  # it gave a nonce to a record under the latest keys
        self._limits = gap_limit, mtu, queue
        self._cookie = 0
        self._in_flight: dict[int, tuple[InFlightFrame, int]] = {}
        self._latest: Journal | None = None

    # --- the application and TCP ------------------------------------------------------------

    def push(
        self,
        content_type: int,
        content: bytes | memoryview,
        frozen: bool = True,
        padding: int = 0,
        nonce: bytes | None = None,
    ) -> bytes:
        """The next record as TCP gets it: header, explicit nonce, text, room for the tag.

        frozen: `content` is copied; if not, it is referred to, and the caller promises not to
        change it until it is acknowledged (zero-copy). padding: zeros behind the inner type, TLS
        1.3. nonce: TLS 1.2, if it is not the one that counts up; software encrypts the record then.
        Where some nonces under a key are the counter's, all others must be far from those that it
        has given or will give, and must not be repeated; who gives all of them answers for all.

        Raises `ValueError` on more than 2^14 bytes, with padding, or where TLS has no such thing,
        on a nonce that the counter has, and on a view with gaps; `SequenceExhausted` when no record
        number is left. Then there is no record.
        """
        if self.records.next_count > _LAST_NUMBER:
            raise SequenceExhausted("no record number is left")
        version, inner, outer = self.keys.latest.info.version, b"", content_type
        explicit = b""
        if version == VERSION_TLS13:
            inner, outer = bytes([content_type]) + bytes(padding), CONTENT_APPLICATION_DATA
        else:
            first, number = self._nonce
            explicit = (first + self.records.next_count - number).to_bytes(9, "big")[1:]
        view = memoryview(content)
        if not view.c_contiguous:
            raise ValueError("content: bytes without gaps")
        if view.nbytes + padding > MAX_PLAINTEXT:
            raise ValueError(f"at most {MAX_PLAINTEXT} bytes of plaintext")
        if version == VERSION_TLS13 and nonce or version != VERSION_TLS13 and padding:
            raise ValueError("explicit nonces are TLS 1.2's, padding is TLS 1.3's")
        if nonce is not None and len(nonce) != len(explicit):
            raise ValueError("nonce: 8 bytes")
        named = explicit if nonce is None else nonce
        self._reserve(named, explicit, nonce is None)
        length = len(named) + view.nbytes + len(inner) + TAG_BYTES
        header = bytes((outer, 3, 3)) + length.to_bytes(2, "big") + named
        # Views count items, which need not be bytes; one without any cannot be cast.
        data = bytes(view) if frozen or not view.nbytes else view.cast("B")
        record = self.records.push(header, data, inner, self.keys.latest.number, frozen)
        record.software_only = named != explicit or not header_prefix_ok(
            version, header[:HEADER_BYTES]
        )
        return record.plain(record.start, record.end)

    def _reserve(self, nonce: bytes, explicit: bytes, counted: bool) -> None:
        """Raises `ValueError` on a nonce that another record under the key has, or may get.

        explicit: the counter's. counted: it gives this one.
        """
        if counted and self._own_nonces and explicit:
            raise ValueError("nonce: the counter cannot go on behind nonces that it does not know")
        counting = self._counting or counted or self.handle is not None
        if nonce != explicit and counting:
            first, number = self._nonce
            ahead = (int.from_bytes(nonce, "big") - first) & (1 << 64) - 1
            if ahead < self.records.next_count - number + _AHEAD:
                raise ValueError("nonce: the counter has given it, or will")
        self._counting = counting
        self._own_nonces = not counting and (self._own_nonces or nonce != explicit)

    @property
    def eor(self) -> int | None:
        """Stream offset where TCP must end a segment, among what was not handed over yet: the start
        marker, and where the device takes over from software."""
        if self.resync is not None:
            return self.resync
        return 0 if self.high == 0 else None

    def offset(self, sequence: int) -> int:
        """Stream offset of a TCP sequence number."""
        return self.una + seq.distance(sequence, seq.add(self.seq, self.una))

    def transmit(
        self, frame: bytes, encrypt: bool = True, device: object = None, final: bool = False
    ) -> Plan | Drop | Hold:
        """What to do with a TCP segment of this direction.

        frame: of the host, its payload as `push` gave it. encrypt: the payload is to be encrypted;
        without it nothing is said about it, so that only what lies in front of the start marker
        leaves, as it is. device: the one that the frame is about to leave by, if it may be another
        than this direction's. final: the caller answers for it that a segment that begins in front
        of the marker holds records as software sealed them before the offload, also behind it.
        Raises `ValueError` on what is no TCP segment.
        """
        segment = split(frame)
        start = self.offset(segment.seq)
        end = start + len(segment.payload)
        own = device is None or device is self.device
        state = self._state(own)
        if state.offloaded and len(self._in_flight) + state.max_frames > COOKIES:
            self.counters.tag_wait += 1
            return Hold(())
        if final and start < min(end, 0):
            decision: Decision | Drop | Hold = as_it_is(state, start, end)
        else:
            decision = choose(state, start, end, encrypt)
        got: Plan | Drop | Hold
        if isinstance(decision, Decision):
            got = self._plan(decision, frame, segment, start, state.offloaded)
        else:
            got = decision
        if isinstance(got, Hold):
            self.counters.tag_wait += 1
        elif isinstance(got, Drop) and got.reason is DropReason.TAG_MISMATCH:
            self.counters.tag_mismatch += 1
        elif isinstance(got, Drop) and got.reason is DropReason.ORPHAN:
            self.counters.orphans += 1
        elif isinstance(got, Drop):
            name = got.reason.value
            setattr(self.netdev, name, getattr(self.netdev, name) + 1)
            self.netdev.tx_tls_ooo += state.offloaded and start != self.expected
        return got

    def acked(self, seq: int) -> list[KeyAction]:
        """Everything before the TCP sequence number `seq` is acknowledged."""
        self.una = max(self.una, self.offset(seq))
        self.records.release(self.una)
        return self._progress()

    # --- the device -------------------------------------------------------------------------

    def completed(self, completion: Completed) -> list[KeyAction]:
        """What became of a posted frame of this direction.

        The context and generation in its completion are those of the handle that the direction had
        when the frame was made, whatever the frame was. Frames that were made without one, or for
        another device, name `tx_posts.UNUSED_CONTEXT`: nothing waits for what becomes of them."""
        flight, syncs = self._in_flight.pop(completion.cookie, (None, 0))
        if flight is None:
            return []
        for record in flight.touched:
            record.outstanding -= 1
            record.streaming -= flight.streams(record)
        if completion.reason is TxReason.NONE:
            self._sent(flight, completion)
        else:
            self._failed(flight, completion.reason, syncs)
        return self._progress()

    def tls_offload_tx_resync_request(self) -> None:
        """The device's stream is lost: software encrypts up to the next record boundary, the first
        at or behind all that was handed over, where the stream begins anew. Nothing is done where
        the device does not have the direction."""
        if self.handle is None:
            return
        self._lost = max(self._lost, self._syncs)
        self.resync, self._resync_way = self.records.boundary(self.high), Way.NEXT_RECORD

    @property
    def tls_offload_tx_resync_pending(self) -> bool:
        """Software encrypts up to `resync`."""
        return self.resync is not None

    def deleted(self) -> None:
        """The device has let go of the direction: software goes on. What is posted is completed
        all the same, and `completed` to be told."""
        self.handle = None
        self.keys.stop()
        self.resync = None

    def failed(self) -> None:
        """The device has failed, and completes nothing any more: software goes on.

        What it has computed of a tag may have left or not. So where the text could have been
        changed since, segments with bytes of that tag are dropped and counted: a second value of
        it must not leave.
        """
        self.deleted()
        for flight, _ in self._in_flight.values():
            for record in flight.touched:
                record.outstanding = record.streaming = 0
                record.unknown |= record.tag is None
        self._in_flight.clear()
        self._latest = None

    # --- keys -------------------------------------------------------------------------------

    def rekey(self, info: CryptoInfo, nonce: bytes = b"") -> list[KeyAction]:
        """Keys of all records from the next one on, whose record numbers begin at 0.

        nonce: TLS 1.2, explicit nonce of the first of them, zero if it is not given; the device is
        not told of keys there. Raises `ValueError` on keys of another version and on a nonce of
        another size.
        """
        if len(nonce) not in (0, 0 if info.version == VERSION_TLS13 else NONCE_BYTES):
            raise ValueError("nonce: 8 bytes in TLS 1.2, none in TLS 1.3")
        number = self.records.next_count
        accepted = self.keys.rekey(info, number, self.records.end)
        self._nonce = int.from_bytes(nonce, "big"), number
        self._counting = self._own_nonces = False
        if not accepted and self.handle is not None and info.version == VERSION_TLS13:
            self.stat.TlsTxRekeyError += 1
        return self._progress()

    def key_installed(self, ok: bool) -> list[KeyAction]:
        """The `InstallKey` that was returned last was done, or could not be. Nothing comes of it
        where the device has let go meanwhile. Raises `ValueError` if none was returned."""
        if self.handle is None:
            return []
        actions = self.keys.installed(ok)
        if not ok:
            self.stat.TlsTxRekeyError += 1
            return actions + self._progress()
        self.stat.TlsTxRekeyOk += 1
        if self.keys.mode is RekeyMode.GAP:
            self.resync, self._resync_way = self.records.boundary(self.high), Way.SOFTWARE
        return actions + self._progress()

    def _progress(self) -> list[KeyAction]:
        busy = {epoch for flight, _ in self._in_flight.values() for epoch in flight.epochs}
        return self.keys.progress(self.una, self.high, busy)

    # --- a segment --------------------------------------------------------------------------

    def _state(self, own: bool) -> TxState:
        gap_limit, mtu, queue = self._limits
        return TxState(
            self.records,
            self.expected,
            self.high,
            self.keys.usable,
            own and self.handle is not None,
            self.resync,
            self._resync_way,
            self.mode,
            gap_limit,
            mtu,
            queue,
        )

    def _plan(
        self, decision: Decision, frame: bytes, segment: Segment, start: int, live: bool
    ) -> Plan | Drop:
        """Makes the frames, and notes what has changed so that it can be taken back."""
        journal = Journal()
        try:
            flights = list(self._made(decision, frame, segment, start, live, journal))
            posts = [self._post(flight, live, journal) for flight in flights]
        except TagMismatch:
            journal.undo()
            return Drop(DropReason.TAG_MISMATCH)
        except ValueError:
            journal.undo()
            raise
        if decision.way is not None:
            journal.count(self.counters.by_way, decision.way.value)
        journal.add(self.netdev, "tx_tls_ooo", int(decision.ooo))
        journal.add(self.netdev, "tx_tls_skip_no_sync_data", int(decision.skipped))
        if decision.op is not TxOp.NOTHING:
            journal.set(self, "high", max(self.high, start + len(segment.payload)))
        journal.set(self, "expected", decision.expected)
        if decision.resync != self.resync:
            journal.set(self, "_resync_way", Way.NEXT_RECORD)
            journal.set(self, "resync", decision.resync)
        self._latest = journal
        return Plan(posts, decision.way, lambda: self._undo(journal))

    def _made(
        self,
        decision: Decision,
        frame: bytes,
        segment: Segment,
        start: int,
        live: bool,
        journal: Journal,
    ) -> Iterable[InFlightFrame]:
        meta = context_of(self.handle if live else None)
        if decision.op is TxOp.NOTHING:
            return [InFlightFrame(frame, meta, TxOp.NOTHING)]
        if decision.op is TxOp.ENCRYPT:
            assert self.handle is not None
            builder = Builder(self.handle, self.records, self.seq, self._limits[1])
            return builder.frames_of(decision, segment, start)
        payload = segment.payload
        if not decision.final:
            payload = self._software(decision, start, start + len(payload), journal)
        return [InFlightFrame(wire_frame(segment.head, payload), meta, TxOp.WIRE, decision.way)]

    def _software(self, decision: Decision, start: int, end: int, journal: Journal) -> bytes:
        """The segment's final bytes. Its tags are kept: nobody may send others. Raises
        `TagMismatch`."""
        done = encrypt(decision.records, self.keys.epochs, start, end)
        for record, tag in done.tags:
            journal.set(record, "tag", tag)
        if decision.way is not None:
            journal.count(self.counters.cpu_bytes, decision.way.value, done.cpu_bytes)
        return done.payload

    def _post(self, flight: InFlightFrame, live: bool, journal: Journal) -> TxFrame:
        """Notes a frame that is handed out. live: its completion will come here."""
        if flight.meta.get("sync"):
            journal.add(self, "_syncs")
        cookie = 0
        if live:
            cookie = self._cookie % COOKIES + 1
            while cookie in self._in_flight:
                cookie = cookie % COOKIES + 1
            journal.set(self, "_cookie", cookie)
            journal.put(self._in_flight, cookie, (flight, self._syncs))
        for record in flight.touched:
            journal.add(record, "outstanding")
            journal.add(record, "streaming", int(flight.streams(record)))
        if flight.way is not None:
            dump = flight.op is TxOp.DUMP
            counts = self.counters.reread_bytes if dump else self.counters.frame_bytes
            journal.count(counts, flight.way.value, len(flight.frame))
            if flight.stored:
                tags = TAG_BYTES * flight.stored
                journal.count(self.counters.tag_in_bytes, flight.way.value, tags)
        return TxFrame(flight.frame, flight.packed(cookie))

    def _undo(self, journal: Journal) -> None:
        if journal is not self._latest:
            raise ValueError("only the latest plan can be taken back, and once")
        self._latest = None
        journal.undo()
        self.counters.undone += 1
        if self.handle is None:
            self.resync = None  # the device has let go in between
        elif self.resync is None and self._lost >= self._syncs:
            # What was to settle it did not leave.
            self.tls_offload_tx_resync_request()

    # --- completions ------------------------------------------------------------------------

    def _sent(self, flight: InFlightFrame, completion: Completed) -> None:
        if flight.stream and flight.meta.get("sync"):
            self._refused = 0
        begun = {record.count: record for record in flight.begins}
        for number, tag in completion.tags.items():
            record = begun.get(number)
            if record is not None and record.tag is None:
                record.tag = tag
            if record is not None and record.tag == tag:
                record.from_stream |= flight.stream
        if flight.rest is not None and flight.rest.tag is None:
            flight.rest.unknown = True
        if flight.way is not None and completion.tags:
            counts, size = self.counters.tag_out_bytes, TAG_BYTES * len(completion.tags)
            counts[flight.way.value] = counts.get(flight.way.value, 0) + size

    def _failed(self, flight: InFlightFrame, reason: TxReason, syncs: int) -> None:
        if flight.op is not TxOp.DUMP:
            if reason is TxReason.ORPHAN:
                self.counters.orphans += 1
            elif reason is TxReason.TAG_MISMATCH:
                self.counters.tag_mismatch += 1
            else:
                self.counters.device_drops += 1
        if not flight.stream:
            if reason is not TxReason.TAG_MISMATCH:
                self._cannot_send_again(flight.records)
        elif reason not in _WALKED and self.handle is not None:
            self._lost = max(self._lost, syncs)
            self._refused += flight.meta.get("sync", 0)
            if self._refused >= _SYNCS:
                self.counters.given_up += 1
                self.deleted()
            elif syncs == self._syncs:
                self.tls_offload_tx_resync_request()

    def _cannot_send_again(self, records: Iterable[TxRecord]) -> None:
        """A detached frame failed. What the device refuses twice it may refuse for ever."""
        for record in records:
            record.failures += 1
            record.software_only |= record.failures >= _FAILURES
