# SPDX-License-Identifier: Apache-2.0
"""The worked examples of `docs/theory-of-operation.md`: a record in three pieces, a lost header.

`python -m sealane.scripts.docs.worked_example` prints both. With `--write` it puts them into the
page and draws the page's figures. `tests/scripts/test_worked_example.py` compares.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from . import state_figure, worked_figure, worked_gcm, worked_loss

PAGE = Path("docs/theory-of-operation.md")
IMAGES = PAGE.parent / "img"
FIGURES = {**worked_figure.FIGURES, "walker-states.svg": state_figure.states}


def blocks() -> dict[str, str]:
    """The page's blocks of text by name."""
    return {"gcm": "\n".join(worked_gcm.Example().lines()), "loss": "\n".join(worked_loss.lines())}


def put(page: str, name: str, text: str) -> str:
    """The page with its block `name` replaced. Raises `ValueError` if there is none."""
    pattern = rf"(<!-- worked example: {name} -->\n```text\n).*?(\n```\n)"
    page, count = re.subn(pattern, lambda m: m[1] + text + m[2], page, flags=re.S)
    if count != 1:
        raise ValueError(f"the page has {count} places for the example {name}")
    return page


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="worked_example", description="the worked examples of the theory of operation"
    )
    parser.add_argument("--write", action="store_true", help="put them into the page")
    args = parser.parse_args(argv)
    texts = blocks()
    if not args.write:
        print("\n\n".join(texts.values()))
        return 0
    page = PAGE.read_text()
    for name, text in texts.items():
        page = put(page, name, text)
    PAGE.write_text(page)
    IMAGES.mkdir(exist_ok=True)
    for file, draw in FIGURES.items():
        (IMAGES / file).write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
