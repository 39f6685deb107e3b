# SPDX-License-Identifier: Apache-2.0
"""States of the walker off the proven chain: looking for a header, following a candidate."""

from amaranth.hdl import Module, Mux, Signal, Value

from ..abi.commands import Option
from ..abi.config import HEADER_BYTES
from ..abi.events import EventKind
from ..abi.meta import Reason
from ..common.record_header import header_length, header_ok, present
from ..common.sequence import distance
from .core import Core
from .header_scanner import BLOCK_BYTES, STEP
from .row import LOST_RECORDS_BITS, TrackerState


def resync_states(m: Module, core: Core, walker_data: Value) -> None:
    """CANDIDATE to GIVE_UP. Enter at CANDIDATE, or at SCAN with `pos` where to begin; leaves to
    FETCH for a header and comes back at CHAIN, or leaves to FINISH."""
    states = _SearchStates(m, core)
    states.candidate()
    states.go_on()
    states.address()
    states.scan(walker_data)
    states.chain()
    states.probe()
    states.chained()
    states.give_up()


class _SearchStates:
    """The registers that these states share, and the states by what they do, a method each.

    The state machine numbers its states in the order in which the methods are called.
    """

    def __init__(self, m: Module, core: Core) -> None:
        self.m, self.core, self.row = m, core, core.row

        self.first = Signal()  # the next header is the scan's find
        self.at_edge = Signal()  # the scan begins with the first segment behind a lost header

        # The packet and the candidate, as CANDIDATE finds them.
        self.gap_positive = Signal()
        self.gap_zero = Signal()
        self.nothing_new = Signal()
        self.walk_ge_seq = Signal()
        self.walk_lt_end = Signal()
        self.lowest = Signal()

    def candidate(self) -> None:
        """CANDIDATE, from DECIDE for a packet that the walk does not reach: packet against row.
        Entered again when CONTINUE has moved the candidate. Leaves to CONTINUE."""
        m, core, row = self.m, self.core, self.row
        with m.State("CANDIDATE"):
            gap = distance(core.seq, row.cand_high)
            m.d.sync += [
                self.gap_positive.eq(gap > 0),
                self.gap_zero.eq(gap == 0),
                self.nothing_new.eq(distance(core.end, row.cand_high) <= 0),
                self.walk_ge_seq.eq(distance(row.cand_next_seq, core.seq) >= 0),
                self.walk_lt_end.eq(distance(row.cand_next_seq, core.end) < 0),
                self.lowest.eq(distance(core.seq, row.passed_from) < 0),
                core.searching.eq(1),
                self.first.eq(0),
                self.at_edge.eq(0),
            ]
            m.next = "CONTINUE"

    def go_on(self) -> None:
        """CONTINUE, from CANDIDATE: where the search stands. Leaves to SCAN, with a candidate to
        ADDRESS or PROBE or back to CANDIDATE, or to FINISH."""
        m, core, row = self.m, self.core, self.row
        with m.State("CONTINUE"):
            with m.If(self.lowest):
                m.d.sync += [row.passed_from.eq(core.seq), row.behind_hole_count.eq(0)]
            with m.Switch(row.state):
                with m.Case(TrackerState.START, TrackerState.TRACKING):
                    behind_hole_count = Mux(core.length < HEADER_BYTES, core.length, HEADER_BYTES)
                    m.d.sync += [
                        row.lost_at.eq(row.next_record_seq),
                        row.scanned.eq(0),
                        row.passed_from.eq(core.seq),
                        row.passed_high.eq(core.end),
                        row.behind_hole_count.eq(behind_hole_count),
                        self.at_edge.eq(1),
                    ]
                    self.scan_payload()
                with m.Case(TrackerState.GIVEN_UP):
                    m.d.sync += core.add_reason(Reason.GIVEN_UP)
                    m.next = "FINISH"
                with m.Case(TrackerState.CONFIRMING):
                    self.confirm()
                with m.Default():  # SEARCHING
                    self.scan_payload()
                    with m.If((row.cand_part_header_count != 0) & self.gap_zero):
                        m.d.sync += [
                            core.pos.eq(core.seq - row.cand_part_header_count),
                            core.pos_at.eq(-row.cand_part_header_count),
                            core.left.eq(core.length + row.cand_part_header_count),
                            core.part_header.eq(row.cand_part_header),
                            core.part_header_left.eq(row.cand_part_header_count),
                        ]

    def confirm(self) -> None:
        """Statements of CONTINUE while a candidate is to be proven: the packet goes on with it, or
        has a gap in front and is scanned."""
        m, core, row = self.m, self.core, self.row
        follows = ~self.gap_positive | ((row.cand_part_header_count == 0) & self.walk_ge_seq)
        with m.If(self.nothing_new):
            m.d.sync += core.add_reason(Reason.AWAITING_PROOF)
            m.next = "FINISH"
        with m.Elif(self.gap_positive & (row.cand_part_header_count >= HEADER_BYTES)):
            m.d.sync += [
                row.probing.eq(0),
                row.cand_next_seq.eq(
                    row.cand_next_seq + header_length(row.cand_part_header) + HEADER_BYTES
                ),
                row.cand_count.eq(row.cand_count + 1),
                row.cand_part_header_count.eq(0),
                row.cand_open.eq(0),  # its nonce is not known
            ]
            held_length = header_length(row.cand_part_header)
            with m.If(core.withholds(row.cand_part_header[:2], held_length)):
                m.d.sync += [
                    row.cand_barrier.eq(1),
                    row.cand_barrier_end.eq(row.cand_next_seq + held_length + HEADER_BYTES),
                ]
            m.next = "CANDIDATE"
        with m.Elif(follows):
            m.d.sync += [
                *core.follow(row.cand_next_seq, row.cand_part_header, row.cand_part_header_count),
                row.cand_high.eq(core.end),
                row.cand_part_header_count.eq(0),
                core.start.eq(row.cand_high),
                core.stop.eq(Mux(self.walk_lt_end, row.cand_next_seq, core.end)),
            ]
            with m.If(self.gap_positive):
                m.d.sync += row.probing.eq(0)
            with m.If(row.probing & ~self.gap_positive):
                m.next = "PROBE"
            with m.Elif(self.walk_lt_end):
                m.next = "ADDRESS"
            with m.Else():
                m.d.sync += core.add_reason(Reason.AWAITING_PROOF)
                m.next = "FINISH"
        with m.Else():
            m.d.sync += row.probing.eq(0)
            self.scan_payload()

    def scan_payload(self) -> None:
        """Statements of CONTINUE: to SCAN, from the payload's first byte on."""
        m, core, row = self.m, self.core, self.row
        m.d.sync += [
            core.pos.eq(core.seq),
            core.pos_at.eq(0),
            core.left.eq(core.length),
            core.part_header_left.eq(0),
            row.cand_high.eq(core.end),
        ]
        m.next = "SCAN"

    def address(self) -> None:
        """ADDRESS, with `pos` at a header of the candidate chain. Leaves to FETCH."""
        m, core = self.m, self.core
        with m.State("ADDRESS"):
            m.d.sync += core.addr.eq(core.payload_addr + core.pos_at)
            m.next = "FETCH"

    def scan(self, walker_data: Value) -> None:
        """SCAN, SCANNING and FOUND: a block every clock; its judgement comes three clocks behind
        its address. Enter at SCAN with `pos` where to begin. Leaves to ADDRESS for a header that
        was found, else to SCANNED."""
        m, core, row = self.m, self.core, self.row
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
                row.state.eq(TrackerState.SEARCHING),
                row.cand_part_header_count.eq(0),
                core.addr.eq(core.payload_addr + core.pos_at),
                core.tries.eq(core.tries + 1),
                self.first.eq(1),
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
            with m.If((phase == 2) & self.at_edge):
                m.d.sync += [row.behind_hole.eq(walker_data), self.at_edge.eq(0)]
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
                in_held = in_front & (scanner.offset < core.part_header_left)
                m.d.sync += shift.eq(Mux(in_held, scanner.offset, 0))
                with m.If(~in_held):
                    m.d.sync += core.part_header_left.eq(0)
                with m.If(scanner.found):
                    m.next = "FOUND"
                with m.Elif(core.left <= STEP):
                    m.next = "SCANNED"
        with m.State("FOUND"):
            with m.If(shift != 0):
                m.d.sync += [
                    shift.eq(shift - 1),
                    core.part_header.eq(core.part_header >> 8),
                    core.part_header_left.eq(core.part_header_left - 1),
                ]
            with m.Else():
                m.next = "ADDRESS"

    def chain(self) -> None:
        """CHAIN, from CHECK: over the header in `head`. Leaves to FETCH for the next one, to PROBE
        for its record, to CHAINED behind the segment's last; to SCAN if it is no header, to SCANNED
        if a find is cut off."""
        m, core, row = self.m, self.core, self.row
        length = header_length(core.head)
        size = Signal(15)
        m.d.comb += size.eq(length + HEADER_BYTES)
        allowed = header_ok(row.version, core.head, present(core.left, HEADER_BYTES))
        count = Mux(self.first, 0, row.cand_count)
        probes = Mux(self.first, 0, row.probes)
        # Records are about 2^14 bytes or shorter: a shorter one is found a few tries later.
        since_loss = distance(core.pos, row.next_record_seq)
        least = Mux((since_loss < 0) | ~since_loss[14:].any(), 1, since_loss[14:31])
        lost_records = Signal(LOST_RECORDS_BITS)
        m.d.comb += lost_records.eq(Mux(self.first, least, row.lost_records))
        with m.State("CHAIN"):
            m.d.sync += self.first.eq(0)
            with m.If(self.first & (core.left < HEADER_BYTES)):
                m.d.sync += [
                    row.cand_part_header.eq(core.head),
                    row.cand_part_header_count.eq(core.left),
                ]
                m.next = "SCANNED"
            with m.Elif(~allowed):
                m.d.sync += [core.fresh.eq(0), *core.one_further()]
                m.next = "SCAN"
            with m.Else():
                with m.If(self.first):
                    m.d.sync += [
                        row.candidate_seq.eq(core.pos),
                        row.state.eq(TrackerState.CONFIRMING),
                        core.fresh.eq(1),
                        row.cand_barrier.eq(0),
                        row.cand_open.eq(0),
                        row.probes.eq(0),
                        row.probing.eq(0),
                        row.lost_records.eq(least),
                    ]
                with m.If(core.left < core.header_size):
                    m.d.sync += [
                        row.cand_part_header.eq(core.head),
                        row.cand_part_header_count.eq(core.left),
                        row.cand_next_seq.eq(core.pos),
                        row.cand_count.eq(count),
                    ]
                    m.next = "CHAINED"
                with m.Else():
                    m.d.sync += [
                        row.cand_next_seq.eq(core.pos + size),
                        row.cand_count.eq(count + 1),
                        row.cand_open.eq(1),
                        row.cand_start.eq(core.pos),
                        row.cand_nonce.eq(core.head[8 * HEADER_BYTES :]),
                        row.cand_content.eq(core.head[:2]),
                        *core.past(size),
                        core.start.eq(core.pos + core.header_size),
                        core.stop.eq(core.pos + Mux(size <= core.left, size, core.left)),
                    ]
                    with m.If(core.withholds(core.head[:2], length)):
                        m.d.sync += [
                            row.cand_barrier.eq(1),
                            row.cand_barrier_end.eq(core.pos + size),
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

    def probe(self) -> None:
        """PROBE, from CONTINUE or CHAIN: the candidate's last record is fed from `start` to `stop`
        under its guessed number. If that is wrong, one more record was lost in front of it. Leaves
        to ADDRESS for a header behind it in the segment, else to CHAINED."""
        m, core, row = self.m, self.core, self.row
        piece = core.maker.pieces.payload
        with m.State("PROBE"):
            bytes_here = core.stop != core.start
            whole = core.stop == row.cand_next_seq
            m.d.comb += [
                core.maker.pieces.valid.eq(bytes_here),
                piece.slot.eq(core.config.record_slots),
                piece.number.eq(row.probe_number),
                piece.nonce.eq(row.cand_nonce),
                piece.content.eq(row.cand_content),
                piece.length.eq(row.cand_next_seq - row.cand_start - HEADER_BYTES),
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
                        core.framing.last_start.eq(row.candidate_seq),
                        row.probing.eq(0),
                        row.probes.eq(row.probes + 1),
                        row.lost_records.eq(row.lost_records + 1),
                    ]
                with m.If(core.left > 0):
                    m.next = "ADDRESS"
                with m.Else():
                    m.next = "CHAINED"

    def chained(self) -> None:
        """CHAINED: the segment ends in the candidate chain. Leaves to FINISH."""
        m, core, row = self.m, self.core, self.row
        with m.State("CHAINED"):
            m.d.sync += core.add_reason(Reason.AWAITING_PROOF)
            with m.If(core.fresh):
                m.d.sync += [
                    core.event.kind.eq(EventKind.RESYNC_REQUEST),
                    core.event.lost_at.eq(row.lost_at),
                    core.event.candidate_seq.eq(row.candidate_seq),
                    core.event.seq.eq(core.end),
                ]
            m.next = "FINISH"

    def give_up(self) -> None:
        """SCANNED, where the scan has come to the segment's end, and GIVE_UP, also from STEP: the
        search has cost too much. Both leave to FINISH."""
        m, core, row = self.m, self.core, self.row
        scanned = row.scanned + core.length
        with m.State("SCANNED"):
            m.d.sync += row.scanned.eq(scanned)
            with m.If(scanned > core.config.scan_limit):
                m.next = "GIVE_UP"
            with m.Else():
                m.d.sync += core.add_reason(Reason.SEARCHING)
                m.next = "FINISH"
        with m.State("GIVE_UP"):
            m.d.sync += [
                row.state.eq(TrackerState.GIVEN_UP),
                row.cand_part_header_count.eq(0),
                core.add_reason(Reason.GIVEN_UP),
                core.event.kind.eq(EventKind.GIVEN_UP),
                core.event.lost_at.eq(row.lost_at),
                core.event.seq.eq(core.end),
            ]
            m.next = "FINISH"
