# SPDX-License-Identifier: Apache-2.0
"""Comparison of TCP sequence numbers (RFC 9293 section 3.4)."""

from amaranth.hdl import Value


def distance(a: Value, b: Value) -> Value:
    """How far sequence number `a` lies behind `b`, signed, modulo 2^32."""
    return (a - b)[:32].as_signed()
