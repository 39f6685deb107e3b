# SPDX-License-Identifier: Apache-2.0
"""Cipher suites of TLS 1.2 and 1.3 by their IANA numbers.

RFC 8446 appendix B.4; RFC 5288, 5289, 5487, 8442 (AES-GCM); RFC 6655, 7251 (AES-CCM); RFC 7905
(ChaCha20-Poly1305); RFC 5246 and 5289 (AES-CBC with HMAC). Only AES-GCM is offloaded; the others
are here so that software can decrypt them and so that a report can name them.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Record protection."""

    GCM = "AES-GCM"
    CCM = "AES-CCM"
    CHACHA = "ChaCha20-Poly1305"
    CBC = "AES-CBC"


@dataclass(frozen=True)
class Suite:
    """One cipher suite: lengths in bytes, hashes by their names in `hashlib`."""

    code: int
    name: str
    kind: Kind
    key_length: int
    prf_hash: str  # of the key schedule
    tls13: bool = False
    tag_length: int = 16  # AEAD tag
    mac_hash: str = ""  # CBC only

    @property
    def offloadable(self) -> bool:
        """Whether the engine does it."""
        return self.kind is Kind.GCM


def _table() -> dict[int, Suite]:
    table: dict[int, Suite] = {}

    def add(
        code: int,
        name: str,
        kind: Kind,
        key: int,
        prf: str,
        tls13: bool = False,
        tag: int = 16,
        mac: str = "",
    ) -> None:
        table[code] = Suite(code, "TLS_" + name, kind, key, prf, tls13, tag, mac)

    add(0x1301, "AES_128_GCM_SHA256", Kind.GCM, 16, "sha256", True)
    add(0x1302, "AES_256_GCM_SHA384", Kind.GCM, 32, "sha384", True)
    add(0x1303, "CHACHA20_POLY1305_SHA256", Kind.CHACHA, 32, "sha256", True)
    add(0x1304, "AES_128_CCM_SHA256", Kind.CCM, 16, "sha256", True)
    add(0x1305, "AES_128_CCM_8_SHA256", Kind.CCM, 16, "sha256", True, 8)

    # Pairs: AES-128 with SHA-256 at the number given, AES-256 with SHA-384 behind it.
    gcm = {
        0x009C: "RSA",
        0x009E: "DHE_RSA",
        0x00A0: "DH_RSA",
        0x00A2: "DHE_DSS",
        0x00A4: "DH_DSS",
        0x00A6: "DH_anon",
        0x00A8: "PSK",
        0x00AA: "DHE_PSK",
        0x00AC: "RSA_PSK",
        0xC02B: "ECDHE_ECDSA",
        0xC02D: "ECDH_ECDSA",
        0xC02F: "ECDHE_RSA",
        0xC031: "ECDH_RSA",
        0xD001: "ECDHE_PSK",
    }
    for code, exchange in gcm.items():
        add(code, f"{exchange}_WITH_AES_128_GCM_SHA256", Kind.GCM, 16, "sha256")
        add(code + 1, f"{exchange}_WITH_AES_256_GCM_SHA384", Kind.GCM, 32, "sha384")

    ccm = {
        0xC09C: "RSA",
        0xC09E: "DHE_RSA",
        0xC0A4: "PSK",
        0xC0A6: "DHE_PSK",
        0xC0AC: "ECDHE_ECDSA",
    }
    # CCM_8 of the PSK suites lies four, of ECDHE_ECDSA two behind CCM; RFC 6655 has no pattern.
    ccm8 = {
        0xC0A0: "RSA",
        0xC0A2: "DHE_RSA",
        0xC0A8: "PSK",
        0xC0AA: "PSK_DHE",
        0xC0AE: "ECDHE_ECDSA",
    }
    for codes, suffix, tag in ((ccm, "CCM", 16), (ccm8, "CCM_8", 8)):
        for code, exchange in codes.items():
            add(code, f"{exchange}_WITH_AES_128_{suffix}", Kind.CCM, 16, "sha256", tag=tag)
            add(code + 1, f"{exchange}_WITH_AES_256_{suffix}", Kind.CCM, 32, "sha256", tag=tag)
    add(0xD003, "ECDHE_PSK_WITH_AES_128_CCM_8_SHA256", Kind.CCM, 16, "sha256", tag=8)
    add(0xD005, "ECDHE_PSK_WITH_AES_128_CCM_SHA256", Kind.CCM, 16, "sha256")

    chacha = {
        0xCCA8: "ECDHE_RSA",
        0xCCA9: "ECDHE_ECDSA",
        0xCCAA: "DHE_RSA",
        0xCCAB: "PSK",
        0xCCAC: "ECDHE_PSK",
        0xCCAD: "DHE_PSK",
        0xCCAE: "RSA_PSK",
    }
    for code, exchange in chacha.items():
        add(code, f"{exchange}_WITH_CHACHA20_POLY1305_SHA256", Kind.CHACHA, 32, "sha256")

    # Key exchange: numbers of AES-128 and AES-256 with HMAC-SHA1, then with HMAC-SHA2.
    cbc = {
        "RSA": (0x002F, 0x0035, 0x003C, 0x003D),
        "DHE_DSS": (0x0032, 0x0038, 0x0040, 0x006A),
        "DHE_RSA": (0x0033, 0x0039, 0x0067, 0x006B),
        "DH_anon": (0x0034, 0x003A, 0x006C, 0x006D),
        "ECDHE_ECDSA": (0xC009, 0xC00A, 0xC023, 0xC024),
        "ECDHE_RSA": (0xC013, 0xC014, 0xC027, 0xC028),
        "PSK": (0x008C, 0x008D, 0x00AE, 0x00AF),
        "ECDHE_PSK": (0xC035, 0xC036, 0xC037, 0xC038),
    }
    for exchange, codes4 in cbc.items():
        # RFC 5289 and 5487 pair AES-256 with SHA-384; the suites of RFC 5246 stay with SHA-256.
        big = "sha384" if "EC" in exchange or exchange == "PSK" else "sha256"
        macs = ("sha1", "sha1", "sha256", big)
        for code, key, mac in zip(codes4, (16, 32, 16, 32), macs, strict=True):
            prf = "sha384" if mac == "sha384" else "sha256"
            name = f"{exchange}_WITH_AES_{key * 8}_CBC_{mac.upper().replace('SHA1', 'SHA')}"
            add(code, name, Kind.CBC, key, prf, mac=mac)
    return table


SUITES = _table()


def suite_name(code: int) -> str:
    """The IANA name of a suite, or its number where the table has none."""
    return SUITES[code].name if code in SUITES else f"0x{code:04X}"
