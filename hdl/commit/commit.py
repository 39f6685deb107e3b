# SPDX-License-Identifier: Apache-2.0
"""The last stage: marked or not, and out with the frame, its metadata and its events."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory, WritePort
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..abi.config import Config
from ..abi.events import EventKind
from ..abi.meta import META, META_BITS, Reason
from ..common.counts import ReceiveCounts
from ..common.layouts import Event, Layouts, Meta, TokenKind, Word
from .frame_reader import FrameReader

Row = data.StructLayout(
    {
        "generation": 8,
        "broken": 1,  # a tag was bad; until a DESYNC token says that the walker knows
        "parked": 1,
        "park_end": 32,  # packets that end behind it are not marked
        "park": 8,  # name of the latest park; the first is 1
        "awaited": 8,  # the park whose go-on ends all: that of the highest record
        "park_number": 32,  # low bits of that record's number
    }
)
"""What commit knows of a context."""

FRAMING = META.offset("records")  # metadata from this bit on belongs to marked packets


class _Leaving:
    """What waits to leave, in this order: the entry's event, commit's own, the metadata, and with
    them the reader's job; and feedback, beside."""

    def __init__(self, layouts: Layouts) -> None:
        self.walker_event = Signal(Event)
        self.walker_event_pending = Signal()
        self.own_event = Signal(Event)
        self.own_pending = Signal()
        self.meta = Signal(Meta)
        self.meta_pending = Signal()
        self.job_pending = Signal()
        self.texts = Signal(layouts.entry["texts"].shape)
        self.feedback = Signal(layouts.feedback)
        self.feedback_pending = Signal()
        self.silent = ~self.walker_event_pending & ~self.own_pending


@dataclass(frozen=True)
class _Found:
    """What a verdict comes to for the entry and its row."""

    same: Value  # the row is of the entry's generation
    bad: Value  # a tag was bad
    parks: Value  # a record may change keys
    proof: Value  # a candidate is proven
    reason: Value
    mark: Value


