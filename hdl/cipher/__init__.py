# SPDX-License-Identifier: Apache-2.0
"""AES-GCM on spans of records, in any order, for both directions.

Knows keys, nonces and offsets in a record. Knows no TCP, no sequence numbers and no flows: a
context is only the number of a key row.
"""
