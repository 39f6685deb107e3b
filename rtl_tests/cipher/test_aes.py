# SPDX-License-Identifier: Apache-2.0
"""AES against FIPS 197 appendix C and `cryptography`. Keys here protect nothing."""

import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from rtl_tests.support.verilated import Vectors
from sealane.hdl.cipher.aes import SBOX, Aes


def run(registers, blocks):
    """Encrypts (key, block) pairs, one a clock."""
    latency = Aes(registers).latency
    rows = [
        {
            "key": int.from_bytes(key, "little"),
            "key256": len(key) == 32,
            "block": int.from_bytes(block, "little"),
        }
        for key, block in blocks
    ] + [{}] * latency
    outputs = Vectors(Aes, registers).run(rows)
    return [row["output"].to_bytes(16, "little") for row in outputs[latency:]]


@pytest.mark.parametrize("registers", [1, 2])
def test_fips_197(registers):
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    results = run(registers, [(bytes(range(n)), block) for n in (16, 32)])
    assert results[0].hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
    assert results[1].hex() == "8ea2b7ca516745bfeafc49904b496089"


@pytest.mark.parametrize("registers", [1, 2])
def test_random_keys(registers):
    rng = random.Random(registers)
    blocks = [(rng.randbytes(rng.choice((16, 32))), rng.randbytes(16)) for _ in range(2000)]
    expected = [
        Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block) for key, block in blocks
    ]
    assert run(registers, blocks) == expected


def test_sbox():
    assert SBOX[0x53] == 0xED  # FIPS 197 section 5.1.1
    assert sorted(SBOX) == list(range(256))


def test_bad_parameter():
    with pytest.raises(ValueError, match="1 or 2"):
        Aes(3)
