# SPDX-License-Identifier: Apache-2.0
"""Transmit record maps made by hand, and their records on the wire.

Keys here protect nothing.
"""

from __future__ import annotations

from sealane.driver.ktls.tx.records import RecordMap, TxEpoch, TxRecord
from sealane.hdl.abi.config import VERSION_TLS13
from tests.support import tls_records

FIRST_NONCE = 0xFFFFFFFFFFFFFFFE  # counts past the end of 64 bits at once


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that differ from place to place."""
    return bytes((7 * i + (i >> 8) + 31 * seed + 1) & 0xFF for i in range(size))


def push(
    records: RecordMap,
    size: int,
    version: int = VERSION_TLS13,
    epoch: int = 0,
    frozen: bool = True,
    data: bytes | memoryview | None = None,
) -> TxRecord:
    """One application-data record of `size` bytes, as the kernel makes it."""
    data = content(size, records.next_count) if data is None else data
    inner = b"\x17" if version == VERSION_TLS13 else b""
    nonce = b""
    if version != VERSION_TLS13:
        nonce = ((FIRST_NONCE + records.next_count) % (1 << 64)).to_bytes(8, "big")
    length = len(nonce) + len(data) + len(inner) + 16
    header = b"\x17\x03\x03" + length.to_bytes(2, "big") + nonce
    return records.push(header, data, inner, epoch, frozen)


def sealed(record: TxRecord, keys: TxEpoch) -> bytes:
    """The record on the wire."""
    text, explicit, info = bytes(record.content) + record.inner, record.header[5:], keys.info
    return tls_records.seal(
        info.version,
        info.key,
        info.iv,
        record.count - keys.base,
        record.header[0],
        text,
        explicit,
    )
