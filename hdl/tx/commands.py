# SPDX-License-Identifier: Apache-2.0
"""States of the transmit walker for commands: what they do to a row, and their key spans."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike

from ..abi.config import VERSION_TLS12, VERSION_TLS13
from ..abi.tx import TxCommand
from ..common.layouts import SpanKind
from ..common.tx_layouts import TxTokenKind
from .core import TxCore


class TxToken:
    """The token entry that a command gives. `more`: one for the key span before it."""

    def __init__(self) -> None:
        self.code, self.more = Signal(TxTokenKind), Signal()
        self.key_slot = Signal()

    @property
    def value(self) -> Value:
        """The code of the entry that is next."""
        return Mux(self.more, TxTokenKind.MORE, self.code)


def command_states(m: Module, core: TxCore, token: TxToken) -> None:
    """COMMAND and KEY. Enter at COMMAND with the row loaded; both leave to TOKEN, which comes back
    to KEY while there is `more`.

    A command that names a generation that is not there, a key slot of a TLS 1.2 context or no
    context of the device changes nothing, and its staged key is not taken.
    """
    row, command = core.row, core.command
    meant = core.in_range & row.valid & ~row.deleted & (row.generation == command.generation)
    slot = command.epoch[0]

    def key_span(code: int, key_slot: ValueLike) -> None:
        m.d.sync += [token.code.eq(code), token.key_slot.eq(key_slot), core.dirty.eq(1)]
        m.next = "KEY"

    with m.State("COMMAND"):
        m.d.sync += [token.code.eq(TxTokenKind.DONE), token.more.eq(0)]
        m.next = "TOKEN"
        with m.Switch(command.op):
            with m.Case(TxCommand.TX_ADD):
                tls12 = command.version == VERSION_TLS12
                with m.If(core.in_range):
                    m.d.sync += [
                        row.valid.eq(1),
                        row.deleted.eq(0),
                        row.broken.eq(0),
                        row.generation.eq(command.generation),
                        row.version.eq(command.version),
                        row.start.eq(command.seq),
                        row.marker_expired.eq(0),
                        row.next.eq(command.seq),
                        row.number.eq(command.number),
                        row.at.eq(0),
                        row.nonce_delta.eq(Mux(tls12, command.nonce - command.number, 0)),
                        row.base_0.eq(0),
                        row.base_1.eq(0),
                        row.has_0.eq(1),
                        row.has_1.eq(0),
                        row.newer.eq(0),
                        row.name_0.eq(row.name_0 + 1),
                        row.detached_valid.eq(0),
                    ]
                    key_span(TxTokenKind.ADD, 0)
            with m.Case(TxCommand.TX_REKEY):
                with m.If(meant & (row.version == VERSION_TLS13)):
                    m.d.sync += [row.newer.eq(slot), row.detached_valid.eq(0)]
                    with m.If(slot):
                        m.d.sync += [
                            row.has_1.eq(1),
                            row.base_1.eq(command.number),
                            row.name_1.eq(row.name_1 + 1),
                        ]
                    with m.Else():
                        m.d.sync += [
                            row.has_0.eq(1),
                            row.base_0.eq(command.number),
                            row.name_0.eq(row.name_0 + 1),
                        ]
                    key_span(TxTokenKind.ADD, slot)
            with m.Case(TxCommand.TX_KEY_CLEAR):
                with m.If(meant):
                    m.d.sync += [
                        row.has_0.eq(row.has_0 & slot),
                        row.has_1.eq(row.has_1 & ~slot),
                        row.detached_valid.eq(0),
                    ]
                    key_span(TxTokenKind.CLEAR, slot)
            with m.Case(TxCommand.TX_DELETE):
                with m.If(meant):
                    m.d.sync += [
                        row.deleted.eq(1),
                        row.has_0.eq(0),
                        row.has_1.eq(0),
                        row.detached_valid.eq(0),
                        token.more.eq(1),
                    ]
                    key_span(TxTokenKind.CLEAR, 0)
            with m.Case(TxCommand.TX_RELEASE):
                with m.If(core.in_range & row.valid & row.deleted):
                    m.d.sync += [
                        row.valid.eq(0),
                        row.deleted.eq(0),
                        core.dirty.eq(1),
                    ]

    span = core.maker.keys.payload
    writes = token.code == TxTokenKind.ADD
    with m.State("KEY"):
        m.d.comb += [
            core.maker.keys.valid.eq(1),
            span.kind.eq(Mux(writes, SpanKind.KEY_WRITE, SpanKind.KEY_CLEAR)),
            span.context.eq(core.context),
            span.generation.eq(Mux(token.key_slot, row.name_1, row.name_0)),
            span.version.eq(writes & row.version),
            span.key256.eq(writes & command.key256),
            span.key_row.eq(Cat(token.key_slot, core.context) + Const(core.config.flows)),
            span.last.eq(1),  # each gives a verdict
        ]
        with m.If(core.maker.keys.ready):
            m.next = "TOKEN"
