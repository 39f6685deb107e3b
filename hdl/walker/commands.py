# SPDX-License-Identifier: Apache-2.0
"""States of the walker for what comes between packets: commands, and news of a bad tag."""

from amaranth.hdl import Module, Mux, Signal, Value

from ..abi.commands import Op
from ..abi.events import EventKind
from ..abi.meta import ProvenBy
from ..common.layouts import SpanKind, TokenKind
from ..common.sequence import distance
from .core import Core
from .row import TrackerState


def command_states(m: Module, core: Core, token: Signal) -> None:
    """COMMAND to DESYNC. `token` takes the code of the token entry; all leave to TOKEN, where a
    candidate is adopted by way of ADOPT_LOOKUP."""
    since_base = Signal(65)  # records since REKEY's number, and a borrow
    _command(m, core, token, since_base)
    _hint(m, core)
    _rekey(m, core, since_base)
    _key_span(m, core)
    _feedback(m, core, token)


def _close_all(m: Module, core: Core) -> None:
    """Statements: every open record is closed."""
    m.d.comb += core.coverage.clear.eq(1)


def _command(m: Module, core: Core, token: Signal, since_base: Signal) -> None:
    """COMMAND, from LOAD. Leaves to KEY_SPAN, REKEY, HINT, ADOPT_LOOKUP or TOKEN."""
    row, command = core.row, core.command
    meant = core.known & (row.generation == command.generation)
    with m.State("COMMAND"):
        m.d.sync += [token.eq(TokenKind.RESYNC), since_base.eq(row.number - command.number)]
        m.next = "TOKEN"
        with m.Switch(command.op):
            with m.Case(Op.CONTEXT_ADD):
                _close_all(m, core)
                m.d.sync += [
                    *row.clear(),
                    *row.arm(command.seq, command.number),
                    row.closed.eq(0),
                    row.valid.eq(1),
                    row.generation.eq(command.generation),
                    row.epoch.eq(command.epoch),
                    row.version.eq(command.version),
                    row.options.eq(command.options),
                    row.passed_high.eq(command.seq),
                    row.passed_from.eq(command.seq),
                    token.eq(TokenKind.ADD),
                ]
                m.next = "KEY_SPAN"
            with m.Case(Op.CONTEXT_DELETE):
                m.d.sync += [row.valid.eq(0), token.eq(TokenKind.DELETE)]
                m.next = "KEY_SPAN"
            with m.Case(Op.REKEY):
                with m.If(core.known):
                    m.d.sync += token.eq(TokenKind.REKEY)
                    m.next = "REKEY"
            with m.Case(Op.GO_ON):
                m.d.sync += token.eq(TokenKind.GO_ON)
            with m.Case(Op.RESYNC_ANSWER):
                _resync_answer(m, core, meant)
            with m.Case(Op.RESYNC_HINT):
                _resync_hint(m, core, meant)


def _resync_answer(m: Module, core: Core, meant: Value) -> None:
    """Statements of COMMAND: software knows the candidate, or refuses it."""
    row, command = core.row, core.command
    asked = (row.state == TrackerState.CONFIRMING) & (command.seq == row.candidate_seq)
    with m.If(meant & asked):
        with m.If(command.refused):
            m.d.sync += [row.state.eq(TrackerState.SEARCHING), row.cand_part_header_count.eq(0)]
        with m.Else():
            core.clear_barrier(m)
            m.next = "ADOPT_LOOKUP"


def _resync_hint(m: Module, core: Core, meant: Value) -> None:
    """Statements of COMMAND: software has read up to a header, in sync or not."""
    row, command = core.row, core.command
    with m.If(meant):
        # Also in sync: every record in front of the hint has been read.
        core.clear_barrier(m)
    in_sync = (row.state == TrackerState.START) | (row.state == TrackerState.TRACKING)
    m.d.sync += core.end.eq(command.seq + 1)
    read = distance(command.seq, row.barrier_end) >= 0
    with m.If(meant & in_sync & core.one_bit & row.barrier & read):
        _close_all(m, core)
        m.d.sync += row.arm(command.seq, command.number)
    with m.Elif(meant & in_sync):
        m.next = "HINT"
    with m.Elif(meant):
        _close_all(m, core)
        m.d.sync += [
            *row.arm(command.seq, command.number),
            core.event.kind.eq(EventKind.RESUMED),
            core.event.lost_at.eq(row.lost_at),
            core.event.candidate_seq.eq(command.seq),
            core.event.resumed_at.eq(command.seq),
            core.event.proven_by.eq(int(ProvenBy.SOFTWARE)),
            core.event.seq.eq(command.seq),
            core.event.number.eq(command.number),
        ]


