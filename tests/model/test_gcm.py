# SPDX-License-Identifier: Apache-2.0
"""The reference GCM against `cryptography`, in one piece and in shuffled pieces.

Keys are random and protect nothing.
"""

import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sealane.driver.model import gcm
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from tests.support import gf128, tls_records


def seal(rng, version, key, iv, number, nonce, content_type, n_text):
    """A record's text and tag by `cryptography`, its length field and its plaintext."""
    plain = rng.randbytes(n_text)
    own_iv = iv if version == VERSION_TLS13 else iv[:4]
    wire = tls_records.seal(version, key, own_iv, number, content_type, plain, nonce)
    return plain, wire[header_bytes(version) :], len(wire) - 5


def pieces(rng, n_text):
    """Random cuts of text and tag: (text_offset, text_end, tag_offset, tag_end)."""
    total = n_text + 16
    cuts = sorted({0, total, *(rng.randrange(total + 1) for _ in range(rng.randrange(6)))})
    for a, b in zip(cuts, cuts[1:], strict=False):
        yield min(a, n_text), min(b, n_text), max(a - n_text, 0), max(b - n_text, 0)


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_pieces_sum_to_zero(version):
    rng = random.Random(1)
    for case in range(300):
        key, iv = rng.randbytes(rng.choice((16, 32))), rng.randbytes(12)
        number = rng.getrandbits(64)
        nonce = rng.randbytes(8) if version == VERSION_TLS12 else b""
        n_text = rng.choice((0, 1, 15, 16, 17, rng.randrange(1, 2000)))
        if version == VERSION_TLS13:
            n_text = max(1, n_text)
        plain, sealed, length = seal(rng, version, key, iv, number, nonce, 23, n_text)
        flip = case % 3 == 2
        if flip:
            at = rng.randrange(len(sealed))
            sealed = sealed[:at] + bytes([sealed[at] ^ 1 << rng.randrange(8)]) + sealed[at + 1 :]
        x, recovered = 0, bytearray(n_text)
        parts = list(pieces(rng, n_text))
        rng.shuffle(parts)
        for start, end, tag_start, tag_end in parts:
            piece = gcm.open_piece(
                key,
                iv,
                version,
                number,
                nonce,
                23,
                length,
                start,
                sealed[start:end],
                tag_start,
                sealed[n_text + tag_start : n_text + tag_end],
            )
            x ^= int.from_bytes(piece.x, "big")
            recovered[start:end] = piece.plaintext
        assert (x == 0) == (not flip)
        if not flip:
            assert bytes(recovered) == plain


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_sealed_pieces_sum_to_the_tag(version):
    """Any cut, in any order: ciphertext and tag are those of `cryptography`."""
    rng = random.Random(5)
    for case in range(300):
        key, iv = rng.randbytes(rng.choice((16, 32))), rng.randbytes(12)
        number = rng.getrandbits(64)
        nonce = rng.randbytes(8) if version == VERSION_TLS12 else b""
        n_text = rng.choice((0, 1, 15, 16, 17, rng.randrange(1, 2000), 16384))
        if version == VERSION_TLS13:
            n_text = max(1, n_text)
        plain, sealed, length = seal(rng, version, key, iv, number, nonce, 22 + case % 2, n_text)
        x, ciphertext = 0, bytearray(n_text)
        parts = list(pieces(rng, n_text))
        rng.shuffle(parts)
        for start, end, tag_start, tag_end in parts:
            piece = gcm.seal_piece(
                key,
                iv,
                version,
                number,
                nonce,
                22 + case % 2,
                length,
                start,
                plain[start:end],
                tag_start == 0 and tag_end > 0,
            )
            x ^= int.from_bytes(piece.x, "big")
            ciphertext[start:end] = piece.ciphertext
        assert bytes(ciphertext) + x.to_bytes(16, "big") == sealed


