# SPDX-License-Identifier: Apache-2.0
"""The last stage: marked or not, and out with the frame, its metadata and its events."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from ..abi.events import EventKind
from ..abi.meta import META, META_BITS, Reason
from ..common.counts import ReceiveCounts
from ..common.layouts import (
    TOKEN_ADD,
    TOKEN_DELETE,
    TOKEN_DESYNC,
    TOKEN_GO_ON,
    TOKEN_PROVEN,
    TOKEN_REKEY,
    Event,
    Layouts,
    Meta,
    Word,
)
from .frame_reader import FrameReader

Row = data.StructLayout(
    {
        "generation": 8,
        "broken": 1,  # a tag was bad; until TOKEN_DESYNC says that the walker knows
        "parked": 1,
        "park_end": 32,  # packets that end behind it are not marked
        "park": 8,  # name of the latest park; the first is 1
        "awaited": 8,  # the park whose go-on ends all: that of the highest record
        "park_number": 32,  # low bits of that record's number
    }
)
"""What commit knows of a context."""

FRAMING = META.offset("records")  # metadata from this bit on belongs to marked packets


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
    feedback: contexts with a bad tag, one until its TOKEN_DESYNC comes back; if TOKEN_REKEY comes
        first, for which that one is too old, once more under the next generation. And proofs of
        candidates. Commit waits while it is not taken, so a queue for as many as there are entries
        on their way belongs behind.
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
        m.d.comb += [
            reader.text_spans.payload.eq(self.text_spans.payload),
            reader.text_spans.valid.eq(self.text_spans.valid),
            self.text_spans.ready.eq(reader.text_spans.ready),
            self.frames.payload.eq(reader.frames.payload),
            self.frames.valid.eq(reader.frames.valid),
            reader.frames.ready.eq(self.frames.ready),
            reader.write_word.eq(self.write_word),
            self.read_word.eq(reader.read_word),
            self.commit_word.eq(reader.ring_word),
            self.shadow_word.eq(reader.ring_word),
            reader.ring_data.eq(self.commit_data),
            reader.shadow_data.eq(self.shadow_data),
        ]

        m.submodules.rows = rows = Memory(shape=Row, depth=self._config.flows, init=[])
        row_read = rows.read_port()
        row_write = rows.write_port()
        entry = self.entries.payload
        verdict = self.verdicts.payload
        m.d.comb += [row_read.addr.eq(entry.context), row_write.addr.eq(entry.context)]

        # What waits to leave, in this order: the entry's event, commit's own, the metadata.
        front_event, front_pending = Signal(Event), Signal()
        own_event, own_pending = Signal(Event), Signal()
        meta, meta_pending = Signal(Meta), Signal()
        job_pending = Signal()
        silent = ~front_pending & ~own_pending
        m.d.comb += [
            self.events.valid.eq(front_pending | own_pending),
            self.events.payload.eq(Mux(front_pending, front_event, own_event)),
            self.metas.valid.eq(meta_pending & silent),
            self.metas.payload.eq(meta),
            reader.jobs.valid.eq(job_pending & silent),
            reader.jobs.payload.mark.eq(meta.decrypted),
        ]
        with m.If(self.events.ready):
            m.d.sync += front_pending.eq(0)
            with m.If(~front_pending):
                m.d.sync += own_pending.eq(0)
        with m.If(self.metas.valid & self.metas.ready):
            m.d.sync += meta_pending.eq(0)
        with m.If(reader.jobs.valid & reader.jobs.ready):
            m.d.sync += job_pending.eq(0)
        feedback_pending = Signal()
        feedback = Signal(self.feedback.payload.shape())
        m.d.comb += [
            self.feedback.valid.eq(feedback_pending),
            self.feedback.payload.eq(feedback),
        ]
        with m.If(self.feedback.ready):
            m.d.sync += feedback_pending.eq(0)
        texts = Signal.like(entry.texts)
        m.d.comb += reader.jobs.payload.texts.eq(texts)

        packet_end = Signal(32)
        row = Signal(Row)
        behind = Signal(32)  # packet's end - park's end, modulo 2^32
        above = Signal(32)  # record's number - that of the record awaited, modulo 2^32
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
                    & silent
                    & ~meta_pending
                    & ~job_pending
                    & ~feedback_pending
                )
                with m.If(decide):
                    m.next = "ROW"
        m.d.comb += [
            self.entries.ready.eq(decide),
            self.verdicts.ready.eq(decide & entry.has_spans),
        ]

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
        front = entry.meta.reason
        reason = Signal.like(front)
        with m.If((front != Reason.NONE) & (front < Reason.PARKED)):
            m.d.comb += reason.eq(front)
        with m.Elif(parked | (front == Reason.PARKED)):
            m.d.comb += reason.eq(Reason.PARKED)
        with m.Elif(front == Reason.HELD):
            m.d.comb += reason.eq(Reason.HELD)
        with m.Elif(mismatch | (front == Reason.TAG_MISMATCH)):
            m.d.comb += reason.eq(Reason.TAG_MISMATCH)
        with m.Elif(stale):
            m.d.comb += reason.eq(Reason.STALE_GENERATION)
        with m.Else():
            m.d.comb += reason.eq(front)
        mark = reason == Reason.NONE

        with m.If(decide):
            m.d.sync += [
                front_event.eq(entry.event),
                front_pending.eq(entry.event.kind != EventKind.NONE),
                own_event.eq(0),
                own_event.generation.eq(entry.generation),
                own_event.context.eq(entry.context),
                own_event.seq.eq(packet_end),
                own_event.number.eq(verdict.number),
                feedback.context.eq(entry.context),
                feedback.generation.eq(entry.generation),
                feedback.proof.eq(proof),
                feedback.guess.eq(entry.meta.last_start),
                feedback.number.eq(entry.meta.first_number),
            ]
            with m.If(entry.is_token):
                m.d.sync += feedback_pending.eq((entry.token == TOKEN_REKEY) & row.broken)
            with m.Else():
                framing = Const(-1, Meta.size - FRAMING)
                keep = Cat(Const(-1, FRAMING), Mux(mark, framing, 0))
                m.d.sync += [
                    meta.eq(entry.meta.as_value() & keep),
                    meta.decrypted.eq(mark),
                    meta.reason.eq(reason),
                    meta.first_completes.eq(entry.meta.first_completes & mark),
                    meta.last_completes.eq(entry.meta.last_completes & mark),
                    meta_pending.eq(1),
                    job_pending.eq(1),
                    texts.eq(entry.texts),
                    own_pending.eq(bad | parks),
                    feedback_pending.eq((bad & same & ~row.broken) | proof),
                ]
                with m.If(bad):
                    m.d.sync += own_event.kind.eq(EventKind.TAG_MISMATCH)
                with m.Else():
                    m.d.sync += [
                        own_event.kind.eq(EventKind.PARKED),
                        own_event.park.eq(row.park + 1),
                    ]

        # The row afterwards.
        m.d.comb += row_write.data.eq(row)
        with m.If(entry.is_token):
            m.d.comb += row_write.en.eq(decide)
            with m.Switch(entry.token):
                with m.Case(TOKEN_ADD, TOKEN_DELETE):
                    m.d.comb += [
                        row_write.data.eq(0),
                        row_write.data.generation.eq(entry.generation),
                    ]
                with m.Case(TOKEN_REKEY):
                    # The walk goes on, so the walker has yet to hear of a bad tag.
                    m.d.comb += [
                        row_write.data.eq(0),
                        row_write.data.generation.eq(entry.generation),
                        row_write.data.broken.eq(row.broken),
                    ]
                with m.Case(TOKEN_GO_ON):
                    with m.If(same & (row.awaited == entry.park)):
                        m.d.comb += row_write.data.parked.eq(0)
                with m.Case(TOKEN_DESYNC):
                    with m.If(same):
                        m.d.comb += row_write.data.broken.eq(0)
        with m.Else():
            m.d.comb += row_write.en.eq(decide & same & (bad | parks))
            with m.If(bad):
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

        packet = decide & ~entry.is_token
        own = (entry.token == TOKEN_DESYNC) | (entry.token == TOKEN_PROVEN)  # answers to feedback
        m.d.comb += self.token_done.eq(decide & entry.is_token & ~own)
        m.d.sync += [
            self.counts.marked.eq(packet & mark),
            self.counts.marked_ahead.eq(packet & mark & entry.ahead),
            self.counts.records_verified.eq(Mux(packet & entry.has_spans, verdict.verified, 0)),
            self.counts.tag_mismatch.eq(packet & bad),
            self.counts.parked.eq(packet & parks),
            self.counts.resync_requests.eq(decide & (entry.event.kind == EventKind.RESYNC_REQUEST)),
            self.counts.resumed.eq(decide & (entry.event.kind == EventKind.RESUMED)),
        ]
        return m
