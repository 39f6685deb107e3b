# SPDX-License-Identifier: Apache-2.0
"""AES-GCM records of TLS from the RFCs: nonce, additional data and the sealed record.

TLS 1.2: RFC 5246 section 6.2.3.3 and RFC 5288 section 3. TLS 1.3: RFC 8446 sections 5.2 and 5.3.
The cipher comes from the `cryptography` package. Every sealed byte of the tests comes from here.
Driver and model have their own code.
"""

import struct
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13

TAG = 16

_aead = lru_cache(256)(AESGCM)


def nonce(version: int, iv: bytes, number: int, explicit: bytes = b"") -> bytes:
    """The 12 bytes for AES-GCM. iv: in TLS 1.2 the salt, 4 bytes. explicit: in TLS 1.2, 8 bytes."""
    if version == VERSION_TLS13:
        padded = struct.pack(">IQ", 0, number)
        return bytes(a ^ b for a, b in zip(iv, padded, strict=True))
    whole = iv + explicit
    assert (version, len(iv), len(whole)) == (VERSION_TLS12, 4, 12)
    return whole


def header(version: int, content_type: int, n_text: int) -> bytes:
    """The five bytes before a record with `n_text` bytes of text.

    content_type: in TLS 1.3 the outer one. n_text: in TLS 1.3 with inner type and padding.
    """
    explicit = 8 if version == VERSION_TLS12 else 0
    return struct.pack(">BHH", content_type, 0x0303, explicit + n_text + TAG)


def additional_data(version: int, number: int, content_type: int, n_text: int) -> bytes:
    """TLS 1.3: the header. TLS 1.2: seq_num, type, version, length of the text."""
    if version == VERSION_TLS13:
        return header(version, content_type, n_text)
    return struct.pack(">QBHH", number, content_type, 0x0303, n_text)


def seal(
    version: int,
    key: bytes,
    iv: bytes,
    number: int,
    content_type: int,
    text: bytes,
    explicit: bytes = b"",
) -> bytes:
    """A record on the wire: header, in TLS 1.2 the explicit nonce, sealed text, tag."""
    aad = additional_data(version, number, content_type, len(text))
    body = _aead(key).encrypt(nonce(version, iv, number, explicit), text, aad)
    return header(version, content_type, len(text)) + explicit + body


def crypt(key: bytes, nonce: bytes, offset: int, data: bytes) -> bytes:
    """`data`, which starts at byte `offset` of a record's text, XOR the keystream of that nonce.

    This is counter mode from inc32(J0) on, SP 800-38D section 7.
    """
    block, skip = divmod(offset, 16)
    counter = nonce + struct.pack(">I", 2 + block)
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    return cipher.update(bytes(skip) + data)[skip:]
