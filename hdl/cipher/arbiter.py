# SPDX-License-Identifier: Apache-2.0
"""Spans of receive and of transmit take turns at the cipher."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.layouts import Layouts, SpanKind
from ..common.tx_layouts import TxLayouts
from .layouts import CipherLayouts


class SpanArbiter(wiring.Component):
    """Two streams of spans into one, by turns if both have one; no latency.

    A direction is admitted only if nothing behind can hold its span up, so one whose host takes
    nothing never stands in the other's way. What was offered stays until it is taken.

    rx_open, tx_open: data spans of that direction have a place in all queues behind; once high,
    low only when a span was taken.
    rx_drained, tx_drained: none of its spans is under way, so a key token may run; the same.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self._names = list(layouts.span.members), list(TxLayouts(config).span.members)
        super().__init__(
            {
                "rx": In(stream.Signature(layouts.span)),
                "tx": In(stream.Signature(TxLayouts(config).span)),
                "spans": Out(stream.Signature(CipherLayouts(config).span)),
                "rx_open": In(1),
                "tx_open": In(1),
                "rx_drained": In(1),
                "tx_drained": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rx, tx, out = self.rx, self.tx, self.spans.payload
        may_rx, may_tx = Signal(), Signal()
        pick, before, waits = Signal(), Signal(), Signal()
        m.d.comb += [
            may_rx.eq(
                rx.valid & Mux(rx.payload.kind == SpanKind.DATA, self.rx_open, self.rx_drained)
            ),
            may_tx.eq(
                tx.valid & Mux(tx.payload.kind == SpanKind.DATA, self.tx_open, self.tx_drained)
            ),
            # `before` is what was offered last, and stays what is offered while that waits.
            pick.eq(Mux(waits, before, may_tx & (~may_rx | ~before))),
            self.spans.valid.eq(Mux(pick, may_tx, may_rx)),
            rx.ready.eq(self.spans.ready & may_rx & ~pick),
            tx.ready.eq(self.spans.ready & may_tx & pick),
        ]
        m.d.sync += waits.eq(self.spans.valid & ~self.spans.ready)
        with m.If(self.spans.valid):
            m.d.sync += before.eq(pick)
        with m.If(pick):
            m.d.comb += [out[name].eq(tx.payload[name]) for name in self._names[1]]
        with m.Else():
            m.d.comb += [out[name].eq(rx.payload[name]) for name in self._names[0]]
            m.d.comb += out.key_row.eq(rx.payload.context)
        m.d.comb += out.tx.eq(pick)
        return m
