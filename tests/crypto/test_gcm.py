# SPDX-License-Identifier: Apache-2.0
"""The driver's arithmetic of AES-GCM and its nonces, against their definitions."""

import random

import pytest

from sealane.driver.crypto.gcm import gf_mul, ghash, h_powers, record_aad, record_nonce
from sealane.driver.crypto.keys import CryptoInfo
from sealane.hdl.abi.config import TYPES, VERSION_TLS12, VERSION_TLS13
from tests.support import gf128, tls_records

VERSIONS = (VERSION_TLS12, VERSION_TLS13)


def test_products():
    rng = random.Random(1)
    values = [0, 1, 1 << 127, (1 << 128) - 1, *(rng.getrandbits(128) for _ in range(40))]
    for a in values:
        for b in values:
            assert gf_mul(a, b) == gf128.multiply(a, b)


def test_ghash():
    rng = random.Random(2)
    for blocks in range(12):
        h, data = rng.randbytes(16), rng.randbytes(16 * blocks)
        want = gf128.ghash(int.from_bytes(h, "big"), data)
        assert ghash(h, data) == want.to_bytes(16, "big")


def test_powers():
    powers = h_powers(bytes(32))
    assert len(powers) == 8
    assert ghash(powers[0], powers[0]) == powers[1]
    rng = random.Random(3)
    for size in (16, 32) * 5:
        key = rng.randbytes(size)
        assert h_powers(key) == gf128.powers_of_h(key)


@pytest.mark.parametrize("version", VERSIONS)
def test_nonces_and_additional_data(version):
    rng = random.Random(4)
    for number in (0, 1, 255, 1 << 32, (1 << 64) - 1, *(rng.getrandbits(64) for _ in range(40))):
        iv = rng.randbytes(12 if version == VERSION_TLS13 else 4)
        explicit = b"" if version == VERSION_TLS13 else rng.randbytes(8)
        want = tls_records.nonce(version, iv, number, explicit)
        assert record_nonce(version, iv, number, explicit) == want
        for kind in TYPES[version]:
            n_text = rng.randrange(16385)
            length = n_text + len(explicit) + 16
            want = tls_records.additional_data(version, number, kind, n_text)
            assert record_aad(version, number, kind, length) == want


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bits", [128, 256])
def test_records_are_opened_and_their_text_is_crypted(version, bits):
    rng = random.Random(5)
    for _ in range(50):
        iv = rng.randbytes(12 if version == VERSION_TLS13 else 4)
        explicit = b"" if version == VERSION_TLS13 else rng.randbytes(8)
        keys = CryptoInfo(version, rng.randbytes(bits // 8), iv)
        number, text = rng.getrandbits(64), rng.randbytes(rng.choice((0, 1, 16, 1000)))
        kind = rng.choice(TYPES[version])
        wire = tls_records.seal(version, keys.key, iv, number, kind, text, explicit)
        assert keys.open(number, kind, wire[5:]) == text
        cut = rng.randint(0, len(text))
        sealed = wire[5 + len(explicit) : -16]
        assert keys.crypt_text(number, explicit, cut, sealed[cut:]) == text[cut:]
