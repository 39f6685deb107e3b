# SPDX-License-Identifier: Apache-2.0
"""Metadata: the device's report on every packet that it passes to the host."""

from enum import IntEnum

from .layout import Field, Layout


class Reason(IntEnum):
    """Why a packet was not marked. The lowest number that applies is given.

    `NONE` appears only together with the `decrypted` mark.
    """

    NONE = 0
    NOT_TCP = 1  # not a complete, unfragmented TCP segment in Ethernet, 802.1Q, IPv4 or IPv6
    OVERSIZE = 2  # a frame longer than max_frame
    BAD_CHECKSUM = 3  # bad IPv4 header or TCP checksum
    NO_FLOW = 4  # no context for these addresses and ports
    FLAGS = 5  # SYN, RST or URG set, or ACK not set
    NO_PAYLOAD = 6  # a TCP segment without payload
    OUT_OF_WINDOW = 7  # too far from the last proven position
    NOT_OPEN = 8  # has a byte before the start, in a completed record or in a closed record
    SEEN_BYTES = 9  # overlaps bytes that have already passed
    SEARCHING = 10  # record boundaries are lost, or TLS does not allow a header
    AWAITING_PROOF = 11  # a candidate was found and is not yet proven
    GIVEN_UP = 12  # the search ended at a limit, of bytes or of bad headers
    PARKED = 13  # has bytes after a record that may have changed keys
    HELD = 14  # ends after an unverified record: possible KeyUpdate, too far, or one-bit mode
    TAG_MISMATCH = 15  # a record that completes in the packet failed authentication
    STALE_GENERATION = 16  # the context was deleted or rekeyed while the packet was in flight
    MIXED = 17  # all its records already have an unmarked packet; see Option.MARK_REST


class ProvenBy(IntEnum):
    """How a position was proven after loss of sync."""

    NOTHING = 0  # no position was proven
    SOFTWARE = 1  # the driver answered, or gave a hint
    WALK = 2  # the walk of the proven chain arrived
    TAG = 3  # a record's tag verified; only with Option.TAG_PROOF


META = Layout(
    "metadata",
    Field("context", 16, "context of the flow; valid only if context_valid is set"),
    Field("context_valid", 1, "the packet's addresses and ports are in the flow table"),
    Field("generation", 8, "generation of the context when the packet was walked"),
    Field("epoch", 8, "key epoch of the context when the packet was walked"),
    Field("decrypted", 1, "the mark: the text of every record in the packet is plaintext"),
    Field("l4_verified", 1, "IP and TCP checksums are good"),
    Field("reason", 5, "Reason"),
    Field("first_completes", 1, "the first record completed in this packet and verified"),
    Field("last_completes", 1, "the last record completed in this packet and verified"),
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
