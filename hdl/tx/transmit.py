# SPDX-License-Identifier: Apache-2.0
"""Transmit without the cipher lane, which both directions share."""

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..abi.config import Config
from ..abi.tx import TxCommand
from ..common.counts import TransmitCounts
from ..common.fifo import StreamFIFO, queue
from ..common.layouts import FlowKey
from ..common.ports import CompletionStream, FrameStream, TxMetaStream, frames_in, frames_out
from ..common.ring import PacketRing
from ..common.tx_layouts import TxCommandFields, TxLayouts, TxMeta, tag_depth, tx_config
from ..ingress.flow_table import FlowTable
from ..ingress.ingress import Ingress, over_half
from .commit import TxCommit
from .ring import TextRing
from .walker import TxWalker

METAS = 32  # metadata that may wait for their frames
SPANS = 16
ENTRIES = 64
OUTCOMES = 16
VERDICTS = 32


class Transmit(Component):
    """From the host's frames to spans for the cipher lane, and from its text to the wire.

    Frames go in at `s_tx_axis`, with one payload each of `s_tx_meta`, before or after; those that
    leave do so in order at `m_tx_axis`, and each has its completion in order at `m_tx_comp`.
    Backpressure: while an output waits the host ring fills, then `s_tx_axis.tready` falls; the
    same where metadata are missing. `s_tx_meta` takes up to `METAS` ahead of their frames.

    commands, flow_key, flow_write_done, token_done, stall, counts: see `Registers`.
    spans: to the cipher lane. cipher_addr -> cipher_data: the host ring, see `PacketRing`.
    text_en, text_addr, text_data, text_mask, outcomes: from the cipher lane, see `TextRing`.
    tags: those that completions give. over_half: the host ring is more than half full.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._layouts = layouts = TxLayouts(config)
        super().__init__(
            {
                "s_tx_axis": In(FrameStream),
                "s_tx_meta": In(TxMetaStream),
                "m_tx_axis": Out(FrameStream),
                "m_tx_comp": Out(CompletionStream),
                "commands": In(stream.Signature(TxCommandFields)),
                "flow_key": In(FlowKey),
                "flow_write_done": Out(1),
                "token_done": Out(1),
                "stall": Out(1),
                "counts": Out(TransmitCounts),
                "spans": Out(stream.Signature(layouts.span)),
                "cipher_addr": In(layouts.byte_bits),
                "cipher_data": Out(128),
                "text_en": In(1),
                "text_addr": In(layouts.byte_bits),
                "text_data": In(128),
                "text_mask": In(16),
                "outcomes": In(stream.Signature(layouts.outcome)),
                "tags": In(stream.Signature(128)),
                "over_half": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layouts = self._config, self._layouts
        front = tx_config(config)
        m.submodules.ingress = ingress = Ingress(front)
        m.submodules.flow_table = flow_table = FlowTable(
            front, layouts.work, TxCommand.TX_FLOW_WRITE
        )
        m.submodules.ring = ring = PacketRing(front)
        m.submodules.walker = walker = TxWalker(config)
        m.submodules.text = text = TextRing(config)
        m.submodules.commit = commit = TxCommit(config)

        # Frames in, and what the host wants of them.
        m.submodules.meta_queue = metas = StreamFIFO(TxMeta, METAS)
        connect(m, metas.o, walker.metas)
        m.d.comb += [
            *frames_in(self.s_tx_axis, ingress.frames),
            metas.i.payload.eq(self.s_tx_meta.tdata),
            metas.i.valid.eq(self.s_tx_meta.tvalid),
            self.s_tx_meta.tready.eq(metas.i.ready),
            self.stall.eq(ingress.stall),
            ring.write_en.eq(ingress.write_en),
            ring.write_word.eq(ingress.write_word),
            ring.write_data.eq(ingress.write_data),
            text.clear_en.eq(ingress.write_en),
            text.clear_word.eq(ingress.write_word),
        ]

        m.d.sync += self.over_half.eq(over_half(ingress))

        # Front: whose frame, which records.
        connect(m, ingress.descs, flow_table.descs)
        connect(m, flipped(self.commands), flow_table.commands)
        connect(m, flow_table.work, walker.work)
        m.d.comb += [
            flow_table.flow_key.eq(self.flow_key),
            self.flow_write_done.eq(flow_table.flow_write_done),
            ring.walker_addr.eq(walker.walker_addr),
            walker.walker_data.eq(ring.walker_data),
        ]
        # All clear spans and tags of a frame come before its entry, behind which they leave.
        depth = tag_depth(config)
        queue(m, "span", layouts.span, SPANS, walker.spans, flipped(self.spans))
        queue(m, "clear_span", layouts.clear_span, depth, walker.clear_spans, commit.clear_spans)
        queue(m, "entry", layouts.entry, ENTRIES, walker.entries, commit.entries)

        # The cipher lane: from host ring to text ring.
        queue(m, "outcome", layouts.outcome, OUTCOMES, flipped(self.outcomes), text.outcomes)
        queue(m, "verdict", layouts.verdict, VERDICTS, text.verdicts, commit.verdicts)
        queue(m, "tag", 128, depth, flipped(self.tags), commit.tags)
        m.d.comb += [
            ring.cipher_addr.eq(self.cipher_addr),
            self.cipher_data.eq(ring.cipher_data),
            text.text_en.eq(self.text_en),
            text.text_addr.eq(self.text_addr),
            text.text_data.eq(self.text_data),
            text.text_mask.eq(self.text_mask),
        ]

        # Back: what leaves.
        beat = commit.completions.payload
        m.d.comb += [
            ring.commit_word.eq(commit.ring_word),
            commit.ring_data.eq(ring.commit_data),
            text.read_word.eq(commit.ring_word),
            commit.text_data.eq(text.read_data),
            commit.text_written.eq(text.read_written),
            commit.write_word.eq(ingress.write_word),
            ingress.read_word.eq(commit.read_word),
            *frames_out(commit.frames, self.m_tx_axis),
            self.m_tx_comp.tdata.eq(beat.data),
            self.m_tx_comp.tlast.eq(beat.last),
            self.m_tx_comp.tvalid.eq(commit.completions.valid),
            commit.completions.ready.eq(self.m_tx_comp.tready),
            self.token_done.eq(commit.token_done),
            self.counts.eq(commit.counts),
        ]
        return m
