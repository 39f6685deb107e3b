# SPDX-License-Identifier: Apache-2.0
"""Looks into a component from outside, so that inductive invariants can name its registers."""

import linecache
import re
import sys
from collections import Counter
from functools import partial
from unittest import mock

from amaranth.asserts import AnySeq
from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Recorder:
    """Stands for `Signal` in one module and remembers what is made, by name.

    Amaranth knows no names of `a, b = Signal(), Signal()`; they are read from the source.
    """

    def __init__(self):
        self.named = {}
        self._made = Counter()  # signals without a name, by line

    def _keep(self, signal, frame):
        name = Value.cast(signal).name
        if name.startswith("$"):
            place = frame.f_code.co_filename, frame.f_lineno
            targets = re.match(r"([\w, ]+) = ", linecache.getline(*place).strip())
            if targets is None:
                return signal
            name = targets[1].split(", ")[self._made[place]]
            self._made[place] += 1
        self.named.setdefault(name, signal)
        return signal

    def __call__(self, *args, **kwargs):
        return self._keep(Signal(*args, src_loc_at=1, **kwargs), sys._getframe(1))

    def like(self, *args, **kwargs):
        """`Signal.like`."""
        return self._keep(Signal.like(*args, src_loc_at=1, **kwargs), sys._getframe(1))


class OneRow(wiring.Component):
    """A memory of which one row is kept; the others give any value at any time.

    That is more than a memory can do, so what holds with it holds with the memory. One read port
    and one write port; a read gives the old value, one clock later.
    """

    def __init__(self, shape, depth):
        self.shape = shape
        width = Shape.cast(shape).width
        self.row = Signal(shape, name="kept_row")
        self.kept = Signal(range(depth), name="kept_index")
        address = range(depth)
        super().__init__(
            {
                "write": Out(
                    wiring.Signature(
                        {"addr": Out(address), "data": Out(shape), "en": Out(1)}
                    ).flip()
                ),
                "read": Out(
                    wiring.Signature({"addr": In(address), "data": Out(shape), "en": In(1, init=1)})
                ),
            }
        )
        self._width = width

    def read_port(self):
        """The port for reading."""
        return self.read

    def write_port(self):
        """The port for writing."""
        return self.write

    def elaborate(self, platform):
        m = Module()
        hit = Signal()
        found = Signal(self.shape)
        other = Signal(self._width)
        m.d.comb += [
            other.eq(AnySeq(self._width)),
            self.read.data.eq(Mux(hit, Value.cast(found), other)),
        ]
        with m.If(self.read.en):
            m.d.sync += [hit.eq(self.read.addr == self.kept), found.eq(self.row)]
        with m.If(self.write.en & (self.write.addr == self.kept)):
            m.d.sync += self.row.eq(self.write.data)
        return m


class Anything(wiring.Component):
    """Has the ports of another component and drives them with any values at any time."""

    def __init__(self, component):
        super().__init__(component.signature)

    def elaborate(self, platform):
        m = Module()
        for _, member, value in self.signature.flatten(self):
            if member.flow == Out:
                target = Value.cast(value)
                m.d.comb += target.eq(AnySeq(len(target)))
        return m


class Opened:
    """A component's module with its inner signals at hand.

    keep: "Memory" makes its memories `OneRow`s. without: names of parts replaced by `Anything`.

    module: to be put among submodules. signals: by name. memories: `OneRow`s, parts: what stands
    for the parts replaced, each in order of making.
    """

    def __init__(self, component, source, *, keep=(), without=()):
        component._MustUse__silence = True  # its module is used, not itself
        recorder = Recorder()
        self.memories = []
        self.parts = []
        patches = {"Signal": recorder}
        if "Memory" in keep:
            patches["Memory"] = self._memory
        for name in without:
            patches[name] = partial(self._anything, getattr(source, name))
        with mock.patch.multiple(source, **patches):
            self.module = component.elaborate(None)
        self.signals = recorder.named

    def _anything(self, part, *args):
        original = part(*args)
        original._MustUse__silence = True
        self.parts.append(Anything(original))
        return self.parts[-1]

    def _memory(self, shape, depth, init):
        memory = OneRow(shape, depth)
        self.memories.append(memory)
        return memory

    def state(self, name, fsm="fsm"):
        """Whether the state machine is in that state."""
        return self.module._generated[fsm].ongoing(name)
