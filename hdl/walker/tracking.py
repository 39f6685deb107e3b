# SPDX-License-Identifier: Apache-2.0
"""States of the walker on the proven chain: feeding open records, hopping from header to header."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed

from ..abi.config import HEADER_BYTES
from ..abi.events import EventKind
from ..abi.meta import ProvenBy, Reason
from ..common.record_header import header_length, header_ok, present
from ..common.sequence import distance
from .core import Core, Return
from .row import TrackerState


def tracking_states(m: Module, core: Core, walker_data: Value) -> None:
    """COMPARE to OPEN_LAST. Enter at COMPARE with `end` and `payload_addr` set, at CHECK with a
    header of the candidate chain, or at ADOPT_LOOKUP from a command; leaves to CHAIN, CANDIDATE,
    SCAN, GIVE_UP, TOKEN or FINISH."""
    states = _ProvenStates(m, core)
    states.compare()
    states.decide()
    states.evict()
    states.frontier()
    states.holes()
    states.feed()
    states.read_header(walker_data)
    states.step()
    states.join()
    states.adopt()
    states.open_last()


class _ProvenStates:
    """The registers that these states share, and the states by what they do, a method each.

    A state that finds no slot or hole free leaves to EVICT (`Core.evict`) and is entered again. The
    state machine numbers its states in the order in which the methods are called.
    """

    def __init__(self, m: Module, core: Core) -> None:
        self.m, self.core, self.row, self.coverage = m, core, core.row, core.coverage
        self.by_walk = ~(core.is_command | core.is_feedback)  # what proves a candidate

        # The packet and the row, as COMPARE finds them.
        self.seq_gt_high = Signal()
        self.seq_lt_high = Signal()
        self.end_gt_high = Signal()
        self.in_window = Signal()
        self.walk_ge_seq = Signal()
        self.walk_lt_end = Signal()
        self.end_gt_cand_high = Signal()
        self.end_gt_passed = Signal()
        self.unfed = Signal()  # bytes between what was seen and the segment have passed

        self.walked = Signal()  # the walk has come to a header in this packet
        self.edge_tried = Signal()
        self.at_candidate = Signal()  # the candidate's header is next
        self.passed_candidate = Signal()  # ... was passed
        self.since_candidate = Signal(range(core.config.max_frame // HEADER_BYTES))  # records

        self.filling = Signal()  # bytes of a hole are fed, else those behind `high`
        self.more = Signal()  # there may be another hole
        self.filled = Signal(32)  # what comes before it in the segment is seen

    def compare(self) -> None:
        """COMPARE, the first state of a packet: packet against row. Entered again when DECIDE has
        changed the row. Leaves to DECIDE."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        with m.State("COMPARE"):
            ahead = distance(core.seq, row.high)
            edge = ahead[core.config.window.bit_length() - 1 :]
            m.d.comb += coverage.lookup.eq(1)
            m.d.sync += [
                self.seq_gt_high.eq(ahead > 0),
                self.seq_lt_high.eq(ahead < 0),
                self.end_gt_high.eq(distance(core.end, row.high) > 0),
                self.in_window.eq(edge.all() | ~edge.any()),
                self.walk_ge_seq.eq(distance(row.next_record_seq, core.seq) >= 0),
                self.walk_lt_end.eq(distance(row.next_record_seq, core.end) < 0),
                *core.follow(row.next_record_seq, row.part_header, row.part_header_count),
                self.end_gt_cand_high.eq(distance(core.end, row.cand_high) > 0),
                self.end_gt_passed.eq(distance(core.end, row.passed_high) > 0),
                self.unfed.eq(
                    (distance(row.passed_high, row.high) > 0)
                    & (distance(row.passed_from, core.seq) < 0)
                ),
                core.hopping.eq(0),
                self.walked.eq(0),
                self.passed_candidate.eq(0),
                self.since_candidate.eq(0),
                self.filling.eq(0),
                self.edge_tried.eq(0),
                self.filled.eq(core.seq),
                core.searching.eq(0),
                core.tries.eq(0),
                core.fresh.eq(0),
            ]
            m.next = "DECIDE"

    def decide(self) -> None:
        """DECIDE, from COMPARE. Leaves to FIND if the segment begins in front of `high`, else to
        FRONTIER; to CANDIDATE if the walk does not reach it, to FINISH if it is out of the window,
        or back to COMPARE."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        held_length = header_length(row.part_header)
        with m.State("DECIDE"):
            m.d.sync += core.addr.eq(core.payload_addr + core.pos_at)
            m.d.comb += [coverage.pick.eq(1), coverage.pick_slot.eq(coverage.high_slot)]
            with m.If(~self.in_window):
                m.d.sync += core.add_reason(Reason.OUT_OF_WINDOW)
                m.next = "FINISH"
            with m.Elif(coverage.stale):
                core.evict(m, Return.COMPARE)
            with m.Elif(row.proven & self.seq_gt_high & (row.part_header_count >= HEADER_BYTES)):
                # Only nonce bytes are missing: the walk goes on, the record stays closed.
                end = row.next_record_seq + held_length + HEADER_BYTES
                m.d.sync += [
                    row.next_record_seq.eq(end),
                    row.number.eq(row.number + 1),
                    row.part_header_count.eq(0),
                ]
                core.close_unverified(m, row.part_header[:2], held_length, end)
                m.next = "COMPARE"
            with m.Elif(
                row.proven & (~self.seq_gt_high | ((row.part_header_count == 0) & self.walk_ge_seq))
            ):
                self.note_passed()
                m.d.sync += [core.start.eq(core.seq), core.hopping.eq(self.end_gt_high)]
                with m.If(self.seq_lt_high):
                    m.d.comb += coverage.find.eq(1)
                    m.next = "FIND"
                with m.Else():
                    m.next = "FRONTIER"
            with m.Else():
                self.note_passed()
                m.next = "CANDIDATE"

    def note_passed(self) -> None:
        """Statements of DECIDE: the segment is the highest that has passed, if it is."""
        m, core, row = self.m, self.core, self.row
        with m.If(self.end_gt_passed):
            m.d.sync += row.passed_high.eq(core.end)

    def evict(self) -> None:
        """EVICT, from `Core.evict`: a record is being closed. Leaves to the state `evict_for`."""
        m, core, coverage = self.m, self.core, self.coverage
        with m.State("EVICT"):
            with m.If(coverage.evicted & coverage.evicted_withholds):
                core.set_barrier(m, coverage.evicted_end)
            with m.If(~coverage.busy):
                with m.Switch(core.evict_for):
                    for back in Return:
                        with m.Case(back):
                            m.next = back.name

    def frontier(self) -> None:
        """FRONTIER and AFTER_FEED: bytes behind everything seen, from DECIDE or, when holes are
        done, from FIND. Leaves to FEED for those of an open record, to CHECK for a header in the
        segment, else to MATCH_CANDIDATE."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        with m.State("FRONTIER"):
            gap_in_record = self.seq_gt_high & coverage.at_high
            leaves_hole = gap_in_record & ~self.unfed & ~coverage.picked.no_verdict
            m.d.comb += [coverage.add_start.eq(row.high), coverage.add_end.eq(core.start)]
            with m.If(leaves_hole & ~coverage.hole_free):
                core.evict(m, Return.FRONTIER)
            with m.Else():
                m.d.comb += [
                    coverage.drop_verdict.eq(gap_in_record & self.unfed),
                    coverage.add.eq(leaves_hole & coverage.picked.valid),
                ]
                m.d.sync += [
                    row.high.eq(core.end),
                    core.stop.eq(Mux(self.walk_lt_end, row.next_record_seq, core.end)),
                ]
                with m.If(
                    (row.part_header_count == 0) & (distance(core.start, row.next_record_seq) < 0)
                ):
                    with m.If(coverage.at_high & coverage.picked.valid):
                        m.next = "FEED"
                    with m.Else():
                        m.d.sync += core.add_reason(Reason.NOT_OPEN)
                        m.next = "AFTER_FEED"
                with m.Else():
                    m.next = "AFTER_FEED"

        with m.State("AFTER_FEED"):
            with m.If(self.walk_lt_end):
                m.next = "CHECK"
            with m.Else():
                m.next = "MATCH_CANDIDATE"

    def holes(self) -> None:
        """FIND, CUT and SPLIT_HOLE: bytes of holes, from the first hole that the segment overlaps
        to the last. Entered from DECIDE, and from FEED for the next hole. Leaves to FEED for bytes
        of a hole, then to FRONTIER, or to MATCH_CANDIDATE if the segment ends before `high`."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        hole = coverage.hole
        overlaps = Mux(coverage.at_seq, 1 << Reason.SEEN_BYTES, 1 << Reason.NOT_OPEN)
        with m.State("FIND"):
            m.d.comb += [
                coverage.pick.eq(~coverage.busy),
                coverage.pick_slot.eq(Mux(coverage.found, hole.slot, coverage.high_slot)),
            ]
            with m.If(~coverage.busy):
                cut_front = distance(hole.start, self.filled) > 0
                cut_back = distance(hole.end, core.end) < 0
                with m.If(~coverage.found | cut_front):
                    m.d.sync += core.reasons.eq(core.reasons | overlaps)
                with m.If(coverage.found):
                    m.d.sync += [
                        core.start.eq(Mux(cut_front, hole.start, self.filled)),
                        core.stop.eq(Mux(cut_back, hole.end, core.end)),
                        self.filling.eq(1),
                        self.more.eq(cut_back),
                    ]
                    m.next = "CUT"
                with m.Else():
                    m.d.sync += [core.start.eq(row.high), self.filling.eq(0)]
                    with m.If(core.hopping):
                        m.next = "FRONTIER"
                    with m.Else():
                        m.next = "MATCH_CANDIDATE"
        m.d.comb += [coverage.cut_start.eq(core.start), coverage.cut_end.eq(core.stop)]
        with m.State("CUT"):
            m.d.comb += coverage.cut.eq(1)
            m.d.sync += self.filled.eq(core.stop)
            with m.If((hole.start != core.start) & (hole.end != core.stop)):
                m.next = "SPLIT_HOLE"
            with m.Else():
                m.next = "FEED"
        with m.State("SPLIT_HOLE"):
            m.d.comb += [coverage.add_start.eq(core.stop), coverage.add_end.eq(hole.end)]
            with m.If(~coverage.hole_free):
                core.evict(m, Return.SPLIT_HOLE)
            with m.Elif(coverage.picked.valid):
                m.d.comb += coverage.add.eq(1)
                m.next = "FEED"
            with m.Else():
                m.d.sync += core.add_reason(Reason.NOT_OPEN)
                m.next = "MATCH_CANDIDATE"

    def feed(self) -> None:
        """FEED: bytes `start` to `stop` of the picked record. Entered from FRONTIER, CUT or
        SPLIT_HOLE. Leaves to FIND while there may be more holes, to CHECK for a header in the
        segment, else to MATCH_CANDIDATE."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        picked = coverage.picked
        piece = core.maker.pieces.payload
        with m.State("FEED"):
            picked_end = picked.start + picked.length + HEADER_BYTES
            completes = (distance(picked_end, row.high) <= 0) & coverage.whole
            verified = completes & ~picked.no_verdict
            m.d.comb += [
                core.maker.pieces.valid.eq(1),
                piece.slot.eq(coverage.picked_slot),
                piece.number.eq(picked.number),
                piece.nonce.eq(picked.nonce),
                piece.content.eq(picked.content),
                piece.length.eq(picked.length),
                piece.at.eq(core.start - core.seq),
                piece.behind.eq(core.start - picked.start),
                piece.count.eq(core.stop - core.start),
                piece.first.eq(~picked.fed),
                piece.completes.eq(verified),
            ]
            with m.If(core.maker.pieces.ready):
                m.d.comb += [coverage.feed.eq(1), coverage.completes.eq(completes)]
                with m.If(~picked.has_unmarked):
                    m.d.sync += core.any_all_marked.eq(1)
                with m.If(completes & picked.no_verdict):
                    core.close_unverified(m, picked.content, picked.length, picked_end[:32])
                core.touch(
                    m,
                    picked.number,
                    picked.start,
                    (core.seq - picked.start)[:16],
                    picked.length,
                    picked.nonce,
                    verified,
                )
                with m.If(self.filling & self.more):
                    m.d.comb += coverage.find.eq(1)
                    m.next = "FIND"
                with m.Elif(~self.filling & self.walk_lt_end):
                    m.next = "CHECK"
                with m.Else():
                    m.next = "MATCH_CANDIDATE"

    def read_header(self, walker_data: Value) -> None:
        """FETCH, WAIT and CHECK: the header at `pos`, of either chain. Enter at FETCH when `addr`
        is new, at CHECK when it has stood for two clocks. Leaves to STEP, or to CHAIN while
        searching."""
        m, core, row = self.m, self.core, self.row
        with m.State("FETCH"):
            m.next = "WAIT"
        with m.State("WAIT"):
            m.next = "CHECK"
        with m.State("CHECK"):
            m.d.sync += [
                core.head.eq(core.head_bytes(walker_data)),
                self.at_candidate.eq(
                    (row.state == TrackerState.CONFIRMING) & (core.pos == row.candidate_seq)
                ),
                # By number too, because sequence numbers come again after 2^32 bytes.
                core.closed.eq(
                    row.closed
                    & (
                        (distance(core.pos, row.closed_below) < 0)
                        | (row.number < row.marked_number)
                    )
                ),
            ]
            with m.If(core.searching):
                m.next = "CHAIN"
            with m.Else():
                m.next = "STEP"

    def step(self) -> None:
        """STEP: over the header in `head`. Entered from CHECK. Leaves to FETCH for the next header,
        to MATCH_CANDIDATE after the segment's last, to SCAN or GIVE_UP if it is no header."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        piece = core.maker.pieces.payload
        length = header_length(core.head)
        size = Signal(15)
        m.d.comb += size.eq(length + HEADER_BYTES)
        nonce = core.head[8 * HEADER_BYTES :]
        allowed = header_ok(row.version, core.head, present(core.left, HEADER_BYTES))
        offset = Mux(core.pos_at < 0, (-core.pos_at)[:16], 0)
        with m.State("STEP"):
            new = coverage.new
            whole = size <= core.left
            text_here = core.left > core.header_size
            m.d.comb += [
                new.valid.eq(1),
                new.fed.eq(text_here),
                new.start.eq(core.pos),
                new.length.eq(length),
                new.number.eq(row.number),
                new.nonce.eq(nonce),
                new.content.eq(core.head[:2]),
                piece.slot.eq(Mux(whole, 0, coverage.free_slot)),
                piece.number.eq(row.number),
                piece.nonce.eq(nonce),
                piece.content.eq(core.head[:2]),
                piece.length.eq(length),
                piece.at.eq(core.pos_at + core.header_size),
                piece.behind.eq(core.header_size),
                piece.count.eq(Mux(whole, size, core.left) - core.header_size),
                piece.first.eq(1),
                piece.completes.eq(whole),
            ]
            with m.If(~allowed):
                self.lose_header()
            with m.Elif(core.left < core.header_size):
                m.d.sync += [
                    row.part_header.eq(core.head),
                    row.part_header_count.eq(core.left),
                    row.closed.eq(core.closed),
                    core.any_all_marked.eq(1),
                    self.walked.eq(1),
                ]
                with m.If(core.closed):
                    m.d.sync += core.add_reason(Reason.NOT_OPEN)
                known = Mux(core.left < HEADER_BYTES, 0, length)
                core.touch(m, row.number, core.pos, offset, known, nonce, 0)
                m.next = "MATCH_CANDIDATE"
            with m.Elif(~core.closed & ~whole & ~coverage.slot_free):
                core.evict(m, Return.STEP)
            with m.Else():
                m.d.comb += core.maker.pieces.valid.eq(~core.closed & text_here)
                with m.If(core.maker.pieces.ready):
                    m.d.comb += coverage.open.eq(~core.closed & ~whole)
                    with m.If(core.closed):
                        m.d.sync += core.add_reason(Reason.NOT_OPEN)
                        core.close_unverified(m, core.head[:2], length, core.pos + size)
                    core.touch(m, row.number, core.pos, offset, length, nonce, ~core.closed & whole)
                    with m.If(self.at_candidate | self.passed_candidate):
                        m.d.sync += [
                            self.passed_candidate.eq(1),
                            self.since_candidate.eq(self.since_candidate + 1),
                        ]
                    m.d.sync += [
                        self.walked.eq(1),
                        core.any_all_marked.eq(1),
                        row.closed.eq(core.closed),
                        row.part_header_count.eq(0),
                        row.next_record_seq.eq(core.pos + size),
                        row.number.eq(row.number + 1),
                        *core.past(size),
                    ]
                    with m.If(size < core.left):
                        m.next = "FETCH"
                    with m.Else():
                        m.next = "MATCH_CANDIDATE"

    def lose_header(self) -> None:
        """Statements of STEP where no header is: everything open is closed and the scan begins one
        byte further on."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        m.d.comb += coverage.clear.eq(1)
        m.d.sync += [
            row.proven.eq(0),
            row.state.eq(TrackerState.SEARCHING),
            row.lost_at.eq(core.pos),
            row.scanned.eq(0),
            row.part_header_count.eq(0),
            row.bad_headers.eq(row.bad_headers + 1),
            row.cand_high.eq(core.end),
            *core.one_further(),
        ]
        with m.If(row.bad_headers == core.config.bad_header_limit - 1):
            m.next = "GIVE_UP"
        with m.Else():
            m.next = "SCAN"

    def join(self) -> None:
        """SPLIT_HEADER and MATCH_CANDIDATE: the packet is done on the proven chain. MATCH_CANDIDATE
        enters SPLIT_HEADER at most once a packet. Leaves to FINISH, or to ADOPT_LOOKUP if the walk
        has met the candidate."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        # A header that the end of the hole cuts: the rest has passed.
        edge = Signal(8 * HEADER_BYTES)
        cut_off = (row.part_header_count != 0) & (row.high == row.passed_from)
        lost = (row.state != TrackerState.START) & (row.state != TrackerState.TRACKING)
        edge_length = header_length(edge)
        edge_ok = (row.part_header_count + row.behind_hole_count >= HEADER_BYTES) & header_ok(
            row.version, edge, present(HEADER_BYTES, HEADER_BYTES)
        )

        with m.State("SPLIT_HEADER"):
            m.next = "MATCH_CANDIDATE"
            with m.If(edge_ok):
                end = row.next_record_seq + edge_length + HEADER_BYTES
                m.d.sync += [
                    row.next_record_seq.eq(end),
                    row.number.eq(row.number + 1),
                    row.part_header_count.eq(0),
                ]
                core.close_unverified(m, edge[:2], edge_length, end)

        with m.State("MATCH_CANDIDATE"):
            m.d.comb += coverage.settle.eq(1)
            m.d.sync += [
                edge.eq(row.part_header | row.behind_hole << Cat(C(0, 3), row.part_header_count)),
                self.edge_tried.eq(1),
            ]
            m.next = "FINISH"
            with m.If(core.hopping & lost & cut_off & ~self.edge_tried):
                m.next = "SPLIT_HEADER"
            with m.Elif(core.hopping):
                self.move_on()

    def move_on(self) -> None:
        """Statements of MATCH_CANDIDATE when the walk has advanced: it may track again, and it may
        have proven the candidate or passed its position."""
        m, core, row = self.m, self.core, self.row
        past_candidate = distance(row.next_record_seq, row.candidate_seq)
        with m.Switch(row.state):
            with m.Case(TrackerState.START):
                with m.If(self.walked):
                    m.d.sync += row.state.eq(TrackerState.TRACKING)
            with m.Case(TrackerState.SEARCHING, TrackerState.GIVEN_UP):
                m.d.sync += row.state.eq(TrackerState.TRACKING)
            with m.Case(TrackerState.CONFIRMING):
                reached = self.passed_candidate | (past_candidate == 0)
                with m.If(reached & ~self.end_gt_cand_high):
                    m.next = "ADOPT_LOOKUP"
                with m.Elif(reached | (past_candidate > 0)):
                    m.d.sync += [
                        row.state.eq(TrackerState.TRACKING),
                        core.event.kind.eq(EventKind.RESUMED),
                        core.event.lost_at.eq(row.lost_at),
                        core.event.candidate_seq.eq(row.candidate_seq),
                        core.event.resumed_at.eq(row.next_record_seq),
                        core.event.proven_by.eq(int(ProvenBy.WALK)),
                        core.event.seq.eq(core.end),
                        core.event.number.eq(row.number),
                    ]

    def adopt(self) -> None:
        """ADOPT_LOOKUP, ADOPT_PICK and ADOPT: the candidate is proven and becomes the proven chain.
        Entered from MATCH_CANDIDATE (the walk met it in a packet), COMMAND (software confirmed it)
        or PROVEN (its tag verified). Leaves to OPEN_LAST for its last record, else to FINISH in a
        packet and to TOKEN otherwise."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        picked = coverage.picked
        gap, passed_end = Signal(), Signal()
        # Records from the walk to the chain's end.
        counted = Signal(signed(len(row.cand_count) + 1))
        number = Signal(64)
        m.d.comb += number.eq(
            Mux(
                core.is_feedback,
                core.feedback.number,
                Mux(core.is_command, core.command.number, row.number),
            )
            + counted
        )
        with m.State("ADOPT_LOOKUP"):
            m.d.comb += coverage.lookup.eq(1)
            m.d.sync += [
                core.pos.eq(row.next_record_seq),
                gap.eq(row.proven & (distance(row.high, row.next_record_seq) < 0)),
                # Where walk and candidate disagree, different bytes have passed.
                passed_end.eq(
                    (distance(row.next_record_seq, row.cand_high) <= 0)
                    | (row.next_record_seq != row.cand_next_seq)
                ),
                counted.eq(row.cand_count - Mux(self.by_walk, self.since_candidate, 0)),
            ]
            with m.If(self.by_walk):
                # Records of the candidate that the walk has been through are the walk's.
                with m.If(row.next_record_seq == row.cand_next_seq):
                    m.d.sync += row.cand_open.eq(0)
                with m.If(distance(row.cand_barrier_end, row.next_record_seq) <= 0):
                    m.d.sync += row.cand_barrier.eq(0)
            m.next = "ADOPT_PICK"
        with m.State("ADOPT_PICK"):
            m.d.comb += [coverage.pick.eq(1), coverage.pick_slot.eq(coverage.high_slot)]
            m.next = "ADOPT"
        with m.State("ADOPT"):
            # What the candidate passed of a record that is open was not fed.
            with m.If(gap & coverage.at_high):
                m.d.comb += [coverage.drop_verdict.eq(~passed_end), coverage.close.eq(passed_end)]
                with m.If(passed_end):
                    core.close_unverified(m, picked.content, picked.length, row.next_record_seq)
            m.d.sync += [
                core.event.kind.eq(EventKind.RESUMED),
                core.event.lost_at.eq(row.lost_at),
                core.event.candidate_seq.eq(row.candidate_seq),
                core.event.resumed_at.eq(row.cand_next_seq),
                core.event.proven_by.eq(
                    Mux(
                        core.is_feedback,
                        int(ProvenBy.TAG),
                        Mux(core.is_command, int(ProvenBy.SOFTWARE), int(ProvenBy.WALK)),
                    )
                ),
                core.event.seq.eq(Mux(self.by_walk, core.end, row.cand_high)),
                core.event.number.eq(number),
                row.next_record_seq.eq(row.cand_next_seq),
                row.number.eq(number),
                row.part_header.eq(row.cand_part_header),
                row.part_header_count.eq(row.cand_part_header_count),
                row.high.eq(row.cand_high),
                row.cand_part_header_count.eq(0),
                *row.close_below(),
                row.proven.eq(1),
                row.state.eq(TrackerState.TRACKING),
                row.scanned.eq(0),
                row.bad_headers.eq(0),
            ]
            with m.If(self.by_walk & (~row.marked | (distance(core.end, row.marked_high) > 0))):
                # The packet that brings the walk here may be marked, with its own bytes of a header
                # of which the candidate has kept others.
                m.d.sync += [row.closed.eq(1), row.closed_below.eq(core.end)]
            with m.If(row.cand_barrier):
                m.d.sync += [row.barrier.eq(1), row.barrier_end.eq(row.cand_barrier_end)]
            with m.If(core.one_bit):  # nothing that the candidate followed is verified
                m.d.sync += [row.barrier.eq(1), row.barrier_end.eq(row.cand_next_seq)]
            m.d.sync += core.pos.eq(row.cand_next_seq)
            goes_on = (distance(row.cand_next_seq, row.cand_high) > 0) & ~core.one_bit
            with m.If(row.cand_open & (row.cand_part_header_count == 0) & goes_on):
                m.next = "OPEN_LAST"
            with m.Elif(self.by_walk):
                m.next = "FINISH"
            with m.Else():
                m.next = "TOKEN"

    def open_last(self) -> None:
        """OPEN_LAST, from ADOPT: the rest of the candidate's last record can be marked, and with
        it what else is in its last packet. If text of it has passed it gets no verdict. Leaves to
        FINISH in a packet, to TOKEN otherwise."""
        m, core, row, coverage = self.m, self.core, self.row, self.coverage
        with m.State("OPEN_LAST"):
            before = (row.number != 0) & (row.number <= row.marked_number)
            closed = row.closed & ((distance(row.cand_start, row.closed_below) < 0) | before)
            with m.If(~closed & ~coverage.slot_free):
                core.evict(m, Return.OPEN_LAST)
            with m.Else():
                new = coverage.new
                m.d.comb += [
                    coverage.open.eq(~closed),
                    new.valid.eq(1),
                    new.has_unmarked.eq(1),
                    new.no_verdict.eq((row.high - row.cand_start)[:32] != core.header_size),
                    new.start.eq(row.cand_start),
                    new.length.eq(row.next_record_seq - row.cand_start - HEADER_BYTES),
                    new.number.eq(row.number - 1),
                    new.nonce.eq(row.cand_nonce),
                    new.content.eq(row.cand_content),
                ]
                with m.If(self.by_walk):
                    m.next = "FINISH"
                with m.Else():
                    m.next = "TOKEN"
