# SPDX-License-Identifier: Apache-2.0
"""Record protection in software: opens one record under given keys and record number.

RFC 5246 section 6.2.3, RFC 5288, RFC 6655, RFC 7905, RFC 7366 (encrypt-then-MAC); RFC 8446
section 5.2. All AEAD comes from the `cryptography` package.
"""

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from ..crypto.gcm import MAX_PLAINTEXT
from .key_schedule import TrafficKeys
from .suites import Kind, Suite


class BadTag(Exception):
    """The record does not authenticate."""


class Refused(Exception):
    """The record or message is not one that TLS allows here; the text says why."""


@dataclass(frozen=True)
class Opened:
    """What was inside a record."""

    inner_type: int
    content: bytes
    padding: int = 0  # zero bytes behind the inner type, TLS 1.3
    explicit_nonce: bytes = b""  # TLS 1.2 with AES-GCM or AES-CCM


def inner_plaintext(plaintext: bytes) -> Opened:
    """TLSInnerPlaintext: content, type and zero padding (RFC 8446 section 5.2).

    Raises `Refused` where there is no type or the plaintext is too long.
    """
    if len(plaintext) > MAX_PLAINTEXT + 1:
        raise Refused("record overflow")
    stripped = plaintext.rstrip(b"\0")
    if not stripped:
        raise Refused("no inner content type")
    inner = stripped[-1]
    if inner not in (21, 22, 23):
        raise Refused("inner content type")
    if inner != 23 and len(stripped) == 1:
        raise Refused("empty handshake or alert record")
    return Opened(inner, stripped[:-1], len(plaintext) - len(stripped))


class Protection:
    """Keys of one direction and epoch, opening records at any record number."""

    def __init__(
        self, suite: Suite, keys: TrafficKeys, tls13: bool, encrypt_then_mac: bool = False
    ) -> None:
        self.suite = suite
        self.keys = keys
        self.tls13 = tls13
        self.encrypt_then_mac = encrypt_then_mac
        self._aead: AESGCM | AESCCM | ChaCha20Poly1305 | None = None
        if suite.kind is Kind.GCM:
            self._aead = AESGCM(keys.key)
        elif suite.kind is Kind.CCM:
            self._aead = AESCCM(keys.key, tag_length=suite.tag_length)
        elif suite.kind is Kind.CHACHA:
            self._aead = ChaCha20Poly1305(keys.key)

    @property
    def explicit_length(self) -> int:
        """Bytes of explicit nonce behind the header."""
        return 8 if not self.tls13 and self.suite.kind in (Kind.GCM, Kind.CCM) else 0

    def nonce(self, number: int, explicit: bytes) -> bytes:
        """The AEAD's nonce of record `number`."""
        if self.explicit_length:
            return self.keys.iv + explicit
        return (int.from_bytes(self.keys.iv, "big") ^ number).to_bytes(12, "big")

    def open(self, number: int, header: bytes, fragment: bytes) -> Opened:
        """Opens a record; `fragment` is everything behind the 5 header bytes.

        Raises `BadTag` or `Refused`.
        """
        if self._aead is None:
            return self._open_cbc(number, header, fragment)
        explicit = fragment[: self.explicit_length]
        text_length = len(fragment) - self.explicit_length - self.suite.tag_length
        if text_length < (1 if self.tls13 else 0):
            raise Refused("record too short")
        aad = (
            header
            if self.tls13
            else (number.to_bytes(8, "big") + header[:3] + text_length.to_bytes(2, "big"))
        )
        try:
            plaintext = self._aead.decrypt(
                self.nonce(number, explicit), fragment[self.explicit_length :], aad
            )
        except InvalidTag:
            raise BadTag from None
        if self.tls13:
            return inner_plaintext(plaintext)
        if len(plaintext) > MAX_PLAINTEXT:
            raise Refused("record overflow")
        return Opened(header[0], plaintext, explicit_nonce=explicit)

    def _open_cbc(self, number: int, header: bytes, fragment: bytes) -> Opened:
        """GenericBlockCipher of TLS 1.2, MAC inside or, with RFC 7366, outside."""
        mac_hash = self.suite.mac_hash
        size = hashlib.new(mac_hash).digest_size
        prefix = number.to_bytes(8, "big") + header[:3]

        def check(content: bytes, mac: bytes) -> None:
            message = prefix + len(content).to_bytes(2, "big") + content
            expected = hmac.digest(self.keys.mac_key, message, mac_hash)
            if not hmac.compare_digest(expected, mac):
                raise BadTag

        if self.encrypt_then_mac:
            fragment, mac = fragment[:-size], fragment[-size:]
            check(fragment, mac)
        if len(fragment) < 32 or len(fragment) % 16:
            raise BadTag
        decryptor = Cipher(algorithms.AES(self.keys.key), modes.CBC(fragment[:16])).decryptor()
        plaintext = decryptor.update(fragment[16:]) + decryptor.finalize()
        pad = plaintext[-1] + 1
        if pad > len(plaintext) or plaintext[-pad:] != bytes([pad - 1]) * pad:
            raise BadTag
        content = plaintext[:-pad]
        if not self.encrypt_then_mac:
            if len(content) < size:
                raise BadTag
            content, mac = content[:-size], content[-size:]
            check(content, mac)
        if len(content) > MAX_PLAINTEXT:
            raise Refused("record overflow")
        return Opened(header[0], content)
