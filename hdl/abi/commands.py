# SPDX-License-Identifier: Apache-2.0
"""What the driver tells the device. Commands execute between packets, in order."""

from enum import IntEnum, IntFlag

from .layout import Field, Layout


class Op(IntEnum):
    """Commands, by the driver's verbs."""

    NONE = 0
    CONTEXT_ADD = 1  # tls_dev_add and rekey: staged key, generation, epoch, position, number
    CONTEXT_DELETE = 2  # tls_dev_del: clears keys and state
    FLOW_WRITE = 3  # writes one entry of the flow table
    RESYNC_ANSWER = 4  # answers the candidate at `seq`: its record number, or refused
    RESYNC_HINT = 5  # stack-driven resync: a record numbered `number` starts at `seq`
    GO_ON = 6  # ends the park named `park`
    REKEY = 7  # staged key for the records from `number` (old count) on; they count from 0 anew


class Option(IntFlag):
    """What a driver may choose for a flow, given with CONTEXT_ADD; REKEY leaves it."""

    NONE = 0
    ONE_BIT = 1  # nothing is marked behind a record that is not verified
    TAG_PROOF = 2  # a candidate whose tag verifies under its guessed number is proven
    MARK_REST = 4  # packets inside a record that has an unmarked packet are marked too


OPTION_BITS = 3

COMMAND = Layout(
    "command",
    Field("op", 4, "Op"),
    Field("context", 16, "context"),
    Field("generation", 8, "generation that is meant (CONTEXT_ADD, REKEY: the new one)"),
    Field("epoch", 8, "key epoch, CONTEXT_ADD and REKEY"),
    Field("version", 1, "0: TLS 1.2, 1: TLS 1.3"),
    Field("key256", 1, "AES-256 instead of AES-128"),
    Field("refused", 1, "RESYNC_ANSWER: the candidate is not a record"),
    Field("park", 8, "GO_ON: name of the park"),
    Field("seq", 32, "CONTEXT_ADD, REKEY, RESYNC_*: TCP sequence number of a record header"),
    Field("number", 64, "CONTEXT_ADD, RESYNC_*: number of the record at seq; REKEY: its old one"),
    Field("options", OPTION_BITS, "CONTEXT_ADD: Option"),
    Field("table", 1, "FLOW_WRITE: table 0 or 1"),
    Field("slot", 1, "FLOW_WRITE: slot 0 or 1 of the row"),
    Field("bucket", 16, "FLOW_WRITE: row"),
    Field("valid", 1, "FLOW_WRITE: the entry is in use"),
)

FLOW_KEY = Layout(
    "flow key",
    Field("src", 128, "source address, first byte highest; IPv4 in the low 32 bits"),
    Field("dst", 128, "destination address"),
    Field("sport", 16, "source port"),
    Field("dport", 16, "destination port"),
    Field("ipv6", 1, "the addresses are IPv6"),
)

# Words of the staging memory, 32 bits each; byte 0 of a key, IV or H power lies in the lowest bits.
STAGE_KEY = 0  # 8 words: the key, AES-128 in the first four
STAGE_IV = 8  # 3 words: TLS 1.3 IV; TLS 1.2 salt in the first word
STAGE_POWERS = 12  # 32 words: H^1 .. H^8 in the byte order of SP 800-38D
STAGE_WORDS = 44
H_POWERS = 8
