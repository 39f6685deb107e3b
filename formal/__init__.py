# SPDX-License-Identifier: Apache-2.0
"""Proofs about the gateware: harnesses, the properties, and the tools that judge them.

`docs/proofs.md` states each proof; `python -m pytest formal` runs them.
"""
