# SPDX-License-Identifier: Apache-2.0
"""Files that a command writes: what cannot be written is said before the work, not behind it."""

from collections.abc import Mapping
from pathlib import Path

PICTURES = (".png", ".svg", ".pdf", "")


class UsageError(ValueError):
    """Something that the user asked for cannot be done; the text is one line."""


def check_outputs(
    outputs: Mapping[str, Path | None],
    pictures: Mapping[str, Path | None],
    inputs: Mapping[str, Path] | None = None,
) -> None:
    """Looks at files by the option that names them; `None` where there is none.

    pictures: of the outputs, those whose suffix chooses a format. inputs: files that are read, by
    what to call them. Raises `UsageError` on folders, files in folders that do not exist, files
    that are read or written already, and pictures of formats that nobody draws; `OSError`
    on files that cannot be written. Leaves everything as it was.
    """
    taken = {path.resolve(): what for what, path in (inputs or {}).items()}
    for option, path in {**outputs, **pictures}.items():
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{option} {path}: a folder, not a file")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}")
        # Devices may be written by several.
        if path.is_file() or not path.exists():
            other = taken.setdefault(path.resolve(), f"the file of {option}")
            if other != f"the file of {option}":
                raise UsageError(f"{option} {path}: that is {other}")
            _try(path)
    for option, path in pictures.items():
        if path is not None and path.suffix.lower() not in PICTURES:
            raise UsageError(f"{option} {path}: a picture's name ends in .png, .svg or .pdf")


def _try(path: Path) -> None:
    """Opens the file for writing and leaves no trace of it."""
    if path.exists():
        path.open("ab").close()
    else:
        path.open("xb").close()
        path.unlink()
