# SPDX-License-Identifier: Apache-2.0
"""AES-GCM that the host computes itself for one receive direction, and what it costs.

All record crypto of `driver.ktls` passes here, so that `RxCounters.aes_blocks` counts what was
done and nothing else: one for each block of 16 bytes that goes through AES. That is each keystream
block of counter mode, a block that is used in part being computed whole, and E(J0), which masks a
record's tag (SP 800-38D section 7). Not counted are what a key costs once (its schedule and
H = E(0)) and GHASH, which is no AES.
"""

from __future__ import annotations

from sealane.hdl.abi.config import HEADER_BYTES, TAG_BYTES, header_bytes

from ...crypto.keys import CryptoInfo
from ...device.counters import RxCounters

_BLOCK = 16


def _blocks(low: int, high: int) -> int:
    """Keystream blocks with any of the text bytes [low, high), up to the last of them."""
    return (high + _BLOCK - 1) // _BLOCK - low // _BLOCK


class SoftwareAes:
    """`CryptoInfo`'s two ways through AES, counted in `counters`."""

    def __init__(self, counters: RxCounters) -> None:
        self._counters = counters

    def open(self, keys: CryptoInfo, number: int, content_type: int, body: bytes) -> bytes:
        """Text of a record out of its wire bytes behind the header; `CryptoInfo.open`.

        A record that does not authenticate costs as much as one that does. Raises
        `cryptography.exceptions.InvalidTag`.
        """
        nonce = header_bytes(keys.version) - HEADER_BYTES
        self._counters.aes_blocks += 1 + _blocks(0, len(body) - nonce - TAG_BYTES)
        return keys.open(number, content_type, body)

    def crypt_text(
        self, keys: CryptoInfo, number: int, nonce: bytes, offset: int, text: bytes
    ) -> bytes:
        """A piece of a record's text, encrypted or decrypted; `CryptoInfo.crypt_text`."""
        if not text:
            return b""
        self._counters.aes_blocks += _blocks(offset, offset + len(text))
        return keys.crypt_text(number, nonce, offset, text)
