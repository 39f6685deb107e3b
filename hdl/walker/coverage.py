# SPDX-License-Identifier: Apache-2.0
"""The loaded flow's open records and the holes in them."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ..abi.commands import OPTION_BITS
from ..abi.config import HEADER_BYTES, Config
from ..common.layouts import Layouts
from ..common.sequence import distance
from .row import RowLayouts, withholds

STALE = 30  # a record 2^30 bytes behind is closed, before sequence numbers could wrap onto it


class Coverage(Component):
    """Slots and holes of the row in the walker, with what is done to them.

    Strobes take effect at the next clock edge. A search (`find`, `evict`) holds `busy` from the
    next clock on for one clock a hole or slot and three more; nothing else is strobed meanwhile.

    seq, end, high, walk: of the packet and the row; stable during searches.
    load: take `loaded`; `contents` is what to write back. clear: close everything.
    lookup: look up which slot holds `seq` (`at_seq`) and `high` (`at_high`, `high_slot`) and
        whether a record is `stale`; the results stay until the next probe.
    pick: make `pick_slot` the picked record. `picked.valid` falls when the record is evicted;
        `whole`: no hole is in it.
    open: put `new` into the slot `free_slot`; only while `slot_free`. feed: the picked record has
    been fed; with `completes`, it is closed. drop_verdict: bytes of the picked record have passed
    and were not fed: it gets no verdict, its holes
        do not matter any more. close: the picked record is closed.
    begin: a packet begins. note_unmarked: what was opened and fed since was not marked.
    add: a hole from `add_start` to `add_end` in the picked record; only while `hole_free`.
    find: the hole that overlaps [seq, end) and lies furthest in front; then `found` and `hole`.
    cut: take [cut_start, cut_end) out of the found hole; if it lies in the middle, the part in
        front stays and the part behind is to be added.
    evict: close the newest record whose end has passed, because its holes will be filled last, or
        without one what is open, or (`oldest`) the oldest; `evicted` is high for one clock at the
        end, with the record's `evicted_end` and whether it `evicted_withholds` marks behind it.
    settle: note which records end in front of `end`; then `ahead`, and `held` where one of them
        withholds marks. close_ended: close them.
    withheld: an open record withholds marks behind it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._layouts = layouts = RowLayouts(config)
        slot_bits = Layouts(config).slot_bits
        strobes = (
            "load",
            "clear",
            "lookup",
            "pick",
            "open",
            "feed",
            "drop_verdict",
            "close",
            "begin",
            "note_unmarked",
            "add",
            "find",
            "cut",
            "evict",
            "settle",
            "close_ended",
        )
        super().__init__(
            {name: In(1) for name in (*strobes, "completes", "oldest")}
            | {name: In(32) for name in ("seq", "end", "high", "walk", "add_start", "add_end",
                                         "cut_start", "cut_end")}
            | {name: Out(1) for name in ("at_seq", "at_high", "stale", "whole", "slot_free",
                                         "hole_free", "found", "busy", "evicted", "held",
                                         "ahead", "withheld", "evicted_withholds")}
            | {
                "loaded": In(layouts.coverage),
                "contents": Out(layouts.coverage),
                "version": In(1),
                "options": In(OPTION_BITS),
                "evicted_end": Out(32),
                "high_slot": Out(slot_bits),
                "pick_slot": In(slot_bits),
                "picked": Out(layouts.open_record),
                "picked_slot": Out(slot_bits),
                "free_slot": Out(slot_bits),
                "new": In(layouts.open_record),
                "hole": Out(layouts.hole),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        slots = [
            Signal(self._layouts.open_record, name=f"slot{i}") for i in range(config.record_slots)
        ]
        holes = [Signal(self._layouts.hole, name=f"hole{i}") for i in range(config.runs - 1)]
        m.d.comb += [self.contents.slots[i].eq(slot) for i, slot in enumerate(slots)]
        m.d.comb += [self.contents.holes[i].eq(hole) for i, hole in enumerate(holes)]

        self._lookup(m, slots)
        ends = self._settle(m, slots)

        # The picked record, and what happens to it.
        picked_slot = self.picked_slot
        with m.If(self.pick):
            m.d.sync += [
                self.picked.eq(Array(slot.as_value() for slot in slots)[self.pick_slot]),
                picked_slot.eq(self.pick_slot),
            ]
        in_picked = [hole.valid & (hole.slot == picked_slot) for hole in holes]
        m.d.comb += self.whole.eq(~any_of(in_picked))
        with m.If(self.feed):
            for i, slot in enumerate(slots):
                with m.If(picked_slot == i):
                    m.d.sync += [slot.fed.eq(1), slot.valid.eq(~self.completes)]

        touched = Signal(len(slots))  # opened or fed in this packet
        with m.If(self.begin):
            m.d.sync += touched.eq(0)
        with m.If(self.feed):
            m.d.sync += touched.bit_select(picked_slot, 1).eq(1)

        for i, slot in reversed(list(enumerate(slots))):
            with m.If(~slot.valid):
                m.d.comb += [self.slot_free.eq(1), self.free_slot.eq(i)]
        with m.If(self.open):
            m.d.sync += touched.bit_select(self.free_slot, 1).eq(1)
            for i, slot in enumerate(slots):
                with m.If(self.free_slot == i):
                    m.d.sync += slot.eq(self.new)
        for i, slot in enumerate(slots):
            with m.If(self.note_unmarked & touched[i]):
                m.d.sync += slot.has_unmarked.eq(1)
            with m.If(self.drop_verdict & (picked_slot == i)):
                m.d.sync += slot.no_verdict.eq(1)
            with m.If((self.close & (picked_slot == i)) | (self.close_ended & ends[i])):
                m.d.sync += slot.valid.eq(0)
        with m.If(self.drop_verdict):
            m.d.sync += self.picked.no_verdict.eq(1)

        # Holes: a free one is filled, the found one is cut.
        found_at = Signal(range(max(2, len(holes))))
        free = Cat(~hole.valid for hole in holes)
        m.d.comb += self.hole_free.eq(free.any())
        front = self.hole.start != self.cut_start
        back = self.hole.end != self.cut_end
        for i, hole in enumerate(holes):
            with m.If(self.add & free[i] & ~free[:i].any()):
                m.d.sync += [
                    hole.valid.eq(1),
                    hole.slot.eq(picked_slot),
                    hole.start.eq(self.add_start),
                    hole.end.eq(self.add_end),
                ]
            with m.If(self.cut & (found_at == i)):
                m.d.sync += hole.valid.eq(front | back)
                with m.If(front):
                    m.d.sync += hole.end.eq(self.cut_start)
                with m.Else():
                    m.d.sync += hole.start.eq(self.cut_end)

        finding, chosen = self._searches(m, slots, holes, found_at)
        m.d.comb += self.busy.eq(finding)
        with m.If(self.evicted):
            with m.If(chosen == picked_slot):
                m.d.sync += self.picked.valid.eq(0)
            for i, slot in enumerate(slots):
                with m.If(chosen == i):
                    m.d.sync += slot.valid.eq(0)
        for i, hole in enumerate(holes):
            gone = (self.evicted & (hole.slot == chosen)) | (
                self.close_ended & (ends >> hole.slot)[0]
            )
            with m.If(gone | ((self.drop_verdict | self.close) & in_picked[i])):
                m.d.sync += hole.valid.eq(0)

        with m.If(self.load):
            m.d.sync += [slot.eq(self.loaded.slots[i]) for i, slot in enumerate(slots)]
            m.d.sync += [hole.eq(self.loaded.holes[i]) for i, hole in enumerate(holes)]
        with m.If(self.clear):
            m.d.sync += [part.valid.eq(0) for part in slots + holes]
        return m

    def _lookup(self, m: Module, slots: list[data.View]) -> None:
        """Which records hold two sequence numbers."""
        with m.If(self.lookup):
            m.d.sync += [self.at_seq.eq(0), self.at_high.eq(0), self.stale.eq(0)]
            for i, slot in reversed(list(enumerate(slots))):
                size = slot.length + HEADER_BYTES
                behind = distance(self.seq, slot.start)
                with m.If(slot.valid & (behind.as_unsigned() < size)):
                    m.d.sync += self.at_seq.eq(1)
                with m.If(slot.valid & ~behind[31] & behind[STALE]):
                    m.d.sync += self.stale.eq(1)
                with m.If(slot.valid & (distance(self.high, slot.start).as_unsigned() < size)):
                    m.d.sync += [self.at_high.eq(1), self.high_slot.eq(i)]

    def _settle(self, m: Module, slots: list[data.View]) -> Signal:
        """Open records in front of the packet's end, and what they hold back. Returns the former,
        a bit for each slot."""
        ends, far = Signal(len(slots)), Signal(len(slots))
        kinds = []
        for i, slot in enumerate(slots):
            kinds.append(
                withholds(self._config, self.version, self.options, slot.content, slot.length)
            )
            with m.If(self.settle):
                behind = distance(self.end, slot.start + slot.length + HEADER_BYTES)
                m.d.sync += [ends[i].eq(behind > 0), far[i].eq(behind > self._config.ahead_limit)]
            with m.If(self.open & (self.free_slot == i)):
                m.d.sync += [ends[i].eq(0), far[i].eq(0)]  # it goes on behind the packet
        valid = Cat(slot.valid for slot in slots)
        m.d.comb += [
            self.ahead.eq((ends & valid).any()),
            self.held.eq((ends & valid & (Cat(kinds) | far)).any()),
            self.withheld.eq((valid & Cat(kinds)).any()),
        ]
        return ends

    def _searches(
        self, m: Module, slots: list[data.View], holes: list[data.View], found_at: Signal
    ) -> tuple[Signal, Signal]:
        """One slot or hole a clock, compared one clock later. Returns busy and the chosen slot."""
        busy, evicting = Signal(), Signal()
        steps = max(len(slots), len(holes))
        index = Signal(range(steps + 2))
        last_index = Signal.like(index)
        started = Signal()

        hole = Signal(self._layouts.hole)
        age, best_age = Signal(signed(32)), Signal(signed(32))
        aged = Signal()
        age_end, age_withholds = Signal(32), Signal()
        ended, best_ended = Signal(), Signal()
        any_best = Signal()
        chosen = Signal.like(self.pick_slot)
        m.d.sync += self.evicted.eq(0)
        with m.If(self.find | self.evict):
            m.d.sync += [
                busy.eq(1),
                evicting.eq(self.evict),
                index.eq(0),
                started.eq(0),
                any_best.eq(0),
            ]
        with m.If(self.find):
            m.d.sync += self.found.eq(0)
        with m.If(busy):
            m.d.sync += [index.eq(index + 1), last_index.eq(index), started.eq(1)]
        with m.If(busy & evicting):
            with m.Switch(index):
                for i, slot in enumerate(slots):
                    with m.Case(i):
                        end = (slot.start + slot.length + HEADER_BYTES)[:32]
                        m.d.sync += [
                            age.eq(distance(self.walk, slot.start)),
                            aged.eq(slot.valid),
                            age_end.eq(end),
                            ended.eq(distance(end, self.high) <= 0),
                            age_withholds.eq(
                                withholds(
                                    self._config,
                                    self.version,
                                    self.options,
                                    slot.content,
                                    slot.length,
                                )
                            ),
                        ]
                with m.Default():
                    m.d.sync += aged.eq(0)
            newer = (ended & ~best_ended) | ((ended == best_ended) & (age < best_age))
            better = Mux(self.oldest, age > best_age, newer)
            with m.If(started & aged & (~any_best | better)):
                m.d.sync += [
                    any_best.eq(1),
                    best_age.eq(age),
                    best_ended.eq(ended),
                    chosen.eq(last_index),
                    self.evicted_end.eq(age_end),
                    self.evicted_withholds.eq(age_withholds),
                ]
            with m.If(index == len(slots) + 1):
                m.d.sync += self.evicted.eq(1)
            with m.If(self.evicted):
                m.d.sync += busy.eq(0)
        with m.If(busy & ~evicting):
            with m.Switch(index):
                for i, one in enumerate(holes):
                    with m.Case(i):
                        m.d.sync += hole.eq(one)
                with m.Default():
                    m.d.sync += hole.valid.eq(0)
            overlaps = (distance(hole.start, self.end) < 0) & (distance(hole.end, self.seq) > 0)
            in_front = ~self.found | (distance(hole.start, self.hole.start) < 0)
            with m.If(started & hole.valid & overlaps & in_front):
                m.d.sync += [self.found.eq(1), self.hole.eq(hole), found_at.eq(last_index)]
            with m.If(index == len(holes) + 1):
                m.d.sync += busy.eq(0)
        return busy, chosen


def any_of(bits: list[Value]) -> Value:
    """Whether one of the bits is set."""
    return reduce(or_, bits)
