# SPDX-License-Identifier: Apache-2.0
"""Bit layouts that hardware and software share.

A `Layout` is an ordered list of fields, the first one in the least significant bits, without
gaps: the same order as Amaranth's `StructLayout`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One field of a layout: its name, its width in bits and what it means."""

    name: str
    width: int
    doc: str = ""


class Layout:
    """An ordered set of fields packed from bit 0 upwards.

    Raises `ValueError` on a field name used twice or a width below one.
    """

    def __init__(self, name: str, *fields: Field) -> None:
        self.name = name
        self.fields = fields
        self._at: dict[str, tuple[int, int]] = {}
        position = 0
        for field in fields:
            if field.width < 1 or field.name in self._at:
                raise ValueError(f"layout {name}: bad field {field.name!r}")
            self._at[field.name] = (position, field.width)
            position += field.width
        self.width = position
        # For speed: name, position and the largest value.
        self._masks = [(name, at, (1 << width) - 1) for name, (at, width) in self._at.items()]
        self._limits = {name: (at, mask) for name, at, mask in self._masks}

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def offset(self, name: str) -> int:
        """Position of the field's least significant bit."""
        return self._at[name][0]

    def pack(self, values: Mapping[str, int]) -> int:
        """One integer out of field values; fields not named are 0.

        Raises `KeyError` on an unknown name and `ValueError` on a value too wide for its field.
        """
        word = 0
        for name, value in values.items():
            position, largest = self._limits[name]
            if not 0 <= value <= largest:
                width = self._at[name][1]
                raise ValueError(f"{self.name}.{name} = {value:#x} needs more than {width} bits")
            word |= int(value) << position
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Field values out of one integer; bits above the layout are ignored."""
        return {name: word >> position & mask for name, position, mask in self._masks}