def test_products_agree():
    rng = random.Random(2)
    key = gcm.gcm_key(rng.randbytes(16))
    for _ in range(50):
        a = rng.getrandbits(128)
        assert key.times_h(a) == gf128.multiply(a, key.h) == gf128.multiply(key.h, a)
    data = rng.randbytes(160)
    assert gf128.ghash(key.h, data) == key.ghash(data)


def plain_x(key, iv, version, number, nonce, kind, length, at, text, tag_at, tag):
    """The weight of a piece, by SP 800-38D and nothing but products of blocks."""
    own_iv, explicit = (iv, b"") if version == VERSION_TLS13 else (iv[:4], nonce)
    nonce12 = tls_records.nonce(version, own_iv, number, explicit)
    n_text = length - (16 if version == VERSION_TLS13 else 24)
    aad = tls_records.additional_data(version, number, kind, n_text)
    n = -(-n_text // 16)
    whole = (bytes(at) + text).ljust(16 * n, b"\0")
    carries_aad = (text and at == 0) or (tag and tag_at == 0 and n_text == 0)
    first = aad.ljust(16, b"\0") if carries_aad else bytes(16)
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * n_text).to_bytes(8, "big")
    last = lengths if tag and tag_at == 0 else bytes(16)
    x = gf128.ghash(gf128.hash_subkey(key), first + whole + last)
    x ^= int.from_bytes((bytes(tag_at) + tag).ljust(16, b"\0"), "big")
    if tag and tag_at == 0:
        counter = nonce12 + (1).to_bytes(4, "big")
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        x ^= int.from_bytes(encryptor.update(counter), "big")
    return x.to_bytes(16, "big")


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_sums_by_gmac_are_those_of_the_definition(version):
    """Any key, record and piece, including the longest records and empty ones."""
    rng = random.Random(3)
    least = 17 if version == VERSION_TLS13 else 24
    for case in range(150):
        key, iv = rng.randbytes(rng.choice((16, 32))), rng.randbytes(12)
        length = rng.choice((least, least + 1, rng.randrange(least, 700)))
        if case % 50 == 0:
            length = 16408
        n_text = length - (16 if version == VERSION_TLS13 else 24)
        a = rng.choice((0, rng.randrange(n_text + 17)))
        b = min(n_text + 16, rng.choice((n_text + 16, a + rng.randrange(1500))))
        piece = (
            key,
            iv,
            version,
            rng.getrandbits(64),
            rng.randbytes(8),
            rng.choice((20, 22, 23)),
            length,
            min(a, n_text),
            rng.randbytes(max(0, min(b, n_text) - a)),
            max(a - n_text, 0),
            rng.randbytes(max(0, b - max(a, n_text))),
        )
        assert gcm.open_piece(*piece).x == plain_x(*piece)


def test_ghash_by_gmac():
    """Runs of every length of blocks under one key, in any order."""
    rng = random.Random(4)
    key = gcm.GcmKey(rng.randbytes(16))
    for blocks in [*range(12), *(rng.randrange(100) for _ in range(10))]:
        data = rng.randbytes(16 * blocks)
        assert key.ghash(data) == gf128.ghash(key.h, data)
    power = 1 << 127
    for exponent in range(1, 40):
        power = gf128.multiply(power, key.h)
        assert key.power(exponent) == power
    with pytest.raises(ValueError, match="whole blocks"):
        key.ghash(bytes(17))


def test_bad_key():
    with pytest.raises(ValueError, match="16 or 32"):
        gcm.GcmKey(bytes(24))


def test_inner_type():
    assert gcm.inner_type(b"abc\x16\0\0") == (3, 22)
    assert gcm.inner_type(bytes(5)) is None
    assert gcm.may_change_keys(VERSION_TLS13, 23, 22)
    assert not gcm.may_change_keys(VERSION_TLS13, 23, 23)
    assert gcm.may_change_keys(VERSION_TLS12, 20, None)
