# SPDX-License-Identifier: Apache-2.0
"""Transmit as software; files match those of `hdl/tx`."""
