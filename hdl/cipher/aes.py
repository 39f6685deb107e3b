# SPDX-License-Identifier: Apache-2.0
"""AES encryption (FIPS 197), one block a clock, every block with its own 128- or 256-bit key.

State and round keys are four columns of 32 bits, as the block's words lie:

    block    bits 7:0  15:8  23:16  31:24 | 39:32 ...
    byte     0         1     2      3     | 4
    FIPS     s[0,0]    s[1,0] s[2,0] s[3,0] | s[0,1]
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

ROUNDS_128 = 10
ROUNDS_256 = 14


def _xtime(a: int) -> int:
    return (a << 1 ^ (0x11B if a & 0x80 else 0)) & 0xFF


def _make_sbox() -> list[int]:
    """FIPS 197 section 5.1.1: the inverse in GF(2^8), then the affine map."""
    # 3 generates the field's multiplicative group: inverse(3^i) = 3^(255 - i).
    powers = [1]
    for _ in range(254):
        powers.append(powers[-1] ^ _xtime(powers[-1]))
    logarithm = {value: i for i, value in enumerate(powers)}
    box = []
    for value in range(256):
        x = powers[-logarithm[value] % 255] if value else 0
        x |= x << 8
        box.append((x ^ x >> 4 ^ x >> 5 ^ x >> 6 ^ x >> 7 ^ 0x63) & 0xFF)
    return box


SBOX = _make_sbox()
RCON = [0x8D]  # RCON[1] is 1
for _ in range(ROUNDS_128):
    RCON.append(_xtime(RCON[-1]))


def _rotate_right(word: Value, by: int) -> Value:
    return Cat(word[by:], word[:by])


def _mix_column(m: Module, column: Value, name: str) -> Value:
    """MixColumns of one column, all four bytes of it at once."""
    word, double = Signal(32, name=f"{name}_in"), Signal(32, name=f"{name}_double")
    carry = Signal(32, name=f"{name}_carry")
    m.d.comb += [
        word.eq(column),
        carry.eq((word >> 7) & 0x01010101),
        double.eq(
            ((word & 0x7F7F7F7F) << 1)[:32]
            ^ carry
            ^ (carry << 1)[:32]
            ^ (carry << 3)[:32]
            ^ (carry << 4)[:32]
        ),
    ]
    return (
        double ^ _rotate_right(word ^ double, 8) ^ _rotate_right(word, 16) ^ _rotate_right(word, 24)
    )


class AesRound(wiring.Component):
    """Round `number`, 1 to 14, in `registers` clocks, and the round key of the next one.

    The round's own key is `key_high`. AES-128 ends with round 10; later ones pass the state on.
    The S-boxes of a round are read ports of one table: elaborated once, they stay cheap.
    """

    def __init__(self, number: int, registers: int) -> None:
        self.number = number
        self.registers = registers
        columns = Out(32).array(4)
        ports = {"key256": Out(1), "key_low": columns, "key_high": columns, "state": columns}
        signature = wiring.Signature(ports)
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sbox = table = Memory(shape=8, depth=256, init=SBOX)

        def sub_word(word: Value, name: str) -> list[Signal]:
            outputs = []
            for i in range(4):
                port = table.read_port(domain="comb")
                m.d.comb += port.addr.eq(word.word_select(i, 8))
                outputs.append(port.data)
            return outputs

        def held(value: Value, name: str) -> Signal:
            # No reset: nothing that leaves the pipe counts before something entered it.
            signal = Signal(len(value), name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        i, o, r = self.i, self.o, self.number
        substituted = [sub_word(i.state[c], f"s{c}") for c in range(4)]
        shifted = [Cat(substituted[(c + row) % 4][row] for row in range(4)) for c in range(4)]
        # The next round key; after the last round there is none.
        key_word = Cat(sub_word(i.key_high[3], "k")) if r < ROUNDS_256 else C(0, 32)

        def stage(value: Value, name: str) -> Signal:
            return held(value, name) if self.registers == 2 else value

        shifted = [stage(shifted[c], f"shifted{c}") for c in range(4)]
        key_word = stage(key_word, "key_word")
        key256 = stage(i.key256, "is_key256")
        low = [stage(i.key_low[c], f"low{c}") for c in range(4)]
        high = [stage(i.key_high[c], f"high{c}") for c in range(4)]

        mixed = [_mix_column(m, shifted[c], f"mix{c}") for c in range(4)]
        for c in range(4):
            with_128 = mixed[c] if r < ROUNDS_128 else shifted[c]
            with_256 = mixed[c] if r < ROUNDS_256 else shifted[c]
            encrypted = high[c] ^ (Mux(key256, with_256, with_128) if r >= ROUNDS_128 else with_256)
            if r > ROUNDS_128:
                encrypted = Mux(key256, encrypted, stage(i.state[c], f"finished{c}"))
            m.d.comb += o.state[c].eq(held(encrypted, f"state{c}"))
        m.d.comb += o.key256.eq(held(key256, "then_key256"))

        if r < ROUNDS_256:
            rotated = _rotate_right(key_word, 8)
            rcon_128 = RCON[r + 1] if r < ROUNDS_128 else 0
            if r % 2:
                word = rotated ^ Mux(key256, RCON[(r + 1) // 2], rcon_128)
            else:
                word = Mux(key256, key_word, rotated ^ rcon_128)
            for c in range(4):
                made = Signal(32, name=f"made{c}")
                m.d.comb += [
                    made.eq(Mux(key256, low[c], high[c]) ^ word),
                    o.key_high[c].eq(held(made, f"then_high{c}")),
                    o.key_low[c].eq(held(high[c], f"then_low{c}")),
                ]
                word = made
        return m


class Aes(wiring.Component):
    """Encryption: `output` is `block` of `latency` clocks ago under the `key` beside it.

    No handshake; a block a clock. AES-128 keys lie in the low half of `key`.

    round_registers: registers in a round, 1 or 2; otherwise `ValueError`.
    """

    key: In(256)
    key256: In(1)
    block: In(128)
    output: Out(128)

    def __init__(self, round_registers: int = 1) -> None:
        if round_registers not in (1, 2):
            raise ValueError("round_registers: 1 or 2")
        self.round_registers = round_registers
        self.latency = 1 + ROUNDS_256 * round_registers
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rounds = [AesRound(r, self.round_registers) for r in range(1, ROUNDS_256 + 1)]
        for aes_round in rounds:
            m.submodules[f"round{aes_round.number}"] = aes_round

        # Round 0 adds the first key. AES-256 has the second one at hand, AES-128 makes it.
        m.submodules.sbox = table = Memory(shape=8, depth=256, init=SBOX)
        first = rounds[0].i
        substituted = []
        for i in range(4):
            port = table.read_port(domain="comb")
            m.d.comb += port.addr.eq(self.key[96 + 8 * i : 104 + 8 * i])
            substituted.append(port.data)
        word = _rotate_right(Cat(substituted), 8) ^ RCON[1]
        for c in range(4):
            low = self.key.word_select(c, 32)
            made = Signal(32, name=f"made{c}")
            m.d.comb += made.eq(low ^ word)
            word = made
            m.d.sync += [
                first.state[c].eq(self.block.word_select(c, 32) ^ low),
                first.key_low[c].eq(low),
                first.key_high[c].eq(Mux(self.key256, self.key.word_select(4 + c, 32), made)),
            ]
        m.d.sync += first.key256.eq(self.key256)
        for before, behind in zip(rounds, rounds[1:], strict=False):
            wiring.connect(m, before.o, behind.i)
        m.d.comb += self.output.eq(Cat(rounds[-1].o.state))
        return m
