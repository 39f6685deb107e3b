# SPDX-License-Identifier: Apache-2.0
"""States of the transmit walker from record to record: headers, spans, and what the row becomes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream

from ..abi.config import HEADER_BYTES, NONCE_BYTES, TAG_BYTES
from ..abi.tx import TxReason
from ..common.record_header import HEAD_BYTES, content_type, header_length, header_ok
from .core import TxCore, header_of


def byte(vector: Value, index: int) -> Value:
    return vector.word_select(index, 8)


class _Head:
    """The header at the place that is next, as FETCH to CHECK find it."""

    def __init__(self) -> None:
        self.head = Signal(8 * HEADER_BYTES)
        self.reach = Signal(17)  # offset in the record behind the payload's end
        self.count = Signal(4)  # header and nonce bytes that are here
        self.bad_header = Signal()
        self.bad_nonce = Signal()


def record_states(
    m: Module, core: TxCore, walker_data: Value, clear_spans: stream.Interface
) -> None:
    """FETCH to CLOSE. Enter at HEAD (`addr` for two clocks, header bytes next), SPAN (text or tag
    next) or CLOSE; leaves to FINISH.

    An error drops the frame, but the spans in front of it run; then the stream is lost until the
    next sync, and of a detached frame nothing has been hashed.
    """
    nonce = Signal(64)  # that record `number` must have; as in the record, first byte lowest
    expected = (core.row.nonce_delta + core.number)[:64]
    m.d.sync += nonce.eq(
        Mux(core.tls12, Cat(byte(expected, i) for i in reversed(range(NONCE_BYTES))), 0)
    )
    found = _Head()
    _read_header(m, core, walker_data, found, nonce)
    _check_header(m, core, clear_spans, found)
    _spans(m, core, nonce)
    _close(m, core)


def _fail(m: Module, core: TxCore, reason: TxReason) -> None:
    """Statements: the frame is dropped, and the walk ends here."""
    m.d.sync += core.drop(reason)
    m.next = "CLOSE"


def _read_header(m: Module, core: TxCore, walker_data: Value, found: _Head, nonce: Signal) -> None:
    """FETCH, WAIT, HEAD and JUDGE: the bytes of header and nonce that are here. Enter at FETCH when
    `addr` is new, at HEAD when it has stood for two clocks. Leaves to CHECK."""
    row = core.row
    aligned = Signal(8 * HEAD_BYTES)  # the read, by offset in the record
    with m.State("FETCH"):
        m.next = "WAIT"
    with m.State("WAIT"):
        m.next = "HEAD"
    with m.State("HEAD"):
        rest = (core.header_size - core.at)[:4]
        m.d.sync += [
            aligned.eq(walker_data << (core.at[:4] << 3)),
            found.reach.eq(core.at + core.left),
            found.count.eq(Mux(core.left < rest, core.left, rest)),
        ]
        m.next = "JUDGE"
    with m.State("JUDGE"):
        # Bytes that came before are held, or their header is known.
        whole = core.named | (core.at >= HEADER_BYTES)
        known = Mux(whole, header_of(content_type(core.content), core.length), core.part_header)
        here = [(core.at <= i) & (found.reach > i) for i in range(HEAD_BYTES)]
        seen = Signal.like(found.head)
        m.d.comb += seen.eq(
            Cat(Mux(here[i], byte(aligned, i), byte(known, i)) for i in range(HEADER_BYTES))
        )
        there = Cat(found.reach > i for i in range(HEADER_BYTES))
        not_named = core.named & (seen != known)
        m.d.sync += [
            found.head.eq(seen),
            found.bad_header.eq(~header_ok(row.version, seen, there) | not_named),
            found.bad_nonce.eq(
                Cat(
                    here[i] & (byte(aligned, i) != byte(nonce, i - HEADER_BYTES))
                    for i in range(HEADER_BYTES, HEAD_BYTES)
                ).any()
                & core.tls12
            ),
        ]
        m.next = "CHECK"


def _check_header(m: Module, core: TxCore, clear_spans: stream.Interface, found: _Head) -> None:
    """CHECK, from JUDGE: the header's bytes leave in the clear, or the walk fails. Leaves to SPAN,
    or to CLOSE at the payload's end or if it fails."""
    row, packet_at = core.row, core.payload_at
    length = header_length(found.head)
    complete = found.reach >= HEADER_BYTES
    differs = (length != row.length) | (found.head[:2] != row.content)
    clear_free = ~clear_spans.valid | clear_spans.ready
    with m.State("CHECK"):
        with m.If(core.detached & core.beyond):
            _fail(m, core, TxReason.OUT_OF_ORDER)
        with m.Elif(~core.key.known):
            _fail(m, core, TxReason.NO_KEY)
        with m.Elif(found.bad_header):
            _fail(m, core, TxReason.BAD_HEADER)
        with m.Elif(core.detached & core.under_way & complete & differs):
            _fail(m, core, TxReason.OUT_OF_ORDER)
        with m.Elif(found.bad_nonce):
            _fail(m, core, TxReason.BAD_NONCE)
        with m.Elif(clear_free):
            m.d.sync += [
                clear_spans.valid.eq(1),
                clear_spans.payload.start.eq(packet_at + core.pos),
                clear_spans.payload.end.eq(packet_at + core.pos + found.count),
                core.clears.eq(core.clears + 1),
                core.clear_bytes.eq(core.clear_bytes + found.count),
                core.part_header.eq(found.head),
                core.at.eq(core.at + found.count),
                *core.take(found.count),
            ]
            with m.If(complete):
                m.d.sync += [core.length.eq(length), core.content.eq(found.head[:2])]
            m.next = "SPAN"
            with m.If(core.left == found.count):
                m.next = "CLOSE"


