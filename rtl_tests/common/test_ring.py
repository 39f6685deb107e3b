# SPDX-License-Identifier: Apache-2.0
"""Both rings against plain byte arrays: every offset, every wrap, reads and writes at once."""

import random

import pytest

from sealane.hdl.abi.config import Config
from sealane.hdl.common.layouts import Word
from sealane.hdl.common.ring import PacketRing, ShadowRing
from sealane.sim.unit import build

CONFIG = Config(ring_words=128, max_frame=1000)
BYTES = CONFIG.ring_words * 16


@pytest.fixture(scope="module")
def packet_ring():
    return build(PacketRing, CONFIG, name="packet_ring")


@pytest.fixture(scope="module")
def shadow_ring():
    return build(ShadowRing, CONFIG, name="shadow_ring")


def test_packet_ring(packet_ring):
    unit, rng = packet_ring, random.Random(1)
    memory = [0] * CONFIG.ring_words
    history = []
    for clock in range(6000):
        write = clock < 128 or rng.random() < 0.5
        word = clock % 128 if clock < 128 else rng.randrange(128)
        value = rng.getrandbits(Word.size)
        reads = rng.randrange(BYTES), rng.randrange(BYTES), rng.randrange(128)
        flat = b"".join((w & (1 << 128) - 1).to_bytes(16, "little") for w in memory) * 2
        history.append(
            (
                *(int.from_bytes(flat[a : a + 16], "little") for a in reads[:2]),
                memory[reads[2]],
            )
        )
        unit.set("write_en", write)
        unit.set("write_word", word)
        unit.set("write_data", value)
        for port, address in zip(("walker_addr", "cipher_addr", "commit_word"), reads, strict=True):
            unit.set(port, address)
        if clock >= 130:
            got = tuple(unit.get(p) for p in ("walker_data", "cipher_data", "commit_data"))
            assert got == history[-3]
        unit.tick()
        if write:
            memory[word] = value


def test_shadow_ring(shadow_ring):
    unit, rng = shadow_ring, random.Random(2)
    memory, pending = bytearray(BYTES), []
    history = []
    for clock in range(6000):
        fill = clock < 128
        address = clock * 16 if fill else rng.choice((rng.randrange(BYTES), BYTES - 7))
        mask = 0xFFFF if fill else rng.choice((0xFFFF, rng.getrandbits(16)))
        enable = fill or rng.random() < 0.7
        value, read = rng.randbytes(16), rng.randrange(128)
        history.append(int.from_bytes(memory[read * 16 : read * 16 + 16], "little"))
        unit.set("write_en", enable)
        unit.set("write_addr", address)
        unit.set("write_mask", mask)
        unit.set("write_data", int.from_bytes(value, "little"))
        unit.set("read_word", read)
        if clock >= 132:
            assert unit.get("read_data") == history[-3]
        unit.tick()
        pending.append([(address + i) % BYTES for i in range(16) if enable and mask >> i & 1])
        pending[-1] = [(at, value[(at - address) % BYTES]) for at in pending[-1]]
        if len(pending) > 1:
            for at, byte in pending.pop(0):
                memory[at] = byte
