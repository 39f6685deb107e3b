# SPDX-License-Identifier: Apache-2.0
"""What the device tells the driver beside packets."""

from enum import IntEnum

from .layout import Field, Layout


class EventKind(IntEnum):
    """Kinds of events."""

    NONE = 0
    RESYNC_REQUEST = 1  # a candidate header was found at `candidate_seq`; which record is it?
    RESUMED = 2  # a position was proven; records are opened from `resumed_at` on
    PARKED = 3  # a record that may change keys ends the marks; go on names `park`
    TAG_MISMATCH = 4  # a complete record does not authenticate
    GIVEN_UP = 5  # the search ended without a proven position


EVENT = Layout(
    "event",
    Field("kind", 8, "EventKind"),
    Field("generation", 8, "generation of the context"),
    Field("context", 16, "context"),
    Field("lost_at", 32, "TCP sequence number of the header that was lost"),
    Field("candidate_seq", 32, "TCP sequence number of the candidate header"),
    Field("resumed_at", 32, "TCP sequence number of the first header that opens a record again"),
    Field("proven_by", 8, "ProvenBy"),
    Field("park", 8, "name of the park"),
    Field("reserved", 16, "0"),
    Field("seq", 32, "TCP sequence number behind the packet that brought the event"),
    Field("number", 64, "record number, where one is known"),
)

EVENT_WORDS = EVENT.width // 32
