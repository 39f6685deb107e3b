# SPDX-License-Identifier: Apache-2.0
"""The kernel's part of TLS offload, sans-IO; `KtlsRx` is the receive core."""

from ..descriptors import Handle
from .events import (
    GoOn,
    How,
    KeysNeeded,
    KtlsEvent,
    RecordAccepted,
    RecordRefused,
    Rekey,
    ResyncAnswer,
    ResyncHint,
    StreamClosed,
)
from .resync import ResyncMode
from .rx import KtlsRx, StreamRange

__all__ = [
    "GoOn",
    "Handle",
    "How",
    "KeysNeeded",
    "KtlsEvent",
    "KtlsRx",
    "RecordAccepted",
    "RecordRefused",
    "Rekey",
    "ResyncAnswer",
    "ResyncHint",
    "ResyncMode",
    "StreamClosed",
    "StreamRange",
]
