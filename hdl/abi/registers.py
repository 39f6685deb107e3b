# SPDX-License-Identifier: Apache-2.0
"""The AXI4-Lite register map: 32-bit registers, byte addresses.

The driver writes the fields of a command and then writes COMMAND to run it. STATUS reads busy until
the command has passed the complete pipeline. Every later packet sees its effect.
"""

from dataclasses import dataclass

from .commands import FLOW_KEY, OPTION_BITS, STAGE_WORDS
from .events import EVENT_WORDS
from .tx import TX_COUNTERS

IDENT_VALUE = 0x534C4E31  # "SLN1"
ADDRESS_BITS = 12


@dataclass(frozen=True)
class Register:
    """A register or, with `count` above one, an array of them."""

    name: str
    offset: int
    access: str  # "ro", "rw" or "wo"
    doc: str
    count: int = 1


COUNTERS = (
    ("frames", "frames in"),
    ("marked", "packets marked decrypted"),
    ("marked_ahead", "of these, packets that end after the end of an open record"),
    ("records_verified", "records that completed and authenticated"),
    ("tag_mismatch", "records that completed and failed authentication"),
    ("resync_requests", "candidate positions reported to the driver"),
    ("resumed", "positions proven, by software, the walk or a tag"),
    ("evicted", "open records closed because slots or intervals ran out"),
    ("parked", "parks started"),
    ("stall_cycles", "clocks in which a word waited at the frame input"),
    ("events_lost", "events dropped because the queue was full"),
)

REGISTERS = (
    Register("IDENT", 0x000, "ro", f"{IDENT_VALUE:#x}"),
    Register("FLOWS", 0x004, "ro", "contexts of this device"),
    Register("RECORD_SLOTS", 0x008, "ro", "record slots per flow"),
    Register("RUNS", 0x00C, "ro", "intervals per flow"),
    Register("TX_FLOWS", 0x010, "ro", "transmit contexts of this device; 0: no transmit"),
    Register("COMMAND", 0x020, "wo", "op in bits 3:0; a write runs the command"),
    Register("STATUS", 0x024, "ro", "bit 0: a command is in progress"),
    Register("CMD_CONTEXT", 0x028, "rw", "context, bits 15:0; generation, 23:16; epoch, 31:24"),
    Register(
        "CMD_FLAGS",
        0x02C,
        "rw",
        "version, bit 0; key256, bit 1; refused, bit 2; valid, bit 3; table, bit 4; slot, bit 5; "
        "park, bits 15:8; row, bits 31:16",
    ),
    Register("CMD_SEQ", 0x030, "rw", "TCP sequence number of a record header"),
    Register("CMD_NUMBER_LO", 0x034, "rw", "record number, low half"),
    Register("CMD_NUMBER_HI", 0x038, "rw", "record number, high half"),
    Register("CMD_OPTIONS", 0x03C, "rw", f"options of a flow, bits {OPTION_BITS - 1}:0"),
    Register("FLOW_KEY", 0x040, "rw", "flow key, lowest bits first", (FLOW_KEY.width + 31) // 32),
    Register("STAGE", 0x100, "wo", "key staging memory, cleared when taken", STAGE_WORDS),
    Register("EVENT_STATUS", 0x200, "ro", "number of waiting events"),
    Register("EVENT_POP", 0x204, "wo", "a write drops the event shown"),
    Register("EVENT", 0x210, "ro", "the oldest event, lowest bits first", EVENT_WORDS),
    *(
        Register("COUNT_" + name.upper(), 0x300 + 4 * i, "ro", doc)
        for i, (name, doc) in enumerate(COUNTERS)
    ),
)

TX_REGISTERS = (
    Register("CMD_NONCE_LO", 0x068, "rw", "TX_ADD: explicit nonce, low half"),
    Register("CMD_NONCE_HI", 0x06C, "rw", "TX_ADD: explicit nonce, high half"),
    *(
        Register("COUNT_" + name.upper(), 0x380 + 4 * i, "ro", doc)
        for i, (name, doc) in enumerate(TX_COUNTERS)
    ),
)
"""Only where TX_FLOWS is not 0."""

OFFSET = {register.name: register.offset for register in REGISTERS + TX_REGISTERS}
