# SPDX-License-Identifier: Apache-2.0
"""The distance between two TCP sequence numbers (RFC 9293 section 3.4), apart from the driver's."""

MODULUS = 2**32


def distance(a: int, b: int) -> int:
    """How far `a` lies after `b`, at most half the circle. Negative if `a` lies before `b`."""
    ahead = (a - b) % MODULUS
    return ahead - MODULUS if ahead >= MODULUS // 2 else ahead
