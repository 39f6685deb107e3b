# SPDX-License-Identifier: Apache-2.0
"""The header of a TLS record as gateware reads it (RFC 8446 section 5.1, RFC 5246 section 6.2.1).

Both walkers use these rules; `abi.config` states them for software.
"""

from amaranth.hdl import Cat, Const, Mux, Value, ValueLike

from ..abi.config import HEADER_BYTES, NONCE_BYTES, VERSION_TLS12, VERSION_TLS13

HEAD_BYTES = HEADER_BYTES + NONCE_BYTES


def present(count: ValueLike, size: int) -> Value:
    """Which of `size` bytes exist if `count` bytes are left; `count` may be negative."""
    return Cat(count > i for i in range(size))


def header_length(head: Value) -> Value:
    """The length field of the header in the low bytes of `head`, its 15 bits that matter."""
    return Cat(head[32:40], head[24:31])


def header_ok(version: Value, head: Value, there: Value) -> Value:
    """Whether the five low bytes of `head`, as far as they are `there`, may begin a header.

    The same rule as `abi.config.header_prefix_ok`; `LENGTH_BOUNDS` and `TYPES` are written out
    so that they become small comparisons.
    """
    tls12 = version == VERSION_TLS12
    kind, high, low = head[0:8], head[24:32], head[32:40]
    kind_ok = (kind[2:] == 5) & (tls12 | (kind[:2] == 3))
    version_ok = ((head[8:16] == 3) | ~there[1]) & ((head[16:24] == 3) | ~there[2])
    top = Mux(tls12, 0x40, 0x41)
    prefix_ok = high <= top
    at_least = (high != 0) | (low >= Mux(tls12, 24, 17))
    at_most = (high < top) | ((high == top) & (low <= Mux(tls12, 0x18, 0)))
    length_ok = Mux(there[4], at_least & at_most, prefix_ok | ~there[3])
    return there[0] & kind_ok & version_ok & length_ok


def text_geometry(version: Value) -> tuple[Value, Value]:
    """Bytes in front of a record's text, and bytes of its length field that are not text."""
    tls13 = version == VERSION_TLS13
    return Mux(tls13, 5, 13), Mux(tls13, 16, 24)


def content_type(low_bits: Value) -> Value:
    """The content type 20 to 23 out of its two low bits."""
    return Cat(low_bits, Const(5, 6))
