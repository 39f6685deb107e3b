# SPDX-License-Identifier: Apache-2.0
"""The kernel's part of TLS offload, sans-IO; `KtlsRx` is the receive core."""

from ..device.descriptors import Handle
from .rx.events import (
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
from .rx.offload import KtlsRx, StreamRange
from .rx.resync import ResyncMode

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
