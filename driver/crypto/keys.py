# SPDX-License-Identifier: Apache-2.0
"""Keys of one direction as the driver is given them, and a record's AES-GCM in software.

Library AEAD only (`cryptography`): a whole record is sealed or opened, and pieces of its text are
encrypted in counter mode to undo a mark. Nonces and additional data: RFC 8446 sections 5.2 and
5.3, RFC 5288 section 3, RFC 5246 section 6.2.3.3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.hdl.abi.config import NONCE_BYTES, VERSION_TLS12, VERSION_TLS13

from .gcm import record_aad, record_nonce

_BLOCK = 16


@dataclass(frozen=True)
class CryptoInfo:
    """What protects the records of one direction until keys change (Linux: `tls_crypto_info`).

    version: `VERSION_TLS12` or `VERSION_TLS13`. key: 16 or 32 bytes. iv: 12 bytes, in TLS 1.2 the
    4-byte salt. Neither is ever shown. Raises `ValueError` on other sizes.
    """

    version: int
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.version not in (VERSION_TLS12, VERSION_TLS13):
            raise ValueError("version: TLS 1.2 or TLS 1.3")
        if len(self.key) not in (16, 32):
            raise ValueError("key: 16 or 32 bytes")
        if len(self.iv) != (12 if self.version == VERSION_TLS13 else 4):
            raise ValueError("iv: 12 bytes in TLS 1.3, a salt of 4 in TLS 1.2")

    @cached_property
    def _aead(self) -> AESGCM:
        return AESGCM(self.key)

    def open(self, number: int, content_type: int, body: bytes) -> bytes:
        """Text of a record out of `body`, everything behind its 5-byte header.

        Raises `cryptography.exceptions.InvalidTag` where the record does not authenticate.
        """
        explicit, sealed = self._split(body)
        aad = record_aad(self.version, number, content_type, len(body))
        return self._aead.decrypt(self.nonce(number, explicit), sealed, aad)

    def nonce(self, number: int, explicit: bytes = b"") -> bytes:
        """The 12-byte nonce of a record; `explicit` has 8 bytes in TLS 1.2."""
        return record_nonce(self.version, self.iv, number, explicit)

    def crypt_text(self, number: int, explicit: bytes, offset: int, text: bytes) -> bytes:
        """`text`, which lies `offset` bytes into the record's text, XOR the record's keystream."""
        block, skip = divmod(offset, _BLOCK)
        counter = self.nonce(number, explicit) + (2 + block).to_bytes(4, "big")
        stream = Cipher(algorithms.AES(self.key), modes.CTR(counter)).encryptor()
        return stream.update(bytes(skip) + text)[skip:]

    def _split(self, body: bytes) -> tuple[bytes, bytes]:
        at = NONCE_BYTES if self.version == VERSION_TLS12 else 0
        return body[:at], body[at:]
