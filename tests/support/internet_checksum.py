# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum of RFC 1071 section 1: 16-bit additions with end-around carry.

Frames of all tests carry checksums from here, and frames that a device sends are judged by it.
Neither driver nor model nor gateware uses it.
"""

import struct


def checksum(data: bytes) -> int:
    """The value of the checksum field over `data`, in which the field is 0.

    Over data with a right field it is 0.
    """
    return ones_complement_sum(data) ^ 0xFFFF


def ones_complement_sum(data: bytes) -> int:
    """The sum itself. An odd length is padded with a zero byte."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
