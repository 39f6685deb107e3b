# SPDX-License-Identifier: Apache-2.0
"""Transmit: what the driver says of a frame, what the device says back, and the commands.

Records of a direction have one count, N, from `TX_ADD` on, that never restarts. A key slot has a
`base`, and the record number in the nonce is `N - base`; so metadata names no key epoch, and one
frame may hold records of two.
"""

from enum import IntEnum

from .layout import Field, Layout


class TxOp(IntEnum):
    """What shall become of a frame of the host."""

    NOTHING = 0  # unchanged, unless it has text of an offloaded flow: then dropped
    WIRE = 1  # final as it is: software made it
    ENCRYPT = 2  # the records in its payload are plaintext
    DUMP = 3  # payload only, without headers: hashed, then discarded


class TxTags(IntEnum):
    """What the bytes of tags in a frame of the host are."""

    COMPUTE = 0  # room; the device computes them
    GIVEN = 1  # final, from an earlier completion; only with `detached`
    COMPARE = 2  # stored ones: computed again, and the frame is dropped if they differ


class TxReason(IntEnum):
    """Why a frame did not leave: the first check that fails. Checks before the walk change nothing;
    those of the walk and, behind the cipher, STALE_KEY, TAG_MISMATCH and DEVICE_ERROR in this order
    do, as the stream has gone on."""

    NONE = 0  # it left, or was hashed (DUMP)
    OVERSIZE = 1  # longer than max_frame
    BAD_META = 2  # fields that contradict each other
    NOT_TCP = 3  # ENCRYPT on what is not a whole TCP segment, or on a SYN
    NO_CONTEXT = 4  # no such context, deleted, or another generation
    WRONG_FLOW = 5  # addresses and ports are not the context's
    BYPASS = 6  # ENCRYPT with bytes in front of the start marker
    ORPHAN = 7  # NOTHING, and text of an offloaded flow
    OUT_OF_ORDER = 8  # not at the frontier; sync not forward; detached beyond the frontier
    BROKEN = 9  # the stream is lost and awaits sync
    BAD_HEADER = 10  # a record header that TLS does not allow, or not the one that was named
    BAD_NONCE = 11  # TLS 1.2: not the explicit nonce that is next
    NO_KEY = 12  # the record's number lies in no key slot
    NO_SYNC_DATA = 13  # a tag is wanted and the record's beginning was not hashed
    TAG_MISMATCH = 14  # COMPARE found another tag
    STALE_KEY = 15  # the key was replaced while the frame was in flight
    DEVICE_ERROR = 16  # not every byte was written


class TxCommand(IntEnum):
    """Commands of transmit, rung like `commands.Op`; only a device with `tx_flows` has them."""

    TX_ADD = 8  # tls_dev_add: staged key in key slot 0, start marker, number and nonce
    TX_REKEY = 9  # staged key in a key slot, for the records from `number` on; TLS 1.3
    TX_KEY_CLEAR = 10  # empties a key slot: its records are acknowledged
    TX_DELETE = 11  # tls_dev_del: keys cleared; its frames are dropped until TX_RELEASE
    TX_RELEASE = 12  # drained: the deleted context is free
    TX_FLOW_WRITE = 13  # writes one entry of the table of transmit flows


TX_COMMAND = Layout(
    "transmit command",
    Field("op", 4, "TxCommand"),
    Field("context", 16, "transmit context"),
    Field("generation", 8, "generation that is meant (TX_ADD: the new one)"),
    Field("epoch", 8, "bit 0: key slot; TX_REKEY, TX_KEY_CLEAR"),
    Field("version", 1, "0: TLS 1.2, 1: TLS 1.3"),
    Field("key256", 1, "AES-256 instead of AES-128"),
    Field("seq", 32, "TX_ADD: start marker, the sequence number of the first record's header"),
    Field("number", 64, "TX_ADD: its record number (rcd_sn); TX_REKEY: N of the first record"),
    Field("nonce", 64, "TX_ADD, TLS 1.2: explicit nonce of that record, first byte highest"),
    Field("table", 1, "TX_FLOW_WRITE: table 0 or 1"),
    Field("slot", 1, "TX_FLOW_WRITE: slot 0 or 1 of the row"),
    Field("bucket", 16, "TX_FLOW_WRITE: row"),
    Field("valid", 1, "TX_FLOW_WRITE: the entry is in use"),
)

TX_META = Layout(
    "transmit metadata",
    Field("op", 3, "TxOp"),
    Field("context", 16, "ENCRYPT, DUMP: transmit context"),
    Field("generation", 8, "ENCRYPT, DUMP: its generation"),
    Field("detached", 1, "the position is given below, and the stream is left alone"),
    Field("sync", 1, "the stream moves forward to record `number`, which begins this payload"),
    Field("tags", 2, "TxTags"),
    Field("seq", 32, "DUMP: TCP sequence number of the first byte"),
    Field("length", 16, "DUMP: bytes in the frame, all of them payload"),
    Field("number", 64, "detached, sync: N of the first record"),
    Field("offset", 16, "detached: offset of the first payload byte in that record, 0: its header"),
    Field("record_length", 16, "detached, offset not 0: length field of that record"),
    Field("record_type", 8, "detached, offset not 0: content type of that record"),
    Field("cookie", 16, "comes back in the completion"),
)

TX_META_BITS = 256  # width of the metadata stream; the bits above the layout are 0

TX_STATUS = Layout(
    "transmit status",
    Field("reason", 5, "TxReason"),
    Field("op", 3, "TxOp"),
    Field("cookie", 16, "of the frame's metadata"),
    Field("context", 16, "of the frame's metadata"),
    Field("generation", 8, "of the frame's metadata"),
    Field("tags", 10, "tags given in front of this beat"),
    Field("first_number", 64, "N of the first of them; they belong to consecutive records"),
)

TX_COMPLETION_BITS = 128  # a beat of the completion stream: a tag, or the status as the last one

TX_COUNTERS = (
    ("tx_frames", "frames of the host, DUMP included"),
    ("tx_encrypted", "frames that left encrypted"),
    ("tx_wire", "frames that left as software made them"),
    ("tx_passed", "frames that left unchanged without WIRE"),
    ("tx_dumped", "DUMP frames that were hashed"),
    ("tx_dropped", "frames that did not leave, hashed DUMP frames not included"),
    ("tx_orphans", "of these, for ORPHAN"),
    ("tx_tag_mismatch", "of these, for TAG_MISMATCH"),
    ("tx_tags", "tags given in completions"),
    ("tx_stall_cycles", "clocks in which a word waited at the input of the host's frames"),
)
