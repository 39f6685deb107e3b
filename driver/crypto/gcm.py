# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of AES-GCM that no library exposes (NIST SP 800-38D), and how TLS uses AES-GCM.

Bit order: a block is an integer made from its bytes, first byte highest, so the field's bit 0
(x^0) is the integer's bit 127, and x^128 = 1 + x + x^2 + x^7 reads 0xe1 << 120.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sealane.hdl.abi.commands import H_POWERS
from sealane.hdl.abi.config import VERSION_TLS13, text_bytes

MAX_PLAINTEXT = 1 << 14  # of a record, RFC 8446 section 5.1, RFC 5246 section 6.2.1

_R = 0xE1 << 120  # x^128 = 1 + x + x^2 + x^7
_BLOCK = 16


def gf_mul(a: int, b: int) -> int:
    """Product in GF(2^128), SP 800-38D algorithm 1; for the few products without a table."""
    z = 0
    while b:
        if b >> 127:
            z ^= a
        b = (b << 1) & ((1 << 128) - 1)
        a = (a >> 1) ^ (_R if a & 1 else 0)
    return z


def ghash(h: bytes, data: bytes) -> bytes:
    """GHASH of whole blocks under the 16-byte hash subkey `h`, without a table."""
    subkey, y = int.from_bytes(h, "big"), 0
    for i in range(0, len(data), _BLOCK):
        y = gf_mul(y ^ int.from_bytes(data[i : i + _BLOCK], "big"), subkey)
    return y.to_bytes(_BLOCK, "big")


def h_powers(key: bytes) -> list[bytes]:
    """H^1 .. H^8 of an AES key, 16 bytes each, as the driver stages them."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    h = int.from_bytes(encryptor.update(bytes(_BLOCK)), "big")
    powers = [h]
    while len(powers) < H_POWERS:
        powers.append(gf_mul(powers[-1], h))
    return [power.to_bytes(_BLOCK, "big") for power in powers]


def record_nonce(version: int, iv: bytes, number: int, explicit: bytes) -> bytes:
    """The 12-byte nonce: RFC 8446 section 5.3, or salt and explicit nonce of RFC 5288.

    `iv` begins with the salt in TLS 1.2 and is the 12-byte IV in TLS 1.3.
    """
    if version == VERSION_TLS13:
        return (int.from_bytes(iv[:12], "big") ^ number).to_bytes(12, "big")
    return iv[:4] + explicit


def record_aad(version: int, number: int, content_type: int, length: int) -> bytes:
    """Additional data of a record whose header says `length`: RFC 8446 5.2, RFC 5246 6.2.3.3."""
    if version == VERSION_TLS13:
        return bytes((content_type, 3, 3)) + length.to_bytes(2, "big")
    text = text_bytes(version, length)
    return number.to_bytes(8, "big") + bytes((content_type, 3, 3)) + text.to_bytes(2, "big")
