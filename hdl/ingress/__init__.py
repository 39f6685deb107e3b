# SPDX-License-Identifier: Apache-2.0
"""Frames from the MAC: packet ring write, header parser, checksums and flow lookup.

Knows Ethernet, IP and TCP headers and the flow table. Knows no records and no keys.
"""
