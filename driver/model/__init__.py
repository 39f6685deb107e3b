# SPDX-License-Identifier: Apache-2.0
"""The behavioural model: the device at its ports, bit-exact with the gateware.

Shares the contract, the frame parser and record arithmetic with the driver, and nothing else.
The driver never imports it; commands and tests choose it as one of two engines.
"""
