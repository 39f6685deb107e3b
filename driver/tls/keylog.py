# SPDX-License-Identifier: Apache-2.0
"""Key logs: the SSLKEYLOGFILE format (draft-ietf-tls-keylogfile, first of NSS).

Secrets are handed out by label and client random and never printed: not by `repr`, not in errors.
"""

import string
from pathlib import Path

# Labels that are used, with the lengths of their secrets in bytes.
_LENGTHS = {
    "CLIENT_RANDOM": (48,),
    "CLIENT_EARLY_TRAFFIC_SECRET": (32, 48),
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET": (32, 48),
    "SERVER_HANDSHAKE_TRAFFIC_SECRET": (32, 48),
    "CLIENT_TRAFFIC_SECRET_0": (32, 48),
    "SERVER_TRAFFIC_SECRET_0": (32, 48),
}
# Labels that are well known and not needed: later traffic secrets follow from the first ones.
_UNUSED = ("CLIENT_TRAFFIC_SECRET_", "SERVER_TRAFFIC_SECRET_")
_UNUSED_EXACT = (
    "EXPORTER_SECRET",
    "EARLY_EXPORTER_SECRET",
    "ECH_SECRET",
    "ECH_CONFIG",
    "RSA",
    "PMS_CLIENT_RANDOM",
)


class KeylogError(Exception):
    """A key log that cannot be used; the text is one line without key material."""


class Keylog:
    """Secrets by label and client random.

    ignored: lines that are neither secrets, comments nor empty.
    """

    def __init__(self) -> None:
        self._secrets: dict[tuple[str, bytes], bytes] = {}
        self.ignored = 0

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"Keylog({len(self)} secrets, {self.ignored} lines ignored)"

    def secret(self, label: str, client_random: bytes) -> bytes | None:
        """The secret, or `None`."""
        return self._secrets.get((label, client_random))

    def add(self, label: str, client_random: bytes, secret: bytes) -> None:
        """One secret; the first of a label and random stays."""
        self._secrets.setdefault((label, client_random), secret)

    @classmethod
    def parse(cls, text: str) -> "Keylog":
        """The secrets in `text`; lines that are none are counted and ignored."""
        log = cls()
        for line in text.splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            label = words[0]
            if label in _UNUSED_EXACT or (label.startswith(_UNUSED) and label not in _LENGTHS):
                continue
            values = [_unhex(word) for word in words[1:]]
            if (
                len(values) == 2
                and values[0] is not None
                and values[1] is not None
                and len(values[0]) == 32
                and len(values[1]) in _LENGTHS.get(label, ())
            ):
                log.add(label, values[0], values[1])
            else:
                log.ignored += 1
        return log

    @classmethod
    def read(cls, path: Path) -> "Keylog":
        """The secrets in a file. Raises `KeylogError`."""
        try:
            text = path.read_bytes().decode("latin-1")
        except OSError as error:
            raise KeylogError(f"key log {path}: {error.strerror or 'cannot be read'}") from None
        log = cls.parse(text.removeprefix("\xef\xbb\xbf"))
        if not len(log):
            raise KeylogError(f"key log {path}: no usable line")
        return log


def _unhex(word: str) -> bytes | None:
    if len(word) % 2 or not all(c in string.hexdigits for c in word):
        return None
    return bytes.fromhex(word)
