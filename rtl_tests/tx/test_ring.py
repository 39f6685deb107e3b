# SPDX-License-Identifier: Apache-2.0
"""Text ring against byte arrays: text, and which bytes are new, at every offset and wrap."""

import random

import pytest

from sealane.hdl.abi.config import Config
from sealane.hdl.tx.ring import TextRing
from sealane.sim.unit import build

CONFIG = Config(flows=4, tx_flows=4, ring_words=128, tx_ring_words=128, max_frame=1000)
WORDS = CONFIG.tx_ring_words
BYTES = WORDS * 16


@pytest.fixture(scope="module")
def ring():
    return lambda: build(TextRing, CONFIG, name="text_ring")


class Reference:
    """Bytes and bits; a write is seen by reads two clocks later."""

    def __init__(self):
        self.text, self.written = bytearray(BYTES), [0] * BYTES
        self._late, self._answers = [None], [None, None]
        self._touched = [set(), set()]  # words of the last two clocks

    def free(self, words):
        """Whether none of the words was touched within two clocks."""
        return not any(touched & words for touched in self._touched)

    def clock(self, clear, write, read):
        """One clock; text and bits of the word that was asked for two clocks ago, or None."""
        lanes = slice(read * 16, read * 16 + 16)
        self._answers.append((bytes(self.text[lanes]), self.written[lanes]))
        self._late.append((clear, write))
        clear_now, write_now = self._late.pop(0) or (None, None)
        if clear_now is not None:
            self.written[clear_now * 16 : clear_now * 16 + 16] = [0] * 16
        for at, byte in write_now or ():
            self.text[at], self.written[at] = byte, 1
        touched = {at // 16 for at, _ in write or ()} | ({clear} - {None})
        self._touched = [self._touched[1], touched]
        return self._answers.pop(0)


@pytest.mark.parametrize("busy", [0.3, 1.0])
def test_a_byte_is_new_iff_written_since_its_word_came_in(ring, busy):
    unit, rng, reference = ring(), random.Random(busy), Reference()
    seen = [0, 0]
    for clock in range(8000):
        address, mask = rng.randrange(BYTES), rng.choice((0xFFFF, rng.getrandbits(16), 1))
        if rng.random() < 0.1:
            address = BYTES - rng.randrange(1, 16)
        value = rng.randbytes(16)
        write = [((address + i) % BYTES, value[i]) for i in range(16) if mask >> i & 1]
        if rng.random() > busy or not reference.free({at // 16 for at, _ in write}):
            write = []
        clear = rng.randrange(WORDS)
        near = {at // 16 for at, _ in write}
        if rng.random() > busy or not reference.free({clear}) or clear in near:
            clear = None
        read = rng.randrange(WORDS)
        unit.set("clear_en", clear is not None)
        unit.set("clear_word", rng.randrange(WORDS) if clear is None else clear)
        data = int.from_bytes(value, "little")
        as_tag = bool(write) and rng.random() < 0.3
        unit.set("text_en", bool(write) and not as_tag)
        unit.set("text_addr", address)
        unit.set("text_mask", mask)
        unit.set("text_data", data)
        unit.set("outcomes__valid", as_tag)
        unit.set_fields("outcomes__payload", address=address, mask=mask, tag=data)
        assert not as_tag or unit.get("outcomes__ready")
        unit.set("read_word", read)
        got = unit.get("read_data").to_bytes(16, "little"), unit.get("read_written")
        answer = reference.clock(clear, write, read)
        if answer is not None:
            text, written = answer
            assert got == (text, sum(bit << i for i, bit in enumerate(written))), clock
            for bit in written:
                seen[bit] += 1
        unit.tick()
    assert min(seen) > 1000


def test_nothing_is_new_at_power_up(ring):
    unit = ring()
    for word in range(WORDS):
        unit.set("read_word", word)
        unit.tick(2)
        assert unit.get("read_written") == 0


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_frame_behind_frame_at_the_same_place(ring, rounds):
    """Written by each frame but the last, whose bytes are all old."""
    unit = ring()
    for number in range(rounds):
        for word in range(4):
            unit.set("clear_en", 1)
            unit.set("clear_word", word)
            unit.tick()
        unit.set("clear_en", 0)
        unit.tick(2)
        if number + 1 == rounds:
            break
        unit.set("text_en", 1)
        for address in range(5, 48, 16):
            unit.set("text_addr", address)
            unit.set("text_mask", 0xFFFF)
            unit.tick()
        unit.set("text_en", 0)
        unit.tick(2)
        unit.set("read_word", 0)
        unit.tick(2)
        assert unit.get("read_written") == 0xFFE0
    for word in range(4):
        unit.set("read_word", word)
        unit.tick(2)
        assert unit.get("read_written") == 0


def test_a_verdict_comes_behind_the_tag_in_front_of_it(ring):
    """A tag waits while text is written; then the verdict is offered, until it is taken."""
    unit = ring()
    tag = bytes(range(1, 17))
    unit.set("text_en", 1)
    unit.set("text_addr", 64)
    unit.set("text_mask", 0xFFFF)
    unit.set("outcomes__valid", 1)
    unit.set_fields("outcomes__payload", address=24, mask=0x7FFE, tag=int.from_bytes(tag, "little"))
    unit.set("verdicts__ready", 1)
    for _ in range(5):
        assert not unit.get("outcomes__ready") and not unit.get("verdicts__valid")
        unit.tick()
    unit.set("text_en", 0)
    assert unit.get("outcomes__ready") and not unit.get("verdicts__valid")
    unit.tick()
    unit.set("text_en", 1)
    verdict = {"stale": 1, "mismatch": 0, "written": 14, "sum": 0x1234}
    unit.set_fields("outcomes__payload", is_verdict=1, mask=0xFFFF, verdict=verdict)
    unit.set("verdicts__ready", 0)
    for ready in (0, 0, 1):
        unit.set("verdicts__ready", ready)
        assert unit.get("outcomes__ready") == ready
        assert unit.get("verdicts__valid") and unit.fields("verdicts__payload") == verdict
        unit.tick()
    unit.set("outcomes__valid", 0)
    unit.set("text_en", 0)
    found, bits = b"", 0
    for word in (1, 2):
        unit.set("read_word", word)
        unit.tick(2)
        found += unit.get("read_data").to_bytes(16, "little")
        bits |= unit.get("read_written") << 16 * (word - 1)
    assert found[8:24] == bytes(1) + tag[1:15] + bytes(1)
    assert bits == 0x7FFE << 8
