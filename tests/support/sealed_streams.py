# SPDX-License-Identifier: Apache-2.0
"""Hand-made TLS streams: hellos that are just complete enough, and records sealed one by one.

They hold what a real stack will not write: any padding, empty records, KeyUpdates coalesced or cut,
wrong tags, chosen nonces. The secrets are constants and protect nothing.
"""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support import tls_records

HASHES = {0x1301: SHA256(), 0x1302: SHA384()}
KEY_LENGTHS = {0x1301: 16, 0x1302: 32}
KEY_UPDATE = b"\x18\0\0\1\0"
TICKET = b"\x04\0\0\x10" + bytes(16)


def vector(size: int, data: bytes) -> bytes:
    """A length-prefixed vector."""
    return len(data).to_bytes(size, "big") + data


def message(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + vector(3, body)


def record(kind: int, fragment: bytes, version: int = 0x0303) -> bytes:
    """A record in the clear."""
    return bytes([kind]) + version.to_bytes(2, "big") + vector(2, fragment)


def extensions(entries) -> bytes:
    """The extensions of a hello: (type, data)."""
    return vector(2, b"".join(k.to_bytes(2, "big") + vector(2, v) for k, v in entries))


def client_hello(random: bytes, entries=(), session_id: bytes = b"") -> bytes:
    """A ClientHello that offers both suites of TLS 1.3."""
    return message(
        1,
        b"\3\3"
        + random
        + vector(1, session_id)
        + vector(2, b"\x13\1\x13\2")
        + b"\1\0"
        + extensions([(43, b"\2\3\4"), *entries]),
    )


def server_hello(random: bytes, suite: int, entries=(), session_id: bytes = b"") -> bytes:
    """A ServerHello of TLS 1.3."""
    return message(
        2,
        b"\3\3"
        + random
        + vector(1, session_id)
        + suite.to_bytes(2, "big")
        + b"\0"
        + extensions([(43, b"\3\4"), *entries]),
    )


def expand_label(algorithm, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label by the `cryptography` package."""
    info = length.to_bytes(2, "big") + vector(1, b"tls13 " + label) + b"\0"
    return HKDFExpand(algorithm, length, info).derive(secret)


class Sealer:
    """Seals TLS 1.3 records of one direction under a traffic secret."""

    def __init__(self, suite: int, secret: bytes) -> None:
        self.suite, self.secret = suite, secret
        self._derive()

    def _derive(self) -> None:
        algorithm = HASHES[self.suite]
        self.key = expand_label(algorithm, self.secret, b"key", KEY_LENGTHS[self.suite])
        self.iv = expand_label(algorithm, self.secret, b"iv", 12)
        self.number = 0

    def seal(self, content: bytes, inner_type: int = 23, padding: int = 0) -> bytes:
        """One record."""
        inner = content + bytes([inner_type]) * (inner_type > 0) + bytes(padding)
        self.number += 1
        return tls_records.seal(VERSION_TLS13, self.key, self.iv, self.number - 1, 23, inner)

    def rekey(self) -> None:
        """Switches to the next traffic secret, as after a KeyUpdate."""
        algorithm = HASHES[self.suite]
        self.secret = expand_label(algorithm, self.secret, b"traffic upd", len(self.secret))
        self._derive()

    def key_update(self, padding: int = 0, in_front: bytes = b"") -> bytes:
        """A KeyUpdate, after other messages in its record, and the change of keys."""
        out = self.seal(in_front + KEY_UPDATE, 22, padding)
        self.rekey()
        return out


class Tls13:
    """A handshake of TLS 1.3 with chosen secrets. `client` and `server` are the sealers afterwards.

    flights: what was written so far, (direction, bytes). keylog: its lines by label. early: 0-RTT
    data. accept: the server accepts it.
    """

    def __init__(self, suite=0x1301, early=(), accept=True, seed=b"", session_id=b"\7" * 32):
        length = HASHES[suite].digest_size

        def secret(name: str) -> bytes:
            return hashlib.sha512(seed + name.encode()).digest()[:length]

        random = hashlib.sha256(seed + b"client random").digest()
        self.suite, self.flights = suite, []
        offered = [(42, b""), (41, b"")] if early else []
        hello = client_hello(random, offered, session_id)
        self.write("c2s", record(22, hello, 0x0301))
        names = {
            "CLIENT_EARLY_TRAFFIC_SECRET",
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
        }
        self.keylog = {n: f"{n} {random.hex()} {secret(n).hex()}" for n in sorted(names)}
        early_keys = Sealer(suite, secret("CLIENT_EARLY_TRAFFIC_SECRET"))
        for data in early:
            self.write("c2s", early_keys.seal(data))
        self.write(
            "s2c",
            record(
                22,
                server_hello(
                    hashlib.sha256(random).digest(),
                    suite,
                    [(41, b"\0\0")] if early else [],
                    session_id,
                ),
            ),
        )
        keys = Sealer(suite, secret("SERVER_HANDSHAKE_TRAFFIC_SECRET"))
        accepted = [(42, b"")] if early and accept else []
        self.write(
            "s2c",
            record(20, b"\1")
            + keys.seal(message(8, extensions(accepted)) + message(20, bytes(length)), 22),
        )
        if accepted:
            self.write("c2s", early_keys.seal(message(5, b""), 22))
        keys = Sealer(suite, secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET"))
        self.write("c2s", record(20, b"\1") + keys.seal(message(20, bytes(length)), 22))
        self.client = Sealer(suite, secret("CLIENT_TRAFFIC_SECRET_0"))
        self.server = Sealer(suite, secret("SERVER_TRAFFIC_SECRET_0"))

    def write(self, direction: str, data: bytes) -> None:
        """Adds bytes to a direction."""
        self.flights.append((direction, data))

    def stream(self, direction: str) -> bytes:
        """All bytes of a direction."""
        return b"".join(data for d, data in self.flights if d == direction)

    @property
    def keylog_text(self) -> str:
        """The key log."""
        return "\n".join(self.keylog.values()) + "\n"


class Sealer12:
    """Seals TLS 1.2 AES-GCM records. The explicit nonce starts at `nonce` and counts up."""

    def __init__(self, key: bytes, salt: bytes, nonce: int = 0, number: int = 0) -> None:
        self.key, self.salt, self.nonce, self.number = key, salt, nonce, number

    def seal(self, content: bytes, kind: int = 23) -> bytes:
        """One record."""
        explicit = (self.nonce % (1 << 64)).to_bytes(8, "big")
        self.nonce += 1
        self.number += 1
        number = self.number - 1
        return tls_records.seal(VERSION_TLS12, self.key, self.salt, number, kind, content, explicit)
