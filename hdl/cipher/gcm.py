# SPDX-License-Identifier: Apache-2.0
"""AES-GCM opening (NIST SP 800-38D section 7.2) as a core of its own: data path and tag check.

The cipher's data path without TLS around it, fed slot by slot by whoever knows the message: AAD
blocks are text slots whose plaintext is not looked at, then text, then one tag slot with the
length block injected.
"""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.delay import DelayLine, read_in_two
from .datapath import POWER_BITS, Datapath


class Gcm(wiring.Component):
    """One slot a clock, no handshake; all slots of a message in consecutive clocks.

    power_write: stores `power_value` (field order) as H^(power_index + 1).
    slot_valid, cipher, rest: as in `Datapath`; `block` is the data that its ring would give.
    text_valid, text: plaintext, masked, in order. done: a message is over; good: it authenticates.
    """

    def __init__(self, config: Config) -> None:
        self.datapath = datapath = Datapath(config)
        super().__init__(
            {
                "power_write": In(1),
                "power_index": In(datapath.layouts.key_bits + POWER_BITS),
                "power_value": In(128),
                "slot_valid": In(1),
                "cipher": In(datapath.cipher_layout),
                "rest": In(datapath.rest_layout),
                "block": In(128),
                "text_valid": Out(1),
                "text": Out(128),
                "done": Out(1),
                "good": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.datapath = datapath = self.datapath
        latency = 1 + 14 * datapath.config.aes_round_registers
        m.submodules.delay = delay = DelayLine(128, latency)
        depth = 1 << len(self.power_index)
        m.submodules.powers = powers = Memory(shape=128, depth=depth, init=[])
        write = powers.write_port()
        m.d.comb += [
            write.addr.eq(self.power_index),
            write.data.eq(self.power_value),
            write.en.eq(self.power_write),
            datapath.slot_valid.eq(self.slot_valid),
            datapath.cipher.eq(self.cipher),
            datapath.rest.eq(self.rest),
            delay.i.eq(self.block),
            datapath.ring_data.eq(delay.o),
            datapath.power_data.eq(read_in_two(m, powers, datapath.power_address)),
            self.text_valid.eq(datapath.text_valid),
            self.text.eq(datapath.text_data),
            self.done.eq(datapath.sum_valid),
            self.good.eq(datapath.sum == 0),
        ]
        return m
