# SPDX-License-Identifier: Apache-2.0
"""Receive without the cipher lane, which both directions share."""

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from .abi.config import Config
from .commit.commit import Commit
from .common.counts import ReceiveCounts
from .common.fifo import queue
from .common.layouts import Command, Event, FlowKey, Layouts
from .common.ports import FrameStream, MetaStream, frames_in, frames_out
from .common.ring import PacketRing, ShadowRing
from .ingress.flow_table import FlowTable
from .ingress.ingress import Ingress, over_half
from .walker.walker import Walker

SPANS = 16
TEXT_SPANS = 512  # at least
ENTRIES = 64
VERDICTS = 32
# At least one for each entry on its way: commit must never wait for the walker.
FEEDBACK = 128


def text_spans(config: Config) -> int:
    """Depth of the queue of text spans. All spans of a packet come before its entry, and only then
    are they drained, so the queue must hold as many as a frame can have. The shortest record with
    text has 22 bytes."""
    return max(TEXT_SPANS, config.max_frame // 22 + 1)


class Receive(Component):
    """From the MAC's frames to spans for the cipher lane, and from its text to the host.

    Frames enter at `s_axis` and leave at `m_axis` in the same order. Each has one payload of
    `m_meta`, offered no later than the frame's first word. Backpressure: while the outputs wait,
    the packet ring fills, then `s_axis.tready` falls; nothing is ever dropped.

    commands, flow_key, flow_write_done, token_done, evicted, stall, counts, events: see
        `Registers`.
    spans: to the cipher lane. verdicts: from it, one for each packet with spans.
    cipher_addr -> cipher_data: the packet ring, see `PacketRing`.
    shadow_en, shadow_addr, shadow_data, shadow_mask: from the cipher lane, see `ShadowRing`.
    over_half: the packet ring was more than half full in the last clock.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._layouts = layouts = Layouts(config)
        super().__init__(
            {
                "s_axis": In(FrameStream),
                "m_axis": Out(FrameStream),
                "m_meta": Out(MetaStream),
                "commands": In(stream.Signature(Command)),
                "flow_key": In(FlowKey),
                "flow_write_done": Out(1),
                "token_done": Out(1),
                "evicted": Out(1),
                "stall": Out(1),
                "counts": Out(ReceiveCounts),
                "events": Out(stream.Signature(Event)),
                "spans": Out(stream.Signature(layouts.span)),
                "verdicts": In(stream.Signature(layouts.verdict)),
                "cipher_addr": In(layouts.byte_bits),
                "cipher_data": Out(128),
                "shadow_en": In(1),
                "shadow_addr": In(layouts.byte_bits),
                "shadow_data": In(128),
                "shadow_mask": In(16),
                "over_half": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layouts = self._config, self._layouts
        m.submodules.ingress = ingress = Ingress(config)
        m.submodules.flow_table = flow_table = FlowTable(config)
        m.submodules.walker = walker = Walker(config)
        m.submodules.commit = commit = Commit(config)
        m.submodules.ring = ring = PacketRing(config)
        m.submodules.shadow = shadow = ShadowRing(config)

        # Frames in.
        m.d.sync += self.over_half.eq(over_half(ingress))
        m.d.comb += [
            *frames_in(self.s_axis, ingress.frames),
            self.stall.eq(ingress.stall),
            ring.write_en.eq(ingress.write_en),
            ring.write_word.eq(ingress.write_word),
            ring.write_data.eq(ingress.write_data),
        ]

        # Front: flow lookup, then the records of the packet.
        connect(m, ingress.descs, flow_table.descs)
        connect(m, flipped(self.commands), flow_table.commands)
        connect(m, flow_table.work, walker.work)
        m.d.comb += [
            flow_table.flow_key.eq(self.flow_key),
            self.flow_write_done.eq(flow_table.flow_write_done),
            self.evicted.eq(walker.evicted),
            ring.walker_addr.eq(walker.walker_addr),
            walker.walker_data.eq(ring.walker_data),
        ]
        queue(m, "span", layouts.span, SPANS, walker.spans, flipped(self.spans))
        depth = text_spans(config)
        queue(m, "text_span", layouts.text_span, depth, walker.text_spans, commit.text_spans)
        queue(m, "entry", layouts.entry, ENTRIES, walker.entries, commit.entries)
        queue(m, "feedback", layouts.feedback, FEEDBACK, commit.feedback, walker.feedback)

        # The cipher lane: from packet ring to shadow ring.
        queue(m, "verdict", layouts.verdict, VERDICTS, flipped(self.verdicts), commit.verdicts)
        m.d.comb += [
            ring.cipher_addr.eq(self.cipher_addr),
            self.cipher_data.eq(ring.cipher_data),
            shadow.write_en.eq(self.shadow_en),
            shadow.write_addr.eq(self.shadow_addr),
            shadow.write_data.eq(self.shadow_data),
            shadow.write_mask.eq(self.shadow_mask),
        ]

        # Back: frames and metadata out.
        connect(m, commit.events, flipped(self.events))
        m.d.comb += [
            ring.commit_word.eq(commit.commit_word),
            commit.commit_data.eq(ring.commit_data),
            shadow.read_word.eq(commit.shadow_word),
            commit.shadow_data.eq(shadow.read_data),
            commit.write_word.eq(ingress.write_word),
            ingress.read_word.eq(commit.read_word),
            *frames_out(commit.frames, self.m_axis),
            self.m_meta.tdata.eq(commit.metas.payload),
            self.m_meta.tvalid.eq(commit.metas.valid),
            commit.metas.ready.eq(self.m_meta.tready),
            self.token_done.eq(commit.token_done),
            self.counts.eq(commit.counts),
        ]
        return m
