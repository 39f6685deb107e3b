# SPDX-License-Identifier: Apache-2.0
"""Names of Amaranth, which ships no types, as type checkers are to see them."""

from typing import TYPE_CHECKING

from amaranth.hdl._ast import Statement  # what `Value.eq` gives; exported nowhere

if TYPE_CHECKING:
    import enum  # Amaranth's has a shape besides
else:
    from amaranth.lib import enum

__all__ = ["Statement", "enum"]
