# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of TCP sequence numbers, modulo 2^32 (RFC 9293 section 3.4)."""

from __future__ import annotations

MASK = 0xFFFFFFFF


def add(seq: int, count: int) -> int:
    """`seq` moved by `count` bytes, which may be negative."""
    return (seq + count) & MASK


def distance(a: int, b: int) -> int:
    """`a - b` as a signed distance, -2^31 to 2^31 - 1."""
    return ((a - b + (1 << 31)) & MASK) - (1 << 31)
