# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum (RFC 1071)."""


def ones_complement_sum(data: bytes) -> int:
    """The 16-bit one's complement sum of RFC 1071; a zero byte is appended to odd lengths."""
    # The sum with end-around carry is the remainder by 2^16 - 1, with 0xFFFF for its multiples.
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return number % 0xFFFF or (0xFFFF if number else 0)
