# SPDX-License-Identifier: Apache-2.0
"""Streams at the ports: what is offered stays offered, and the same, until it is taken."""

from types import SimpleNamespace
from unittest import mock

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from sealane.hdl import registers
from sealane.hdl.cipher import prepare as cipher_prep
from sealane.hdl.cipher import tail_weight as fold
from sealane.hdl.cipher import tx_tags
from sealane.hdl.cipher.arbiter import SpanArbiter
from sealane.hdl.cipher.issue import Issue, SharedIssue
from sealane.hdl.cipher.prepare import Prep
from sealane.hdl.cipher.tail_weight import SharedTailWeight, TailWeight
from sealane.hdl.cipher.tx_tags import TxTags
from sealane.hdl.cipher.verdict import Verdicts
from sealane.hdl.commit.commit import Commit
from sealane.hdl.commit.frame_reader import FrameReader
from sealane.hdl.common.fifo import StreamFIFO
from sealane.hdl.common.layouts import Layouts
from sealane.hdl.common.span_maker import SpanMaker
from sealane.hdl.ingress.flow_table import FlowTable
from sealane.hdl.ingress.ingress import Ingress
from sealane.hdl.tx.commit import TxCommit
from sealane.hdl.tx.reader import TxReader
from sealane.hdl.tx.ring import TextRing
from sealane.hdl.tx.walker import TxWalker
from sealane.hdl.walker.walker import Walker

from .bench import Bench
from .inside import Opened
from .mark import SMALL
from .tx.commit import SMALL as TX_SMALL


class AnyProduct(Component):
    """In the place of `SideMultiplier`: any value, which changes only when a product is due."""

    start: In(1)
    a: In(128)
    b: In(128)
    done: Out(1)
    p: Out(128)

    def elaborate(self, platform):
        m = Module()
        second = Signal()
        m.d.sync += [second.eq(self.start), self.done.eq(second)]
        with m.If(second):
            m.d.sync += self.p.eq(AnySeq(128))
        return m


def streams(component, flow):
    """{name: stream} of the component's streams in that direction."""
    return {
        name: getattr(component, name)
        for name, member in component.signature.members.items()
        if member.is_signature
        and member.flow == flow
        and {"valid", "ready", "payload"} <= set(member.signature.members)
    }


def _queue(config):
    return StreamFIFO(Layouts(config).feedback, 4)


COMPONENTS = {
    "queue": _queue,
    "ingress": Ingress,
    "flow_table": FlowTable,
    "walker": Walker,
    "span_maker": SpanMaker,
    "prep": Prep,
    "issue": Issue,
    "fold": TailWeight,
    "verdicts": Verdicts,
    "commit": Commit,
    "frame_reader": FrameReader,
    "span_arbiter": lambda _: SpanArbiter(TX_SMALL),
    "shared_issue": lambda _: SharedIssue(TX_SMALL),
    "shared_fold": lambda _: SharedTailWeight(TX_SMALL),
    "tx_tags": lambda _: TxTags(TX_SMALL),
    "tx_walker": lambda _: TxWalker(TX_SMALL),
    "text_ring": lambda _: TextRing(TX_SMALL),
    "tx_commit": lambda _: TxCommit(TX_SMALL),
    "tx_reader": lambda _: TxReader(TX_SMALL),
}
"""Every component with an output stream but `Registers`; `Cipher`, `Transmit` and `Device` only
join them."""

INSIDE = {"fold": fold, "shared_fold": fold, "tx_tags": tx_tags}
"""Those whose registers the induction names, and where they are."""


def _stays(bench, port, name, wrong):
    """Claims the rule; with `wrong`, that a payload stays even when it was taken."""
    if not wrong:
        bench.holds_until_taken(port, name=name)
        return
    was = bench.before(port.valid, f"{name}_was")
    bench.claim(~was | port.valid)


