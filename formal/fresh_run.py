# SPDX-License-Identifier: Apache-2.0
"""One run of the walker under the claims of `formal.fresh`, in Amaranth's simulator.

It shows that the claims are about something: their conditions occur, and what is taken as given
holds. All claims are checked in each clock, the inductive ones too.
"""

import sys
from unittest import mock

from amaranth.hdl import Array, Const, Signal
from amaranth.sim import Simulator

from sealane.hdl.abi.commands import Op

from . import inside
from .bench import Bench

FLOW = 1
START = 100  # the flow's position
# Offset and length: a record's first packet, one that leaves a hole of 20 bytes, three that fill it
# from the middle on; then bytes that have passed.
PACKETS = ((0, 40), (60, 20), (45, 5), (40, 5), (50, 10), (40, 5), (0, 40))
HEADER = int.from_bytes(bytes.fromhex("17030303e8"), "little")  # a record of 1000 bytes
CLOCKS = 160


class Watched(Bench):
    """A bench whose claims, and what they assume, are signals that a simulation looks at."""

    def __init__(self):
        super().__init__()
        self.rules = []  # signals with the line that they come from

    def claim(self, condition):
        """The property, to be looked at."""
        self.parts.add(self.part)
        self._look_at(condition)

    def assume(self, condition):
        """The same for what the environment keeps to."""
        self._look_at(condition)

    def _look_at(self, condition):
        rule = Signal(name=f"rule{len(self.rules)}")
        self.m.d.comb += rule.eq(condition)
        self.rules.append((rule, sys._getframe(2).f_lineno))


def play(m, dut):
    """Drives the walker's inputs: CONTEXT_ADD and the packets one behind the other; what it gives
    is taken at once."""
    work = dut.work.payload
    item = Signal(range(len(PACKETS) + 2))
    with m.If(dut.work.valid & dut.work.ready):
        m.d.sync += item.eq(item + 1)
    items = ((0, 0), *PACKETS)
    m.d.comb += [
        dut.entries.ready.eq(1),
        dut.spans.ready.eq(1),
        dut.text_spans.ready.eq(1),
        dut.walker_data.eq(HEADER),
        dut.work.valid.eq(item < len(items)),
        work.is_command.eq(item == 0),
        work.command.op.eq(Op.CONTEXT_ADD),
        work.command.context.eq(FLOW),
        work.command.generation.eq(1),
        work.command.version.eq(1),
        work.command.seq.eq(START),
        work.hit.eq(1),
        work.context.eq(FLOW),
        work.packet.is_tcp.eq(1),
        work.packet.checksum_ok.eq(1),
        work.packet.tcp_flags.eq(1 << 4),  # ACK
        work.packet.payload_offset.eq(54),
        work.packet.seq.eq(Array(Const(START + at, 32) for at, _ in items)[item]),
        work.packet.payload_length.eq(Array(Const(length, 14) for _, length in items)[item]),
    ]


def watch(bench):
    """Runs a bench of `fresh_bench(at=...)`.

    Returns how often the byte was taken, how often of these out of a hole, and how many packets
    that hold it were given reason NONE. Raises AssertionError, with the line of the claim, as soon
    as one fails.
    """
    shown = [Signal(name=name) for name in ("taken", "cut", "marked")]
    values = (bench.taken, bench.cut, bench.marked)
    bench.m.d.comb += [signal.eq(value) for signal, value in zip(shown, values, strict=True)]
    counts = [0, 0, 0]

    async def count(ctx):
        for _ in range(CLOCKS):
            for i, signal in enumerate(shown):
                counts[i] += ctx.get(signal)
            for rule, line in bench.rules:
                assert ctx.get(rule), f"line {line}"
            await ctx.tick()

    # Rows of other flows give any value in a proof, 0 here.
    with mock.patch.object(inside, "AnySeq", lambda width: Const(0, width)):
        simulator = Simulator(bench.m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(count)
    simulator.run()
    return tuple(counts)
