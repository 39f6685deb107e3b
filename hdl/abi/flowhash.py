# SPDX-License-Identifier: Apache-2.0
"""The flow table's geometry and hash: two tables, two slots a row.

The driver places entries (cuckoo: an entry may lie in either slot of row hash0 of table 0 or of
row hash1 of table 1) and the gateware looks at the four places. Both hashes are CRC-32 of the
flow key's 289 bits, zero-extended to 37 bytes, little-endian: the plain reflected CRC-32 of
IEEE 802.3 for table 0 and CRC-32C (RFC 3720, Castagnoli) for table 1. Being linear they are an
XOR tree in hardware.
"""

from .commands import FLOW_KEY

KEY_BYTES = (FLOW_KEY.width + 7) // 8
POLYNOMIALS = (0xEDB88320, 0x82F63B78)  # reflected
BUCKET_SLOTS = 2


def buckets(flows: int) -> int:
    """Rows of each table: half as many rows as flows, so twice as many places as flows."""
    return flows // 2


def crc(key: int, table: int) -> int:
    """CRC-32 (table 0) or CRC-32C (table 1) of a packed flow key, initial value and final
    inversion of all ones."""
    remainder = 0xFFFFFFFF
    for byte in key.to_bytes(KEY_BYTES, "little"):
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (POLYNOMIALS[table] if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def bucket(key: int, table: int, flows: int) -> int:
    """The row of `table` where the entry of a packed flow key may lie."""
    return crc(key, table) & buckets(flows) - 1
