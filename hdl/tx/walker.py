# SPDX-License-Identifier: Apache-2.0
"""The walker of transmit: which bytes of the host's frames are whose text and tag.

`driver/model/tx/walker.py` says what it decides and `driver/model/tx/row.py` what commands do; the
two agree bit by bit. It works on whole frames that lie in the ring. A header costs one unaligned
read of 16 bytes, which holds header and explicit nonce; no other byte is touched.

    work, metas --> IDLE LOAD --> COMPARE DECIDE --> HEAD JUDGE CHECK --> clear_spans
                           |                 |        ^          \\
                           |                 |        +- FETCH WAIT <- SPAN --> spans
                           |                 \\------------> CLOSE FINISH --> entries
                           \\-> COMMAND KEY TOKEN --> spans, entries

The states are in `checks`, `records` and `commands`; text and tag of a span are worked
out in `span_maker`.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from ..abi.tx import TxOp
from ..common.tx_layouts import TxLayouts, TxMeta, TxTokenKind
from .checks import check_states
from .commands import TxToken, command_states
from .core import TxCore
from .records import record_states
from .row import ROW


class TxWalker(Component):
    """Takes one frame or command at a time, in order, and tells cipher and commit what it is.

    A frame without text takes 5 clocks, another about 7 and 6 for each header in it. All outputs
    are registers; the walker stands still while one of them is not taken. `work.ready` and
    `metas.ready` rise in the item's last clock, and no `ready` depends on another.

    work: frames that lie in the ring, and commands. metas: `TX_META`, one a frame.
    spans, clear_spans: of a frame, in the order of its bytes; before its entry, but that its last
        span may follow the entry by some clocks. Clear spans are header and nonce bytes that were
        checked; `entries` says how many a frame has.
    walker_addr, walker_data: 16 bytes of the ring from any byte address on, two clocks later.

    Each key span of a command has a token entry. Fields of an entry that its action does not need
    are 0 or mean nothing. After power-up no context is in use; reset ends none.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = TxLayouts(config)
        super().__init__(
            {
                "work": In(stream.Signature(layouts.work)),
                "metas": In(stream.Signature(TxMeta)),
                "spans": Out(stream.Signature(layouts.span)),
                "clear_spans": Out(stream.Signature(layouts.clear_span)),
                "entries": Out(stream.Signature(layouts.entry)),
                "walker_addr": Out(layouts.byte_bits),
                "walker_data": In(128),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        work, meta = self.work.payload, self.metas.payload
        command = work.command
        core = TxCore(m, self._config, work, meta)
        row, maker = core.row, core.maker
        m.submodules.maker = maker
        m.submodules.rows = rows = Memory(shape=ROW, depth=self._config.tx_flows, init=[])
        row_read, row_write = rows.read_port(), rows.write_port()

        # A row is read in IDLE and written in an item's last clock, so the next item sees it.
        # Frames that name no context belong to that of their addresses and ports.
        unnamed = (meta.op == TxOp.NOTHING) | (meta.op == TxOp.WIRE)
        named = Mux(work.is_command, command.context, meta.context)
        context = Signal(16)
        done = Signal()
        m.d.comb += [
            context.eq(Mux(unnamed & ~work.is_command, work.context, named)),
            row_read.addr.eq(context),
            row_write.addr.eq(core.context),
            row_write.en.eq(done & core.dirty),
            *row.store(row_write.data),
            self.walker_addr.eq(core.addr),
            self.spans.payload.eq(maker.spans.payload),
            self.spans.valid.eq(maker.spans.valid),
            maker.spans.ready.eq(self.spans.ready),
        ]

        with m.If(done & core.dirty):
            m.d.sync += core.live.eq(core.live + row.valid - core.was_valid)

        token = TxToken()
        out_free = ~self.entries.valid | self.entries.ready
        with m.If(self.entries.ready):
            m.d.sync += self.entries.valid.eq(0)
        with m.If(self.clear_spans.ready):
            m.d.sync += self.clear_spans.valid.eq(0)

        with m.FSM():
            self._idle(m, core, context)
            self._load(m, core, row_read.data)
            check_states(m, core)
            record_states(m, core, self.walker_data, self.clear_spans)
            command_states(m, core, token)
            self._finish(m, core, out_free, done)
            self._token(m, core, token, out_free, done)
        return m

    def _idle(self, m: Module, core: TxCore, context: Value) -> None:
        """IDLE, until an item has come. Leaves to LOAD."""
        work, meta, packet = self.work.payload, core.meta, core.packet
        dump = meta.op == TxOp.DUMP
        with m.State("IDLE"):
            m.d.comb += core.maker.begin.eq(1)
            offset = Mux(dump, 0, packet.payload_offset)
            m.d.sync += [
                core.context.eq(context),
                core.in_range.eq(context < self._config.tx_flows),
                core.seq.eq(Mux(dump, meta.seq, packet.seq)),
                core.size.eq(Mux(dump, packet.frame_bytes, packet.payload_length)),
                core.payload_at.eq(offset),
                core.payload_addr.eq(Cat(0, 0, 0, 0, packet.ring_word) + offset),
                core.pos.eq(0),
                core.walked.eq(0),
                core.dirty.eq(0),
                core.clears.eq(0),
                core.clear_bytes.eq(0),
                core.tags.eq(0),
                core.first_number.eq(0),
            ]
            with m.If(self.work.valid & (work.is_command | self.metas.valid)):
                m.next = "LOAD"

    def _load(self, m: Module, core: TxCore, stored: data.View) -> None:
        """LOAD, from IDLE: the row is there. Leaves to COMPARE or COMMAND."""
        work, meta, row = self.work.payload, core.meta, core.row
        elsewhere = core.detached | core.sync  # the position is not the row's
        with m.State("LOAD"):
            m.d.sync += [
                *row.load(stored),
                core.was_valid.eq(stored.valid),
                core.end.eq(core.seq + core.size),
                core.place.eq(core.seq),
                core.left.eq(core.size),
                core.addr.eq(core.payload_addr),
                core.number.eq(Mux(elsewhere, meta.number, stored.number)),
                core.at.eq(Mux(core.detached, meta.offset, Mux(core.sync, 0, stored.at))),
                core.length.eq(Mux(core.detached, meta.record_length, stored.length)),
                core.content.eq(Mux(core.detached, meta.record_type, stored.content)),
                core.part_header.eq(stored.part_header),  # with `at` = 0 it means nothing
                core.named.eq(core.detached & (meta.offset != 0)),
            ]
            m.next = "COMPARE"
            with m.If(work.is_command):
                m.next = "COMMAND"

    def _finish(self, m: Module, core: TxCore, out_free: Value, done: Signal) -> None:
        """FINISH, the last state of a frame. Leaves to IDLE when its entry has a place."""
        meta, packet, maker, entry = core.meta, core.packet, core.maker, self.entries.payload
        with m.State("FINISH"):
            with m.If(maker.settled & out_free):
                m.d.comb += [
                    maker.end.eq(1),
                    done.eq(1),
                    self.work.ready.eq(1),
                    self.metas.ready.eq(1),
                ]
                size = core.size
                m.d.sync += [
                    self.entries.valid.eq(1),
                    entry.is_token.eq(0),
                    entry.token.eq(0),
                    entry.context.eq(meta.context),
                    entry.generation.eq(meta.generation),
                    entry.ring_word.eq(packet.ring_word),
                    entry.oversize.eq(packet.oversize),
                    entry.action.eq(core.action),
                    entry.reason.eq(core.reason),
                    entry.op.eq(meta.op),
                    entry.cookie.eq(meta.cookie),
                    entry.has_spans.eq(maker.any),
                    entry.clears.eq(core.clears),
                    entry.expected.eq(Mux(core.walked, size - core.clear_bytes, 0)),
                    entry.tags.eq(core.tags),
                    entry.first_number.eq(core.first_number),
                    entry.payload_at.eq(Mux(core.walked, core.payload_at, 0)),
                    entry.payload_end.eq(Mux(core.walked, core.payload_at + size, 0)),
                    entry.checksum_at.eq(packet.tcp_offset + 16),
                    entry.checksum_in.eq(packet.tcp_checksum),
                    entry.segment_sum.eq(packet.segment_sum),
                ]
                m.next = "IDLE"

    def _token(
        self, m: Module, core: TxCore, token: TxToken, out_free: Value, done: Signal
    ) -> None:
        """TOKEN, the last state of a command. Leaves to KEY while there is `more`, else to IDLE."""
        command, entry = core.command, self.entries.payload
        with m.State("TOKEN"):
            with m.If(out_free):
                m.d.comb += [self.work.ready.eq(~token.more), done.eq(~token.more)]
                m.d.sync += [
                    self.entries.valid.eq(1),
                    entry.eq(0),
                    entry.is_token.eq(1),
                    entry.token.eq(token.value),
                    entry.has_spans.eq(token.code != TxTokenKind.DONE),
                    entry.context.eq(command.context),
                    entry.generation.eq(command.generation),
                    token.more.eq(0),
                    token.key_slot.eq(1),
                ]
                m.next = "IDLE"
                with m.If(token.more):
                    m.next = "KEY"
