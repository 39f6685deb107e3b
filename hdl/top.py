# SPDX-License-Identifier: Apache-2.0
"""The device: receive pipeline, registers and their ports; transmit is `tx_top`."""

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from .abi.config import Config
from .cipher.cipher import Cipher
from .commit.commit import Commit
from .common.fifo import queue
from .common.layouts import Layouts
from .common.ports import (
    CompletionStream,
    FrameStream,
    MetaStream,
    TxMetaStream,
    frames_in,
    frames_out,
)
from .common.ring import PacketRing, ShadowRing
from .ingress.flow_table import FlowTable
from .ingress.ingress import Ingress
from .registers import AxiLite, Registers
from .tx.transmit import Transmit, over_half
from .walker.walker import Walker

SPANS = 16
TEXT_SPANS = 512  # at least
ENTRIES = 64
VERDICTS = 32
# At least one for each entry on its way: commit must never wait for the walker.
FEEDBACK = 128


def text_spans(config: Config) -> int:
    """Depth of the queue of text spans. All spans of a packet come before its entry, behind which
    the first of them leaves, so it must hold as many as a frame can have; the shortest record with
    text has 22 bytes."""
    return max(TEXT_SPANS, config.max_frame // 22 + 1)


class Device(Component):
    """Inline TLS between a MAC and the host: decryption, and with `Config.tx_flows` encryption.

    Frames go in at `s_axis` and leave at `m_axis` in the same order, each with one payload of
    `m_meta` that is offered no later than the frame's first word. `s_axil` and `irq`: see
    `Registers`. Clock `clk`, synchronous active-high reset `rst`. Backpressure: while the outputs
    wait the packet ring fills, then `s_axis.tready` falls; nothing is ever dropped.

    Only with `Config.tx_flows`: `s_tx_axis`, `s_tx_meta`, `m_tx_axis` and `m_tx_comp`, see
    `Transmit`. The directions share the cipher and the registers; a host that takes nothing from
    one of them does not hold up the other.
    """

    def __init__(self, config: Config):
        self._config = config
        transmit = {
            "s_tx_axis": In(FrameStream),
            "s_tx_meta": In(TxMetaStream),
            "m_tx_axis": Out(FrameStream),
            "m_tx_comp": Out(CompletionStream),
        }
        super().__init__(
            {
                "s_axis": In(FrameStream),
                "m_axis": Out(FrameStream),
                "m_meta": Out(MetaStream),
                "s_axil": In(AxiLite),
                "irq": Out(1),
                **(transmit if config.tx_flows else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        layouts = Layouts(config)
        m.submodules.ingress = ingress = Ingress(config)
        m.submodules.flow_table = flow_table = FlowTable(config)
        m.submodules.walker = walker = Walker(config)
        m.submodules.cipher = cipher = Cipher(config)
        m.submodules.commit = commit = Commit(config)
        m.submodules.ring = ring = PacketRing(config)
        m.submodules.shadow = shadow = ShadowRing(config)
        m.submodules.registers = registers = Registers(config)

        # Frames in.
        m.d.comb += [
            *frames_in(self.s_axis, ingress.frames),
            ring.write_en.eq(ingress.write_en),
            ring.write_word.eq(ingress.write_word),
            ring.write_data.eq(ingress.write_data),
        ]

        # Front: which flow, which records.
        connect(m, ingress.descs, flow_table.descs)
        connect(m, registers.commands, flow_table.commands)
        connect(m, flow_table.work, walker.work)
        m.d.comb += [
            flow_table.flow_key.eq(registers.flow_key),
            ring.walker_addr.eq(walker.walker_addr),
            walker.walker_data.eq(ring.walker_data),
        ]
        queue(m, "span", layouts.span, SPANS, walker.spans, cipher.spans)
        depth = text_spans(config)
        queue(m, "text_span", layouts.text_span, depth, walker.text_spans, commit.text_spans)
        queue(m, "entry", layouts.entry, ENTRIES, walker.entries, commit.entries)
        queue(m, "feedback", layouts.feedback, FEEDBACK, commit.feedback, walker.feedback)

        # Cipher: from ring to shadow ring.
        queue(m, "verdict", layouts.verdict, VERDICTS, cipher.verdicts, commit.verdicts)
        m.d.comb += [
            ring.cipher_addr.eq(cipher.cipher_addr),
            cipher.cipher_data.eq(ring.cipher_data),
            shadow.write_en.eq(cipher.shadow_en),
            shadow.write_addr.eq(cipher.shadow_addr),
            shadow.write_data.eq(cipher.shadow_data),
            shadow.write_mask.eq(cipher.shadow_mask),
            registers.stage_addr.eq(cipher.stage_addr),
            registers.stage_clear.eq(cipher.stage_clear),
            cipher.stage_data.eq(registers.stage_data),
        ]

        # Back: what leaves.
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
        ]

        # Registers.
        connect(m, flipped(self.s_axil), registers.s_axil)
        connect(m, commit.events, registers.events)
        m.d.comb += [
            self.irq.eq(registers.irq),
            registers.token_done.eq(commit.token_done),
            registers.flow_write_done.eq(flow_table.flow_write_done),
            registers.frames.eq(self.s_axis.tvalid & self.s_axis.tready & self.s_axis.tlast),
            registers.evicted.eq(walker.evicted),
            registers.stall.eq(ingress.stall),
            registers.counts.eq(commit.counts),
        ]
        if config.tx_flows:
            self._transmit(m, ingress, cipher, registers)
        return m

    def _transmit(self, m, ingress, cipher, registers):
        """Transmit between its ports, the cipher and the registers."""
        m.submodules.transmit = transmit = Transmit(self._config)
        for port in ("s_tx_axis", "s_tx_meta", "m_tx_axis", "m_tx_comp"):
            connect(m, flipped(getattr(self, port)), getattr(transmit, port))
        connect(m, registers.tx_commands, transmit.commands)
        connect(m, transmit.spans, cipher.tx_spans)
        connect(m, cipher.tx_outcomes, transmit.outcomes)
        connect(m, cipher.tx_tags, transmit.tags)
        m.d.sync += cipher.over_half.eq(over_half(ingress))
        m.d.comb += [
            cipher.tx_over_half.eq(transmit.over_half),
            transmit.cipher_addr.eq(cipher.tx_ring_addr),
            cipher.tx_ring_data.eq(transmit.cipher_data),
            transmit.text_en.eq(cipher.tx_text_en),
            transmit.text_addr.eq(cipher.tx_text_addr),
            transmit.text_data.eq(cipher.tx_text_data),
            transmit.text_mask.eq(cipher.tx_text_mask),
            transmit.flow_key.eq(registers.flow_key),
            registers.tx_flow_write_done.eq(transmit.flow_write_done),
            registers.tx_token_done.eq(transmit.token_done),
            registers.tx_stall.eq(transmit.stall),
            registers.tx_counts.eq(transmit.counts),
        ]
