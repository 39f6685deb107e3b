# SPDX-License-Identifier: Apache-2.0
"""The sending hosts of a replay: their plaintext, their segments, and the comparison."""
