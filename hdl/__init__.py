# SPDX-License-Identifier: Apache-2.0
"""The gateware, in Amaranth: one folder per pipeline stage, joined by `top`.

Gateware imports the contract in `abi` and nothing of the driver. The wall runs through here: the
walker knows TCP and no keys, the cipher knows keys and no TCP.
"""
