# SPDX-License-Identifier: Apache-2.0
"""Transmit: metadata of frames, completions and commands.

The records of a direction share one count, N, which starts with `TX_ADD` and never restarts. A key
slot has a `base`, and the record number in the nonce is `N - base`. Metadata therefore needs no key
epoch, and one frame may hold records of two epochs.
"""

from enum import IntEnum

from .layout import Field, Layout


class TxOp(IntEnum):
    """How the device treats a host frame."""

    NOTHING = 0  # sent unchanged, but dropped if it holds text of an offloaded flow
    WIRE = 1  # sent as it is: software produced the final bytes
    ENCRYPT = 2  # the records in its payload are plaintext; the device encrypts them
    DUMP = 3  # payload without packet headers: hashed, then discarded


class TxTags(IntEnum):
    """What the tag bytes of a host frame contain."""

    COMPUTE = 0  # room for the tags, which the device computes
    GIVEN = 1  # final tags from an earlier completion; only with `detached`
    COMPARE = 2  # stored tags: the device computes them again and drops the frame on a difference


class TxReason(IntEnum):
    """Why a frame was not sent: the first check that failed.

    Checks before the walk change no state. The checks of the walk do, and so do the checks after
    the cipher (STALE_KEY, TAG_MISMATCH and DEVICE_ERROR, in this order), because the stream has
    advanced by then.
    """

    NONE = 0  # sent, or hashed (DUMP)
    OVERSIZE = 1  # longer than max_frame
    BAD_META = 2  # contradictory metadata fields
    NOT_TCP = 3  # ENCRYPT on a frame that is not a complete TCP segment, or on a SYN
    NO_CONTEXT = 4  # the context does not exist, is deleted, or has another generation
    WRONG_FLOW = 5  # addresses or ports differ from those of the context
    BYPASS = 6  # ENCRYPT with bytes before the start marker
    ORPHAN = 7  # NOTHING with text of an offloaded flow
    OUT_OF_ORDER = 8  # not at the frontier, sync not forward, or detached beyond the frontier
    BROKEN = 9  # the stream is lost and waits for sync
    BAD_HEADER = 10  # a record header that TLS does not allow, or that differs from metadata
    BAD_NONCE = 11  # TLS 1.2: not the expected explicit nonce
    NO_KEY = 12  # no key slot covers the record number
    NO_SYNC_DATA = 13  # a tag is needed, but the beginning of the record was not hashed
    TAG_MISMATCH = 14  # COMPARE found a different tag
    STALE_KEY = 15  # the key was replaced while the frame was in flight
    DEVICE_ERROR = 16  # not every byte was written


class TxCommand(IntEnum):
    """Transmit commands, run like `commands.Op`. Only a device with `tx_flows` has them."""

    TX_ADD = 8  # tls_dev_add: staged key for key slot 0, start marker, number and nonce
    TX_REKEY = 9  # staged key for a key slot, used from record `number`; TLS 1.3
    TX_KEY_CLEAR = 10  # clears a key slot whose records are acknowledged
    TX_DELETE = 11  # tls_dev_del: clears the keys; the flow's frames are dropped until TX_RELEASE
    TX_RELEASE = 12  # frees a deleted context that has drained
    TX_FLOW_WRITE = 13  # writes one entry of the transmit flow table


TX_COMMAND = Layout(
    "transmit command",
    Field("op", 4, "TxCommand"),
    Field("context", 16, "transmit context"),
    Field("generation", 8, "generation that the command is for (TX_ADD: the new one)"),
    Field("epoch", 8, "TX_REKEY, TX_KEY_CLEAR: bit 0 is the key slot"),
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
    Field("detached", 1, "the position is given below, and the stream does not change"),
    Field("sync", 1, "the stream moves forward to record `number`, which begins this payload"),
    Field("tags", 2, "TxTags"),
    Field("seq", 32, "DUMP: TCP sequence number of the first byte"),
    Field("length", 16, "DUMP: bytes in the frame, all of them payload"),
    Field("number", 64, "detached, sync: N of the first record"),
    Field("offset", 16, "detached: offset of the first payload byte in that record, 0: its header"),
    Field("record_length", 16, "detached, offset not 0: length field of that record"),
    Field("record_type", 8, "detached, offset not 0: content type of that record"),
    Field("cookie", 16, "returned in the completion"),
)

TX_META_BITS = 256  # width of the metadata stream; the bits above the layout are 0

TX_STATUS = Layout(
    "transmit status",
    Field("reason", 5, "TxReason"),
    Field("op", 3, "TxOp"),
    Field("cookie", 16, "copied from the frame's metadata"),
    Field("context", 16, "copied from the frame's metadata"),
    Field("generation", 8, "copied from the frame's metadata"),
    Field("tags", 10, "number of tag beats before this beat"),
    Field("first_number", 64, "N of the first tag's record; the tags are of consecutive records"),
)

TX_COMPLETION_BITS = 128  # a beat of the completion stream: a tag, or the status as the last one

TX_COUNTERS = (
    ("tx_frames", "host frames, including DUMP"),
    ("tx_encrypted", "frames sent encrypted"),
    ("tx_wire", "WIRE frames sent as software produced them"),
    ("tx_passed", "frames sent unchanged without WIRE"),
    ("tx_dumped", "DUMP frames that were hashed"),
    ("tx_dropped", "frames not sent, excluding hashed DUMP frames"),
    ("tx_orphans", "of these, dropped for ORPHAN"),
    ("tx_tag_mismatch", "of these, dropped for TAG_MISMATCH"),
    ("tx_tags", "tags returned in completions"),
    ("tx_stall_cycles", "clocks in which a word waited at the host frame input"),
)
