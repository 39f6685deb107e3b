# SPDX-License-Identifier: Apache-2.0
"""Ethernet, IP and TCP in software: parsing, checksums, reassembly and sequence numbers.

Knows no TLS and no keys.
"""
