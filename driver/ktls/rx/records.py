# SPDX-License-Identifier: Apache-2.0
"""Rules for one record: its header, its inner plaintext, and messages that change keys."""

from __future__ import annotations

from sealane.hdl.abi.config import (
    CONTENT_ALERT,
    CONTENT_APPLICATION_DATA,
    CONTENT_CHANGE_CIPHER_SPEC,
    CONTENT_HANDSHAKE,
    LENGTH_BOUNDS,
    TYPES,
    VERSION_TLS13,
)

from ...crypto.gcm import MAX_PLAINTEXT

_KEY_UPDATE = 24
_MESSAGE_HEADER = 4  # type and 24-bit length
_INNER_TYPES = (CONTENT_ALERT, CONTENT_HANDSHAKE, CONTENT_APPLICATION_DATA)
_WARNING = 1
_CLOSE_NOTIFY = 0
_USER_CANCELED = 90


class RecordError(Exception):
    """A record that a TLS stack refuses, with the alert that it would send."""

    def __init__(self, alert: str, reason: str) -> None:
        super().__init__(reason)
        self.alert = alert
        self.reason = reason


def parse_header(version: int, header: bytes) -> tuple[int, int]:
    """Content type and length field of a 5-byte header. Raises `RecordError`."""
    content_type, length = header[0], int.from_bytes(header[3:5], "big")
    if content_type not in TYPES[version]:
        raise RecordError("unexpected_message", f"record type {content_type}")
    if header[1:3] != b"\x03\x03":
        raise RecordError("protocol_version", f"record version {header[1:3].hex()}")
    low, high = LENGTH_BOUNDS[version]
    if length > high:
        raise RecordError("record_overflow", f"record length {length}")
    if length < low:
        raise RecordError("bad_record_mac", f"record length {length}")
    return content_type, length


def inner_plaintext(version: int, content_type: int, text: bytes) -> tuple[int, bytes]:
    """Type and content out of a record's text (RFC 8446 5.2 and 5.4, RFC 5246 6.2).

    Raises `RecordError` on what a protected record may not be.
    """
    if version == VERSION_TLS13:
        if len(text) > MAX_PLAINTEXT + 1:
            raise RecordError("record_overflow", f"{len(text)} bytes of inner plaintext")
        stripped = text.rstrip(b"\0")
        if not stripped:
            raise RecordError("unexpected_message", "inner plaintext without a type")
        content_type, text = stripped[-1], stripped[:-1]
        if content_type not in _INNER_TYPES:
            raise RecordError("unexpected_message", f"inner type {content_type}")
        if content_type == CONTENT_ALERT and len(text) != 2:
            raise RecordError("decode_error", f"alert of {len(text)} bytes")
    elif content_type == CONTENT_CHANGE_CIPHER_SPEC and text != b"\x01":
        raise RecordError("unexpected_message", "malformed ChangeCipherSpec")
    if not text and content_type != CONTENT_APPLICATION_DATA:
        raise RecordError("unexpected_message", "empty fragment")
    return content_type, text


def closes(version: int, content_type: int, content: bytes) -> bool:
    """Whether the record is an alert behind which nothing is read (RFC 8446 6, RFC 5246 7.2)."""
    if content_type != CONTENT_ALERT or len(content) != 2:
        return False
    level, description = content
    if description == _CLOSE_NOTIFY:
        return True
    if version == VERSION_TLS13:
        return description != _USER_CANCELED
    return level != _WARNING


class KeyUpdateTracker:
    """Finds KeyUpdate in the handshake messages of TLS 1.3, cut or coalesced as they may be."""

    def __init__(self) -> None:
        self._held = b""  # header and, of a KeyUpdate, body of the message under way
        self._left = 0  # bytes of another message's body still to come

    def feed(self, content_type: int, content: bytes) -> bool:
        """Takes the next record's content; True if a KeyUpdate ends with it.

        Raises `RecordError` where handshake messages are interleaved with other records or span a
        key change (RFC 8446 section 5.1).
        """
        if content_type != CONTENT_HANDSHAKE:
            if self._held or self._left:
                raise RecordError("unexpected_message", "record inside a handshake message")
            return False
        while content:
            if self._left:
                taken = min(self._left, len(content))
                content, self._left = content[taken:], self._left - taken
                continue
            is_update = self._held[:1] == bytes((_KEY_UPDATE,))
            need = _MESSAGE_HEADER + (1 if is_update else 0) - len(self._held)
            self._held, content = self._held + content[:need], content[need:]
            if len(self._held) < _MESSAGE_HEADER:
                continue
            length = int.from_bytes(self._held[1:4], "big")
            if self._held[0] != _KEY_UPDATE:
                self._held, self._left = b"", length
                continue
            if length != 1:
                raise RecordError("decode_error", f"KeyUpdate of {length} bytes")
            if len(self._held) == _MESSAGE_HEADER + 1:
                if self._held[4] > 1:
                    raise RecordError("illegal_parameter", f"request_update {self._held[4]}")
                if content:
                    raise RecordError("unexpected_message", "data behind a KeyUpdate")
                self._held = b""
                return True
        return False
