# SPDX-License-Identifier: Apache-2.0
"""Tests that run the Verilated gateware; folders mirror `hdl`, `system` runs whole scenarios."""
