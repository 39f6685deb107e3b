# SPDX-License-Identifier: Apache-2.0
"""ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1), and where TLS starts
in a stream that begins in the clear (STARTTLS, an HTTP proxy's CONNECT)."""

from dataclasses import dataclass, field

# SHA-256 of "HelloRetryRequest", RFC 8446 section 4.1.3.
HELLO_RETRY_RANDOM = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)
EXT_ENCRYPT_THEN_MAC = 22
EXT_SESSION_TICKET = 35
EXT_PRE_SHARED_KEY = 41
EXT_EARLY_DATA = 42
EXT_SUPPORTED_VERSIONS = 43

CLIENT_HELLO, SERVER_HELLO = 1, 2


@dataclass(frozen=True)
class Hello:
    """What matters of a ClientHello or a ServerHello.

    version: the legacy version or, in a ServerHello, the one in supported_versions.
    suite, compression: the server's choice; 0 in a ClientHello.
    """

    version: int
    random: bytes = field(repr=False)
    session_id: bytes = field(repr=False)
    suite: int
    compression: int
    extensions: dict[int, bytes] = field(repr=False)

    @property
    def is_retry(self) -> bool:
        """A ServerHello that is a HelloRetryRequest."""
        return self.random == HELLO_RETRY_RANDOM


class _Reader:
    """Reads length-prefixed vectors; `ValueError` where bytes are missing."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("message too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def parse_extensions(data: bytes) -> dict[int, bytes]:
    """Extensions by type, the first of each. Raises `ValueError`."""
    reader = _Reader(data)
    out: dict[int, bytes] = {}
    while reader.at < len(data):
        kind = reader.number(2)
        out.setdefault(kind, reader.vector(2))
    return out


def parse_hello(message_type: int, body: bytes) -> Hello:
    """A ClientHello (type 1) or ServerHello (type 2). Raises `ValueError`."""
    reader = _Reader(body)
    version = reader.number(2)
    if version >> 8 != 3:
        raise ValueError("legacy version")
    random = reader.take(32)
    session_id = reader.vector(1)
    if len(session_id) > 32:
        raise ValueError("session id")
    suite = compression = 0
    if message_type == CLIENT_HELLO:
        suites = reader.vector(2)
        if not suites or len(suites) % 2 or not reader.vector(1):
            raise ValueError("cipher suites or compression methods")
    else:
        suite = reader.number(2)
        compression = reader.number(1)
    extensions = parse_extensions(reader.vector(2)) if reader.at < len(body) else {}
    if reader.at != len(body):
        raise ValueError("bytes behind the message")
    selected = extensions.get(EXT_SUPPORTED_VERSIONS, b"")
    if message_type == SERVER_HELLO and len(selected) == 2:
        version = int.from_bytes(selected, "big")
    return Hello(version, random, session_id, suite, compression, extensions)


def find_hello(data: bytes, message_type: int, start: int = 0) -> tuple[int, bool]:
    """Where the record of the first hello begins in a stream: (position, found).

    Not found: `position` is where the search may go on when there are more bytes; everything
    before it cannot begin a hello.
    """
    at = start
    while (at := data.find(b"\x16\x03", at)) >= 0:
        verdict = _judge_hello(data[at : at + 5 + 16384], message_type)
        if verdict is None:
            return at, False
        if verdict:
            return at, True
        at += 1
    # A lone 0x16 at the end may be the first byte of a header.
    end = len(data)
    return (end - 1 if end > start and data[end - 1] == 0x16 else end), False


def _judge_hello(data: bytes, message_type: int) -> bool | None:
    """Whether a record with a hello of this type begins here; `None`: more bytes are needed."""
    limits = ((2, 0, 4), (5, message_type, message_type), (6, 0, 0), (9, 3, 3), (10, 0, 4))
    if any(len(data) > at and not low <= data[at] <= high for at, low, high in limits):
        return False
    if len(data) < 44:
        return None
    record = int.from_bytes(data[3:5], "big")
    message = int.from_bytes(data[6:9], "big")
    if not 4 < record <= 16384 or message < 38 or data[43] > 32:
        return False
    if message + 4 > record:
        return True  # goes on in the next record
    if len(data) < 9 + message:
        return None
    try:
        parse_hello(message_type, data[9 : 9 + message])
    except ValueError:
        return False
    return True