class Commit(Component):
    """Decides packet by packet, in the order of arrival, and lets the frames go.

    Everything that may still change about a packet is known here and only here: the verdict on
    the records that it completes, a park that lies before its end, a bad tag whose news has not
    reached the walker. So this is the one place where the mark is set.

    A decision takes three clocks and runs up to four frames ahead of the frame that leaves. The
    events of a packet leave before its metadata, its metadata no later than its first word is
    offered. Latency from the entry (or its verdict) to the first word: ten clocks. No stream's
    `ready` depends on another's in the same clock, but for `text_spans`.

    entries, verdicts (one for each entry with `has_spans`), text_spans (`entry.texts` for each
    entry; there before it): from the walker and the cipher.
    frames, metas (META in the low bits), events: what leaves.
    feedback: contexts with a bad tag, one until its DESYNC token comes back; if a REKEY token
        comes first, for which that one is too old, once more under the next generation. And proofs
        of candidates. Commit waits while it is not taken, so a queue for as many as there are
        entries on their way belongs behind.
    write_word, read_word, commit_*, shadow_*: see `FrameReader`.
    token_done: a driver's command has passed the whole pipeline.
    counts: see `ReceiveCounts`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = Layouts(config)
        bits = layouts.word_bits
        super().__init__(
            {
                "entries": In(stream.Signature(layouts.entry)),
                "text_spans": In(stream.Signature(layouts.text_span)),
                "verdicts": In(stream.Signature(layouts.verdict)),
                "frames": Out(stream.Signature(Word)),
                "metas": Out(stream.Signature(META_BITS)),
                "events": Out(stream.Signature(Event)),
                "feedback": Out(stream.Signature(layouts.feedback)),
                "write_word": In(bits),
                "read_word": Out(bits),
                "commit_word": Out(bits),
                "commit_data": In(Word),
                "shadow_word": Out(bits),
                "shadow_data": In(128),
                "token_done": Out(1),
                "counts": Out(ReceiveCounts),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = FrameReader(self._config)
        self._connect(m, reader)
        m.submodules.rows = rows = Memory(shape=Row, depth=self._config.flows, init=[])
        row_read = rows.read_port()
        row_write = rows.write_port()
        entry = self.entries.payload
        m.d.comb += [row_read.addr.eq(entry.context), row_write.addr.eq(entry.context)]

        leaving = _Leaving(Layouts(self._config))
        self._leave(m, leaving, reader)

        packet_end = Signal(32)
        row = Signal(Row)
        behind = Signal(32)  # packet's end - park's end, modulo 2^32
        decide = Signal()
        with m.FSM():
            with m.State("ROW"):
                m.d.sync += packet_end.eq(entry.meta.seq + entry.meta.payload_length)
                with m.If(self.entries.valid):
                    m.next = "PARK"
            with m.State("PARK"):
                m.d.sync += [row.eq(row_read.data), behind.eq(packet_end - row_read.data.park_end)]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += decide.eq(
                    (~entry.has_spans | self.verdicts.valid)
                    & leaving.silent
                    & ~leaving.meta_pending
                    & ~leaving.job_pending
                    & ~leaving.feedback_pending
                )
                with m.If(decide):
                    m.next = "ROW"
        m.d.comb += [
            self.entries.ready.eq(decide),
            self.verdicts.ready.eq(decide & entry.has_spans),
        ]

        found = self._judge(m, row, behind)
        with m.If(decide):
            self._let_go(m, leaving, found, row, packet_end)
        self._next_row(m, found, decide, row, row_write, packet_end, behind)
        self._count(m, found, decide)
        return m

    def _connect(self, m: Module, reader: FrameReader) -> None:
        """Ports that are the reader's."""
        connect(m, flipped(self.text_spans), reader.text_spans)
        connect(m, reader.frames, flipped(self.frames))
        m.d.comb += [
            reader.write_word.eq(self.write_word),
            self.read_word.eq(reader.read_word),
            self.commit_word.eq(reader.ring_word),
            self.shadow_word.eq(reader.ring_word),
            reader.ring_data.eq(self.commit_data),
            reader.shadow_data.eq(self.shadow_data),
        ]

    def _leave(self, m: Module, leaving: _Leaving, reader: FrameReader) -> None:
        """What waits leaves, in its order."""
        m.d.comb += [
            self.events.valid.eq(leaving.walker_event_pending | leaving.own_pending),
            self.events.payload.eq(
                Mux(leaving.walker_event_pending, leaving.walker_event, leaving.own_event)
            ),
            self.metas.valid.eq(leaving.meta_pending & leaving.silent),
            self.metas.payload.eq(leaving.meta),
            reader.jobs.valid.eq(leaving.job_pending & leaving.silent),
            reader.jobs.payload.mark.eq(leaving.meta.decrypted),
        ]
        with m.If(self.events.ready):
            m.d.sync += leaving.walker_event_pending.eq(0)
            with m.If(~leaving.walker_event_pending):
                m.d.sync += leaving.own_pending.eq(0)
        with m.If(self.metas.valid & self.metas.ready):
            m.d.sync += leaving.meta_pending.eq(0)
        with m.If(reader.jobs.valid & reader.jobs.ready):
            m.d.sync += leaving.job_pending.eq(0)
        m.d.comb += [
            self.feedback.valid.eq(leaving.feedback_pending),
            self.feedback.payload.eq(leaving.feedback),
        ]
        with m.If(self.feedback.ready):
            m.d.sync += leaving.feedback_pending.eq(0)
        m.d.comb += reader.jobs.payload.texts.eq(leaving.texts)

    def _judge(self, m: Module, row: data.View, behind: Value) -> _Found:
        """The verdict and the row together: what is found, and whether the packet is marked."""
        entry, verdict = self.entries.payload, self.verdicts.payload
        # The row counts only for packets and tokens of its own generation.
        same = row.generation == entry.generation
        known = entry.meta.context_valid & same
        spans = entry.has_spans
        overtaken = known & row.parked & ~behind[31] & (behind != 0)
        stale = spans & verdict.stale
        # Behind a park the record may be sealed with a key that is not here yet.
        bad = spans & verdict.bad & ~verdict.stale & ~overtaken
        parks = spans & verdict.park & ~verdict.bad & ~verdict.stale
        proof = spans & verdict.proof & ~verdict.stale & entry.probe & same
        parked = Signal()
        mismatch = Signal()
        m.d.comb += [
            parked.eq(overtaken | (parks & ~(verdict.park_last & entry.meta.last_completes))),
            mismatch.eq(bad | (known & row.broken)),
        ]
        walker_reason = entry.meta.reason
        reason = Signal.like(walker_reason)
        with m.If((walker_reason != Reason.NONE) & (walker_reason < Reason.PARKED)):
            m.d.comb += reason.eq(walker_reason)
        with m.Elif(parked | (walker_reason == Reason.PARKED)):
            m.d.comb += reason.eq(Reason.PARKED)
        with m.Elif(walker_reason == Reason.HELD):
            m.d.comb += reason.eq(Reason.HELD)
        with m.Elif(mismatch | (walker_reason == Reason.TAG_MISMATCH)):
            m.d.comb += reason.eq(Reason.TAG_MISMATCH)
        with m.Elif(stale):
            m.d.comb += reason.eq(Reason.STALE_GENERATION)
        with m.Else():
            m.d.comb += reason.eq(walker_reason)
        mark = reason == Reason.NONE
        return _Found(same, bad, parks, proof, reason, mark)

    def _let_go(
        self, m: Module, leaving: _Leaving, found: _Found, row: data.View, packet_end: Value
    ) -> None:
        """Statements of a decision: what leaves is ready to."""
        entry, verdict = self.entries.payload, self.verdicts.payload
        m.d.sync += [
            leaving.walker_event.eq(entry.event),
            leaving.walker_event_pending.eq(entry.event.kind != EventKind.NONE),
            leaving.own_event.eq(0),
            leaving.own_event.generation.eq(entry.generation),
            leaving.own_event.context.eq(entry.context),
            leaving.own_event.seq.eq(packet_end),
            leaving.own_event.number.eq(verdict.number),
            leaving.feedback.context.eq(entry.context),
            leaving.feedback.generation.eq(entry.generation),
            leaving.feedback.proof.eq(found.proof),
            leaving.feedback.candidate_seq.eq(entry.meta.last_start),
            leaving.feedback.number.eq(entry.meta.first_number),
        ]
        with m.If(entry.is_token):
            m.d.sync += leaving.feedback_pending.eq((entry.token == TokenKind.REKEY) & row.broken)
        with m.Else():
            framing = Const(-1, Meta.size - FRAMING)
            keep = Cat(Const(-1, FRAMING), Mux(found.mark, framing, 0))
            m.d.sync += [
                leaving.meta.eq(entry.meta.as_value() & keep),
                leaving.meta.decrypted.eq(found.mark),
                leaving.meta.reason.eq(found.reason),
                leaving.meta.first_completes.eq(entry.meta.first_completes & found.mark),
                leaving.meta.last_completes.eq(entry.meta.last_completes & found.mark),
                leaving.meta_pending.eq(1),
                leaving.job_pending.eq(1),
                leaving.texts.eq(entry.texts),
                leaving.own_pending.eq(found.bad | found.parks),
                leaving.feedback_pending.eq((found.bad & found.same & ~row.broken) | found.proof),
            ]
            with m.If(found.bad):
                m.d.sync += leaving.own_event.kind.eq(EventKind.TAG_MISMATCH)
            with m.Else():
                m.d.sync += [
                    leaving.own_event.kind.eq(EventKind.PARKED),
                    leaving.own_event.park.eq(row.park + 1),
                ]

    def _next_row(
        self,
        m: Module,
        found: _Found,
        decide: Value,
        row: data.View,
        row_write: WritePort,
        packet_end: Value,
        behind: Value,
    ) -> None:
        """The row afterwards."""
        entry, verdict = self.entries.payload, self.verdicts.payload
        above = Signal(32)  # record's number - that of the record awaited, modulo 2^32
        m.d.comb += row_write.data.eq(row)
        with m.If(entry.is_token):
            m.d.comb += row_write.en.eq(decide)
            with m.Switch(entry.token):
                with m.Case(TokenKind.ADD, TokenKind.DELETE):
                    m.d.comb += [
                        row_write.data.eq(0),
                        row_write.data.generation.eq(entry.generation),
                    ]
                with m.Case(TokenKind.REKEY):
                    # The walk goes on, so the walker has yet to hear of a bad tag.
                    m.d.comb += [
                        row_write.data.eq(0),
                        row_write.data.generation.eq(entry.generation),
                        row_write.data.broken.eq(row.broken),
                    ]
                with m.Case(TokenKind.GO_ON):
                    with m.If(found.same & (row.awaited == entry.park)):
                        m.d.comb += row_write.data.parked.eq(0)
                with m.Case(TokenKind.DESYNC):
                    with m.If(found.same):
                        m.d.comb += row_write.data.broken.eq(0)
        with m.Else():
            m.d.comb += row_write.en.eq(decide & found.same & (found.bad | found.parks))
            with m.If(found.bad):
                m.d.comb += row_write.data.broken.eq(1)
            with m.Else():
                m.d.comb += [
                    row_write.data.parked.eq(1),
                    row_write.data.park.eq(row.park + 1),
                ]
                # The driver reads in order: what parks already stays parked until the highest
                # record that may change keys has been read, and marks end at the lowest.
                m.d.comb += above.eq(verdict.number - row.park_number)
                with m.If(~row.parked | ~above[31]):
                    m.d.comb += [
                        row_write.data.awaited.eq(row.park + 1),
                        row_write.data.park_number.eq(verdict.number),
                    ]
                with m.If(~row.parked | behind[31]):
                    m.d.comb += row_write.data.park_end.eq(packet_end)

    def _count(self, m: Module, found: _Found, decide: Value) -> None:
        """Counters, and the end of a command."""
        entry, verdict = self.entries.payload, self.verdicts.payload
        packet = decide & ~entry.is_token
        # Answers to feedback are no driver's command.
        own = (entry.token == TokenKind.DESYNC) | (entry.token == TokenKind.PROVEN)
        m.d.comb += self.token_done.eq(decide & entry.is_token & ~own)
        m.d.sync += [
            self.counts.marked.eq(packet & found.mark),
            self.counts.marked_ahead.eq(packet & found.mark & entry.ahead),
            self.counts.records_verified.eq(Mux(packet & entry.has_spans, verdict.verified, 0)),
            self.counts.tag_mismatch.eq(packet & found.bad),
            self.counts.parked.eq(packet & found.parks),
            self.counts.resync_requests.eq(decide & (entry.event.kind == EventKind.RESYNC_REQUEST)),
            self.counts.resumed.eq(decide & (entry.event.kind == EventKind.RESUMED)),
        ]