def _hint(m: Module, core: Core) -> None:
    """HINT and HINT_CLOSE, from COMMAND in sync: records in front of the hint are closed. Leaves to
    TOKEN."""
    row, coverage, command = core.row, core.coverage, core.command
    with m.State("HINT"):
        m.d.comb += coverage.settle.eq(1)
        m.next = "HINT_CLOSE"
    with m.State("HINT_CLOSE"):
        m.next = "TOKEN"
        with m.If(core.one_bit & coverage.ahead):
            _close_all(m, core)
            m.d.sync += row.arm(command.seq, command.number)
        with m.Else():
            m.d.comb += coverage.close_ended.eq(1)


def _rekey(m: Module, core: Core, since_base: Signal) -> None:
    """REKEY, from COMMAND: the row goes on under a new key. Leaves to KEY_SPAN."""
    row, coverage, command = core.row, core.coverage, core.command
    with m.State("REKEY"):
        m.d.sync += [
            row.probing.eq(0),
            row.generation.eq(command.generation),
            row.epoch.eq(command.epoch),
            row.version.eq(command.version),
            row.marked_number.eq(0),
        ]
        core.clear_barrier(m)
        with m.If(row.proven):
            _close_all(m, core)
            with m.If(since_base[64] | (core.one_bit & row.barrier)):
                m.d.sync += row.arm(command.seq, 0)
            with m.Else():
                with m.If(coverage.withheld):
                    m.d.sync += [row.barrier.eq(1), row.barrier_end.eq(row.next_record_seq)]
                m.d.sync += [row.number.eq(since_base[:64]), *row.close_below()]
        m.next = "KEY_SPAN"


def _key_span(m: Module, core: Core) -> None:
    """KEY_SPAN, from COMMAND or REKEY: the cipher takes or clears a key. Leaves to TOKEN."""
    row, command = core.row, core.command
    key_span = core.maker.keys.payload
    with m.State("KEY_SPAN"):
        deletes = command.op == Op.CONTEXT_DELETE
        m.d.comb += [
            core.maker.keys.valid.eq(1),
            key_span.kind.eq(Mux(deletes, SpanKind.KEY_CLEAR, SpanKind.KEY_WRITE)),
            key_span.context.eq(core.context),
            key_span.generation.eq(command.generation),
            key_span.version.eq(Mux(deletes, 0, row.version)),
            key_span.key256.eq(Mux(deletes, 0, command.key256)),
        ]
        with m.If(core.maker.keys.ready):
            m.next = "TOKEN"


def _feedback(m: Module, core: Core, token: Signal) -> None:
    """PROVEN and DESYNC, from LOAD: a candidate's tag was good, or a tag was bad. Leaves to
    ADOPT_LOOKUP or TOKEN."""
    row, feedback = core.row, core.feedback
    still_meant = core.known & (row.generation == feedback.generation)
    with m.State("PROVEN"):
        m.d.sync += token.eq(TokenKind.PROVEN)
        m.next = "TOKEN"
        asked = (
            row.proven
            & (row.state == TrackerState.CONFIRMING)
            & (feedback.candidate_seq == row.candidate_seq)
        )
        with m.If(still_meant & asked):
            m.next = "ADOPT_LOOKUP"
    with m.State("DESYNC"):
        m.d.sync += token.eq(TokenKind.DESYNC)
        with m.If(still_meant):
            _close_all(m, core)
            m.d.sync += [row.proven.eq(0), row.probing.eq(0), row.part_header_count.eq(0)]
            with m.If((row.state == TrackerState.START) | (row.state == TrackerState.TRACKING)):
                m.d.sync += [
                    row.lost_at.eq(row.next_record_seq),
                    row.state.eq(TrackerState.SEARCHING),
                    row.scanned.eq(0),
                    row.cand_part_header_count.eq(0),
                    row.cand_high.eq(row.high),
                ]
        m.next = "TOKEN"
