# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum as RFC 1071 section 1 defines it: 16-bit additions, carries brought round.

Frames of all tests carry checksums from here, and what leaves a device is judged by it. Neither
driver nor model nor gateware uses it.
"""

import struct


def checksum(data: bytes) -> int:
    """What the checksum field holds over `data`, in which the field is 0. Over data with a right
    field: 0."""
    return ones_complement_sum(data) ^ 0xFFFF


def ones_complement_sum(data: bytes) -> int:
    """The sum itself; an odd length is padded with a zero byte."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
