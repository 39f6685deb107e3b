# SPDX-License-Identifier: Apache-2.0
"""Keys and powers of H by key row, and the way in for the driver's staged key."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..abi.commands import H_POWERS, STAGE_IV, STAGE_POWERS, STAGE_WORDS
from ..abi.config import Config
from ..common.delay import read_in_two
from ..common.layouts import Layouts, SpanKind
from .datapath import POWER_BITS
from .gf128 import field_order
from .layouts import CipherLayouts, KeyRow


class KeyStore(wiring.Component):
    """Key rows and power memory. A row is written only while nobody uses it; with transmit other
    rows may be read meanwhile.

    start: runs `token`, a span of kind KEY_WRITE or KEY_CLEAR, which stays until `done`.
    A write takes the 44 staged words and then clears them, about 90 clocks; a clear zeroes the row
    and the powers, 8 clocks.
    stage_addr -> stage_data: staged words, latency 1; stage_clear: zero the word at stage_addr.
    row_address -> row, power_address -> power, weight_address -> weight: reads of latency 2;
    powers are addressed {key row, exponent - 1} and in field order.
    """

    def __init__(self, config: Config) -> None:
        layouts, own = Layouts(config), CipherLayouts(config)
        self._key_row = own.key_row
        self._rows = config.flows + 2 * config.tx_flows
        powers = layouts.key_bits + POWER_BITS
        super().__init__(
            {
                "start": In(1),
                "token": In(own.span),
                "done": Out(1),
                "stage_addr": Out(6),
                "stage_data": In(32),
                "stage_clear": Out(1),
                "row_address": In(layouts.key_bits),
                "row": Out(KeyRow),
                "power_address": In(powers),
                "power": Out(128),
                "weight_address": In(powers),
                "weight": Out(128),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Plain bits: a row is written and read as a whole.
        m.submodules.rows = rows = Memory(shape=KeyRow.size, depth=self._rows, init=[])
        m.submodules.powers = powers = Memory(shape=128, depth=self._rows << POWER_BITS, init=[])
        row_write, power_write = rows.write_port(), powers.write_port()
        m.d.comb += [
            Value.cast(self.row).eq(read_in_two(m, rows, self.row_address)),
            self.power.eq(read_in_two(m, powers, self.power_address)),
            self.weight.eq(read_in_two(m, powers, self.weight_address)),
        ]

        token, key_row = self.token, self._key_row(self.token)
        row = Signal(KeyRow)
        count, arriving = Signal(6), Signal(6)
        taking = Signal()
        words = Signal(96)  # the three words before the one that arrives
        block = Signal(128)
        m.d.comb += [
            self.stage_addr.eq(count),
            block.eq(Cat(words, self.stage_data)),
            row_write.addr.eq(key_row),
            row_write.data.eq(row),
        ]
        m.d.sync += arriving.eq(count)
        with m.If(taking):
            m.d.sync += words.eq(block[32:])
            with m.If(arriving < STAGE_IV):
                m.d.sync += row.key.eq(Cat(row.key[32:], self.stage_data))
            with m.Elif(arriving < STAGE_IV + 3):
                m.d.sync += row.iv.eq(Cat(row.iv[32:], self.stage_data))
            with m.If(arriving == STAGE_POWERS + 3):
                m.d.sync += row.h.eq(field_order(block))
            m.d.comb += [
                power_write.en.eq((arriving >= STAGE_POWERS) & (arriving[:2] == 3)),
                power_write.addr.eq(Cat(((arriving - STAGE_POWERS) >> 2)[:POWER_BITS], key_row)),
                power_write.data.eq(field_order(block)),
            ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [count.eq(0), row.eq(0)]
                with m.If(self.start):
                    with m.If(token.kind == SpanKind.KEY_WRITE):
                        m.d.sync += [
                            row.valid.eq(1),
                            row.generation.eq(token.generation),
                            row.version.eq(token.version),
                            row.key256.eq(token.key256),
                        ]
                        m.next = "TAKE"
                    with m.Else():
                        m.next = "ZERO"
            with m.State("TAKE"):
                m.d.sync += [count.eq(count + 1), taking.eq(count != STAGE_WORDS)]
                with m.If(count == STAGE_WORDS):
                    m.d.sync += count.eq(0)
                    m.next = "CLEAR_STAGING"
            with m.State("CLEAR_STAGING"):
                m.d.comb += [self.stage_clear.eq(1), row_write.en.eq(count == 0)]
                m.d.sync += count.eq(count + 1)
                with m.If(count == STAGE_WORDS - 1):
                    m.next = "DONE"
            with m.State("ZERO"):
                m.d.comb += [
                    row_write.en.eq(1),
                    power_write.en.eq(1),
                    power_write.addr.eq(Cat(count[:POWER_BITS], key_row)),
                ]
                m.d.sync += count.eq(count + 1)
                with m.If(count == H_POWERS - 1):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.sync += [row.eq(0), words.eq(0)]
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return m
