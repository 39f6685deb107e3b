# SPDX-License-Identifier: Apache-2.0
"""What the device says of every packet that it passes to the host."""

from enum import IntEnum

from .layout import Field, Layout


class Reason(IntEnum):
    """Why a packet was not marked; the lowest number that applies is given.

    `NONE` stands beside the decrypted mark only.
    """

    NONE = 0
    NOT_TCP = 1  # not a whole, unfragmented TCP segment in Ethernet, 802.1Q, IPv4 or IPv6
    OVERSIZE = 2  # a frame longer than max_frame
    BAD_CHECKSUM = 3  # IPv4 header or TCP checksum
    NO_FLOW = 4  # no context for these addresses and ports
    FLAGS = 5  # SYN, RST or URG set, or ACK not set
    NO_PAYLOAD = 6
    OUT_OF_WINDOW = 7  # too far from the last proven position
    NOT_OPEN = 8  # a byte before the start, in a completed record or in a closed one
    SEEN_BYTES = 9  # overlaps bytes that have passed
    SEARCHING = 10  # record boundaries are lost, or a header that TLS does not allow
    AWAITING_PROOF = 11  # a candidate was found and is not proven
    GIVEN_UP = 12  # searched too far, or too many bad headers
    PARKED = 13  # behind a record after which keys may change
    HELD = 14  # behind an unverified record: a possible KeyUpdate, too far, or one-bit mode
    TAG_MISMATCH = 15  # a record that completes here does not authenticate
    STALE_GENERATION = 16  # the context was deleted or rekeyed while the packet was in flight
    MIXED = 17  # only of records that have a packet without the mark already; see Option.MARK_REST


class ProvenBy(IntEnum):
    """How a position was proven after loss of sync."""

    NOTHING = 0
    SOFTWARE = 1
    WALK = 2
    TAG = 3  # only with Option.TAG_PROOF


META = Layout(
    "metadata",
    Field("context", 16, "context of the flow; meaningful if context_valid"),
    Field("context_valid", 1, "the packet's addresses and ports are in the flow table"),
    Field("generation", 8, "generation of the context when the packet was walked"),
    Field("epoch", 8, "key epoch of the context when the packet was walked"),
    Field("decrypted", 1, "the mark: the text of every record in the packet is plaintext"),
    Field("l4_verified", 1, "IP and TCP checksums are good"),
    Field("reason", 5, "why not decrypted"),
    Field("first_completes", 1, "the first record became complete with this packet and verified"),
    Field("last_completes", 1, "the same for the last record"),
    Field("payload_offset", 16, "bytes from the frame's beginning to the TCP payload"),
    Field("payload_length", 16, "bytes of TCP payload"),
    Field("seq", 32, "TCP sequence number of the first payload byte"),
    Field("records", 16, "records with at least one byte in the packet"),
    Field("first_number", 64, "record number of the first record"),
    Field("first_offset", 16, "offset of the payload's first byte in the first record"),
    Field("first_length", 16, "length field of the first record; 0: not known yet"),
    Field("first_nonce", 64, "explicit nonce of the first record, first byte lowest; TLS 1.2"),
    Field("last_number", 64, "record number of the last record"),
    Field("last_start", 32, "TCP sequence number of the last record's header"),
    Field("last_length", 16, "length field of the last record; 0: not known yet"),
)
"""Framing fields (from `records` on) are 0 unless the packet is marked."""

META_BITS = 512  # width of the metadata stream; the bits above the layout are 0
