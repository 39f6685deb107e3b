# SPDX-License-Identifier: Apache-2.0
"""Bitwise products in GF(2^128), as in NIST SP 800-38D section 6.3, algorithm 1.

Driver, model and gateware are held to this definition. A block is an integer with its first byte
highest, so bit i in the standard's text is the integer's bit 127 - i.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

R = 0b11100001 << 120


def multiply(x: int, y: int) -> int:
    """X times Y."""
    z, v = 0, y
    for i in range(128):
        if x >> 127 - i & 1:
            z ^= v
        lsb = v & 1
        v >>= 1
        if lsb:
            v ^= R
    return z


def ghash(h: int, data: bytes) -> int:
    """Algorithm 2: GHASH of complete blocks."""
    y = 0
    for at in range(0, len(data), 16):
        y = multiply(y ^ int.from_bytes(data[at : at + 16], "big"), h)
    return y


def hash_subkey(key: bytes) -> int:
    """H: the cipher of the zero block."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return int.from_bytes(encryptor.update(bytes(16)) + encryptor.finalize(), "big")


def powers_of_h(key: bytes, count: int = 8) -> list[bytes]:
    """H^1 to H^count."""
    h = hash_subkey(key)
    power, out = h, []
    for _ in range(count):
        out.append(power.to_bytes(16, "big"))
        power = multiply(power, h)
    return out
