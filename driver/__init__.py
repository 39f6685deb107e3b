# SPDX-License-Identifier: Apache-2.0
"""The host's side of the device, sans-IO: bytes and the time go in, actions come out.

Imports the contract `hdl.abi` and no gateware. Nothing outside `model` imports the model, so that
a mistake in one cannot hide in the other.
"""
