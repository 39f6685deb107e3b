# SPDX-License-Identifier: Apache-2.0
"""What `Value.eq` gives, for signatures: Amaranth has a class for it but exports no name."""

from amaranth.hdl._ast import Statement

__all__ = ["Statement"]
