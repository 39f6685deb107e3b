# SPDX-License-Identifier: Apache-2.0
"""What `KtlsRx` gives out: records for the application, requests for the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ...crypto.keys import CryptoInfo


class How(Enum):
    """How the hardware left an accepted record."""

    FULL = "full"  # every byte marked and the verdict used, or implied: no AEAD in software
    PARTIAL = "partial"  # some bytes marked: restored, then opened in software
    NONE = "none"  # no byte marked


@dataclass(frozen=True)
class RecordAccepted:
    """A record that authenticated; `content_type` and `plaintext` are the inner ones.

    number: in its epoch. start: TCP sequence number of the header. offset: of the header in the
    stream since `KtlsRx` began. wire_length: header included.
    """

    content_type: int
    plaintext: bytes = field(repr=False)
    number: int
    epoch: int
    start: int
    offset: int
    how: How
    wire_length: int


@dataclass(frozen=True)
class RecordRefused:
    """The record ends the connection: nothing at or behind `start` is given out.

    alert: name of the alert that a TLS stack would send (RFC 8446 section 6).
    """

    alert: str
    reason: str
    number: int
    epoch: int
    start: int


@dataclass(frozen=True)
class StreamClosed:
    """A closure or fatal alert came: bytes at or behind `seq` are ignored (RFC 8446 6.1)."""

    seq: int


@dataclass(frozen=True)
class KeysNeeded:
    """Keys change at `seq`; nothing behind it is read until `install_next`."""

    seq: int


@dataclass(frozen=True)
class ResyncAnswer:
    """For `Device.tls_dev_resync`: the record at `seq` has this number, or is none (`None`)."""

    seq: int
    number: int | None


@dataclass(frozen=True)
class ResyncHint:
    """For `Device.resync_hint`: a record numbered `number` starts at `seq`."""

    seq: int
    number: int


@dataclass(frozen=True)
class GoOn:
    """For `Device.go_on`: the record that parked the flow changes no keys."""

    park: int


@dataclass(frozen=True)
class Rekey:
    """For `Device.rekey`: from `seq` on records are numbered from 0 under `keys`.

    number: what the first of them would be in the old count. Report back with `KtlsRx.rekeyed`
    or `KtlsRx.rekey_failed`.
    """

    seq: int
    epoch: int
    keys: CryptoInfo
    number: int


KtlsEvent = (
    RecordAccepted
    | RecordRefused
    | StreamClosed
    | KeysNeeded
    | ResyncAnswer
    | ResyncHint
    | GoOn
    | Rekey
)
