# SPDX-License-Identifier: Apache-2.0
"""AES-CTR and GHASH, one slot a clock: what happens to a block between issue and result.

    clock   0       slot: AES begins, the rest goes into a delay line
            L-2     ring address goes out         (L = latency of AES)
            L-1     address of the weight goes out
            L       keystream and ring data meet
            L+1     plaintext and its mask at the output; block, weight at GHASH
            L+2+k   result of the slot that is `last`

No `ready` crosses this: whoever issues has made room for the result.

Receive hashes what it reads, transmit what it writes. The received tag goes into the sum on
receive, so that 0 is good; on transmit it does not, so that the sum is the tag.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..abi.config import Config
from ..common.delay import DelayLine
from ..common.layouts import Layouts
from .aes import Aes
from .gf128 import field_order
from .ghash import Ghash, SharedGhash

POWER_BITS = 3  # index in the power memory: H^(index + 1)
TEXT_BLOCK_BITS = 11  # 1,039 blocks are the longest text


def slot_layouts(layouts: Layouts) -> tuple[data.StructLayout, data.StructLayout]:
    """What AES takes of a slot, and what accompanies it."""
    cipher = data.StructLayout({"key": 256, "key256": 1, "counter_block": 128})
    rest = data.StructLayout(
        {
            "address": layouts.byte_bits,  # of byte 0 of the block
            "mask": 16,  # bytes of the block that belong to the span
            "inject": 128,  # XORed into the block before its product; field order
            "power": layouts.key_bits + POWER_BITS,
            "fresh": 1,  # see Ghash
            "tail": 1,
            "last": 1,
            "is_tag": 1,  # the bytes read are the tag: added to the sum as they are
            "with_j0": 1,  # ... with the keystream block, which is E(K, J0)
            "text_block": TEXT_BLOCK_BITS,  # index of the block in the record's text
        }
        | ({"tx": 1} if layouts.config.tx_flows else {})
    )
    return cipher, rest


class Datapath(wiring.Component):
    """Slots in, text and sums out, in fixed time; slots of a span in consecutive clocks, with
    transmit in any clocks, those of the other direction between them.

    slot_valid, cipher, rest: a slot (`slot_layouts`).
    ring_address -> ring_data: 16 bytes from any byte address, latency 2.
    power_address -> power_data: weights in field order, latency 2.
    text_*: a text slot, decrypted or encrypted, masked; text_last: in that clock the span's last
    slot, tag or text, has passed. sum_valid, sum: GHASH of a span, tag and E(K, J0) added, in field
    order, `sum_delay` clocks behind its text_last.

    Only with transmit: tx_ring_data, what the ring of transmit has at `ring_address`; text_tx:
    the slot is of transmit; tx_sum_valid, tx_sum: as sum_valid, sum, which are of receive alone;
    tag_valid: a tag slot; text_received: what was read, masked.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        self.cipher_layout, self.rest_layout = slot_layouts(layouts)
        self.sum_delay = config.ghash_lanes + 1
        super().__init__(
            {
                "slot_valid": In(1),
                "cipher": In(self.cipher_layout),
                "rest": In(self.rest_layout),
                "ring_address": Out(layouts.byte_bits),
                "ring_data": In(128),
                "power_address": Out(layouts.key_bits + POWER_BITS),
                "power_data": In(128),
                "text_valid": Out(1),
                "text_address": Out(layouts.byte_bits),
                "text_data": Out(128),
                "text_mask": Out(16),
                "text_block": Out(TEXT_BLOCK_BITS),
                "text_last": Out(1),
                "sum_valid": Out(1),
                "sum": Out(128),
            }
            | (
                {
                    "tx_ring_data": In(128),
                    "text_tx": Out(1),
                    "text_received": Out(128),
                    "tag_valid": Out(1),
                    "tx_sum_valid": Out(1),
                    "tx_sum": Out(128),
                }
                if config.tx_flows
                else {}
            )
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.aes = aes = Aes(self.config.aes_round_registers)
        m.submodules.delay = delay = DelayLine(self.rest_layout, aes.latency - 2)
        shared = self.config.tx_flows > 0
        ghash = (SharedGhash if shared else Ghash)(self.config.ghash_lanes)
        m.submodules.ghash = ghash

        valid = Signal(aes.latency)
        m.d.sync += valid.eq(Cat(self.slot_valid, valid))
        before = Signal(self.rest_layout, reset_less=True)
        slot = Signal(self.rest_layout, reset_less=True)
        m.d.comb += [
            aes.key.eq(self.cipher.key),
            aes.key256.eq(self.cipher.key256),
            aes.block.eq(self.cipher.counter_block),
            delay.i.eq(self.rest),
            self.ring_address.eq(delay.o.address),
            self.power_address.eq(before.power),
        ]
        m.d.sync += [before.eq(delay.o), slot.eq(before)]

        now = valid[-1]
        mask = Signal(128)
        received = Signal(128)
        keystream = Signal(128)
        ring_data = self.ring_data
        if shared:
            ring_data = Mux(slot.tx, self.tx_ring_data, self.ring_data)
        m.d.comb += [
            mask.eq(Cat(Mux(bit, C(0xFF, 8), C(0, 8)) for bit in slot.mask)),
            received.eq(ring_data & mask),
            keystream.eq(aes.output),
        ]
        m.d.sync += [
            self.text_valid.eq(now & ~slot.is_tag),
            self.text_last.eq(now & slot.last),
            self.text_address.eq(slot.address),
            self.text_mask.eq(slot.mask),
            self.text_block.eq(slot.text_block),
            self.text_data.eq(received ^ (keystream & mask)),
        ]
        hashed, added = received, received
        if shared:
            hashed = Mux(slot.tx, received ^ (keystream & mask), received)
            added = Mux(slot.tx, 0, received)
            m.d.sync += [
                self.text_tx.eq(slot.tx),
                self.text_received.eq(received),
                self.tag_valid.eq(now & slot.is_tag),
                ghash.tx.eq(slot.tx),
            ]
            m.d.comb += [
                self.tx_sum_valid.eq(ghash.tx_result_valid),
                self.tx_sum.eq(ghash.tx_result),
            ]

        block, addend = Signal(128), Signal(128)
        with m.If(slot.is_tag):
            m.d.comb += addend.eq(added ^ Mux(slot.with_j0, keystream, 0))
        with m.Else():
            m.d.comb += block.eq(hashed)
        m.d.sync += [
            ghash.valid.eq(now),
            ghash.data.eq(field_order(block) ^ slot.inject),
            ghash.addend.eq(field_order(addend)),
            ghash.fresh.eq(slot.fresh),
            ghash.tail.eq(slot.tail),
            ghash.last.eq(slot.last),
        ]
        m.d.comb += [
            ghash.power.eq(self.power_data),
            self.sum_valid.eq(ghash.result_valid),
            self.sum.eq(ghash.result),
        ]
        return m
