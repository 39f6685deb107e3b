# SPDX-License-Identifier: Apache-2.0
"""The Verilated gateware: builds the simulator and offers it as the driver's `Transport`."""