def stream_bench(name, *, wrong=False):
    """A component whose output streams keep the rule while its input streams do."""
    bench = Bench()
    dut = COMPONENTS[name](SMALL)
    with (
        mock.patch.object(fold, "SideMultiplier", AnyProduct),
        mock.patch.object(cipher_prep, "SideMultiplier", AnyProduct),
    ):
        if name in INSIDE:
            opened = Opened(dut, INSIDE[name])
            bench.m.submodules.dut = opened.module
        else:
            bench.m.submodules.dut = dut.elaborate(None)
            dut._MustUse__silence = True  # its module is used, not itself
    bench.free_inputs(dut)
    for port, stream in streams(dut, In).items():
        bench.holds_until_taken(stream, assume=True, name=port)
    if name == "fold":
        # Prep folds only what has slots, and a sum comes for each span that has.
        folds = _weighed(bench, dut.retires, dut.sums)
        bench.claim(opened.state("PASS") | folds)
    if name == "shared_fold":
        inner = opened.signals
        folds = (
            _weighed(bench, dut.retires, dut.sums),
            _weighed(bench, dut.tx_retires, dut.tx_sums, dut.tx_deltas),
        )
        for i, (way, fold_of) in enumerate(zip(("rx", "tx"), folds, strict=True)):
            due = ~opened.state("CHOOSE") & (inner["before"] == i)
            bench.claim(~inner[f"{way}_there"] | fold_of)
            bench.claim(~due | (fold_of & ~inner[f"{way}_there"]))
    if name == "tx_tags":
        inner = opened.signals
        bench.claim(opened.state("READ") | dut.contributions.valid)
        bench.claim(opened.state("EMIT") | ~(inner["written"] | inner["gave"]))
        bench.claim(~opened.state("VERDICT") | ~inner["added"])
    if name == "span_arbiter":
        # Room for a span, once there, is there until one is taken.
        for way, port in (("rx", dut.rx), ("tx", dut.tx)):
            for room in ("open", "drained"):
                had = getattr(dut, f"{way}_{room}")
                kept = bench.before(had & ~(port.valid & port.ready), f"{way}_{room}_kept")
                bench.assume(~kept | had)
    for port, stream in streams(dut, Out).items():
        _stays(bench, stream, port, wrong)
    return bench


def _weighed(bench, retires, *behind):
    """Whether a span is there that is to be folded, with all that comes behind it."""
    span = retires.payload
    bench.assume(~retires.valid | ~span.needs_weight | span.has_slots)
    return retires.valid & span.needs_weight & Cat(part.valid for part in behind).all()


def axi_bench(*, wrong=False):
    """`Registers`: the rules of AXI4-Lite (ARM IHI 0022, A3.2.1 and A3.3.1) and of `commands`.

    Each request has one response, behind it and within two clocks, which stays until it is taken;
    `done` is one strobe a command, behind its transfer.
    """
    bench = Bench()
    m = bench.m
    dut = registers.Registers(SMALL)
    opened = Opened(dut, registers)
    m.submodules.dut = opened.module
    inner = opened.signals
    bench.free_inputs(dut)
    bus = dut.s_axil
    for name, payload in (("aw", bus.awaddr), ("w", bus.wdata), ("ar", bus.araddr)):
        bench.holds_until_taken(_channel(bus, name, payload), assume=True, name=name)
    for name, payload in (("b", bus.bresp), ("r", Cat(bus.rdata, bus.rresp))):
        _stays(bench, _channel(bus, name, payload), name, wrong)

    # Never a second request while a response is owed, never a response that is not.
    for kind, request, answer in (("write", "aw", "b"), ("read", "ar", "r")):
        given = _channel(bus, request, bus.awaddr)
        response = _channel(bus, answer, bus.bresp)
        owed = Signal(name=f"{kind}_owed")
        clocks = Signal(2, name=f"{kind}_clocks")  # since the request
        with m.If(given.valid & given.ready):
            m.d.sync += [owed.eq(1), clocks.eq(1)]
        with m.Else():
            m.d.sync += clocks.eq(Mux(clocks == 3, 3, clocks + 1))
            with m.If(response.valid & response.ready):
                m.d.sync += owed.eq(0)
        bench.claim(~response.valid | owed)
        bench.claim(~(given.valid & given.ready & owed))
        bench.claim(~owed | (clocks < 2) | response.valid)
        bench.claim(inner[kind] == (owed & ~response.valid))
        bench.claim(~inner[kind] | (clocks == 1))
    bench.claim((bus.awvalid & bus.awready) == (bus.wvalid & bus.wready))
    for response in (bus.bresp, bus.rresp):
        bench.claim((response == registers.OKAY) | (response == registers.SLVERR))

    under_way = Signal()
    done = dut.token_done | dut.flow_write_done
    with m.If(dut.commands.valid & dut.commands.ready):
        m.d.sync += under_way.eq(1)
    with m.Elif(done):
        m.d.sync += under_way.eq(0)
    bench.assume(~done | under_way)
    bench.claim(inner["busy"] == (under_way | dut.commands.valid))
    bench.claim(~(under_way & dut.commands.valid))
    _stays(bench, dut.commands, "commands", wrong)
    return bench


def _channel(bus, name, payload):
    """An AXI4-Lite channel as a stream."""
    return SimpleNamespace(
        valid=getattr(bus, f"{name}valid"), ready=getattr(bus, f"{name}ready"), payload=payload
    )
