# SPDX-License-Identifier: Apache-2.0
"""States of the walker off the proven chain: looking for a header, following a candidate."""

from amaranth.hdl import Module, Mux, Signal, Value

from ..abi.commands import Option
from ..abi.config import HEADER_BYTES
from ..abi.events import EventKind
from ..abi.meta import Reason
from ..common.record_header import header_length, header_ok, present
from ..common.sequence import delta
from .core import Core
from .header_scanner import BLOCK_BYTES, STEP
from .row import LOST_RECORDS_BITS, State


def search_states(m: Module, core: Core, walker_data: Value) -> None:
    """CANDIDATE to GIVE_UP. Enter at CANDIDATE, or at SCAN with `pos` where to begin; leaves to
    FETCH for a header and comes back at CHAIN, or leaves to FINISH."""
    row = core.row
    first = Signal()  # the next header is the scan's find
    at_edge = Signal()  # the scan begins with the first segment behind a lost header
    gap_positive, gap_zero, nothing_new = Signal(), Signal(), Signal()
    walk_ge_seq, walk_lt_end, lowest = Signal(), Signal(), Signal()

    with m.State("CANDIDATE"):
        gap = delta(core.seq, row.cand_high)
        m.d.sync += [
            gap_positive.eq(gap > 0),
            gap_zero.eq(gap == 0),
            nothing_new.eq(delta(core.end, row.cand_high) <= 0),
            walk_ge_seq.eq(delta(row.cand_walk, core.seq) >= 0),
            walk_lt_end.eq(delta(row.cand_walk, core.end) < 0),
            lowest.eq(delta(core.seq, row.passed_from) < 0),
            core.searching.eq(1),
            first.eq(0),
            at_edge.eq(0),
        ]
        m.next = "CONTINUE"

    def scan_payload() -> None:
        m.d.sync += [
            core.pos.eq(core.seq),
            core.pos_at.eq(0),
            core.left.eq(core.length),
            core.held_left.eq(0),
            row.cand_high.eq(core.end),
        ]
        m.next = "SCAN"

    with m.State("CONTINUE"):
        with m.If(lowest):
            m.d.sync += [row.passed_from.eq(core.seq), row.edge_count.eq(0)]
        with m.Switch(row.state):
            with m.Case(State.START, State.TRACKING):
                m.d.sync += [
                    row.lost_at.eq(row.walk),
                    row.scanned.eq(0),
                    row.passed_from.eq(core.seq),
                    row.passed_high.eq(core.end),
                    row.edge_count.eq(Mux(core.length < HEADER_BYTES, core.length, HEADER_BYTES)),
                    at_edge.eq(1),
                ]
                scan_payload()
            with m.Case(State.GIVEN_UP):
                m.d.sync += core.blame(Reason.GIVEN_UP)
                m.next = "FINISH"
            with m.Case(State.CONFIRMING):
                follows = ~gap_positive | ((row.cand_hold_count == 0) & walk_ge_seq)
                with m.If(nothing_new):
                    m.d.sync += core.blame(Reason.AWAITING_PROOF)
                    m.next = "FINISH"
                with m.Elif(gap_positive & (row.cand_hold_count >= HEADER_BYTES)):
                    m.d.sync += [
                        row.probing.eq(0),
                        row.cand_walk.eq(
                            row.cand_walk + header_length(row.cand_hold) + HEADER_BYTES
                        ),
                        row.cand_count.eq(row.cand_count + 1),
                        row.cand_hold_count.eq(0),
                    ]
                    m.d.sync += row.cand_open.eq(0)  # its nonce is not known
                    held_length = header_length(row.cand_hold)
                    with m.If(core.withholds(row.cand_hold[:2], held_length)):
                        m.d.sync += [
                            row.cand_suspect.eq(1),
                            row.cand_suspect_end.eq(row.cand_walk + held_length + HEADER_BYTES),
                        ]
                    m.next = "CANDIDATE"
                with m.Elif(follows):
                    m.d.sync += [
                        *core.follow(row.cand_walk, row.cand_hold, row.cand_hold_count),
                        row.cand_high.eq(core.end),
                        row.cand_hold_count.eq(0),
                        core.start.eq(row.cand_high),
                        core.stop.eq(Mux(walk_lt_end, row.cand_walk, core.end)),
                    ]
                    with m.If(gap_positive):
                        m.d.sync += row.probing.eq(0)
                    with m.If(row.probing & ~gap_positive):
                        m.next = "PROBE"
                    with m.Elif(walk_lt_end):
                        m.next = "ADDRESS"
                    with m.Else():
                        m.d.sync += core.blame(Reason.AWAITING_PROOF)
                        m.next = "FINISH"
                with m.Else():
                    m.d.sync += row.probing.eq(0)
                    scan_payload()
            with m.Default():  # SEARCHING
                scan_payload()
                with m.If((row.cand_hold_count != 0) & gap_zero):
                    m.d.sync += [
                        core.pos.eq(core.seq - row.cand_hold_count),
                        core.pos_at.eq(-row.cand_hold_count),
                        core.left.eq(core.length + row.cand_hold_count),
                        core.held.eq(row.cand_hold),
                        core.held_left.eq(row.cand_hold_count),
                    ]

    with m.State("ADDRESS"):
        m.d.sync += core.addr.eq(core.payload_addr + core.pos_at)
        m.next = "FETCH"

    # --- the scan: a block every clock; its judgement comes three clocks behind its address ---
    phase = Signal(range(4))
    in_front = Signal()  # the block under judgement is the first
    block_left = Signal.like(core.left)
    shift = Signal(4)
    scanner = core.scanner
    m.d.comb += [
        scanner.version.eq(row.version),
        scanner.block.eq(Mux(phase == 2, core.overlay(walker_data, BLOCK_BYTES), walker_data)),
        scanner.there.eq(present(block_left, BLOCK_BYTES)),
    ]
    with m.State("SCAN"):
        m.d.sync += [
            core.searching.eq(1),
            row.state.eq(State.SEARCHING),
            row.cand_hold_count.eq(0),
            core.addr.eq(core.payload_addr + core.pos_at),
            core.tries.eq(core.tries + 1),
            first.eq(1),
            phase.eq(0),
            in_front.eq(1),
            block_left.eq(core.left),
        ]
        with m.If((core.tries == core.config.rescan_limit) | (core.left <= 0)):
            m.next = "SCANNED"
        with m.Else():
            m.next = "SCANNING"
    with m.State("SCANNING"):
        m.d.sync += core.addr.eq(core.addr + STEP)
        with m.If(phase != 3):
            m.d.sync += phase.eq(phase + 1)
        with m.If((phase == 2) & at_edge):
            m.d.sync += [row.edge.eq(walker_data), at_edge.eq(0)]
        with m.If(phase[1]):
            m.d.comb += scanner.enable.eq(1)
            m.d.sync += block_left.eq(block_left - STEP)
        with m.If(phase == 3):
            m.d.sync += in_front.eq(0)
            step = Mux(scanner.found, scanner.offset, STEP)
            m.d.sync += [
                core.pos.eq(core.pos + step),
                core.pos_at.eq(core.pos_at + step),
                core.left.eq(core.left - step),
            ]
            in_held = in_front & (scanner.offset < core.held_left)
            m.d.sync += shift.eq(Mux(in_held, scanner.offset, 0))
            with m.If(~in_held):
                m.d.sync += core.held_left.eq(0)
            with m.If(scanner.found):
                m.next = "FOUND"
            with m.Elif(core.left <= STEP):
                m.next = "SCANNED"
    with m.State("FOUND"):
        with m.If(shift != 0):
            m.d.sync += [
                shift.eq(shift - 1),
                core.held.eq(core.held >> 8),
                core.held_left.eq(core.held_left - 1),
            ]
        with m.Else():
            m.next = "ADDRESS"

    # --- the candidate chain ---
    length = header_length(core.head)
    size = Signal(15)
    m.d.comb += size.eq(length + HEADER_BYTES)
    allowed = header_ok(row.version, core.head, present(core.left, HEADER_BYTES))
    count = Mux(first, 0, row.cand_count)
    probes = Mux(first, 0, row.probes)
    # Records are about 2^14 bytes or shorter: a shorter one is found a few tries later.
    since_loss = delta(core.pos, row.walk)
    least = Mux((since_loss < 0) | ~since_loss[14:].any(), 1, since_loss[14:31])
    lost_records = Signal(LOST_RECORDS_BITS)
    m.d.comb += lost_records.eq(Mux(first, least, row.lost_records))
    with m.State("CHAIN"):
        m.d.sync += first.eq(0)
        with m.If(first & (core.left < HEADER_BYTES)):
            m.d.sync += [row.cand_hold.eq(core.head), row.cand_hold_count.eq(core.left)]
            m.next = "SCANNED"
        with m.Elif(~allowed):
            m.d.sync += [core.fresh.eq(0), *core.one_further()]
            m.next = "SCAN"
        with m.Else():
            with m.If(first):
                m.d.sync += [
                    row.guess.eq(core.pos),
                    row.state.eq(State.CONFIRMING),
                    core.fresh.eq(1),
                    row.cand_suspect.eq(0),
                    row.cand_open.eq(0),
                    row.probes.eq(0),
                    row.probing.eq(0),
                    row.lost_records.eq(least),
                ]
            with m.If(core.left < core.front):
                m.d.sync += [
                    row.cand_hold.eq(core.head),
                    row.cand_hold_count.eq(core.left),
                    row.cand_walk.eq(core.pos),
                    row.cand_count.eq(count),
                ]
                m.next = "CHAINED"
            with m.Else():
                m.d.sync += [
                    row.cand_walk.eq(core.pos + size),
                    row.cand_count.eq(count + 1),
                    row.cand_open.eq(1),
                    row.cand_start.eq(core.pos),
                    row.cand_nonce.eq(core.head[8 * HEADER_BYTES :]),
                    row.cand_content.eq(core.head[:2]),
                    *core.past(size),
                    core.start.eq(core.pos + core.front),
                    core.stop.eq(core.pos + Mux(size <= core.left, size, core.left)),
                ]
                with m.If(core.withholds(core.head[:2], length)):
                    m.d.sync += [
                        row.cand_suspect.eq(1),
                        row.cand_suspect_end.eq(core.pos + size),
                    ]
                # One record may complete in a packet: a verdict tells of one.
                tries = (row.options & Option.TAG_PROOF).any() & row.proven
                may_end = ~(core.probed & (size <= core.left))
                with m.If(tries & (probes < core.config.tag_proof_limit) & may_end):
                    m.d.sync += [
                        row.probing.eq(1),
                        row.probe_fed.eq(0),
                        row.probe_number.eq(row.number + lost_records + count),
                    ]
                    m.next = "PROBE"
                with m.Elif(size < core.left):
                    m.next = "FETCH"
                with m.Else():
                    m.next = "CHAINED"
    # The candidate's last record is fed from `start` to `stop` under its guessed number. If that is
    # wrong, one more record was lost in front of it.
    piece = core.maker.pieces.payload
    with m.State("PROBE"):
        bytes_here = core.stop != core.start
        whole = core.stop == row.cand_walk
        m.d.comb += [
            core.maker.pieces.valid.eq(bytes_here),
            piece.slot.eq(core.config.record_slots),
            piece.number.eq(row.probe_number),
            piece.nonce.eq(row.cand_nonce),
            piece.content.eq(row.cand_content),
            piece.length.eq(row.cand_walk - row.cand_start - HEADER_BYTES),
            piece.at.eq(core.start - core.seq),
            piece.behind.eq(core.start - row.cand_start),
            piece.count.eq(core.stop - core.start),
            piece.first.eq(~row.probe_fed),
            piece.completes.eq(whole),
            piece.probe.eq(1),
        ]
        with m.If(core.maker.pieces.ready):
            with m.If(bytes_here):
                m.d.sync += row.probe_fed.eq(1)
            with m.If(whole):
                m.d.sync += [
                    core.probed.eq(1),
                    core.framing.first_number.eq(row.probe_number - row.cand_count + 1),
                    core.framing.last_start.eq(row.guess),
                    row.probing.eq(0),
                    row.probes.eq(row.probes + 1),
                    row.lost_records.eq(row.lost_records + 1),
                ]
            with m.If(core.left > 0):
                m.next = "ADDRESS"
            with m.Else():
                m.next = "CHAINED"
    with m.State("CHAINED"):
        m.d.sync += core.blame(Reason.AWAITING_PROOF)
        with m.If(core.fresh):
            m.d.sync += [
                core.event.kind.eq(EventKind.RESYNC_REQUEST),
                core.event.lost_at.eq(row.lost_at),
                core.event.guess.eq(row.guess),
                core.event.seq.eq(core.end),
            ]
        m.next = "FINISH"

    scanned = row.scanned + core.length
    with m.State("SCANNED"):
        m.d.sync += row.scanned.eq(scanned)
        with m.If(scanned > core.config.scan_limit):
            m.next = "GIVE_UP"
        with m.Else():
            m.d.sync += core.blame(Reason.SEARCHING)
            m.next = "FINISH"
    with m.State("GIVE_UP"):
        m.d.sync += [
            row.state.eq(State.GIVEN_UP),
            row.cand_hold_count.eq(0),
            core.blame(Reason.GIVEN_UP),
            core.event.kind.eq(EventKind.GIVEN_UP),
            core.event.lost_at.eq(row.lost_at),
            core.event.seq.eq(core.end),
        ]
        m.next = "FINISH"
