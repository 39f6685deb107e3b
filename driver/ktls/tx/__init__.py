# SPDX-License-Identifier: Apache-2.0
"""Transmit: records and TCP segments become frames with metadata, or software ciphertext."""
