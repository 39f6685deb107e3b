# SPDX-License-Identifier: Apache-2.0
"""AES-GCM of a piece of a TLS record (NIST SP 800-38D, RFC 5288, RFC 8446 section 5).

Libraries give no tag of part of a record, so GHASH is done here, bit-exact; AES comes from
`cryptography`. GHASH of a record with n text blocks is

    A*H^(n+2) + sum C_i*H^(n-i+2) + L*H,   i = 1..n

and linear: a piece contributes the terms of its bytes, other bytes taken as zero. Bit order: a
block is an integer made from its bytes, first byte highest, so the field's bit 0 (x^0) is bit 127
of the integer, and multiplication by x shifts right.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ...hdl.abi.commands import H_POWERS
from ...hdl.abi.config import CONTENT_APPLICATION_DATA, VERSION_TLS13, text_bytes

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


def _tables(h: int) -> list[list[int]]:
    """For each byte of a block, first byte first, its 256 multiples of h."""
    tables = []
    multiple = h  # h * x^j
    for _ in range(_BLOCK):
        table = [0] * 256
        for bit in (128, 64, 32, 16, 8, 4, 2, 1):
            table[bit] = multiple
            multiple = (multiple >> 1) ^ (_R if multiple & 1 else 0)
        for value in range(1, 256):
            low = value & -value
            table[value] = table[low] ^ table[value ^ low] if value != low else table[value]
        tables.append(table)
    return tables


class GcmKey:
    """An AES key with what GHASH needs of it. Use `gcm_key`, which keeps the recent ones."""

    def __init__(self, key: bytes) -> None:
        if len(key) not in (16, 32):
            raise ValueError("AES-GCM in TLS has keys of 16 or 32 bytes")
        self._aes = algorithms.AES(key)
        encryptor = Cipher(self._aes, modes.ECB()).encryptor()
        self.h = int.from_bytes(encryptor.update(bytes(_BLOCK)), "big")
        self._multiples = _tables(self.h)
        self._powers = [1 << 127, self.h]

    def times_h(self, a: int) -> int:
        """`a * H`."""
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, ta, tb, tc, td, te, tf = self._multiples
        b = a.to_bytes(_BLOCK, "big")
        return (
            t0[b[0]] ^ t1[b[1]] ^ t2[b[2]] ^ t3[b[3]] ^ t4[b[4]] ^ t5[b[5]] ^ t6[b[6]]
            ^ t7[b[7]] ^ t8[b[8]] ^ t9[b[9]] ^ ta[b[10]] ^ tb[b[11]] ^ tc[b[12]] ^ td[b[13]]
            ^ te[b[14]] ^ tf[b[15]]
        )  # fmt: skip

    def power(self, exponent: int) -> int:
        """H^exponent; exponents stay below 1,050 in TLS."""
        while len(self._powers) <= exponent:
            self._powers.append(self.times_h(self._powers[-1]))
        return self._powers[exponent]

    def ghash(self, data: bytes) -> int:
        """GHASH of whole blocks (SP 800-38D, algorithm 2). Raises `ValueError` on a cut block."""
        if len(data) % _BLOCK:
            raise ValueError("GHASH takes whole blocks")
        y = 0
        for i in range(0, len(data), _BLOCK):
            y = self.times_h(y ^ int.from_bytes(data[i : i + _BLOCK], "big"))
        return y

    def keystream(self, nonce: bytes, counter: int, blocks: int) -> bytes:
        """E(nonce || counter), E(nonce || counter + 1), ... `nonce` has 12 bytes."""
        mode = modes.CTR(nonce + counter.to_bytes(4, "big"))
        return Cipher(self._aes, mode).encryptor().update(bytes(_BLOCK * blocks))


@lru_cache(maxsize=1024)
def gcm_key(key: bytes) -> GcmKey:
    """The prepared key of 16 or 32 bytes."""
    return GcmKey(key)


def ghash(h: bytes, data: bytes) -> bytes:
    """GHASH of whole blocks under the 16-byte hash subkey `h`, without a table."""
    subkey, y = int.from_bytes(h, "big"), 0
    for i in range(0, len(data), _BLOCK):
        y = gf_mul(y ^ int.from_bytes(data[i : i + _BLOCK], "big"), subkey)
    return y.to_bytes(_BLOCK, "big")


def h_powers(key: bytes) -> list[bytes]:
    """H^1 .. H^8 of an AES key, 16 bytes each, as the driver stages them."""
    prepared = gcm_key(key)
    return [prepared.power(i).to_bytes(_BLOCK, "big") for i in range(1, H_POWERS + 1)]


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


class Piece(NamedTuple):
    """What a piece of a record comes to."""

    plaintext: bytes  # of its text bytes
    x: bytes  # 16 bytes to XOR into the record's X, which ends at 0


def open_piece(
    key: bytes,
    iv: bytes,
    version: int,
    number: int,
    nonce: bytes,
    content_type: int,
    length: int,
    text_offset: int,
    text: bytes,
    tag_offset: int = 0,
    tag: bytes = b"",
) -> Piece:
    """Decrypts consecutive text and tag bytes of one record and weighs them to its end.

    iv: IV of TLS 1.3 or salt of TLS 1.2. nonce: the 8 explicit bytes, TLS 1.2 only. length: the
    header's length field. text_offset: of the piece's first byte in the record's text. The AAD's
    term belongs to text byte 0, or to tag byte 0 if the record has no text; E(K, J0) and the
    length block to tag byte 0. The XOR of `x` over pieces that cover every byte once is 0 exactly
    if the record authenticates.
    """
    prepared = gcm_key(key)
    nonce12 = record_nonce(version, iv, number, nonce)
    n_text = text_bytes(version, length)
    n = -(-n_text // _BLOCK)
    aad = record_aad(version, number, content_type, length)
    plaintext, x = b"", 0
    if text:
        block, skip = divmod(text_offset, _BLOCK)
        blocks = -(-(skip + len(text)) // _BLOCK)
        stream = prepared.keystream(nonce12, 2 + block, blocks)[skip : skip + len(text)]
        plaintext = (
            int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")
        ).to_bytes(len(text), "big")  # fmt: skip
        padded = (bytes(skip) + text).ljust(_BLOCK * blocks, b"\0")
        x = gf_mul(prepared.ghash(padded), prepared.power(n - (block + blocks) + 1))
    if (text and text_offset == 0) or (tag and tag_offset == 0 and n_text == 0):
        x ^= gf_mul(int.from_bytes(aad.ljust(_BLOCK, b"\0"), "big"), prepared.power(n + 2))
    if tag:
        x ^= int.from_bytes((bytes(tag_offset) + tag).ljust(_BLOCK, b"\0"), "big")
        if tag_offset == 0:
            lengths = (8 * len(aad)) << 64 | 8 * n_text
            x ^= prepared.times_h(lengths)
            x ^= int.from_bytes(prepared.keystream(nonce12, 1, 1), "big")
    return Piece(plaintext, x.to_bytes(_BLOCK, "big"))


def inner_type(plaintext: bytes) -> tuple[int, int] | None:
    """Index and value of the last non-zero byte (RFC 8446 section 5.4), or None."""
    stripped = plaintext.rstrip(b"\0")
    return (len(stripped) - 1, stripped[-1]) if stripped else None


def may_change_keys(version: int, content_type: int, inner: int | None) -> bool:
    """Whether a verified record parks its flow: handshake inside or, TLS 1.2, by its header.

    inner: the last non-zero plaintext byte of a TLS 1.3 record.
    """
    if version == VERSION_TLS13:
        return content_type == CONTENT_APPLICATION_DATA and inner == 22
    return content_type in (20, 22)
