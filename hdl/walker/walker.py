# SPDX-License-Identifier: Apache-2.0
"""The walker: where records begin and end in a flow's segments, and what was seen of them.

`driver/model/walker/walk.py` says what it decides; the two agree bit by bit. It works on whole
packets that lie in the ring with their checksums judged, so nothing is speculated and nothing
rolled back: in sync it jumps from header to header by length with one unaligned read each, and
touches no other byte. Only while a header is lost it reads every byte of the payload, twelve
offsets a clock.

    work --> IDLE LOAD --> COMPARE DECIDE --> feed open record, hop --> MATCH_CANDIDATE --> FINISH
    --> entries
                   |                     \\-> scan, follow candidate ----------/   |
                   \\-> COMMAND, DESYNC, PROVEN ----------------------> TOKEN      \\-> spans

The states are in `tracking`, `resync` and `commands`; slots and holes of the
loaded row in `coverage`; text and tag of a span are worked out in `span_maker`.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from ..abi.events import EventKind
from ..abi.meta import Reason
from ..common.layouts import Layouts, TokenKind
from ..common.sequence import distance
from .commands import command_states
from .core import Core, Return
from .resync import resync_states
from .tracking import tracking_states


class Walker(Component):
    """Takes one packet or command at a time, in order, and tells cipher and commit what it is.

    A packet without text takes 3 or 4 clocks, one in sync about 11 and 4 for each header in it.
    While searching, a payload takes a clock for each 12 bytes and 8 for each candidate. All
    outputs are registers; the walker stands still while one of them is not taken. `work.ready`
    and `feedback.ready` rise in the item's last clock, and no `ready` depends on another.

    work: packets that lie in the ring, and commands. Every command gives one token entry.
    feedback: a bad tag was found, or a candidate's tag was good; taken in front of the next item,
        gives one token entry.
    spans, text_spans: of a packet, in the order of its bytes; before its entry, but that its last
        span may follow the entry by some clocks.
    walker_addr, walker_data: 16 bytes of the ring from any byte address on, two clocks later.
    evicted: high for one clock for each record that was closed for want of a slot or hole.

    An entry's context, generation and epoch are given whenever the packet's key has a valid row,
    whatever else is wrong with it. REKEY of an invalid row gives a RESYNC token and nothing else.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = Layouts(config)
        super().__init__(
            {
                "work": In(stream.Signature(layouts.work)),
                "feedback": In(stream.Signature(layouts.feedback)),
                "spans": Out(stream.Signature(layouts.span)),
                "text_spans": Out(stream.Signature(layouts.text_span)),
                "entries": Out(stream.Signature(layouts.entry)),
                "walker_addr": Out(layouts.byte_bits),
                "walker_data": In(128),
                "evicted": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        work, feedback = self.work.payload, self.feedback.payload
        packet, command = work.packet, work.command
        core = Core(self._config, work, command, feedback)
        row, coverage, maker = core.row, core.coverage, core.maker
        self._connect(m, core)

        # The registers hold the row of `core.context` while `loaded`. A row that was changed is
        # written back in the clock after; if the next item is of the same flow, it is not read.
        m.submodules.rows = rows = Memory(
            shape=core.row_layouts.row, depth=self._config.flows, init=[]
        )
        row_read, row_write = rows.read_port(), rows.write_port()
        idle = Signal()
        loaded, keep, uses_row, write = Signal(), Signal(), Signal(), Signal()
        context = Signal.like(core.context)
        m.d.comb += [
            context.eq(
                Mux(
                    self.feedback.valid,
                    feedback.context,
                    Mux(work.is_command, command.context, work.context),
                )
            ),
            row_read.addr.eq(context),
            row_read.en.eq(idle),
            row_write.addr.eq(core.context),
            row_write.en.eq(write),
            *row.store(row_write.data),
            row_write.data.coverage.eq(coverage.contents),
            coverage.loaded.eq(row_read.data.coverage),
        ]
        m.d.sync += write.eq(0)

        token = Signal(TokenKind)
        out_free = ~self.entries.valid | self.entries.ready
        with m.If(self.entries.ready):
            m.d.sync += self.entries.valid.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                known_packet = work.hit & packet.is_tcp
                wants_row = self.feedback.valid | work.is_command | known_packet
                m.d.comb += [idle.eq(1), maker.begin.eq(1), coverage.begin.eq(1)]
                m.d.sync += [
                    core.is_feedback.eq(self.feedback.valid),
                    core.is_command.eq(~self.feedback.valid & work.is_command),
                    core.end.eq(packet.seq + packet.payload_length),
                    core.payload_addr.eq(Cat(0, 0, 0, 0, packet.ring_word) + packet.payload_offset),
                    core.reasons.eq(0),
                    core.event.eq(0),
                    *core.framing.clear(),
                    core.dirty.eq(0),
                    core.any_all_marked.eq(0),
                    core.probed.eq(0),
                    keep.eq(loaded & (context == core.context)),
                    uses_row.eq(wants_row),
                ]
                with m.If(self.feedback.valid | self.work.valid):
                    with m.If(wants_row):
                        m.d.sync += [core.context.eq(context), loaded.eq(1)]
                    m.next = "LOAD"

            with m.State("LOAD"):
                known = uses_row & Mux(keep, row.valid, row_read.data.valid)
                m.d.sync += core.known.eq(known)
                with m.If(uses_row & ~keep):
                    m.d.comb += coverage.load.eq(1)
                    m.d.sync += row.load(row_read.data)
                with m.If(core.is_feedback):
                    m.next = "DESYNC"
                    with m.If(feedback.proof):
                        m.next = "PROVEN"
                with m.Elif(core.is_command):
                    m.next = "COMMAND"
                with m.Else():
                    self._judge_packet(m, core, known)

            command_states(m, core, token)
            tracking_states(m, core, self.walker_data)
            resync_states(m, core, self.walker_data)
            self._finish(m, core, out_free, write)
            self._token(m, core, token, out_free, write)
        return m

    def _connect(self, m: Module, core: Core) -> None:
        """The parts of `core`, and what goes between them and the ports."""
        packet, row, coverage, maker = core.packet, core.row, core.coverage, core.maker
        m.submodules.coverage = coverage
        m.submodules.maker = maker
        m.submodules.scanner = core.scanner

        m.d.comb += [
            self.walker_addr.eq(core.addr),
            self.evicted.eq(coverage.evicted),
            self.spans.payload.eq(maker.spans.payload),
            self.spans.valid.eq(maker.spans.valid),
            maker.spans.ready.eq(self.spans.ready),
            self.text_spans.payload.eq(maker.text_spans.payload),
            self.text_spans.valid.eq(maker.text_spans.valid),
            maker.text_spans.ready.eq(self.text_spans.ready),
            maker.context.eq(core.context),
            maker.generation.eq(row.generation),
            maker.version.eq(row.version),
            maker.payload_addr.eq(core.payload_addr),
            maker.payload_offset.eq(packet.payload_offset),
            coverage.seq.eq(core.seq),
            coverage.end.eq(core.end),
            coverage.high.eq(row.high),
            coverage.walk.eq(core.pos),
            coverage.version.eq(row.version),
            coverage.options.eq(row.options),
            coverage.oldest.eq(core.evict_for == Return.COMPARE),
        ]

    def _judge_packet(self, m: Module, core: Core, known: Value) -> None:
        """Statements of LOAD: to COMPARE if the walk looks at the packet, else to FINISH."""
        packet = core.packet
        flags = packet.tcp_flags
        may_walk = flags[4] & ~flags[1] & ~flags[2] & ~flags[5]  # ACK; SYN, RST, URG
        m.next = "FINISH"
        with m.If(packet.oversize):
            m.d.sync += core.add_reason(Reason.OVERSIZE)
        with m.Elif(~packet.is_tcp):
            m.d.sync += core.add_reason(Reason.NOT_TCP)
        with m.Elif(~packet.checksum_ok):
            m.d.sync += core.add_reason(Reason.BAD_CHECKSUM)
        with m.Elif(~known):
            m.d.sync += core.add_reason(Reason.NO_FLOW)
        with m.Elif(~may_walk):
            m.d.sync += core.add_reason(Reason.FLAGS)
        with m.Elif(packet.payload_length == 0):
            m.d.sync += core.add_reason(Reason.NO_PAYLOAD)
        with m.Else():
            m.d.sync += core.dirty.eq(1)
            m.next = "COMPARE"

    def _finish(self, m: Module, core: Core, out_free: Value, write: Signal) -> None:
        """FINISH, the last state of a packet. Leaves to IDLE when its entry has a place."""
        packet, row, coverage, maker = core.packet, core.row, core.coverage, core.maker
        entry = self.entries.payload
        reason = Signal.like(entry.meta.reason)
        m.d.comb += reason.eq(core.reason())
        new_number = Signal()  # settled two clocks after the packet's last record
        last_number = core.framing.last_number
        m.d.sync += new_number.eq((last_number >= row.marked_number) & ~last_number.all())
        with m.State("FINISH"):
            with m.If(maker.settled & out_free):
                m.d.comb += [
                    maker.end.eq(1),
                    self.work.ready.eq(1),
                    coverage.note_unmarked.eq(reason != Reason.NONE),
                ]
                with m.If(reason == Reason.NONE):
                    with m.If(~row.marked | (distance(core.end, row.marked_high) > 0)):
                        m.d.sync += [row.marked.eq(1), row.marked_high.eq(core.end)]
                    with m.If(new_number):
                        m.d.sync += row.marked_number.eq(core.framing.last_number + 1)
                m.d.sync += [
                    write.eq(core.dirty),
                    self.entries.valid.eq(1),
                    entry.is_token.eq(0),
                    entry.token.eq(0),
                    entry.park.eq(0),
                    entry.context.eq(Mux(core.known, core.context, 0)),
                    entry.generation.eq(Mux(core.known, row.generation, 0)),
                    entry.ring_word.eq(packet.ring_word),
                    entry.oversize.eq(packet.oversize),
                    entry.has_spans.eq(maker.any),
                    entry.texts.eq(maker.texts),
                    entry.ahead.eq(coverage.ahead & (reason == Reason.NONE)),
                    entry.probe.eq(core.probed),
                    entry.meta.decrypted.eq(0),  # commit's to set
                    *core.framing.give(entry.meta, (reason == Reason.NONE) | core.probed),
                    entry.meta.context.eq(Mux(core.known, core.context, 0)),
                    entry.meta.context_valid.eq(core.known),
                    entry.meta.generation.eq(Mux(core.known, row.generation, 0)),
                    entry.meta.epoch.eq(Mux(core.known, row.epoch, 0)),
                    entry.meta.l4_verified.eq(packet.is_tcp & packet.checksum_ok),
                    entry.meta.reason.eq(reason),
                    entry.meta.payload_offset.eq(Mux(packet.is_tcp, packet.payload_offset, 0)),
                    entry.meta.payload_length.eq(Mux(packet.is_tcp, packet.payload_length, 0)),
                    entry.meta.seq.eq(Mux(packet.is_tcp, packet.seq, 0)),
                ]
                self._give_event(m, core)
                m.next = "IDLE"

    def _token(self, m: Module, core: Core, token: Signal, out_free: Value, write: Signal) -> None:
        """TOKEN, the last state of a command and of feedback. Leaves to IDLE when its entry has a
        place."""
        command, feedback, entry = core.command, core.feedback, self.entries.payload
        with m.State("TOKEN"):
            with m.If(out_free):
                m.d.comb += [
                    self.feedback.ready.eq(core.is_feedback),
                    self.work.ready.eq(~core.is_feedback),
                ]
                m.d.sync += [
                    write.eq(1),
                    self.entries.valid.eq(1),
                    entry.eq(0),
                    entry.is_token.eq(1),
                    entry.token.eq(token),
                    entry.has_spans.eq(
                        (token == TokenKind.ADD)
                        | (token == TokenKind.REKEY)
                        | (token == TokenKind.DELETE)
                    ),
                    entry.park.eq(Mux(token == TokenKind.GO_ON, command.park, 0)),
                    entry.context.eq(core.context),
                    entry.generation.eq(
                        Mux(core.is_feedback, feedback.generation, command.generation)
                    ),
                ]
                self._give_event(m, core)
                m.next = "IDLE"

    def _give_event(self, m: Module, core: Core) -> None:
        """Statements: the entry takes the event, if there is one."""
        entry = self.entries.payload
        m.d.sync += entry.event.eq(core.event)
        with m.If(core.event.kind != EventKind.NONE):
            m.d.sync += [
                entry.event.context.eq(core.context),
                entry.event.generation.eq(core.row.generation),
            ]
