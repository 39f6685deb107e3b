# SPDX-License-Identifier: Apache-2.0
"""The registers that the walker's states share, and small things that several of them do."""

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data

from ..abi.commands import Option
from ..abi.config import HEADER_BYTES, NONCE_BYTES, VERSION_TLS12, Config
from ..abi.meta import Reason
from ..common.amaranth_types import Statement, enum
from ..common.layouts import Event, Layouts, Meta
from ..common.record_header import HEAD_BYTES, present
from ..common.sequence import distance
from ..common.span_maker import SpanMaker
from .coverage import Coverage
from .header_scanner import HeaderScanner
from .row import PART_HEADER_BYTES, RowLayouts, RowRegisters, withholds


class Return(enum.Enum, shape=3):
    """Where to go on after an eviction."""

    COMPARE = 0
    FRONTIER = 1
    SPLIT_HOLE = 2
    STEP = 3
    OPEN_LAST = 4


class Framing:
    """The framing fields of a packet's metadata, a signal each; see `abi.meta`."""

    def __init__(self) -> None:
        self.fields = {}
        for name in Meta.members:
            if name == "records" or name.startswith(("first_", "last_")):
                self.fields[name] = Signal(Meta[name].shape, name=f"framing_{name}")
        self.__dict__.update(self.fields)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Signal: ...  # the framing fields

    def clear(self) -> list[Statement]:
        """Statements that begin a packet."""
        return [signal.eq(0) for signal in self.fields.values()]

    def give(self, meta: data.View, marked: Value) -> list[Statement]:
        """Statements that fill in `meta`; zeros unless `marked`. `last_completes` is given in any
        case: commit wants to know whether a packet ends where a record ends that parks."""
        return [
            meta[name].eq(signal if name == "last_completes" else Mux(marked, signal, 0))
            for name, signal in self.fields.items()
        ]


