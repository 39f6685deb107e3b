# SPDX-License-Identifier: Apache-2.0
"""The flow of most receive tests, from a server to its client, and its segments as frames."""

import struct
from ipaddress import ip_address

from sealane.driver.device.rx import Flow
from tests.support.internet_checksum import checksum

FLOW = Flow(ip_address("10.9.0.1"), ip_address("10.9.0.2"), 443, 40000)
HEADERS = 14 + 20 + 20  # Ethernet, IPv4, TCP
TIMESTAMPS = 12

_ADDRESSES = FLOW.src.packed + FLOW.dst.packed
_PORTS = struct.pack(">HH", FLOW.sport, FLOW.dport)
_ACK = 0x10


def flow(port: int) -> Flow:
    """From the server to another port of the client."""
    return Flow(FLOW.src, FLOW.dst, FLOW.sport, port)


def caller(port: int) -> Flow:
    """From a port of the client to the server."""
    return Flow(FLOW.dst, FLOW.src, port, 443)


def frame(
    seq: int, payload: bytes, timestamp: int | None = None, bad_checksum: bool = False
) -> bytes:
    """Ethernet, IPv4 and TCP with ACK set, of `FLOW`. timestamp: with that option (RFC 7323)."""
    options = b""
    if timestamp is not None:
        options = struct.pack(">BBBBII", 1, 1, 8, 10, timestamp, 0)
    words = 5 + len(options) // 4
    header = struct.pack(">IIBBHHH", seq, 1, words << 4, _ACK, 9, 0, 0)
    segment = b"".join((_PORTS, header, options, payload))
    pseudo = _ADDRESSES + struct.pack(">HH", 6, len(segment))
    value = checksum(pseudo + segment) ^ bad_checksum
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + _ADDRESSES
    return b"".join(
        (
            bytes(12),
            b"\x08\0",
            ip[:10],
            checksum(ip).to_bytes(2, "big"),
            ip[12:],
            segment[:16],
            value.to_bytes(2, "big"),
            segment[18:],
        )
    )
