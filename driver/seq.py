# SPDX-License-Identifier: Apache-2.0
"""TCP sequence numbers: arithmetic modulo 2^32 (RFC 9293 section 3.4)."""

MASK = 0xFFFFFFFF


def add(seq: int, count: int) -> int:
    """The sequence number `count` bytes behind `seq`; `count` may be negative."""
    return seq + count & MASK


def diff(a: int, b: int) -> int:
    """How far `a` lies behind `b`, -2^31 to 2^31 - 1; negative if it lies in front."""
    return (a - b + 0x80000000 & MASK) - 0x80000000
