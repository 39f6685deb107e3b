# SPDX-License-Identifier: Apache-2.0
"""Receive: in-order stream bytes and their marks become records (rule H), resync included."""
