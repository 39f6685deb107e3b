# SPDX-License-Identifier: Apache-2.0
"""Counter increments from the two commit stages to the registers."""

from amaranth.lib import data

ReceiveCounts = data.StructLayout(
    {
        "marked": 1,
        "marked_ahead": 1,
        "records_verified": 10,
        "tag_mismatch": 1,
        "resync_requests": 1,
        "resumed": 1,
        "parked": 1,
    }
)
"""Increment of each receive counter in this clock; see `abi.registers`."""

TransmitCounts = data.StructLayout(
    {
        "frames": 1,
        "encrypted": 1,
        "wire": 1,
        "passed": 1,
        "dumped": 1,
        "dropped": 1,
        "orphans": 1,
        "tag_mismatch": 1,
        "tags": 10,
    }
)
"""Increment of each transmit counter in this clock; see `abi.tx.TX_COUNTERS`."""
