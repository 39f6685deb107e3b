# SPDX-License-Identifier: Apache-2.0
"""The contract between gateware and driver, in plain Python.

Everything that both sides of the device's ports must agree on is defined here once: parameters
(`config`), registers (`registers`), commands (`commands`), packet metadata and reasons (`meta`),
events (`events`) and the flow hash (`flowhash`). The gateware turns the layouts into Amaranth
layouts, the driver packs and unpacks them, and `docs/registers.md` is generated from them.
"""