def _spans(m: Module, core: TxCore, nonce: Signal) -> None:
    """SPAN, from CHECK or DECIDE: the record's text and tag in the payload. Leaves to FETCH for the
    next record's header, to CLOSE at the payload's end or without a key."""
    row = core.row
    maker, piece = core.maker, core.maker.pieces.payload
    size, rest = Signal(16), Signal(16)
    part = Signal(14)
    tag_at = Signal(16)  # of the tag's first byte in the record
    m.d.comb += [
        size.eq(core.length + HEADER_BYTES),
        rest.eq(size - core.at),
        part.eq(Mux(core.left < rest, core.left, rest)),
        tag_at.eq(core.length + (HEADER_BYTES - TAG_BYTES)),
        piece.slot.eq(core.detached),
        piece.number.eq(core.key.rebased),
        piece.nonce.eq(nonce),
        piece.content.eq(core.content),
        piece.length.eq(core.length),
        piece.at.eq(core.pos),
        piece.behind.eq(core.at),
        piece.count.eq(part),
        piece.first.eq(core.at == core.header_size),
        piece.completes.eq(core.left >= rest),
        maker.context.eq(core.context),
        maker.generation.eq(core.key.name),
        maker.version.eq(row.version),
        maker.payload_addr.eq(core.payload_addr),
        maker.payload_offset.eq(core.payload_at),
        maker.key_row.eq(Cat(core.key.slot, core.context) + Const(core.config.flows)),
        maker.tag_mode.eq(core.meta.tags),
        maker.use_row.eq(~core.given),
        maker.text_spans.ready.eq(1),
    ]
    with m.State("SPAN"):
        m.d.comb += maker.pieces.valid.eq(core.key.known)
        with m.If(~core.key.known):
            _fail(m, core, TxReason.NO_KEY)
        with m.Elif(maker.pieces.ready):
            with m.If(~core.given & (core.at <= tag_at) & (core.at + core.left > tag_at)):
                m.d.sync += core.tags.eq(core.tags + 1)
                with m.If(core.tags == 0):
                    m.d.sync += core.first_number.eq(core.number)
            m.d.sync += core.take(part)
            m.d.sync += core.at.eq(core.at + part)
            with m.If(core.left >= rest):
                m.d.sync += [core.number.eq(core.number + 1), core.at.eq(0), core.named.eq(0)]
            m.next = "FETCH"
            with m.If(core.left <= rest):
                m.next = "CLOSE"


def _close(m: Module, core: TxCore) -> None:
    """CLOSE, when the walk has ended: the place where it stands goes into the row. Leaves to
    FINISH."""
    row = core.row
    failed = core.reason != 0
    with m.State("CLOSE"):
        with m.If(~core.detached):
            m.d.sync += [
                core.dirty.eq(1),
                row.broken.eq(failed),
                *row.move(Mux(failed, core.seq, core.end)),
                row.number.eq(core.number),
                row.at.eq(core.at),
                row.part_header.eq(core.part_header),
                row.length.eq(core.length),
                row.content.eq(core.content),
            ]
        with m.Elif(~core.given):
            m.d.sync += [
                core.dirty.eq(1),
                row.detached_valid.eq(~failed & (core.at > core.header_size)),
                row.detached_number.eq(core.number),
                row.detached_at.eq(core.at),
                row.detached_length.eq(core.length),
                row.detached_content.eq(core.content),
            ]
        m.next = "FINISH"
