# SPDX-License-Identifier: Apache-2.0
"""Packet memory: the ring with the frames as they came, and its shadow with decrypted text.

A ring has two banks of 128-bit words, even words in one and odd words in the other, so that 16
bytes at any byte address, which lie in two neighbouring words, are read in one clock:

    address A: word w = A / 16, offset o = A % 16
    even bank, row (w + 1) / 2   word w if w is even, else word w + 1
    odd bank,  row w / 2         word w if w is odd, else word w + 1
    result = (word w + 1 : word w) >> 8 o

All addresses wrap at the ring's end.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..abi.config import Config
from .layouts import Layouts, Word


class PacketRing(Component):
    """The frames as they came. Written by ingress, read by walker, cipher and commit.

    Reads: address in clock t, data in clock t + 2, always enabled, one a clock on each port. A
    write in clock t is seen by addresses of clock t + 1 and later. Memory is replicated for each
    read port.

    write_en, write_word, write_data: one word of a frame, with its length and end.
    walker_addr -> walker_data, cipher_addr -> cipher_data: 16 bytes at any byte address.
    commit_word -> commit_data: one aligned word as it was written.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self._words = config.ring_words
        super().__init__(
            {
                "write_en": In(1),
                "write_word": In(layouts.word_bits),
                "write_data": In(Word),
                "walker_addr": In(layouts.byte_bits),
                "walker_data": Out(128),
                "cipher_addr": In(layouts.byte_bits),
                "cipher_data": Out(128),
                "commit_word": In(layouts.word_bits),
                "commit_data": Out(Word),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Word.size
        banks = [Memory(shape=width, depth=self._words // 2, init=[]) for _ in range(2)]
        m.submodules.even, m.submodules.odd = banks
        for odd, bank in enumerate(banks):
            port = bank.write_port()
            m.d.comb += [
                port.addr.eq(self.write_word[1:]),
                port.data.eq(self.write_data),
                port.en.eq(self.write_en & (self.write_word[0] == odd)),
            ]

        def unaligned(address: Value, result: Value) -> None:
            word = address[4:]
            even, odd = (bank.read_port() for bank in banks)
            m.d.comb += [even.addr.eq((word + 1)[1:]), odd.addr.eq(word[1:])]
            is_odd, offset = Signal(), Signal(4)
            m.d.sync += [is_odd.eq(word[0]), offset.eq(address[:4])]
            low = Mux(is_odd, odd.data[:128], even.data[:128])
            high = Mux(is_odd, even.data[:128], odd.data[:128])
            m.d.sync += result.eq(Cat(low, high) >> (offset << 3))

        unaligned(self.walker_addr, self.walker_data)
        unaligned(self.cipher_addr, self.cipher_data)

        even, odd = (bank.read_port() for bank in banks)
        is_odd = Signal()
        m.d.comb += [even.addr.eq(self.commit_word[1:]), odd.addr.eq(self.commit_word[1:])]
        m.d.sync += [
            is_odd.eq(self.commit_word[0]),
            self.commit_data.eq(Mux(is_odd, odd.data, even.data)),
        ]
        return m


class ShadowRing(Component):
    """Decrypted text at the addresses where its ciphertext lies in the packet ring.

    A write in clock t is seen by reads of clock t + 2 and later (it is rotated into place in
    between). Reads: address in clock t, data in clock t + 2, one a clock.

    write_en, write_addr, write_data, write_mask: byte i of the data goes to address
    `write_addr + i` if bit i of the mask is set.
    read_word -> read_data: one aligned word.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self._words = config.ring_words
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(layouts.byte_bits),
                "write_data": In(128),
                "write_mask": In(16),
                "read_word": In(layouts.word_bits),
                "read_data": Out(128),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks = [Memory(shape=128, depth=self._words // 2, init=[]) for _ in range(2)]
        m.submodules.even, m.submodules.odd = banks

        # Byte i of the data comes to byte lane (i + offset) % 16; the lanes from the offset on
        # belong to the word of the address, those below it to the next word.
        word, offset = self.write_addr[4:], self.write_addr[:4]
        mask = self.write_mask & self.write_en.replicate(16)
        data = Signal(128)
        here, beyond, is_odd = Signal(16), Signal(16), Signal()
        even_row, odd_row = Signal(len(word) - 1), Signal(len(word) - 1)
        lanes = Signal(32)
        m.d.comb += lanes.eq(mask << offset)
        turned = (Cat(self.write_data, self.write_data) << (offset << 3))[128:256]
        m.d.sync += [
            data.eq(turned),
            here.eq(lanes[:16]),
            beyond.eq(lanes[16:]),
            is_odd.eq(word[0]),
            even_row.eq((word + 1)[1:]),
            odd_row.eq(word[1:]),
        ]
        reads = []
        for odd, (bank, row) in enumerate(zip(banks, (even_row, odd_row), strict=True)):
            port = bank.write_port(granularity=8)
            m.d.comb += [
                port.addr.eq(row),
                port.data.eq(data),
                port.en.eq(Mux(is_odd == odd, here, beyond)),
            ]
            reads.append(bank.read_port())
            m.d.comb += reads[odd].addr.eq(self.read_word[1:])
        read_odd = Signal()
        m.d.sync += [
            read_odd.eq(self.read_word[0]),
            self.read_data.eq(Mux(read_odd, reads[1].data, reads[0].data)),
        ]
        return m
