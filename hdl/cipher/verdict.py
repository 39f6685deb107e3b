# SPDX-License-Identifier: Apache-2.0
"""X rows and verdicts: the state behind the cipher.

An open record has a row: X, the XOR of everything that was fed, weighted to the record's end, and
the last non-zero text byte seen. When the record is complete, X == 0 is the verdict.

Stages: address | memory | row at hand, XOR, write | compare, verdict of the packet.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.delay import read_in_two
from ..common.fifo import StreamFIFO
from ..common.layouts import Layouts
from .layouts import CipherLayouts

VERDICT_DEPTH = 16


class Verdicts(wiring.Component):
    """Contributions in, in order, one a clock; a verdict for each `last`.

    A contribution waits while an earlier one of the same record is two stages ahead or nearer.
    retired: a span is through.
    key_done: a key token was executed, while no span was under way; gives an empty verdict.
    key_pending: that verdict waits for room; no other token may end meanwhile.

    Behind a bad record nothing of the packet counts; behind a record that parks, one that does not
    authenticate is not bad: its key may be another. A record whose number is a guess proves it
    when it authenticates, and says nothing when it does not.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        self.own = CipherLayouts(config)
        super().__init__(
            {
                "contributions": In(stream.Signature(self.own.contribution)),
                "verdicts": Out(stream.Signature(layouts.verdict)),
                "retired": Out(1),
                "key_done": In(1),
                "key_pending": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layouts = self.layouts
        m.submodules.verdict_queue = queue = StreamFIFO(layouts.verdict, VERDICT_DEPTH)
        wiring.connect(m, queue.o, wiring.flipped(self.verdicts))
        go = Signal()
        m.d.comb += go.eq(queue.i.ready)

        m.submodules.x = memory = Memory(
            shape=self.own.x_row.size, depth=self.config.flows << layouts.slot_bits, init=[]
        )
        write = memory.write_port()

        def row_of(item: data.View) -> Value:
            return Cat(item.retire.slot, item.retire.context)

        valid = [Signal(name=f"valid{i}") for i in range(4)]
        items = [Signal(self.own.contribution, name=f"item{i}") for i in range(3)]
        arriving = self.contributions.payload
        clash = Cat(valid[i] & (row_of(items[i]) == row_of(arriving)) for i in range(2)).any()
        m.d.comb += self.contributions.ready.eq(go & ~clash)
        with m.If(go):
            m.d.sync += [
                valid[0].eq(self.contributions.valid & ~clash),
                items[0].eq(arriving),
                *(behind.eq(before) for before, behind in zip(valid, valid[1:], strict=False)),
                *(behind.eq(before) for before, behind in zip(items, items[1:], strict=False)),
            ]

        # Third stage: the row is here.
        item = items[2].retire
        row = Signal(self.own.x_row)
        new = Signal(self.own.x_row)
        inner = items[2].sum.inner
        m.d.comb += [
            Value.cast(row).eq(read_in_two(m, memory, row_of(items[0]), go)),
            new.x.eq(items[2].sum.value ^ Mux(item.first, 0, row.x)),
            new.inner.eq(inner),
            write.addr.eq(row_of(items[2])),
            write.data.eq(new),
            write.en.eq(go & valid[2] & ~item.stale & ~(item.first & item.completes)),
        ]
        keep = row.inner.valid & (~inner.valid | (row.inner.offset > inner.offset))
        with m.If(~item.first & keep):
            m.d.comb += new.inner.eq(row.inner)

        # Fourth stage: compare, and sum up over the packet.
        span = Signal(self.own.retire)
        result = Signal(self.own.x_row)
        so_far = Signal(layouts.verdict)  # of the packet's earlier spans
        verdict = Signal(layouts.verdict)
        good, verified, bad = Signal(), Signal(), Signal()
        park, may_park = Signal(), Signal()
        counts = span.completes & ~span.stale & ~so_far.bad
        inner_handshake = result.inner.valid & result.inner.handshake
        with m.If(go):
            m.d.sync += [span.eq(item), result.eq(new)]
        m.d.comb += [
            may_park.eq(Mux(span.tls13, inner_handshake, span.park_by_header)),
            good.eq(counts & (result.x == 0)),
            verified.eq(good & ~span.probe),
            bad.eq(counts & (result.x != 0) & ~so_far.park & ~span.probe),
            park.eq(good & may_park & ~so_far.park),
            self.retired.eq(valid[3] & go),
            verdict.bad.eq(so_far.bad | bad),
            verdict.stale.eq(so_far.stale | span.stale),
            verdict.verified.eq(so_far.verified + verified),
            verdict.park.eq(so_far.park | park),
            verdict.park_last.eq(park),
            verdict.number.eq(Mux(bad | (good & may_park), span.number, so_far.number)),
            verdict.proof.eq(so_far.proof | (good & span.probe)),
            queue.i.payload.eq(Mux(self.key_pending, 0, verdict)),
            queue.i.valid.eq(valid[3] & span.last | self.key_pending),
        ]
        # It goes in the first clock with room, before any span can come this far.
        with m.If(self.key_done):
            m.d.sync += self.key_pending.eq(1)
        with m.Elif(go):
            m.d.sync += self.key_pending.eq(0)
        with m.If(valid[3] & go):
            m.d.sync += so_far.eq(Mux(span.last, 0, verdict))
        return m
