# SPDX-License-Identifier: Apache-2.0
"""States of the walker for what comes between packets: commands, and news of a bad tag."""

from amaranth.hdl import Module, Mux, Signal

from ..abi.commands import Op
from ..abi.events import EventKind
from ..abi.meta import ProvenBy
from ..common.layouts import (
    SPAN_KEY_CLEAR,
    SPAN_KEY_WRITE,
    TOKEN_ADD,
    TOKEN_DELETE,
    TOKEN_DESYNC,
    TOKEN_GO_ON,
    TOKEN_PROVEN,
    TOKEN_REKEY,
    TOKEN_RESYNC,
)
from ..common.sequence import delta
from .core import Core
from .row import State


def command_states(m: Module, core: Core, token: Signal) -> None:
    """COMMAND to PROVEN. `token` takes the code of the token entry; all leave to TOKEN, where a
    candidate is adopted by way of ADOPT_PROBE."""
    row, coverage, command, feedback = core.row, core.coverage, core.command, core.feedback
    since_base = Signal(65)  # records since REKEY's number, and a borrow
    key_span = core.maker.keys.payload

    def close_all() -> None:
        m.d.comb += coverage.clear.eq(1)

    meant = core.known & (row.generation == command.generation)
    with m.State("COMMAND"):
        m.d.sync += [token.eq(TOKEN_RESYNC), since_base.eq(row.number - command.number)]
        m.next = "TOKEN"
        with m.Switch(command.op):
            with m.Case(Op.CONTEXT_ADD):
                close_all()
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
                    token.eq(TOKEN_ADD),
                ]
                m.next = "KEY_SPAN"
            with m.Case(Op.CONTEXT_DELETE):
                m.d.sync += [row.valid.eq(0), token.eq(TOKEN_DELETE)]
                m.next = "KEY_SPAN"
            with m.Case(Op.REKEY):
                with m.If(core.known):
                    m.d.sync += token.eq(TOKEN_REKEY)
                    m.next = "REKEY"
            with m.Case(Op.GO_ON):
                m.d.sync += token.eq(TOKEN_GO_ON)
            with m.Case(Op.RESYNC_ANSWER):
                asked = (row.state == State.CONFIRMING) & (command.seq == row.guess)
                with m.If(meant & asked):
                    with m.If(command.refused):
                        m.d.sync += [row.state.eq(State.SEARCHING), row.cand_hold_count.eq(0)]
                    with m.Else():
                        core.clear_suspicion(m)
                        m.next = "ADOPT_PROBE"
            with m.Case(Op.RESYNC_HINT):
                with m.If(meant):
                    # Also in sync: every record in front of the hint has been read.
                    core.clear_suspicion(m)
                in_sync = (row.state == State.START) | (row.state == State.TRACKING)
                m.d.sync += core.end.eq(command.seq + 1)
                read = delta(command.seq, row.suspect_end) >= 0
                with m.If(meant & in_sync & core.one_bit & row.suspect & read):
                    close_all()
                    m.d.sync += row.arm(command.seq, command.number)
                with m.Elif(meant & in_sync):
                    m.next = "HINT"
                with m.Elif(meant):
                    close_all()
                    m.d.sync += [
                        *row.arm(command.seq, command.number),
                        core.event.kind.eq(EventKind.RESUMED),
                        core.event.lost_at.eq(row.lost_at),
                        core.event.guess.eq(command.seq),
                        core.event.resumed_at.eq(command.seq),
                        core.event.proven_by.eq(int(ProvenBy.SOFTWARE)),
                        core.event.seq.eq(command.seq),
                        core.event.number.eq(command.number),
                    ]

    with m.State("HINT"):
        m.d.comb += coverage.settle.eq(1)
        m.next = "HINT_SHUT"
    with m.State("HINT_SHUT"):
        m.next = "TOKEN"
        with m.If(core.one_bit & coverage.ahead):
            close_all()
            m.d.sync += row.arm(command.seq, command.number)
        with m.Else():
            m.d.comb += coverage.shut.eq(1)

    with m.State("REKEY"):
        m.d.sync += [
            row.probing.eq(0),
            row.generation.eq(command.generation),
            row.epoch.eq(command.epoch),
            row.version.eq(command.version),
            row.marked_number.eq(0),
        ]
        core.clear_suspicion(m)
        with m.If(row.proven):
            close_all()
            with m.If(since_base[64] | (core.one_bit & row.suspect)):
                m.d.sync += row.arm(command.seq, 0)
            with m.Else():
                with m.If(coverage.withheld):
                    m.d.sync += [row.suspect.eq(1), row.suspect_end.eq(row.walk)]
                m.d.sync += [row.number.eq(since_base[:64]), *row.close_below()]
        m.next = "KEY_SPAN"

    with m.State("KEY_SPAN"):
        deletes = command.op == Op.CONTEXT_DELETE
        m.d.comb += [
            core.maker.keys.valid.eq(1),
            key_span.kind.eq(Mux(deletes, SPAN_KEY_CLEAR, SPAN_KEY_WRITE)),
            key_span.context.eq(core.context),
            key_span.generation.eq(command.generation),
            key_span.version.eq(Mux(deletes, 0, row.version)),
            key_span.key256.eq(Mux(deletes, 0, command.key256)),
        ]
        with m.If(core.maker.keys.ready):
            m.next = "TOKEN"

    still_meant = core.known & (row.generation == feedback.generation)
    with m.State("PROVEN"):
        m.d.sync += token.eq(TOKEN_PROVEN)
        m.next = "TOKEN"
        asked = row.proven & (row.state == State.CONFIRMING) & (feedback.guess == row.guess)
        with m.If(still_meant & asked):
            m.next = "ADOPT_PROBE"
    with m.State("DESYNC"):
        m.d.sync += token.eq(TOKEN_DESYNC)
        with m.If(still_meant):
            close_all()
            m.d.sync += [row.proven.eq(0), row.probing.eq(0), row.hold_count.eq(0)]
            with m.If((row.state == State.START) | (row.state == State.TRACKING)):
                m.d.sync += [
                    row.lost_at.eq(row.walk),
                    row.state.eq(State.SEARCHING),
                    row.scanned.eq(0),
                    row.cand_hold_count.eq(0),
                    row.cand_high.eq(row.high),
                ]
        m.next = "TOKEN"