class Core:
    """Everything that one item of work, a packet or a command, leaves in registers.

    `pos` is the next header's sequence number in the chain that is being followed, `pos_at` the
    same from the payload's first byte on, `left` the bytes from there to the segment's end, and
    `addr` the same place in the ring. The first `part_header_left` bytes at `pos` are not in the
    segment but in `part_header`.
    """

    def __init__(
        self, config: Config, work: data.View, command: data.View, feedback: data.View
    ) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        self.row_layouts = RowLayouts(config)
        self.row = RowRegisters(self.row_layouts)
        self.coverage = Coverage(config)
        self.maker = SpanMaker(config)
        self.scanner = HeaderScanner()
        self.packet = work.packet
        self.command = command

        self.context = Signal(layouts.context_bits)
        self.is_command = Signal()
        self.is_feedback = Signal()
        self.feedback = feedback
        self.known = Signal()  # the row is valid
        self.dirty = Signal()  # the row is to be written back

        self.seq = work.packet.seq
        self.length = work.packet.payload_length
        self.end = Signal(32)
        self.payload_addr = Signal(layouts.byte_bits)
        self.reasons = Signal(len(Reason))
        self.event = Signal(Event)
        self.framing = Framing()

        self.addr = Signal(layouts.byte_bits)
        self.pos = Signal(32)
        self.pos_at = Signal(signed(17))
        self.left = Signal(signed(16))
        self.part_header = Signal(8 * PART_HEADER_BYTES)
        self.part_header_left = Signal(4)
        self.head = Signal(8 * HEAD_BYTES)
        self.closed = Signal()
        self.start = Signal(32)
        self.stop = Signal(32)
        self.hopping = Signal()
        self.searching = Signal()  # the candidate chain is being followed, not the proven one
        self.tries = Signal(range(config.rescan_limit + 1))
        self.fresh = Signal()  # the candidate chain begins in this packet
        self.any_all_marked = Signal()  # one of its records has been in marked packets only, so far
        self.probed = Signal()  # a record completes under a guessed number
        self.evict_for = Signal(Return)

        self.one_bit = (self.row.options & Option.ONE_BIT).any()
        self.tls12 = self.row.version == VERSION_TLS12
        self.header_size = Mux(self.tls12, HEADER_BYTES + NONCE_BYTES, HEADER_BYTES)

    def add_reason(self, reason: Reason) -> Statement:
        """Statement: the reason applies."""
        return self.reasons[int(reason)].eq(1)

    def overlay(self, block: Value, size: int) -> Value:
        """The first `size` bytes at `pos`: held ones in front of those of the ring."""
        held = present(self.part_header_left, PART_HEADER_BYTES)
        return Cat(
            Mux(held[i], self.part_header.word_select(i, 8), block.word_select(i, 8))
            if i < PART_HEADER_BYTES
            else block.word_select(i, 8)
            for i in range(size)
        )

    def head_bytes(self, block: Value) -> Value:
        """Header and nonce at `pos`; bytes that are not there are 0."""
        there = present(self.left, HEAD_BYTES)
        data = self.overlay(block, HEAD_BYTES)
        return Cat(
            Mux(there[i] & (1 if i < HEADER_BYTES else self.tls12), data.word_select(i, 8), 0)
            for i in range(HEAD_BYTES)
        )

    def follow(self, walk: Value, hold: Value, part_header_count: Value) -> list[Statement]:
        """Statements: be at a chain's next header."""
        return [
            self.pos.eq(walk),
            self.pos_at.eq(distance(walk, self.seq)),
            self.left.eq(distance(self.end, walk)),
            self.part_header.eq(hold),
            self.part_header_left.eq(part_header_count),
        ]

    def one_further(self) -> list[Statement]:
        """Statements: be at the next byte."""
        return [
            self.pos.eq(self.pos + 1),
            self.pos_at.eq(self.pos_at + 1),
            self.left.eq(self.left - 1),
            self.part_header.eq(self.part_header >> 8),
            self.part_header_left.eq(Mux(self.part_header_left == 0, 0, self.part_header_left - 1)),
        ]

    def past(self, size: Value) -> list[Statement]:
        """Statements: be at the next header of the chain."""
        return [
            self.pos.eq(self.pos + size),
            self.pos_at.eq(self.pos_at + size),
            self.left.eq(self.left - size),
            self.addr.eq(self.addr + size),
            self.part_header_left.eq(0),  # a record is longer than what can be held
        ]

    def touch(
        self,
        m: Module,
        number: Value,
        start: Value,
        offset: Value,
        length: Value,
        nonce: Value,
        completes: ValueLike,
    ) -> None:
        """One more record has bytes in the packet."""
        framing = self.framing
        m.d.sync += [
            framing.records.eq(framing.records + 1),
            framing.last_number.eq(number),
            framing.last_start.eq(start),
            framing.last_length.eq(length),
            framing.last_completes.eq(completes),
        ]
        with m.If(framing.records == 0):
            m.d.sync += [
                framing.first_number.eq(number),
                framing.first_offset.eq(offset),
                framing.first_length.eq(length),
                framing.first_nonce.eq(nonce),
                framing.first_completes.eq(completes),
            ]

    def evict(self, m: Module, back: Return) -> None:
        """Close a record and come back."""
        m.d.comb += self.coverage.evict.eq(1)
        m.d.sync += self.evict_for.eq(back)
        m.next = "EVICT"

    def withholds(self, content: Value, length: Value) -> Value:
        """Whether nothing is marked behind such a record before its verdict."""
        return withholds(self.config, self.row.version, self.row.options, content, length)

    def close_unverified(self, m: Module, content: Value, length: Value, end: Value) -> None:
        """A record that ends at `end` is closed without a verdict: it may withhold marks."""
        with m.If(self.withholds(content, length)):
            self.set_barrier(m, end)

    def set_barrier(self, m: Module, end: Value) -> None:
        """A record that ends at `end` was closed without a verdict and withholds marks."""
        row = self.row
        with m.If(~row.barrier | (distance(end, row.barrier_end) > 0)):
            m.d.sync += [row.barrier.eq(1), row.barrier_end.eq(end)]

    def clear_barrier(self, m: Module) -> None:
        """Software has read the stream up to the command's position."""
        with m.If(distance(self.command.seq, self.row.barrier_end) >= 0):
            m.d.sync += self.row.barrier.eq(0)

    def reason(self) -> Value:
        """The lowest reason that applies."""
        suspicion = self.row.barrier & (distance(self.end, self.row.barrier_end) > 0)
        mixed = ~self.any_all_marked & ~(self.row.options & Option.MARK_REST).any()
        reasons = (
            self.reasons
            | (self.coverage.held | suspicion) << int(Reason.HELD)
            | mixed << int(Reason.MIXED)
        )
        lowest = 0
        for reason in sorted(Reason, reverse=True):
            if reason is not Reason.NONE:
                lowest = Mux(reasons[int(reason)], int(reason), lowest)
        return lowest
