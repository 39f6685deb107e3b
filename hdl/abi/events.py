# SPDX-License-Identifier: Apache-2.0
"""Events: reports from the device to the driver that do not belong to one packet's metadata."""

from enum import IntEnum

from .layout import Field, Layout


class EventKind(IntEnum):
    """Kinds of events."""

    NONE = 0
    RESYNC_REQUEST = 1  # asks for the record number of the candidate header at `candidate_seq`
    RESUMED = 2  # a position was proven; records are opened again from `resumed_at`
    PARKED = 3  # marks stop after a record that may change keys; the go-on names `park`
    TAG_MISMATCH = 4  # a complete record failed authentication
    GIVEN_UP = 5  # the search ended without a proven position


EVENT = Layout(
    "event",
    Field("kind", 8, "EventKind"),
    Field("generation", 8, "generation of the context"),
    Field("context", 16, "context"),
    Field("lost_at", 32, "TCP sequence number of the header that was lost"),
    Field("candidate_seq", 32, "candidate position: TCP sequence number of the candidate header"),
    Field("resumed_at", 32, "TCP sequence number of the first header that opens a record again"),
    Field("proven_by", 8, "ProvenBy"),
    Field("park", 8, "name of the park"),
    Field("reserved", 16, "0"),
    Field("seq", 32, "TCP sequence number after the packet that caused the event"),
    Field("number", 64, "record number, if known"),
)

EVENT_WORDS = EVENT.width // 32
