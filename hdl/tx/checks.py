# SPDX-License-Identifier: Apache-2.0
"""States of the transmit walker that judge a frame before the walk.

The first check that fails gives the reason, and then nothing changes: no span, no clear span, no
row is written. The order is that of `driver/model/tx/walker.py`.
"""

from amaranth.hdl import Module, Mux, Signal, Value

from ..abi.config import HEADER_BYTES
from ..abi.tx import TxOp, TxReason, TxTags
from ..common.record_header import content_type, header_ok, present
from ..common.sequence import distance
from ..common.tx_layouts import Action
from .core import TxCore, header_of
from .row import MARKER_HORIZON_BITS

SHORTEST_FRAME = 60  # of Ethernet, without its check sequence


def is_orphan(core: TxCore, end_before: Value, trails: Value) -> Value:
    """Whether a frame without metadata may hold text of an offloaded flow. `end_before`: its
    payload ends in front of the start marker or there. trails: bytes lie behind its IP packet."""
    packet, row = core.packet, core.row
    behind = (packet.payload_length != 0) & (row.marker_expired | ~end_before)
    text = core.hit & row.valid & (behind | trails)
    return Mux(packet.refused_tcp, core.live != 0, text)


def contradicts(core: TxCore) -> Value:
    """Whether the metadata of ENCRYPT or DUMP (or of no operation) makes no sense."""
    meta = core.meta
    dump = meta.op == TxOp.DUMP
    return (
        (meta.op > TxOp.DUMP)
        | (meta.tags > TxTags.COMPARE)
        | (core.given & ~core.detached)
        | (core.sync & core.detached)
        | (dump & (core.given | (meta.length != core.packet.frame_bytes)))
        | (core.detached & (meta.offset >= meta.record_length + HEADER_BYTES))
    )


def check_states(m: Module, core: TxCore) -> None:
    """COMPARE and DECIDE. Enter at COMPARE with the row and the position loaded; leaves to HEAD
    or SPAN for the walk, to CLOSE if the walk fails at once, else to FINISH."""
    packet, meta, row = core.packet, core.meta, core.row
    before_start, end_before = Signal(), Signal()
    trails = Signal()  # more bytes behind the IP packet than the link pads a short frame with
    far_behind = Signal()  # the end lies 2^30 to 2^31 bytes behind the marker
    at_next, not_before_next, within = Signal(), Signal(), Signal()
    other_header, hashed = Signal(), Signal()
    wants_row = Signal()  # what comes in front of this frame in its record must have been hashed
    bad_meta, bad_named = Signal(), Signal()
    named = header_of(meta.record_type, meta.record_length)

    with m.State("COMPARE"):
        m.d.sync += [
            before_start.eq(distance(core.seq, row.start) < 0),
            end_before.eq(distance(core.end, row.start) <= 0),
            trails.eq(
                (packet.frame_bytes > SHORTEST_FRAME)
                & (packet.frame_bytes > packet.payload_offset + packet.payload_length)
            ),
            far_behind.eq((core.end - row.start)[MARKER_HORIZON_BITS:32] == 1),
            at_next.eq(core.seq == row.next),
            not_before_next.eq(distance(core.seq, row.next) >= 0),
            within.eq(distance(core.end, row.next) <= 0),
            other_header.eq(
                (meta.record_length != row.length) | (meta.record_type != content_type(row.content))
            ),
            hashed.eq(
                row.detached_valid
                & (row.detached_number == meta.number)
                & (row.detached_at == meta.offset)
                & (row.detached_length == meta.record_length)
                & (content_type(row.detached_content) == meta.record_type)
            ),
            wants_row.eq(~core.given & (meta.offset > core.header_size)),
            bad_meta.eq(contradicts(core)),
            bad_named.eq(
                core.named & ~header_ok(row.version, named, present(HEADER_BYTES, HEADER_BYTES))
            ),
        ]
        m.next = "DECIDE"

    encrypt = meta.op == TxOp.ENCRYPT
    usable = core.in_range & row.valid & ~row.deleted & (row.generation == meta.generation)
    fresh = core.above | (core.same & (row.at == 0))
    with m.State("DECIDE"):
        m.d.sync += [core.action.eq(Action.PASS), core.reason.eq(0)]
        m.next = "FINISH"
        with m.If(packet.oversize):
            m.d.sync += core.drop(TxReason.OVERSIZE)
        with m.Elif(meta.op == TxOp.WIRE):
            # Software may send for so long that the marker would come round again.
            with m.If(core.hit & row.valid & (packet.payload_length != 0) & far_behind):
                m.d.sync += [row.marker_expired.eq(1), core.dirty.eq(1)]
        with m.Elif(meta.op == TxOp.NOTHING):
            with m.If(is_orphan(core, end_before, trails)):
                m.d.sync += core.drop(TxReason.ORPHAN)
        with m.Elif(encrypt & (~packet.is_tcp | packet.tcp_flags[1])):
            m.d.sync += core.drop(TxReason.NOT_TCP)
        with m.Elif(encrypt & (packet.payload_length == 0)):
            with m.If(trails):
                m.d.sync += core.drop(TxReason.BAD_META)
        with m.Elif(bad_meta):
            m.d.sync += core.drop(TxReason.BAD_META)
        with m.Elif(~usable):
            m.d.sync += core.drop(TxReason.NO_CONTEXT)
        with m.Elif(encrypt & ~(core.hit & (core.hit_context == core.context))):
            m.d.sync += core.drop(TxReason.WRONG_FLOW)
        with m.Elif(~row.marker_expired & before_start):
            m.d.sync += core.drop(TxReason.BYPASS)
        with m.Elif(core.detached & (~within | core.beyond)):
            m.d.sync += core.drop(TxReason.OUT_OF_ORDER)
        with m.Elif(core.detached & core.named & core.under_way & other_header):
            m.d.sync += core.drop(TxReason.OUT_OF_ORDER)
        with m.Elif(core.detached & wants_row & ~hashed):
            m.d.sync += core.drop(TxReason.NO_SYNC_DATA)
        with m.Elif(~core.detached & ~core.sync & row.broken):
            m.d.sync += core.drop(TxReason.BROKEN)
        with m.Elif(~core.detached & Mux(core.sync, ~(not_before_next & fresh), ~at_next)):
            m.d.sync += core.drop(TxReason.OUT_OF_ORDER)
        with m.Else():
            m.d.sync += [core.action.eq(Mux(encrypt, Action.ENCRYPT, Action.DUMP))]
            m.d.sync += core.walked.eq(1)
            with m.If(bad_named):
                m.d.sync += core.drop(TxReason.BAD_HEADER)
                m.next = "CLOSE"
            with m.Elif(core.at < core.header_size):
                m.next = "HEAD"
            with m.Else():
                m.next = "SPAN"
