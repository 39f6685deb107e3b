# SPDX-License-Identifier: Apache-2.0
"""The device: receive, the cipher lane, the registers and, optionally, transmit."""

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from .abi.config import Config
from .cipher.cipher import Cipher
from .common.ports import CompletionStream, FrameStream, MetaStream, TxMetaStream
from .receive import Receive
from .registers import AxiLite, Registers
from .tx.transmit import Transmit


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

    def __init__(self, config: Config) -> None:
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

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.receive = receive = Receive(config)
        m.submodules.cipher = cipher = Cipher(config)
        m.submodules.registers = registers = Registers(config)

        for port in ("s_axis", "m_axis", "m_meta"):
            connect(m, flipped(getattr(self, port)), getattr(receive, port))
        connect(m, receive.spans, cipher.spans)
        connect(m, cipher.verdicts, receive.verdicts)
        m.d.comb += [
            receive.cipher_addr.eq(cipher.cipher_addr),
            cipher.cipher_data.eq(receive.cipher_data),
            receive.shadow_en.eq(cipher.shadow_en),
            receive.shadow_addr.eq(cipher.shadow_addr),
            receive.shadow_data.eq(cipher.shadow_data),
            receive.shadow_mask.eq(cipher.shadow_mask),
        ]

        connect(m, flipped(self.s_axil), registers.s_axil)
        connect(m, registers.commands, receive.commands)
        connect(m, receive.events, registers.events)
        m.d.comb += [
            self.irq.eq(registers.irq),
            registers.stage_addr.eq(cipher.stage_addr),
            registers.stage_clear.eq(cipher.stage_clear),
            cipher.stage_data.eq(registers.stage_data),
            receive.flow_key.eq(registers.flow_key),
            registers.flow_write_done.eq(receive.flow_write_done),
            registers.token_done.eq(receive.token_done),
            registers.frames.eq(self.s_axis.tvalid & self.s_axis.tready & self.s_axis.tlast),
            registers.evicted.eq(receive.evicted),
            registers.stall.eq(receive.stall),
            registers.counts.eq(receive.counts),
        ]
        if config.tx_flows:
            m.submodules.transmit = transmit = Transmit(config)
            self._connect_transmit(m, receive, transmit, cipher, registers)
        return m

    def _connect_transmit(
        self, m: Module, receive: Receive, transmit: Transmit, cipher: Cipher, registers: Registers
    ) -> None:
        """Transmit between its ports, the cipher and the registers."""
        for port in ("s_tx_axis", "s_tx_meta", "m_tx_axis", "m_tx_comp"):
            connect(m, flipped(getattr(self, port)), getattr(transmit, port))
        connect(m, registers.tx_commands, transmit.commands)
        connect(m, transmit.spans, cipher.tx_spans)
        connect(m, cipher.tx_outcomes, transmit.outcomes)
        connect(m, cipher.tx_tags, transmit.tags)
        m.d.comb += [
            cipher.over_half.eq(receive.over_half),
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
