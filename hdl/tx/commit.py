# SPDX-License-Identifier: Apache-2.0
"""The last stage of transmit: whether a frame leaves, its TCP checksum, and its completion."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..abi.config import Config
from ..abi.tx import TX_COMPLETION_BITS, TX_STATUS, TxOp, TxReason
from ..common.counts import TransmitCounts
from ..common.fifo import StreamFIFO
from ..common.layouts import Word, struct
from ..common.tx_layouts import Action, TxLayouts, TxTokenKind
from .reader import TxReader

COMPLETIONS = 4  # beats between decision and port

Status = struct(TX_STATUS)

Beat = data.StructLayout({"data": TX_COMPLETION_BITS, "last": 1})
"""One beat of a completion: a tag, byte 0 lowest, or as the last one a `Status`."""


class TxCommit(Component):
    """Decides frame by frame, in order, and lets the frames and their completions go.

    A frame is judged behind its verdict, which comes behind its last write into the text ring. It
    leaves only if the walker found nothing, no key was stale, no tag differed from a stored one,
    and as many bytes were written as its payload has beside headers and nonces. All else is
    dropped, and the completion says why; a dropped frame's tags are given too, and mean nothing.

    The checksum is that of the segment as it came, corrected by what the cipher changed (RFC 1624):
    the complement of segment_sum - (field as it came) + verdict.sum. What the host left in the
    field does not matter. Of the two forms of zero it gives 0, like Linux's `csum_fold`.

    A decision takes three clocks and one more for each tag, and runs up to four frames ahead of
    the frame that leaves. Backpressure: a completion that is not taken holds up the frames behind
    it, nothing is lost. A completion may leave before its frame. No stream's `ready` depends on
    another's in the same clock, but for `clear_spans`.

    entries, verdicts (one for each entry with `has_spans`), clear_spans (`entry.clears` for each
    entry), tags (`entry.tags` for each entry): from the walker and the cipher. Clear spans and tags
    come before their entry has to be taken, so each needs a queue of `tx_layouts.tag_depth`.
    frames, completions: what leaves; one completion a frame, one `last` a completion.
    write_word, read_word, ring_*, text_*: see `TxReader`.
    token_done: a driver's command has passed the whole pipeline, its last token if it has more.
    counts: see `TransmitCounts`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = TxLayouts(config)
        bits = layouts.word_bits
        super().__init__(
            {
                "entries": In(stream.Signature(layouts.entry)),
                "clear_spans": In(stream.Signature(layouts.clear_span)),
                "verdicts": In(stream.Signature(layouts.verdict)),
                "tags": In(stream.Signature(128)),
                "frames": Out(stream.Signature(Word)),
                "completions": Out(stream.Signature(Beat)),
                "write_word": In(bits),
                "read_word": Out(bits),
                "ring_word": Out(bits),
                "ring_data": In(Word),
                "text_data": In(128),
                "text_written": In(16),
                "token_done": Out(1),
                "counts": Out(TransmitCounts),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = TxReader(self._config)
        m.submodules.beats = beats = StreamFIFO(Beat, COMPLETIONS)
        connect(m, flipped(self.clear_spans), reader.clear_spans)
        connect(m, reader.frames, flipped(self.frames))
        connect(m, beats.o, flipped(self.completions))
        m.d.comb += [
            reader.write_word.eq(self.write_word),
            self.read_word.eq(reader.read_word),
            self.ring_word.eq(reader.ring_word),
            reader.ring_data.eq(self.ring_data),
            reader.text_data.eq(self.text_data),
            reader.text_written.eq(self.text_written),
        ]

        entry, verdict = self.entries.payload, self.verdicts.payload
        given = Signal(10)  # tags of the entry that have gone
        wrong_count = Signal()  # bytes were not written, or too many
        total = Signal(18)  # sum of the three
        folded = Signal(17)  # carries added once
        deciding, decide = Signal(), Signal()
        with m.FSM():
            with m.State("TAGS"):
                written = Mux(entry.has_spans, verdict.written, 0)
                difference = Mux(entry.has_spans, verdict.sum, 0)
                m.d.sync += [
                    wrong_count.eq(written != entry.expected),
                    total.eq(entry.segment_sum + (~entry.checksum_in)[:16] + difference),
                ]
                with m.If(self.entries.valid):
                    with m.If(given != entry.tags):
                        m.d.comb += [
                            beats.i.valid.eq(self.tags.valid),
                            beats.i.payload.data.eq(self.tags.payload),
                            self.tags.ready.eq(beats.i.ready),
                        ]
                        with m.If(self.tags.valid & beats.i.ready):
                            m.d.sync += given.eq(given + 1)
                    with m.Elif(~entry.has_spans | self.verdicts.valid):
                        m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += folded.eq(total[:16] + total[16:])
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += [
                    deciding.eq(1),
                    decide.eq(entry.is_token | (beats.i.ready & reader.jobs.ready)),
                ]
                with m.If(decide):
                    m.d.sync += given.eq(0)
                    m.next = "TAGS"
        packet = decide & ~entry.is_token
        m.d.comb += [
            self.entries.ready.eq(decide),
            self.verdicts.ready.eq(decide & entry.has_spans),
            self.token_done.eq(decide & entry.is_token & (entry.token != TxTokenKind.MORE)),
        ]

        # A stale key goes first because it explains a tag that differs.
        reason = Signal(TxReason)
        with m.If(entry.reason != TxReason.NONE):
            m.d.comb += reason.eq(entry.reason)
        with m.Elif(entry.has_spans & verdict.stale):
            m.d.comb += reason.eq(TxReason.STALE_KEY)
        with m.Elif(entry.has_spans & verdict.mismatch):
            m.d.comb += reason.eq(TxReason.TAG_MISMATCH)
        with m.Elif(wrong_count | (entry.action == Action.DROP)):
            m.d.comb += reason.eq(TxReason.DEVICE_ERROR)
        with m.Elif((entry.action == Action.PASS) & entry.has_spans):
            m.d.comb += reason.eq(TxReason.DEVICE_ERROR)
        good = reason == TxReason.NONE

        checksum = Signal(16)
        job = reader.jobs.payload
        m.d.comb += [
            checksum.eq(~(folded[:16] + folded[16])),
            reader.jobs.valid.eq(deciding & ~entry.is_token & beats.i.ready),
            job.drop.eq(~good | (entry.action == Action.DUMP)),
            job.encrypt.eq(entry.action == Action.ENCRYPT),
            job.clears.eq(entry.clears),
            job.payload_at.eq(entry.payload_at),
            job.payload_end.eq(entry.payload_end),
            job.checksum_at.eq(entry.checksum_at),
            job.checksum.eq(Mux(checksum.all(), 0, checksum)),
        ]

        status = Signal(Status)
        m.d.comb += [
            status.reason.eq(reason),
            status.tags.eq(entry.tags),
        ]
        for name in ("op", "cookie", "context", "generation", "first_number"):
            m.d.comb += status[name].eq(entry[name])
        with m.If(deciding & ~entry.is_token):
            m.d.comb += [
                beats.i.valid.eq(reader.jobs.ready),
                beats.i.payload.data.eq(status),
                beats.i.payload.last.eq(1),
            ]

        left = packet & good
        passed = left & (entry.action == Action.PASS)
        m.d.sync += [
            self.counts.frames.eq(packet),
            self.counts.encrypted.eq(left & (entry.action == Action.ENCRYPT)),
            self.counts.wire.eq(passed & (entry.op == TxOp.WIRE)),
            self.counts.passed.eq(passed & (entry.op != TxOp.WIRE)),
            self.counts.dumped.eq(left & (entry.action == Action.DUMP)),
            self.counts.dropped.eq(packet & ~good),
            self.counts.orphans.eq(packet & (reason == TxReason.ORPHAN)),
            self.counts.tag_mismatch.eq(packet & (reason == TxReason.TAG_MISMATCH)),
            self.counts.tags.eq(Mux(packet, entry.tags, 0)),
        ]
        return m
