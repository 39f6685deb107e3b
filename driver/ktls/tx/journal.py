# SPDX-License-Identifier: Apache-2.0
"""Changes that can be taken back: what `Plan.undo` restores."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Journal:
    """Makes changes and takes them back, the last one first.

    Counts are taken back by the difference: others may have counted in the meantime.
    """

    def __init__(self) -> None:
        self._back: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: object) -> None:
        """An attribute."""
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._back.append(lambda: setattr(owner, name, before))

    def add(self, owner: Any, name: str, count: int = 1) -> None:
        """A number in an attribute."""
        setattr(owner, name, getattr(owner, name) + count)
        self._back.append(lambda: setattr(owner, name, getattr(owner, name) - count))

    def count(self, counts: dict[str, int], key: str, count: int = 1) -> None:
        """A number in a dictionary, where those that are not there are 0."""

        def move(by: int) -> None:
            counts[key] = counts.get(key, 0) + by
            if not counts[key]:
                del counts[key]

        move(count)
        self._back.append(lambda: move(-count))

    def put(self, entries: dict[_K, _V], key: _K, value: _V) -> None:
        """A new entry of a dictionary."""

        def remove() -> None:
            entries.pop(key, None)

        entries[key] = value
        self._back.append(remove)

    def undo(self) -> None:
        """Takes everything back, once."""
        while self._back:
            self._back.pop()()
