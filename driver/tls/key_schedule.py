# SPDX-License-Identifier: Apache-2.0
"""Traffic keys out of logged secrets: RFC 5246 sections 5 and 6.3, RFC 8446 section 7."""

import hashlib
import hmac
from dataclasses import dataclass, field

from .suites import Kind, Suite


def prf(hash_name: str, secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """`length` bytes of the PRF of TLS 1.2 (RFC 5246 section 5, P_hash)."""
    seed = label + seed
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(secret, a, hash_name)
        out += hmac.digest(secret, a + seed, hash_name)
    return out[:length]


def hkdf_expand_label(hash_name: str, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(secret, block + info + bytes([counter]), hash_name)
        out += block
        counter += 1
    return out[:length]


def next_traffic_secret(suite: Suite, secret: bytes) -> bytes:
    """The application traffic secret behind a KeyUpdate (RFC 8446 section 7.2)."""
    return hkdf_expand_label(suite.prf_hash, secret, b"traffic upd", len(secret))


@dataclass(frozen=True)
class TrafficKeys:
    """Keys of one direction; nothing of them is ever printed.

    iv: TLS 1.3 and ChaCha20: 12 bytes; AES-GCM and AES-CCM of TLS 1.2: the salt, 4 bytes.
    secret: the traffic secret of TLS 1.3, empty in TLS 1.2.
    """

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    mac_key: bytes = field(default=b"", repr=False)
    secret: bytes = field(default=b"", repr=False)


def tls13_keys(suite: Suite, secret: bytes) -> TrafficKeys:
    """Keys out of a traffic secret (RFC 8446 section 7.3)."""
    return TrafficKeys(
        key=hkdf_expand_label(suite.prf_hash, secret, b"key", suite.key_length),
        iv=hkdf_expand_label(suite.prf_hash, secret, b"iv", 12),
        secret=secret,
    )


def tls12_keys(
    suite: Suite, master_secret: bytes, client_random: bytes, server_random: bytes
) -> dict[str, TrafficKeys]:
    """Keys of both directions, "c2s" and "s2c", out of the key block (RFC 5246 section 6.3)."""
    mac = hashlib.new(suite.mac_hash).digest_size if suite.mac_hash else 0
    iv = {Kind.GCM: 4, Kind.CCM: 4, Kind.CHACHA: 12, Kind.CBC: 0}[suite.kind]
    lengths = (mac, mac, suite.key_length, suite.key_length, iv, iv)
    block = prf(
        suite.prf_hash, master_secret, b"key expansion", server_random + client_random, sum(lengths)
    )
    parts, at = [], 0
    for length in lengths:
        parts.append(block[at : at + length])
        at += length
    return {
        "c2s": TrafficKeys(key=parts[2], iv=parts[4], mac_key=parts[0]),
        "s2c": TrafficKeys(key=parts[3], iv=parts[5], mac_key=parts[1]),
    }
