# SPDX-License-Identifier: Apache-2.0
"""Comparison of TCP sequence numbers (RFC 9293 section 3.4)."""


def distance(a, b):
    """How far sequence number `a` lies behind `b`, signed, modulo 2^32."""
    return (a - b)[:32].as_signed()
